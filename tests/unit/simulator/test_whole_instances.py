"""Instances that are protected as a whole, as far as the simulator lists them."""

from __future__ import annotations

from typing import Any

import pytest

from local.simulator import Scenario
from tests.unit.simulator.driver import POLICY, Driver

SCENARIO: dict[str, Any] = {
    "scheduledBackups": False,
    "virtualMachines": [
        {
            "name": "sqlvm1",
            "registeredTo": "vault1",
            "instances": [
                {"name": "WHOLE", "protectedBy": POLICY, "databases": [{"name": "a"}, {"name": "b"}]},
                {"databases": [{"name": "orders", "protectedBy": POLICY, "historyDays": 1}]},
            ],
        }
    ],
}


def test_its_databases_say_so_and_the_others_do_not() -> None:
    driver = Driver(SCENARIO)
    query = "?$filter=backupManagementType eq 'AzureWorkload' and itemType eq 'SQLDataBase'"
    found = {
        item["properties"]["friendlyName"]: item["properties"].get("protectionLevel")
        for item in driver.get(f"/backupProtectedItems{query}")["value"]
    }
    assert found == {"a": "DatabaseUnderInstance", "b": "DatabaseUnderInstance", "orders": None}


@pytest.mark.parametrize("query", ["", "?$filter=itemType eq 'SQLInstance'"])
def test_the_instance_is_listed_where_databases_alone_are_not_asked_for(query: str) -> None:
    driver = Driver(SCENARIO)
    items = driver.get(f"/backupProtectedItems{query}")["value"]
    (whole,) = [
        item for item in items if item["properties"]["protectedItemType"] == "AzureVmWorkloadSQLInstance"
    ]
    assert whole["properties"]["childDatabaseNameList"] == ["a", "b"]
    assert driver.get(whole["id"])["name"] == "SQLInstance;whole"


def test_neither_it_nor_a_database_is_in_another_fabric() -> None:
    assert Driver(SCENARIO).get("/backupProtectedItems?$filter=fabricName eq 'Other'")["value"] == []


def test_nothing_is_done_to_one_of_its_databases() -> None:
    driver = Driver(SCENARIO)
    item = driver.item("a", instance="whole")
    backup = {"properties": {"objectType": "AzureWorkloadBackupRequest", "backupType": "Full"}}
    answers = [
        driver.call("POST", f"{item}/backup", backup),
        driver.call("DELETE", item),
        driver.put(item, policyId=driver.policy_id()),
        driver.put(item, protectionState="ProtectionStopped"),
    ]
    assert {answer.code for answer in answers} == {"UserErrorOperationNotAllowedOnDatabaseUnderInstance"}
    assert driver.backup("orders").status == 202


def test_a_scenario_says_one_or_the_other() -> None:
    instance = {"protectedBy": POLICY, "databases": [{"name": "a", "protectedBy": POLICY}]}
    machine = {"name": "sqlvm1", "registeredTo": "vault1", "instances": [instance]}
    with pytest.raises(ValueError, match="protected as a whole"):
        Scenario.model_validate({"virtualMachines": [machine]})
