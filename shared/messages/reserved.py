"""Application properties that only the app, the broker and operators set: values from requesters are ignored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

#: How often an operator has sent a message again.
EPOCH: Final = "epoch"
#: The queue that a message was in when it was parked.
ORIGINAL_QUEUE: Final = "originalQueue"
#: The message id that it had there.
ORIGINAL_MESSAGE_ID: Final = "originalMessageId"
#: Why it was parked: a word and a sentence.
REASON: Final = "reason"
DESCRIPTION: Final = "description"
#: Marks a parked body that is compressed.
BODY_ENCODING: Final = "bodyEncoding"
#: Of a copy that was put back into its queue: how often it has waited, and since when for the bus; whether it was
#: delivered before; how often it has died; the id of the very first original.
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
#: `deaths` and `copyOf` are missing on purpose: a copy in a request queue carries them, and a forged value can only
#: end, or hide, the sender's own message.
_RESERVED_PREFIX: Final = "deadletter"


def is_reserved(name: str) -> bool:
    """Whether the app or the broker gives an application property of this name, in any case, a meaning."""
    lowered = name.lower()
    return lowered in _RESERVED or lowered.startswith(_RESERVED_PREFIX)


def without_reserved(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The sender's own properties."""
    return {name: value for name, value in properties.items() if not is_reserved(name)}
