"""Requests, and the databases that they can mean, as the tests of selections need them."""

from __future__ import annotations

from typing import Any

from shared.azure_backup.listings import Listing
from shared.azure_backup.models import ProtectableItem, ProtectedItem
from shared.messages.requests import BackupData, ProtectData
from shared.steps.candidates import Candidate, candidates
from tests.unit.examples import CONTAINER, VAULT, VM

STOPPED: dict[str, Any] = {"protection_state": "ProtectionStopped", "policy_name": None}
DELETED: dict[str, Any] = {**STOPPED, "is_scheduled_for_deferred_delete": True}


def selector(text: str) -> dict[str, str]:
    parent, _, name = text.rpartition("/")
    return {"instance": parent or "MSSQLSERVER", "database": name}


def protect(*databases: str, **data: Any) -> ProtectData:
    fields = {
        "vaultId": VAULT.path,
        "vmId": VM.path,
        "policyName": "Daily",
        "databases": [selector(name) for name in databases],
    }
    return ProtectData.model_validate({**fields, **data})


def backup(*databases: str, backup_type: str = "Full", **data: Any) -> BackupData:
    fields = {
        "vaultId": VAULT.path,
        "backupType": backup_type,
        "databases": [selector(name) for name in databases],
    }
    return BackupData.model_validate({**fields, **data})


def available(*items: ProtectedItem | ProtectableItem) -> list[Candidate]:
    return candidates(
        Listing([item for item in items if isinstance(item, ProtectedItem)], []),
        Listing([item for item in items if isinstance(item, ProtectableItem)], []),
        vm_id=VM,
        container=CONTAINER,
    )
