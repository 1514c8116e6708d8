"""Errors that end a command before it has changed anything."""

from __future__ import annotations

from typing import Final

from shared.engine.result import Failure

UNUSABLE: Final = 2
#: The exit status that shells use for a command that SIGINT ended.
INTERRUPTED: Final = 130
#: Azure does not have what was asked for.
FAILED: Final = 1


class CommandError(Exception):
    """One sentence that says what to do.

    `status` is the exit status: 2 where options, settings or files cannot be used.
    """

    def __init__(self, message: str, *, status: int = UNUSABLE) -> None:
        super().__init__(message)
        self.status = status


def failed(failure: Failure) -> CommandError:
    """The error where Azure does not have what was asked for."""
    return CommandError(failure.message, status=FAILED)
