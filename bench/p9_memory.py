"""P9: memory of the process with many jobs in flight. `python -m bench.p9_memory N` measures one.

The broker and the simulator are processes of their own: what is measured is the host with the app.
"""

from __future__ import annotations

import gc
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime, timedelta
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any

from bench.estate import VAULT, estate
from bench.remote import RemoteSimulator
from bench.report import Finding, Row, Spread
from local.broker import Broker, InProcessBus
from local.host.host import Host
from local.host.host_json import HostSettings
from local.host.indexing import index
from local.host.receiver import InProcessReceiver
from local.stepped_clock import SteppedClock
from shared import composition
from shared.bus import OutgoingMessage


class BrokerProcess(InProcessReceiver):
    """In the other process: a broker on a stepped clock, kept in a file; bus and receiver of the app."""

    def __init__(self, path: Path, start: datetime) -> None:
        self._clock = SteppedClock(start)
        super().__init__(Broker(path, clock=self._clock))

    def advance_to(self, moment: datetime) -> None:
        self._clock.advance_to(moment)

    def send(self, messages: Sequence[OutgoingMessage]) -> None:
        InProcessBus(self._broker).send(messages)

    def peek(self, queue: str) -> list[bytes]:
        return list(InProcessBus(self._broker).peek(queue))

    def close(self) -> None:
        self._broker.close()


class _Manager(BaseManager):
    pass


_Manager.register("BrokerProcess", BrokerProcess)


def measure(*, quick: bool) -> Finding:
    many, runs = (200, 1) if quick else (2000, 2)
    found: dict[int, list[tuple[float, float]]] = {1: [], many: []}
    for _ in range(runs):
        for jobs, values in found.items():
            done = subprocess.run(
                [sys.executable, "-m", "bench.p9_memory", str(jobs)], stdout=subprocess.PIPE, check=True
            )
            resident, peak = json.loads(done.stdout)
            values.append((resident, peak))
    resident = {jobs: Spread(tuple(v[0] for v in values)) for jobs, values in found.items()}
    peak = {jobs: Spread(tuple(v[1] for v in values)) for jobs, values in found.items()}
    share = resident[many].median / resident[1].median
    peak_share = peak[many].median / peak[1].median
    finding = Finding(name="p9", title="memory")
    finding.figures = {
        "jobs": many,
        "resident": {str(jobs): spread.as_json() for jobs, spread in resident.items()},
        "peak": {str(jobs): spread.as_json() for jobs, spread in peak.items()},
    }
    finding.rows = [
        Row(
            measure="P9",
            what=f"resident memory, {many} jobs in flight / 1",
            goal="<= 1.2",
            value=f"{resident[many].median:.0f} / {resident[1].median:.0f} MiB = {share:.2f}",
            reached=share <= 1.2,
        ),
        Row(
            measure="P9",
            what="... its peak, with the fan-out",
            goal="none",
            value=f"{peak[many].median:.0f} / {peak[1].median:.0f} MiB = {peak_share:.2f}",
            reached=None,
        ),
    ]
    return finding


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def _one(jobs: int) -> tuple[float, float]:
    """Resident memory after three ticks with so many jobs in flight, and its peak, in MiB."""
    import function_app

    # The same estate without its thousands of databases: only the simulator needs those.
    scenario = estate(1)
    with (
        tempfile.TemporaryDirectory() as directory,
        RemoteSimulator(estate(jobs, protected=True, backup=24 * 3600.0)) as remote,
        _Manager() as manager,
    ):
        broker: Any = manager.BrokerProcess(Path(directory) / "broker.db", scenario.start_time)  # type: ignore[attr-defined]  # registered
        composition.install(composition.build({"ARM_ENDPOINT": remote.url}, bus=broker, clock=remote.clock))
        host = Host(
            index(function_app.app),
            broker,
            settings=HostSettings(max_message_batch_size=200),
            clock=remote.clock,
            timers=False,
        )
        event = {
            "specversion": "1.0",
            "type": "sqlvmbackup.backup.requested.v1",
            "source": "bench",
            "id": "1",
            "data": {
                "vaultId": VAULT,
                "databases": [{"instance": "*", "database": "*"}],
                "backupType": "Full",
            },
        }
        body = json.dumps(event).encode()
        broker.send([OutgoingMessage(entity="backup-requests", body=body, message_id="1")])
        # Until the fan-out is over, then three ticks.
        end = scenario.start_time + timedelta(seconds=jobs / 8 + 90 + 90)
        while True:
            host.run_until_idle()
            due = broker.next_due()
            if due is None or due > end:
                break
            remote.advance_to(due)
            broker.advance_to(due)
        gc.collect()
        resident = _resident()
        runtime = composition.runtime()
        runtime.backup.close()
        composition.install(None)
        broker.close()
    return resident, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    print(json.dumps(_one(int(sys.argv[1]))))
