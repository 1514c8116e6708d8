"""Availability groups and failover clusters as the simulator lists, protects and restores them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from local.simulator import Scenario
from tests.unit.simulator.driver import POLICY, Answer, Driver

SQL = "$filter=backupManagementType eq 'AzureWorkload'"


def scenario(**group: Any) -> dict[str, Any]:
    """Two nodes with the group `ag1`, and a failover cluster; nothing is registered."""
    instances = [{"databases": [{"name": "local"}]}]
    cluster = [{"failoverCluster": True, "databases": [{"name": "payroll"}]}]
    nodes = ["node1", "node2"]
    return {
        "scheduledBackups": False,
        "virtualMachines": [
            *({"name": name, "instances": instances} for name in nodes),
            {"name": "cluster1", "instances": cluster},
        ],
        "availabilityGroups": [
            {"name": "ag1", "virtualMachines": nodes, "databases": [{"name": "Sales"}], **group}
        ],
    }


def protectable(driver: Driver) -> dict[str, Any]:
    """What is protectable, by its name."""
    listed = driver.get(f"/backupProtectableItems?{SQL}")["value"]
    assert len({entry["id"] for entry in listed}) == len(listed)
    return {entry["name"]: entry for entry in listed}


def container_of_group(driver: Driver) -> str:
    """The path of the group's container, below the vault."""
    entry = protectable(driver)["sqlavailabilitygroupcontainer;ag1"]
    path: str = entry["id"].split("/protectableItems/")[0].removeprefix(driver.vault)
    return path


def sales(driver: Driver) -> str:
    return f"{container_of_group(driver)}/protectedItems/sqldatabase;ag1;sales"


def protect(driver: Driver) -> Answer:
    return driver.put(sales(driver), policyId=driver.policy_id())


def test_a_group_is_found_by_way_of_a_node_and_its_databases_only_in_it() -> None:
    driver = Driver(scenario())
    driver.register("node2")
    found = protectable(driver)
    assert set(found) == {
        "sqlinstance;mssqlserver",
        "sqldatabase;mssqlserver;local",
        "sqlavailabilitygroupcontainer;ag1",
        "sqldatabase;ag1;sales",
    }
    assert "/protectionContainers/sqlagworkloadcontainer;" in found["sqldatabase;ag1;sales"]["id"]
    properties = found["sqlavailabilitygroupcontainer;ag1"]["properties"]
    assert properties["protectableItemType"] == "SQLAvailabilityGroupContainer"
    assert properties["prebackupvalidation"]["status"] == "Success"
    assert [(node["nodeName"], node["status"]) for node in properties["nodesList"]] == [
        ("node1", "Failed"),
        ("node2", "Succeeded"),
    ]
    database = found["sqldatabase;ag1;sales"]["properties"]
    assert (database["parentName"], database["friendlyName"]) == ("ag1", "Sales")
    assert database["IsProtectable"] is True

    container = driver.get(container_of_group(driver))
    assert container["properties"]["containerType"] == "SQLAGWorkLoadContainer"
    assert container["properties"]["extendedInfo"]["nodesList"] == properties["nodesList"]
    known = f"/backupProtectionContainers?{SQL}"
    assert [entry["properties"]["containerType"] for entry in driver.get(known)["value"]] == [
        "VMAppContainer"
    ]
    by_type = driver.get(f"{known} and containerType eq 'SQLAGWorkLoadContainer'")["value"]
    assert [entry["name"] for entry in by_type] == [container["name"]]


def test_a_groups_database_is_protected_only_once_the_primary_is_registered() -> None:
    driver = Driver(scenario())
    driver.register("node2")
    assert driver.failure(protect(driver)) == "FabricSvcBackupPreferenceCheckFailedUserError"
    assert driver.get("/backupProtectedItems")["value"] == []
    driver.register("node1")
    assert driver.job(protect(driver))["status"] == "Completed"
    (item,) = driver.get("/backupProtectedItems")["value"]
    assert item["name"] == "SQLDataBase;ag1;Sales"
    assert item["properties"]["parentType"] == "AzureVmWorkloadSQLAvailabilityGroup"
    assert "sourceResourceId" not in item["properties"]
    assert item["id"].lower() == driver.vault.lower() + sales(driver).lower()
    assert "sqldatabase;ag1;sales" not in protectable(driver)


def test_a_node_stays_registered_while_the_group_is_protected() -> None:
    driver = Driver(scenario())
    driver.register("node1")
    protect(driver)
    assert driver.call("DELETE", driver.container("node1")).code == "BMSUserErrorNodePartOfActiveAG"
    assert driver.call("DELETE", container_of_group(driver)).status == 400
    path = container_of_group(driver)
    driver.call("DELETE", sales(driver))
    driver.wait(75)
    assert driver.call("DELETE", driver.container("node1")).status == 202
    driver.wait(240)
    assert protectable(driver) == {}
    assert driver.get("/backupProtectedItems")["value"][0]["properties"]["isScheduledForDeferredDelete"]
    driver.register("node1")
    assert container_of_group(driver) == path


def test_a_groups_database_is_backed_up_and_restored_beside_the_group_only() -> None:
    databases = [{"name": "Sales", "protectedBy": POLICY, "historyDays": 2}]
    settings = scenario(databases=databases)
    for machine in settings["virtualMachines"][:2]:
        machine["registeredTo"] = "vault1"
    driver = Driver(settings)
    item = sales(driver)
    points = driver.get(f"{item}/recoveryPoints")["value"]
    assert [point["properties"]["type"] for point in points] == ["Full", "Full", "Log"]
    path = f"{item}/recoveryPoints/{points[0]['name']}/restore"

    def restore(**properties: Any) -> Answer:
        body = {"objectType": "AzureWorkloadSQLRestoreRequest", "isNonRecoverable": False, **properties}
        answer = driver.call("POST", path, {"properties": body})
        driver.wait(272)
        return answer

    def onto(container: str, database: str) -> dict[str, Any]:
        target = {"containerId": driver.vault + container, "databaseName": f"MSSQLSERVER/{database}"}
        return {
            "recoveryType": "AlternateLocation",
            "targetInfo": {"overwriteOption": "Overwrite", **target},
        }

    original = restore(recoveryType="OriginalLocation")
    assert (original.status, original.code) == (400, "UserErrorOperationFailedInvalidParameters")
    assert restore(**onto(container_of_group(driver), "copy")).status == 400
    over = restore(**onto(driver.container("node2"), "sales"))
    assert driver.failure(over) == "UserErrorRestoreFailedDatabaseCannotBeOfflined"
    assert driver.job(restore(**onto(driver.container("node2"), "copy")))["status"] == "Completed"
    driver.inquire("node2")
    assert "sqldatabase;mssqlserver;copy" in protectable(driver)
    request = {"objectType": "AzureWorkloadBackupRequest", "backupType": "Log"}
    backup = driver.call("POST", f"{item}/backup", {"properties": request})
    driver.wait(120)
    assert driver.job(backup)["entityFriendlyName"] == "Sales [ag1-wsfc]"


@pytest.mark.parametrize(
    ("machine", "parent", "database", "code"),
    [
        (
            "node1",
            "sqlavailabilitygroupcontainer;ag1",
            "sqldatabase;ag1;sales",
            "UserErrorBasicAvailabilityGroupNotSupported",
        ),
        (
            "cluster1",
            "sqlinstance;mssqlserver",
            "sqldatabase;mssqlserver;payroll",
            "UserErrorSQLFailoverClusterInstanceNotSupported",
        ),
    ],
    ids=["basic group", "failover cluster"],
)
def test_what_is_not_supported_is_listed_with_the_reason_and_without_databases(
    machine: str, parent: str, database: str, code: str
) -> None:
    driver = Driver(scenario(basic=True))
    driver.register(machine)
    found = protectable(driver)
    validation = found[parent]["properties"]["prebackupvalidation"]
    assert (validation["status"], validation["code"]) == ("Failed", code)
    assert found[parent]["properties"]["isAutoProtectable"] is False
    assert database not in found
    item = f"{found[parent]['id'].split('/protectableItems/')[0]}/protectedItems/{database}"
    refused = driver.put(item, policyId=driver.policy_id())
    assert (refused.status, refused.code) == (404, "BMSUserErrorDataSourceObjectNotFound")


def test_a_group_is_auto_protected() -> None:
    driver = Driver(scenario())
    driver.register("node1")
    item = protectable(driver)["sqlavailabilitygroupcontainer;ag1"]
    intent = "/backupFabrics/Azure/backupProtectionIntent/00000000-0000-0000-0000-00000000000a"
    properties = {
        "protectionIntentItemType": "RecoveryServiceVaultItem",
        "itemId": item["id"],
        "policyId": driver.policy_id(),
    }
    assert driver.call("PUT", intent, {"properties": properties}).status == 200
    kind = "itemType eq 'sqlavailabilitygroupcontainer'"
    assert len(driver.get(f"/backupProtectionIntents?{SQL} and {kind} and itemName eq 'ag1'")["value"]) == 1
    driver.wait(75)
    assert [entry["name"] for entry in driver.get("/backupProtectedItems")["value"]] == [
        "SQLDataBase;ag1;Sales"
    ]
    parent = protectable(driver)["sqlavailabilitygroupcontainer;ag1"]
    assert parent["properties"]["isAutoProtected"] is True


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"virtualMachines": ["node1", "nosuch"]}, "there are 0 virtual machines nosuch"),
        ({"primary": "cluster1"}, "is not among its virtualMachines"),
        ({"instance": "OTHER"}, "has no instance OTHER"),
        ({"databases": [{"name": "LOCAL"}]}, "name it in the group only"),
        ({"databases": [{"name": "a", "protectedBy": POLICY}]}, "has a primary without registeredTo"),
    ],
)
def test_a_group_that_cannot_be_is_refused(group: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Scenario.model_validate(scenario(**group))
