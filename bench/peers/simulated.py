"""A peer of the app against a simulator of its own, on a stepped clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TypeVar

from bench.peers.az import AzCalls
from bench.peers.sdk import SdkScript
from bench.virtual_time import VirtualThreads
from local.simulator import Scenario, Simulator, SimulatorServer
from local.stepped_clock import SteppedClock

CONTAINER = "VMAppContainer;compute;rg-sql;sqlvm1"

Peer = TypeVar("Peer", SdkScript, AzCalls)


@contextmanager
def simulated(
    peer: Callable[[Simulator, SimulatorServer, VirtualThreads], Peer], scenario: Scenario
) -> Iterator[tuple[Peer, Simulator, SteppedClock]]:
    """The peer, its simulator and the clock of both."""
    clock = SteppedClock(scenario.start_time)
    simulator = Simulator(scenario, clock=clock)
    with (
        SimulatorServer(simulator) as server,
        closing(peer(simulator, server, VirtualThreads(clock))) as calls,
    ):
        yield calls, simulator, clock


def item_names(count: int) -> list[str]:
    """The names of the first items of the VM's databases."""
    return [f"SQLDataBase;mssqlserver;db{number:04}" for number in range(count)]
