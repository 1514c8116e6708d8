"""The three requests, as other systems send them: CloudEvents whose data is checked to the last field.

The models are the contract: the JSON Schemas in docs/schemas are generated from them.
"""

from __future__ import annotations

import re
from enum import StrEnum
from fnmatch import translate
from functools import cached_property, lru_cache
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from shared.messages.cloud_events import Envelope, InvalidMessageError, Problem, excerpt
from shared.messages.model import (
    Moment,
    PositiveDuration,
    StrictModel,
    VaultIdField,
    VirtualMachineIdField,
)
from shared.messages.policies import CreatePolicy

SYSTEM_DATABASES: Final = frozenset({"master", "model", "msdb"})


class Operation(StrEnum):
    """What a request asks for."""

    PROTECT = "protect"  #: configure backup of databases
    BACKUP = "backup"  #: an on-demand backup
    RESTORE = "restore"


@lru_cache(maxsize=4096)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(translate(text.casefold()))


def _matches(pattern: str, name: str) -> bool:
    return pattern.casefold() == name.casefold() or _pattern(pattern).match(name.casefold()) is not None


def _is_pattern(text: str) -> bool:
    return any(character in text for character in "*?[")


InstanceName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f]+$")]
DatabaseName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f]+$")]


class DatabaseSelector(StrictModel):
    """One or many databases, by name or by shell-style pattern; names compare case-insensitively."""

    instance: InstanceName | None = None
    availability_group: InstanceName | None = None
    database: DatabaseName

    @model_validator(mode="after")
    def _one_parent(self) -> DatabaseSelector:
        if (self.instance is None) == (self.availability_group is None):
            raise ValueError("expected exactly one of instance and availabilityGroup")
        return self

    @property
    def parent(self) -> str:
        """The name of the instance or of the availability group."""
        return self.instance or self.availability_group or ""

    @cached_property
    def is_pattern(self) -> bool:
        """Whether it may mean more than the one database it spells out."""
        return _is_pattern(self.parent) or _is_pattern(self.database)

    def matches(self, parent: str, database: str, is_group: bool) -> bool:
        """Whether the database of that instance (or availability group) is meant."""
        return (
            (self.availability_group is not None) == is_group
            and _matches(self.parent, parent)
            and _matches(self.database, database)
        )

    def matches_parent(self, parent: str, is_group: bool) -> bool:
        """Whether it means databases of this instance or availability group."""
        return (self.availability_group is not None) == is_group and _matches(self.parent, parent)

    def names(self, parent: str, database: str, is_group: bool) -> bool:
        """Whether it spells out just this database, read literally."""
        return (
            (self.availability_group is not None) == is_group
            and self.parent.casefold() == parent.casefold()
            and self.database.casefold() == database.casefold()
        )

    def __str__(self) -> str:
        return f"{self.parent}/{self.database}"


class _DatabaseSelection(StrictModel):
    databases: Annotated[tuple[DatabaseSelector, ...], Field(min_length=1, max_length=2000)]
    exclude: Annotated[tuple[DatabaseSelector, ...], Field(max_length=2000)] = ()
    include_system: bool = False

    @field_validator("databases", "exclude", mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


class CreateVault(StrictModel):
    """How to create the vault where there is none; its redundancy is fixed once items are protected."""

    location: Annotated[str, Field(pattern=r"^[a-zA-Z0-9]{2,40}$")]
    redundancy: Literal["LocallyRedundant", "ZoneRedundant", "GeoRedundant"]
    tags: dict[str, str] = Field(default_factory=dict)


class ProtectData(_DatabaseSelection):
    """Configure backup: bring the VM into the vault and protect the databases by the policy."""

    vault_id: VaultIdField
    vm_id: VirtualMachineIdField | None = None
    policy_name: Annotated[str, Field(min_length=1, max_length=150, pattern=r"^[A-Za-z][-A-Za-z0-9]*$")]
    on_existing: Literal["fail", "keep", "changePolicy"] = "fail"
    resume: bool = False
    undelete: bool = False
    first_backup: Literal["scheduled", "now"] = "scheduled"
    create_vault: CreateVault | None = None
    create_policy: CreatePolicy | None = None
    job_timeout: PositiveDuration | None = None

    @model_validator(mode="after")
    def _vm_is_known(self) -> ProtectData:
        if self.vm_id is None and any(item.availability_group is None for item in self.databases):
            raise ValueError("vmId is needed, except where every database is named by its availabilityGroup")
        return self


class BackupType(StrEnum):
    """The types of on-demand backup that the service takes for SQL Server."""

    FULL = "Full"
    DIFFERENTIAL = "Differential"
    LOG = "Log"
    COPY_ONLY_FULL = "CopyOnlyFull"


class BackupData(_DatabaseSelection):
    """An on-demand backup of one or many protected databases."""

    vault_id: VaultIdField
    vm_id: VirtualMachineIdField | None = None
    backup_type: Annotated[BackupType, Field(strict=False)]
    retain_for: PositiveDuration | None = None
    retain_until: Moment | None = None
    compression: bool | None = None
    if_running: Literal["wait", "skip"] = "wait"
    job_timeout: PositiveDuration | None = None

    @model_validator(mode="after")
    def _retention_applies(self) -> BackupData:
        if self.retain_for is not None and self.retain_until is not None:
            raise ValueError("expected at most one of retainFor and retainUntil")
        by_policy = self.backup_type in (BackupType.DIFFERENTIAL, BackupType.LOG)
        if by_policy and (self.retain_for is not None or self.retain_until is not None):
            raise ValueError(
                f"the retention of a {self.backup_type} backup comes from its policy;"
                " retainFor and retainUntil apply to Full and CopyOnlyFull"
            )
        return self


class RecoveryPointChoice(StrictModel):
    """Which recovery point to restore: exactly one of its fields."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": [name]} for name in ("name", "pointInTime", "latest", "before")]
        }
    )

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")] | None = None
    point_in_time: Moment | None = None
    latest: Literal["any", "full"] | None = None
    before: Moment | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> RecoveryPointChoice:
        if sum(value is not None for value in (self.name, self.point_in_time, self.latest, self.before)) != 1:
            raise ValueError("expected exactly one of name, pointInTime, latest and before")
        if self.point_in_time is not None and self.point_in_time.microsecond:
            raise ValueError("pointInTime: expected a moment in whole seconds")
        return self

    def __str__(self) -> str:
        if self.name is not None:
            return f"recovery point {self.name}"
        if self.point_in_time is not None:
            return f"the point in time {self.point_in_time:%Y-%m-%dT%H:%M:%SZ}"
        if self.before is not None:
            return f"the newest moment before {self.before:%Y-%m-%dT%H:%M:%SZ}"
        return "the latest full backup" if self.latest == "full" else "the latest recovery point"


Path = Annotated[str, Field(min_length=1, max_length=260, pattern=r"^[^\x00-\x1f]+$")]


class FileTarget(StrictModel):
    """Where one file of the database goes."""

    logical_name: Annotated[str, Field(min_length=1, max_length=128)]
    path: Path


class OriginalTarget(StrictModel):
    """Over the source database itself."""

    kind: Literal["original"]


class AlternateTarget(StrictModel):
    """Another database, instance or VM."""

    kind: Literal["alternate"]
    vm_id: VirtualMachineIdField
    instance: InstanceName
    database: DatabaseName | None = None
    data_directory: Path | None = None
    log_directory: Path | None = None
    files: tuple[FileTarget, ...] = ()

    @field_validator("files", mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


class FilesTarget(StrictModel):
    """Backup files in a directory of a VM, to be restored by hand."""

    kind: Literal["files"]
    vm_id: VirtualMachineIdField
    path: Path


class RestoreData(StrictModel):
    """Restore one database."""

    vault_id: VaultIdField
    vm_id: VirtualMachineIdField | None = None
    instance: InstanceName | None = None
    availability_group: InstanceName | None = None
    database: DatabaseName
    recovery_point: RecoveryPointChoice
    target: Annotated[OriginalTarget | AlternateTarget | FilesTarget, Field(discriminator="kind")]
    overwrite: bool = False
    no_recovery: bool = False
    job_timeout: PositiveDuration | None = None

    @model_validator(mode="after")
    def _one_parent(self) -> RestoreData:
        if (self.instance is None) == (self.availability_group is None):
            raise ValueError("expected exactly one of instance and availabilityGroup")
        if self.instance is not None and self.vm_id is None:
            raise ValueError("vmId is needed, except for a database of an availabilityGroup")
        return self


RequestData = ProtectData | BackupData | RestoreData

REQUEST_TYPES: Final[dict[str, tuple[Operation, type[ProtectData | BackupData | RestoreData]]]] = {
    "sqlvmbackup.protect.requested.v1": (Operation.PROTECT, ProtectData),
    "sqlvmbackup.backup.requested.v1": (Operation.BACKUP, BackupData),
    "sqlvmbackup.restore.requested.v1": (Operation.RESTORE, RestoreData),
}

#: What pydantic says in terms of Python, said in terms of JSON.
_ACCEPTED: Final = {
    "tuple_type": "expected a list",
    "dict_type": "expected an object",
    "model_type": "expected an object",
    "model_attributes_type": "expected an object",
    "string_type": "expected a string",
    "bool_type": "expected true or false",
    "too_short": "expected a list of at least {min_length}",
    "too_long": "expected a list of at most {max_length}",
    "string_too_short": "expected a string that is not empty",
    "string_too_long": "expected at most {max_length} characters",
    "string_pattern_mismatch": "expected a string that matches {pattern}",
    "literal_error": "expected {expected}",
    "enum": "expected {expected}",
    "int_type": "expected a whole number",
    "union_tag_invalid": "expected one of {expected_tags}",
}
_CHOICE_TAGS: Final = frozenset({"original", "alternate", "files"})


def read_data(envelope: Envelope) -> tuple[Operation, RequestData]:
    """The request in an event. Raises InvalidMessageError with every problem of its type and data."""
    if envelope.type not in REQUEST_TYPES:
        accepted = ", ".join(REQUEST_TYPES)
        raise InvalidMessageError([Problem("type", excerpt(envelope.type), f"expected one of {accepted}")])
    operation, model = REQUEST_TYPES[envelope.type]
    if not isinstance(envelope.data, dict):
        given = "nothing" if envelope.data is None else excerpt(envelope.data)
        raise InvalidMessageError([Problem("data", given, f"expected the data of a {operation} request")])
    try:
        return operation, model.model_validate(envelope.data)
    except ValidationError as error:
        raise InvalidMessageError(problems_of(error, model)) from None


def problems_of(error: ValidationError, model: type[StrictModel]) -> list[Problem]:
    """What pydantic found, each problem once, in terms of the JSON that was sent."""
    details = error.errors(include_url=False)
    return [_problem(detail, model) for detail in details if not _follows_from_another(detail, details)]


def _follows_from_another(detail: ErrorDetails, details: list[ErrorDetails]) -> bool:
    """Whether a list is called too short only because its items are wrong themselves."""
    depth = len(detail["loc"])
    return detail["type"] == "too_short" and any(
        len(other["loc"]) > depth and other["loc"][:depth] == detail["loc"] for other in details
    )


def _problem(detail: ErrorDetails, model: type[StrictModel]) -> Problem:
    location = ["data"]
    for position, part in enumerate(detail["loc"]):
        if (
            isinstance(part, str)
            and part in _CHOICE_TAGS
            and position
            and detail["loc"][position - 1] == "target"
        ):
            continue  # pydantic names the variant of a union; the sender knows no such field
        location.append(str(part))
    field = ".".join(location)
    kind = detail["type"]
    if kind == "union_tag_not_found":
        return Problem(f"{field}.kind", "nothing", "is required")
    if kind == "missing":
        return Problem(field, "nothing", "is required")
    if kind == "extra_forbidden":
        known = ", ".join(sorted(info.alias or name for name, info in model.model_fields.items()))
        accepted = (
            f"is not a field of it; its fields are {known}"
            if len(detail["loc"]) == 1
            else "is no field of it"
        )
        return Problem(field, excerpt(detail["input"]), accepted)
    given = detail["input"]
    if kind == "union_tag_invalid":
        field, given = f"{field}.kind", given["kind"]
    if kind in _ACCEPTED:
        accepted = _ACCEPTED[kind].format_map(detail.get("ctx", {}))
    else:
        accepted = detail["msg"].removeprefix("Value error, ")
    if kind.endswith("model_type") and detail.get("ctx", {}).get("class_name") == DatabaseSelector.__name__:
        accepted = 'expected an object such as {"instance": "MSSQLSERVER", "database": "orders"}'
    return Problem(field, "an object" if isinstance(given, dict) else excerpt(given), _lower_first(accepted))


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
