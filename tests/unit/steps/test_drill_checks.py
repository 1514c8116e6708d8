"""The call of a drill's restore, as a message hands it on: nothing but the drill's own is made."""

from __future__ import annotations

import json
from typing import Any

import pytest

from local.estate import JsonObject
from shared.drills import DrillTarget, read_drill_targets
from shared.engine.message import StepMessage
from shared.engine.result import Failure
from shared.steps.drill_checks import not_the_drills_own
from shared.steps.payloads import RestoreTask
from tests.e2e.drills import DRILL_VM, TARGET, restore_to_be_made


def refused(message: JsonObject, **setting: str) -> bool:
    (target,) = read_drill_targets(json.dumps([{**TARGET, **setting}]))
    assert isinstance(target, DrillTarget)
    read = StepMessage[RestoreTask].model_validate(message)
    assert read.payload.prepared is not None
    return isinstance(not_the_drills_own(read, target, read.payload.prepared), Failure)


def with_info(**changes: Any) -> JsonObject:
    return {"targetInfo": {**restore_to_be_made()["payload"]["prepared"]["targetInfo"], **changes}}


def with_file(**changes: Any) -> JsonObject:
    first, *others = restore_to_be_made()["payload"]["prepared"]["alternateDirectoryPaths"]
    return {"alternateDirectoryPaths": [{**first, **changes}, *others]}


CONTAINER = restore_to_be_made()["payload"]["prepared"]["targetInfo"]["containerId"]
NAME = restore_to_be_made()["payload"]["target"]["database"]


def test_the_drills_own_call_is_made() -> None:
    assert not refused(restore_to_be_made())
    assert not refused(restore_to_be_made(alternateDirectoryPaths=[]))
    assert not refused(restore_to_be_made(), dataDirectory="F:\\data", logDirectory="F:\\data\\")
    assert not refused(restore_to_be_made(**with_file(targetPath=f"F:\\{NAME}_orders.mdf")))


@pytest.mark.parametrize(
    "changes",
    [
        {"recoveryType": "OriginalLocation"},
        {"targetVirtualMachineId": DRILL_VM.replace("drills1", "sqlvm2")},
        {"isNonRecoverable": True},
        {"recoveryMode": "FileRecovery"},
        {"shouldUseAlternateTargetLocation": False},
        {"objectType": "AzureWorkloadSAPHanaPointInTimeRestoreRequest"},
        {"pointInTime": "2026-01-04T07:00:00Z"},
        {"sourceResourceId": DRILL_VM},
        with_info(overwriteOption="FailOnConflict"),
        {"targetResourceGroupName": "rg-other"},
        with_info(containerId=CONTAINER.replace("drills1", "sqlvm2")),
        with_info(containerId=CONTAINER.replace(";rg-sql;", ";rg-other;")),
        with_info(containerId=CONTAINER.replace("vaults/vault1", "vaults/vault2")),
        with_info(containerId=CONTAINER.replace("VMAppContainer", "SQLAGWorkLoadContainer")),
        with_info(containerId=7),
        with_info(targetDirectoryForFileRestore="C:\\"),
        with_info(databaseName="MSSQLSERVER/wages"),
        with_info(databaseName=f"OTHER/{NAME}"),
        with_file(targetPath="F:\\data\\wages.mdf"),
        with_file(targetPath="F:\\data\\drill_wages_01234567_wages.mdf"),
        with_file(targetPath=f"F:\\data\\{NAME}_orders.mdf:stream"),
        with_file(targetPath=f"\\\\host\\share\\{NAME}_orders.mdf"),
        with_file(targetPath=f"F:\\data\\..\\other\\{NAME}_orders.mdf"),
        with_file(targetPath=f"\\??\\UNC\\host\\share\\{NAME}_orders.mdf"),
        with_file(targetPath=f"//host\\share\\{NAME}_orders.mdf"),
        with_file(targetPath=f"\\/host\\share\\{NAME}_orders.mdf"),
        with_file(targetPath=f" \\\\host\\share\\{NAME}_orders.mdf"),
        with_file(targetPath=f"data\\{NAME}_orders.mdf"),
        with_file(targetPath=f"F:\\data\\nul\\{NAME}_orders.mdf"),
        with_file(more="x"),
        with_file(targetPath=None),
        {"alternateDirectoryPaths": {}},
    ],
)
def test_no_other_call_is_made(changes: JsonObject) -> None:
    assert refused(restore_to_be_made(**changes))


def test_files_go_where_the_setting_has_its_directories() -> None:
    assert refused(restore_to_be_made(), dataDirectory="G:\\drills")
    assert refused(restore_to_be_made(), logDirectory="G:\\drills")


def test_an_item_of_another_vault_than_the_requests_is_not_restored() -> None:
    message = restore_to_be_made()
    message["request"]["vaultId"] = message["request"]["vaultId"].replace("vault1", "vault2")
    assert refused(message)
