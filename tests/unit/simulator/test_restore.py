"""Restores: their checks, their jobs, and what they leave behind."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.simulator.driver import Driver, estate

FILES = [("Data", "orders", "F:\\data\\orders.mdf"), ("Log", "orders_log", "G:\\log\\orders_log.ldf")]


@pytest.fixture
def driver() -> Driver:
    return Driver(two_machines())


def two_machines(**settings: Any) -> dict[str, Any]:
    machine = {"name": "sqlvm2", "instances": [{"databases": [{"name": "billing"}]}]}
    found = estate({"name": "orders", "historyDays": 2}, {"name": "billing"})
    found["virtualMachines"].append(machine)
    return {**found, **settings}


def alternate(
    driver: Driver, name: str = "orders_copy", machine: str = "sqlvm1", **info: Any
) -> dict[str, Any]:
    return {
        "recoveryType": "AlternateLocation",
        "sourceResourceId": driver.simulator.vm_id("sqlvm1"),
        "targetInfo": {
            "overwriteOption": "FailOnConflict",
            "containerId": f"{driver.vault}{driver.container(machine)}",
            "databaseName": f"MSSQLSERVER/{name}",
            **info,
        },
    }


def mapping(**targets: str) -> list[dict[str, str]]:
    return [
        {"mappingType": kind, "sourceLogicalName": name, "sourcePath": path, "targetPath": targets[name]}
        for kind, name, path in FILES
        if name in targets
    ]


def full(driver: Driver) -> str:
    name: str = driver.points()[0]["name"]
    return name


def databases(driver: Driver) -> list[str]:
    driver.inquire()
    items = driver.get(f"{driver.container()}/items?$filter=workloadItemType eq 'SQLDataBase'")["value"]
    return [entry["properties"]["friendlyName"] for entry in items]


def test_a_restored_database_is_found_by_the_next_inquiry(driver: Driver) -> None:
    job = driver.job(driver.restore(full(driver), **alternate(driver)))
    assert (job["status"], job["operation"]) == ("Completed", "Restore (Full)")
    assert job["extendedInfo"]["propertyBag"] == {
        "Data Transferred (in MB)": "20.0845",
        "Job Type": "Recovery to an alternate database",
        "RestoreRecoveryPointTime": "2026-01-04 18:00:44Z",
        "RestoreDestination": "sqlvm1/MSSQLSERVER/orders_copy",
    }
    listed = driver.get("/backupProtectableItems")["value"]
    assert "orders_copy" not in [entry["properties"]["friendlyName"] for entry in listed]
    assert databases(driver) == ["orders", "billing", "orders_copy"]
    assert driver.protect("orders_copy").status == 202


def test_what_exists_is_overwritten_only_when_asked(driver: Driver) -> None:
    refused = driver.restore(full(driver), **alternate(driver, "BILLING"))
    assert driver.failure(refused) == "UserErrorCannotRestoreExistingDBWithoutForceOverwrite"
    job = driver.job(refused)
    assert job["operation"] == "Restore (Full)"
    assert job["extendedInfo"]["tasksList"] == [
        {"taskId": "Transfer data from vault", "taskType": "Normal", "status": "Failed"}
    ]
    assert job["extendedInfo"]["propertyBag"] == {
        "Data Transferred (in MB)": "20.0845",
        "RestoreRecoveryPointTime": "2026-01-04 18:00:44Z",
        "Job Type": "Recovery to an alternate database",
        "RestoreDestination": "sqlvm1/MSSQLSERVER/BILLING",
    }
    done = driver.restore(full(driver), **alternate(driver, "BILLING", overwriteOption="Overwrite"))
    assert driver.job(done)["status"] == "Completed"
    assert databases(driver) == ["orders", "billing"]


def test_a_restore_over_the_original_ends_its_log_range(driver: Driver) -> None:
    (before,) = driver.ranges()
    assert driver.job(driver.restore(full(driver), recoveryType="OriginalLocation"))["status"] == "Completed"
    driver.wait(hours=5)
    assert len(driver.ranges()) == 1
    ended = driver.ranges()[0]["endTime"]
    driver.wait(hours=5)
    assert driver.ranges() == [{**before, "endTime": ended}]
    for kind in ("Log", "Differential"):
        assert driver.failure(driver.backup(kind=kind)) == "UserErrorSQLLSNValidationFailure"
    driver.backup()
    driver.wait(hours=2)
    assert len(driver.ranges()) == 2
    for kind in ("Log", "Differential"):
        assert driver.job(driver.backup(kind=kind))["status"] == "Completed"


def test_an_item_of_2021_tells_how_its_last_restore_went() -> None:
    driver = Driver(two_machines(serviceVersion="2021-06"))

    def health() -> Any:
        (listed,) = driver.get("/backupProtectedItems?$filter=friendlyName eq 'orders'")["value"]
        health: dict[str, Any] = driver.get(driver.item())["properties"]["kpisHealths"]
        assert health == listed["properties"]["kpisHealths"]
        assert health["BackupOperationStatusKPI"]["resourceHealthStatus"] == "Healthy"
        restored = health.get("RestoreOperationStatusKPI")
        return restored and (
            restored["resourceHealthStatus"],
            restored["resourceHealthDetails"][0]["title"],
        )

    assert health() is None
    driver.restore(full(driver), **alternate(driver))
    assert health() == ("Healthy", "Success")
    driver.restore(full(driver), **alternate(driver))
    title = "UserErrorCannotRestoreExistingDBWithoutForceOverwrite"
    assert health() == ("TransientUnhealthy", title)


@pytest.mark.parametrize(
    ("moment", "status"),
    [
        ("2026-01-04T12:34:56Z", 202),
        ("2026-01-05T07:00:44Z", 202),
        ("2026-01-05T07:30:00Z", 400),
        ("2026-01-01T00:00:00Z", 400),
        ("yesterday", 400),
        (None, 400),
    ],
)
def test_a_moment_must_be_within_a_log_range(driver: Driver, moment: str | None, status: int) -> None:
    answer = driver.restore(
        "DefaultRangeRecoveryPoint",
        objectType="AzureWorkloadSQLPointInTimeRestoreRequest",
        pointInTime=moment,
        **alternate(driver),
    )
    assert answer.status == status
    if status == 202:
        assert driver.job(answer)["operation"] == "Restore (Log)"


@pytest.mark.parametrize(
    "paths",
    [
        mapping(orders="F:\\data\\a.mdf"),
        mapping(orders="F:\\data\\a.mdf", orders_log="f:\\DATA\\A.mdf"),
        mapping(orders="F:\\data\\a.mdf", orders_log="G:\\a.ldf") * 2,
        [{"mappingType": "Data", "sourceLogicalName": "other", "targetPath": "F:\\a.mdf"}],
        [{"mappingType": "Data", "sourceLogicalName": "orders"}],
    ],
    ids=["incomplete", "one path twice", "mapped twice", "unknown file", "no target"],
)
def test_file_mappings_must_be_complete_and_unique(driver: Driver, paths: list[dict[str, str]]) -> None:
    answer = driver.restore(full(driver), alternateDirectoryPaths=paths, **alternate(driver))
    assert answer.status == 400
    paths = mapping(orders="F:\\data\\a.mdf", orders_log="G:\\log\\a.ldf")
    assert driver.restore(full(driver), alternateDirectoryPaths=paths, **alternate(driver)).status == 202


def test_the_target_must_be_registered_with_the_vault(driver: Driver) -> None:
    answer = driver.restore(full(driver), **alternate(driver, machine="sqlvm2"))
    assert (answer.status, answer.code) == (400, "UserErrorOperationFailedInvalidParameters")
    driver.register("sqlvm2")
    target = alternate(driver, machine="sqlvm2") | {
        "targetVirtualMachineId": driver.simulator.vm_id("sqlvm2")
    }
    job = driver.job(driver.restore(full(driver), **target))
    assert job["extendedInfo"]["propertyBag"]["RestoreDestination"] == "sqlvm2/MSSQLSERVER/orders_copy"


@pytest.mark.parametrize(
    ("change", "point"),
    [
        ({"objectType": "AzureWorkloadRestoreRequest"}, None),
        ({"recoveryType": "Invalid"}, None),
        ({"sourceResourceId": "/subscriptions/x"}, None),
        ({"targetInfo": None}, None),
        ({"objectType": "AzureWorkloadSQLPointInTimeRestoreRequest"}, None),
        ({}, "DefaultRangeRecoveryPoint"),
        ({"targetVirtualMachineId": "/subscriptions/x"}, None),
    ],
)
def test_a_request_that_does_not_fit_is_refused(
    driver: Driver, change: dict[str, Any], point: str | None
) -> None:
    answer = driver.restore(point or full(driver), **{**alternate(driver), **change})
    assert answer.status == 400
    assert driver.simulator.ledger_entries == []
    assert driver.restore("1234", **alternate(driver)).status == 404


def test_files_are_restored_to_a_directory(driver: Driver) -> None:
    target = alternate(driver, targetDirectoryForFileRestore="C:\\restored") | {
        "recoveryMode": "FileRecovery"
    }
    job = driver.job(driver.restore(full(driver), **target))
    assert job["extendedInfo"]["propertyBag"]["Job Type"] == "Restore as files"
    assert databases(driver) == ["orders", "billing"]


def test_a_database_restored_without_recovery_is_not_usable_yet(driver: Driver) -> None:
    driver.restore(full(driver), isNonRecoverable=True, **alternate(driver))
    assert databases(driver) == ["orders", "billing"]


@pytest.mark.parametrize(("path", "fails"), [("F:\\data\\BILLING.mdf", True), ("F:\\data\\new.mdf", False)])
def test_a_file_of_another_database_is_not_overwritten(path: str, fails: bool) -> None:
    driver = Driver(estate({"name": "orders", "historyDays": 2}, {"name": "billing"}))
    target = {
        "overwriteOption": "FailOnConflict",
        "containerId": driver.vault + driver.container(),
        "databaseName": "MSSQLSERVER/copy",
    }
    files = [
        {"mappingType": "Data", "sourceLogicalName": "orders", "targetPath": path},
        {"mappingType": "Log", "sourceLogicalName": "orders_log", "targetPath": "G:\\log\\new.ldf"},
    ]
    answer = driver.restore(
        driver.points()[0]["name"],
        recoveryType="AlternateLocation",
        targetInfo=target,
        alternateDirectoryPaths=files,
    )
    job = driver.job(answer)
    assert job["status"] == ("Failed" if fails else "Completed")
    if fails:
        assert job["errorDetails"][0]["errorCode"] == 520123


@pytest.mark.parametrize(
    ("month", "archived", "rehydrated"),
    [("2021-06", (3, 1), (3, 4)), ("2024-05", ("ArchivedRP", "Valid"), ("ArchivedRP", "Rehydrated"))],
)
def test_a_point_that_was_brought_back_says_until_when(
    month: str, archived: tuple[Any, Any], rehydrated: tuple[Any, Any]
) -> None:
    driver = Driver(
        {**estate({"name": "orders", "historyDays": 3, "archivedAfterDays": 0}), "serviceVersion": month}
    )

    def tier() -> dict[str, Any]:
        (found,) = driver.points()[0]["properties"]["recoveryPointTierDetails"]
        assert isinstance(found, dict)
        return found

    name = driver.points()[0]["name"]
    assert (tier()["type"], tier()["status"]) == archived
    asked: dict[str, Any] = {
        "objectType": "AzureWorkloadSQLRestoreWithRehydrateRequest",
        "recoveryType": "OriginalLocation",
        "recoveryPointRehydrationInfo": {
            "rehydrationPriority": "High",
            "rehydrationRetentionDuration": "P2D",
        },
    }
    assert driver.restore(name, recoveryType="OriginalLocation").status == 400
    assert driver.restore(name, 4 * 3600, **asked).status == 202
    assert (tier()["type"], tier()["status"]) == rehydrated
    assert tier()["extendedInfo"]["RehydratedRPExpiryTime"].startswith("2026-01-07T11:")
    assert driver.restore(name, recoveryType="OriginalLocation").status == 202
    driver.wait(days=2)
    assert (tier()["type"], tier()["status"]) == archived


def test_a_database_that_is_restored_over_makes_room() -> None:
    settings = estate(
        {"name": "orders", "historyDays": 2, "sizeMB": 100}, {"name": "old", "sizeMB": 80}, freeMB=30
    )
    driver = Driver(settings)
    over = alternate(driver, "old", overwriteOption="Overwrite")
    assert driver.job(driver.restore(full(driver), **over))["status"] == "Completed"
    assert driver.failure(driver.restore(full(driver), **alternate(driver, "new"))) == "WorkloadRestoreFailed"


def test_what_is_kept_for_less_than_half_a_year_is_not_moved_to_the_archive() -> None:
    """https://learn.microsoft.com/azure/backup/archive-tier-support: 180 days of retention have to be left."""
    driver = Driver(estate({"name": "orders", "protectedBy": None}))
    properties = driver.get("/backupPolicies/HourlyLogBackup")["properties"]
    keep = properties["subProtectionPolicy"][0]["retentionPolicy"]["dailySchedule"]["retentionDuration"]
    ready = []
    for days in (179, 200):
        keep["count"] = days
        driver.call("PUT", "/backupPolicies/Long", {"properties": properties})
        driver.protect(policy="Long")
        # What a full rests on stays.
        for _ in range(2):
            driver.backup()
        driver.wait(hours=2)
        point = driver.points()[1]
        ready.append(point["properties"]["recoveryPointMoveReadinessInfo"]["ArchivedRP"]["isReadyForMove"])
        move = {"sourceTierType": "HardenedRP", "targetTierType": "InstantRP"}
        assert driver.call("POST", f"{driver.item()}/recoveryPoints/{point['name']}/move", move).status == 400
    assert ready == [False, True]
