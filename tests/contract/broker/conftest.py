from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.broker.clients import BrokerClient, amqp_client, in_process_client, purge


@pytest.fixture(scope="package", params=["in-process", "amqp"])
def shared_client(request: pytest.FixtureRequest) -> Iterator[BrokerClient]:
    """One client for all cases: the SDK takes half a second to open a link."""
    with in_process_client() if request.param == "in-process" else amqp_client() as client:
        yield client


@pytest.fixture
def client(shared_client: BrokerClient) -> Iterator[BrokerClient]:
    """A client of a broker that has no messages and remembers none."""
    yield shared_client
    purge(shared_client)
