"""Where the host receives messages from: the embedded broker, or a Service Bus namespace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from local.broker import Broker, ReceivedMessage

__all__ = ["InProcessReceiver", "Receiver"]


class Receiver(Protocol):
    """Receives and settles messages of any entity. Safe to share between threads.

    An exception concerns only the one call; the host logs it and goes on.
    """

    def receive(self, entity: str, max_messages: int) -> Sequence[ReceivedMessage]:
        """Lock available messages, oldest first, without waiting."""
        ...

    def complete(self, entity: str, lock_token: UUID) -> None:
        """Settle a message as done."""
        ...

    def abandon(self, entity: str, lock_token: UUID) -> None:
        """Give a message back for another delivery."""
        ...

    def renew(self, entity: str, lock_token: UUID) -> datetime:
        """Lock a message anew; returns when that lock ends."""
        ...

    def next_due(self) -> datetime | None:
        """When to look again without a notification; None: only on a notification."""
        ...

    def add_listener(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have `listener` called, on any thread, when there may be messages; returns a function that removes it."""
        ...


class InProcessReceiver:
    """The embedded broker's messages."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def receive(self, entity: str, max_messages: int) -> Sequence[ReceivedMessage]:
        return self._broker.receive(entity, max_messages)

    def complete(self, entity: str, lock_token: UUID) -> None:
        self._broker.complete(entity, lock_token)

    def abandon(self, entity: str, lock_token: UUID) -> None:
        self._broker.abandon(entity, lock_token)

    def renew(self, entity: str, lock_token: UUID) -> datetime:
        return self._broker.renew_lock(entity, lock_token)

    def next_due(self) -> datetime | None:
        return self._broker.next_due()

    def add_listener(self, listener: Callable[[], None]) -> Callable[[], None]:
        return self._broker.add_listener(listener)
