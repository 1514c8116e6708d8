"""A broker with the semantics of Service Bus, for running the app without a namespace."""

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
