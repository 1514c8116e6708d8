"""Recovery points, and the ranges of time covered by log backups."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from local.simulator.calls import Answer, Call
from local.simulator.errors import invalid_input
from local.simulator.estate import ProtectedItem, RecoveryPoint
from local.simulator.filters import moment_in, parse_filter
from local.simulator.handlers.archive import move_readiness, render_tiers
from local.simulator.paging import paged
from local.simulator.policy_schedules import retention
from local.simulator.timing import instant, whole_seconds
from local.simulator.world import World

RANGE = "DefaultRangeRecoveryPoint"
_FIELDS = frozenset(
    {
        "startdate",
        "enddate",
        "restorepointquerytype",
        "extendedinfo",
        "movereadyrponly",
        "includesoftdeletedrp",
        "tier",
    }
)
_QUERY_TYPES = {
    "full": ("Full", "CopyOnlyFull"),
    "differential": ("Differential",),
    "fullanddifferential": ("Full", "CopyOnlyFull", "Differential"),
    "all": ("Full", "CopyOnlyFull", "Differential", "Log"),
    "log": ("Log",),
    "incremental": (),
    "snapshotfull": (),
    "snapshotcopyonlyfull": (),
    "invalid": (),
}
_TYPE = "Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/protectedItems/recoveryPoints"


def _paths(files: list[tuple[str, str, str]]) -> list[dict[str, str]]:
    return [{"type": kind, "path": path, "logicalName": logical} for kind, logical, path in files]


def _render_point(
    world: World,
    call: Call,
    item: ProtectedItem,
    point: RecoveryPoint,
    *,
    details: bool,
    single: bool = False,
) -> Any:
    properties: dict[str, Any] = {"objectType": "AzureWorkloadSQLRecoveryPoint"}
    if details and _tells_files(item, "FullAndDifferential"):
        properties["extendedInfo"] = {
            "dataDirectoryTimeInUTC": whole_seconds(point.time),
            "dataDirectoryPaths": _paths(point.files),
            **({"snapshotRecoveryPointInfo": {}} if single and world.service.snapshot_info else {}),
        }
    # The service knows no recovery point of type CopyOnlyFull (RestorePointType of the SDK).
    kind = "Full" if point.kind == "CopyOnlyFull" else point.kind
    properties |= {"recoveryPointTimeInUTC": whole_seconds(point.time), "type": kind}
    properties |= render_tiers(world, item, point, details=single)
    return {
        "id": f"{world.item_path(call, item)}/recoveryPoints/{point.name}",
        "name": point.name,
        "type": _TYPE,
        "properties": properties,
    }


def _tells_files(item: ProtectedItem, least: str) -> bool:
    """Whether recovery points have `extendedInfo`; the one for log ranges needs `All` in the database's scenario."""
    return item.backed_up_database().files_told_by in ("All", least)


def log_ranges(item: ProtectedItem, now: datetime) -> list[tuple[datetime, datetime]]:
    """The ranges of time that can be restored to, the newest first."""
    kept_since = now - retention(item.policy, "Log")
    ranges = []
    for chain in reversed(item.chains):
        end = chain.end_at(now)
        start = max(chain.start, kept_since)
        if end is not None and end > start:
            ranges.append((start, end))
    return ranges


def _render_range(
    world: World,
    call: Call,
    item: ProtectedItem,
    *,
    details: bool,
    since: datetime | None = None,
    until: datetime | None = None,
) -> dict[str, Any]:
    properties: dict[str, Any] = {"objectType": "AzureWorkloadSQLPointInTimeRecoveryPoint"}
    if details and _tells_files(item, "All"):
        database = item.live_database()
        newest = item.kept(world.now)
        files = database.files if database is not None else newest[-1].files if newest else []
        properties["extendedInfo"] = {
            "dataDirectoryTimeInUTC": whole_seconds(item.last_restorable(world.now) or world.now),
            "dataDirectoryPaths": _paths(files),
        }
    properties |= {
        "timeRanges": [
            {"startTime": instant(start), "endTime": whole_seconds(end)}
            for start, end in log_ranges(item, world.now)
            if (since is None or end >= since) and (until is None or start <= until)
        ],
        "type": "Log",
    }
    return {
        "id": f"{world.item_path(call, item)}/recoveryPoints/{RANGE}",
        "name": RANGE,
        "type": _TYPE,
        "properties": properties,
    }


def list_points(world: World, call: Call) -> Answer:
    """GET an item's recovery points, the newest first, then the one for its log ranges."""
    vault = world.vault(call)
    item = world.item(call, vault)
    wanted = parse_filter(call.filter, _FIELDS)
    since, until = moment_in(wanted, "startdate"), moment_in(wanted, "enddate")
    kinds = _QUERY_TYPES.get(wanted.get("restorepointquerytype", "All").lower())
    if kinds is None:
        raise invalid_input("The filter's restorePointQueryType is not one the service knows.")
    details = wanted.get("extendedinfo", "").lower() == "true"
    only_ready = wanted.get("movereadyrponly", "").lower() == "true"
    if only_ready:
        kinds = tuple(kind for kind in kinds if kind != "Log")
    soft_deleted_too = wanted.get("includesoftdeletedrp", "").lower() == "true"
    if item.soft_deleted and not soft_deleted_too:
        kinds = tuple(kind for kind in kinds if kind == "Log")
    points: list[RecoveryPoint | None] = [
        point
        for point in reversed(item.kept(world.now))
        if point.kind in kinds
        and (soft_deleted_too or not point.soft_deleted)
        and (not only_ready or move_readiness(item, point, world.now)[0])
        and (since is None or point.time >= since)
        and (until is None or point.time <= until)
    ]
    if "Log" in kinds:
        points.append(None)

    def render(point: RecoveryPoint | None) -> Any:
        if point is not None:
            return _render_point(world, call, item, point, details=details)
        return _render_range(world, call, item, details=details, since=since, until=until)

    return paged(
        world,
        call,
        points,
        lambda point: point.sequence if point is not None else 0,
        render,
        newest_first=True,
    )


def get_point(world: World, call: Call) -> Answer:
    """GET a recovery point with the database's files."""
    vault = world.vault(call)
    item = world.item(call, vault)
    name = call.parameters["point"]
    if name.lower() == RANGE.lower():
        return Answer(200, _render_range(world, call, item, details=True))
    return Answer(200, _render_point(world, call, item, world.point(item, name), details=True, single=True))
