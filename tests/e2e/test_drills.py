"""Restore drills end to end: restored, checked, dropped, one after the other, and nothing else touched."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest

from local.estate import JsonObject
from shared.clock import ServiceTime
from tests.e2e.drills import (
    DRILL_VM,
    TARGET,
    databases_on,
    drill,
    drill_estate,
    drill_machine,
    machine_of,
    restore_to_be_made,
    settings,
    source,
)
from tests.e2e.harness import INSTANCE, Estate, OpenEstate, message_to, statuses

HOSTILE = "x'];--$(Get-Date);`n\"%^&|<>" + "ü" * 101


def only(outcomes: list[JsonObject]) -> JsonObject:
    (outcome,) = outcomes
    found: JsonObject = outcome["data"]
    return found


def run_commands(estate: Estate) -> list[JsonObject]:
    """The scripts that were asked for, as the ledger has them."""
    return [entry for entry in estate.simulator.ledger_entries if entry["route"] == "PutRunCommand"]


def test_a_drill_restores_checks_and_drops(estate: OpenEstate) -> None:
    it = estate(drill_estate("orders"), settings())
    data = only(it.run(drill(it, "orders")))
    assert data["status"] == "succeeded"
    proved = data["drill"]
    assert proved["checkErrors"] == 0
    assert proved["cleanedUp"] is True
    assert proved["restoreSeconds"] == 272
    assert proved["measuredRtoSeconds"] == pytest.approx(272 + proved["checkSeconds"])
    restored_to = datetime.fromisoformat(data["recoveryPoint"]["time"])
    began = it.simulator.scenario.start_time
    assert proved["achievedRpoSeconds"] == pytest.approx((began - restored_to).total_seconds(), abs=60)
    assert databases_on(it) == {"master"}
    assert it.mutations["Restore"] == 1


def test_a_drill_goes_to_its_own_name_and_directories(estate: OpenEstate) -> None:
    target = {**TARGET, "dataDirectory": "H:\\drills", "logDirectory": "I:\\drills"}
    it = estate(drill_estate("orders"), settings(target))
    data = only(it.run(drill(it, "orders", cleanUp=False)))
    name = data["target"]["database"]
    assert name.startswith("drill_orders_")
    assert databases_on(it) == {"master", name}
    assert data["drill"] == {**data["drill"], "database": name, "cleanedUp": False}
    restored = machine_of(it, "drills1").instances[INSTANCE.lower()].databases[name.lower()]
    assert sorted(path[:10] for _, _, path in restored.files) == ["H:\\drills\\", "I:\\drills\\"]


def test_what_a_drill_left_is_replaced_by_the_next(estate: OpenEstate) -> None:
    it = estate(drill_estate("orders"), settings())
    left = only(it.run(drill(it, "orders", cleanUp=False)))["target"]["database"]
    data = only(it.run(drill(it, "orders")))
    assert data["status"] == "succeeded"
    assert data["target"]["database"] == left
    assert databases_on(it) == {"master"}


def test_drills_of_a_request_are_done_one_after_the_other(estate: OpenEstate) -> None:
    it = estate(drill_estate("orders", "billing", "stock"), settings())
    outcomes = it.run(drill(it))
    assert statuses(outcomes) == {"succeeded": 3}
    assert {outcome["data"]["outcomeCount"] for outcome in outcomes} == {3}
    order = [
        (entry["route"], entry["time"])
        for entry in it.simulator.ledger_entries
        if entry["route"] in ("Restore", "PutRunCommand")
    ]
    assert [route for route, _ in order] == ["Restore", "PutRunCommand", "PutRunCommand"] * 3


def test_two_requests_do_not_drill_on_one_instance_at_a_time(estate: OpenEstate) -> None:
    it = estate(drill_estate("orders", "billing"), settings())
    first = it.send(drill(it, "orders"))
    it.step_until(lambda: it.mutations["Restore"] == 1)
    second = it.send(drill(it, "billing"))
    it.finish(first)
    it.finish(second)
    routes = [
        entry["route"]
        for entry in it.simulator.ledger_entries
        if entry["route"] in ("Restore", "PutRunCommand")
    ]
    assert routes[:2] == ["Restore", "PutRunCommand"]
    assert sorted(routes) == sorted(["Restore", "PutRunCommand", "PutRunCommand"] * 2)


def test_a_damaged_backup_is_found_and_named(estate: OpenEstate) -> None:
    it = estate(drill_estate(source("orders", corrupt=True)), settings())
    data = only(it.run(drill(it, "orders")))
    assert data["status"] == "failed"
    assert data["error"]["code"] == "DrillCheckFailed"
    assert data["drill"]["checkErrors"] == 2
    assert data["drill"]["checkErrorNumbers"] == [8939, 8928]
    assert data["drill"]["restoreSeconds"] == 272
    assert data["drill"]["cleanedUp"] is True
    assert databases_on(it) == {"master"}


def test_a_name_of_any_kind_reaches_the_script_whole(estate: OpenEstate) -> None:
    assert len(HOSTILE) == 128
    it = estate(drill_estate(HOSTILE), settings())
    data = only(it.run(drill(it)))
    assert data["status"] == "succeeded", data
    for entry in run_commands(it):
        for parameter in entry["body"]["properties"]["parameters"]:
            assert parameter["value"].replace("-", "").replace("_", "").isalnum()
            assert parameter["value"].isascii()
    assert databases_on(it) == {"master"}


@pytest.mark.parametrize(
    ("targets", "code"),
    [
        ([], "TargetNotAllowed"),
        ([{**TARGET, "instance": "OTHER"}], "TargetNotAllowed"),
        ([{**TARGET, "vmId": DRILL_VM.replace("drills1", "sqlvm1")}], "TargetNotAllowed"),
    ],
    ids=["unset", "another instance", "another VM"],
)
def test_a_target_that_is_not_listed_is_rejected_and_nothing_is_sent(
    estate: OpenEstate, targets: list[JsonObject], code: str
) -> None:
    it = estate(drill_estate("orders"), {"DRILL_TARGETS": json.dumps(targets)})
    data = only(it.run(drill(it, "orders")))
    assert (data["status"], data["error"]["code"]) == ("rejected", code)
    assert not it.mutations


def test_a_target_that_holds_a_protected_database_is_rejected_and_nothing_is_sent(estate: OpenEstate) -> None:
    it = estate(drill_estate("orders", drills=drill_machine("master", source("wages"))), settings())
    data = only(it.run(drill(it, "orders")))
    assert (data["status"], data["error"]["code"]) == ("rejected", "DrillTargetInUse")
    assert "MSSQLSERVER/wages" in data["error"]["message"]
    assert not it.mutations


def test_a_database_that_is_protected_there_meanwhile_stops_the_drill(estate: OpenEstate) -> None:
    it = estate(drill_estate("orders", drills=drill_machine("master", "wages")), settings())
    sent = it.send(drill(it, "orders"))
    it.step_until(lambda: it.mutations["Restore"] == 1)
    it.run(it.protect("wages", vm="drills1"))
    (outcome,) = it.finish(sent)
    data = outcome["data"]
    assert data["error"]["code"] == "DrillTargetInUse"
    assert not run_commands(it)
    assert data["target"]["database"] in databases_on(it)


@pytest.mark.parametrize(("there", "made"), [("wages", 1), (source("wages"), 0)])
def test_a_restore_that_was_prepared_is_not_made_where_a_database_is_protected(
    estate: OpenEstate, there: str | JsonObject, made: int
) -> None:
    it = estate(drill_estate("orders", drills=drill_machine("master", there)), settings())
    body = json.dumps(restore_to_be_made()).encode()
    it.broker.send("trigger-restore", [message_to("trigger-restore", body, "forged")])
    it.settle()
    assert it.mutations["Restore"] == made
    assert {event["data"].get("error", {}).get("code") for event in it.events()} >= (
        set() if made else {"DrillTargetInUse"}
    )


def test_a_long_check_leaves_the_vaults_reads_to_others(
    estate: OpenEstate, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = [put_fault("scriptNeverEnds")]
    it = estate(drill_estate("orders", "billing", faults=faults), settings())
    lists: Counter[str] = Counter()
    for name in ("list_protected_items", "list_registered_containers"):
        asked = getattr(it.runtime.backup, name)

        def counted(*arguments: Any, name: str = name, asked: Any = asked) -> Any:
            lists[name] += 1
            return asked(*arguments)

        monkeypatch.setattr(it.runtime.backup, name, counted)
    sent = it.send(drill(it, "orders", jobTimeout="PT6H", cleanUp=False))
    it.step_until(lambda: len(run_commands(it)) == 1)
    waiting = it.send(drill(it, "billing"))
    lists.clear()
    it.finish(sent)
    it.finish(waiting)
    assert ServiceTime(it.clock.now()) - ServiceTime(it.simulator.scenario.start_time) > timedelta(hours=6)
    assert lists
    assert max(lists.values()) < 20, lists


def test_the_source_itself_is_no_target(estate: OpenEstate) -> None:
    here = {"vmId": DRILL_VM.replace("drills1", "sqlvm1"), "instance": INSTANCE}
    it = estate(drill_estate("orders"), settings(here))
    data = only(it.run(drill(it, "orders", target=here)))
    assert (data["status"], data["error"]["code"]) == ("rejected", "DrillTargetInUse")
    assert not it.mutations


def test_drills_are_taken_from_their_own_queue_alone(estate: OpenEstate) -> None:
    it = estate(drill_estate("orders"), settings(EVENTS_ALLOW_RESTORE="true"))
    request = drill(it, "orders")
    it.broker.send("events", [message_to("events", json.dumps(request).encode(), "one")])
    it.settle()
    (event,) = it.events()
    assert event["type"] == "sqlvmbackup.request.rejected.v1"
    assert "drill-requests" in event["data"]["error"]["message"]
    assert not it.mutations


def without(route: str) -> JsonObject:
    """A right that is missing."""
    return {
        "route": route,
        "probability": 1,
        "fault": "status",
        "status": 403,
        "code": "AuthorizationFailed",
        "message": "The client does not have authorization to perform action"
        " 'Microsoft.Compute/virtualMachines/runCommands/write'.",
    }


def test_without_the_right_to_run_commands_a_drill_without_a_check_works(estate: OpenEstate) -> None:
    it = estate(
        drill_estate("orders", faults=[without("PutRunCommand"), without("DeleteRunCommand")]), settings()
    )
    data = only(it.run(drill(it, "orders", check="none", cleanUp=False)))
    assert data["status"] == "succeeded"
    assert data["drill"]["restoreSeconds"] == 272
    data = only(it.run(drill(it, "orders", check="none")))
    assert data["status"] == "succeededWithWarnings"
    assert "NotAuthorised" in data["warnings"][0]
    assert data["drill"]["cleanedUp"] is False


def test_without_the_right_to_run_commands_a_check_is_one_clear_outcome(estate: OpenEstate) -> None:
    it = estate(drill_estate("orders", faults=[without("PutRunCommand")]), settings())
    data = only(it.run(drill(it, "orders")))
    assert (data["status"], data["error"]["code"]) == ("failed", "NotAuthorised")
    assert "runCommands/write" in data["error"]["message"]
    assert data["drill"]["restoreSeconds"] == 272


def test_without_the_grant_nothing_is_proven(estate: OpenEstate) -> None:
    it = estate(drill_estate("orders", drills=drill_machine(systemIsSysadmin=False)), settings())
    data = only(it.run(drill(it, "orders")))
    assert (data["status"], data["error"]["code"]) == ("failed", "DrillNotPermitted")
    assert "sysadmin" in data["error"]["recommendations"][0]
    assert data["drill"]["cleanedUp"] is False


@pytest.mark.parametrize(
    ("drills", "databases", "code"),
    [
        (
            drill_machine(),
            [source("orders", encryptedBy="tde")],
            "UserErrorCannotFindServerCertificateWithThumbprint",
        ),
        (drill_machine(freeMB=10), [source("orders", sizeMB=20)], "WorkloadRestoreFailed"),
    ],
    ids=["certificate", "full disk"],
)
def test_a_restore_that_fails_says_why_in_the_services_words(
    estate: OpenEstate, drills: JsonObject, databases: list[JsonObject], code: str
) -> None:
    it = estate(drill_estate(*databases, drills=drills), settings())
    data = only(it.run(drill(it, "orders")))
    assert (data["status"], data["error"]["code"]) == ("failed", code)
    assert not run_commands(it)


def test_a_certificate_that_is_there_will_do(estate: OpenEstate) -> None:
    drills = drill_machine(certificates=["TDE"])
    it = estate(drill_estate(source("orders", encryptedBy="tde"), drills=drills), settings())
    assert only(it.run(drill(it, "orders")))["status"] == "succeeded"


def test_what_is_too_large_or_of_unknown_size_is_skipped(estate: OpenEstate) -> None:
    databases = [source("huge", sizeMB=200_000), source("young", historyDays=0), source("orders")]
    it = estate(drill_estate(*databases), settings())
    outcomes = it.run(drill(it, "huge", "orders"))
    found = {outcome["data"]["database"]: outcome["data"] for outcome in outcomes}
    assert found["huge"]["status"] == "skipped"
    assert found["huge"]["error"]["code"] == "DrillTooLarge"
    assert "195.3 GB" in found["huge"]["error"]["message"]
    assert found["orders"]["status"] == "succeeded"


def test_system_databases_are_never_drilled(estate: OpenEstate) -> None:
    it = estate(drill_estate(source("master"), "orders"), settings())
    assert only(it.run(drill(it)))["database"] == "orders"
    data = only(it.run(drill(it, "master")))
    assert (data["status"], data["error"]["code"]) == ("failed", "SystemDatabase")
    assert it.mutations["Restore"] == 1


# -- run commands that do not do what they should


def put_fault(name: str, **details: Any) -> JsonObject:
    return {"route": "PutRunCommand", "nth": 1, "fault": name, **details}


@pytest.mark.parametrize("fault", ["scriptFailure", "scriptMisleads"])
def test_only_the_scripts_own_line_is_a_result(estate: OpenEstate, fault: str) -> None:
    it = estate(drill_estate("orders", faults=[put_fault(fault)]), settings())
    data = only(it.run(drill(it, "orders")))
    assert (data["status"], data["error"]["code"]) == ("failed", "RunCommandFailed")
    assert "checkErrors" not in data["drill"]
    assert databases_on(it) == {"master"}, "it is cleaned up all the same"


def test_a_script_that_hangs_is_followed_for_its_time_and_the_next_drill_waits_for_it(
    estate: OpenEstate,
) -> None:
    it = estate(drill_estate("orders", "billing", faults=[put_fault("scriptNeverEnds")]), settings())
    data = only(it.run(drill(it, "orders", jobTimeout="PT3H")))
    assert (data["status"], data["error"]["code"]) == ("failed", "RunCommandFailed")
    assert "TimedOut" in data["error"]["message"]
    assert run_commands(it)[0]["body"]["properties"]["timeoutInSeconds"] == 3 * 3600
    assert only(it.run(drill(it, "billing")))["status"] == "succeeded"


def test_an_agent_that_is_not_ready_is_one_clear_outcome(estate: OpenEstate) -> None:
    it = estate(drill_estate("orders", drills=drill_machine(agentReady=False)), settings())
    data = only(it.run(drill(it, "orders")))
    assert (data["status"], data["error"]["code"]) == ("failed", "RunCommandNotStarted")


def test_leftovers_of_the_app_go_and_those_of_others_stay(estate: OpenEstate) -> None:
    drills = drill_machine(runCommands=["sqlvmbackup-drill-0123", "theirs"])
    faults = [{"route": "DeleteRunCommand", "nth": 1, "fault": "deleteFails"}]
    it = estate(drill_estate("orders", drills=drills, faults=faults), settings())
    assert only(it.run(drill(it, "orders")))["status"] == "succeeded"
    left = machine_of(it, "drills1").run_commands
    assert "theirs" in left
    assert "sqlvmbackup-drill-0123" not in left
    assert len(left) == 2


def test_a_vm_that_has_all_the_run_commands_it_may_have_is_one_clear_outcome(estate: OpenEstate) -> None:
    drills = drill_machine(runCommands=[f"theirs-{number}" for number in range(25)])
    it = estate(drill_estate("orders", drills=drills), settings())
    data = only(it.run(drill(it, "orders")))
    assert data["status"] == "failed"
    assert "max=25" in data["error"]["message"]


# -- whose turn it is


def test_those_whose_last_drill_is_longest_ago_have_their_turn(estate: OpenEstate) -> None:
    names = [f"db{number}" for number in range(6)]
    it = estate(drill_estate(*names), settings())
    turns: list[set[str]] = []
    for _ in range(3):
        outcomes = it.run(drill(it, count=2))
        assert statuses(outcomes) == {"succeeded": 2}
        turns.append({outcome["data"]["database"] for outcome in outcomes})
        it.clock.advance(timedelta(days=1))
    assert set.union(*turns) == set(names)
    accepted = [event["data"] for event in it.events() if event["data"]["status"] == "accepted"]
    assert [each["skipped"] for each in accepted] == [{"notItsTurn": 4}] * 3


def test_a_schedule_plans_drills_and_they_are_done(estate: OpenEstate) -> None:
    from shared.intake.planning import plan_drills

    schedule = {
        "name": "nightly",
        "schedule": "0 0 1 * * *",
        "vaultId": "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-backup"
        "/providers/Microsoft.RecoveryServices/vaults/vault1",
        "databases": [{"instance": "*", "database": "*"}],
        "count": 1,
        "target": TARGET,
    }
    it = estate(drill_estate("orders"), settings(DRILL_SCHEDULES=json.dumps([schedule])))
    assert plan_drills(it.runtime) == 1
    assert plan_drills(it.runtime) == 1
    it.settle(within=timedelta(days=2))
    outcomes = [event for event in it.events() if event["type"] == "sqlvmbackup.drill.succeeded.v1"]
    assert len(outcomes) == 1
    assert outcomes[0]["data"]["schedule"] == "nightly"
