"""Estates for restore drills: sources with backups, and a VM of their own to restore to."""

from __future__ import annotations

import base64
import json
from typing import Any

from local.estate import JsonObject
from local.simulator import Simulator
from shared.arm.ids import VirtualMachineId
from shared.drills import RUN_COMMAND_PREFIX, drill_database_name
from shared.messages.identity import Database
from tests.e2e.harness import INSTANCE, POLICY, Estate, virtual_machine

SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
DRILL_VM = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-sql/providers/Microsoft.Compute/virtualMachines/drills1"
)
TARGET = {"vmId": DRILL_VM, "instance": INSTANCE}


def source(name: str, **details: Any) -> JsonObject:
    """A protected database with a week of backups."""
    return {"name": name, "protectedBy": POLICY, "historyDays": 8, **details}


def drill_machine(*databases: str | JsonObject, **details: Any) -> JsonObject:
    """The VM that drills restore to: registered, nothing of it protected, SYSTEM a sysadmin unless it is said."""
    name = details.pop("name", "drills1")
    machine = virtual_machine(name, *(databases or ("master",)), registeredTo="vault1")
    instance = machine["instances"][0]
    instance["systemIsSysadmin"] = details.pop("systemIsSysadmin", True)
    instance["certificates"] = details.pop("certificates", [])
    return {**machine, **details}


def drill_estate(
    *databases: str | JsonObject, drills: JsonObject | None = None, **scenario: Any
) -> JsonObject:
    """A scenario of one VM with protected databases, and one to drill on."""
    listed = [source(item) if isinstance(item, str) else item for item in databases or ("orders",)]
    return {
        "virtualMachines": [
            virtual_machine("sqlvm1", *listed, registeredTo="vault1"),
            drills if drills is not None else drill_machine(),
        ],
        "scheduledBackups": False,
        **scenario,
    }


def settings(*targets: JsonObject, **more: str) -> dict[str, str]:
    """The setting `DRILL_TARGETS`, and others."""
    return {"DRILL_TARGETS": json.dumps(targets or (TARGET,)), **more}


def drill(estate: Estate, *databases: str, **data: Any) -> JsonObject:
    """A drill request for databases of the default instance; for all where none is named."""
    named = [{"instance": INSTANCE, "database": name} for name in databases or ("*",)]
    return estate.request("drill", {"databases": named, "target": TARGET, **data})


def databases_on(estate: Estate, machine: str = "drills1") -> set[str]:
    """What is on the default instance of a VM."""
    return {
        database.name
        for database in machine_of(estate, machine).instances[INSTANCE.lower()].databases.values()
    }


def every_database(simulator: Simulator) -> dict[tuple[str, str], Any]:
    """Every database of every VM, as the very object that it is: a restore over one makes another."""
    return {
        (machine.name.name, database.name): database
        for machine in simulator.machines
        for instance in machine.instances.values()
        for database in instance.databases.values()
    }


def machine_of(estate: Estate, name: str) -> Any:
    """A VM of the simulator."""
    return next(machine for machine in estate.simulator.machines if machine.name.name == name)


def touched_by_drills(simulator: Simulator) -> set[tuple[str, str]]:
    """What was restored over, checked or dropped: VM and database. Raises AssertionError for any other effect."""
    found = set()
    for entry in simulator.ledger_entries:
        if entry["route"] == "Restore":
            properties = entry["body"]["properties"]
            assert properties["recoveryType"] == "AlternateLocation"
            instance, _, name = properties["targetInfo"]["databaseName"].partition("/")
            assert instance == INSTANCE
            found.add((properties["targetVirtualMachineId"], name))
            container = properties["targetInfo"]["containerId"].rpartition(";")[2]
            assert container == properties["targetVirtualMachineId"].rpartition("/")[2]
        elif entry["route"] == "PutRunCommand":
            script = script_of(entry)
            assert script["instance"] == INSTANCE
            vm, _, name = entry["item"].partition("/runCommands/")
            assert name.startswith(RUN_COMMAND_PREFIX)
            found.add((vm, script["database"]))
        elif entry["route"] == "DeleteRunCommand":
            vm, _, name = entry["item"].partition("/runCommands/")
            assert vm.rpartition("/")[2].startswith("drills")
            assert name.startswith(RUN_COMMAND_PREFIX)
        else:
            raise AssertionError(f"a drill did {entry['route']}")
    return found


def script_of(entry: JsonObject) -> dict[str, str]:
    """The parameters of a script in the ledger, its names decoded."""
    given = {each["name"]: each["value"] for each in entry["body"]["properties"]["parameters"]}
    for name in ("instance", "database"):
        given[name] = base64.urlsafe_b64decode(given[name] + "=" * (-len(given[name]) % 4)).decode()
    return given


def restore_to_be_made(**changes: Any) -> JsonObject:
    """The message by which a drill of `orders` has its restore made, as the app writes it; `changes` of its call."""
    vault = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-backup/providers/Microsoft.RecoveryServices/vaults/vault1"
    containers = f"{vault}/backupFabrics/Azure/protectionContainers"
    vm = DRILL_VM.replace("drills1", "sqlvm1")
    name = drill_database_name(Database(vm_id=VirtualMachineId.parse(vm), instance=INSTANCE, name="orders"))
    call: JsonObject = {
        "objectType": "AzureWorkloadSQLPointInTimeRestoreRequest",
        "shouldUseAlternateTargetLocation": True,
        "isNonRecoverable": False,
        "pointInTime": "2026-01-05T07:00:00Z",
        "recoveryType": "AlternateLocation",
        "targetVirtualMachineId": DRILL_VM,
        "sourceResourceId": vm,
        "targetInfo": {
            "overwriteOption": "Overwrite",
            "containerId": f"{containers}/VMAppContainer;Compute;rg-sql;drills1",
            "databaseName": f"{INSTANCE}/{name}",
        },
        "alternateDirectoryPaths": [
            {
                "mappingType": kind,
                "sourceLogicalName": logical,
                "sourcePath": f"F:\\data\\{logical}{suffix}",
                "targetPath": f"F:\\data\\{name}_{logical}{suffix}",
            }
            for kind, logical, suffix in (("Data", "orders", ".mdf"), ("Log", "orders_log", ".ldf"))
        ],
    }
    item = "SQLDataBase;mssqlserver;orders"
    moment = {"time": "2026-01-05T07:00:00Z", "pointInTime": "2026-01-05T07:00:00Z"}
    return {
        "version": 2,
        "step": "trigger_restore",
        "sender": "trigger_restore",
        "at": "2026-01-05T08:00:00Z",
        "since": "2026-01-05T08:00:00Z",
        "request": {"operation": "drill", "source": "/forged", "id": "forged", "vaultId": vault},
        "effect": {"n": 1, "ready": True},
        "payload": {
            "database": {"vmId": vm, "instance": INSTANCE, "name": "orders"},
            "itemId": f"{containers}/VMAppContainer;Compute;rg-sql;sqlvm1/protectedItems/{item}",
            "recoveryPoint": {"name": "DefaultRangeRecoveryPoint", "kind": "Log", **moment},
            "target": {"kind": "alternate", "vmId": DRILL_VM, "instance": INSTANCE, "database": name},
            "overwrite": True,
            "noRecovery": False,
            "prepared": {**call, **changes},
            "drill": {"choice": {"latest": "any"}, "check": "checkdb", "cleanUp": True},
        },
    }
