"""How steps hand over to each other: the next step, the tracker, an outcome."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from shared.messages import events
from shared.messages.events import ErrorInfo, Event, JobInfo, Status
from shared.messages.model import TolerantModel
from shared.messages.requests import Operation
from shared.messages.steps import Effect, StepMessage, Tracking, database_of
from shared.workflow.advice import advised
from shared.workflow.step import Collaborators, Next, Result

if TYPE_CHECKING:
    from shared.azure_backup.models import StartedOperation
    from shared.workflow.selection import Selection

TRACK: Final = "track"
#: A fan-out starts this many at once, then at this rate: ARM refills 10 writes a second.
BURST: Final = 150
WRITES_A_SECOND: Final = 8
#: Polling sooner than this after a start that names no Retry-After would find nothing.
FIRST_POLL: Final = timedelta(seconds=15)


def go_on(
    message: StepMessage[Any], step: str, payload: TolerantModel, at: datetime, *, number: int = 0
) -> Next:
    """The message to the next step; `number` paces a fan-out.

    A step that is followed by itself goes on with its next effect, or duplicate detection would take what
    follows on it for what followed on it before.
    """
    delay = timedelta(seconds=max(0, number - BURST) / WRITES_A_SECOND)
    return Next(
        StepMessage(
            step=step,
            sender=message.step,
            at=at,
            since=at + delay,
            request=message.request,
            effect=Effect(n=message.effect.n + 1 if step == message.step else 1),
            payload=payload,
        ),
        delay,
    )


def on_tick(at: datetime, delay: timedelta, tick: timedelta) -> timedelta:
    """The delay from `at` to the first tick that is not before `delay`: polls of a vault meet on ticks."""
    due = (at + delay).timestamp()
    seconds = tick.total_seconds()
    overshoot = due % seconds
    return delay if overshoot < 1e-6 else delay + timedelta(seconds=seconds - overshoot)


def next_tick(at: datetime, tick: timedelta) -> timedelta:
    """The delay from `at`, which may be a little before or after a tick, to the tick that follows it."""
    return on_tick(at, tick / 2, tick)


def follow(message: StepMessage[Any], c: Collaborators, operation: StartedOperation) -> Result:
    """Hand an operation that has started to the tracker."""
    at = c.now()
    deadline = at + c.settings.operation_timeout
    followed = handed_over(
        message,
        at,
        async_operation_url=operation.async_operation_url,
        location_url=operation.location_url,
        deadline=deadline,
        not_before=at + operation.retry_after if operation.retry_after is not None else None,
    )
    wait = operation.retry_after if operation.retry_after is not None else FIRST_POLL
    if at + wait > deadline and operation.retry_after is not None:
        return Result(events=(timed_out(followed, followed.payload, at),))
    delay = on_tick(at, wait, c.settings.track_interval)
    return Result(next=(Next(followed, delay),))


def follow_job(message: StepMessage[Any], c: Collaborators, job_id: str) -> Result:
    """Hand a job that is known already (an adopted one) to the tracker."""
    at = c.now()
    deadline = at + (message.request.job_timeout or c.settings.job_timeout)
    return Result(next=(Next(handed_over(message, at, job_id=job_id, deadline=deadline)),))


def handed_over(
    message: StepMessage[Any], at: datetime, *, deadline: datetime, **known: Any
) -> StepMessage[Tracking]:
    """A new message to the tracker on behalf of a step; its id is that of the step's effect."""
    tracking = Tracking(
        origin=message.step,
        payload=message.payload.model_dump(mode="json", by_alias=True, exclude_none=True),
        client_request_id=message.client_request_id,
        began=at,
        deadline=deadline,
        **known,
    )
    return StepMessage[Tracking](
        step=TRACK,
        sender=message.step,
        at=at,
        since=at,
        request=message.request,
        effect=message.effect,
        payload=tracking,
    )


def ended(
    message: StepMessage[Any], status: Status, *, at: datetime, error: ErrorInfo | None = None, **details: Any
) -> Event:
    """The outcome of what a message is about: its database, or its request where none is known yet."""
    payload = message.payload
    body = payload.payload if isinstance(payload, Tracking) else payload
    count = body.get("outcomeCount", 1) if isinstance(body, dict) else getattr(body, "outcome_count", 1)
    plan = getattr(payload, "data", None)
    vm_id = getattr(plan, "vm_id", None)
    if vm_id is not None and database_of(payload) is None:
        details = {"vm_id": vm_id.path, **details}
    item = body.get("itemId") if isinstance(body, dict) else getattr(body, "item_id", None)
    error = advised(error)
    step = payload.origin if isinstance(payload, Tracking) else message.step
    claim = events.claim_id(message.request) if is_before_acceptance(body) else None
    if step == "trigger_backup" and message.request.operation is Operation.PROTECT:
        # The database is protected whether or not its first backup succeeded.
        details["protection_state"] = "Protected" if error is None else "IRPending"
        if error is not None:
            said = f"The database is protected, but its first backup ended as {status}: {error.code}: {error.message}"
            details["warnings"] = (*details.get("warnings", ()), said)
            status, error = Status.SUCCEEDED_WITH_WARNINGS, None
    outcome = events.outcome(
        message.request,
        status,
        at=at,
        database=database_of(payload),
        subject=item,
        outcome_count=count,
        error=error,
        **details,
    )
    return outcome.model_copy(update={"message_id": claim})


def timed_out(message: StepMessage[Tracking], tracking: Tracking, at: datetime) -> Event:
    """The outcome of what did not end in its time; a job is left to run."""
    if tracking.job_id is not None:
        text = f"job {tracking.job_id} had not ended by {tracking.deadline:%Y-%m-%dT%H:%M:%SZ}; it is left to run."
        job = JobInfo(id=tracking.job_id, status="InProgress")
        error = ErrorInfo(code="JobTimeout", message=text)
        return ended(message, Status.TIMED_OUT, at=at, error=error, job=job)
    text = (
        f"the operation of step {tracking.origin} had not ended by {tracking.deadline:%Y-%m-%dT%H:%M:%SZ}"
        f" (client request id {tracking.client_request_id}); it is left to run."
    )
    return ended(message, Status.TIMED_OUT, at=at, error=ErrorInfo(code="OperationTimeout", message=text))


def is_before_acceptance(payload: Any) -> bool:
    """Whether a payload is of a request whose databases are not known yet."""
    return "data" in payload if isinstance(payload, dict) else hasattr(payload, "data")


def selected(
    message: StepMessage[Any], chosen: Selection[Any], tasks: Sequence[Next], at: datetime
) -> Result:
    """What a selection leads to: its tasks, the outcomes that are certain already, and accepted."""
    accepted = events.accepted(
        message.request,
        at=at,
        outcome_count=chosen.outcome_count,
        skipped=chosen.reasons,
        names=chosen.skipped_names,
    )
    published = [
        events.outcome(
            message.request,
            error.status,
            at=at,
            database=database,
            outcome_count=chosen.outcome_count,
            error=advised(error.info),
        )
        for database, error in chosen.failures
    ]
    if not chosen.tasks and not chosen.failures:
        reasons = ", ".join(f"{count} {reason}" for reason, count in chosen.reasons.items())
        nothing = ErrorInfo(
            code="NothingToDo",
            message=f"the request means no database that it can apply to ({reasons or 'all are excluded'}).",
        )
        published.append(events.outcome(message.request, Status.SKIPPED, at=at, error=nothing))
    return Result(events=tuple(published), next=tasks, accepted=accepted)
