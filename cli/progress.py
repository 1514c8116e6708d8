"""The progress of requests: what has started, ended and failed, the time so far, and an estimate of the rest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any, Final

from cli.awaited_requests import AwaitedRequests, is_success
from cli.embedded import EmbeddedApp
from cli.wording import restored_to
from shared.bus.topology import STEP_QUEUES, TRACK


@dataclass(frozen=True, kw_only=True)
class InFlight:
    """One message of a workflow on its way."""

    source: str
    request_id: str
    operation: str
    #: None: the request as a whole
    database: str | None
    step: str
    #: None where the service's clock is not known yet
    age: timedelta | None
    job_id: str | None = None
    percent: float | None = None
    #: calls to Azure have not succeeded for it, one after another
    failing: bool = False

    @property
    def doing(self) -> str:
        """The step, and whether its operation or job is followed."""
        if self.job_id is not None:
            return f"{self.operation} job {self.job_id[:8]}"
        return self.step.replace("_", " ").replace("-", " ")


@dataclass(frozen=True)
class Moving:
    """The work in flight: some of the messages, jobs first, and how many there are."""

    shown: Sequence[InFlight] = ()
    total: int = 0


NOTHING_MOVES: Final = Moving()

#: How many durations an estimate needs.
_ENOUGH: Final = 5


def in_flight(app: EmbeddedApp, most: int) -> Moving:
    """The messages that are tracked and those between steps: `most` of them, and the true number of all.

    A database whose step has sent the next message and not ended yet has two: it is shown and counted once.
    """
    clock = app.runtime.service_clock
    now = clock.now() if clock.is_known else None
    shown: list[InFlight] = []
    seen: set[tuple[str, ...]] = set()
    total = 0
    for queue in (TRACK, *STEP_QUEUES):
        counts = app.broker.counts(queue)
        total += counts.active + counts.scheduled + counts.locked
        if len(shown) < most:
            for message in app.messages(queue, most - len(shown)):
                found = read_in_flight(message.body, now)
                if found is None:
                    continue
                key = (found.operation, found.source, found.request_id, found.database or "")
                if found.database is not None and key in seen:
                    total -= 1
                else:
                    seen.add(key)
                    shown.append(found)
    return Moving(shown, total)


def read_in_flight(body: bytes, now: datetime | None) -> InFlight | None:
    """What a message between steps is about, at `now`; None where this version cannot tell."""
    try:
        content: Any = json.loads(body)
        request, payload = content["request"], content["payload"]
        tracked = content["step"] == TRACK
        task = payload["payload"] if tracked else payload
        followed = payload["of"] if tracked else {}
        began = datetime.fromisoformat(payload["began"] if tracked else content["since"])
        return InFlight(
            source=request["source"],
            request_id=request["id"],
            operation=request["operation"],
            database=_database(task),
            step=payload["origin"] if tracked else content["step"],
            age=None if now is None else max(timedelta(), now - began),
            job_id=followed.get("jobId"),
            percent=followed.get("percentComplete"),
            failing=content.get("failingSince") is not None,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # of another version, which the app will report


def _database(task: dict[str, Any]) -> str | None:
    database = task.get("database")
    if not isinstance(database, dict):
        return None
    machine = str(database.get("vmId") or "").rpartition("/")[2]
    parent = database.get("instance") or database.get("availabilityGroup") or ""
    place = "/".join(part for part in (machine, parent, database["name"]) if part)
    if isinstance(task.get("target"), dict):
        source = {**database, "database": database["name"], "target": task["target"]}
        return f"{place} to {restored_to(source)}"
    return place


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The sums of a run so far."""

    #: databases, as far as they are known
    total: int = 0
    ended: int = 0
    failed: int = 0
    running: int = 0
    elapsed: timedelta = timedelta()
    #: None while nothing has ended to estimate it from
    remaining: timedelta | None = None

    @property
    def waiting(self) -> int:
        """Databases whose job has not started."""
        return max(0, self.total - self.ended - self.running)


class Stopwatch:
    """Computes the progress of a run. Durations are in the service's time, as everywhere.

    Args:
        awaited: the requests.
        scale: this machine's seconds in a second of the service.
        began: when the run began, by the machine's monotonic clock, in seconds.
    """

    def __init__(self, awaited: AwaitedRequests, *, scale: float, began: float) -> None:
        self._awaited = awaited
        self._scale = scale
        self._began = began
        self._started_before = 0

    def begin(self) -> None:
        """Leave out what is known now: an earlier run did it, so it says nothing about this run's speed."""
        self._started_before = self._started()

    def elapsed(self, at: float) -> timedelta:
        """How long the run has taken."""
        return timedelta(seconds=max(0.0, at - self._began) / self._scale)

    def _started(self) -> int:
        return sum(len(request.begun) for request in self._awaited.requests)

    def progress(self, at: float) -> Progress:
        """The sums. `at`: by the machine's monotonic clock, in seconds."""
        outcomes = list(self._awaited.final_outcomes())
        total = sum(request.outcome_count or 0 for request in self._awaited.requests)
        running = sum(
            len(request.begun - {outcome["data"]["outcomeKey"] for outcome in request.final_outcomes()})
            for request in self._awaited.requests
        )
        elapsed = self.elapsed(at)
        so_far = Progress(
            total=total,
            ended=len(outcomes),
            failed=sum(not is_success(outcome) for outcome in outcomes),
            running=running,
            elapsed=elapsed,
        )
        durations = [
            outcome["data"]["durationSeconds"]
            for outcome in outcomes
            if isinstance(outcome["data"].get("durationSeconds"), int | float)
        ]
        if len(durations) < min(_ENOUGH, total) or so_far.ended >= total:
            return so_far
        one = timedelta(seconds=median(durations))
        remaining = one
        if so_far.waiting:
            begun = self._started() - self._started_before
            if not begun:
                return so_far
            # The last waiting one starts as late as the pace so far suggests, and takes as long as others.
            remaining = one + elapsed * (so_far.waiting / begun)
        return Progress(**{**so_far.__dict__, "remaining": remaining})
