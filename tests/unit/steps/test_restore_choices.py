"""What a restore goes back to, where its files go, and what it may overwrite."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from shared.arm.ids import RecoveryPointId
from shared.azure_backup.models import RecoveryPoint, TimeRange
from shared.engine.result import Failure
from shared.messages.events import Status
from shared.messages.requests import AlternateTarget, RecoveryPointChoice, RestoreData
from shared.settings import Settings
from shared.steps.database_files import map_files
from shared.steps.payloads import ChosenRecoveryPoint, RestorePlan, RestoreTask
from shared.steps.recovery_points import choose_recovery_point
from shared.steps.restore import not_allowed_by
from tests.unit.examples import NOW, SUBSCRIPTION, VAULT, VM, item_id

OTHER_VM = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-sql/providers/Microsoft.Compute/virtualMachines/sqlvm2"
)
HOUR = timedelta(hours=1)


def point(name: str, kind: str, age: timedelta) -> RecoveryPoint:
    return RecoveryPoint(id=RecoveryPointId(item_id("orders"), name), name=name, kind=kind, time=NOW - age)


def ranges(*spans: tuple[datetime, datetime]) -> RecoveryPoint:
    name = "DefaultRangeRecoveryPoint"
    return RecoveryPoint(
        id=RecoveryPointId(item_id("orders"), name),
        name=name,
        kind="Log",
        time_ranges=tuple(TimeRange(*span) for span in spans),
    )


FULL = point("100", "Full", 48 * HOUR)
NEWER_FULL = point("200", "CopyOnlyFull", 24 * HOUR)
DIFFERENTIAL = point("300", "Differential", 12 * HOUR)
LOGS = ranges((NOW - 48 * HOUR, NOW - 30 * HOUR), (NOW - 20 * HOUR, NOW - HOUR))
ALL = [NEWER_FULL, LOGS, FULL, DIFFERENTIAL]
WITHOUT_LOGS = [FULL, NEWER_FULL, DIFFERENTIAL]


def text(moment: datetime) -> str:
    return moment.isoformat()


#: what is asked, what there is, the name and the moment that it means
CHOICES: dict[str, tuple[dict[str, Any], list[RecoveryPoint], str, datetime]] = {
    "by name": ({"name": "100"}, ALL, "100", NOW - 48 * HOUR),
    "newest moment": ({"latest": "any"}, ALL, "DefaultRangeRecoveryPoint", NOW - HOUR),
    "newest without logs": ({"latest": "any"}, WITHOUT_LOGS, "300", NOW - 12 * HOUR),
    "newest full": ({"latest": "full"}, ALL, "200", NOW - 24 * HOUR),
    "the first second of a range": (
        {"pointInTime": text(NOW - 20 * HOUR)},
        ALL,
        "DefaultRangeRecoveryPoint",
        NOW - 20 * HOUR,
    ),
    "the last second of a range": (
        {"pointInTime": text(NOW - HOUR)},
        ALL,
        "DefaultRangeRecoveryPoint",
        NOW - HOUR,
    ),
    "before, within a range": (
        {"before": text(NOW - 2 * HOUR)},
        ALL,
        "DefaultRangeRecoveryPoint",
        NOW - 2 * HOUR - timedelta(seconds=1),
    ),
    "before, in a gap": (
        {"before": text(NOW - 25 * HOUR)},
        ALL,
        "DefaultRangeRecoveryPoint",
        NOW - 30 * HOUR,
    ),
    "before, in a gap with a newer snapshot": (
        {"before": text(NOW - 23 * HOUR)},
        ALL,
        "200",
        NOW - 24 * HOUR,
    ),
    "before is not at": ({"before": text(NOW - 24 * HOUR)}, WITHOUT_LOGS, "100", NOW - 48 * HOUR),
}


@pytest.mark.parametrize(("asked", "points", "name", "moment"), CHOICES.values(), ids=CHOICES)
def test_recovery_point(
    asked: dict[str, Any], points: list[RecoveryPoint], name: str, moment: datetime
) -> None:
    chosen = choose_recovery_point(RecoveryPointChoice.model_validate(asked), points, "orders")
    assert isinstance(chosen, ChosenRecoveryPoint)
    assert (chosen.name, chosen.time) == (name, moment)
    assert (chosen.point_in_time is not None) == (name == "DefaultRangeRecoveryPoint")


@pytest.mark.parametrize(
    ("asked", "points"),
    [
        ({"name": "999"}, ALL),
        ({"name": "DefaultRangeRecoveryPoint"}, ALL),
        ({"pointInTime": text(NOW - 25 * HOUR)}, ALL),
        ({"pointInTime": text(NOW - HOUR + timedelta(seconds=1))}, ALL),
        ({"pointInTime": text(NOW - 12 * HOUR)}, WITHOUT_LOGS),
        ({"before": text(NOW - 48 * HOUR)}, ALL),
        ({"latest": "any"}, []),
        ({"latest": "full"}, [LOGS, DIFFERENTIAL]),
    ],
    ids=str,
)
def test_what_there_is_not_is_refused_with_what_there_is(
    asked: dict[str, Any], points: list[RecoveryPoint]
) -> None:
    failure = choose_recovery_point(RecoveryPointChoice.model_validate(asked), points, "orders")
    assert isinstance(failure, Failure)
    assert failure.code == "RecoveryPointNotFound"
    assert failure.status is Status.FAILED
    assert "Recovery points: " in failure.message
    assert "Log ranges: " in failure.message


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


def restore(target: dict[str, Any], **data: Any) -> RestoreData:
    fields = {
        "vaultId": VAULT.path,
        "vmId": VM.path,
        "instance": "MSSQLSERVER",
        "database": "orders",
        "recoveryPoint": {"latest": "any"},
        "target": target,
    }
    return RestoreData.model_validate({**fields, **data})


ORIGINAL = {"kind": "original"}
COPY = {"kind": "alternate", "vmId": VM.path, "instance": "MSSQLSERVER", "database": "copy"}
ITSELF = {**COPY, "instance": "mssqlserver", "database": "ORDERS"}
ELSEWHERE = {**COPY, "vmId": OTHER_VM}
AS_FILES = {"kind": "files", "vmId": VM.path, "path": "F:\\backups\\today"}
OVERWRITE = {"overwrite": True}
MAY = {"restore_allow_overwrite": True}
ANY_PATH = {"restore_allowed_paths": ("*",)}
A_SHARE = {"restore_allowed_paths": ("\\\\nas\\sql\\*",)}
PATHS = {"restore_allowed_paths": ("F:\\backups\\*",)}

#: target, request, settings, why it is refused (None: it is not)
GUARDS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], str | None]] = {
    "a copy beside it": (COPY, {}, {}, None),
    "original, not asked to overwrite": (ORIGINAL, {}, MAY, "OverwriteNotRequested"),
    "original, not allowed to overwrite": (ORIGINAL, OVERWRITE, {}, "OverwriteNotAllowed"),
    "original, asked and allowed": (ORIGINAL, OVERWRITE, MAY, None),
    "itself in another spelling": (ITSELF, {}, MAY, "OverwriteNotRequested"),
    "a copy that may overwrite": (COPY, OVERWRITE, {}, "OverwriteNotAllowed"),
    "another VM": (ELSEWHERE, {}, {}, "TargetNotAllowed"),
    "another VM that is listed": (ELSEWHERE, {}, {"restore_allowed_targets": ("*/SQLVM2",)}, None),
    "the source once others are listed": (
        COPY,
        {},
        {"restore_allowed_targets": ("*/sqlvm2",)},
        "TargetNotAllowed",
    ),
    "the original once others are listed": (
        ORIGINAL,
        OVERWRITE,
        {**MAY, "restore_allowed_targets": ("*/sqlvm2",)},
        "TargetNotAllowed",
    ),
    "no target at all": (COPY, {}, {"restore_allowed_targets": ()}, "TargetNotAllowed"),
    "files nowhere by default": (AS_FILES, {}, {}, "PathNotAllowed"),
    "files where listed": (AS_FILES, {}, PATHS, None),
    "files on another drive": ({**AS_FILES, "path": "C:\\backups\\x"}, {}, PATHS, "PathNotAllowed"),
    "database files on a share": (
        {**COPY, "files": [{"logicalName": "orders", "path": "\\\\evil\\share\\orders.mdf"}]},
        {},
        {},
        "PathNotAllowed",
    ),
    "log files on a share": ({**COPY, "logDirectory": "//evil/share"}, {}, {}, "PathNotAllowed"),
    "database files on a disk": ({**COPY, "dataDirectory": "X:\\data"}, {}, {}, None),
    "a share": ({**AS_FILES, "path": "\\\\evil\\share"}, {}, PATHS, "PathNotAllowed"),
    "a share where every path is listed": (
        {**AS_FILES, "path": "\\\\evil\\x"},
        {},
        ANY_PATH,
        "PathNotAllowed",
    ),
    "a share by slashes": ({**AS_FILES, "path": "//evil/share"}, {}, ANY_PATH, "PathNotAllowed"),
    "a disk where every path is listed": (AS_FILES, {}, ANY_PATH, None),
    "a share that is listed": ({**AS_FILES, "path": "//NAS/sql/today"}, {}, A_SHARE, None),
    "files where listed, by slashes": ({**AS_FILES, "path": "f:/backups/today"}, {}, PATHS, None),
}


@pytest.mark.parametrize(
    "path",
    ["F:\\backups\\..\\..\\x", "F:\\backups\\x/../y", "F:\\backups\\.. \\y", "\\\\?\\UNC\\evil\\x"],
)
def test_paths_that_climb_or_name_a_device_are_no_paths(path: str) -> None:
    with pytest.raises(ValidationError):
        restore({**AS_FILES, "path": path})


@pytest.mark.parametrize(("target", "data", "settings", "code"), GUARDS.values(), ids=GUARDS)
def test_guards(
    target: dict[str, Any], data: dict[str, Any], settings: dict[str, Any], code: str | None
) -> None:
    request = restore(target, **data)
    task = RestoreTask(
        database=RestorePlan(data=request).about,
        item_id=item_id("orders").path,
        recovery_point=ChosenRecoveryPoint(name="100", kind="Full", time=NOW),
        target=request.target,
        overwrite=request.overwrite,
        no_recovery=request.no_recovery,
    )
    for asked in (request, task):
        failure = not_allowed_by(asked, Settings(**settings))
        if code is None:
            assert failure is None
            continue
        assert failure is not None
        assert (failure.code, failure.status) == (code, Status.REJECTED)
