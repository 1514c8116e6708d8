"""P8: 2,000 backup requests at once against ARM's buckets."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from bench.app import App, at
from bench.estate import estate
from bench.peers.sdk import SdkScript
from bench.peers.simulated import CONTAINER, item_names, simulated
from bench.report import Finding, Row
from local.simulator import SERVICE_LIMITS, Simulator

_LENGTH = 120.0


def measure(*, quick: bool) -> Finding:
    count = 300 if quick else 2000
    writes = SERVICE_LIMITS["writes"]
    least = max(0.0, (count - writes["bucket"]) / writes["perSecond"])
    with App(estate(count, protected=True, backup=_LENGTH)) as app:
        for number in range(count):
            app.back_up(f"db{number:04}")
        app.run()
        many = _figures(app)
    with App(estate(count, protected=True, backup=_LENGTH)) as app:
        app.back_up_all()
        app.run()
        one = _figures(app)
    waits = _waits_during_a_fan_out(count)
    sdk = _sdk(count)
    finding = Finding(name="p8", title="a burst of requests")
    finding.figures = {
        "count": count,
        "least": least,
        "requests": many,
        "oneRequest": one,
        "beside": waits,
        "sdk": sdk,
    }
    for what, figures in ((f"{count} requests", many), (f"1 request, {count} databases", one)):
        whole = least + _LENGTH
        finding.rows.append(
            Row(
                measure="P8",
                what=f"{what}: last backup started after",
                goal=f"<= {least * 1.08:.0f} s = 1.08 x",
                value=f"{figures['started']:.0f} s = {figures['started'] / least:.2f} x",
                reached=figures["started"] <= least * 1.08 and figures["done"] == count,
                peer=f"SDK {sdk['started']:.0f} s" if figures is many else "",
                ratio=sdk["started"] / figures["started"] if figures is many else None,
            )
        )
        finding.rows.append(
            Row(
                measure="P8",
                what=f"{what}: 429, all outcomes after",
                goal=f"< 1 %, ({whole:.0f} s + a tick)",
                value=f"{figures['refusedShare']:.2%}, {figures['makespan']:.0f} s",
                reached=figures["refusedShare"] < 0.01 and figures["done"] == count,
                peer=f"SDK {sdk['refusedShare']:.0%}" if figures is many else "",
            )
        )
    finding.rows.append(
        Row(
            measure="P8",
            what=f"one request per second beside one of {count} databases: longest wait",
            goal="<= 10 s",
            value=f"{max(waits):.1f} s ({len(waits)} requests)",
            reached=max(waits) <= 10,
        )
    )
    return finding


def _waits_during_a_fan_out(count: int) -> list[float]:
    """Seconds until requests for one database start while a large request is spread over minutes."""
    others = 60
    with App(estate(count + others, protected=True, backup=_LENGTH)) as app:
        names = [f"db{number:04}" for number in range(count + others)]
        app.back_up(*names[:count])
        app.run(at_most=timedelta(seconds=30))
        asked = {}
        for name in names[count:]:
            asked[name] = app.clock.now()
            app.back_up(name)
            app.run(at_most=timedelta(seconds=1))
        app.run()
        started = {
            entry["path"].rpartition(";")[2].partition("/")[0]: at(entry)
            for entry in app.simulator.access_entries
            if entry["route"] == "Backup" and entry["status"] == 202
        }
    return [(started[name] - moment).total_seconds() for name, moment in asked.items()]


def _figures(app: App) -> dict[str, Any]:
    entries = app.simulator.access_entries
    began = app.simulator.scenario.start_time
    started = [at(entry) for entry in entries if entry["route"] == "Backup" and entry["status"] == 202]
    refused = sum(entry["status"] == 429 for entry in entries)
    return {
        "calls": len(entries),
        "refused": refused,
        "refusedShare": refused / len(entries),
        "started": (max(started) - began).total_seconds(),
        "makespan": (max(outcome.at for outcome in app.outcomes) - began).total_seconds(),
        "done": sum(outcome.status == "succeeded" for outcome in app.outcomes),
        "startedAt": _sample([(moment - began).total_seconds() for moment in started]),
    }


def _sdk(count: int) -> dict[str, Any]:
    """Until the last backup has started; the script does not wait for the jobs."""
    with simulated(SdkScript, estate(count, protected=True, backup=_LENGTH)) as (script, simulator, _):
        items = [(CONTAINER, name) for name in item_names(count)]
        script.back_up(items, until=lambda: _started(simulator) >= count)
        entries = simulator.access_entries
    started = [at(entry) for entry in entries if entry["route"] == "Backup" and entry["status"] == 202]
    refused = sum(entry["status"] == 429 for entry in entries)
    return {
        "calls": len(entries),
        "refused": refused,
        "refusedShare": refused / len(entries),
        "started": (max(started) - simulator.scenario.start_time).total_seconds(),
        "startedAt": _sample(
            [(moment - simulator.scenario.start_time).total_seconds() for moment in started]
        ),
    }


def _sample(moments: list[float]) -> list[float]:
    """A hundred of them, including the last."""
    every = max(1, len(moments) // 100)
    return [round(moment, 1) for moment in sorted(moments)[every - 1 :: every]]


def _started(simulator: Simulator) -> int:
    return len(simulator.ledger_entries)
