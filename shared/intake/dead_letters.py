"""Dead letters: messages that the broker gave up are answered and parked, so that nobody waits for ever.

The platform says which queue a dead letter comes from; the message itself is never believed about that.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from shared.bus.topology import INTERNAL_QUEUES, REPLAYS, REQUEST_QUEUES
from shared.engine.answers import answer_nobody
from shared.engine.message import Delivery
from shared.engine.parked import park
from shared.engine.run import given_up, has_died_too_often
from shared.engine.runtime import Runtime
from shared.engine.telemetry import delivery_context
from shared.intake.answers import answer_request
from shared.intake.replays import original
from shared.log import logger
from shared.messages.cloud_events import InvalidMessageError
from shared.messages.error_codes import ErrorCode
from shared.messages.events import ErrorInfo, Status
from shared.messages.reserved import DELIVERED

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
        answered = given_up(lost, runtime, info)
    elif lost.queue in REQUEST_QUEUES:
        answered = [answer_request(lost, info, runtime, status=Status.FAILED).to_message()]
    else:
        answered = [answer_nobody(lost, info, runtime).to_message()]
    runtime.bus.send([*answered, park(lost, reason, description)])


def _as_it_was(delivery: Delivery) -> Delivery:
    """The delivery, as it was in the queue that gave it up; for a replay, in the queue that it was to go to."""
    queue = (delivery.dead_letter_source or delivery.queue).lower()
    properties = dict(delivery.application_properties)
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
