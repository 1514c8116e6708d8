"""A broker with the semantics of Service Bus, for running the app without a namespace.

`broker` has the calls; each works on the `store` by one of `enqueueing`, `duplicate_detection`, `scheduled_messages`,
`message_locks`, `expiration` and `dead_letters`. `storage` is the file, `rows` what is in it. The app sends through
`bus`; other processes reach the broker by AMQP (`amqp`).
"""

from local.broker.broker import Broker
from local.broker.bus import InProcessBus
from local.broker.model import (
    DEAD_LETTER_QUEUE,
    MAX_MESSAGE_SIZE,
    BrokerError,
    BrokerInUseError,
    BrokerStorageError,
    EntityCounts,
    EntityNotFoundError,
    IncomingMessage,
    MessageLockLostError,
    MessageNotFoundError,
    MessageState,
    PeekedMessage,
    PropertyValue,
    ReceivedMessage,
)

__all__ = [
    "DEAD_LETTER_QUEUE",
    "MAX_MESSAGE_SIZE",
    "Broker",
    "BrokerError",
    "BrokerInUseError",
    "BrokerStorageError",
    "EntityCounts",
    "EntityNotFoundError",
    "InProcessBus",
    "IncomingMessage",
    "MessageLockLostError",
    "MessageNotFoundError",
    "MessageState",
    "PeekedMessage",
    "PropertyValue",
    "ReceivedMessage",
]
