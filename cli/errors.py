"""What ends a command before it has done anything."""

from __future__ import annotations


class CommandError(Exception):
    """Options, settings or files cannot be used: one sentence that says what to do. Exit status 2."""
