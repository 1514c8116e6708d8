# ruff: noqa: N802 - the tests bear the numbers of their faults
"""The fault matrix, F01, F02, F03, F04, F05, F39: the process ends, at the worst moment.

Each test bears the number of its fault; `tests/faults/matrix.py` says what is expected.
"""

from __future__ import annotations

import json
import threading
from datetime import timedelta

import pytest

from local.estate import JsonObject, the_functions
from local.host import Host, HostSettings
from shared.arm.transport import RawAnswer
from shared.bus import OutgoingMessage
from shared.bus.topology import JOB_OUTCOMES
from shared.messages.identity import is_marked
from tests.faults.estate import (
    FaultyEstate,
    Plan,
    bare_estate,
    protected_estate,
)
from tests.faults.observing import (
    RECOVERIES,
    OpenEstate,
    Recovery,
    finished,
    proven,
)


def sent_outcomes(estate: FaultyEstate, request: JsonObject) -> list[OutgoingMessage]:
    """Every hand-over of a terminal outcome of a request to the broker, duplicates included."""
    return [
        message
        for message in estate.bus.sent
        if message.entity == JOB_OUTCOMES
        and (data := json.loads(message.body)["data"]).get("requestId") == request["id"]
        and data["status"] not in ("accepted", "started")
    ]


def calls(estate: FaultyEstate, method: str) -> int:
    """How many requests of a method reached Azure."""
    return sum(entry["method"] == method for entry in estate.simulator.access_entries)


@pytest.mark.parametrize("recovery", RECOVERIES)
def test_F01_crash_before_arm_call(open_estate: OpenEstate, recovery: Recovery) -> None:
    estate = open_estate(protected_estate("orders", "billing"), Plan(recovery=recovery))
    proven(estate)
    estate.meter.plan.at["POST backup"] = "before"
    outcome = finished(estate, estate.backup("orders"))
    assert (outcome["status"], estate.crashes) == ("succeeded", 1)
    assert estate.mutations["Backup"] == 2
    assert outcome["job"]["id"] == estate.job_ids("Backup")[1]


def test_F01_crash_before_arm_call_where_nobody_can_tell(open_estate: OpenEstate) -> None:
    # The vault has never shown that it echoes: no second request is risked.
    plan = Plan(at={"POST backup": "before"})
    estate = open_estate(protected_estate("orders", echoActivityId=False), plan)
    outcome = finished(estate, estate.backup("orders"))
    assert (outcome["status"], outcome["error"]["code"]) == ("unknown", "OutcomeUnknown")
    assert estate.mutations["Backup"] == 0


@pytest.mark.parametrize("recovery", RECOVERIES)
def test_F02_crash_after_arm_202_before_enqueue(open_estate: OpenEstate, recovery: Recovery) -> None:
    untouched = open_estate(bare_estate())
    finished(untouched, untouched.protect("orders"))
    puts = [number for number, name in enumerate(untouched.meter.effects) if name.startswith("PUT ")]
    expected = untouched.mutations
    assert len(puts) == 2, "a registration and a protection"
    for number in puts:
        estate = open_estate(bare_estate(), Plan(crashes={number: "after"}, recovery=recovery))
        outcome = finished(estate, estate.protect("orders"))
        assert (outcome["status"], outcome["protectionState"]) == ("succeeded", "IRPending")
        assert estate.crashes == 1
        # A PUT may be repeated, and says the same.
        for route in ("Register", "ConfigureBackup"):
            assert expected[route] <= estate.mutations[route] <= expected[route] + 1


@pytest.mark.parametrize("recovery", RECOVERIES)
@pytest.mark.parametrize(("route", "effect"), [("Backup", "POST backup"), ("Restore", "POST restore")])
def test_F03_crash_after_backup_post_202_before_enqueue(
    open_estate: OpenEstate, recovery: Recovery, route: str, effect: str
) -> None:
    plan = Plan(at={effect: "after"}, recovery=recovery)
    estate = open_estate(protected_estate(), plan)
    request = estate.backup("orders") if route == "Backup" else estate.restore("orders")
    outcome = finished(estate, request)
    assert (outcome["status"], estate.crashes) == ("succeeded", 1)
    assert estate.job_ids(route) == [outcome["job"]["id"]]
    assert is_marked(outcome["job"]["activityId"])


@pytest.mark.parametrize("recovery", RECOVERIES)
def test_F04_crash_after_enqueue_before_complete(open_estate: OpenEstate, recovery: Recovery) -> None:
    untouched = open_estate(protected_estate())
    finished(untouched, untouched.backup("orders"))
    sends = [number for number, name in enumerate(untouched.meter.effects) if name.startswith("send ")]
    polls = calls(untouched, "GET")
    for number in sends:
        estate = open_estate(protected_estate(), Plan(crashes={number: "after"}, recovery=recovery))
        request = estate.backup("orders")
        assert finished(estate, request)["status"] == "succeeded"
        assert len({message.message_id for message in sent_outcomes(estate, request)}) == 1
        assert estate.mutations["Backup"] == 1
        # The second copy of a message is dropped, so that one poll follows on another, not two.
        assert calls(estate, "GET") <= polls + 3


@pytest.mark.parametrize("recovery", RECOVERIES)
def test_F05_crash_after_publish_before_complete(open_estate: OpenEstate, recovery: Recovery) -> None:
    untouched = open_estate(protected_estate())
    finished(untouched, untouched.backup("orders"))
    last = max(n for n, name in enumerate(untouched.meter.effects) if name == "send job-outcomes")
    estate = open_estate(protected_estate(), Plan(crashes={last: "after"}, recovery=recovery))
    request = estate.backup("orders")
    finished(estate, request)
    first, second = sent_outcomes(estate, request)
    assert first.message_id == second.message_id
    assert json.loads(first.body)["id"] == json.loads(second.body)["id"]
    assert len(estate.outcomes()) == 1


def test_F39_scale_in_during_step(open_estate: OpenEstate) -> None:
    estate = open_estate(protected_estate())
    reached, go_on = threading.Event(), threading.Event()

    def pause(method: str, path: str, answer: RawAnswer) -> RawAnswer:
        if method == "POST":
            reached.set()
            assert go_on.wait(20)
        return answer

    estate.meter.plan.mangle = pause
    estate.submit(estate.backup("orders"))
    host = Host(
        the_functions(), estate.receiver, settings=HostSettings(), clock=estate.clock, timers=False, threads=2
    )
    host.start()
    assert reached.wait(20)
    # Told to stop while the answer is awaited: what runs may finish, nothing else begins.
    stopped = threading.Thread(target=host.stop, args=(timedelta(seconds=20),))
    stopped.start()
    go_on.set()
    stopped.join(30)
    assert not host.running
    estate.quiesce()
    estate.check()
    assert estate.outcome()["status"] == "succeeded"
    assert estate.mutations["Backup"] == 1
