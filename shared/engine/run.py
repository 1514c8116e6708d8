"""What happens around every step: read its message, run it, make its call to Azure, and send its result.

No expected error escapes: after a temporary one the step polls again, a permanent one ends in an outcome. After a
crash, or while the bus takes nothing, Service Bus delivers the message again, which repeats no effect.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

from shared.arm.budget import coming_back
from shared.arm.errors import ArmError, TokenError
from shared.azure_backup.models import StartedOperation
from shared.bus import BusError, BusUnavailableError, MessageTooLargeError
from shared.bus.topology import INTERNAL_QUEUES, LOCK_DURATION
from shared.clock import MachineTime, ServiceTime
from shared.engine import reconcile
from shared.engine.failures import after_arm_error, after_token_error
from shared.engine.message import Delivery, StepMessage
from shared.engine.parking import answer_and_park, has_died_too_often, park_unreadable, too_many_deaths
from shared.engine.requeue import HOLD, OPERATOR_WAIT, REFUSED_WAIT, UNAVAILABLE_WAIT, admitted, requeue
from shared.engine.result import Call, Collaborators, End, FollowOperation, GrownTick, Later, Result
from shared.engine.runtime import Runtime, collaborate
from shared.engine.send import hand_over
from shared.engine.table import NewerVersionError, Row, UnknownStepError, read_step
from shared.engine.telemetry import delivery_context, log_context, say, traced
from shared.messages.cloud_events import InvalidMessageError
from shared.messages.error_codes import ErrorCode
from shared.messages.events import ErrorInfo, Status
from shared.messages.model import format_moment
from shared.messages.reserved import WAITING_SINCE
from shared.telemetry import tracing
from shared.telemetry.log import logger
from shared.telemetry.tracing import Instrument

_log: Final = logger(__name__)

_LATE_WAIT: Final = timedelta(seconds=5)


def handle(row: Row, delivery: Delivery, runtime: Runtime) -> None:
    """Handle one message of a step. When it returns, the message may be completed.

    Raises unexpected errors, and BusError where the bus takes nothing: the message is then delivered again.
    """
    with traced(delivery) as span:
        _handle(row, delivery, runtime, span)


def _handle(row: Row, delivery: Delivery, runtime: Runtime, span: tracing.Span) -> None:
    if not admitted(delivery, runtime):
        return
    try:
        if has_died_too_often(delivery):
            answer_and_park(delivery, runtime, too_many_deaths(delivery))
            return
        message = read(row, delivery, runtime)
        if message is None:
            return
        # A step that polls again was in time once, and waits for something else.
        if message.poll == 0:
            late = runtime.service_clock.now() - message.since
            tracing.measure(Instrument.LATENESS, max(0.0, late.total_seconds()), step=row.name)
        result = run(row, message, delivery, runtime)
        say(span, message, result)
        hand_over(row, message, result, runtime)
    except MessageTooLargeError:
        raise
    except BusError as error:
        requeue_unsent(delivery, runtime, error, worked_on=True)
        return
    _log.info(
        "step %s of request %r: %s",
        row.name,
        message.request.id,
        type(result).__name__,
        extra=log_context(message),
    )


def read(row: Row, delivery: Delivery, runtime: Runtime) -> StepMessage[Any] | None:
    """The message in a delivery; None where it cannot be handled: it is parked then, or requeued.

    From here on the message includes what the delivery tells of the effect.
    """
    try:
        message = read_step(row, delivery.body, runtime.table)
    except (NewerVersionError, UnknownStepError) as error:
        _wait_for_newer_app(delivery, runtime, error)
        return None
    except InvalidMessageError as error:
        park_unreadable(delivery, runtime, str(error))
        return None
    runtime.service_clock.at_least(message.at)
    return as_delivered(row, message, delivery, runtime.service_clock.now())


def _wait_for_newer_app(
    delivery: Delivery, runtime: Runtime, error: NewerVersionError | UnknownStepError
) -> None:
    """Let a message wait for an app version that understands it; past its deadline, answer and park it."""
    deadline = error.deadline if isinstance(error, UnknownStepError) else None
    context = delivery_context(delivery, "read")
    if deadline is not None and runtime.service_clock.now() >= deadline:
        _log.error("a message is over its deadline and parked: %s", error, extra=context)
        text = f"a job of {error} was followed beyond its deadline; look at the vault's jobs."
        answer_and_park(delivery, runtime, ErrorInfo(code=ErrorCode.FAILED_INTERNAL, message=text))
        return
    _log.warning("a message waits for the app that understands it: %s", error, extra=context)
    requeue(delivery, runtime, wait=OPERATOR_WAIT)


def as_delivered(
    row: Row, message: StepMessage[Any], delivery: Delivery, now: ServiceTime
) -> StepMessage[Any]:
    """A message with what its delivery tells of its effect."""
    effect = message.effect
    if delivery.has_waited:
        effect = effect.requeued()
    if delivery.delivered_before and not row.only_prepares(message):
        effect = effect.lost(since=message.at, until=now)
    return message.learned(effect)


def run(
    row: Row,
    message: StepMessage[Any],
    delivery: Delivery,
    runtime: Runtime,
    *,
    step: Callable[[StepMessage[Any], Collaborators], Result] | None = None,
    grown_tick: GrownTick | None = None,
) -> Result:
    """Run the message's step, or `step` in its place; every expected failure is a value."""
    if message.ending is not None:
        return End.decided(message.ending)
    collaborators = collaborate(runtime, message, grown_tick=grown_tick)
    # Jobs are looked for from this moment on: too early does no harm, too late would miss one.
    called = runtime.service_clock.now() if runtime.service_clock.is_known else message.at
    try:
        with coming_back(message.poll > 0):
            if row.job is not None and step is None:
                first = reconcile.before_call(row.job, message, collaborators)
                if first is not None:
                    return first
            perform = step or row.run
            assert perform is not None, f"step {row.name} is handled in batches"
            result = perform(message, collaborators)
            if isinstance(result, Call):
                row.permits(result)
                return _made(row, message, result, delivery, runtime)
            if row.job is not None and isinstance(result, End) and result.error is not None:
                return reconcile.proven(row.job, message, collaborators, result.error) or result
            return result
    except ArmError as error:
        try:
            return after_arm_error(row, message, collaborators, runtime, error, called=called)
        except (ArmError, TokenError) as second:
            # Looking for its own job failed as well: the next delivery looks for it.
            return _looked_for_later(message, second, called)
    except TokenError as error:
        return after_token_error(row, message, runtime, error)


def _looked_for_later(message: StepMessage[Any], second: ArmError | TokenError, called: ServiceTime) -> Later:
    _log.warning("its own job could not be looked for: %s", second, extra=log_context(message))
    effect = message.effect.lost(since=called)
    return Later(reconcile.WHILE_RUNNING, effect=effect, attempt=message.attempt + 1)


def _made(row: Row, message: StepMessage[Any], call: Call, delivery: Delivery, runtime: Runtime) -> Result:
    """Make a call, unless it is too late: once the lock has ended, another delivery of the message may begin."""
    if row.only_prepares(message):
        effect = message.effect.prepared()
        return Later(timedelta(), effect=effect, payload=call.payload, events=call.events)
    if runtime.clock.now() > delivery.taken + LOCK_DURATION / 2:
        return Later(_LATE_WAIT)
    if not runtime.settings.mutations:
        # The one place where anything is changed in Azure.
        return _changes_nothing(message)
    answer = call.make(runtime.backup, message.client_request_id)
    if not isinstance(answer, StartedOperation):
        assert call.at_once is not None, f"step {row.name} has no use for an answer at once"
        return call.at_once(answer)
    return FollowOperation(answer, call.payload if call.payload is not None else message.payload)


def _changes_nothing(message: StepMessage[Any]) -> End:
    text = (
        f"step {message.step} was to change something in Azure; the setting MUTATIONS is off, so nothing was."
    )
    return End(Status.REJECTED, ErrorInfo(code=ErrorCode.MUTATIONS_OFF, message=text))


def handle_without_effect(
    handler: Callable[[Delivery, Runtime], None], delivery: Delivery, runtime: Runtime
) -> None:
    """Run a handler that changes nothing in Azure; where the bus refuses what follows, it is requeued.

    Raises BusError where the bus takes nothing at all, and MessageTooLargeError where waiting would not help: a
    message that is too large to be parked is left to the broker's dead letters.
    """
    try:
        with traced(delivery):
            if admitted(delivery, runtime):
                handler(delivery, runtime)
    except MessageTooLargeError:
        raise
    except BusError as error:
        requeue_unsent(delivery, runtime, error, worked_on=False)


def requeue_unsent(
    delivery: Delivery,
    runtime: Runtime,
    error: BusError,
    *,
    worked_on: bool,
    hold: timedelta = HOLD,
) -> None:
    """Requeue a delivery, since the bus does not take what follows it; else hold it.

    One entity may take messages while another does not: the delivery then comes after a delay, instead of at once. A
    refusal may pass too (a role assignment has to spread), but a requester who can be told does not wait for
    that for ever: after a while the message is answered and parked.

    Raises BusError where its own queue takes nothing either, for as long as a delivery may be held.
    """
    refused = not isinstance(error, BusUnavailableError)
    _log.log(
        logging.ERROR if refused else logging.WARNING,
        "the bus did not take what follows; it is tried again: %s",
        error,
        extra=delivery_context(delivery, "requeue_unsent"),
    )
    now = runtime.clock.now()
    since = _waiting_since(delivery) or now
    in_vain = now - since >= runtime.settings.operation_timeout * runtime.settings.time_scale
    if refused and in_vain and delivery.queue in INTERNAL_QUEUES:
        text = f"the bus refused what follows on a message to {delivery.queue} for {now - since}: {error}"
        with suppress(BusError):
            why = ErrorInfo(code=ErrorCode.FAILED_INTERNAL, message=text)
            answer_and_park(delivery, runtime, why, onward_refused=True)
            return
    known = {WAITING_SINCE: format_moment(since)}
    requeue(
        delivery,
        runtime,
        wait=REFUSED_WAIT if refused else UNAVAILABLE_WAIT,
        worked_on=worked_on,
        hold=hold,
        **known,
    )


def _waiting_since(delivery: Delivery) -> MachineTime | None:
    """Since when a delivery has been coming back for the bus, by the machine's clock."""
    since = delivery.application_properties.get(WAITING_SINCE)
    try:
        return MachineTime(datetime.fromisoformat(since)) if isinstance(since, str) else None
    except ValueError:
        return None
