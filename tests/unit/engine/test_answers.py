"""A message between steps that cannot be read is answered by whatever can be read of it, so that nobody waits."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from shared.engine.claim import claim
from shared.engine.message import FollowedJob
from shared.engine.run import handle
from shared.following.batch import handle_batch
from shared.messages import events
from shared.workflows import TABLE
from tests.unit.app import OUTCOMES, App
from tests.unit.examples import NOW, VAULT, backup_message, body_of, item_id, request


def answered(app: App, step: str, body: Any, **details: Any) -> dict[str, Any]:
    """What the requester is told of a message to a step that cannot be read, and that was kept."""
    queue = step.replace("_", "-")
    delivery = app.delivery(queue, body, **details)
    if step == "track":
        handle_batch([delivery], app.runtime)
    else:
        handle(TABLE.rows[step], delivery, app.runtime)
    assert [message.body for message in app.held("parked-messages")] == [delivery.body]
    (outcome,) = app.bodies(OUTCOMES)
    data: dict[str, Any] = outcome["data"]
    return {**data, "type": outcome["type"], "subject": outcome.get("subject")}


def broken(**payload: Any) -> dict[str, Any]:
    """A message to trigger_backup that asks for no type that there is."""
    body = body_of(backup_message())
    return {**body, "payload": {**body["payload"], "backupType": "Odd", **payload}}


def test_of_a_step_that_may_have_called_the_outcome_of_its_database_is_not_known(app: App) -> None:
    told = answered(app, "trigger_backup", broken(outcomeCount=3))
    assert (told["status"], told["database"], told["outcomeCount"]) == ("unknown", "orders", 3)
    assert told["subject"] == item_id("orders").path
    assert told["error"]["code"] == "UnreadableStepMessage"
    assert "job" not in told


@pytest.mark.parametrize("count", [0, "many", None, -1])
def test_a_count_that_is_none_is_one(app: App, count: object) -> None:
    assert answered(app, "trigger_backup", broken(outcomeCount=count))["outcomeCount"] == 1


def test_a_count_of_two_is_two(app: App) -> None:
    assert answered(app, "trigger_backup", broken(outcomeCount=2))["outcomeCount"] == 2


def test_of_a_step_that_makes_no_call_the_request_failed(app: App) -> None:
    told = answered(app, "ensure_vault", {**body_of(backup_message()), "step": "ensure_vault", "payload": []})
    assert told["status"] == "failed"
    assert "database" not in told


def test_of_a_step_that_this_version_does_not_have_the_request_failed(app: App) -> None:
    told = answered(app, "trigger_backup", {**broken(), "step": "archive"})
    assert (told["status"], told["database"]) == ("failed", "orders")


@pytest.mark.parametrize("version", [1, 2])
def test_the_job_that_was_followed_is_named(app: App, version: int) -> None:
    body = body_of(claim(backup_message(), FollowedJob(job_id="job-1"), at=NOW, deadline=NOW))
    payload = {name: value for name, value in body["payload"].items() if name not in ("began", "of")}
    where = {"of": {"kind": "job", "jobId": "job-1"}} if version == 2 else {"jobId": "job-1"}
    told = answered(app, "track", {**body, "version": version, "payload": {**payload, **where}})
    assert (told["status"], told["database"]) == ("unknown", "orders")
    assert (told["job"]["id"], told["job"]["status"]) == ("job-1", "Unknown")


def test_an_operation_that_was_followed_for_a_whole_request_is_no_doubt_about_a_database(app: App) -> None:
    body = body_of(claim(backup_message(), FollowedJob(job_id="job-1"), at=NOW, deadline=NOW))
    told = answered(
        app, "track", {**body, "payload": {"origin": "refresh_containers", "payload": {"data": {}}}}
    )
    assert told["status"] == "failed"


def test_of_a_survey_of_a_vault_the_vault_is_named(app: App) -> None:
    body = {
        **body_of(backup_message()),
        "step": "survey_vault",
        "payload": {"vaultId": VAULT.path, "outcomeCount": "many"},
    }
    told = answered(app, "survey_vault", body)
    assert told["outcomeKey"] == VAULT.key
    assert app.held(OUTCOMES)[0].message_id != events.claim_id(request())


@pytest.mark.parametrize("vault", ["no vault", 5])
def test_what_is_no_vault_is_not_named(app: App, vault: object) -> None:
    body = {**body_of(backup_message()), "step": "survey_vault", "payload": {"vaultId": vault, "data": {}}}
    assert answered(app, "survey_vault", body)["outcomeKey"] == events.REQUEST_KEY


@pytest.mark.parametrize(("payload", "whole"), [({"data": {}}, True), ({}, False)])
def test_the_outcome_of_a_whole_request_takes_the_place_of_its_acceptance(
    app: App, payload: dict[str, Any], whole: bool
) -> None:
    answered(app, "select_items", {**body_of(backup_message()), "step": "x", "payload": payload})
    assert (app.held(OUTCOMES)[0].message_id == events.claim_id(request())) is whole


@pytest.mark.parametrize(("of_delivery", "of_body", "told"), [(0, 2, 2), (3, 2, 3)])
def test_the_later_epoch_is_told(app: App, of_delivery: int, of_body: int, told: int) -> None:
    body = broken()
    body["request"]["epoch"] = of_body
    assert answered(app, "trigger_backup", body, epoch=of_delivery)["epoch"] == told


@pytest.mark.parametrize("message_id", ["m1", ""])
def test_what_is_no_message_of_a_request_is_told_by_its_queue_and_id(app: App, message_id: str) -> None:
    app.clock.advance(timedelta(seconds=1))
    told = answered(app, "trigger_backup", b"no json", message_id=message_id)
    assert told["type"] == "sqlvmbackup.request.rejected.v1"
    assert (told["queue"], told.get("messageId")) == ("trigger-backup", message_id or None)
