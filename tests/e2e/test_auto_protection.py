"""Auto-protection by a protect request: the instance's intent, made once, and what becomes of databases to come."""

from __future__ import annotations

from datetime import timedelta

import pytest

from local.estate import JsonObject
from tests.e2e.harness import POLICY, OpenEstate, by_database, virtual_machine

APPEARS: JsonObject = {
    "at": "2026-01-05T12:00:00Z",
    "event": "databaseAppears",
    "virtualMachine": "sqlvm1",
    "database": {"name": "later"},
}


def scenario(**more: object) -> JsonObject:
    return {"scheduledBackups": False, "virtualMachines": [virtual_machine("sqlvm1", "orders")], **more}


def test_an_instance_is_auto_protected_beside_its_databases(estate: OpenEstate) -> None:
    azure = estate(scenario(timeline=[APPEARS]))
    outcomes = by_database(azure.run(azure.protect("*", autoProtect=["MSSQL*"])))
    assert {name: data["status"] for name, data in outcomes.items()} == {
        "orders": "succeeded",
        "*": "succeeded",
    }
    assert outcomes["*"]["protectionState"] == "AutoProtected"
    assert {data["outcomeCount"] for data in outcomes.values()} == {2}
    assert azure.mutations["PutProtectionIntent"] == 1
    azure.clock.advance(timedelta(hours=14))
    (survey,) = azure.run(azure.coverage())
    assert "unprotected" not in survey["data"]["coverage"]["counts"], (
        "the service has protected what came later"
    )


def test_asked_again_it_is_the_same_intent(estate: OpenEstate) -> None:
    azure = estate(scenario())
    for _ in range(2):
        outcomes = by_database(azure.run(azure.protect("*", autoProtect=["MSSQLSERVER"])))
        assert outcomes["*"]["status"] == "succeeded"
    assert azure.mutations["PutProtectionIntent"] == 1


@pytest.mark.parametrize(
    ("on_existing", "status", "calls"),
    [("fail", "failed", 1), ("keep", "succeeded", 1), ("changePolicy", "succeeded", 2)],
)
def test_another_policy_is_kept_or_changed_as_the_request_says(
    on_existing: str, status: str, calls: int, estate: OpenEstate
) -> None:
    azure = estate(scenario(vaults=[{"policies": [POLICY, "Nightly"]}]))
    azure.run(azure.protect("*", autoProtect=["MSSQLSERVER"]))
    again = azure.protect("*", autoProtect=["MSSQLSERVER"], policyName="Nightly", onExisting=on_existing)
    outcomes = by_database(azure.run(again))
    assert outcomes["*"]["status"] == status
    intents = [e for e in azure.simulator.ledger_entries if e["route"] == "PutProtectionIntent"]
    assert len(intents) == calls
    assert len({entry["item"] for entry in intents}) == 1, "a second intent would have been made"


def test_an_instance_that_is_not_there_fails_by_itself(estate: OpenEstate) -> None:
    azure = estate(scenario())
    outcomes = azure.run(azure.protect("*", autoProtect=["SQL2019"]))
    codes = {one["data"]["instance"]: one["data"].get("error", {}).get("code") for one in outcomes}
    assert codes == {"MSSQLSERVER": None, "SQL2019": "InstanceNotFound"}


def test_an_answer_that_was_lost_is_looked_up(estate: OpenEstate) -> None:
    lost = {"route": "PutProtectionIntent", "nth": 1, "fault": "dropAfterEffect"}
    azure = estate(scenario(faults=[lost]))
    outcomes = by_database(azure.run(azure.protect("*", autoProtect=["MSSQLSERVER"])))
    assert outcomes["*"]["status"] == "succeeded"
    assert azure.mutations["PutProtectionIntent"] == 1
