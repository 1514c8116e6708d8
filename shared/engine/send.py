"""Sending: a step's result as messages, in order, before its delivery is completed (`hand_over`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from shared.bus import MessageTooLargeError, OutgoingMessage
from shared.clock import ServiceTime
from shared.engine import outcomes
from shared.engine.claim import claim, next_effect
from shared.engine.effect import Effect
from shared.engine.message import (
    TRACK,
    DecidedEffect,
    Ending,
    FollowedJob,
    FollowedOperation,
    Following,
    StepMessage,
    wait_until,
)
from shared.engine.result import (
    Call,
    Continue,
    End,
    FanOut,
    FollowJob,
    FollowOperation,
    Later,
    NextEffect,
    Result,
    To,
)
from shared.engine.runtime import Runtime
from shared.engine.table import Row
from shared.engine.telemetry import log_context
from shared.messages.error_codes import ErrorCode
from shared.messages.events import DOUBTS, ErrorInfo, Event, Status
from shared.observed_bus import stamped
from shared.telemetry import tracing
from shared.telemetry.log import logger

_log: Final = logger(__name__)

#: Messages of a fan-out that are made and sent together.
AT_A_TIME: Final = 100
#: A request that went on in spite of a doubtful failure is accepted within this time, which overrides the failure.
_ACCEPTED_WITHIN: Final = timedelta(minutes=30)
#: Polling sooner than this would find nothing, where the service names no Retry-After.
_FIRST_POLL: Final = timedelta(seconds=15)
#: The wait between a conflict and the first look at what is running.
_CONFLICT_WAIT: Final = timedelta(minutes=1)

#: The sender of messages that a database's outcome starts.
OUTCOME: Final = "outcome"

#: A step's result as it is sent: events, then messages to steps with their delays.
ToSend = tuple[Sequence[Event], Sequence[tuple[StepMessage[Any], timedelta]]]


def messages_of(row: Row, message: StepMessage[Any], result: Result, runtime: Runtime) -> ToSend:
    """What a result sends. Raises TableError where the step's row does not list it."""
    row.permits(result)
    at = _sent_at(message, runtime)
    match result:
        case Continue():
            return result.events, FanOut(result.to, lambda _, to: (onward(message, to, at), to.delay))
        case Later():
            following = message.next_poll(
                at=at,
                effect=result.effect,
                payload=result.payload,
                attempt=result.attempt,
                failing_since=result.failing_since,
            )
            return result.events, [(following, result.delay)]
        case NextEffect():
            decided = next_effect(message, result)
            if isinstance(message.payload, Following):
                return (), [next_effect_message(message, decided, at)]
            return (), [(claim(message, decided, at=at, deadline=at), timedelta())]
        case DecidedEffect():
            return (), [next_effect_message(message, result, at)]
        case FollowJob():
            limit = message.job_timeout(runtime.settings)
            followed = FollowedJob(job_id=result.job_id)
            if isinstance(message.payload, Following):
                moved = message.payload.changed(followed=followed, not_before=None, deadline=at + limit)
                return (), [(message.next_poll(at=at, payload=moved), timedelta())]
            return (), [(claim(message, followed, at=at, deadline=at + limit), timedelta())]
        case FollowOperation():
            return _operation(message, result, runtime, at)
        case End():
            return _end(row, message, result, at)
        case Call():
            raise AssertionError("a call is made before what follows on it is sent")


def _operation(
    message: StepMessage[Any], result: FollowOperation, runtime: Runtime, at: ServiceTime
) -> ToSend:
    operation = result.operation
    followed = FollowedOperation(
        async_operation_url=operation.async_operation_url,
        location_url=operation.location_url,
        at_once=operation.is_done,
    )
    asked = operation.retry_after
    following = claim(
        message,
        followed,
        at=at,
        deadline=at + runtime.settings.operation_timeout,
        payload=result.payload,
        not_before=at + asked if asked is not None else None,
    )
    if asked is not None and at + asked > following.payload.deadline:
        end = outcomes.timed_out(following.payload)
        return end.events, [(claim(message, _ending(end), at=at, deadline=at), timedelta())]
    wait = asked if asked is not None else _FIRST_POLL
    return (), [(following, on_tick(at, wait, runtime.settings.track_interval))]


def on_tick(
    at: ServiceTime, delay: timedelta, tick: timedelta, *, since: ServiceTime | None = None
) -> timedelta:
    """The delay from `at` to the first tick that is no sooner than `delay`: polls of a vault meet on ticks.

    Ticks are counted from `since`, or are the same for all vaults.
    """
    due = (at + delay).timestamp() - (since.timestamp() if since is not None else 0.0)
    seconds = tick.total_seconds()
    overshoot = due % seconds
    return delay if overshoot < 1e-6 else delay + timedelta(seconds=seconds - overshoot)


def next_tick(at: ServiceTime, tick: timedelta, *, since: ServiceTime | None = None) -> timedelta:
    """The delay from `at`, which may be a little before or after a tick, to the tick that follows it.

    Where ticks are counted from the listing made at `since`, it is never a little before.
    """
    return on_tick(at, tick / (2 if since is None else 20), tick, since=since)


def _sent_at(message: StepMessage[Any], runtime: Runtime) -> ServiceTime:
    # A time that only this machine's clock tells is not passed on as the service's time.
    clock = runtime.service_clock
    return clock.now() if clock.is_known else message.at


def onward(message: StepMessage[Any], to: To, at: ServiceTime) -> StepMessage[Any]:
    """The message to the next step.

    A step that follows itself goes on with its next effect; otherwise duplicate detection would drop the messages that
    follow as repeats of the earlier ones.
    """
    sender = message.payload.origin if isinstance(message.payload, Following) else message.step
    return StepMessage(
        step=to.step,
        sender=sender,
        at=at,
        since=at + to.delay,
        request=to.request or message.request,
        effect=Effect(n=message.effect.n + 1 if to.step == sender else 1, look_first=to.look_first),
        payload=to.payload,
    )


def next_effect_message(
    message: StepMessage[Following], decided: DecidedEffect, at: ServiceTime
) -> tuple[StepMessage[Any], timedelta]:
    """The message that makes a step's next effect, once that has been claimed, and its delay."""
    following = StepMessage[Any](
        step=message.payload.origin,
        sender=TRACK,
        at=at,
        since=decided.since,
        request=message.request,
        effect=decided.effect,
        payload=message.payload.payload,
    )
    return following, _CONFLICT_WAIT if decided.effect.waiting else timedelta()


def _end(row: Row, message: StepMessage[Any], end: End, at: ServiceTime) -> ToSend:
    """A step's end: its outcome at once, or under the claim of its effect where another delivery may have gone on.

    Another delivery of the same message, earlier or later, may go on and know better. Where that is possible, the
    outcome is sent under the same message id as going on would be, so that the broker drops the second. A doubt is
    always sent like that: if the process dies just after it, the next delivery looks again, and may see more.
    """
    end = row.conclude(message.of_origin, end)
    doubt = end.status in DOUBTS
    if message.payload.is_silent:
        if end.error is not None:
            _log.warning(
                "step %s ended as %s: %s", row.name, end.status, end.error.message, extra=log_context(message)
            )
        return end.events, ()
    if isinstance(message.payload, Following):
        claimed = isinstance(message.payload.followed, Ending)
        if claimed or not (doubt or message.effect.may_have_started):
            return _publish_outcome(row, message, end, at)
        ending = message.payload.changed(followed=_ending(end), not_before=None)
        return end.events, [(message.next_poll(at=at, payload=ending), timedelta())]
    if row.ends_in is not None and message.ending is None:
        others = {*row.follows} - {row.ends_in, *row.fans_out_to}
        wait = _ACCEPTED_WITHIN if others and message.effect.may_have_started else timedelta()
        return end.events, [(_ended(message, row.ends_in, end, at), wait)]
    if row.only_prepares(message) and message.ending is None:
        # The result of reading is sent under one message id, whether it is a call or the end.
        return end.events, [(message.next_poll(at=at, ending=_ending(end)), timedelta())]
    another = message.effect.may_have_started or (row.job is not None and (doubt or end.called))
    if not another or message.ending is not None:
        return _publish_outcome(row, message, end, at)
    wait = timedelta() if row.job is not None else _ACCEPTED_WITHIN
    return end.events, [(claim(message, _ending(end), at=at, deadline=at), wait)]


def _publish_outcome(row: Row, message: StepMessage[Any], end: End, at: ServiceTime) -> ToSend:
    """The outcome, and the message that it starts."""
    outcome = outcomes.outcome(message, end, at=at)
    origin = message.of_origin
    to = row.sets_going(origin)
    if to is None:
        return (*end.events, outcome), ()
    assert to.step == row.begins, f"step {row.name} sets {to.step} going; its row says {row.begins}"
    # The same id whichever step it ended in and whoever sends it: the broker keeps the first.
    following = onward(origin, to, at).changed(sender=OUTCOME, effect=Effect())
    return (*end.events, outcome), [(following, to.delay)]


def _ended(message: StepMessage[Any], step: str, end: End, at: ServiceTime) -> StepMessage[Any]:
    """The end of a step, under the message id of what would have gone on."""
    following = onward(message, To(step, message.payload), at)
    return following.changed(ending=_ending(end))


def _ending(end: End) -> Ending:
    return Ending(status=end.status, error=end.error, details=end.details)


def outgoing(message: StepMessage[Any], delay: timedelta, runtime: Runtime) -> OutgoingMessage:
    """A message to a step, ready for the bus. Raises ValueError where it cannot be serialised."""
    entity = message.step.replace("_", "-")
    return OutgoingMessage(
        entity=entity,
        body=message.model_dump_json(by_alias=True, exclude_none=True).encode(),
        message_id=message.message_id,
        subject=message.step,
        correlation_id=message.request.correlation_id,
        application_properties=tracing.carried_to(entity),
        scheduled_for=wait_until(runtime.clock.now(), delay * runtime.settings.time_scale),
    )


@dataclass(frozen=True)
class Carried:
    """A message for the bus, and the message to a step that it carries."""

    sent: OutgoingMessage
    step_message: StepMessage[Any]


def carried(row: Row, message: StepMessage[Any], result: Result, runtime: Runtime) -> Iterator[list[Carried]]:
    """A result's messages for the bus, in groups of a limited size: a fan-out is never in memory as a whole.

    A message that cannot be serialised becomes the outcome of its own database and harms no other.
    """
    events, messages = messages_of(row, message, result, runtime)
    *earlier, latest = [events[start : start + AT_A_TIME] for start in range(0, len(events), AT_A_TIME)] or [
        events
    ]
    for portion in earlier:
        yield [Carried(stamped(event.to_message()), message) for event in portion]
    found = [Carried(stamped(event.to_message()), message) for event in latest]
    accepted = result.accepted if isinstance(result, Continue) else None
    for start in range(0, max(1, len(messages)), AT_A_TIME):
        for following, delay in messages[start : start + AT_A_TIME]:
            try:
                found.append(Carried(outgoing(following, delay, runtime), following))
            except ValueError as error:
                found.append(Carried(_not_carried(following, message, error, runtime), following))
        if found:
            yield found
        found = []
    if accepted is not None:
        yield [Carried(stamped(accepted.to_message()), message)]


def _not_carried(
    message: StepMessage[Any], sent_by: StepMessage[Any], error: Exception, runtime: Runtime
) -> OutgoingMessage:
    """The outcome where a message cannot be sent, whatever is tried."""
    too_large = isinstance(error, MessageTooLargeError)
    said = error if too_large else f"{type(error).__name__} while a message was made of it"
    _log.error("what follows cannot be sent: %s", said, extra=log_context(message))
    why = ErrorInfo(
        code=ErrorCode.MESSAGE_TOO_LARGE if too_large else ErrorCode.FAILED_INTERNAL,
        message=f"the request cannot be carried further: {said}",
    )
    # A step for one database sends on what follows a call that was made.
    status = Status.FAILED if sent_by.database is None else Status.UNKNOWN
    return outcomes.outcome(message, End(status, why), at=runtime.service_clock.now()).to_message()


def send(portion: Sequence[Carried], sent_by: StepMessage[Any], runtime: Runtime) -> None:
    """Send a message's result; a part that is too large for the broker harms only itself. Raises BusError."""
    try:
        runtime.bus.send([each.sent for each in portion])
    except MessageTooLargeError as error:
        if len(portion) == 1:
            runtime.bus.send([_not_carried(portion[0].step_message, sent_by, error, runtime)])
            return
        # What was accepted already is dropped as a duplicate.
        for each in portion:
            send([each], sent_by, runtime)


def hand_over(row: Row, message: StepMessage[Any], result: Result, runtime: Runtime) -> None:
    """Publish the events, then send the messages. When it returns, the broker has them all.

    Raises BusError where the broker refuses one of them.
    """
    for portion in carried(row, message, result, runtime):
        send(portion, message, runtime)
