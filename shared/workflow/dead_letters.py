"""Dead letters: what the broker gave up is answered and parked, so that nobody waits for ever.

Changes with what the broker gives up, and what it says of it.
"""

from __future__ import annotations

import logging
from typing import Final

from pydantic import ValidationError

from shared.bus import OutgoingMessage
from shared.composition import Runtime
from shared.messages.cloud_events import InvalidMessageError, read_json
from shared.messages.events import ErrorInfo, Status
from shared.messages.steps import RestorePlan, Tracking
from shared.workflow.answers import outcome_of_body
from shared.workflow.delivery import outgoing, read_message
from shared.workflow.failures import end
from shared.workflow.parking import Delivery, park
from shared.workflow.step import StepDefinition
from shared.workflow.table import STEPS
from shared.workflow.workflows import WORKFLOW_STEPS

_log: Final = logging.getLogger(__name__)

#: What Service Bus says of a message whose time to live has passed.
_EXPIRED: Final = "TTLExpiredException"


def report_dead_letter(delivery: Delivery, runtime: Runtime) -> None:
    """Answer the requester of a dead letter, and park the original for `sqlvmbackup replay`."""
    reason = _text(delivery, "DeadLetterReason", "DeadLettered")
    description = _text(delivery, "DeadLetterErrorDescription", "the broker gave the message up")
    queue = _text(delivery, "DeadLetterSource", delivery.queue)
    _log.error(
        "a dead letter is parked",
        extra={
            "action": "report_dead_letter",
            "queue": queue,
            "reason": reason,
            "message_id": delivery.message_id,
        },
    )
    if reason == _EXPIRED:
        info = ErrorInfo(
            code="MessageExpired",
            message=f"the message's own time to live passed while it was in queue {queue}; it is kept in"
            " parked-messages: replay it if it is still wanted.",
        )
    else:
        info = ErrorInfo(
            code="failed_internal",
            message=f"a message of queue {queue} could not be handled ({reason}: {description[:500]}); it is kept"
            " in parked-messages: find the cause in the log, then replay it.",
        )
    definition = STEPS.get(queue.replace("-", "_"))
    answer = _given_up(definition, delivery, runtime, info) if definition is not None else None
    if answer is None:
        answer = [outcome_of_body(delivery, info, at=runtime.service_clock.now(), queue=queue).to_message()]
    runtime.bus.send([*answer, park(delivery, reason, description, queue=queue)])


def _text(delivery: Delivery, name: str, default: str) -> str:
    value = delivery.application_properties.get(name)
    return value if isinstance(value, str) and value else default


def _given_up(
    definition: StepDefinition, delivery: Delivery, runtime: Runtime, info: ErrorInfo
) -> list[OutgoingMessage] | None:
    """The answer for a database whose message the broker gave up, dropped where a delivery of it had gone on.

    None where the message is about no database, or cannot be read.
    """
    try:
        raw = read_json(delivery.body)
        message = read_message(definition, raw) if isinstance(raw, dict) else None
        if message is None or message.database is None or isinstance(message.payload, RestorePlan):
            return None
    except (InvalidMessageError, ValidationError):
        return None
    origin = message.payload.origin if isinstance(message.payload, Tracking) else message.step
    if message.step != definition.name or origin not in WORKFLOW_STEPS:
        return None
    request = message.request.model_copy(
        update={"epoch": max(delivery.epoch, message.request.epoch)},
    )
    effect = message.effect.model_copy(update={"may_have_started": True})
    message = message.model_copy(update={"request": request, "effect": effect})
    return outgoing(end(message, runtime, Status.UNKNOWN, info), runtime)
