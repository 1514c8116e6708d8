"""Called by the trigger functions: reads the platform's message and passes it to the workflow.

Everything heavy is imported on the first message, not when the platform indexes the app.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from shared.clock import MachineTime, SystemClock
from shared.telemetry.log import logger

if TYPE_CHECKING:
    from azure.functions import ServiceBusMessage

    from shared.engine.message import Delivery
    from shared.engine.runtime import Runtime
    from shared.settings import SettingsError

_log: Final = logger(__name__)

#: As long as where a bus takes nothing; the modules that say so may be what cannot be imported.
_HOLD: Final = timedelta(minutes=3)


@contextmanager
def _held_where_nothing_can_run() -> Iterator[None]:
    """Hold a message for a while that the app cannot be imported for, as with packages built for another system.

    Given back at once, every message would be delivered until it is a dead letter, which nobody could report.
    """
    clock = SystemClock()
    until = clock.now() + _HOLD
    try:
        yield
    except ImportError:
        clock.sleep(until - clock.now())
        raise


@_held_where_nothing_can_run()
def run_step(name: str, message: ServiceBusMessage) -> None:
    """Handle one message of the step `name`."""
    from shared.engine.run import handle
    from shared.workflows import TABLE

    row = TABLE.row(name)
    _with_runtime(message, row.queue, lambda delivery, runtime: handle(row, delivery, runtime))


@_held_where_nothing_can_run()
def run_tracker(messages: Sequence[ServiceBusMessage]) -> None:
    """Handle a batch of the tracker's messages, each on its own."""
    from shared import composition
    from shared.following.batch import handle_batch
    from shared.settings import SettingsError

    try:
        runtime = composition.runtime()
    except SettingsError as error:
        for delivery in _batch(messages, "track", SystemClock().now()):
            _wait_for_settings(delivery, error)
        return
    handle_batch(_batch(messages, "track", runtime.clock.now()), runtime)


@_held_where_nothing_can_run()
def take_request(queue: str, message: ServiceBusMessage) -> None:
    """Take one request from its queue."""
    from shared.intake.receive import receive_request

    _without_effect(message, queue, receive_request)


@_held_where_nothing_can_run()
def take_replay(message: ServiceBusMessage) -> None:
    """Take one parked message that an operator has sent again."""
    from shared.intake.replays import receive_replay

    _without_effect(message, "replays", receive_replay)


@_held_where_nothing_can_run()
def report(message: ServiceBusMessage) -> None:
    """Answer and park one dead letter."""
    from shared.intake.dead_letters import report_dead_letter

    _without_effect(message, "dead-letters", report_dead_letter)


def plan(name: str, *, past_due: bool) -> None:
    """Plan the next day's schedule: `name` is `plan_backups`, `plan_coverage` or `plan_drills`."""
    from shared import composition
    from shared.intake.planning import PLANNERS
    from shared.settings import SettingsError

    if past_due:
        _log.info("the timer fires late; what was planned before is on its way", extra={"action": name})
    try:
        runtime = composition.runtime()
    except SettingsError as error:
        _log.error("the settings cannot be used: %s", error, extra={"action": name})
        raise
    occurrences = PLANNERS[name](runtime)
    # Logged without schedules as well: the alert `watchdog` looks for this line.
    _log.info("the schedules are planned", extra={"action": name, "occurrences": occurrences})


def _without_effect(
    message: ServiceBusMessage, queue: str, handler: Callable[[Delivery, Runtime], None]
) -> None:
    from shared.engine.run import handle_without_effect

    _with_runtime(message, queue, lambda delivery, runtime: handle_without_effect(handler, delivery, runtime))


def _with_runtime(
    message: ServiceBusMessage, queue: str, handler: Callable[[Delivery, Runtime], None]
) -> None:
    from shared import composition
    from shared.settings import SettingsError

    try:
        runtime = composition.runtime()
    except SettingsError as error:
        _wait_for_settings(_delivery(message, queue, SystemClock().now()), error)
        return
    handler(_delivery(message, queue, runtime.clock.now()), runtime)


def _wait_for_settings(delivery: Delivery, error: SettingsError) -> None:
    """Bring the message back until an operator has corrected the settings.

    Raises SettingsError where they name no bus that could take it, once it has been held as where a bus takes nothing.
    """
    from shared import composition
    from shared.engine.requeue import HOLD_BATCH, OPERATOR_WAIT, hold_until_sent
    from shared.engine.telemetry import delivery_context
    from shared.settings import SettingsError

    _log.error("the settings cannot be used: %s", error, extra=delivery_context(delivery, "settings"))
    clock = SystemClock()
    until = delivery.taken + HOLD_BATCH
    try:
        bus = composition.connected_bus()
    except SettingsError:
        # Given back at once, it would be delivered again at once, until it is a dead letter.
        clock.sleep(until - clock.now())
        raise
    copy = delivery.copy(scheduled_for=clock.now() + OPERATOR_WAIT)
    hold_until_sent(lambda: [copy], bus, clock, until=until)


def _batch(messages: Sequence[ServiceBusMessage], queue: str, taken: MachineTime) -> list[Delivery]:
    """The deliveries of a batch, without attributes that may belong to another message.

    The platform leaves null and empty strings out of a batch's lists of attributes, so that later values move up.
    Where a value is missing, it is unknown whose, and the attribute is dropped for the whole batch. Numbers and
    properties keep their places.
    """
    deliveries = [_delivery(message, queue, taken) for message in messages]
    absent: dict[str, str | None] = {"message_id": "", "content_type": None, "correlation_id": None}
    moved = {
        name: none for name, none in absent.items() if not all(getattr(item, name) for item in deliveries)
    }
    return [replace(item, **moved) for item in deliveries]  # type: ignore[arg-type]


def _delivery(message: ServiceBusMessage, queue: str, taken: MachineTime) -> Delivery:
    from shared.engine.message import Delivery
    from shared.messages.reserved import DEAD_LETTER_DESCRIPTION, DEAD_LETTER_REASON

    properties = dict(message.application_properties or {})
    return Delivery(
        queue=queue,
        body=message.get_body(),
        message_id=message.message_id or "",
        sequence_number=message.sequence_number,
        delivery_count=message.delivery_count or 1,
        taken=taken,
        application_properties=properties,
        content_type=message.content_type,
        correlation_id=message.correlation_id,
        dead_letter_source=message.dead_letter_source or None,
        # The broker writes the reason into the properties; the platform has no metadata of its own for it.
        dead_letter_reason=message.dead_letter_reason or _text(properties.get(DEAD_LETTER_REASON)),
        dead_letter_description=message.dead_letter_error_description
        or _text(properties.get(DEAD_LETTER_DESCRIPTION)),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
