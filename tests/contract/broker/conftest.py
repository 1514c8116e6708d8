from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.broker.doors import Door, amqp_door, in_process_door, purge


@pytest.fixture(scope="package", params=["in-process", "amqp"])
def shared_door(request: pytest.FixtureRequest) -> Iterator[Door]:
    """One door for all cases: the SDK takes half a second to open a link."""
    with in_process_door() if request.param == "in-process" else amqp_door() as door:
        yield door


@pytest.fixture
def door(shared_door: Door) -> Iterator[Door]:
    """A door to a broker without messages and without memory of any."""
    yield shared_door
    purge(shared_door)
