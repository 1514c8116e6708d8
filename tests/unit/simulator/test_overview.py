"""Small routes: who protects a machine, counts of a vault, how it stores."""

from __future__ import annotations

from typing import Any

from tests.unit.simulator.driver import POLICY, Driver, estate

LOCATION = "/providers/Microsoft.RecoveryServices/locations/westeurope"


def at_region(driver: Driver, name: str, **body: Any) -> Any:
    subscription = f"/subscriptions/{driver.simulator.subscription_id}"
    answer = driver.call("POST", f"{subscription}{LOCATION}/{name}", body)
    assert answer.status == 200, answer.body
    return answer.body


def counts(entries: list[dict[str, Any]]) -> dict[str, int]:
    return {entry["name"]["value"]: entry["currentValue"] for entry in entries}


def test_the_status_of_a_machine_names_the_vault_that_protects_its_databases() -> None:
    driver = Driver(estate({"name": "orders"}, {"name": "billing", "protectedBy": None}))
    vm = driver.simulator.vm_id("sqlvm1")

    def status(**more: str) -> Any:
        return at_region(driver, "backupStatus", resourceId=vm, **more)

    whole = status(resourceType="SQLDataBase")
    assert (whole["protectionStatus"], whole["vaultId"], whole["protectedItemsCount"]) == (
        "Protected",
        driver.vault,
        1,
    )
    one = status(resourceType="SQLDataBase", poLogicalName="MSSQLSERVER;orders")
    assert (one["protectionStatus"], one["policyName"]) == ("Protected", POLICY)
    other = status(resourceType="SQLDataBase", poLogicalName="MSSQLSERVER;billing")
    assert (other["protectionStatus"], "vaultId" in other) == ("NotProtected", False)
    # As recorded of a machine that is protected by nothing: the names of what it would be.
    assert status(resourceType="VM") == {
        "protectionStatus": "NotProtected",
        "fabricName": "Azure",
        "containerName": "iaasvmcontainer;iaasvmcontainerv2;rg-sql;sqlvm1",
        "protectedItemName": "vm;iaasvmcontainerv2;rg-sql;sqlvm1",
        "protectedItemsCount": 0,
        "objectType": "BackupStatusResponse",
    }


def test_what_keeps_a_machine_from_protection_is_told_before() -> None:
    machines: list[dict[str, Any]] = [
        {"name": "here"},
        {"name": "down", "running": False},
        {"name": "elsewhere", "location": "northeurope"},
        {"name": "taken", "registeredTo": "vault2"},
    ]
    driver = Driver({"virtualMachines": machines, "vaults": [{"name": "vault1"}, {"name": "vault2"}]})
    validated = {
        machine["name"]: at_region(
            driver,
            "backupPreValidateProtection",
            resourceType="VM",
            resourceId=driver.simulator.vm_id(str(machine["name"])),
            vaultId=driver.vault,
            properties="",
        )
        for machine in machines
    }
    assert {name: (answer["status"], answer["errorCode"]) for name, answer in validated.items()} == {
        "here": ("Succeeded", ""),
        "down": ("Failed", "VMNotInRunningStateUserError"),
        "elsewhere": ("Failed", "UserErrorVaultAndVirtualMachineInDifferentRegions"),
        "taken": ("Failed", "UserErrorVMAlreadyRegisteredToAnotherVault"),
    }


def test_a_vault_counts_its_items_containers_and_jobs() -> None:
    driver = Driver(estate({"name": "orders"}, {"name": "billing"}))
    summary = "/backupUsageSummaries?$filter=type eq"
    assert counts(driver.get(f"{summary} 'BackupProtectedItemCountSummary'")["value"]) == {"AzureWorkload": 2}
    assert counts(driver.get(f"{summary} 'BackupProtectionContainerCountSummary'")["value"]) == {
        "AzureWorkload": 1
    }
    assert driver.call("GET", "/backupUsageSummaries").status == 400
    driver.backup(wait=10)
    assert counts(driver.get("/usages")["value"])["InProgressJobsCount"] == 1
    driver.backup("billing", "Log")
    found = counts(driver.get("/usages")["value"])
    assert (found["ProtectedItemCount"], found["InProgressJobsCount"], found["FailedJobsCount"]) == (2, 0, 1)
    driver.wait(days=2)
    assert counts(driver.get("/usages")["value"])["FailedJobsCount"] == 0


def test_how_a_vault_stores_is_fixed_once_it_protects() -> None:
    path = "/backupstorageconfig/vaultstorageconfig"
    local = {"properties": {"storageModelType": "LocallyRedundant"}}
    driver = Driver()
    assert driver.get(path)["properties"]["storageTypeState"] == "Unlocked"
    assert driver.call("PATCH", path, local).status == 204
    assert driver.get(path)["properties"]["storageType"] == "LocallyRedundant"
    settings = driver.get("")["properties"]["redundancySettings"]
    assert settings["standardTierStorageRedundancy"] == "LocallyRedundant"
    cross = {"properties": {"crossRegionRestoreFlag": True}}
    assert driver.call("PUT", path, cross).status == 400
    protecting = Driver(estate({"name": "orders"}))
    assert protecting.get(path)["properties"]["storageTypeState"] == "Locked"
    assert protecting.call("PUT", path, local).status == 400
    assert protecting.call("PUT", path, cross).body["properties"]["crossRegionRestoreFlag"] is True
