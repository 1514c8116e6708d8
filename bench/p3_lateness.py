"""P3: how late an outcome is after its job's end; P4's share of a fleet comes of the same run."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta

from bench.app import App
from bench.estate import fleet_of_jobs
from bench.peers.az import AzCalls
from bench.peers.sdk import SdkScript
from bench.report import Finding, Row, percentile
from bench.virtual_time import VirtualThreads
from local.simulator import Simulator, SimulatorServer
from shared.clock import SteppedClock

#: Followed for as long: nine jobs in ten and more have ended.
_HORIZON = timedelta(minutes=75)


def measure(*, quick: bool) -> Finding:
    jobs = 150 if quick else 2000
    finding = Finding(name="p3", title="lateness of outcomes")
    with App(fleet_of_jobs(jobs)) as app:
        app.back_up_all()
        app.run(at_most=_HORIZON)
        late = [o.lateness for o in app.outcomes if o.lateness is not None]
        entries = app.simulator.access_entries
        calls, polls = app.track_calls, app.track_messages
    refused = sum(entry["status"] == 429 for entry in entries)
    reads = Counter(entry["route"] for entry in entries if entry["method"] == "GET")
    single = _one_at_a_time(20 if quick else 150)
    sdk = _sdk(40 if quick else 200)
    az = _az(40 if quick else 200)
    p95 = percentile(late, 0.95)
    finding.figures = {
        "jobs": jobs,
        "ended": len(late),
        "median": percentile(late, 0.5),
        "p95": p95,
        "max": max(late),
        "reads": dict(reads),
        "refused": refused,
        "trackExecutions": calls,
        "polls": polls,
        "histogram": _histogram(late),
        "single": {
            "samples": len(single),
            "median": percentile(single, 0.5),
            "p95": percentile(single, 0.95),
            "max": max(single),
        },
        "sdk": sdk,
        "az": az,
    }
    finding.rows = [
        Row(
            measure="P3",
            what=f"lateness p95, {jobs} jobs ({len(late)} ended)",
            goal="<= 35 s, no 429",
            value=f"{p95:.1f} s, {refused} x 429",
            reached=p95 <= 35 and refused == 0,
            peer=f"with {sdk['jobs']} jobs: SDK {sdk['p95']:.0f} s; az {az['p95']:.0f} s, but {az['gaveUp']} gave up",
            ratio=sdk["p95"] / p95,
        ),
        Row(
            measure="P3",
            what=f"lateness p95, 1 job ({len(single)} samples)",
            goal="<= 30 s",
            value=f"{percentile(single, 0.95):.1f} s",
            reached=percentile(single, 0.95) <= 30,
            peer="a poll every 5 s: 4.75 s",
            ratio=4.75 / percentile(single, 0.95),
        ),
        Row(
            measure="P4",
            what="executions a poll, fleet",
            goal=f"<= {1 / 20:.3f}",
            value=f"{calls / polls:.3f}",
            reached=calls / polls <= 1 / 20,
            peer="a poller a job: 1",
            ratio=polls / calls,
        ),
    ]
    return finding


def _histogram(late: list[float]) -> list[int]:
    counts = Counter(min(int(value // 5), 17) for value in late)
    return [counts.get(index, 0) for index in range(18)]


def _one_at_a_time(samples: int) -> list[float]:
    """One job in flight at a time, begun at any moment of a tick."""
    chance = random.Random(3)
    with App(fleet_of_jobs(samples, seed=2)) as app:
        for number in range(samples):
            app.clock.advance(timedelta(seconds=chance.uniform(60, 400)))
            app.request(
                "backup",
                {
                    "databases": [{"instance": "MSSQLSERVER", "database": f"db{number:04}"}],
                    "backupType": "Full",
                },
            )
            app.run()
        return [o.lateness for o in app.outcomes if o.lateness is not None]


def _late(ends: list[tuple[object, object]]) -> dict[str, float]:
    late = [(known - end).total_seconds() for known, end in ends]  # type: ignore[operator]
    return {
        "median": percentile(late, 0.5),
        "p95": percentile(late, 0.95),
        "max": max(late),
        "ended": len(late),
    }


def _sdk(jobs: int) -> dict[str, float]:
    scenario = fleet_of_jobs(jobs)
    clock = SteppedClock(scenario.start_time)
    simulator = Simulator(scenario, clock=clock)
    threads = VirtualThreads(clock)
    with SimulatorServer(simulator) as server:
        script = SdkScript(simulator, server, threads)
        items = [
            ("VMAppContainer;compute;rg-sql;sqlvm1", f"SQLDataBase;mssqlserver;db{number:04}")
            for number in range(jobs)
        ]
        script.back_up(items, until=lambda: clock.monotonic() > _HORIZON.total_seconds())
        script.close()
        refused = sum(entry["status"] == 429 for entry in simulator.access_entries)
    return {
        "jobs": jobs,
        **_late(list(script.ends)),
        "calls": len(simulator.access_entries),
        "refused": refused,
    }


def _az(jobs: int) -> dict[str, float]:
    scenario = fleet_of_jobs(jobs)
    clock = SteppedClock(scenario.start_time)
    simulator = Simulator(scenario, clock=clock)
    threads = VirtualThreads(clock)
    with SimulatorServer(simulator) as server:
        az = AzCalls(simulator, server, threads)
        items = [f"SQLDataBase;mssqlserver;db{number:04}" for number in range(jobs)]
        az.back_up(
            "VMAppContainer;compute;rg-sql;sqlvm1",
            items,
            processes=jobs,
            until=lambda: clock.monotonic() > _HORIZON.total_seconds(),
        )
        az.close()
        refused = sum(entry["status"] == 429 for entry in simulator.access_entries)
    return {
        "jobs": jobs,
        **_late(list(az.ends)),
        "gaveUp": az.failures,
        "calls": len(simulator.access_entries),
        "refused": refused,
    }
