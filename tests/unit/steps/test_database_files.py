"""Where the files of a restored database go, and which recovery point tells which files there are."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from shared.arm.ids import RecoveryPointId
from shared.azure_backup.models import DataFile, RecoveryPoint
from shared.engine.result import Failure
from shared.messages.requests import AlternateTarget
from shared.steps.database_files import LONGEST_FILE_LIST, known_files, map_files
from shared.steps.payloads import ChosenRecoveryPoint
from tests.fakes.azure_backup import FakeAzureBackup
from tests.unit.examples import NOW, VM, item_id
from tests.unit.steps.calling import collaborators
from tests.unit.steps.test_recovery_points import point

HOUR = timedelta(hours=1)

FILES = [
    ("Data", "F:\\old\\orders.mdf", "orders"),
    ("Data", "F:\\old\\more.ndf", "more"),
    ("Log", "G:\\old\\orders.ldf", "orders_log"),
]
DIRECTORIES = {"data": "D:\\data", "log": "L:\\log\\"}


def alternate(**details: Any) -> AlternateTarget:
    fields = {"kind": "alternate", "vmId": VM.path, "instance": "MSSQLSERVER", "database": "copy"}
    return AlternateTarget.model_validate({**fields, **details})


def placed(
    files: list[tuple[str, str, str]], target: AlternateTarget, directories: dict[str, str]
) -> list[dict[str, str]]:
    mapped = map_files(files, target, directories)
    assert not isinstance(mapped, Failure)
    return mapped


def test_files_go_to_the_default_directories_of_their_kind() -> None:
    assert [
        (item["mappingType"], item["targetPath"]) for item in placed(FILES, alternate(), DIRECTORIES)
    ] == [
        ("Data", "D:\\data\\copy_orders.mdf"),
        ("Data", "D:\\data\\copy_more.ndf"),
        ("Log", "L:\\log\\copy_orders_log.ldf"),
    ]


def test_a_file_goes_where_the_request_says() -> None:
    target = alternate(files=[{"logicalName": "ORDERS", "path": "X:\\here.mdf"}])
    assert placed(FILES, target, DIRECTORIES)[0]["targetPath"] == "X:\\here.mdf"


def test_no_two_files_share_a_path() -> None:
    twins = [("Data", f"F:\\{number}.mdf", name) for number, name in enumerate(("a_b", "A_B", "a_B"))]
    paths = [file["targetPath"] for file in placed(twins, alternate(), DIRECTORIES)]
    assert paths == ["D:\\data\\copy_a_b.mdf", "D:\\data\\copy_A_B_2.mdf", "D:\\data\\copy_a_B_3.mdf"]
    # One that the request places takes its path as well.
    target = alternate(files=[{"logicalName": "A_B", "path": "D:\\data\\copy_a_b.mdf"}])
    paths = [file["targetPath"] for file in placed(twins[:2], target, DIRECTORIES)]
    assert paths == ["D:\\data\\copy_a_b_2.mdf", "D:\\data\\copy_a_b.mdf"]
    # Names that Windows does not take stay apart as well.
    odd = [("Data", "F:\\1.mdf", "a:b"), ("Data", "F:\\2.mdf", "a?b")]
    assert len({file["targetPath"].lower() for file in placed(odd, alternate(), DIRECTORIES)}) == 2


def test_a_file_is_named_exactly_or_else_as_the_only_one() -> None:
    files = [("Data", "F:\\a.mdf", "a"), ("Data", "F:\\b.mdf", "A")]
    target = alternate(files=[{"logicalName": "A", "path": "X:\\here.mdf"}])
    assert [file["targetPath"] for file in placed(files, target, DIRECTORIES)][1] == "X:\\here.mdf"


@pytest.mark.parametrize(
    ("file", "path"),
    [
        (("Data", "F:\\old", "orders"), "D:\\data\\copy_orders.mdf"),
        (("Log", "F:\\old", "orders"), "L:\\log\\copy_orders.ldf"),
        (("LOG", "F:\\old.odd suffix", "orders"), "L:\\log\\copy_orders.ldf"),
        (("Rows", "F:\\old.x-1", "orders"), "D:\\data\\copy_orders.x-1"),
    ],
)
def test_a_file_keeps_its_suffix_or_has_that_of_its_kind(file: tuple[str, str, str], path: str) -> None:
    assert placed([file], alternate(), DIRECTORIES)[0]["targetPath"] == path


LONG = {"data": "D:\\" + "d" * 240, "log": "L:\\" + "l" * 240}
A_LOG = [("Log", "G:\\old\\orders.ldf", "orders_log")]
MANY = [("Data", f"F:\\{number}.mdf", "x" * 100) for number in range(200)]
#: the files, what the request says of them, the directories, the error code, what its message says
MISPLACED: dict[str, tuple[list[tuple[str, str, str]], dict[str, Any], dict[str, str], str, str]] = {
    "a file that is not there": (
        FILES,
        {"files": [{"logicalName": "nope", "path": "X:\\x"}]},
        DIRECTORIES,
        "UnknownFile",
        "no file nope; its files are: more, orders, orders_log.",
    ),
    "a file that is named twice": (
        FILES,
        {
            "files": [
                {"logicalName": "orders", "path": "X:\\x"},
                {"logicalName": "ORDERS", "path": "X:\\y"},
            ]
        },
        DIRECTORIES,
        "FileNamedTwice",
        "data.target.files.1.logicalName: expected each file once; ORDERS is orders",
    ),
    "a directory of the instance": (
        FILES,
        {"files": [{"logicalName": "orders", "path": "l:/log"}]},
        DIRECTORIES,
        "PathNotAFile",
        "data.target.files.0.path: ",
    ),
    "a directory that ends in an underscore": (
        FILES,
        {"files": [{"logicalName": "orders", "path": "L:\\log_"}]},
        {**DIRECTORIES, "log": "L:\\log_"},
        "PathNotAFile",
        "data.target.files.0.path: ",
    ),
    "a directory above one": (
        FILES,
        {"files": [{"logicalName": "orders", "path": "D:\\a"}]},
        {**DIRECTORIES, "data": "D:\\a\\b\\c"},
        "PathNotAFile",
        "D:\\a is a directory of the instance MSSQLSERVER.",
    ),
    "no directory for data": (
        FILES,
        {},
        {"log": "L:\\"},
        "NoDefaultDirectory",
        "names no default data directory; set dataDirectory or",
    ),
    "no directory for logs": (
        A_LOG,
        {},
        {"data": "D:\\"},
        "NoDefaultDirectory",
        "names no default log directory; set logDirectory or",
    ),
    "no room for data": (FILES, {}, LONG, "PathTooLong", "set dataDirectory or files"),
    "no room for logs": (A_LOG, {}, LONG, "PathTooLong", "set logDirectory or files"),
    "files that nobody tells": (
        [],
        {"dataDirectory": "X:\\", "logDirectory": "Y:\\", "files": [{"logicalName": "a", "path": "X:\\a"}]},
        DIRECTORIES,
        "FilesUnknown",
        "leave out dataDirectory and logDirectory and files,",
    ),
    "too many files": (
        MANY,
        {"logDirectory": "Y:\\"},
        DIRECTORIES,
        "FileListTooLong",
        "leave out logDirectory, and the service places them",
    ),
}


@pytest.mark.parametrize(
    ("files", "target", "directories", "code", "says"), MISPLACED.values(), ids=MISPLACED
)
def test_files_that_cannot_be_placed_say_why(
    files: list[tuple[str, str, str]],
    target: dict[str, Any],
    directories: dict[str, str],
    code: str,
    says: str,
) -> None:
    failure = map_files(files, alternate(**target), directories)
    assert isinstance(failure, Failure)
    assert failure.code == code
    assert says in failure.message


def test_the_service_places_what_it_takes_no_paths_for() -> None:
    assert map_files([], alternate(), {}) == []
    assert map_files(MANY, alternate(), DIRECTORIES) == []
    # Up to 20,000 bytes of JSON are taken.
    room = LONGEST_FILE_LIST - len(json.dumps([{"path": "F:\\", "logicalName": "a"}]))
    for more, taken in ((0, True), (1, False)):
        one = [("Data", "F:\\" + "x" * (room + more), "a")]
        assert bool(map_files(one, alternate(), DIRECTORIES)) is taken


# -- which files there are

FULL = ChosenRecoveryPoint(name="100", kind="Full", time=NOW - 2 * HOUR)
LOG = ChosenRecoveryPoint(name="Log", kind="Log", time=NOW - HOUR, point_in_time=NOW - HOUR)


def with_files(name: str, age: timedelta, *logical: str, kind: str = "Full") -> RecoveryPoint:
    files = tuple(DataFile("Data", f"F:\\{name}.mdf", each) for each in logical)
    return point(name, age, kind, data_directories=files)


def files_of(azure: FakeAzureBackup, chosen: ChosenRecoveryPoint) -> list[str]:
    """The recovery point that told the files, by its name in their path."""
    return [path[3:-4] for _, path, _ in known_files(collaborators(azure), item_id("orders"), chosen)]


LOGS = RecoveryPoint(
    id=RecoveryPointId(item_id("orders"), "DefaultRangeRecoveryPoint"),
    name="DefaultRangeRecoveryPoint",
    kind="Log",
    data_directories=(DataFile("Data", "F:\\log.mdf", "a"),),
)
#: the recovery points with their files, the one that is chosen, whose files are taken
FILES_OF: dict[str, tuple[list[RecoveryPoint], ChosenRecoveryPoint, list[str]]] = {
    "its own": ([with_files("100", 2 * HOUR, "a"), with_files("90", 3 * HOUR, "a")], FULL, ["100"]),
    "those of the newest before it": (
        [
            with_files("110", HOUR, "a"),
            with_files("100", 2 * HOUR),
            with_files("80", 4 * HOUR, "a"),
            with_files("90", 3 * HOUR, "a"),
        ],
        FULL,
        ["90"],
    ),
    "of the same moment": ([with_files("100", 2 * HOUR), with_files("90", 2 * HOUR, "a")], FULL, ["90"]),
    "none without a name": (
        [with_files("100", 2 * HOUR, "a", ""), with_files("90", 3 * HOUR, "b")],
        FULL,
        ["90"],
    ),
    "of the log": ([LOGS, with_files("90", 2 * HOUR, "a")], LOG, ["log"]),
    "of a full before the moment": (
        [with_files("90", HOUR, "a"), with_files("95", HOUR / 2, "a")],
        LOG,
        ["90"],
    ),
    "nowhere": ([with_files("100", 2 * HOUR)], FULL, []),
}


@pytest.mark.parametrize(("points", "chosen", "files"), FILES_OF.values(), ids=FILES_OF)
def test_the_nearest_recovery_point_tells_the_files(
    points: list[RecoveryPoint], chosen: ChosenRecoveryPoint, files: list[str]
) -> None:
    azure = FakeAzureBackup(recovery_points=[point("100", 2 * HOUR)], detailed_recovery_points=points)
    assert files_of(azure, chosen) == files


def test_points_whose_list_tells_nothing_are_read_one_by_one_up_to_three() -> None:
    listed = [with_files(str(number), (10 - number) * HOUR) for number in range(6)]
    azure = FakeAzureBackup(recovery_points=listed)
    assert known_files(collaborators(azure), item_id("orders"), FULL.model_copy(update={"name": "x"})) == []
    read = [call["recovery_point"].name for call in azure.calls.of("get_recovery_point")]
    assert read == ["x", "5", "4", "3"]
