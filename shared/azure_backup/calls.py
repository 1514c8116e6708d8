"""Azure Backup as the steps see it: calls that read, kept apart from calls that change something.

`AzureBackup` implements and documents both. A step is given only the reads; the engine makes the calls that change
something, in time and once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from shared.arm.budget import RequestBudget
from shared.arm.ids import ContainerId, ProtectedItemId, RecoveryPointId, VaultId, VirtualMachineId
from shared.azure_backup.listings import Listing
from shared.azure_backup.models import (
    Container,
    Job,
    OperationResult,
    OperationStatus,
    Policy,
    ProtectableContainer,
    ProtectableItem,
    ProtectedItem,
    ProtectionIntent,
    RecoveryPoint,
    ResourceGuardProxy,
    StartedOperation,
    Vault,
    WorkloadItem,
)
from shared.run_commands.operations import RunCommandMutations, RunCommandReads

__all__ = ["Mutations", "Reads"]


class Reads(Protocol):
    """Calls that only read."""

    @property
    def budget(self) -> RequestBudget: ...

    @property
    def run_commands(self) -> RunCommandReads: ...

    def get_vault(self, vault: VaultId) -> Vault | None: ...

    def list_vaults(self, subscription_id: str) -> Listing[Vault]: ...

    def get_resource_guard(self, vault: VaultId) -> ResourceGuardProxy | None: ...

    def list_sql_virtual_machines(self, subscription_id: str) -> Listing[VirtualMachineId]: ...

    def list_policies(self, vault: VaultId) -> list[Policy]: ...

    def list_protectable_containers(self, vault: VaultId) -> list[ProtectableContainer]: ...

    def list_registered_containers(self, vault: VaultId) -> Listing[Container]: ...

    def get_container(self, container: ContainerId) -> Container | None: ...

    def list_protectable_items(self, vault: VaultId) -> Listing[ProtectableItem]: ...

    def list_protection_intents(
        self, vault: VaultId, *, item_name: str, item_type: str, container: ContainerId
    ) -> list[ProtectionIntent]: ...

    def list_workload_items(self, container: ContainerId, item_type: str) -> list[WorkloadItem]: ...

    def list_protected_items(self, vault: VaultId) -> Listing[ProtectedItem]: ...

    def get_protected_item(self, item: ProtectedItemId) -> ProtectedItem | None: ...

    def list_recovery_points(
        self, item: ProtectedItemId, *, query_type: str | None = None, extended_info: bool = False
    ) -> list[RecoveryPoint]: ...

    def get_recovery_point(self, recovery_point: RecoveryPointId) -> RecoveryPoint | None: ...

    def get_operation_status(self, url: str, *, vault: VaultId) -> OperationStatus: ...

    def get_operation_result(self, url: str, *, vault: VaultId) -> OperationResult: ...

    def get_job(self, vault: VaultId, job_id: str) -> Job | None: ...

    def list_jobs(
        self,
        vault: VaultId,
        *,
        start: datetime,
        end: datetime | None = None,
        operation: str | None = None,
        status: str | None = None,
        counted: Callable[[int], None] | None = None,
        kept: Callable[[Job], bool] = ...,
    ) -> list[Job]: ...


class Mutations(Protocol):
    """Calls that change something. Each carries the client request id by which its job is recognised."""

    @property
    def run_commands(self) -> RunCommandMutations: ...

    def create_vault(
        self,
        vault: VaultId,
        *,
        location: str,
        redundancy: str,
        tags: Mapping[str, str],
        client_request_id: str,
    ) -> StartedOperation | Vault: ...

    def create_policy(
        self, vault: VaultId, name: str, properties: dict[str, Any], *, client_request_id: str
    ) -> StartedOperation | Policy: ...

    def refresh_containers(self, vault: VaultId, *, client_request_id: str) -> StartedOperation: ...

    def register_container(
        self, vault: VaultId, protectable: ProtectableContainer, *, client_request_id: str
    ) -> StartedOperation: ...

    def inquire_container(self, container: ContainerId, *, client_request_id: str) -> StartedOperation: ...

    def enable_protection(
        self, item: ProtectedItemId, policy_id: str, *, client_request_id: str
    ) -> StartedOperation: ...

    def undelete(self, item: ProtectedItemId, *, client_request_id: str) -> StartedOperation: ...

    def put_protection_intent(
        self, vault: VaultId, name: str, *, item_id: str, policy_id: str, client_request_id: str
    ) -> ProtectionIntent: ...

    def trigger_backup(
        self,
        item: ProtectedItemId,
        *,
        backup_type: str,
        compression: bool | None,
        expiry: datetime | None,
        client_request_id: str,
    ) -> StartedOperation: ...

    def trigger_restore(
        self, recovery_point: RecoveryPointId, properties: dict[str, Any], *, client_request_id: str
    ) -> StartedOperation: ...
