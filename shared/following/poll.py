"""One poll of the tracker: of an operation until its job is known, of the job until it ends.

Follows https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations and
https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-managejobs.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from shared.arm.budget import JOB_READS
from shared.arm.errors import ArmProtocolError, ArmStatusError
from shared.azure_backup.models import JobStatus
from shared.engine import job_matching, outcomes, reconcile
from shared.engine.advice import CONFLICT_CODES
from shared.engine.expected_job import MOST_POSTS, ExpectedJob
from shared.engine.message import FollowedJob, FollowedOperation, Following, StepMessage
from shared.engine.result import Collaborators, Continue, End, Later, NextEffect, Result, To
from shared.engine.retry import MOST_MALFORMED
from shared.engine.send import next_tick, on_tick
from shared.engine.table import Row
from shared.engine.telemetry import log_context
from shared.messages import events
from shared.messages.error_codes import ErrorCode
from shared.messages.events import ErrorInfo, Event, JobInfo, OutcomeDetails, Status, TaskInfo
from shared.messages.identity import as_uuid
from shared.telemetry.log import logger

if TYPE_CHECKING:
    from shared.azure_backup.models import Job, OperationStatus

_log: Final = logger(__name__)

#: How long an operation or a job may not be readable yet after it was started.
GRACE: Final = timedelta(minutes=5)
#: How long before the handover an operation may have been started, at most.
_LONGEST_CALL: Final = timedelta(minutes=1)
_MOST_TEXTS: Final = 50
#: Codes of a 5xx that say nothing about the operation; recorded reads of Azure Backup have RestApiInternalError.
_PASSING: Final = frozenset(
    {
        "",
        "badgateway",
        "cloudinternalerror",
        "gatewaytimeout",
        "internalerror",
        "internalservererror",
        "requesttimeout",
        "restapiinternalerror",
        "serverbusy",
        "servertimeout",
        "serviceunavailable",
    }
)
_OUTCOMES: Final = {
    JobStatus.COMPLETED: Status.SUCCEEDED,
    JobStatus.COMPLETED_WITH_WARNINGS: Status.SUCCEEDED_WITH_WARNINGS,
    JobStatus.FAILED: Status.FAILED,
    JobStatus.CANCELLED: Status.CANCELLED,
}


class Poll:
    """One look at what a message follows, for the step that started it."""

    def __init__(
        self,
        message: StepMessage[Following],
        row: Row,
        collaborators: Collaborators,
        *,
        details_left_out: bool = False,
    ) -> None:
        self._message = message
        self._row = row
        self._collaborators = collaborators
        self._details_left_out = details_left_out

    @property
    def _following(self) -> Following:
        return self._message.payload

    @property
    def _expected(self) -> ExpectedJob:
        """The job of a step whose call leads to one."""
        assert self._row.job is not None
        return self._row.job

    def result(self, *, known: Job | None = None, details: bool = False) -> Result:
        """What follows this poll.

        `known` is the job in the latest listing of the vault's jobs, where one was made. A list entry has no tasks,
        properties or errors, so with `details` the job itself is read as well.
        """
        following = self._following
        followed = following.followed
        assert isinstance(followed, FollowedOperation | FollowedJob), (
            "what has been decided is sent on, not polled"
        )
        if known is not None and details:
            known = self._collaborators.azure.get_job(self._message.vault_id, known.id) or known
        elif known is not None:
            self._details_left_out = adds_details(self._row)
        if following.not_before is not None and known is None:
            early = following.not_before - self._collaborators.now()
            if early > timedelta():
                # Delivered early (a clock that was corrected): no URL is asked before its Retry-After.
                return self._later(early)
        if isinstance(followed, FollowedJob):
            return self._job(followed.job_id, known)
        return self._job_known(known.id, known) if known is not None else self._operation(followed)

    # -- the operation

    def _operation(self, followed: FollowedOperation) -> Result:
        expects_job = self._row.job is not None
        urls = [followed.location_url, followed.async_operation_url]
        if expects_job:
            urls.reverse()
        if followed.other_url:
            urls.reverse()
        url = urls[0] or urls[1]
        if url is None:
            if expects_job:
                return self._find_job()
            if followed.at_once:
                return self._operation_done()
            text = (
                f"the service accepted the request of step {self._row.name} but named no URL to follow it by"
                f" (client request id {self._following.client_request_id}); send the request again."
            )
            return End(Status.FAILED, ErrorInfo(code=ErrorCode.NO_OPERATION_URL, message=text))
        try:
            if url == followed.async_operation_url:
                return self._operation_status(
                    self._collaborators.azure.get_operation_status(url, vault=self._message.vault_id)
                )
            result = self._collaborators.azure.get_operation_result(url, vault=self._message.vault_id)
        except ArmStatusError as error:
            return self._operation_error(followed, error, at=url, has_other=bool(urls[0] and urls[1]))
        except ArmProtocolError:
            if not expects_job or self._message.attempt + 1 < MOST_MALFORMED:
                raise
            # The operation cannot be read, but its job may be listed.
            return self._find_job()
        if not result.finished:
            return self._later(result.retry_after)
        return self._find_job() if expects_job else self._operation_done()

    def _operation_status(self, status: OperationStatus) -> Result:
        if not status.finished:
            return self._later(status.retry_after)
        if status.job_id is not None and self._row.job is not None:
            # A failed operation may name its job too: the job says why.
            return self._job_known(status.job_id, None)
        if not status.succeeded:
            code = status.error_code or ErrorCode.OPERATION_FAILED
            text = status.error_message or f"the operation ended as {status.status} without a reason"
            return self._failed(ErrorInfo(code=code, message=text))
        return self._find_job() if self._row.job is not None else self._operation_done()

    def _operation_error(
        self, followed: FollowedOperation, error: ArmStatusError, *, at: str, has_other: bool
    ) -> Result:
        if error.status == 403 and has_other and not followed.other_url:
            return self._later(timedelta(), followed=followed.changed(other_url=True))
        if error.status in (404, 410):
            if error.status == 404 and self._collaborators.now() - self._following.began < GRACE:
                return self._later(error.retry_after)
            # The operation's URL no longer works, but its job, or the state that it led to, is still there.
            return self._find_job() if self._row.job is not None else self._operation_done()
        # The result of a failed operation is its error, which may be a 5xx. Its status can still be read:
        # a 5xx there is the service's own trouble (both with code CloudInternalError in recordings).
        settled = (
            error.status >= 500
            and at != followed.async_operation_url
            and error.code.lower() not in _PASSING
            and self._message.attempt + 1 >= MOST_MALFORMED
        )
        if settled and has_other and not followed.other_url:
            return self._later(timedelta(), followed=followed.changed(other_url=True))
        if settled or (400 <= error.status < 500 and error.status not in (401, 403, 408, 409, 429)):
            return self._failed(
                ErrorInfo(code=error.code, message=error.message, recommendations=error.recommendations)
            )
        raise error

    def _operation_done(self) -> Result:
        following = self._row.after_operation
        assert following is not None
        n = self._message.effect.n
        if following == self._row.name and n >= MOST_POSTS:
            text = (
                f"step {self._row.name} created what the request needs {n} times; each time the service said that it"
                " was done, and what was created was not there."
            )
            return End(Status.FAILED, ErrorInfo(code=ErrorCode.NOTHING_CAME, message=text))
        return Continue((To(following, self._following.payload),))

    # -- from the operation to its job

    def _find_job(self) -> Result:
        """Find the job of an operation that does not name it: by the client request id, else the only candidate."""
        following = self._following
        assert isinstance(following.followed, FollowedOperation)
        jobs = self._list_jobs()
        own = as_uuid(following.client_request_id)
        for job in jobs:
            if own is not None and as_uuid(job.activity_id) == own:
                return self._job_known(job.id, None)
        if self._collaborators.now() - following.began < GRACE:
            return self._later(timedelta(minutes=1))
        origin = self._origin
        possible = job_matching.candidates(
            origin, jobs, self._expected, since=following.began - _LONGEST_CALL
        )
        only = reconcile.only_possible(self._expected, origin, self._collaborators, possible)
        if only is not None:
            return self._job_known(only.id, None)
        if not following.followed.looked:
            # The operation may be readable again by then.
            return self._later(timedelta(minutes=1), followed=following.followed.changed(looked=True))
        text = (
            f"the service accepted the request for {following.about} (client request id"
            f" {following.client_request_id}), but its job cannot be told among the {len(possible)} that the vault"
            " lists; look at the vault's jobs."
        )
        return self._without_job(ErrorInfo(code=ErrorCode.JOB_NOT_FOUND, message=text))

    def _without_job(self, error: ErrorInfo) -> Result:
        """What follows where no job tells how the call ended: the item itself may, else nobody knows."""
        happened = self._expected.happened(self._origin, self._collaborators)
        return happened or End(Status.UNKNOWN, error)

    def _job_known(self, job_id: str, job: Job | None) -> Result:
        following = self._following
        if job is not None and self._is_foreign(job):
            return self._own_instead(job)
        limit = self._message.job_timeout(self._collaborators.settings)
        moved = following.changed(followed=FollowedJob(job_id=job_id), deadline=following.began + limit)
        at = self._collaborators.now()
        info = job_info(job) if job is not None else JobInfo(id=job_id, status="InProgress")
        started = outcomes.started(self._message, info, at=at)
        rest = Poll(
            self._message.changed(payload=moved),
            self._row,
            self._collaborators,
            details_left_out=self._details_left_out,
        )
        if job is not None:
            return _with_event(started, rest._job(job_id, job))
        if at >= moved.deadline:
            # Found late (the app was stopped for days): it is looked at once, and then has its outcome.
            return _with_event(started, rest._job(job_id, None))
        # It may have ended by now: a job that configures protection ends with its operation, others may be short.
        return _with_event(
            started, rest._later(timedelta() if self._collaborators.may_read_more(JOB_READS) else None)
        )

    # -- the job

    def _job(self, job_id: str, known: Job | None) -> Result:
        job = (
            known if known is not None else self._collaborators.azure.get_job(self._message.vault_id, job_id)
        )
        if job is None:
            if self._collaborators.now() - self._following.began < GRACE:
                return self._later(None)
            own = job_matching.own_job(self._origin, self._list_jobs())
            if own is not None and own.id != job_id:
                return self._job_known(own.id, None)
            text = f"the vault does not know job {job_id} any more; look at the vault's jobs."
            return self._without_job(ErrorInfo(code=ErrorCode.JOB_NOT_FOUND, message=text))
        if self._is_foreign(job):
            return self._own_instead(job)
        if job.status.has_ended:
            return self._job_ended(job)
        if job.status is JobStatus.UNKNOWN:
            _log.warning(
                "job has a status that is not known; following it to its deadline",
                extra=log_context(self._message, job_id=job.id, job_status=job.raw_status[:40]),
            )
        followed = FollowedJob(job_id=job_id, percent_complete=job.percent_complete)
        return self._later(None, followed=followed if job.percent_complete is not None else None)

    def _is_foreign(self, job: Job) -> bool:
        """Whether a job is of another operation, or about another database, than the one that is followed."""
        following = self._following
        about = following.about
        assert about is not None
        if as_uuid(job.activity_id) == as_uuid(following.client_request_id):
            return False
        operation = self._expected.operation_of(following.payload)
        server = following.payload.server
        return job_matching.is_of_another(job, operation, database=about, server=server)

    def _own_instead(self, foreign: Job) -> Result:
        """The step's own job, where the service names a job that cannot be it."""
        following = self._following
        own = job_matching.own_job(self._origin, self._list_jobs())
        if own is not None and not self._is_foreign(own):
            return self._job_known(own.id, None)
        operation = self._expected.operation_of(following.payload)
        text = (
            f"the service names job {foreign.id} for a {operation} of {following.about}, but that is a job"
            f" {foreign.operation} of {foreign.entity_name or 'nothing'}: it is not followed. Look at the vault's jobs."
        )
        return self._without_job(ErrorInfo(code=ErrorCode.OTHER_JOB, message=text))

    def _job_ended(self, job: Job) -> Result:
        status = _OUTCOMES[job.status]
        error = job_error(job) if status not in events.SUCCESSES else None
        origin = self._origin
        if status is Status.FAILED and error is not None:
            if _is_conflict(job):
                twin = reconcile.gave_way_to_its_twin(self._expected, origin, self._collaborators, job)
                return twin or NextEffect(waiting=True, why=error)
            proof = reconcile.proven(self._expected, origin, self._collaborators, error)
            if proof is not None:
                return proof
        warnings = tuple(item.message for item in job.error_details[:_MOST_TEXTS]) if error is None else ()
        details = _details(job, warnings, left_out=self._details_left_out)
        end = self._row.look_up(origin, job, End(status, error, details), self._collaborators)
        return self._row.after_job(origin, job, end)

    def _failed(self, error: ErrorInfo) -> Result:
        """What follows a failed operation: after a conflict the next effect, once what was running has ended."""
        if self._row.job is None:
            return End(Status.FAILED, error)
        if error.code.lower() in CONFLICT_CODES:
            return NextEffect(waiting=True, why=error)
        proof = reconcile.proven(self._row.job, self._origin, self._collaborators, error)
        return proof or End(Status.FAILED, error)

    # -- what they share

    def _list_jobs(self) -> list[Job]:
        """The vault's jobs that may be the step's own."""
        start = self._following.began - timedelta(minutes=5)
        return self._collaborators.azure.list_jobs(
            self._message.vault_id, start=start, kept=job_matching.may_matter(self._origin)
        )

    @property
    def _origin(self) -> StepMessage[Any]:
        """The message of the step that started the operation, as it was then."""
        return self._message.of_origin

    def _later(
        self, wait: timedelta | None, *, followed: FollowedOperation | FollowedJob | None = None
    ) -> Result:
        """The same message on a later tick, after at least `wait`; its outcome where that is past the deadline."""
        following = self._following
        if followed is not None:
            following = following.changed(followed=followed)
        at = self._collaborators.now()
        if at >= following.deadline or (wait is not None and at + wait > following.deadline):
            return outcomes.timed_out(following)
        left = following.deadline - at
        tick, since = self._collaborators.tick, self._collaborators.ticks_since
        if wait is None:
            delay = min(next_tick(at, tick, since=since), max(tick / 2, left))
        else:
            delay = on_tick(at, wait, tick, since=since) if wait else wait
            delay = min(delay, max(wait, left))
        asked = at + wait if wait else None
        return Later(delay, payload=following.changed(not_before=asked))


def _with_event(event: Event, result: Result) -> Result:
    """A result with an event that is published before everything else."""
    if isinstance(result, Continue | Later | End):
        return replace(result, events=(event, *result.events))
    return result


def adds_details(row: Row) -> bool:
    """Whether a completed job has more to tell than its list entry; a job that configures protection does not."""
    return row.job is not None and row.job.operation != "ConfigureBackup"


def _details(job: Job, warnings: tuple[str, ...], *, left_out: bool) -> OutcomeDetails:
    duration = (job.end_time - job.start_time).total_seconds() if job.start_time and job.end_time else None
    return OutcomeDetails(
        start_time=job.start_time,
        end_time=job.end_time,
        duration_seconds=duration,
        warnings=warnings,
        job=job_info(job).changed(details_left_out=left_out or None),
    )


def _is_conflict(job: Job) -> bool:
    return any(
        item.title.lower() in CONFLICT_CODES or str(item.code) in CONFLICT_CODES for item in job.error_details
    )


def job_info(job: Job) -> JobInfo:
    """A job in the form that events have."""
    return JobInfo(
        id=job.id,
        status=job.raw_status or job.status.value,
        activity_id=job.activity_id,
        tasks=tuple(TaskInfo(task_id=task, status=status) for task, status in job.tasks[:_MOST_TEXTS]),
        properties=dict(list(job.properties.items())[:_MOST_TEXTS]),
    )


def job_error(job: Job) -> ErrorInfo:
    """Why a job did not succeed, in the form that events have."""
    if not job.error_details:
        text = job.dynamic_error_message or f"the job ended as {job.status.value} and gives no reason"
        return ErrorInfo(code=f"Job{job.status.value}", message=text)
    first = job.error_details[0]
    more = f" {job.dynamic_error_message}" if job.dynamic_error_message else ""
    # People look errors up by either: the code is symbolic where there is a symbol.
    number = f" (error {first.code})" if first.title and first.code is not None else ""
    return ErrorInfo(
        code=first.title or str(first.code),
        message=f"{first.message}{more}{number}",
        recommendations=first.recommendations[:20],
    )
