"""Recovery points and restores."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from local.simulator.archive import move_readiness, rehydration, render_tiers
from local.simulator.calls import Answer, Call, Effect
from local.simulator.errors import JobError, ServiceError, invalid_input
from local.simulator.estate import (
    Container,
    Database,
    Instance,
    LogChain,
    ProtectedItem,
    RecoveryPoint,
    Vault,
    VirtualMachine,
)
from local.simulator.filters import parse_filter
from local.simulator.item_handlers import busy_error, refuse_under_instance
from local.simulator.job_errors import machine_down
from local.simulator.job_lifecycle import start_job
from local.simulator.jobs import Job
from local.simulator.naming import container_key, parse_id
from local.simulator.operation_lifecycle import accepted_answer, start_operation
from local.simulator.paging import paged
from local.simulator.policy_schedules import retention
from local.simulator.security import check_guard
from local.simulator.timing import filter_time, instant, request_time, whole_seconds
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
    """Whether recovery points have `extendedInfo`: those of the log ranges need `All` of the database's scenario."""
    database = item.live_database()
    told_by = database.files_told_by if database is not None else "All"
    return told_by in ("All", least)


def log_ranges(item: ProtectedItem, now: datetime) -> list[tuple[datetime, datetime]]:
    """The stretches of time any moment of which can be restored to, the newest first."""
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


def _limit(wanted: Any, name: str) -> datetime | None:
    text = wanted.get(name)
    if text is None:
        return None
    moment = filter_time(text)
    if moment is None:
        raise invalid_input(f"The filter's {name} {text!r} is not of the form 'yyyy-MM-dd hh:mm:ss tt'.")
    return moment


def list_points(world: World, call: Call) -> Answer:
    """GET an item's recovery points, the newest first, then the one that stands for its log ranges."""
    vault = world.vault(call)
    item = world.item(call, vault)
    wanted = parse_filter(call.filter, _FIELDS)
    since, until = _limit(wanted, "startdate"), _limit(wanted, "enddate")
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


def _not_found(name: str) -> ServiceError:
    return ServiceError(
        404, "BMSUserErrorRecoveryPointNotFound", f"The recovery point {name} was not found for this item."
    )


def _point(world: World, item: ProtectedItem, name: str) -> RecoveryPoint:
    for point in item.kept(world.now):
        if point.name == name:
            return point
    raise _not_found(name)


def get_point(world: World, call: Call) -> Answer:
    """GET a recovery point with the database's files."""
    vault = world.vault(call)
    item = world.item(call, vault)
    name = call.parameters["point"]
    if name.lower() == RANGE.lower():
        return Answer(200, _render_range(world, call, item, details=True))
    return Answer(200, _render_point(world, call, item, _point(world, item, name), details=True, single=True))


# ---- restore


@dataclass
class _Target:
    """Where a restore goes. `instance` and `database` are absent for a restore as files."""

    container: Container
    instance: Instance | None
    database: str
    overwrite: bool
    files: list[tuple[str, str, str]]
    destination: str
    kind: str


def _invalid(message: str) -> ServiceError:
    return ServiceError(400, "UserErrorOperationFailedInvalidParameters", message)


@dataclass
class _Plan:
    """What a restore request asks for, once it has passed what the service checks before it begins."""

    moment: datetime
    shown: str
    target: _Target
    point: RecoveryPoint | None
    """None for a moment of the log ranges."""
    archived: tuple[timedelta, dict[str, str], timedelta] | None
    """How long its rehydration takes, what the job says of it, and how long it stays rehydrated."""


def _plan(world: World, vault: Vault, item: ProtectedItem, name: str, properties: dict[str, Any]) -> _Plan:
    """Raises ServiceError for a request that the service turns away."""
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
        raise _invalid(f"A request of type {kind} does not fit the recovery point {name}.")
    archived: tuple[timedelta, dict[str, str], timedelta] | None = None
    point: RecoveryPoint | None = None
    if point_in_time:
        moment = _moment(world, item, properties.get("pointInTime"))
        database = item.live_database()
        files = list(database.files) if database is not None else item.kept(world.now)[-1].files
        shown = "Log"
    else:
        point = _point(world, item, name)
        archived = rehydration(point, properties, world.now)
        moment, files = point.time, point.files
        shown = "Full" if point.kind == "CopyOnlyFull" else point.kind
    return _Plan(moment, shown, _target(world, vault, item, properties, files), point, archived)


def trigger_validation(world: World, call: Call) -> Answer:
    """POST backupTriggerValidateOperation: whether a restore would be turned away, without starting it.

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
        _check_target(_plan(world, vault, item, name, request).target)
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
        status_at=f"{call.vault_path(vault)}/backupValidateOperationsStatuses",
        result_at=f"{call.vault_path(vault)}/backupValidateOperationResults",
        length=world.durations.accept("Restore"),
        properties={"objectType": "OperationStatusValidateOperationExtendedInfo", **response},
        result=lambda: response,
    )
    return accepted_answer(world, call, operation)


# Long: one request, from its checks in the service's order to the job that it starts.
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

    def complete(_: Job) -> str | None:
        if busy:
            raise busy_error()
        _finish(world, item, target, targeted=targeted, no_recovery=no_recovery)
        return None

    def end(job: Job) -> None:
        # A restore that fails says all of this too, as recorded.
        job.property_bag = {
            "Data Transferred (in MB)": f"{item_size(item) + 0.0845:.4f}",
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
    path = (
        f"{call.vault_path(vault)}/backupFabrics/Azure/protectionContainers/"
        f"{call.parameters['container']}/protectedItems/{call.parameters['item']}"
    )
    operation = start_operation(
        world,
        call,
        vault,
        status_at=f"{path}/operationsStatus",
        result_at=f"{path}/operationResults",
        length=world.durations.accept("Restore"),
        job=job,
        endless=archived is not None,
        job_id_is_operation_id=(world.service.restore_jobs_have_the_operations_id or world.durations.coin()),
    )
    return accepted_answer(world, call, operation, Effect(world.canonical_item_id(item), job.id))


def _shape(item: ProtectedItem, plan: _Plan) -> dict[str, Any]:
    """What a restore's job shows of itself."""
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
    raise _invalid(f"The point in time {value} is not within a log range of the item {item.database}.")


def _target(
    world: World,
    vault: Vault,
    item: ProtectedItem,
    properties: dict[str, Any],
    files: list[tuple[str, str, str]],
) -> _Target:
    recovery = properties.get("recoveryType")
    source = properties.get("sourceResourceId")
    group = item.container.group
    machines = group.nodes if group is not None else [item.container.machine]
    own_ids = {machine.name.vm_id(world.scenario.subscription_id).lower() for machine in machines}
    if source is not None and str(source).lower() not in own_ids:
        raise _invalid("Parameter sourceResourceId in request is not the virtual machine of the item.")
    if recovery == "OriginalLocation":
        return _original_target(item, files)
    if recovery != "AlternateLocation":
        raise invalid_input("Parameter recoveryType in request is invalid.")
    return _alternate_target(world, vault, properties, files)


def _original_target(item: ProtectedItem, files: list[tuple[str, str, str]]) -> _Target:
    container = item.container
    if container.group is not None:
        raise _invalid(
            "SQL Availability Groups do not support restoring a database directly into an Availability Group. "
            "Restore the database to a standalone SQL instance and join it to the Availability Group."
        )
    instance = container.machine.instances.get(item.instance.lower())
    destination = f"{container.machine.server_name}/{item.instance}/{item.database}"
    kind = "Recovery to the original database"
    return _Target(container, instance, item.database, True, files, destination, kind)


def _alternate_target(
    world: World, vault: Vault, properties: dict[str, Any], files: list[tuple[str, str, str]]
) -> _Target:
    info = properties.get("targetInfo")
    if not isinstance(info, dict):
        raise _invalid("Parameter targetInfo in request is missing.")
    if info.get("overwriteOption", "FailOnConflict") not in ("Overwrite", "FailOnConflict", "Invalid"):
        raise invalid_input("Parameter overwriteOption in request is invalid.")
    overwrite = info.get("overwriteOption") == "Overwrite"
    container = _target_container(vault, info.get("containerId"))
    machine_id = properties.get("targetVirtualMachineId")
    target_id = container.machine.name.vm_id(world.scenario.subscription_id)
    if machine_id is not None and str(machine_id).lower() != target_id.lower():
        raise _invalid(
            "Parameter targetVirtualMachineId in request is not the machine of the target container."
        )
    if properties.get("recoveryMode") == "FileRecovery":
        directory = info.get("targetDirectoryForFileRestore")
        if not isinstance(directory, str) or not directory:
            raise _invalid("Parameter targetDirectoryForFileRestore in request is missing.")
        return _Target(container, None, "", overwrite, [], directory, "Restore as files")
    instance_name, _, database = str(info.get("databaseName") or "").partition("/")
    instance = container.machine.instances.get(instance_name.lower())
    if not database or instance is None:
        raise _invalid(
            "Parameter databaseName in request is not of the form INSTANCE/Database of the target machine."
        )
    mapped = _mapped_files(properties.get("alternateDirectoryPaths"), files, instance, database)
    destination = f"{container.machine.server_name}/{instance.name}/{database}"
    return _Target(
        container, instance, database, overwrite, mapped, destination, "Recovery to an alternate database"
    )


def _target_container(vault: Vault, value: object) -> Container:
    parsed = parse_id(value)
    if parsed is None or parsed.rest[-2:-1] != ("protectioncontainers",):
        raise _invalid("Parameter containerId in request is not the id of a protection container.")
    if f"{parsed.resource_group}/{parsed.name}" != vault.key:
        raise _invalid("Parameter containerId in request belongs to another vault.")
    container = vault.containers.get(container_key(parsed.rest[-1]) or "")
    if container is None:
        raise _invalid(
            "Parameter containerId in request names a container that is not registered with the vault."
        )
    if container.group is not None:
        raise _invalid(
            "Parameter containerId in request names an Availability Group; a database is restored to a standalone "
            "SQL instance and joined to the Availability Group."
        )
    return container


def _mapped_files(
    value: object, files: list[tuple[str, str, str]], instance: Instance, database: str
) -> list[tuple[str, str, str]]:
    if value is None or value == []:
        mapped = []
        for kind, logical, path in files:
            directory = instance.data_directory if kind == "Data" else instance.log_directory
            extension = path.rsplit(".", 1)[-1]
            mapped.append((kind, logical, f"{directory}{database}_{logical}.{extension}"))
        return mapped
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise invalid_input("Parameter alternateDirectoryPaths in request is invalid.")
    targets: dict[str, str] = {}
    for entry in value:
        kind, logical, path = (
            entry.get("mappingType"),
            entry.get("sourceLogicalName"),
            entry.get("targetPath"),
        )
        if (
            kind not in ("Data", "Log")
            or not isinstance(path, str)
            or not path
            or not isinstance(logical, str)
        ):
            raise invalid_input("Parameter alternateDirectoryPaths in request is invalid.")
        if (kind, logical) not in {(known, name) for known, name, _ in files} or logical in targets:
            raise _invalid(f"The database has no {kind} file {logical}, or it is mapped twice.")
        targets[logical] = path
    if len({path.lower() for path in targets.values()}) != len(targets):
        raise _invalid("Two files of the database are mapped to the same target path.")
    missing = [logical for _, logical, _ in files if logical not in targets]
    if missing:
        raise _invalid(f"The files {', '.join(missing)} of the database are not mapped to a target path.")
    return [(kind, logical, targets[logical]) for kind, logical, _ in files]


def _check_target(target: _Target) -> None:
    """Raise JobError where the target stands in the way of the restore, as its job or a validation finds."""
    machine = target.container.machine
    if not machine.running:
        raise machine_down(machine)
    if target.kind == "Restore as files":
        return
    if target.instance is None:
        raise JobError(520003, "UserErrorSQLPODoesNotExist", "The target instance does not exist.", [])
    existing = target.instance.databases.get(target.database.lower())
    if existing is not None and not target.overwrite:
        raise JobError(
            520023,
            "UserErrorCannotRestoreExistingDBWithoutForceOverwrite",
            "Database with same name already exists at the target location.",
            ["Change the target database name, or use the option to overwrite."],
        )
    if existing is not None and existing.group is not None:
        raise JobError(
            520024,
            "UserErrorRestoreFailedDatabaseCannotBeOfflined",
            "Restore failed as the database could not be brought offline.",
            ["Take the database out of the availability group, or change the target database name."],
        )
    if (clash := _file_of_another(machine, existing, target.files)) is not None:
        raise JobError(
            520123,
            "UserErrorRestoreFailedTargetFileAlreadyExists",
            f"Restore failed as the file {clash} already exists and belongs to another database.",
            ["Map the files of the database to other paths."],
        )


def _finish(
    world: World,
    item: ProtectedItem,
    target: _Target,
    *,
    targeted: ProtectedItem | None,
    no_recovery: bool,
) -> None:
    """What a restore does at its end. Raises JobError when it cannot."""
    _check_target(target)
    if target.instance is not None:
        existing = target.instance.databases.get(target.database.lower())
        source = item.live_database()
        size, model = (source.size_mb, source.recovery_model) if source is not None else (20.0, "Full")
        needed = source.encrypted_by if source is not None else None
        if needed is not None and needed.lower() not in target.instance.certificates:
            raise JobError(
                520026,
                "UserErrorCannotFindServerCertificateWithThumbprint",
                "Cannot find the server certificate with thumbprint on the target.",
                ["Import the certificate that is used on the source instance to the target instance."],
            )
        replaced = existing.size_mb if existing is not None else 0.0
        room = target.container.machine.free_mb
        if room is not None and size > room + replaced:
            raise JobError(
                510011,
                "WorkloadRestoreFailed",
                "Restore failed: there is not enough free space on the disk volume to create the database.",
                ["Free space on the target's disks, or restore to another instance."],
            )
        restored = Database(
            existing.name if existing is not None else target.database,
            size,
            model,
            list(target.files),
            restoring=no_recovery,
            corrupt=source.corrupt if source is not None else False,
            encrypted_by=source.encrypted_by if source is not None else None,
        )
        target.instance.databases[target.database.lower()] = restored
        chain: LogChain | None = targeted.open_chain if targeted is not None else None
        if chain is not None:
            chain.close(world.now)
        if targeted is not None:
            # Restoring over a database breaks its log chain; the next full begins a new one.
            targeted.log_chain_broken = True


def _file_of_another(
    machine: VirtualMachine, restored_over: Database | None, files: list[tuple[str, str, str]]
) -> str | None:
    """The first of these paths that a database of the machine has, but for the one that is restored over."""
    taken = {
        path.lower()
        for instance in machine.instances.values()
        for database in instance.databases.values()
        if database is not restored_over
        for _, _, path in database.files
    }
    return next((path for _, _, path in files if path.lower() in taken), None)


def item_size(item: ProtectedItem) -> float:
    """The size of an item's database in MB; the default where it was dropped."""
    database = item.live_database()
    return database.size_mb if database is not None else 20.0
