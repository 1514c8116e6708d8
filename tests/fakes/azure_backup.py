"""Azure Backup in memory: an estate that a test sets up, and every call that was made of it.

Reads answer from the estate. Calls that change something are written down and change nothing: a test sets up the estate
as it is to be found afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from local.stepped_clock import SteppedClock
from shared.arm.budget import RequestBudget
from shared.arm.ids import ContainerId, ProtectedItemId, RecoveryPointId, VaultId, VirtualMachineId
from shared.azure_backup.calls import Mutations, Reads
from shared.azure_backup.listings import Listing, Unusable
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
from shared.run_commands.models import RunCommand
from shared.run_commands.operations import RunCommandMutations, RunCommandReads

#: What a call that changes something answers, unless a test sets another answer.
ACCEPTED: Final = StartedOperation(status=202)


class Call(NamedTuple):
    """A call that was made, by the name of its method, with its arguments."""

    name: str
    arguments: dict[str, Any]


class Calls(list[Call]):
    """The calls that were made, and the errors that are to be raised."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: dict[str, Exception] = {}

    def make(self, call: str, /, **arguments: Any) -> None:
        """Write a call down. Raises the error that is set for its name."""
        self.append(Call(call, arguments))
        if call in self.errors:
            raise self.errors[call]

    @property
    def names(self) -> list[str]:
        """The names of all calls, in their order."""
        return [call.name for call in self]

    def of(self, name: str) -> list[dict[str, Any]]:
        """The arguments of each call of that name."""
        return [call.arguments for call in self if call.name == name]


@dataclass(kw_only=True)
class FakeRunCommands:
    """The run commands of a VM, whichever is asked."""

    calls: Calls
    commands: list[RunCommand] = field(default_factory=list)
    #: what a single read shows, where the list leaves the instance view out
    viewed: dict[str, RunCommand | None] = field(default_factory=dict)

    def list_all(self, vm: VirtualMachineId) -> list[RunCommand]:
        self.calls.make("list_run_commands", vm=vm)
        return [*self.commands]

    def get(self, vm: VirtualMachineId, name: str) -> RunCommand | None:
        self.calls.make("get_run_command", vm=vm, name=name)
        return self.viewed.get(name)

    def put(
        self,
        vm: VirtualMachineId,
        name: str,
        *,
        location: str,
        script: str,
        parameters: Mapping[str, str],
        timeout: timedelta,
        client_request_id: str,
    ) -> None:
        self.calls.make(
            "put_run_command",
            vm=vm,
            name=name,
            location=location,
            script=script,
            parameters=parameters,
            timeout=timeout,
            client_request_id=client_request_id,
        )

    def delete(self, vm: VirtualMachineId, name: str, *, client_request_id: str) -> None:
        self.calls.make("delete_run_command", vm=vm, name=name, client_request_id=client_request_id)


@dataclass(kw_only=True)
class FakeAzureBackup:
    """Azure Backup with one vault's estate, whichever vault is asked."""

    vaults: Sequence[Vault] = ()
    resource_guard: ResourceGuardProxy | None = None
    sql_virtual_machines: Sequence[VirtualMachineId] = ()
    policies: Sequence[Policy] = ()
    protectable_containers: Sequence[ProtectableContainer] = ()
    containers: Sequence[Container] = ()
    protectable_items: Sequence[ProtectableItem] = ()
    protection_intents: Sequence[ProtectionIntent] = ()
    workload_items: Sequence[WorkloadItem] = ()
    protected_items: Sequence[ProtectedItem] = ()
    #: what single reads show, where it is not what the list shows
    detailed_protected_items: Sequence[ProtectedItem] | None = None
    #: what is listed besides and cannot be used, by the name of the call that lists it
    unusable: Mapping[str, Sequence[Unusable]] = field(default_factory=dict)
    recovery_points: Sequence[RecoveryPoint] = ()
    #: those with their files, which a list shows only where it is asked for them
    detailed_recovery_points: Sequence[RecoveryPoint] = ()
    jobs: Sequence[Job] = ()
    #: how many pages a list of jobs takes
    pages_of_jobs: int = 1
    #: jobs with their details, which lists leave out
    detailed_jobs: Sequence[Job] = ()
    operation_status: OperationStatus | None = None
    operation_result: OperationResult | None = None
    #: what calls that change something answer, by their names
    answers: dict[str, Any] = field(default_factory=dict)
    budget: RequestBudget = field(
        default_factory=lambda: RequestBudget(SteppedClock(datetime(2026, 1, 5, tzinfo=UTC)))
    )
    calls: Calls = field(default_factory=Calls)
    run_commands: FakeRunCommands = field(init=False)

    def __post_init__(self) -> None:
        self.run_commands = FakeRunCommands(calls=self.calls)

    def _listed(self, call: str, /, entries: Sequence[Any], **arguments: Any) -> Listing[Any]:
        self.calls.make(call, **arguments)
        return Listing([*entries], [*self.unusable.get(call, ())])

    def _changed(self, call: str, /, **arguments: Any) -> Any:
        self.calls.make(call, **arguments)
        return self.answers.get(call, ACCEPTED)

    # -- reads

    def get_vault(self, vault: VaultId) -> Vault | None:
        self.calls.make("get_vault", vault=vault)
        return next((known for known in self.vaults if known.id == vault), None)

    def list_vaults(self, subscription_id: str) -> Listing[Vault]:
        return self._listed("list_vaults", self.vaults, subscription_id=subscription_id)

    def get_resource_guard(self, vault: VaultId) -> ResourceGuardProxy | None:
        self.calls.make("get_resource_guard", vault=vault)
        return self.resource_guard

    def list_sql_virtual_machines(self, subscription_id: str) -> Listing[VirtualMachineId]:
        return self._listed(
            "list_sql_virtual_machines", self.sql_virtual_machines, subscription_id=subscription_id
        )

    def list_policies(self, vault: VaultId) -> list[Policy]:
        self.calls.make("list_policies", vault=vault)
        return [*self.policies]

    def list_protectable_containers(self, vault: VaultId) -> list[ProtectableContainer]:
        self.calls.make("list_protectable_containers", vault=vault)
        return [*self.protectable_containers]

    def list_registered_containers(self, vault: VaultId) -> Listing[Container]:
        return self._listed("list_registered_containers", self.containers, vault=vault)

    def get_container(self, container: ContainerId) -> Container | None:
        self.calls.make("get_container", container=container)
        return next((known for known in self.containers if known.id == container), None)

    def list_protectable_items(self, vault: VaultId) -> Listing[ProtectableItem]:
        return self._listed("list_protectable_items", self.protectable_items, vault=vault)

    def list_protection_intents(
        self, vault: VaultId, *, item_name: str, item_type: str, container: ContainerId
    ) -> list[ProtectionIntent]:
        self.calls.make(
            "list_protection_intents",
            vault=vault,
            item_name=item_name,
            item_type=item_type,
            container=container,
        )
        return [*self.protection_intents]

    def list_workload_items(self, container: ContainerId, item_type: str) -> list[WorkloadItem]:
        self.calls.make("list_workload_items", container=container, item_type=item_type)
        return [item for item in self.workload_items if item.item_type == item_type]

    def list_protected_items(self, vault: VaultId) -> Listing[ProtectedItem]:
        return self._listed("list_protected_items", self.protected_items, vault=vault)

    def get_protected_item(self, item: ProtectedItemId) -> ProtectedItem | None:
        self.calls.make("get_protected_item", item=item)
        detailed = self.detailed_protected_items
        items = self.protected_items if detailed is None else detailed
        return next((known for known in items if known.id == item), None)

    def list_recovery_points(
        self, item: ProtectedItemId, *, query_type: str | None = None, extended_info: bool = False
    ) -> list[RecoveryPoint]:
        self.calls.make("list_recovery_points", item=item, query_type=query_type, extended_info=extended_info)
        if not extended_info:
            return [*self.recovery_points]
        is_log = {"Log": True, "FullAndDifferential": False}
        return [
            point
            for point in self.detailed_recovery_points or self.recovery_points
            if query_type is None or point.is_log is is_log[query_type]
        ]

    def get_recovery_point(self, recovery_point: RecoveryPointId) -> RecoveryPoint | None:
        self.calls.make("get_recovery_point", recovery_point=recovery_point)
        every = (*self.detailed_recovery_points, *self.recovery_points)
        return next((known for known in every if known.id == recovery_point), None)

    def get_operation_status(self, url: str, *, vault: VaultId) -> OperationStatus:
        self.calls.make("get_operation_status", url=url, vault=vault)
        assert self.operation_status is not None, "no status is to be asked for"
        return self.operation_status

    def get_operation_result(self, url: str, *, vault: VaultId) -> OperationResult:
        self.calls.make("get_operation_result", url=url, vault=vault)
        assert self.operation_result is not None, "no result is to be asked for"
        return self.operation_result

    def get_job(self, vault: VaultId, job_id: str) -> Job | None:
        self.calls.make("get_job", vault=vault, job_id=job_id)
        return next((job for job in (*self.detailed_jobs, *self.jobs) if job.id == job_id), None)

    def list_jobs(
        self,
        vault: VaultId,
        *,
        start: datetime,
        end: datetime | None = None,
        operation: str | None = None,
        status: str | None = None,
        counted: Callable[[int], None] | None = None,
        kept: Callable[[Job], bool] = lambda _job: True,
    ) -> list[Job]:
        self.calls.make("list_jobs", vault=vault, start=start, end=end, operation=operation, status=status)
        if counted is not None:
            counted(self.pages_of_jobs)
        return [
            job
            for job in self.jobs
            if (job.start_time is None or start <= job.start_time)
            and (job.start_time is None or end is None or job.start_time < end)
            and (operation is None or job.operation.startswith(operation))
            and status in (None, job.raw_status)
            and kept(job)
        ]

    # -- calls that change something

    def create_vault(
        self,
        vault: VaultId,
        *,
        location: str,
        redundancy: str,
        tags: Mapping[str, str],
        client_request_id: str,
    ) -> StartedOperation | Vault:
        made: StartedOperation | Vault = self._changed(
            "create_vault",
            vault=vault,
            location=location,
            redundancy=redundancy,
            tags=tags,
            client_request_id=client_request_id,
        )
        return made

    def create_policy(
        self, vault: VaultId, name: str, properties: dict[str, Any], *, client_request_id: str
    ) -> StartedOperation | Policy:
        made: StartedOperation | Policy = self._changed(
            "create_policy",
            vault=vault,
            name=name,
            properties=properties,
            client_request_id=client_request_id,
        )
        return made

    def refresh_containers(self, vault: VaultId, *, client_request_id: str) -> StartedOperation:
        return self._started("refresh_containers", vault=vault, client_request_id=client_request_id)

    def register_container(
        self, vault: VaultId, protectable: ProtectableContainer, *, client_request_id: str
    ) -> StartedOperation:
        return self._started(
            "register_container", vault=vault, protectable=protectable, client_request_id=client_request_id
        )

    def inquire_container(self, container: ContainerId, *, client_request_id: str) -> StartedOperation:
        return self._started("inquire_container", container=container, client_request_id=client_request_id)

    def enable_protection(
        self, item: ProtectedItemId, policy_id: str, *, client_request_id: str
    ) -> StartedOperation:
        return self._started(
            "enable_protection", item=item, policy_id=policy_id, client_request_id=client_request_id
        )

    def undelete(self, item: ProtectedItemId, *, client_request_id: str) -> StartedOperation:
        return self._started("undelete", item=item, client_request_id=client_request_id)

    def put_protection_intent(
        self, vault: VaultId, name: str, *, item_id: str, policy_id: str, client_request_id: str
    ) -> ProtectionIntent:
        self.calls.make(
            "put_protection_intent",
            vault=vault,
            name=name,
            item_id=item_id,
            policy_id=policy_id,
            client_request_id=client_request_id,
        )
        return ProtectionIntent(name=name)

    def trigger_backup(
        self,
        item: ProtectedItemId,
        *,
        backup_type: str,
        compression: bool | None,
        expiry: datetime | None,
        client_request_id: str,
    ) -> StartedOperation:
        return self._started(
            "trigger_backup",
            item=item,
            backup_type=backup_type,
            compression=compression,
            expiry=expiry,
            client_request_id=client_request_id,
        )

    def trigger_restore(
        self, recovery_point: RecoveryPointId, properties: dict[str, Any], *, client_request_id: str
    ) -> StartedOperation:
        return self._started(
            "trigger_restore",
            recovery_point=recovery_point,
            properties=properties,
            client_request_id=client_request_id,
        )

    def _started(self, call: str, /, **arguments: Any) -> StartedOperation:
        started: StartedOperation = self._changed(call, **arguments)
        return started


def _implements(
    azure: FakeAzureBackup, run_commands: FakeRunCommands
) -> tuple[Reads, Mutations, RunCommandReads, RunCommandMutations]:
    """For the type checker: the fakes are what steps and the engine take."""
    return azure, azure, run_commands, run_commands
