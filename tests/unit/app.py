"""The app's functions on the broker, without Azure: for what happens before Azure is asked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from local.broker import Broker, InProcessBus, PeekedMessage
from local.stepped_clock import SteppedClock
from shared import composition
from shared.bus import BusError, MessageTooLargeError, OutgoingMessage
from shared.clock import ServiceTime
from shared.engine.message import Delivery
from shared.engine.runtime import Runtime
from tests.unit.examples import NOW

OUTCOMES = "job-outcomes/subscriptions/all"


@dataclass(frozen=True)
class App:
    """A runtime whose Azure nobody asks, on a broker whose queues can be looked into."""

    broker: Broker
    clock: SteppedClock
    runtime: Runtime

    def delivery(self, queue: str, body: Any, **details: Any) -> Delivery:
        """A message as the platform hands it over."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return Delivery(queue=queue, body=raw, taken=self.clock.now(), **{"message_id": "m1", **details})

    def held(self, entity: str) -> list[PeekedMessage]:
        return self.broker.peek(entity)

    def taken(self, entity: str) -> bytes:
        """The one message that is due, which is then gone."""
        (message,) = self.broker.receive(entity, 10)
        self.broker.complete(entity, message.lock_token)
        return message.body

    def bodies(self, entity: str) -> list[dict[str, Any]]:
        return [json.loads(message.body) for message in self.held(entity)]


@contextmanager
def open_app(
    settings: Mapping[str, str] | None = None, start: datetime = NOW, *, answered: bool = False
) -> Iterator[App]:
    """An app on a broker of its own. `answered`: Azure has told it the time."""
    clock = SteppedClock(start)
    with Broker(None, clock=clock) as broker:
        # Port 9 discards: nothing listens there.
        environment = {"ARM_ENDPOINT": "http://127.0.0.1:9", **(settings or {})}
        runtime = composition.build(environment, bus=InProcessBus(broker), clock=clock)
        if answered:
            runtime.service_clock.answered(ServiceTime(start))
        yield App(broker, clock, runtime)


class RefusingBus:
    """The app's bus, but that it refuses what is for some entities."""

    def __init__(self, app: App, error: BusError, *entities: str) -> None:
        self._bus = app.runtime.bus
        self._error = error
        self._entities = entities

    def send(self, messages: Sequence[OutgoingMessage]) -> None:
        if any(message.entity in self._entities for message in messages):
            raise self._error
        self._bus.send(messages)

    def peek(self, queue: str) -> Iterable[bytes]:
        return self._bus.peek(queue)


def refusing(app: App, error: BusError, *entities: str) -> Runtime:
    """The app's runtime, on a bus that refuses what is for these entities."""
    return replace(app.runtime, bus=RefusingBus(app, error, *entities))


class RecordingBus:
    """Writes down what it is sent; takes no message that is larger than this, and nothing for some tries."""

    def __init__(self, *, largest: int = 10**6, refusals: Sequence[BusError] = ()) -> None:
        self.sent: list[OutgoingMessage] = []
        self._largest = largest
        self._refusals = [*refusals]

    def send(self, messages: Sequence[OutgoingMessage]) -> None:
        if self._refusals:
            raise self._refusals.pop(0)
        if any(len(message.body) > self._largest for message in messages):
            raise MessageTooLargeError("too large")
        self.sent += messages

    def peek(self, queue: str) -> list[bytes]:
        return [message.body for message in self.sent if message.entity == queue]
