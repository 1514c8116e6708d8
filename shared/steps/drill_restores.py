"""The restore of a drill: when its turn has come, what it restores, and what follows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from shared.arm.errors import ArmStatusError
from shared.arm.ids import ProtectedItemId
from shared.clock import ServiceTime
from shared.drills import RUN_COMMAND_PREFIX, DrillTarget, drill_database_name
from shared.engine.message import Ending, StepMessage
from shared.engine.result import Collaborators, Continue, End, Failure, Later, To
from shared.messages.error_codes import ErrorCode
from shared.messages.events import SUCCESSES, DrillInfo, Status
from shared.messages.identity import drill_of, drill_target_hash
from shared.messages.requests import AlternateTarget
from shared.steps.drill_checks import source_item, target_for
from shared.steps.payloads import (
    Drill,
    DrillSource,
    RestorePlan,
    RestoreTask,
    packed_sources,
    unpacked_sources,
)
from shared.steps.recovery_points import choose_recovery_point

if TYPE_CHECKING:
    from shared.azure_backup.models import Job
    from shared.run_commands.models import RunCommand

#: The wait between looks at another drill on the same target.
_BETWEEN_LOOKS: Final = timedelta(minutes=1)
#: How long a run command is left alone whose result may not have been read yet.
UNREAD: Final = timedelta(minutes=5)
_LONG_RUNNING: Final = timedelta(days=7)


def prepare(
    message: StepMessage[RestoreTask], collaborators: Collaborators, target: DrillTarget
) -> RestoreTask | Failure | Later:
    """The restore of a drill whose turn has come: its recovery point is chosen now, not when it was planned."""
    task = message.payload
    drill = task.drill
    assert drill is not None
    now = collaborators.now()
    # Checked before anything in the vault is listed: another drill may be waited for by the hour.
    waiting = _other_drill(message, collaborators, target)
    if waiting is not None:
        if now - message.since <= message.job_timeout(collaborators.settings):
            return Later(_BETWEEN_LOOKS)
        return Failure(
            ErrorCode.CONFLICTING_OPERATION,
            f"{waiting} was still running when the time was up; one drill at a time is done on {target}.",
            Status.TIMED_OUT,
        )
    item = source_item(message, collaborators, target)
    if isinstance(item, Failure):
        return item
    points = collaborators.azure.list_recovery_points(ProtectedItemId.parse(task.item_id))
    chosen = choose_recovery_point(drill.choice, points, str(task.database))
    if isinstance(chosen, Failure):
        return chosen
    return task.changed(
        recovery_point=chosen,
        target=target_for(target, task.database),
        overwrite=True,
        no_recovery=False,
        drill=drill.changed(began=now),
    )


def _other_drill(
    message: StepMessage[RestoreTask], collaborators: Collaborators, target: DrillTarget
) -> str | None:
    """Another drill on the target's instance, as far as the vault's jobs and the VM's run commands show one."""
    drill = message.payload.drill
    assert drill is not None
    own = {request_id for request_id, _ in message.client_request_ids(most=3)}
    hashed = drill_target_hash(target.key)

    def is_other(job: Job) -> bool:
        drilled = drill_of(job.activity_id)
        return drilled is not None and drilled[1] == hashed and job.activity_id not in own

    running = collaborators.azure.list_jobs(
        message.vault_id,
        start=collaborators.now() - _LONG_RUNNING,
        operation="Restore",
        status="InProgress",
        kept=is_other,
    )
    if running:
        return f"job {running[0].id} (a drill's restore)"
    if drill.check == "none" and not drill.clean_up:
        return None
    try:
        commands = own_commands(collaborators, target)
    except ArmStatusError as error:
        # A restore alone needs no permission for run commands; a step that does need it will say so.
        if error.status == 403 and drill.check == "none":
            return None
        raise
    return next((f"run command {command.name}" for command in commands if not command.has_ended), None)


def own_commands(collaborators: Collaborators, target: DrillTarget) -> list[RunCommand]:
    """The app's run commands on the target's VM, each with its instance view."""
    viewed = (
        command if command.is_viewed else collaborators.azure.run_commands.get(target.vm_id, command.name)
        for command in collaborators.azure.run_commands.list_all(target.vm_id)
        if command.name.lower().startswith(RUN_COMMAND_PREFIX)
    )
    return [command for command in viewed if command is not None]


def after_drill_restore(message: StepMessage[RestoreTask], job: Job, end: End) -> Continue | End:
    """What follows a drill's restore: the check, or the outcome where the restore failed."""
    end = with_drill_info(message, end, transferred_mb=job.transferred_mb)
    if end.status not in SUCCESSES:
        return end
    task = message.payload
    assert task.drill is not None
    so_far = Ending(status=end.status, error=end.error, details=end.details)
    drill = task.drill.changed(so_far=so_far)
    return Continue((To("check_drill", task.changed(drill=drill, prepared=None)),))


def with_drill_info(
    message: StepMessage[RestoreTask], end: End, *, transferred_mb: float | None = None
) -> End:
    """The end, with how old the data was and how long the restore took."""
    task = message.payload
    drill = task.drill
    if drill is None or end.details.drill is not None:
        return end
    point = task.recovery_point
    rpo = None
    if point is not None and drill.began is not None:
        rpo = max(0.0, (drill.began - point.time).total_seconds())
    took = end.details.duration_seconds if end.status in SUCCESSES else None
    info = DrillInfo(
        database=drill_database_name(task.database),
        check=drill.check,
        achieved_rpo_seconds=rpo,
        restore_seconds=took,
        measured_rto_seconds=took,
        size_mb=transferred_mb,
    )
    return end.with_details(drill=info)


# -- one drill after the other


def first_drill(sources: Sequence[DrillSource], drill: Drill, target: AlternateTarget) -> To | None:
    """The first of several drills; its message carries the others, packed."""
    if not sources:
        return None
    first, *others = sources
    payload = RestoreTask(
        database=first.database,
        item_id=first.item_id,
        server_name=first.server_name,
        recovery_point=None,
        target=target.changed(database=drill_database_name(first.database)),
        overwrite=True,
        no_recovery=False,
        outcome_count=first.outcome_count,
        drill=drill.changed(rest=packed_sources(others) if others else None),
    )
    return To("trigger_restore", payload)


def next_drill(message: StepMessage[RestoreTask] | StepMessage[RestorePlan]) -> To | None:
    """The next drill of the request, which a drill's outcome starts; None after a replay."""
    task = message.payload
    if isinstance(task, RestorePlan) or not isinstance(task.target, AlternateTarget):
        return None
    drill = task.drill
    if drill is None or drill.rest is None or message.request.epoch != drill.epoch:
        return None
    fresh = Drill(choice=drill.choice, check=drill.check, clean_up=drill.clean_up, epoch=drill.epoch)
    return first_drill(unpacked_sources(drill.rest), fresh, task.target)


def is_unread(command: RunCommand, now: ServiceTime) -> bool:
    """Whether the result of another drill's run command may not have been read yet."""
    return command.end_time is not None and now - command.end_time < UNREAD
