"""P4: the size of a poll's message, and its executions, by the number of polls of one job."""

from __future__ import annotations

import json
from typing import Any

from bench.app import App
from bench.estate import estate
from bench.peers import durable
from bench.report import Finding, Row
from shared.bus import OutgoingMessage

_URLS = ("asyncOperationUrl", "locationUrl")


def measure(*, quick: bool) -> Finding:
    hours = 2 if quick else 8
    sizes: list[int] = []
    whole: list[int] = []

    def watch(message: OutgoingMessage) -> None:
        if message.entity != "track":
            return
        followed: dict[str, Any] = json.loads(message.body)["payload"]["of"]
        whole.append(len(message.body))
        sizes.append(len(message.body) - sum(len(followed.get(name) or "") for name in _URLS))

    with App(estate(1, protected=True, backup=hours * 3600.0)) as app:
        app.bus.watch = watch
        app.back_up_all()
        app.run()
        assert [outcome.status for outcome in app.outcomes] == ["succeeded"]
        entries = app.simulator.access_entries
        executions = app.track_calls
    looks = sum(entry["route"] in ("GetJob", "OperationStatus", "ListJobs") for entry in entries)
    replayed = len(durable.history(executions))
    finding = Finding(name="p4", title="a poll costs the same, however many there were")
    finding.figures = {
        "polls": executions,
        "looks": looks,
        "bytesBesideUrls": sizes,
        "largestWhole": max(whole),
        "durableHistoryBytes": replayed,
    }
    # The first has the operation's URLs, later ones the job's id; the number of the poll gets more digits.
    finding.rows = [
        Row(
            measure="P4",
            what=f"bytes besides the URLs, {executions} polls",
            goal="<= 4096, flat",
            value=f"{min(sizes)}..{max(sizes)}",
            reached=max(sizes) <= 4096 and sizes[-1] - sizes[2] <= 8,
            peer=f"Durable history for as many polls: {replayed / 1000:.0f} KB",
            ratio=replayed / max(sizes),
        ),
        Row(
            measure="P4",
            what="executions per poll, one job",
            goal="<= 1",
            value=f"{executions / looks:.2f}",
            reached=executions <= looks,
        ),
    ]
    return finding
