"""A restored database is checked and dropped: what is done next, from what is on the VM, and what its script tells."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from shared.engine.message import Ending
from shared.engine.result import Call, End, Later, Result
from shared.messages.events import DrillInfo, Status
from shared.messages.requests import Operation
from shared.run_commands.drill_script import drill_script
from shared.run_commands.models import RunCommand
from shared.steps.drill import check_drill, clean_up_drill
from shared.steps.payloads import Drill, RestoreTask
from tests.unit.examples import NOW, protected
from tests.unit.steps.calling import following, made, refused, text_of
from tests.unit.steps.drills import COMMAND, DRILL_VM, NAME, RESTORED, command, drill, estate, given, message

S = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
OTHER = "sqlvmbackup-drill-000000000000000000000000"
STEPS: dict[str, Callable[..., Result]] = {"check_drill": check_drill, "clean_up_drill": clean_up_drill}
BOTH = pytest.mark.parametrize("step", STEPS)


def run(
    step: str, of_drill: Drill | None = None, *commands: RunCommand, azure: Any = None, **changes: Any
) -> Result:
    """What comes of a step, where these run commands are on the VM."""
    azure = azure or estate()
    azure.run_commands.commands = [*commands]
    return STEPS[step](message(step, of_drill, **changes), given(azure, operation_timeout=2 * HOUR))


def attempt(step: str, **changes: Any) -> dict[str, str]:
    """The parameter by which a run command is that of the message's own attempt."""
    return {"attempt": message(step, **changes).client_request_id}


def says(step: str, **line: Any) -> RunCommand:
    """The message's own run command, ended with a result line."""
    parameters = attempt(step)
    text = json.dumps({**parameters, "action": "check" if step == "check_drill" else "drop", **line})
    return command(parameters=parameters, output=text)


def later(result: Result) -> tuple[timedelta, Drill]:
    assert isinstance(result, Later)
    assert isinstance(result.payload, RestoreTask)
    assert result.payload.drill is not None
    return result.delay, result.payload.drill


def info(end: Result | Ending) -> DrillInfo:
    assert isinstance(end, End | Ending)
    assert end.details.drill is not None
    return end.details.drill


# -- what is done next


def test_what_is_not_wanted_is_not_run() -> None:
    step, payload = following(run("check_drill", drill(check="none", asked_at=NOW, deleted_at=NOW)))
    assert (step, payload.drill) == ("clean_up_drill", drill(check="none"))
    end = run("clean_up_drill", drill(clean_up=False))
    assert isinstance(end, End)
    assert (end.status, info(end).cleaned_up) == (Status.SUCCEEDED, False)


@BOTH
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"operation": Operation.RESTORE}, "DrillNotRequested"),
        ({"task": {"target": {"kind": "original"}}}, "TargetNotAllowed"),
    ],
    ids=["no drill", "over the source"],
)
def test_nothing_is_run_for_a_message_that_is_no_drill(step: str, changes: Any, code: str) -> None:
    azure = estate()
    assert refused(run(step, azure=azure, **changes)) == ("rejected", code)
    assert azure.calls == []


@pytest.mark.parametrize(
    ("step", "action", "request_of", "within"),
    [
        ("check_drill", "check", {}, 7 * DAY),
        ("check_drill", "check", {"job_timeout": HOUR}, HOUR),
        ("clean_up_drill", "drop", {"job_timeout": 3 * HOUR}, HOUR),
    ],
)
def test_the_script_is_run_on_the_target(step: str, action: str, request_of: Any, within: timedelta) -> None:
    azure = estate()
    before = drill(deleted_at=NOW - HOUR)
    call = run(step, before, azure=azure, request=request_of)
    assert azure.calls.of("list_run_commands") == [{"vm": DRILL_VM}]
    name, arguments, _ = made(azure, call)
    encoded = {
        key: base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
        for key, text in (("instance", "MSSQLSERVER"), ("database", NAME))
    }
    assert (name, arguments) == (
        "put_run_command",
        {
            "vm": DRILL_VM,
            "name": COMMAND,
            "location": "westeurope",
            "script": drill_script(),
            "parameters": {**attempt(step, request=request_of), "action": action, **encoded},
            "timeout": within,
        },
    )
    assert isinstance(call, Call)
    assert call.at_once is not None
    assert later(call.at_once(None)) == (30 * S, drill(asked_at=NOW))


@BOTH
def test_a_script_is_not_run_where_the_vault_does_not_allow_it(step: str) -> None:
    assert refused(run(step, azure=estate(vaults=[]))) == ("failed", "VaultNotFound")
    # The target holds what the vault protects; the source is not protected any more.
    used = protected("wages", virtual_machine_id=DRILL_VM)
    assert refused(run(step, azure=estate(protected_items=[used]))) == ("rejected", "DrillTargetInUse")
    assert refused(run(step, azure=estate(protected_items=[]))) == ("rejected", "DatabaseNotFound")


@BOTH
def test_a_run_command_of_an_earlier_attempt_is_deleted_first(step: str) -> None:
    azure = estate()
    call = run(step, None, command(COMMAND.upper(), parameters={"attempt": "earlier"}), azure=azure)
    assert made(azure, call)[:2] == ("delete_run_command", {"vm": DRILL_VM, "name": COMMAND.upper()})
    assert isinstance(call, Call)
    assert call.at_once is not None
    assert later(call.at_once(None)) == (15 * S, drill(deleted_at=NOW))
    # It is deleted only where the vault allows the drill.
    refusal = run(step, None, command(), azure=estate(protected_items=[]))
    assert refused(refusal) == ("rejected", "DatabaseNotFound")


RUNNING: dict[str, Any] = {"execution_state": "Running", "end_time": None}
DELETING: dict[str, Any] = {"provisioning_state": "Deleting"}
UNREAD: dict[str, Any] = {"end_time": NOW - 5 * MINUTE + S}
READ: dict[str, Any] = {"end_time": NOW - 5 * MINUTE}


def other(**details: Any) -> RunCommand:
    return command(OTHER, **details)


#: run commands that are in the way, when one was deleted, the wait (None: it is deleted, the last of them)
IN_THE_WAY: list[tuple[list[RunCommand], timedelta | None, timedelta | None]] = [
    ([other(**RUNNING)], None, 30 * S),
    # one that runs is waited for before another is deleted
    ([command(), other(**RUNNING)], None, 30 * S),
    ([command(**RUNNING)], None, 30 * S),
    # the result of another drill may not have been read yet
    ([other(**UNREAD)], None, 30 * S),
    ([other(**READ)], None, None),
    # the deletion is under way, or has failed
    ([command(**DELETING)], 5 * MINUTE - S, 15 * S),
    ([command(**DELETING)], 5 * MINUTE, None),
    ([command(**DELETING)], None, None),
    ([command()], MINUTE, None),
]


@BOTH
@pytest.mark.parametrize(("commands", "deleted", "wait"), IN_THE_WAY)
def test_one_drill_at_a_time_is_done_on_a_vm(
    step: str, commands: list[RunCommand], deleted: timedelta | None, wait: timedelta | None
) -> None:
    azure = estate()
    deleted_at = NOW - deleted if deleted is not None else None
    result = run(step, drill(deleted_at=deleted_at), *commands, azure=azure)
    if wait is not None:
        assert result == Later(wait)
        # Reads of a vault are scarce.
        assert "list_protected_items" not in azure.calls.names
    else:
        assert made(azure, result)[1]["name"] == commands[-1].name


def test_what_is_in_the_way_is_waited_for_as_long_as_a_job_may_take() -> None:
    blocked = other(**RUNNING)
    for waited, request_of in ((7 * DAY, {}), (HOUR, {"job_timeout": HOUR})):
        since = {"since": NOW - waited, "request": request_of}
        assert run("check_drill", None, blocked, **since) == Later(30 * S)
        since = {"since": NOW - waited - S, "request": request_of}
        end = run("check_drill", None, blocked, **since)
        assert refused(end) == ("timedOut", "RunCommandNotStarted")
        assert OTHER in text_of(end)


@pytest.mark.parametrize(
    ("poll", "pause"), [(0, 30.0), (1, 37.5), (2, 46.875), (7, 120.0), (20, 120.0), (10**6, 120.0)]
)
def test_looks_become_rarer(poll: int, pause: float) -> None:
    assert run("check_drill", None, other(**RUNNING), poll=poll) == Later(timedelta(seconds=pause))


@BOTH
def test_a_run_command_that_was_asked_for_may_be_reported_late(step: str) -> None:
    assert run(step, drill(asked_at=NOW - 10 * MINUTE)) == Later(30 * S)
    assert run(step, drill(asked_at=NOW - 10 * MINUTE), other(**RUNNING)) == Later(30 * S)
    lost = run(step, drill(asked_at=NOW - 10 * MINUTE - S))
    text = f"the run command {COMMAND} that was asked for is not on {DRILL_VM} any more, and told no result."
    if step == "check_drill":
        onward, payload = following(lost)
        assert (onward, payload.drill.so_far.error.message) == ("clean_up_drill", text)
        assert payload.drill.so_far.error.code == "RunCommandFailed"
        assert payload.drill.so_far.status is Status.FAILED
    else:
        assert isinstance(lost, End)
        assert (lost.status, lost.error) == (Status.SUCCEEDED_WITH_WARNINGS, None)
        assert lost.details.warnings[0].endswith(f"RunCommandFailed: {text}")


#: of the message's own run command: its state, how long ago it was asked for, what comes
OWN: list[tuple[dict[str, Any], timedelta, tuple[str, str] | None]] = [
    (RUNNING, HOUR + 10 * MINUTE, None),
    # the service ends it after its time, and may report that late
    (RUNNING, HOUR + 10 * MINUTE + S, ("timedOut", "RunCommandTimeout")),
    ({"execution_state": "Pending", "end_time": None}, 10 * MINUTE, None),
    # it has ended, and its result is lost with it
    (DELETING, 10 * MINUTE, None),
]


@pytest.mark.parametrize(("state", "asked", "ends"), OWN)
def test_its_own_run_command_is_waited_for(
    state: dict[str, Any], asked: timedelta, ends: tuple[str, str] | None
) -> None:
    own = command(parameters=attempt("clean_up_drill"), **state)
    result = run("clean_up_drill", drill(asked_at=NOW - asked), own)
    assert result == Later(30 * S) if ends is None else refused(result) == ends


def test_a_script_that_does_not_begin_is_given_up_with_the_agent_named() -> None:
    own = command(parameters=attempt("check_drill"), execution_state="Pending", end_time=None)
    assert run("check_drill", drill(asked_at=NOW - 2 * HOUR), own) == Later(30 * S)
    end = run("check_drill", drill(asked_at=NOW - 2 * HOUR - S), own)
    assert refused(end) == ("failed", "RunCommandNotStarted")
    assert "its agent is ready" in text_of(end)
    begun = command(parameters=attempt("check_drill"), **RUNNING)
    assert run("check_drill", drill(asked_at=NOW - 2 * HOUR - S), begun) == Later(30 * S)


# -- what the script tells


def checked(**line: Any) -> Drill:
    step, payload = following(
        run("check_drill", drill(asked_at=NOW, deleted_at=NOW), says("check_drill", **line))
    )
    assert step == "clean_up_drill"
    assert (payload.drill.asked_at, payload.drill.deleted_at) == (None, None)
    found: Drill = payload.drill
    return found


def test_a_check_that_finds_nothing_proves_the_backup() -> None:
    so_far = checked(result="ok", seconds=12.3456, sizeMB=512, freeMB=1024).so_far
    assert so_far is not None
    assert (so_far.status, so_far.error) == (Status.SUCCEEDED, None)
    assert info(so_far) == DrillInfo(
        database=NAME,
        check="checkdb",
        restore_seconds=60,
        check_seconds=12.3456,
        measured_rto_seconds=72.346,
        size_mb=512,
        free_mb=1024,
        check_errors=0,
    )


def test_what_the_script_does_not_tell_stays_as_it_was() -> None:
    known = RESTORED.model_copy(
        update={
            "details": RESTORED.details.model_copy(
                update={"drill": info(RESTORED).model_copy(update={"size_mb": 99.0})}
            )
        }
    )
    own = says("check_drill", result="ok")
    _, payload = following(run("check_drill", drill(so_far=known), own))
    found = info(payload.drill.so_far)
    assert (found.size_mb, found.measured_rto_seconds, found.check_seconds) == (99.0, None, None)
    # Of a restore whose time is not known, no time until it was checked is.
    untimed = RESTORED.model_copy(
        update={
            "details": RESTORED.details.model_copy(
                update={"drill": info(RESTORED).model_copy(update={"restore_seconds": None})}
            )
        }
    )
    timed = says("check_drill", result="ok", seconds=5)
    _, payload = following(run("check_drill", drill(so_far=untimed), timed))
    assert info(payload.drill.so_far).measured_rto_seconds is None


def test_a_damaged_backup_fails_the_drill_with_what_was_found() -> None:
    so_far = checked(result="failed", errors=40, numbers=[8939, 8928], messages=["Torn page."]).so_far
    assert so_far is not None
    assert so_far.error is not None
    assert (so_far.status, so_far.error.code) == (Status.FAILED, "DrillCheckFailed")
    assert "found 40 errors in the backup of MSSQLSERVER/orders" in so_far.error.message
    assert so_far.error.recommendations
    found = info(so_far)
    assert (found.check_errors, found.check_error_numbers) == (40, (8939, 8928))
    assert found.check_messages == ("Torn page.",)


#: the result line of a check that found out nothing, and the error code
INCOMPLETE = [
    ({"result": "failed", "numbers": [916]}, "DrillNotPermitted", "may not check or drop"),
    ({"result": "absent"}, "DrillCheckIncomplete", "the instance has no database"),
    ({"result": "failed", "numbers": [1823], "messages": ["No room."]}, "DrillCheckIncomplete", "No room."),
]


@pytest.mark.parametrize(("line", "code", "says"), INCOMPLETE)
def test_a_check_that_could_not_be_done_says_nothing_of_the_backup(line: Any, code: str, says: str) -> None:
    so_far = checked(**line).so_far
    assert so_far is not None
    assert so_far.error is not None
    assert (so_far.status, so_far.error.code) == (Status.FAILED, code)
    assert says in so_far.error.message
    assert (info(so_far).check_errors, info(so_far).check_messages) == (None, ())
    assert bool(so_far.error.recommendations) is (code == "DrillNotPermitted")


def test_a_script_without_a_result_fails_the_check() -> None:
    own = command(parameters=attempt("check_drill"), output="noise", exit_code=1)
    _, payload = following(run("check_drill", None, own))
    error = payload.drill.so_far.error
    assert error.code == "RunCommandFailed"
    assert error.message.endswith("ended without a result: Succeeded, exit code 1.")


def cleaned(of_drill: Drill | None = None, **line: Any) -> End:
    end = run("clean_up_drill", of_drill, says("clean_up_drill", **line))
    assert isinstance(end, End)
    return end


@pytest.mark.parametrize("result", ["ok", "absent"])
def test_a_drill_is_complete_once_its_database_is_gone(result: str) -> None:
    end = cleaned(result=result)
    assert (end.status, end.error, end.details.warnings) == (Status.SUCCEEDED, None, ())
    assert info(end).cleaned_up is True


def test_a_database_that_was_not_dropped_is_a_warning_and_no_failure() -> None:
    end = cleaned(result="failed", numbers=[3701], messages=["No right."])
    assert end.status is Status.SUCCEEDED_WITH_WARNINGS
    assert info(end).cleaned_up is False
    (warning,) = end.details.warnings
    assert warning.startswith(f"{NAME} was not dropped")
    assert "DrillNotPermitted" in warning
    # A drill that has failed stays so.
    failed = RESTORED.model_copy(update={"status": Status.FAILED})
    assert cleaned(drill(so_far=failed), result="failed", numbers=[3701]).status is Status.FAILED
