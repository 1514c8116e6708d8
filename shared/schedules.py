"""Schedules of on-demand backups, coverage and drills: NCRONTAB expressions in a time zone, and their occurrences.

NCRONTAB has six fields, seconds first, and both day fields must match
(https://learn.microsoft.com/azure/azure-functions/functions-bindings-timer#ncrontab-expressions). A local
time that a clock change skips runs at the first moment after the gap; one that a clock change repeats runs
once, at its first occurrence, unless the hour field is `*`.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from itertools import combinations
from typing import Annotated, Any, Final, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator

from shared.clock import MachineTime
from shared.messages.cloud_events import excerpt
from shared.messages.model import Duration, StrictModel
from shared.messages.requests import (
    EVERYTHING,
    MOST_FULLS_A_DAY,
    BackupData,
    CoverageData,
    DatabaseSelector,
    DrillData,
)
from shared.names import name_key
from shared.setting_entries import REQUEST, read_entries, repeated

_FIELDS: Final = 6
_ADVISED_FULLS_A_DAY: Final = 3
#: No clock change moves local time by more (a zone that crossed the date line: a day).
_LONGEST_CHANGE: Final = timedelta(days=1)
#: A day in winter and one in summer, so that clock changes do not hide occurrences.
_SAMPLE_DAYS: Final = 7


class Schedule(StrictModel):
    """When a `request` is due (`schedule` in `timeZone`), and how late it may be received."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]
    schedule: str
    time_zone: str = "UTC"
    max_lateness: Duration = timedelta(hours=1)

    @field_validator("schedule")
    @classmethod
    def _is_ncrontab(cls, value: str) -> str:
        from cronsim import CronSim, CronSimError

        if len(value.split()) != _FIELDS:
            raise ValueError(
                "expected an NCRONTAB expression of 6 fields:"
                " {second} {minute} {hour} {day} {month} {day-of-week}"
            )
        if re.search(r"[LW#]", re.sub(r"[A-Za-z]{3}", "", value)):
            raise ValueError("expected NCRONTAB fields of numbers, names, lists, ranges and steps")
        try:
            next(CronSim(value, datetime(2024, 1, 1, tzinfo=UTC)))
        except (CronSimError, StopIteration) as error:
            raise ValueError(f"expected an NCRONTAB expression with an occurrence ({error})") from error
        return value

    @field_validator("time_zone")
    @classmethod
    def _is_known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError("expected an IANA time zone such as Europe/Berlin") from error
        return value

    @property
    def digest(self) -> str:
        """A hash of the schedule: it shows whether a message was planned under another version."""
        return hashlib.sha256(self.model_dump_json(by_alias=True).encode()).hexdigest()[:32]

    def occurrences(self, after: MachineTime, until: MachineTime) -> Iterator[MachineTime]:
        """The due times in (after, until], aware, in UTC."""
        from cronsim import CronSim

        zone = ZoneInfo(self.time_zone)
        local = after.astimezone(zone)
        fields = self.schedule.split()
        hourly = fields[2] == "*"
        if not hourly:
            # In local time, from before any clock change that `after` may lie in.
            local = (after - _LONGEST_CHANGE).astimezone(zone).replace(tzinfo=None)
        both_days = fields[3] != "*" and fields[5] != "*"
        previous: datetime | None = None
        # cron joins the two day fields by "or" where NCRONTAB joins them by "and": walk by the day of the
        # month alone and keep the days of the week that match.
        walked = " ".join((*fields[:5], "*")) if both_days else self.schedule
        weekdays = _weekdays(fields[5]) if both_days else None
        for due in CronSim(walked, local):
            moment = MachineTime(due.astimezone(UTC) if hourly else _moment_of(due, zone))
            if moment > until:
                return
            if weekdays is not None and due.isoweekday() % 7 not in weekdays:
                continue
            if moment > after and moment != previous:
                previous = moment
                yield moment


class BackupSchedule(Schedule):
    """A schedule with the data of a backup request."""

    request: BackupData


class CoverageSchedule(Schedule):
    """A schedule with the data of a coverage request."""

    request: CoverageData


class DrillSchedule(Schedule):
    """A schedule with the data of a drill request."""

    request: DrillData


_S = TypeVar("_S", BackupSchedule, CoverageSchedule, DrillSchedule)


def _moment_of(wall: datetime, zone: ZoneInfo) -> datetime:
    """The moment, in UTC, at which the local time is `wall`.

    The first of two where a clock change repeats it, the end of the gap where a clock change skips it.
    """
    moment = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == wall:
        return moment
    before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    offset = before.astimezone(zone).utcoffset()
    # The change lies after `before` and not after `moment`: close in on it, to the second.
    while moment - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(moment - before) // timedelta(seconds=2))
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            moment = middle
    return moment


def _weekdays(field: str) -> frozenset[int]:
    from cronsim import CronSim

    found = set()
    walk = CronSim(f"0 0 * * {field}", datetime(2024, 1, 1, tzinfo=UTC))
    for _ in range(7):
        found.add(next(walk).isoweekday() % 7)
    return frozenset(found)


def read_schedules(text: str) -> tuple[BackupSchedule, ...]:
    """The schedules in the JSON list of `BACKUP_SCHEDULES`. Raises EntriesError with every problem."""
    return _read(text, BackupSchedule, among=_too_many_fulls)


def read_coverage_schedules(text: str) -> tuple[CoverageSchedule, ...]:
    """The schedules in the JSON list of `COVERAGE_SCHEDULES`. Raises EntriesError with every problem."""
    return _read(text, CoverageSchedule, among=_conflicting_repairs)


def read_drill_schedules(text: str) -> tuple[DrillSchedule, ...]:
    """The schedules in the JSON list of `DRILL_SCHEDULES`. Raises EntriesError with every problem."""
    return _read(text, DrillSchedule, among=lambda _: [])


def _too_many_fulls(schedules: Sequence[BackupSchedule]) -> list[str]:
    return [
        f"{_names(crowded)}: at least {fulls} Full backups a day of one database; the service refuses more than"
        f" {MOST_FULLS_A_DAY}."
        for fulls, crowded in _fulls_a_day(schedules)
        if fulls > MOST_FULLS_A_DAY
    ]


def _conflicting_repairs(schedules: Sequence[CoverageSchedule]) -> list[str]:
    return [
        f"schedules {excerpt(one.name)}, {excerpt(other.name)}: they may mean one database, and {field} differs; one"
        " database has one repair: let one of them report, or narrow databases or exclude."
        for one, other in combinations(schedules, 2)
        for field in _repairs_that_differ(one.request, other.request)
    ]


def _repairs_that_differ(one: CoverageData, other: CoverageData) -> list[str]:
    """The rules with which two schedules would repair one database in different ways."""
    pairs: dict[str, tuple[object, object]] = {
        "onUnprotected": (one.on_unprotected, other.on_unprotected),
        "onStale": (one.on_stale, other.on_stale),
    }
    differ = [name for name, (left, right) in pairs.items() if None not in (left, right) and left != right]
    return differ if differ and _may_share_a_database(one, other) else []


def _may_share_a_database(one: CoverageData, other: CoverageData) -> bool:
    return _may_share_a_vault(one, other) and any(
        _may_mean_one(left, right)
        for left in one.databases or EVERYTHING
        for right in other.databases or EVERYTHING
        if not (_covers(one.exclude, right) or _covers(other.exclude, left))
    )


def _covers(excluded: Sequence[DatabaseSelector], selector: DatabaseSelector) -> bool:
    """Whether all that a selector means is certainly excluded.

    A pattern is matched against the excluding ones as if it were a name. That proves nothing where either has
    wildcards other than `*`, unless they are equal: `?` matches the text `*`, but not all that `*` matches.
    """
    group = selector.availability_group is not None

    def covers(each: DatabaseSelector) -> bool:
        texts = (each.parent, each.database, selector.parent, selector.database)
        certain = (
            not selector.is_pattern
            or each == selector
            or not any(re.search(r"[?\[]", text) for text in texts)
        )
        return certain and each.matches(selector.parent, selector.database, group)

    return any(map(covers, excluded))


def _may_share_a_vault(one: CoverageData, other: CoverageData) -> bool:
    mine, others = set(one.vault_ids), set(other.vault_ids)
    subscriptions = [
        {text.lower() for text in each.subscription_ids}
        | {vault.subscription_id.lower() for vault in each.vault_ids}
        for each in (one, other)
    ]
    # A schedule without vaults means all vaults of its subscriptions.
    return bool(mine & others) if mine and others else bool(subscriptions[0] & subscriptions[1])


def _may_mean_one(left: DatabaseSelector, right: DatabaseSelector) -> bool:
    return (
        (left.availability_group is not None) == (right.availability_group is not None)
        and _may_match_one(left.parent, right.parent)
        and _may_match_one(left.database, right.database)
    )


def _may_match_one(left: str, right: str) -> bool:
    """Whether a name may match both patterns, judged by the text before their first and after their last wildcard."""
    heads = [re.split(r"[*?\[]", name_key(text), maxsplit=1)[0] for text in (left, right)]
    tails = [re.split(r"[*?\]]", name_key(text))[-1] for text in (left, right)]
    whole = [head == name_key(text) for head, text in zip(heads, (left, right), strict=True)]
    if all(whole):
        return heads[0] == heads[1]
    if any(whole):
        name, pattern = (left, right) if whole[0] else (right, left)
        return fnmatchcase(name_key(name), name_key(pattern))
    shorter = min(map(len, heads))
    behind = min(map(len, tails))
    same_end = not behind or tails[0][-behind:] == tails[1][-behind:]
    return heads[0][:shorter] == heads[1][:shorter] and same_end


def _read(text: str, kind: type[_S], *, among: Callable[[Sequence[_S]], list[str]]) -> tuple[_S, ...]:
    """The schedules in a JSON list. Raises EntriesError with every problem; `among`: those of one with another."""
    return read_entries(
        text,
        kind,
        of="schedules",
        called=_called,
        arranged=_arranged,
        among=lambda schedules: [*_named_twice(schedules), *among(schedules)],
    )


def _named_twice(schedules: Sequence[Schedule]) -> list[str]:
    return [
        f"schedule {excerpt(schedule.name.lower())}: the name is used {count} times; names are unique."
        for schedule, count in repeated(schedules, lambda schedule: schedule.name.lower())
    ]


def _called(entry: dict[str, Any]) -> str | None:
    name = entry.get("name")
    return f"schedule {excerpt(name)}" if isinstance(name, str) else None


def _arranged(entry: dict[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = {
        key: entry[key] for key in ("name", "schedule", "timeZone", "maxLateness") if key in entry
    }
    return {**own, REQUEST: {key: value for key, value in entry.items() if key not in own}}


def warnings(schedules: tuple[BackupSchedule, ...]) -> list[str]:
    """Warnings about what is allowed but unwise: more on-demand fulls per day than the service advises."""
    return [
        f"{_names(crowded)}: {fulls} Full backups a day of one database; the service advises at most"
        f" {_ADVISED_FULLS_A_DAY}."
        for fulls, crowded in _fulls_a_day(schedules)
        if fulls > _ADVISED_FULLS_A_DAY
    ]


def _names(schedules: tuple[BackupSchedule, ...]) -> str:
    return "schedules " + ", ".join(excerpt(schedule.name) for schedule in schedules)


def _fulls_a_day(
    schedules: Sequence[BackupSchedule],
) -> list[tuple[int, tuple[BackupSchedule, ...]]]:
    """The most fulls of a database on one day, for each group of schedules that may share a database."""
    fulls = [schedule for schedule in schedules if schedule.request.backup_type.is_full]
    groups: dict[tuple[BackupSchedule, ...], int] = {}
    start = MachineTime(datetime(2024, 1, 1, tzinfo=UTC))
    a_day: dict[str, Counter[Any]] = {}
    for schedule in fulls:
        days: Counter[Any] = Counter()
        for due in schedule.occurrences(start, start + timedelta(days=_SAMPLE_DAYS)):
            day = due.date()
            days[day] += 1
            if days[day] > MOST_FULLS_A_DAY:
                break
        a_day[schedule.name] = days
    for schedule in fulls:
        group = tuple(other for other in fulls if _may_share(schedule, other))
        total: Counter[Any] = Counter()
        for other in group:
            total.update(a_day[other.name])
        groups[group] = max(total.values(), default=0)
    return [(count, group) for group, count in groups.items()]


def _may_share(one: BackupSchedule, other: BackupSchedule) -> bool:
    if one.request.vault_id != other.request.vault_id:
        return False
    vms = (one.request.vm_id, other.request.vm_id)
    if None not in vms and vms[0] != vms[1]:
        return False
    for left in one.request.databases:
        for right in other.request.databases:
            groups = (left.availability_group is not None, right.availability_group is not None)
            if left.matches(right.parent, right.database, groups[1]) or right.matches(
                left.parent, left.database, groups[0]
            ):
                return True
    return False
