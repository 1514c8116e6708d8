"""Backups on demand."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from local.simulator.backups import complete_backup, start_backup_job
from local.simulator.calls import Answer, Call, Effect
from local.simulator.errors import JobError, ServiceError, invalid_input
from local.simulator.estate import ProtectedItem
from local.simulator.handlers.instance_items import refuse_under_instance
from local.simulator.job_errors import busy_error, unreachable
from local.simulator.jobs import Job
from local.simulator.operation_lifecycle import accepted_answer, start_operation
from local.simulator.timing import request_time
from local.simulator.world import World

FULLS_A_DAY = 9
BACKUP_TYPES = {
    "full": "Full",
    "differential": "Differential",
    "log": "Log",
    "copyonlyfull": "CopyOnlyFull",
    "incremental": "Incremental",
    "snapshotfull": "SnapshotFull",
    "snapshotcopyonlyfull": "SnapshotCopyOnlyFull",
}


def _check_backup(item: ProtectedItem, kind: str) -> None:
    """Raise JobError for a backup that the database does not allow: the job fails, not the request."""
    if (problem := unreachable(item.container)) is not None:
        raise problem
    database = item.live_database()
    if database is not None and not database.allows(kind):
        raise JobError(
            520012,
            "UserErrorSQLPODoesNotSupportBackupType",
            "This SQL database does not support the requested backup type.",
            ["Trigger a backup of a type that the database's recovery model allows."],
        )
    if kind in ("Differential", "Log") and item.full() is None:
        raise JobError(
            520010,
            "UserErrorParentFullBackupMissing",
            "First full backup is missing for this data source.",
            ["Trigger a full backup and try the operation again."],
        )
    if kind in ("Differential", "Log") and item.log_chain_broken:
        raise JobError(
            520016,
            "UserErrorSQLLSNValidationFailure",
            "Log chain is broken.",
            ["Trigger a full backup to start a new log chain."],
        )


def _count_full(world: World, item: ProtectedItem) -> None:
    """Count a full on demand. Raises ServiceError (400) once the day's are used up."""
    day = world.now.date().isoformat()
    if item.on_demand_fulls.get(day, 0) >= FULLS_A_DAY:
        raise _too_many()
    item.on_demand_fulls = {day: item.on_demand_fulls.get(day, 0) + 1}


# Long: one request, from its checks, in the service's order, to the job it starts.
def backup(world: World, call: Call) -> Answer:
    """POST backup: a full, copy-only full, differential or log backup, now."""
    vault = world.vault(call)
    properties = call.properties()
    if properties.get("objectType") != "AzureWorkloadBackupRequest":
        raise invalid_input("Parameter objectType in request is invalid.")
    kind = BACKUP_TYPES.get(str(properties.get("backupType") or "Full").lower())
    if kind is None:
        raise invalid_input("Parameter backupType in request is invalid.")
    expires = _expiry(world, properties.get("recoveryPointExpiryTimeInUTC"))
    if not isinstance(properties.get("enableCompression", False), bool | None):
        raise invalid_input("Parameter enableCompression in request is invalid.")
    item = world.item(call, vault)
    refuse_under_instance(item.container, item.instance)
    # A soft-deleted item is also stopped.
    if item.stopped:
        raise ServiceError(
            400,
            "UserErrorProtectionStoppedForItem",
            f"Protection is stopped for {item.database}. Resume protection before you trigger a backup.",
        )
    if kind == "Full":
        _count_full(world, item)
    started = world.now
    busy = item.busy_with is not None

    def complete(job: Job) -> None:
        if busy:
            raise busy_error()
        _check_backup(item, kind)
        complete_backup(world, item, job, kind, started=started, expires=expires)

    job = start_backup_job(
        world, call, item, kind, complete, length=timedelta() if busy else world.durations.draw("backup")
    )
    path = call.item_path(vault)
    operation = start_operation(
        world,
        call,
        vault,
        path,
        length=world.durations.accept("Backup"),
        job=job,
    )
    return accepted_answer(world, call, operation, Effect(world.canonical_item_id(item), job.id))


def _too_many() -> ServiceError:
    message = "Operation is blocked for some time as it has been attempted beyond a limit."
    code = "CloudDosTimeboudLimitReached"
    info: dict[str, Any] = {
        "code": code,
        "message": message,
        "target": "",
        "details": None,
        "innerError": None,
        "isRetryable": False,
        "isUserError": False,
        "properties": {},
        "recommendedAction": [
            "We recommend not having more than 3 backups a day. Please retry the operation tomorrow."
        ],
    }
    return ServiceError(400, code, message, additional=[{"type": "UserFacingError", "info": info}])


def _expiry(world: World, value: object) -> datetime | None:
    if value is None:
        return None
    moment = request_time(value)
    if moment is None or moment <= world.now:
        raise invalid_input("Parameter recoveryPointExpiryTimeInUTC in request is invalid.")
    return moment
