"""Virtual machines, SQL Server instances, databases and availability groups of a scenario."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Self

from pydantic import Field, model_validator

from local.simulator.scenario.parts import DatabaseName, Name, Part, no_duplicates

SYSTEM_DATABASES = frozenset({"master", "model", "msdb", "tempdb"})


class FileScenario(Part):
    """A file of a database."""

    type: Literal["Data", "Log"]
    logical_name: str = Field(min_length=1)
    path: str = Field(min_length=1)


class DatabaseScenario(Part):
    """A database. Sizes in MB; `history_days` of recovery points need a policy.

    Without `files` it has the default ones. Recovery points older than `archived_after_days` are in the archive tier,
    those older than `soft_deleted_after_days` are soft-deleted, and those older than `vault_tier_deleted_after_days`
    are deleted from the vault tier. A scan found threats in those of the last `threats_within_days` days. A restored
    copy of a `corrupt` database fails DBCC CHECKDB. A database `encrypted_by` a certificate can be restored only to
    instances that have it.
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
        """The recovery model, by default as SQL Server sets it: Simple for master, msdb and tempdb."""
        if self.recovery_model is not None:
            return self.recovery_model
        return "Simple" if self.name.lower() in SYSTEM_DATABASES - {"model"} else "Full"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.history_days and self.protected_by is None:
            raise ValueError(f"database {self.name} has historyDays but no protectedBy")
        if self.files is not None:
            kinds = {file.type for file in self.files}
            if kinds != {"Data", "Log"}:
                raise ValueError(
                    f"database {self.name} has files, and needs at least one Data and one Log file"
                )
            no_duplicates([file.logical_name for file in self.files], f"files of database {self.name}")
        return self


class InstanceScenario(Part):
    """A SQL Server instance with its default directories, and the certificates it has.

    `protected_by` is the policy that protects it as a whole, `auto_protected_by` the policy of its auto-protection.
    With `system_is_sysadmin` run commands may check and drop databases.
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
    def _consistent(self) -> Self:
        if self.protected_by is not None:
            if self.failover_cluster:
                raise ValueError(f"instance {self.name} is a failover cluster instance, and has protectedBy")
            for database in self.databases:
                if database.protected_by is not None:
                    raise ValueError(
                        f"database {database.name} has protectedBy, but instance {self.name} is protected as a whole"
                    )
        no_duplicates([database.name for database in self.databases], f"databases of instance {self.name}")
        if self.failover_cluster:
            for database in self.databases:
                if database.protected_by is not None:
                    raise ValueError(
                        f"database {database.name} has protectedBy, but instance {self.name} is a failover cluster "
                        "instance, which the service does not back up"
                    )
        return self


class VirtualMachineScenario(Part):
    """A virtual machine; without `instances` it has no SQL Server.

    A `deleted` machine is gone from Azure, but still registered: its backups are kept. In a `domain`, items name it
    by its full host name; with `job_names` full, its jobs do too. Resource Graph lists it as a machine with SQL
    Server only if it has the `sql_iaas_extension`. Without `agent_ready` its run commands never begin; `run_commands`
    are the names of existing ones, which have ended. Restores that need more than `free_mb` fail.
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
        no_duplicates([instance.name for instance in self.instances], f"instances of {self.name}")
        if self.deleted and self.registered_to is None:
            raise ValueError(f"{self.name} is deleted, but has no registeredTo: there would be nothing of it")
        if self.registered_to is None:
            for what, key, _ in self.policies_named():
                raise ValueError(f"{what} of {self.name} has {key}, but {self.name} has no registeredTo")
        return self

    def policies_named(self) -> Iterator[tuple[str, str, str]]:
        """What on the machine names a policy, by which key, and the policy's name."""
        for instance in self.instances:
            if instance.protected_by is not None:
                yield f"instance {instance.name}", "protectedBy", instance.protected_by
            if instance.auto_protected_by is not None:
                yield f"instance {instance.name}", "autoProtectedBy", instance.auto_protected_by
            for database in instance.databases:
                if database.protected_by is not None:
                    yield f"database {database.name}", "protectedBy", database.protected_by


class AvailabilityGroupScenario(Part):
    """An Always On availability group on an instance of several machines; the first has the primary replica unless
    `primary` names another.

    Its databases are on that instance of each machine; name them here only.
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
        no_duplicates(list(self.virtual_machines), f"machines of availability group {self.name}")
        no_duplicates(
            [entry.name for entry in self.databases], f"databases of availability group {self.name}"
        )
        if self.primary_machine.lower() not in {name.lower() for name in self.virtual_machines}:
            raise ValueError(
                f"the primary {self.primary} of availability group {self.name} is not among its virtualMachines"
            )
        return self
