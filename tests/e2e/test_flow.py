"""Protect, back up and restore, from request to outcome."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.e2e.harness import POLICY, OpenEstate, statuses, virtual_machine

FIFTY = [f"db{number:02}" for number in range(50)]


def test_fifty_databases_are_protected_backed_up_and_one_restored(estate: OpenEstate) -> None:
    azure = estate({"virtualMachines": [virtual_machine("sqlvm1", "master", "model", "msdb", *FIFTY)]})
    request = azure.protect()
    outcomes = azure.run(request)
    outcomes += azure.run(azure.backup())
    configured = azure.mutations
    outcomes += azure.run(azure.restore("db07", "db07_restored"))
    again = azure.run({**request, "id": "protect-again"})
    assert statuses(again) == {"succeeded": 50}
    assert {outcome["data"]["protectionState"] for outcome in again} == {"Protected"}
    for route in ("Register", "ConfigureBackup"):
        assert azure.mutations[route] == configured[route]
    assert statuses(outcomes) == {"succeeded": 101}
    assert {outcome["data"]["outcomeCount"] for outcome in outcomes} == {50, 1}
    assert len({outcome["data"]["job"]["id"] for outcome in outcomes}) == 101
    expected = {"Register": 1, "ConfigureBackup": 50, "Backup": 50, "Restore": 1}
    assert {route: azure.mutations[route] for route in expected} == expected
    assert configured["Inquire"] == 1


def test_a_pattern_finds_what_was_made_since_the_vm_was_registered(estate: OpenEstate) -> None:
    azure = estate({"virtualMachines": [virtual_machine("sqlvm1", "orders")]})
    request = azure.protect()
    azure.run(request)
    azure.run(azure.backup())
    azure.run(azure.restore("orders", "orders_copy"))
    named = azure.run({**azure.protect("orders_copy"), "id": "by-name"})
    assert statuses(named) == {"succeeded": 1}, "a name is looked for at once"
    azure.run(azure.restore("orders", "orders_second_copy"))
    azure.clock.advance(timedelta(hours=4))
    later = azure.run({**request, "id": "by-pattern"})
    assert {outcome["data"]["database"] for outcome in later} == {
        "orders",
        "orders_copy",
        "orders_second_copy",
    }
    assert statuses(later) == {"succeeded": 3}


def test_twelve_hours_pass_in_a_moment(estate: OpenEstate) -> None:
    azure = estate(
        {
            "virtualMachines": [
                virtual_machine("sqlvm1", {"name": "orders", "protectedBy": POLICY}, registeredTo="vault1")
            ],
            "durations": {"backup": 12 * 3600},
        },
        {"TRACK_INTERVAL": "PT10M"},
    )
    began = azure.clock.now()
    (outcome,) = azure.run(azure.backup("orders"))
    assert outcome["data"]["status"] == "succeeded"
    assert outcome["data"]["durationSeconds"] == pytest.approx(12 * 3600, abs=1)
    assert azure.clock.now() - began >= timedelta(hours=12)
    # A poll every ten minutes, and little else.
    assert len(azure.simulator.access_entries) < 100
