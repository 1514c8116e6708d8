"""Dead letters: messages that the broker gave up are answered and parked, so that nobody waits for ever.

Where it comes from is the platform's word, never the message's; only a copy, which the app alone can have sent to
`dead-letters`, bears that word as a property. Changes with what the broker gives up, and what it says of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from shared.bus.topology import INTERNAL_QUEUES, REPLAYS, REQUEST_QUEUES
from shared.engine.message import Delivery
from shared.engine.parking import answer_nobody, final_answers, has_died_too_often, park
from shared.engine.runtime import Runtime
from shared.engine.telemetry import delivery_context
from shared.intake.replays import original
from shared.intake.request_answers import answer_request
from shared.messages.cloud_events import InvalidMessageError
from shared.messages.error_codes import ErrorCode
from shared.messages.events import ErrorInfo, Status
from shared.messages.reserved import DEAD_LETTER_SOURCE, DELIVERED
from shared.telemetry.log import logger

_log: Final = logger(__name__)

#: The reason that Service Bus gives for a message whose time to live has passed.
_EXPIRED: Final = "TTLExpiredException"


def report_dead_letter(delivery: Delivery, runtime: Runtime) -> None:
    """Answer the requester of a dead letter, and park the original for `sqlvmbackup replay`."""
    reason = delivery.dead_letter_reason or "DeadLettered"
    description = delivery.dead_letter_description or "the broker gave the message up"
    lost = _as_it_was(delivery)
    _log.error(
        "a dead letter is parked",
        extra=delivery_context(lost, "report_dead_letter", reason=reason, description=description),
    )
    if reason == _EXPIRED:
        info = ErrorInfo(
            code=ErrorCode.MESSAGE_EXPIRED,
            message=f"the message's own time to live passed while it was in queue {lost.queue}; it is kept in"
            " parked-messages: replay it if it is still wanted.",
        )
    else:
        info = ErrorInfo(
            code=ErrorCode.FAILED_INTERNAL,
            message=f"a message of queue {lost.queue} could not be handled ({reason}: {description[:500]}); it is"
            " kept in parked-messages: find the cause in the log, then replay it.",
        )
    if has_died_too_often(delivery):
        # Answering it is what kills the process.
        answered = []
    elif lost.queue in INTERNAL_QUEUES:
        answered = final_answers(lost, runtime, info)
    elif lost.queue in REQUEST_QUEUES:
        answered = [answer_request(lost, info, runtime, status=Status.FAILED).to_message()]
    else:
        answered = [answer_nobody(lost, info, runtime).to_message()]
    runtime.bus.send([*answered, park(lost, reason, description)])


def _as_it_was(delivery: Delivery) -> Delivery:
    """The message in the queue that gave it up; a replay in the queue that it was to go to."""
    properties = dict(delivery.application_properties)
    # What the broker has moved here always has its word, so a sender's property of that name is never looked at.
    source = delivery.dead_letter_source or properties.get(DEAD_LETTER_SOURCE)
    queue = (source if isinstance(source, str) and source else delivery.queue).lower()
    if queue in INTERNAL_QUEUES and delivery.dead_letter_reason != _EXPIRED:
        # It was delivered as often as the queue allows.
        properties[DELIVERED] = True
    lost = replace(delivery, queue=queue, delivery_count=1, application_properties=properties)
    if lost.queue != REPLAYS:
        return lost
    try:
        return original(lost)
    except InvalidMessageError:
        return lost
