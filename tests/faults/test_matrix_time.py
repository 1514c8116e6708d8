# ruff: noqa: N802 - the tests bear the numbers of their faults
"""The fault matrix, F37, F38, F42: clocks, timers, and hundreds at once.

Each test bears the number of its fault; `tests/faults/matrix.py` says what is expected.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timedelta

import pytest

from local.simulator import SERVICE_LIMITS
from shared.arm.transport import RawAnswer
from shared.intake.planning import plan_backups
from tests.faults.estate import (
    Plan,
    fault,
    protected_estate,
)
from tests.faults.observing import (
    OpenEstate,
    finished,
    run,
)
from tests.unit.examples import VAULT

MINUTE = timedelta(minutes=1)


HOURLY = {
    "vaultId": VAULT.path,
    "name": "Hourly",
    "schedule": "0 0 * * * *",
    "maxLateness": "PT30M",
    "databases": [{"instance": "MSSQLSERVER", "database": "orders"}],
    "backupType": "Log",
}


@pytest.mark.parametrize("minutes", [-10, 10])
def test_F37_clock_skew(open_estate: OpenEstate, minutes: int) -> None:
    faults = [fault("Backup", "throttle", nth=1, retryAfter=30)]
    durations = []
    for skew in (minutes * MINUTE, timedelta()):
        each = open_estate(protected_estate(faults=faults), skew=skew)
        began = each.clock.now()
        outcome = finished(each, each.backup("orders"))
        assert outcome["status"] == "succeeded"
        # Seconds of the service, not of this machine.
        assert 0 < outcome["durationSeconds"] < 600
        each.check_retry_after()
        durations.append((each.clock.now() - began).total_seconds())
    assert durations[0] == pytest.approx(durations[1], abs=90)


def test_F37_deadlines_are_the_services(open_estate: OpenEstate) -> None:
    estate = open_estate(protected_estate(faults=[fault("Backup", "jobNeverEnds")]), skew=10 * MINUTE)
    began = estate.clock.now()
    assert finished(estate, estate.backup("orders", jobTimeout="PT3H"))["status"] == "timedOut"
    assert estate.clock.now() - began == pytest.approx(timedelta(hours=3), abs=3 * MINUTE)


@pytest.mark.parametrize(("fault", "status"), [("delay", "succeeded"), ("jobNeverEnds", "timedOut")])
def test_F37_leap_past_the_deadline(open_estate: OpenEstate, fault: str, status: str) -> None:
    # Stopped for a month: the job has ended meanwhile, and its own end is what is told.
    faults = [{"route": "Backup", "fault": fault, "seconds": 0}]
    estate = open_estate(protected_estate(faults=faults))
    estate.submit(estate.backup("orders"))
    estate.step_until(lambda: estate.mutations["Backup"] == 1)
    estate.clock.advance(timedelta(days=30))
    estate.quiesce()
    estate.check()
    assert estate.outcome()["status"] == status
    assert estate.outcome()["job"]["id"] == estate.job_ids("Backup")[0]


@pytest.mark.parametrize(
    "date",
    [
        "Fri, 05 Jun 2026 08:00:00 GMT",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
    ],
)
def test_F37_the_first_answer_is_a_proxys_page(open_estate: OpenEstate, date: str) -> None:
    plan = Plan()
    estate = open_estate(protected_estate(durations={"backup": 600}), plan)
    estate.submit(estate.backup("orders"))
    estate.step_until(lambda: any(event["type"].endswith(".started.v1") for event in estate.events()))
    # A new process knows no time but that of its machine and its message.
    estate.restart()
    pages = iter([RawAnswer(502, {"date": date, "content-type": "text/html"}, b"<html>")])
    plan.mangle = lambda _method, _path, answer: next(pages, answer)
    estate.quiesce()
    estate.check()
    (outcome,) = estate.outcomes()
    assert outcome["data"]["status"] == "succeeded"


def test_F37_a_new_process_looks_for_a_lost_backup_where_it_can_be(open_estate: OpenEstate) -> None:
    # Its first call is lost, and so nobody has told it yet that this machine's clock is hours ahead.
    faults = [fault("Backup", "dropAfterEffect", nth=1)]
    plan = Plan(at={"send trigger-backup": "after"}, recovery="later")
    estate = open_estate(protected_estate(faults=faults), plan, skew=timedelta(hours=3))
    outcome = finished(estate, estate.backup("orders"))
    assert estate.crashes == 1
    assert outcome["status"] == "succeeded"
    assert estate.job_ids("Backup") == [outcome["job"]["id"]]


def test_F38_timer_double_fire(open_estate: OpenEstate) -> None:
    estate = open_estate(protected_estate(), settings={"BACKUP_SCHEDULES": json.dumps([HOURLY])})
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


@pytest.mark.parametrize("requests", ["one for all", "one each"])
def test_F42_hundreds_at_once(open_estate: OpenEstate, requests: str) -> None:
    """Hundreds of backups at once stay below the service's limits, and none waits for ever."""
    names = [f"db{number:03}" for number in range(260)]
    scenario = protected_estate(*names, throttling=SERVICE_LIMITS, durations={"backup": 600})
    for database in scenario["virtualMachines"][0]["instances"][0]["databases"]:
        database["historyDays"] = 0
    estate = open_estate(scenario)
    if requests == "one for all":
        twice = ["db000", "db001"]
        sent = [estate.backup("*"), estate.backup(*twice, backup_type="CopyOnlyFull")]
    else:
        twice = []
        sent = [estate.backup(name) for name in names]
    outcomes = run(estate, *sent)
    count = len(names) + len(twice)
    assert Counter(outcome["status"] for outcome in outcomes) == {"succeeded": count}
    assert len(estate.outcomes()) == count
    # Where two backups of one database meet, the later one gives way and is sent again.
    assert count <= estate.mutations["Backup"] <= count + len(twice)
    refused = [entry for entry in estate.simulator.access_entries if entry["status"] == 429]
    assert len(refused) <= 5, "the app paces itself, instead of being refused"
    ended = max(datetime.fromisoformat(outcome["endTime"]) for outcome in outcomes)
    began = min(datetime.fromisoformat(outcome["startTime"]) for outcome in outcomes)
    assert ended - began < timedelta(hours=1)
    published = [datetime.fromisoformat(event["time"]) for event in estate.outcomes()]
    assert max(published) - min(published) < timedelta(hours=1), "the last is not left far behind the first"
