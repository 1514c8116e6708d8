"""The scenario file: what estate the simulator starts with, how long things take, what goes wrong."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from local.simulator.faults import Fault
from local.simulator.resource_guards import GuardedRequest
from local.simulator.route_names import ROUTE_NAMES
from local.simulator.service_version import DEFAULT, OLDEST, ServiceVersion

SYSTEM_DATABASES = frozenset({"master", "model", "msdb", "tempdb"})
RIGHTS = ("*", "read", "write", "restore", "runCommands")
_GUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")


class ScenarioError(ValueError):
    """A scenario that cannot be used; the message is one sentence that says what is wrong where."""


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        hide_input_in_errors=True,
    )


Name = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^/;?#]+$")]
#: What SQL Server takes for a database: nearly everything.
DatabaseName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]


class FileScenario(_Part):
    """A file of a database."""

    type: Literal["Data", "Log"]
    logical_name: str = Field(min_length=1)
    path: str = Field(min_length=1)


class DatabaseScenario(_Part):
    """A database. Sizes in MB; `history_days` of recovery points need a policy.

    Without `files` it has those that SQL Server gives it. Of its history, points older than `archived_after_days`
    are in the archive tier, those older than `soft_deleted_after_days` are soft-deleted, and the vault tier has lost
    those older than `vault_tier_deleted_after_days`. A scan found threats in those of the last `threats_within_days`.
    What is restored of one that is `corrupt` fails DBCC CHECKDB; one `encrypted_by` a certificate is restored only
    where that is known.
    """

    name: DatabaseName
    size_mb: float = Field(20, ge=0, alias="sizeMB")
    recovery_model: Literal["Full", "Simple", "BulkLogged"] | None = None
    read_only: bool = False
    files: tuple[FileScenario, ...] | None = None
    protected_by: str | None = None
    history_days: int = Field(0, ge=0, le=3650)
    extended_info: Literal["All", "FullAndDifferential", "None"] = "All"
    archived_after_days: int | None = Field(None, ge=0)
    soft_deleted_after_days: int | None = Field(None, ge=0)
    vault_tier_deleted_after_days: int | None = Field(None, ge=0)
    threats_within_days: int | None = Field(None, ge=0)
    item_casing: Literal["lower", "own"] = "lower"
    corrupt: bool = False
    encrypted_by: str | None = None

    @property
    def effective_recovery_model(self) -> str:
        """As SQL Server sets it up: master, msdb and tempdb are Simple unless it is said otherwise."""
        if self.recovery_model is not None:
            return self.recovery_model
        return "Simple" if self.name.lower() in SYSTEM_DATABASES - {"model"} else "Full"

    @model_validator(mode="after")
    def _history_needs_a_policy(self) -> Self:
        if self.history_days and self.protected_by is None:
            raise ValueError(f"database {self.name} has historyDays but no protectedBy")
        if self.files is not None:
            kinds = {file.type for file in self.files}
            if kinds != {"Data", "Log"}:
                raise ValueError(
                    f"database {self.name} has files, and needs at least one Data and one Log file"
                )
            _no_duplicates([file.logical_name for file in self.files], f"files of database {self.name}")
        return self


class InstanceScenario(_Part):
    """A SQL Server instance with its default directories, and the certificates of encrypted databases that it knows.

    `protected_by` protects it as a whole; `auto_protected_by` is the policy of its intent. With `system_is_sysadmin`
    the account that run commands run as may check and drop databases.
    """

    name: Name = "MSSQLSERVER"
    databases: tuple[DatabaseScenario, ...] = ()
    data_directory: str = "F:\\data\\"
    log_directory: str = "G:\\log\\"
    failover_cluster: bool = False
    protected_by: str | None = None
    auto_protected_by: str | None = None
    certificates: tuple[str, ...] = ()
    system_is_sysadmin: bool = False

    @model_validator(mode="after")
    def _unique(self) -> Self:
        if self.protected_by is not None:
            if self.failover_cluster:
                raise ValueError(f"instance {self.name} is a failover cluster instance, and has protectedBy")
            for database in self.databases:
                if database.protected_by is not None:
                    raise ValueError(
                        f"database {database.name} has protectedBy, but instance {self.name} is protected as a whole"
                    )
        _no_duplicates([database.name for database in self.databases], f"databases of instance {self.name}")
        if self.failover_cluster:
            for database in self.databases:
                if database.protected_by is not None:
                    raise ValueError(
                        f"database {database.name} has protectedBy, but instance {self.name} is a failover cluster "
                        "instance, which the service does not back up"
                    )
        return self


class VirtualMachineScenario(_Part):
    """A virtual machine; without `instances` it has no SQL Server.

    One that is `deleted` is gone from Azure, but still registered: what was backed up of it is kept. Where it is joined
    to a `domain`, items name it by its full host name; its jobs do where `job_names` is full. Resource Graph knows it
    as one with SQL Server only where it has the `sql_iaas_extension`. Without `agent_ready` its run commands never
    begin; `run_commands` are the names of those that are there and have ended. Restores that need more than `free_mb`
    fail.
    """

    resource_group: Name = "rg-sql"
    name: Name
    location: str | None = None
    registered_to: str | None = None
    sysadmin: bool = True
    running: bool = True
    deleted: bool = False
    domain: str | None = Field(None, min_length=1)
    job_names: Literal["short", "full"] = "short"
    sql_iaas_extension: bool = True
    agent_ready: bool = True
    free_mb: float | None = Field(None, ge=0, alias="freeMB")
    run_commands: tuple[Name, ...] = ()
    instances: tuple[InstanceScenario, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _no_duplicates([instance.name for instance in self.instances], f"instances of {self.name}")
        if self.deleted and self.registered_to is None:
            raise ValueError(f"{self.name} is deleted, but has no registeredTo: there would be nothing of it")
        if self.registered_to is None:
            for instance in self.instances:
                if instance.protected_by is not None:
                    raise ValueError(
                        f"instance {instance.name} of {self.name} has protectedBy, "
                        f"but {self.name} has no registeredTo"
                    )
                if instance.auto_protected_by is not None:
                    raise ValueError(
                        f"instance {instance.name} of {self.name} has autoProtectedBy, "
                        f"but {self.name} has no registeredTo"
                    )
                for database in instance.databases:
                    if database.protected_by is not None:
                        raise ValueError(
                            f"database {database.name} of {self.name} has protectedBy, "
                            f"but {self.name} has no registeredTo"
                        )
        return self


class AvailabilityGroupScenario(_Part):
    """An Always On availability group on an instance of several machines; the first is primary unless it is said.

    Its databases are on that instance of each of the machines, and not among the instance's own.
    """

    name: Name
    virtual_machines: tuple[Name, ...] = Field(min_length=1)
    instance: Name = "MSSQLSERVER"
    databases: tuple[DatabaseScenario, ...] = ()
    primary: Name | None = None
    basic: bool = False

    @property
    def primary_machine(self) -> str:
        """The machine with the primary replica."""
        return self.primary or self.virtual_machines[0]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _no_duplicates(list(self.virtual_machines), f"machines of availability group {self.name}")
        _no_duplicates(
            [entry.name for entry in self.databases], f"databases of availability group {self.name}"
        )
        if self.primary_machine.lower() not in {name.lower() for name in self.virtual_machines}:
            raise ValueError(
                f"the primary {self.primary} of availability group {self.name} is not among its virtualMachines"
            )
        return self


class ServicePrincipalScenario(_Part):
    """A service principal: its secret (none: it signs in by certificate or federated token) and what it may do.

    `allowed` has names of routes, `read` (every GET), `write` (everything else but restores and run commands),
    `restore`, `runCommands` (to put and delete them), or `*`.
    """

    client_id: str
    client_secret: str | None = Field(None, repr=False)
    expired: bool = False
    allowed: tuple[str, ...] = ("*",)

    @field_validator("allowed")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in (*RIGHTS, *ROUTE_NAMES):
                raise ValueError(f"{name} is neither a route nor one of {', '.join(RIGHTS)}")
        return value


def _aware(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("it must name its time zone, like 2026-01-05T08:00:00Z")
    return value.astimezone(UTC)


Moment = Annotated[datetime, AfterValidator(_aware)]


class _Happening(_Part):
    """Something that happens to a virtual machine of the scenario, at a moment of the simulator's clock."""

    at: Moment
    virtual_machine: Name


class MachineStops(_Happening):
    """The machine is shut down: what its policies would back up fails."""

    event: Literal["machineStops"]


class MachineStarts(_Happening):
    """The machine is up again."""

    event: Literal["machineStarts"]


class DatabaseAppears(_Happening):
    """A database is created on an instance; the next inquiry finds it."""

    event: Literal["databaseAppears"]
    instance: Name = "MSSQLSERVER"
    database: DatabaseScenario

    @model_validator(mode="after")
    def _is_new(self) -> Self:
        if self.database.protected_by is not None:
            raise ValueError(f"database {self.database.name} appears, and has protectedBy; it is new")
        return self


class DatabaseIsRenamed(_Happening):
    """A database gets another name; its protected item keeps the old one, and finds nothing under it."""

    event: Literal["databaseIsRenamed"]
    instance: Name = "MSSQLSERVER"
    database: DatabaseName
    to: DatabaseName


class DatabaseIsDropped(_Happening):
    """A database is dropped; its protected item stays."""

    event: Literal["databaseIsDropped"]
    instance: Name = "MSSQLSERVER"
    database: DatabaseName


TimelineEvent = Annotated[
    MachineStops | MachineStarts | DatabaseAppears | DatabaseIsRenamed | DatabaseIsDropped,
    Field(discriminator="event"),
]


class ScheduledFailureScenario(_Part):
    """Backups that policies take fail for a while: of databases by shell-style patterns, of these kinds.

    Backups on demand are not concerned: those fail by `faults`.
    """

    virtual_machine: str = "*"
    database: str = "*"
    kinds: tuple[Literal["Full", "Differential", "Log"], ...] = ("Full", "Differential", "Log")
    since: Moment | None = Field(None, alias="from")
    until: Moment | None = None
    code: str = Field("UserErrorSQLPODoesNotExist", min_length=1)
    message: str = "The backup failed as the scenario says."
    recommendations: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.since is not None and self.until is not None and self.until <= self.since:
            raise ValueError("until must be later than from")
        return self

    def concerns(self, machine: str, database: str, kind: str) -> bool:
        """Whether backups of that kind of the database are meant, whenever they are taken."""
        return (
            kind in self.kinds
            and fnmatchcase(machine.lower(), self.virtual_machine.lower())
            and fnmatchcase(database.lower(), self.database.lower())
        )

    def applies(self, at: datetime) -> bool:
        """Whether backups fail at that moment."""
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)


class RoleAssignmentScenario(_Part):
    """A role that holds on a scope and everything below it: for one principal, or for whoever calls."""

    scope: str = "/"
    role_name: str = ""
    principal_id: str | None = None
    actions: tuple[str, ...] = ()
    not_actions: tuple[str, ...] = ()
    data_actions: tuple[str, ...] = ()
    not_data_actions: tuple[str, ...] = ()


class EntityScenario(_Part):
    """A queue, topic or subscription, with its `properties` as Azure Resource Manager has them."""

    name: Name
    properties: dict[str, Any] = {}


class TopicScenario(EntityScenario):
    """A topic with its subscriptions."""

    subscriptions: tuple[EntityScenario, ...] = ()


class NamespaceScenario(_Part):
    """A Service Bus namespace as its management side shows it; messages are the broker's."""

    resource_group: Name = "rg-app"
    name: Name
    sku: Literal["Basic", "Standard", "Premium"] = "Standard"
    disable_local_auth: bool = True
    queues: tuple[EntityScenario, ...] = ()
    topics: tuple[TopicScenario, ...] = ()


class FunctionAppScenario(_Part):
    """A Function App as its management side shows it: one user-assigned identity, and its application settings."""

    resource_group: Name = "rg-app"
    name: Name
    client_id: str
    principal_id: str
    settings: dict[str, str] = Field(default_factory=dict)


class PolicyScenario(_Part):
    """A policy with its `properties` as the REST API has them."""

    name: Name
    properties: dict[str, Any]


class VaultScenario(_Part):
    """A Recovery Services vault and the SQL policies it starts with (besides the VM policies it always has).

    Without `soft_delete` it is as the service sets vaults up: always on since 2024, before that on. `resource_guard`
    True guards all that can be guarded; a list guards those operations and the two that cannot be left out.
    """

    resource_group: Name = "rg-backup"
    name: Name = "vault1"
    location: str | None = None
    policies: tuple[str | PolicyScenario, ...] = ("HourlyLogBackup",)
    soft_delete: bool | Literal["alwaysOn"] | None = None
    soft_delete_retention_days: int = Field(14, ge=14, le=180)
    immutability: Literal["Disabled", "Unlocked", "Locked"] = "Disabled"
    resource_guard: bool | tuple[GuardedRequest, ...] = False

    def policy_names(self) -> set[str]:
        """The policies' names in lower case."""
        return {(policy if isinstance(policy, str) else policy.name).lower() for policy in self.policies}


Length = float | tuple[float, float]


class DurationsScenario(_Part):
    """Seconds that operations and jobs take, or [median, sigma] of a lognormal.

    `accept` is how long the operation of a backup or restore runs until it names its job, `young` how long that
    job says less of itself. Where they are None, some do and most do not, as recorded.
    """

    refresh: Length = 20
    register_: Length = Field(240, alias="register")
    inquire: Length = 60
    protect: Length = 75
    stop: Length = 31
    delete: Length = 33
    backup: Length = 120
    restore: Length = 272
    run_command: Length = 15
    script: Length = 5
    check: Length = 60
    cancel: Length = 30
    accept: Length | None = None
    young: Length | None = None

    @field_validator("*")
    @classmethod
    def _not_negative(cls, value: Length | None) -> Length | None:
        if value is not None and min(value if isinstance(value, tuple) else (value,)) < 0:
            raise ValueError("a duration is not negative")
        return value


class BucketScenario(_Part):
    """A token bucket: how many requests at once, how many a second after that."""

    bucket: int = Field(ge=1)
    per_second: float = Field(gt=0)


class BackupReadsScenario(_Part):
    """How many reads of each action under a vault are taken in a rolling hour: as recorded in 2024.

    In 2021 both were 150; in 2022 and 2023 it was 300, and 150 for jobs.
    """

    per_hour: int = Field(300, ge=1)
    jobs_per_hour: int = Field(450, ge=1)


class ThrottlingScenario(_Part):
    """ARM's token buckets, and the hour of backup reads; what is left out does not throttle."""

    reads: BucketScenario | None = None
    writes: BucketScenario | None = None
    deletes: BucketScenario | None = None
    backup_reads: BackupReadsScenario | None = None


#: The limits of the service, as documented (the buckets) and recorded (the reads).
SERVICE_LIMITS: Final[dict[str, dict[str, int]]] = {
    "reads": {"bucket": 250, "perSecond": 25},
    "writes": {"bucket": 200, "perSecond": 10},
    "backupReads": {"perHour": 300, "jobsPerHour": 450},
}


def _default_databases() -> tuple[DatabaseScenario, ...]:
    return tuple(DatabaseScenario(name=name) for name in ("master", "model", "msdb", "orders", "billing"))


def _default_machines() -> tuple[VirtualMachineScenario, ...]:
    return tuple(
        VirtualMachineScenario(name=name, instances=(InstanceScenario(databases=_default_databases()),))
        for name in ("sqlvm1", "sqlvm2")
    )


class Scenario(_Part):
    """Everything the simulator starts with. Every part is optional; an unknown key is an error."""

    subscription_id: str = "00000000-0000-0000-0000-000000000001"
    tenant_id: str = "00000000-0000-0000-0000-0000000000aa"
    location: str = "westeurope"
    service_version: str = Field(DEFAULT, pattern=r"^20\d\d-(0[1-9]|1[0-2])$")
    start_time: Moment = datetime(2026, 1, 5, 8, tzinfo=UTC)
    seed: int = 1
    retry_after: int = Field(60, ge=0)
    page_size: int = Field(200, ge=1)
    echo_activity_id: bool = True
    scheduled_backups: bool = True
    scheduled_failures: tuple[ScheduledFailureScenario, ...] = ()
    timeline: tuple[TimelineEvent, ...] = ()
    vaults: tuple[VaultScenario, ...] = (VaultScenario(),)
    virtual_machines: tuple[VirtualMachineScenario, ...] = Field(default_factory=_default_machines)
    availability_groups: tuple[AvailabilityGroupScenario, ...] = ()
    service_principals: tuple[ServicePrincipalScenario, ...] = ()
    role_assignments: tuple[RoleAssignmentScenario, ...] | None = None
    service_bus_namespaces: tuple[NamespaceScenario, ...] = ()
    function_apps: tuple[FunctionAppScenario, ...] = ()
    durations: DurationsScenario = DurationsScenario()
    throttling: ThrottlingScenario = ThrottlingScenario()
    faults: tuple[Fault, ...] = ()

    @field_validator("subscription_id", "tenant_id")
    @classmethod
    def _guid(cls, value: str) -> str:
        if not _GUID.fullmatch(value):
            raise ValueError("it must be a GUID")
        return value

    @field_validator("service_version")
    @classmethod
    def _recorded(cls, value: str) -> str:
        if value < OLDEST:
            raise ValueError(f"the service is known from {OLDEST} on")
        return value

    @property
    def service(self) -> ServiceVersion:
        """Which year's service it is."""
        return ServiceVersion(self.service_version)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _no_duplicates([f"{vault.resource_group}/{vault.name}" for vault in self.vaults], "vaults")
        _no_duplicates([f"{vm.resource_group}/{vm.name}" for vm in self.virtual_machines], "virtual machines")
        policies = {vault.name.lower(): vault.policy_names() for vault in self.vaults}
        for machine in self.virtual_machines:
            if machine.registered_to is None:
                continue
            known = policies.get(machine.registered_to.lower())
            if known is None:
                raise ValueError(
                    f"{machine.name} is registeredTo {machine.registered_to}, which is not among the vaults"
                )
            for instance in machine.instances:
                whole = instance.protected_by
                if whole is not None and whole.lower() not in known:
                    raise ValueError(
                        f"instance {instance.name} of {machine.name} is protectedBy {whole}, which vault "
                        f"{machine.registered_to} does not have"
                    )
                intended = instance.auto_protected_by
                if intended is not None and intended.lower() not in known:
                    raise ValueError(
                        f"instance {instance.name} of {machine.name} is autoProtectedBy {intended}, "
                        f"which vault {machine.registered_to} does not have"
                    )
                for database in instance.databases:
                    if database.protected_by is not None and database.protected_by.lower() not in known:
                        raise ValueError(
                            f"database {database.name} of {machine.name} is protectedBy "
                            f"{database.protected_by}, which vault {machine.registered_to} does not have"
                        )
        _no_duplicates([group.name for group in self.availability_groups], "availability groups")
        _no_duplicates([principal.client_id for principal in self.service_principals], "service principals")
        for group in self.availability_groups:
            self._check_group(group, policies)
        self._check_timeline()
        return self

    def _check_timeline(self) -> None:
        """What happens must be able to happen: in the order of its moments."""
        there = {
            (machine.name.lower(), instance.name.lower()): {
                entry.name.lower() for entry in instance.databases
            }
            for machine in self.virtual_machines
            for instance in machine.instances
        }
        for event in sorted(self.timeline, key=lambda event: event.at):
            machine = self.machine_named(event.virtual_machine)
            if event.at < self.start_time:
                raise ValueError(f"{event.event} of {machine.name} happens before startTime")
            if isinstance(event, MachineStops | MachineStarts):
                continue
            names = there.get((machine.name.lower(), event.instance.lower()))
            if names is None:
                raise ValueError(f"{event.event}: {machine.name} has no instance {event.instance}")
            if isinstance(event, DatabaseAppears):
                gone, new = "", event.database.name
            else:
                gone = event.database
                new = event.to if isinstance(event, DatabaseIsRenamed) else ""
            place = f"instance {event.instance} of {machine.name}"
            if gone:
                if gone.lower() not in names:
                    raise ValueError(f"{event.event}: {place} has no database {gone} then")
                names.discard(gone.lower())
            if new:
                if new.lower() in names:
                    raise ValueError(f"{event.event}: {place} has a database {new} already")
                names.add(new.lower())

    def machine_named(self, name: str) -> VirtualMachineScenario:
        """The virtual machine of that name. Raises ValueError where there is not exactly one."""
        found = [machine for machine in self.virtual_machines if machine.name.lower() == name.lower()]
        if len(found) != 1:
            raise ValueError(f"there are {len(found)} virtual machines {name}, and there must be one")
        return found[0]

    def _check_group(self, group: AvailabilityGroupScenario, policies: dict[str, set[str]]) -> None:
        own = {database.name.lower() for database in group.databases}
        for other in self.availability_groups:
            shared = {name.lower() for name in other.virtual_machines} & {
                name.lower() for name in group.virtual_machines
            }
            if other is not group and shared and other.instance.lower() == group.instance.lower():
                twice = own & {database.name.lower() for database in other.databases}
                if twice:
                    raise ValueError(
                        f"availability groups {group.name} and {other.name} both have a database {min(twice)}"
                    )
        for name in group.virtual_machines:
            machine = self.machine_named(name)
            instance = next(
                (entry for entry in machine.instances if entry.name.lower() == group.instance.lower()), None
            )
            if instance is None:
                raise ValueError(
                    f"{name} has no instance {group.instance} for availability group {group.name}"
                )
            twice = own & {database.name.lower() for database in instance.databases}
            if twice:
                raise ValueError(
                    f"database {min(twice)} is in availability group {group.name} and on instance "
                    f"{group.instance} of {name}; name it in the group only"
                )
        vault = self.machine_named(group.primary_machine).registered_to
        for database in group.databases:
            if database.protected_by is None:
                continue
            if vault is None or group.basic:
                why = "is basic" if group.basic else "has a primary without registeredTo"
                raise ValueError(
                    f"database {database.name} has protectedBy, but availability group {group.name} {why}"
                )
            if database.protected_by.lower() not in policies.get(vault.lower(), set()):
                raise ValueError(
                    f"database {database.name} of availability group {group.name} is protectedBy "
                    f"{database.protected_by}, which vault {vault} does not have"
                )

    @classmethod
    def load(cls, path: Path | str) -> Scenario:
        """The scenario in a JSON file. Raises ScenarioError with one sentence that says what is wrong."""
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            raise ScenarioError(f"The scenario file {path} cannot be read: {error.strerror}.") from error
        try:
            data = json.loads(text)
        except UnicodeDecodeError as error:
            raise ScenarioError(f"The scenario file {path} cannot be read: it is not UTF-8 text.") from error
        except ValueError as error:
            raise ScenarioError(f"The scenario file {path} is not JSON: {error}.") from error
        except RecursionError as error:
            raise ScenarioError(
                f"The scenario file {path} cannot be used: it is nested too deeply."
            ) from error
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            problems = "; ".join(_problem(problem) for problem in error.errors(include_url=False))
            raise ScenarioError(f"The scenario file {path} cannot be used: {problems}.") from error


def _problem(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = "this key is not known"
    elif error["type"] == "model_type" or error["type"] == "model_attributes_type":
        message = "expected a JSON object"
    return f"{where}: {message}" if where else message


def _no_duplicates(names: list[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name.lower() in seen:
            raise ValueError(f"two {what} have the name {name}")
        seen.add(name.lower())
