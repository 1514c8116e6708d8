"""Finding machines and databases: what has to come first, and what stands in the way."""

from __future__ import annotations

import pytest

from tests.unit.simulator.driver import POLICY, Driver, estate

CONTAINERS = "/backupFabrics/Azure/protectableContainers?$filter=backupManagementType eq 'AzureWorkload'"


def names(driver: Driver, path: str) -> list[str]:
    return [entry["properties"]["friendlyName"] for entry in driver.get(path)["value"]]


def test_machines_appear_after_a_refresh_and_leave_when_registered() -> None:
    driver = Driver()
    assert names(driver, CONTAINERS) == []
    driver.refresh()
    assert names(driver, CONTAINERS) == ["sqlvm1", "sqlvm2"]
    assert driver.call("GET", driver.container()).status == 404
    answer = driver.register()
    assert answer.status == 202
    assert names(driver, CONTAINERS) == ["sqlvm2"]
    assert driver.get(driver.container())["properties"]["registrationStatus"] == "Registered"
    assert driver.call("DELETE", driver.container()).status == 202
    driver.wait(600)
    assert names(driver, CONTAINERS) == ["sqlvm1", "sqlvm2"]


def test_a_refresh_ends_with_204_and_a_registration_with_the_container() -> None:
    driver = Driver({"retryAfter": 7})
    answer = driver.call("POST", "/backupFabrics/Azure/refreshContainers")
    assert (answer.status, answer.headers["retry-after"], answer.text) == (202, "7", b"")
    assert driver.call("GET", answer.headers["location"]).status == 202
    driver.wait(20)
    assert driver.call("GET", answer.headers["location"]).status == 204
    answer = driver.register()
    assert answer.body == {}
    assert len(answer.headers["location"]) > 3000
    assert "type" not in driver.get(answer.headers["location"])
    status = driver.get(answer.headers["azure-asyncoperation"])
    assert (status["status"], status["endTime"]) == ("Succeeded", "0001-01-01T00:00:00")


def test_protected_databases_leave_the_protectable_list() -> None:
    driver = Driver()
    driver.register()
    before = names(driver, "/backupProtectableItems")
    assert before == ["MSSQLSERVER", "billing", "master", "model", "msdb", "orders"]
    assert driver.protect("orders").status == 202
    assert names(driver, "/backupProtectableItems") == [name for name in before if name != "orders"]
    assert "orders" in names(driver, f"{driver.container()}/items")


@pytest.mark.parametrize(
    ("machine", "code"),
    [
        (
            {"sysadmin": False, "instances": [{"databases": [{"name": "orders"}]}]},
            "UserErrorSQLNoSysadminMembership",
        ),
        ({"instances": []}, "UserErrorNoSQlInstancesOnMachine"),
    ],
)
def test_what_an_inquiry_cannot_see_it_says(machine: dict[str, object], code: str) -> None:
    driver = Driver({"virtualMachines": [{"name": "sqlvm1", **machine}]})
    driver.register()
    inquiry = driver.get(driver.container())["properties"]["extendedInfo"]["inquiryInfo"]
    assert inquiry["status"] == "Success"
    validation = inquiry["inquiryDetails"][0]["inquiryValidation"]
    assert (validation["status"], validation["errorDetail"]["code"]) == ("Failed", code)
    assert driver.get("/backupProtectableItems")["value"] == []


def test_a_stopped_machine_cannot_be_registered() -> None:
    driver = Driver({"virtualMachines": [{"name": "sqlvm1", "running": False, "instances": [{}]}]})
    answer = driver.register()
    status = driver.get(answer.headers["azure-asyncoperation"])
    assert (status["status"], status["error"]["code"]) == ("Failed", "VMNotInRunningStateUserError")
    result = driver.call("GET", answer.headers["location"])
    assert (result.status, result.code) == (400, "VMNotInRunningStateUserError")
    assert driver.call("GET", driver.container()).status == 404


def test_a_machine_belongs_to_one_vault() -> None:
    driver = Driver(
        {
            "vaults": [{"name": "vault1"}, {"name": "vault2"}],
            "virtualMachines": [{"name": "sqlvm1", "registeredTo": "vault2", "instances": [{}]}],
        }
    )
    driver.refresh()
    assert driver.get(CONTAINERS)["value"] == []
    answer = driver.register()
    assert (answer.status, answer.code) == (400, "UserErrorVMAlreadyRegisteredToAnotherVault")


def test_machines_of_one_name_are_told_apart_by_their_group() -> None:
    instances = [{"databases": [{"name": "orders", "protectedBy": POLICY}]}]
    machines = [
        {"resourceGroup": group, "name": "sqlvm1", "registeredTo": "vault1", "instances": instances}
        for group in ("rg-a", "rg-b")
    ]
    driver = Driver({"virtualMachines": machines})
    items = driver.get("/backupProtectedItems")["value"]
    assert [entry["name"] for entry in items] == ["SQLDataBase;mssqlserver;orders"] * 2
    assert len({entry["id"] for entry in items}) == 2
    only = "$filter=backupManagementType eq 'AzureWorkload' and containerName eq 'VMAppContainer;Compute;RG-B;sqlvm1'"
    (found,) = driver.get(f"/backupProtectedItems?{only}")["value"]
    assert "compute;rg-b;sqlvm1" in found["id"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"sourceResourceId": "/subscriptions/x"}, "UserErrorInvalidRequestParameter"),
        ({"containerType": "StorageContainer"}, "UserErrorInvalidRequestParameter"),
        ({"workloadType": "SAPHanaDatabase"}, "UserErrorInvalidRequestParameter"),
        ({"operationType": "Now"}, "UserErrorInvalidRequestParameter"),
    ],
)
def test_a_registration_that_does_not_fit_is_refused(change: dict[str, str], code: str) -> None:
    driver = Driver()
    body = {
        "backupManagementType": "AzureWorkload",
        "containerType": "VMAppContainer",
        "workloadType": "SQLDataBase",
        "sourceResourceId": driver.simulator.vm_id("sqlvm1"),
    }
    answer = driver.call("PUT", driver.container(), {"properties": body | change})
    assert (answer.status, answer.code) == (400, code)
    assert driver.simulator.ledger_entries == []


def test_auto_protection_protects_what_an_inquiry_finds() -> None:
    driver = Driver(estate({"name": "orders"}, {"name": "billing", "protectedBy": None}))
    intent = {
        "protectionIntentItemType": "RecoveryServiceVaultItem",
        "backupManagementType": "AzureWorkload",
        "itemId": f"{driver.vault}{driver.container()}/protectableItems/sqlinstance;mssqlserver",
        "policyId": driver.policy_id(),
    }
    path = "/backupFabrics/Azure/backupProtectionIntent/7ec9429d-bea2-4573-9562-799406b69e6e"
    assert driver.call("PUT", path, {"properties": intent}).status == 200
    assert names(driver, "/backupProtectedItems") == ["orders"]
    driver.wait(75)
    assert sorted(names(driver, "/backupProtectedItems")) == ["billing", "orders"]
    assert driver.call("DELETE", path).status == 204
    assert driver.get("/backupProtectionIntents")["value"] == []


def test_a_machine_of_another_region_cannot_be_registered() -> None:
    """https://learn.microsoft.com/azure/backup/backup-sql-server-database-azure-vms: vault and VM are in one region."""
    machines = [{"name": "sqlvm1", "location": "northeurope"}, {"name": "sqlvm2", "location": "westeurope"}]
    driver = Driver({"virtualMachines": machines})
    driver.refresh()
    assert [driver.register(name).status for name in ("sqlvm1", "sqlvm2")] == [400, 202]


def test_a_name_with_a_slash_is_one_segment_of_its_id() -> None:
    driver = Driver(estate({"name": "a/b ü", "protectedBy": None}))
    entry = driver.get("/backupProtectableItems")["value"][1]
    assert entry["name"] == "sqldatabase;mssqlserver;a/b ü"
    assert entry["id"].rpartition("/")[2] == "sqldatabase;mssqlserver;a%2Fb%20%C3%BC"
