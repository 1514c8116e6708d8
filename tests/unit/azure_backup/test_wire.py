"""Dates, durations and filters as Azure Backup writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.azure_backup.wire import filter_time, odata_filter, parse_duration, parse_time, wire_time


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2021-05-11T06:33:16.9642384Z", datetime(2021, 5, 11, 6, 33, 16, 964238, UTC)),
        ("2021-04-30T10:34:58.975074Z", datetime(2021, 4, 30, 10, 34, 58, 975074, UTC)),
        ("2021-05-11T03:52:44Z", datetime(2021, 5, 11, 3, 52, 44, tzinfo=UTC)),
        ("2021-05-11 03:52:44Z", datetime(2021, 5, 11, 3, 52, 44, tzinfo=UTC)),  # in property bags
        ("2021-05-11T03:52:44", datetime(2021, 5, 11, 3, 52, 44, tzinfo=UTC)),
        ("2021-05-11T05:52:44+02:00", datetime(2021, 5, 11, 3, 52, 44, tzinfo=UTC)),
        ("0001-01-01T00:00:00", None),
        ("0001-01-01T00:00:00.00000Z", None),
        ("", None),
        (None, None),
    ],
)
def test_moments(text: str | None, moment: datetime | None) -> None:
    assert parse_time(text) == moment


@pytest.mark.parametrize(
    "value",
    [
        "soon",
        "2021-13-01T00:00:00Z",
        "9999-12-31T23:59:59-05:00",
        7,
        [],
        {},
    ],
)
def test_what_is_no_moment(value: object) -> None:
    with pytest.raises(ValueError):
        parse_time(value)


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("PT2M1.768889S", timedelta(minutes=2, seconds=1.768889)),
        ("PT31.5831509S", timedelta(seconds=31.5831509)),
        ("P1DT2H", timedelta(days=1, hours=2)),
        ("PT0S", timedelta()),
        ("00:03:13.64", timedelta(minutes=3, seconds=13.64)),
        ("13.23:59:44.59", timedelta(days=13, hours=23, minutes=59, seconds=44.59)),
        (None, None),
    ],
)
def test_durations(text: str | None, duration: timedelta | None) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize("value", ["2 minutes", "PTS", 120, "1:2", "P9999999999D", f"PT{'9' * 400}S"])
def test_what_is_no_duration(value: object) -> None:
    with pytest.raises(ValueError):
        parse_duration(value)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2021, 7, 25, 8, 41, 32, 999, UTC), "2021-07-25 08:41:32 AM"),
        (datetime(2021, 7, 25, 0, 5, tzinfo=UTC), "2021-07-25 12:05:00 AM"),
        (datetime(2021, 7, 25, 12, 5, tzinfo=UTC), "2021-07-25 12:05:00 PM"),
        (datetime(2021, 7, 25, 23, 59, 59, tzinfo=UTC), "2021-07-25 11:59:59 PM"),
        (datetime(2021, 7, 26, 1, 0, tzinfo=timezone(timedelta(hours=2))), "2021-07-25 11:00:00 PM"),
    ],
)
def test_moments_in_filters(moment: datetime, text: str) -> None:
    assert filter_time(moment) == text


NAIVE = datetime(2021, 1, 1, tzinfo=UTC).replace(tzinfo=None)


@given(st.datetimes(NAIVE.replace(year=1000), NAIVE.replace(year=9000), timezones=st.just(UTC)))
def test_a_filter_never_cuts_off_what_it_is_for(moment: datetime) -> None:
    def read(text: str) -> datetime:
        return datetime.strptime(text, "%Y-%m-%d %I:%M:%S %p").replace(tzinfo=UTC)

    assert read(filter_time(moment)) <= moment <= read(filter_time(moment, up=True))


def test_moments_in_bodies() -> None:
    assert (
        wire_time(datetime(2021, 6, 10, 8, 34, 34, 5, timezone(timedelta(hours=2)))) == "2021-06-10T06:34:34Z"
    )
    for write in (wire_time, filter_time):
        with pytest.raises(ValueError, match="time zone"):
            write(NAIVE)


def test_filters_keep_values_in_their_quotes() -> None:
    assert (
        odata_filter(a="x", b=None, c="o'brien' or 1 eq '1") == "a eq 'x' and c eq 'o''brien'' or 1 eq ''1'"
    )
    assert odata_filter(a=None) == ""
