"""The findings of `doctor`: what was checked, its state, and what to do."""

from __future__ import annotations

from dataclasses import dataclass

from cli.encoding import JsonObject
from shared.arm.errors import TokenError
from shared.arm.redaction import printable


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was checked, and its state."""

    what: str
    finding: str
    #: what to do; empty where nothing is wrong
    todo: str | None = None
    #: whether it was checked; False where nothing was named to check
    skipped: bool = False

    @property
    def row(self) -> JsonObject:
        """The row in a table."""
        return {
            "result": self._result,
            "what": self.what,
            "finding": self.finding,
            "todo": self.todo,
        }

    @property
    def _result(self) -> str:
        if self.skipped:
            return "skipped"
        return "ok" if self.todo is None else "wrong"

    @property
    def text(self) -> str:
        """The text for a person, with what to do on a line of its own for copying."""
        if self.skipped:
            return f"skipped {printable(self.what)}: {printable(self.finding)}"
        if self.todo is None:
            return f"ok     {printable(self.what)}"
        lines = (self.what, self.finding, self.todo)
        return "wrong  " + "\n       ".join(map(printable, lines))


def not_found(what: str, subscription: str | None) -> Finding:
    """The finding for an app or a namespace that was named, and is not where it was looked for."""
    known = f"It is not in subscription {subscription}." if subscription else "Its subscription is not known."
    todo = "Name it by its full ARM id, or its subscription with --subscription."
    return Finding(what=what, finding=known, todo=todo)


def no_token(error: TokenError) -> Finding:
    """The finding where no token was issued."""
    todo = "Sign in (az login), or correct the settings of the identity."
    return Finding(what="token", finding=f"{error}.", todo=todo)


def reason_of(error: Exception) -> str:
    """The first line of an error."""
    return next(iter(str(error).splitlines()), type(error).__name__)
