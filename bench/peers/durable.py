"""What Durable Functions costs the Python worker for a monitor: a replay of its history at each wake-up. The history
is what the task hub keeps for the documented monitor pattern, eight events per poll:
https://learn.microsoft.com/azure/azure-functions/durable/durable-functions-monitor
Only the worker's side is measured: neither the host nor its storage.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any, Final

_START: Final = datetime(2026, 1, 5, 8, tzinfo=UTC)
_INTERVAL: Final = timedelta(seconds=30)


class _Event(IntEnum):
    """The events of a history that a monitor leaves."""

    EXECUTION_STARTED = 0
    TASK_SCHEDULED = 4
    TASK_COMPLETED = 5
    TIMER_CREATED = 10
    TIMER_FIRED = 11
    ORCHESTRATOR_STARTED = 12
    ORCHESTRATOR_COMPLETED = 13


def monitor(context: Any) -> Generator[Any, Any, str]:
    """Poll a job every 30 seconds until it has ended."""
    while True:
        status: str = yield context.call_activity("look_at_job", "job-1")
        if status != "InProgress":
            return status
        yield context.create_timer(context.current_utc_datetime + _INTERVAL)


def history(polls: int) -> str:
    """The context that the extension sends to the worker when the timer fires after that many polls."""
    events: list[dict[str, Any]] = []

    def add(event: _Event, at: datetime, **more: Any) -> None:
        stamp = f"{at:%Y-%m-%dT%H:%M:%S.%f}Z"
        events.append({"EventType": int(event), "EventId": -1, "IsPlayed": False, "Timestamp": stamp} | more)

    at = _START
    add(_Event.ORCHESTRATOR_STARTED, at)
    add(_Event.EXECUTION_STARTED, at, Name="monitor", Input='"job-1"', Version=None)
    task = 0
    for _ in range(polls):
        add(_Event.TASK_SCHEDULED, at, EventId=task, Name="look_at_job")
        add(_Event.ORCHESTRATOR_COMPLETED, at)
        at += timedelta(seconds=1)
        add(_Event.ORCHESTRATOR_STARTED, at)
        add(_Event.TASK_COMPLETED, at, TaskScheduledId=task, Result='"InProgress"')
        fire = f"{at + _INTERVAL:%Y-%m-%dT%H:%M:%S.%f}Z"
        add(_Event.TIMER_CREATED, at, EventId=task + 1, FireAt=fire)
        add(_Event.ORCHESTRATOR_COMPLETED, at)
        at += _INTERVAL
        add(_Event.ORCHESTRATOR_STARTED, at)
        add(_Event.TIMER_FIRED, at, TimerId=task + 1, FireAt=fire)
        task += 2
    return json.dumps(
        {
            "history": events,
            "input": '"job-1"',
            "instanceId": "0123456789abcdef0123456789abcdef",
            "isReplaying": False,
            "parentInstanceId": None,
            "upperSchemaVersion": 2,
        }
    )


def replay(body: str) -> float:
    """Seconds of this thread's processor time that one replay takes. Raises AssertionError unless the monitor
    continues as it should.
    """
    from azure.durable_functions import Orchestrator

    handle = Orchestrator.create(monitor)
    began = time.thread_time()
    state = json.loads(handle(body))
    elapsed = time.thread_time() - began
    assert not state["isDone"], state
    return elapsed
