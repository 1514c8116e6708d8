"""What the tests of effects share: what really happened in the simulated Azure, and settings that break."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from local.estate import JsonObject
from shared import composition
from tests.e2e.harness import Estate
from tests.faults.estate import Crash, FaultyEstate, Plan, gave_way


def effects(azure: Estate, route: str, database: str = "orders") -> list[JsonObject]:
    """The mutations of a database that did something: their jobs did not give way to another one."""
    return [
        entry
        for entry in azure.simulator.ledger_entries
        if entry["route"] == route
        and entry["item"].lower().endswith(f";{database}")
        and not gave_way(azure.simulator, entry["jobId"])
    ]


def did_once(azure: Estate, route: str, outcome: JsonObject) -> None:
    """One effect, and one true outcome: it succeeded, with the job that did it."""
    done = effects(azure, route)
    assert len(done) == 1, f"{len(done)} effects; the outcome is {outcome['status']}"
    assert outcome["status"] == "succeeded", outcome.get("error")
    assert outcome["job"]["id"] == done[0]["jobId"]


def true_outcomes(azure: Estate, outcomes: list[JsonObject], route: str) -> None:
    """Whatever succeeded did so by a job of its own database."""
    items = {entry["jobId"]: entry["item"].lower() for entry in azure.simulator.ledger_entries}
    for outcome in outcomes:
        data = outcome["data"]
        if data["status"] == "succeeded":
            assert items[data["job"]["id"]] == outcome["subject"].lower(), (
                f"{route}: a job of another database"
            )


def ask(azure: Estate, operation: str) -> JsonObject:
    """A backup, a restore to another database, or one over the original (which settings must allow)."""
    if operation == "backup":
        return azure.backup("orders")
    if operation == "restore":
        return azure.restore("orders", "orders_copy")
    return azure.restore("orders", target={"kind": "original"}, overwrite=True)


def route_of(operation: str) -> str:
    """The simulator's name for what an operation asks of it."""
    return "Backup" if operation == "backup" else "Restore"


OVERWRITING = {"RESTORE_ALLOW_OVERWRITE": "true"}


def crash_in_the_call(operation: str) -> Plan:
    """The process ends while its POST is out: Azure has taken it, and nobody reads the answer."""
    return Plan(at={f"POST {'backup' if operation == 'backup' else 'restore'}": "after"})


def until_it_crashes(azure: FaultyEstate) -> None:
    """Step the clock until the process dies."""
    for _ in range(1000):
        try:
            azure.host.run_until_idle()
        except Crash:
            azure.crashes += 1
            return
        due = azure.broker.next_due()
        assert due is not None, "it did not crash"
        azure.clock.advance_to(due)


@contextmanager
def settings_that_cannot_be_used(
    azure: FaultyEstate, monkeypatch: pytest.MonkeyPatch, **settings: str
) -> Iterator[None]:
    """The app starts again with these settings; at the end with the right ones."""
    azure.restart(release=True)
    with monkeypatch.context() as patched:
        for name, value in {**azure.settings, **settings}.items():
            patched.setenv(name, value)
        # What works without settings is the bus alone.
        patched.setattr(composition, "_bus", azure.bus)
        patched.setattr("shared.triggers.SystemClock", lambda: azure.clock)
        composition.install(None)
        yield
    azure.restart(release=True)


def advance(azure: Estate, by: timedelta) -> None:
    """Let the app work for so long."""
    until = azure.clock.now() + by
    while True:
        azure.host.run_until_idle()
        due = azure.broker.next_due()
        if due is None or due > until:
            azure.clock.advance_to(until)
            return
        azure.clock.advance_to(due)


def published(azure: Estate, request: JsonObject, kind: str) -> list[dict[str, Any]]:
    """The data of a request's events of a kind, such as `accepted`."""
    return [
        event["data"]
        for event in azure.events()
        if event["type"].split(".")[2] == kind and event["data"].get("requestId") == request["id"]
    ]
