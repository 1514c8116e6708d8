"""Restore drills: a backup is proven once it was restored and checked; the restored database is then dropped.

Drills run one after the other: select_drills chooses whose turn it is, trigger_restore restores
(`shared.steps.restore`), and the two steps after it run the app's one script on the target's VM
(https://learn.microsoft.com/azure/virtual-machines/windows/run-command-managed). Those two remember nothing of their
calls: they look at the VM's run commands, do the one thing that is next, and come back.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from shared.drills import DrillTarget, drill_database_name, run_command_name
from shared.engine.message import Ending, StepMessage
from shared.engine.result import Call, Collaborators, Continue, End, Failure, Later, Result, To
from shared.messages.error_codes import ErrorCode
from shared.messages.events import NO_DETAILS, SUCCESSES, ErrorInfo, Status
from shared.messages.identity import Database
from shared.messages.requests import MOST_DRILLS
from shared.run_commands.drill_script import Action, ScriptResult, drill_script, parameters
from shared.steps import selection
from shared.steps.drill_checks import (
    in_another_subscription,
    not_a_target,
    not_registered,
    source_item,
    target_for,
    target_in_use,
    target_of_task,
)
from shared.steps.drill_restores import first_drill, is_unread, own_commands
from shared.steps.drill_turns import Sizes, in_turn, last_drills
from shared.steps.due import is_still_wanted
from shared.steps.fixed import fix, spread_in_turn
from shared.steps.payloads import Drill, DrillPlan, DrillSource, RestoreTask
from shared.steps.vaults import protected_items

if TYPE_CHECKING:
    from shared.azure_backup.listings import Listing
    from shared.azure_backup.models import ProtectedItem
    from shared.run_commands.models import RunCommand

#: Waits between looks at a run command: short at first, then long, since a VM allows twelve reads per minute.
_FIRST_LOOK: Final = timedelta(seconds=30)
_LONGEST_PAUSE: Final = timedelta(minutes=2)
#: A delete that has not taken effect within this time is repeated: deletes fail at times.
_DELETED_WITHIN: Final = timedelta(minutes=5)
#: How long the service may take to report that it ended a run command that ran out of time.
_GRACE: Final = timedelta(minutes=10)
_DROPPED_WITHIN: Final = timedelta(hours=1)


# -- whose turn it is


def select_drills(message: StepMessage[DrillPlan], c: Collaborators) -> Result:
    """Select the databases whose turn it is, once, and begin with the first."""
    plan = message.payload
    data = plan.data
    target = not_a_target(c.settings, data.target.vm_id, data.target.instance)
    if plan.fixed is not None:
        place = (
            target if isinstance(target, DrillTarget) else DrillTarget.model_construct(**dict(data.target))
        )
        drill = Drill(
            choice=data.recovery_point,
            check=data.check,
            clean_up=data.clean_up,
            epoch=message.request.epoch,
        )
        return spread_in_turn(
            message, c, lambda tasks: first_drill(tasks, drill, target_for(place)), DrillSource
        )
    wanted = is_still_wanted(message, c, c.settings.drill_schedules)
    if isinstance(wanted, Failure):
        return wanted.end
    if not wanted:
        return Continue()
    if isinstance(target, Failure):
        return target.end
    if (elsewhere := in_another_subscription(data.vault_id, target.vm_id)) is not None:
        return elsewhere.end
    protected = protected_items(c, data.vault_id)
    if isinstance(protected, Failure):
        return protected.end
    failure = target_in_use(target, protected) or not_registered(c, data.vault_id, target.vm_id)
    if failure is not None:
        return failure.end
    return _selected(message, c, target, protected)


def _selected(
    message: StepMessage[DrillPlan], c: Collaborators, target: DrillTarget, protected: Listing[ProtectedItem]
) -> Result:
    data = message.payload.data
    available = selection.candidates(protected, selection.NOTHING, vm_id=None, container=None)
    meaning = selection.match(available, databases=data.databases, exclude=data.exclude, include_system=False)
    chosen: selection.Selection[selection.Match] = selection.Selection(
        failures=[
            selection.missing(selector, available, vm_id=None, why="Only what is protected can be drilled.")
            for selector in meaning.missed
        ],
        skipped=list(meaning.left_out),
    )
    meant: dict[str, selection.Match] = {}
    for found in meaning.matches:
        refusal = found.cannot or _cannot_be_drilled(found.candidate)
        if refusal is not None:
            chosen.pass_over(found, *refusal)
        else:
            meant[found.candidate.database.key] = found
    if data.count is None and len(meant) > MOST_DRILLS:
        return Failure(
            ErrorCode.DRILLS_NOT_COUNTED,
            f"data.count: the request means {len(meant)} databases, and at most {MOST_DRILLS} are drilled by one"
            " request; set count, and those whose last drill is longest ago have their turn.",
            Status.REJECTED,
        ).end
    count = data.count if data.count is not None else max(1, len(meant))
    drilled = last_drills(c, data.vault_id) if len(meant) > 1 else {}
    databases = [found.candidate.database for found in meant.values()]
    sizes = Sizes(c, data.vault_id, available)
    looked_at = 0
    for database in in_turn(databases, drilled, count=count, now=c.now()):
        found = meant[database.key]
        # A database that is too large takes nobody's turn, but the reads to find that out are bounded.
        if len(chosen.tasks) >= count or looked_at >= count + MOST_DRILLS:
            chosen.skipped.append((database, "notItsTurn"))
            continue
        looked_at += 1
        failure = _too_large(found.candidate, target, sizes)
        if failure is None:
            chosen.tasks.append(found)
        else:
            chosen.failures.append((database, failure))
    return fix(message, chosen, [_source(found.candidate, chosen.outcome_count) for found in chosen.tasks])


def _source(candidate: selection.Candidate, outcome_count: int) -> DrillSource:
    assert candidate.protected is not None
    return DrillSource(
        database=candidate.database,
        item_id=candidate.protected.id.path,
        server_name=candidate.server_name,
        outcome_count=outcome_count,
    )


def _cannot_be_drilled(candidate: selection.Candidate) -> tuple[str, Failure] | None:
    """Why a protected database cannot be drilled: the reason to skip it, and the error where it is named."""
    database, item = candidate.database, candidate.protected
    assert item is not None
    if candidate.is_system:
        text = f"{database} is a system database: those are never drilled."
        return "systemDatabase", Failure(ErrorCode.SYSTEM_DATABASE, text)
    if item.is_scheduled_for_deferred_delete:
        text = f"the backups of {database} are soft-deleted: undelete it before it is drilled."
        return "softDeleted", Failure(ErrorCode.ITEM_SOFT_DELETED, text)
    if item.last_backup_time is None and item.protection_state.lower() == "irpending":
        text = f"{database} was never backed up: there is nothing to restore yet."
        return "neverBackedUp", Failure(ErrorCode.RECOVERY_POINT_NOT_FOUND, text)
    return None


def _too_large(candidate: selection.Candidate, target: DrillTarget, sizes: Sizes) -> Failure | None:
    size = sizes.of(candidate)
    if size is not None and size <= target.max_size_gb * 1024:
        return None
    known = (
        "its size is not known, since no job of the vault's last weeks is a full backup of it"
        if size is None
        else f"by its last full backup it has {size / 1024:,.1f} GB"
    )
    return Failure(
        ErrorCode.DRILL_TOO_LARGE,
        f"{candidate.database} is not drilled: {known}, and {target} takes databases of at most"
        f" {target.max_size_gb:g} GB (maxSizeGB in DRILL_TARGETS).",
        Status.SKIPPED,
    )


# -- checking and cleaning up


def check_drill(message: StepMessage[RestoreTask], c: Collaborators) -> Result:
    """Run DBCC CHECKDB on the drill database, unless the request wants no check."""
    drill = message.payload.drill
    if drill is not None and drill.check == "none":
        return _to_clean_up(message, drill)
    return _run(message, c, "check", within=message.request.job_timeout or c.settings.job_timeout)


def clean_up_drill(message: StepMessage[RestoreTask], c: Collaborators) -> Result:
    """Drop the drill database, unless the request wants to keep it; then the drill has its outcome."""
    drill = message.payload.drill
    if drill is not None and not drill.clean_up:
        return _ended(drill, cleaned_up=False)
    return _run(message, c, "drop", within=_DROPPED_WITHIN)


def _run(message: StepMessage[RestoreTask], c: Collaborators, action: Action, *, within: timedelta) -> Result:
    """The next thing to do to get the script run: look, delete what is in the way, start it, or wait.

    A repeated delivery of the message sees the same state, so nothing has to be remembered of what was done.
    """
    target = target_of_task(message, c.settings)
    if isinstance(target, Failure):
        return target.end
    task = message.payload
    drill = task.drill
    assert drill is not None and message.request.vault_id is not None
    now = c.now()
    name = run_command_name(target, drill_database_name(task.database))
    attempt = message.client_request_id
    commands = own_commands(c, target)
    own = next((each for each in commands if each.name.lower() == name), None)
    if own is not None and own.parameters.get("attempt") == attempt:
        if not own.has_ended or own.is_being_deleted:
            return _still_running(message, own, c, within=within)
        return _has_run(message, own, action)
    if drill.asked_at is not None and now - drill.asked_at > _GRACE:
        text = f"the run command {name} that was asked for is not on {target.vm_id} any more, and told no result."
        return _without_result(message, Failure(ErrorCode.RUN_COMMAND_FAILED, text), action)
    if drill.asked_at is not None:
        # The service may report it late.
        return Later(_FIRST_LOOK)
    in_the_way = _in_the_way(commands)
    if in_the_way is not None and (waiting := _to_be_waited_for(message, in_the_way, target, c)) is not None:
        return waiting
    # A script runs for hours and reads of a vault are scarce: it is read only where something is to be done.
    item = source_item(message, c, target)
    if isinstance(item, Failure):
        return item.end
    if in_the_way is not None:
        return _deleted(message, in_the_way, target, c)
    return _asked(message, target, c, action, within)


def _in_the_way(commands: list[RunCommand]) -> RunCommand | None:
    """One of the app's run commands that has to end or be deleted first: one drill at a time."""
    running = [each for each in commands if not each.has_ended]
    return next(iter((*running, *commands)), None)


def _to_be_waited_for(
    message: StepMessage[RestoreTask], command: RunCommand, target: DrillTarget, c: Collaborators
) -> Result | None:
    """The wait for a run command that is running, or whose result may not have been read; None: delete it."""
    task, now = message.payload, c.now()
    drill = task.drill
    assert drill is not None
    allowed = message.request.job_timeout or c.settings.job_timeout
    if now - message.since > allowed:
        text = f"run command {command.name} on {target.vm_id} was still in the way when the time was up."
        return End(Status.TIMED_OUT, ErrorInfo(code=ErrorCode.RUN_COMMAND_NOT_STARTED, message=text))
    own_name = run_command_name(target, drill_database_name(task.database))
    unread = command.name.lower() != own_name and is_unread(command, now)
    if not command.has_ended or unread:
        return Later(_pause(message))
    if drill.deleted_at is not None and now - drill.deleted_at < _DELETED_WITHIN and command.is_being_deleted:
        return Later(_FIRST_LOOK / 2)
    return None


def _deleted(
    message: StepMessage[RestoreTask], command: RunCommand, target: DrillTarget, c: Collaborators
) -> Result:
    """Delete a run command that has ended."""
    task = message.payload
    assert task.drill is not None
    deleting = task.drill.model_copy(update={"deleted_at": c.now()})
    again = Later(_FIRST_LOOK / 2, payload=task.model_copy(update={"drill": deleting}))
    return Call(
        make=lambda azure, request_id: azure.run_commands.delete(
            target.vm_id, command.name, client_request_id=request_id
        ),
        at_once=lambda _: again,
    )


def _asked(
    message: StepMessage[RestoreTask],
    target: DrillTarget,
    c: Collaborators,
    action: Action,
    within: timedelta,
) -> Result:
    """Have the script run."""
    task = message.payload
    vault_id = message.request.vault_id
    assert task.drill is not None and vault_id is not None
    vault = c.azure.get_vault(vault_id)
    if vault is None:
        text = f"vault {vault_id} is not there any more."
        return Failure(ErrorCode.VAULT_NOT_FOUND, text).end
    database = drill_database_name(task.database)
    name = run_command_name(target, database)
    given = parameters(
        attempt=message.client_request_id, action=action, instance=target.instance, database=database
    )
    drill = task.drill.model_copy(update={"asked_at": c.now(), "deleted_at": None})
    again = Later(_FIRST_LOOK, payload=task.model_copy(update={"drill": drill}))
    return Call(
        make=lambda azure, request_id: azure.run_commands.put(
            target.vm_id,
            name,
            # A vault protects only VMs of its own region.
            location=vault.location,
            script=drill_script(),
            parameters=given,
            timeout=within,
            client_request_id=request_id,
        ),
        at_once=lambda _: again,
    )


def _still_running(
    message: StepMessage[RestoreTask], command: RunCommand, c: Collaborators, *, within: timedelta
) -> Result:
    drill = message.payload.drill
    assert drill is not None
    waited = c.now() - (drill.asked_at or message.since)
    if waited > within + _GRACE:
        text = (
            f"run command {command.name} had not ended after {waited}; it is left to run, and no drill is begun on its"
            " instance before it has ended."
        )
        return End(Status.TIMED_OUT, ErrorInfo(code=ErrorCode.RUN_COMMAND_TIMEOUT, message=text))
    if not command.has_started and waited > c.settings.operation_timeout:
        text = (
            f"run command {command.name} had not begun after {waited} ({command.told}): see that the VM runs, and that"
            " its agent is ready."
        )
        return End(Status.FAILED, ErrorInfo(code=ErrorCode.RUN_COMMAND_NOT_STARTED, message=text))
    return Later(_pause(message))


def _pause(message: StepMessage[RestoreTask]) -> timedelta:
    return min(_LONGEST_PAUSE, _FIRST_LOOK * 1.25 ** min(message.poll, 20))


def _has_run(message: StepMessage[RestoreTask], command: RunCommand, action: Action) -> Result:
    """The result of a script that has ended, or the failure where there is no result line."""
    line = command.line(message.client_request_id)
    if line is None:
        text = f"the script of run command {command.name} ended without a result: {command.told}."
        return _without_result(message, Failure(ErrorCode.RUN_COMMAND_FAILED, text), action)
    result = ScriptResult.read(line)
    drill = message.payload.drill
    assert drill is not None
    if action == "drop":
        if result.verdict in ("ok", "absent"):
            return _ended(drill, cleaned_up=True)
        return _left_behind(drill, why_not(message.payload.database, result))
    return _to_clean_up(message, _checked(message, drill, result))


def _without_result(message: StepMessage[RestoreTask], failure: Failure, action: Action) -> Result:
    drill = message.payload.drill
    assert drill is not None
    if action == "drop":
        return _left_behind(drill, failure.info)
    return _to_clean_up(message, drill.model_copy(update={"so_far": _failed(drill, failure.info, {})}))


def _checked(message: StepMessage[RestoreTask], drill: Drill, result: ScriptResult) -> Drill:
    """The drill with the findings of its check."""
    info = drill.so_far.details.drill if drill.so_far is not None else None
    took = result.seconds
    found: dict[str, Any] = {"check_seconds": took, "free_mb": result.free_mb}
    if result.size_mb is not None:
        found["size_mb"] = result.size_mb
    if info is not None and info.restore_seconds is not None and took is not None:
        found["measured_rto_seconds"] = round(info.restore_seconds + took, 3)
    if result.verdict == "ok":
        found["check_errors"] = 0
        so_far = _with_info(drill, found)
    else:
        if result.verdict == "corrupt":
            found["check_errors"] = result.errors
            found["check_error_numbers"] = result.numbers
            found["check_messages"] = result.messages
        so_far = _failed(drill, why_not(message.payload.database, result), found)
    return drill.model_copy(update={"so_far": so_far})


def why_not(source: Database, result: ScriptResult) -> ErrorInfo:
    """Why the script failed."""
    name = drill_database_name(source)
    if result.verdict == "corrupt":
        return ErrorInfo(
            code=ErrorCode.DRILL_CHECK_FAILED,
            message=f"DBCC CHECKDB found {result.errors} errors in the backup of {source}, restored as {name}:"
            f" {result.told}.",
            recommendations=(
                "Run DBCC CHECKDB on the source: where it is damaged as well, restore it from an older recovery point"
                " that a drill proves sound; where it is not, take a new full backup and drill it.",
            ),
        )
    if result.verdict == "notPermitted":
        return ErrorInfo(
            code=ErrorCode.DRILL_NOT_PERMITTED,
            message=f"the account that run commands run as (SYSTEM) may not check or drop {name}: {result.told}.",
            recommendations=(
                "On the drill VM alone, make it a member of sysadmin: DECLARE @system sysname ="
                " QUOTENAME(SUSER_SNAME(0x010100000000000512000000)); EXEC (N'ALTER SERVER ROLE sysadmin ADD MEMBER '"
                " + @system);",
            ),
        )
    if result.verdict == "absent":
        text = f"the instance has no database {name}, though the service says that it was restored."
        return ErrorInfo(code=ErrorCode.DRILL_CHECK_INCOMPLETE, message=text)
    text = f"{name} could not be checked or dropped: {result.told}."
    return ErrorInfo(code=ErrorCode.DRILL_CHECK_INCOMPLETE, message=text)


# -- how it ends


def _to_clean_up(message: StepMessage[RestoreTask], drill: Drill) -> Continue:
    task = message.payload
    following = drill.model_copy(update={"asked_at": None, "deleted_at": None})
    return Continue((To("clean_up_drill", task.model_copy(update={"drill": following})),))


def _with_info(drill: Drill, found: dict[str, Any]) -> Ending:
    so_far = drill.so_far if drill.so_far is not None else Ending(status=Status.SUCCEEDED)
    info = so_far.details.drill
    if info is None:
        return so_far
    details = so_far.details.model_copy(update={"drill": info.model_copy(update=found)})
    return so_far.model_copy(update={"details": details})


def _failed(drill: Drill, error: ErrorInfo, found: dict[str, Any]) -> Ending:
    return _with_info(drill, found).model_copy(update={"status": Status.FAILED, "error": error})


def _ended(drill: Drill, *, cleaned_up: bool) -> End:
    """The outcome of a completed drill."""
    return End.decided(_with_info(drill, {"cleaned_up": cleaned_up}))


def _left_behind(drill: Drill, why: ErrorInfo) -> End:
    """The outcome of a drill whose database could not be dropped: what it proved still counts."""
    end = _ended(drill, cleaned_up=False)
    info = end.details.drill
    name = info.database if info is not None else "the drill database"
    said = (
        f"{name} was not dropped, and is replaced by the next drill of its source: {why.code}: {why.message}"
    )
    details = end.details.model_copy(update={"warnings": (*end.details.warnings, said)})
    status = Status.SUCCEEDED_WITH_WARNINGS if end.status in SUCCESSES else end.status
    return replace(end, status=status, details=details)


def conclude_check(message: StepMessage[RestoreTask], end: End) -> End:
    """The outcome of a drill that could not be checked, with what the restore proved and how long it took."""
    drill = message.payload.drill
    if end.details != NO_DETAILS or drill is None or drill.so_far is None:
        return end
    return replace(end, details=_with_info(drill, {"cleaned_up": False}).details)


def conclude_clean_up(message: StepMessage[RestoreTask], end: End) -> End:
    """The outcome of a drill, whether or not its database could be dropped."""
    drill = message.payload.drill
    if end.details != NO_DETAILS or drill is None or drill.so_far is None or end.error is None:
        return end
    return _left_behind(drill, end.error)
