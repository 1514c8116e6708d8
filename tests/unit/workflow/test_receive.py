"""Requests in: routed, taken once, or answered and parked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from shared.messages.requests import Operation
from shared.workflow.dead_letters import report_dead_letter
from shared.workflow.delivery import decode
from shared.workflow.parking import wait_for_operator
from shared.workflow.receive import receive_event, receive_request
from shared.workflow.table import STEPS
from shared.workflow.tracker import handle_batch
from tests.unit.workflow.app import OUTCOMES, App, open_app
from tests.unit.workflow.messages import NOW, backup_message
from tests.unit.workflow.test_requests import event


@pytest.fixture
def app() -> Iterator[App]:
    with open_app() as opened:
        yield opened


@pytest.mark.parametrize(
    ("operation", "queue"),
    [("protect", "ensure-vault"), ("backup", "select-items"), ("restore", "select-recovery-point")],
)
def test_a_request_goes_to_the_first_step_once(app: App, operation: str, queue: str) -> None:
    request = event(operation, correlationid="c-1", traceparent=f"00-{'1' * 32}-{'2' * 16}-01")
    for _ in range(3):
        receive_request(app.delivery(f"{operation}-requests", request), app.runtime, Operation(operation))
    (message,) = app.bodies(queue)
    assert message["request"]["id"] == "1"
    assert message["request"]["correlationId"] == "c-1"
    assert message["request"]["traceparent"] == request["traceparent"]
    assert not app.held(OUTCOMES)


def test_a_request_in_the_queue_of_another_is_rejected(app: App) -> None:
    receive_request(app.delivery("backup-requests", event("restore")), app.runtime, Operation.BACKUP)
    (outcome,) = app.bodies(OUTCOMES)
    assert outcome["type"] == "sqlvmbackup.restore.rejected.v1"
    assert (
        "queue backup-requests takes sqlvmbackup.backup.requested.v1 only"
        in outcome["data"]["error"]["message"]
    )
    assert len(app.held("parked-messages")) == 1


def test_what_is_refused_is_answered_once_and_its_original_kept_whole(app: App) -> None:
    body = b'{"specversion": "1.0", "type": 5, "x": "\xc3\xa9"}'
    for _ in range(3):
        receive_event(app.delivery("events", body, application_properties={"kept": "yes"}), app.runtime)
    (outcome,) = app.bodies(OUTCOMES)
    assert outcome["type"] == "sqlvmbackup.request.rejected.v1"
    assert outcome["data"]["outcomeCount"] == 1
    (parked,) = app.held("parked-messages")
    assert parked.body == body
    assert parked.application_properties["kept"] == "yes"
    assert parked.application_properties["originalQueue"] == "events"
    assert "type" in str(parked.application_properties["description"])


def test_what_is_no_request_is_answered_to_whoever_it_names(app: App) -> None:
    trace = f"00-{'1' * 32}-{'2' * 16}-01"
    body = {**event("backup"), "specversion": "0.3", "traceparent": trace, "correlationid": "c-1"}
    for epoch in (0, 1):
        properties = {"epoch": epoch}
        delivery = app.delivery("events", json.dumps(body).encode(), application_properties=properties)
        receive_event(delivery, app.runtime)
    first, replayed = app.bodies(OUTCOMES)
    for outcome in (first, replayed):
        assert (outcome["causationid"], outcome["correlationid"]) == (body["id"], "c-1")
        assert outcome["traceparent"] == trace
        assert (outcome["data"]["requestId"], outcome["data"]["requestSource"]) == (
            body["id"],
            body["source"],
        )
        assert outcome["data"]["operation"] == "request"
    assert [outcome["data"]["epoch"] for outcome in (first, replayed)] == [0, 1]
    assert first["id"] != replayed["id"]


def test_events_are_routed_by_their_type(app: App) -> None:
    for operation in ("protect", "backup"):
        receive_event(app.delivery("events", event(operation)), app.runtime)
        assert app.bodies(f"{operation}-requests") == [event(operation)]


def test_restores_are_taken_from_their_own_queue_only_unless_a_setting_says_so(app: App) -> None:
    receive_event(app.delivery("events", event("restore")), app.runtime)
    (outcome,) = app.bodies(OUTCOMES)
    assert outcome["data"]["status"] == "rejected"
    assert "EVENTS_ALLOW_RESTORE" in outcome["data"]["error"]["message"]
    assert not app.held("restore-requests")
    with open_app({"EVENTS_ALLOW_RESTORE": "true"}) as generous:
        receive_event(generous.delivery("events", event("restore")), generous.runtime)
        assert len(generous.held("restore-requests")) == 1


def test_an_app_answers_what_it_does_not_serve() -> None:
    with open_app({"WORKFLOWS": "backup"}) as app:
        receive_event(app.delivery("events", event("protect")), app.runtime)
        (outcome,) = app.bodies(OUTCOMES)
        assert "this app serves backup" in outcome["data"]["error"]["message"]


def test_a_property_of_a_foreign_sender_does_not_make_a_request_a_planned_one(app: App) -> None:
    delivery = app.delivery(
        "backup-requests", event("backup"), application_properties={"schedule": "Nightly"}
    )
    receive_request(delivery, app.runtime, Operation.BACKUP)
    assert len(app.held("select-items")) == 1


@pytest.mark.parametrize(
    "epoch", [0, 1, "2", "9" * 5000, -1, 1.5, "x", b"\x00", True], ids=lambda e: str(e)[:8]
)
def test_no_epoch_whatever_stops_a_request(app: App, epoch: Any) -> None:
    delivery = app.delivery("backup-requests", event("backup"), application_properties={"epoch": epoch})
    receive_request(delivery, app.runtime, Operation.BACKUP)
    assert len(app.held("select-items")) == 1


def test_a_replay_is_neither_a_duplicate_nor_its_outcome(app: App) -> None:
    for epoch in (0, 1, 1):
        delivery = app.delivery("backup-requests", event("backup"), application_properties={"epoch": epoch})
        receive_request(delivery, app.runtime, Operation.BACKUP)
        report_dead_letter(delivery, app.runtime)
    assert [body["request"]["epoch"] for body in app.bodies("select-items")] == [0, 1]
    assert [outcome["data"]["epoch"] for outcome in app.bodies(OUTCOMES)] == [0, 1]


def step_body(**changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(backup_message().model_dump_json(by_alias=True, exclude_none=True))
    return {**body, **changes}


def test_a_step_message_of_a_newer_version_waits(app: App) -> None:
    delivery = app.delivery("trigger-backup", step_body(version=2, surprise={}))
    assert decode(STEPS["trigger_backup"], delivery, app.runtime) is None
    (waiting,) = app.held("trigger-backup")
    assert waiting.body == delivery.body
    assert waiting.scheduled_for == NOW + timedelta(minutes=5)
    assert not app.held(OUTCOMES)


def test_fields_of_a_newer_app_are_no_problem(app: App) -> None:
    body = step_body(surprise=1)
    body["payload"]["surprise"] = body["request"]["surprise"] = body["effect"]["surprise"] = [1]
    message = decode(STEPS["trigger_backup"], app.delivery("trigger-backup", body), app.runtime)
    assert message == backup_message()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        json.dumps(step_body(payload=None)).encode(),
        json.dumps(step_body(payload={"database": 5})).encode(),
        json.dumps(step_body(at="0001-01-01T00:00:00+14:00")).encode(),
        json.dumps(step_body(request={})).encode(),
    ],
    ids=lambda body: str(body[:24]),
)
def test_a_step_message_that_cannot_be_read_is_answered_and_parked(app: App, body: bytes) -> None:
    assert decode(STEPS["trigger_backup"], app.delivery("trigger-backup", body), app.runtime) is None
    assert len(app.held(OUTCOMES)) == 1
    (parked,) = app.held("parked-messages")
    assert parked.body == body


def test_messages_without_an_id_wait_side_by_side(app: App) -> None:
    for body in ({"a": 1}, {"a": 2}):
        delivery = app.delivery("trigger-backup", body, message_id="")
        for _ in range(2):
            wait_for_operator(delivery, app.runtime.bus, app.clock.now())
    assert app.bodies("trigger-backup") == [{"a": 1}, {"a": 2}]


def test_a_message_may_wait_for_its_operator_for_weeks(app: App) -> None:
    app.broker.send("select-items", [])
    delivery = app.delivery("select-items", {"a": 1})
    for _ in range(300):
        wait_for_operator(delivery, app.runtime.bus, app.clock.now())
        app.clock.advance(timedelta(minutes=5))
        (message,) = app.broker.receive("select-items")
        app.broker.complete("select-items", message.lock_token)
        delivery = app.delivery(
            "select-items",
            message.body,
            message_id=message.message_id,
            application_properties=message.application_properties,
        )
    assert delivery.application_properties["waited"] == 300


def test_a_redelivery_counts_as_begun(app: App) -> None:
    delivery = app.delivery("trigger-backup", step_body(), delivery_count=2)
    message = decode(STEPS["trigger_backup"], delivery, app.runtime)
    assert message is not None
    assert message.effect.may_have_started
    assert message.effect.at == NOW


def test_a_request_that_expired_is_answered_and_parked(app: App) -> None:
    properties = {"DeadLetterReason": "TTLExpiredException", "DeadLetterSource": "backup-requests"}
    report_dead_letter(
        app.delivery("dead-letters", event("backup"), application_properties=properties), app.runtime
    )
    (outcome,) = app.bodies(OUTCOMES)
    assert outcome["type"] == "sqlvmbackup.backup.failed.v1"
    assert outcome["data"]["error"]["code"] == "MessageExpired"
    assert "backup-requests" in outcome["data"]["error"]["message"]
    assert len(app.held("parked-messages")) == 1


def run_tracker(app: App, body: bytes) -> None:
    handle_batch([app.delivery("track", body)], app.runtime)


@pytest.mark.parametrize(
    ("step", "status"), [("trigger_backup", "unknown"), ("select_items", "failed"), ("track", "unknown")]
)
def test_a_dead_letter_is_answered_by_what_may_have_happened(app: App, step: str, status: str) -> None:
    body = step_body(step=step)
    if step == "track":
        body["payload"] = {"origin": "trigger_backup", "payload": body["payload"], "jobId": "job-9"}
    properties = {"DeadLetterReason": "MaxDeliveryCountExceeded", "DeadLetterSource": step.replace("_", "-")}
    for _ in range(2):
        report_dead_letter(app.delivery("dead-letters", body, application_properties=properties), app.runtime)
    if step == "trigger_backup":
        # One of its deliveries may have handed over, so the tracker has the last word.
        (verdict,) = app.held("track")
        run_tracker(app, verdict.body)
    (outcome,) = app.bodies(OUTCOMES)
    assert outcome["data"]["status"] == status
    assert outcome["data"]["database"] == "orders"
    assert outcome["data"]["error"]["code"] == "failed_internal"
    assert outcome["data"].get("job", {}).get("id") == ("job-9" if step == "track" else None)
    (parked,) = app.held("parked-messages")
    assert json.loads(parked.body) == body


@pytest.mark.parametrize(
    "changes",
    [
        {"origin": "no_such_step"},
        {"payload": {"database": {"name": 5}}},
        {"payload": {"database": {"name": "orders", "vmId": "no id"}}},
        {"deadline": "never"},
    ],
    ids=["origin", "database", "vm", "deadline"],
)
def test_a_dead_letter_that_makes_no_sense_is_answered_all_the_same(
    app: App, changes: dict[str, object]
) -> None:
    body = step_body(step="track")
    tracked = {
        "origin": "trigger_backup",
        "payload": body["payload"],
        "jobId": "job-9",
        "clientRequestId": "73716c62-0000-8000-8000-000000000000",
        "began": body["at"],
        "deadline": body["at"],
    }
    body["payload"] = {**tracked, **changes}
    report_dead_letter(
        app.delivery("dead-letters", body, application_properties={"DeadLetterSource": "track"}), app.runtime
    )
    (outcome,) = app.bodies(OUTCOMES)
    assert outcome["data"]["error"]["code"] == "failed_internal"
    assert len(app.held("parked-messages")) == 1
