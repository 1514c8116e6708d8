"""What is reported about a database's backups: the state, since when, why, and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Final

from shared.arm.ids import ProtectedItemId, VaultId, VirtualMachineId
from shared.clock import ServiceTime
from shared.messages.identity import Database
from shared.names import name_key

#: The name that stands for all databases of a VM or an instance, where none can be named.
EVERY_DATABASE: Final = "*"


def group_key(name: str) -> str:
    """Identifies an availability group within its vault, beside the keys of VMs."""
    return f"group;{name.lower()}"


class CoverageState(StrEnum):
    """The state of a database's backups; the worst first."""

    FAILING = "failing"  #: its last backup failed
    STALE = "stale"  #: its last backup is older than the policy, or the request, allows
    NEVER_BACKED_UP = "neverBackedUp"  #: it is protected, and there is nothing to restore yet
    UNPROTECTED = "unprotected"
    STOPPED = "stopped"  #: its protection was stopped, or its backups were deleted
    UNHEALTHY = "unhealthy"  #: backed up until now; the service cannot reach it, or cannot look into its VM
    WRONG_POLICY = "wrongPolicy"  #: another policy protects it than the request names
    UNKNOWN = "unknown"  #: nothing can be said; the code gives the reason
    COVERED = "covered"

    @property
    def is_gap(self) -> bool:
        """Whether somebody has to do something. `unknown` is no gap, but is reported."""
        return self not in (CoverageState.COVERED, CoverageState.UNKNOWN)


SEVERITY: Final = {state: rank for rank, state in enumerate(CoverageState)}


class CoverageCode(StrEnum):
    """Why a database is in its state, where the service gives no code of its own."""

    BACKUP_FAILED = "BackupFailed"
    BACKUP_TOO_OLD = "BackupTooOld"
    FIRST_BACKUP_PENDING = "FirstBackupPending"
    NOT_PROTECTED = "NotProtected"
    NOT_PROTECTABLE = "NotProtectable"
    NOT_REGISTERED = "NotRegistered"
    PROTECTION_STOPPED = "ProtectionStopped"
    SOFT_DELETED = "ItemSoftDeleted"
    PROTECTION_ERROR = "ProtectionError"
    NOT_REACHABLE = "NotReachable"
    CONTAINER_UNHEALTHY = "ContainerUnhealthy"
    VM_DELETED = "VirtualMachineDeleted"
    NOT_DISCOVERED = "NotDiscovered"
    OTHER_POLICY = "ProtectedByAnotherPolicy"
    RECOVERY_MODEL_UNREAD = "RecoveryModelUnread"
    POLICY_UNREAD = "PolicyUnread"
    STATUS_UNKNOWN = "BackupStatusUnknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class DatabaseCoverage:
    """The state of one database's backups. `database.name` is `*` for all of a VM or an instance."""

    vault_id: VaultId | None
    database: Database
    state: CoverageState
    #: the service's code where it gives one, else a CoverageCode; empty where the database is covered
    code: str = ""
    #: what is the matter, a sentence
    message: str = ""
    #: what to do, sentences
    advice: str = ""
    #: failing and stale: the last good backup, as far as it is known; neverBackedUp: when it was protected;
    #: unprotected and stopped: when protection was stopped or its backups were deleted; None where no listing tells
    since: ServiceTime | None = None
    #: the last attempt, whether it succeeded or not
    last_backup_time: ServiceTime | None = None
    #: its status, in the service's words
    last_backup_status: str = ""
    policy_name: str | None = None
    item_id: ProtectedItemId | None = None
    recovery_model: str | None = None
    #: how old the last backup may be, where that is known
    allowed_age: timedelta | None = None
    #: a protection intent of its instance protects what is new there
    auto_protected: bool = False
    #: a backup of it is running
    backup_running: bool = False
    #: the host's name as it appears in jobs
    server_name: str = ""

    @property
    def is_gap(self) -> bool:
        """Whether somebody has to do something."""
        return self.state.is_gap

    @property
    def needs_recovery_model(self) -> bool:
        """Whether its state depends on a single read of its protected item."""
        return self.code == CoverageCode.RECOVERY_MODEL_UNREAD and self.item_id is not None

    @property
    def place(self) -> str:
        """The VM's name, or the availability group's."""
        database = self.database
        if database.vm_id is not None:
            return database.vm_id.name
        return database.availability_group or self.server_name

    @property
    def place_key(self) -> str:
        """Identifies the VM or the availability group within its vault."""
        if self.database.vm_id is not None:
            return self.database.vm_id.key
        return group_key(self.database.availability_group or self.server_name)

    @property
    def key(self) -> tuple[str, str, str]:
        """Identifies the database within its vault."""
        return self.place_key, name_key(self.database.parent), self.database.name

    @property
    def order(self) -> tuple[int, str, str, str]:
        """Sorts the worst first, then by VM, instance and name."""
        parent = name_key(self.database.parent)
        return SEVERITY[self.state], name_key(self.place), parent, name_key(self.database.name)


@dataclass(frozen=True, kw_only=True, slots=True)
class RegisteredContainer:
    """A VM or an availability group that is registered to the vault."""

    name: str
    vm_id: VirtualMachineId | None
    health: str
    #: when the service last changed its entry; an inquiry does not change it
    updated: ServiceTime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class VaultCoverage:
    """The states of a vault's databases, at a moment of the service's time."""

    vault_id: VaultId
    at: ServiceTime
    #: the worst first
    databases: tuple[DatabaseCoverage, ...]
    containers: tuple[RegisteredContainer, ...] = ()
    #: how many databases the request leaves out, by reason
    left_out: dict[str, int] = field(default_factory=dict)
    #: selectors of the request that match no database
    missed: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[CoverageState, int]:
        """How many there are in each state, those of none left out; the worst first."""
        return counts_of(self.databases)


def counts_of(databases: Iterable[DatabaseCoverage]) -> dict[CoverageState, int]:
    """How many there are in each state, those of none left out; the worst first."""
    counts = Counter(entry.state for entry in databases)
    return {state: counts[state] for state in CoverageState if counts[state]}
