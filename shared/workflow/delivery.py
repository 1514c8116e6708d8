"""What happens around every step: decode its message, call it, hand what it returns to the bus.

Nothing expected escapes: what may pass is put back with a delay, what is permanent ends in an outcome. A
crash, or a bus that takes nothing, leaves the message to be delivered again, and that repeats no effect.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError

from shared.arm.budget import coming_back
from shared.arm.errors import (
    ArmAnswerLostError,
    ArmError,
    ArmNotSentError,
    ArmPacedError,
    ArmProtocolError,
    ArmStatusError,
    ArmUntrustedError,
    ArmUrlRefusedError,
    TokenError,
    TokenUnavailableError,
)
from shared.arm.ids import VaultId
from shared.bus import Bus, BusError, BusUnavailableError, MessageTooLargeError, OutgoingMessage
from shared.bus.topology import LOCK_DURATION, PARKED_MESSAGES
from shared.composition import Runtime
from shared.listings import READ_BUDGET
from shared.messages.cloud_events import InvalidMessageError, Problem, read_json
from shared.messages.events import ErrorInfo, Event, Status
from shared.messages.model import TolerantModel
from shared.messages.parking import packed
from shared.messages.steps import VERSION, Again, RestorePlan, StepMessage, Tracking, Verdict, fingerprint
from shared.telemetry import log_context
from shared.workflow.advice import CONFLICT_CODES, is_quota
from shared.workflow.flow import ended, handed_over
from shared.workflow.retry import Conflict, GiveUp, Happened, Retry, decide
from shared.workflow.step import (
    AgainError,
    Collaborators,
    LateError,
    Next,
    NextEffectError,
    Result,
    StepDefinition,
    WorkflowError,
)

_log: Final = logging.getLogger(__name__)

#: What only an operator can mend (settings, a rollback) is tried again after this long.
_OPERATOR_WAIT: Final = timedelta(minutes=5)
_BUS_WAIT: Final = timedelta(seconds=30)
#: A role takes time to spread, and nothing is lost meanwhile.
_REFUSED_WAIT: Final = timedelta(minutes=1)
_LATE_WAIT: Final = timedelta(seconds=5)
#: Late so often in a row, at once on delivery: the two clocks disagree, rather than every delivery being slow.
_MOST_LATE: Final = 3
_PERMANENT_AUTHENTICATION_WAIT: Final = timedelta(seconds=30)
#: A request that has gone on in spite of a doubtful failure is accepted within this time, which undoes that.
_ACCEPTED_WITHIN: Final = timedelta(minutes=30)
#: A secret may be on its way to be renewed; a requester is not left waiting for longer.
_AUTHENTICATION_FOR: Final = timedelta(minutes=10)
EPOCH: Final = "epoch"
_HEAD: Final = StepMessage[TolerantModel]
#: Messages of a fan-out that are made and sent together.
_AT_A_TIME: Final = 100


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A message as the platform hands it to a function."""

    queue: str
    body: bytes
    message_id: str = ""
    delivery_count: int = 1
    locked_until: datetime | None = None
    #: when this process took it, by the machine's clock
    taken: datetime
    application_properties: Mapping[str, Any] = field(default_factory=dict)
    content_type: str | None = None
    correlation_id: str | None = None

    @property
    def epoch(self) -> int:
        """How often it has been replayed."""
        value = str(self.application_properties.get(EPOCH, 0))
        return int(value) if value.isascii() and value.isdecimal() and len(value) < 10 else 0


def handle(definition: StepDefinition, delivery: Delivery, runtime: Runtime) -> None:
    """Handle one message of a step. When it returns, the message may be completed.

    Raises whatever it did not expect, and BusError where the bus takes nothing: the message is then
    delivered again.
    """
    message = decode(definition, delivery, runtime)
    if message is None:
        return
    result = run(definition, message, delivery, runtime)
    dispatch(result, message, runtime)
    _log.info(
        "step %s of request %r: %d events, %d messages",
        definition.name,
        message.request.id,
        len(result.events),
        len(result.next),
        extra=log_context(message),
    )


def decode(definition: StepDefinition, delivery: Delivery, runtime: Runtime) -> StepMessage[Any] | None:
    """The message in a delivery; None where there is none to handle, and it has been put away."""
    try:
        raw = read_json(delivery.body)
        if not isinstance(raw, dict):
            raise InvalidMessageError([Problem("body", "no object", "expected a step message")])
        version = raw.get("version")
        if isinstance(version, int) and version > VERSION:
            _log.warning(
                "a message of a newer version waits for the app that understands it",
                extra={"action": "decode", "queue": delivery.queue},
            )
            wait_for_operator(delivery, runtime.bus, runtime.clock.now())
            return None
        message = _read(definition, raw)
    except (InvalidMessageError, ValidationError) as error:
        _unreadable(delivery, runtime, _validation_text(error))
        return None
    if delivery.epoch > message.request.epoch:
        request = message.request.model_copy(update={"epoch": delivery.epoch})
        # A replay begins anew: what it waited for, and how long, is forgotten; its effects are not.
        message = message.model_copy(update={"request": request, "since": runtime.service_clock.now()})
    runtime.service_clock.at_least(message.at)
    if delivery.delivery_count > 1 and not message.effect.may_have_started:
        effect = message.effect.model_copy(update={"may_have_started": True, "at": message.at})
        message = message.model_copy(update={"effect": effect})
    return message


def _read(definition: StepDefinition, raw: dict[str, Any]) -> StepMessage[Any]:
    payload = definition.payload.model_validate(raw.get("payload"), extra="ignore")
    head = _HEAD.model_validate({**raw, "payload": {}}, extra="ignore")
    return head.model_copy(update={"payload": payload})


def given_up(
    definition: StepDefinition, delivery: Delivery, runtime: Runtime, info: ErrorInfo
) -> list[OutgoingMessage] | None:
    """The answer for a database whose message the broker gave up, dropped where a delivery of it had gone on.

    None where the message is about no database, or cannot be read.
    """
    from shared.workflow.table import STEPS

    try:
        raw = read_json(delivery.body)
        message = _read(definition, raw) if isinstance(raw, dict) else None
        if message is None or message.database is None or isinstance(message.payload, RestorePlan):
            return None
    except (InvalidMessageError, ValidationError):
        return None
    if message.step != definition.name or getattr(message.payload, "origin", message.step) not in STEPS:
        return None
    request = message.request.model_copy(
        update={"epoch": max(delivery.epoch, message.request.epoch)},
    )
    effect = message.effect.model_copy(update={"may_have_started": True})
    message = message.model_copy(update={"request": request, "effect": effect})
    return outgoing(_end(message, runtime, Status.UNKNOWN, info), runtime)


def run(
    definition: StepDefinition,
    message: StepMessage[Any],
    delivery: Delivery,
    runtime: Runtime,
    *,
    grown_tick: timedelta | None = None,
    **known: Any,
) -> Result:
    """Call the step; turn every expected failure into what follows from it."""
    collaborators = collaborate(
        delivery,
        runtime,
        message.request.vault_id,
        trusting=message.late < _MOST_LATE,
        grown_tick=grown_tick,
    )
    called = runtime.service_clock.now()
    try:
        with coming_back(message.poll > 0):
            return definition.run(message, collaborators, **known)
    except AgainError as again:
        return put_back(message, runtime, again.delay, **again.changes)
    except NextEffectError as following:
        return _once_more(message, runtime, waiting=following.waiting)
    except LateError:
        return put_back(message, runtime, _LATE_WAIT, late=message.late + 1)
    except WorkflowError as error:
        return _end(message, runtime, error.status, error.info)
    except ArmError as error:
        return after_arm_error(definition, message, runtime, error, called=called)
    except TokenError as error:
        return _after_authentication_error(definition, message, runtime, error)


def collaborate(
    delivery: Delivery,
    runtime: Runtime,
    vault_id: VaultId | None,
    *,
    trusting: bool = True,
    grown_tick: timedelta | None = None,
) -> Collaborators:
    """What a step may use while it handles this delivery.

    `trusting`: whether the end of the lock, which is by the broker's clock, is compared with this machine's.
    """
    expires = delivery.taken + LOCK_DURATION
    if trusting and delivery.locked_until is not None:
        expires = min(expires, delivery.locked_until)

    def late() -> bool:
        # Half the lock is left for the call to end before another delivery can begin.
        return runtime.clock.now() > expires - LOCK_DURATION / 2

    return Collaborators(
        backup=runtime.backup,
        settings=runtime.settings,
        now=runtime.service_clock.now,
        late=late,
        grown_tick=grown_tick,
        items=runtime.items,
        may_read_more=lambda: plenty_of_reads(runtime, vault_id),
    )


def plenty_of_reads(runtime: Runtime, vault_id: VaultId | None) -> bool:
    """Whether more than half of the read budget of the vault's subscription is left."""
    return vault_id is None or runtime.backup.budget.left(vault_id.subscription_id) > READ_BUDGET // 2


def some_reads(runtime: Runtime, vault_id: VaultId | None) -> bool:
    """Whether single lookups leave enough of the read budget to the listings."""
    return vault_id is None or runtime.backup.budget.left(vault_id.subscription_id) > READ_BUDGET // 5


def put_back(message: StepMessage[Any], runtime: Runtime, delay: timedelta, **changes: Any) -> Result:
    """The same message again, after `delay` of the service's time."""
    return Result(next=(Next(message.again(at=runtime.service_clock.now(), **changes), delay),))


def dispatch(result: Result, message: StepMessage[Any] | None, runtime: Runtime) -> None:
    """Publish the events, then send the messages. When it returns, the broker has them all."""
    handed_over_all = False
    try:
        for messages in _parts(result, runtime):
            runtime.bus.send(messages)
        handed_over_all = True
        if result.accepted is not None:
            runtime.bus.send([result.accepted.to_message()])
    except MessageTooLargeError as error:
        if message is None:
            raise
        _log.error("a message is too large for the broker: %s", error, extra=log_context(message))
        info = ErrorInfo(code="MessageTooLarge", message=f"the request cannot be carried further: {error}")
        # What a step for one database sends on comes of a call that was made.
        status = Status.FAILED if message.database is None else Status.UNKNOWN
        runtime.bus.send([event.to_message() for event in _ended(message, runtime, status, info).events])
    except BusError as error:
        if message is None:
            raise
        # One entity may take messages where another does not: the step then comes back by itself, instead
        # of being delivered ten times in a second. What is refused may be mended as well (a role has to spread),
        # but a requester who can be told does not wait for that for ever: then it becomes a dead letter.
        changes: dict[str, Any] = {}
        if not isinstance(error, BusUnavailableError):
            now = runtime.service_clock.now()
            changes["failing_since"] = message.failing_since or now
            out_of_time = now - changes["failing_since"] >= runtime.settings.operation_timeout
            if out_of_time and not (handed_over_all or result.events):
                raise
        _not_taken(error, log_context(message))
        effect = message.effect.model_copy(
            update={"may_have_started": True, "at": message.effect.at or message.at}
        )
        again = put_back(message, runtime, _wait_for_bus(error), effect=effect, **changes)
        runtime.bus.send([outgoing_step(following, runtime) for following in again.next])


def handle_without_effect(
    handler: Callable[[Delivery, Runtime], None], delivery: Delivery, runtime: Runtime
) -> None:
    """Call what changes nothing in Azure: where the bus refuses what follows, the message comes back later.

    Raises BusError where its own queue does not take it either, and MessageTooLargeError where waiting would
    not help: what is too large to be parked is left to the broker's dead letters.
    """
    try:
        handler(delivery, runtime)
    except MessageTooLargeError:
        raise
    except BusError as error:
        come_back(delivery, runtime, error)


def come_back(delivery: Delivery, runtime: Runtime, error: BusError) -> None:
    """Send a delivery to its own queue again, unchanged, since the bus does not take what follows on it."""
    _not_taken(error, {"action": "dispatch", "queue": delivery.queue, "message_id": delivery.message_id})
    wait_for_operator(delivery, runtime.bus, runtime.clock.now(), wait=_wait_for_bus(error))


def _wait_for_bus(error: BusError) -> timedelta:
    return _BUS_WAIT if isinstance(error, BusUnavailableError) else _REFUSED_WAIT


def _not_taken(error: BusError, context: dict[str, Any]) -> None:
    level = logging.WARNING if isinstance(error, BusUnavailableError) else logging.ERROR
    _log.log(level, "the bus did not take what follows; it is tried again: %s", error, extra=context)


def _parts(result: Result, runtime: Runtime) -> Iterator[list[OutgoingMessage]]:
    """What a step leads to, so much at a time: a fan-out is never in memory as a whole."""
    if len(result.next) <= _AT_A_TIME:
        messages = outgoing(result, runtime)
        if messages:
            yield messages
        return
    if result.events:
        yield [event.to_message() for event in result.events]
    for start in range(0, len(result.next), _AT_A_TIME):
        yield [outgoing_step(following, runtime) for following in result.next[start : start + _AT_A_TIME]]
    if result.forward:
        yield list(result.forward)


def outgoing(result: Result, runtime: Runtime) -> list[OutgoingMessage]:
    """What a step leads to, as messages of the bus, in the order in which they are to be sent."""
    messages = [event.to_message() for event in result.events]
    messages += [outgoing_step(following, runtime) for following in result.next]
    return [*messages, *result.forward]


def outgoing_step(following: Next, runtime: Runtime) -> OutgoingMessage:
    """A message to a step, as the bus takes it."""
    message = following.message
    delay = following.delay * runtime.settings.time_scale
    return OutgoingMessage(
        entity=message.step.replace("_", "-"),
        body=message.model_dump_json(by_alias=True, exclude_none=True).encode(),
        message_id=message.message_id,
        subject=message.step,
        correlation_id=message.request.correlation_id,
        scheduled_for=runtime.clock.now() + delay if delay > timedelta() else None,
    )


def park(
    delivery: Delivery, reason: str, description: str, *, queue: str | None = None, epoch: int | None = None
) -> OutgoingMessage:
    """The original of a message that could not be handled, whole, for `parked-messages`."""
    kept = {
        name: value
        for name, value in delivery.application_properties.items()
        if isinstance(value, str | int | bool) and name not in ("reason", "description", "originalQueue")
    }
    epoch = delivery.epoch if epoch is None else epoch
    body, encoding = packed(delivery.body)
    return OutgoingMessage(
        entity=PARKED_MESSAGES,
        body=body,
        message_id=fingerprint(
            "parked", queue or delivery.queue, delivery.message_id, delivery.body.hex(), epoch
        ),
        content_type=delivery.content_type or "application/json",
        correlation_id=delivery.correlation_id,
        application_properties={
            **kept,
            "reason": reason,
            "description": description[:1024],
            "originalQueue": queue or delivery.queue,
            "originalMessageId": delivery.message_id,
            EPOCH: epoch,
            **encoding,
        },
    )


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
    mutation = error.method != "GET"
    failing_since = message.failing_since or now
    # Reckoned from the first failure, since a step may have waited for days for another job to end.
    deadline = failing_since + runtime.settings.operation_timeout
    if isinstance(message.payload, Tracking):
        deadline = message.payload.deadline
    happened = _happened(error)
    status = error.status if isinstance(error, ArmStatusError) else None
    paced = isinstance(error, ArmPacedError)
    if isinstance(error, ArmStatusError) and mutation:
        if is_quota(error.code):
            return _end(message, runtime, Status.FAILED, _status_info(error), called=True)
        if error.code.lower() in CONFLICT_CODES:
            status = 409
    decision = decide(
        happened,
        # To be held back is what a 429 would have come to.
        status=429 if paced else status,
        retry_after=error.retry_after if isinstance(error, ArmStatusError | ArmPacedError) else None,
        mutation=mutation,
        attempt=message.attempt,
        age=now - failing_since,
        time_left=deadline - now,
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
        from shared.workflow.track import after_conflict

        assert isinstance(error, ArmStatusError)
        limit = runtime.settings.operation_timeout
        verdict = after_conflict(message, _status_info(error), at=now, within=limit)
        if verdict is None:
            return _once_more(message, runtime, waiting=True)
        return _end(message, runtime, *verdict, called=True)
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


def _once_more(message: StepMessage[Any], runtime: Runtime, *, waiting: bool) -> Result:
    """The step's next effect, decided on as an outcome is (see `_end`): of an effect just one thing comes."""
    at = runtime.service_clock.now()
    again = Again(waiting=waiting, since=message.since)
    return Result(next=(Next(handed_over(message, at, deadline=at, again=again)),))


def _happened(error: ArmError) -> Happened:
    if isinstance(error, ArmUntrustedError):
        return Happened.REFUSED
    if isinstance(error, ArmStatusError):
        return Happened.STATUS
    if isinstance(error, ArmAnswerLostError):
        return Happened.ANSWER_LOST
    if isinstance(error, ArmProtocolError):
        return Happened.MALFORMED
    if isinstance(error, ArmNotSentError):
        return Happened.NOT_SENT
    assert isinstance(error, ArmUrlRefusedError)
    return Happened.REFUSED


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
    return _end(message, runtime, status, info, called=error.method != "GET")


def _honest_status(definition: StepDefinition, message: StepMessage[Any]) -> Status:
    """How it ends where Azure cannot be asked any more: an effect that has perhaps happened is not a failure."""
    if isinstance(message.payload, Tracking):
        return Status.FAILED if message.database is None else Status.UNKNOWN
    happened = definition.job is not None and message.effect.may_have_started
    return Status.UNKNOWN if happened else Status.FAILED


def _after_authentication_error(
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
        return _end(message, runtime, _honest_status(definition, message), info)
    return put_back(
        message,
        runtime,
        _PERMANENT_AUTHENTICATION_WAIT,
        attempt=message.attempt + 1,
        failing_since=failing_since,
    )


def _end(
    message: StepMessage[Any], runtime: Runtime, status: Status, info: ErrorInfo, *, called: bool = False
) -> Result:
    """What a step ends in; `called`: its mutating call was made, and refused.

    An earlier delivery of the same message may have handed over to the tracker, which knows better, and a
    later one may make its next effect. So where there may have been one, or may be one, the outcome goes the
    same way, under the message id of that hand-over: the broker drops it if it is the second.
    """
    from shared.workflow.table import STEPS

    at = runtime.service_clock.now()
    verdict = Verdict(
        status=status, code=info.code, message=info.message, recommendations=info.recommendations
    )
    called = called and message.step in STEPS and STEPS[message.step].job is not None
    if not message.effect.may_have_started and not called:
        return _ended(message, runtime, status, info)
    if isinstance(message.payload, Tracking):
        wait = timedelta() if STEPS[message.payload.origin].job is not None else _ACCEPTED_WITHIN
        payload = message.payload.model_copy(update={"verdict": verdict, "not_before": None})
        return put_back(message, runtime, wait, payload=payload)
    wait = timedelta() if STEPS[message.step].job is not None else _ACCEPTED_WITHIN
    return Result(next=(Next(handed_over(message, at, deadline=at, verdict=verdict), wait),))


def _ended(message: StepMessage[Any], runtime: Runtime, status: Status, info: ErrorInfo) -> Result:
    event: Event = ended(message, status, at=runtime.service_clock.now(), error=info)
    return Result(events=(event,))


def wait_for_operator(
    delivery: Delivery, bus: Bus, now: datetime, *, wait: timedelta = _OPERATOR_WAIT
) -> None:
    """Send a message to its own queue again, for `wait` later; unchanged, but for how often it waited."""
    seen = delivery.application_properties.get("waited", 0)
    waited = seen + 1 if isinstance(seen, int) else 1
    bus.send(
        [
            OutgoingMessage(
                entity=delivery.queue,
                body=delivery.body,
                message_id=fingerprint("waited", delivery.message_id, delivery.body.hex(), waited),
                content_type=delivery.content_type or "application/json",
                correlation_id=delivery.correlation_id,
                application_properties={**_plain(delivery.application_properties), "waited": waited},
                scheduled_for=now + wait,
            )
        ]
    )


def _plain(properties: Mapping[str, Any]) -> dict[str, str | int | bool]:
    return {name: value for name, value in properties.items() if isinstance(value, str | int | bool)}


def _unreadable(delivery: Delivery, runtime: Runtime, why: str) -> None:
    """A message between steps that no version of this app can have written: park it, answer its request."""
    from shared.workflow.dead_letters import outcome_of_body

    _log.error(
        "a step message cannot be read; it is parked",
        extra={"action": "decode", "queue": delivery.queue, "error": why},
    )
    messages: list[OutgoingMessage] = [park(delivery, "UnreadableStepMessage", why)]
    info = ErrorInfo(
        code="UnreadableStepMessage", message=f"a message to {delivery.queue} cannot be read: {why}"
    )
    event = outcome_of_body(delivery, info, at=runtime.service_clock.now())
    runtime.bus.send([event.to_message(), *messages])


def _validation_text(error: InvalidMessageError | ValidationError) -> str:
    if isinstance(error, InvalidMessageError):
        return str(error)
    details = error.errors(include_url=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in details[:20])
