"""Requests in: routed, taken once, or answered and parked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import azure.functions as func
import pytest

from functions.blueprints import blueprint
from shared.engine.message import VERSION, Delivery
from shared.engine.requeue import OPERATOR_WAIT, requeue
from shared.engine.run import read
from shared.following.batch import handle_batch
from shared.intake.dead_letters import report_dead_letter
from shared.intake.receive import receive_request
from shared.intake.replays import receive_replay
from shared.workflows import TABLE
from tests.unit.app import OUTCOMES, App, open_app
from tests.unit.examples import NOW, backup_message
from tests.unit.messages.test_requests import event


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
        receive_request(app.delivery(f"{operation}-requests", request), app.runtime)
    (message,) = app.bodies(queue)
    assert message["request"]["id"] == "1"
    assert message["request"]["correlationId"] == "c-1"
    assert message["request"]["traceparent"] == request["traceparent"]
    assert not app.held(OUTCOMES)


def test_a_request_in_the_queue_of_another_is_rejected(app: App) -> None:
    receive_request(app.delivery("backup-requests", event("restore")), app.runtime)
    (outcome,) = app.bodies(OUTCOMES)
    # Who may send backup requests names nobody's restore.
    assert outcome["type"] == "sqlvmbackup.request.rejected.v1"
    assert (
        "queue backup-requests takes sqlvmbackup.backup.requested.v1 only"
        in outcome["data"]["error"]["message"]
    )
    assert len(app.held("parked-messages")) == 1


def test_what_is_refused_is_answered_once_and_its_original_kept_whole(app: App) -> None:
    body = b'{"specversion": "1.0", "type": 5, "x": "\xc3\xa9"}'
    for _ in range(3):
        receive_request(app.delivery("events", body, application_properties={"kept": "yes"}), app.runtime)
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
    receive_request(app.delivery("events", body), app.runtime)
    receive_replay(replay(app, "events", body, epoch=1), app.runtime)
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


def test_events_go_to_the_first_step_of_their_type(app: App) -> None:
    for operation, queue in (("protect", "ensure-vault"), ("backup", "select-items")):
        receive_request(app.delivery("events", event(operation)), app.runtime)
        (message,) = app.bodies(queue)
        assert message["request"]["operation"] == operation


def test_restores_are_taken_from_their_own_queue_only_unless_a_setting_says_so(app: App) -> None:
    receive_request(app.delivery("events", event("restore")), app.runtime)
    (outcome,) = app.bodies(OUTCOMES)
    assert outcome["data"]["status"] == "rejected"
    assert "EVENTS_ALLOW_RESTORE" in outcome["data"]["error"]["message"]
    assert not app.held("select-recovery-point")
    with open_app({"EVENTS_ALLOW_RESTORE": "true"}) as generous:
        receive_request(generous.delivery("events", event("restore")), generous.runtime)
        assert len(generous.held("select-recovery-point")) == 1


def test_an_app_answers_what_it_does_not_serve() -> None:
    with open_app({"WORKFLOWS": "backup"}) as app:
        receive_request(app.delivery("events", event("protect")), app.runtime)
        (outcome,) = app.bodies(OUTCOMES)
        assert "this app serves backup" in outcome["data"]["error"]["message"]


@pytest.mark.parametrize("workflow", ["protect", "backup", "restore", "coverage", "drill"])
def test_a_replay_goes_to_every_step_that_the_app_has_a_function_for(workflow: str) -> None:
    app_of_one = func.FunctionApp()
    app_of_one.register_functions(blueprint({"WORKFLOWS": workflow}))
    own = {function.get_function_name() for function in app_of_one.get_functions()}
    with open_app({"WORKFLOWS": workflow}) as app:
        for row in TABLE.rows.values():
            receive_replay(replay(app, row.queue, {"to": row.name}, epoch=1), app.runtime)
            refused = app.bodies(OUTCOMES)[-1]["data"]["error"]["code"] == "ReplayRefused"
            assert refused is (row.name not in own), row.name


def test_a_property_of_a_foreign_sender_does_not_make_a_request_a_planned_one(app: App) -> None:
    delivery = app.delivery(
        "backup-requests", event("backup"), application_properties={"schedule": "Nightly"}
    )
    receive_request(delivery, app.runtime)
    assert len(app.held("select-items")) == 1


@pytest.mark.parametrize(
    "epoch", [0, 1, "2", "9" * 5000, -1, 1.5, "x", b"\x00", True], ids=lambda e: str(e)[:8]
)
def test_no_epoch_whatever_stops_a_request(app: App, epoch: Any) -> None:
    delivery = app.delivery("backup-requests", event("backup"), application_properties={"epoch": epoch})
    receive_request(delivery, app.runtime)
    assert len(app.held("select-items")) == 1


def test_a_replay_is_neither_a_duplicate_nor_its_outcome(app: App) -> None:
    receive_request(app.delivery("backup-requests", event("backup")), app.runtime)
    report_dead_letter(dead(app, "backup-requests", event("backup")), app.runtime)
    for _ in range(2):
        again = replay(app, "backup-requests", event("backup"), epoch=1)
        receive_replay(again, app.runtime)
        report_dead_letter(replace(again, queue="dead-letters", dead_letter_source="replays"), app.runtime)
    assert [body["request"]["epoch"] for body in app.bodies("select-items")] == [0, 1]
    assert [outcome["data"]["epoch"] for outcome in app.bodies(OUTCOMES)] == [0, 1]


def replay(app: App, queue: str, body: Any, *, epoch: int) -> Delivery:
    return app.delivery("replays", body, application_properties={"originalQueue": queue, "epoch": epoch})


def dead(app: App, queue: str, body: Any, reason: str = "MaxDeliveryCountExceeded") -> Delivery:
    return app.delivery("dead-letters", body, dead_letter_source=queue, dead_letter_reason=reason)


def step_body(**changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(backup_message().model_dump_json(by_alias=True, exclude_none=True))
    return {**body, **changes}


def test_a_step_message_of_a_newer_version_waits(app: App) -> None:
    delivery = app.delivery("trigger-backup", step_body(version=VERSION + 1, surprise={}))
    assert read(TABLE.rows["trigger_backup"], delivery, app.runtime) is None
    (waiting,) = app.held("trigger-backup")
    assert waiting.body == delivery.body
    assert waiting.scheduled_for == NOW + timedelta(minutes=5)
    assert not app.held(OUTCOMES)


def test_fields_of_a_newer_app_are_no_problem(app: App) -> None:
    body = step_body(surprise=1)
    body["payload"]["surprise"] = body["request"]["surprise"] = body["effect"]["surprise"] = [1]
    message = read(TABLE.rows["trigger_backup"], app.delivery("trigger-backup", body), app.runtime)
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
    assert read(TABLE.rows["trigger_backup"], app.delivery("trigger-backup", body), app.runtime) is None
    assert len(app.held(OUTCOMES)) == 1
    (parked,) = app.held("parked-messages")
    assert parked.body == body


def test_messages_without_an_id_wait_side_by_side(app: App) -> None:
    for body in ({"a": 1}, {"a": 2}):
        delivery = app.delivery("trigger-backup", body, message_id="")
        for _ in range(2):
            requeue(delivery, app.runtime, wait=OPERATOR_WAIT)
    assert app.bodies("trigger-backup") == [{"a": 1}, {"a": 2}]


def test_a_message_may_wait_for_its_operator_for_weeks(app: App) -> None:
    app.broker.send("select-items", [])
    delivery = app.delivery("select-items", {"a": 1})
    for _ in range(300):
        requeue(delivery, app.runtime, wait=OPERATOR_WAIT)
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
    message = read(TABLE.rows["trigger_backup"], delivery, app.runtime)
    assert message is not None
    assert message.effect.may_have_started
    assert message.effect.at == NOW


def test_a_request_that_expired_is_answered_and_parked(app: App) -> None:
    report_dead_letter(dead(app, "backup-requests", event("backup"), "TTLExpiredException"), app.runtime)
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
    for _ in range(2):
        report_dead_letter(dead(app, step.replace("_", "-"), body), app.runtime)
    if step == "trigger_backup":
        # One of its deliveries may have handed over, so the tracker has the last word.
        (verdict,) = app.held("track")
        run_tracker(app, verdict.body)
    (outcome,) = app.bodies(OUTCOMES)
    assert outcome["data"]["status"] == status
    assert outcome["data"]["database"] == "orders"
    assert outcome["data"]["error"]["code"] == "FailedInternal"
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
    report_dead_letter(dead(app, "track", body), app.runtime)
    (outcome,) = app.bodies(OUTCOMES)
    assert outcome["data"]["error"]["code"] == "FailedInternal"
    assert len(app.held("parked-messages")) == 1
