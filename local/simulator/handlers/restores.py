"""Restores, and the validation of one that does not start it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from local.simulator.calls import Answer, Call, Effect
from local.simulator.errors import JobError, ServiceError, invalid_input
from local.simulator.estate import Database, ProtectedItem, RecoveryPoint, Vault
from local.simulator.handlers.archive import rehydration
from local.simulator.handlers.instance_items import refuse_under_instance
from local.simulator.handlers.recovery_points import RANGE, log_ranges
from local.simulator.handlers.restore_targets import Target, check_target, find_target, invalid
from local.simulator.job_errors import busy_error
from local.simulator.job_lifecycle import start_job
from local.simulator.jobs import Job
from local.simulator.naming import parse_id
from local.simulator.operation_lifecycle import accepted_answer, start_operation
from local.simulator.security import check_guard
from local.simulator.timing import request_time
from local.simulator.world import World


@dataclass
class _Plan:
    """What a restore request asks for; it has passed the checks that the service makes first."""

    moment: datetime
    shown: str
    target: Target
    point: RecoveryPoint | None
    """None for a point in time."""
    archived: tuple[timedelta, dict[str, str], timedelta] | None
    """How long its rehydration takes, what the job reports of it, and how long it stays rehydrated."""


def _plan(world: World, vault: Vault, item: ProtectedItem, name: str, properties: dict[str, Any]) -> _Plan:
    """The plan of a request. Raises ServiceError for a request that the service refuses."""
    kind = str(properties.get("objectType", ""))
    point_in_time = kind.startswith("AzureWorkloadSQLPointInTimeRestore")
    if kind not in (
        "AzureWorkloadSQLRestoreRequest",
        "AzureWorkloadSQLRestoreWithRehydrateRequest",
        "AzureWorkloadSQLPointInTimeRestoreRequest",
        "AzureWorkloadSQLPointInTimeRestoreWithRehydrateRequest",
    ):
        raise invalid_input("Parameter objectType in request is invalid.")
    refuse_under_instance(item.container, item.instance)
    if item.soft_deleted:
        raise ServiceError(
            400, "UserErrorItemInSoftDeletedState", "The backup item is in soft deleted state."
        )
    if point_in_time != (name.lower() == RANGE.lower()):
        raise invalid(f"A request of type {kind} does not fit the recovery point {name}.")
    archived: tuple[timedelta, dict[str, str], timedelta] | None = None
    point: RecoveryPoint | None = None
    if point_in_time:
        moment = _moment(world, item, properties.get("pointInTime"))
        database = item.live_database()
        files = list(database.files) if database is not None else item.kept(world.now)[-1].files
        shown = "Log"
    else:
        point = world.point(item, name)
        archived = rehydration(point, properties, world.now)
        moment, files = point.time, point.files
        shown = "Full" if point.kind == "CopyOnlyFull" else point.kind
    return _Plan(moment, shown, find_target(world, vault, item, properties, files), point, archived)


def trigger_validation(world: World, call: Call) -> Answer:
    """POST backupTriggerValidateOperation: check whether a restore would be refused, without starting it.

    Follows the specification's example of SQL Server (2026-10-01, of a restore from a snapshot).
    """
    vault = world.vault(call)
    properties = call.properties()
    request = properties.get("restoreRequest")
    if properties.get("objectType") != "ValidateAzureWorkloadRestoreOperationRequest" or not isinstance(
        request, dict
    ):
        raise invalid_input("Parameter objectType in request is invalid.")
    named = parse_id(call.json().get("id"))
    if (
        named is None
        or f"{named.resource_group}/{named.name}" != vault.key
        or named.rest[0::2] != ("backupfabrics", "protectioncontainers", "protecteditems", "recoverypoints")
    ):
        raise invalid_input("Parameter id in request is invalid.")
    _, container, item_name, name = named.rest[1::2]
    call.parameters |= {"container": container, "item": item_name}
    item = world.item(call, vault)
    found: list[dict[str, Any]] = []
    try:
        check_target(_plan(world, vault, item, name, request).target)
    except ServiceError as error:
        found.append({"code": error.code, "message": error.message, "recommendations": []})
    except JobError as error:
        found.append(
            {"code": error.title, "message": error.message, "recommendations": list(error.recommendations)}
        )
    response = {"validateOperationResponse": {"validationResults": found}}
    operation = start_operation(
        world,
        call,
        vault,
        call.vault_path(vault),
        status="backupValidateOperationsStatuses",
        results="backupValidateOperationResults",
        length=world.durations.accept("Restore"),
        properties={"objectType": "OperationStatusValidateOperationExtendedInfo", **response},
        result=lambda: response,
    )
    return accepted_answer(world, call, operation)


# Long: one request, from its checks, in the service's order, to the job it starts.
def restore(world: World, call: Call) -> Answer:
    """POST restore: over the original, to another database, or as files; from a recovery point or a moment."""
    vault = world.vault(call)
    properties = call.properties()
    item = world.item(call, vault)
    plan = _plan(world, vault, item, call.parameters["point"], properties)
    check_guard(vault, call, "triggerRestoreRequests")
    target, archived, point, moment = plan.target, plan.archived, plan.point, plan.moment
    no_recovery = properties.get("isNonRecoverable") is True
    targeted = target.container.items.get(
        (target.instance.name.lower(), target.database.lower()) if target.instance is not None else ("", "")
    )
    claimed = [found for found in {id(item): item, id(targeted): targeted}.values() if found is not None]
    busy = any(found.busy_with is not None for found in claimed)

    def complete(_: Job) -> None:
        if busy:
            raise busy_error()
        _finish(world, item, target, targeted=targeted, no_recovery=no_recovery)

    def end(job: Job) -> None:
        # A failed restore reports all of this too, as recorded.
        job.property_bag = {
            **item.transferred(),
            "Job Type": target.kind,
            "RestoreRecoveryPointTime": moment.strftime("%Y-%m-%d %H:%M:%SZ"),
            "RestoreDestination": target.destination,
            **(archived[1] if archived is not None else {}),
        }
        if archived is not None and point is not None:
            point.rehydrated_until = world.now + archived[2]
        for found in claimed:
            if found.busy_with is job:
                found.busy_with = None

    length = timedelta() if busy else world.durations.draw("restore")
    if archived is not None:
        length += archived[0]
    job = start_job(
        world,
        call,
        vault,
        "Restore" if archived is None else "RestoreWithRehydrate",
        entity=item.database,
        item=item,
        length=length,
        complete=complete,
        always=end,
        **_shape(item, plan),
    )
    if job.running:
        for found in claimed:
            found.busy_with = job
    path = call.item_path(vault)
    operation = start_operation(
        world,
        call,
        vault,
        path,
        length=world.durations.accept("Restore"),
        job=job,
        endless=archived is not None,
        job_id_is_operation_id=(world.service.restore_jobs_have_the_operations_id or world.durations.coin()),
    )
    return accepted_answer(world, call, operation, Effect(world.canonical_item_id(item), job.id))


def _shape(item: ProtectedItem, plan: _Plan) -> dict[str, Any]:
    """The fields of a restore's job."""
    if plan.archived is not None:
        return {"task": "Rehydrate from Archive storage", "property_bag": dict(plan.archived[1])}
    return {
        "named": item.job_name,
        "task": "Transfer data from vault",
        "shown": "Restore",
        "shown_at_end": f"Restore ({plan.shown})",
        "cancellable": True,
        "property_bag": {"Job Type": plan.target.kind},
    }


def _moment(world: World, item: ProtectedItem, value: object) -> datetime:
    moment = request_time(value)
    if moment is None:
        raise invalid_input("Parameter pointInTime in request is invalid.")
    for start, end in log_ranges(item, world.now):
        if start <= moment <= end:
            return moment
    raise invalid(f"The point in time {value} is not within a log range of the item {item.database}.")


def _finish(
    world: World,
    item: ProtectedItem,
    target: Target,
    *,
    targeted: ProtectedItem | None,
    no_recovery: bool,
) -> None:
    """Finish a restore. Raises JobError if it fails."""
    check_target(target)
    if target.instance is not None:
        existing = target.instance.databases.get(target.database.lower())
        source = item.backed_up_database()
        needed = source.encrypted_by
        if needed is not None and needed.lower() not in target.instance.certificates:
            raise JobError(
                520026,
                "UserErrorCannotFindServerCertificateWithThumbprint",
                "Cannot find the server certificate with thumbprint on the target.",
                ["Import the certificate that is used on the source instance to the target instance."],
            )
        replaced = existing.size_mb if existing is not None else 0.0
        room = target.container.machine.free_mb
        if room is not None and source.size_mb > room + replaced:
            raise JobError(
                510011,
                "WorkloadRestoreFailed",
                "Restore failed: there is not enough free space on the disk volume to create the database.",
                ["Free space on the target's disks, or restore to another instance."],
            )
        restored = Database(
            existing.name if existing is not None else target.database,
            source.size_mb,
            source.recovery_model,
            list(target.files),
            restoring=no_recovery,
            corrupt=source.corrupt,
            encrypted_by=source.encrypted_by,
        )
        target.instance.databases[target.database.lower()] = restored
        if targeted is not None:
            # Overwriting a database breaks its log chain; the next full begins a new one.
            if targeted.open_chain is not None:
                targeted.open_chain.close(world.now)
            targeted.log_chain_broken = True
