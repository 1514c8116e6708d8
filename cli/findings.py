"""What `doctor` has found: what was looked at, how it is, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shared.arm.redaction import printable

JsonObject = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was looked at, and how it is."""

    what: str
    finding: str
    #: what to do; none where nothing is wrong
    todo: str | None = None
    #: whether it was looked at, or nothing was named to look at
    skipped: bool = False

    @property
    def row(self) -> JsonObject:
        """As it is shown."""
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
        """As a person reads it: what to do stands on a line of its own, to be copied."""
        if self.skipped:
            return f"skipped {printable(self.what)}: {printable(self.finding)}"
        if self.todo is None:
            return f"ok     {printable(self.what)}"
        lines = (self.what, self.finding, self.todo)
        return "wrong  " + "\n       ".join(map(printable, lines))
