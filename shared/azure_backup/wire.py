"""How Azure Backup writes dates, durations, filters and missing values."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from pydantic import BeforeValidator

from shared.clock import ServiceTime, service_time

__all__ = [
    "Texts",
    "WireDuration",
    "WireTime",
    "filter_time",
    "odata_filter",
    "parse_duration",
    "parse_time",
    "uuid_text",
    "wire_time",
]

_ISO_DURATION = re.compile(
    r"P(?:(?P<days>\d+)D)?(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?"
)
_DOTNET_DURATION = re.compile(
    r"(?:(?P<days>\d+)\.)?(?P<hours>\d+):(?P<minutes>\d+):(?P<seconds>\d+(?:\.\d+)?)"
)

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def uuid_text(text: str) -> str:
    """An id in the form to compare it by: a UUID in its usual form, anything else in lower case."""
    if _UUID.fullmatch(text):
        return text
    try:
        return str(UUID(text))
    except ValueError:
        return text.lower()


def parse_time(value: object) -> ServiceTime | None:
    """Parse a moment as the service writes it; the result is aware, in UTC.

    Fractions have up to seven digits, the zone letter may be missing, and `0001-01-01T00:00:00` stands for
    "not yet". Raises ValueError for what is no moment.
    """
    if value is None or value == "":
        return None
    if isinstance(value, datetime):
        return ServiceTime(value if value.tzinfo is not None else value.replace(tzinfo=UTC))
    if not isinstance(value, str):
        raise ValueError("a moment is a text")
    if value.startswith("0001-01-01"):
        return None
    return service_time(datetime.fromisoformat(value.strip()))


def parse_duration(value: object) -> timedelta | None:
    """Parse a duration in the ISO form (`PT2M1.768889S`) or the older .NET form (`13.23:59:44.59`)."""
    if value is None or value == "":
        return None
    if isinstance(value, timedelta):
        return value
    match = isinstance(value, str) and (
        _ISO_DURATION.fullmatch(value.strip()) or _DOTNET_DURATION.fullmatch(value.strip())
    )
    if not match:
        raise ValueError("a duration is a text such as PT2M1.5S")
    parts = {name: float(text) for name, text in match.groupdict().items() if text}
    try:
        return timedelta(**parts)
    except OverflowError as error:
        raise ValueError("a duration is shorter than a million years") from error


def wire_time(moment: datetime) -> str:
    """A moment for a request's body: RFC 3339, UTC, whole seconds."""
    return _utc(moment).strftime("%Y-%m-%dT%H:%M:%SZ")


def filter_time(moment: datetime, *, up: bool = False) -> str:
    """A moment for a filter: `yyyy-MM-dd hh:mm:ss tt`, UTC, whole seconds, down or `up` to the next.

    The form is that of the specification's job examples; a 12-hour clock with AM and PM, in any locale.
    """
    moment = _utc(moment)
    if up and moment.microsecond:
        moment += timedelta(seconds=1)
    half = "AM" if moment.hour < 12 else "PM"
    return f"{moment:%Y-%m-%d} {moment.hour % 12 or 12:02}:{moment:%M:%S} {half}"


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a moment needs its time zone")
    return moment.astimezone(UTC)


def odata_filter(**fields: str | None) -> str:
    """`name eq 'value' and ...` for the fields that have a value, with quotes in values doubled."""
    return " and ".join(
        f"{name} eq '{value.replace(chr(39), chr(39) * 2)}'"
        for name, value in fields.items()
        if value is not None
    )


def _texts(value: object) -> object:
    """A list of texts, from a list with empty entries, a single text, or nothing."""
    if value is None:
        return ()
    found: tuple[Any, ...] = tuple(value) if isinstance(value, list | tuple) else (value,)
    return tuple(text.strip() for text in found if isinstance(text, str) and text.strip())


WireTime = Annotated[ServiceTime | None, BeforeValidator(parse_time)]
WireDuration = Annotated[timedelta | None, BeforeValidator(parse_duration)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]
