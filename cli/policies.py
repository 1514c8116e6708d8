"""`sqlvmbackup policies`: which backups a vault's policies take, when, and how long they are kept, in words.

The form of a policy is that of https://learn.microsoft.com/rest/api/backup/protection-policies (AzureWorkload). Its
times of day are those of its time zone, though they are written with a `Z`; the date beside them means nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from cli.azure import vault_named
from cli.encoding import JsonObject
from cli.errors import FAILED, CommandError
from cli.output import output_of, print_fields, print_rows, write_data
from shared.arm.redaction import printable
from shared.azure_backup.models import Policy
from shared.azure_backup.wire import parse_time
from shared.names import AmbiguousNameError, name_key, only_named
from shared.time_zones import WINDOWS_ZONES, windows_zone

_COLUMNS: Final = ("name", "databases", "takes", "timeZone")
_ORDER: Final = ("full", "differential", "incremental", "log")
_UNKNOWN: Final = "in a form that this command does not know"
#: The parts of a long-term retention: its name, and the name of what it keeps.
_LONG_TERM: Final = (
    ("dailySchedule", "each"),
    ("weeklySchedule", "weekly"),
    ("monthlySchedule", "monthly"),
    ("yearlySchedule", "yearly"),
)


def list_policies(options: argparse.Namespace) -> int:
    """List the policies for SQL Server; returns the exit status."""
    output = output_of(options)
    with vault_named(options) as (runtime, vault):
        policies = runtime.backup.list_policies(vault)
        now = runtime.service_clock.now()
    print_rows(
        _COLUMNS,
        [
            policy_row(policy, now) if not output.is_table else _shown(policy, now)
            for policy in sorted(policies, key=lambda policy: name_key(policy.name))
        ],
        output,
        nothing="The vault has no policy for SQL Server: a protect request can create one (--create-policy).",
        spared=("databases",),
    )
    return 0


def show_policy(options: argparse.Namespace) -> int:
    """Show one policy; returns the exit status."""
    output = output_of(options)
    with vault_named(options) as (runtime, vault):
        policies = runtime.backup.list_policies(vault)
        now = runtime.service_clock.now()
    try:
        policy = only_named(options.name, policies, lambda policy: policy.name)
    except AmbiguousNameError as error:
        raise CommandError(f"NAME: {error}: give it in its own case.", status=FAILED) from error
    if policy is None:
        there = ", ".join(sorted((policy.name for policy in policies), key=name_key)) or "none"
        raise CommandError(
            f"vault {vault.name} has no policy {printable(options.name, limit=150)} for SQL Server; it has: {there}.",
            status=FAILED,
        )
    if not output.is_table:
        write_data([policy_row(policy, now)], output)
        return 0
    fields = [("policy", policy.name)]
    if policy.protected_items_count is not None:
        fields.append(("protects", _counted(policy.protected_items_count, "database")))
    fields.append(("time zone", _zone(policy)))
    for part in _parts(policy):
        fields.append((str(part.get("policyType")), _taken(part, policy, now)))
        fields += [("", line) for line in _kept(part)]
    compression = _settings(policy).get("isCompression", _settings(policy).get("issqlcompression"))
    fields.append(("compression", "on" if compression else "off"))
    print_fields(fields)
    return 0


def policy_row(policy: Policy, now: datetime) -> JsonObject:
    """A policy as a line of JSON: in words, and the service's own fields."""
    return {
        "name": policy.name,
        "protectedItemsCount": policy.protected_items_count,
        "timeZone": _zone(policy),
        "schedules": [
            {
                "backupType": part.get("policyType"),
                "taken": _taken(part, policy, now),
                "kept": list(_kept(part)),
            }
            for part in _parts(policy)
        ],
        "properties": policy.properties,
    }


def _shown(policy: Policy, now: datetime) -> JsonObject:
    takes = [
        f"{part.get('policyType')} {_taken(part, policy, now, short=True)}, {'; '.join(_kept(part))}"
        for part in _parts(policy)
    ]
    return {
        "name": policy.name,
        "databases": policy.protected_items_count,
        "takes": tuple(takes),
        "timeZone": _zone(policy),
    }


def _parts(policy: Policy) -> list[JsonObject]:
    given = policy.properties.get("subProtectionPolicy")
    parts = [part for part in given if isinstance(part, dict)] if isinstance(given, list) else []
    kinds = [str(part.get("policyType")).lower() for part in parts]
    ranks = [_ORDER.index(kind) if kind in _ORDER else len(_ORDER) for kind in kinds]
    return [part for _, part in sorted(zip(ranks, parts, strict=True), key=lambda pair: pair[0])]


def _settings(policy: Policy) -> JsonObject:
    return _object(policy.properties.get("settings"))


def _zone(policy: Policy) -> str:
    """The time zone, as Windows names it; UTC where a policy says nothing."""
    return printable(str(_settings(policy).get("timeZone") or "UTC"))


def _taken(part: JsonObject, policy: Policy, now: datetime, *, short: bool = False) -> str:
    """When a part is taken: `every Sunday and Tuesday at 10:00 Pacific Standard Time (18:00 UTC now)`."""
    schedule = _object(part.get("schedulePolicy"))
    minutes = schedule.get("scheduleFrequencyInMins")
    if isinstance(minutes, int) and not isinstance(minutes, bool) and minutes > 0:
        return f"every {_interval(minutes)}"
    frequency = str(schedule.get("scheduleRunFrequency") or "").lower()
    if frequency == "hourly":
        return _hourly(_object(schedule.get("hourlySchedule")))
    times = [time for time in map(_clock, _list(schedule.get("scheduleRunTimes"))) if time]
    if not times or frequency not in ("daily", "weekly"):
        return _UNKNOWN
    days = [str(day) for day in _list(schedule.get("scheduleRunDays"))]
    when = f"every {_and(days)}" if frequency == "weekly" else "every day"
    weeks = schedule.get("scheduleWeeklyFrequency")
    if frequency == "weekly" and isinstance(weeks, int) and weeks > 1:
        when += f", each {weeks} weeks"
    at = f"{when} at {_and(times)}"
    return at if short else f"{at} {_zone(policy)}{_in_utc(times, _zone(policy), now)}"


def _hourly(schedule: JsonObject) -> str:
    interval, start, length = (
        schedule.get(name) for name in ("interval", "scheduleWindowStartTime", "scheduleWindowDuration")
    )
    time = _clock(start)
    if not isinstance(interval, int) or not isinstance(length, int) or not time:
        return _UNKNOWN
    return f"every {_interval(interval * 60)} from {time} for {_counted(length, 'hour')}"


def _in_utc(times: Sequence[str], zone: str, now: datetime) -> str:
    """The times of day in UTC at present; empty where they are in UTC already, or the zone is unknown."""
    name = windows_zone(zone)
    if name is None or zone == "UTC":
        return ""
    here = now.astimezone(ZoneInfo(WINDOWS_ZONES[name].split()[0]))
    offset = here.utcoffset()
    if not offset:
        return ""
    shifted = [
        (datetime.combine(here.date(), datetime.strptime(time, "%H:%M").time()) - offset).strftime("%H:%M")  # noqa: DTZ007
        for time in times
    ]
    return f" ({_and(shifted)} UTC at present)"


def _kept(part: JsonObject) -> Iterator[str]:
    """How long a part is kept: a line for each rule."""
    retention = _object(part.get("retentionPolicy"))
    if simple := _duration(retention.get("retentionDuration")):
        yield f"kept {simple}"
        yield from _archived(part)
        return
    found = [(what, _object(retention.get(name))) for name, what in _LONG_TERM if retention.get(name)]
    if not found:
        yield f"kept {_UNKNOWN}"
    for what, rule in found:
        which = _which(what, rule)
        yield f"{which}kept {_duration(rule.get('retentionDuration')) or _UNKNOWN}"
    yield from _archived(part)


def _which(what: str, rule: JsonObject) -> str:
    """Which backups a rule of long-term retention keeps."""
    if what == "each":
        return ""
    if what == "weekly":
        return f"that of {_and(_list(rule.get('daysOfTheWeek')))} "
    months = f" of {_and(_list(rule.get('monthsOfYear')))}" if what == "yearly" else " of each month"
    weekly = _object(rule.get("retentionScheduleWeekly"))
    if str(rule.get("retentionScheduleFormatType")).lower() == "weekly" and weekly:
        weeks = _and([str(week).lower() for week in _list(weekly.get("weeksOfTheMonth"))])
        return f"that of the {weeks} {_and(_list(weekly.get('daysOfTheWeek')))}{months} "
    daily = _list(_object(rule.get("retentionScheduleDaily")).get("daysOfTheMonth"))
    days = [
        "the last day" if _object(day).get("isLast") else f"day {_object(day).get('date')}" for day in daily
    ]
    return f"that of {_and(days)}{months} " if days else f"the {what} one "


def _archived(part: JsonObject) -> Iterator[str]:
    tier = _object(_object(part.get("tieringPolicy")).get("ArchivedRP"))
    mode = str(tier.get("tieringMode") or "").lower()
    if mode == "tierafter":
        after = _duration({"count": tier.get("duration"), "durationType": tier.get("durationType")})
        yield f"moved to the archive tier after {after or 'a while'}"
    elif mode == "tierrecommended":
        yield "moved to the archive tier where the service recommends it"


def _duration(value: object) -> str | None:
    """`30 days` of `{"count": 30, "durationType": "Days"}`."""
    given = _object(value)
    count, unit = given.get("count"), str(given.get("durationType") or "").lower()
    if (
        not isinstance(count, int)
        or isinstance(count, bool)
        or unit not in ("days", "weeks", "months", "years")
    ):
        return None
    return _counted(count, unit.removesuffix("s"))


def _interval(minutes: int) -> str:
    if minutes % 60:
        return f"{minutes} minutes"
    hours = minutes // 60
    if hours == 24:
        return "day"
    return "hour" if hours == 1 else f"{hours} hours"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _and(words: Sequence[object]) -> str:
    texts = [printable(str(word)) for word in words]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}" if texts else "?"


def _clock(value: object) -> str:
    """The time of day in a moment of the policy."""
    try:
        moment = parse_time(value)
    except ValueError:
        return ""
    return moment.strftime("%H:%M") if moment is not None else ""


def _object(value: object) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
