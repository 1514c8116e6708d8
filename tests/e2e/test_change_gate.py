"""The change gate: a backup before a change, unless there is a young one, and the way back from the change."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cli.restore_requests import restore_requests
from local.estate import JsonObject
from tests.e2e.harness import POLICY, OpenEstate, virtual_machine


def scenario(*databases: str, **more: object) -> JsonObject:
    listed = [{"name": name, "protectedBy": POLICY, "historyDays": 2, **more} for name in databases]
    return {
        "scheduledBackups": False,
        "virtualMachines": [virtual_machine("sqlvm1", *listed, registeredTo="vault1")],
    }


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def test_what_is_young_enough_is_skipped_and_says_where_it_can_go_back_to(estate: OpenEstate) -> None:
    azure = estate(scenario("orders"))
    (outcome,) = azure.run(azure.backup("orders", backup_type="CopyOnlyFull", unlessNewerThan="PT2H"))
    data = outcome["data"]
    assert (data["status"], data["error"]["code"], data["outcomeCount"]) == ("skipped", "RecentEnough", 1)
    assert data["restorable"]["kind"] == "Log"
    assert azure.simulator.now() - moment(data["restorable"]["time"]) < timedelta(hours=2)
    assert azure.mutations == {}
    (request,) = restore_requests([outcome])
    assert request["data"]["recoveryPoint"] == {"pointInTime": data["restorable"]["time"]}


def test_what_is_older_is_backed_up_and_names_its_recovery_point(estate: OpenEstate) -> None:
    azure = estate(scenario("orders", recoveryModel="Simple"))
    before = azure.simulator.now()
    (outcome,) = azure.run(azure.backup("orders", unlessNewerThan="PT2H"))
    restorable = outcome["data"]["restorable"]
    assert outcome["data"]["status"] == "succeeded"
    assert moment(restorable["time"]) >= before
    assert restorable["listed"]
    (request,) = restore_requests([outcome])
    assert request["data"]["recoveryPoint"] == {"name": restorable["recoveryPoint"]}
    assert (request["data"]["target"], request["data"]["overwrite"]) == ({"kind": "original"}, True)
    # A second gate right behind it takes none.
    (again,) = azure.run(azure.backup("orders", unlessNewerThan="PT2H"))
    assert again["data"]["error"]["code"] == "RecentEnough"
    assert again["data"]["restorable"]["recoveryPoint"] == restorable["recoveryPoint"]
    assert azure.mutations == {"Backup": 1}


def test_the_way_back_leads_to_the_database_as_it_was(estate: OpenEstate) -> None:
    azure = estate(scenario("orders", recoveryModel="Simple"), {"RESTORE_ALLOW_OVERWRITE": "true"})
    (outcome,) = azure.run(azure.backup("orders"))
    azure.clock.advance(timedelta(hours=3))
    (request,) = restore_requests([outcome])
    (restored,) = azure.run(request)
    assert restored["data"]["status"] == "succeeded"
    assert restored["data"]["recoveryPoint"]["name"] == outcome["data"]["restorable"]["recoveryPoint"]


def test_of_many_databases_no_point_is_named_and_the_way_back_is_before_the_end(estate: OpenEstate) -> None:
    azure = estate(scenario(*(f"db{number:02}" for number in range(21)), recoveryModel="Simple"))
    outcomes = azure.run(azure.backup("*"))
    assert len(outcomes) == 21
    for outcome in outcomes:
        restorable = outcome["data"]["restorable"]
        assert (restorable["listed"], restorable.get("recoveryPoint")) == (False, None)
        assert moment(restorable["time"]) >= moment(outcome["data"]["endTime"])
    (first, *_) = restore_requests(outcomes)
    assert first["data"]["recoveryPoint"] == {"before": outcomes[0]["data"]["restorable"]["time"]}
    assert "ListRecoveryPoints" not in {entry["route"] for entry in azure.simulator.access_entries}


def test_a_pattern_that_means_too_many_is_rejected_before_any_is_read(estate: OpenEstate) -> None:
    azure = estate(scenario(*(f"db{number:03}" for number in range(101))))
    (outcome,) = azure.run(azure.backup("*", unlessNewerThan="PT2H"))
    assert (outcome["data"]["status"], outcome["data"]["error"]["code"]) == ("rejected", "TooManyDatabases")
    assert "101" in outcome["data"]["error"]["message"]
    assert azure.mutations == {}


def test_a_gate_that_waited_for_somebody_elses_backup_takes_no_second(estate: OpenEstate) -> None:
    azure = estate(scenario("orders", recoveryModel="Simple"))
    other = azure.send(azure.backup("orders"))
    azure.host.run_until_idle()
    (outcome,) = azure.run(azure.backup("orders", unlessNewerThan="PT2H"))
    azure.finish(other)
    assert outcome["data"]["error"]["code"] == "RecentEnough"


def test_the_command_writes_the_request_that_goes_back(
    estate: OpenEstate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from cli.restore_requests import write_restore_requests

    azure = estate(scenario("orders", recoveryModel="Simple"))
    outcomes = azure.run(azure.backup("orders"))
    file = tmp_path / "back.jsonl"
    assert write_restore_requests(file, outcomes) == 1
    (line,) = file.read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == restore_requests(outcomes)[0]
