"""Tiers of recovery points, their expiry, and moves to the archive tier.

Follows recordings of 2024-05-15 (Azure/azure-cli test_backup_wl_sql_archive) and
https://learn.microsoft.com/azure/backup/archive-tier-support: points are moved that have 180 days left. They need not
be 45 days old, as the page says: some of two days were ready in 2021 and 2022 (its test_workload_archive_sql).
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from local.simulator.calls import Answer, Call, Effect
from local.simulator.errors import ServiceError, invalid_input
from local.simulator.estate import ProtectedItem, RecoveryPoint
from local.simulator.job_lifecycle import start_job
from local.simulator.jobs import Job
from local.simulator.operation_lifecycle import accepted_answer, start_operation
from local.simulator.timing import instant, whole_seconds
from local.simulator.world import World

HARDENED, ARCHIVED = "HardenedRP", "ArchivedRP"
UNDECIDED = timedelta(hours=1)
"""How long the service does not know whether a point can be moved; recorded after two minutes, the rest is assumed."""
LEAST_LIFE = timedelta(days=180)
REHYDRATION = {"standard": timedelta(hours=15), "high": timedelta(hours=3, minutes=20)}
"""How long rehydration takes, by priority.

Standard: the maximum in https://learn.microsoft.com/azure/storage/blobs/archive-rehydrate-overview. High takes an hour
by that page; one still ran after 3 h 16 min on 2021-06-22.
"""


def move_readiness(item: ProtectedItem, point: RecoveryPoint, now: datetime) -> tuple[bool, str]:
    """Whether a recovery point can be moved to the archive tier, and if not, why, in the service's words."""
    if point.archived:
        return False, (
            "Recovery-Point is not eligible for archive move as it has already been moved to archive tier. "
        )
    age = now - point.time
    if age < UNDECIDED:
        return False, (
            "We're still determining if this Recovery Point can be moved.. Please check again after some time."
        )
    if point.expires is not None and point.expires - now < LEAST_LIFE:
        return False, "Recovery-Point remaining lifespan is lesser than the required minimum\u201d. "
    if point is item.full():
        return (
            False,
            "Recovery-Point having active dependencies for restore is not eligible for Archive Move. ",
        )
    return True, ""


def render_tiers(world: World, item: ProtectedItem, point: RecoveryPoint, *, details: bool) -> dict[str, Any]:
    """The properties of a recovery point about its tier and, in lists, its expiry."""
    shown: dict[str, Any] = {}
    if world.service.tiers:
        ready, why = move_readiness(item, point, world.now)
        tiers: list[dict[str, Any]] = []
        if point.tier_deleted or not point.archived:
            tiers.append(_tier(world, HARDENED, "Deleted" if point.tier_deleted else "Valid"))
        if point.archived:
            tiers.append(_archive_tier(world, point))
        shown["recoveryPointTierDetails"] = tiers
        shown["recoveryPointMoveReadinessInfo"] = {ARCHIVED: {"isReadyForMove": ready, "additionalInfo": why}}
    # The one recorded point of a backup on demand had none of this.
    if world.service.expiry_of_points and not details and point.rule and point.expires is not None:
        shown["recoveryPointProperties"] = {
            "expiryTime": whole_seconds(point.expires).replace("Z", ".0000000Z"),
            "ruleName": point.rule,
            "isSoftDeleted": item.soft_deleted or point.soft_deleted,
        }
    if point.threatened:
        shown |= {"threatStatus": "UnHealthy", "threatInfo": [_threat(point)]}
    return shown


def _archive_tier(world: World, point: RecoveryPoint) -> dict[str, Any]:
    until = point.rehydrated_until
    if until is None or until <= world.now:
        return _tier(world, ARCHIVED, "Valid")
    expiry = {"extendedInfo": {"RehydratedRPExpiryTime": instant(until)}}
    return _tier(world, ARCHIVED, "Rehydrated") | expiry


_TIER_NUMBERS = {HARDENED: 2, ARCHIVED: 3}
_STATE_NUMBERS = {"Valid": 1, "Deleted": 3, "Rehydrated": 4}


def _tier(world: World, kind: str, status: str) -> dict[str, Any]:
    if world.service.named_tiers:
        return {"type": kind, "status": status}
    return {"type": _TIER_NUMBERS[kind], "status": _STATE_NUMBERS[status]}


def _threat(point: RecoveryPoint) -> dict[str, str]:
    """One finding; its moments have no zone letter, as recorded (2026-09-14, of a virtual machine)."""
    found = point.time.strftime("%Y-%m-%dT%H:%M:%S.0000000")
    return {
        "threatTitle": "Simulated threat",
        "threatDescription": "Simulated threat",
        "lastUpdatedTime": found,
        "threatState": "Active",
        "threatStartTime": found,
        "threatEndTime": found,
        "threatURI": "https://portal.azure.com/#blade/Simulated",
        "threatSeverity": "High",
    }


def rehydration(
    point: RecoveryPoint, properties: dict[str, Any], now: datetime
) -> tuple[timedelta, dict[str, str], timedelta] | None:
    """How long a restore takes to rehydrate the point, what its job reports of it, and how long it stays rehydrated.
    None if the point is not archived.

    Raises ServiceError (400) for an archived point without a request to rehydrate it, and for a soft-deleted one. The
    codes are not recorded.
    """
    if point.soft_deleted:
        raise ServiceError(400, "UserErrorRecoveryPointSoftDeleted", "The recovery point is soft deleted.")
    if point.tier_deleted and not point.archived:
        raise ServiceError(400, "UserErrorRecoveryPointDeleted", "No tier holds the recovery point any more.")
    asked = str(properties.get("objectType", "")).endswith("WithRehydrateRequest")
    back = point.rehydrated_until is not None and point.rehydrated_until > now
    if not point.archived or back:
        return None
    if not asked:
        raise ServiceError(
            400,
            "UserErrorRecoveryPointInArchiveTier",
            "The recovery point is in the archive tier. Trigger a restore with rehydration.",
        )
    info = properties.get("recoveryPointRehydrationInfo")
    info = info if isinstance(info, dict) else {}
    priority = str(info.get("rehydrationPriority", "Standard"))
    if priority.lower() not in REHYDRATION:
        raise invalid_input("Parameter rehydrationPriority in request is invalid.")
    kept = str(info.get("rehydrationRetentionDuration", "P15D"))
    days = re.fullmatch(r"P(\d{1,3})D", kept)
    if days is None:
        raise invalid_input("Parameter rehydrationRetentionDuration in request is invalid.")
    reported = {"Rehydration Priority": priority, "Rehydrated Recovery Point Retention": kept}
    return REHYDRATION[priority.lower()], reported, timedelta(days=int(days[1]))


def move(world: World, call: Call) -> Answer:
    """POST move: a recovery point from the vault tier to the archive tier."""
    vault = world.vault(call)
    item = world.item(call, vault)
    point = world.point(item, call.parameters["point"])
    body = call.json()
    if (body.get("sourceTierType"), body.get("targetTierType")) != (HARDENED, ARCHIVED):
        raise invalid_input("Parameter targetTierType in request is invalid.")
    ready, why = move_readiness(item, point, world.now)
    if not ready:
        raise ServiceError(400, "UserErrorRecoveryPointNotReadyForMove", why.strip())

    def complete(_: Job) -> None:
        point.archived = True

    job = start_job(
        world,
        call,
        vault,
        "MoveRecoveryPoint",
        entity=item.database,
        named=item.job_name,
        item=item,
        length=timedelta(seconds=2.3),
        complete=complete,
        property_bag={"Recovery Point Time": point.time.strftime("%m/%d/%Y %H:%M:%S")},
    )
    operation = start_operation(
        world,
        call,
        vault,
        call.item_path(vault),
        length=timedelta(seconds=5),
        job=job,
        job_id_is_operation_id=True,
    )
    return accepted_answer(world, call, operation, Effect(world.canonical_item_id(item), job.id))
