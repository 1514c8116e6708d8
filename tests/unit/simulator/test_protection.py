"""Protecting databases and backing them up: the service's rules, and what jobs and items say."""

from __future__ import annotations

import pytest

from tests.unit.simulator.driver import POLICY, Driver, estate

ORDERS = {"name": "orders"}


def state(driver: Driver, database: str = "orders") -> str:
    found: str = driver.get(driver.item(database))["properties"]["protectionState"]
    return found


def test_protection_becomes_real_with_its_job_and_pending_until_the_first_full() -> None:
    driver = Driver({"scheduledBackups": False})
    driver.register()
    answer = driver.put(driver.item(), wait=0, policyId=driver.policy_id())
    assert driver.call("GET", driver.item()).status == 404
    assert driver.get(answer.headers["azure-asyncoperation"])["status"] == "InProgress"
    conflict = driver.put(driver.item(), policyId=driver.policy_id())
    assert (conflict.status, conflict.code) == (409, "BMSUserErrorConflictingProtectionOperation")
    job = driver.job(answer)
    assert (job["operation"], job["status"], job["entityFriendlyName"]) == (
        "ConfigureBackup",
        "Completed",
        "orders",
    )
    assert job["extendedInfo"]["propertyBag"] == {
        "Policy Name": POLICY,
        "ContainerUniqueName": "Compute;rg-sql;sqlvm1",
    }
    assert state(driver) == "IRPending"
    driver.backup()
    assert state(driver) == "Protected"


@pytest.mark.parametrize(
    ("policy", "status", "code"),
    [
        ("NoSuchPolicy", 404, "BMSUserErrorPolicyObjectNotFound"),
        ("DefaultPolicy", 400, "BMSUserErrorInvalidPolicyForGivenProvider"),
    ],
)
def test_only_a_sql_policy_of_the_vault_protects(policy: str, status: int, code: str) -> None:
    driver = Driver()
    driver.register()
    answer = driver.protect(policy=policy)
    assert (answer.status, answer.code) == (status, code)
    assert driver.get("/backupProtectedItems")["value"] == []


def test_what_was_not_found_or_not_protected_cannot_be_used() -> None:
    driver = Driver()
    assert driver.protect().code == "BMSUserErrorContainerObjectNotFound"
    driver.register()
    assert driver.protect("nosuch").code == "BMSUserErrorDataSourceObjectNotFound"
    assert driver.backup().status == 404


@pytest.mark.parametrize(
    ("database", "kind", "code"),
    [
        ({"name": "master"}, "Differential", "UserErrorSQLPODoesNotSupportBackupType"),
        ({"name": "master"}, "CopyOnlyFull", "UserErrorSQLPODoesNotSupportBackupType"),
        ({"name": "orders", "recoveryModel": "Simple"}, "Log", "UserErrorSQLPODoesNotSupportBackupType"),
        ({"name": "orders", "readOnly": True}, "Differential", "UserErrorSQLPODoesNotSupportBackupType"),
        (ORDERS, "Differential", "UserErrorParentFullBackupMissing"),
        (ORDERS, "Log", "UserErrorParentFullBackupMissing"),
    ],
)
def test_a_backup_that_the_database_does_not_allow_fails_in_its_job(
    database: dict[str, object], kind: str, code: str
) -> None:
    driver = Driver(estate(database))
    name = str(database["name"])
    assert driver.failure(driver.backup(name, kind)) == code
    item = driver.get(driver.item(name))["properties"]
    assert item["lastBackupErrorDetail"]["code"] == code
    assert driver.job(driver.backup(name, "Full"))["status"] == "Completed"
    assert "lastBackupErrorDetail" not in driver.get(driver.item(name))["properties"]


def test_every_type_leaves_what_it_should() -> None:
    driver = Driver(estate(ORDERS))
    for kind in ("Full", "CopyOnlyFull", "Differential", "Log"):
        job = driver.job(driver.backup(kind=kind))
        assert (job["status"], job["operation"]) == ("Completed", f"Backup ({kind})")
        assert job["extendedInfo"]["tasksList"] == [
            {"taskId": "Transfer data to vault", "taskType": "Normal", "status": "Completed"}
        ]
    kinds = [point["properties"]["type"] for point in driver.points()]
    assert kinds == ["Differential", "Full", "Full", "Log"]
    (only,) = driver.points(query="?$filter=restorePointQueryType eq 'Differential'")
    assert only["properties"]["type"] == "Differential"


def test_the_tenth_full_of_a_day_is_refused() -> None:
    driver = Driver(estate(ORDERS))
    for _ in range(9):
        assert driver.backup().status == 202
    refused = driver.backup()
    assert (refused.status, refused.code) == (400, "CloudDosTimeboudLimitReached")
    assert refused.body["error"]["additionalInfo"][0]["info"]["isRetryable"] is False
    assert driver.backup(kind="CopyOnlyFull").status == 202
    driver.wait(days=1)
    assert driver.backup().status == 202
    assert [entry["route"] for entry in driver.simulator.ledger_entries] == ["Backup"] * 11


def test_a_second_operation_on_a_database_fails_with_510008() -> None:
    driver = Driver(estate({**ORDERS, "historyDays": 1}))
    running = driver.backup(wait=10)
    second = driver.job(driver.backup(wait=0))
    assert second["status"] == "Failed"
    detail = second["errorDetails"][0]
    assert detail["errorCode"] == 510008
    assert detail["errorTitle"] == "OperationCancelledBecauseConflictingOperationRunningUserError"
    restoring = driver.restore(driver.points()[0]["name"], wait=0, recoveryType="OriginalLocation")
    assert driver.job(restoring)["errorDetails"][0]["errorCode"] == 510008
    driver.wait(120)
    assert driver.job(running)["status"] == "Completed"
    assert driver.job(driver.backup())["status"] == "Completed"


def test_stopping_keeps_the_points_and_resuming_begins_anew() -> None:
    driver = Driver(estate({**ORDERS, "historyDays": 2}))
    points = driver.points()
    assert driver.put(driver.item(), policyId="", protectionState="ProtectionStopped").status == 202
    item = driver.get(driver.item())["properties"]
    assert item["protectionState"] == "ProtectionStopped"
    assert "policyId" not in item
    driver.wait(days=2)
    assert driver.points() == points
    assert driver.backup().status == 400
    assert driver.protect().status == 202
    assert state(driver) == "Protected"
    driver.backup()
    driver.wait(hours=3)
    assert len(driver.ranges()) == 2


def test_deleting_is_soft_for_two_weeks() -> None:
    driver = Driver(estate({**ORDERS, "historyDays": 1}))
    answer = driver.call("DELETE", driver.item())
    assert "/backupOperations/" in answer.headers["azure-asyncoperation"]
    driver.wait(75)
    assert driver.job(answer)["operation"] == "DeleteBackupData"
    item = driver.get(driver.item())["properties"]
    assert item["isScheduledForDeferredDelete"] is True
    assert driver.protect().code == "UserErrorItemInSoftDeletedState"
    driver.put(driver.item(), policyId="", protectionState="ProtectionStopped", isRehydrate=True)
    assert "isScheduledForDeferredDelete" not in driver.get(driver.item())["properties"]
    driver.wait(days=15)
    assert state(driver) == "ProtectionStopped"
    driver.call("DELETE", driver.item())
    driver.wait(days=15)
    assert driver.call("GET", driver.item()).status == 404


def test_a_job_can_be_cancelled_while_it_runs() -> None:
    driver = Driver(estate(ORDERS))
    started = driver.backup(wait=10)
    job_id = driver.get("/backupJobs")["value"][0]["name"]
    answer = driver.call("POST", f"/backupJobs/{job_id}/cancel")
    assert (answer.status, "azure-asyncoperation" in answer.headers) == (202, True)
    assert driver.job(started)["status"] == "Cancelling"
    running = driver.call("GET", answer.headers["location"])
    assert (running.status, "azure-asyncoperation" in running.headers) == (202, True)
    driver.wait(30)
    assert driver.call("GET", answer.headers["location"]).status == 204
    assert driver.job(started)["status"] == "Cancelled"
    assert driver.points()[0]["name"] == "DefaultRangeRecoveryPoint"
    assert driver.call("POST", f"/backupJobs/{job_id}/cancel").status == 400
    assert driver.job(driver.backup())["status"] == "Completed"


def test_the_policy_takes_its_backups_on_its_own() -> None:
    settings = estate(ORDERS, {"name": "small", "recoveryModel": "Simple"}) | {"scheduledBackups": True}
    driver = Driver(settings)
    driver.wait(hours=10, seconds=180)
    assert state(driver) == "Protected"
    jobs = driver.get("/backupJobs")["value"]
    assert [job["properties"]["isUserTriggered"] for job in jobs] == [False, False]
    driver.wait(hours=5)
    (logs,) = driver.ranges()
    assert (logs["startTime"], logs["endTime"]) == ("2026-01-05T18:00:18Z", "2026-01-05T23:00:20Z")
    assert driver.ranges("small") == []
    assert len(driver.get("/backupJobs")["value"]) == 2
    assert driver.simulator.ledger_entries == []


def test_a_past_is_as_the_policy_would_have_made_it() -> None:
    driver = Driver(estate({**ORDERS, "historyDays": 5}))
    fulls = [point["properties"] for point in driver.points()[:-1]]
    assert [full["recoveryPointTimeInUTC"] for full in fulls] == [
        f"2026-01-{day:02}T18:00:44Z" if day > 0 else f"2025-12-{31 + day:02}T18:00:44Z"
        for day in (4, 3, 2, 1, 0)
    ]
    (logs,) = driver.ranges()
    assert logs == {"startTime": "2025-12-31T18:00:42Z", "endTime": "2026-01-05T07:00:44Z"}


WEEKLY = {
    "name": "weekly",
    "properties": {
        "workLoadType": "SQLDataBase",
        "settings": {"timeZone": "UTC"},
        "subProtectionPolicy": [
            {
                "policyType": kind,
                "schedulePolicy": {
                    "schedulePolicyType": "SimpleSchedulePolicy",
                    "scheduleRunFrequency": "Weekly",
                    "scheduleRunDays": days,
                    "scheduleRunTimes": ["2026-01-01T22:00:00Z"],
                },
                "retentionPolicy": {"retentionDuration": {"count": 30, "durationType": "Days"}},
            }
            for kind, days in (("Full", ["Sunday"]), ("Differential", ["Monday", "Wednesday"]))
        ],
    },
}


def kinds(driver: Driver, database: str = "orders") -> list[tuple[str, str]]:
    return [
        (point["properties"]["type"], point["properties"]["recoveryPointTimeInUTC"][:10])
        for point in driver.points(database)[:-1]
    ]


def test_a_policys_differentials_are_taken_too_and_are_in_the_past() -> None:
    databases = ({**ORDERS, "protectedBy": "weekly", "historyDays": 9}, {"name": "master", "historyDays": 9})
    settings = estate(*databases) | {"scheduledBackups": True, "vaults": [{"policies": [POLICY, WEEKLY]}]}
    settings["virtualMachines"][0]["instances"][0]["databases"][1]["protectedBy"] = "weekly"
    driver = Driver(settings)
    past = [("Full", "2026-01-04"), ("Differential", "2025-12-31"), ("Differential", "2025-12-29")]
    assert kinds(driver) == [*past, ("Full", "2025-12-28")]
    assert kinds(driver, "master") == [("Full", "2026-01-04"), ("Full", "2025-12-28")]
    driver.wait(days=1)
    assert kinds(driver)[0] == ("Differential", "2026-01-05")
    assert kinds(driver, "master")[0] == ("Full", "2026-01-04")
    job = driver.get("/backupJobs")["value"][0]["properties"]
    assert (job["operation"], job["isUserTriggered"]) == ("Backup (Differential)", False)


def test_a_scheduled_differential_with_nothing_to_build_on_becomes_a_full() -> None:
    settings = estate({**ORDERS, "protectedBy": "weekly"})
    driver = Driver(settings | {"scheduledBackups": True, "vaults": [{"policies": [POLICY, WEEKLY]}]})
    driver.wait(days=1)
    assert kinds(driver) == [("Full", "2026-01-05")]


def test_the_last_backup_is_the_policys_last_log_backup() -> None:
    driver = Driver(estate({**ORDERS, "historyDays": 1}))
    for hours, last in ((0, "2026-01-05T07:01:14"), (3, "2026-01-05T10:01:14")):
        driver.wait(hours=hours)
        (listed,) = driver.get("/backupProtectedItems")["value"]
        last_backup = driver.get(driver.item())["properties"]["lastBackupTime"]
        assert last_backup == listed["properties"]["lastBackupTime"]
        # It is written half a minute after the moment that it can restore to.
        assert last_backup.partition(".")[0] == last


def test_backups_expire() -> None:
    driver = Driver(estate(ORDERS))
    driver.backup(recoveryPointExpiryTimeInUTC="2026-01-06T00:00:00Z")
    assert len(driver.points()) == 2
    driver.wait(days=2)
    assert len(driver.points()) == 1
    assert driver.backup(recoveryPointExpiryTimeInUTC="2026-01-06T00:00:00Z").status == 400


def test_a_changed_policy_reaches_its_items_and_one_in_use_stays() -> None:
    driver = Driver(estate(ORDERS))
    policy = driver.get(f"/backupPolicies/{POLICY}")
    assert policy["properties"]["protectedItemsCount"] == 1
    answer = driver.call("PUT", f"/backupPolicies/{POLICY}", {"properties": policy["properties"]})
    assert answer.status == 202
    assert driver.call("GET", answer.headers["location"]).status == 202
    driver.wait(75)
    assert driver.get(answer.headers["location"])["name"] == POLICY
    assert driver.call("DELETE", f"/backupPolicies/{POLICY}").code == "BMSUserErrorPolicyObjectInUse"
    assert driver.call("PUT", "/backupPolicies/Mine", {"properties": policy["properties"]}).status == 200
    driver.protect(policy="Mine")
    assert driver.call("DELETE", f"/backupPolicies/{POLICY}").status == 200
    policy["properties"]["subProtectionPolicy"][1]["schedulePolicy"]["scheduleFrequencyInMins"] = 5
    refused = driver.call("PUT", "/backupPolicies/Mine", {"properties": policy["properties"]})
    assert (refused.status, refused.code) == (400, "BMSUserErrorInvalidPolicyInput")


def test_a_policy_that_changes_does_not_take_back_an_item_that_has_left_it() -> None:
    driver = Driver({**estate(ORDERS, {"name": "billing"}), "vaults": [{"policies": [POLICY, "Other"]}]})
    driver.put(driver.item(), wait=10, policyId=driver.policy_id("Other"))
    driver.call("DELETE", driver.item("billing"))
    properties = driver.get(f"/backupPolicies/{POLICY}")["properties"]
    assert driver.call("PUT", f"/backupPolicies/{POLICY}", {"properties": properties}).status == 202
    driver.wait(100)
    assert driver.get(driver.item())["properties"]["policyId"].endswith("/Other")
    assert "policyId" not in driver.get(driver.item("billing"))["properties"]


@pytest.mark.parametrize(
    ("names", "entity"),
    [("short", "orders [sqlvm1]"), ("full", "MSSQLSERVER/orders [sqlvm1.contoso.local]")],
)
def test_a_machine_in_a_domain_has_a_full_host_name(names: str, entity: str) -> None:
    driver = Driver(estate(ORDERS, domain="contoso.local", jobNames=names))
    assert driver.get(driver.item())["properties"]["serverName"] == "sqlvm1.contoso.local"
    (container,) = driver.get("/backupProtectionContainers")["value"]
    assert container["properties"]["extendedInfo"]["hostServerName"] == "sqlvm1.contoso.local"
    assert driver.job(driver.backup())["entityFriendlyName"] == entity
    (listed,) = driver.get("/backupJobs")["value"]
    assert listed["properties"]["entityFriendlyName"] == entity
    assert listed["properties"]["activityId"]


@pytest.mark.parametrize(
    ("model", "shown"), [("Full", "FULL"), ("Simple", "SIMPLE"), ("BulkLogged", "BULK_LOGGED")]
)
def test_an_item_names_the_recovery_model_as_sql_server_does(model: str, shown: str) -> None:
    """recovery_model_desc of https://learn.microsoft.com/sql/relational-databases/system-catalog-views/sys-databases-transact-sql"""
    driver = Driver(estate({**ORDERS, "recoveryModel": model}))
    assert driver.get(driver.item())["properties"]["extendedInfo"]["recoveryModel"] == shown


def test_a_backup_says_by_a_boolean_whether_it_is_compressed() -> None:
    driver = Driver(estate(ORDERS))
    statuses = [
        driver.backup(kind="CopyOnlyFull", enableCompression=value).status
        for value in (True, False, None, "yes", 1)
    ]
    assert statuses == [202, 202, 202, 400, 400]


def test_only_backups_and_restores_can_be_cancelled() -> None:
    """https://learn.microsoft.com/rest/api/backup/job-cancellations/trigger: jobs say so by their actions."""
    driver = Driver({**estate(ORDERS), "vaults": [{"policies": [POLICY, "Other"]}]})
    driver.put(driver.item(), wait=10, policyId=driver.policy_id("Other"))
    (job,) = driver.get("/backupJobs?$filter=operation eq 'ConfigureBackup'")["value"]
    assert (job["properties"]["status"], job["properties"].get("actionsInfo")) == ("InProgress", None)
    refused = driver.call("POST", f"/backupJobs/{job['name']}/cancel")
    assert (refused.status, refused.code) == (400, "UserErrorJobCancellationNotAllowed")
    driver.wait(100)
    assert driver.get(driver.item())["properties"]["policyId"].endswith("/Other")


def test_an_operation_asks_to_be_asked_again_while_it_runs() -> None:
    driver = Driver({**estate(ORDERS), "vaults": [{"policies": [POLICY, "Other"]}], "retryAfter": 30})
    answer = driver.put(driver.item(), wait=0, policyId=driver.policy_id("Other"))
    status = answer.headers["azure-asyncoperation"]
    assert driver.call("GET", status).headers["retry-after"] == "30"
    driver.wait(100)
    assert "retry-after" not in driver.call("GET", status).headers


def test_deleting_a_policy_that_is_not_there_is_done_already() -> None:
    """200 and 204 are what the REST specification knows of this call."""
    driver = Driver({"vaults": [{"policies": [POLICY, "Other"]}]})
    assert [driver.call("DELETE", "/backupPolicies/Other").status for _ in range(2)] == [200, 204]
