"""`Retry-After` in the forms that services and proxies write it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shared.arm.retry_after import LONGEST, parse, parse_http_date
from shared.clock import ServiceTime

NOW = ServiceTime(datetime(2026, 1, 5, 8, 0, tzinfo=UTC))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("60", 60),
        (" 60 ", 60),
        ("0", 0),
        ("86400", 86_400),
        ("Mon, 05 Jan 2026 08:01:30 GMT", 90),
        ("Monday, 05-Jan-26 08:01:30 GMT", 90),
        ("Mon Jan  5 08:01:30 2026", 90),
        ("Mon, 05 Jan 2026 07:00:00 GMT", 0),  # has passed
        ("-5", None),
        ("-0", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("٦٠", None),  # digits, but not those of HTTP
        ("60 seconds", None),
        ("Mon, 99 Jan 2026 08:01:30 GMT", None),
        ("9" * 400, LONGEST.total_seconds()),
        ("99999999999", LONGEST.total_seconds()),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST.total_seconds()),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert parse(header, NOW) == (None if seconds is None else timedelta(seconds=seconds))


@pytest.mark.parametrize(
    "text", [None, "", "yesterday", "Mon, 05 Jan 26000000 08:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 -0500"]
)
def test_what_is_no_date(text: str | None) -> None:
    assert parse_http_date(text) is None


def test_dates_are_in_utc() -> None:
    assert parse_http_date("Mon, 05 Jan 2026 09:00:00 +0100") == NOW
