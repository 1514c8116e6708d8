"""Messages, items and jobs as the tests of this package need them."""

from __future__ import annotations

import base64
import gzip
import json
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from shared.arm.ids import ContainerId, ProtectedItemId, VaultId, VirtualMachineId
from shared.azure_backup.models import Job, ProtectableItem, ProtectedItem
from shared.clock import ServiceTime
from shared.engine.effect import Effect
from shared.engine.message import StepMessage
from shared.messages.error_codes import ErrorCode
from shared.messages.events import ErrorInfo, Status
from shared.messages.identity import Database, Request
from shared.messages.requests import BackupData, BackupType, FilesTarget, Operation
from shared.steps.payloads import (
    BackupPlan,
    BackupTask,
    CertainFailure,
    ChosenRecoveryPoint,
    FixedSelection,
    RestoreTask,
)

S = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
NOW = ServiceTime(datetime(2026, 1, 5, 8, tzinfo=UTC))
SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
VAULT = VaultId(SUBSCRIPTION, "rg-backup", "vault1")
VM = VirtualMachineId(SUBSCRIPTION, "rg-sql", "sqlvm1")
CONTAINER = ContainerId(VAULT, "Azure", "VMAppContainer;Compute;rg-sql;sqlvm1")


def item_id(database: str, instance: str = "mssqlserver") -> ProtectedItemId:
    return ProtectedItemId(CONTAINER, f"SQLDataBase;{instance};{database}")


def protected(name: str, *, instance: str = "MSSQLSERVER", **details: Any) -> ProtectedItem:
    """A protected database of `VM`."""
    fields: dict[str, Any] = {
        "id": item_id(name, instance.lower()),
        "name": name,
        "instance": instance,
        "server_name": "sqlvm1",
        "virtual_machine_id": VM,
        "protection_state": "Protected",
        "policy_name": "Daily",
    }
    return ProtectedItem(**{**fields, **details})


def protectable(name: str, *, instance: str = "MSSQLSERVER", **details: Any) -> ProtectableItem:
    """A database of `VM` that is not protected."""
    fields: dict[str, Any] = {
        "id": f"{CONTAINER.path}/protectableItems/SQLDataBase;{instance.lower()};{name}",
        "wire_name": f"SQLDataBase;{instance.lower()};{name}",
        "item_type": "SQLDataBase",
        "instance": instance,
        "server_name": "sqlvm1",
        "name": name,
        "is_protectable": True,
    }
    return ProtectableItem(**{**fields, **details})


def request(**changes: Any) -> Request:
    fields: dict[str, Any] = {
        "operation": Operation.BACKUP,
        "source": "/tests",
        "id": "backup-1",
        "vault_id": VAULT,
    }
    return Request(**{**fields, **changes})


def backup_message(database: str = "orders", **changes: Any) -> StepMessage[BackupTask]:
    """A message to trigger_backup."""
    task = BackupTask(
        database=Database(vm_id=VM, instance="MSSQLSERVER", name=database),
        item_id=item_id(database).path,
        server_name="sqlvm1",
        policy_name="Daily",
        backup_type=BackupType.FULL,
        outcome_count=1,
    )
    fields: dict[str, Any] = {
        "step": "trigger_backup",
        "sender": "select_items",
        "at": NOW,
        "since": NOW,
        "request": request(),
        "effect": Effect(),
        "payload": task,
    }
    return StepMessage[BackupTask](**{**fields, **changes})


def job(name: str = "job-1", **details: Any) -> Job:
    """A backup job of `orders`, as a listing shows it."""
    fields: dict[str, Any] = {
        "id": name,
        "status": "InProgress",
        "raw_status": "InProgress",
        "operation": "Backup (Full)",
        "entity_name": "orders [sqlvm1]",
        "start_time": NOW + timedelta(seconds=1),
        "activity_id": "11111111-1111-1111-1111-111111111111",
    }
    return Job(**{**fields, **details})


def restore_message(**changes: Any) -> StepMessage[RestoreTask]:
    """A message to trigger_restore."""
    backup = backup_message(step="trigger_restore", **changes)
    task = RestoreTask(
        database=backup.payload.database,
        item_id=backup.payload.item_id,
        recovery_point=ChosenRecoveryPoint(name="100", kind="Full", time=NOW),
        target=FilesTarget(kind="files", vmId=VM, path="D:\\restored"),
        overwrite=False,
        no_recovery=False,
    )
    return cast("StepMessage[RestoreTask]", backup.model_copy(update={"payload": task}))


def selection(*databases: str) -> StepMessage[BackupPlan]:
    """A selection that has been made: these databases are to be backed up, and one is not there."""
    why = ErrorInfo(code=ErrorCode.DATABASE_NOT_FOUND, message="There is no such database.")
    missing = Database(vm_id=VM, instance="MSSQLSERVER", name="missing")
    fixed = FixedSelection(
        tasks=tuple(
            backup_message(name).payload.model_dump(mode="json", by_alias=True) for name in databases
        ),
        failures=(CertainFailure(database=missing, status=Status.FAILED, error=why),),
    )
    packed = base64.b64encode(gzip.compress(fixed.model_dump_json(by_alias=True).encode())).decode()
    data = BackupData.model_validate(
        {
            "vaultId": VAULT.path,
            "backupType": "Full",
            "databases": [{"instance": "MSSQLSERVER", "database": "*"}],
        }
    )
    plan = BackupPlan(data=data, fixed=packed, outcome_count=len(databases) + 1)
    message = backup_message(step="select_items", request=request(epoch=1))
    return cast("StepMessage[BackupPlan]", message.model_copy(update={"payload": plan}))


def body_of(message: StepMessage[Any]) -> dict[str, Any]:
    """A message as it is on the wire."""
    body: dict[str, Any] = json.loads(message.model_dump_json(by_alias=True, exclude_none=True))
    return body
