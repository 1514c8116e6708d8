"""The whole app on a stepped clock, against a simulator that enforces Azure's limits."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import function_app
from local.broker import Broker, InProcessBus
from local.host import Host, HostSettings, InProcessReceiver
from local.host.indexing import index
from local.simulator import SERVICE_LIMITS, Scenario, Simulator, SimulatorServer
from shared import composition
from shared.bus import OutgoingMessage
from shared.clock import SteppedClock

JsonObject = dict[str, Any]

TICK: Final = timedelta(seconds=30)
_OUTCOMES: Final = "job-outcomes/subscriptions/all"


def fleet(
    databases: int, *, backup: float | list[float] = 120, protected: bool = True, **more: Any
) -> Scenario:
    """So many databases of one VM, protected unless said otherwise; backups take `backup` seconds."""
    policy = {"protectedBy": "HourlyLogBackup"} if protected else {}
    machine: JsonObject = {
        "name": "sqlvm1",
        "instances": [
            {
                "name": "MSSQLSERVER",
                "databases": [{"name": f"db{number:04}", **policy} for number in range(databases)],
            }
        ],
    }
    if protected:
        machine["registeredTo"] = "vault1"
    return Scenario.model_validate(
        {
            "virtualMachines": [machine],
            "durations": {"backup": backup},
            "throttling": SERVICE_LIMITS,
            "scheduledBackups": False,
            **more,
        }
    )


@dataclass
class Fleet:
    """A running app; what it asked of Azure, and what it told."""

    clock: SteppedClock
    simulator: Simulator
    broker: Broker
    host: Host
    sent: int = 0

    def request(self, kind: str, data: JsonObject) -> None:
        self.sent += 1
        event = {
            "specversion": "1.0",
            "type": f"sqlvmbackup.{kind}.requested.v1",
            "source": "/tests",
            "id": f"{kind}-{self.sent}",
            "data": {"vaultId": self.simulator.vault_id(), **data},
        }
        message = OutgoingMessage(
            entity=f"{kind}-requests", body=json.dumps(event).encode(), message_id=f"request-{self.sent}"
        )
        self.broker.send(message.entity, [message])

    def back_up(self, database: str = "*") -> None:
        selector = {"instance": "MSSQLSERVER", "database": database}
        self.request("backup", {"databases": [selector], "backupType": "Full"})

    def run(self, *, at_most: timedelta | None = None, until: Callable[[], bool] = lambda: False) -> None:
        """Step from one due message to the next, until there is none."""
        end = None if at_most is None else self.clock.now() + at_most
        while not until():
            self.host.run_until_idle()
            due = self.broker.next_due()
            if due is None or (end is not None and due > end):
                break
            self.clock.advance_to(due)

    @property
    def calls(self) -> list[JsonObject]:
        return self.simulator.access_entries

    def count(self, *routes: str) -> int:
        """Calls of these routes, refused ones included; of all of them where none is named."""
        return sum(not routes or call["route"] in routes for call in self.calls)

    @property
    def refused(self) -> int:
        return sum(call["status"] == 429 for call in self.calls)

    def by_tick(self, route: str) -> Counter[int]:
        """How often a route was asked in each tick since the start."""
        began = self.simulator.scenario.start_time
        return Counter(
            (moment(call["time"]) - began) // TICK for call in self.calls if call["route"] == route
        )

    @property
    def outcomes(self) -> list[JsonObject]:
        found = []
        after = 0
        while messages := self.broker.peek(_OUTCOMES, from_sequence_number=after, max_messages=500):
            after = messages[-1].sequence_number + 1
            found += [json.loads(message.body) for message in messages]
        return [event for event in found if event["type"].split(".")[-2] not in ("accepted", "started")]

    @property
    def statuses(self) -> Counter[str]:
        return Counter(event["data"]["status"] for event in self.outcomes)

    @property
    def lateness(self) -> list[float]:
        """Seconds from each job's end to its outcome, in order."""
        return sorted(
            (moment(event["time"]) - moment(event["data"]["endTime"])).total_seconds()
            for event in self.outcomes
        )


def moment(text: str) -> datetime:
    """A moment of the simulator or of an event; the service writes up to seven digits of a second."""
    head, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{head}.{fraction:0<6.6}+00:00")


@contextmanager
def open_fleet(scenario: Scenario, *, batch: int = 200, tick: str | None = None) -> Iterator[Fleet]:
    """A running app. `tick`: its TRACK_INTERVAL, where that is not to be the default."""
    clock = SteppedClock(scenario.start_time)
    simulator = Simulator(scenario, clock=clock)
    with SimulatorServer(simulator) as server, Broker(None, clock=clock) as broker:
        environment = {"ARM_ENDPOINT": server.url} | ({"TRACK_INTERVAL": tick} if tick is not None else {})
        runtime = composition.build(environment, bus=InProcessBus(broker), clock=clock)
        composition.install(runtime)
        host = Host(
            index(function_app.app),
            InProcessReceiver(broker),
            settings=HostSettings(max_message_batch_size=batch),
            clock=clock,
            timers=False,
        )
        try:
            yield Fleet(clock, simulator, broker, host)
            assert host.failures == 0
        finally:
            composition.install(None)
            runtime.backup.close()
