"""Effects happen once: what is known of a mutating call, and the rule that lets only one of several deliveries go on.

The service does not tell requests apart, so the vault's jobs are asked: a job's `activityId` is the client
request id of the call that started it, and this app's ids bear a mark, which proves the echo for a vault and an
operation (https://learn.microsoft.com/azure/backup/backup-azure-sql-vm-rest-api shows both ids as equal).

The rule: every delivery hands its result to the tracker under the message id of the effect (`claim`). The broker keeps
the first and drops the others, so that a doubt never replaces what is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from shared.engine.message import (
    TRACK,
    Effect,
    Ending,
    Following,
    OfJob,
    OfOperation,
    Payload,
    Repetition,
    StepMessage,
)
from shared.engine.result import Collaborators, End, FollowJob, Later, NextEffect, Result
from shared.messages.error_codes import ErrorCode
from shared.messages.events import ErrorInfo, Status
from shared.messages.identity import Database, as_uuid, is_marked

if TYPE_CHECKING:
    from shared.azure_backup.models import Job, ProtectedItem

#: Waits between looks at the vault's jobs. A job that none of the looks shows is believed not to exist: it has been
#: seen in the list four minutes after its call.
BETWEEN_LOOKS: Final = (timedelta(minutes=1), timedelta(minutes=4), timedelta(minutes=5))
#: Between looks at an operation that is running.
WHILE_RUNNING: Final = timedelta(minutes=1)
MOST_POSTS: Final = 3
#: A PUT may be repeated until its deadline; this bound is for a clock that stands still.
MOST_PUTS: Final = 100
#: How far back jobs are listed at first, and where that finds nothing.
WINDOW: Final = timedelta(hours=1)
LONG_WINDOW: Final = timedelta(days=7)
#: How far the service's clock and ours may disagree about what came first.
_TOLERANCE: Final = timedelta(seconds=5)
_LONGEST_CALL: Final = timedelta(minutes=1)
#: Job operations that cannot be mistaken for one another.
_TOLD_APART: Final = frozenset({"backup", "restore", "configurebackup", "disablebackup", "deletebackupdata"})
#: Operations that the service runs one at a time on a database.
_EXCLUSIVE: Final = ("Backup", "Restore", "ConfigureBackup", "DisableBackup", "DeleteBackupData")


@dataclass(frozen=True, kw_only=True)
class JobOf:
    """The job that a step's call starts: how it is recognised, and when the call may be repeated."""

    #: as the service names its operation
    operation: str
    #: the operation of the other variant of the step's calls
    variants: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    #: whether the call ends in the same state when it is sent again
    repeatable: bool = False
    #: whether another call, once no job of the first is listed, could do harm
    harmless: Callable[[Any], bool] = lambda _: True
    #: how many effects the step may have, the one at hand included
    attempts: Callable[[StepMessage[Any], Collaborators], int] = lambda *_: MOST_POSTS
    #: how the step ends where a conflict leaves it no further effect
    conflict_status: Callable[[Any], Status] = lambda _: Status.FAILED
    #: reads whether the effect happened: what follows if it did
    happened: Callable[[StepMessage[Any], Collaborators], Result | None] = lambda *_: None
    #: a refusal that proves that an effect before it happened
    proves: Callable[[ErrorInfo], bool] = lambda _: False
    #: the code of the step's outcome where the service took none of its calls
    not_started: ErrorCode = ErrorCode.OUTCOME_UNKNOWN
    #: in words, for errors
    noun: str = "request"

    def operation_of(self, payload: Payload) -> str:
        """The operation of the job of this payload's call."""
        return self.variants.get(payload.variant, self.operation)


# -- whose job it is


def is_about(job: Job, operation: str, *, database: Database, server: str) -> bool:
    """Whether a job is one of this operation on that database, as far as jobs tell.

    A job names the database and mostly its server, at times with the instance in front and the domain at the end
    (`MSSQLSERVER/orders [sqlvm1.contoso.com]`); a new job may name the database alone. A job that names no server or
    instance may be about a database of the same name elsewhere.
    """
    return is_of(job, operation) and names(job.entity_name, database, server)


def is_of(job: Job, operation: str) -> bool:
    """Whether a job is of an operation: `Backup (Full)` is a `Backup`."""
    word = job.operation.lower()
    wanted = operation.lower()
    return word == wanted or word.startswith((f"{wanted} ", f"{wanted}("))


def names(entity: str, database: Database, server: str) -> bool:
    """Whether a job's entity may be this database; see `is_about`."""
    text = entity.lower()
    name = database.name.lower()
    prefix = f"{database.parent.lower()}/"
    for whole in (name, f"{prefix}{name}"):
        if text == whole:
            return True
        if text.startswith(f"{whole} [") and text.endswith("]"):
            return not server or _same_host(text[len(whole) + 2 : -1], server.lower())
    return False


def _same_host(one: str, other: str) -> bool:
    """Whether two host names may be of one machine: they are equal, or one of them lacks the domain."""
    if "." in one and "." in other:
        return one == other
    # Windows cuts a host's own name to 15 characters in places.
    return one.partition(".")[0][:15] == other.partition(".")[0][:15]


def is_of_another(job: Job, operation: str, *, database: Database, server: str) -> bool:
    """Whether a job is certainly another operation, or about another database.

    It may say little: a new job names no server, and not the kind of its operation. The server of a restore is not
    compared: no recorded job shows which machine is named by a restore to another one.
    """
    what = job.operation.lower().partition(" (")[0]
    if what in _TOLD_APART and what != operation.lower():
        return True
    compared = "" if operation == "Restore" or database.availability_group is not None else server
    return bool(job.entity_name) and not names(job.entity_name, database, compared)


def own_job(message: StepMessage[Any], jobs: Iterable[Job]) -> Job | None:
    """The job that this request started for the step and its database, by any effect in any epoch.

    The newest counts. The failed job of an earlier effect does not: it is what led to the present effect.
    """
    by_activity: dict[Any, list[Job]] = {}
    for job in jobs:
        if (activity := as_uuid(job.activity_id)) is not None:
            by_activity.setdefault(activity, []).append(job)
    for request_id, followed in message.client_request_ids(MOST_POSTS):
        for job in by_activity.get(as_uuid(request_id), ()):
            if not (followed and job.status == "Failed"):
                return job
    return None


def may_matter(message: StepMessage[Any]) -> Callable[[Job], bool]:
    """Which of a vault's jobs may concern a step: those that this app started, and those about its database."""
    database = message.payload.about
    assert database is not None
    server = server_of(message.payload)

    def matters(job: Job) -> bool:
        return is_marked(job.activity_id) or names(job.entity_name, database, server)

    return matters


def candidates(
    message: StepMessage[Any],
    jobs: Iterable[Job],
    job_of: JobOf,
    *,
    since: datetime,
    until: datetime | None = None,
) -> list[Job]:
    """The jobs begun in that time that may belong to a call, though nothing in them says so."""
    database = message.payload.about
    assert database is not None
    operation = job_of.operation_of(message.payload)
    return [
        job
        for job in jobs
        if is_about(job, operation, database=database, server=server_of(message.payload))
        # A job that bears the mark and is not ours belongs to another request of this app.
        and not is_marked(job.activity_id)
        and (job.start_time is None or since <= job.start_time)
        and (job.start_time is None or until is None or job.start_time <= until)
    ]


def server_of(payload: Payload) -> str:
    """The host's name as it appears in jobs; empty where it is not known."""
    found: str = getattr(payload, "server_name", "")
    return found


def has_namesakes(message: StepMessage[Any], c: Collaborators) -> bool:
    """Whether a job that names the database may be about another database of the vault."""
    database = message.payload.about
    vault_id = message.request.vault_id
    assert database is not None and vault_id is not None
    found: Sequence[ProtectedItem] = c.azure.list_protected_items(vault_id).usable
    server = server_of(message.payload).lower()
    alike = {
        item.id.key
        for item in found
        if item.name.lower() == database.name.lower()
        and (not server or _same_host(item.server_name.lower(), server))
    }
    return len(alike) > 1


# -- before a call


def before_call(job_of: JobOf, message: StepMessage[Any], c: Collaborators) -> Result | None:
    """What a message results in before its step may make its call; None: the call may be made.

    The step's own job is looked for before any effect but the first, after a refusal, after an answer that
    was lost, and before a replay.
    """
    effect = message.effect
    # The step makes no call beyond its last attempt, so none can have been lost.
    if effect.may_have_started and effect.n <= job_of.attempts(message, c):
        return _after_lost_answer(job_of, message, c)
    if effect.waiting and not effect.ready:
        return _while_waiting(job_of, message, c)
    if effect.n > 1 or effect.refused_at is not None or effect.look_first:
        found = own_job(message, _jobs(job_of, message, c, WINDOW))
        return FollowJob(found.id) if found is not None else None
    if message.request.epoch > 0:
        return _before_replay(job_of, message, c)
    return None


def _jobs(job_of: JobOf, message: StepMessage[Any], c: Collaborators, window: timedelta) -> list[Job]:
    vault_id = message.request.vault_id
    assert vault_id is not None
    effect = message.effect
    began = min(filter(None, (effect.at, effect.refused_from, message.at, message.since)))
    return c.azure.list_jobs(
        vault_id,
        start=began - window,
        operation=job_of.operation_of(message.payload),
        kept=may_matter(message),
    )


def _after_lost_answer(job_of: JobOf, message: StepMessage[Any], c: Collaborators) -> Result:
    """Find out whether an effect that may have started did."""
    effect = message.effect
    at = effect.at or message.at
    jobs = _jobs(job_of, message, c, WINDOW)
    found = own_job(message, jobs)
    if found is not None:
        return FollowJob(found.id)
    happened = job_of.happened(message, c)
    if happened is not None:
        return happened
    if effect.looks < len(BETWEEN_LOOKS):
        looked = effect.joined(Effect(n=effect.n, at=at, looks=effect.looks + 1))
        return Later(BETWEEN_LOOKS[effect.looks], effect=looked)
    # Clocks may have jumped: the list goes back days before its own job is believed not to exist.
    earlier = _jobs(job_of, message, c, LONG_WINDOW)
    found = own_job(message, earlier)
    if found is not None:
        return FollowJob(found.id)
    echoes = any(is_marked(job.activity_id) for job in earlier)
    until = effect.given_up_at + _TOLERANCE if effect.given_up_at is not None else None
    possible = candidates(message, jobs, job_of, since=at - _TOLERANCE, until=until)
    if len(possible) == 1 and not echoes and not job_of.repeatable and not has_namesakes(message, c):
        return FollowJob(possible[0].id)
    not_started = echoes and not possible
    if job_of.repeatable or (not_started and job_of.harmless(message.payload)):
        return _next(job_of, message, c, certain=not_started)
    return unknown(job_of, message, len(possible), echoes=echoes)


def _next(job_of: JobOf, message: StepMessage[Any], c: Collaborators, *, certain: bool) -> Result:
    """The next effect, where the step may have another; else the outcome of a call that never started."""
    most = job_of.attempts(message, c)
    if message.effect.n < most:
        return NextEffect()
    error = ErrorInfo(
        code=job_of.not_started,
        message=f"No job shows that the service took the {job_of.noun} of {message.payload.about}."
        f" This was attempt {message.effect.n} of at most {most}.",
    )
    return End(Status.FAILED if certain else Status.UNKNOWN, error)


def _while_waiting(job_of: JobOf, message: StepMessage[Any], c: Collaborators) -> Result | None:
    """After a conflict: wait until no other operation runs on the database, and check that none was the step's."""
    effect = message.effect
    vault_id = message.request.vault_id
    database = message.payload.about
    assert vault_id is not None and database is not None
    # A job that still runs may have begun days ago.
    jobs = c.azure.list_jobs(
        vault_id, start=message.since - LONG_WINDOW, status="InProgress", kept=may_matter(message)
    )
    found = own_job(message, jobs)
    if found is not None:
        return FollowJob(found.id)
    server = server_of(message.payload)
    running = [
        job
        for job in jobs
        if any(is_about(job, operation, database=database, server=server) for operation in _EXCLUSIVE)
    ]
    out_of_attempts = effect.n > job_of.attempts(message, c)
    if running:
        mistaken = _may_be_own(job_of, message, c, running)
        if mistaken is not None:
            return mistaken
        if out_of_attempts:
            return given_up(job_of, message, c, _why(message))
        limit = message.request.job_timeout or c.settings.job_timeout
        if c.now() - message.since > limit:
            error = ErrorInfo(
                code=ErrorCode.CONFLICTING_OPERATION,
                message=f"job {running[0].id} ({running[0].operation}) was still running on {database} when the"
                " time was up.",
            )
            return End(Status.TIMED_OUT, error)
        return Later(WHILE_RUNNING, effect=effect.joined(Effect(n=effect.n, explained=True)))
    ended = _jobs(job_of, message, c, WINDOW)
    found = own_job(message, ended)
    if found is not None:
        return FollowJob(found.id)
    # No listed job explains the conflict: it may be with this step's own call, whose job is listed late.
    unexplained = not effect.explained and (effect.refused_at is not None or out_of_attempts)
    if unexplained and effect.refusal_looks < len(BETWEEN_LOOKS):
        looked = effect.joined(Effect(n=effect.n, refusal_looks=effect.refusal_looks + 1))
        return Later(BETWEEN_LOOKS[effect.refusal_looks], effect=looked)
    if unexplained:
        mistaken = _may_be_own(job_of, message, c, ended)
        if mistaken is not None:
            return mistaken
    return given_up(job_of, message, c, _why(message)) if out_of_attempts else None


def _why(message: StepMessage[Any]) -> ErrorInfo:
    """Why the effect before this one did not happen."""
    known = message.effect.why
    text = "another operation was running on the database."
    return known if known is not None else ErrorInfo(code=ErrorCode.CONFLICTING_OPERATION, message=text)


def _may_be_own(
    job_of: JobOf, message: StepMessage[Any], c: Collaborators, jobs: Sequence[Job]
) -> Result | None:
    """In a vault that does not echo, a job that began while the refused call was out may be its own."""
    effect = message.effect
    if effect.refused_at is None or effect.refused_from is None:
        return None
    since, until = effect.refused_from - _TOLERANCE, effect.refused_at + _TOLERANCE
    possible = candidates(message, jobs, job_of, since=since, until=until)
    if not possible or any(is_marked(job.activity_id) for job in _jobs(job_of, message, c, LONG_WINDOW)):
        return None
    if len(possible) == 1 and not has_namesakes(message, c):
        return FollowJob(possible[0].id)
    return unknown(job_of, message, len(possible), echoes=False)


def given_up(job_of: JobOf, message: StepMessage[Any], c: Collaborators, why: ErrorInfo) -> End:
    """The outcome of the last conflict: the step may have no further effect."""
    status = job_of.conflict_status(message.payload)
    if status is not Status.FAILED:
        return End(status, why)
    most = job_of.attempts(message, c)
    text = f"{why.message} This was attempt {min(message.effect.n, most)} of at most {most}."
    return End(status, why.model_copy(update={"message": text}))


def _before_replay(job_of: JobOf, message: StepMessage[Any], c: Collaborators) -> Result | None:
    """The job that a replayed request started for the step and its database before.

    An operator who replays it wants it done: one look is enough, and it goes on where no job can be its own.
    """
    vault_id = message.request.vault_id
    assert vault_id is not None
    start = min(message.at - WINDOW, c.now() - REPLAYS_REACH)
    jobs = c.azure.list_jobs(
        vault_id, start=start, operation=job_of.operation_of(message.payload), kept=may_matter(message)
    )
    found = own_job(message, jobs)
    if found is not None:
        return FollowJob(found.id)
    happened = job_of.happened(message, c)
    if happened is not None:
        return happened
    possible = candidates(message, jobs, job_of, since=message.at - _TOLERANCE)
    if not possible or any(is_marked(job.activity_id) for job in jobs):
        return None
    if len(possible) == 1 and not has_namesakes(message, c):
        return FollowJob(possible[0].id)
    return unknown(job_of, message, len(possible), echoes=False)


#: How far back a replay adopts a job that the request has started.
REPLAYS_REACH: Final = timedelta(days=30)


def unknown(job_of: JobOf, message: StepMessage[Any], found: int, *, echoes: bool) -> End:
    """The honest answer where an effect may or may not have happened."""
    jobs = {0: "no job", 1: "one job"}.get(found, f"{found} jobs")
    proof = "" if echoes else ", and the vault is not known to echo client request ids"
    error = ErrorInfo(
        code=ErrorCode.OUTCOME_UNKNOWN,
        message=f"the answer to the {job_of.noun} of {message.payload.about} was lost; the vault lists {jobs} that may"
        f" be its own{proof}. Look at the vault's jobs before asking again.",
    )
    return End(Status.UNKNOWN, error)


# -- after a call


def turned_away(error: ErrorInfo, *, called: datetime, at: datetime) -> NextEffect:
    """What follows a conflict: the next effect, which waits and looks for the step's own job before it may call.

    The new number is sent before any call is made, so that a crash in between finds it again.
    """
    return NextEffect(waiting=True, why=error, refused_at=at, at=called)


def gave_way_to_its_twin(
    job_of: JobOf, message: StepMessage[Any], c: Collaborators, job: Job
) -> Result | None:
    """`unknown` where a job gave way to one that the same call may have started, and another call could do harm.

    A gateway may forward a call twice: the second job then gives way to the first. A vault that does not echo client
    request ids does not show whose the first is.
    """
    if job.start_time is None or job_of.harmless(message.payload):
        return None
    jobs = _jobs(job_of, message, c, LONG_WINDOW)
    if any(is_marked(other.activity_id) for other in jobs):
        return None
    since, until = job.start_time - _TOLERANCE, job.start_time + _TOLERANCE
    twins = [
        other
        for other in candidates(message, jobs, job_of, since=since, until=until)
        if other.id != job.id and other.status != "Failed"
    ]
    if not twins:
        return None
    what = ErrorInfo(
        code=ErrorCode.OUTCOME_UNKNOWN,
        message=f"job {job.id} gave way to job {twins[0].id}, which began at the same moment: where a gateway has"
        f" forwarded the {job_of.noun} of {message.payload.about} twice, that is its own too, and the vault is not"
        " known to echo client request ids. Look at the vault's jobs before asking again.",
    )
    return End(Status.UNKNOWN, what)


def proven(job_of: JobOf, message: StepMessage[Any], c: Collaborators, error: ErrorInfo) -> Result | None:
    """The job of an earlier effect, or `unknown`, where a refusal proves that it happened; else None."""
    if message.effect.n == 1 and message.request.epoch == 0:
        return None
    if not job_of.proves(error):
        return None
    found = own_job(message, _jobs(job_of, message, c, LONG_WINDOW))
    if found is not None and found.status != "Failed":
        return FollowJob(found.id)
    what = ErrorInfo(
        code=ErrorCode.OUTCOME_UNKNOWN,
        message=f"{error.message} An earlier {job_of.noun} of this request may have made it, and the vault lists no job"
        " that shows it. Look at the target and the vault's jobs before asking again.",
    )
    return End(Status.UNKNOWN, what)


# -- the claim


def claim(message: StepMessage[Any], following: Following, *, at: datetime) -> StepMessage[Following]:
    """What a delivery of a step hands to the tracker, under the message id of the step's effect whatever it holds."""
    return StepMessage[Following](
        step=TRACK,
        sender=message.step,
        at=at,
        since=at,
        request=message.request,
        effect=Effect(n=message.effect.n),
        payload=following,
    )


def followed(
    message: StepMessage[Any],
    of: OfOperation | OfJob | Ending | Repetition,
    *,
    at: datetime,
    deadline: datetime,
    payload: Payload | None = None,
    not_before: datetime | None = None,
) -> StepMessage[Following]:
    """The claim of a step's own message."""
    following = Following(
        origin=message.step,
        payload=payload if payload is not None else message.payload,
        of=of,
        client_request_id=message.client_request_id,
        began=at,
        deadline=deadline,
        not_before=not_before,
    )
    return claim(message, following, at=at)


def next_effect(message: StepMessage[Any], following: NextEffect) -> Repetition:
    """The claim of the step's next effect."""
    message = message.of_origin
    effect = Effect(
        n=message.effect.n + 1,
        waiting=following.waiting,
        why=following.why,
        refused_from=following.at,
        refused_at=following.refused_at,
    )
    return Repetition(effect=effect, since=message.since)
