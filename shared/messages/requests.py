"""The requests, as other systems send them: CloudEvents whose data is checked to the last field.

The models are the contract: the JSON Schemas in docs/schemas are generated from them.
"""

from __future__ import annotations

import re
from enum import StrEnum
from fnmatch import translate
from functools import cached_property, lru_cache
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError, core_schema

from shared.arm.ids import PolicyId, decoded_name
from shared.messages import windows_paths
from shared.messages.cloud_events import Envelope, InvalidMessageError, Problem, excerpt
from shared.messages.model import (
    ListOf,
    Moment,
    PositiveDuration,
    StrictModel,
    VaultIdField,
    VirtualMachineIdField,
    format_moment,
    in_any_case,
)
from shared.messages.policies import CreatePolicy
from shared.messages.problems import problems_of
from shared.messages.windows_paths import WindowsDirectory, WindowsFile
from shared.names import name_key, same_name

SYSTEM_DATABASES: Final = frozenset({"master", "model", "msdb"})


class Operation(StrEnum):
    """What a request asks for."""

    PROTECT = "protect"  #: configure backup of databases
    BACKUP = "backup"  #: an on-demand backup
    RESTORE = "restore"
    COVERAGE = "coverage"  #: how the databases of vaults are backed up, and repairs by rules
    DRILL = "drill"  #: restores that prove backups, checked and cleaned up


@lru_cache(maxsize=4096)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(translate(name_key(text)))


def _matches(pattern: str, name: str) -> bool:
    return same_name(pattern, name) or _pattern(pattern).match(name_key(name)) is not None


def _is_pattern(text: str) -> bool:
    return any(character in text for character in "*?[")


InstanceName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f]+$")]
DatabaseName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f]+$")]


class DatabaseSelector(StrictModel):
    """One or many databases, by name or by shell-style pattern; names compare case-insensitively.

    Where there is a database that is called just so, it alone is meant, pattern or not.
    """

    instance: InstanceName | None = None
    availability_group: InstanceName | None = None
    database: DatabaseName

    @model_validator(mode="before")
    @classmethod
    def _is_object(cls, value: Any) -> Any:
        if not isinstance(value, dict | DatabaseSelector):
            raise ValueError('expected an object such as {"instance": "MSSQLSERVER", "database": "orders"}')
        return value

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

    @property
    def is_everything(self) -> bool:
        """Whether it names nothing: every database of every instance, or of every group."""
        return self.parent == "*" and self.database == "*"

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

    def __str__(self) -> str:
        return f"{self.parent}/{self.database}"


#: Selectors for every database, of instances and of availability groups.
EVERYTHING: Final = (
    DatabaseSelector(instance="*", database="*"),
    DatabaseSelector.model_validate({"availabilityGroup": "*", "database": "*"}),
)


class _UserDatabaseSelection(StrictModel):
    databases: Annotated[ListOf[DatabaseSelector], Field(min_length=1, max_length=2000)]
    exclude: Annotated[ListOf[DatabaseSelector], Field(max_length=2000)] = ()


class _DatabaseSelection(_UserDatabaseSelection):
    include_system: bool = False


def _region(value: Any) -> Any:
    """A region's name from the name that people see: `westeurope` from `West Europe`."""
    if not isinstance(value, str):
        return value
    name = value.replace(" ", "").lower()
    if not re.fullmatch(r"[a-z0-9]{2,40}", name):
        raise ValueError("expected a region of Azure, such as westeurope or West Europe")
    return name


class CreateVault(StrictModel):
    """How to create the vault where there is none; its redundancy is fixed once items are protected."""

    location: Annotated[str, Field(pattern=r"^[a-zA-Z0-9 ]{2,60}$"), BeforeValidator(_region)]
    redundancy: Annotated[
        Literal["LocallyRedundant", "ZoneRedundant", "GeoRedundant"],
        in_any_case("LocallyRedundant", "ZoneRedundant", "GeoRedundant"),
    ]
    tags: dict[str, str] = Field(default_factory=dict)


#: a name, or as many segments as a policy's ARM id has
_POLICY: Final = r"^([^/\x00-\x1f]{1,150}|(/[^/\x00-\x1f]+){10})$"


class ProtectData(_DatabaseSelection):
    """Configure backup: bring the VM into the vault and protect the databases by the policy."""

    vault_id: VaultIdField
    vm_id: VirtualMachineIdField | None = None
    #: a policy's name, or its full ARM id, of which the name is kept
    policy_name: Annotated[str, Field(min_length=1, json_schema_extra={"pattern": _POLICY})]
    on_existing: Literal["fail", "keep", "changePolicy"] = "fail"
    resume: bool = False
    undelete: bool = False
    first_backup: Literal["scheduled", "now"] = "scheduled"
    #: instances whose databases to come the service protects as well, by its own intent
    auto_protect: Annotated[ListOf[InstanceName], Field(max_length=100)] = ()
    create_vault: CreateVault | None = None
    create_policy: CreatePolicy | None = None
    job_timeout: PositiveDuration | None = None

    @field_validator("policy_name")
    @classmethod
    def _policy_of_the_vault(cls, value: str, info: ValidationInfo) -> str:
        if not re.search(_POLICY, value):
            raise ValueError(
                "expected the name of a policy (at most 150 characters, none of them '/'), or the full ARM id of a"
                " policy of the vault"
            )
        if "/" not in value:
            return value
        policy, vault = PolicyId.parse(value), info.data.get("vault_id")
        if vault is not None and policy.vault != vault:
            raise ValueError(
                f"expected a policy of the request's vault {vault}; this one is of the vault {policy.vault}"
            )
        # As Azure shows it, it is encoded.
        return decoded_name(policy.name)

    @model_validator(mode="after")
    def _vm_is_known(self) -> ProtectData:
        if self.vm_id is None and self.auto_protect:
            raise ValueError("vmId is needed where autoProtect names instances")
        if self.vm_id is None and any(item.availability_group is None for item in self.databases):
            raise ValueError("vmId is needed, except where every database is named by its availabilityGroup")
        return self


class BackupType(StrEnum):
    """The types of on-demand backup that the service takes for SQL Server."""

    FULL = "Full"
    DIFFERENTIAL = "Differential"
    LOG = "Log"
    COPY_ONLY_FULL = "CopyOnlyFull"

    @property
    def is_full(self) -> bool:
        """Whether it backs the whole database up: only then the request, and not the policy, may say for how long."""
        return self in (BackupType.FULL, BackupType.COPY_ONLY_FULL)


#: The service takes no more on-demand fulls of a database on one day.
MOST_FULLS_A_DAY: Final = 9


class BackupData(_DatabaseSelection):
    """An on-demand backup of one or many protected databases."""

    vault_id: VaultIdField
    vm_id: VirtualMachineIdField | None = None
    backup_type: Annotated[BackupType, Field(strict=False), in_any_case(*BackupType)]
    retain_for: PositiveDuration | None = None
    retain_until: Moment | None = None
    compression: bool | None = None
    if_running: Literal["wait", "skip"] = "wait"
    #: the change gate: no backup is taken where the newest restorable moment is younger
    unless_newer_than: PositiveDuration | None = None
    job_timeout: PositiveDuration | None = None

    @model_validator(mode="after")
    def _retention_applies(self) -> BackupData:
        if self.retain_for is not None and self.retain_until is not None:
            raise ValueError("expected at most one of retainFor and retainUntil")
        if not self.backup_type.is_full and (self.retain_for is not None or self.retain_until is not None):
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
            return f"the point in time {format_moment(self.point_in_time)}"
        if self.before is not None:
            return f"the newest moment before {format_moment(self.before)}"
        return "the newest full" if self.latest == "full" else "the newest moment"


#: The service supports so many files of a database (support matrix of SQL Server in Azure VMs).
MOST_FILES: Final = 1000


class FileTarget(StrictModel):
    """Where one file of the database goes."""

    logical_name: Annotated[str, Field(min_length=1, max_length=128)]
    path: WindowsFile


def _wrong_file(position: int, field: str, given: str, accepted: str) -> PydanticCustomError:
    """What is wrong with one of several files; pydantic knows only that it is in the list."""
    context = {"within": f"{position}.{field}", "given": given, "accepted": accepted}
    return PydanticCustomError("wrong_file", "{accepted}", context)


class OriginalTarget(StrictModel):
    """Over the source database itself."""

    kind: Literal["original"]


class AlternateTarget(StrictModel):
    """Another database, instance or VM."""

    kind: Literal["alternate"]
    vm_id: VirtualMachineIdField
    instance: InstanceName
    database: DatabaseName | None = None
    data_directory: WindowsDirectory | None = None
    log_directory: WindowsDirectory | None = None
    files: Annotated[ListOf[FileTarget], Field(max_length=MOST_FILES)] = ()

    @field_validator("files", mode="after")
    @classmethod
    def _each_its_own(cls, files: tuple[FileTarget, ...], info: ValidationInfo) -> tuple[FileTarget, ...]:
        directories = [
            path for path in (info.data.get("data_directory"), info.data.get("log_directory")) if path
        ]
        above = {windows_paths.same(path).rstrip("\\") for path in directories}
        for path in (*directories, *(file.path for file in files)):
            above.update(windows_paths.directories_above(path))
        names: set[str] = set()
        paths: dict[str, str] = {}
        for position, file in enumerate(files):
            key = windows_paths.same(file.path)
            if file.logical_name in names:
                raise _wrong_file(
                    position, "logicalName", file.logical_name, "expected each logicalName once"
                )
            if key in paths:
                accepted = f"expected a path of its own; {excerpt(paths[key])} has the same"
                raise _wrong_file(position, "path", file.path, accepted)
            if key in above:
                accepted = (
                    "expected the path of a file; other paths of the request say that this is a directory"
                )
                raise _wrong_file(position, "path", file.path, accepted)
            names.add(file.logical_name)
            paths[key] = file.logical_name
        return files


class FilesTarget(StrictModel):
    """Backup files in a directory of a VM, to be restored by hand."""

    kind: Literal["files"]
    vm_id: VirtualMachineIdField
    path: WindowsDirectory


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


_GUID: Final = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
SubscriptionId = Annotated[str, Field(pattern=_GUID)]
MOST_VAULTS: Final = 200
MOST_SUBSCRIPTIONS: Final = 50


class ProtectRepair(StrictModel):
    """By which policy an unprotected database is protected."""

    policy_name: Annotated[str, Field(pattern=r"^[^/\x00-\x1f]{1,150}$")]


class OnUnprotected(StrictModel):
    """What is done about a database that no policy protects."""

    protect: ProtectRepair


class BackupRepair(StrictModel):
    """Which backup is taken of a database whose last one failed or is too old."""

    backup_type: Annotated[BackupType, Field(strict=False), in_any_case(*BackupType)]
    retain_for: PositiveDuration | None = None
    compression: bool | None = None

    @model_validator(mode="after")
    def _retention_applies(self) -> BackupRepair:
        if not self.backup_type.is_full and self.retain_for is not None:
            raise ValueError(
                f"the retention of a {self.backup_type} backup comes from its policy; retainFor applies to Full and"
                " CopyOnlyFull"
            )
        return self


class OnStale(StrictModel):
    """What is done about a database whose last backup failed or is too old."""

    backup: BackupRepair


class _ReportOr:
    """A rule, or `report` (None here): nothing is done but to tell of it."""

    def __init__(self, example: str) -> None:
        self._example = example

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        inner = handler(source)

        def read(value: Any) -> Any:
            if value is None or value == "report":
                return None
            if isinstance(value, str):
                raise ValueError(f"expected report, or an object such as {self._example}")
            return value

        return core_schema.no_info_before_validator_function(read, inner)

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> Any:
        choices = [choice for choice in handler(core).get("anyOf", ()) if choice != {"type": "null"}]
        return {"anyOf": [{"const": "report"}, *choices]}


class CoverageData(StrictModel):
    """How the databases of vaults are backed up, and what is done about those that are not."""

    vault_ids: Annotated[ListOf[VaultIdField], Field(max_length=MOST_VAULTS)] = ()
    subscription_ids: Annotated[ListOf[SubscriptionId], Field(max_length=MOST_SUBSCRIPTIONS)] = ()
    #: none: every user database
    databases: Annotated[ListOf[DatabaseSelector], Field(max_length=2000)] = ()
    exclude: Annotated[ListOf[DatabaseSelector], Field(max_length=2000)] = ()
    include_system: bool = False
    #: how old the last backup may be; by the policy where none is given
    max_age: PositiveDuration | None = None
    on_unprotected: Annotated[
        OnUnprotected | None, _ReportOr('{"protect": {"policyName": "HourlyLogBackup"}}')
    ] = Field(default=None, json_schema_extra={"default": "report"})
    on_stale: Annotated[OnStale | None, _ReportOr('{"backup": {"backupType": "Full"}}')] = Field(
        default=None, json_schema_extra={"default": "report"}
    )
    job_timeout: PositiveDuration | None = None

    @model_validator(mode="after")
    def _of_something(self) -> CoverageData:
        if bool(self.vault_ids) == bool(self.subscription_ids):
            raise ValueError(
                "expected exactly one of vaultIds and subscriptionIds, with at least one id in it"
            )
        return self

    @property
    def repairs(self) -> frozenset[Operation]:
        """The operations that its rules may ask for."""
        rules = {Operation.PROTECT: self.on_unprotected, Operation.BACKUP: self.on_stale}
        return frozenset(operation for operation, rule in rules.items() if rule is not None)


#: So many drills in one request, which are done one after the other.
MOST_DRILLS: Final = 100


class DrillPlace(StrictModel):
    """The instance that drills restore to, one of the setting `DRILL_TARGETS`."""

    vm_id: VirtualMachineIdField
    instance: InstanceName


class DrillData(_UserDatabaseSelection):
    """Restore drills of one or many protected databases, one after the other."""

    vault_id: VaultIdField
    #: at most so many, those whose last drill is longest ago; all that are meant where it is absent
    count: Annotated[int, Field(ge=1, le=MOST_DRILLS)] | None = None
    recovery_point: RecoveryPointChoice = Field(default_factory=lambda: RecoveryPointChoice(latest="any"))
    target: DrillPlace
    check: Annotated[Literal["none", "checkdb"], in_any_case("none", "checkdb")] = "checkdb"
    clean_up: bool = True
    job_timeout: PositiveDuration | None = None


RequestData = ProtectData | BackupData | RestoreData | CoverageData | DrillData

REQUEST_TYPES: Final[dict[str, tuple[Operation, type[RequestData]]]] = {
    "sqlvmbackup.protect.requested.v1": (Operation.PROTECT, ProtectData),
    "sqlvmbackup.backup.requested.v1": (Operation.BACKUP, BackupData),
    "sqlvmbackup.restore.requested.v1": (Operation.RESTORE, RestoreData),
    "sqlvmbackup.coverage.requested.v1": (Operation.COVERAGE, CoverageData),
    "sqlvmbackup.drill.requested.v1": (Operation.DRILL, DrillData),
}


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
