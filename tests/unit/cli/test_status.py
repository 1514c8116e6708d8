"""`sqlvmbackup status` and `watch`: true numbers, the oldest first, and nothing taken out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cli.main import main
from local.broker import Broker
from shared.bus import OutgoingMessage
from shared.clock import MachineTime

pytest.importorskip("proton", reason="python-qpid-proton is a development dependency")

JsonObject = dict[str, Any]


def step(number: int, *, request: str, began: datetime, name: str = "trigger_backup") -> OutgoingMessage:
    """A message between steps, as far as it is looked at."""
    task = {"database": {"instance": "MSSQLSERVER", "name": f"db{number}"}}
    body = {
        "version": 2,
        "step": name,
        "since": began.isoformat(),
        "request": {"source": "/tests", "id": request, "operation": "backup"},
        "payload": task,
    }
    return OutgoingMessage(
        entity=name.replace("_", "-"), body=json.dumps(body).encode(), message_id=f"{request}-{number}"
    )


def other(entity: str, name: str) -> OutgoingMessage:
    return OutgoingMessage(entity=entity, body=b"{}", message_id=name)


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker(None) as found:
        yield found


def call(
    broker: Broker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *command: str
) -> Any:
    from tests.amqp import serving_amqp

    with serving_amqp(broker) as amqp_server:
        monkeypatch.setenv("ServiceBusConnection", amqp_server.connection_string)
        status = main([*command, "--namespace", f"127.0.0.1:{amqp_server.port}", "--json"])
    return status, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_every_message_in_flight_is_counted_and_the_oldest_request_comes_first(
    broker: Broker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    young = [step(number, request="young", began=now) for number in range(300)]
    old = [step(1, request="old", began=now - timedelta(hours=3))]
    later = MachineTime(now + timedelta(hours=1))
    scheduled = step(2, request="old", began=now - timedelta(hours=2))
    scheduled = OutgoingMessage(
        entity=scheduled.entity, body=scheduled.body, message_id=scheduled.message_id, scheduled_for=later
    )
    for message in (*young, *old, scheduled, other("backup-requests", "new")):
        broker.send(message.entity, [message])
    status, (first, second, sums) = call(broker, capsys, monkeypatch, "status")
    assert status == 0
    assert (first["request"], first["messages"], first["step"]) == ("old", 2, "trigger-backup")
    assert first["oldestSeconds"] >= 3 * 3600
    assert first["database"] == "MSSQLSERVER/db1"
    assert (second["request"], second["messages"]) == ("young", 300)
    assert sums == {
        "requests": 2,
        "messages": 302,
        "waiting": 1,
        "deadLetters": 0,
        "parked": 0,
        "countedInPart": [],
    }
    counts = broker.counts("trigger-backup")
    assert (counts.active, counts.scheduled) == (301, 1), "nothing was taken out"


def test_what_waits_for_somebody_is_told_by_the_exit_status(
    broker: Broker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for message in (other("parked-messages", "p"), other("dead-letters", "d"), other("track", "unreadable")):
        broker.send(message.entity, [message])
    status, (sums,) = call(broker, capsys, monkeypatch, "status")
    assert status == 1
    assert (sums["parked"], sums["deadLetters"], sums["messages"]) == (1, 1, 1)
    status, (again,) = call(broker, capsys, monkeypatch, "watch", "--once")
    assert (status, again) == (0, sums)


def test_without_a_namespace_it_says_how_to_name_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ServiceBusConnection__fullyQualifiedNamespace", raising=False)
    assert main(["status"]) == 2
    assert "--namespace" in capsys.readouterr().err
