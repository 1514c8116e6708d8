"""How old a policy lets the last backup become: the longest pause in its schedule.

The times of a policy are in its time zone, in spite of the `Z` at their end: `2026-01-05T18:00:00Z` under
W. Europe Standard Time is six in the evening there
(https://learn.microsoft.com/rest/api/backup/protection-policies/create-or-update). A pause across a change of the
clock is therefore counted as an hour longer or shorter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from itertools import pairwise
from typing import Any, Final
from zoneinfo import ZoneInfo

from shared.azure_backup.models import Policy
from shared.clock import ServiceTime
from shared.names import name_key
from shared.time_zones import WINDOWS_ZONES, windows_zone

#: How much longer a backup may take than the one before it.
MARGIN: Final = timedelta(hours=1)
_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_WEEK: Final = timedelta(days=7)
#: Pauses are looked at this long before and after a moment: a week of the schedule on either side.
_AROUND: Final = 2 * _WEEK


@dataclass(frozen=True, kw_only=True)
class PolicyAges:
    """How old the last backup may be under a policy, at a moment."""

    #: by its fulls alone: applies to master
    full: timedelta | None
    #: by fulls and differentials: applies to the simple recovery model
    data: timedelta | None
    #: by its log backups, where it takes any; they run around the clock
    log: timedelta | None


@dataclass(frozen=True)
class _Runs:
    """When the backups of a part of a policy start: days of the week and times of the day, in its zone."""

    days: frozenset[int]
    times: tuple[time, ...]
    #: every how many weeks
    weeks: int = 1


class AgesByPolicy:
    """The ages that each of a vault's policies allows, at a moment."""

    def __init__(self, policies: Iterable[Policy], now: ServiceTime) -> None:
        self._policies = {name_key(policy.name): policy for policy in policies}
        self._now = now
        self._known: dict[str, PolicyAges] = {}

    def of(self, policy_name: str | None) -> PolicyAges | None:
        """What a policy allows; None where the vault lists no policy of that name."""
        key = name_key(policy_name or "")
        if key not in self._known and key in self._policies:
            self._known[key] = ages_of(self._policies[key], self._now)
        return self._known.get(key)


def ages_of(policy: Policy, now: ServiceTime) -> PolicyAges:
    """How old the last backup may be under a policy: the longest pause of its schedule around `now`, and an hour.

    A part that cannot be read is ignored: backups may then seem to be allowed to become older than they are, but no
    database is called stale that is not.
    """
    properties = policy.properties
    settings = properties.get("settings")
    zone = _zone(settings.get("timeZone") if isinstance(settings, dict) else None)
    fulls: list[_Runs] = []
    data: list[_Runs] = []
    log: timedelta | None = None
    parts = properties.get("subProtectionPolicy")
    for part in parts if isinstance(parts, list) else ():
        if not isinstance(part, dict) or not isinstance(schedule := part.get("schedulePolicy"), dict):
            continue
        kind = str(part.get("policyType", "")).lower()
        if kind == "log":
            minutes = schedule.get("scheduleFrequencyInMins")
            if isinstance(minutes, int) and not isinstance(minutes, bool) and minutes > 0:
                log = timedelta(minutes=minutes) + MARGIN
        elif (runs := _runs(schedule)) is not None:
            data.append(runs)
            if kind.endswith("full"):
                fulls.append(runs)
    return PolicyAges(full=_age(fulls, zone, now), data=_age(data, zone, now), log=log)


def _age(runs: list[_Runs], zone: tzinfo | None, now: ServiceTime) -> timedelta | None:
    if not runs:
        return None
    moments = sorted(set(_starts(runs, zone or UTC, now)))
    longest = max((after - before for before, after in pairwise(moments)), default=_WEEK)
    # For parts that do not run every week, the service does not tell which weeks they run in.
    longest += max(0, min(each.weeks for each in runs) - 1) * _WEEK
    # In an unknown zone, the clock may change.
    return longest + MARGIN + (timedelta() if zone is not None else timedelta(hours=1))


def _starts(runs: Iterable[_Runs], zone: tzinfo, now: ServiceTime) -> Iterator[datetime]:
    first = (now - _AROUND).astimezone(zone).date()
    for each in runs:
        for number in range(2 * _AROUND.days + 1):
            day = first + timedelta(days=number)
            if day.weekday() in each.days:
                for clock in each.times:
                    yield datetime.combine(day, clock, tzinfo=zone).astimezone(UTC)


def _runs(schedule: dict[str, Any]) -> _Runs | None:
    """A `SimpleSchedulePolicy`; None where it cannot be read."""
    listed = schedule.get("scheduleRunTimes")
    times = tuple(
        clock for text in (listed if isinstance(listed, list) else ()) if (clock := _clock(text)) is not None
    )
    if not times:
        return None
    frequency = str(schedule.get("scheduleRunFrequency", "")).lower()
    if frequency == "daily":
        return _Runs(frozenset(range(7)), times)
    named = schedule.get("scheduleRunDays")
    days = frozenset(
        _DAYS.index(day.lower())
        for day in (named if isinstance(named, list) else ())
        if isinstance(day, str) and day.lower() in _DAYS
    )
    if frequency != "weekly" or not days:
        return None
    weeks = schedule.get("scheduleWeeklyFrequency")
    return _Runs(days, times, weeks if isinstance(weeks, int) and weeks > 1 else 1)


def _clock(text: object) -> time | None:
    """The time of day in a moment; its date and its zone mean nothing."""
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(text).time()
    except ValueError:
        return None


def _zone(name: object) -> tzinfo | None:
    known = windows_zone(name) if isinstance(name, str) else None
    if known is None:
        return None
    zones = WINDOWS_ZONES[known].split()
    return ZoneInfo(zones[0]) if zones else None
