"""Parking: a message that could not be handled is kept whole, so that it can be shown and replayed."""

from __future__ import annotations

from typing import Final

from shared.bus import OutgoingMessage
from shared.bus.topology import INTERNAL_QUEUES, PARKED_MESSAGES
from shared.engine.message import Delivery, plain
from shared.messages.cloud_events import InvalidMessageError, read_json
from shared.messages.identity import MOST_EPOCHS, fingerprint
from shared.messages.parked_body import packed
from shared.messages.reserved import (
    COPY_OF,
    DEATHS,
    DELIVERED,
    DESCRIPTION,
    EPOCH,
    ORIGINAL_MESSAGE_ID,
    ORIGINAL_QUEUE,
    REASON,
    without_reserved,
)

_LONGEST_DESCRIPTION: Final = 1024


def park(delivery: Delivery, reason: str, description: str) -> OutgoingMessage:
    """The message for `parked-messages` that holds the whole original of one that could not be handled."""
    epoch = max(delivery.epoch, _epoch_in(delivery))
    kept = plain(without_reserved(delivery.application_properties))
    kept.pop(DEATHS, None)
    kept.pop(COPY_OF, None)
    if delivery.delivered_before:
        # Whoever replays it has to know that an earlier delivery may have worked on it.
        kept[DELIVERED] = True
    body, encoding = packed(delivery.body)
    return OutgoingMessage(
        entity=PARKED_MESSAGES,
        body=body,
        message_id=fingerprint("parked", delivery.queue, delivery.identity, delivery.body.hex(), epoch),
        content_type=delivery.content_type or "application/json",
        correlation_id=delivery.correlation_id,
        application_properties={
            **kept,
            REASON: reason,
            DESCRIPTION: description[:_LONGEST_DESCRIPTION],
            ORIGINAL_QUEUE: delivery.queue,
            ORIGINAL_MESSAGE_ID: delivery.message_id,
            EPOCH: epoch,
            **encoding,
        },
    )


def _epoch_in(delivery: Delivery) -> int:
    """The epoch in the body of a message between steps; 0 for any other message."""
    if delivery.queue not in INTERNAL_QUEUES:
        return 0
    try:
        raw = read_json(delivery.body)
    except InvalidMessageError:
        return 0
    request = raw.get("request") if isinstance(raw, dict) else None
    epoch = request.get("epoch") if isinstance(request, dict) else None
    return epoch if type(epoch) is int and epoch in range(MOST_EPOCHS + 1) else 0
