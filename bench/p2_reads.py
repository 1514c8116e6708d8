"""P2: reads while 2,000 jobs are in flight in one vault, with Azure's limits."""

from __future__ import annotations

from datetime import timedelta

from bench.app import App, at, back_up_by_hand, busiest_hour
from bench.estate import estate
from bench.peers.sdk import SdkScript
from bench.peers.simulated import simulated
from bench.report import Finding, Row
from local.simulator import SERVICE_LIMITS, Simulator
from local.stepped_clock import SteppedClock

_LONG = 8 * 3600.0
_POLL = 30.0
_OF_JOBS = {"ListJobs", "GetJob"}


def measure(*, quick: bool) -> Finding:
    jobs = 200 if quick else 2000
    window = timedelta(minutes=3 if quick else 60)
    with App(estate(jobs, protected=True, backup=_LONG)) as app:
        app.back_up_all()
        # The fan-out, and the first look at its last job.
        app.run(at_most=timedelta(seconds=jobs / 8 + 90))
        app.run(at_most=window)
        entries = app.simulator.access_entries
        refused = sum(entry["status"] == 429 for entry in entries)
        started = sum(entry["route"] == "Backup" for entry in entries)
        assert started == jobs
        reads = [entry for entry in entries if entry["method"] == "GET"]
        routes = {entry["route"] for entry in reads}
        of_jobs = busiest_hour([at(entry) for entry in reads if entry["route"] in _OF_JOBS])
        others = max(
            busiest_hour([at(entry) for entry in reads if entry["route"] == route])
            for route in routes - _OF_JOBS
        )
    allowed = SERVICE_LIMITS["backupReads"]
    need = jobs * 3600 / _POLL
    peer = _sdk(jobs, seconds=90 if quick else 180)
    finding = Finding(name="p2", title="reads with many jobs in flight")
    finding.figures = {
        "jobs": jobs,
        "seconds": window.total_seconds(),
        "jobReadsAnHour": of_jobs,
        "otherReadsAnHour": others,
        "refused": refused,
        "needOfSinglePolls": need,
        "sdk": peer,
    }
    finding.rows = [
        Row(
            measure="P2",
            what=f"reads of jobs in the busiest hour, {jobs} jobs in flight",
            goal=f"<= {allowed['jobsPerHour']}",
            value=str(of_jobs),
            reached=of_jobs <= allowed["jobsPerHour"],
            peer=f"a look at each every 30 s: {need:,.0f}; SDK asks {peer['readsPerSecond'] * 3600:,.0f}",
            ratio=need / of_jobs,
        ),
        Row(
            measure="P2",
            what="reads of any other kind in the busiest hour",
            goal=f"<= {allowed['perHour']}",
            value=str(others),
            reached=others <= allowed["perHour"],
            peer=f"a look at each operation: {jobs}",
        ),
        Row(
            measure="P2",
            what="answered 429, whole run",
            goal="0",
            value=str(refused),
            reached=refused == 0,
            peer=f"SDK {peer['refusedShare']:.0%}, {peer['answeredShare']:.0%} of polls due answered",
        ),
    ]
    return finding


def _sdk(jobs: int, *, seconds: float) -> dict[str, float]:
    """The jobs are running already when the script begins to look, so that its budget of reads is whole."""
    with simulated(SdkScript, estate(jobs, protected=True, backup=_LONG)) as (script, simulator, clock):
        names = _start(simulator, clock, jobs)
        began = clock.monotonic()
        script.follow(names, until=lambda: clock.monotonic() - began > seconds)
        entries = [entry for entry in simulator.access_entries if entry["route"] == "GetJob"]
        elapsed = clock.monotonic() - began
    refused = sum(entry["status"] == 429 for entry in entries)
    return {
        "seconds": elapsed,
        "readsPerSecond": len(entries) / elapsed,
        "refusedShare": refused / len(entries),
        "answeredShare": (len(entries) - refused) / (jobs * elapsed / _POLL),
    }


def _start(simulator: Simulator, clock: SteppedClock, jobs: int) -> list[str]:
    """Start the jobs at the pace that ARM allows for writes; returns their ids."""
    for number in range(jobs):
        clock.advance(timedelta(seconds=0.1))
        assert back_up_by_hand(simulator, "sqlvm1", f"db{number:04}")
    return [str(entry["jobId"]) for entry in simulator.ledger_entries]
