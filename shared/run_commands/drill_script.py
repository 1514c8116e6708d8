"""The one script that the app runs on a VM, its parameters, and its result line.

docs/drills.md reviews it line by line.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

Action = Literal["check", "drop"]

#: Ranges of error numbers by which DBCC CHECKDB, or one of its reads, says that the database is damaged.
#: https://learn.microsoft.com/sql/relational-databases/errors-events/database-engine-events-and-errors
_CORRUPTION: Final = ((823, 825), (2500, 2599), (7900, 7999), (8900, 8999))
#: Exceptions within those: no permission, nothing to check, no snapshot, no room, and DBCC that broke off by itself.
_NOT_CORRUPTION: Final = frozenset({2501, 2520, 2571, 2594, 7926, 7928, 8921, 8967})
#: The account lacks a permission, or cannot log in. 3701 is reported for a database that the script has just seen;
#: 50916 is the script's own.
_NOT_PERMITTED: Final = frozenset({229, 262, 297, 300, 916, 2571, 3701, 5011, 15151, 15247, 18456, 50916})
#: The largest count, size or duration that is believed.
_MOST: Final = 2**53


@cache
def drill_script() -> str:
    """The script's text, as deployed with the app."""
    return (Path(__file__).parent / "drill.ps1").read_text(encoding="ascii")


def parameters(*, attempt: str, action: Action, instance: str, database: str) -> dict[str, str]:
    """The script's parameters, with names as base64url, so that a command line cannot change them."""
    return {
        "attempt": attempt,
        "action": action,
        "instance": base64url(instance),
        "database": base64url(database),
    }


def base64url(text: str) -> str:
    """UTF-8 as base64url without padding. It never begins with `-`, which would make it a parameter's name."""
    return base64.urlsafe_b64encode(text.encode("utf-8", "surrogatepass")).decode("ascii").rstrip("=")


@dataclass(frozen=True, kw_only=True)
class ScriptResult:
    """The script's result line; values that are no numbers are absent."""

    verdict: Literal["ok", "absent", "corrupt", "notPermitted", "failed"]
    errors: int = 0
    numbers: tuple[int, ...] = ()
    messages: tuple[str, ...] = ()
    size_mb: float | None = None
    free_mb: float | None = None
    seconds: float | None = None

    @classmethod
    def read(cls, line: Mapping[str, Any]) -> ScriptResult:
        """Read the result line; error numbers tell whether the database is damaged."""
        numbers = tuple(number for number in _several(line.get("numbers")) if _is_whole(number))
        errors = line.get("errors")
        said = line.get("result")
        verdict: Literal["ok", "absent", "corrupt", "notPermitted", "failed"] = "failed"
        if said == "ok" and not numbers:
            verdict = "ok"
        elif said == "absent":
            verdict = "absent"
        elif line.get("action") == "check" and any(map(_tells_corruption, numbers)):
            verdict = "corrupt"
        elif any(number in _NOT_PERMITTED for number in numbers):
            verdict = "notPermitted"
        return cls(
            verdict=verdict,
            errors=errors if isinstance(errors, int) and _is_whole(errors, least=0) else len(numbers),
            numbers=numbers,
            messages=tuple(_whole(text) for text in _several(line.get("messages")) if isinstance(text, str)),
            size_mb=_number(line.get("sizeMB")),
            free_mb=_number(line.get("freeMB")),
            seconds=_number(line.get("seconds")),
        )

    @property
    def described(self) -> str:
        """Its errors, in words."""
        what = "; ".join(self.messages) or "it gave no reason"
        return (
            f"{what} ({'error' if len(self.numbers) == 1 else 'errors'} {', '.join(map(str, self.numbers))})"
        )


def _tells_corruption(number: int) -> bool:
    return number not in _NOT_CORRUPTION and any(low <= number <= high for low, high in _CORRUPTION)


def _several(value: Any) -> list[Any]:
    return value[:20] if isinstance(value, list) else []


def _is_whole(value: Any, *, least: int = -_MOST) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= _MOST


def _number(value: Any) -> float | None:
    """A number that JSON can express; what a VM sends is no more trusted than what a requester sends."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= _MOST:
        return None
    return float(value)


def _whole(text: str) -> str:
    """A text without halves of surrogate pairs, which the script's cutting of messages may leave."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
