"""Where the files of a restored database go, and which recovery point tells which files there are."""

from __future__ import annotations

from typing import Any

import pytest

from shared.engine.result import Failure
from shared.messages.requests import AlternateTarget
from shared.steps.database_files import map_files
from tests.unit.examples import VM

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
    twins = [("Data", "F:\\a.mdf", "a:b"), ("Data", "F:\\b.mdf", "a?b"), ("Data", "F:\\c.mdf", "A_B")]
    paths = [item["targetPath"].casefold() for item in placed(twins, alternate(), DIRECTORIES)]
    assert len(set(paths)) == 3


@pytest.mark.parametrize(
    ("target", "directories", "code"),
    [
        ({"files": [{"logicalName": "nope", "path": "X:\\x"}]}, DIRECTORIES, "UnknownFile"),
        ({}, {"data": "D:\\data"}, "NoDefaultDirectory"),
        ({}, {"data": "D:\\" + "d" * 240, "log": "L:\\"}, "PathTooLong"),
    ],
)
def test_files_that_cannot_be_placed(target: dict[str, Any], directories: dict[str, str], code: str) -> None:
    failure = map_files(FILES, alternate(**target), directories)
    assert isinstance(failure, Failure)
    assert failure.code == code
