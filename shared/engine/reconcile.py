"""Reconciling an effect with the vault's jobs: what became of a call whose answer was lost, or that was refused.

The service does not tell equal requests apart, so before a call is made again the vault's jobs are looked at. What is
known of the effect decides what is looked for (`shared.engine.effect`); whose job a listed one is, is decided in
`shared.engine.job_matching`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from shared.clock import ServiceTime
from shared.engine.effect import CheckFirst, MayHaveStarted, Untried, Waiting
from shared.engine.expected_job import ExpectedJob
from shared.engine.job_matching import candidates, has_namesakes, is_about, may_matter, own_job
from shared.engine.message import StepMessage
from shared.engine.result import Collaborators, End, FollowJob, Later, NextEffect, Result
from shared.messages.error_codes import ErrorCode
from shared.messages.events import ErrorInfo, Status
from shared.messages.identity import is_marked

if TYPE_CHECKING:
    from shared.azure_backup.models import Job

#: Waits between looks at the vault's jobs. A job that none of the looks shows is believed not to exist: it has been
#: seen in the list four minutes after its call.
BETWEEN_LOOKS: Final = (timedelta(minutes=1), timedelta(minutes=4), timedelta(minutes=5))
#: Between looks at an operation that is running.
WHILE_RUNNING: Final = timedelta(minutes=1)
#: How far back jobs are listed at first, and where that finds nothing.
WINDOW: Final = timedelta(hours=1)
LONG_WINDOW: Final = timedelta(days=7)
#: How far back a replay adopts a job that the request has started.
REPLAYS_REACH: Final = timedelta(days=30)
#: How far the service's clock and ours may disagree about what came first.
_TOLERANCE: Final = timedelta(seconds=5)
#: Operations that the service runs one at a time on a database.
_EXCLUSIVE: Final = ("Backup", "Restore", "ConfigureBackup", "DisableBackup", "DeleteBackupData")


def before_call(
    expected: ExpectedJob, message: StepMessage[Any], collaborators: Collaborators
) -> Result | None:
    """What a message results in before its step may make its call; None: the call may be made.

    The step's own job is looked for before any effect but the first, after a refusal, after an answer that
    was lost, and before a replay.
    """
    match message.effect.state(expected.attempts(message, collaborators)):
        case MayHaveStarted() as lost:
            return _after_lost_answer(expected, message, lost, collaborators)
        case Waiting() as waiting:
            return _while_waiting(expected, message, waiting, collaborators)
        case CheckFirst():
            return _own(message, _jobs(expected, message, collaborators, WINDOW))
        case Untried():
            return _before_replay(expected, message, collaborators) if message.request.epoch > 0 else None


def _own(message: StepMessage[Any], jobs: Iterable[Job]) -> FollowJob | None:
    found = own_job(message, jobs)
    return FollowJob(found.id) if found is not None else None


def _echoes(jobs: Iterable[Job]) -> bool:
    """Whether the vault shows client request ids with these jobs: it then would show the step's own."""
    return any(is_marked(job.activity_id) for job in jobs)


def only_possible(
    expected: ExpectedJob,
    message: StepMessage[Any],
    collaborators: Collaborators,
    possible: Sequence[Job],
) -> Job | None:
    """The step's own job where just one can be it, though it does not bear its id; none in a vault that echoes."""
    if not _is_certain(message, possible, collaborators):
        return None
    return None if _echoes(_jobs(expected, message, collaborators, LONG_WINDOW)) else possible[0]


def _jobs(
    expected: ExpectedJob, message: StepMessage[Any], collaborators: Collaborators, window: timedelta
) -> list[Job]:
    effect = message.effect
    began = min(filter(None, (effect.at, effect.refused_from, message.at, message.since)))
    return _jobs_since(expected, message, collaborators, began - window)


def _jobs_since(
    expected: ExpectedJob, message: StepMessage[Any], collaborators: Collaborators, start: ServiceTime
) -> list[Job]:
    operation = expected.operation_of(message.payload)
    kept = may_matter(message)
    return collaborators.azure.list_jobs(message.vault_id, start=start, operation=operation, kept=kept)


def _after_lost_answer(
    expected: ExpectedJob, message: StepMessage[Any], lost: MayHaveStarted, collaborators: Collaborators
) -> Result:
    """Find out whether an effect that may have started did."""
    since = lost.since or message.at
    jobs = _jobs(expected, message, collaborators, WINDOW)
    if (own := _own(message, jobs)) is not None:
        return own
    if (happened := expected.happened(message, collaborators)) is not None:
        return happened
    if lost.looks < len(BETWEEN_LOOKS):
        effect = message.effect.lost(since=since, looks=lost.looks + 1)
        return Later(BETWEEN_LOOKS[lost.looks], effect=effect)
    # Clocks may have jumped: the list goes back days before its own job is believed not to exist.
    earlier = _jobs(expected, message, collaborators, LONG_WINDOW)
    if (own := _own(message, earlier)) is not None:
        return own
    echoes = _echoes(earlier)
    until = lost.until + _TOLERANCE if lost.until is not None else None
    possible = candidates(message, jobs, expected, since=since - _TOLERANCE, until=until)
    if not echoes and not expected.repeatable and _is_certain(message, possible, collaborators):
        return FollowJob(possible[0].id)
    not_started = echoes and not possible
    if expected.repeatable or (not_started and expected.harmless(message.payload)):
        return _next(expected, message, collaborators, certain=not_started)
    return unknown(expected, message, len(possible), echoes=echoes)


def _is_certain(message: StepMessage[Any], possible: Sequence[Job], collaborators: Collaborators) -> bool:
    """Whether just one job can be the step's own, and it can be about no other database."""
    return len(possible) == 1 and not has_namesakes(message, collaborators)


def _next(
    expected: ExpectedJob, message: StepMessage[Any], collaborators: Collaborators, *, certain: bool
) -> Result:
    """The next effect, where the step may have another; else the outcome of a call that never started."""
    most = expected.attempts(message, collaborators)
    if message.effect.n < most:
        return NextEffect()
    error = ErrorInfo(
        code=expected.not_started,
        message=f"No job shows that the service took the {expected.noun} of {message.database}."
        f" This was attempt {message.effect.n} of at most {most}.",
    )
    return End(Status.FAILED if certain else Status.UNKNOWN, error)


def _while_waiting(
    expected: ExpectedJob, message: StepMessage[Any], waiting: Waiting, collaborators: Collaborators
) -> Result | None:
    """After a conflict: wait until no other operation runs on the database, and check that none was the step's."""
    # A job that still runs may have begun days ago.
    jobs = collaborators.azure.list_jobs(
        message.vault_id, start=message.since - LONG_WINDOW, status="InProgress", kept=may_matter(message)
    )
    if (own := _own(message, jobs)) is not None:
        return own
    database, server = message.the_database, message.payload.server
    running = [
        job
        for job in jobs
        if any(is_about(job, operation, database=database, server=server) for operation in _EXCLUSIVE)
    ]
    out_of_attempts = message.effect.n > expected.attempts(message, collaborators)
    if running:
        mistaken = _may_be_own(expected, message, waiting, collaborators, running)
        if mistaken is not None:
            return mistaken
        if out_of_attempts:
            return _last_conflict(expected, message, collaborators)
        if collaborators.now() - message.since > message.job_timeout(collaborators.settings):
            error = ErrorInfo(
                code=ErrorCode.CONFLICTING_OPERATION,
                message=f"job {running[0].id} ({running[0].operation}) was still running on {database} when the"
                " time was up.",
            )
            return End(Status.TIMED_OUT, error)
        return Later(WHILE_RUNNING, effect=message.effect.conflict_explained())
    ended = _jobs(expected, message, collaborators, WINDOW)
    if (own := _own(message, ended)) is not None:
        return own
    # No listed job explains the conflict: it may be with this step's own call, whose job is listed late.
    if not waiting.explained and (waiting.refused_at is not None or out_of_attempts):
        if waiting.looks < len(BETWEEN_LOOKS):
            effect = message.effect.conflict_unexplained(waiting.looks + 1)
            return Later(BETWEEN_LOOKS[waiting.looks], effect=effect)
        mistaken = _may_be_own(expected, message, waiting, collaborators, ended)
        if mistaken is not None:
            return mistaken
    return _last_conflict(expected, message, collaborators) if out_of_attempts else None


def _may_be_own(
    expected: ExpectedJob,
    message: StepMessage[Any],
    waiting: Waiting,
    collaborators: Collaborators,
    jobs: Sequence[Job],
) -> Result | None:
    """In a vault that does not echo, a job that began while the refused call was out may be its own."""
    if waiting.refused_at is None or waiting.refused_from is None:
        return None
    since, until = waiting.refused_from - _TOLERANCE, waiting.refused_at + _TOLERANCE
    possible = candidates(message, jobs, expected, since=since, until=until)
    if not possible or _echoes(_jobs(expected, message, collaborators, LONG_WINDOW)):
        return None
    if _is_certain(message, possible, collaborators):
        return FollowJob(possible[0].id)
    return unknown(expected, message, len(possible), echoes=False)


def _last_conflict(expected: ExpectedJob, message: StepMessage[Any], collaborators: Collaborators) -> End:
    """The outcome of the last conflict: the step may have no further effect."""
    text = "another operation was running on the database."
    why = message.effect.why or ErrorInfo(code=ErrorCode.CONFLICTING_OPERATION, message=text)
    status = expected.conflict_status(message.payload)
    if status is not Status.FAILED:
        return End(status, why)
    most = expected.attempts(message, collaborators)
    text = f"{why.message} This was attempt {min(message.effect.n, most)} of at most {most}."
    return End(status, why.changed(message=text))


def _before_replay(
    expected: ExpectedJob, message: StepMessage[Any], collaborators: Collaborators
) -> Result | None:
    """The job that a replayed request started for the step and its database before.

    An operator who replays it wants it done: one look is enough, and it goes on where no job can be its own.
    """
    start = min(message.at - WINDOW, collaborators.now() - REPLAYS_REACH)
    jobs = _jobs_since(expected, message, collaborators, start)
    if (own := _own(message, jobs)) is not None:
        return own
    if (happened := expected.happened(message, collaborators)) is not None:
        return happened
    possible = candidates(message, jobs, expected, since=message.at - _TOLERANCE)
    if not possible or _echoes(jobs):
        return None
    if _is_certain(message, possible, collaborators):
        return FollowJob(possible[0].id)
    return unknown(expected, message, len(possible), echoes=False)


def unknown(expected: ExpectedJob, message: StepMessage[Any], possible: int, *, echoes: bool) -> End:
    """The honest answer where an effect may or may not have happened. `possible`: how many jobs may be its own."""
    jobs = {0: "no job", 1: "one job"}.get(possible, f"{possible} jobs")
    proof = "" if echoes else ", and the vault is not known to echo client request ids"
    error = ErrorInfo(
        code=ErrorCode.OUTCOME_UNKNOWN,
        message=f"the answer to the {expected.noun} of {message.database} was lost; the vault lists {jobs} that may"
        f" be its own{proof}. Look at the vault's jobs before asking again.",
    )
    return End(Status.UNKNOWN, error)


# -- after a call


def turned_away(error: ErrorInfo, *, called: ServiceTime, at: ServiceTime) -> NextEffect:
    """What follows a conflict: the next effect, which waits and looks for the step's own job before it may call.

    The new number is sent before any call is made, so that a crash in between finds it again.
    """
    return NextEffect(waiting=True, why=error, refused_from=called, refused_at=at)


def gave_way_to_its_twin(
    expected: ExpectedJob, message: StepMessage[Any], collaborators: Collaborators, job: Job
) -> Result | None:
    """`unknown` where a job gave way to one that the same call may have started, and another call could do harm.

    A gateway may forward a call twice: the second job then gives way to the first. A vault that does not echo client
    request ids does not show whose the first is.
    """
    if job.start_time is None or expected.harmless(message.payload):
        return None
    jobs = _jobs(expected, message, collaborators, LONG_WINDOW)
    if _echoes(jobs):
        return None
    since, until = job.start_time - _TOLERANCE, job.start_time + _TOLERANCE
    twins = [
        other
        for other in candidates(message, jobs, expected, since=since, until=until)
        if other.id != job.id and other.status != "Failed"
    ]
    if not twins:
        return None
    what = ErrorInfo(
        code=ErrorCode.OUTCOME_UNKNOWN,
        message=f"job {job.id} gave way to job {twins[0].id}, which began at the same moment: where a gateway has"
        f" forwarded the {expected.noun} of {message.database} twice, that is its own too, and the vault is not"
        " known to echo client request ids. Look at the vault's jobs before asking again.",
    )
    return End(Status.UNKNOWN, what)


def proven(
    expected: ExpectedJob, message: StepMessage[Any], collaborators: Collaborators, error: ErrorInfo
) -> Result | None:
    """The job of an earlier effect, or `unknown`, where a refusal proves that it happened; else None."""
    if message.effect.n == 1 and message.request.epoch == 0:
        return None
    if not expected.proves(error):
        return None
    found = own_job(message, _jobs(expected, message, collaborators, LONG_WINDOW))
    if found is not None and found.status != "Failed":
        return FollowJob(found.id)
    what = ErrorInfo(
        code=ErrorCode.OUTCOME_UNKNOWN,
        message=f"{error.message} An earlier {expected.noun} of this request may have made it, and the vault lists no"
        " job that shows it. Look at the target and the vault's jobs before asking again.",
    )
    return End(Status.UNKNOWN, what)
