"""OData filters, as far as the service supports them: `field eq 'value'` joined by `and`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from local.simulator.errors import invalid_input
from local.simulator.timing import filter_time

_CLAUSE = re.compile(r"\s*([A-Za-z]\w*)\s+(?:eq|EQ|Eq)\s+(?:'((?:[^']|'')*)'|([^\s'\"]+))\s*", re.ASCII)
_AND = re.compile(r"and\s", re.IGNORECASE)


def parse_filter(text: str | None, fields: frozenset[str]) -> Mapping[str, str]:
    """The filter's values by lower-cased field name.

    Raises ServiceError (400) for a filter that does not parse or names a field outside `fields`
    (given in lower case): ignoring a filter would return more than was asked for.
    """
    if text is None or not text.strip():
        return {}
    values: dict[str, str] = {}
    position = 0
    while True:
        match = _CLAUSE.match(text, position)
        if match is None:
            raise invalid_input(f"The filter {text!r} is not of the form \"field eq 'value' and ...\".")
        name = match.group(1).lower()
        if name not in fields:
            raise invalid_input(f"The filter field {match.group(1)} is not supported here.")
        quoted = match.group(2)
        values[name] = quoted.replace("''", "'") if quoted is not None else match.group(3)
        position = match.end()
        if position == len(text):
            return values
        joined = _AND.match(text, position)
        if joined is None:
            raise invalid_input(f"The filter {text!r} joins its conditions by something other than 'and'.")
        position = joined.end()


def matches(value: str | None, wanted: str | None) -> bool:
    """Whether a value passes a filter; no filter passes everything, names compare case-insensitively."""
    return wanted is None or (value is not None and value.lower() == wanted.lower())


def moment_in(wanted: Mapping[str, str], field: str) -> datetime | None:
    """The moment that the filter names in a field, None where it names none. Raises ServiceError (400)."""
    text = wanted.get(field)
    if text is None:
        return None
    moment = filter_time(text)
    if moment is None:
        raise invalid_input(f"The filter's {field} {text!r} is not of the form 'yyyy-MM-dd hh:mm:ss tt'.")
    return moment
