"""The world the handlers act on: estate, time, ids, and what it takes to start jobs and operations."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from typing import Any, TypeVar
from urllib.parse import quote

from local.simulator.calls import Answer, Call, Effect, to_json
from local.simulator.course import Course
from local.simulator.errors import (
    JobError,
    ServiceError,
    arm,
    container_not_found,
    invalid_input,
    item_not_found,
)
from local.simulator.estate import (
    WRITTEN,
    AvailabilityGroup,
    Container,
    Database,
    DeletedVault,
    Inquiry,
    Instance,
    Intent,
    LogChain,
    Policy,
    Principal,
    ProtectedItem,
    RecoveryPoint,
    RunCommand,
    Vault,
    VirtualMachine,
    WholeInstance,
)
from local.simulator.faults import Fault
from local.simulator.identifiers import Identifiers, UrlSigner
from local.simulator.jobs import Job
from local.simulator.naming import GroupName, VmName, container_key, encoded, encoded_segment, item_key
from local.simulator.operations import Operation
from local.simulator.policies import default_vm_policies, scenario_policy
from local.simulator.resource_guards import ALWAYS, EVERY_REQUEST, ResourceGuard
from local.simulator.scenario import (
    AvailabilityGroupScenario,
    DatabaseScenario,
    InstanceScenario,
    PolicyScenario,
    Scenario,
    VaultScenario,
    VirtualMachineScenario,
)
from local.simulator.service_version import ServiceVersion
from local.simulator.timing import Agenda, Durations, SimulatedTime, ticks

Entry = TypeVar("Entry")
DISCOVERY = timedelta(hours=8)
"""How often the service looks for new databases of an auto-protected instance (doc)."""
SCHEDULED = ("Full", "Differential")
"""The kinds of backup that a policy takes as jobs at set times."""
_JOBS_KEPT = timedelta(days=30)
_TOLD_BY_JOBS = timedelta(days=6)
"""Of a history of a week the first backup is at least so old."""
POLL_VERSION_OF_CONTAINERS = "2019-05-13-preview"
_SAFE_IN_PATH = "/;:@!$'()*+,=~-._"


@dataclass(frozen=True)
class IssuedToken:
    """A token of the token endpoint: when it expires, by the machine's clock, and whose it is."""

    expires: float
    principal: Principal | None = None


class World:
    """State and the means to change it. Not thread-safe: the simulator holds one lock around every call."""

    def __init__(self, scenario: Scenario, time: SimulatedTime) -> None:
        self.scenario = scenario
        self.time = time
        self.agenda = Agenda(time.now())
        self.ids = Identifiers(scenario.seed)
        self.signer = UrlSigner(scenario.seed)
        self.sequence = count(1)
        lengths = scenario.durations.model_dump(by_alias=True)
        self.durations = Durations(
            lengths,
            random.Random(f"durations {scenario.seed}"),
            random.Random(f"recorded durations {scenario.seed}"),
        )
        self.machines: dict[str, VirtualMachine] = {}
        self.vaults: dict[str, Vault] = {}
        self.deleted_vaults: list[DeletedVault] = []
        self.vault_operations: dict[str, Operation] = {}
        """Those of vaults as a whole, which outlive them."""
        self.resource_groups: dict[str, str] = {}
        self.groups: list[AvailabilityGroup] = []
        self.principals: dict[str, Principal] = {}
        """By lower-cased client id; empty where any client gets a token."""
        self.tokens: dict[str, IssuedToken] = {}
        self.graph_queries: list[datetime] = []
        """When Resource Graph was asked lately."""
        self.compute_operations: dict[str, tuple[datetime, datetime]] = {}
        """When the operations of Microsoft.Compute began and end, by id."""
        self._past_runs: dict[tuple[int, datetime], list[tuple[datetime, str]]] = {}
        self.configuring: set[tuple[str, str, tuple[str, str]]] = set()
        """Items whose protection is being changed: (vault, container, item)."""
        self.course = Course(self)
        self._build()

    # ---- construction

    def _build(self) -> None:
        scenario = self.scenario
        for machine in scenario.virtual_machines:
            self._add_machine(machine)
        for vault in scenario.vaults:
            self._add_vault(vault)
        for group in scenario.availability_groups:
            self.groups.append(self._group(group))
        for principal in scenario.service_principals:
            self.principals[principal.client_id.lower()] = Principal(principal, self.ids.guid())
        for machine in scenario.virtual_machines:
            if machine.registered_to is not None:
                self._register(machine, machine.registered_to)
        for group, found in zip(scenario.availability_groups, self.groups, strict=True):
            self._protect_group(group, found)
        self._give_jobs()
        for machine in scenario.virtual_machines:
            for instance in machine.instances:
                if instance.auto_protected_by is not None:
                    self._intend(machine, instance)
        self.course.begin()

    def _add_machine(self, entry: VirtualMachineScenario) -> None:
        name = VmName(entry.resource_group, entry.name)
        self.resource_groups.setdefault(entry.resource_group.lower(), entry.resource_group)
        self.machines[name.key] = VirtualMachine(
            name,
            entry.location or self.scenario.location,
            entry.sysadmin,
            entry.running and not entry.deleted,
            {instance.name.lower(): _instance(instance) for instance in entry.instances},
            self.ids.guid(),
            entry.deleted,
            domain=entry.domain,
            sql_iaas_extension=entry.sql_iaas_extension,
            jobs_name_instance=entry.job_names == "full",
            agent_ready=entry.agent_ready,
            free_mb=entry.free_mb,
            run_commands={
                command.lower(): RunCommand(
                    command, "exit 0", [], 0, True, "Succeeded", "Succeeded", start=self.now, end=self.now
                )
                for command in entry.run_commands
            },
        )

    def _add_vault(self, entry: VaultScenario) -> None:
        scenario = self.scenario
        self.resource_groups.setdefault(entry.resource_group.lower(), entry.resource_group)
        vault = self.new_vault(
            entry.resource_group, entry.name, entry.location or scenario.location, entry.policies
        )
        if entry.soft_delete is not None:
            states = {"alwaysOn": "AlwaysON", True: "Enabled", False: "Disabled"}
            vault.soft_delete = states[entry.soft_delete]
        vault.soft_delete_days = entry.soft_delete_retention_days
        if entry.resource_guard:
            guard = entry.resource_guard
            guarded = EVERY_REQUEST if isinstance(guard, bool) else ALWAYS.union(guard)
            vault.resource_guard = ResourceGuard(
                f"/subscriptions/{scenario.subscription_id}/resourcegroups/{entry.resource_group}"
                f"/providers/Microsoft.DataProtection/resourceGuards/{entry.name}-guard",
                guarded,
                scenario.start_time,
            )
        if entry.immutability != "Disabled":
            vault.set_immutability(entry.immutability)

    def _register(self, machine: VirtualMachineScenario, vault_name: str) -> None:
        """Register a VM, and protect what the scenario says is protected on it."""
        vault = next(v for v in self.vaults.values() if v.name.lower() == vault_name.lower())
        container = self.register(vault, self.machines[VmName(machine.resource_group, machine.name).key])
        for instance in machine.instances:
            if instance.protected_by is not None:
                self.protect_instance(container, instance.name, vault.policies[instance.protected_by.lower()])
            for database in instance.databases:
                if database.protected_by is None:
                    continue
                own = database.item_casing == "own"
                item = self.protect(
                    container,
                    instance.name,
                    database.name,
                    vault.policies[database.protected_by.lower()],
                    container_name=container.name.container if own else "",
                    name=f"SQLDataBase;{instance.name};{database.name}" if own else "",
                )
                self.give_history(item, database)

    def _protect_group(self, entry: AvailabilityGroupScenario, group: AvailabilityGroup) -> None:
        registered = group.primary.registered_with
        for database in entry.databases:
            if database.protected_by is not None and registered is not None:
                policy = registered.policies[database.protected_by.lower()]
                container = registered.containers[group.name.key]
                item = self.protect(container, group.name.name, database.name, policy)
                self.give_history(item, database)

    def _intend(self, entry: VirtualMachineScenario, instance: InstanceScenario) -> None:
        machine = self.machine(entry.resource_group, entry.name)
        vault = machine.registered_with
        assert vault is not None and instance.auto_protected_by is not None
        container = vault.containers[machine.name.key]
        policy = vault.policies[instance.auto_protected_by.lower()]
        self.add_intent(vault, Intent(self.ids.guid(), container, instance.name, policy, next(self.sequence)))

    def _give_jobs(self) -> None:
        """The jobs that took the recovery points of the last month, which is as far as jobs reach.

        A history of less than a week is of recovery points alone: whoever asks for one counts the jobs that follow.
        """
        taken = [
            (point.time, point.kind, item)
            for vault in self.vaults.values()
            for container in vault.containers.values()
            for item in container.items.values()
            if item.recovery_points and self.now - item.recovery_points[0].time >= _TOLD_BY_JOBS
            for point in item.recovery_points
            if self.now - point.time <= _JOBS_KEPT
        ]
        for time, kind, item in sorted(taken, key=lambda each: each[0]):
            database = self.database(item)
            share = {"Differential": 0.1}.get(kind, 1.0)
            size = database.size_mb * share if database is not None else 20.0
            start, end = time - timedelta(seconds=44), time + WRITTEN
            job = Job(
                self.ids.past_guid(),
                next(self.sequence),
                "Backup",
                item.database,
                item.name,
                start,
                end,
                self.ids.past_guid(),
                user_triggered=False,
                named=item.job_name,
                task="Transfer data to vault",
                shown_at_end=f"Backup ({kind})",
                cancellable=True,
                status="Completed",
                end=end,
                property_bag={"Data Transferred (in MB)": f"{size + 0.0845:.4f}"},
            )
            item.container.vault.jobs[job.id] = job

    def _group(self, entry: AvailabilityGroupScenario) -> AvailabilityGroup:
        nodes = []
        for name in entry.virtual_machines:
            machine = self.scenario.machine_named(name)
            nodes.append(self.machines[VmName(machine.resource_group, machine.name).key])
        primary = next(node for node in nodes if node.name.name.lower() == entry.primary_machine.lower())
        instance = primary.instances[entry.instance.lower()]
        group = AvailabilityGroup(
            GroupName(entry.name, self.ids.guid()), nodes, primary, instance.name, entry.basic, {}
        )
        for scenario in entry.databases:
            database = _database(scenario, instance.data_directory, instance.log_directory)
            database.group = group
            group.databases[database.name.lower()] = database
            for node in nodes:
                node.instances[entry.instance.lower()].databases[database.name.lower()] = database
        return group

    def new_vault(
        self,
        group: str,
        name: str,
        location: str,
        policies: Iterable[str | PolicyScenario] = ("HourlyLogBackup",),
    ) -> Vault:
        """Create a vault with its policies: the SQL ones given, and the VM ones every vault has."""
        soft_delete = "AlwaysON" if self.service.soft_delete_always_on else "Enabled"
        vault = Vault(group, name, location, self.now, soft_delete, {"name": "RS0", "tier": "Standard"})
        self.vaults[vault.key] = vault
        for entry in policies:
            title, properties = scenario_policy(entry, self.now)
            vault.policies[title.lower()] = Policy(title, properties, next(self.sequence))
        for title, properties in default_vm_policies(self.now):
            vault.policies.setdefault(title.lower(), Policy(title, properties, next(self.sequence)))
        return vault

    @property
    def now(self) -> datetime:
        return self.agenda.now

    @property
    def service(self) -> ServiceVersion:
        """Which year's service it is."""
        return self.scenario.service

    # ---- finding

    def vault(self, call: Call) -> Vault:
        """The vault named in the URL. Raises ServiceError (404) as ARM does."""
        self.subscription(call)
        group, name = call.parameters["group"], call.parameters["vault"]
        if group.lower() not in self.resource_groups:
            raise arm(404, "ResourceGroupNotFound", f"Resource group '{group}' could not be found.")
        vault = self.vaults.get(f"{group}/{name}".lower())
        if vault is None:
            raise arm(
                404,
                "ResourceNotFound",
                f"The Resource 'Microsoft.RecoveryServices/vaults/{name}' under resource group '{group}' was not "
                "found. For more details please go to https://aka.ms/ARMResourceNotFoundFix",
            )
        fabric = call.parameters.get("fabric")
        if fabric is not None and fabric.lower() != "azure":
            raise ServiceError(400, "CloudInvalidInput", "Invalid input error")
        return vault

    def subscription(self, call: Call) -> None:
        """Check the subscription in the URL. Raises ServiceError (404) for another than the scenario's."""
        given = call.parameters["subscription"]
        if given.lower() != self.scenario.subscription_id.lower():
            raise arm(404, "SubscriptionNotFound", f"The subscription '{given}' could not be found.")

    def container(self, call: Call, vault: Vault) -> Container:
        """The registered container named in the URL. Raises ServiceError (404)."""
        name = call.parameters["container"]
        container = vault.containers.get(container_key(name) or "")
        if container is None:
            raise container_not_found(name)
        return container

    def item(self, call: Call, vault: Vault) -> ProtectedItem:
        """The protected item named in the URL. Raises ServiceError (404)."""
        of = container_key(call.parameters["container"]) or ""
        # An unregistered machine's items stay for as long as their backups do.
        container = vault.containers.get(of) or vault.deleted_containers.get(of)
        key = item_key(call.parameters["item"])
        item = container.items.get(key) if container is not None and key is not None else None
        if item is None:
            raise item_not_found()
        return item

    def machine(self, group: str, name: str) -> VirtualMachine:
        """The virtual machine of that name in that resource group. Raises KeyError."""
        return self.machines[VmName(group, name).key]

    def new_database(self, entry: DatabaseScenario, instance: Instance) -> Database:
        """A database as a scenario describes it, with its files where the instance puts them."""
        return _database(entry, instance.data_directory, instance.log_directory)

    def database(self, item: ProtectedItem) -> Database | None:
        """The live database behind a protected item, None when it was dropped."""
        return item.container.database(item.instance, item.database)

    def unreachable(self, container: Container) -> JobError | None:
        """Why no job can be done there: the machine is down, or the primary is not this vault's."""
        if container.group is not None and container.machine.registered_with is not container.vault:
            return JobError(
                510055,
                "FabricSvcBackupPreferenceCheckFailedUserError",
                "Backup preference for SQL Always On Availability Group cannot be met as some nodes of the "
                "Availability Group are not registered.",
                ["Ensure that all the nodes of the Availability Group are registered and healthy."],
            )
        if not container.machine.running:
            return machine_down(container.machine)
        return None

    # ---- ids as answers spell them

    def item_path(self, call: Call, item: ProtectedItem) -> str:
        """The protected item's id as answers to this call spell it."""
        container = item.container
        return (
            f"{call.vault_id(container.vault)}/backupFabrics/Azure/protectionContainers/"
            f"{encoded(item.container_name)}/protectedItems/{encoded_segment(item.name)}"
        )

    def canonical_vault_id(self, vault: Vault) -> str:
        """The vault's ARM id, however a request spelt it."""
        return (
            f"/subscriptions/{self.scenario.subscription_id}/resourceGroups/{vault.resource_group}"
            f"/providers/Microsoft.RecoveryServices/vaults/{vault.name}"
        )

    def canonical_item_id(self, item: ProtectedItem) -> str:
        """The protected item's ARM id, however a request spelt it."""
        container = item.container
        return (
            f"{self.canonical_vault_id(container.vault)}/backupFabrics/Azure/protectionContainers/"
            f"{item.container_name}/protectedItems/{item.name}"
        )

    # ---- operations and jobs

    def start_operation(
        self,
        call: Call,
        vault: Vault,
        *,
        status_at: str,
        result_at: str,
        status_version: str | None = None,
        length: timedelta | None = None,
        job: Job | None = None,
        complete: Callable[[], Any] | None = None,
        **shape: Any,
    ) -> Operation:
        """Start an operation whose headers point at `{status_at}/{id}` and `{result_at}/{id}`.

        After `length` (None: at once) `complete` runs and the operation has Succeeded; a ServiceError from it
        makes it Failed.
        """
        operation_id = (
            job.id if job is not None and shape.pop("job_id_is_operation_id", False) else self.ids.guid()
        )
        operation = Operation(
            operation_id,
            f"{status_at}/{operation_id}",
            f"{result_at}/{operation_id}",
            status_version or call.api_version,
            call.api_version,
            self.now,
            job.id if job is not None else None,
            **shape,
        )
        vault.operations[operation_id] = operation
        if "operationNeverEnds" in call.faults:
            return operation
        end = partial(self._end_operation, operation, call.faults.get("operationFailure"), complete)
        self._after(length or timedelta(), end)
        return operation

    def _after(self, length: timedelta, end: Callable[[], None]) -> None:
        if length <= timedelta():
            end()
        else:
            self.agenda.at(self.now + length, end)

    def _end_operation(
        self, operation: Operation, failure: Fault | None, complete: Callable[[], Any] | None
    ) -> None:
        if failure is not None:
            code = failure.code or "CloudInternalError"
            operation.job_id = None
            message = failure.message or "Microsoft Azure Backup encountered an internal error."
            operation.finish(self.now, (code, message), failure.status or 500)
            return
        try:
            if complete is not None:
                complete()
        except ServiceError as error:
            operation.finish(self.now, (error.code, error.message), error.status)
        else:
            operation.finish(self.now)

    def accepted(self, call: Call, operation: Operation, effect: Effect | None = None) -> Answer:
        """The 202 that starts an operation or says that it still runs."""
        return Answer(
            202, {} if operation.body_while_running else None, self.poll_headers(call, operation), effect
        )

    def poll_headers(self, call: Call, operation: Operation) -> dict[str, str]:
        """Location, Azure-AsyncOperation and Retry-After of an operation."""
        query = f"api-version={operation.result_version}"
        if operation.malformed_location:
            # Two question marks until 2023; since then the second is encoded, with what follows it.
            query = (
                f"fabricName=Azure{quote('?' + query, safe='-').replace('%3F', '%3f').replace('%3D', '%3d')}"
                if self.service.new_front_end
                else f"fabricName=Azure?{query}"
            )
        return {
            "Location": self.operation_url(call, operation.result_path, query),
            "Azure-AsyncOperation": self.operation_url(
                call, operation.status_path, f"api-version={operation.status_version}"
            ),
            "Retry-After": str(self.scenario.retry_after),
        }

    def operation_url(self, call: Call, path: str, query: str) -> str:
        """An absolute URL, with the signature that Resource Manager appends since 2024."""
        signature = self.signer.sign(path, ticks(self.now)) if self.service.new_front_end else ""
        return f"{call.request.origin}{quote(path, safe=_SAFE_IN_PATH)}?{query}{signature}"

    def start_job(
        self,
        call: Call | None,
        vault: Vault,
        operation: str,
        *,
        entity: str,
        item: ProtectedItem | None,
        length: timedelta,
        complete: Callable[[Job], str | None],
        always: Callable[[Job], object] | None = None,
        **shape: Any,
    ) -> Job:
        """Start a job that runs `complete` after `length`, and before it `always`, whatever the outcome.

        `complete` may return a final status other than Completed; a JobError from it makes the job Failed.
        The faults of `call` decide the outcome before it does.
        """
        faults = call.faults if call is not None else {}
        activity = call.client_request_id if call is not None and self.scenario.echo_activity_id else None
        job = Job(
            self.ids.guid(),
            next(self.sequence),
            operation,
            entity,
            item.name if item is not None else "",
            self.now,
            self.now + length,
            activity or self.ids.guid(),
            **shape,
        )
        if job.task is not None:
            young = self.durations.young()
            job.young_until, job.typeless_while_young = self.now + young, self.durations.coin()
        vault.jobs[job.id] = job
        if (late := faults.get("jobListedLate")) is not None:
            job.listed = False
            self.agenda.at(self.now + late.listed_after, partial(setattr, job, "listed", True))

        def end() -> None:
            if not job.running or job.ending is None:
                return
            if always is not None:
                always(job)
            self._end_job(job, item, _status_at_the_end(job, faults, complete))

        job.ending = end
        if "jobNeverEnds" not in faults:
            self._after(length, end)
        return job

    def _end_job(self, job: Job, item: ProtectedItem | None, status: str) -> None:
        job.finish(status, self.now)
        if item is not None:
            if item.busy_with is job:
                item.busy_with = None
            if job.operation == "Backup" and status in ("Failed", "Cancelled"):
                self.note_failed_backup(item, job)
            if job.operation == "Restore" and status != "Cancelled":
                item.last_restore = job

    def note_failed_backup(self, item: ProtectedItem, job: Job) -> None:
        """What a failed backup leaves on the item."""
        error = job.errors[-1] if job.errors else None
        item.last_backup_time = self.now
        item.last_backup_status = "Unhealthy" if item.recovery_points else "IRPending"
        if error is not None:
            item.note_error(error.title, error.message, error.recommendations)

    # ---- containers and items

    def register(self, vault: Vault, machine: VirtualMachine) -> Container:
        """Register the machine with the vault and look what it holds."""
        machine.registered_with, machine.registering = vault, None
        key = machine.name.key
        container = vault.containers.get(key) or vault.deleted_containers.pop(key, None)
        if container is None:
            container = Container(vault, machine, self.now, next(self.sequence))
        container.updated = self.now
        vault.containers[key] = container
        vault.discovered.discard(key)
        self.inquire(container)
        return container

    def inquire(self, container: Container) -> None:
        """Look which instances, databases and availability groups the machine has, and remember it."""
        group = container.group
        if group is not None:
            if group.registered_nodes(container.vault):
                self._found_group(container, group)
            return
        machine = container.machine
        if not machine.instances:
            container.inquiry = Inquiry(
                validation_status="Failed",
                validation_code="UserErrorNoSQlInstancesOnMachine",
                validation_message="No SQL server instances were found on the machine.",
            )
        elif not machine.sysadmin:
            container.inquiry = Inquiry(
                validation_status="Failed",
                validation_code="UserErrorSQLNoSysadminMembership",
                validation_message="Azure Backup service requires sysadmin membership on the SQL instance.",
            )
        else:
            container.inquiry = Inquiry(
                found={
                    instance.name: [
                        database.name
                        for database in instance.databases.values()
                        if database.name.lower() != "tempdb"
                        and not database.restoring
                        and database.group is None
                        and not instance.failover_cluster
                    ]
                    for instance in machine.instances.values()
                }
            )
            for found in self.groups:
                if any(node is machine for node in found.nodes):
                    self._find_group(container.vault, found)
        self._auto_protect_found(container)

    def _find_group(self, vault: Vault, group: AvailabilityGroup) -> None:
        container = vault.containers.get(group.name.key)
        if container is None:
            container = Container(vault, group, self.now, next(self.sequence))
            vault.containers[group.name.key] = container
        self._found_group(container, group)

    def _found_group(self, container: Container, group: AvailabilityGroup) -> None:
        names = [] if group.basic else [database.name for database in group.databases.values()]
        container.inquiry = Inquiry(found={group.name.name: names})
        self._auto_protect_found(container)

    def forget_groups(self, vault: Vault) -> None:
        """Take the availability groups out of the lists that have no node left in the vault."""
        for container in list(vault.containers.values()):
            if container.group is not None and not container.group.registered_nodes(vault):
                container.inquiry = Inquiry()
                if not container.items:
                    del vault.containers[container.name.key]

    def _auto_protect_found(self, container: Container) -> None:
        for intent in list(container.vault.intents.values()):
            if intent.container is container:
                self.auto_protect(intent)

    def add_intent(self, vault: Vault, intent: Intent) -> None:
        """Auto-protect an instance: what is found now, and what the service finds every eight hours."""
        vault.intents[intent.name.lower()] = intent
        self.auto_protect(intent)
        self.agenda.at(self.now + DISCOVERY, partial(self._discover_again, vault, intent))

    def _discover_again(self, vault: Vault, intent: Intent) -> None:
        if vault.intents.get(intent.name.lower()) is not intent:
            return
        if intent.container.machine.running:
            self.inquire(intent.container)
        self.agenda.at(self.now + DISCOVERY, partial(self._discover_again, vault, intent))

    def auto_protect(self, intent: Intent) -> None:
        """Start a job for each database of the intent's instance that was found and is not protected yet."""
        container = intent.container
        for database in container.inquiry.found.get(intent.instance, []):
            key = (intent.instance.lower(), database.lower())
            mark = (container.vault.key, container.name.key, key)
            if key not in container.items and mark not in self.configuring:
                self.configuring.add(mark)
                self._auto_protect_database(intent, database, mark)

    def _auto_protect_database(
        self, intent: Intent, database: str, mark: tuple[str, str, tuple[str, str]]
    ) -> None:
        container = intent.container
        vault = container.vault

        def complete(_: Job) -> str | None:
            valid = intent in vault.intents.values() and vault.containers.get(container.name.key) is container
            if not valid:
                raise JobError(
                    510040,
                    "AutoProtectionCancelledOrNotValid",
                    "Auto-protection Intent was either removed or is no more valid.",
                    ["Enable auto-protection once again."],
                    cancelled=True,
                )
            if mark[2] not in container.items:
                self.protect(
                    container,
                    intent.instance,
                    database,
                    intent.policy,
                    container_name=container.name.container,
                    name=f"SQLDataBase;{intent.instance};{database}",
                )
            return None

        self.start_job(
            None,
            vault,
            "ConfigureBackup",
            entity=database,
            item=None,
            length=self.durations.draw("protect"),
            complete=complete,
            always=lambda _: self.configuring.discard(mark),
            user_triggered=False,
            property_bag={"Policy Name": intent.policy.name, **self.container_bag(container.name.container)},
        )

    def container_bag(self, container: str) -> dict[str, str]:
        """What a job that changes protection says of its container: its name without the type before it."""
        return {"ContainerUniqueName": container.partition(";")[2]} if self.service.container_of_jobs else {}

    def protect(
        self,
        container: Container,
        instance: str,
        database: str,
        policy: Policy,
        *,
        container_name: str = "",
        name: str = "",
    ) -> ProtectedItem:
        """Put a database under protection by the policy, from now on.

        `container_name` and `name` are how the item is spelt from now on; without them in lower case, as clients
        spell it that take the names of protectable items.
        """
        item = ProtectedItem(
            container,
            instance,
            database,
            self.ids.number(),
            next(self.sequence),
            policy,
            container_name=container_name,
            name=name,
        )
        container.items[item.key] = item
        self.schedule_backups(item)
        return item

    def protect_instance(self, container: Container, instance: str, policy: Policy) -> None:
        """Put an instance under protection as a whole, with every database that was found on it."""
        found = container.inquiry.found.get(instance, [])
        whole = WholeInstance(instance, policy, self.ids.number(), list(found))
        container.whole_instances[instance.lower()] = whole
        for database in found:
            self.protect(container, instance, database, policy)

    def set_policy(self, item: ProtectedItem, policy: Policy) -> None:
        """Protect an item that exists by that policy; one that was stopped is resumed."""
        resumed = item.stopped
        item.policy = policy
        if resumed:
            item.state = "Protected" if item.recovery_points else "IRPending"
        chain = item.open_chain
        if chain is not None:
            chain.end = chain.end_at(self.now)
            chain.interval, chain.base = policy.log_interval(), chain.end or chain.start
        self._apply_retention(item, policy)
        self.schedule_backups(item)

    def _apply_retention(self, item: ProtectedItem, policy: Policy) -> None:
        """Let the policy's retention hold for the points that a policy keeps, longer or shorter.

        What it keeps no longer is soft-deleted for as long as the vault says, and comes back once it is kept again
        (https://learn.microsoft.com/azure/backup/secure-by-default#soft-delete-of-recovery-points).
        """
        vault = item.container.vault
        softly = self.service.soft_delete_always_on and vault.soft_delete != "Disabled"
        for point in item.kept(self.now):
            if not point.rule or policy.sub_policy(point.kind) is None:
                continue
            kept_for, point.rule = retention_rule(policy, point.kind)
            point.expires = point.time + kept_for
            if point.expires > self.now:
                if point.purge_at is not None:
                    point.soft_deleted, point.purge_at = False, None
            elif softly and not point.soft_deleted:
                point.soft_deleted = True
                point.purge_at = self.now + timedelta(days=vault.soft_delete_days)

    def stop(self, item: ProtectedItem, state: str) -> None:
        """Stop protection and keep what there is."""
        item.state = state
        item.policy = item.policy if state == "BackupsSuspended" else None
        item.schedule_epoch += 1
        if item.open_chain is not None:
            item.open_chain.close(self.now)

    # ---- what the policy does on its own

    def schedule_backups(self, item: ProtectedItem) -> None:
        """Have the next scheduled full and differential backups taken at the policy's times."""
        item.schedule_epoch += 1
        epoch = item.schedule_epoch
        if not self.scenario.scheduled_backups or item.policy is None:
            return
        for kind in SCHEDULED:
            due = next_run(item.policy, kind, self.now)
            if due is not None:
                self.agenda.at(due, partial(self._scheduled_backup, item, kind, epoch))

    def _scheduled_backup(self, item: ProtectedItem, kind: str, epoch: int) -> None:
        if item.schedule_epoch != epoch or item.soft_deleted or item.stopped or item.policy is None:
            return
        database = self.database(item)
        vault = item.container.vault
        # Of a database that is gone the job fails.
        allowed = database is None or database.allows(kind)
        if kind == "Differential" and (item.full() is None or item.log_chain_broken):
            # The service heals by itself: what has nothing to build on becomes a full.
            kind = "Full"
        if allowed and item.busy_with is None:
            started = self.now

            def complete(job: Job) -> str | None:
                if (problem := self.unreachable(item.container)) is not None:
                    raise problem
                if (problem := self.course.failure(item, kind, started)) is not None:
                    raise problem
                return self.complete_backup(item, job, kind, started, None)

            job = self.start_job(
                None,
                vault,
                "Backup",
                entity=item.database,
                named=item.job_name,
                item=item,
                length=self.durations.draw("backup"),
                complete=complete,
                user_triggered=False,
                task="Transfer data to vault",
                shown=f"Backup ({kind})",
                shown_at_end=f"Backup ({kind})",
                cancellable=True,
            )
            if job.running:
                item.busy_with = job
        self.schedule_backups(item)

    def complete_backup(
        self, item: ProtectedItem, job: Job, kind: str, started: datetime, expires: datetime | None
    ) -> str | None:
        """What a successful backup of `kind` leaves: a recovery point or a longer log chain."""
        database = self.database(item)
        if database is None:
            raise self.database_is_gone(item)
        self.add_backup(item, database, kind, _moment_of_backup(started, self.now), expires)
        item.last_backup_time = self.now
        item.last_backup_status = "Healthy"
        item.last_error = None
        share = {"Differential": 0.1, "Log": 0.01}.get(kind, 1.0)
        job.property_bag["Data Transferred (in MB)"] = f"{database.size_mb * share + 0.0845:.4f}"
        return None

    def database_is_gone(self, item: ProtectedItem) -> JobError:
        """The database of an item is not there any more, or has another name."""
        return JobError(
            520003,
            "UserErrorSQLPODoesNotExist",
            f"The database {item.database} does not exist on instance {item.instance}.",
            ["Ensure that the database is online and run the discovery of databases again."],
        )

    def add_backup(
        self, item: ProtectedItem, database: Database, kind: str, time: datetime, expires: datetime | None
    ) -> None:
        """Record a backup taken at `time`: in whole seconds, but for the start of the log range that it begins."""
        taken, time = time, time.replace(microsecond=0)
        if kind == "Log":
            chain = item.open_chain
            if chain is not None:
                chain.end = max(time, chain.end_at(self.now) or time)
            return
        rule = ""
        if expires is None:
            kept, rule = retention_rule(item.policy, kind)
            expires = time + kept
        item.recovery_points.append(
            RecoveryPoint(
                self.ids.number(), time, kind, list(database.files), next(self.sequence), expires, rule
            )
        )
        if item.state == "IRPending":
            item.state = "Protected"
        if kind == "Full":
            item.log_chain_broken = False
        if kind == "Full" and item.open_chain is None and database.recovery_model != "Simple":
            interval = item.policy.log_interval() if item.policy is not None else None
            item.chains.append(LogChain(taken - timedelta(seconds=2), None, interval, time))
            self.course.chain_begins(item)

    def give_history(self, item: ProtectedItem, scenario: DatabaseScenario) -> None:
        """The recovery points that the policy would have made in the last days of its history."""
        days = scenario.history_days
        database = self.database(item)
        if database is None or item.policy is None or days <= 0:
            return
        for due, kind in self._past(item.policy, self.now - timedelta(days=days)):
            kept = retention(item.policy, kind)
            time = due + timedelta(seconds=44)
            builds_on_none = kind == "Differential" and item.full() is None
            if time + kept > self.now and database.allows(kind) and not builds_on_none:
                self.add_backup(item, database, kind, time, None)
        for point in item.recovery_points:
            age = self.now - point.time
            for limit, mark in (
                (scenario.archived_after_days, "archived"),
                (scenario.soft_deleted_after_days, "soft_deleted"),
                (scenario.vault_tier_deleted_after_days, "tier_deleted"),
            ):
                if limit is not None and age >= timedelta(days=limit):
                    setattr(point, mark, True)
            recent = scenario.threats_within_days
            point.threatened = recent is not None and age < timedelta(days=recent)
        if item.recovery_points:
            item.last_backup_time = item.recovery_points[-1].time + WRITTEN
            item.last_backup_status = "Healthy"

    def _past(self, policy: Policy, moment: datetime) -> list[tuple[datetime, str]]:
        """When the policy took which backups since a moment, the oldest first."""
        key = (id(policy), moment)
        if key not in self._past_runs:
            found: list[tuple[datetime, str]] = []
            for kind in SCHEDULED:
                due = next_run(policy, kind, moment)
                while due is not None and due + timedelta(minutes=5) <= self.now:
                    found.append((due, kind))
                    due = next_run(policy, kind, due)
            self._past_runs[key] = sorted(found)
        return self._past_runs[key]

    # ---- lists

    def page(
        self,
        call: Call,
        entries: Sequence[Entry],
        sequence: Callable[[Entry], int],
        render: Callable[[Entry], dict[str, Any] | bytes],
        *,
        newest_first: bool = False,
    ) -> Answer:
        """One page of a list that is sorted by `sequence`, with a nextLink where there is more.

        `render` may give an entry as JSON text already.
        """
        token = call.query.get("$skiptoken")
        first = 0

        def key(entry: Entry) -> int:
            return -sequence(entry) if newest_first else sequence(entry)

        if token is not None:
            if not token.isdigit():
                raise invalid_input("Parameter $skipToken in request is invalid.")
            last = int(token)
            first = bisect_right(entries, -last if newest_first else last, key=key)
        shown = entries[first : first + self.scenario.page_size]
        rendered = (entry if isinstance(entry, bytes) else to_json(entry) for entry in map(render, shown))
        body = b'{"value":[' + b",".join(rendered) + b"]"
        if len(entries) > first + len(shown):
            query = f"api-version={quote(call.api_version)}"
            if call.filter is not None:
                query += f"&%24filter={quote(call.filter, safe='')}"
            query += f"&%24skiptoken={sequence(shown[-1])}"
            link = f"{call.request.origin}{quote(call.path, safe=_SAFE_IN_PATH)}?{query}"
            body += b',"nextLink":' + to_json(link)
        return Answer(200, body + b"}")


def region_of(world: World, call: Call) -> str:
    """The region in the URL. Raises ServiceError (400) for one that nothing is in."""
    region = call.parameters["location"].replace(" ", "").lower()
    vaults = [*world.vaults.values(), *(entry.vault for entry in world.deleted_vaults)]
    known = {world.scenario.location.lower()} | {vault.location.lower() for vault in vaults}
    if region not in known | {machine.location.lower() for machine in world.machines.values()}:
        raise arm(
            400,
            "NoRegisteredProviderFound",
            f"No registered resource provider found for location '{call.parameters['location']}'.",
        )
    return region


def machine_down(machine: VirtualMachine) -> JobError:
    """The machine is shut down: nothing can be asked of it."""
    return JobError(
        510025,
        "VMNotInRunningStateUserError",
        f"SQL server VM {machine.name.name} is either shutdown and inaccessible to Azure Backup service.",
        ["Ensure that the SQL server VM is running."],
    )


_INTERNAL_ERROR_ADVICE = (
    "Wait for a few minutes and then try the operation again. "
    "If the issue persists, please contact Microsoft support."
)


def _status_at_the_end(job: Job, faults: Mapping[str, Fault], complete: Callable[[Job], str | None]) -> str:
    """What becomes of a job that is due, by the faults of its call or else by `complete`."""
    for name, status in (
        ("jobFailure", "Failed"),
        ("operationFailure", "Failed"),
        ("jobCancelled", "Cancelled"),
    ):
        if (fault := faults.get(name)) is not None:
            if status == "Failed" or fault.code is not None:
                job.errors.append(_injected_error(fault))
            job.dynamic_error = fault.dynamic_error_message
            return status
    try:
        final = complete(job)
    except JobError as error:
        job.errors.append(error)
        return "Cancelled" if error.cancelled else "Failed"
    if (fault := faults.get("jobWarning")) is not None:
        job.errors.append(_injected_error(fault))
        return "CompletedWithWarnings"
    return final or "Completed"


def _injected_error(fault: Any) -> JobError:
    return JobError(
        fault.error_code or 500001,
        fault.code or "CloudInternalError",
        fault.message or "Microsoft Azure Backup encountered an internal error.",
        list(fault.recommendations) or [_INTERNAL_ERROR_ADVICE],
    )


def _moment_of_backup(started: datetime, ended: datetime) -> datetime:
    # Recorded: a full of two minutes has its recovery point 20 seconds after its start.
    return started + min(timedelta(seconds=20), (ended - started) / 6)


# Logical names and files of https://learn.microsoft.com/sql/relational-databases/databases/system-databases, in the
# directory that recordings of 2024 have them in.
_SYSTEM_DIRECTORY = "C:\\Program Files\\Microsoft SQL Server\\MSSQL14.MSSQLSERVER\\MSSQL\\DATA\\"
_SYSTEM_FILES = {
    name: tuple((logical, f"{_SYSTEM_DIRECTORY}{file}") for logical, file in files)
    for name, files in {
        "master": (("master", "master.mdf"), ("mastlog", "mastlog.ldf")),
        "model": (("modeldev", "model.mdf"), ("modellog", "modellog.ldf")),
        "msdb": (("MSDBData", "MSDBData.mdf"), ("MSDBLog", "MSDBLog.ldf")),
    }.items()
}


def _instance(entry: InstanceScenario) -> Instance:
    return Instance(
        entry.name,
        entry.data_directory,
        entry.log_directory,
        {
            database.name.lower(): _database(database, entry.data_directory, entry.log_directory)
            for database in entry.databases
        },
        entry.failover_cluster,
        frozenset(name.lower() for name in entry.certificates),
        entry.system_is_sysadmin,
    )


def _database(entry: DatabaseScenario, data_directory: str, log_directory: str) -> Database:
    files = [
        ("Data", entry.name, f"{data_directory}{entry.name}.mdf"),
        ("Log", f"{entry.name}_log", f"{log_directory}{entry.name}_log.ldf"),
    ]
    if entry.files is not None:
        files = [(file.type, file.logical_name, file.path) for file in entry.files]
    elif (own := _SYSTEM_FILES.get(entry.name.lower())) is not None:
        data, log = own
        files = [("Data", *data), ("Log", *log)]
    return Database(
        entry.name,
        entry.size_mb,
        entry.effective_recovery_model,
        files,
        entry.read_only,
        files_told_by=entry.extended_info,
        corrupt=entry.corrupt,
        encrypted_by=entry.encrypted_by,
    )


_UNITS = {"days": 1, "weeks": 7, "months": 30, "years": 365}


def retention(policy: Policy | None, kind: str) -> timedelta:
    """How long the policy keeps a backup of that kind; 30 days where it says nothing."""
    return retention_rule(policy, kind)[0]


_RULES = {
    "dailySchedule": "Daily",
    "weeklySchedule": "Weekly",
    "monthlySchedule": "Monthly",
    "yearlySchedule": "Yearly",
}


def retention_rule(policy: Policy | None, kind: str) -> tuple[timedelta, str]:
    """How long the policy keeps a backup of that kind, and by which of its rules: the longest."""
    keep = ((policy.sub_policy(kind) if policy is not None else None) or {}).get("retentionPolicy") or {}
    found: list[tuple[int, str]] = []
    for part, rule in ((keep, "Daily"), *((keep.get(name), rule) for name, rule in _RULES.items())):
        length = part.get("retentionDuration") if isinstance(part, dict) else None
        if isinstance(length, dict) and isinstance(length.get("count"), int):
            unit = _UNITS.get(str(length.get("durationType", "Days")).lower(), 1)
            found.append((length["count"] * unit, rule))
    days, rule = max(found, default=(30, "Daily"))
    return timedelta(days=days), rule


_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def next_run(policy: Policy, kind: str, after: datetime) -> datetime | None:
    """The first scheduled backup of that kind after a moment; the policy's times are taken as UTC."""
    schedule = (policy.sub_policy(kind) or {}).get("schedulePolicy") or {}
    times = schedule.get("scheduleRunTimes") or []
    days = {str(day).lower() for day in schedule.get("scheduleRunDays") or []}
    weekly = str(schedule.get("scheduleRunFrequency", "")).lower() == "weekly"
    candidates: list[datetime] = []
    for text in times:
        try:
            time = datetime.fromisoformat(text).astimezone(UTC)
        except (TypeError, ValueError):
            continue
        for offset in range(9):
            day = after + timedelta(days=offset)
            moment = day.replace(hour=time.hour, minute=time.minute, second=time.second, microsecond=0)
            if moment > after and (not weekly or _WEEKDAYS[moment.weekday()] in days):
                candidates.append(moment)
                break
    return min(candidates, default=None)
