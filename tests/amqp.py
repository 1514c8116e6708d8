"""Brokers as Azure's SDK reaches them: by AMQP."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from local.broker import Broker
from local.broker.amqp import AmqpServer


@contextmanager
def serving_amqp(broker: Broker) -> Iterator[AmqpServer]:
    """An AMQP server for a broker. What the SDK's clients leave open is collected with it."""
    with AmqpServer(broker) as server:
        yield server
    # The SDK's `AMQPClient.close` leaves a connection open whose session did not begin, or whose link did not close.
    # Collected later, its socket would fail a test that has nothing to do with it.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
