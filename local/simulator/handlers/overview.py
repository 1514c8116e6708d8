"""Overviews: who protects a machine, how many items a vault has, how it stores them.

Shapes follow the examples of the REST specification (2026-10-01, usages of 2023-04-01) and a recording of backupStatus
(2024-04-28), all for virtual machines. What they contain for SQL Server is inferred.
"""

from __future__ import annotations

from typing import Any

from local.simulator.calls import Answer, Call, Effect
from local.simulator.errors import ServiceError, invalid_input
from local.simulator.estate import Container, Vault, VirtualMachine
from local.simulator.filters import parse_filter
from local.simulator.naming import parse_id
from local.simulator.world import World, region_of

_STORAGE_TYPES = ("GeoRedundant", "LocallyRedundant", "ZoneRedundant", "ReadAccessGeoZoneRedundant")


def _machine(world: World, body: dict[str, Any]) -> VirtualMachine | None:
    """The virtual machine that a body's resourceId names. Raises ServiceError (400) for another kind of id."""
    named = parse_id(body.get("resourceId"))
    if named is None:
        raise invalid_input("Parameter resourceId in request is invalid.")
    if named.kind != "virtualmachines":
        return None
    return world.machines.get(f"{named.resource_group};{named.name}")


def _protecting(machine: VirtualMachine, database: str | None) -> tuple[Container, list[Any]] | None:
    """The machine's container with its protected items, or with that of the named database."""
    vault = machine.registered_with
    container = vault.containers.get(machine.name.key) if vault is not None else None
    if container is None:
        return None
    wanted = (database or "").lower().replace("/", ";")
    items = [
        item
        for item in container.items.values()
        if not item.stopped and not item.soft_deleted and (not wanted or ";".join(item.key) == wanted)
    ]
    return container, items


def backup_status(world: World, call: Call) -> Answer:
    """POST backupStatus: whether a machine, or a database of it (`poLogicalName` INSTANCE;DATABASE), is protected.

    SQL Server's databases are asked for by resourceType SQLDataBase; for VM the answer speaks of whole machines, which
    the simulator does not protect.
    """
    world.check_subscription(call)
    region_of(world, call)
    body = call.json()
    kind = str(body.get("resourceType", "")).lower()
    if kind not in ("vm", "sqldatabase", "azurefileshare", "sapascedatabase", "saphanadatabase"):
        raise invalid_input("Parameter resourceType in request is invalid.")
    machine = _machine(world, body)
    name = machine.name if machine is not None else None
    logical = body.get("poLogicalName")
    found = _protecting(machine, logical) if machine is not None and kind == "sqldatabase" else None
    container, items = found if found is not None else (None, [])
    answer: dict[str, Any] = {
        "protectionStatus": "Protected" if items else "NotProtected",
        **({"vaultId": world.canonical_vault_id(container.vault)} if container is not None and items else {}),
        "fabricName": "Azure",
        "containerName": (
            container.name.container
            if container is not None
            else f"iaasvmcontainer;iaasvmcontainerv2;{name.key}"
            if name is not None
            else ""
        ),
        "protectedItemName": (
            items[0].name
            if len(items) == 1
            else f"vm;iaasvmcontainerv2;{name.key}"
            if name is not None
            else ""
        ),
        "protectedItemsCount": len(items) if kind == "sqldatabase" else 0,
        "objectType": "BackupStatusResponse",
    }
    if items and items[0].policy is not None and len(items) == 1:
        answer["policyName"] = items[0].policy.name
    return Answer(200, answer)


def pre_validate(world: World, call: Call) -> Answer:
    """POST backupPreValidateProtection: whether a machine, or SQL Server in it, could be protected in a vault."""
    world.check_subscription(call)
    region_of(world, call)
    body = call.json()
    machine = _machine(world, body)
    vault_id = parse_id(body.get("vaultId"))
    vault = world.vaults.get(f"{vault_id.resource_group}/{vault_id.name}") if vault_id is not None else None
    if machine is None:
        raise ServiceError(400, "BMSUserErrorVirtualMachineNotFound", "The virtual machine was not found.")
    if vault is None:
        raise invalid_input("Parameter vaultId in request is invalid.")
    other = machine.registered_with
    code, message, advice = "", "", ""
    if not machine.running:
        code, message = (
            "VMNotInRunningStateUserError",
            f"The virtual machine {machine.name.name} is shut down.",
        )
        advice = "Start the virtual machine."
    elif machine.location.lower() != vault.location.lower():
        code = "UserErrorVaultAndVirtualMachineInDifferentRegions"
        message = "The vault and the virtual machine are in different regions."
        advice = "Use a vault in the region of the virtual machine."
    elif other is not None and other is not vault:
        code = "UserErrorVMAlreadyRegisteredToAnotherVault"
        message = f"The virtual machine is registered with the vault {other.name}."
        advice = "Use that vault, or unregister the virtual machine from it."
    return Answer(
        200,
        {
            "status": "Failed" if code else "Succeeded",
            "errorCode": code,
            "errorMessage": message,
            "recommendation": advice,
            "containerName": machine.name.container,
            "protectedItemName": "",
        },
    )


_SPOKEN = {"AzureWorkload": "Workload in Azure VM"}


def _entry(name: str, value: int, unit: str = "Count", **more: Any) -> dict[str, Any]:
    return {
        "unit": unit,
        **more,
        "currentValue": value,
        "limit": -1,
        "name": {"value": name, "localizedValue": _SPOKEN.get(name, name)},
    }


def usage_summaries(world: World, call: Call) -> Answer:
    """GET backupUsageSummaries: how many items, or containers, a vault has by the management type of each."""
    vault = world.vault(call)
    kind = parse_filter(call.filter, frozenset({"type"})).get("type", "").lower()
    if kind == "backupprotecteditemcountsummary":
        entries = [_entry("AzureWorkload", len(vault.items()))]
    elif kind == "backupprotectioncontainercountsummary":
        entries = [_entry("AzureWorkload", len(vault.containers))]
    else:
        raise invalid_input("The filter's type is not one the service knows.")
    return Answer(200, {"value": [entry for entry in entries if entry["currentValue"]]})


def usages(world: World, call: Call) -> Answer:
    """GET usages: a vault's counts of items and of the jobs of the last day."""
    vault = world.vault(call)
    items = [item for item in vault.items() if not item.soft_deleted]
    recent = [job for job in vault.jobs.values() if (world.now - job.start).days < 1]
    unhealthy = sum(1 for item in items if item.last_backup_status == "Unhealthy")
    day = {"quotaPeriod": "P1D"}
    return Answer(
        200,
        {
            "value": [
                _entry("ProtectedItemCount", len(items)),
                _entry("ProtectedItemCriticalCount", unhealthy),
                _entry("ProtectedItemWarningCount", 0),
                _entry("IaaSVMProtectedItemCount", 0),
                _entry("InProgressJobsCount", sum(1 for job in recent if job.running), **day),
                _entry("FailedJobsCount", sum(1 for job in recent if job.status == "Failed"), **day),
            ]
        },
    )


def _render_storage(call: Call, vault: Vault) -> dict[str, Any]:
    return {
        "id": f"{call.vault_path(vault)}/backupstorageconfig/vaultstorageconfig",
        "name": "vaultstorageconfig",
        "type": "Microsoft.RecoveryServices/vaults/backupstorageconfig",
        "properties": {
            "storageModelType": vault.storage_type,
            "storageType": vault.storage_type,
            "storageTypeState": "Locked" if vault.items() else "Unlocked",
            "crossRegionRestoreFlag": vault.cross_region_restore,
            "dedupState": "Disabled",
            "xcoolState": "Disabled",
        },
    }


def get_storage_config(world: World, call: Call) -> Answer:
    """GET the storage configuration: the redundancy, locked once the vault protects anything."""
    return Answer(200, _render_storage(call, world.vault(call)))


def put_storage_config(world: World, call: Call) -> Answer:
    """PUT (200) or PATCH (204) the storage configuration."""
    vault = world.vault(call)
    properties = call.properties()
    asked = properties.get("storageModelType", properties.get("storageType", vault.storage_type))
    known = {kind.lower(): kind for kind in _STORAGE_TYPES}
    kind = known.get(str(asked).lower())
    flag = properties.get("crossRegionRestoreFlag", vault.cross_region_restore)
    if kind is None or not isinstance(flag, bool):
        raise invalid_input("Parameter storageModelType in request is invalid.")
    if kind != vault.storage_type and vault.items():
        raise ServiceError(
            400,
            "BMSUserErrorStorageTypeLocked",
            "The storage replication type cannot be changed: the vault has protected items.",
        )
    if flag and kind != "GeoRedundant":
        raise invalid_input("Cross region restore needs a geo-redundant vault.")
    vault.set_storage(kind, cross_region_restore=flag)
    effect = Effect(world.canonical_vault_id(vault))
    if call.request.method == "PATCH":
        return Answer(204, effect=effect)
    return Answer(200, _render_storage(call, vault), effect=effect)
