"""What a scenario lets happen while it runs: machines stop, databases come and go, backups of policies fail."""

from __future__ import annotations

from typing import Any

import pytest

from local.simulator import Scenario
from tests.unit.simulator.driver import POLICY, Driver

START = "2026-01-05T08:00:00Z"


def estate(*databases: dict[str, Any], **more: Any) -> dict[str, Any]:
    entries = [{"protectedBy": POLICY, "historyDays": 3, **database} for database in databases]
    return {
        "virtualMachines": [
            {
                "name": "sqlvm1",
                "registeredTo": "vault1",
                "instances": [{"databases": entries, **more.pop("instance", {})}],
            }
        ],
        **more,
    }


def listed(driver: Driver, name: str = "orders") -> dict[str, Any]:
    found = driver.get("/backupProtectedItems?$filter=backupManagementType eq 'AzureWorkload'")["value"]
    (properties,) = [entry["properties"] for entry in found if entry["properties"]["friendlyName"] == name]
    result: dict[str, Any] = properties
    return result


def protectable(driver: Driver) -> set[str]:
    value = driver.get("/backupProtectableItems?$filter=backupManagementType eq 'AzureWorkload'")["value"]
    return {
        entry["properties"]["friendlyName"]
        for entry in value
        if entry["properties"]["protectableItemType"] == "SQLDataBase"
    }


def test_a_full_that_the_policy_takes_fails_while_the_scenario_says_so_and_the_list_tells_the_attempt() -> (
    None
):
    failure = {
        "database": "ord*",
        "kinds": ["Full"],
        "code": "UserErrorBackupFailedAsTransactionLogIsFull",
        "until": "2026-01-06T08:00:00Z",
    }
    driver = Driver(
        estate({"name": "orders", "recoveryModel": "Simple"}, {"name": "billing"})
        | {"scheduledFailures": [failure]}
    )
    good = listed(driver)["lastBackupTime"]
    driver.wait(days=1)
    failed = listed(driver)
    assert (failed["lastBackupStatus"], failed["protectionStatus"]) == ("Unhealthy", "Unhealthy")
    assert failed["lastBackupErrorDetail"]["code"] == "UserErrorBackupFailedAsTransactionLogIsFull"
    assert failed["lastBackupTime"] > good, "the last attempt, not the last success"
    assert "lastRecoveryPoint" not in failed
    assert driver.get(driver.item())["properties"]["lastRecoveryPoint"] < failed["lastBackupTime"]
    assert listed(driver, "billing")["lastBackupStatus"] == "Healthy"
    (job,) = [
        entry["properties"]
        for entry in driver.get("/backupJobs")["value"]
        if entry["properties"]["status"] == "Failed"
    ]
    assert job["errorDetails"][0]["errorTitle"] == "UserErrorBackupFailedAsTransactionLogIsFull"
    driver.wait(days=1)
    assert listed(driver)["lastBackupStatus"] == "Healthy"


def test_logs_that_fail_leave_the_range_where_it_was_until_the_next_that_succeeds() -> None:
    failure = {"kinds": ["Log"], "from": "2026-01-05T12:00:00Z", "until": "2026-01-05T16:00:00Z"}
    driver = Driver(estate({"name": "orders"}) | {"scheduledFailures": [failure]})
    driver.wait(hours=7)
    end = driver.ranges()[-1]["endTime"]
    assert end <= "2026-01-05T12:00:00Z"
    failed = listed(driver)
    assert failed["lastBackupStatus"] == "Unhealthy"
    assert failed["lastBackupTime"] > "2026-01-05T14:00:00Z"
    driver.wait(hours=3)
    assert driver.ranges()[-1]["endTime"] > "2026-01-05T16:00:00Z"
    assert len(driver.ranges()) == 1
    assert listed(driver)["lastBackupStatus"] == "Healthy"


def test_nothing_is_backed_up_on_a_machine_that_has_stopped_until_it_starts() -> None:
    timeline = [
        {"at": "2026-01-05T10:00:00Z", "event": "machineStops", "virtualMachine": "sqlvm1"},
        {"at": "2026-01-07T10:00:00Z", "event": "machineStarts", "virtualMachine": "sqlvm1"},
    ]
    driver = Driver(estate({"name": "orders"}) | {"timeline": timeline})
    driver.wait(days=1)
    stopped = listed(driver)
    assert stopped["protectedItemHealthStatus"] == "NotReachable"
    assert stopped["lastBackupErrorDetail"]["code"] == "VMNotInRunningStateUserError"
    assert driver.get(driver.item())["properties"]["lastRecoveryPoint"] < "2026-01-05T10:01:00Z"
    driver.wait(days=2)
    started = listed(driver)
    assert started["protectedItemHealthStatus"] == "Healthy"
    assert driver.get(driver.item())["properties"]["lastRecoveryPoint"] > "2026-01-08T06:00:00Z"


def test_a_new_database_is_protectable_once_somebody_inquires() -> None:
    timeline = [
        {
            "at": "2026-01-05T09:00:00Z",
            "event": "databaseAppears",
            "virtualMachine": "sqlvm1",
            "database": {"name": "new"},
        }
    ]
    driver = Driver(estate({"name": "orders"}) | {"timeline": timeline})
    driver.wait(hours=2)
    assert protectable(driver) == set()
    driver.inquire()
    assert protectable(driver) == {"new"}


def test_a_renamed_database_is_protectable_anew_and_its_old_item_fails() -> None:
    timeline = [
        {
            "at": "2026-01-05T09:00:00Z",
            "event": "databaseIsRenamed",
            "virtualMachine": "sqlvm1",
            "database": "orders",
            "to": "orders_v2",
        }
    ]
    driver = Driver(estate({"name": "orders"}) | {"timeline": timeline})
    driver.wait(days=1)
    driver.inquire()
    assert protectable(driver) == {"orders_v2"}
    assert listed(driver)["lastBackupErrorDetail"]["code"] == "UserErrorSQLPODoesNotExist"


def test_an_instance_with_an_intent_protects_what_appears_within_eight_hours() -> None:
    timeline = [
        {
            "at": "2026-01-05T09:00:00Z",
            "event": "databaseAppears",
            "virtualMachine": "sqlvm1",
            "database": {"name": "new"},
        }
    ]
    driver = Driver(estate({"name": "orders"}, instance={"autoProtectedBy": POLICY}) | {"timeline": timeline})
    (intent,) = driver.get("/backupProtectionIntents?$filter=backupManagementType eq 'AzureWorkload'")[
        "value"
    ]
    assert intent["properties"]["policyId"].endswith(POLICY)
    driver.wait(hours=7)
    assert protectable(driver) == set()
    driver.wait(hours=2)
    assert listed(driver, "new")["protectionState"] == "IRPending"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"timeline": [{"at": START, "event": "machineStops", "virtualMachine": "nobody"}]},
            "virtual machines nobody",
        ),
        (
            {
                "timeline": [
                    {"at": "2026-01-01T00:00:00Z", "event": "machineStops", "virtualMachine": "sqlvm1"}
                ]
            },
            "before startTime",
        ),
        (
            {
                "timeline": [
                    {"at": START, "event": "databaseIsDropped", "virtualMachine": "sqlvm1", "database": "no"}
                ]
            },
            "has no database no",
        ),
        ({"timeline": [{"at": START, "event": "machineBurns", "virtualMachine": "sqlvm1"}]}, "machineBurns"),
        ({"scheduledFailures": [{"datebase": "*"}]}, "datebase"),
    ],
)
def test_a_timeline_that_cannot_be_is_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scenario.model_validate(estate({"name": "orders"}) | more)


def query(driver: Driver, text: str, **options: Any) -> Any:
    body = {
        "query": text,
        "subscriptions": [driver.simulator.subscription_id],
        "options": {"resultFormat": "objectArray", **options},
    }
    url = "http://127.0.0.1:1/providers/Microsoft.ResourceGraph/resources?api-version=2021-03-01"
    return driver.call("POST", url, body)


SQL_MACHINES = (
    "resources | where type =~ 'Microsoft.SqlVirtualMachine/sqlVirtualMachines'"
    " | project id, vm = properties.virtualMachineResourceId | order by id asc"
)


def test_resource_graph_lists_the_machines_with_the_extension_a_page_at_a_time() -> None:
    machines: list[dict[str, Any]] = [{"name": f"sqlvm{number}", "instances": [{}]} for number in range(5)]
    machines += [{"name": "byhand", "sqlIaasExtension": False, "instances": [{}]}, {"name": "nosql"}]
    driver = Driver({"virtualMachines": machines})
    first = query(driver, SQL_MACHINES, **{"$top": 3}).body
    assert (first["count"], first["totalRecords"], first["resultTruncated"]) == (3, 5, "false")
    second = query(driver, SQL_MACHINES, **{"$top": 3, "$skipToken": first["$skipToken"]}).body
    assert "$skipToken" not in second
    names = [row["vm"].rpartition("/")[2] for row in [*first["data"], *second["data"]]]
    assert names == [f"sqlvm{number}" for number in range(5)]


def test_resource_graph_refuses_what_it_does_not_know_and_throttles() -> None:
    driver = Driver()
    refused = query(driver, "resources | summarize count() by type")
    assert (refused.status, refused.code) == (400, "BadRequest")
    assert "summarize" in refused.body["error"]["message"]
    for _ in range(14):
        assert query(driver, SQL_MACHINES).status == 200
    throttled = query(driver, SQL_MACHINES)
    assert (throttled.status, throttled.code) == (429, "RateLimiting")
    driver.wait(6)
    assert query(driver, SQL_MACHINES).status == 200
