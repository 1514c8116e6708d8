"""The broker's messages, counts and errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Final
from uuid import UUID

from shared.bus import BusError, BusUnavailableError, UnknownEntityError

__all__ = [
    "DEAD_LETTER_QUEUE",
    "MAX_MESSAGE_ID_LENGTH",
    "MAX_MESSAGE_SIZE",
    "BrokerError",
    "BrokerInUseError",
    "BrokerStorageError",
    "EntityCounts",
    "EntityNotFoundError",
    "IncomingMessage",
    "MessageLockLostError",
    "MessageNotFoundError",
    "MessageState",
    "PeekedMessage",
    "PropertyValue",
    "ReceivedMessage",
]

#: Bytes of one message, properties included (standard tier,
#: https://learn.microsoft.com/azure/service-bus-messaging/service-bus-quotas).
MAX_MESSAGE_SIZE: Final = 256 * 1024
MAX_MESSAGE_ID_LENGTH: Final = 128
#: The path, below a queue or a subscription, of its sub-queue for dead letters.
DEAD_LETTER_QUEUE: Final = "$deadletterqueue"

PropertyValue = str | int | bool | float | bytes | UUID | datetime | None


class BrokerError(BusError):
    """The broker refused what was asked of it; trying again would not help."""


class BrokerStorageError(BrokerError, BusUnavailableError):
    """The broker's file cannot be read or written now, for example on a full disk. The call did nothing."""


class EntityNotFoundError(BrokerError, UnknownEntityError):
    """No queue, topic or subscription of that name can do what was asked."""


class MessageLockLostError(BrokerError):
    """The lock has ended or never existed: the receiver can no longer settle the message."""


class MessageNotFoundError(BrokerError):
    """There is no such message in the entity (any more)."""


class BrokerInUseError(BrokerError):
    """The broker's file is open in another process."""


class MessageState(IntEnum):
    """The state of a message. The values are those of the broker's file, not those on the wire."""

    ACTIVE = 0  #: ready for a receiver
    SCHEDULED = 1  #: to appear in the queue later
    LOCKED = 2  #: with a receiver that has not settled it yet


@dataclass(frozen=True, kw_only=True, slots=True)
class IncomingMessage:
    """A message to be sent. `shared.bus.OutgoingMessage` has the part of it that the app uses."""

    body: bytes
    message_id: str | None = None  #: None: never a duplicate
    content_type: str | None = None
    subject: str | None = None
    correlation_id: str | None = None
    application_properties: Mapping[str, PropertyValue] = field(default_factory=dict)
    scheduled_for: datetime | None = None  #: aware; None: at once
    time_to_live: timedelta | None = None  #: None: as long as the entity keeps its messages


@dataclass(frozen=True, kw_only=True, slots=True)
class PeekedMessage:
    """A message in an entity, read without receiving it."""

    body: bytes
    message_id: str | None
    content_type: str | None
    subject: str | None
    correlation_id: str | None
    application_properties: Mapping[str, PropertyValue]
    sequence_number: int  #: counts up in this entity; a scheduled message gets a new one when it falls due
    enqueued_sequence_number: int  #: the sequence number in the entity it was first sent to
    enqueued_time: datetime  #: when it was accepted, or when it fell due
    scheduled_for: datetime | None
    delivery_count: int  #: how often it has been delivered to a receiver
    expires_at: datetime | None
    dead_letter_source: str | None  #: the entity that dead-lettered it, if it was forwarded
    state: MessageState

    @property
    def dead_letter_reason(self) -> str | None:
        """Why it was dead-lettered, as Service Bus keeps it: in application property `DeadLetterReason`."""
        return _text(self.application_properties.get("DeadLetterReason"))

    @property
    def dead_letter_description(self) -> str | None:
        """The description of the reason: application property `DeadLetterErrorDescription`."""
        return _text(self.application_properties.get("DeadLetterErrorDescription"))


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceivedMessage(PeekedMessage):
    """A message locked for one receiver, to be settled by its lock token before the lock ends."""

    lock_token: UUID
    locked_until: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class EntityCounts:
    """How many messages an entity holds; each is counted once."""

    active: int
    scheduled: int
    locked: int
    dead_lettered: int  #: in the entity's own sub-queue; forwarded ones are not counted


def _text(value: PropertyValue) -> str | None:
    return None if value is None else str(value)
