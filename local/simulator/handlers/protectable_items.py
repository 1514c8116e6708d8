"""What inquiries found: protectable items, and the workload items of one container."""

from __future__ import annotations

from typing import Any

from local.simulator.calls import Answer, Call
from local.simulator.estate import Container
from local.simulator.filters import matches, parse_filter
from local.simulator.handlers.containers import FABRIC, container_id, render_nodes
from local.simulator.naming import container_key, encoded, encoded_segment
from local.simulator.paging import paged_in_order
from local.simulator.world import World

_PROTECTABLE_FIELDS = frozenset(
    {"backupmanagementtype", "workloadtype", "containername", "status", "friendlyname"}
)
_WORKLOAD_FIELDS = frozenset({"backupmanagementtype", "workloaditemtype", "workloadtype", "protectionstatus"})


def list_protectable_items(world: World, call: Call) -> Answer:
    """GET the instances, the availability groups, and the databases that are not protected."""
    vault = world.vault(call)
    wanted = parse_filter(call.filter, _PROTECTABLE_FIELDS)
    entries: list[tuple[Container, str, str | None]] = []
    workload = wanted.get("workloadtype")
    if matches("AzureWorkload", wanted.get("backupmanagementtype")) and (
        workload is None or workload.lower() in ("sqldatabase", "sql", "sqlinstance")
    ):
        only = container_key(wanted.get("containername", "")) if "containername" in wanted else None
        for container in sorted(vault.containers.values(), key=lambda found: found.name.key):
            if "containername" in wanted and container.name.key != only:
                continue
            for instance, databases in container.inquiry.found.items():
                entries.append((container, instance, None))
                entries += [
                    (container, instance, database)
                    for database in sorted(databases, key=str.lower)
                    if (instance.lower(), database.lower()) not in container.items
                ]
    friendly, status = wanted.get("friendlyname"), wanted.get("status")
    entries = [
        entry
        for entry in entries
        if matches(entry[2] or entry[1], friendly) and matches("NotProtected", status)
    ]
    return paged_in_order(world, call, entries, lambda entry: _render_protectable(world, call, *entry))


def _prebackup_validation(container: Container, parent: str) -> dict[str, str]:
    """The pre-backup validation of an instance or availability group."""
    group = container.group
    instance = container.machine.instances.get(parent.lower()) if group is None else None
    if group is not None and group.basic:
        return {
            "status": "Failed",
            "code": "UserErrorBasicAvailabilityGroupNotSupported",
            "message": "Backup of Basic Availability Group databases is not supported by Azure Backup.",
        }
    if instance is not None and instance.failover_cluster:
        return {
            "status": "Failed",
            "code": "UserErrorSQLFailoverClusterInstanceNotSupported",
            "message": "Azure Backup does not support SQL Server failover cluster instances.",
        }
    return {"status": "Success", "code": "Success"}


def _render_protectable(
    world: World, call: Call, container: Container, instance: str, database: str | None
) -> dict[str, Any]:
    vault = container.vault
    is_instance = database is None
    kind = "SQLInstance" if container.group is None else "SQLAvailabilityGroupContainer"
    name = f"{kind};{instance}" if database is None else f"sqldatabase;{instance};{database}"
    name = name.lower()
    found = len(container.inquiry.found[instance]) if is_instance else 0
    validation = _prebackup_validation(container, instance)
    properties: dict[str, Any] = {
        "parentName": instance,
        "serverName": container.server_name,
        "isAutoProtectable": is_instance and validation["status"] == "Success",
        "isAutoProtected": is_instance
        and any(i.container is container and i.instance == instance for i in vault.intents.values()),
        "subinquireditemcount": found,
        "subprotectableitemcount": found,
    }
    if is_instance:
        properties["prebackupvalidation"] = validation
        if container.group is not None:
            properties["nodesList"] = render_nodes(world, vault, container.group)
    properties |= {
        "IsProtectable": not is_instance,
        "backupManagementType": "AzureWorkload",
        "workloadType": "SQL",
        "protectableItemType": kind if is_instance else "SQLDataBase",
        "friendlyName": database or instance,
        "protectionState": "NotProtected",
    }
    return {
        "id": (
            f"{call.vault_id(vault)}/backupFabrics/Azure/protectionContainers/"
            f"{encoded(container.name.container_in_protectable)}/protectableItems/{encoded_segment(name)}"
        ),
        "name": name,
        "type": f"{FABRIC}/protectionContainers/protectableItems",
        "properties": properties,
    }


def list_workload_items(world: World, call: Call) -> Answer:
    """GET the instances with their default directories, and the databases, protected or not, of a machine."""
    vault = world.vault(call)
    container = world.container(call, vault)
    wanted = parse_filter(call.filter, _WORKLOAD_FIELDS)
    kind = wanted.get("workloaditemtype")
    entries: list[tuple[str, str | None]] = []
    if matches("AzureWorkload", wanted.get("backupmanagementtype")):
        for instance, databases in container.inquiry.found.items():
            if matches("SQLInstance", kind) and container.group is None:
                entries.append((instance, None))
            if matches("SQLDataBase", kind):
                entries += [(instance, database) for database in databases]
    status = wanted.get("protectionstatus")
    entries = [entry for entry in entries if matches(_protection(container, *entry), status)]
    return paged_in_order(world, call, entries, lambda entry: _render_workload_item(call, container, *entry))


def _protection(container: Container, instance: str, database: str | None) -> str:
    item = container.items.get((instance.lower(), database.lower())) if database is not None else None
    return "NotProtected" if item is None or item.soft_deleted else "Protected"


def _render_workload_item(
    call: Call, container: Container, instance: str, database: str | None
) -> dict[str, Any]:
    name = f"SQLInstance;{instance}" if database is None else f"SQLDataBase;{instance};{database}"
    properties: dict[str, Any] = {}
    if database is None:
        live = container.machine.instances[instance.lower()]
        properties["dataDirectoryPaths"] = [
            {"type": "Data", "path": live.data_directory},
            {"type": "Log", "path": live.log_directory},
        ]
    properties |= {
        "parentName": instance,
        "serverName": container.server_name,
        "isAutoProtectable": database is None,
        "subinquireditemcount": 0,
        "subWorkloadItemCount": len(container.inquiry.found[instance]) if database is None else 0,
        "backupManagementType": "AzureWorkload",
        "workloadType": "SQL",
        "workloadItemType": "SQLInstance" if database is None else "SQLDataBase",
        "friendlyName": database or instance,
        "protectionState": _protection(container, instance, database),
    }
    return {
        "id": (
            f"{container_id(call, container.vault, container.source)}/protectableItems/{encoded_segment(name)}"
        ),
        "name": name,
        "type": f"{FABRIC}/protectionContainers/items",
        "properties": properties,
    }
