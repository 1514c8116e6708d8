"""What a step does when a call to Azure or the sign-in failed: it polls again, makes its next effect, or ends.

Whether a call is tried again is decided in `shared.engine.retry`.
"""

from __future__ import annotations

import logging
import random
from datetime import timedelta
from typing import Any, Final

from shared.arm.errors import ArmError, ArmPacedError, ArmStatusError, TokenError, TokenUnavailableError
from shared.clock import ServiceTime
from shared.engine import reconcile
from shared.engine.advice import CONFLICT_CODES, is_quota
from shared.engine.effect import Effect
from shared.engine.message import Following, StepMessage
from shared.engine.result import Collaborators, End, Later, Result
from shared.engine.retry import FIRST_WAIT, Conflict, GiveUp, Retry, decide
from shared.engine.runtime import Runtime
from shared.engine.table import Row
from shared.engine.telemetry import log_context
from shared.messages.error_codes import ErrorCode
from shared.messages.events import ErrorInfo, Status
from shared.telemetry.log import logger

_log: Final = logger(__name__)

_NO_TOKEN_WAIT: Final = timedelta(seconds=30)
#: Long enough for an expired secret to be renewed; a requester is not left waiting for longer.
_NO_TOKEN_FOR: Final = timedelta(minutes=10)


def after_arm_error(
    row: Row,
    message: StepMessage[Any],
    collaborators: Collaborators,
    runtime: Runtime,
    error: ArmError,
    *,
    called: ServiceTime,
) -> Result:
    """What follows a call that did not succeed. `called`: a moment before the call was made."""
    now = runtime.service_clock.now()
    failing_since = message.failing_since or now
    paced = isinstance(error, ArmPacedError)
    if (settled := _settled_by(row, message, collaborators, error)) is not None:
        return settled
    if row.job is not None and error.is_mutation and error.may_have_started:
        # The call is looked for, not sent again, so how long to wait before a call does not matter.
        _log.warning("the answer to a call was lost: %s", error, extra=log_context(message, row.name))
        return Later(FIRST_WAIT, effect=_learned(message, error, called, now), failing_since=failing_since)
    decision = decide(
        error,
        conflicting=isinstance(error, ArmStatusError) and error.code.lower() in CONFLICT_CODES,
        attempt=message.attempt,
        age=now - failing_since,
        time_left=_deadline(message, runtime, failing_since) - now,
        # Turns are spread as they are given out.
        jitter=0.0 if paced else random.random(),  # noqa: S311 - spreads retries, guards nothing
    )
    level, kind = logging.DEBUG if paced else logging.WARNING, type(decision).__name__
    _log.log(
        level, "a call to Azure did not succeed (%s): %s", kind, error, extra=log_context(message, row.name)
    )
    if isinstance(decision, Conflict):
        assert isinstance(error, ArmStatusError)
        if row.job is not None:
            return reconcile.turned_away(status_info(error), called=called, at=now)
        if now - failing_since < runtime.settings.operation_timeout:
            return Later(reconcile.WHILE_RUNNING, attempt=message.attempt + 1, failing_since=failing_since)
        return End(Status.FAILED, status_info(error), called=True)
    if isinstance(decision, Retry):
        return Later(
            decision.after,
            effect=_learned(message, error, called, now),
            attempt=message.attempt + (1 if decision.counts else 0),
            failing_since=failing_since,
        )
    return _given_up(row, message, error, decision)


def _settled_by(
    row: Row, message: StepMessage[Any], collaborators: Collaborators, error: ArmError
) -> Result | None:
    """What the service's refusal of a mutating call settles; None where it settles nothing."""
    if not isinstance(error, ArmStatusError) or not error.is_mutation:
        return None
    info = status_info(error)
    if row.job is not None and (found := reconcile.proven(row.job, message, collaborators, info)) is not None:
        return found
    return End(Status.FAILED, info, called=True) if is_quota(error.code.lower()) else None


def _learned(
    message: StepMessage[Any], error: ArmError, called: ServiceTime, now: ServiceTime
) -> Effect | None:
    """What is known of the effect after a mutating call that is to be made again."""
    if not error.is_mutation:
        return None
    if error.may_have_started:
        # Its job, if there is one, began before the answer was given up.
        return message.effect.lost(since=called, until=now)
    if isinstance(error, ArmStatusError):
        # The service says that it turned the call away; the step's own job is still looked for before the next call.
        return message.effect.refused(since=called, until=now)
    return None


def _deadline(message: StepMessage[Any], runtime: Runtime, failing_since: ServiceTime) -> ServiceTime:
    """The time after which a call is no longer retried."""
    # Counted from the first failure, since a step may have waited for days for another job to end.
    failing_until = failing_since + runtime.settings.operation_timeout
    if not isinstance(message.payload, Following):
        return failing_until
    # This machine's clock alone does not decide that a job's deadline has passed.
    known = runtime.service_clock.is_known
    return message.payload.deadline if known else max(message.payload.deadline, failing_until)


def status_info(error: ArmStatusError) -> ErrorInfo:
    """An answer of the service, as an outcome carries it."""
    return ErrorInfo(
        code=error.code or f"Http{error.status}", message=str(error), recommendations=error.recommendations
    )


def _given_up(row: Row, message: StepMessage[Any], error: ArmError, decision: GiveUp) -> End:
    if isinstance(error, ArmStatusError):
        info = status_info(error)
        if error.status in (401, 403):
            info = info.changed(code=ErrorCode.NOT_AUTHORISED)
    else:
        info = ErrorInfo(code=type(error).__name__.removesuffix("Error"), message=str(error))
    status = honest_status(row, message)
    if decision.may_have_started:
        status = Status.UNKNOWN
    elif decision.out_of_time and isinstance(message.payload, Following):
        status = Status.TIMED_OUT
    return End(status, info, called=error.is_mutation)


def honest_status(row: Row, message: StepMessage[Any]) -> Status:
    """The status where nobody can be asked any more: an effect that may have happened is not a failure."""
    if isinstance(message.payload, Following):
        return Status.FAILED if message.database is None else Status.UNKNOWN
    happened = row.job is not None and message.effect.may_have_started
    return Status.UNKNOWN if happened else Status.FAILED


def after_token_error(row: Row, message: StepMessage[Any], runtime: Runtime, error: TokenError) -> Result:
    """What follows when no access token can be obtained."""
    now = runtime.service_clock.now()
    failing_since = message.failing_since or now
    limit = runtime.settings.operation_timeout
    if not isinstance(error, TokenUnavailableError):
        limit = min(limit, _NO_TOKEN_FOR)
    _log.warning("no token can be had: %s", error, extra=log_context(message))
    if now - failing_since >= limit:
        return End(honest_status(row, message), ErrorInfo(code=ErrorCode.NOT_AUTHORISED, message=str(error)))
    return Later(_NO_TOKEN_WAIT, attempt=message.attempt + 1, failing_since=failing_since)
