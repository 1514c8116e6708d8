"""Restoring a database: to the original, to another database, instance or VM, or as files.

Follows https://learn.microsoft.com/azure/backup/restore-azure-sql-vm-rest-api.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from shared.arm.ids import ProtectedItemId, RecoveryPointId, VirtualMachineId
from shared.messages import events
from shared.messages.requests import (
    AlternateTarget,
    FilesTarget,
    OriginalTarget,
    RecoveryPointChoice,
    RestoreData,
)
from shared.messages.steps import (
    ChosenRecoveryPoint,
    RestorePlan,
    RestoreTask,
    StepMessage,
    restored_database,
)
from shared.settings import Settings
from shared.workflow import selection
from shared.workflow.effects import (
    Adopted,
    NotStarted,
    Undecided,
    before_replay,
    settle,
    unknown,
    wait_for_running,
)
from shared.workflow.flow import follow, follow_job, go_on
from shared.workflow.step import Collaborators, LateError, RefusedError, Result, WorkflowError
from shared.workflow.vaults import protected_items

if TYPE_CHECKING:
    from shared.azure_backup.models import Container, ProtectedItem, RecoveryPoint, TimeRange

LOG_RECOVERY_POINT: Final = "DefaultRangeRecoveryPoint"
#: Over this size of the file list the service maps no paths itself (troubleshooting article).
LONGEST_FILE_LIST: Final = 20_000
_LONGEST_PATH: Final = 259
#: Fulls and differentials with their moments, the newest first.
Snapshots: TypeAlias = "list[tuple[datetime, RecoveryPoint]]"
#: A file of a database: its type, its path, its logical name.
DatabaseFile: TypeAlias = tuple[str, str, str]
_NOT_IN_FILE_NAMES: Final = re.compile(r'[<>:"/\\|?*\x00-\x1f]')


def select_recovery_point(message: StepMessage[RestorePlan], c: Collaborators) -> Result:
    """Check that the restore is allowed, and select its recovery point."""
    data = message.payload.data
    check_allowed(data, c.settings)
    database = restored_database(message.payload)
    item = _find_item(data, c)
    points = c.backup.list_recovery_points(item.id)
    chosen = choose_recovery_point(data.recovery_point, points, str(database))
    target = data.target
    if isinstance(target, AlternateTarget) and target.database is None:
        name = f"{data.database}_restored_{chosen.time:%Y%m%d%H%M%S}"
        target = target.model_copy(update={"database": name})
    task = RestoreTask(
        database=database,
        item_id=item.id.path,
        server_name=item.server_name,
        recovery_point=chosen,
        target=target,
        overwrite=data.overwrite,
        no_recovery=data.no_recovery,
    )
    at = c.now()
    accepted = events.accepted(message.request, at=at, outcome_count=1, skipped={}, names=())
    return Result(next=(go_on(message, "trigger_restore", task, at),), accepted=accepted)


def check_allowed(data: RestoreData, settings: Settings) -> None:
    """Raise RefusedError where the request or the settings do not allow what it asks for."""
    source = data.vm_id.path if data.vm_id is not None else None
    target = data.target
    overwrites = _overwrites(data)
    if overwrites and not data.overwrite:
        raise RefusedError(
            "OverwriteNotRequested",
            f"the restore would replace {overwrites}; set overwrite to true if that is meant.",
        )
    if (overwrites or data.overwrite) and not settings.restore_allow_overwrite:
        raise RefusedError(
            "OverwriteNotAllowed",
            "the request asks to overwrite, which the setting RESTORE_ALLOW_OVERWRITE does not allow.",
        )
    if isinstance(target, OriginalTarget):
        if data.availability_group is not None:
            raise RefusedError(
                "OriginalRestoreOfAvailabilityGroup",
                f"the service does not restore over a database of the availability group"
                f" {data.availability_group}: restore it to another database, then add that to the group.",
            )
        destination = source
    else:
        destination = target.vm_id.path
    if destination is None or not settings.allows_target(destination, source=source):
        accepted = settings.restore_allowed_targets
        allowed = "the source VM only" if accepted is None else selection.listing(accepted)
        raise RefusedError(
            "TargetNotAllowed",
            f"the setting RESTORE_ALLOWED_TARGETS does not allow restores to {destination}; it allows: {allowed}.",
        )
    if isinstance(target, FilesTarget):
        _check_path(target.path, settings, always=True)
    elif isinstance(target, AlternateTarget):
        for path in (target.data_directory, target.log_directory, *(file.path for file in target.files)):
            if path is not None:
                _check_path(path, settings, always=False)


def _check_path(path: str, settings: Settings, *, always: bool) -> None:
    """Raise RefusedError for a path that the settings do not allow.

    `always`: any path needs the setting; else only one that leads to a network share or climbs, since a
    database's files belong on the target VM's own disks.
    """
    # Windows drops blanks and dots at the end of a segment: ".. " climbs as well.
    climbs = any(part.rstrip(" .") == "" and part.count(".") > 1 for part in re.split(r"[\\/]", path))
    shared = path.lstrip()[:1] in ("\\", "/")
    if climbs or ((always or shared) and not settings.allows_path(path)):
        allowed = selection.listing(settings.restore_allowed_paths)
        raise RefusedError(
            "PathNotAllowed",
            f"the setting RESTORE_ALLOWED_PATHS does not allow restores to {path}; it allows: {allowed}.",
        )


def _overwrites(data: RestoreData) -> str:
    target = data.target
    if isinstance(target, OriginalTarget):
        return f"the source database {restored_database(RestorePlan(data=data))}"
    if (
        isinstance(target, AlternateTarget)
        and target.database is not None
        and target.vm_id == data.vm_id
        and target.instance.casefold() == (data.instance or "").casefold()
        and target.database.casefold() == data.database.casefold()
    ):
        return f"the source database {target.instance}/{target.database}"
    return ""


def _find_item(data: RestoreData, c: Collaborators) -> ProtectedItem:
    protected = protected_items(c, data.vault_id)
    available = selection.candidates(protected, (), vm_id=data.vm_id, container=None)
    parent = data.instance or data.availability_group or ""
    for candidate in available:
        database = candidate.database
        if (
            (database.availability_group is not None) == (data.availability_group is not None)
            and database.parent.casefold() == parent.casefold()
            and database.name.casefold() == data.database.casefold()
        ):
            item = candidate.protected
            assert item is not None
            if item.is_scheduled_for_deferred_delete:
                raise WorkflowError(
                    "ItemSoftDeleted",
                    f"the backups of {database} are soft-deleted: undelete it before it is restored.",
                )
            return item
    place = f" on {data.vm_id}" if data.vm_id is not None else ""
    there = selection.listing(str(candidate.database) for candidate in available)
    instead = selection.machines_instead(protected, data.vm_id)
    raise WorkflowError(
        "DatabaseNotFound",
        f"vault {data.vault_id.name} protects no database {parent}/{data.database}{place}; it protects there:"
        f" {there}.{f' {instead}' if instead else ''}",
    )


def choose_recovery_point(
    choice: RecoveryPointChoice, points: list[RecoveryPoint], database: str
) -> ChosenRecoveryPoint:
    """The recovery point that a request means. Raises WorkflowError that says which there are."""
    snapshots = _newest_first(points)
    ranges = [span for point in points for span in point.time_ranges]
    ranges.sort(key=lambda span: span.end, reverse=True)
    chosen: ChosenRecoveryPoint | None = None
    if choice.name is not None:
        chosen = _named(choice.name, snapshots)
    elif choice.point_in_time is not None:
        if any(span.start <= choice.point_in_time <= span.end for span in ranges):
            chosen = _at_moment(choice.point_in_time)
    elif choice.latest == "any":
        chosen = _latest(snapshots, ranges)
    elif choice.latest == "full":
        chosen = _latest_full(snapshots)
    elif choice.before is not None:
        chosen = _newest_before(choice.before, snapshots, ranges)
    if chosen is None:
        raise WorkflowError(
            "RecoveryPointNotFound", f"{database} cannot be restored to {choice}. {available_points(points)}"
        )
    return chosen


def _at_moment(moment: datetime) -> ChosenRecoveryPoint:
    return ChosenRecoveryPoint(name=LOG_RECOVERY_POINT, kind="Log", time=moment, point_in_time=moment)


def _at_point(time: datetime, point: RecoveryPoint) -> ChosenRecoveryPoint:
    return ChosenRecoveryPoint(name=point.name, kind=point.kind, time=time)


def _named(name: str, snapshots: Snapshots) -> ChosenRecoveryPoint | None:
    for time, point in snapshots:
        if point.name.casefold() == name.casefold():
            return _at_point(time, point)
    return None


def _latest(snapshots: Snapshots, ranges: Sequence[TimeRange]) -> ChosenRecoveryPoint | None:
    """The end of the newest log range, else the newest full or differential."""
    if ranges:
        return _at_moment(ranges[0].end.replace(microsecond=0))
    return _at_point(*snapshots[0]) if snapshots else None


def _latest_full(snapshots: Snapshots) -> ChosenRecoveryPoint | None:
    for time, point in snapshots:
        if point.kind.lower() in ("full", "copyonlyfull"):
            return _at_point(time, point)
    return None


def _newest_before(
    moment: datetime, snapshots: Snapshots, ranges: Sequence[TimeRange]
) -> ChosenRecoveryPoint | None:
    """The newest whole second before `moment` that there is, by the log or by a full or differential."""
    last = (moment - timedelta(microseconds=1)).replace(microsecond=0)
    by_log = [min(span.end.replace(microsecond=0), last) for span in ranges if span.start <= last]
    by_point = [(time, point) for time, point in snapshots if time <= last]
    if by_log and (not by_point or max(by_log) >= by_point[0][0]):
        return _at_moment(max(by_log))
    return _at_point(*by_point[0]) if by_point else None


def _newest_first(points: list[RecoveryPoint]) -> Snapshots:
    """Fulls and differentials with their moments; the log ranges have none."""
    snapshots = [(point.time, point) for point in points if point.time is not None]
    return sorted(snapshots, key=lambda pair: pair[0], reverse=True)


def available_points(points: list[RecoveryPoint]) -> str:
    """What can be restored, in one sentence: the newest recovery points and the log ranges."""
    snapshots = _newest_first(points)
    named = [f"{point.name} ({point.kind}, {time:%Y-%m-%dT%H:%M:%SZ})" for time, point in snapshots[:10]]
    spans = [
        f"{span.start:%Y-%m-%dT%H:%M:%SZ} to {span.end:%Y-%m-%dT%H:%M:%SZ}"
        for point in points
        for span in point.time_ranges
    ]
    more = f" and {len(snapshots) - 10} older" if len(snapshots) > 10 else ""
    log = "; ".join(spans[:10]) if spans else "none"
    return f"Recovery points: {', '.join(named) if named else 'none'}{more}. Log ranges: {log}."


def trigger_restore(message: StepMessage[RestoreTask], c: Collaborators) -> Result:
    """Trigger the restore, once; it is never sent again where its start is unknown."""
    task = message.payload
    if message.effect.may_have_started:
        settled = settle(
            message, c, operation="Restore", database=task.database.name, server=task.server_name
        )
        if isinstance(settled, Adopted):
            return follow_job(message, c, settled.job.id)
        if isinstance(settled, NotStarted):
            settled = Undecided(0, echoes=True)
        raise unknown("restore", task.database, settled)
    before = before_replay(
        message, c, operation="Restore", database=task.database.name, server=task.server_name
    )
    if isinstance(before, Adopted):
        return follow_job(message, c, before.job.id)
    if isinstance(before, Undecided):
        raise unknown("restore", task.database, before)
    if message.effect.waiting:
        wait_for_running(message, c, database=task.database.name, server=task.server_name)
    item = ProtectedItemId.parse(task.item_id)
    properties = restore_properties(message, c, item)
    if c.late():
        raise LateError
    started = c.backup.trigger_restore(
        RecoveryPointId(item, task.recovery_point.name),
        properties,
        client_request_id=message.client_request_id,
    )
    return follow(message, c, started)


def restore_properties(
    message: StepMessage[RestoreTask], c: Collaborators, item: ProtectedItemId
) -> dict[str, Any]:
    """The properties of the restore request, as the REST API takes them."""
    task = message.payload
    moment = task.recovery_point.point_in_time
    properties: dict[str, Any] = {
        "objectType": (
            "AzureWorkloadSQLPointInTimeRestoreRequest"
            if moment is not None
            else "AzureWorkloadSQLRestoreRequest"
        ),
        "shouldUseAlternateTargetLocation": True,
        "isNonRecoverable": task.no_recovery,
    }
    if moment is not None:
        properties["pointInTime"] = f"{moment:%Y-%m-%dT%H:%M:%SZ}"
    target = task.target
    if isinstance(target, OriginalTarget):
        return {**properties, "recoveryType": "OriginalLocation"}
    properties["recoveryType"] = "AlternateLocation"
    container = _target_container(message, c, target.vm_id)
    properties["targetVirtualMachineId"] = target.vm_id.path
    if isinstance(target, FilesTarget):
        return {
            **properties,
            "recoveryMode": "FileRecovery",
            "targetInfo": {
                "overwriteOption": _overwrite_option(task),
                "containerId": container.id.path,
                "targetDirectoryForFileRestore": target.path,
            },
        }
    if task.database.vm_id is not None:
        properties["sourceResourceId"] = task.database.vm_id.path
    return {**properties, **_alternate_properties(task, target, container, c, item)}


def _alternate_properties(
    task: RestoreTask, target: AlternateTarget, container: Container, c: Collaborators, item: ProtectedItemId
) -> dict[str, Any]:
    """What a restore to another database says of that, and of where its files go."""
    assert target.database is not None
    directories = _default_directories(c, container, target)
    _check_target_database(c, container, target, overwrite=task.overwrite)
    mapping = map_files(_files(task, c, item), target, directories)
    described: dict[str, Any] = {
        "targetInfo": {
            "overwriteOption": _overwrite_option(task),
            "containerId": container.id.path,
            "databaseName": f"{target.instance}/{target.database}",
        }
    }
    if mapping:
        described["alternateDirectoryPaths"] = mapping
    return described


def _overwrite_option(task: RestoreTask) -> str:
    return "Overwrite" if task.overwrite else "FailOnConflict"


def _target_container(
    message: StepMessage[RestoreTask], c: Collaborators, vm_id: VirtualMachineId
) -> Container:
    vault_id = message.request.vault_id
    assert vault_id is not None
    registered = c.backup.list_registered_containers(vault_id)
    for container in registered:
        if container.virtual_machine_id == vm_id:
            if container.health_status.lower() == "deleted":
                raise WorkflowError(
                    "VirtualMachineDeleted",
                    f"the target VM {vm_id} has been deleted: restore to another one that is registered to vault"
                    f" {vault_id.name}.",
                )
            return container
    there = selection.listing(str(container.virtual_machine_id) for container in registered)
    raise WorkflowError(
        "TargetNotRegistered",
        f"the target VM {vm_id} is not registered to vault {vault_id.name}; registered are: {there}. Register it"
        " with a protect request first.",
    )


def _default_directories(c: Collaborators, container: Container, target: AlternateTarget) -> dict[str, str]:
    instances = c.backup.list_workload_items(container.id, "SQLInstance")
    for instance in instances:
        if instance.instance.casefold() == target.instance.casefold():
            found = {kind.lower(): path for kind, path in instance.data_directories}
            break
    else:
        there = selection.listing(instance.instance for instance in instances)
        raise WorkflowError(
            "TargetInstanceNotFound",
            f"the target VM {target.vm_id} has no SQL Server instance {target.instance}; it has: {there}.",
        )
    if target.data_directory is not None:
        found["data"] = target.data_directory
    if target.log_directory is not None:
        found["log"] = target.log_directory
    return found


def _check_target_database(
    c: Collaborators, container: Container, target: AlternateTarget, *, overwrite: bool
) -> None:
    assert target.database is not None
    if overwrite:
        return
    for other in c.backup.list_workload_items(container.id, "SQLDataBase"):
        same_instance = other.instance.casefold() == target.instance.casefold()
        if same_instance and other.name.casefold() == target.database.casefold():
            raise RefusedError(
                "TargetDatabaseExists",
                f"the database {target.instance}/{target.database} exists on {target.vm_id}; set overwrite to true"
                " if it is to be replaced, or name another.",
            )


def _files(task: RestoreTask, c: Collaborators, item: ProtectedItemId) -> list[DatabaseFile]:
    """The files of the database at the recovery point."""
    if task.recovery_point.point_in_time is None:
        point = c.backup.get_recovery_point(RecoveryPointId(item, task.recovery_point.name))
        return list(point.data_directories) if point is not None else []
    for point in c.backup.list_recovery_points(item, query_type="Log", extended_info=True):
        if point.data_directories:
            return list(point.data_directories)
    return []


def map_files(
    files: list[DatabaseFile], target: AlternateTarget, directories: dict[str, str]
) -> list[dict[str, str]]:
    """Where each file of the database goes: as the request says, else the target's default directories.

    Raises WorkflowError where a file cannot be placed.
    """
    wanted = _wanted_paths(files, target)
    mapping: list[dict[str, str]] = []
    taken: set[str] = set()
    for file in files:
        kind, path, logical = file
        placed = wanted.get(logical.casefold())
        if placed is None:
            placed = _default_path(file, target, directories, taken)
        if len(placed) > _LONGEST_PATH:
            raise WorkflowError(
                "PathTooLong",
                f"the path of file {logical} has more than {_LONGEST_PATH} characters: {placed}.",
            )
        taken.add(placed.casefold())
        mapping.append(
            {
                "mappingType": "Log" if _is_log(kind) else "Data",
                "sourceLogicalName": logical,
                "sourcePath": path,
                "targetPath": placed,
            }
        )
    return mapping if _takes_paths(files, target) else []


def _wanted_paths(files: list[DatabaseFile], target: AlternateTarget) -> dict[str, str]:
    """The paths that the request names, by logical name. Raises WorkflowError for a file there is not."""
    known = {logical.casefold() for _, _, logical in files}
    strangers = [file.logical_name for file in target.files if file.logical_name.casefold() not in known]
    if strangers:
        raise WorkflowError(
            "UnknownFile",
            f"the database has no files {selection.listing(strangers)}; its files are:"
            f" {selection.listing(logical for _, _, logical in files)}.",
        )
    return {file.logical_name.casefold(): file.path for file in target.files}


def _default_path(
    file: DatabaseFile, target: AlternateTarget, directories: dict[str, str], taken: set[str]
) -> str:
    """A path in the instance's default directory that no other file has taken."""
    kind, path, logical = file
    is_log = _is_log(kind)
    directory = directories.get("log" if is_log else "data")
    if directory is None:
        raise WorkflowError(
            "NoDefaultDirectory",
            f"the instance {target.instance} names no default {'log' if is_log else 'data'} directory;"
            f" set {'logDirectory' if is_log else 'dataDirectory'} or files in the target.",
        )
    suffix = PureWindowsPath(path).suffix or (".ldf" if is_log else ".mdf")
    return _place(directory, f"{target.database}_{logical}", suffix, taken)


def _is_log(kind: str) -> bool:
    return kind.lower() == "log"


def _takes_paths(files: list[DatabaseFile], target: AlternateTarget) -> bool:
    """Whether the service takes paths for so many files. Raises WorkflowError where it has to, and does not."""
    listed = len(json.dumps([{"path": path, "logicalName": logical} for _, path, logical in files]))
    if listed <= LONGEST_FILE_LIST:
        return True
    if target.files or target.data_directory or target.log_directory:
        raise WorkflowError(
            "FileListTooLong",
            f"the list of the database's files takes {listed} bytes, and over {LONGEST_FILE_LIST} the service"
            " places files in the instance's default directories only; leave out files and directories.",
        )
    return False


def _place(directory: str, name: str, suffix: str, taken: set[str]) -> str:
    base = _NOT_IN_FILE_NAMES.sub("_", name).rstrip(". ")
    folder = directory if directory.endswith("\\") else f"{directory}\\"
    placed = f"{folder}{base}{suffix}"
    number = 2
    while placed.casefold() in taken:
        placed = f"{folder}{base}_{number}{suffix}"
        number += 1
    return placed
