"""Jobs from their start to their end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from local.simulator.calls import Call
from local.simulator.errors import JobError
from local.simulator.estate import ProtectedItem, Vault
from local.simulator.faults import Fault
from local.simulator.jobs import Job
from local.simulator.world import World

_INTERNAL_ERROR_ADVICE = (
    "Wait for a few minutes and then try the operation again. "
    "If the issue persists, please contact Microsoft support."
)


def start_job(
    world: World,
    call: Call | None,
    vault: Vault,
    operation: str,
    *,
    entity: str,
    item: ProtectedItem | None,
    length: timedelta,
    complete: Callable[[Job], None],
    always: Callable[[Job], object] | None = None,
    **shape: Any,
) -> Job:
    """Start a job of the given length; `shape` holds further fields of `Job`.

    At its end `always` runs, then `complete`; a JobError from that makes the job Failed or Cancelled. A fault of `call`
    that decides the outcome does so in place of `complete`.
    """
    faults = call.faults if call is not None else {}
    activity = call.client_request_id if call is not None and world.scenario.echo_activity_id else None
    job = Job(
        world.ids.guid(),
        next(world.sequence),
        operation,
        entity,
        item.name if item is not None else "",
        world.now,
        world.now + length,
        activity or world.ids.guid(),
        **shape,
    )
    if job.task is not None:
        young = world.durations.young()
        job.young_until, job.typeless_while_young = world.now + young, world.durations.coin()
    vault.jobs[job.id] = job
    if (late := faults.get("jobListedLate")) is not None:
        job.listed = False
        world.agenda.at(world.now + late.listed_after, partial(setattr, job, "listed", True))

    def end() -> None:
        if job.status != "InProgress":
            return
        if always is not None:
            always(job)
        _end_job(world, job, item, _status_at_the_end(job, faults, complete))

    if "jobNeverEnds" not in faults:
        world.agenda.after(length, end)
    return job


def _end_job(world: World, job: Job, item: ProtectedItem | None, status: str) -> None:
    job.finish(status, world.now)
    if item is not None:
        if item.busy_with is job:
            item.busy_with = None
        if job.operation == "Backup" and status in ("Failed", "Cancelled"):
            note_failed_backup(world, item, job)
        if job.operation == "Restore" and status != "Cancelled":
            item.last_restore = job


def note_failed_backup(world: World, item: ProtectedItem, job: Job) -> None:
    """Note a failed backup on its item."""
    error = job.errors[-1] if job.errors else None
    item.last_backup_time = world.now
    item.last_backup_status = "Unhealthy" if item.recovery_points else "IRPending"
    if error is not None:
        item.note_error(error.title, error.message, error.recommendations)


def _status_at_the_end(job: Job, faults: Mapping[str, Fault], complete: Callable[[Job], None]) -> str:
    """The final status of a job, by the faults of its call or else by `complete`."""
    for name, status in (
        ("jobFailure", "Failed"),
        ("operationFailure", "Failed"),
        ("jobCancelled", "Cancelled"),
    ):
        if (fault := faults.get(name)) is not None:
            if status == "Failed" or fault.code is not None:
                job.errors.append(_injected_error(fault))
            job.dynamic_error = fault.dynamic_error_message
            return status
    try:
        complete(job)
    except JobError as error:
        job.errors.append(error)
        return "Cancelled" if error.cancelled else "Failed"
    if (fault := faults.get("jobWarning")) is not None:
        job.errors.append(_injected_error(fault))
        return "CompletedWithWarnings"
    return "Completed"


def _injected_error(fault: Any) -> JobError:
    return JobError(
        fault.error_code or 500001,
        fault.code or "CloudInternalError",
        fault.message or "Microsoft Azure Backup encountered an internal error.",
        list(fault.recommendations) or [_INTERNAL_ERROR_ADVICE],
    )
