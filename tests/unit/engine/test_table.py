"""A step can come to what its row of the table lists, and to nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.engine.result import Call, Continue, End, FollowJob, NextEffect, Result, To
from shared.engine.run import handle
from shared.engine.table import Table, TableError
from shared.messages.events import Status
from shared.workflows import TABLE
from tests.unit.app import open_app
from tests.unit.examples import backup_message

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
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_table_that_leads_nowhere_is_refused(step: str, changes: dict[str, object]) -> None:
    row = replace(TABLE.row(step), **changes)  # type: ignore[arg-type]  # what is replaced differs
    with pytest.raises(TableError, match=step):
        Table(rows={**TABLE.rows, step: row}, first=TABLE.first)
