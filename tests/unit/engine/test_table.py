"""A step can come to what its row of the table lists, and to nothing else."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from pydantic import ValidationError

from shared.azure_backup.models import StartedOperation
from shared.engine.claim import claim
from shared.engine.effect import Effect
from shared.engine.message import Ending, FollowedJob
from shared.engine.result import Call, Continue, End, FollowJob, FollowOperation, NextEffect, Result, To
from shared.engine.run import handle
from shared.engine.table import Table, TableError
from shared.messages.events import Status
from shared.workflows import TABLE
from tests.unit.app import open_app
from tests.unit.examples import NOW, backup_message

PAYLOAD = backup_message().payload
CALL = Call(make=lambda _azure, _request_id: None)


def to(*steps: str) -> Continue:
    return Continue(tuple(To(step, PAYLOAD) for step in steps))


@pytest.mark.parametrize(
    ("step", "result"),
    [
        ("select_items", to("trigger_backup")),
        ("select_items", to("trigger_backup", "trigger_backup")),
        ("select_items", End(Status.SKIPPED)),
        ("trigger_backup", CALL),
        ("trigger_backup", FollowJob("job-1")),
        ("trigger_backup", NextEffect()),
        ("ensure_vault", CALL),
        ("ensure_vault", to("select_policy")),
        ("trigger_backup", FollowOperation(StartedOperation(status=202), PAYLOAD)),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_a_row_lists_is_permitted(step: str, result: Result) -> None:
    TABLE.row(step).permits(result)


@pytest.mark.parametrize(
    ("step", "result", "names"),
    [
        ("select_items", to("trigger_restore"), "trigger_restore"),
        ("select_items", to("trigger_backup", "trigger_restore"), "trigger_restore"),
        ("ensure_vault", to("select_policy", "select_policy"), "fans out"),
        ("select_items", CALL, "tracked"),
        ("select_recovery_point", CALL, "tracked"),
        ("ensure_vault", FollowJob("job-1"), "job"),
        ("select_items", NextEffect(), "job"),
        ("select_items", FollowOperation(StartedOperation(status=202), PAYLOAD), "tracked"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_a_row_does_not_list_is_a_defect(step: str, result: Result, names: str) -> None:
    with pytest.raises(TableError, match=names) as raised:
        TABLE.row(step).permits(result)
    assert step in str(raised.value)


def test_a_call_that_its_row_does_not_list_is_not_made() -> None:
    made: list[str] = []
    row = replace(
        TABLE.row("trigger_backup"),
        run=lambda _message, _c: Call(make=lambda _azure, request_id: made.append(request_id)),
        tracked=False,
        job=None,
    )
    with open_app() as app:
        body = backup_message().model_dump_json(by_alias=True).encode()
        with pytest.raises(TableError, match="tracked"):
            handle(row, app.delivery("trigger-backup", body), app.runtime)
    assert made == []


@pytest.mark.parametrize(
    ("step", "changes"),
    [
        ("select_items", {"follows": ("no_such_step",)}),
        ("select_items", {"follows": ("select_items",)}),
        ("ensure_vault", {"after_operation": "trigger_backup"}),
        ("ensure_vault", {"after_operation": None}),
        ("trigger_backup", {"job": None}),
        ("trigger_restore", {"begins": "no_such_step"}),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_table_that_leads_nowhere_is_refused(step: str, changes: dict[str, object]) -> None:
    row = replace(TABLE.row(step), **changes)  # type: ignore[arg-type]  # what is replaced differs
    with pytest.raises(TableError, match=step):
        Table(rows={**TABLE.rows, step: row}, first=TABLE.first)


def test_a_step_is_found_by_its_queue() -> None:
    table = Table(rows=TABLE.rows, first=TABLE.first)
    assert table.by_queue["trigger-backup"] is TABLE.rows["trigger_backup"]
    assert table.by_queue["select-recovery-point"].name == "select_recovery_point"


def test_a_message_is_about_its_step_and_what_is_followed_about_the_step_that_it_follows_for() -> None:
    message = backup_message()
    followed = claim(message, FollowedJob(job_id="job-1"), at=NOW, deadline=NOW)
    assert TABLE.origin(message).name == TABLE.origin(followed).name == "trigger_backup"


@pytest.mark.parametrize(
    ("step", "n", "apart"),
    [
        ("trigger_restore", 1, True),
        ("trigger_backup", 1, False),
        ("trigger_backup", 2, True),
        ("ensure_vault", 2, False),
    ],
)
def test_a_call_of_which_much_has_to_be_known_first_has_a_delivery_of_its_own(
    step: str, n: int, apart: bool
) -> None:
    assert TABLE.row(step).only_prepares(backup_message(effect=Effect(n=n))) is apart


def test_the_end_of_the_step_before_is_read_with_the_payload_of_that_step() -> None:
    """Of a selection that ended, in place of what would have gone on."""
    ended = backup_message(sender="trigger_backup", step="select_items", ending=Ending(status=Status.FAILED))
    body = json.loads(ended.model_dump_json(by_alias=True))
    assert TABLE.read(TABLE.row("select_items"), body).payload == PAYLOAD
    with pytest.raises(ValidationError):
        TABLE.read(TABLE.row("select_items"), {**body, "ending": None})


@pytest.mark.parametrize("payload", [None, "nothing", []], ids=str)
def test_a_payload_that_is_no_object_is_refused(payload: object) -> None:
    for step in ("trigger_backup", "track"):
        body = json.loads(backup_message(step=step).model_dump_json(by_alias=True))
        with pytest.raises(ValidationError, match=r"payload|BackupTask|Following"):
            TABLE.read(TABLE.row(step), {**body, "payload": payload})


def test_what_a_later_version_has_added_is_passed_over() -> None:
    followed = claim(backup_message(), FollowedJob(job_id="job-1"), at=NOW, deadline=NOW)
    for message in (backup_message(), followed):
        body = json.loads(message.model_dump_json(by_alias=True))
        body["added"] = body["payload"]["added"] = 1
        if message is followed:
            body["payload"]["payload"]["added"] = 1
        assert TABLE.read(TABLE.row(message.step), body) == message
