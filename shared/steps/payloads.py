"""The payloads of messages to steps: first of a request on its way to its databases, then of one database."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Sequence
from typing import Any, Final, Literal

from pydantic import Field, TypeAdapter, field_validator, model_validator

from shared.arm.ids import VirtualMachineId
from shared.engine.message import DatabasePayload, Ending, Payload
from shared.messages.events import ErrorInfo, Status
from shared.messages.identity import Database
from shared.messages.model import Duration, MachineMoment, Moment, TolerantModel, VaultIdField
from shared.messages.parked_body import inflated
from shared.messages.requests import (
    AlternateTarget,
    BackupData,
    BackupType,
    CoverageData,
    DrillData,
    FilesTarget,
    OriginalTarget,
    ProtectData,
    RecoveryPointChoice,
    RestoreData,
)
from shared.names import name_key


class Plan(Payload):
    """A request whose databases are not known or not accepted yet."""

    #: the selection that was made for it, packed; a delivery with this makes no other
    fixed: str | None = None
    outcome_count: int = 1

    @property
    def is_accepted(self) -> bool:
        return False

    @property
    def is_fixed(self) -> bool:
        return self.fixed is not None

    @property
    def vm_id(self) -> VirtualMachineId | None:
        found = getattr(getattr(self, "data", None), "vm_id", None)
        return found if isinstance(found, VirtualMachineId) else None


class ProtectPlan(Plan):
    """A protect request on its way to its databases."""

    data: ProtectData
    policy_id: str | None = None
    policy_name: str | None = None
    #: name and path of the VM's container, once it is registered
    container_id: str | None = None
    inquired: bool = False


class ProtectTask(DatabasePayload):
    """One database to be protected."""

    policy_id: str
    policy_name: str
    #: already: nothing to do but to say so; undelete: then resume; autoProtect: its instance, whose id `item_id` is
    action: Literal["enable", "already", "changePolicy", "resume", "undelete", "autoProtect"]
    #: of an item that is protected already
    protection_state: str | None = None
    #: where another request turns out to have protected it by another policy
    on_existing: Literal["fail", "keep", "changePolicy"] = "fail"
    #: whether another request may have protected it since: that is checked before the call
    look_at_item: bool = False
    outcome_count: int
    first_backup: Literal["scheduled", "now"] = "scheduled"

    @property
    def variant(self) -> str:
        return self.action


class Planned(TolerantModel):
    """The due time of a planned message, and the digest of its schedule at that time."""

    due: MachineMoment
    digest: str


class BackupPlan(Plan):
    """A backup request on its way to its databases."""

    data: BackupData
    #: where a schedule asks for it: to be compared with the schedule as it is when it is due
    planned: Planned | None = None


class CoveragePlan(Plan):
    """A coverage request on its way to its vaults."""

    data: CoverageData
    #: where a schedule asks for it: to be compared with the schedule as it is when it is due
    planned: Planned | None = None
    #: the vaults that were found, as ARM ids; a delivery with this looks for no others
    vaults: tuple[str, ...] | None = None

    @property
    def is_fixed(self) -> bool:
        return self.vaults is not None


class VaultTask(Payload):
    """One vault to survey, or one of its VMs to inquire for that."""

    vault_id: VaultIdField
    outcome_count: int = 1
    #: None in an inquiry
    data: CoverageData | None = None
    #: whether its VMs were inquired, as far as needed
    inquired: bool = False
    #: the container of the VM to inquire
    container_id: str | None = None

    @property
    def part(self) -> str:
        return self.vault_id.key if self.container_id is None else self.container_id.lower()

    @property
    def subject(self) -> str | None:
        return self.vault_id.path

    @property
    def is_accepted(self) -> bool:
        return True

    @property
    def is_silent(self) -> bool:
        """Nobody asked for an inquiry: the survey sees its result."""
        return self.container_id is not None


class BackupTask(DatabasePayload):
    """One database to be backed up."""

    policy_name: str | None = None
    backup_type: BackupType
    retain_for: Duration | None = None
    retain_until: Moment | None = None
    compression: bool | None = None
    if_running: Literal["wait", "skip"] = "wait"
    unless_newer_than: Duration | None = None
    by_pattern: bool = False
    outcome_count: int


class RestorePlan(Plan):
    """A restore request whose recovery point is to be chosen."""

    data: RestoreData

    @property
    def about(self) -> Database:
        """The database that the request names."""
        return Database(
            vm_id=self.data.vm_id,
            instance=self.data.instance,
            availability_group=self.data.availability_group,
            name=self.data.database,
        )


class ChosenRecoveryPoint(TolerantModel):
    """The recovery point that a restore goes back to."""

    name: str
    kind: str
    time: Moment
    point_in_time: Moment | None = None


class DrillPlan(Plan):
    """A drill request on its way to its databases."""

    data: DrillData
    #: where a schedule asks for it
    planned: Planned | None = None


class DrillSource(DatabasePayload):
    """One database whose turn it is."""

    outcome_count: int


def packed(body: bytes) -> str:
    """JSON that is packed for a message."""
    # Without a timestamp in it, equal bodies are packed alike.
    return base64.b64encode(gzip.compress(body, mtime=0)).decode()


def unpacked(text: str, *, longest: int) -> bytes:
    """What was packed. Raises ValueError for any other text, and where there is more than `longest` bytes."""
    return inflated(base64.b64decode(text), longest=longest)


_SOURCES: Final = TypeAdapter(tuple[DrillSource, ...])
#: The most bytes of a request's drills, unpacked: a hundred with the longest names and ids.
_MOST_UNPACKED: Final = 1024 * 1024


def packed_sources(sources: Sequence[DrillSource]) -> str:
    """Drills to be done one after the other, packed for a message."""
    return packed(_SOURCES.dump_json(tuple(sources), by_alias=True, exclude_none=True))


def unpacked_sources(text: str) -> tuple[DrillSource, ...]:
    """The drills in such a text. Raises ValueError for any other text."""
    return _SOURCES.validate_json(unpacked(text, longest=_MOST_UNPACKED))


class Drill(TolerantModel):
    """What a drill has to do, and how far it has come."""

    #: the recovery point to restore, once its turn has come
    choice: RecoveryPointChoice
    check: Literal["none", "checkdb"]
    clean_up: bool
    #: the epoch in which its request was selected: a replay of one drill does not start the next one again
    epoch: int = 0
    #: the drills of the request that come after it, packed
    rest: str | None = None
    #: when its turn came, by the service's clock
    began: Moment | None = None
    #: what it has achieved so far: restored, then checked
    so_far: Ending | None = None
    #: when the run command of the step at hand was asked for, and when one in its way was last deleted
    asked_at: Moment | None = None
    deleted_at: Moment | None = None

    @field_validator("rest")
    @classmethod
    def _can_be_unpacked(cls, value: str | None) -> str | None:
        # Once its message is given up, no step is left that could fail on what follows.
        if value is not None:
            unpacked_sources(value)
        return value


class RestoreTask(DatabasePayload):
    """One database to be restored."""

    #: of a drill: set once its turn has come
    recovery_point: ChosenRecoveryPoint | None = None
    target: OriginalTarget | AlternateTarget | FilesTarget = Field(discriminator="kind")
    overwrite: bool
    no_recovery: bool
    outcome_count: int = 1
    #: warnings for its outcome, where it succeeds
    warnings: tuple[str, ...] = ()
    #: the properties of the call, once everything that it needs was read
    prepared: dict[str, Any] | None = None
    #: the drill that the restore is for
    drill: Drill | None = None

    @model_validator(mode="after")
    def _is_chosen(self) -> RestoreTask:
        if self.recovery_point is None and self.drill is None:
            raise ValueError("recoveryPoint is needed, except for a drill whose turn has not come")
        return self

    @property
    def drills(self) -> tuple[str, str] | None:
        target = self.target
        if self.drill is None or not isinstance(target, AlternateTarget):
            return None
        return self.database.key, f"{target.vm_id.key};{name_key(target.instance)}"


class CertainFailure(TolerantModel):
    """A database of a request that fails before a step is made for it."""

    database: Database
    status: Status
    error: ErrorInfo


class FixedSelection(TolerantModel):
    """The databases that a request means, decided once: a second delivery must not decide otherwise."""

    tasks: tuple[dict[str, Any], ...] = ()
    failures: tuple[CertainFailure, ...] = ()
    #: how many databases were skipped, by reason, and up to 100 of their names
    skipped: dict[str, int] = {}
    names: tuple[str, ...] = ()
