"""The app's functions on the broker, without Azure: for what happens before Azure is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from local.broker import Broker, InProcessBus, PeekedMessage
from local.stepped_clock import SteppedClock
from shared import composition
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
def open_app(settings: Mapping[str, str] | None = None, start: datetime = NOW) -> Iterator[App]:
    clock = SteppedClock(start)
    with Broker(None, clock=clock) as broker:
        # Port 9 discards: nothing listens there.
        environment = {"ARM_ENDPOINT": "http://127.0.0.1:9", **(settings or {})}
        yield App(broker, clock, composition.build(environment, bus=InProcessBus(broker), clock=clock))
