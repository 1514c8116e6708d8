# ruff: noqa: N802 - the tests bear the numbers of their faults
"""The fault matrix, F37, F38, F42: clocks, timers, and hundreds at once.

Each test bears the number of its fault; `tests/faults/matrix.py` says what is expected.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest

from local.simulator import SERVICE_LIMITS
from shared.intake.planning import plan_backups
from tests.faults.estate import (
    Plan,
    fault,
    open_faulty,
    protected_estate,
)
from tests.faults.observing import (
    Estates,
    finished,
    one,
    run,
)

MINUTE = timedelta(minutes=1)


HOURLY: dict[str, Any] = {
    "name": "Hourly",
    "schedule": "0 0 * * * *",
    "maxLateness": "PT30M",
    "databases": [{"instance": "MSSQLSERVER", "database": "orders"}],
    "backupType": "Log",
}


@pytest.mark.parametrize("minutes", [-10, 10])
def test_F37_clock_skew(estate: Estates, minutes: int) -> None:
    faults = [fault("Backup", "throttle", nth=1, retryAfter=30)]
    durations = []
    for skew in (minutes * MINUTE, timedelta()):
        each = estate(protected_estate(faults=faults), skew=skew)
        began = each.clock.now()
        outcome = one(run(each, each.backup("orders")))
        assert outcome["status"] == "succeeded"
        # Seconds of the service, not of this machine.
        assert 0 < outcome["durationSeconds"] < 600
        each.check_retry_after()
        durations.append((each.clock.now() - began).total_seconds())
    assert durations[0] == pytest.approx(durations[1], abs=90)


def test_F37_deadlines_are_the_services(estate: Estates) -> None:
    azure = estate(protected_estate(faults=[fault("Backup", "jobNeverEnds")]), skew=10 * MINUTE)
    began = azure.clock.now()
    assert one(run(azure, azure.backup("orders", jobTimeout="PT3H")))["status"] == "timedOut"
    assert azure.clock.now() - began == pytest.approx(timedelta(hours=3), abs=3 * MINUTE)


@pytest.mark.parametrize(("fault", "status"), [("delay", "succeeded"), ("jobNeverEnds", "timedOut")])
def test_F37_leap_past_the_deadline(fault: str, status: str) -> None:
    # Stopped for a month: the job has ended meanwhile, and its own end is what is told.
    faults = [{"route": "Backup", "fault": fault, "seconds": 0}]
    with open_faulty(protected_estate(faults=faults)) as estate:
        estate.submit(estate.backup("orders"))
        estate.step_until(lambda: estate.mutations["Backup"] == 1)
        estate.clock.advance(timedelta(days=30))
        estate.quiesce()
        estate.check()
        assert estate.outcome()["status"] == status
        assert estate.outcome()["job"]["id"] == estate.job_ids("Backup")[0]


def test_F37_a_new_process_looks_for_a_lost_backup_where_it_can_be() -> None:
    # Its first call is lost, and so nobody has told it yet that this machine's clock is hours ahead.
    faults = [fault("Backup", "dropAfterEffect", nth=1)]
    plan = Plan(at={"send trigger-backup": "after"}, recovery="later")
    with open_faulty(protected_estate(faults=faults), plan, skew=timedelta(hours=3)) as estate:
        outcome = finished(estate, estate.backup("orders"))
        assert estate.crashes == 1
        assert outcome["status"] == "succeeded"
        assert estate.job_ids("Backup") == [outcome["job"]["id"]]


def test_F38_timer_double_fire() -> None:
    with open_faulty(protected_estate("orders", "billing"), settings={"BACKUP_SCHEDULES": "[]"}) as quiet:
        HOURLY["vaultId"] = quiet.vault_id
    with open_faulty(protected_estate(), settings={"BACKUP_SCHEDULES": json.dumps([HOURLY])}) as estate:
        for _ in range(3):
            plan_backups(estate.runtime)
        # Nobody plans for the next five hours, and in two of them nothing runs at all.
        until = estate.clock.now() + timedelta(hours=3, minutes=30)
        estate.step_until(lambda: (estate.broker.next_due() or until) >= until)
        assert estate.mutations["Backup"] == 3
        estate.clock.advance(timedelta(hours=3))
        plan_backups(estate.runtime)
        estate.quiesce()
        outcomes = [outcome["data"] for outcome in estate.outcomes()]
        ids = Counter(outcome["requestId"] for outcome in outcomes)
        assert set(ids.values()) == {1}
        skipped = [outcome for outcome in outcomes if outcome["status"] == "skipped"]
        assert [outcome["error"]["code"] for outcome in skipped] == ["TooLate", "TooLate"]
        assert all(outcome["error"]["recommendations"] for outcome in skipped), "it says what to do"
        assert {outcome["schedule"] for outcome in outcomes} == {HOURLY["name"]}
        assert f"{HOURLY['name']}/2026-01-05T09:00:00Z" in ids
        assert estate.mutations["Backup"] == len(outcomes) - 2


def test_F42_one_request_of_hundreds(estate: Estates) -> None:
    names = [f"db{number:03}" for number in range(300)]
    scenario = protected_estate(*names, throttling=SERVICE_LIMITS, durations={"backup": 600})
    for machine in scenario["virtualMachines"]:
        for database in machine["instances"][0]["databases"]:
            database["historyDays"] = 0
    azure = estate(scenario, sockets=False)
    outcomes = run(azure, azure.backup("*"), azure.backup("db000", "db001", backup_type="CopyOnlyFull"))
    assert Counter(outcome["status"] for outcome in outcomes) == {"succeeded": 302}
    refused = [entry for entry in azure.simulator.access_entries if entry["status"] == 429]
    assert len(refused) <= 5, "the pace is that of the limits"
    ended = max(datetime.fromisoformat(outcome["endTime"]) for outcome in outcomes)
    began = min(datetime.fromisoformat(outcome["startTime"]) for outcome in outcomes)
    assert ended - began < timedelta(hours=1)


def test_F42_thundering_herd() -> None:
    """Hundreds of requests at once stay below what the service allows, and none waits for ever."""
    names = [f"db{number:03}" for number in range(260)]
    with open_faulty(protected_estate(*names, throttling=SERVICE_LIMITS)) as estate:
        requests = [estate.backup(name) for name in names]
        estate.submit(*requests)
        estate.quiesce()
        outcomes = estate.outcomes()
        answered = Counter(outcome["data"]["requestId"] for outcome in outcomes)
        assert answered == Counter(request["id"] for request in requests)
        assert {outcome["data"]["status"] for outcome in outcomes} == {"succeeded"}
        assert estate.mutations["Backup"] == len(names)
        refused = sum(entry["status"] == 429 for entry in estate.simulator.access_entries)
        assert refused <= len(names) // 20, "the app paces itself, instead of being refused"
        times = [datetime.fromisoformat(event["time"]) for event in outcomes]
        assert max(times) - min(times) < timedelta(hours=1), "the last is not left far behind the first"
