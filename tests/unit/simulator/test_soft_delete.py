"""What stays of what was deleted: vaults, containers, recovery points, for 14 to 180 days."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.unit.simulator.driver import POLICY, Driver, estate

DELETED = "/subscriptions/00000000-0000-0000-0000-000000000001/providers/Microsoft.RecoveryServices/locations"
GROUP = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-backup"


def deleted_vaults(driver: Driver, region: str = "westeurope") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = driver.get(f"{DELETED}/{region}/deletedVaults")["value"]
    return found


def emptied(days: int = 14, **settings: Any) -> Driver:
    """A vault whose only item is soft-deleted, and whose machine is unregistered."""
    driver = Driver(
        {
            **estate({"name": "orders", "historyDays": 3}),
            "vaults": [{"softDeleteRetentionDays": days}],
            **settings,
        }
    )
    assert driver.call("DELETE", driver.item()).status == 202
    driver.wait(40)
    assert driver.call("DELETE", driver.container()).status == 202
    driver.wait(240)
    return driver


@pytest.mark.parametrize("days", [14, 180])
def test_a_deleted_vault_stays_as_long_as_what_is_soft_deleted_in_it(days: int) -> None:
    driver = emptied(days)
    assert driver.call("DELETE", "").status == 204
    assert driver.call("GET", "").code == "ResourceNotFound"
    (entry,) = deleted_vaults(driver, "West Europe".replace(" ", "%20"))
    assert entry["name"].startswith("rg-backup_")
    assert entry["properties"]["vaultId"] == driver.vault
    assert driver.get(entry["id"]) == {**entry, "id": entry["id"]}
    driver.wait(days=days - 1)
    assert len(deleted_vaults(driver)) == 1
    driver.wait(days=1)
    assert deleted_vaults(driver) == []


def test_a_deleted_vault_comes_back_with_what_was_in_it() -> None:
    driver = emptied()
    driver.call("DELETE", "")
    (entry,) = deleted_vaults(driver)
    answer = driver.call(
        "POST", f"{entry['id']}/undelete", {"properties": {"recoveryResourceGroupId": GROUP}}
    )
    assert answer.status == 202
    assert driver.get(answer.headers["azure-asyncoperation"])["status"] == "Succeeded"
    assert deleted_vaults(driver) == []
    (item,) = driver.get("/backupProtectedItems")["value"]
    assert item["properties"]["isScheduledForDeferredDelete"] is True
    (container,) = driver.get("/backupDeletedProtectionContainers")["value"]
    assert container["properties"]["registrationStatus"] == "SoftDeleted"


def test_another_vault_of_that_name_can_be_made_meanwhile() -> None:
    driver = emptied()
    driver.call("DELETE", "")
    body = {"location": "westeurope", "sku": {"name": "Standard"}, "properties": {}}
    assert driver.call("PUT", "", body).status == 201
    (entry,) = deleted_vaults(driver)
    back = {"properties": {"recoveryResourceGroupId": GROUP}}
    assert driver.call("POST", f"{entry['id']}/undelete", back).status == 409
    # Its machine can be registered with the new one.
    driver.refresh()
    assert driver.register().status == 202
    assert driver.get(driver.container())["properties"]["registrationStatus"] == "Registered"


def test_a_vault_that_held_nothing_is_listed_and_cannot_come_back() -> None:
    driver = Driver()
    driver.call("DELETE", "")
    (entry,) = deleted_vaults(driver)
    assert entry["properties"]["purgeAt"] < entry["properties"]["vaultDeletionTime"]
    back = {"properties": {"recoveryResourceGroupId": GROUP}}
    assert driver.call("POST", f"{entry['id']}/undelete", back).status == 400
    assert driver.call("GET", f"{DELETED}/westeurope/deletedVaults/other").status == 404
    assert driver.call("GET", f"{DELETED}/nowhere/deletedVaults").code == "NoRegisteredProviderFound"


def test_since_2026_a_vault_is_deleted_in_the_background() -> None:
    driver = Driver({"serviceVersion": "2026-07"})
    answer = driver.call("DELETE", "")
    assert (answer.status, answer.body) == (202, None)
    status = driver.get(answer.headers["azure-asyncoperation"])
    assert status["status"] == "Succeeded"
    assert set(status) == {"id", "name", "status"}
    assert "/operationStatus/" in status["id"]
    assert driver.call("GET", answer.headers["location"]).status == 204


def test_since_2026_a_vault_is_created_in_the_background() -> None:
    driver = Driver({"serviceVersion": "2026-07", "vaults": [{"name": "other"}]})
    body = {"location": "westeurope", "sku": {"name": "Standard"}, "properties": {}}
    vault = driver.vault.replace("other", "vault1")
    answer = driver.call("PUT", vault, body)
    assert (answer.status, answer.body["properties"]["provisioningState"]) == (201, "Provisioning")
    assert "location" not in answer.headers
    assert driver.get(answer.headers["azure-asyncoperation"])["status"] == "InProgress"
    driver.wait(90)
    assert driver.get(answer.headers["azure-asyncoperation"])["status"] == "Succeeded"
    properties = driver.get(vault)["properties"]
    assert properties["provisioningState"] == "Succeeded"
    assert properties["securitySettings"]["softDeleteSettings"]["enhancedSecurityState"] == "AlwaysON"


# ---- recovery points


def shorter(driver: Driver, days: int) -> dict[str, Any]:
    """The policy with another retention of its fulls."""
    properties = copy.deepcopy(driver.get(f"/backupPolicies/{POLICY}")["properties"])
    properties["subProtectionPolicy"][0]["retentionPolicy"]["dailySchedule"]["retentionDuration"]["count"] = (
        days
    )
    return {"properties": properties}


def listed(driver: Driver, *, soft_deleted_too: bool = False) -> dict[str, bool]:
    query = "?$filter=includeSoftDeletedRP eq 'True'" if soft_deleted_too else ""
    return {
        point["name"]: point["properties"]["recoveryPointProperties"]["isSoftDeleted"]
        for point in driver.points(query=query)[:-1]
    }


def test_a_shorter_retention_soft_deletes_points_and_a_longer_one_brings_them_back() -> None:
    driver = Driver(estate({"name": "orders", "historyDays": 20}))
    before = listed(driver)
    assert len(before) == 20
    assert driver.call("PUT", f"/backupPolicies/{POLICY}", shorter(driver, 7)).status == 202
    driver.wait(80)
    assert len(listed(driver)) == 7
    assert sorted(listed(driver, soft_deleted_too=True).values()) == [False] * 7 + [True] * 13
    (oldest, *_) = (name for name, gone in listed(driver, soft_deleted_too=True).items() if gone)
    assert driver.restore(oldest, recoveryType="OriginalLocation").status == 400
    driver.call("PUT", f"/backupPolicies/{POLICY}", shorter(driver, 60))
    driver.wait(80)
    assert listed(driver) == before


def test_soft_deleted_points_are_gone_after_the_days_of_the_vault() -> None:
    scenario = estate({"name": "orders", "historyDays": 20})
    driver = Driver({**scenario, "vaults": [{"softDeleteRetentionDays": 30}]})
    driver.call("PUT", f"/backupPolicies/{POLICY}", shorter(driver, 7))
    driver.wait(80)
    driver.wait(days=29)
    assert True in listed(driver, soft_deleted_too=True).values()
    driver.wait(days=1)
    assert True not in listed(driver, soft_deleted_too=True).values()


def test_points_that_a_user_asked_to_keep_are_kept_whatever_the_policy_says() -> None:
    driver = Driver(estate({"name": "orders"}))
    driver.backup(recoveryPointExpiryTimeInUTC="2026-12-31T00:00:00Z")
    driver.wait(days=20)
    driver.call("PUT", f"/backupPolicies/{POLICY}", shorter(driver, 7))
    driver.wait(80)
    assert len(driver.points()) == 2


def test_states_of_recovery_points_that_are_not_restored() -> None:
    database = {"name": "orders", "historyDays": 5, "vaultTierDeletedAfterDays": 3, "threatsWithinDays": 2}
    driver = Driver(estate(database))
    found = [point["properties"] for point in driver.points()[:-1]]
    states = [(point["recoveryPointTierDetails"][0]["status"], point.get("threatStatus")) for point in found]
    assert states == [("Valid", "UnHealthy")] * 2 + [("Valid", None)] + [("Deleted", None)] * 2
    assert found[0]["threatInfo"][0]["threatSeverity"] == "High"
    gone = driver.points()[-2]["name"]
    assert driver.restore(gone, recoveryType="OriginalLocation").code == "UserErrorRecoveryPointDeleted"
