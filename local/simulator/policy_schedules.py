"""When a policy takes backups, and how long it keeps them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from local.simulator.estate import Policy

SCHEDULED = ("Full", "Differential")
"""The kinds of backup that a policy takes as jobs at set times."""

_UNITS = {"days": 1, "weeks": 7, "months": 30, "years": 365}

_RULES = {
    "dailySchedule": "Daily",
    "weeklySchedule": "Weekly",
    "monthlySchedule": "Monthly",
    "yearlySchedule": "Yearly",
}

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def retention(policy: Policy | None, kind: str) -> timedelta:
    """How long the policy keeps a backup of that kind; 30 days unless it says."""
    return retention_rule(policy, kind)[0]


def retention_rule(policy: Policy | None, kind: str) -> tuple[timedelta, str]:
    """How long the policy keeps a backup of that kind, and the name of the rule that keeps it longest."""
    keep = ((policy.sub_policy(kind) if policy is not None else None) or {}).get("retentionPolicy") or {}
    found: list[tuple[int, str]] = []
    for part, rule in ((keep, "Daily"), *((keep.get(name), rule) for name, rule in _RULES.items())):
        length = part.get("retentionDuration") if isinstance(part, dict) else None
        if isinstance(length, dict) and isinstance(length.get("count"), int):
            unit = _UNITS.get(str(length.get("durationType", "Days")).lower(), 1)
            found.append((length["count"] * unit, rule))
    days, rule = max(found, default=(30, "Daily"))
    return timedelta(days=days), rule


def next_run(policy: Policy, kind: str, after: datetime) -> datetime | None:
    """When the policy next takes a backup of that kind, None where it takes none; its times are read as UTC."""
    schedule = (policy.sub_policy(kind) or {}).get("schedulePolicy") or {}
    times = schedule.get("scheduleRunTimes") or []
    days = {str(day).lower() for day in schedule.get("scheduleRunDays") or []}
    weekly = str(schedule.get("scheduleRunFrequency", "")).lower() == "weekly"
    candidates: list[datetime] = []
    for text in times:
        try:
            time = datetime.fromisoformat(text).astimezone(UTC)
        except (TypeError, ValueError):
            continue
        for offset in range(9):
            day = after + timedelta(days=offset)
            moment = day.replace(hour=time.hour, minute=time.minute, second=time.second, microsecond=0)
            if moment > after and (not weekly or _WEEKDAYS[moment.weekday()] in days):
                candidates.append(moment)
                break
    return min(candidates, default=None)
