"""A policy in words: the forms that the service has, of its specification and of recorded answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from cli.policies import policy_row
from shared.azure_backup.models import Policy

JANUARY = datetime(2026, 1, 5, 8, tzinfo=UTC)
JULY = datetime(2026, 7, 6, 8, tzinfo=UTC)


def words(*parts: Any, zone: str | None = "Pacific Standard Time", now: datetime = JANUARY) -> list[Any]:
    settings = {"timeZone": zone} if zone is not None else {}
    policy = Policy.from_wire(
        {"id": "p", "name": "p", "properties": {"settings": settings, "subProtectionPolicy": list(parts)}}
    )
    return [
        (part["backupType"], part["taken"], part["kept"]) for part in policy_row(policy, now)["schedules"]
    ]


#: ProtectionPolicies_CreateOrUpdate_Complex.json of the REST specification (AzureWorkload, 2024-04-01).
TIMES = ["2018-01-24T10:00:00Z"]
LONG = {
    "policyType": "Full",
    "schedulePolicy": {
        "schedulePolicyType": "SimpleSchedulePolicy",
        "scheduleRunFrequency": "Weekly",
        "scheduleRunDays": ["Sunday", "Tuesday"],
        "scheduleRunTimes": TIMES,
        "scheduleWeeklyFrequency": 0,
    },
    "retentionPolicy": {
        "retentionPolicyType": "LongTermRetentionPolicy",
        "weeklySchedule": {
            "daysOfTheWeek": ["Sunday", "Tuesday"],
            "retentionTimes": TIMES,
            "retentionDuration": {"count": 2, "durationType": "Weeks"},
        },
        "monthlySchedule": {
            "retentionScheduleFormatType": "Weekly",
            "retentionScheduleWeekly": {"daysOfTheWeek": ["Sunday"], "weeksOfTheMonth": ["Second"]},
            "retentionTimes": TIMES,
            "retentionDuration": {"count": 1, "durationType": "Months"},
        },
        "yearlySchedule": {
            "retentionScheduleFormatType": "Weekly",
            "monthsOfYear": ["January", "June", "December"],
            "retentionScheduleWeekly": {"daysOfTheWeek": ["Sunday"], "weeksOfTheMonth": ["Last"]},
            "retentionTimes": TIMES,
            "retentionDuration": {"count": 1, "durationType": "Years"},
        },
    },
}
DIFFERENTIAL = {
    "policyType": "Differential",
    "schedulePolicy": {
        "schedulePolicyType": "SimpleSchedulePolicy",
        "scheduleRunFrequency": "Weekly",
        "scheduleRunDays": ["Friday"],
        "scheduleRunTimes": TIMES,
        "scheduleWeeklyFrequency": 0,
    },
    "retentionPolicy": {
        "retentionPolicyType": "SimpleRetentionPolicy",
        "retentionDuration": {"count": 8, "durationType": "Days"},
    },
}
LOG = {
    "policyType": "Log",
    "schedulePolicy": {"schedulePolicyType": "LogSchedulePolicy", "scheduleFrequencyInMins": 60},
    "retentionPolicy": {
        "retentionPolicyType": "SimpleRetentionPolicy",
        "retentionDuration": {"count": 7, "durationType": "Days"},
    },
}


def test_the_specification_s_complex_policy() -> None:
    assert words(LOG, DIFFERENTIAL, LONG) == [
        (
            "Full",
            "every Sunday and Tuesday at 10:00 Pacific Standard Time (18:00 UTC at present)",
            [
                "that of Sunday and Tuesday kept 2 weeks",
                "that of the second Sunday of each month kept 1 month",
                "that of the last Sunday of January, June and December kept 1 year",
            ],
        ),
        (
            "Differential",
            "every Friday at 10:00 Pacific Standard Time (18:00 UTC at present)",
            ["kept 8 days"],
        ),
        ("Log", "every hour", ["kept 7 days"]),
    ]


@pytest.mark.parametrize(
    ("zone", "now", "expected"),
    [
        ("Pacific Standard Time", JULY, "10:00 Pacific Standard Time (17:00 UTC at present)"),
        ("India Standard Time", JULY, "10:00 India Standard Time (04:30 UTC at present)"),
        ("UTC", JULY, "10:00 UTC"),
        (None, JULY, "10:00 UTC"),
        ("GMT Standard Time", JANUARY, "10:00 GMT Standard Time"),
        ("A zone of next year", JULY, "10:00 A zone of next year"),
    ],
)
def test_a_time_of_day_is_that_of_the_policy_s_zone(zone: str | None, now: datetime, expected: str) -> None:
    assert words(DIFFERENTIAL, zone=zone, now=now)[0][1] == f"every Friday at {expected}"


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [(15, "every 15 minutes"), (60, "every hour"), (120, "every 2 hours"), (1440, "every day")],
)
def test_intervals_of_log_backups(minutes: int, expected: str) -> None:
    assert words({**LOG, "schedulePolicy": {"scheduleFrequencyInMins": minutes}})[0][1] == expected


def test_days_of_the_month_and_the_archive_tier() -> None:
    retention = {
        "retentionPolicyType": "LongTermRetentionPolicy",
        "dailySchedule": {"retentionDuration": {"count": 30, "durationType": "Days"}},
        "monthlySchedule": {
            "retentionScheduleFormatType": "Daily",
            "retentionScheduleDaily": {
                "daysOfTheMonth": [{"date": 1, "isLast": False}, {"date": 0, "isLast": True}]
            },
            "retentionDuration": {"count": 12, "durationType": "Months"},
        },
    }
    tiering = {"ArchivedRP": {"tieringMode": "TierAfter", "duration": 45, "durationType": "Days"}}
    assert words({**LONG, "retentionPolicy": retention, "tieringPolicy": tiering})[0][2] == [
        "kept 30 days",
        "that of day 1 and the last day of each month kept 12 months",
        "moved to the archive tier after 45 days",
    ]


@pytest.mark.parametrize(
    "part", [{}, {"policyType": "Full"}, {**LOG, "schedulePolicy": None}, {**LONG, "retentionPolicy": []}]
)
def test_a_form_that_is_not_known_is_said_to_be_so(part: dict[str, Any]) -> None:
    ((_, taken, kept),) = words(part)
    assert "in a form that this command does not know" in f"{taken} {kept}"
