"""P7: steps per second of one process, 100 ms from ARM, with the embedded broker in process."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.estate import estate
from bench.p5_step import backup_task, step_body
from bench.remote import RemoteSimulator
from bench.report import Finding, Row, Spread
from local.broker import Broker, InProcessBus
from local.host.host import Host
from local.host.host_json import HostSettings
from local.host.indexing import index
from local.host.receiver import InProcessReceiver
from shared import composition
from shared.bus import OutgoingMessage

THREADS = 32
#: The first steps import what they need, and open their connections.
WARM_UP = 64
_LATENCY = 0.1


class _CountingBus:
    """The in-process bus; notes when the first steps have sent something, and when all have."""

    def __init__(self, broker: Broker, wanted: int) -> None:
        self._bus = InProcessBus(broker)
        self._lock = threading.Lock()
        self._wanted = wanted
        self._sent = 0
        self.warm = 0.0
        self.warm_cpu = 0.0
        self.ended = 0.0
        self.ended_cpu = 0.0
        self.done = threading.Event()

    def peek(self, queue: str) -> Iterable[bytes]:
        return self._bus.peek(queue)

    def send(self, messages: Sequence[OutgoingMessage]) -> None:
        self._bus.send(messages)
        with self._lock:
            self._sent += 1
            if self._sent == WARM_UP:
                self.warm, self.warm_cpu = time.perf_counter(), time.process_time()
            if self._sent == self._wanted:
                self.ended, self.ended_cpu = time.perf_counter(), time.process_time()
                self.done.set()


def measure(*, quick: bool) -> Finding:
    runs, steps = (2, 400) if quick else (5, 1000)
    delay = {"route": "Backup", "fault": "delay", "seconds": _LATENCY}
    rates, costs, most_threads, connections = [], [], 0, 0
    for run in range(runs):
        scenario = estate(steps, protected=True, budgets=False, backup=36000, faults=[delay])
        with RemoteSimulator(scenario, real=True) as remote:
            rate, cpu, threads, sockets = _run(remote.url, steps, run)
        rates.append(rate)
        costs.append(cpu)
        most_threads, connections = max(most_threads, threads), max(connections, sockets)
    spread = Spread(tuple(rates))
    finding = Finding(name="p7", title="steps per second of one process")
    finding.figures = {
        "stepsPerSecond": spread.as_json(),
        "cpuPerStep_ms": Spread(tuple(costs)).as_json(),
        "threads": most_threads,
        "connections": connections,
        "ceiling": THREADS / _LATENCY,
    }
    finding.rows = [
        Row(
            measure="P7",
            what=f"steps/s, {THREADS} threads, 100 ms from ARM",
            goal=">= 250",
            value=spread.text(0),
            reached=spread.median >= 250,
            peer=f"ceiling {THREADS / _LATENCY:.0f}; {statistics.median(costs):.1f} ms CPU per step, with host and broker",
        ),
        Row(
            measure="P7",
            what="threads, connections",
            goal=f"<= {THREADS + 8}, <= {THREADS}",
            value=f"{most_threads}, {connections}",
            reached=most_threads <= THREADS + 8 and connections <= THREADS,
        ),
    ]
    return finding


def _run(url: str, steps: int, run: int) -> tuple[float, float, int, int]:
    import function_app

    with Broker(None) as broker:
        bus = _CountingBus(broker, steps)
        composition.install(composition.build({"ARM_ENDPOINT": url}, bus=bus))
        for number in range(steps):
            body = step_body("trigger_backup", backup_task(f"db{number:04}"), sender="select_items")
            message = OutgoingMessage(entity="trigger-backup", body=body, message_id=f"{run}-{number}")
            broker.send("trigger-backup", [message])
        host = Host(
            index(function_app.app),
            InProcessReceiver(broker),
            settings=HostSettings(max_concurrent_calls=THREADS, max_message_batch_size=200),
            timers=False,
            threads=THREADS,
        )
        began = time.perf_counter()
        host.start()
        threads = sockets = 0
        while not bus.done.wait(0.25):
            threads, sockets = max(threads, threading.active_count()), max(sockets, _sockets())
            if time.perf_counter() - began > 120:
                raise TimeoutError("the steps were not done within two minutes")
        elapsed = bus.ended - bus.warm
        cpu = (bus.ended_cpu - bus.warm_cpu) / (steps - WARM_UP) * 1e3
        host.stop()
        runtime: Any = composition.runtime()
        composition.install(None)
        runtime.backup.close()
    return (steps - WARM_UP) / elapsed, cpu, threads, sockets


def _sockets() -> int:
    """Connections of this process, each counted once; 0 if the system does not tell."""
    found: set[str] = set()
    for entry in Path("/proc/self/fd").glob("*"):
        try:
            if (name := entry.readlink().name).startswith("socket:"):
                found.add(name)
        except OSError:
            continue
    return len(found)
