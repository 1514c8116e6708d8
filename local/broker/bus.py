"""The app's bus on a broker of this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from local.broker.broker import Broker
from shared.bus import OutgoingMessage

__all__ = ["InProcessBus"]


class InProcessBus:
    """`shared.bus.Bus` on a broker in this process. Safe to share between threads. Its errors are the broker's."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def send(self, messages: Sequence[OutgoingMessage]) -> None:
        """Send all messages; those for one entity are accepted together or not at all.

        Raises:
            MessageTooLargeError: a message is over the broker's limit.
            BusError: an entity is unknown, or Service Bus would not take a message.
        """
        by_entity: dict[str, list[OutgoingMessage]] = {}
        for message in messages:
            by_entity.setdefault(message.entity, []).append(message)
        for entity, batch in by_entity.items():
            self._broker.send(entity, batch)

    def peek(self, queue: str) -> Iterator[bytes]:
        """The bodies of all messages in a queue. Raises BusError if there is no such queue."""
        start = 0
        while page := self._broker.peek(queue, start):
            yield from (message.body for message in page)
            start = page[-1].sequence_number + 1
