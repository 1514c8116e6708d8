"""What Azure Backup answers, flattened to what this app needs of it.

Answers carry more than this and may carry less: fields that are not known are ignored, and only what
identifies a thing is required. Names, types and oddities (`IsProtectable`, `workLoadType`) follow the REST
specification Microsoft.RecoveryServices 2024-04-01 and recorded answers of the service.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from sys import intern
from typing import Annotated, Any, Final, NamedTuple, Self

from pydantic import AliasChoices, AliasPath, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

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
    "Node",
    "OperationResult",
    "OperationStatus",
    "Policy",
    "ProtectableContainer",
    "ProtectableItem",
    "ProtectedItem",
    "ProtectionIntent",
    "RecoveryPoint",
    "StartedOperation",
    "TimeRange",
    "Vault",
    "WireModel",
    "WorkloadItem",
]

#: the availability group that a database of it is "inside" has a container of this kind
AVAILABILITY_GROUP_CONTAINER: Final = "sqlagworkloadcontainer;"


class DataDirectory(NamedTuple):
    """Where an instance puts files of a type (`Data` or `Log`) when nothing else is said."""

    type: str
    path: str


class DataFile(NamedTuple):
    """A file of a database at the time of a recovery point."""

    type: str
    path: str
    logical_name: str


class TimeRange(NamedTuple):
    """From `start` to `end`, both included, a database can be restored to any whole second."""

    start: datetime
    end: datetime

    @property
    def whole_seconds(self) -> TimeRange | None:
        """The same from its first whole second to its last; None where there is none in it."""
        end = self.end.replace(microsecond=0)
        if self.start > end:
            return None
        start = self.start.replace(microsecond=0)
        return TimeRange(start if start == self.start else start + timedelta(seconds=1), end)


class JobTask(NamedTuple):
    """A step of a job, as the portal shows it."""

    task_id: str
    status: str


def _in_properties(*names: str) -> AliasPath | AliasChoices:
    """Where a field is found: under `properties`, by the first of these names that is there."""
    paths = [AliasPath("properties", *name.split(".")) for name in names]
    return paths[0] if len(paths) == 1 else AliasChoices(*paths)


def _listed(*fields: str) -> BeforeValidator:
    """Objects of a list as tuples of these fields, `""` for what an object lacks."""

    def read(value: object) -> object:
        if value is None:
            return ()
        if not isinstance(value, list | tuple):
            raise ValueError("a list is expected")
        return tuple(
            tuple(item.get(name) or "" for name in fields) if isinstance(item, dict) else item
            for item in value
        )

    return BeforeValidator(read)


def _time_ranges(value: object) -> object:
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise ValueError("a list is expected")
    ranges = []
    for item in value:
        if isinstance(item, dict):
            start, end = parse_time(item.get("startTime")), parse_time(item.get("endTime"))
            if start is None or end is None:
                raise ValueError("a time range has a start and an end")
            ranges.append(TimeRange(start, end))
        else:
            ranges.append(item)
    return tuple(ranges)


def _is_archived(value: object) -> object:
    """Whether the archive tier alone has it (`RecoveryPointTierInformationV2`)."""
    if not isinstance(value, list | tuple):
        return False if value is None else value
    tiers = {
        str(tier.get("type")).lower()
        for tier in value
        if isinstance(tier, dict) and str(tier.get("status")).lower() in ("valid", "rehydrated")
    }
    return tiers == {"archivedrp"}


def _virtual_machine_or_none(value: object) -> object:
    if isinstance(value, VirtualMachineId) or value is None:
        return value
    try:
        return VirtualMachineId.listed(value) if isinstance(value, str) else None
    except InvalidResourceIdError:
        return None  # an availability group, or a classic VM


def _kept_once(value: object) -> object:
    """A text that thousands of items have alike (a state, a policy's id) is in memory once."""
    return intern(value) if type(value) is str else value


def _blank(value: object) -> object:
    return "" if value is None else _kept_once(value)


def _none_if_blank(value: object) -> object:
    return None if value == "" else _kept_once(value)


def _last_segment(value: object) -> object:
    return _kept_once(decoded_name(value.rpartition("/")[2])) or None if isinstance(value, str) else value


def _vault_id(value: object) -> object:
    return VaultId.listed(value) if isinstance(value, str) else value


def _recovery_point_id_or_none(value: object) -> object:
    # It is addressed by its name, below the item that it was asked of.
    try:
        return RecoveryPointId.listed(value) if isinstance(value, str) else value
    except InvalidResourceIdError:
        return None


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
OptionalVirtualMachine = Annotated[VirtualMachineId | None, BeforeValidator(_virtual_machine_or_none)]


_NOT_KEPT: Final[set[str]] = set()


class WireModel(BaseModel):
    """Built from keyword arguments by field names, from an answer by `from_wire`."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        validate_by_alias=True,
        validate_by_name=True,
        coerce_numbers_to_str=True,
    )

    @classmethod
    def from_wire(cls, body: object) -> Self:
        """The model of an answer's body; pydantic's ValidationError where it is none.

        Only the service's names count here: the `properties` of a body are not the `properties` of a job.
        """
        model = cls.model_validate(body, by_alias=True, by_name=False)
        # Nobody asks which fields an answer gave; a set of them for each of thousands is a third of its size.
        object.__setattr__(model, "__pydantic_fields_set__", _NOT_KEPT)
        return model


class ErrorDetail(WireModel):
    """What is wrong with an item or an instance, in the service's words."""

    code: Text = ""
    message: Text = ""
    recommendations: Texts = ()

    @property
    def is_failure(self) -> bool:
        """Whether it tells of a failure at all: `Success` is an error code too."""
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
    soft_delete_state: OptionalText = Field(
        default=None,
        validation_alias=_in_properties("securitySettings.softDeleteSettings.softDeleteState"),
    )
    tags: Annotated[dict[str, Text], BeforeValidator(lambda value: value or {})] = {}

    @property
    def is_provisioned(self) -> bool:
        """Whether it can be used: older answers say nothing of it and mean yes."""
        return self.provisioning_state.lower() in ("", "succeeded")

    @property
    def has_failed(self) -> bool:
        """Whether its creation has ended without a usable vault."""
        return self.provisioning_state.lower() in ("failed", "canceled", "cancelled")


class Policy(WireModel):
    """A backup policy."""

    id: str
    name: str
    backup_management_type: Text = Field(default="", validation_alias=_in_properties("backupManagementType"))
    workload_type: Text = Field(default="", validation_alias=_in_properties("workLoadType", "workloadType"))
    protected_items_count: int | None = Field(
        default=None, validation_alias=_in_properties("protectedItemsCount")
    )
    properties: dict[str, Any] = {}

    @property
    def is_for_sql(self) -> bool:
        """Whether it is for SQL databases in Azure VMs."""
        return self.backup_management_type.lower() == "azureworkload" and self.workload_type.lower() in (
            "sqldatabase",
            "sql",
        )

    @property
    def backup_types(self) -> tuple[str, ...]:
        """`Full`, `Differential`, `Log`: what it schedules."""
        return tuple(
            sub["policyType"]
            for sub in self.properties.get("subProtectionPolicy") or ()
            if isinstance(sub, dict) and isinstance(sub.get("policyType"), str)
        )


class ProtectableContainer(WireModel):
    """A VM that may be registered to the vault; whether SQL Server is on it is not known yet."""

    id: str
    name: str
    virtual_machine_id: OptionalVirtualMachine = Field(
        default=None, validation_alias=_in_properties("containerId")
    )
    friendly_name: Text = Field(default="", validation_alias=_in_properties("friendlyName"))
    health_status: Text = Field(default="", validation_alias=_in_properties("healthStatus"))
    container_type: Text = Field(default="", validation_alias=_in_properties("protectableContainerType"))


class InquiryDetail(WireModel):
    """What the last inquiry found of one workload (`SQL`)."""

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
        """Why the databases of the VM are not known, innermost reason first; None where they are."""
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
    container_type: Text = Field(default="", validation_alias=_in_properties("containerType"))
    registration_status: Text = Field(default="", validation_alias=_in_properties("registrationStatus"))
    health_status: Text = Field(default="", validation_alias=_in_properties("healthStatus"))
    last_updated: WireTime = Field(default=None, validation_alias=_in_properties("lastUpdatedTime"))
    host_server_name: Text = Field(default="", validation_alias=_in_properties("extendedInfo.hostServerName"))
    inquiry: Inquiry | None = Field(default=None, validation_alias=_in_properties("extendedInfo.inquiryInfo"))


class Node(WireModel):
    """A replica's host in an availability group."""

    name: Text = Field(default="", validation_alias="nodeName")
    status: Text = ""
    virtual_machine_id: OptionalVirtualMachine = Field(default=None, validation_alias="sourceResourceId")


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
    protection_state: Text = Field(default="", validation_alias=_in_properties("protectionState"))
    prebackup_validation: OptionalError = Field(
        default=None, validation_alias=_in_properties("prebackupvalidation", "preBackupValidation")
    )
    nodes_list: Annotated[tuple[Node, ...], BeforeValidator(lambda value: value or ())] = Field(
        default=(), validation_alias=_in_properties("nodesList")
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
    protection_state: Text = Field(default="", validation_alias=_in_properties("protectionState"))
    data_directories: Annotated[tuple[DataDirectory, ...], _listed("type", "path")] = Field(
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
    oldest_recovery_point: WireTime = Field(
        default=None, validation_alias=_in_properties("extendedInfo.oldestRecoveryPoint")
    )
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


class RecoveryPoint(WireModel):
    """A backup that can be restored, or all log ranges at once under `DefaultRangeRecoveryPoint`."""

    #: None where the name is of a kind that no recovery point has had yet
    id: Annotated[RecoveryPointId | None, BeforeValidator(_recovery_point_id_or_none)]
    name: str
    kind: Text = Field(default="", validation_alias=_in_properties("type"))
    time: WireTime = Field(default=None, validation_alias=_in_properties("recoveryPointTimeInUTC"))
    time_ranges: Annotated[tuple[TimeRange, ...], BeforeValidator(_time_ranges)] = Field(
        default=(), validation_alias=_in_properties("timeRanges")
    )
    data_directories: Annotated[tuple[DataFile, ...], _listed("type", "path", "logicalName")] = Field(
        default=(), validation_alias=_in_properties("extendedInfo.dataDirectoryPaths")
    )
    #: valid in the archive tier alone: it is to be rehydrated before it can be restored
    is_archived: Annotated[bool, BeforeValidator(_is_archived)] = Field(
        default=False, validation_alias=_in_properties("recoveryPointTierDetails")
    )
    is_soft_deleted: Flag = Field(
        default=False, validation_alias=_in_properties("recoveryPointProperties.isSoftDeleted")
    )

    @property
    def is_log(self) -> bool:
        """Whether it stands for the log ranges."""
        return self.kind.lower() == "log"


class JobStatus(enum.StrEnum):
    """Where a job stands."""

    IN_PROGRESS = "InProgress"
    CANCELLING = "Cancelling"  #: asked to stop, still at work
    COMPLETED = "Completed"
    COMPLETED_WITH_WARNINGS = "CompletedWithWarnings"
    FAILED = "Failed"
    CANCELLED = "Cancelled"  #: the service also writes it with one l
    UNKNOWN = "Unknown"  #: a word that is not known: taken for still at work

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


def _bag(value: object) -> object:
    """A property bag as texts."""
    if value is None:
        return {}
    if isinstance(value, dict):
        return {str(name): "" if text is None else text for name, text in value.items()}
    return value


class Job(WireModel):
    """A backup job. A list gives no tasks, properties or errors: those come with the job itself."""

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
    #: the client request id of the call that it came of, in the usual form of a UUID
    activity_id: Annotated[str | None, BeforeValidator(_activity)] = Field(
        default=None, validation_alias=_in_properties("activityId")
    )
    duration: WireDuration = Field(default=None, validation_alias=_in_properties("duration"))
    tasks: Annotated[tuple[JobTask, ...], _listed("taskId", "status")] = Field(
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


@dataclass(frozen=True, kw_only=True)
class StartedOperation:
    """An accepted call. Its URLs are signed: they are followed, and shown to nobody."""

    status: int
    async_operation_url: str | None = field(default=None, repr=False)
    location_url: str | None = field(default=None, repr=False)
    retry_after: timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class OperationStatus:
    """What an `Azure-AsyncOperation` URL answers. A success means that the job exists, not how it ended."""

    status: str
    finished: bool
    succeeded: bool
    job_id: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    retry_after: timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class OperationResult:
    """What a `Location` URL answers."""

    finished: bool
    retry_after: timedelta | None = None
    body: Any = field(default=None, repr=False)
