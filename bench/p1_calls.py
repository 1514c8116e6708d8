"""P1: calls from an unprotected VM to the outcome of the first backup of its databases."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from bench.app import App, at, busiest_hour
from bench.estate import estate
from bench.peers.az import AzCalls
from bench.peers.sdk import SdkScript
from bench.peers.simulated import CONTAINER, item_names, simulated
from bench.report import Finding, Row
from local.simulator import SERVICE_LIMITS

_PAGE = 200
#: up to this many jobs are looked up one by one
_FEW = 4
_JOB_READS = SERVICE_LIMITS["backupReads"]["jobsPerHour"]
_OTHER_READS = SERVICE_LIMITS["backupReads"]["perHour"]
_PER_DATABASE = ("ConfigureBackup", "Backup", "GetJob", "OperationStatus", "GetProtectedItem")
_LISTINGS = ("ListProtectedItems", "ListProtectableItems")


def measure(*, quick: bool) -> Finding:
    finding = Finding(name="p1", title="ARM calls for N databases of one VM")
    sizes = (1, 10, 100) if quick else (1, 10, 100, 500, 2000)
    peer_sizes = (1, 10) if quick else (1, 10, 100)
    points = []
    for size in sizes:
        with App(estate(size)) as app:
            app.protect_all(firstBackup="now")
            app.run()
            entries = app.simulator.access_entries
            assert len(app.outcomes) == size and all(
                outcome.status == "succeeded" for outcome in app.outcomes
            )
        routes = Counter(entry["route"] for entry in entries)
        discovery = sum(
            count for route, count in routes.items() if route not in (*_PER_DATABASE, *_LISTINGS, "ListJobs")
        )
        listings = 2 * math.ceil(size / _PAGE)
        # The number of looks depends on time, not on databases: a tick's listing takes a page per 200 jobs; a single
        # job is asked itself.
        looks = routes["ListJobs"] + (routes["GetJob"] + routes["OperationStatus"] if size <= _FEW else 0)
        details = routes["GetJob"] if size > _FEW else 0
        least = discovery + listings + 2 * size + looks
        allowed = least + details + math.ceil(0.1 * size)
        reads = [entry for entry in entries if entry["method"] == "GET"]
        busiest = max(
            busiest_hour([at(entry) for entry in reads if _action(entry) == action])
            / (_JOB_READS if action == "jobs" else _OTHER_READS)
            for action in {_action(entry) for entry in reads}
        )
        point = {
            "databases": size,
            "calls": len(entries),
            "least": least,
            "details": details,
            "allowed": allowed,
            "busiestAction": busiest,
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
                goal=f"<= {allowed}: the least, {details} details, 0.1 N; every action within its hour",
                value=f"{len(entries)}; the busiest action at {busiest:.0%} of its hour",
                reached=len(entries) <= allowed and busiest <= 1,
                peer=f"SDK {sdk}, az {az}" if sdk else "",
                ratio=sdk / len(entries) if isinstance(sdk, int) else None,
            )
        )
    finding.figures = {"points": points}
    return finding


def _action(entry: dict[str, Any]) -> str:
    return "jobs" if entry["route"] in ("ListJobs", "GetJob") else str(entry["route"])


def _sdk(size: int) -> int:
    with simulated(SdkScript, estate(size)) as (script, simulator, _):
        script.protect_and_back_up(simulator.vm_id("sqlvm1"))
        assert len(script.ends) == size
        return len(simulator.access_entries)


def _az(size: int) -> tuple[int, int]:
    """Calls, and commands that gave up. The VM is registered already; its discovery is added from the app's calls."""
    scenario = estate(size)
    machine = scenario.virtual_machines[0].model_copy(update={"registered_to": "vault1"})
    registered = scenario.model_copy(update={"virtual_machines": (machine,)})
    with simulated(AzCalls, registered) as (az, simulator, _):
        az.protect_and_back_up(CONTAINER, item_names(size), processes=min(size, 10))
        assert len(az.ends) + az.failures == size
        return len(simulator.access_entries), az.failures
