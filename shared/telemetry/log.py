"""The app's log: every line says in its text what it is about.

The Functions worker passes on a record's text, level and name, and none of its fields
(https://learn.microsoft.com/azure/azure-functions/functions-reference-python#logging). So a line's fields follow its
text, as `name=value`; they also stay fields of the record, for an app that runs elsewhere.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["Log", "logger"]

#: Values that are written without quotation marks: they cannot be mistaken for another field.
_PLAIN: Final = re.compile(r"[\w.:/\\*@+~-]+", re.ASCII)
_LONGEST: Final = 512


class Log(logging.LoggerAdapter[logging.Logger]):
    """A logger whose lines end with their fields. Make one with `logger`."""

    def log(
        self,
        level: int,
        msg: object,
        *args: object,
        extra: Mapping[str, object] | None = None,
        **options: Any,
    ) -> None:
        """Log `msg % args`, followed by the fields in `extra`, which has at least `action`."""
        fields = dict(extra or {})
        if not self.isEnabledFor(level):
            return
        text = str(msg) if args else str(msg).replace("%", "%%")
        # The record names the caller's line, not this one.
        place = options.pop("stacklevel", 1) + 1
        self.logger.log(
            level, f"{text} [%s]", *args, _shown(fields), extra=fields, stacklevel=place, **options
        )


def logger(name: str) -> Log:
    """The log of the module `name`."""
    return Log(logging.getLogger(name), None)


def _shown(fields: Mapping[str, object]) -> str:
    return " ".join(f"{name}={_value(value)}" for name, value in fields.items() if value is not None)


def _value(value: object) -> str:
    """One field's value, escaped so that it cannot forge a line or another field."""
    text = str(value)
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}..."
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
