"""When a request is complete, and what counts then."""

from __future__ import annotations

import json
from typing import Any

from cli.awaited_requests import AwaitedRequest, AwaitedRequests
from cli.request_lines import read_request_lines
from shared.messages.events import rejected_id

JsonObject = dict[str, Any]


def followed(*bodies: bytes) -> AwaitedRequests:
    return AwaitedRequests(read_request_lines(bodies))


def complete(one: AwaitedRequests | AwaitedRequest) -> bool:
    return one.complete


def a_request(request_id: str = "1") -> bytes:
    event = {
        "specversion": "1.0",
        "type": "sqlvmbackup.backup.requested.v1",
        "source": "/s",
        "id": request_id,
    }
    return json.dumps(event).encode()


def event(
    kind: str, key: str | None = None, *, count: int = 2, epoch: int = 0, request_id: str = "1"
) -> JsonObject:
    data = {
        "requestSource": "/s",
        "requestId": request_id,
        "epoch": epoch,
        "outcomeCount": count,
        "status": kind,
    }
    if key is not None:
        data["outcomeKey"] = key
    return {"id": f"{request_id}-{kind}-{key}-{epoch}", "type": f"sqlvmbackup.backup.{kind}.v1", "data": data}


def test_a_request_is_complete_with_its_last_distinct_outcome() -> None:
    awaited = followed(a_request())
    assert not complete(awaited)
    for seen in (event("accepted"), event("started", "a"), event("succeeded", "a"), event("succeeded", "a")):
        observed = awaited.observe(seen)
        assert observed is not None
        assert not complete(awaited)
    awaited.observe(event("failed", "b"))
    assert complete(awaited)
    assert not awaited.succeeded
    assert [outcome["data"]["outcomeKey"] for outcome in awaited.final_outcomes()] == ["a", "b"]


def test_warnings_are_a_success_and_a_skip_is_not() -> None:
    for status, success in (("succeededWithWarnings", True), ("skipped", False), ("unknown", False)):
        awaited = followed(a_request())
        awaited.observe(event(status, "a", count=1))
        assert complete(awaited)
        assert awaited.succeeded is success


def test_events_of_others_and_what_is_no_event_are_passed_over() -> None:
    awaited = followed(a_request())
    assert awaited.observe(event("succeeded", "a", request_id="2")) is None
    for strange in ({}, {"type": "x"}, {"type": "sqlvmbackup.backup.failed.v1", "data": []}):
        assert awaited.observe(strange) is None


def test_a_higher_epoch_supersedes() -> None:
    awaited = followed(a_request())
    (request,) = awaited.requests
    awaited.observe(event("rejected", "request", count=1) | {"id": request.line.refusal_ids(0)[0]})
    assert complete(request)
    awaited.expect_epoch(request, 1)
    assert not complete(request)
    for key in ("a", "b"):
        awaited.observe(event("succeeded", key, epoch=1))
    assert complete(request)
    assert awaited.succeeded
    assert {outcome["data"]["epoch"] for outcome in awaited.final_outcomes()} == {1}


def test_the_rejection_of_somebody_elses_message_of_the_same_id_is_not_the_requests() -> None:
    awaited = followed(a_request())
    assert awaited.observe(event("rejected", "request", count=1)) is None
    assert not complete(awaited)
    awaited.observe(event("rejected", "a", count=1))
    assert complete(awaited)


def test_a_replay_of_one_database_leaves_the_others_their_outcomes() -> None:
    awaited = followed(a_request())
    (request,) = awaited.requests
    awaited.observe(event("succeeded", "a"))
    awaited.observe(event("unknown", "b"))
    awaited.expect_epoch(request, 1)
    awaited.observe(event("succeeded", "b", epoch=1))
    # Whether more of the replay is on its way only the broker knows.
    assert not complete(request)
    assert request.answered
    assert awaited.succeeded


def test_what_is_no_request_is_answered_by_its_bytes() -> None:
    garbage = b"garbage"
    awaited = followed(garbage, a_request())
    rejection = {
        "id": rejected_id(garbage),
        "type": "sqlvmbackup.request.rejected.v1",
        # What it names is what its sender wrote into it: that does not make it another's answer.
        "data": {
            "requestSource": "/s",
            "requestId": "1",
            "outcomeKey": "request",
            "outcomeCount": 1,
            "status": "rejected",
        },
    }
    observed = awaited.observe(rejection)
    assert observed is not None
    assert observed.request.line.body == garbage
    assert [request.complete for request in awaited.requests] == [True, False]
    assert awaited.observe({**rejection, "id": rejected_id(b"other garbage")}) is None
