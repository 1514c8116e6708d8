"""The bus: the interface that the app sends through, whichever broker is behind it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from shared.clock import MachineTime

__all__ = [
    "Bus",
    "BusError",
    "BusUnavailableError",
    "MessageTooLargeError",
    "OutgoingMessage",
    "Transport",
    "UnknownEntityError",
]


class Transport(Enum):
    """How to connect to a namespace."""

    AMQP = "amqp"  #: AMQP over TLS, port 5671
    AMQP_WEB_SOCKETS = "amqpWebSockets"  #: the same inside a WebSocket, port 443


@dataclass(frozen=True, kw_only=True)
class OutgoingMessage:
    """One message to a queue or a topic."""

    entity: str  #: name of the queue or topic
    body: bytes
    message_id: str  #: at most 128 characters; what duplicate detection compares
    content_type: str = "application/json"
    subject: str | None = None
    correlation_id: str | None = None
    application_properties: Mapping[str, str | int | bool] = field(default_factory=dict)
    scheduled_for: MachineTime | None = None  #: aware; None: at once


class BusError(Exception):
    """The bus refused a message for good; sending it again would not help."""


class BusUnavailableError(BusError):
    """The bus cannot be reached or is busy; the same messages may be sent again."""


class MessageTooLargeError(BusError):
    """One message is larger than the broker accepts."""


class UnknownEntityError(BusError):
    """There is no queue or topic of that name."""


class Bus(Protocol):
    """Sends messages, and looks into queues. Safe to share between threads."""

    def send(self, messages: Sequence[OutgoingMessage]) -> None:
        """Send all messages, in batches per entity, in the given order for each entity.

        When it returns, the broker has accepted every message. When it raises, some may have been
        accepted: sending the same again is safe, since every entity detects duplicates.

        Raises:
            MessageTooLargeError: one message alone is over the broker's limit; it was not sent.
            BusUnavailableError: the broker cannot be reached or is busy.
            BusError: the broker refused (unknown entity, no permission).
        """
        ...

    def peek(self, queue: str) -> Iterable[bytes]:
        """The bodies of all messages in a queue, including scheduled and locked ones; none is removed.

        Raises, while they are read:
            BusUnavailableError: the broker cannot be reached or is busy.
            UnknownEntityError: there is no such queue.
            BusError: the broker refused (no permission).
        """
        ...
