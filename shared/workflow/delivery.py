"""What happens around every step: decode its message, call it, hand what it returns to the bus.

Nothing expected escapes: what may pass is put back with a delay, what is permanent ends in an outcome
(`shared.workflow.failures` says which). A crash, or a bus that takes nothing, leaves the message to be
delivered again, and that repeats no effect.

Changes with how messages are read and sent: their versions, their order, what the bus refuses.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final

from pydantic import ValidationError

from shared.arm.budget import coming_back
from shared.arm.errors import ArmError, TokenError
from shared.arm.ids import VaultId
from shared.bus import BusError, BusUnavailableError, MessageTooLargeError, OutgoingMessage
from shared.bus.topology import LOCK_DURATION
from shared.composition import Runtime
from shared.listings import READ_BUDGET
from shared.messages import events
from shared.messages.cloud_events import InvalidMessageError, Problem, read_json
from shared.messages.events import AcceptedData, ErrorInfo, Status
from shared.messages.model import TolerantModel
from shared.messages.steps import VERSION, Acceptance, StepMessage
from shared.telemetry import log_context
from shared.workflow.answers import outcome_of_body
from shared.workflow.failures import (
    after_arm_error,
    after_authentication_error,
    end,
    once_more,
    put_back,
)
from shared.workflow.flow import ended
from shared.workflow.parking import Delivery, park, wait_for_operator
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

#: What handling a message of a step takes from outside.
_log: Final = logging.getLogger(__name__)

_BUS_WAIT: Final = timedelta(seconds=30)
#: A role takes time to spread, and nothing is lost meanwhile.
_REFUSED_WAIT: Final = timedelta(minutes=1)
_LATE_WAIT: Final = timedelta(seconds=5)
#: Late so often in a row, at once on delivery: the two clocks disagree, rather than every delivery being slow.
_MOST_LATE: Final = 3
_HEAD: Final = StepMessage[TolerantModel]
#: Messages of a fan-out that are made and sent together.
_AT_A_TIME: Final = 100


def handle(definition: StepDefinition, delivery: Delivery, runtime: Runtime) -> None:
    """Handle one message of a step. When it returns, the message may be completed.

    Raises whatever it did not expect, and BusError where the bus takes nothing: the message is then
    delivered again.
    """
    message = decode(definition, delivery, runtime)
    if message is None:
        return
    if message.acceptance is not None:
        said = message.acceptance
        accepted = events.accepted(
            message.request,
            at=runtime.service_clock.now(),
            outcome_count=said.outcome_count,
            skipped=said.skipped,
            names=said.skipped_names,
        )
        result = Result(accepted=accepted)
    else:
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
        message = read_message(definition, raw)
    except (InvalidMessageError, ValidationError) as error:
        _unreadable(delivery, runtime, _validation_text(error))
        return None
    if delivery.epoch > message.request.epoch:
        request = message.request.model_copy(update={"epoch": delivery.epoch})
        # A replay begins anew: what it waited for, and how long, is forgotten; its effects are not.
        fresh = {"request": request, "since": runtime.service_clock.now(), "acceptance": None}
        message = message.model_copy(update=fresh)
    runtime.service_clock.at_least(message.at)
    if delivery.delivery_count > 1 and not message.effect.may_have_started:
        effect = message.effect.model_copy(update={"may_have_started": True, "at": message.at})
        message = message.model_copy(update={"effect": effect})
    return message


def read_message(definition: StepDefinition, raw: dict[str, Any]) -> StepMessage[Any]:
    """The message to a step in a body. Raises ValidationError where it is none."""
    payload = definition.payload.model_validate(raw.get("payload"), extra="ignore")
    head = _HEAD.model_validate({**raw, "payload": {}}, extra="ignore")
    return head.model_copy(update={"payload": payload})


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
    # Jobs are looked for from here on, so it may be too early, but not too late.
    called = runtime.service_clock.now() if runtime.service_clock.is_known else message.at
    try:
        with coming_back(message.poll > 0):
            return definition.run(message, collaborators, **known)
    except AgainError as again:
        return put_back(message, runtime, again.delay, **again.changes)
    except NextEffectError as following:
        return once_more(message, runtime, waiting=following.waiting)
    except LateError:
        return put_back(message, runtime, _LATE_WAIT, late=message.late + 1)
    except WorkflowError as error:
        return end(message, runtime, error.status, error.info)
    except ArmError as error:
        return after_arm_error(definition, message, runtime, error, called=called)
    except TokenError as error:
        return after_authentication_error(definition, message, runtime, error)


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
        outcome = ended(message, status, at=runtime.service_clock.now(), error=info)
        runtime.bus.send([outcome.to_message()])
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
        if handed_over_all and result.accepted is not None:
            # All else was sent: the step is not to be run again, and to fail perhaps, for this alone.
            data = result.accepted.data
            assert isinstance(data, AcceptedData)
            changes["acceptance"] = Acceptance.model_validate(data.model_dump())
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


def _unreadable(delivery: Delivery, runtime: Runtime, why: str) -> None:
    """A message between steps that no version of this app can have written: park it, answer its request."""
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
