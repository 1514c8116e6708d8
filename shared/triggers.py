"""What a trigger function calls: reads the platform's message and hands it to the workflow.

Everything heavy is imported on the first message, not when the platform indexes the app.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from shared.clock import SystemClock

if TYPE_CHECKING:
    from azure.functions import ServiceBusMessage

    from shared.composition import Runtime
    from shared.settings import SettingsError
    from shared.workflow.parking import Delivery

_log: Final = logging.getLogger(__name__)


def run_step(name: str, message: ServiceBusMessage) -> None:
    """Handle one message of the step `name`."""
    from shared.workflow.delivery import handle
    from shared.workflow.table import STEPS

    definition = STEPS[name]
    _with_runtime(message, definition.queue, lambda delivery, runtime: handle(definition, delivery, runtime))


def run_tracker(messages: Sequence[ServiceBusMessage]) -> None:
    """Handle a batch of the tracker's messages, each on its own."""
    from shared import composition
    from shared.settings import SettingsError
    from shared.workflow.tracker import handle_batch

    try:
        runtime = composition.runtime()
    except SettingsError as error:
        for message in messages:
            _wait_for_settings(_delivery(message, "track", SystemClock().now()), error)
        return
    now = runtime.clock.now()
    handle_batch([_delivery(message, "track", now) for message in messages], runtime)


def take_request(operation: str, queue: str, message: ServiceBusMessage) -> None:
    """Take one request from its queue."""
    from shared.messages.requests import Operation
    from shared.workflow.receive import receive_request

    expected = Operation(operation)
    _without_effect(message, queue, lambda delivery, runtime: receive_request(delivery, runtime, expected))


def route_event(message: ServiceBusMessage) -> None:
    """Route one event of another system."""
    from shared.workflow.receive import receive_event

    _without_effect(message, "events", receive_event)


def report(message: ServiceBusMessage) -> None:
    """Answer and park one dead letter."""
    from shared.workflow.dead_letters import report_dead_letter

    _without_effect(message, "dead-letters", report_dead_letter)


def plan(*, past_due: bool) -> None:
    """Plan the scheduled backups of the next day."""
    from shared.workflow.planning import plan_backups

    if past_due:
        _log.info(
            "the timer fires late; what was planned before is on its way", extra={"action": "plan_backups"}
        )
    from shared import composition

    plan_backups(composition.runtime())


def _without_effect(
    message: ServiceBusMessage, queue: str, handler: Callable[[Delivery, Runtime], None]
) -> None:
    from shared.workflow.delivery import handle_without_effect

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
    """Settings that cannot be used are the operator's to mend: the message comes back until they are."""
    from shared import composition
    from shared.workflow.parking import wait_for_operator

    _log.error(
        "the settings cannot be used: %s", error, extra={"action": "settings", "queue": delivery.queue}
    )
    wait_for_operator(delivery, composition.connected_bus(), SystemClock().now())


def _delivery(message: ServiceBusMessage, queue: str, taken: datetime) -> Delivery:
    from shared.workflow.parking import Delivery

    locked_until: Any = message.locked_until
    if isinstance(locked_until, datetime) and locked_until.tzinfo is None:
        locked_until = locked_until.replace(tzinfo=UTC)
    properties = dict(message.application_properties or {})
    # The platform gives what the broker says of a dead letter as attributes, not as properties.
    for name, value in (
        ("DeadLetterReason", message.dead_letter_reason),
        ("DeadLetterErrorDescription", message.dead_letter_error_description),
        ("DeadLetterSource", message.dead_letter_source),
    ):
        if value and name not in properties:
            properties[name] = value
    return Delivery(
        queue=queue,
        body=message.get_body(),
        message_id=message.message_id or "",
        delivery_count=message.delivery_count or 1,
        locked_until=locked_until,
        taken=taken,
        application_properties=properties,
        content_type=message.content_type,
        correlation_id=message.correlation_id,
    )
