"""The tracker: follows an asynchronous operation, then the job that came of it, to the job's end.

Follows https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations and
https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-managejobs.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from shared.arm.errors import ArmProtocolError, ArmStatusError
from shared.messages import events
from shared.messages.events import ErrorInfo, JobInfo, RecoveryPointInfo, Status, TaskInfo
from shared.messages.requests import Operation
from shared.messages.steps import (
    Again,
    BackupTask,
    Effect,
    ProtectTask,
    RestoreTask,
    StepMessage,
    Tracking,
    database_of,
)
from shared.workflow.advice import CONFLICT_CODES
from shared.workflow.effects import MOST_POSTS, after_conflict, candidate_jobs
from shared.workflow.flow import ended, go_on, next_tick, on_tick, timed_out
from shared.workflow.protect import after_protection
from shared.workflow.retry import MOST_MALFORMED
from shared.workflow.step import Collaborators, Next, Result, WorkflowError
from shared.workflow.workflows import AFTER_OPERATION, WORKFLOW_STEPS

if TYPE_CHECKING:
    from shared.azure_backup.models import Job, OperationStatus

_log: Final = logging.getLogger(__name__)

#: An operation or a job may not be readable yet right after it was started.
GRACE: Final = timedelta(minutes=5)
#: What was started just before it was handed over began no earlier than this.
_LONGEST_CALL: Final = timedelta(minutes=1)
_LONGEST_TEXT: Final = 4096
#: Codes of a 5xx that say nothing of the operation.
_PASSING: Final = frozenset(
    {
        "",
        "badgateway",
        "gatewaytimeout",
        "internalerror",
        "internalservererror",
        "requesttimeout",
        "serverbusy",
        "servertimeout",
        "serviceunavailable",
    }
)
_OUTCOMES: Final = {
    "Completed": Status.SUCCEEDED,
    "CompletedWithWarnings": Status.SUCCEEDED_WITH_WARNINGS,
    "Failed": Status.FAILED,
    "Cancelled": Status.CANCELLED,
}


def track(
    message: StepMessage[Tracking], c: Collaborators, *, known: Job | None = None, details: bool = False
) -> Result:
    """One poll: of the operation until its job is known, of the job until it ends.

    `known` is the job as a listing of the vault's jobs has just shown it, where one was made; a list entry
    has no tasks, properties or errors, so with `details` it is read as well.
    """
    tracking = message.payload
    at = c.now()
    if tracking.verdict is not None and known is None:
        verdict = tracking.verdict
        error = ErrorInfo(code=verdict.code, message=verdict.message, recommendations=verdict.recommendations)
        job = {"job": JobInfo(id=tracking.job_id, status="Unknown")} if tracking.job_id is not None else {}
        return Result(events=(ended(message, Status(verdict.status), at=at, error=error, **job),))
    if tracking.again is not None and known is None:
        return _next_effect(message, c, tracking.again)
    if known is not None and details:
        assert message.request.vault_id is not None
        known = c.backup.get_job(message.request.vault_id, known.id) or known
    if tracking.not_before is not None and at < tracking.not_before and known is None:
        # Delivered early (a clock that was corrected): no URL is asked before its Retry-After.
        return _later(message, c, tracking, tracking.not_before - at)
    if known is not None and tracking.job_id is None:
        return _job_known(message, c, known.id, known)
    if tracking.job_id is not None:
        return _follow_job(message, c, known)
    return _follow_operation(message, c)


def origin_message(message: StepMessage[Tracking]) -> StepMessage[Any]:
    """The message of the step that started what is tracked, as it was then."""
    definition = WORKFLOW_STEPS[message.payload.origin]
    return StepMessage(
        step=definition.name,
        sender=message.step,
        at=message.at,
        since=message.payload.began,
        request=message.request,
        effect=message.effect,
        payload=definition.payload.model_validate(message.payload.payload, extra="ignore"),
    )


def _follow_operation(message: StepMessage[Tracking], c: Collaborators) -> Result:
    tracking = message.payload
    expects_job = WORKFLOW_STEPS[tracking.origin].job is not None
    urls = [tracking.location_url, tracking.async_operation_url]
    if expects_job:
        urls.reverse()
    if tracking.other_url:
        urls.reverse()
    url = urls[0] or urls[1]
    if url is None:
        if expects_job:
            return _find_job(message, c)
        raise WorkflowError(
            "NoOperationUrl",
            f"the service accepted the request of step {tracking.origin} but named no URL to follow it by"
            f" (client request id {tracking.client_request_id}); send the request again.",
        )
    vault_id = message.request.vault_id
    assert vault_id is not None
    try:
        if url == tracking.async_operation_url:
            status = c.backup.get_operation_status(url, vault=vault_id)
            return _operation_status(message, c, status)
        result = c.backup.get_operation_result(url, vault=vault_id)
    except ArmStatusError as error:
        return _operation_error(
            message, c, error, expects_job=expects_job, has_other=bool(urls[0] and urls[1])
        )
    except ArmProtocolError:
        if not expects_job or message.attempt + 1 < MOST_MALFORMED:
            raise
        # The operation cannot be read; its job may be listed all the same.
        return _find_job(message, c)
    if not result.finished:
        return _later(message, c, tracking, result.retry_after)
    if expects_job:
        return _find_job(message, c)
    return _operation_done(message, c)


def _operation_status(message: StepMessage[Tracking], c: Collaborators, status: OperationStatus) -> Result:
    if not status.finished:
        return _later(message, c, message.payload, status.retry_after)
    expects_job = WORKFLOW_STEPS[message.payload.origin].job is not None
    if status.job_id is not None and expects_job:
        # A failed operation may name its job too: the job says why.
        return _job_known(message, c, status.job_id, None)
    if not status.succeeded:
        code = status.error_code or "OperationFailed"
        text = status.error_message or f"the operation ended as {status.status} without a reason"
        return _failed(message, c, code, text)
    return _find_job(message, c) if expects_job else _operation_done(message, c)


def _operation_error(
    message: StepMessage[Tracking],
    c: Collaborators,
    error: ArmStatusError,
    *,
    expects_job: bool,
    has_other: bool,
) -> Result:
    tracking = message.payload
    if error.status == 403 and has_other and not tracking.other_url:
        return _later(message, c, tracking.model_copy(update={"other_url": True}), timedelta())
    if error.status in (404, 410):
        if error.status == 404 and c.now() - tracking.began < GRACE:
            return _later(message, c, tracking, error.retry_after)
        # The token of the operation is dead: its job, or the state it led to, is still there.
        return _find_job(message, c) if expects_job else _operation_done(message, c)
    settled = (
        error.status >= 500 and error.code.lower() not in _PASSING and message.attempt + 1 >= MOST_MALFORMED
    )
    if settled or (400 <= error.status < 500 and error.status not in (401, 403, 408, 409, 429)):
        # The result of a failed operation is its error, and that may be a 5xx.
        return _failed(message, c, error.code, error.message, error.recommendations)
    raise error


def _operation_done(message: StepMessage[Tracking], c: Collaborators) -> Result:
    origin = origin_message(message)
    following = AFTER_OPERATION[origin.step]
    if following == origin.step and origin.effect.n >= MOST_POSTS:
        raise WorkflowError(
            "NothingCame",
            f"step {origin.step} created what the request needs {origin.effect.n} times; each time the service said"
            " that it was done, and what was created was not there.",
        )
    return Result(next=(go_on(origin, following, origin.payload, c.now()),))


def _find_job(message: StepMessage[Tracking], c: Collaborators) -> Result:
    """The job of an operation that does not name it: by the client request id, else the only candidate."""
    tracking = message.payload
    vault_id = message.request.vault_id
    assert vault_id is not None
    jobs = c.backup.list_jobs(vault_id, start=tracking.began - timedelta(minutes=5))
    for job in jobs:
        if job.activity_id is not None and job.activity_id.lower() == tracking.client_request_id:
            return _job_known(message, c, job.id, None)
    if c.now() - tracking.began < GRACE:
        return _later(message, c, tracking, timedelta(minutes=1))
    candidates = _candidates(tracking, jobs)
    if len(candidates) == 1:
        return _job_known(message, c, candidates[0].id, None)
    if not tracking.looked:
        # The operation may be readable again by then.
        once = tracking.model_copy(update={"looked": True})
        return _later(message, c, once, timedelta(minutes=1))
    raise WorkflowError(
        "JobNotFound",
        f"the service accepted the request for {database_of(tracking)} (client request id"
        f" {tracking.client_request_id}), but its job cannot be told among the {len(candidates)} that the vault"
        " lists; look at the vault's jobs.",
        status=Status.UNKNOWN,
    )


def _candidates(tracking: Tracking, jobs: Sequence[Job]) -> list[Job]:
    """The jobs that may have come of the operation, though nothing in them says so."""
    operation = WORKFLOW_STEPS[tracking.origin].job
    assert operation is not None
    database = database_of(tracking)
    name = database.name if database is not None else ""
    since = tracking.began - _LONGEST_CALL
    server = tracking.payload.get("serverName", "")
    return candidate_jobs(jobs, since, operation=operation, database=name, server=server)


def _job_known(message: StepMessage[Tracking], c: Collaborators, job_id: str, job: Job | None) -> Result:
    tracking = message.payload
    at = c.now()
    limit = message.request.job_timeout or c.settings.job_timeout
    following = tracking.model_copy(
        update={
            "job_id": job_id,
            "async_operation_url": None,
            "location_url": None,
            "not_before": None,
            "deadline": tracking.began + limit,
        }
    )
    database = database_of(tracking)
    assert database is not None
    count = tracking.payload.get("outcomeCount", 1)
    started = events.started(
        message.request,
        at=at,
        database=database,
        subject=tracking.payload.get("itemId", ""),
        outcome_count=count,
        job=_job_info(job) if job is not None else JobInfo(id=job_id, status="InProgress"),
    )
    moved = message.model_copy(update={"payload": following})
    if job is not None:
        rest = _follow_job(moved, c, job)
        return Result(events=(started, *rest.events), next=rest.next)
    if at >= following.deadline:
        # Found late (the app was stopped for days): it has one look, which ends in the one outcome.
        rest = _follow_job(moved, c, None)
        return Result(events=(started, *rest.events), next=rest.next)
    # It may have ended by now: a configuration's has when its operation has, others may have been short.
    rest = _later(moved, c, following, timedelta() if c.may_read_more() else None)
    return Result(events=(started, *rest.events), next=rest.next)


def _follow_job(message: StepMessage[Tracking], c: Collaborators, known: Job | None) -> Result:
    tracking = message.payload
    vault_id = message.request.vault_id
    assert vault_id is not None and tracking.job_id is not None
    job = known if known is not None else c.backup.get_job(vault_id, tracking.job_id)
    if job is None:
        if c.now() - tracking.began < GRACE:
            return _later(message, c, tracking, None)
        raise WorkflowError(
            "JobNotFound",
            f"the vault does not know job {tracking.job_id} any more; look at the vault's jobs.",
            status=Status.UNKNOWN,
        )
    if not job.status.has_ended:
        if job.status == "Unknown":
            _log.warning(
                "job has a status that is not known; following it to its deadline",
                extra={"action": "track", "job_id": job.id, "job_status": job.raw_status[:40]},
            )
        if job.percent_complete is not None:
            tracking = tracking.model_copy(update={"percent_complete": job.percent_complete})
        return _later(message, c, tracking, None)
    return _job_ended(message, c, job)


def _job_ended(message: StepMessage[Tracking], c: Collaborators, job: Job) -> Result:
    status = _OUTCOMES[job.status.value]
    error = _job_error(job) if status not in events.SUCCESSES else None
    if status is Status.FAILED and _is_conflict(job):
        assert error is not None
        return _conflict(message, c, error)
    origin = origin_message(message)
    payload = origin.payload
    if error is not None and _does_not_apply(payload, error):
        status = Status.SKIPPED
    if status in events.SUCCESSES and isinstance(payload, ProtectTask):
        following = after_protection(origin.model_copy(update={"sender": message.step}), c)
        if following is not None:
            return Result(next=(following,))
    warnings = tuple(_clip(item.message) for item in job.error_details) if error is None else ()
    details = {**_timing(job), **_of_database(message, payload, status, job)}
    return Result(events=(ended(message, status, at=c.now(), error=error, warnings=warnings, **details),))


def _timing(job: Job) -> dict[str, Any]:
    """When the job ran, and the job itself, as an outcome tells them."""
    duration = (job.end_time - job.start_time).total_seconds() if job.start_time and job.end_time else None
    return {
        "start_time": job.start_time,
        "end_time": job.end_time,
        "duration_seconds": duration,
        "job": _job_info(job),
    }


def _of_database(message: StepMessage[Tracking], payload: object, status: Status, job: Job) -> dict[str, Any]:
    """What an outcome tells of the database that was protected, backed up or restored."""
    if isinstance(payload, ProtectTask):
        if status not in events.SUCCESSES:
            return {"policy_name": payload.policy_name}
        kept = payload.action == "changePolicy"
        state = payload.protection_state if kept else "IRPending"
        return {"policy_name": payload.policy_name, "protection_state": state}
    if isinstance(payload, BackupTask):
        if message.request.operation is Operation.PROTECT:
            return {"policy_name": payload.policy_name}
        return {
            "policy_name": payload.policy_name,
            "backup_type": _backup_type(job, payload),
            "data_transferred_mb": _number(job.properties.get("Data Transferred (in MB)")),
            "retain_until": payload.retain_until,
        }
    if isinstance(payload, RestoreTask):
        point = payload.recovery_point
        return {
            "recovery_point": RecoveryPointInfo(name=point.name, kind=point.kind, time=point.time),
            "target": payload.target.model_dump(mode="json", by_alias=True, exclude_none=True),
        }
    return {}


def _does_not_apply(payload: object, error: ErrorInfo) -> bool:
    """Whether a pattern meant a database that does not allow the type of backup."""
    refused = error.code.lower() == "usererrorsqlpodoesnotsupportbackuptype"
    return refused and isinstance(payload, BackupTask) and payload.by_pattern


def _is_conflict(job: Job) -> bool:
    return any(
        item.title.lower() in CONFLICT_CODES or str(item.code) in CONFLICT_CODES for item in job.error_details
    )


def _failed(
    message: StepMessage[Tracking],
    c: Collaborators,
    code: str,
    text: str,
    recommendations: tuple[str, ...] = (),
) -> Result:
    error = ErrorInfo(code=code, message=_clip(text), recommendations=recommendations)
    if code.lower() in CONFLICT_CODES:
        return _conflict(message, c, error)
    return Result(events=(ended(message, Status.FAILED, at=c.now(), error=error),))


def _conflict(message: StepMessage[Tracking], c: Collaborators, error: ErrorInfo) -> Result:
    """Another operation was running: the step comes back for a new effect once that has ended."""
    verdict = after_conflict(origin_message(message), error, at=c.now(), within=c.settings.operation_timeout)
    if verdict is None:
        return _next_effect(message, c, Again(waiting=True, since=message.payload.began))
    status, why = verdict
    return Result(events=(ended(message, status, at=c.now(), error=why),))


def _next_effect(message: StepMessage[Tracking], c: Collaborators, again: Again) -> Result:
    """The step comes back for a new effect, under a number of its own."""
    at = c.now()
    origin = origin_message(message)
    following = origin.model_copy(
        update={
            "effect": Effect(n=origin.effect.n + 1, waiting=again.waiting),
            "at": at,
            "since": again.since,
        }
    )
    return Result(next=(Next(following, timedelta(minutes=1) if again.waiting else timedelta()),))


def _backup_type(job: Job, task: BackupTask) -> str:
    """The type that was taken: the service turns a differential or log into a full where it must."""
    operation = job.operation
    if "(" in operation and operation.endswith(")"):
        return operation[operation.index("(") + 1 : -1].replace(" ", "")
    return task.backup_type.value


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def _job_info(job: Job) -> JobInfo:
    return JobInfo(
        id=job.id,
        status=job.raw_status or job.status.value,
        activity_id=job.activity_id,
        tasks=tuple(TaskInfo(task_id=_clip(task), status=status) for task, status in job.tasks[:50]),
        properties={_clip(key): _clip(value) for key, value in list(job.properties.items())[:50]},
    )


def _job_error(job: Job) -> ErrorInfo:
    if not job.error_details:
        text = job.dynamic_error_message or f"the job ended as {job.status.value} and gives no reason"
        return ErrorInfo(code=f"Job{job.status.value}", message=_clip(text))
    first = job.error_details[0]
    more = f" {job.dynamic_error_message}" if job.dynamic_error_message else ""
    return ErrorInfo(
        code=first.title or str(first.code),
        message=_clip(f"{first.message}{more}"),
        recommendations=tuple(_clip(text) for text in first.recommendations[:20]),
    )


def _clip(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"


def _later(
    message: StepMessage[Tracking], c: Collaborators, tracking: Tracking, wait: timedelta | None
) -> Result:
    """The same message on a later tick, not before `wait`; its outcome where that passes the deadline."""
    at = c.now()
    asked = wait if wait is not None else c.tick
    if at >= tracking.deadline or (wait is not None and at + wait > tracking.deadline):
        return Result(events=(timed_out(message, tracking, at),))
    if wait is None:
        delay = min(next_tick(at, c.tick), max(c.tick / 2, tracking.deadline - at))
    else:
        delay = on_tick(at, asked, c.tick) if asked else asked
        delay = min(delay, max(asked, tracking.deadline - at))
    asked_by_service = at + wait if wait else None
    later = tracking.model_copy(update={"not_before": asked_by_service})
    return Result(next=(Next(message.again(at=at, payload=later), delay),))
