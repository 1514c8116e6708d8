"""The estate: virtual machines and their databases, vaults and what they protect. No HTTP here."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

from local.simulator.jobs import Job
from local.simulator.naming import GroupName, VmName
from local.simulator.nested import nested
from local.simulator.operations import Operation
from local.simulator.resource_guards import ResourceGuard
from local.simulator.scenario import ServicePrincipalScenario

LOG_LAG = timedelta(minutes=1)
"""How long after its scheduled moment a log backup can be restored from."""
WRITTEN = timedelta(seconds=30, microseconds=499008)
"""From a backup's recovery point to its lastBackupTime; 28 to 108 seconds were recorded."""


@dataclass
class Database:
    """A database on an instance."""

    name: str
    size_mb: float
    recovery_model: str
    files: list[tuple[str, str, str]]
    """(Data or Log, logical name, path)"""
    read_only: bool = False
    restoring: bool = False
    """Restored WITH NORECOVERY: it exists, but cannot be used yet."""
    group: AvailabilityGroup | None = None
    """The availability group it is in; then the instance of every node has it."""
    files_told_by: str = "All"
    """Which recovery points have `extendedInfo` with the files: `All`, `FullAndDifferential` or `None`."""
    corrupt: bool = False
    """Whether it and its backups are damaged: DBCC CHECKDB finds errors in what is restored."""
    encrypted_by: str | None = None
    """The certificate that an instance needs in order to restore it."""

    def allows(self, kind: str) -> bool:
        """Whether the service can take a backup of that kind."""
        if self.name.lower() == "master":
            return kind == "Full"
        if self.read_only:
            return kind in ("Full", "CopyOnlyFull")
        return kind in ("Full", "CopyOnlyFull", "Differential") or (
            kind == "Log" and self.recovery_model != "Simple"
        )


@dataclass
class Instance:
    """A SQL Server instance; `databases` by lower-cased name."""

    name: str
    data_directory: str
    log_directory: str
    databases: dict[str, Database]
    failover_cluster: bool = False
    """A failover cluster instance, which the service does not back up."""
    certificates: frozenset[str] = frozenset()
    system_is_sysadmin: bool = False
    """Whether the account of run commands is sysadmin; by default it may only log in."""


@dataclass
class RunCommand:
    """A managed run command of a machine, and the state of its script."""

    name: str
    script: str
    parameters: list[dict[str, str]]
    timeout: int
    asynchronous: bool
    provisioning_state: str
    state: str = "Pending"
    exit_code: int = 0
    message: str = ""
    output: str = ""
    start: datetime | None = None
    end: datetime | None = None


@dataclass
class VirtualMachine:
    """A virtual machine; `instances` by lower-cased name, empty without SQL Server."""

    name: VmName
    location: str
    sysadmin: bool
    running: bool
    instances: dict[str, Instance]
    vm_guid: str
    deleted: bool = False
    domain: str | None = None
    sql_iaas_extension: bool = True
    """Whether Resource Graph lists it as a machine with SQL Server."""
    jobs_name_instance: bool = False
    """Whether jobs name a database as `INSTANCE/database [host.domain]`, not as `database [host]`."""
    registered_with: Vault | None = None
    registering: Vault | None = None
    agent_ready: bool = True
    free_mb: float | None = None
    """Free space for restores, in MB; None: unlimited."""
    run_commands: dict[str, RunCommand] = field(default_factory=dict)
    """By lower-cased name."""
    updates_left: float = 12.0
    updates_at: datetime | None = None

    @property
    def server_name(self) -> str:
        """The computer name: Windows cuts it to 15 characters."""
        return self.name.name[:15]

    @property
    def host_name(self) -> str:
        """The computer's full name, with its domain where it is joined to one."""
        return f"{self.server_name}.{self.domain}" if self.domain else self.server_name


@dataclass
class AvailabilityGroup:
    """An Always On availability group; `databases` by lower-cased name, on the same instance of each node."""

    name: GroupName
    nodes: list[VirtualMachine]
    primary: VirtualMachine
    instance: str
    basic: bool
    databases: dict[str, Database]

    @property
    def cluster_name(self) -> str:
        """The name of the Windows cluster, which a group's items have in place of the computer's."""
        return f"{self.name.name}-wsfc"[:15].lower()

    def registered_nodes(self, vault: Vault) -> list[VirtualMachine]:
        """The nodes that are registered with the vault."""
        return [node for node in self.nodes if node.registered_with is vault]


@dataclass
class Policy:
    """A backup policy; `properties` as the API has them, without protectedItemsCount."""

    name: str
    properties: dict[str, Any]
    sequence: int

    @property
    def is_workload(self) -> bool:
        return self.properties.get("backupManagementType") == "AzureWorkload"

    def sub_policy(self, kind: str) -> dict[str, Any] | None:
        """The sub-policy for Full, Differential or Log, if the policy has one."""
        for entry in self.properties.get("subProtectionPolicy") or []:
            if str(entry.get("policyType", "")).lower() == kind.lower():
                found: dict[str, Any] = entry
                return found
        return None

    def log_interval(self) -> timedelta | None:
        """The time between two scheduled log backups, None when the policy takes none."""
        log = self.sub_policy("Log")
        minutes = (log or {}).get("schedulePolicy", {}).get("scheduleFrequencyInMins")
        return timedelta(minutes=minutes) if isinstance(minutes, int) and minutes > 0 else None


@dataclass
class RecoveryPoint:
    """A full, differential or copy-only full backup that can be restored."""

    name: str
    time: datetime
    kind: str
    files: list[tuple[str, str, str]]
    sequence: int
    expires: datetime | None = None
    rule: str = ""
    """The retention rule of the policy that keeps it; empty for a backup on demand."""
    archived: bool = False
    rehydrated_until: datetime | None = None
    """Until when an archived point is rehydrated."""
    soft_deleted: bool = False
    purge_at: datetime | None = None
    """Until when it stays soft-deleted, if a shorter retention soft-deleted it."""
    tier_deleted: bool = False
    """Whether it was deleted from the vault tier."""
    threatened: bool = False
    """Whether a scan found threats in it."""

    def is_kept(self, now: datetime) -> bool:
        """Whether it still exists: neither its retention nor its time as a soft-deleted point has passed."""
        ends = self.purge_at if self.purge_at is not None else self.expires
        return ends is None or ends > now


@dataclass
class LogChain:
    """A range of time; any moment in it can be restored to. `end` is the end of its last log backup."""

    start: datetime
    end: datetime | None = None
    interval: timedelta | None = None
    base: datetime | None = None
    closed: bool = False
    failing_since: datetime | None = None
    """Since when its scheduled log backups fail; they are still tried."""

    def end_at(self, now: datetime) -> datetime | None:
        """The last restorable moment as known at `now`: scheduled log backups show after a lag."""
        scheduled = self.tried_at(now if self.failing_since is None else min(now, self.failing_since))
        if scheduled is None or (self.end is not None and self.end > scheduled):
            return self.end
        return scheduled

    def tried_at(self, now: datetime) -> datetime | None:
        """When a scheduled log backup was last tried, whether it succeeded or not."""
        if self.closed or self.interval is None or self.base is None:
            return None
        passed = (now - LOG_LAG - self.base) // self.interval
        return self.base + passed * self.interval if passed >= 1 else None

    def go_on(self, now: datetime) -> None:
        """Let scheduled log backups succeed again; the next one covers what the failed ones missed."""
        self.end = self.end_at(now)
        self.base, self.failing_since = now, None

    def close(self, now: datetime) -> None:
        """End the chain: no more log backups are taken."""
        self.end = self.end_at(now)
        self.closed = True


@dataclass
class ProtectedItem:
    """A protected database, or one whose backups are kept."""

    container: Container
    instance: str
    database: str
    """The names in their real casing."""
    source_id: str
    sequence: int
    policy: Policy | None
    container_name: str = ""
    name: str = ""
    """The container and the item as its id spells them: as in the call that first protected it."""
    state: str = "IRPending"
    recovery_points: list[RecoveryPoint] = field(default_factory=list)
    chains: list[LogChain] = field(default_factory=list)
    last_backup_time: datetime | None = None
    last_backup_status: str = "IRPending"
    last_error: dict[str, Any] | None = None
    last_restore: Job | None = None
    """The last restore of it that completed or failed."""
    log_chain_broken: bool = False
    """Whether a restore overwrote it since its last full: SQL Server then refuses backups that build on that full."""
    deferred_delete: datetime | None = None
    kept_deleted: timedelta = timedelta(days=14)
    """How long it stays soft-deleted, as the vault was configured at the time."""
    on_demand_fulls: dict[str, int] = field(default_factory=dict)
    busy_with: Job | None = None
    """The job that backs it up or restores over it."""
    schedule_epoch: int = 0

    rendered: tuple[object, bytes] | None = None
    """A cache of its entry in lists: what the entry was made from, and its JSON."""

    def __post_init__(self) -> None:
        self.key = (self.instance.lower(), self.database.lower())
        self.container_name = self.container_name or self.container.name.container_in_item
        self.name = self.name or self.container.item_name(self.instance, self.database)

    def note_error(self, code: str, message: str, recommendations: list[str]) -> None:
        """Remember why the last backup failed."""
        self.last_error = {"code": code, "message": message, "recommendations": recommendations}

    def live_database(self) -> Database | None:
        """The database itself, None where it was dropped or renamed."""
        return self.container.database(self.instance, self.database)

    def backed_up_database(self) -> Database:
        """The database in its backups: as it is now, and of the default size where it was dropped or renamed."""
        return self.live_database() or Database(self.database, 20.0, "Full", [])

    def transferred(self, kind: str = "Full") -> dict[str, str]:
        """What a job of a backup of that kind, or of a restore, reports of the data that it transferred."""
        share = {"Differential": 0.1, "Log": 0.01}.get(kind, 1.0)
        return {"Data Transferred (in MB)": f"{self.backed_up_database().size_mb * share + 0.0845:.4f}"}

    @property
    def job_name(self) -> str:
        """Its name in jobs: `database [host]`, or in some estates `INSTANCE/database [host.domain]`."""
        container = self.container
        if container.group is None and container.machine.jobs_name_instance:
            return f"{self.instance}/{self.database} [{container.server_name}]"
        host = container.server_name if container.group is not None else container.machine.server_name
        return f"{self.database} [{host}]"

    @property
    def source_number(self) -> int:
        """The number of its data source, by which lists are ordered."""
        return int(self.source_id)

    @property
    def soft_deleted(self) -> bool:
        return self.deferred_delete is not None

    @property
    def stopped(self) -> bool:
        return self.state in ("ProtectionStopped", "BackupsSuspended")

    @property
    def open_chain(self) -> LogChain | None:
        """The log chain that is still being written to."""
        return self.chains[-1] if self.chains and not self.chains[-1].closed else None

    def kept(self, now: datetime) -> list[RecoveryPoint]:
        """The recovery points that are there, soft-deleted ones too, the oldest first."""
        return [point for point in self.recovery_points if point.is_kept(now)]

    def last_backup(self, now: datetime) -> datetime | None:
        """When the last backup was taken, the policy's log backups included."""
        chain = self.open_chain
        scheduled = chain.end_at(now) if chain is not None and chain.interval is not None else None
        if chain is not None and chain.failing_since is not None:
            # The last attempt counts, failed or not.
            scheduled = chain.tried_at(now)
        moments = [self.last_backup_time, scheduled + WRITTEN if scheduled is not None else None]
        return max((moment for moment in moments if moment is not None), default=None)

    def full(self) -> RecoveryPoint | None:
        """The newest full backup."""
        return next((point for point in reversed(self.recovery_points) if point.kind == "Full"), None)

    def last_restorable(self, now: datetime) -> datetime | None:
        """The newest moment that can be restored to."""
        moments = [point.time for point in self.recovery_points]
        moments += [end for chain in self.chains if (end := chain.end_at(now)) is not None]
        return max(moments, default=None)


@dataclass
class Inquiry:
    """What the last inquiry of a virtual machine found."""

    validation_status: str = "Success"
    validation_code: str = "Success"
    validation_message: str = ""
    found: dict[str, list[str]] = field(default_factory=dict)
    """Database names by instance name, in real casing."""

    def databases(self) -> int:
        """How many databases were found."""
        return sum(len(names) for names in self.found.values())


@dataclass
class WholeInstance:
    """An instance that is protected as a whole, with every database it had then."""

    name: str
    policy: Policy
    source_id: str
    databases: list[str]


@dataclass
class Container:
    """A virtual machine registered with a vault, or an availability group found on one.

    `items` by (instance, database) in lower case; for a group, its name takes the place of the instance.
    """

    vault: Vault
    source: VirtualMachine | AvailabilityGroup
    updated: datetime
    sequence: int
    inquiry: Inquiry = field(default_factory=Inquiry)
    items: dict[tuple[str, str], ProtectedItem] = field(default_factory=dict)
    whole_instances: dict[str, WholeInstance] = field(default_factory=dict)
    """Instances that are protected as a whole, by lower-cased name."""

    @property
    def name(self) -> VmName | GroupName:
        return self.source.name

    @property
    def group(self) -> AvailabilityGroup | None:
        """The availability group, None for a machine's container."""
        return self.source if isinstance(self.source, AvailabilityGroup) else None

    @property
    def machine(self) -> VirtualMachine:
        """The machine; for a group, the one with the primary replica."""
        return self.source.primary if isinstance(self.source, AvailabilityGroup) else self.source

    @property
    def server_name(self) -> str:
        """The host's name; for a group, the cluster's."""
        group = self.group
        return group.cluster_name if group is not None else self.machine.host_name

    def database(self, instance: str, name: str) -> Database | None:
        """The live database of that name, None where there is none."""
        if isinstance(self.source, AvailabilityGroup):
            return self.source.databases.get(name.lower())
        found = self.source.instances.get(instance.lower())
        return None if found is None else found.databases.get(name.lower())

    def whole_instance(self, name: str) -> WholeInstance | None:
        """The protection of that instance as a whole, where there is any."""
        return self.whole_instances.get(name.lower())

    def item_name(self, instance: str, database: str) -> str:
        """The name of a protected item: in lower case, as recorded; for a group in its own casing, as reported."""
        name = f"{instance};{database}"
        return f"SQLDataBase;{name if self.group is not None else name.lower()}"


@dataclass
class Intent:
    """Auto-protection of an instance."""

    name: str
    container: Container
    instance: str
    policy: Policy
    sequence: int


@dataclass
class DeletedVault:
    """A deleted vault; it is kept until its soft-deleted items are purged."""

    name: str
    vault: Vault
    vault_id: str
    deleted: datetime
    purge_at: datetime


@dataclass
class Vault:
    """A Recovery Services vault; everything in it by lower-cased name."""

    resource_group: str
    name: str
    location: str
    created: datetime
    soft_delete: str
    """Enabled, Disabled or AlwaysON."""
    sku: dict[str, Any]
    soft_delete_days: int = 14
    provisioned_from: datetime | None = None
    """From when on it can be used; None: at once."""
    tags: dict[str, str] | None = None
    identity: dict[str, Any] | None = None
    properties: dict[str, Any] = field(default_factory=dict)
    policies: dict[str, Policy] = field(default_factory=dict)
    discovered: set[str] = field(default_factory=set)
    containers: dict[str, Container] = field(default_factory=dict)
    deleted_containers: dict[str, Container] = field(default_factory=dict)
    resource_guard: ResourceGuard | None = None
    intents: dict[str, Intent] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    operations: dict[str, Operation] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.resource_group}/{self.name}".lower()

    def items(self) -> list[ProtectedItem]:
        """Every protected item, the oldest first."""
        holding = [*self.containers.values(), *self.deleted_containers.values()]
        found = [item for container in holding for item in container.items.values()]
        found.sort(key=attrgetter("sequence"))
        return found

    @property
    def immutability(self) -> str:
        """Disabled, Unlocked or Locked."""
        found = nested(self.properties, "securitySettings", "immutabilitySettings", "state")
        return found if isinstance(found, str) else "Disabled"

    @property
    def storage_type(self) -> str:
        """Its redundancy; GeoRedundant by default."""
        found = nested(self.properties, "redundancySettings", "standardTierStorageRedundancy")
        return found if isinstance(found, str) else "GeoRedundant"

    @property
    def cross_region_restore(self) -> bool:
        """Whether it can be restored from in the paired region."""
        return bool(nested(self.properties, "redundancySettings", "crossRegionRestore") == "Enabled")

    def set_storage(self, kind: str, *, cross_region_restore: bool) -> None:
        """Set its redundancy and whether it can be restored from in the paired region."""
        self.properties["redundancySettings"] = {
            "standardTierStorageRedundancy": kind,
            "crossRegionRestore": "Enabled" if cross_region_restore else "Disabled",
        }

    def set_immutability(self, state: str) -> None:
        """Set it to Disabled, Unlocked or Locked."""
        settings = self.properties.get("securitySettings")
        self.properties["securitySettings"] = {
            **(settings if isinstance(settings, dict) else {}),
            "immutabilitySettings": {"state": state},
        }

    def machines(self) -> list[Container]:
        """The containers of registered machines."""
        return [container for container in self.containers.values() if container.group is None]

    def items_of(self, policy: Policy) -> int:
        """How many items the policy protects."""
        return sum(
            1
            for container in self.containers.values()
            for item in container.items.values()
            if item.policy is policy
        )


@dataclass(frozen=True)
class Principal:
    """A service principal with the id of its object in the tenant."""

    scenario: ServicePrincipalScenario
    object_id: str
