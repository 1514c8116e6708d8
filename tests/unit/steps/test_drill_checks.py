"""A drill touches nothing but its own: its call, its target, its source and its database are checked at each step."""

from __future__ import annotations

import json
from typing import Any

import pytest

from local.estate import JsonObject
from shared.arm.ids import VaultId, VirtualMachineId
from shared.azure_backup.listings import Listing, Unusable
from shared.azure_backup.models import ProtectedItem
from shared.drills import DrillTarget, drill_database_name, read_drill_targets
from shared.engine.message import StepMessage
from shared.engine.result import Failure
from shared.settings import Settings
from shared.steps.drill_checks import (
    may_replace,
    not_a_target,
    not_registered,
    not_the_drills_own,
    source_item,
    target_in_use,
    target_of_task,
)
from shared.steps.payloads import RestoreTask
from tests.e2e.drills import DRILL_VM, TARGET, restore_to_be_made
from tests.fakes.azure_backup import FakeAzureBackup
from tests.unit.engine.test_retry import answered
from tests.unit.examples import SUBSCRIPTION, VAULT, item_id, protected
from tests.unit.steps.drills import ORDERS, estate, given
from tests.unit.steps.drills import message as drill_message
from tests.unit.steps.drills import target as drill_target
from tests.unit.steps.test_candidates import unusable


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


def test_a_message_that_contradicts_its_call_changes_nothing() -> None:
    """What a drill's restore says of overwriting and recovery is fixed, whatever its message says."""
    for changes in ({"overwrite": False}, {"noRecovery": True}, {"target": {"kind": "original"}}):
        message = restore_to_be_made()
        message["payload"].update(changes)
        assert not refused(message)


@pytest.mark.parametrize("id_", ["no id", "/subscriptions/x", ""])
def test_a_container_must_have_an_id(id_: str) -> None:
    assert refused(restore_to_be_made(**with_info(containerId=id_)))


def names(item: str, database: JsonObject) -> bool:
    """Whether an item with that name is the drill's source."""
    message = restore_to_be_made()
    own = message["payload"]["itemId"].rpartition("/")[0]
    message["payload"].update({"itemId": f"{own}/{item}", "database": database})
    source = StepMessage[RestoreTask].model_validate(message).payload.database
    call = message["payload"]["prepared"]
    name = drill_database_name(source)
    call["targetInfo"]["databaseName"] = f"MSSQLSERVER/{name}"
    call.pop("alternateDirectoryPaths")
    if source.vm_id is None:
        call.pop("sourceResourceId")
    return not refused(message)


SOURCE = restore_to_be_made()["payload"]["database"]
IN_GROUP = {"availabilityGroup": "ag1", "name": "orders"}


@pytest.mark.parametrize(
    ("item", "database", "own"),
    [
        ("SQLDataBase;mssqlserver;orders", SOURCE, True),
        ("SQLDataBase;mssqlserver;billing", SOURCE, False),
        ("SQLDataBase;sql2019;orders", SOURCE, False),
        ("SQLInstance;mssqlserver;orders", SOURCE, False),
        ("SQLDataBase;anything;orders", IN_GROUP, True),
        ("SQLDataBase;ag1;billing", IN_GROUP, False),
    ],
)
def test_an_item_names_the_source(item: str, database: JsonObject, own: bool) -> None:
    assert names(item, database) is own


# -- the target

VM = VirtualMachineId.parse(DRILL_VM)
(ALLOWED,) = read_drill_targets(json.dumps([TARGET]))
IN_A_GROUP: JsonObject = {
    "virtual_machine_id": None,
    "instance": "ag1",
    "parent_type": "AzureVmWorkloadSQLAvailabilityGroup",
}
#: an item or entry of the vault's listing, whether the target is in use because of it
IN_USE: list[tuple[ProtectedItem | Unusable, bool]] = [
    (protected("orders"), False),
    (protected("wages", virtual_machine_id=VM), True),
    (protected("wages", virtual_machine_id=VM, instance="mssqlserver"), True),
    (protected("wages", virtual_machine_id=VM, instance="SQL2019"), False),
    (protected("wages", virtual_machine_id=VM, is_scheduled_for_deferred_delete=True), False),
    # a group counts on every VM whose host name its items mention
    (protected("wages", **{**IN_A_GROUP, "virtual_machine_id": VM}), True),
    (protected("wages", **IN_A_GROUP, server_name="DRILLS1.corp.example"), True),
    (protected("wages", **IN_A_GROUP, server_name="corp.drills1"), False),
    # what cannot be used counts unless it tells another instance
    (unusable("wages", virtual_machine_id=VM), True),
    (unusable("wages", virtual_machine_id=VM, parent=""), True),
    (unusable("wages", virtual_machine_id=VM, parent="ag1", in_availability_group=True), True),
    (unusable("wages", virtual_machine_id=VM, parent="SQL2019"), False),
    (unusable("wages", virtual_machine_id=None, parent="MSSQLSERVER"), False),
]


@pytest.mark.parametrize(("entry", "used"), IN_USE)
def test_a_target_that_holds_what_the_vault_protects_is_in_use(
    entry: ProtectedItem | Unusable, used: bool
) -> None:
    listing = Listing(
        [entry] if isinstance(entry, ProtectedItem) else [], [entry] if isinstance(entry, Unusable) else []
    )
    failure = target_in_use(ALLOWED, listing)
    assert (failure is not None) is used
    if failure is not None:
        assert (failure.status.value, failure.code) == ("rejected", "DrillTargetInUse")
        assert "/wages. Drills need an instance of their own" in failure.message


def test_a_target_that_is_not_allowed_says_which_are_and_what_would_allow_it() -> None:
    failure = not_a_target(Settings(drill_targets=(ALLOWED,)), VM, "SQL2019")
    assert isinstance(failure, Failure)
    assert f"it allows: instance MSSQLSERVER of {DRILL_VM}." in failure.message
    assert failure.message.endswith(f'would: [{{"vmId": "{DRILL_VM}", "instance": "SQL2019"}}].')
    assert not_a_target(Settings(drill_targets=(ALLOWED,)), VM, "mssqlserver") == ALLOWED


def test_a_target_whose_container_cannot_be_used_says_why() -> None:
    entry = unusable("drills1", virtual_machine_id=VM)
    azure = estate(containers=[], unusable={"list_registered_containers": [entry]})
    failure = not_registered(given(azure), VAULT, VM)
    assert failure is not None
    assert failure.code == "NotAddressable"


def test_a_task_goes_to_the_database_that_is_named_after_its_source() -> None:
    settings = Settings(drill_targets=(ALLOWED,))
    assert target_of_task(drill_message("check_drill"), settings) == ALLOWED

    def failure_of(message: StepMessage[RestoreTask]) -> str:
        found = target_of_task(message, settings)
        assert isinstance(found, Failure)
        return found.code

    for name in (drill_target().database or "", None):
        other = drill_target(database=f"{name}x" if name else None)
        assert failure_of(drill_message("check_drill", task={"target": other})) == "TargetNotAllowed"
    elsewhere = VAULT.path.replace(SUBSCRIPTION, "9" + SUBSCRIPTION[1:])
    asked = drill_message("check_drill", request={"vault_id": VaultId.parse(elsewhere)})
    assert failure_of(asked) == "TargetInAnotherSubscription"


def test_a_restore_replaces_only_where_the_setting_sends_it() -> None:
    settings = Settings(drill_targets=(ALLOWED,))
    file = {"logicalName": "orders", "path": "F:\\x.mdf"}
    for changes, may in (
        ({}, True),
        ({"database": None}, False),
        ({"dataDirectory": "F:\\data"}, False),
        ({"logDirectory": "F:\\data"}, False),
        ({"files": [file]}, False),
    ):
        assert may_replace(settings, ORDERS, drill_target(**changes)) is may


def test_the_vault_decides_what_the_source_is() -> None:
    def found(azure: FakeAzureBackup, **task: Any) -> Any:
        return source_item(drill_message("check_drill", task=task), given(azure), ALLOWED)

    assert found(estate()).id == item_id("orders")
    missing = estate(vaults=[])
    missing.calls.errors["list_protected_items"] = answered(404, "GET")
    codes = [
        found(missing).code,
        found(estate(protected_items=[protected("Orders")])).code,
        found(estate(), item_id=item_id("billing").path).code,
        found(estate(), database=ORDERS.model_copy(update={"name": "billing"})).code,
    ]
    assert codes == ["VaultNotFound", *["DatabaseNotFound"] * 3]
