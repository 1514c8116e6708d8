"""Protected items: enable, change policy, stop, resume, delete, undelete; and backup on demand."""

from __future__ import annotations

from datetime import datetime, timedelta
from operator import attrgetter, itemgetter
from typing import Any

from local.simulator.backups import complete_backup
from local.simulator.calls import Answer, Call, Effect, to_json
from local.simulator.errors import JobError, ServiceError, invalid_input, item_not_found, policy_not_found
from local.simulator.estate import Container, Policy, ProtectedItem, Vault
from local.simulator.filters import matches, parse_filter
from local.simulator.instance_items import instance_item, instance_items
from local.simulator.job_errors import unreachable
from local.simulator.job_lifecycle import start_job
from local.simulator.jobs import Job
from local.simulator.naming import VmName, container_key, encoded, item_key, parse_id
from local.simulator.operation_lifecycle import accepted_answer, start_operation
from local.simulator.paging import paged
from local.simulator.protection import change_policy, container_property, protect_database, stop_protection
from local.simulator.security import check_guard, denied_on_immutable, is_immutable, shortens
from local.simulator.timing import instant, request_time, time_span, whole_seconds
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
_ITEM_FIELDS = frozenset(
    {
        "healthstate",
        "backupmanagementtype",
        "itemtype",
        "policyname",
        "containername",
        "backupenginename",
        "friendlyname",
        "fabricname",
        "backupsetname",
    }
)
_OF_OTHERS = frozenset({"backupenginename", "backupsetname"})
"""Fields that items of other workloads have."""
_NARROWING = _OF_OTHERS | {"containername", "policyname", "friendlyname", "healthstate"}
_TYPE = "Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/protectedItems"


def busy_error() -> JobError:
    """Another operation runs on the database: the job that came second ends with this."""
    return JobError(
        510008,
        "OperationCancelledBecauseConflictingOperationRunningUserError",
        "Operation cancelled as a conflicting operation was already running on the same database.",
        ["Please wait for the other operation on the database to end and try the operation again."],
    )


def refuse_under_instance(container: Container, instance: str) -> None:
    """Raise ServiceError for what is asked of one database whose instance is protected as a whole.

    That it is refused, and how, is inferred: the preview of 2026 is about operations on instances.
    """
    if container.whole_instance(instance) is not None:
        raise ServiceError(
            400,
            "UserErrorOperationNotAllowedOnDatabaseUnderInstance",
            f"The database is protected with its instance {instance}. Do this to the instance.",
        )


def _health(item: ProtectedItem) -> str:
    if not item.container.machine.running:
        return "NotReachable"
    return {"Healthy": "Healthy", "Unhealthy": "Unhealthy"}.get(item.last_backup_status, "IRPending")


def _kpi(status: str, problem: JobError | None = None) -> dict[str, Any]:
    """The health of one kind of operation, as recorded in 2022 of a restore that failed."""
    return {
        "resourceHealthStatus": status,
        "resourceHealthDetails": [
            {
                "code": problem.number if problem is not None else 0,
                "title": problem.title if problem is not None else "Success",
                "message": problem.message if problem is not None else "",
                "recommendations": problem.recommendations if problem is not None else [],
            }
        ],
    }


# Long: an answer as recorded, field after field in the order of the service's.
def render_item(world: World, call: Call, item: ProtectedItem, *, details: bool) -> dict[str, Any]:
    """The protected item; lists leave its extendedInfo out."""
    now = world.now
    container = item.container
    prefix = call.vault_id(container.vault)
    service = world.service
    kpis: dict[str, Any] = {}
    if item.last_backup_time is not None and (item.recovery_points or item.last_error is None):
        error = item.last_error
        problem = JobError(1, error["code"], error["message"], error["recommendations"]) if error else None
        healthy = item.last_backup_status == "Healthy"
        kpis["BackupOperationStatusKPI"] = _kpi("Healthy") if healthy else _kpi("TransientUnhealthy", problem)
    if (restore := item.last_restore) is not None:
        failure = restore.errors[-1] if restore.status == "Failed" and restore.errors else None
        # Recorded as degraded of the service's own trouble (530010); that a user's is worse is inferred.
        by_user = failure is not None and "usererror" in failure.title.lower()
        failed = "TransientUnhealthy" if by_user else "TransientDegraded"
        kpis["RestoreOperationStatusKPI"] = (
            _kpi(failed, failure) if restore.status == "Failed" else _kpi("Healthy")
        )
    properties: dict[str, Any] = {"kpisHealths": kpis} if service.health_of_items else {}
    properties |= {
        "friendlyName": item.database,
        "serverName": container.server_name,
        "parentName": item.instance,
        "parentType": (
            "AzureVmWorkloadSQLInstance" if container.group is None else "AzureVmWorkloadSQLAvailabilityGroup"
        ),
        "protectionStatus": "Unhealthy" if item.last_backup_status == "Unhealthy" else "Healthy",
        "protectionState": item.state,
        "lastBackupStatus": item.last_backup_status,
    }
    if (last_backup := item.last_backup(now)) is not None:
        properties["lastBackupTime"] = instant(last_backup)
    if item.last_error is not None:
        properties["lastBackupErrorDetail"] = item.last_error
    elif item.last_backup_status == "IRPending":
        properties["lastBackupErrorDetail"] = {"code": "Success", "message": ""}
    properties |= {
        "protectedItemDataSourceId": item.source_id,
        "protectedItemHealthStatus": _health(item),
    }
    if details:
        extended: dict[str, Any] = {}
        kept = item.kept(now)
        if kept:
            extended["oldestRecoveryPoint"] = whole_seconds(min(point.time for point in kept))
        extended |= {"recoveryPointCount": len(kept), "policyState": "Consistent"}
        database = item.live_database()
        if database is not None and service.recovery_model:
            extended["recoveryModel"] = {"BulkLogged": "BULK_LOGGED"}.get(
                database.recovery_model, database.recovery_model.upper()
            )
        properties["extendedInfo"] = extended
    properties |= {
        "protectedItemType": "AzureVmWorkloadSQLDatabase",
        "backupManagementType": "AzureWorkload",
        "workloadType": "SQLDataBase",
        "containerName": item.container_name,
    }
    if container.whole_instance(item.instance) is not None:
        properties |= {"parentProtectedItem": item.instance, "protectionLevel": "DatabaseUnderInstance"}
    if container.group is None:
        # In every year the resource group's name is in lower case here, and only here.
        machine = container.machine.name
        properties["sourceResourceId"] = VmName(machine.resource_group.lower(), machine.name).vm_id(
            world.scenario.subscription_id
        )
    if item.policy is not None:
        properties["policyId"] = f"{prefix}/backupPolicies/{encoded(item.policy.name)}"
    if details and (last := item.last_restorable(now)) is not None:
        properties["lastRecoveryPoint"] = whole_seconds(last)
    if item.deferred_delete is not None:
        properties |= {
            "isScheduledForDeferredDelete": True,
            "deferredDeleteTimeInUTC": instant(item.deferred_delete),
            "deferredDeleteTimeRemaining": time_span(item.deferred_delete + item.kept_deleted - now),
        }
    if service.vault_of_items:
        properties["vaultId"] = f"https://management.azure.com{world.canonical_vault_id(container.vault)}"
    if service.archive_flag:
        properties["isArchiveEnabled"] = False
    if service.vault_of_items:
        properties["softDeleteRetentionPeriod"] = 0
    return {"id": world.item_path(call, item), "name": item.name, "type": _TYPE, "properties": properties}


def list_items(world: World, call: Call) -> Answer:
    """GET the vault's protected items, soft-deleted ones too."""
    vault = world.vault(call)
    prefix = call.vault_id(vault)
    wanted = parse_filter(call.filter, _ITEM_FIELDS)
    kind = wanted.get("itemtype")
    container = wanted.get("containername")
    only = container_key(container) if container is not None else None
    narrowed = wanted.keys() & _NARROWING
    found = (
        [
            item
            for item in vault.items()
            if not narrowed
            or (
                (container is None or item.container.name.key == only)
                and matches(item.policy.name if item.policy is not None else None, wanted.get("policyname"))
                and matches(item.database, wanted.get("friendlyname"))
                and matches(_health(item), wanted.get("healthstate"))
                and not wanted.keys() & _OF_OTHERS
            )
        ]
        if matches("AzureWorkload", wanted.get("backupmanagementtype"))
        and matches("Azure", wanted.get("fabricname"))
        and matches("SQLDataBase", kind)
        else []
    )
    # In the order of their data sources' numbers, as recorded: not that of their protection.
    found.sort(key=attrgetter("source_number"))
    of_workloads = matches("AzureWorkload", wanted.get("backupmanagementtype"))
    if of_workloads and (kind is None or kind.lower() == "sqlinstance"):
        wholes = [] if narrowed else instance_items(world, call, vault)
        if wholes:
            entries = [*wholes, *(_listed(world, call, item, prefix) for item in found)]
            return paged(world, call, list(enumerate(entries)), itemgetter(0), itemgetter(1))
    return paged(
        world, call, found, attrgetter("source_number"), lambda item: _listed(world, call, item, prefix)
    )


def _listed(world: World, call: Call, item: ProtectedItem, prefix: str) -> dict[str, Any] | bytes:
    if item.deferred_delete is not None:
        # What remains of its time changes with each look.
        return render_item(world, call, item, details=False)
    made_from = (
        prefix,
        item.state,
        item.policy.name if item.policy is not None else None,
        item.last_backup_status,
        item.last_backup(world.now),
        item.last_error,
        item.container.machine.running,
        item.last_restore,
        bool(item.recovery_points),
    )
    if item.rendered is None or item.rendered[0] != made_from:
        item.rendered = (made_from, to_json(render_item(world, call, item, details=False)))
    return item.rendered[1]


def get_item(world: World, call: Call) -> Answer:
    """GET a protected item."""
    vault = world.vault(call)
    if call.parameters["item"].lower().startswith("sqlinstance;"):
        return Answer(200, instance_item(world, call, vault))
    item = world.item(call, vault)
    return Answer(200, render_item(world, call, item, details=True))


# ---- changing protection


def _requested_item_path(call: Call, vault: Vault) -> str:
    # Poll URLs keep the container's and item's casing of the request, as recorded.
    return (
        f"{call.vault_path(vault)}/backupFabrics/Azure/protectionContainers/"
        f"{call.parameters['container']}/protectedItems/{call.parameters['item']}"
    )


def policy_of(world: World, vault: Vault, properties: dict[str, Any]) -> Policy:
    """The SQL policy that a body's policyId names. Raises ServiceError when it cannot be used."""
    policy_id = parse_id(properties.get("policyId"))
    if policy_id is None or policy_id.rest[:1] != ("backuppolicies",) or len(policy_id.rest) != 2:
        raise invalid_input("Parameter policyId in request is invalid.")
    own = f"{policy_id.resource_group}/{policy_id.name}" == vault.key
    if policy_id.subscription != world.scenario.subscription_id.lower() or not own:
        raise invalid_input("Parameter policyId in request is invalid: the policy belongs to another vault.")
    policy = vault.policies.get(policy_id.rest[1])
    if policy is None:
        raise policy_not_found(policy_id.rest[1])
    if not policy.is_workload:
        raise ServiceError(
            400,
            "BMSUserErrorInvalidPolicyForGivenProvider",
            f"Policy {policy.name} is not a policy for SQL databases. Choose a policy of the workload's own type.",
        )
    return policy


def _check_kind(properties: dict[str, Any]) -> None:
    kind = properties.get("protectedItemType")
    # Microsoft's article on the REST API leaves protectedItemType out.
    if kind is not None and str(kind).lower() not in (
        "azurevmworkloadsqldatabase",
        "azurevmworkloadsqlinstance",
    ):
        raise invalid_input("Parameter protectedItemType in request is invalid.")
    for field, value in (("backupManagementType", "azureworkload"), ("workloadType", "sqldatabase")):
        given = properties.get(field)
        if given is not None and str(given).lower() not in (value, "sql"):
            raise invalid_input(f"Parameter {field} in request is invalid.")


def _conflict() -> ServiceError:
    return ServiceError(
        409,
        "BMSUserErrorConflictingProtectionOperation",
        "Another configure protection operation is in progress for this item.",
    )


def _found(container: Container, key: tuple[str, str]) -> tuple[str, str] | None:
    """The instance and the database that the last inquiry found under a key, as they are spelled."""
    return next(
        (
            (instance, database)
            for instance, databases in container.inquiry.found.items()
            for database in databases
            if (instance.lower(), database.lower()) == key
        ),
        None,
    )


def _names(
    call: Call, container: Container, existing: ProtectedItem | None, instance: str, database: str
) -> tuple[str, str]:
    """What an item's container and the item itself are called: as the request that protects it spells them."""
    if existing is not None:
        return existing.container_name, existing.name
    if container.group is not None:
        return container.name.container_in_item, container.item_name(instance, database)
    return (
        f"VMAppContainer;{call.parameters['container'].partition(';')[2]}",
        f"SQLDataBase;{call.parameters['item'].partition(';')[2]}",
    )


# Long: one request, from its checks in the service's order to the job that it starts.
def configure(world: World, call: Call) -> Answer:
    """PUT an item with a policy: enable protection, change the policy, resume."""
    vault = world.vault(call)
    properties = call.properties()
    _check_kind(properties)
    state = properties.get("protectionState")
    if state is not None and state not in ("IRPending", "Protected", "ProtectionError", "Invalid"):
        raise invalid_input("Parameter protectionState in request is invalid.")
    policy = policy_of(world, vault, properties)
    container = world.container(call, vault)
    key = item_key(call.parameters["item"])
    if key is None:
        raise invalid_input("Protected item name is not in the correct format.")
    existing = container.items.get(key)
    if existing is not None and existing.soft_deleted:
        raise ServiceError(
            400,
            "UserErrorItemInSoftDeletedState",
            "The backup item is in soft deleted state. Undelete it before protecting it again.",
        )
    real = _found(container, key)
    if existing is None and real is None:
        raise item_not_found()
    refuse_under_instance(container, key[0])
    if (vault.key, container.name.key, key) in world.configuring:
        raise _conflict()
    instance, database = (existing.instance, existing.database) if existing is not None else real or key
    if existing is not None and existing.policy is not None and shortens(existing.policy, policy):
        if is_immutable(vault):
            raise denied_on_immutable()
        check_guard(vault, call, "updateProtectedItemRequests")
    mark = (vault.key, container.name.key, key)
    world.configuring.add(mark)
    container_name, name = _names(call, container, existing, instance, database)

    def complete(_: Job) -> str | None:
        if (problem := unreachable(container)) is not None:
            raise problem
        item = container.items.get(key)
        if item is None:
            protect_database(
                world, container, instance, database, policy, container_name=container_name, name=name
            )
        elif not item.soft_deleted:
            change_policy(world, item, policy)
        return None

    return _start(
        world,
        call,
        vault,
        operation="ConfigureBackup",
        entity=database,
        item=existing,
        complete=complete,
        length=world.durations.draw("protect"),
        bag={"Policy Name": policy.name, **container_property(world, call.parameters["container"])},
        mark=mark,
        item_id=(
            f"{world.canonical_vault_id(vault)}/backupFabrics/Azure/protectionContainers/"
            f"{container_name}/protectedItems/{name}"
        ),
        result=lambda: _result(world, call, vault),
    )


def _result(world: World, call: Call, vault: Vault) -> dict[str, Any] | None:
    try:
        return render_item(world, call, world.item(call, vault), details=True)
    except ServiceError:
        return None


def _start(
    world: World,
    call: Call,
    vault: Vault,
    *,
    operation: str,
    entity: str,
    item: ProtectedItem | None,
    complete: Any,
    length: timedelta,
    bag: dict[str, str],
    item_id: str,
    mark: tuple[str, str, tuple[str, str]],
    at_vault: bool = False,
    result: Any = None,
) -> Answer:
    """A job that ends before its operation does: what changing protection starts."""
    job = start_job(
        world,
        call,
        vault,
        operation,
        entity=entity,
        item=item,
        length=length,
        complete=complete,
        always=lambda _: world.configuring.discard(mark),
        property_bag=bag,
    )
    path = call.vault_path(vault) if at_vault else _requested_item_path(call, vault)
    started = start_operation(
        world,
        call,
        vault,
        status_at=f"{path}/{'backupOperations' if at_vault else 'operationsStatus'}",
        result_at=f"{path}/{'backupOperationResults' if at_vault else 'operationResults'}",
        length=length,
        job=job,
        result=result,
    )
    return accepted_answer(world, call, started, Effect(item_id, job.id))


def stop(world: World, call: Call) -> Answer:
    """PUT an item with protectionState ProtectionStopped or BackupsSuspended: keep data, take no backups."""
    vault = world.vault(call)
    properties = call.properties()
    _check_kind(properties)
    state = properties["protectionState"]
    item = world.item(call, vault)
    refuse_under_instance(item.container, item.instance)
    if item.soft_deleted:
        raise ServiceError(
            400, "UserErrorItemInSoftDeletedState", "The backup item is in soft deleted state."
        )
    if state == "BackupsSuspended" and not is_immutable(vault):
        # An odd answer of the real service for vaults that are not immutable (azure-rest-api-specs#32688).
        raise denied_on_immutable()
    check_guard(vault, call, "stopProtectionWithRetainDataRequests")
    mark = _claim(world, vault, item)

    def complete(_: Job) -> str | None:
        if not item.soft_deleted:
            stop_protection(world, item, state)
        return None

    return _start(
        world,
        call,
        vault,
        operation="DisableBackup",
        entity=item.database,
        item=item,
        complete=complete,
        length=world.durations.draw("stop"),
        bag=container_property(world, item.container.name.container),
        mark=mark,
        item_id=world.canonical_item_id(item),
        result=lambda: _result(world, call, vault),
    )


def _claim(world: World, vault: Vault, item: ProtectedItem) -> tuple[str, str, tuple[str, str]]:
    mark = (vault.key, item.container.name.key, item.key)
    if mark in world.configuring:
        raise _conflict()
    world.configuring.add(mark)
    return mark


def delete(world: World, call: Call) -> Answer:
    """DELETE an item: stop and delete the data, softly where the vault says so; 204 when there is none."""
    vault = world.vault(call)
    try:
        item = world.item(call, vault)
    except ServiceError:
        return Answer(204)
    container = item.container
    if item.soft_deleted:
        return Answer(204)
    refuse_under_instance(container, item.instance)
    if is_immutable(vault) and item.kept(world.now):
        raise denied_on_immutable()
    if vault.resource_guard is None or not vault.resource_guard.is_unlocked(call.path, world.now):
        check_guard(vault, call, "deleteProtectedItemRequests")
    mark = _claim(world, vault, item)

    def complete(job: Job) -> str | None:
        stop_protection(world, item, "ProtectionStopped")
        if vault.soft_delete == "Disabled":
            container.items.pop(item.key, None)
        else:
            item.deferred_delete = deleted = job.start
            item.kept_deleted = timedelta(days=vault.soft_delete_days)
            world.agenda.at(deleted + item.kept_deleted, lambda: _expire(item, deleted))
        return None

    return _start(
        world,
        call,
        vault,
        operation="DeleteBackupData",
        entity=item.database,
        item=item,
        complete=complete,
        length=world.durations.draw("delete"),
        bag=container_property(world, item.container.name.container),
        mark=mark,
        item_id=world.canonical_item_id(item),
        at_vault=True,
    )


def _expire(item: ProtectedItem, deleted: datetime) -> None:
    if item.deferred_delete == deleted and item.container.items.get(item.key) is item:
        del item.container.items[item.key]


def undelete(world: World, call: Call) -> Answer:
    """PUT an item with isRehydrate: bring back what was soft-deleted, stopped."""
    vault = world.vault(call)
    properties = call.properties()
    _check_kind(properties)
    item = world.item(call, vault)
    if not item.soft_deleted:
        raise ServiceError(
            400, "UserErrorItemNotInSoftDeletedState", "The backup item is not in soft deleted state."
        )
    mark = _claim(world, vault, item)

    def complete(_: Job) -> str | None:
        item.deferred_delete = None
        item.state = "ProtectionStopped"
        return None

    return _start(
        world,
        call,
        vault,
        operation="Undelete",
        entity=item.database,
        item=item,
        complete=complete,
        length=world.durations.draw("stop"),
        bag=container_property(world, item.container.name.container),
        mark=mark,
        item_id=world.canonical_item_id(item),
        result=lambda: _result(world, call, vault),
    )


# ---- backup on demand


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
    """Count an on-demand full of the day. Raises ServiceError beyond what the service allows."""
    day = world.now.date().isoformat()
    if item.on_demand_fulls.get(day, 0) >= FULLS_A_DAY:
        raise _too_many()
    item.on_demand_fulls = {day: item.on_demand_fulls.get(day, 0) + 1}


# Long: one request, from its checks in the service's order to the job that it starts.
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
    # A soft-deleted item is stopped as well.
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

    def complete(job: Job) -> str | None:
        if busy:
            raise busy_error()
        _check_backup(item, kind)
        return complete_backup(world, item, job, kind, started=started, expires=expires)

    job = start_job(
        world,
        call,
        vault,
        "Backup",
        entity=item.database,
        named=item.job_name,
        item=item,
        length=timedelta() if busy else world.durations.draw("backup"),
        complete=complete,
        task="Transfer data to vault",
        shown=f"Backup ({kind})",
        shown_at_end=f"Backup ({kind})",
        cancellable=True,
    )
    if job.running:
        item.busy_with = job
    path = _requested_item_path(call, vault)
    operation = start_operation(
        world,
        call,
        vault,
        status_at=f"{path}/operationsStatus",
        result_at=f"{path}/operationResults",
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
