"""Drills as the tests of this package need them: `orders` of `VM`, restored to an instance of `DRILL_VM`."""

from __future__ import annotations

from typing import Any

from shared.arm.ids import ContainerId, VirtualMachineId
from shared.azure_backup.models import Container, DataDirectory, Vault, WorkloadItem
from shared.drills import DrillTarget, drill_database_name, run_command_name
from shared.engine.message import Ending, StepMessage
from shared.engine.result import Collaborators
from shared.messages.events import DrillInfo, OutcomeDetails, Status
from shared.messages.identity import Database
from shared.messages.requests import AlternateTarget, Operation
from shared.run_commands.models import RunCommand
from shared.settings import Settings
from shared.steps.payloads import ChosenRecoveryPoint, Drill, RestoreTask
from tests.fakes.azure_backup import FakeAzureBackup
from tests.unit.examples import NOW, SUBSCRIPTION, VAULT, VM, item_id, protected
from tests.unit.steps.calling import collaborators, message_to

DRILL_VM = VirtualMachineId(SUBSCRIPTION, "rg-sql", "drills1")
CONTAINER_ID = ContainerId(VAULT, "Azure", "VMAppContainer;Compute;rg-sql;drills1")
CONTAINER = Container(id=CONTAINER_ID, name=CONTAINER_ID.name, virtual_machine_id=DRILL_VM)
TARGET = DrillTarget.model_validate({"vmId": DRILL_VM.path, "instance": "MSSQLSERVER"})
ORDERS = Database(vm_id=VM, instance="MSSQLSERVER", name="orders")
NAME = drill_database_name(ORDERS)
COMMAND = run_command_name(TARGET, NAME)
#: an instance of a VM, with the directories of its files
SQL_INSTANCE = WorkloadItem(
    wire_name="SQLInstance;mssqlserver",
    item_type="SQLInstance",
    instance="MSSQLSERVER",
    data_directories=(DataDirectory("Data", "D:\\data"), DataDirectory("Log", "L:\\log")),
)
POINT = ChosenRecoveryPoint(name="100", kind="Full", time=NOW)
#: what its restore has proved
RESTORED = Ending(
    status=Status.SUCCEEDED,
    details=OutcomeDetails(drill=DrillInfo(database=NAME, check="checkdb", restore_seconds=60.0)),
)


def estate(**changes: Any) -> FakeAzureBackup:
    """A vault that protects `orders`, and to which the drill VM is registered."""
    fields: dict[str, Any] = {
        "vaults": [Vault(id=VAULT, name="vault1", location="westeurope")],
        "protected_items": [protected("orders", last_backup_time=NOW)],
        "containers": [CONTAINER],
    }
    return FakeAzureBackup(**{**fields, **changes})


def given(azure: FakeAzureBackup, **settings: Any) -> Collaborators:
    """What a step of a drill is given: one target is allowed."""
    return collaborators(azure, settings=Settings(**{"drill_targets": (TARGET,), **settings}))


def target(**changes: Any) -> AlternateTarget:
    fields = {"kind": "alternate", "vmId": DRILL_VM.path, "instance": "MSSQLSERVER", "database": NAME}
    return AlternateTarget.model_validate({**fields, **changes})


def drill(**changes: Any) -> Drill:
    fields: dict[str, Any] = {
        "choice": {"latest": "any"},
        "check": "checkdb",
        "clean_up": True,
        "began": NOW,
        "so_far": RESTORED,
    }
    return Drill(**{**fields, **changes})


def task(of_drill: Drill | None, **changes: Any) -> RestoreTask:
    fields: dict[str, Any] = {
        "database": ORDERS,
        "item_id": item_id("orders").path,
        "recovery_point": POINT,
        "target": target(),
        "overwrite": True,
        "no_recovery": False,
        "drill": of_drill,
    }
    return RestoreTask(**{**fields, **changes})


def message(step: str, of_drill: Drill | None = None, **changes: Any) -> StepMessage[RestoreTask]:
    """A message to a step of a drill; `task`: changes of its payload."""
    payload = task(of_drill or drill(), **changes.pop("task", {}))
    return message_to(step, payload, changes.pop("operation", Operation.DRILL), **changes)


def command(name: str = COMMAND, **details: Any) -> RunCommand:
    """A run command that has ended."""
    fields: dict[str, Any] = {
        "name": name,
        "provisioning_state": "Succeeded",
        "execution_state": "Succeeded",
        "is_viewed": True,
        "end_time": NOW,
    }
    return RunCommand(**{**fields, **details})
