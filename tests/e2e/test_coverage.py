"""Coverage end to end: what is told of the databases of a vault, and what is done about those in a gap."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from local.estate import JsonObject
from shared.arm.errors import ArmStatusError
from tests.e2e.drills import DRILL_VM
from tests.e2e.harness import INSTANCE, POLICY, Estate, OpenEstate, virtual_machine

START = "2026-01-05T08:00:00Z"  # a Monday
VM = (
    "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-sql/providers"
    "/Microsoft.Compute/virtualMachines/sqlvm1"
)


def covered(name: str, **details: Any) -> JsonObject:
    return {"name": name, "protectedBy": POLICY, "historyDays": 2, **details}


def scenario(*databases: str | JsonObject, **more: Any) -> JsonObject:
    machine = more.pop("machine", {})
    listed = [covered(one) if isinstance(one, str) else one for one in databases]
    return {
        "virtualMachines": [virtual_machine("sqlvm1", *listed, registeredTo="vault1", **machine)],
        **more,
    }


def refused(status: int) -> ArmStatusError:
    return ArmStatusError(
        status=status,
        code="Refused",
        message="no",
        retry_after=None,
        operation="read",
        method="GET",
        path="/",
        client_request_id=None,
    )


def gaps(azure: Estate) -> list[JsonObject]:
    return [event for event in azure.events() if event["type"] == "sqlvmbackup.coverage.gap.v1"]


def told(azure: Estate) -> Counter[tuple[str, str]]:
    return Counter((event["data"].get("database", "*"), event["data"]["state"]) for event in gaps(azure))


def repairs(azure: Estate) -> list[JsonObject]:
    return [
        event["data"]
        for event in azure.events()
        if event["data"].get("requestSource") == "sql-vm-backup-functions/coverage"
        and event["type"].split(".")[2] not in ("accepted", "started", "gap")
    ]


PROTECT: JsonObject = {"onUnprotected": {"protect": {"policyName": POLICY}}}
BACK_UP: JsonObject = {"onStale": {"backup": {"backupType": "Full"}}}


def test_what_is_covered_and_what_is_not_is_told_once(estate: OpenEstate) -> None:
    azure = estate(scenario("orders", "billing", "sales", {"name": "new"}))
    (outcome,) = azure.run(azure.coverage())
    data = outcome["data"]
    assert (data["status"], data["outcomeKey"]) == ("succeeded", azure.vault_id.lower())
    assert data["coverage"]["counts"] == {"unprotected": 1, "covered": 3}
    assert [gap["database"] for gap in data["coverage"]["gaps"]] == ["new"]
    assert outcome["source"] == azure.vault_id.lower()
    (gap,) = gaps(azure)
    assert (gap["data"]["state"], gap["data"]["database"]) == ("unprotected", "new")
    assert gap["data"]["recommendations"]
    assert azure.mutations == {"Inquire": 1}
    azure.run(azure.coverage())
    assert len(gaps(azure)) == 1, "another request finds the same gap, which is told once"
    assert azure.mutations == {"Inquire": 1}, "a VM is inquired once a day"


def test_drill_databases_are_no_gap_and_no_rule_protects_them(estate: OpenEstate) -> None:
    target = {"vmId": DRILL_VM, "instance": INSTANCE}
    drills = virtual_machine(
        "drills1",
        "drill_orders_0123abcd",
        "wages",
        covered("stock"),
        covered("ledger"),
        registeredTo="vault1",
    )
    machines = [*scenario("orders")["virtualMachines"], drills]
    azure = estate({"virtualMachines": machines}, {"DRILL_TARGETS": json.dumps([target])})
    azure.run(azure.coverage(**PROTECT))
    azure.settle()
    assert told(azure) == {("wages", "unprotected"): 1}
    assert [repair["database"] for repair in repairs(azure)] == ["wages"]


def test_a_database_that_appears_is_found_and_protected_by_the_rule(estate: OpenEstate) -> None:
    appears = {"at": "2026-01-05T09:00:00Z", "event": "databaseAppears", "virtualMachine": "sqlvm1"}
    azure = estate(scenario("orders", "billing", timeline=[{**appears, "database": {"name": "new"}}]))
    azure.clock.advance(timedelta(hours=2))
    (outcome,) = azure.run(azure.coverage(**PROTECT))
    assert outcome["data"]["coverage"]["repairs"] == {"protect": 1}
    azure.settle()
    (repair,) = repairs(azure)
    assert (repair["operation"], repair["status"], repair["database"]) == ("protect", "succeeded", "new")
    (gap,) = gaps(azure)
    assert gap["data"]["repair"]["requestId"] == repair["requestId"]


def test_a_backup_is_taken_of_what_failed_once_a_day(estate: OpenEstate) -> None:
    failure = {"database": "orders", "kinds": ["Full"], "code": "UserErrorBackupFailedAsTransactionLogIsFull"}
    azure = estate(scenario("orders", "billing", "sales", scheduledFailures=[failure]))
    azure.clock.advance(timedelta(hours=20))
    first = azure.coverage(**BACK_UP)
    (outcome,) = azure.run(first)
    azure.settle(within=timedelta(hours=1))
    assert outcome["data"]["coverage"]["repairs"] == {"backup": 1}
    (repair,) = repairs(azure)
    assert (repair["operation"], repair["status"], repair["database"]) == ("backup", "succeeded", "orders")
    (gap,) = gaps(azure)
    assert (gap["data"]["state"], gap["data"]["code"]) == (
        "failing",
        "UserErrorBackupFailedAsTransactionLogIsFull",
    )
    azure.run(azure.coverage(**BACK_UP))
    azure.settle(within=timedelta(hours=1))
    assert azure.mutations["Backup"] == 1


def test_nothing_is_changed_while_mutations_are_off(estate: OpenEstate) -> None:
    azure = estate(scenario("orders", "billing", "sales", {"name": "new"}), {"MUTATIONS": "off"})
    (outcome,) = azure.run(azure.coverage(**PROTECT, **BACK_UP))
    azure.settle()
    assert outcome["data"]["coverage"]["held"] == {"MutationsOff": 1}
    outcomes = [azure.run(azure.protect("new"))[0], azure.run(azure.backup("orders"))[0]]
    outcomes += azure.run(azure.restore("orders", "copy"))
    assert {(one["data"]["status"], one["data"]["error"]["code"]) for one in outcomes} == {
        ("rejected", "MutationsOff")
    }
    assert azure.mutations == {}
    assert not [entry for entry in azure.simulator.access_entries if entry["method"] != "GET"]


@pytest.mark.parametrize(
    ("databases", "machine"),
    [
        ([covered("orders"), covered("billing")], {"running": False}),
        ([covered("orders"), {"name": "one"}, {"name": "two"}], {}),
    ],
    ids=["stopped", "most in a gap"],
)
def test_a_vm_in_trouble_is_one_gap_and_is_not_repaired(
    databases: list[JsonObject], machine: JsonObject, estate: OpenEstate
) -> None:
    azure = estate(scenario(*databases, machine=machine))
    azure.clock.advance(timedelta(hours=12))
    azure.run(azure.coverage(**PROTECT, **BACK_UP))
    azure.settle(within=timedelta(hours=1))
    assert told(azure) == {("*", "virtualMachine"): 1}
    assert set(azure.mutations) <= {"Inquire"}


def test_vaults_of_a_subscription_and_machines_that_no_vault_knows(estate: OpenEstate) -> None:
    both = scenario("orders")
    both["vaults"] = [{"name": "vault1"}, {"name": "vault2"}]
    both["virtualMachines"].append(virtual_machine("stray", "ledger"))
    azure = estate(both)
    request = azure.coverage()
    request["data"] = {"subscriptionIds": [azure.simulator.subscription_id]}
    outcomes = azure.run(request)
    assert {one["data"]["outcomeKey"].rpartition("/")[2] for one in outcomes} == {"vault1", "vault2"}
    (gap,) = gaps(azure)
    assert gap["data"]["vmId"].endswith("/stray")
    assert gap["data"]["code"] == "NotRegistered"


def test_a_vault_that_is_not_there_is_its_own_failure(estate: OpenEstate) -> None:
    azure = estate(scenario("orders"))
    request = azure.coverage()
    request["data"]["vaultIds"].append(azure.vault_id.replace("vault1", "nowhere"))
    outcomes = {one["data"]["outcomeKey"].rpartition("/")[2]: one["data"] for one in azure.run(request)}
    assert outcomes["vault1"]["status"] == "succeeded"
    assert outcomes["nowhere"]["error"]["code"] == "VaultNotFound"


def test_what_drills_have_restored_is_no_gap_and_is_not_protected(estate: OpenEstate) -> None:
    azure = estate(
        scenario("orders", {"name": "drill_orders_0123abcd"}, {"name": "new"}),
        {"DRILL_TARGETS": json.dumps([{"vmId": VM, "instance": "MSSQLSERVER"}])},
    )
    (outcome,) = azure.run(azure.coverage(**PROTECT))
    assert outcome["data"]["coverage"]["counts"] == {"unprotected": 1, "covered": 1}
    azure.settle()
    assert [repair["database"] for repair in repairs(azure)] == ["new"]


def test_what_fails_and_has_no_good_backup_is_told_once(
    estate: OpenEstate, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = {"database": "orders", "kinds": ["Full"], "code": "UserErrorBackupFailedAsTransactionLogIsFull"}
    azure = estate(scenario("orders", "billing", "sales", scheduledFailures=[failure]))
    azure.clock.advance(timedelta(hours=20))
    # All that there was has expired.
    monkeypatch.setattr(azure.runtime.backup, "list_recovery_points", lambda _item: [])
    azure.run(azure.coverage())
    assert told(azure) == {("orders", "failing"): 1}
    azure.run(azure.coverage())
    assert told(azure) == {("orders", "failing"): 1}


def test_what_is_deleted_while_it_is_looked_at_fails_no_survey(
    estate: OpenEstate, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = {"database": "orders", "kinds": ["Full"], "code": "UserErrorBackupFailedAsTransactionLogIsFull"}
    azure = estate(scenario("orders", "billing", "sales", scheduledFailures=[failure]))
    azure.clock.advance(timedelta(hours=20))

    def gone(_item: object) -> list[object]:
        raise refused(404)

    monkeypatch.setattr(azure.runtime.backup, "list_recovery_points", gone)
    (outcome,) = azure.run(azure.coverage())
    assert outcome["data"]["status"] == "succeeded"


def test_a_request_for_one_database_judges_its_vm_by_all_of_them(estate: OpenEstate) -> None:
    azure = estate(scenario("orders", "billing", {"name": "new"}))
    request = azure.coverage(**PROTECT)
    request["data"]["databases"] = [{"instance": "*", "database": "new"}]
    (outcome,) = azure.run(request)
    azure.settle()
    assert outcome["data"]["coverage"]["repairs"] == {"protect": 1}
    assert told(azure) == {("new", "unprotected"): 1}
