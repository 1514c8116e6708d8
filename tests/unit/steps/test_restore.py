"""A restore: whether it is allowed, what it restores from and to, the call that is made, and what its outcome tells."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from shared.arm.ids import RecoveryPointId, VirtualMachineId
from shared.azure_backup.listings import Unusable
from shared.azure_backup.models import (
    Container,
    DataFile,
    ProtectableContainer,
    ProtectedItem,
    ResourceGuardProxy,
    Vault,
    WorkloadItem,
)
from shared.engine.effect import Effect
from shared.engine.result import Call, End, Result
from shared.listing_cache import ItemCache
from shared.messages.events import ErrorInfo, OutcomeDetails, RecoveryPointInfo, Status
from shared.messages.requests import Operation, RestoreData
from shared.settings import Settings
from shared.steps.payloads import ChosenRecoveryPoint, RestorePlan, RestoreTask
from shared.steps.restore import (
    after_restore,
    conclude,
    is_harmless,
    not_allowed_by,
    proves_an_earlier_one,
    select_recovery_point,
    trigger_restore,
    warnings_of,
)
from tests.fakes.azure_backup import FakeAzureBackup
from tests.unit.engine.test_retry import answered
from tests.unit.examples import CONTAINER, NOW, SUBSCRIPTION, VAULT, VM, item_id, job, protected
from tests.unit.steps.calling import collaborators, following, made, message_to, refused, text_of
from tests.unit.steps.drills import NAME, SQL_INSTANCE, drill
from tests.unit.steps.test_recovery_points import logs, point
from tests.unit.steps.test_vaults import RESTORE as GUARDED_RESTORE

HOUR = timedelta(hours=1)
OTHER_VM = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-sql/providers/Microsoft.Compute/virtualMachines/sqlvm2"
)


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
MAY: dict[str, Any] = {"restore_allow_overwrite": True}
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


def test_what_is_not_allowed_says_what_would_be() -> None:
    failure = not_allowed_by(restore(ELSEWHERE), Settings(restore_allowed_targets=("*/sqlvm3",)))
    assert failure is not None
    assert f'to {OTHER_VM}; it allows: */sqlvm3. A value that would: ["{OTHER_VM}"].' in failure.message
    failure = not_allowed_by(restore(ELSEWHERE), Settings())
    assert failure is not None
    assert "it allows: the source VM only." in failure.message
    file = {"logicalName": "orders", "path": "\\\\evil\\share\\orders.mdf"}
    failure = not_allowed_by(restore({**COPY, "dataDirectory": "X:\\data", "files": [file]}), Settings())
    assert failure is not None
    assert failure.message.startswith("data.target.files.0.path: the setting RESTORE_ALLOWED_PATHS")
    for target, field in (
        ({**COPY, "dataDirectory": "\\\\nas\\ä"}, "dataDirectory"),
        ({**COPY, "logDirectory": "\\\\nas\\ä"}, "logDirectory"),
        ({**AS_FILES, "path": "\\\\nas\\ä"}, "path"),
    ):
        failure = not_allowed_by(restore(target), Settings())
        assert failure is not None
        assert failure.message.startswith(f"data.target.{field}: ")
        assert failure.message.endswith('A value that would: ["\\\\\\\\nas\\\\ä"].')
    failure = not_allowed_by(restore(ITSELF), Settings(**MAY))
    assert failure is not None
    assert "would replace the source database mssqlserver/ORDERS;" in failure.message


def test_a_database_of_a_group_is_not_restored_over() -> None:
    of_group = restore(ORIGINAL, vmId=None, instance=None, availabilityGroup="ag1", overwrite=True)
    failure = not_allowed_by(of_group, Settings(**MAY, restore_allowed_targets=("*",)))
    assert failure is not None
    assert (failure.code, failure.status) == ("OriginalRestoreOfAvailabilityGroup", Status.REJECTED)
    # It is on no VM, so a copy needs a target that is listed.
    copied = restore(COPY, vmId=None, instance=None, availabilityGroup="ag1")
    failure = not_allowed_by(copied, Settings())
    assert failure is not None
    assert failure.code == "TargetNotAllowed"


# -- select_recovery_point

POINTS = (point("100", 48 * HOUR), logs((NOW - 2 * HOUR, NOW - HOUR)))


def vault(**changes: Any) -> FakeAzureBackup:
    """A vault that protects `orders`, to which its VM is registered; the VM's instance has its directories."""
    other = SQL_INSTANCE.model_copy(update={"instance": "SQL2019", "data_directories": ()})
    database = WorkloadItem(
        wire_name="orders", item_type="SQLDataBase", instance="MSSQLSERVER", name="orders"
    )
    fields: dict[str, Any] = {
        "vaults": [Vault(id=VAULT, name="vault1")],
        "protected_items": [protected("orders", server_name="host1")],
        "recovery_points": POINTS,
        "containers": [Container(id=CONTAINER, name=CONTAINER.name, virtual_machine_id=VM)],
        "workload_items": [other, SQL_INSTANCE, database],
    }
    return FakeAzureBackup(**{**fields, **changes})


def selected(azure: FakeAzureBackup, target: dict[str, Any] = COPY, **data: Any) -> Result:
    message = message_to(
        "select_recovery_point", RestorePlan(data=restore(target, **data)), Operation.RESTORE
    )
    return select_recovery_point(
        message, collaborators(azure, settings=Settings(restore_allow_overwrite=True))
    )


def test_a_recovery_point_is_selected_for_the_database_that_is_named() -> None:
    azure = vault()
    onward, task = following(
        selected(azure, overwrite=True, noRecovery=True, database="ORDERS", recoveryPoint={"name": "100"})
    )
    assert onward == "trigger_restore"
    assert task == RestoreTask(
        database=RestorePlan(data=restore(COPY, database="ORDERS")).about,
        item_id=item_id("orders").path,
        server_name="host1",
        recovery_point=ChosenRecoveryPoint(name="100", kind="Full", time=NOW - 48 * HOUR),
        target=restore(COPY).target,
        overwrite=True,
        no_recovery=True,
    )
    assert azure.calls.of("list_recovery_points")[0]["item"] == item_id("orders")


def test_a_copy_without_a_name_is_named_after_the_moment() -> None:
    nameless = {key: value for key, value in COPY.items() if key != "database"}
    _, task = following(selected(vault(), nameless))
    assert task.target.database == "orders_restored_20260105070000"
    long = "x" * 128
    _, task = following(selected(vault(protected_items=[protected(long)]), nameless, database=long))
    assert len(task.target.database) == 128
    assert task.target.database.endswith("_restored_20260105070000")
    # One that is named keeps its name.
    assert following(selected(vault()))[1].target.database == "copy"


def test_what_is_not_allowed_is_refused_before_anything_is_read() -> None:
    azure = vault()
    assert refused(selected(azure, ELSEWHERE)) == ("rejected", "TargetNotAllowed")
    far = {**COPY, "vmId": VM.path.replace(SUBSCRIPTION, "9" + SUBSCRIPTION[1:])}
    for target in (far, {**AS_FILES, "vmId": far["vmId"]}):
        end = selected(azure, target)
        assert refused(end) == ("rejected", "TargetInAnotherSubscription")
    assert azure.calls == []
    # Spelled in capitals, a subscription is the same.
    shouting = {**COPY, "vmId": VM.path.replace(SUBSCRIPTION, SUBSCRIPTION.upper())}
    assert following(selected(azure, shouting))[0] == "trigger_restore"


def test_a_moment_that_there_is_not_ends_the_restore() -> None:
    assert refused(selected(vault(), recoveryPoint={"name": "999"})) == ("failed", "RecoveryPointNotFound")


DELETED = protected("orders", is_scheduled_for_deferred_delete=True)
NOT_ADDRESSABLE = Unusable(
    code="NotAddressable",
    why="cannot be addressed",
    name="orders",
    parent="MSSQLSERVER",
    virtual_machine_id=VM,
)
WHOLE = NOT_ADDRESSABLE.model_copy(
    update={"code": "ProtectedAsInstance", "name": "*", "is_whole_instance": True}
)
#: what the vault lists, the error code for `orders`
NOT_FOUND: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({"protected_items": []}, "DatabaseNotFound"),
    "another database": ({"protected_items": [protected("billing")]}, "DatabaseNotFound"),
    "another instance": ({"protected_items": [protected("orders", instance="SQL2019")]}, "DatabaseNotFound"),
    "soft-deleted": ({"protected_items": [DELETED]}, "ItemSoftDeleted"),
    "two in other cases": (
        {"protected_items": [protected("Orders"), protected("ORDERS")]},
        "AmbiguousDatabase",
    ),
    "not addressable": (
        {"protected_items": [], "unusable": {"list_protected_items": [NOT_ADDRESSABLE]}},
        "NotAddressable",
    ),
    "its instance as a whole": (
        {"protected_items": [], "unusable": {"list_protected_items": [WHOLE]}},
        "ProtectedAsInstance",
    ),
}


@pytest.mark.parametrize(("changes", "code"), NOT_FOUND.values(), ids=NOT_FOUND)
def test_a_database_that_cannot_be_restored_says_why(changes: dict[str, Any], code: str) -> None:
    assert refused(selected(vault(**changes))) == ("failed", code)


def test_a_database_that_is_not_there_is_named_with_those_that_are() -> None:
    text = text_of(selected(vault(protected_items=[protected("billing"), protected("stock")])))
    assert text == (
        f"vault vault1 protects no database MSSQLSERVER/orders on {VM}; it protects there:"
        " MSSQLSERVER/billing, MSSQLSERVER/stock."
    )
    group = {"vmId": None, "instance": None, "availabilityGroup": "ag1"}
    asked = RestorePlan(data=restore(COPY, **group))
    anywhere = collaborators(vault(protected_items=[]), settings=Settings(restore_allowed_targets=("*",)))
    message = message_to("select_recovery_point", asked, Operation.RESTORE)
    text = text_of(select_recovery_point(message, anywhere))
    assert "protects no database ag1/orders; it protects there: none." in text
    elsewhere = protected("orders", virtual_machine_id=OTHER_VM)
    text = text_of(selected(vault(protected_items=[elsewhere])))
    assert text.endswith(f"it protects there: none. The vault protects databases on these VMs: {OTHER_VM}.")


def test_a_vault_that_is_not_there_ends_the_restore() -> None:
    azure = vault(vaults=[])
    azure.calls.errors["list_protected_items"] = answered(404, "GET")
    assert refused(selected(azure)) == ("failed", "VaultNotFound")


@pytest.mark.parametrize(("state", "listings"), [(protected("orders"), 1), (protected("billing"), 2)])
def test_an_older_listing_serves_if_the_database_is_in_it(state: ProtectedItem, listings: int) -> None:
    azure = vault(protected_items=[state])
    items = ItemCache()
    for minute in (0, 1):
        now = NOW.replace(minute=minute)
        message = message_to(
            "select_recovery_point", RestorePlan(data=restore(COPY)), Operation.RESTORE, since=now
        )
        select_recovery_point(message, collaborators(azure, now=now, reads=False, items=items))
    assert len(azure.calls.of("list_protected_items")) == listings


# -- trigger_restore


def task(target: dict[str, Any] = COPY, **changes: Any) -> RestoreTask:
    data = restore(target)
    fields: dict[str, Any] = {
        "database": RestorePlan(data=data).about,
        "item_id": item_id("orders").path,
        "recovery_point": ChosenRecoveryPoint(name="100", kind="Full", time=NOW - 48 * HOUR),
        "target": data.target,
        "overwrite": False,
        "no_recovery": False,
    }
    return RestoreTask(**{**fields, **changes})


def triggered(
    azure: FakeAzureBackup,
    of: RestoreTask,
    *,
    ready: bool = False,
    operation: Operation = Operation.RESTORE,
    **settings: Any,
) -> Result:
    message = message_to("trigger_restore", of, operation, effect=Effect(ready=ready))
    return trigger_restore(message, collaborators(azure, settings=Settings(**settings)))


FILES = (DataFile("Data", "F:\\old\\orders.mdf", "orders"), DataFile("Log", "F:\\old\\orders.ldf", "log"))


def prepared(azure: FakeAzureBackup, of: RestoreTask, **settings: Any) -> dict[str, Any]:
    """The body of the call that a first delivery prepares, and the next one makes."""
    call = triggered(azure, of, **settings)
    assert isinstance(call, Call)
    assert isinstance(call.payload, RestoreTask)
    body = call.payload.prepared
    assert body is not None
    fresh = vault()
    again = triggered(fresh, call.payload, ready=True, **settings)
    assert isinstance(again, Call)
    assert isinstance(again.payload, RestoreTask)
    # The next delivery reads nothing, and what follows the call needs no more than the task.
    assert made(fresh, again)[:2] == (
        "trigger_restore",
        {"recovery_point": RecoveryPointId(item_id("orders"), "100"), "properties": body},
    )
    assert fresh.calls.names == ["trigger_restore"]
    assert (again.payload.prepared, again.payload.warnings) == (None, call.payload.warnings)
    assert len(again.events) == 1
    return body


def test_a_copy_is_restored_with_its_files() -> None:
    detailed = [point("100", 48 * HOUR, data_directories=FILES)]
    body = prepared(vault(detailed_recovery_points=detailed), task())
    assert body == {
        "objectType": "AzureWorkloadSQLRestoreRequest",
        "recoveryType": "AlternateLocation",
        "shouldUseAlternateTargetLocation": True,
        "isNonRecoverable": False,
        "sourceResourceId": VM.path,
        "targetVirtualMachineId": VM.path,
        "targetInfo": {
            "overwriteOption": "FailOnConflict",
            "containerId": CONTAINER.path,
            "databaseName": "MSSQLSERVER/copy",
        },
        "alternateDirectoryPaths": [
            {
                "mappingType": kind,
                "sourceLogicalName": logical,
                "sourcePath": path,
                "targetPath": f"{directory}\\copy_{logical}{path[-4:]}",
            }
            for (kind, path, logical), directory in zip(FILES, ("D:\\data", "L:\\log"), strict=True)
        ],
    }


def test_a_request_says_where_the_files_of_a_copy_go() -> None:
    detailed = [point("100", 48 * HOUR, data_directories=FILES)]
    target = {**COPY, "dataDirectory": "X:\\mdf", "logDirectory": "Y:\\ldf"}
    body = prepared(vault(detailed_recovery_points=detailed), task(target))
    paths = [file["targetPath"] for file in body["alternateDirectoryPaths"]]
    assert paths == ["X:\\mdf\\copy_orders.mdf", "Y:\\ldf\\copy_log.ldf"]


def test_the_original_is_restored_over() -> None:
    body = prepared(vault(), task(ORIGINAL, overwrite=True, no_recovery=True), restore_allow_overwrite=True)
    assert body == {
        "objectType": "AzureWorkloadSQLRestoreRequest",
        "recoveryType": "OriginalLocation",
        "shouldUseAlternateTargetLocation": True,
        "isNonRecoverable": True,
    }


def test_a_database_is_restored_as_files() -> None:
    azure = vault()
    body = prepared(azure, task(AS_FILES, overwrite=True), **PATHS, restore_allow_overwrite=True)
    assert body == {
        "objectType": "AzureWorkloadSQLRestoreRequest",
        "recoveryType": "AlternateLocation",
        "recoveryMode": "FileRecovery",
        "shouldUseAlternateTargetLocation": True,
        "isNonRecoverable": False,
        "targetVirtualMachineId": VM.path,
        "targetInfo": {
            "overwriteOption": "Overwrite",
            "containerId": CONTAINER.path,
            "targetDirectoryForFileRestore": "F:\\backups\\today",
        },
    }


def test_files_that_no_recovery_point_tells_are_placed_by_the_service() -> None:
    call = triggered(vault(), task())
    assert isinstance(call, Call)
    assert isinstance(call.payload, RestoreTask)
    assert call.payload.prepared is not None
    assert "alternateDirectoryPaths" not in call.payload.prepared
    assert len(call.payload.warnings) == 1


def test_a_point_in_time_is_restored_to_the_second() -> None:
    moment = ChosenRecoveryPoint(name="100", kind="Log", time=NOW, point_in_time=NOW)
    body = prepared(vault(), task(recovery_point=moment))
    assert (body["objectType"], body["pointInTime"]) == (
        "AzureWorkloadSQLPointInTimeRestoreRequest",
        "2026-01-05T08:00:00Z",
    )


def test_what_a_later_setting_does_not_allow_is_refused_at_its_call() -> None:
    azure = vault()
    assert refused(triggered(azure, task(ORIGINAL))) == ("rejected", "OverwriteNotRequested")
    assert refused(triggered(azure, task(overwrite=True))) == ("rejected", "OverwriteNotAllowed")
    for operation, of in (
        (Operation.BACKUP, task()),
        (Operation.RESTORE, task(drill=drill())),
    ):
        assert refused(triggered(azure, of, operation=operation)) == ("rejected", "RestoreNotRequested")
    assert azure.calls == []


EXISTING = {**COPY, "database": "ORDERS", "instance": "mssqlserver"}
ANYWHERE: dict[str, Any] = {"restore_allowed_targets": ("*",), "restore_allow_overwrite": True}
#: what is changed of the vault, the target, the error code, what its message says
TARGETS: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, str], str]] = {
    "a VM that is not registered": (
        {},
        ELSEWHERE,
        ("failed", "TargetNotRegistered"),
        f"registered are: {VM}.",
    ),
    "a VM that is not offered either": ({}, ELSEWHERE, ("failed", "TargetNotRegistered"), "use the portal"),
    "a VM that is offered": (
        {"protectable_containers": [ProtectableContainer(name="x", virtual_machine_id=OTHER_VM)]},
        ELSEWHERE,
        ("failed", "TargetNotRegistered"),
        f"{VM}. Register it with a protect request first.",
    ),
    "a VM whose container cannot be used": (
        {
            "unusable": {
                "list_registered_containers": [
                    NOT_ADDRESSABLE.model_copy(
                        update={"virtual_machine_id": VirtualMachineId.parse(OTHER_VM)}
                    )
                ]
            }
        },
        ELSEWHERE,
        ("failed", "NotAddressable"),
        "is registered as orders, which cannot be addressed",
    ),
    "a VM that was deleted": (
        {
            "containers": [
                Container(id=CONTAINER, name=CONTAINER.name, virtual_machine_id=VM, health_status="Deleted")
            ]
        },
        COPY,
        ("failed", "VirtualMachineDeleted"),
        "vault1",
    ),
    "an instance that is not there": (
        {},
        {**COPY, "instance": "SQL2012"},
        ("failed", "TargetInstanceNotFound"),
        "it has: MSSQLSERVER, SQL2019.",
    ),
    "an instance without directories": (
        {"detailed_recovery_points": [point("100", 48 * HOUR, data_directories=FILES)]},
        {**COPY, "instance": "SQL2019"},
        ("failed", "NoDefaultDirectory"),
        "",
    ),
    "a database that is there": (
        {},
        {**EXISTING, "vmId": VM.path},
        ("rejected", "TargetDatabaseExists"),
        "set overwrite to true",
    ),
}


@pytest.mark.parametrize(("changes", "target", "code", "says"), TARGETS.values(), ids=TARGETS)
def test_a_target_that_cannot_be_restored_to_says_why(
    changes: dict[str, Any], target: dict[str, Any], code: tuple[str, str], says: str
) -> None:
    of = task(target)
    # The database of another instance, so that the target is not the source itself.
    of = of.model_copy(update={"database": of.database.model_copy(update={"instance": "SQL2019"})})
    end = triggered(vault(**changes), of, **ANYWHERE)
    assert refused(end) == code
    assert says in text_of(end)
    assert isinstance(end, End)
    assert len(end.events) == 1


def test_a_database_that_is_there_is_replaced_where_that_is_meant() -> None:
    assert isinstance(triggered(vault(), task(EXISTING, overwrite=True), **ANYWHERE), Call)
    # One of that name on another instance, or another one on this instance, is in nobody's way.
    for target in ({**EXISTING, "instance": "SQL2019"}, COPY):
        assert isinstance(triggered(vault(), task(target)), Call)


def test_a_guarded_vault_restores_nothing() -> None:
    guard = ResourceGuardProxy(operations=(GUARDED_RESTORE,))
    end = triggered(vault(resource_guard=guard), task())
    assert refused(end) == ("failed", "ProtectedByResourceGuard")


# -- what follows

SUCCEEDED = End(Status.SUCCEEDED, details=OutcomeDetails(warnings=("Slow.",)))


def after(of: RestoreTask, end: End = SUCCEEDED) -> End:
    result = after_restore(message_to("trigger_restore", of, Operation.RESTORE), job(), end)
    assert isinstance(result, End)
    return result


def test_the_outcome_tells_what_was_restored_and_where() -> None:
    end = after(task())
    assert (end.status, end.details.warnings) == (Status.SUCCEEDED, ("Slow.",))
    assert end.details.recovery_point == RecoveryPointInfo(name="100", kind="Full", time=NOW - 48 * HOUR)
    assert end.details.target == {**COPY, "files": []}
    warned = task(warnings=("No paths.",))
    assert (after(warned).status, after(warned).details.warnings) == (
        Status.SUCCEEDED_WITH_WARNINGS,
        ("No paths.", "Slow."),
    )
    failed = after(warned, End(Status.FAILED, ErrorInfo(code="Odd", message="No.")))
    assert (failed.status, failed.details.warnings) == (Status.FAILED, ())


def test_files_that_the_service_places_are_a_warning() -> None:
    (warning,) = warnings_of(task(), {})
    assert "the files of MSSQLSERVER/copy" in warning
    assert warnings_of(task(), {"alternateDirectoryPaths": []}) == ()
    assert warnings_of(task(ORIGINAL), {}) == ()


#: the target, whether it may overwrite, whether a second start replaces nothing
HARMLESS = [
    (COPY, False, True),
    (COPY, True, False),
    ({**COPY, "database": NAME}, True, True),
    (ORIGINAL, False, False),
    (AS_FILES, False, False),
]


@pytest.mark.parametrize(("target", "overwrite", "harmless"), HARMLESS)
def test_a_restore_is_started_again_only_where_it_replaces_nothing(
    target: dict[str, Any], overwrite: bool, harmless: bool
) -> None:
    assert is_harmless(task(target, overwrite=overwrite)) is harmless


@pytest.mark.parametrize(
    ("code", "proves"),
    [
        ("UserErrorCannotRestoreExistingDBWithoutForceOverwrite", True),
        ("TargetDatabaseExists", True),
        ("TargetNotAllowed", False),
    ],
)
def test_a_target_that_exists_may_be_of_an_earlier_restore(code: str, proves: bool) -> None:
    assert proves_an_earlier_one(ErrorInfo(code=code, message="")) is proves


def test_the_outcome_of_a_selection_is_left_as_it_is() -> None:
    plan = message_to("select_recovery_point", RestorePlan(data=restore(COPY)), Operation.RESTORE)
    assert conclude(plan, SUCCEEDED) is SUCCEEDED
    assert conclude(message_to("trigger_restore", task(), Operation.RESTORE), SUCCEEDED) is SUCCEEDED
