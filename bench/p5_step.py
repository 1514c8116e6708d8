"""P5: the processor time of a step, without I/O and with one HTTP call, and by the number of the attempt."""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from bench.estate import VAULT, VM, estate
from bench.peers import durable
from bench.remote import RemoteSimulator
from bench.report import Finding, Row, Spread
from shared import composition
from shared.arm.ids import VaultId
from shared.azure_backup.models import Job
from shared.bus import OutgoingMessage
from shared.clock import ServiceClock, SystemClock
from shared.engine.message import Delivery
from shared.engine.run import handle
from shared.following.batch import handle_batch
from shared.listing_cache import JobCache
from shared.workflows import TABLE

_ITEM = (
    f"{VAULT}/backupFabrics/Azure/protectionContainers/VMAppContainer;compute;rg-sql;sqlvm1"
    "/protectedItems/SQLDataBase;mssqlserver;"
)
RUNS = 7
#: How many polls of one job Durable Functions replays, at the first and at the last.
_POLLS = (1, 500)
_AGO = timedelta(minutes=5)


class _Nowhere:
    """A bus that accepts and drops everything."""

    def __init__(self) -> None:
        self.taken = 0

    def peek(self, _queue: str) -> Iterable[bytes]:
        return ()

    def send(self, messages: Sequence[OutgoingMessage]) -> None:
        self.taken += len(messages)


def step_body(step: str, payload: dict[str, Any], *, sender: str, poll: int = 0) -> bytes:
    """A message between steps, as the app writes it."""
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return json.dumps(
        {
            "version": 2,
            "step": step,
            "sender": sender,
            "at": now,
            "since": now,
            "poll": poll,
            "attempt": 0,
            "request": {"operation": "backup", "source": "bench", "id": "1", "vaultId": VAULT},
            "effect": {"n": 1},
            "payload": payload,
        }
    ).encode()


def database(name: str) -> dict[str, str]:
    return {"vmId": VM, "instance": "MSSQLSERVER", "name": name}


def protect_task(name: str) -> dict[str, Any]:
    """A database that is protected already: a step without a call."""
    return {
        "database": database(name),
        "itemId": f"{_ITEM}{name}",
        "policyId": f"{VAULT}/backupPolicies/HourlyLogBackup",
        "policyName": "HourlyLogBackup",
        "action": "already",
        "protectionState": "IRPending",
        "outcomeCount": 1,
    }


def backup_task(name: str) -> dict[str, Any]:
    return {
        "database": database(name),
        "itemId": f"{_ITEM}{name}",
        "serverName": "sqlvm1",
        "backupType": "Full",
        "outcomeCount": 1,
    }


def measure(*, quick: bool) -> Finding:
    count = 200 if quick else 500
    databases = 60 if quick else 300
    with RemoteSimulator(estate(databases, protected=True, budgets=False, backup=3600), real=True) as remote:
        bus = _Nowhere()
        runtime = composition.build({"ARM_ENDPOINT": remote.url}, bus=bus)
        # In turn, so that other load on the machine affects both alike.
        pairs = [
            (_without_call(runtime, count), _without_call(runtime, count, poll=100_000))
            for _ in range(2 * RUNS + 1)
        ][1:]
        without, late = (Spread(tuple(values)) for values in zip(*pairs, strict=True))
        polled = _spread(lambda: _polls(runtime, count))
        posts = iter(range(databases))
        share = databases // (RUNS + 1)
        with_call = _spread(lambda: _with_call(runtime, [next(posts) for _ in range(share)]))
        runtime.backup.close()
    flat = statistics.median(high / low for low, high in pairs)
    replays = [_replays(polls) for polls in _POLLS]
    growth = replays[1].median / replays[0].median
    finding = Finding(name="p5", title="CPU per step")
    finding.figures = {
        "withoutCall_us": without.as_json(),
        "withoutCallAtPoll100000_us": late.as_json(),
        "pollAnsweredByListing_us": polled.as_json(),
        "withCall_us": with_call.as_json(),
        "durableReplay_us": {
            str(polls): spread.as_json() for polls, spread in zip(_POLLS, replays, strict=True)
        },
    }
    finding.rows = [
        Row(
            measure="P5",
            what="CPU per step, no I/O",
            goal="<= 150 us",
            value=without.text(0, " us"),
            reached=without.median <= 150,
        ),
        Row(
            measure="P5",
            what="CPU per poll that a listing answers",
            goal="<= 150 us",
            value=polled.text(0, " us"),
            reached=polled.median <= 150,
            peer=f"Durable replay, {_POLLS[1]} polls: {Spread(tuple(v / 1000 for v in replays[1].values)).text(0, ' ms')}",
            ratio=replays[1].median / polled.median,
        ),
        Row(
            measure="P5",
            what="CPU per step at poll 100,000 / at poll 0",
            goal="flat",
            value=f"{flat:.2f}",
            reached=0.8 <= flat <= 1.2,
            peer=f"Durable replay, {_POLLS[1]} polls / {_POLLS[0]}: {growth:.0f}",
            ratio=growth / flat,
        ),
        Row(
            measure="P5",
            what="CPU per step, one HTTP call",
            goal="<= 2 ms",
            value=Spread(tuple(v / 1000 for v in with_call.values)).text(2, " ms"),
            reached=with_call.median <= 2000,
        ),
    ]
    return finding


def _spread(once: Callable[[], float]) -> Spread:
    once()
    return Spread(tuple(once() for _ in range(RUNS)))


def _replays(polls: int) -> Spread:
    body = durable.history(polls)
    return _spread(lambda: durable.replay(body) * 1e6)


def _deliveries(bodies: list[bytes], queue: str) -> list[Any]:
    now = SystemClock().now()
    return [Delivery(queue=queue, body=body, message_id=str(n), taken=now) for n, body in enumerate(bodies)]


def _cpu(handle: Callable[[Any], None], deliveries: list[Any]) -> float:
    """Microseconds of this thread's processor time per step."""
    gc.collect()
    began = time.thread_time()
    for delivery in deliveries:
        handle(delivery)
    return (time.thread_time() - began) / len(deliveries) * 1e6


def _without_call(runtime: Any, count: int, *, poll: int = 0) -> float:
    definition = TABLE.rows["enable_protection"]
    bodies = [
        step_body("enable_protection", protect_task(f"db{n:04}"), sender="select_databases", poll=poll)
        for n in range(count)
    ]
    return _cpu(
        lambda delivery: handle(definition, delivery, runtime), _deliveries(bodies, "enable-protection")
    )


def _polls(runtime: Any, count: int) -> float:
    """The tracker's batch, its jobs known from a listing and still running."""
    now = runtime.service_clock.now()
    assert isinstance(runtime.service_clock, ServiceClock)
    began, deadline = (f"{moment:%Y-%m-%dT%H:%M:%SZ}" for moment in (now - _AGO, now + timedelta(days=5)))
    bodies = [
        step_body(
            "track",
            {
                "origin": "trigger_backup",
                "payload": backup_task(f"db{number:04}"),
                "of": {"kind": "job", "jobId": f"job-{number:04}"},
                "clientRequestId": "73716c62-0000-8000-8000-000000000000",
                "began": began,
                "deadline": deadline,
            },
            sender="trigger_backup",
            poll=9,
        )
        for number in range(count)
    ]
    jobs = [Job(id=f"job-{number:04}", status="InProgress", start_time=now - _AGO) for number in range(count)]
    listed = replace(runtime, listings=JobCache())

    def list_jobs(*_: object, counted: Callable[[int], None], **_given: object) -> list[Job]:
        counted(1)
        return jobs

    azure: Any = SimpleNamespace(list_jobs=list_jobs, budget=runtime.backup.budget)
    listed.listings.get(
        azure,
        VaultId.parse(VAULT),
        oldest=now - 2 * _AGO,
        interval=runtime.settings.track_interval,
        now=lambda: now,
    )
    deliveries = _deliveries(bodies, "track")
    return _cpu(lambda batch: handle_batch(batch, listed), [deliveries]) / count


def _with_call(runtime: Any, numbers: list[int]) -> float:
    definition = TABLE.rows["trigger_backup"]
    bodies = [step_body("trigger_backup", backup_task(f"db{n:04}"), sender="select_items") for n in numbers]
    return _cpu(lambda delivery: handle(definition, delivery, runtime), _deliveries(bodies, "trigger-backup"))
