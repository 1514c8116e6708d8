"""P3: how late an outcome is after its job's end; P4's figure for a fleet comes from the same run."""

from __future__ import annotations

import random
from collections import Counter
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from bench.app import App, at, back_up_by_hand, busiest_hour
from bench.best_policy import mean_lateness
from bench.estate import fleet_of_jobs
from bench.peers.az import AzCalls
from bench.peers.sdk import SdkScript
from bench.peers.simulated import CONTAINER, item_names, simulated
from bench.report import Finding, Row, percentile
from local.simulator import SERVICE_LIMITS
from shared.arm.budget import READ_WINDOW

#: How long jobs are followed: more than nine in ten have ended by then.
_HORIZON = timedelta(minutes=75)
_MINUTE = timedelta(minutes=1)
#: The reads of jobs that the service allows in a rolling hour, and of anything else.
_JOB_READS = SERVICE_LIMITS["backupReads"]["jobsPerHour"]
_OTHER_READS = SERVICE_LIMITS["backupReads"]["perHour"]
_PAGE = 200
_FAILING_SHARE = 0.02
_FAILING = [
    {
        "route": "Backup",
        "probability": _FAILING_SHARE,
        "fault": "jobFailure",
        "code": "UserErrorX",
        "errorCode": 1,
    }
]


def measure(*, quick: bool) -> Finding:
    jobs = 150 if quick else 2000
    finding = Finding(name="p3", title="lateness of outcomes")
    with App(fleet_of_jobs(jobs, faults=_FAILING)) as app:
        app.back_up_all()
        app.run(at_most=_HORIZON)
        fleet = _figures(app)
        calls, polls = app.track_calls, app.track_messages
    single = _one_at_a_time(20 if quick else 150)
    some = _fleet(40 if quick else 200)
    foreign = _beside_others(jobs)
    vaults = _ten_vaults()
    two = _fleet(jobs, trackers=2)
    best = mean_lateness(
        # The best policy also reads the details of failed jobs.
        looks=(_JOB_READS - _FAILING_SHARE * jobs) / ceil(jobs / _PAGE),
        horizon=READ_WINDOW.total_seconds(),
        starts_over=jobs / 9.5,
        longest=120,
    )
    sdk = _sdk(40 if quick else 200)
    az = _az(40 if quick else 200)
    finding.figures = {
        "jobs": jobs,
        **fleet,
        "trackExecutions": calls,
        "polls": polls,
        "single": single,
        "some": some,
        "foreign": foreign,
        "tenVaults": vaults,
        "twoTrackers": two,
        "bestMean": best,
        "sdk": sdk,
        "az": az,
    }
    finding.rows = [
        _row("P3", f"{jobs} jobs ({fleet['ended']} ended), 2 % fail", fleet, 90, peer=sdk),
        Row(
            measure="P3",
            what=f"mean lateness, {jobs} jobs, compared with the best possible polling",
            goal="<= 1.25 x",
            value=f"{fleet['mean']:.1f} s = {fleet['mean'] / best:.2f} x",
            reached=fleet["mean"] / best <= 1.25,
            peer=f"best {best:.1f} s",
        ),
        _row("P3", f"{some['jobs']} jobs", some, 30),
        Row(
            measure="P3",
            what=f"lateness p95, 1 job ({single['ended']} samples)",
            goal="<= 10 s",
            value=f"{single['p95']:.1f} s",
            reached=single["p95"] <= 10,
            peer="a poll every 5 s: 4.75 s",
            ratio=4.75 / single["p95"],
        ),
        _row("P3", f"{jobs} jobs beside as many of others", foreign, 90),
        _row("P3b", "ten vaults of one subscription, 20 jobs each", vaults, 80),
        _row("P3c", f"{jobs} jobs, two trackers with a listing each", two, 180),
        Row(
            measure="P4",
            what="executions per poll, fleet",
            goal=f"<= {1 / 20:.3f}",
            value=f"{calls / polls:.3f}",
            reached=calls / polls <= 1 / 20,
            peer="a poller per job: 1",
            ratio=polls / calls,
        ),
    ]
    return finding


def _row(
    measure: str, what: str, figures: dict[str, Any], goal: float, peer: dict[str, float] | None = None
) -> Row:
    within = (
        figures["refused"] == 0
        and figures["jobReadsAnHour"] <= _JOB_READS
        and figures["otherReadsAnHour"] <= _OTHER_READS
    )
    return Row(
        measure=measure,
        what=f"lateness p95, {what}",
        goal=f"<= {goal:.0f} s, no 429",
        value=(
            f"{figures['p95']:.1f} s (p50 {figures['median']:.0f}, p99 {figures['p99']:.0f}, longest"
            f" {figures['max']:.0f}; {figures['refused']} x 429, {figures['jobReadsAnHour']} job reads per hour)"
        ),
        reached=figures["p95"] <= goal and within,
        peer=f"with {peer['jobs']:.0f} jobs: SDK {peer['p95']:.0f} s" if peer is not None else "",
        ratio=peer["p95"] / figures["p95"] if peer is not None else None,
    )


def _figures(app: App) -> dict[str, Any]:
    late = [outcome.lateness for outcome in app.outcomes if outcome.lateness is not None]
    entries = app.simulator.access_entries
    reads = [entry for entry in entries if entry["method"] == "GET"]
    by_route = Counter(entry["route"] for entry in reads)
    moments = {route: [at(entry) for entry in reads if entry["route"] == route] for route in by_route}
    of_jobs = sorted(moments.pop("ListJobs", []) + moments.pop("GetJob", []))
    return {
        "ended": len(late),
        "mean": sum(late) / len(late),
        "median": percentile(late, 0.5),
        "p95": percentile(late, 0.95),
        "p99": percentile(late, 0.99),
        "max": max(late),
        "reads": dict(by_route),
        "jobReadsAnHour": busiest_hour(of_jobs),
        "otherReadsAnHour": max((busiest_hour(sorted(each)) for each in moments.values()), default=0),
        "refused": sum(entry["status"] == 429 for entry in reads),
        "histogram": _histogram(late),
        "readsByMinute": _by_minute(of_jobs, app.simulator.scenario.start_time),
    }


def _by_minute(moments: list[datetime], began: datetime) -> list[int]:
    counts = Counter((moment - began) // _MINUTE for moment in moments)
    return [counts.get(minute, 0) for minute in range(_HORIZON // _MINUTE)]


def _fleet(jobs: int, *, trackers: int = 1) -> dict[str, Any]:
    with App(fleet_of_jobs(jobs, seed=4), trackers=trackers) as app:
        app.back_up_all()
        app.run(at_most=_HORIZON)
        return {"jobs": jobs, **_figures(app)}


def _beside_others(jobs: int) -> dict[str, Any]:
    """The jobs of one VM, while somebody else starts as many on another VM, evenly over the time."""
    with App(fleet_of_jobs(2 * jobs, seed=5, machines=2)) as app:
        app.back_up_all(vmId=app.simulator.vm_id("sqlvm1"))
        minutes = _HORIZON // _MINUTE
        left = [f"db{jobs + number:04}" for number in range(jobs)]
        for minute in range(minutes):
            due = len(left) - jobs * (minutes - minute - 1) // minutes
            left = [name for name in left[:due] if not back_up_by_hand(app.simulator, "sqlvm2", name)] + left[
                due:
            ]
            app.run(at_most=_MINUTE)
        return {"jobs": jobs, **_figures(app)}


def _ten_vaults() -> dict[str, Any]:
    names = [f"vault{number}" for number in range(1, 11)]
    machines = [
        {
            "name": f"sqlvm{number}",
            "registeredTo": vault,
            "instances": [
                {
                    "name": "MSSQLSERVER",
                    "databases": [{"name": f"db{n:02}", "protectedBy": "HourlyLogBackup"} for n in range(20)],
                }
            ],
        }
        for number, vault in enumerate(names, start=1)
    ]
    vaults = [{"name": vault} for vault in names]
    scenario = fleet_of_jobs(0, seed=6, vaults=vaults, virtualMachines=machines)
    with App(scenario) as app:
        for vault in names:
            app.back_up_all(vaultId=app.simulator.vault_id(vault))
        app.run(at_most=_HORIZON)
        return {"jobs": 200, **_figures(app)}


def _histogram(late: list[float]) -> list[int]:
    counts = Counter(min(int(value // 5), 17) for value in late)
    return [counts.get(index, 0) for index in range(18)]


def _one_at_a_time(samples: int) -> dict[str, float]:
    """One job in flight at a time, started at any moment of a tick."""
    chance = random.Random(3)
    with App(fleet_of_jobs(samples, seed=2)) as app:
        for number in range(samples):
            app.clock.advance(timedelta(seconds=chance.uniform(60, 400)))
            app.back_up(f"db{number:04}")
            app.run()
        return _late_of([outcome.lateness for outcome in app.outcomes if outcome.lateness is not None])


def _late(ends: list[tuple[object, object]]) -> dict[str, float]:
    return _late_of([(known - end).total_seconds() for known, end in ends])  # type: ignore[operator]


def _late_of(late: list[float]) -> dict[str, float]:
    return {
        "median": percentile(late, 0.5),
        "p95": percentile(late, 0.95),
        "max": max(late),
        "ended": len(late),
    }


def _sdk(jobs: int) -> dict[str, float]:
    with simulated(SdkScript, fleet_of_jobs(jobs)) as (script, simulator, clock):
        items = [(CONTAINER, name) for name in item_names(jobs)]
        script.back_up(items, until=lambda: clock.monotonic() > _HORIZON.total_seconds())
        refused = sum(entry["status"] == 429 for entry in simulator.access_entries)
    return {
        "jobs": jobs,
        **_late(list(script.ends)),
        "calls": len(simulator.access_entries),
        "refused": refused,
    }


def _az(jobs: int) -> dict[str, float]:
    with simulated(AzCalls, fleet_of_jobs(jobs)) as (az, simulator, clock):
        az.back_up(
            CONTAINER,
            item_names(jobs),
            processes=jobs,
            until=lambda: clock.monotonic() > _HORIZON.total_seconds(),
        )
        refused = sum(entry["status"] == 429 for entry in simulator.access_entries)
    return {
        "jobs": jobs,
        **_late(list(az.ends)),
        "gaveUp": az.failures,
        "calls": len(simulator.access_entries),
        "refused": refused,
    }
