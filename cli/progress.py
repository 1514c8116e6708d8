"""What is going on: which database is at which step, and for how long."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from cli.embedded import EmbeddedApp
from shared.bus.topology import STEP_QUEUES, TRACK

#: Of one queue; a person reads no more.
_MOST: Final = 100


@dataclass(frozen=True, kw_only=True)
class InFlight:
    """One message of a workflow on its way."""

    source: str
    request_id: str
    operation: str
    #: None: the request as a whole
    database: str | None
    step: str
    age: timedelta
    job_id: str | None = None
    percent: float | None = None

    @property
    def doing(self) -> str:
        """The step, and whether its operation or job is followed."""
        if self.job_id is not None:
            return f"{self.operation} job {self.job_id[:8]}"
        return self.step.replace("_", " ").replace("-", " ")


def in_flight(app: EmbeddedApp) -> Iterator[InFlight]:
    """The messages between steps and those that are tracked, oldest first in each queue."""
    now = app.runtime.service_clock.now()
    for queue in (*STEP_QUEUES, TRACK):
        for message in app.messages(queue, _MOST):
            found = read_in_flight(message.body, now)
            if found is not None:
                yield found


def read_in_flight(body: bytes, now: datetime) -> InFlight | None:
    """What a message between steps is about, at `now`; None where this version cannot tell."""
    try:
        content: Any = json.loads(body)
        request, payload = content["request"], content["payload"]
        tracked = content["step"] == TRACK
        task = payload["payload"] if tracked else payload
        began = datetime.fromisoformat(payload["began"] if tracked else content["since"])
        return InFlight(
            source=request["source"],
            request_id=request["id"],
            operation=request["operation"],
            database=_database(task),
            step=payload["origin"] if tracked else content["step"],
            age=max(timedelta(), now - began),
            job_id=payload.get("jobId") if tracked else None,
            percent=payload.get("percentComplete") if tracked else None,
        )
    except (ValueError, KeyError, TypeError):
        return None  # of another version: the app says what it thinks of it


def _database(task: dict[str, Any]) -> str | None:
    database = task.get("database")
    if not isinstance(database, dict):
        return None
    machine = str(database.get("vmId") or "").rpartition("/")[2]
    parent = database.get("instance") or database.get("availabilityGroup") or ""
    return "/".join(part for part in (machine, parent, database["name"]) if part)
