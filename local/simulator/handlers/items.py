"""Protected items: get and list."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from local.simulator.calls import Answer, Call, to_json
from local.simulator.errors import JobError
from local.simulator.estate import ProtectedItem
from local.simulator.filters import matches, parse_filter
from local.simulator.handlers.instance_items import instance_item, instance_items
from local.simulator.naming import VmName, container_key, encoded
from local.simulator.paging import paged, paged_in_order
from local.simulator.timing import instant, time_span, whole_seconds
from local.simulator.world import World

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
"""Fields that only items of other workloads have."""
_NARROWING = _OF_OTHERS | {"containername", "policyname", "friendlyname", "healthstate"}
_TYPE = "Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/protectedItems"


def _health(item: ProtectedItem) -> str:
    if not item.container.machine.running:
        return "NotReachable"
    return {"Healthy": "Healthy", "Unhealthy": "Unhealthy"}.get(item.last_backup_status, "IRPending")


def _kpi(status: str, problem: JobError | None = None) -> dict[str, Any]:
    """The health of one kind of operation, as recorded in 2022 for a failed restore."""
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


# Long: an answer as recorded, field by field in the service's order.
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
        # Recorded as degraded for an error of the service itself (530010); that user errors make it worse is
        # inferred.
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
    of_workloads = matches("AzureWorkload", wanted.get("backupmanagementtype")) and matches(
        "Azure", wanted.get("fabricname")
    )
    found = [
        item
        for item in (vault.items() if of_workloads and matches("SQLDataBase", kind) else [])
        if not narrowed
        or (
            (container is None or item.container.name.key == only)
            and matches(item.policy.name if item.policy is not None else None, wanted.get("policyname"))
            and matches(item.database, wanted.get("friendlyname"))
            and matches(_health(item), wanted.get("healthstate"))
            and not wanted.keys() & _OF_OTHERS
        )
    ]
    # In the order of their data sources' numbers, as recorded, not the order in which they were protected.
    found.sort(key=attrgetter("source_number"))
    listed_too = of_workloads and not narrowed and matches("SQLInstance", kind)
    if listed_too and (wholes := instance_items(world, call, vault)):
        entries = [*wholes, *(_listed(world, call, item, prefix) for item in found)]
        return paged_in_order(world, call, entries, lambda entry: entry)
    return paged(
        world, call, found, attrgetter("source_number"), lambda item: _listed(world, call, item, prefix)
    )


def _listed(world: World, call: Call, item: ProtectedItem, prefix: str) -> dict[str, Any] | bytes:
    if item.deferred_delete is not None:
        # Its remaining time is different each time.
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
