"""The `Retry-After` header (RFC 9110, section 10.2.3)."""

from __future__ import annotations

from datetime import timedelta
from email.utils import parsedate_to_datetime

from shared.clock import ServiceTime, service_time

__all__ = ["LONGEST", "parse", "parse_http_date"]

#: a larger value is capped: that is beyond any deadline, and no arithmetic overflows
LONGEST = timedelta(days=3650)


def parse(header: str | None, now: ServiceTime) -> timedelta | None:
    """How long the service asks to wait, counted from `now` (aware, the service's clock).

    None where the header is absent, garbage or negative. A date that has passed is no wait at all.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        seconds = int(text) if len(text) < 12 else None
        return LONGEST if seconds is None else min(timedelta(seconds=seconds), LONGEST)
    moment = parse_http_date(text)
    if moment is None:
        return None
    return min(max(moment - now, timedelta()), LONGEST)


def parse_http_date(text: str | None) -> ServiceTime | None:
    """The moment of an HTTP date header, aware, in UTC; None for what is no date."""
    if not text:
        return None
    try:
        # RFC 9110: an HTTP date is always in GMT, whether it says so in a way Python reads or not.
        return service_time(parsedate_to_datetime(text))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
