"""When scheduled backups are due: NCRONTAB in a time zone, across clock changes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from shared.clock import MachineTime
from shared.schedules import BackupSchedule, read_schedules, warnings
from shared.setting_entries import EntriesError
from tests.unit.examples import VAULT

DAY = timedelta(days=1)


def entry(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "name": "Nightly",
        "schedule": "0 0 2 * * *",
        "vaultId": VAULT.path,
        "backupType": "CopyOnlyFull",
        "databases": [{"instance": "*", "database": "*"}],
    }
    return {**fields, **changes}


def schedule(text: str, zone: str = "UTC") -> BackupSchedule:
    (found,) = read_schedules(json.dumps([entry(schedule=text, timeZone=zone, backupType="Differential")]))
    return found


def due(text: str, zone: str, start: MachineTime, days: float) -> list[str]:
    moments = schedule(text, zone).occurrences(start, start + days * DAY)
    return [f"{moment:%m-%dT%H:%M}" for moment in moments]


def utc(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> MachineTime:
    return MachineTime(datetime(year, month, day, hour, minute, tzinfo=UTC))


#: expression, zone, from when, for how many days, the due times in UTC
OCCURRENCES: dict[str, tuple[str, str, datetime, float, list[str]]] = {
    "daily": ("0 0 2 * * *", "UTC", utc(2026, 1, 5), 2, ["01-05T02:00", "01-06T02:00"]),
    "the start is not within, the end is": ("0 0 0 * * *", "UTC", utc(2026, 1, 5), 1, ["01-06T00:00"]),
    "in local time": ("0 0 2 * * *", "Europe/Berlin", utc(2026, 1, 5), 1, ["01-05T01:00"]),
    # 29 March 2026: 02:00 to 03:00 does not exist in Berlin: at the first moment after it
    "a skipped time runs after the gap": (
        "0 30 2 * * *",
        "Europe/Berlin",
        utc(2026, 3, 28, 12),
        2,
        ["03-29T01:00", "03-30T00:30"],
    ),
    # 25 October 2026: 02:00 to 03:00 exists twice in Berlin: the first
    "a repeated time runs once": (
        "0 30 2 * * *",
        "Europe/Berlin",
        utc(2026, 10, 24, 12),
        2,
        ["10-25T00:30", "10-26T01:30"],
    ),
    "hourly runs in both repeated hours": (
        "0 15 * * * *",
        "Europe/Berlin",
        utc(2026, 10, 24, 23, 30),
        3 / 24,
        ["10-25T00:15", "10-25T01:15", "10-25T02:15"],
    ),
    "hourly skips no hour of the gap": (
        "0 15 * * * *",
        "Europe/Berlin",
        utc(2026, 3, 28, 23, 30),
        3 / 24,
        ["03-29T00:15", "03-29T01:15", "03-29T02:15"],
    ),
    "the other direction, New York": (
        "0 30 2 * * *",
        "America/New_York",
        utc(2026, 3, 7, 12),
        2,
        ["03-08T07:00", "03-09T06:30"],
    ),
    # both day fields must match, where cron takes either: Fridays that are a 13th
    "both day fields": ("0 0 0 13 * FRI", "UTC", utc(2026, 1, 1), 300, ["02-13T00:00", "03-13T00:00"]),
    "names and steps": ("0 */30 8-9 * JAN MON-FRI", "UTC", utc(2026, 1, 9, 9), 1, ["01-09T09:30"]),
    "seconds come first": ("30 0 0 * * *", "UTC", utc(2026, 1, 5), 1, ["01-05T00:00"]),
}


@pytest.mark.parametrize(("text", "zone", "start", "days", "expected"), OCCURRENCES.values(), ids=OCCURRENCES)
def test_occurrences(text: str, zone: str, start: MachineTime, days: float, expected: list[str]) -> None:
    assert due(text, zone, start, days) == expected


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"]
)
def test_a_daily_backup_is_due_once_a_day_all_year(zone: str) -> None:
    start = utc(2026, 1, 1)
    moments = list(schedule("0 30 2 * * *", zone).occurrences(start, start + 365 * DAY))
    assert len(moments) in (364, 365)
    gaps = {later - earlier for earlier, later in pairwise(moments)}
    assert min(gaps) >= timedelta(hours=22, minutes=30)
    assert max(gaps) <= timedelta(hours=25, minutes=30)


def test_planning_in_pieces_gives_what_planning_at_once_gives() -> None:
    nightly = schedule("0 30 2 * * *", "Europe/Berlin")
    start = utc(2026, 10, 20)
    at_once = list(nightly.occurrences(start, start + 10 * DAY))
    step = timedelta(minutes=15)
    pieces = [
        moment
        for number in range(10 * 96)
        for moment in nightly.occurrences(start + number * step, start + (number + 1) * step)
    ]
    assert pieces == at_once


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schedule": "0 2 * * *"}, "6 fields"),
        ({"schedule": "0 0 25 * * *"}, "NCRONTAB"),
        ({"schedule": "0 0 0 30 2 *"}, "occurrence"),
        ({"schedule": "0 0 0 L * *"}, "NCRONTAB fields"),
        ({"timeZone": "Berlin"}, "IANA"),
        ({"timeZone": "../../etc/passwd"}, "IANA"),
        ({"maxLateness": "an hour"}, "ISO 8601"),
        ({"name": "9 lives"}, "name"),
        ({"backupType": "Snapshot"}, "backupType"),
        ({"vaultId": "vault1"}, "vaultId"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_schedule_that_cannot_be_used_says_what_is_wrong(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(EntriesError) as raised:
        read_schedules(json.dumps([entry(**changes)]))
    assert any(said in problem for problem in raised.value.problems)


def test_problems_of_schedules_are_said_once_in_terms_of_json() -> None:
    with pytest.raises(EntriesError) as raised:
        read_schedules(json.dumps([entry(name="nightly", databases=["orders"], surprise=1)]))
    assert raised.value.problems == [
        'schedule "nightly": databases.0: expected an object such as {"instance": "MSSQLSERVER",'
        ' "database": "orders"}, not "orders".',
        'schedule "nightly": surprise: is no field of it, not 1.',
    ]


def test_every_problem_of_every_schedule_is_named() -> None:
    broken = [entry(name="a b", timeZone="Berlin"), 5, entry(name="Twice"), entry(name="twice")]
    with pytest.raises(EntriesError) as raised:
        read_schedules(json.dumps(broken))
    text = str(raised.value)
    for said in ("name", "IANA", "entry 2", "used 2 times"):
        assert said in text


def test_more_than_nine_fulls_a_day_of_one_database_are_refused_and_more_than_three_unwise() -> None:
    four = entry(name="Four", schedule="0 0 */6 * * *", databases=[{"instance": "*", "database": "a*"}])
    six = entry(name="Six", schedule="0 30 */4 * * *", databases=[{"instance": "I", "database": "abc"}])
    apart = {**six, "databases": [{"instance": "I", "database": "xyz"}]}
    with pytest.raises(EntriesError, match="10 Full backups a day"):
        read_schedules(json.dumps([four, six]))
    assert len(warnings(read_schedules(json.dumps([four, apart])))) == 2
    assert not warnings(read_schedules(json.dumps([entry()])))


def test_a_changed_schedule_has_another_digest() -> None:
    one, other = (
        read_schedules(json.dumps([entry(schedule=text)]))[0] for text in ("0 0 2 * * *", "0 0 3 * * *")
    )
    assert one.digest != other.digest
    assert one.digest == read_schedules(json.dumps([entry()]))[0].digest
