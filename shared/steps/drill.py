"""The steps after a drill's restore: the restored database is checked, and then dropped.

Both run the app's one script on the target's VM
(https://learn.microsoft.com/azure/virtual-machines/windows/run-command-managed), and remember nothing of their calls:
they look at the VM's run commands, do the one thing that is next, and come back.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from shared.drills import DrillTarget, drill_database_name, run_command_name
from shared.engine.message import StepMessage
from shared.engine.result import Call, Collaborators, Continue, Failure, Later, Result, To
from shared.messages.error_codes import ErrorCode
from shared.messages.events import Status
from shared.run_commands.drill_script import Action, ScriptResult, drill_script, parameters
from shared.steps.drill_checks import source_item, target_of_task
from shared.steps.drill_restores import is_unread, own_commands
from shared.steps.drill_results import check_failed, checked, completed, left_behind, why_not
from shared.steps.payloads import Drill, RestoreTask

if TYPE_CHECKING:
    from shared.run_commands.models import RunCommand

#: Waits between looks at a run command: short at first, then long, since a VM allows twelve reads per minute.
_FIRST_LOOK: Final = timedelta(seconds=30)
_LONGEST_PAUSE: Final = timedelta(minutes=2)
#: The wait before the look that shows whether a deleted run command is gone.
_AFTER_DELETE: Final = timedelta(seconds=15)
#: A delete that has not taken effect within this time is repeated: deletes fail at times.
_DELETED_WITHIN: Final = timedelta(minutes=5)
#: How long the service may take to report that it ended a run command that ran out of time.
_GRACE: Final = timedelta(minutes=10)
_DROPPED_WITHIN: Final = timedelta(hours=1)


def check_drill(message: StepMessage[RestoreTask], collaborators: Collaborators) -> Result:
    """Run DBCC CHECKDB on the drill database, unless the request wants no check."""
    drill = message.payload.drill
    if drill is not None and drill.check == "none":
        return _to_clean_up(message, drill)
    return _run(message, collaborators, "check", within=message.job_timeout(collaborators.settings))


def clean_up_drill(message: StepMessage[RestoreTask], collaborators: Collaborators) -> Result:
    """Drop the drill database, unless the request wants to keep it; then the drill has its outcome."""
    drill = message.payload.drill
    if drill is not None and not drill.clean_up:
        return completed(drill, cleaned_up=False)
    return _run(message, collaborators, "drop", within=_DROPPED_WITHIN)


def _run(
    message: StepMessage[RestoreTask], collaborators: Collaborators, action: Action, *, within: timedelta
) -> Result:
    """The next thing to do to get the script run: look, delete what is in the way, start it, or wait.

    A repeated delivery of the message sees the same state, so nothing has to be remembered of what was done.
    """
    target = target_of_task(message, collaborators.settings)
    if isinstance(target, Failure):
        return target.end
    asked_at = _drill(message).asked_at
    name = run_command_name(target, drill_database_name(message.payload.database))
    commands = own_commands(collaborators, target)
    own = next((command for command in commands if command.name.lower() == name), None)
    if own is not None and own.parameters.get("attempt") == message.client_request_id:
        if not own.has_ended or own.is_being_deleted:
            return _still_running(message, own, collaborators, within=within)
        return _has_run(message, own, action)
    if asked_at is not None and collaborators.now() - asked_at > _GRACE:
        text = f"the run command {name} that was asked for is not on {target.vm_id} any more, and told no result."
        return _without_result(message, text, action)
    if asked_at is not None:
        # The service may report it late.
        return Later(_FIRST_LOOK)
    in_the_way = _in_the_way(commands)
    if in_the_way is not None:
        waiting = _wait_for(message, in_the_way, target, collaborators, is_own=in_the_way is own)
        if waiting is not None:
            return waiting
    # A script runs for hours and reads of a vault are scarce: it is read only where something is to be done.
    item = source_item(message, collaborators, target)
    if isinstance(item, Failure):
        return item.end
    if in_the_way is not None:
        return _delete(message, in_the_way, target, collaborators)
    return _start(message, target, collaborators, action, within)


def _drill(message: StepMessage[RestoreTask]) -> Drill:
    drill = message.payload.drill
    assert drill is not None  # as `target_of_task` has checked
    return drill


def _in_the_way(commands: list[RunCommand]) -> RunCommand | None:
    """One of the app's run commands that has to end or be deleted first: one drill at a time."""
    running = [command for command in commands if not command.has_ended]
    return next(iter((*running, *commands)), None)


def _wait_for(
    message: StepMessage[RestoreTask],
    command: RunCommand,
    target: DrillTarget,
    collaborators: Collaborators,
    *,
    is_own: bool,
) -> Result | None:
    """The wait for a run command that is running, or whose result may not have been read; None: delete it.

    `is_own`: it is that of an earlier attempt of this drill.
    """
    now, deleted_at = collaborators.now(), _drill(message).deleted_at
    if now - message.since > message.job_timeout(collaborators.settings):
        text = f"run command {command.name} on {target.vm_id} was still in the way when the time was up."
        return Failure(ErrorCode.RUN_COMMAND_NOT_STARTED, text, Status.TIMED_OUT).end
    if not command.has_ended or (not is_own and is_unread(command, now)):
        return Later(_pause(message))
    if deleted_at is not None and now - deleted_at < _DELETED_WITHIN and command.is_being_deleted:
        return Later(_AFTER_DELETE)
    return None


def _delete(
    message: StepMessage[RestoreTask], command: RunCommand, target: DrillTarget, collaborators: Collaborators
) -> Result:
    """Delete a run command that has ended."""
    following = _with(message, _drill(message).changed(deleted_at=collaborators.now()))
    return Call(
        make=lambda azure, request_id: azure.run_commands.delete(
            target.vm_id, command.name, client_request_id=request_id
        ),
        at_once=lambda _: Later(_AFTER_DELETE, payload=following),
    )


def _start(
    message: StepMessage[RestoreTask],
    target: DrillTarget,
    collaborators: Collaborators,
    action: Action,
    within: timedelta,
) -> Result:
    """Have the script run."""
    vault = collaborators.azure.get_vault(message.vault_id)
    if vault is None:
        return Failure(ErrorCode.VAULT_NOT_FOUND, f"vault {message.vault_id} is not there any more.").end
    database = drill_database_name(message.payload.database)
    name = run_command_name(target, database)
    attempt = message.client_request_id
    sent = parameters(attempt=attempt, action=action, instance=target.instance, database=database)
    drill = _drill(message).changed(asked_at=collaborators.now(), deleted_at=None)
    return Call(
        make=lambda azure, request_id: azure.run_commands.put(
            target.vm_id,
            name,
            # A vault protects only VMs of its own region.
            location=vault.location,
            script=drill_script(),
            parameters=sent,
            timeout=within,
            client_request_id=request_id,
        ),
        at_once=lambda _: Later(_FIRST_LOOK, payload=_with(message, drill)),
    )


def _still_running(
    message: StepMessage[RestoreTask], command: RunCommand, collaborators: Collaborators, *, within: timedelta
) -> Result:
    waited = collaborators.now() - (_drill(message).asked_at or message.since)
    if waited > within + _GRACE:
        text = (
            f"run command {command.name} had not ended after {waited}; it is left to run, and no drill is begun on its"
            " instance before it has ended."
        )
        return Failure(ErrorCode.RUN_COMMAND_TIMEOUT, text, Status.TIMED_OUT).end
    if not command.has_started and waited > collaborators.settings.operation_timeout:
        text = (
            f"run command {command.name} had not begun after {waited} ({command.described}): see that the VM runs,"
            " and that its agent is ready."
        )
        return Failure(ErrorCode.RUN_COMMAND_NOT_STARTED, text).end
    return Later(_pause(message))


def _pause(message: StepMessage[RestoreTask]) -> timedelta:
    return min(_LONGEST_PAUSE, _FIRST_LOOK * 1.25 ** min(message.poll, 20))


def _has_run(message: StepMessage[RestoreTask], command: RunCommand, action: Action) -> Result:
    """What follows a script that has ended; a failure where there is no result line."""
    line = command.line(message.client_request_id)
    if line is None:
        text = f"the script of run command {command.name} ended without a result: {command.described}."
        return _without_result(message, text, action)
    result = ScriptResult.read(line)
    drill, source = _drill(message), message.payload.database
    if action == "check":
        return _to_clean_up(message, checked(drill, source, result))
    if result.verdict in ("ok", "absent"):
        return completed(drill, cleaned_up=True)
    return left_behind(drill, why_not(source, result))


def _without_result(message: StepMessage[RestoreTask], text: str, action: Action) -> Result:
    error = Failure(ErrorCode.RUN_COMMAND_FAILED, text).info
    if action == "drop":
        return left_behind(_drill(message), error)
    return _to_clean_up(message, check_failed(_drill(message), error))


def _to_clean_up(message: StepMessage[RestoreTask], drill: Drill) -> Continue:
    following = drill.changed(asked_at=None, deleted_at=None)
    return Continue((To("clean_up_drill", _with(message, following)),))


def _with(message: StepMessage[RestoreTask], drill: Drill) -> RestoreTask:
    return message.payload.changed(drill=drill)
