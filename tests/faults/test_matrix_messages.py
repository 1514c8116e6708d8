# ruff: noqa: N802 - the tests bear the numbers of their faults
"""The fault matrix, F32, F33, F34, F40, F41: messages that are too large, unreadable, old, or given up.

Each test bears the number of its fault; `tests/faults/matrix.py` says what is expected.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from cli.replay import message_again
from local.estate import JsonObject, the_functions
from local.host import FunctionDefinition, Host, trigger_values
from shared.arm.transport import RawAnswer
from shared.bus import OutgoingMessage
from shared.bus.topology import TOPOLOGY
from shared.engine.message import VERSION, Delivery
from shared.engine.run import read
from shared.engine.table import upgraded
from shared.workflows import TABLE
from tests.e2e.harness import message_to, virtual_machine
from tests.faults import corpus
from tests.faults.estate import (
    Crash,
    FaultyEstate,
    Plan,
    Side,
    bare_estate,
    fault,
    protected_estate,
)
from tests.faults.observing import (
    OpenEstate,
    finished,
    proven,
)

BAD = [
    b"",
    b"\xff",
    b"not JSON",
    b"[]",
    b"[" * 200_000,
    b'{"specversion": "1.0"}',
    b'{"specversion": "1.0", "type": "sqlvmbackup.backup.requested.v9", "source": "a", "id": "b", "data": {}}',
    b'{"specversion": "1.0", "type": "sqlvmbackup.backup.requested.v1", "source": "a", "id": "\\udc00"}',
    b'{"specversion": "1.0", "type": "sqlvmbackup.backup.requested.v1", "source": "a", "id": "b", "data": {"x": 1}}',
]


@pytest.mark.parametrize("queue", ["backup-requests", "events"])
def test_F33_a_request_that_leaves_no_room_is_rejected_at_once(open_estate: OpenEstate, queue: str) -> None:
    estate = open_estate(protected_estate())
    excluded = [{"instance": "x" * 120, "database": f"{number:0>120}"} for number in range(970)]
    while True:
        request = estate.backup("orders", exclude=excluded)
        body = json.dumps(request, separators=(",", ":")).encode()
        if len(body) < 262_000:
            break
        excluded.pop()
    body = body + b" " * (262_060 - len(body))
    estate.broker.send(queue, [message_to(queue, body, "m")])
    estate.quiesce()
    outcome = estate.outcome()
    assert (outcome["status"], outcome["error"]["code"]) == ("rejected", "InvalidRequest")
    assert "262060 bytes" in outcome["error"]["message"]
    assert estate.host.failures == 0, "it was not tried again and again"
    assert len(estate.parked()) == 1


@pytest.mark.parametrize("size", [230_000, 261_800])
@pytest.mark.parametrize("dead", [True, False], ids=["dead letter", "rejected"])
def test_F33_what_is_as_large_as_the_broker_takes_is_parked_whole(
    open_estate: OpenEstate, size: int, dead: bool
) -> None:
    estate = open_estate(protected_estate())
    request = estate.backup("orders")
    body = json.dumps(request if dead else {**request, "type": "x"}).encode()
    body = body + b" " * (size - len(body))
    estate.broker.send("backup-requests", [message_to("backup-requests", body, "large")])
    if dead:
        (received,) = estate.broker.receive("backup-requests")
        estate.broker.dead_letter(
            "backup-requests", received.lock_token, "MaxDeliveryCountExceeded", "y" * 900
        )
    estate.quiesce()
    assert estate.host.failures == 0
    assert [event["data"]["status"] for event in estate.outcomes()] == ["failed" if dead else "rejected"]
    (parked,) = estate.broker.peek("parked-messages", 0, 10)
    again = message_again(parked)
    assert again.body == body
    assert "bodyEncoding" not in again.application_properties


@contextmanager
def defective(step: str) -> Iterator[None]:
    """A step that fails on a defect of the app's own, whatever comes before its call."""

    def fail(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("a defect")

    with pytest.MonkeyPatch.context() as patched:
        if step == "track":
            patched.setattr("shared.following.poll.Poll.result", fail)
        else:
            patched.setattr("shared.engine.reconcile.before_call", fail)
            sound = TABLE.rows[step].run
            object.__setattr__(TABLE.rows[step], "run", fail)
        try:
            yield
        finally:
            if step != "track":
                object.__setattr__(TABLE.rows[step], "run", sound)


def step_once(estate: FaultyEstate) -> None:
    """Let one function handle one message."""
    for function in the_functions():
        assert isinstance(function, FunctionDefinition)
        if function.entity and estate.broker.counts(function.entity).active:
            Host([function], estate.receiver, clock=estate.clock, timers=False).run_until_idle()
            return
    due = estate.broker.next_due()
    if due is not None:
        estate.clock.advance_to(due)


CORPUS = {
    f"{path.stem}: {name}": entry
    for path in sorted(corpus.DIRECTORY.glob("*.json"))
    for name, entry in json.loads(path.read_text(encoding="utf-8")).items()
}


def lost(before: Any, after: Any, path: str = "") -> list[str]:
    """The fields of `before` that `after` does not have, or has otherwise."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [found for key in before for found in lost(before[key], after.get(key), f"{path}/{key}")]
    return [] if before == after else [path]


#: Messages between steps as version 1 of the app writes them; written anew only with a new version.
OLD_MESSAGES = corpus.DIRECTORY / "version-1.jsonl"


#: What an old message meets: a registered VM with a database that is not protected yet, or one that is.
REGISTERED = bare_estate(virtualMachines=[virtual_machine("sqlvm1", "orders", registeredTo="vault1")])


ESTATES = {
    queue: protected_estate()
    for queue in ("select-items", "trigger-backup", "select-recovery-point", "trigger-restore")
}


def test_F32_message_too_big(open_estate: OpenEstate) -> None:
    essay = {"code": "UserErrorX", "errorCode": 7, "message": "All of it. " * 60_000}
    estate = open_estate(protected_estate(faults=[fault("Backup", "jobWarning", **essay)]))
    outcome = finished(estate, estate.backup("orders"))
    assert outcome["status"] == "succeededWithWarnings"

    def talkative(method: str, path: str, answer: RawAnswer) -> RawAnswer:
        if "/backupJobs/" not in path:
            return answer
        body = json.loads(answer.body)
        body["properties"].setdefault("extendedInfo", {})["propertyBag"] = {
            f"{number} {'key' * 1000}": "value" * 2000 for number in range(200)
        }
        return replace(answer, body=json.dumps(body).encode())

    estate = open_estate(protected_estate(), Plan(mangle=talkative))
    outcome = finished(estate, estate.backup("orders"))
    assert outcome["status"] == "succeeded"


@pytest.mark.parametrize("queue", ["events", "backup-requests", "restore-requests"])
def test_F33_a_message_that_is_no_request(open_estate: OpenEstate, queue: str) -> None:
    estate = open_estate(protected_estate())
    estate.broker.send(queue, [message_to(queue, body, f"bad-{number}") for number, body in enumerate(BAD)])
    outcome = finished(estate, estate.backup("orders"))
    assert outcome["status"] == "succeeded", "the others are unharmed"
    assert estate.host.failures == 0
    rejected = [event["data"] for event in estate.outcomes() if event["data"]["status"] == "rejected"]
    assert len(rejected) == len(BAD)
    given = [trigger_values.text(body).encode() for body in BAD]
    assert sorted(item["body"] for item in estate.parked()) == sorted(given)


def test_F33_requests_at_the_brokers_limit(open_estate: OpenEstate) -> None:
    estate = open_estate(protected_estate())
    request = estate.backup(
        "orders", exclude=[{"instance": "x" * 120, "database": f"{n:0>120}"} for n in range(900)]
    )
    assert len(json.dumps(request)) > 240_000
    outcome = finished(estate, request)
    assert outcome["status"] in ("succeeded", "failed")


def test_F33_what_is_too_large_to_be_parked_is_answered_and_kept(open_estate: OpenEstate) -> None:
    estate = open_estate(protected_estate())
    # So large a body is not packed yet, and what a parked message says of it does not fit beside its properties.
    body = b"x" * (224 * 1024)
    properties: dict[str, str | int | bool] = {"filler": "y" * (32 * 1024 - 200)}
    estate.broker.send(
        "backup-requests",
        [OutgoingMessage(entity="", body=body, message_id="huge", application_properties=properties)],
    )
    estate.quiesce()
    types = [event["type"] for event in estate.events()]
    assert types == ["sqlvmbackup.request.rejected.v1"]
    (kept,) = estate.broker.peek("dead-letters/$deadletterqueue")
    assert kept.body == body


@pytest.mark.parametrize("step", ["select_items", "trigger_backup", "track"])
def test_F34_poison_message(open_estate: OpenEstate, step: str) -> None:
    estate = open_estate(protected_estate())
    with defective(step):
        outcome = finished(estate, estate.backup("orders"))
    assert outcome["status"] == ("failed" if step == "select_items" else "unknown")
    assert outcome["error"]["code"] == "FailedInternal"
    assert len(estate.parked()) == 1
    assert estate.mutations["Backup"] == (1 if step == "track" else 0)
    assert finished(estate, estate.backup("orders"))["status"] == "succeeded"


@pytest.mark.parametrize("entry", CORPUS.values(), ids=CORPUS)
def test_F40_deploy_while_jobs_in_flight(open_estate: OpenEstate, entry: JsonObject) -> None:
    estate = open_estate(protected_estate())
    row = corpus.QUEUES[entry["queue"]]
    body = json.dumps(entry["body"]).encode()
    delivery = Delivery(queue=entry["queue"], body=body, taken=estate.clock.now())
    message = read(row, delivery, estate.runtime)
    assert message is not None
    # What was written by the old version is told from the rest just as before: no duplicate, nothing twice.
    assert message.message_id == entry["messageId"]
    assert message.client_request_id == entry["clientRequestId"]
    # Nothing that was written is lost.
    again = json.loads(message.model_dump_json(by_alias=True, exclude_none=True))
    assert lost(dict(upgraded(entry["body"])), again) == []
    estate.broker.send(entry["queue"], [message_to(entry["queue"], body, entry["messageId"])])
    estate.quiesce()
    request = {"source": message.request.source, "id": message.request.id}
    assert estate.outcomes_of(request), "whoever waits is answered by the new version"


#: Queues of steps that no earlier version has written to.
ADDED_SINCE = {"find-vaults", "survey-vault", "select-drills", "check-drill", "clean-up-drill"}


def test_F40_the_present_version_has_its_corpus() -> None:
    assert (corpus.DIRECTORY / f"version-{VERSION}.json").exists(), "run: python -m tests.faults.corpus"
    assert {entry["queue"] for entry in CORPUS.values()} == set(corpus.QUEUES) - ADDED_SINCE


def test_F40_every_old_message_goes_on_where_it_was(open_estate: OpenEstate) -> None:
    """Messages that an earlier version wrote are taken up where they were, and end as they would have."""
    lines = [json.loads(line) for line in OLD_MESSAGES.read_text(encoding="utf-8").splitlines()]
    assert {line["entity"] for line in lines} == {step.queue for step in TABLE.rows.values()} - ADDED_SINCE
    for line in lines:
        body = line["body"]
        estate = open_estate(ESTATES.get(line["entity"], REGISTERED))
        message = OutgoingMessage(entity=line["entity"], body=json.dumps(body).encode(), message_id="old")
        estate.broker.send(message.entity, [message])
        estate.quiesce()
        assert not estate.parked(), line
        (outcome,) = estate.outcomes()
        assert outcome["data"]["requestId"] == body["request"]["id"]
        # What tracks an operation of an estate that is no more cannot find it; everything else goes on.
        if line["entity"] != "track":
            assert outcome["data"]["status"] == "succeeded", outcome


@pytest.mark.parametrize("step", ["trigger_backup", "track", "select_items"])
def test_F41_a_lost_message_is_answered_parked_and_replayed(open_estate: OpenEstate, step: str) -> None:
    estate = open_estate(protected_estate())
    queue = TABLE.rows[step].queue
    estate.submit(request := estate.backup("orders"))
    for _ in range(200):
        before = estate.broker.counts("dead-letters")
        for message in estate.broker.receive(queue):
            estate.broker.dead_letter(queue, message.lock_token, "Lost", "by hand")
            break
        if estate.broker.counts("dead-letters") != before:
            break
        # One function at a time, so that the message is found in its queue.
        step_once(estate)
    estate.quiesce()
    estate.check()
    outcome = estate.outcome(request)
    assert outcome["error"]["code"] == "FailedInternal"
    (parked,) = estate.parked()
    assert parked["originalQueue"] == queue
    # Sent again under a new epoch it goes on where it was, and does nothing twice.
    assert estate.replay() == 1
    estate.quiesce()
    (again,) = estate.outcomes_of(request, epoch=1)
    assert again["data"]["status"] == "succeeded"
    assert estate.mutations["Backup"] == 1


@pytest.mark.parametrize("queue", [queue.name for queue in TOPOLOGY.queues if queue.forward_dead_letters_to])
def test_F41_lost_chain(open_estate: OpenEstate, queue: str) -> None:
    """Whatever queue loses its message, its requester is answered and the message kept."""
    lines = [json.loads(line) for line in OLD_MESSAGES.read_text(encoding="utf-8").splitlines()]
    estate = open_estate(bare_estate())
    bodies = [json.dumps(line["body"]).encode() for line in lines if line["entity"] == queue]
    request = estate.restore("orders") if queue.startswith("restore") else estate.backup("orders")
    request = estate.protect("orders") if queue.startswith("protect") else request
    body = bodies[0] if bodies else json.dumps(request).encode()
    # What an operator sends again says where it was.
    properties: JsonObject = {"originalQueue": "events", "epoch": 1} if queue == "replays" else {}
    sent = OutgoingMessage(entity=queue, body=body, message_id="lost", application_properties=properties)
    estate.broker.send(queue, [sent])
    (received,) = estate.broker.receive(queue)
    estate.broker.dead_letter(queue, received.lock_token, reason="Lost", description="by a test")
    estate.quiesce()
    (outcome,) = estate.outcomes()
    data = outcome["data"]
    if data["status"] == "succeededWithWarnings":
        # The first backup of a database that is protected, whatever became of that.
        assert queue == "trigger-backup" and "FailedInternal" in data["warnings"][0]
    elif queue in ADDED_SINCE | {"coverage-requests", "drill-requests"}:
        # What lies there is no message for that queue.
        assert data["status"] == "rejected"
    else:
        assert data["status"] in ("failed", "unknown")
        assert data["error"]["code"] == "FailedInternal"
    (parked,) = estate.parked()
    assert (parked["body"], parked["originalQueue"]) == (body, properties.get("originalQueue", queue))
    assert not estate.simulator.ledger_entries


def crash_and_give_up(estate: FaultyEstate, queue: str) -> None:
    """Let the app crash as planned; the broker then gives up the message of that queue."""
    with pytest.raises(Crash):
        estate.host.run_until_idle()
    estate.restart(release=True)
    (received,) = estate.broker.receive(queue)
    estate.broker.dead_letter(queue, received.lock_token, "MaxDeliveryCountExceeded", "too often")
    estate.quiesce()


@pytest.mark.parametrize("echoes", [True, False])
@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("operation", ["backup", "restore"])
def test_F41_a_replay_adopts_what_had_started(
    open_estate: OpenEstate, operation: str, side: Side, echoes: bool
) -> None:
    """A step is given up after its call, or before it; sent again by hand it finds out which, in any vault."""
    queue = f"trigger-{operation}"
    estate = open_estate(protected_estate("orders", "billing", echoActivityId=echoes))
    proven(estate)
    estate.meter.plan.at[f"POST {operation}"] = side
    request = estate.backup("orders") if operation == "backup" else estate.restore("orders")
    estate.submit(request)
    crash_and_give_up(estate, queue)
    assert estate.outcome(request)["status"] == "unknown"
    (parked,) = estate.parked()
    assert parked["originalQueue"] == queue
    assert estate.replay() == 1
    estate.quiesce()
    (again,) = estate.outcomes_of(request, epoch=1)
    assert again["data"]["status"] == "succeeded"
    route = operation.title()
    started = estate.job_ids(route)[1 if operation == "backup" else 0 :]
    assert started == [again["data"]["job"]["id"]], "it was done twice"


@pytest.mark.parametrize("operation", ["backup", "restore"])
def test_F41_a_message_given_up_after_it_had_handed_over_is_no_doubt(
    open_estate: OpenEstate, operation: str
) -> None:
    """The first delivery had gone on: the requester hears how the job ended, not that nobody knows."""
    queue = f"trigger-{operation}"
    plan = Plan(at={"send track": "after"})
    estate = open_estate(protected_estate(), plan)
    request = estate.backup("orders") if operation == "backup" else estate.restore("orders")
    estate.submit(request)
    crash_and_give_up(estate, queue)
    estate.check()
    assert estate.outcome(request)["status"] == "succeeded"
    assert len(estate.parked()) == 1
