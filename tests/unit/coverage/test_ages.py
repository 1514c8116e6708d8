"""How old a policy lets the last backup become."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.azure_backup.models import Policy
from shared.clock import ServiceTime
from shared.coverage.ages import MARGIN, ages_of
from shared.time_zones import WINDOWS_ZONES
from tests.unit.coverage.estate import HOUR, NOW, log_policy, policy, sub_policy

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
DAY = timedelta(days=1)
SPRING = ServiceTime(datetime(2026, 4, 1, tzinfo=UTC))
AUTUMN = ServiceTime(datetime(2026, 10, 26, tzinfo=UTC))

#: the policy, a moment, the longest pause of its fulls, of its data and of its logs
CASES: dict[str, tuple[Policy, ServiceTime, timedelta | None, timedelta | None, timedelta | None]] = {
    "daily": (policy(sub_policy("Full")), NOW, DAY, DAY, None),
    "daily with logs": (policy(sub_policy("Full"), log_policy(15)), NOW, DAY, DAY, timedelta(minutes=15)),
    "weekdays: the weekend is a pause": (
        policy(sub_policy("Full", days=DAYS[:5])),
        NOW,
        3 * DAY,
        3 * DAY,
        None,
    ),
    "weekly": (policy(sub_policy("Full", days=["Sunday"])), NOW, 7 * DAY, 7 * DAY, None),
    "weekly with differentials": (
        policy(
            sub_policy("Full", days=["Sunday"], at=["02:00"]),
            sub_policy("Differential", days=["Wednesday"], at=["22:00"]),
        ),
        NOW,
        7 * DAY,
        3 * DAY + 20 * HOUR,
        None,
    ),
    "several times a day": (
        policy(sub_policy("Full", at=["06:00", "18:00"])),
        NOW,
        12 * HOUR,
        12 * HOUR,
        None,
    ),
    "the clock goes back": (
        policy(sub_policy("Full"), zone="W. Europe Standard Time"),
        AUTUMN,
        25 * HOUR,
        25 * HOUR,
        None,
    ),
    "the clock goes forward": (
        policy(sub_policy("Full"), zone="W. Europe Standard Time"),
        SPRING,
        DAY,
        DAY,
        None,
    ),
    "every second week": (
        policy(
            {
                "policyType": "Full",
                "schedulePolicy": {
                    **sub_policy("Full", days=["Sunday"])["schedulePolicy"],
                    "scheduleWeeklyFrequency": 2,
                },
            }
        ),
        NOW,
        14 * DAY,
        14 * DAY,
        None,
    ),
    "a zone that is not known: an hour more": (
        policy(sub_policy("Full"), zone="Mars"),
        NOW,
        25 * HOUR,
        25 * HOUR,
        None,
    ),
    "no zone": (policy(sub_policy("Full"), zone=None), NOW, 25 * HOUR, 25 * HOUR, None),
    "in whatever case": (
        policy(
            {
                "policyType": "FULL",
                "schedulePolicy": {
                    "scheduleRunFrequency": "weekly",
                    "scheduleRunDays": ["SUNDAY"],
                    "scheduleRunTimes": ["2025-12-01T18:00:00Z"],
                },
            }
        ),
        NOW,
        7 * DAY,
        7 * DAY,
        None,
    ),
    "nothing": (policy(), NOW, None, None, None),
    "a schedule of another kind": (
        policy({"policyType": "Full", "schedulePolicy": {"schedulePolicyType": "SimpleSchedulePolicyV2"}}),
        NOW,
        None,
        None,
        None,
    ),
    "an interval that is none": (policy(sub_policy("Full"), log_policy(0)), NOW, DAY, DAY, None),
}


@pytest.mark.parametrize("name", CASES)
def test_the_longest_pause_and_an_hour(name: str) -> None:
    given_policy, now, *pauses = CASES[name]
    ages = ages_of(given_policy, now)
    assert [ages.full, ages.data, ages.log] == [pause and pause + MARGIN for pause in pauses]


@pytest.mark.parametrize(
    "properties", [{}, {"settings": 1, "subProtectionPolicy": 2}, {"subProtectionPolicy": [1, {}]}]
)
def test_what_is_no_policy_says_nothing(properties: dict[str, Any]) -> None:
    ages = ages_of(Policy(id="x", name="x", properties=properties), NOW)
    assert (ages.full, ages.data, ages.log) == (None, None, None)


@given(
    days=st.lists(st.sampled_from(DAYS), min_size=1, max_size=7, unique=True),
    half_hour=st.integers(0, 47),
    zone=st.sampled_from(sorted(name for name, zones in WINDOWS_ZONES.items() if zones)),
    minutes=st.integers(0, 6 * 365 * 24 * 60),
)
def test_no_backup_that_was_taken_on_time_is_ever_too_old(
    days: list[str], half_hour: int, zone: str, minutes: int
) -> None:
    """At any moment, in any zone, the last backup is younger than the age by at least the margin."""
    clock = f"{half_hour // 2:02}:{half_hour % 2 * 30:02}"
    moment = ServiceTime(datetime(2024, 1, 1, tzinfo=UTC)) + timedelta(minutes=minutes)
    age = ages_of(policy(sub_policy("Full", days=days, at=[clock]), zone=zone), moment).full
    assert age is not None
    here = ZoneInfo(WINDOWS_ZONES[zone].split()[0])
    wanted = {DAYS.index(day) for day in days}
    hour, minute = divmod(half_hour * 30, 60)
    walls = [
        (moment.astimezone(here) + timedelta(days=back)).replace(
            hour=hour, minute=minute, second=0, microsecond=0
        )
        for back in range(-9, 10)
    ]
    taken = sorted(wall.astimezone(UTC) for wall in walls if wall.weekday() in wanted)
    assert all(after - before <= age - MARGIN for before, after in pairwise(taken))
    last = max(one for one in taken if one <= moment)
    assert moment - last <= age - MARGIN
