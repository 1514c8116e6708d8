"""What follows where a step could not do its work: the same message later, its next effect, or an outcome.

Changes with what an error of Azure, or of its sign-in, means for a request; whether a call is tried again is
decided in `shared.workflow.retry`.
"""

from __future__ import annotations

import logging
import random
from datetime import datetime, timedelta
from typing import Any, Final

from shared.arm.errors import (
    ArmError,
    ArmPacedError,
    ArmStatusError,
    TokenError,
    TokenUnavailableError,
)
from shared.composition import Runtime
from shared.messages.events import ErrorInfo, Status
from shared.messages.steps import Again, StepMessage, Tracking, Verdict
from shared.telemetry import log_context
from shared.workflow.advice import CONFLICT_CODES, is_quota
from shared.workflow.effects import after_conflict
from shared.workflow.flow import ended, handed_over
from shared.workflow.retry import Conflict, GiveUp, Retry, decide
from shared.workflow.step import Next, Result, StepDefinition
from shared.workflow.workflows import starts_job

_log: Final = logging.getLogger(__name__)

_PERMANENT_AUTHENTICATION_WAIT: Final = timedelta(seconds=30)
#: A request that has gone on in spite of a doubtful failure is accepted within this time, which undoes that.
_ACCEPTED_WITHIN: Final = timedelta(minutes=30)
#: A secret may be on its way to be renewed; a requester is not left waiting for longer.
_AUTHENTICATION_FOR: Final = timedelta(minutes=10)


def put_back(message: StepMessage[Any], runtime: Runtime, delay: timedelta, **changes: Any) -> Result:
    """The same message again, after `delay` of the service's time."""
    clock = runtime.service_clock
    # What only this machine's clock says is not passed on as the service's time.
    at = clock.now() if clock.is_known else message.at
    return Result(next=(Next(message.again(at=at, **changes), delay),))


def after_arm_error(
    definition: StepDefinition,
    message: StepMessage[Any],
    runtime: Runtime,
    error: ArmError,
    *,
    called: datetime | None = None,
) -> Result:
    """What follows on a call that did not succeed: the step again later, a new effect, or an outcome.

    `called`: a moment before the call was made.
    """
    now = runtime.service_clock.now()
    failing_since = message.failing_since or now
    paced = isinstance(error, ArmPacedError)
    code = error.code.lower() if isinstance(error, ArmStatusError) else ""
    if isinstance(error, ArmStatusError) and error.is_mutation and is_quota(code):
        return end(message, runtime, Status.FAILED, _status_info(error), called=True)
    decision = decide(
        error,
        conflicting=code in CONFLICT_CODES,
        attempt=message.attempt,
        age=now - failing_since,
        time_left=_deadline(message, runtime, failing_since) - now,
        # Turns are spread as they are given out.
        jitter=0.0 if paced else random.random(),  # noqa: S311 - spreads retries, guards nothing
    )
    _log.log(
        logging.DEBUG if paced else logging.WARNING,
        "a call to Azure did not succeed (%s): %s",
        type(decision).__name__,
        error,
        extra=log_context(message, definition.name),
    )
    if isinstance(decision, Conflict):
        assert isinstance(error, ArmStatusError)
        limit = runtime.settings.operation_timeout
        verdict = after_conflict(message, _status_info(error), at=now, within=limit)
        if verdict is None:
            return once_more(message, runtime, waiting=True)
        return end(message, runtime, *verdict, called=True)
    if isinstance(decision, Retry):
        changes: dict[str, Any] = {
            "attempt": message.attempt + (1 if decision.counts else 0),
            "failing_since": failing_since,
        }
        if decision.may_have_started:
            # Its job, if there is one, began before the answer was given up.
            changes["effect"] = message.effect.model_copy(
                update={"may_have_started": True, "at": called or now}
            )
        return put_back(message, runtime, decision.after, **changes)
    return _given_up(definition, message, runtime, error, decision)


def _deadline(message: StepMessage[Any], runtime: Runtime, failing_since: datetime) -> datetime:
    """Until when a call is tried again."""
    # Reckoned from the first failure, since a step may have waited for days for another job to end.
    failing_until = failing_since + runtime.settings.operation_timeout
    if not isinstance(message.payload, Tracking):
        return failing_until
    # That a job's deadline has passed is not for this machine's clock to say alone.
    known = runtime.service_clock.is_known
    return message.payload.deadline if known else max(message.payload.deadline, failing_until)


def once_more(message: StepMessage[Any], runtime: Runtime, *, waiting: bool) -> Result:
    """The step's next effect, decided on as an outcome is (see `end`): of an effect just one thing comes."""
    at = runtime.service_clock.now()
    again = Again(waiting=waiting, since=message.since)
    return Result(next=(Next(handed_over(message, at, deadline=at, again=again)),))


def _status_info(error: ArmStatusError) -> ErrorInfo:
    return ErrorInfo(code=error.code, message=str(error), recommendations=error.recommendations)


def _given_up(
    definition: StepDefinition,
    message: StepMessage[Any],
    runtime: Runtime,
    error: ArmError,
    decision: GiveUp,
) -> Result:
    if isinstance(error, ArmStatusError):
        info = _status_info(error)
        if error.status in (401, 403):
            info = info.model_copy(update={"code": "not_authorised"})
    else:
        info = ErrorInfo(code=type(error).__name__.removesuffix("Error"), message=str(error))
    status = _honest_status(definition, message)
    if decision.may_have_started:
        status = Status.UNKNOWN
    elif decision.out_of_time and isinstance(message.payload, Tracking):
        status = Status.TIMED_OUT
    return end(message, runtime, status, info, called=error.is_mutation)


def _honest_status(definition: StepDefinition, message: StepMessage[Any]) -> Status:
    """How it ends where Azure cannot be asked any more: an effect that has perhaps happened is not a failure."""
    if isinstance(message.payload, Tracking):
        return Status.FAILED if message.database is None else Status.UNKNOWN
    happened = definition.job is not None and message.effect.may_have_started
    return Status.UNKNOWN if happened else Status.FAILED


def after_authentication_error(
    definition: StepDefinition, message: StepMessage[Any], runtime: Runtime, error: TokenError
) -> Result:
    now = runtime.service_clock.now()
    failing_since = message.failing_since or now
    limit = runtime.settings.operation_timeout
    if not isinstance(error, TokenUnavailableError):
        limit = min(limit, _AUTHENTICATION_FOR)
    _log.warning("no token can be had: %s", error, extra=log_context(message))
    if now - failing_since >= limit:
        info = ErrorInfo(code="not_authorised", message=str(error))
        return end(message, runtime, _honest_status(definition, message), info)
    return put_back(
        message,
        runtime,
        _PERMANENT_AUTHENTICATION_WAIT,
        attempt=message.attempt + 1,
        failing_since=failing_since,
    )


def end(
    message: StepMessage[Any], runtime: Runtime, status: Status, info: ErrorInfo, *, called: bool = False
) -> Result:
    """What a step ends in; `called`: its mutating call was made, and refused.

    An earlier delivery of the same message may have handed over to the tracker, which knows better, and a
    later one may make its next effect. So where there may have been one, or may be one, the outcome goes the
    same way, under the message id of that hand-over: the broker drops it if it is the second.
    """
    at = runtime.service_clock.now()
    if not message.effect.may_have_started and not (called and starts_job(message.step)):
        return Result(events=(ended(message, status, at=at, error=info),))
    verdict = Verdict(
        status=status, code=info.code, message=info.message, recommendations=info.recommendations
    )
    tracking = message.payload if isinstance(message.payload, Tracking) else None
    origin = tracking.origin if tracking is not None else message.step
    wait = timedelta() if starts_job(origin) else _ACCEPTED_WITHIN
    if tracking is not None:
        payload = tracking.model_copy(update={"verdict": verdict, "not_before": None})
        return put_back(message, runtime, wait, payload=payload)
    return Result(next=(Next(handed_over(message, at, deadline=at, verdict=verdict), wait),))
