"""Which recovery point a restore uses, and which ones exist.

Follows https://learn.microsoft.com/azure/backup/restore-azure-sql-vm-rest-api: fulls and differentials have a
recovery point each, all log ranges share one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeAlias

from shared.arm.redaction import printable
from shared.clock import ServiceTime
from shared.engine.result import Failure
from shared.messages.error_codes import ErrorCode
from shared.messages.model import format_moment
from shared.messages.requests import RecoveryPointChoice
from shared.steps.payloads import ChosenRecoveryPoint

if TYPE_CHECKING:
    from shared.azure_backup.models import RecoveryPoint, TimeRange

LOG_RECOVERY_POINT: Final = "DefaultRangeRecoveryPoint"
_SECOND: Final = timedelta(seconds=1)
_THREATS: Final = "threats found"
#: Recovery points with their moments, the newest first.
Snapshots: TypeAlias = "list[tuple[ServiceTime, RecoveryPoint]]"


def choose_recovery_point(
    choice: RecoveryPointChoice, points: Sequence[RecoveryPoint], database: str
) -> ChosenRecoveryPoint | Failure:
    """The recovery point that a request means; a Failure that says which there are.

    A recovery point that cannot be restored is never chosen; one in which a scan found threats only if the request
    names it.
    """
    snapshots = newest_first(points)
    ranges = restorable_ranges(points)
    clean = [point for point in points if not point.is_threatened]
    meant = points if choice.name is not None or choice.point_in_time is not None else clean
    restorable = [(time, point) for time, point in newest_first(meant) if point.cannot_restore is None]
    chosen = _chosen(choice, restorable, restorable_ranges(meant))
    if chosen is None:
        # It may be far older than the newest ones that are listed.
        avoided = _chosen(choice, snapshots, ranges)
        which = f": that is {_described(avoided, snapshots)}" if avoided is not None else ""
        return Failure(
            ErrorCode.RECOVERY_POINT_NOT_FOUND,
            f"{database} cannot be restored to {choice}{which}. {available_points(points)}",
        )
    return chosen


def _chosen(
    choice: RecoveryPointChoice, snapshots: Snapshots, ranges: Sequence[TimeRange]
) -> ChosenRecoveryPoint | None:
    if choice.name is not None:
        return _named(choice.name, snapshots)
    if choice.point_in_time is not None:
        covered = any(span.start <= choice.point_in_time <= span.end for span in ranges)
        return _at_moment(choice.point_in_time) if covered else None
    if choice.latest == "full":
        return _latest_full(snapshots)
    return _newest(snapshots, ranges, before=choice.before)


def _described(chosen: ChosenRecoveryPoint, snapshots: Snapshots) -> str:
    """The name of a recovery point for messages."""
    named = (_label(time, point) for time, point in snapshots if point.name == chosen.name)
    return next(named, f"{chosen.name} ({_THREATS})")


def _at_moment(moment: ServiceTime) -> ChosenRecoveryPoint:
    return ChosenRecoveryPoint(name=LOG_RECOVERY_POINT, kind="Log", time=moment, point_in_time=moment)


def _at_point(time: ServiceTime, point: RecoveryPoint) -> ChosenRecoveryPoint:
    return ChosenRecoveryPoint(name=point.name, kind=point.kind, time=time)


def _named(name: str, snapshots: Snapshots) -> ChosenRecoveryPoint | None:
    for time, point in snapshots:
        if point.name.casefold() == name.casefold():
            return _at_point(time, point)
    return None


def _latest_full(snapshots: Snapshots) -> ChosenRecoveryPoint | None:
    for time, point in snapshots:
        if point.kind.lower() in ("full", "copyonlyfull"):
            return _at_point(time, point)
    return None


def _newest(
    snapshots: Snapshots, ranges: Sequence[TimeRange], *, before: ServiceTime | None
) -> ChosenRecoveryPoint | None:
    """The newest moment, from the log, a full or a differential; only moments before `before`, if given."""
    by_log = [
        span.end if before is None or span.end < before else _second_before(before)
        for span in ranges
        if before is None or span.start < before
    ]
    by_point = [(time, point) for time, point in snapshots if before is None or time < before]
    if by_log and (not by_point or max(by_log) >= by_point[0][0]):
        return _at_moment(max(by_log))
    return _at_point(*by_point[0]) if by_point else None


def _second_before(moment: ServiceTime) -> ServiceTime:
    """The last whole second before a moment."""
    return moment.replace(microsecond=0) if moment.microsecond else moment - _SECOND


def newest_first(points: Iterable[RecoveryPoint]) -> Snapshots:
    """Fulls and differentials with their moments; the log ranges have none."""
    snapshots = [(point.time, point) for point in points if point.time is not None]
    return sorted(snapshots, key=lambda pair: pair[0], reverse=True)


def restorable_ranges(points: Iterable[RecoveryPoint]) -> list[TimeRange]:
    """The log ranges from their first whole second to their last, the newest first.

    The service takes a point in time in whole seconds, and lists ranges that begin within one.
    """
    spans = [
        whole
        for point in points
        if point.cannot_restore is None
        for span in point.time_ranges
        if (whole := span.whole_seconds) is not None
    ]
    return sorted(spans, key=lambda span: span.end, reverse=True)


def available_points(points: Sequence[RecoveryPoint]) -> str:
    """The newest recovery points and the log ranges, in words."""
    snapshots = newest_first(points)
    named = [_label(time, point) for time, point in snapshots[:10]]
    spans = [
        f"{format_moment(span.start)} to {format_moment(span.end)}" for span in restorable_ranges(points)
    ]
    more = f" and {len(snapshots) - 10} older" if len(snapshots) > 10 else ""
    garbled = [printable(point.name, limit=60) for point in points if point.is_unreadable]
    unread = f" Not readable: {', '.join(garbled[:10])}." if garbled else ""
    log = "; ".join(spans[:10]) if spans else "none"
    return f"Recovery points: {', '.join(named) if named else 'none'}{more}. Log ranges: {log}.{unread}"


def _label(time: ServiceTime, point: RecoveryPoint) -> str:
    parts = [point.kind, format_moment(time.replace(microsecond=0)), state_of(point)]
    return f"{point.name} ({', '.join(part for part in parts if part is not None)})"


def state_of(point: RecoveryPoint) -> str | None:
    """Why a recovery point cannot or should not be restored as it is; None where nothing is wrong with it."""
    return point.cannot_restore or (_THREATS if point.is_threatened else None)
