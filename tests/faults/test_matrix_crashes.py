"""Faults F01 to F07, F37 and F39 to F41 of the matrix: crashes, redelivery, order, clocks, old messages."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest

from shared.arm.transport import RawAnswer
from shared.bus import OutgoingMessage
from shared.bus.topology import JOB_OUTCOMES, PARKED_MESSAGES, TOPOLOGY
from shared.workflow.delivery import Delivery, handle
from shared.workflow.table import STEPS
from tests.e2e.harness import JsonObject, virtual_machine
from tests.faults.estate import Crash, FaultyEstate, Plan, Side, bare_estate, open_faulty, protected_estate

Recovery = Literal["at once", "later"]
RECOVERIES: tuple[Recovery, ...] = ("at once", "later")
#: Messages between steps as version 1 of the app writes them; written anew only with a new version.
OLD_MESSAGES = Path(__file__).with_name("step_messages_v1.jsonl")


def finished(estate: FaultyEstate, request: JsonObject) -> JsonObject:
    """The data of the request's one outcome, once nothing is left to do and the invariants hold."""
    estate.submit(request)
    estate.quiesce()
    estate.check()
    return estate.outcome(request)


def proven(estate: FaultyEstate) -> None:
    """Let the vault show that it echoes client request ids: by a backup of another database."""
    assert finished(estate, estate.backup("billing"))["status"] == "succeeded"


def sent_outcomes(estate: FaultyEstate, request: JsonObject) -> list[OutgoingMessage]:
    """Every hand-over of a terminal outcome of a request to the broker, duplicates included."""
    return [
        message
        for message in estate.bus.sent
        if message.entity == JOB_OUTCOMES
        and (data := json.loads(message.body)["data"]).get("requestId") == request["id"]
        and data["status"] not in ("accepted", "started")
    ]


@pytest.mark.parametrize("recovery", RECOVERIES)
def test_f01_crash_before_arm_call(recovery: Recovery) -> None:
    with open_faulty(protected_estate("orders", "billing"), Plan(recovery=recovery)) as estate:
        proven(estate)
        estate.meter.plan.at["POST backup"] = "before"
        outcome = finished(estate, estate.backup("orders"))
        assert (outcome["status"], estate.crashes) == ("succeeded", 1)
        assert estate.mutations["Backup"] == 2
        assert outcome["job"]["id"] == estate.job_ids("Backup")[1]


def test_f01_crash_before_arm_call_where_nobody_can_tell() -> None:
    # The vault has never shown that it echoes: no second request is risked.
    plan = Plan(at={"POST backup": "before"})
    with open_faulty(protected_estate("orders", echoActivityId=False), plan) as estate:
        outcome = finished(estate, estate.backup("orders"))
        assert (outcome["status"], outcome["error"]["code"]) == ("unknown", "outcome_unknown")
        assert estate.mutations["Backup"] == 0


@pytest.mark.parametrize("recovery", RECOVERIES)
def test_f02_crash_after_arm_202_before_enqueue(recovery: Recovery) -> None:
    with open_faulty(bare_estate()) as untouched:
        finished(untouched, untouched.protect("orders"))
        puts = [number for number, name in enumerate(untouched.meter.effects) if name.startswith("PUT ")]
        expected = untouched.mutations
    assert len(puts) == 2, "a registration and a protection"
    for number in puts:
        with open_faulty(
            bare_estate(), Plan(crashes={number: "after"}, recovery=recovery), sockets=True
        ) as estate:
            outcome = finished(estate, estate.protect("orders"))
            assert (outcome["status"], outcome["protectionState"]) == ("succeeded", "IRPending")
            assert estate.crashes == 1
            # A PUT may be repeated, and says the same.
            for route in ("Register", "ConfigureBackup"):
                assert expected[route] <= estate.mutations[route] <= expected[route] + 1


@pytest.mark.parametrize("recovery", RECOVERIES)
@pytest.mark.parametrize(("route", "effect"), [("Backup", "POST backup"), ("Restore", "POST restore")])
def test_f03_crash_after_backup_post_202_before_enqueue(recovery: Recovery, route: str, effect: str) -> None:
    plan = Plan(at={effect: "after"}, recovery=recovery)
    with open_faulty(protected_estate(), plan, sockets=True) as estate:
        request = estate.backup("orders") if route == "Backup" else estate.restore("orders")
        outcome = finished(estate, request)
        assert (outcome["status"], estate.crashes) == ("succeeded", 1)
        assert estate.job_ids(route) == [outcome["job"]["id"]]


@pytest.mark.parametrize("recovery", RECOVERIES)
def test_f04_crash_after_enqueue_before_complete(recovery: Recovery) -> None:
    with open_faulty(protected_estate()) as untouched:
        finished(untouched, untouched.backup("orders"))
        sends = [number for number, name in enumerate(untouched.meter.effects) if name.startswith("send ")]
        polls = calls(untouched, "GET")
    for number in sends:
        with open_faulty(protected_estate(), Plan(crashes={number: "after"}, recovery=recovery)) as estate:
            request = estate.backup("orders")
            assert finished(estate, request)["status"] == "succeeded"
            assert len({message.message_id for message in sent_outcomes(estate, request)}) == 1
            assert estate.mutations["Backup"] == 1
            # The second copy of a message is dropped, so that one poll follows on another, not two.
            assert calls(estate, "GET") <= polls + 3


def calls(estate: FaultyEstate, method: str) -> int:
    """How many requests of a method reached Azure."""
    return sum(entry["method"] == method for entry in estate.simulator.access_entries)


@pytest.mark.parametrize("recovery", RECOVERIES)
def test_f05_crash_after_publish_before_complete(recovery: Recovery) -> None:
    with open_faulty(protected_estate()) as untouched:
        finished(untouched, untouched.backup("orders"))
        last = max(n for n, name in enumerate(untouched.meter.effects) if name == "send job-outcomes")
    with open_faulty(protected_estate(), Plan(crashes={last: "after"}, recovery=recovery)) as estate:
        request = estate.backup("orders")
        finished(estate, request)
        first, second = sent_outcomes(estate, request)
        assert first.message_id == second.message_id
        assert json.loads(first.body)["id"] == json.loads(second.body)["id"]
        assert len(estate.outcomes()) == 1


def test_f06_duplicate_delivery_concurrent() -> None:
    """While the first delivery waits for the answer to its POST, its lock ends and a second one runs."""
    with open_faulty(protected_estate()) as estate:
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
                handle(STEPS["trigger_backup"], again, estate.runtime)
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


def test_f06_no_late_post() -> None:
    # The call before the POST takes more than half the lock: the message goes back, unsent, and comes anew.
    conflict = {"route": "Backup", "nth": 1, "fault": "jobFailure", "errorCode": 510008, "code": "510008"}
    with open_faulty(protected_estate(faults=[conflict])) as estate:
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
        late = [message for message in estate.bus.sent if json.loads(message.body).get("late")]
        assert len(late) == 1
        assert estate.outcome()["status"] == "succeeded"
        assert estate.mutations["Backup"] == 2


def test_f07_out_of_order() -> None:
    """Every poll comes again after the end, the last one first, past every duplicate detection."""
    with open_faulty(protected_estate()) as estate:
        first = finished(estate, estate.backup("orders"))
        polls = [message for message in estate.bus.sent if message.entity == "track"]
        assert len(polls) >= 3
        for number, message in enumerate(reversed(polls)):
            estate.broker.send("track", [replace(message, message_id=f"stray-{number}", scheduled_for=None)])
        estate.quiesce()
        estate.check()
        assert estate.outcome() == first
        assert estate.mutations["Backup"] == 1


def test_f07_poll_redelivered_after_the_next() -> None:
    with open_faulty(protected_estate()) as untouched:
        finished(untouched, untouched.backup("orders"))
        completions = untouched.meter.completions
        sent = len({message.message_id for message in untouched.bus.sent})
    for number in range(completions):
        with open_faulty(protected_estate(), Plan(uncompleted={number: "later"})) as estate:
            assert finished(estate, estate.backup("orders"))["status"] == "succeeded"
            assert estate.mutations["Backup"] == 1
            assert len({message.message_id for message in estate.bus.sent}) <= sent + 4


@pytest.mark.parametrize("skew", [-600, 600])
def test_f37_clock_skew(skew: int) -> None:
    with open_faulty(
        protected_estate(faults=[{"route": "Backup", "nth": 1, "fault": "throttle", "retryAfter": 60}]),
        skew=timedelta(seconds=skew),
    ) as estate:
        outcome = finished(estate, estate.backup("orders"))
        estate.check_retry_after()
        assert outcome["status"] == "succeeded"
        # Seconds of the service, not of this machine.
        assert 0 < outcome["durationSeconds"] < 600


@pytest.mark.parametrize(("fault", "status"), [("delay", "succeeded"), ("jobNeverEnds", "timedOut")])
def test_f37_leap_past_the_deadline(fault: str, status: str) -> None:
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


def test_f39_scale_in_during_step() -> None:
    """The worker is stopped in the middle of each of a restore's effects; its locks end by time."""
    with open_faulty(protected_estate()) as untouched:
        finished(untouched, untouched.restore("orders"))
        effects = untouched.meter.effects
    for number, name in enumerate(effects):
        with open_faulty(protected_estate(), Plan(crashes={number: "after"}, recovery="later")) as estate:
            assert finished(estate, estate.restore("orders"))["status"] == "succeeded", name
            assert estate.mutations["Restore"] == 1, name


def recorded_flows() -> list[OutgoingMessage]:
    """Every kind of message between steps, as this version of the app writes them."""
    seen: dict[tuple[Any, ...], OutgoingMessage] = {}
    for flow in (bare_estate(), protected_estate()):
        with open_faulty(flow) as estate:
            if flow["virtualMachines"][0].get("registeredTo"):
                estate.submit(estate.backup("orders"), estate.restore("orders"))
            else:
                estate.submit(estate.protect("orders", firstBackup="now"))
            estate.quiesce()
            for message in estate.bus.sent:
                if message.entity in {step.queue for step in STEPS.values()}:
                    body = json.loads(message.body)
                    payload = body["payload"]
                    key = (message.entity, body["sender"], payload.get("origin"), "jobId" in payload)
                    seen.setdefault(key, message)
    return list(seen.values())


#: What an old message meets: a registered VM with a database that is not protected yet, or one that is.
REGISTERED = bare_estate(virtualMachines=[virtual_machine("sqlvm1", "orders", registeredTo="vault1")])
ESTATES = {
    queue: protected_estate()
    for queue in ("select-items", "trigger-backup", "select-recovery-point", "trigger-restore")
}


def test_f40_deploy_while_jobs_in_flight() -> None:
    """Messages that an earlier version wrote are taken up where they were, and end as they would have."""
    lines = [json.loads(line) for line in OLD_MESSAGES.read_text(encoding="utf-8").splitlines()]
    assert {line["entity"] for line in lines} == {step.queue for step in STEPS.values()}
    for line in lines:
        body = line["body"]
        with open_faulty(ESTATES.get(line["entity"], REGISTERED)) as estate:
            message = OutgoingMessage(entity=line["entity"], body=json.dumps(body).encode(), message_id="old")
            estate.broker.send(message.entity, [message])
            estate.quiesce()
            assert not estate.parked(), line
            (outcome,) = estate.outcomes()
            assert outcome["data"]["requestId"] == body["request"]["id"]
            # What tracks an operation of an estate that is no more cannot find it; everything else goes on.
            if line["entity"] != "track":
                assert outcome["data"]["status"] == "succeeded", outcome


def test_f40_this_version_is_read_by_the_next_and_the_last() -> None:
    # What a message has more or less than this version knows does not stop it.
    for message in recorded_flows():
        body = json.loads(message.body)
        body["payload"]["fromTheFuture"] = {"deep": [1]}
        body["alsoNew"] = True
        for optional in ("late", "attempt", "failingSince", "effect"):
            body.pop(optional, None)
        with open_faulty(bare_estate()) as estate:
            delivery = Delivery(
                queue=message.entity, body=json.dumps(body).encode(), taken=estate.clock.now()
            )
            handle(STEPS[message.entity.replace("-", "_")], delivery, estate.runtime)
            assert not estate.parked()


@pytest.mark.parametrize("queue", [queue.name for queue in TOPOLOGY.queues if queue.forward_dead_letters_to])
def test_f41_lost_chain(queue: str) -> None:
    """Whatever queue loses its message, its requester is answered and the message kept."""
    lines = [json.loads(line) for line in OLD_MESSAGES.read_text(encoding="utf-8").splitlines()]
    with open_faulty(bare_estate()) as estate:
        bodies = [json.dumps(line["body"]).encode() for line in lines if line["entity"] == queue]
        body = bodies[0] if bodies else json.dumps(estate.backup("orders")).encode()
        estate.broker.send(queue, [OutgoingMessage(entity=queue, body=body, message_id="lost")])
        (received,) = estate.broker.receive(queue)
        estate.broker.dead_letter(queue, received.lock_token, reason="Lost", description="by a test")
        estate.quiesce()
        (outcome,) = estate.outcomes()
        data = outcome["data"]
        if data["status"] == "succeededWithWarnings":
            # The first backup of a database that is protected, whatever became of that.
            assert queue == "trigger-backup" and "failed_internal" in data["warnings"][0]
        else:
            assert data["status"] in ("failed", "unknown")
            assert data["error"]["code"] == "failed_internal"
        (parked,) = estate.parked()
        assert (parked["body"], parked["originalQueue"]) == (body, queue)
        assert not estate.simulator.ledger_entries


@pytest.mark.parametrize("echoes", [True, False])
@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("operation", ["backup", "restore"])
def test_F41_a_replay_adopts_what_had_started(operation: str, side: Side, echoes: bool) -> None:
    """A step is given up after its call, or before it; sent again by hand it finds out which, in any vault."""
    queue = f"trigger-{operation}"
    with open_faulty(protected_estate("orders", "billing", echoActivityId=echoes)) as estate:
        proven(estate)
        estate.meter.plan.at[f"POST {operation}"] = side
        request = estate.backup("orders") if operation == "backup" else estate.restore("orders")
        estate.submit(request)
        with pytest.raises(Crash):
            estate.host.run_until_idle()
        estate.restart(release=True)
        (received,) = estate.broker.receive(queue)
        estate.broker.dead_letter(queue, received.lock_token, "MaxDeliveryCountExceeded", "too often")
        estate.quiesce()
        assert estate.outcome(request)["status"] == "unknown"
        (parked,) = estate.parked()
        replayed = OutgoingMessage(
            entity=queue, body=parked["body"], message_id="again", application_properties={"epoch": 1}
        )
        estate.broker.send(queue, [replayed])
        estate.quiesce()
        (again,) = estate.outcomes_of(request, epoch=1)
        assert again["data"]["status"] == "succeeded"
        route = operation.title()
        started = estate.job_ids(route)[1 if operation == "backup" else 0 :]
        assert started == [again["data"]["job"]["id"]], "it was done twice"


@pytest.mark.parametrize("operation", ["backup", "restore"])
def test_F41_a_message_given_up_after_it_had_handed_over_is_no_doubt(operation: str) -> None:
    """The first delivery had gone on: the requester hears how the job ended, not that nobody knows."""
    queue = f"trigger-{operation}"
    plan = Plan(at={"send track": "after"})
    with open_faulty(protected_estate(), plan) as estate:
        request = estate.backup("orders") if operation == "backup" else estate.restore("orders")
        estate.submit(request)
        with pytest.raises(Crash):
            estate.host.run_until_idle()
        estate.restart(release=True)
        (received,) = estate.broker.receive(queue)
        estate.broker.dead_letter(queue, received.lock_token, "MaxDeliveryCountExceeded", "too often")
        estate.quiesce()
        estate.check()
        assert estate.outcome(request)["status"] == "succeeded"
        assert len(estate.parked()) == 1


def test_f41_every_queue_forwards_its_dead_letters() -> None:
    forwarded = Counter(queue.forward_dead_letters_to for queue in TOPOLOGY.queues)
    assert forwarded[None] == 2, "only dead-letters and parked-messages keep their own"
    assert {queue.name for queue in TOPOLOGY.queues if queue.forward_dead_letters_to is None} == {
        "dead-letters",
        PARKED_MESSAGES,
    }


def main() -> None:
    """Record the messages of this version: `python -m tests.faults.test_matrix_crashes`."""
    lines = [
        json.dumps({"entity": message.entity, "body": json.loads(message.body)}) + "\n"
        for message in recorded_flows()
    ]
    OLD_MESSAGES.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
