"""Estates for restore drills: sources with backups, and a VM of their own to restore to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.e2e.harness import INSTANCE, POLICY, Estate, JsonObject, virtual_machine

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
    machine = virtual_machine("drills1", *(databases or ("master",)), registeredTo="vault1")
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


def machine_of(estate: Estate, name: str) -> Any:
    """A VM of the simulator."""
    machines: Sequence[Any] = list(estate.simulator._world.machines.values())
    return next(machine for machine in machines if machine.name.name == name)
