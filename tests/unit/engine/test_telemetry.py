"""Log records and spans say which request, database and job they are about, and nothing else of a message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.clock import MachineTime
from shared.engine.claim import claim
from shared.engine.effect import Effect
from shared.engine.message import Delivery, FollowedJob, FollowedOperation
from shared.engine.result import End
from shared.engine.telemetry import context_of, delivery_context, log_context, say, traced, traced_batch
from shared.messages.events import Status
from shared.telemetry import tracing
from tests.unit.examples import NOW, VAULT, backup_message, request
from tests.unit.test_tracing import INCOMING, Recorded, recorded

__all__ = ["recorded"]

SIBLING = f"{INCOMING[:36]}{'3' * 16}-01"
OTHER = f"00-{'1' * 32}-{'2' * 16}-01"


def delivery(body: Any = None, queue: str = "trigger-backup", sent: Any = None, **details: Any) -> Delivery:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    properties = {} if sent is None else {tracing.TRACEPARENT: sent}
    fields = {"message_id": "m1", "application_properties": properties, **details}
    return Delivery(queue=queue, body=raw, taken=MachineTime(NOW), **fields)


def test_a_record_about_a_step_says_what_it_is_about() -> None:
    asked = request(correlation_id="c-1", traceparent=INCOMING)
    message = backup_message(request=asked, effect=Effect(n=2), attempt=3, poll=4)
    assert log_context(message, more="x") == {
        "action": "trigger_backup",
        "request_id": "backup-1",
        "source": "/tests",
        "vault_id": VAULT.path,
        "correlation_id": "c-1",
        "traceparent": INCOMING,
        "operation": "backup",
        "database": str(message.payload.database),
        "job_id": None,
        "effect": 2,
        "attempt": 3,
        "poll": 4,
        "more": "x",
    }
    assert log_context(message, "park")["action"] == "park"
    assert log_context(backup_message(request=request(vault_id=None)))["vault_id"] is None


def test_a_record_about_what_is_followed_names_the_job() -> None:
    followed = claim(backup_message(), FollowedJob(job_id="job-1"), at=NOW, deadline=NOW)
    assert log_context(followed)["job_id"] == "job-1"
    assert log_context(claim(backup_message(), FollowedOperation(), at=NOW, deadline=NOW))["job_id"] is None


def test_a_record_about_a_delivery_says_what_can_be_read_of_it() -> None:
    found = delivery({"request": {"id": "r1", "source": "/tests"}}, sequence_number=7, delivery_count=2)
    assert delivery_context(found, "read", why="x") == {
        "action": "read",
        "queue": "trigger-backup",
        "message_id": "m1",
        "sequence_number": 7,
        "delivery_count": 2,
        "request_id": "r1",
        "source": "/tests",
        "why": "x",
    }
    assert delivery_context(delivery({}, message_id=""), "read")["message_id"] is None


@pytest.mark.parametrize(
    ("body", "request_id", "source"),
    [
        ({"id": "r1", "source": "/tests"}, "r1", "/tests"),
        ({"request": {"id": 5, "source": "/tests"}}, None, "/tests"),
        ({"request": {"id": "r1", "source": []}}, "r1", None),
        ({"request": "r1"}, None, None),
        (["r1"], None, None),
        (b"no json", None, None),
    ],
    ids=str,
)
def test_a_request_is_named_as_far_as_a_body_names_it(body: Any, request_id: Any, source: Any) -> None:
    found = delivery_context(delivery(body), "read")
    assert (found["request_id"], found["source"]) == (request_id, source)


def test_a_delivery_is_a_span_that_says_what_came_of_it(recorded: Recorded) -> None:
    message = backup_message()
    with traced(delivery({}, sent=INCOMING, delivery_count=2)) as span:
        say(span, message, End(Status.FAILED))
    (found,) = recorded.spans
    assert (found.name, found.kind.name) == ("process trigger-backup", "CONSUMER")
    assert found.parent is not None
    assert f"{found.parent.span_id:016x}" == INCOMING.split("-")[2]
    assert found.attributes == {
        tracing.SYSTEM: "servicebus",
        tracing.OPERATION: "process",
        tracing.OPERATION_TYPE: "process",
        tracing.DESTINATION: "trigger-backup",
        tracing.DELIVERY_COUNT: 2,
        tracing.REQUEST_ID: "backup-1",
        tracing.REQUEST_SOURCE: "/tests",
        tracing.STEP: "trigger_backup",
        tracing.DATABASE: str(message.payload.database),
        tracing.RESULT: "End",
    }


def test_a_span_ends_with_what_broke_it(recorded: Recorded) -> None:
    with pytest.raises(ValueError, match="broken"), traced(delivery({})):
        raise ValueError("broken")
    with pytest.raises(ValueError, match="broken"), traced_batch([delivery({})]):
        raise ValueError("broken")
    assert [span.status.status_code.name for span in recorded.spans] == ["ERROR", "ERROR"]


@pytest.mark.parametrize(
    ("contexts", "parent"),
    [
        ((INCOMING, INCOMING), INCOMING),
        ((INCOMING, SIBLING), INCOMING),
        ((INCOMING, OTHER), None),
        ((INCOMING, None), None),
        ((None,), None),
    ],
)
def test_a_batch_is_part_of_the_one_trace_of_its_messages_and_linked_to_each(
    recorded: Recorded, contexts: tuple[str | None, ...], parent: str | None
) -> None:
    with traced_batch([delivery({}, "track", sent) for sent in contexts]):
        pass
    (found,) = recorded.spans
    assert found.name == "process batch of track"
    assert (f"{found.parent.span_id:016x}" if found.parent else None) == (parent and parent.split("-")[2])
    assert [f"{link.context.span_id:016x}" for link in found.links] == [
        sent.split("-")[2] for sent in contexts if sent
    ]
    assert found.attributes == {
        tracing.SYSTEM: "servicebus",
        tracing.OPERATION: "process",
        tracing.OPERATION_TYPE: "process",
        tracing.DESTINATION: "track",
        tracing.BATCH_SIZE: len(contexts),
    }


def test_a_batch_of_nothing_is_no_span(recorded: Recorded) -> None:
    with traced_batch([]) as span:
        assert span is tracing.NOTHING
    assert recorded.spans == ()


@pytest.mark.parametrize(
    ("queue", "body", "sent", "context"),
    [
        # between steps the sender's span is the parent
        ("track", {"request": {"traceparent": OTHER}}, INCOMING, INCOMING),
        ("track", {"request": {"traceparent": OTHER}}, None, OTHER),
        ("track", {"request": {"traceparent": OTHER}}, "", OTHER),
        # of a request, the context in its event
        ("backup-requests", {"traceparent": OTHER}, INCOMING, OTHER),
        ("backup-requests", {"traceparent": 5}, INCOMING, INCOMING),
        ("backup-requests", {"request": "odd"}, None, None),
        ("backup-requests", b"no json", INCOMING, INCOMING),
        ("backup-requests", [], 5, None),
    ],
)
def test_the_context_of_a_delivery_is_its_requests(
    recorded: Recorded, queue: str, body: Any, sent: Any, context: str | None
) -> None:
    assert context_of(delivery(body, queue, sent)) == context


def test_where_nobody_records_nothing_is_read_of_a_body() -> None:
    assert context_of(delivery({"traceparent": OTHER}, "backup-requests")) is None
    with traced_batch([delivery({})]) as span:
        assert span is tracing.NOTHING
