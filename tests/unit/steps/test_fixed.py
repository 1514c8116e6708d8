"""A selection is fixed, and then acted upon: `accepted` and the outcomes agree on what was selected."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest

from shared.engine.result import Continue, Failure, To
from shared.messages.events import AcceptedData, OutcomeData, Status
from shared.messages.identity import Database
from shared.messages.requests import BackupType, Operation
from shared.steps.fixed import fix, spread, spread_in_turn
from shared.steps.payloads import BackupPlan, BackupTask
from shared.steps.selection import Selection
from tests.fakes.azure_backup import FakeAzureBackup
from tests.unit.examples import item_id
from tests.unit.steps.calling import collaborators, following, message_to
from tests.unit.steps.choices import backup

PLAN = BackupPlan(data=backup("*"))
C = collaborators(FakeAzureBackup())


def database(name: str) -> Database:
    return Database(instance="A", name=name)


def task(name: str) -> BackupTask:
    return BackupTask(
        database=database(name), item_id=item_id(name).path, backup_type=BackupType.FULL, outcome_count=3
    )


def fixed(*tasks: BackupTask, **selection: Any) -> Any:
    message = message_to("select_items", PLAN, Operation.BACKUP)
    step, payload = following(fix(message, Selection(tasks=[*tasks], **selection), tasks))
    assert step == "select_items"
    return message_to("select_items", payload, Operation.BACKUP)


def acceptance(result: Continue) -> AcceptedData:
    assert result.accepted is not None
    assert isinstance(result.accepted.data, AcceptedData)
    return result.accepted.data


def outcomes(result: Continue) -> list[tuple[str | None, str, str]]:
    found = []
    for event in result.events:
        assert isinstance(event.data, OutcomeData)
        assert event.data.error is not None
        found.append((event.data.database, event.data.status, event.data.error.code))
    return found


def test_a_selection_is_acted_upon_as_it_was_made() -> None:
    message = fixed(
        task("a"),
        task("b"),
        failures=[
            (database("c"), Failure("Odd", "No.")),
            (database("d"), Failure("Large", "No.", Status.SKIPPED)),
        ],
        skipped=[(database(f"x{number:03}"), "stopped") for number in range(101)],
    )
    assert message.payload.outcome_count == 4
    result = spread(message, C, "trigger_backup", BackupTask)
    assert [(to.step, to.payload) for to in result.to] == [
        ("trigger_backup", task("a")),
        ("trigger_backup", task("b")),
    ]
    assert outcomes(result) == [("c", Status.FAILED, "Odd"), ("d", Status.SKIPPED, "Large")]
    assert acceptance(result).skipped == {"stopped": 101}
    names = acceptance(result).skipped_names
    assert (len(names), names[0], names[-1]) == (100, "A/x000", "A/x099")


def test_equal_selections_are_equal_messages() -> None:
    assert fixed(task("a")) == fixed(task("a"))


def test_more_than_any_selection_is_not_unpacked() -> None:
    bomb = base64.b64encode(gzip.compress(bytes(65 * 1024 * 1024), 1)).decode()
    message = message_to("select_items", PLAN.changed(fixed=bomb), Operation.BACKUP)
    with pytest.raises(ValueError, match="larger than any message"):
        spread(message, C, "trigger_backup", BackupTask)


def test_a_selection_is_packed_as_the_messages_have_it() -> None:
    message = fixed(task("a"), failures=[(database("c"), Failure("Odd", "No."))])
    packed = json.loads(gzip.decompress(base64.b64decode(message.payload.fixed)))
    assert packed == {
        "tasks": [
            {
                "database": {"instance": "A", "name": "a"},
                "itemId": item_id("a").path,
                "serverName": "",
                "backupType": "Full",
                "ifRunning": "wait",
                "byPattern": False,
                "outcomeCount": 3,
            }
        ],
        "failures": [
            {
                "database": {"instance": "A", "name": "c"},
                "status": "failed",
                "error": {"code": "Odd", "message": "No."},
            }
        ],
    }


def test_errors_come_with_advice() -> None:
    failure = Failure("UserErrorSQLNoSysadminMembership", "No right.")
    message = fixed(failures=[(database("c"), failure)])
    (event,) = spread(message, C, "trigger_backup", BackupTask).events
    assert isinstance(event.data, OutcomeData)
    assert event.data.error is not None
    assert event.data.error.recommendations


def test_a_request_that_means_nothing_has_an_outcome_that_says_so() -> None:
    for skipped, says in (
        ([(database("x"), "stopped"), (database("y"), "stopped")], "(2 stopped)"),
        ([], "(all are excluded)"),
    ):
        result = spread(fixed(skipped=skipped), C, "trigger_backup", BackupTask)
        assert outcomes(result) == [(None, Status.SKIPPED, "NothingToDo")]
        (event,) = result.events
        assert isinstance(event.data, OutcomeData)
        assert event.data.error is not None
        assert says in event.data.error.message
        assert not result.to


def test_only_the_first_of_several_in_turn_is_begun() -> None:
    seen: list[str] = []

    def first(tasks: Any) -> To | None:
        seen.extend(task.database.name for task in tasks)
        return To("trigger_restore", tasks[0]) if tasks else None

    result = spread_in_turn(fixed(task("a"), task("b")), C, first, BackupTask)
    assert ([to.step for to in result.to], seen) == (["trigger_restore"], ["a", "b"])
    assert acceptance(result).skipped == {}
    nothing = spread_in_turn(fixed(failures=[(database("c"), Failure("Odd", "No."))]), C, first, BackupTask)
    assert nothing.to == ()
    assert outcomes(nothing) == [("c", Status.FAILED, "Odd")]
