"""The steps of docs/operations.md for upgrade, rollback and loss of the namespace, walked on the whole app."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from cli.awaited_requests import AwaitedRequests
from cli.lost_requests import as_replay
from cli.request_lines import read_request_lines
from tests.e2e.harness import Estate, OpenEstate, statuses, virtual_machine

JsonObject = dict[str, Any]


def waiting(azure: Estate) -> Counter[str]:
    """What the queues between steps hold, as (queue, version of the message)."""
    found: Counter[str] = Counter()
    for queue in ("trigger-backup", "select-items", "track", "enable-protection"):
        for message in azure.broker.peek(queue, 0, 500):
            found[f"{queue} {json.loads(message.body)['version']}"] += 1
    return found


def step(azure: Estate, lasting: timedelta) -> None:
    """Let the app work for so long."""
    until = azure.clock.now() + lasting
    while (due := azure.broker.next_due()) is not None and due <= until:
        azure.clock.advance_to(due)
        azure.host.run_until_idle()
    azure.clock.advance_to(until)
    azure.host.run_until_idle()


PROTECTED = virtual_machine(
    "sqlvm1",
    *({"name": name, "protectedBy": "HourlyLogBackup"} for name in ("orders", "billing")),
    registeredTo="vault1",
)


def test_what_a_new_version_has_written_waits_unharmed_under_the_old_one(
    estate: OpenEstate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rolling back, and forward again: nothing is lost, and no backup is taken twice."""
    azure = estate({"virtualMachines": [PROTECTED], "durations": {"backup": 1800}})
    awaited = azure.send(azure.backup())
    azure.host.run_until_idle()
    step(azure, timedelta(minutes=2))
    assert azure.mutations["Backup"] == 2
    before = waiting(azure)
    assert before
    with monkeypatch.context() as older:
        older.setattr("shared.engine.table.VERSION", 1)
        step(azure, timedelta(hours=3))
        assert waiting(azure) == before, "the old version has touched them"
        assert not azure.parked()
    outcomes = azure.finish(awaited)
    assert statuses(outcomes) == {"succeeded": 2}
    assert azure.mutations["Backup"] == 2


def test_what_an_old_version_has_written_goes_on_under_the_new_one(estate: OpenEstate) -> None:
    """Upgrading with messages in flight: those of the version before are read."""
    azure = estate({"virtualMachines": [PROTECTED], "durations": {"backup": 1800}})
    awaited = azure.send(azure.backup())
    azure.host.run_until_idle()
    step(azure, timedelta(minutes=2))
    # The same process, begun anew: all that it knew is in the messages.
    azure.start()
    outcomes = azure.finish(awaited)
    assert statuses(outcomes) == {"succeeded": 2}
    assert azure.mutations["Backup"] == 2


@pytest.mark.parametrize("ended", [False, True], ids=["while jobs run", "after they ended"])
def test_after_the_loss_of_the_namespace_requests_adopt_what_they_had_begun(
    estate: OpenEstate, ended: bool
) -> None:
    azure = estate({"virtualMachines": [PROTECTED], "durations": {"backup": 1800}})
    request = azure.backup()
    (line,) = read_request_lines([json.dumps(request).encode()])
    azure.send(request)
    azure.host.run_until_idle()
    step(azure, timedelta(minutes=2))
    assert azure.mutations["Backup"] == 2
    if ended:
        azure.clock.advance(timedelta(hours=2))
    # Everything of the broker is gone; the vault and its jobs are not.
    azure.open_namespace()
    azure.start()
    lost = as_replay(line)
    azure.broker.send(lost.entity, [lost])
    outcomes = azure.finish(AwaitedRequests([line]))
    assert statuses(outcomes) == {"succeeded": 2}
    assert azure.mutations["Backup"] == 2, "each is found again by an id of its own"
    jobs = {entry["jobId"] for entry in azure.simulator.ledger_entries if entry["route"] == "Backup"}
    assert {outcome["data"]["job"]["id"] for outcome in outcomes} == jobs
