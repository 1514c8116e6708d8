"""The whole app on a stepped clock: its functions, the embedded broker and host, the simulator over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bench.estate import VAULT
from local.broker import Broker, InProcessBus
from local.estate import Estate, ask_by_hand
from local.host import InProcessReceiver
from local.simulator import Scenario, Simulator
from local.stepped_clock import SteppedClock
from shared import composition
from shared.bus import OutgoingMessage
from shared.engine.runtime import Runtime

TOPIC = "job-outcomes"
_STARTED = ("accepted", "started")


@dataclass(frozen=True)
class Outcome:
    """An outcome, and when the broker received it."""

    at: datetime
    event: dict[str, Any]

    @property
    def status(self) -> str:
        return str(self.event["data"]["status"])

    @property
    def lateness(self) -> float | None:
        """Seconds from the job's end to the outcome."""
        end = self.event["data"].get("endTime")
        return None if end is None else (self.at - datetime.fromisoformat(end)).total_seconds()


class RecordingBus:
    """The in-process bus; remembers each outcome and the size of what goes to the tracker."""

    def __init__(self, broker: Broker, clock: SteppedClock) -> None:
        self._bus = InProcessBus(broker)
        self._clock = clock
        self._lock = threading.Lock()
        self.outcomes: list[Outcome] = []
        self.watch: Callable[[OutgoingMessage], None] | None = None

    def peek(self, queue: str) -> Iterable[bytes]:
        return self._bus.peek(queue)

    def send(self, messages: Sequence[OutgoingMessage]) -> None:
        self._bus.send(messages)
        now = self._clock.now()
        with self._lock:
            for message in messages:
                if self.watch is not None:
                    self.watch(message)
                if message.entity == TOPIC:
                    event = json.loads(message.body)
                    if event["type"].split(".")[-2] not in _STARTED:
                        self.outcomes.append(Outcome(now, event))


class App(Estate):
    """Runs requests to their outcomes without waiting: the clock is stepped from one due message to the next."""

    most_steps = 10_000_000
    bus: RecordingBus

    def __init__(self, scenario: Scenario, *, trackers: int = 1) -> None:
        super().__init__(scenario)
        #: instances of the tracker, each with its own listings; they take turns with the batches
        self._trackers = trackers
        self._runtimes: list[Runtime] = []
        self.executions = 0
        self.track_calls = 0
        self.track_messages = 0
        self.steps = 0
        self._sent = 0

    def start(self) -> None:
        """Start the app and its trackers."""
        super().start()
        self._runtimes = [self.runtime, *(self.build() for _ in range(self._trackers - 1))]

    def open_bus(self) -> RecordingBus:
        """The bus that remembers outcomes."""
        return RecordingBus(self.broker, self.clock)

    def open_receiver(self) -> InProcessReceiver:
        """The receiver that counts deliveries."""
        return _CountingReceiver(self.broker, self)

    @property
    def outcomes(self) -> list[Outcome]:
        return self.bus.outcomes

    def request(self, kind: str, data: dict[str, Any]) -> None:
        """Send one request of that kind."""
        self._sent += 1
        event = {
            "specversion": "1.0",
            "type": f"sqlvmbackup.{kind}.requested.v1",
            "source": "bench",
            "id": f"{kind}-{self._sent}",
            "data": {"vaultId": self.vault_id, **data},
        }
        self.put(f"{kind}-requests", json.dumps(event).encode(), f"bench-{self._sent}")

    def protect_all(self, **more: Any) -> None:
        """Protect every database of the first VM."""
        self.request(
            "protect",
            {
                "vmId": self.vm_id("sqlvm1"),
                "policyName": "HourlyLogBackup",
                "databases": [{"instance": "MSSQLSERVER", "database": "*"}],
                **more,
            },
        )

    def back_up_all(self, **more: Any) -> None:
        """Back up every database of the vault."""
        self.request(
            "backup", {"databases": [{"instance": "*", "database": "*"}], "backupType": "Full", **more}
        )

    def back_up(self, *names: str) -> None:
        """Back up these databases of the default instance, by one request."""
        databases = [{"instance": "MSSQLSERVER", "database": name} for name in names]
        self.request("backup", {"databases": databases, "backupType": "Full"})

    def next_tracker(self) -> None:
        """Give the next batch of polls to another instance, if there are several."""
        self._runtimes.append(self._runtimes.pop(0))
        composition.install(self._runtimes[0])

    def run(self, *, at_most: timedelta | None = None) -> None:
        """Run until nothing is left to do, or `at_most` has passed."""
        end = self.clock.now() + at_most if at_most is not None else None
        self.step(until=end)
        if end is not None and self.broker.next_due():
            self.clock.advance_to(end)


def back_up_by_hand(simulator: Simulator, vm: str, database: str) -> bool:
    """Start a backup as somebody else does: an app sees it only among the vault's jobs. Returns whether the service's
    limits allowed it.
    """
    item = (
        f"{VAULT}/backupFabrics/Azure/protectionContainers/VMAppContainer;compute;rg-sql;{vm}"
        f"/protectedItems/SQLDataBase;mssqlserver;{database}/backup"
    )
    body = {"properties": {"objectType": "AzureWorkloadBackupRequest", "backupType": "Full"}}
    answer = ask_by_hand(simulator, "POST", item, body)
    assert answer.status in (202, 429), answer.body
    return answer.status == 202


def at(entry: dict[str, Any]) -> datetime:
    """When a line of the access log was written."""
    return datetime.fromisoformat(entry["time"])


def busiest_hour(moments: Sequence[datetime]) -> int:
    """The most of these moments, given in order, that lie in any one hour."""
    most = first = 0
    for last, moment in enumerate(moments):
        while moment - moments[first] >= timedelta(hours=1):
            first += 1
        most = max(most, last - first + 1)
    return most


class _CountingReceiver(InProcessReceiver):
    def __init__(self, broker: Broker, app: App) -> None:
        super().__init__(broker)
        self._app = app

    def receive(self, entity: str, max_messages: int) -> Any:
        messages = super().receive(entity, max_messages)
        if messages:
            self._app.executions += 1
            self._app.steps += len(messages)
        if entity == "track" and messages:
            self._app.next_tracker()
            self._app.track_calls += 1
            self._app.track_messages += len(messages)
        return messages
