"""Application properties that only the app, the broker and operators set: no requester's value of one is believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

#: How often an operator has sent a message again.
EPOCH: Final = "epoch"
#: The queue that a message was in when it was put away.
ORIGINAL_QUEUE: Final = "originalQueue"
#: The message id that it had there.
ORIGINAL_MESSAGE_ID: Final = "originalMessageId"
#: Why it was put away: a word and a sentence.
REASON: Final = "reason"
DESCRIPTION: Final = "description"
#: Tells a body that is parked packed.
BODY_ENCODING: Final = "bodyEncoding"
#: Of a copy that a message was put back as: how often it has waited, and since when for the bus; whether it was
#: delivered before; how often it has died; the id of the first of its copies' originals.
WAITED: Final = "waited"
WAITING_SINCE: Final = "waitingSince"
DELIVERED: Final = "delivered"
DEATHS: Final = "deaths"
COPY_OF: Final = "copyOf"
#: The queue that gave up a dead letter, of a copy that it was put back as: a copy no longer has the broker's own word.
DEAD_LETTER_SOURCE: Final = "DeadLetterSource"
#: Where Service Bus says why it gave a message up
#: (https://learn.microsoft.com/azure/service-bus-messaging/service-bus-dead-letter-queues).
DEAD_LETTER_REASON: Final = "DeadLetterReason"
DEAD_LETTER_DESCRIPTION: Final = "DeadLetterErrorDescription"

_RESERVED: Final = frozenset(
    name.lower()
    for name in (
        EPOCH,
        ORIGINAL_QUEUE,
        ORIGINAL_MESSAGE_ID,
        REASON,
        DESCRIPTION,
        BODY_ENCODING,
        WAITED,
        WAITING_SINCE,
        DELIVERED,
        "schedule",
        "due",
        "scheduleDigest",
    )
)
#: `deaths` and `copyOf` are missing on purpose: a copy in a request queue bears them, and they can only end, or hide,
#: the message that bears them.
_RESERVED_PREFIX: Final = "deadletter"


def is_reserved(name: str) -> bool:
    """Whether an application property of this name has a meaning of the app's or the broker's, in any case."""
    lowered = name.lower()
    return lowered in _RESERVED or lowered.startswith(_RESERVED_PREFIX)


def without_reserved(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The properties that are the sender's own."""
    return {name: value for name, value in properties.items() if not is_reserved(name)}
