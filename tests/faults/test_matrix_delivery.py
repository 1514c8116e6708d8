# ruff: noqa: N802 - the tests bear the numbers of their faults
"""The fault matrix, F06, F07, F35, F36, F44: messages come twice, late, out of order, or not at all.

Each test bears the number of its fault; `tests/faults/matrix.py` says what is expected.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.arm.transport import RawAnswer
from shared.bus import OutgoingMessage
from shared.engine.message import Delivery
from shared.engine.run import handle
from shared.workflows import TABLE
from tests.faults.estate import (
    Plan,
    protected_estate,
)
from tests.faults.observing import (
    OpenEstate,
    asked,
    finished,
    run,
)


def test_F06_duplicate_delivery_after_a_lost_lock(open_estate: OpenEstate) -> None:
    untouched = open_estate(protected_estate())
    run(untouched, untouched.backup("orders"))
    # The second call is the POST: its answer takes longer than the lock lasts.
    estate = open_estate(protected_estate(), Plan(slow={1: timedelta(seconds=301)}))
    outcome = finished(estate, estate.backup("orders"))
    assert outcome["status"] == "succeeded"
    assert estate.mutations["Backup"] == 1
    for route in ("GetJob", "OperationStatus"):
        assert len(asked(estate, route)) <= len(asked(untouched, route)) + 1


def test_F06_no_late_post_after_slow_reads(open_estate: OpenEstate) -> None:
    # What is read before the restore takes more than half of the lock.
    estate = open_estate(protected_estate(), Plan(slow={2: timedelta(seconds=160)}))
    outcome = finished(estate, estate.restore("orders"))
    assert outcome["status"] == "succeeded"
    assert estate.mutations["Restore"] == 1
    deliveries = [message for message in estate.bus.sent if message.entity == "trigger-restore"]
    assert len(deliveries) == 2, "it came back instead of sending late"


def test_F06_duplicate_delivery_concurrent(open_estate: OpenEstate) -> None:
    """While the first delivery waits for the answer to its POST, its lock ends and a second one runs."""
    estate = open_estate(protected_estate())
    nested: list[object] = []

    def during_the_call(method: str, path: str, answer: RawAnswer) -> RawAnswer:
        if path.endswith("/backup") and method == "POST" and not nested:
            (message,) = estate.broker.peek("trigger-backup")
            nested.append(message)
            estate.clock.advance(timedelta(minutes=6))
            again = Delivery(
                queue="trigger-backup",
                body=message.body,
                message_id=message.message_id or "",
                delivery_count=2,
                taken=estate.clock.now(),
            )
            handle(TABLE.rows["trigger_backup"], again, estate.runtime)
        return answer

    estate.meter.plan.mangle = during_the_call
    outcome = finished(estate, estate.backup("orders"))
    assert outcome["status"] == "succeeded"
    assert estate.job_ids("Backup") == [outcome["job"]["id"]]
    handed_over = [
        message.message_id
        for message in estate.bus.sent
        if message.entity == "track" and json.loads(message.body)["poll"] == 0
    ]
    # Both handed over, and the broker took one: one chain of polls.
    assert len(handed_over) >= 2 and len(set(handed_over)) == 1


def test_F06_no_late_post(open_estate: OpenEstate) -> None:
    # The call before the POST takes more than half the lock: the message goes back, unsent, and comes anew.
    conflict = {"route": "Backup", "nth": 1, "fault": "jobFailure", "errorCode": 510008, "code": "510008"}
    estate = open_estate(protected_estate(faults=[conflict]))
    slowed: list[str] = []

    def slow_listing(_: str, path: str, answer: RawAnswer) -> RawAnswer:
        if path.endswith("/backupJobs") and not slowed:
            slowed.append(path)
            estate.clock.advance(timedelta(minutes=4))
        return answer

    estate.submit(estate.backup("orders"))
    estate.step_until(lambda: estate.mutations["Backup"] == 1)
    estate.meter.plan.mangle = slow_listing
    estate.quiesce()
    estate.check()
    assert slowed
    bodies = [json.loads(sent.body) for sent in estate.bus.sent if sent.entity == "trigger-backup"]
    second = [body for body in bodies if body["effect"]["n"] == 2]
    assert len(second) == 2, "the second effect came back once, unsent"
    assert estate.outcome()["status"] == "succeeded"
    assert estate.mutations["Backup"] == 2


def test_F07_out_of_order(open_estate: OpenEstate) -> None:
    """Every poll comes again after the end, the last one first, past every duplicate detection."""
    estate = open_estate(protected_estate())
    first = finished(estate, estate.backup("orders"))
    polls = [message for message in estate.bus.sent if message.entity == "track"]
    assert len(polls) >= 3
    for number, message in enumerate(reversed(polls)):
        estate.broker.send("track", [replace(message, message_id=f"stray-{number}", scheduled_for=None)])
    estate.quiesce()
    estate.check()
    assert estate.outcome() == first
    assert estate.mutations["Backup"] == 1


def test_F07_a_message_that_comes_again_after_the_next_begins_no_second_chain(
    open_estate: OpenEstate,
) -> None:
    scenario = protected_estate(durations={"backup": 600})
    untouched = open_estate(scenario)
    finished(untouched, untouched.backup("orders"))
    polls = len(asked(untouched, "GetJob"))
    assert polls > 10
    for number in range(untouched.meter.completions):
        estate = open_estate(scenario, Plan(uncompleted={number: "later"}))
        assert finished(estate, estate.backup("orders"))["status"] == "succeeded"
        assert estate.mutations["Backup"] == 1
        assert len(asked(estate, "GetJob")) <= polls + 2, number


def test_F35_broker_down_on_publish_or_enqueue(open_estate: OpenEstate) -> None:
    untouched = open_estate(protected_estate())
    run(untouched, untouched.backup("orders"))
    for number in range(untouched.meter.sends):
        estate = open_estate(protected_estate(), Plan(unavailable={number}))
        outcome = finished(estate, estate.backup("orders"))
        assert outcome["status"] == "succeeded", number
        assert estate.mutations["Backup"] == 1, number


def test_F35_outcomes_wait_for_the_role_on_their_topic(open_estate: OpenEstate) -> None:
    databases = ("orders", "billing", "sales", "stock", "people")
    plan = Plan(refused={"job-outcomes": 40 * len(databases)})
    estate = open_estate(protected_estate(*databases), plan)
    requests = [estate.backup(name) for name in databases]
    # Refused far more often than a message is delivered before it is a dead letter.
    assert [data["status"] for data in run(estate, *requests)] == ["succeeded"] * len(databases)
    assert not plan.refused["job-outcomes"]
    assert estate.mutations["Backup"] == len(databases)


def test_F35_what_was_selected_is_not_selected_again_for_its_acceptance(open_estate: OpenEstate) -> None:
    estate = open_estate(protected_estate(), Plan(refused={"job-outcomes": 3}))
    assert finished(estate, estate.backup("orders"))["status"] == "succeeded"
    types = [event["type"] for event in estate.events()]
    assert types.count("sqlvmbackup.backup.accepted.v1") == 1
    assert len(asked(estate, "ListProtectedItems")) == 1


def test_F35_an_answer_waits_for_the_role_on_its_topic(open_estate: OpenEstate) -> None:
    estate = open_estate(protected_estate(), Plan(refused={"job-outcomes": 40}))
    request = estate.backup("orders")
    del request["data"]["vaultId"]
    assert finished(estate, request)["status"] == "rejected"


@pytest.mark.parametrize(
    "entities", [["select-items", "dead-letters"], ["track"], ["trigger-backup"]], ids=str
)
def test_F35_an_entity_or_the_right_to_send_to_it_comes_late(
    open_estate: OpenEstate, entities: list[str]
) -> None:
    plan = Plan(refused=dict.fromkeys(entities, 40))
    estate = open_estate(protected_estate(), plan)
    outcome = finished(estate, estate.backup("orders"))
    assert (outcome["status"], estate.mutations["Backup"]) == ("succeeded", 1)
    assert not plan.refused[entities[0]]
    assert estate.parked() == []


def test_F35_an_entity_that_never_comes_is_no_endless_loop(open_estate: OpenEstate) -> None:
    estate = open_estate(protected_estate(), Plan(refused={"trigger-backup": 1_000_000}))
    outcome = finished(estate, estate.backup("orders"))
    assert (outcome["status"], outcome["error"]["code"]) == ("unknown", "FailedInternal")
    assert estate.mutations["Backup"] == 0
    assert len(estate.parked()) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_F36_sender_link_stale_and_cross_thread_use() -> None:
    pytest.importorskip("proton", reason="python-qpid-proton is a development dependency")
    from local.broker import Broker
    from shared.bus.service_bus import ServiceBusBus
    from tests.amqp import serving_amqp

    def message(number: int) -> OutgoingMessage:
        return OutgoingMessage(entity="track", body=b"{}", message_id=f"poll-{number}")

    with Broker(None) as broker, serving_amqp(broker) as server:
        bus = ServiceBusBus.from_connection_string(server.connection_string)
        try:
            bus.send([message(0)])
            server.detach_links()
            bus.send([message(1)])
            server.drop_connections()
            bus.send([message(2)])
            errors: list[BaseException] = []

            def send(first: int) -> None:
                try:
                    for number in range(first, first + 5):
                        bus.send([message(number)])
                except BaseException as error:
                    errors.append(error)

            threads = [threading.Thread(target=send, args=(10 * index,)) for index in range(1, 9)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
        finally:
            bus.close()
        assert not errors
        sent = Counter(item.message_id for item in broker.peek("track", 0, 500))
        assert len(sent) == 3 + 8 * 5
        assert set(sent.values()) == {1}


def test_F44_storm_of_duplicates(open_estate: OpenEstate) -> None:
    estate = open_estate(protected_estate())
    request = estate.backup("orders")
    estate.submit(request)
    for number in range(1000):
        estate.send(request)
        if number % 100 == 0:
            estate.host.run_until_idle()
    events = [
        OutgoingMessage(entity="events", body=json.dumps(request).encode(), message_id=f"e{n}")
        for n in range(9)
    ]
    estate.broker.send("events", events)
    estate.quiesce()
    estate.check()
    estate.send(request)
    estate.quiesce()
    assert estate.outcome(request)["status"] == "succeeded"
    assert estate.mutations["Backup"] == 1
    assert len([message for message in estate.bus.sent if message.entity == "trigger-backup"]) == 1
