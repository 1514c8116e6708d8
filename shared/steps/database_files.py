"""Where the files of a restored database go, and which files there are.

The service takes a path for each file (`alternateDirectoryPaths` of
https://learn.microsoft.com/azure/backup/restore-azure-sql-vm-rest-api). Recovery points list a database's files,
though not each of them does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING, Final, TypeAlias

from shared.arm.ids import ProtectedItemId, RecoveryPointId
from shared.clock import ServiceTime
from shared.engine.result import Collaborators, Failure, refused
from shared.messages import windows_paths
from shared.messages.error_codes import ErrorCode
from shared.messages.requests import AlternateTarget, FileTarget
from shared.names import enumeration
from shared.steps.payloads import ChosenRecoveryPoint
from shared.steps.recovery_points import newest_first

if TYPE_CHECKING:
    from shared.azure_backup.models import RecoveryPoint

#: Over this size of the file list the service maps no paths itself (troubleshooting article).
LONGEST_FILE_LIST: Final = 20_000
#: How many recovery points are read one by one for their files, where their list does not tell.
_MOST_ASKED: Final = 3
#: The shortest name that still shows whose file it is.
_SHORTEST_NAME: Final = 16
_SUFFIX: Final = re.compile(r"\.[A-Za-z0-9_-]{1,16}", re.ASCII)
#: A file of a database: its type, its path, its logical name.
DatabaseFile: TypeAlias = tuple[str, str, str]


def known_files(
    collaborators: Collaborators, item: ProtectedItemId, chosen: ChosenRecoveryPoint
) -> list[DatabaseFile]:
    """The files of the database at the moment to restore to; empty where no recovery point lists them.

    They are listed by the recovery point itself, or else by the newest full or differential before that moment.
    """
    for point in _points_with_files(collaborators, item, chosen):
        if point.data_directories and all(file.logical_name for file in point.data_directories):
            return list(point.data_directories)
    return []


def _points_with_files(
    collaborators: Collaborators, item: ProtectedItemId, chosen: ChosenRecoveryPoint
) -> Iterator[RecoveryPoint]:
    """Recovery points with the files that they list, the nearest first; read lazily."""
    if chosen.point_in_time is not None:
        yield from collaborators.azure.list_recovery_points(item, query_type="Log", extended_info=True)
    else:
        yield from _read(collaborators, item, chosen.name)
    listed = collaborators.azure.list_recovery_points(
        item, query_type="FullAndDifferential", extended_info=True
    )
    before = [point for time, point in newest_first(listed) if _is_before(time, point, chosen)]
    yield from before
    for point in before[:_MOST_ASKED]:
        yield from _read(collaborators, item, point.name)


def _is_before(time: ServiceTime, point: RecoveryPoint, chosen: ChosenRecoveryPoint) -> bool:
    return time <= chosen.time and point.name != chosen.name


def _read(collaborators: Collaborators, item: ProtectedItemId, name: str) -> Iterator[RecoveryPoint]:
    point = collaborators.azure.get_recovery_point(RecoveryPointId(item, name))
    if point is not None:
        yield point


def map_files(
    files: Sequence[DatabaseFile], target: AlternateTarget, directories: Mapping[str, str]
) -> list[dict[str, str]] | Failure:
    """Where each file of the database goes: where the request says, else the target's default directories.

    Empty where the service has to place them in the instance's default directories: it takes no paths for so many
    files, or no recovery point lists them. A Failure where a file cannot be placed, or where the request names paths
    that the service would not take.
    """
    can_be_mapped = _can_be_mapped(files, target)
    if isinstance(can_be_mapped, Failure):
        return can_be_mapped
    if not can_be_mapped:
        return []
    wanted = _wanted_paths(files, target)
    if isinstance(wanted, Failure):
        return wanted
    if (misplaced := _in_place_of_a_directory(target, directories)) is not None:
        return misplaced
    taken = {windows_paths.same(path) for path in wanted.values()}
    mapping: list[dict[str, str]] = []
    for file in files:
        kind, path, logical = file
        placed = wanted.get(logical)
        if placed is None:
            default = _default_path(file, target, directories, taken)
            if isinstance(default, Failure):
                return default
            placed = default
            taken.add(windows_paths.same(placed))
        mapping.append(
            {
                "mappingType": "Log" if _is_log(kind) else "Data",
                "sourceLogicalName": logical,
                "sourcePath": path,
                "targetPath": placed,
            }
        )
    return mapping


def _can_be_mapped(files: Sequence[DatabaseFile], target: AlternateTarget) -> bool | Failure:
    """Whether the service takes paths for these files; a Failure where it does not but the request needs it to."""
    says_where = [
        field
        for field, value in (
            ("dataDirectory", target.data_directory),
            ("logDirectory", target.log_directory),
            ("files", target.files),
        )
        if value
    ]
    named = " and ".join(says_where)
    without = f"leave out {named}, and the service places them in the instance's default directories."
    if not files and says_where:
        return Failure(
            ErrorCode.FILES_UNKNOWN,
            "neither the recovery point nor a full or differential before it tells which files the database has,"
            f" so the service cannot be told where they go; {without}",
        )
    listed = len(json.dumps([{"path": path, "logicalName": logical} for _, path, logical in files]))
    if listed <= LONGEST_FILE_LIST:
        return True
    if says_where:
        return Failure(
            ErrorCode.FILE_LIST_TOO_LONG,
            f"the list of the database's files takes {listed} bytes, and over {LONGEST_FILE_LIST} the service takes no"
            f" paths; {without}",
        )
    return False


def _wanted_paths(files: Sequence[DatabaseFile], target: AlternateTarget) -> dict[str, str] | Failure:
    """The paths that the request names, by the database's logical names.

    A Failure for a file that does not exist, and for one that is named twice.
    """
    wanted: dict[str, str] = {}
    strangers = []
    for position, file in enumerate(target.files):
        logical = _logical_name(file, files)
        if logical is None:
            strangers.append(file.logical_name)
        elif logical in wanted:
            return refused(
                ErrorCode.FILE_NAMED_TWICE,
                f"data.target.files.{position}.logicalName: expected each file once; {file.logical_name} is"
                f" {logical}, which is named before.",
            )
        else:
            wanted[logical] = file.path
    if strangers:
        return Failure(
            ErrorCode.UNKNOWN_FILE,
            f"the database has no file {enumeration(strangers)}; its files are:"
            f" {enumeration(logical for _, _, logical in files)}.",
        )
    return wanted


def _in_place_of_a_directory(target: AlternateTarget, directories: Mapping[str, str]) -> Failure | None:
    """The Failure where a file would take the place of a directory of the instance."""
    known = {windows_paths.same(path).rstrip("\\") for path in directories.values()}
    known.update(above for path in directories.values() for above in windows_paths.directories_above(path))
    for position, file in enumerate(target.files):
        if windows_paths.same(file.path) in known:
            return refused(
                ErrorCode.PATH_NOT_A_FILE,
                f"data.target.files.{position}.path: expected the path of a file with its name; {file.path} is a"
                f" directory of the instance {target.instance}.",
            )
    return None


def _logical_name(file: FileTarget, files: Sequence[DatabaseFile]) -> str | None:
    """The database's logical name that is meant: an exact match, or the only one that differs just in case."""
    known = [logical for _, _, logical in files]
    if file.logical_name in known:
        return file.logical_name
    alike = [logical for logical in known if logical.lower() == file.logical_name.lower()]
    return alike[0] if len(alike) == 1 else None


def _default_path(
    file: DatabaseFile, target: AlternateTarget, directories: Mapping[str, str], taken: set[str]
) -> str | Failure:
    """A path in the instance's default directory that no other file has taken."""
    kind, path, logical = file
    is_log = _is_log(kind)
    directory = directories.get("log" if is_log else "data")
    if directory is None:
        return Failure(
            ErrorCode.NO_DEFAULT_DIRECTORY,
            f"the instance {target.instance} names no default {'log' if is_log else 'data'} directory;"
            f" set {'logDirectory' if is_log else 'dataDirectory'} or files in the target.",
        )
    suffix = PureWindowsPath(path).suffix
    if _SUFFIX.fullmatch(suffix) is None:
        suffix = ".ldf" if is_log else ".mdf"
    folder = directory if directory.endswith("\\") else f"{directory}\\"
    longest = windows_paths.LONGEST_PATH - windows_paths.length(folder + suffix) - len("_1000")
    if longest < _SHORTEST_NAME:
        return Failure(
            ErrorCode.PATH_TOO_LONG,
            f"the directory {directory} leaves no room for file {logical}: a path has at most"
            f" {windows_paths.LONGEST_PATH} characters; set {'logDirectory' if is_log else 'dataDirectory'} or files"
            " in the target.",
        )
    base = windows_paths.shortened(windows_paths.file_name(f"{target.database}_{logical}"), longest)
    placed = f"{folder}{base}{suffix}"
    number = 2
    while windows_paths.same(placed) in taken:
        placed = f"{folder}{base}_{number}{suffix}"
        number += 1
    return placed


def _is_log(kind: str) -> bool:
    return kind.lower() == "log"
