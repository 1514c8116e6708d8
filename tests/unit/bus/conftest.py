"""A broker, and the amqp_server by which the SDK reaches it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.broker import Broker
from local.broker.amqp import AmqpServer
from tests.amqp import serving_amqp


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker(None) as broker:
        yield broker


@pytest.fixture
def amqp_server(broker: Broker) -> Iterator[AmqpServer]:
    with serving_amqp(broker) as amqp_server:
        yield amqp_server
