"""The whole app on a stepped clock, against a simulator that enforces Azure's limits."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import count
from typing import Any, Final

from local.estate import Estate, JsonObject
from local.simulator import SERVICE_LIMITS, Scenario

TICK: Final = timedelta(seconds=30)


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


class Fleet(Estate):
    """A running app; what it asked of Azure, and what it told."""

    def __init__(self, scenario: Scenario, settings: Mapping[str, str], *, batch: int) -> None:
        super().__init__(scenario, settings, batch=batch)
        self._numbers = count(1)

    def request(self, kind: str, data: JsonObject) -> None:
        number = next(self._numbers)
        event = {
            "specversion": "1.0",
            "type": f"sqlvmbackup.{kind}.requested.v1",
            "source": "/tests",
            "id": f"{kind}-{number}",
            "data": {"vaultId": self.vault_id, **data},
        }
        self.put(f"{kind}-requests", json.dumps(event).encode(), f"request-{number}")

    def back_up(self, database: str = "*") -> None:
        selector = {"instance": "MSSQLSERVER", "database": database}
        self.request("backup", {"databases": [selector], "backupType": "Full"})

    def run(self, *, at_most: timedelta | None = None, until: Callable[[], bool] = lambda: False) -> None:
        """Step from one due message to the next, until there is none."""
        self.step(until, until=None if at_most is None else self.clock.now() + at_most)

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
        return [
            event for event in self.events() if event["type"].split(".")[-2] not in ("accepted", "started")
        ]

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
    settings = {} if tick is None else {"TRACK_INTERVAL": tick}
    with Fleet(scenario, settings, batch=batch) as app:
        yield app
        assert app.host.failures == 0
