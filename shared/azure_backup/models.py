"""Models of Azure Backup's answers, flattened to what this app needs.

Answers have more fields than these and may lack some: unknown fields are ignored, and only what identifies a resource
is required. Names, types and oddities (`IsProtectable`, `workLoadType`) follow the REST
specification Microsoft.RecoveryServices 2024-04-01 and recorded answers of the service.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from sys import intern
from typing import Annotated, Any, Final, NamedTuple, Self, cast

from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from shared.arm.ids import (
    ContainerId,
    InvalidResourceIdError,
    ProtectedItemId,
    RecoveryPointId,
    ResourceId,
    VaultId,
    VirtualMachineId,
    decoded_name,
)
from shared.azure_backup.wire import Texts, WireDuration, WireTime, parse_time, uuid_text
from shared.clock import ServiceTime

__all__ = [
    "AVAILABILITY_GROUP_CONTAINER",
    "Container",
    "DataDirectory",
    "DataFile",
    "ErrorDetail",
    "Inquiry",
    "InquiryDetail",
    "Job",
    "JobError",
    "JobStatus",
    "JobTask",
    "OperationResult",
    "OperationStatus",
    "Policy",
    "ProtectableContainer",
    "ProtectableItem",
    "ProtectedItem",
    "ProtectionIntent",
    "RecoveryPoint",
    "ResourceGuardProxy",
    "StartedOperation",
    "Tier",
    "TimeRange",
    "Vault",
    "WireModel",
    "WorkloadItem",
]

#: how the name of a container begins that is an availability group: its databases are in it
AVAILABILITY_GROUP_CONTAINER: Final = "sqlagworkloadcontainer;"


class DataDirectory(NamedTuple):
    """An instance's default directory for files of a type (`Data` or `Log`)."""

    type: str
    path: str


class DataFile(NamedTuple):
    """A file of a database at the time of a recovery point."""

    type: str
    path: str
    logical_name: str


class TimeRange(NamedTuple):
    """From `start` to `end`, both included, a database can be restored to any whole second."""

    start: ServiceTime
    end: ServiceTime

    @property
    def whole_seconds(self) -> TimeRange | None:
        """The range cut to whole seconds; None where it holds none."""
        end = self.end.replace(microsecond=0)
        if self.start > end:
            return None
        start = self.start.replace(microsecond=0)
        return TimeRange(start if start == self.start else start + timedelta(seconds=1), end)


class Tier(NamedTuple):
    """A tier that stores a recovery point (`archivedrp`, `hardenedrp`, `instantrp`), and its status."""

    type: str
    status: str


class JobTask(NamedTuple):
    """A step of a job, as the portal shows it."""

    task_id: str
    status: str


def _in_properties(*names: str) -> AliasPath | AliasChoices:
    """Reads a field from `properties`, by the first of these names that is there."""
    paths = [AliasPath("properties", *name.split(".")) for name in names]
    return paths[0] if len(paths) == 1 else AliasChoices(*paths)


def _listed(read: Callable[[dict[str, Any]], object]) -> BeforeValidator:
    """A list of objects, each as `read` gives it; a missing list is empty."""

    def validate(value: object) -> object:
        if not isinstance(value, list):
            return () if value is None else value
        return [read(item) if isinstance(item, dict) else item for item in value]

    return BeforeValidator(validate)


def _texts_of(*fields: str) -> BeforeValidator:
    """A list of objects, each as a tuple of these fields, `""` for what it lacks."""
    return _listed(lambda item: tuple(item.get(name) or "" for name in fields))


def _time_range(item: dict[str, Any]) -> object:
    return parse_time(item.get("startTime")), parse_time(item.get("endTime"))


def _tier(item: dict[str, Any]) -> object:
    return _word(item.get("type"), _TIER_TYPES), _word(item.get("status"), _TIER_STATES)


#: RecoveryPointTierType and RecoveryPointTierStatus in the order of their numbers, which answers of 2021 have instead.
_TIER_TYPES: Final = ("invalid", "instantrp", "hardenedrp", "archivedrp", "iasnapshotrp")
_TIER_STATES: Final = ("invalid", "valid", "disabled", "deleted", "rehydrated")


def _word(value: object, words: Sequence[str]) -> str:
    """An enumeration's value in lower case, empty where missing; answers of 2021 have its number instead."""
    text = "" if value is None else str(value).lower()
    return words[int(text)] if re.fullmatch(r"\d", text) and int(text) < len(words) else text


def _kept_once(value: object) -> object:
    """Keeps one copy in memory of a text that thousands of items share (a state, a policy's id)."""
    return intern(value) if type(value) is str else value


def _blank(value: object) -> object:
    return "" if value is None else _kept_once(value)


def _none_if_blank(value: object) -> object:
    return None if value == "" else _kept_once(value)


def _last_segment(value: object) -> object:
    return _kept_once(decoded_name(value.rpartition("/")[2])) or None if isinstance(value, str) else value


def _vault_id(value: object) -> object:
    return VaultId.listed(value) if isinstance(value, str) else value


def _id_or_none(kind: type[VirtualMachineId] | type[RecoveryPointId]) -> BeforeValidator:
    """Reads an id of this kind; None where it is anything else."""

    def read(value: object) -> object:
        try:
            return value if isinstance(value, kind) or value is None else kind.listed(cast("str", value))
        except InvalidResourceIdError:
            return None

    return BeforeValidator(read)


def _id_by_name(read: Callable[[str, str], ResourceId]) -> Any:
    """A validator that reads an entry's id with the help of its name, which Azure does not encode."""

    def validate(body: Any) -> Any:
        if not isinstance(body, dict) or not isinstance(body.get("id"), str):
            return body
        name = body.get("name")
        return {**body, "id": read(body["id"], name if isinstance(name, str) else "")}

    return model_validator(mode="before")(validate)


def _flag(value: object) -> object:
    return False if value is None else value


Text = Annotated[str, BeforeValidator(_blank)]
OptionalText = Annotated[str | None, BeforeValidator(_none_if_blank)]
Flag = Annotated[bool, BeforeValidator(_flag)]
#: None for an availability group, or a classic VM
OptionalVirtualMachine = Annotated[VirtualMachineId | None, _id_or_none(VirtualMachineId)]


_NOT_KEPT: Final[set[str]] = set()


class WireModel(BaseModel):
    """A model that is built by field names, or from an answer by `from_wire`."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        validate_by_alias=True,
        validate_by_name=True,
        coerce_numbers_to_str=True,
    )

    @classmethod
    def from_wire(cls, body: object) -> Self:
        """The model of an answer's body. Raises pydantic's ValidationError.

        Only the service's names count here: the `properties` of a body are not the `properties` of a job.
        """
        model = cls.model_validate(body, by_alias=True, by_name=False)
        # Which fields were set is never asked, and that set takes a third of the memory of thousands of models.
        object.__setattr__(model, "__pydantic_fields_set__", _NOT_KEPT)
        return model

    @classmethod
    def readable_part(cls, body: object) -> Self | None:
        """The model of a body without its invalid fields; None where too little is left."""
        part = _copy(body) if isinstance(body, dict) else {}
        for _ in range(_MOST_REPAIRS):
            try:
                return cls.from_wire(part)
            except ValidationError as error:
                taken = [_without(part, problem["loc"]) for problem in error.errors(include_url=False)]
                if not any(taken):
                    return None
        return None


#: A second problem may show only once the first is removed.
_MOST_REPAIRS: Final = 8


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copy(entry) for name, entry in value.items()}
    return list(map(_copy, value)) if isinstance(value, list) else value


def _without(body: Any, place: Sequence[int | str]) -> bool:
    """Remove what is at a place in a body, or else the nearest thing around it; tells whether anything was there."""
    if not place:
        return False
    *above, last = place
    holder = body
    for step in above:
        try:
            holder = holder[step]
        except (KeyError, IndexError, TypeError):
            return _without(body, above)
    if isinstance(holder, dict):
        return holder.pop(last, _NOTHING) is not _NOTHING
    if isinstance(holder, list) and isinstance(last, int) and last < len(holder):
        # List entries keep their places, which later problems refer to.
        holder[last] = {}
        return True
    return _without(body, above)


_NOTHING: Final = object()


class ErrorDetail(WireModel):
    """What is wrong with an item or an instance, in the service's words."""

    code: Text = ""
    message: Text = ""
    recommendations: Texts = ()

    @property
    def is_failure(self) -> bool:
        """Whether it reports a failure: `Success` is an error code too."""
        return self.code.lower() not in ("", "success")


def _error_or_none(value: object) -> object:
    if isinstance(value, dict):
        detail = ErrorDetail.from_wire(value)
        return detail if detail.is_failure else None
    return value


OptionalError = Annotated[ErrorDetail | None, BeforeValidator(_error_or_none)]


class Vault(WireModel):
    """A Recovery Services vault."""

    id: Annotated[VaultId, BeforeValidator(_vault_id)]
    name: str
    location: Text = ""
    provisioning_state: Text = Field(default="", validation_alias=_in_properties("provisioningState"))
    redundancy: OptionalText = Field(
        default=None,
        validation_alias=_in_properties("redundancySettings.standardTierStorageRedundancy"),
    )
    tags: Annotated[dict[str, Text], BeforeValidator(lambda value: value or {})] = {}

    @property
    def is_provisioned(self) -> bool:
        """Whether it can be used: older answers leave this out and mean yes."""
        return self.provisioning_state.lower() in ("", "succeeded")

    @property
    def has_failed(self) -> bool:
        """Whether its creation has ended without a usable vault."""
        return self.provisioning_state.lower() in ("failed", "canceled", "cancelled")


#: What a resource guard calls a restore.
_RESTORE: Final = (
    "microsoft.recoveryservices/vaults/backupfabrics/protectioncontainers/protecteditems"
    "/recoverypoints/restore/action"
)


class ResourceGuardProxy(WireModel):
    """A vault's link to the resource guard that has to consent to critical operations (multi-user authorization)."""

    resource_guard_id: Text = Field(default="", validation_alias=_in_properties("resourceGuardResourceId"))
    #: the operations that need the guard's consent
    operations: Annotated[tuple[str, ...], _listed(lambda item: item.get("vaultCriticalOperation") or "")] = (
        Field(default=(), validation_alias=_in_properties("resourceGuardOperationDetails"))
    )

    @property
    def guards_restores(self) -> bool:
        """Whether restores need the guard's consent: its owner chooses which operations do."""
        return any(operation.lower() == _RESTORE for operation in self.operations)


class Policy(WireModel):
    """A backup policy."""

    id: str
    name: str
    backup_management_type: Text = Field(default="", validation_alias=_in_properties("backupManagementType"))
    workload_type: Text = Field(default="", validation_alias=_in_properties("workLoadType", "workloadType"))
    protected_items_count: int | None = Field(
        default=None, validation_alias=_in_properties("protectedItemsCount")
    )
    #: `Streaming`, or a kind of `Snapshot`; missing in answers of 2024 and before
    policy_type: Text = Field(default="", validation_alias=_in_properties("vmWorkloadPolicyType"))
    properties: dict[str, Any] = {}
    #: what is wrong with the answer, where no more than its name can be read of it
    unreadable: str | None = None

    @property
    def is_for_sql(self) -> bool:
        """Whether it is for SQL Server in Azure VMs: for databases, or for whole instances."""
        return self.backup_management_type.lower() == "azureworkload" and self.workload_type.lower() in (
            "sqldatabase",
            "sql",
            "sqlinstance",
        )

    @property
    def cannot_protect(self) -> str | None:
        """Why this app protects no database with it, as the end of a sentence; None where it does."""
        if self.unreadable is not None:
            return f"cannot be read: {self.unreadable}"
        if self.workload_type.lower() == "sqlinstance":
            return "is for whole instances, and this app protects databases one by one"
        snapshots = [kind for kind in self.backup_types if kind.lower().startswith("snapshot")]
        if snapshots or self.policy_type.lower().startswith("snapshot"):
            return "takes snapshots of disks, which this app does not handle"
        return None

    @property
    def backup_types(self) -> tuple[str, ...]:
        """The backup types that it schedules: `Full`, `Differential`, `Log`."""
        parts = self.properties.get("subProtectionPolicy")
        return tuple(
            sub["policyType"]
            for sub in (parts if isinstance(parts, list) else ())
            if isinstance(sub, dict) and isinstance(sub.get("policyType"), str)
        )


class ProtectableContainer(WireModel):
    """A VM that can be registered to the vault; whether it has SQL Server is not known yet."""

    id: Text = ""
    name: str
    virtual_machine_id: OptionalVirtualMachine = Field(
        default=None, validation_alias=_in_properties("containerId")
    )
    friendly_name: Text = Field(default="", validation_alias=_in_properties("friendlyName"))
    container_type: Text = Field(default="", validation_alias=_in_properties("protectableContainerType"))


class InquiryDetail(WireModel):
    """The result of the last inquiry for one workload (`SQL`)."""

    type: Text = ""
    item_count: int | None = Field(default=None, validation_alias="itemCount")
    status: Text = Field(default="", validation_alias=AliasPath("inquiryValidation", "status"))
    error: OptionalError = Field(default=None, validation_alias=AliasPath("inquiryValidation", "errorDetail"))
    additional_detail: Text = Field(
        default="", validation_alias=AliasPath("inquiryValidation", "additionalDetail")
    )


class Inquiry(WireModel):
    """The last inquiry of a container. It may have succeeded as a whole and failed for a workload."""

    status: Text = ""
    error: OptionalError = Field(default=None, validation_alias="errorDetail")
    details: Annotated[tuple[InquiryDetail, ...], BeforeValidator(lambda value: value or ())] = Field(
        default=(), validation_alias="inquiryDetails"
    )

    @property
    def failure(self) -> ErrorDetail | None:
        """Why the databases of the VM are not known, the innermost reason first; None where they are known."""
        for detail in self.details:
            if detail.type.lower() == "sql" and (detail.error or detail.status.lower() in _FAILED):
                return detail.error or ErrorDetail(code=detail.status, message=detail.additional_detail)
        if self.error is not None or self.status.lower() in _FAILED:
            return self.error or ErrorDetail(code=self.status)
        return None


_FAILED = ("failed", "failure", "invalid", "error")


class Container(WireModel):
    """A VM or an availability group that is registered to a vault."""

    _id = _id_by_name(ContainerId.listed)

    id: ContainerId
    name: str
    virtual_machine_id: OptionalVirtualMachine = Field(
        default=None, validation_alias=_in_properties("sourceResourceId")
    )
    friendly_name: Text = Field(default="", validation_alias=_in_properties("friendlyName"))
    health_status: Text = Field(default="", validation_alias=_in_properties("healthStatus"))
    last_updated: WireTime = Field(default=None, validation_alias=_in_properties("lastUpdatedTime"))
    inquiry: Inquiry | None = Field(default=None, validation_alias=_in_properties("extendedInfo.inquiryInfo"))

    @property
    def is_of_deleted_vm(self) -> bool:
        """Whether its VM has been deleted: its databases can be restored elsewhere, not protected."""
        return self.health_status.lower() == "deleted"


class ProtectableItem(WireModel):
    """An instance, an availability group, or a database that is not protected yet."""

    id: str
    wire_name: str = Field(validation_alias="name")
    item_type: Text = Field(default="", validation_alias=_in_properties("protectableItemType"))
    instance: Text = Field(default="", validation_alias=_in_properties("parentName"))
    server_name: Text = Field(default="", validation_alias=_in_properties("serverName"))
    name: Text = Field(default="", validation_alias=_in_properties("friendlyName"))
    is_protectable: Flag = Field(
        default=False, validation_alias=_in_properties("isProtectable", "IsProtectable")
    )
    is_auto_protected: Flag = Field(default=False, validation_alias=_in_properties("isAutoProtected"))
    prebackup_validation: OptionalError = Field(
        default=None, validation_alias=_in_properties("prebackupvalidation", "preBackupValidation")
    )

    @property
    def protected_item_id(self) -> ProtectedItemId:
        """The id that it has, or will have, as a protected item."""
        return ProtectedItemId.from_protectable_item(self.id, self.wire_name)

    @property
    def container(self) -> ContainerId:
        """The VM or availability group it is in."""
        return self.protected_item_id.container

    @property
    def is_instance(self) -> bool:
        """Whether it is a SQL Server instance."""
        return self.item_type.lower() == "sqlinstance"

    @property
    def is_database(self) -> bool:
        """Whether it is a database."""
        return self.item_type.lower() == "sqldatabase"

    @property
    def is_availability_group(self) -> bool:
        """Whether it is an availability group."""
        return self.item_type.lower() == "sqlavailabilitygroupcontainer"

    @property
    def in_availability_group(self) -> bool:
        """Whether its `instance` is the name of an availability group."""
        return self.container.name.lower().startswith(AVAILABILITY_GROUP_CONTAINER)


class ProtectionIntent(WireModel):
    """The intent to protect every database of an instance or availability group: auto-protection."""

    name: str
    policy_name: Annotated[str | None, BeforeValidator(_last_segment)] = Field(
        default=None, validation_alias=_in_properties("policyId")
    )


class WorkloadItem(WireModel):
    """An instance or a database on a registered VM, protected or not."""

    wire_name: str = Field(validation_alias="name")
    item_type: Text = Field(default="", validation_alias=_in_properties("workloadItemType"))
    name: Text = Field(default="", validation_alias=_in_properties("friendlyName"))
    instance: Text = Field(default="", validation_alias=_in_properties("parentName"))
    server_name: Text = Field(default="", validation_alias=_in_properties("serverName"))
    data_directories: Annotated[tuple[DataDirectory, ...], _texts_of("type", "path")] = Field(
        default=(), validation_alias=_in_properties("dataDirectoryPaths")
    )


class ProtectedItem(WireModel):
    """A database that the vault protects, has protected, or has soft-deleted."""

    _id = _id_by_name(ProtectedItemId.listed)

    id: ProtectedItemId
    name: Text = Field(default="", validation_alias=_in_properties("friendlyName"))
    instance: Text = Field(default="", validation_alias=_in_properties("parentName"))
    server_name: Text = Field(default="", validation_alias=_in_properties("serverName"))
    virtual_machine_id: OptionalVirtualMachine = Field(
        default=None, validation_alias=_in_properties("sourceResourceId")
    )
    parent_type: Text = Field(default="", validation_alias=_in_properties("parentType"))
    protected_item_type: Text = Field(default="", validation_alias=_in_properties("protectedItemType"))
    protection_level: Text = Field(default="", validation_alias=_in_properties("protectionLevel"))
    #: `SnapshotV1` and `SnapshotV2` where its policy takes snapshots
    policy_type: Text = Field(
        default="", validation_alias=_in_properties("vmWorkloadPolicyType", "policyType")
    )
    protection_state: Text = Field(default="", validation_alias=_in_properties("protectionState"))
    protection_status: Text = Field(default="", validation_alias=_in_properties("protectionStatus"))
    last_backup_status: Text = Field(default="", validation_alias=_in_properties("lastBackupStatus"))
    last_backup_time: WireTime = Field(default=None, validation_alias=_in_properties("lastBackupTime"))
    last_backup_error: OptionalError = Field(
        default=None, validation_alias=_in_properties("lastBackupErrorDetail")
    )
    policy_id: OptionalText = Field(default=None, validation_alias=_in_properties("policyId"))
    #: the policy it is protected by; None once protection is stopped
    policy_name: Annotated[str | None, BeforeValidator(_last_segment)] = Field(
        default=None, validation_alias=_in_properties("policyId", "policyName")
    )
    recovery_model: OptionalText = Field(
        default=None, validation_alias=_in_properties("extendedInfo.recoveryModel")
    )
    is_scheduled_for_deferred_delete: Flag = Field(
        default=False, validation_alias=_in_properties("isScheduledForDeferredDelete")
    )
    last_recovery_point: WireTime = Field(default=None, validation_alias=_in_properties("lastRecoveryPoint"))
    health_status: Text = Field(
        default="", validation_alias=_in_properties("protectedItemHealthStatus", "healthStatus")
    )

    @property
    def in_availability_group(self) -> bool:
        """Whether its `instance` is the name of an availability group."""
        return (
            self.parent_type.lower() == "azurevmworkloadsqlavailabilitygroup"
            or self.id.container.name.lower().startswith(AVAILABILITY_GROUP_CONTAINER)
        )


#: the states of a tier from which a recovery point can be restored; a missing state counts as one of them
_RESTORABLE: Final = ("valid", "rehydrated", "")
_SNAPSHOT_TIERS: Final = frozenset({"instantrp", "iasnapshotrp"})


class RecoveryPoint(WireModel):
    """A backup that can be restored, or all log ranges at once under `DefaultRangeRecoveryPoint`."""

    #: None where the name has a form that is not known: it is addressed by its name, below its item
    id: Annotated[RecoveryPointId | None, _id_or_none(RecoveryPointId)]
    name: str
    kind: Text = Field(default="", validation_alias=_in_properties("type"))
    time: WireTime = Field(default=None, validation_alias=_in_properties("recoveryPointTimeInUTC"))
    time_ranges: Annotated[tuple[TimeRange, ...], _listed(_time_range)] = Field(
        default=(), validation_alias=_in_properties("timeRanges")
    )
    data_directories: Annotated[tuple[DataFile, ...], _texts_of("type", "path", "logicalName")] = Field(
        default=(), validation_alias=_in_properties("extendedInfo.dataDirectoryPaths")
    )
    #: empty where the service does not tell (before 2021-06)
    tiers: Annotated[tuple[Tier, ...], _listed(_tier)] = Field(
        default=(), validation_alias=_in_properties("recoveryPointTierDetails")
    )
    is_soft_deleted: Flag = Field(
        default=False, validation_alias=_in_properties("recoveryPointProperties.isSoftDeleted")
    )
    #: when its retention ends
    expires: WireTime = Field(
        default=None, validation_alias=_in_properties("recoveryPointProperties.expiryTime")
    )
    #: what a scan for threats found of it: `Healthy`, `UnHealthy`, `Warning`, `Unknown`, `NotAvailable`
    threat_status: OptionalText = Field(default=None, validation_alias=_in_properties("threatStatus"))
    #: what is wrong with the answer, where no more than its name can be read of it
    unreadable: str | None = None

    @classmethod
    def not_readable(cls, name: str, why: str) -> Self:
        """A recovery point of which only the name can be read."""
        return cls(id=None, name=name, unreadable=why)

    @property
    def is_log(self) -> bool:
        """Whether it stands for the log ranges."""
        return self.kind.lower() == "log"

    @property
    def is_unreadable(self) -> bool:
        """Whether too little of it can be read to know what it restores."""
        return self.unreadable is not None or (self.time is None and not self.is_log)

    @property
    def _restorable_tiers(self) -> set[Tier]:
        return {tier for tier in self.tiers if tier.status in _RESTORABLE and tier.type != "invalid"}

    @property
    def is_archived(self) -> bool:
        """Whether only the archive tier has it: it has to be rehydrated before it can be restored.

        A rehydrated one shows that in the state of its archive tier, and in no other (recorded 2021-06-22).
        """
        tiers = self._restorable_tiers
        return bool(tiers) and all(
            tier.type == "archivedrp" and tier.status != "rehydrated" for tier in tiers
        )

    @property
    def is_snapshot(self) -> bool:
        """Whether it is a snapshot of disks, which is restored by another kind of request."""
        types = {tier.type for tier in self._restorable_tiers}
        return self.kind.lower().startswith("snapshot") or (bool(types) and types <= _SNAPSHOT_TIERS)

    @property
    def cannot_restore(self) -> str | None:
        """Why a plain restore cannot use it, in a word or two; None where it can.

        A tier that is `Deleted`, `Disabled` or `Invalid` holds nothing to restore from (`RecoveryPointTierStatus`
        of the REST specification).
        """
        if self.is_unreadable:
            return "not readable"
        if self.is_soft_deleted:
            return "soft-deleted"
        if self.tiers and not self._restorable_tiers:
            states = dict.fromkeys(
                "invalid" if tier.type == "invalid" else tier.status for tier in self.tiers
            )
            return " and ".join(states)
        if self.is_archived:
            return "archived"
        return "snapshot" if self.is_snapshot else None

    @property
    def is_threatened(self) -> bool:
        """Whether a scan found threats in what it holds."""
        return (self.threat_status or "").lower() == "unhealthy"


class JobStatus(enum.StrEnum):
    """The status of a job."""

    IN_PROGRESS = "InProgress"  #: queued, or at work
    CANCELLING = "Cancelling"  #: asked to stop, still at work
    COMPLETED = "Completed"  #: done, without a warning
    COMPLETED_WITH_WARNINGS = "CompletedWithWarnings"  #: done; the job's errors say what was odd
    FAILED = "Failed"  #: not done; the job's errors say why
    CANCELLED = "Cancelled"  #: the service also writes it with one l
    UNKNOWN = "Unknown"  #: an unknown word: the job is taken to be running

    @classmethod
    def read(cls, text: str) -> Self:
        """The status that the service's word stands for."""
        return cls(_JOB_STATUSES.get(text.strip().lower(), "Unknown"))

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of the job."""
        return self.value in ("Completed", "CompletedWithWarnings", "Failed", "Cancelled")


_JOB_STATUSES = {
    "inprogress": "InProgress",
    "cancelling": "Cancelling",
    "canceling": "Cancelling",
    "completed": "Completed",
    "completedwithwarnings": "CompletedWithWarnings",
    "failed": "Failed",
    "cancelled": "Cancelled",
    "canceled": "Cancelled",
}


class JobError(WireModel):
    """Why a job did not succeed. `title` is the symbolic code, `code` a number."""

    code: int | None = Field(default=None, validation_alias="errorCode")
    title: Text = Field(default="", validation_alias="errorTitle")
    message: Text = Field(default="", validation_alias="errorString")
    recommendations: Texts = ()


def _job_status(value: object) -> object:
    return JobStatus.read(value) if isinstance(value, str) else JobStatus.UNKNOWN


def _activity(value: object) -> object:
    return uuid_text(value) if isinstance(value, str) and value else None


def _is_cancellable(value: object) -> object:
    """Whether `Cancellable` is among the actions, by its name or by the number that older answers have."""
    if isinstance(value, bool | None):
        return bool(value)
    if not isinstance(value, list | tuple):
        return value
    return any(action in (1, "1") or str(action).lower() == "cancellable" for action in value)


def _bag(value: object) -> object:
    """A property bag with values as text: other values are shown as JSON; a missing bag is empty."""
    if not isinstance(value, dict):
        return {}
    return {
        str(name): "" if text is None else text if isinstance(text, str) else json.dumps(text)
        for name, text in value.items()
    }


class Job(WireModel):
    """A backup job. A list gives no tasks, properties or errors: those come with the job itself.

    Its id is empty where a list does not give one.
    """

    id: str = Field(validation_alias="name")
    status: Annotated[JobStatus, BeforeValidator(_job_status)] = Field(
        default=JobStatus.UNKNOWN, validation_alias=_in_properties("status")
    )
    #: the service's own word for the status
    raw_status: Text = Field(default="", validation_alias=_in_properties("status"))
    operation: Text = Field(default="", validation_alias=_in_properties("operation"))
    entity_name: Text = Field(default="", validation_alias=_in_properties("entityFriendlyName"))
    start_time: WireTime = Field(default=None, validation_alias=_in_properties("startTime"))
    end_time: WireTime = Field(default=None, validation_alias=_in_properties("endTime"))
    #: the client request id of the call that started it, in the usual form of a UUID
    activity_id: Annotated[str | None, BeforeValidator(_activity)] = Field(
        default=None, validation_alias=_in_properties("activityId")
    )
    duration: WireDuration = Field(default=None, validation_alias=_in_properties("duration"))
    #: False: the policy's schedule started it; None: the service does not say
    is_user_triggered: bool | None = Field(default=None, validation_alias=_in_properties("isUserTriggered"))
    is_cancellable: Annotated[bool, BeforeValidator(_is_cancellable)] = Field(
        default=False, validation_alias=_in_properties("actionsInfo")
    )
    tasks: Annotated[tuple[JobTask, ...], _texts_of("taskId", "status")] = Field(
        default=(), validation_alias=_in_properties("extendedInfo.tasksList")
    )
    properties: Annotated[dict[str, str], BeforeValidator(_bag)] = Field(
        default={}, validation_alias=_in_properties("extendedInfo.propertyBag")
    )
    error_details: Annotated[tuple[JobError, ...], BeforeValidator(lambda value: value or ())] = Field(
        default=(), validation_alias=_in_properties("errorDetails")
    )
    dynamic_error_message: OptionalText = Field(
        default=None, validation_alias=_in_properties("extendedInfo.dynamicErrorMessage")
    )
    percent_complete: float | None = Field(
        default=None,
        validation_alias=_in_properties("progressPercentage", "extendedInfo.progressPercentage"),
    )

    @property
    def database(self) -> str:
        """The database's name: `sqltest6` of `sqltest6 [sqlvm]`."""
        return re.sub(r" \[[^\[\]]*\]$", "", self.entity_name)

    @property
    def transferred_mb(self) -> float | None:
        """How much it transferred, in MB; None where it does not tell, or tells no number."""
        try:
            return float(self.properties["Data Transferred (in MB)"])
        except (KeyError, ValueError):
            return None

    @property
    def server(self) -> str:
        """The server's name: `sqlvm` of `sqltest6 [sqlvm]`; `""` where the job does not say, as when it is new."""
        found = re.search(r" \[([^\[\]]*)\]$", self.entity_name)
        return found.group(1) if found is not None else ""


@dataclass(frozen=True, kw_only=True)
class StartedOperation:
    """An accepted call. Its URLs are signed: they are followed, and shown to nobody."""

    status: int
    async_operation_url: str | None = field(default=None, repr=False)
    location_url: str | None = field(default=None, repr=False)
    retry_after: timedelta | None = None

    @property
    def is_done(self) -> bool:
        """Whether the service did at once what it was asked; only what it answers 202, or with a URL, goes on.

        https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations
        """
        return self.status != 202 and not self.async_operation_url and not self.location_url


@dataclass(frozen=True, kw_only=True)
class OperationStatus:
    """The answer of an `Azure-AsyncOperation` URL. A success means that the job exists, not that it succeeded."""

    status: str
    finished: bool
    succeeded: bool
    job_id: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    retry_after: timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class OperationResult:
    """The answer of a `Location` URL."""

    finished: bool
    retry_after: timedelta | None = None
    body: Any = field(default=None, repr=False)
