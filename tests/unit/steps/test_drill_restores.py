"""The restore of a drill: it waits for its turn, restores to the drill database alone, and the check follows it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from shared.arm.errors import ArmStatusError
from shared.arm.ids import RecoveryPointId
from shared.azure_backup.models import Job
from shared.engine.effect import Effect
from shared.engine.message import Ending, StepMessage
from shared.engine.result import Call, End, Later, Result
from shared.messages.events import DrillInfo, ErrorInfo, OutcomeDetails, Status
from shared.messages.identity import drill_request_id
from shared.messages.requests import Operation
from shared.steps.drill_restores import own_commands, with_drill_info
from shared.steps.payloads import ChosenRecoveryPoint, Drill, RestoreTask
from shared.steps.restore import after_restore, conclude, trigger_restore
from tests.fakes.azure_backup import FakeAzureBackup
from tests.unit.engine.test_retry import answered
from tests.unit.examples import NOW, VAULT, VM, item_id, job, protected
from tests.unit.steps.calling import collaborators, following, made, message_to, refused, text_of
from tests.unit.steps.drills import (
    CONTAINER,
    DRILL_VM,
    NAME,
    POINT,
    SQL_INSTANCE,
    TARGET,
    command,
    drill,
    estate,
    given,
    message,
    target,
    task,
)
from tests.unit.steps.test_recovery_points import point

S = timedelta(seconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
#: a drill whose turn has not come
PLANNED = drill(began=None, so_far=None)
RUNNING: dict[str, Any] = {"execution_state": "Running", "end_time": None}


def vault(**changes: Any) -> FakeAzureBackup:
    """A vault with a full of `orders`, and an instance to drill on with its directories."""
    fields: dict[str, Any] = {"recovery_points": [point("100", HOUR)], "workload_items": [SQL_INSTANCE]}
    return estate(**{**fields, **changes})


def asked(of_drill: Drill = PLANNED, **changes: Any) -> StepMessage[RestoreTask]:
    of_task = {"recovery_point": None, "overwrite": False, "no_recovery": True, **changes.pop("task", {})}
    return message("trigger_restore", of_drill, task=of_task, **changes)


def triggered(azure: FakeAzureBackup, of: StepMessage[RestoreTask] | None = None, **settings: Any) -> Result:
    return trigger_restore(of or asked(), given(azure, **settings))


def test_a_drill_is_restored_over_its_own_database_alone() -> None:
    azure = vault()
    call = triggered(azure)
    assert isinstance(call, Call)
    assert isinstance(call.payload, RestoreTask)
    assert call.events == ()
    chosen = ChosenRecoveryPoint(name="100", kind="Full", time=NOW - HOUR)
    wanted = task(drill(so_far=None), recovery_point=chosen)
    assert call.payload.model_copy(update={"prepared": None, "warnings": ()}) == wanted
    assert call.payload.prepared == {
        "objectType": "AzureWorkloadSQLRestoreRequest",
        "recoveryType": "AlternateLocation",
        "shouldUseAlternateTargetLocation": True,
        "isNonRecoverable": False,
        "sourceResourceId": VM.path,
        "targetVirtualMachineId": DRILL_VM.path,
        "targetInfo": {
            "overwriteOption": "Overwrite",
            "containerId": CONTAINER.id.path,
            "databaseName": f"MSSQLSERVER/{NAME}",
        },
    }
    # The next delivery checks again, and makes the call.
    ready = message_to("trigger_restore", call.payload, Operation.DRILL, effect=Effect(ready=True))
    azure = vault()
    again = triggered(azure, ready)
    assert azure.calls.names == ["list_protected_items", "list_registered_containers"]
    name, arguments, _ = made(azure, again)
    assert (name, arguments["properties"]) == ("trigger_restore", call.payload.prepared)
    assert arguments["recovery_point"] == RecoveryPointId(item_id("orders"), "100")
    assert isinstance(again, Call)
    assert again.events == ()
    assert isinstance(again.payload, RestoreTask)
    assert again.payload.prepared is None


def test_a_call_that_is_not_the_drills_own_is_not_made() -> None:
    call = triggered(vault())
    assert isinstance(call, Call)
    assert isinstance(call.payload, RestoreTask)

    def ready(azure: FakeAzureBackup, **changes: Any) -> Result:
        assert isinstance(call.payload, RestoreTask)
        payload = call.payload.model_copy(update=changes)
        return triggered(
            azure, message_to("trigger_restore", payload, Operation.DRILL, effect=Effect(ready=True))
        )

    assert refused(ready(vault(), prepared={})) == ("rejected", "TargetNotAllowed")
    moved = ready(vault(), target=target(dataDirectory="X:\\elsewhere"))
    assert refused(moved) == ("rejected", "TargetNotAllowed")
    assert "has other directories" in text_of(moved)
    assert refused(ready(vault(protected_items=[]))) == ("rejected", "DatabaseNotFound")
    for missing in ({"prepared": None}, {"recovery_point": None}):
        assert refused(ready(vault(), **missing)) == ("rejected", "DrillNotRequested")


def test_a_target_that_is_not_allowed_is_refused_before_anything_is_read() -> None:
    azure = vault()
    assert refused(triggered(azure, drill_targets=())) == ("rejected", "TargetNotAllowed")
    no_drill = asked().model_copy(update={"payload": asked().payload.model_copy(update={"drill": None})})
    assert refused(triggered(azure, no_drill)) == ("rejected", "DrillNotRequested")
    assert azure.calls == []


def test_the_setting_decides_where_the_files_go() -> None:
    placed = TARGET.model_copy(update={"data_directory": "F:\\data", "log_directory": "G:\\log"})
    call = triggered(vault(), drill_targets=(placed,))
    # There are no files to be told of, so the request cannot say where they go.
    assert refused(call) == ("failed", "FilesUnknown")
    assert isinstance(call, End)
    assert call.details.drill is not None


#: what is changed of the vault, the error code
NOT_RESTORED: list[tuple[dict[str, Any], tuple[str, str]]] = [
    ({"protected_items": []}, ("rejected", "DatabaseNotFound")),
    ({"containers": []}, ("rejected", "TargetNotRegistered")),
    ({"recovery_points": []}, ("failed", "RecoveryPointNotFound")),
    ({"protected_items": [protected("w", virtual_machine_id=DRILL_VM)]}, ("rejected", "DrillTargetInUse")),
]


@pytest.mark.parametrize(("changes", "code"), NOT_RESTORED)
def test_a_drill_that_cannot_be_restored_tells_what_it_was_a_drill_of(
    changes: dict[str, Any], code: tuple[str, str]
) -> None:
    end = triggered(vault(**changes))
    assert refused(end) == code
    assert isinstance(end, End)
    assert end.details.drill == DrillInfo(database=NAME, check="checkdb")


def restore(name: str, *, target: str = TARGET.key, **details: Any) -> Job:
    """The job of another drill's restore."""
    activity = details.pop("activity_id", drill_request_id(name, target, name))
    return job(name, operation="Restore", activity_id=activity, start_time=NOW - HOUR, **details)


#: what else goes on, whether the drill waits for it
OTHERS: list[tuple[dict[str, Any], list[Any], bool]] = [
    ({"jobs": [restore("a")]}, [], True),
    # of another target, or a restore that is no drill's
    ({"jobs": [restore("a", target="other"), restore("b", activity_id=VM.subscription_id)]}, [], False),
    ({"jobs": [restore("a", raw_status="Completed")]}, [], False),
    ({}, [command("sqlvmbackup-drill-1", **RUNNING)], True),
    ({}, [command("SQLVMBACKUP-DRILL-1", **RUNNING)], True),
    ({}, [command("somebody-elses", **RUNNING), command("sqlvmbackup-drill-1")], False),
]


@pytest.mark.parametrize(("changes", "commands", "waits"), OTHERS)
def test_one_drill_at_a_time_is_done_on_an_instance(
    changes: dict[str, Any], commands: list[Any], waits: bool
) -> None:
    azure = vault(**changes)
    azure.run_commands.commands = commands
    result = triggered(azure)
    listed = azure.calls.of("list_jobs")
    assert listed == [
        {"vault": VAULT, "start": NOW - 7 * DAY, "end": None, "operation": "Restore", "status": "InProgress"}
    ]
    if waits:
        assert result == Later(timedelta(minutes=1))
        assert "list_protected_items" not in azure.calls.names
    else:
        assert isinstance(result, Call)


def test_its_own_restore_is_nobody_elses() -> None:
    for n in (1, 2, 3):
        own = restore("own", activity_id=asked().client_request_id_of(n, 0))
        assert isinstance(triggered(vault(jobs=[own])), Call)
    fourth = restore("own", activity_id=asked().client_request_id_of(4, 0))
    assert isinstance(triggered(vault(jobs=[fourth])), Later)


def test_another_drill_is_waited_for_as_long_as_a_job_may_take() -> None:
    azure = vault(jobs=[restore("job-7")])
    for limit, request_of in ((7 * DAY, {}), (HOUR, {"job_timeout": HOUR})):
        waited = asked(since=NOW - limit, request=request_of)
        assert isinstance(triggered(azure, waited), Later)
        end = triggered(azure, asked(since=NOW - limit - S, request=request_of))
        assert refused(end) == ("timedOut", "ConflictingOperation")
        assert "job job-7 (a drill's restore) was still running" in text_of(end)
    azure = vault()
    azure.run_commands.commands = [command("sqlvmbackup-drill-1", **RUNNING)]
    end = triggered(azure, asked(since=NOW - 8 * DAY))
    assert "run command sqlvmbackup-drill-1 was still running" in text_of(end)


#: how it is checked, whether it is cleaned up, what the list of run commands answers, what comes: None for the error
RIGHTS: list[tuple[str, bool, int, bool]] = [
    # a restore alone needs no permission for run commands
    ("none", False, 403, True),
    ("none", True, 403, True),
    ("checkdb", False, 403, False),
    ("none", True, 503, False),
    ("none", False, 503, True),
]


@pytest.mark.parametrize(("check", "clean_up", "status", "restored"), RIGHTS)
def test_a_restore_alone_needs_no_right_on_the_vm(
    check: str, clean_up: bool, status: int, restored: bool
) -> None:
    azure = vault()
    azure.calls.errors["list_run_commands"] = answered(status, "GET")
    of = asked(drill(began=None, so_far=None, check=check, clean_up=clean_up))
    if restored:
        assert isinstance(triggered(azure, of), Call)
    else:
        with pytest.raises(ArmStatusError):
            triggered(azure, of)


def test_a_run_command_without_its_view_is_read_by_itself() -> None:
    azure = FakeAzureBackup()
    listed = [command(f"sqlvmbackup-drill-{number}", is_viewed=number == 1) for number in (1, 2, 3)]
    azure.run_commands.commands = [*listed, command("other", is_viewed=False)]
    whole = command("sqlvmbackup-drill-2", **RUNNING)
    azure.run_commands.viewed = {"sqlvmbackup-drill-2": whole}
    # The third has gone meanwhile.
    assert own_commands(collaborators(azure), TARGET) == [listed[0], whole]
    assert [call["name"] for call in azure.calls.of("get_run_command")] == [
        "sqlvmbackup-drill-2",
        "sqlvmbackup-drill-3",
    ]


# -- what follows

RESTORED = job(properties={"Data Transferred (in MB)": "512.5"})
TOOK = End(Status.SUCCEEDED, details=OutcomeDetails(duration_seconds=60.0))


def test_the_check_follows_with_what_the_restore_proved() -> None:
    old = POINT.model_copy(update={"time": NOW - HOUR})
    of = message("trigger_restore", drill(so_far=None), task={"recovery_point": old, "prepared": {"a": 1}})
    onward, payload = following(after_restore(of, RESTORED, TOOK))
    assert (onward, payload.prepared) == ("check_drill", None)
    so_far = payload.drill.so_far
    assert isinstance(so_far, Ending)
    assert (so_far.status, so_far.error) == (Status.SUCCEEDED, None)
    assert so_far.details.drill == DrillInfo(
        database=NAME,
        check="checkdb",
        achieved_rpo_seconds=3600.0,
        restore_seconds=60.0,
        measured_rto_seconds=60.0,
        size_mb=512.5,
    )
    assert so_far.details.recovery_point is not None


def test_a_restore_that_failed_ends_its_drill() -> None:
    failed = End(Status.FAILED, ErrorInfo(code="Odd", message="No."), TOOK.details)
    # A point that is newer than the beginning loses nothing.
    of = message(
        "trigger_restore",
        drill(so_far=None),
        task={"recovery_point": POINT.model_copy(update={"time": NOW + S})},
    )
    end = after_restore(of, RESTORED, failed)
    assert isinstance(end, End)
    assert end.status is Status.FAILED
    assert end.details.drill == DrillInfo(
        database=NAME, check="checkdb", achieved_rpo_seconds=0.0, size_mb=512.5
    )


def test_an_outcome_tells_of_its_drill_once() -> None:
    of = message("trigger_restore", drill(so_far=None, began=None))
    end = conclude(of, TOOK)
    assert end.details.drill is not None
    assert (end.details.drill.achieved_rpo_seconds, end.details.drill.size_mb) == (None, None)
    assert with_drill_info(of, end, transferred_mb=1.0) is end
    plain = of.model_copy(update={"payload": task(None)})
    assert with_drill_info(plain, TOOK) is TOOK
