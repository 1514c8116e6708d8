"""What ends a command before it has changed anything."""

from __future__ import annotations

from typing import Final

UNUSABLE: Final = 2


class CommandError(Exception):
    """One sentence that says what to do.

    `status` is the exit status: 2 where options, settings or files cannot be used.
    """

    def __init__(self, message: str, *, status: int = UNUSABLE) -> None:
        super().__init__(message)
        self.status = status
