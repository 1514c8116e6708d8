"""P1: calls from an unprotected VM to the outcome of the first backup of its databases."""

from __future__ import annotations

import math
from collections import Counter

from bench.app import App
from bench.estate import estate
from bench.peers.az import AzCalls
from bench.peers.sdk import SdkScript
from bench.report import Finding, Row
from bench.virtual_time import VirtualThreads
from local.simulator import Scenario, Simulator, SimulatorServer
from shared.clock import SteppedClock

_PAGE = 200
_PER_DATABASE = ("ConfigureBackup", "Backup", "GetJob", "OperationStatus", "GetProtectedItem")
_LISTINGS = ("ListProtectedItems", "ListProtectableItems")


def measure(*, quick: bool) -> Finding:
    finding = Finding(name="p1", title="ARM calls for N databases of one VM")
    sizes = (1, 10, 100) if quick else (1, 10, 100, 500)
    peer_sizes = (1, 10) if quick else (1, 10, 100)
    points = []
    for size in sizes:
        with App(estate(size)) as app:
            app.protect_all(firstBackup="now")
            app.run()
            entries = app.simulator.access_entries
            assert len(app.outcomes) == size and all(o.status == "succeeded" for o in app.outcomes)
        routes = Counter(entry["route"] for entry in entries)
        discovery = sum(
            count for route, count in routes.items() if route not in (*_PER_DATABASE, *_LISTINGS, "ListJobs")
        )
        listings = 2 * math.ceil(size / _PAGE)
        # Each tick's listing takes a page for each 200 jobs that have started; one job is asked itself.
        ticks = routes["ListJobs"] if size > 4 else 0
        least = discovery + listings + 2 * size + (ticks if size > 4 else _single_job_ticks())
        allowed = least + size
        point = {
            "databases": size,
            "calls": len(entries),
            "least": least,
            "allowed": allowed,
            "refused": sum(entry["status"] == 429 for entry in entries),
            "routes": dict(routes),
        }
        if size in peer_sizes:
            point["sdk"] = _sdk(size)
            calls, gave_up = _az(size)
            point["az"], point["azGaveUp"] = discovery + calls, gave_up
        points.append(point)
        sdk, az = point.get("sdk"), point.get("az")
        if point.get("azGaveUp"):
            az = f"{az} ({point['azGaveUp']} gave up on 429)"
        finding.rows.append(
            Row(
                measure="P1",
                what=f"calls, {size} databases",
                goal=f"<= {allowed}",
                value=str(len(entries)),
                reached=len(entries) <= allowed,
                peer=f"SDK {sdk}, az {az}" if sdk else "",
                ratio=sdk / len(entries) if isinstance(sdk, int) else None,
            )
        )
    finding.figures = {"points": points}
    return finding


def _single_job_ticks() -> int:
    # 75 s of protection and 120 s of backup at 30 s: 3 and 4 looks.
    return 7


def _simulate(scenario: Scenario) -> tuple[Simulator, SimulatorServer, VirtualThreads]:
    clock = SteppedClock(scenario.start_time)
    simulator = Simulator(scenario, clock=clock)
    return simulator, SimulatorServer(simulator), VirtualThreads(clock)


def _sdk(size: int) -> int:
    simulator, server, threads = _simulate(estate(size))
    with server:
        script = SdkScript(simulator, server, threads)
        script.protect_and_back_up(simulator.vm_id("sqlvm1"))
        script.close()
        assert len(script.ends) == size
        return len(simulator.access_entries)


def _az(size: int) -> tuple[int, int]:
    """Calls, and commands that gave up; without the discovery of the VM, which the app's own calls stand in for."""
    scenario = estate(size)
    machine = scenario.virtual_machines[0].model_copy(update={"registered_to": "vault1"})
    simulator, server, threads = _simulate(scenario.model_copy(update={"virtual_machines": (machine,)}))
    with server:
        az = AzCalls(simulator, server, threads)
        items = [f"SQLDataBase;mssqlserver;db{number:04}" for number in range(size)]
        az.protect_and_back_up("VMAppContainer;compute;rg-sql;sqlvm1", items, processes=min(size, 10))
        az.close()
        assert len(az.ends) + az.failures == size
        return len(simulator.access_entries), az.failures
