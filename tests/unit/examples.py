"""Messages, items and jobs as the tests of this package need them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from shared.arm.ids import ContainerId, ProtectedItemId, VaultId, VirtualMachineId
from shared.azure_backup.models import Job, ProtectableItem, ProtectedItem
from shared.engine.effect import Effect
from shared.engine.message import StepMessage
from shared.messages.identity import Database, Request
from shared.messages.requests import BackupType, Operation
from shared.steps.payloads import BackupTask

NOW = datetime(2026, 1, 5, 8, tzinfo=UTC)
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
