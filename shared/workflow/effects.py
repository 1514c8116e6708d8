"""Effects happen once: what is known of a mutating call whose answer was lost, and what may follow.

The service does not tell requests apart, so the vault's jobs are asked: a job's `activityId` is the client
request id of the call that started it, and this app's ids bear a mark, which proves the echo for a vault.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product
from typing import TYPE_CHECKING, Any, Final

from shared.messages.events import ErrorInfo, Status
from shared.messages.steps import BackupTask, RestoreTask, StepMessage, is_marked
from shared.workflow.step import AgainError, Collaborators, NextEffectError, WorkflowError

if TYPE_CHECKING:
    from shared.azure_backup.models import Job

#: A job that is not listed is believed not to exist only after this long and this many looks.
SETTLED_AFTER: Final = timedelta(minutes=2)
LOOKS: Final = 2
BETWEEN_LOOKS: Final = timedelta(minutes=1)
MOST_POSTS: Final = 3
#: A PUT may be repeated: only time bounds it, and this, where time does not pass.
MOST_PUTS: Final = 100
#: How far back jobs are listed for the proof that a vault echoes client request ids: at first, and where
#: that does not tell.
_ECHO_WINDOW: Final = timedelta(hours=1)
_LONG_ECHO_WINDOW: Final = timedelta(days=7)
#: The service's clock and ours may disagree by a little about what came first.
_TOLERANCE: Final = timedelta(seconds=5)


@dataclass(frozen=True)
class Adopted:
    """The effect happened: this is its job."""

    job: Job


@dataclass(frozen=True)
class NotStarted:
    """The effect did not happen."""


@dataclass(frozen=True)
class Undecided:
    """The effect may have happened, and no job can be found that is surely its own."""

    candidates: int
    echoes: bool


Settlement = Adopted | NotStarted | Undecided


def is_about(job: Job, operation: str, *, database: str, server: str) -> bool:
    """Whether a job is one of this operation on a database of that name on that server.

    Jobs name neither instance nor VM id, so a namesake on another instance counts as well.
    """
    if not job.operation.lower().startswith(operation.lower()):
        return False
    name = job.entity_name.lower()
    return name == database.lower() or (
        name.startswith(f"{database.lower()} [") and (not server or name == f"{database} [{server}]".lower())
    )


def settle(
    message: StepMessage[Any], c: Collaborators, *, operation: str, database: str, server: str
) -> Settlement:
    """Find out whether an effect that may have started did.

    Raises AgainError where it is too early to tell.
    """
    effect = message.effect
    at = effect.at or message.at
    assert message.request.vault_id is not None
    jobs = c.backup.list_jobs(message.request.vault_id, start=at - _ECHO_WINDOW)
    now = c.now()
    own = _own_job(message, jobs)
    if own is not None:
        return Adopted(own)
    first_look = effect.first_look or now
    counted = effect.looked_at is None or now - effect.looked_at >= BETWEEN_LOOKS
    looks = effect.looks + 1 if counted else effect.looks
    # The call may have been made much later than `at` (the message of a redelivery is as old as its queue
    # was long), but not after the first look.
    if looks < LOOKS or now - first_look < SETTLED_AFTER:
        seen: dict[str, Any] = {"looks": looks, "looked_at": now} if counted else {}
        seen |= {"may_have_started": True, "at": at, "first_look": first_look}
        raise AgainError(BETWEEN_LOOKS, effect=effect.model_copy(update=seen))
    candidates = candidate_jobs(jobs, at - _TOLERANCE, operation=operation, database=database, server=server)
    echoes = any(is_marked(job.activity_id) for job in jobs)
    if not echoes and not candidates:
        echoes = _echoed(message, c, at)
    if not candidates and echoes:
        return NotStarted()
    if len(candidates) == 1:
        return Adopted(candidates[0])
    return Undecided(len(candidates), echoes)


def _own_job(message: StepMessage[Any], jobs: Sequence[Job]) -> Job | None:
    """The job that this request started for the step and its database, in this epoch or an earlier one."""
    current = (message.request.epoch, message.effect.n)
    epochs = range(message.request.epoch, -1, -1)
    for epoch, n in product(epochs, range(max(message.effect.n, MOST_POSTS), 0, -1)):
        own = message.request_id_of(n, epoch)
        for job in jobs:
            # An earlier effect that failed is what led to this one.
            concluded = (epoch, n) < current and job.status == "Failed"
            if job.activity_id is not None and job.activity_id.lower() == own and not concluded:
                return job
    return None


def candidate_jobs(
    jobs: Sequence[Job], since: datetime, *, operation: str, database: str, server: str
) -> list[Job]:
    """The jobs begun since then that may be the one of a call, though nothing in them says so."""
    return [
        job
        for job in jobs
        if is_about(job, operation, database=database, server=server)
        # A job that bears the mark and is not ours belongs to another request of this app.
        and not is_marked(job.activity_id)
        and (job.start_time is None or job.start_time >= since)
    ]


def _echoed(message: StepMessage[Any], c: Collaborators, at: datetime) -> bool:
    """Whether the vault has shown in the last days that it echoes client request ids."""
    assert message.request.vault_id is not None
    jobs = c.backup.list_jobs(message.request.vault_id, start=at - _LONG_ECHO_WINDOW)
    return any(is_marked(job.activity_id) for job in jobs)


def before_replay(
    message: StepMessage[Any], c: Collaborators, *, operation: str, database: str, server: str
) -> Settlement:
    """What a request that is sent again by hand has started for the step and its database before.

    Whoever sends it again wants it done, so one look is enough, and where no job can be its own it goes on.
    """
    if message.request.epoch == 0 or message.effect.n > 1:
        return NotStarted()
    assert message.request.vault_id is not None
    start = min(message.at - _ECHO_WINDOW, c.now() - _LONG_ECHO_WINDOW)
    jobs = c.backup.list_jobs(message.request.vault_id, start=start)
    own = _own_job(message, jobs)
    if own is not None:
        return Adopted(own)
    candidates = candidate_jobs(
        jobs, message.at - _TOLERANCE, operation=operation, database=database, server=server
    )
    if not candidates or any(is_marked(job.activity_id) for job in jobs):
        return NotStarted()
    return Adopted(candidates[0]) if len(candidates) == 1 else Undecided(len(candidates), echoes=False)


def next_effect(
    message: StepMessage[Any],
    *,
    waiting: bool,
    code: str,
    why: str,
    status: Status = Status.FAILED,
    most: int = MOST_POSTS,
) -> NextEffectError:
    """The error that has the step make its next effect; WorkflowError where there have been `most`.

    The new number is sent before the call is made, so that a crash in between finds it again.
    """
    if message.effect.n >= most:
        text = f"{why} This was attempt {message.effect.n} of at most {most}."
        raise WorkflowError(code, text, status=status)
    return NextEffectError(waiting=waiting)


def after_conflict(
    origin: StepMessage[Any], error: ErrorInfo, *, at: datetime, within: timedelta
) -> tuple[Status, ErrorInfo] | None:
    """What a conflict with a running operation ends in; None where a new effect is to follow once it has ended.

    `within`: for how long another operation is waited out by what may be repeated and has no attempts to save.
    """
    if isinstance(origin.payload, BackupTask) and origin.payload.if_running == "skip":
        return Status.SKIPPED, error
    most = MOST_POSTS
    if not isinstance(origin.payload, BackupTask | RestoreTask):
        most = MOST_PUTS if at - origin.since < within else origin.effect.n
    if origin.effect.n >= most:
        text = f"{error.message} This was attempt {origin.effect.n} of at most {most}."
        return Status.FAILED, error.model_copy(update={"message": text})
    return None


def unknown(what: str, database: object, settled: Undecided) -> WorkflowError:
    """The honest answer where an effect may or may not have happened."""
    found = "no job" if not settled.candidates else f"{settled.candidates} jobs"
    proof = "" if settled.echoes else ", and the vault is not known to echo client request ids"
    return WorkflowError(
        "outcome_unknown",
        f"the answer to the {what} request of {database} was lost; the vault lists {found} that may be its"
        f" own{proof}. Look at the vault's jobs before asking again.",
        status=Status.UNKNOWN,
    )


def wait_for_running(message: StepMessage[Any], c: Collaborators, *, database: str, server: str) -> None:
    """Raise AgainError while another operation runs on the database; WorkflowError when the time is up."""
    vault_id = message.request.vault_id
    assert vault_id is not None
    # A job that still runs may have begun days ago.
    jobs = c.backup.list_jobs(vault_id, start=message.since - timedelta(days=7), status="InProgress")
    running = [
        job
        for job in jobs
        if any(
            is_about(job, operation, database=database, server=server)
            for operation in ("Backup", "Restore", "ConfigureBackup", "DisableBackup", "DeleteBackupData")
        )
    ]
    if not running:
        return
    limit = message.request.job_timeout or c.settings.job_timeout
    if c.now() - message.since > limit:
        raise WorkflowError(
            "ConflictingOperation",
            f"job {running[0].id} ({running[0].operation}) was still running on {database} when the time"
            " was up.",
            status=Status.TIMED_OUT,
        )
    raise AgainError(BETWEEN_LOOKS)
