"""The requests that are waited for, and their outcomes so far.

The rules are those of the message contract: an outcome belongs to the request and epoch that its data
names, a request is complete when `outcomeCount` distinct `outcomeKey`s have an outcome, and a higher epoch
supersedes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from cli.encoding import JsonObject
from cli.request_lines import RequestLine, request_key
from shared.messages.error_codes import ErrorCode
from shared.messages.events import REQUEST_KEY, SUCCESSES, Status
from shared.messages.identity import MOST_EPOCHS

_REJECTED: Final = "sqlvmbackup.request.rejected.v1"


@dataclass
class EpochProgress:
    """What is known of one epoch of a request."""

    accepted: JsonObject | None = None
    outcome_count: int | None = None
    #: by outcome key
    started: dict[str, JsonObject] = field(default_factory=dict)
    outcomes: dict[str, JsonObject] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every outcome is there."""
        return self.outcome_count is not None and len(self.outcomes) >= self.outcome_count


@dataclass
class AwaitedRequest:
    """One request that is waited for."""

    line: RequestLine
    epochs: dict[int, EpochProgress] = field(default_factory=dict)
    #: the epoch of a replay that is on its way: earlier epochs do not complete the request
    awaited_epoch: int = 0

    @property
    def outcome_count(self) -> int | None:
        """How many outcomes there will be, according to the newest epoch; None where not known yet."""
        counts = [self.epochs[epoch].outcome_count for epoch in sorted(self.epochs)]
        return next((count for count in reversed(counts) if count is not None), None)

    @property
    def answered(self) -> bool:
        """Whether every outcome has arrived, in any epoch."""
        count = self.outcome_count
        return count is not None and len(self.final_outcomes()) >= count

    @property
    def complete(self) -> bool:
        """Whether nothing more is waited for.

        A replay may concern one database or all of them: unless all have outcomes, only an idle broker shows that it
        has ended.
        """
        if self.awaited_epoch == 0:
            return self.answered
        replay = self.epochs.get(self.awaited_epoch)
        return replay is not None and replay.complete

    @property
    def accepted(self) -> JsonObject | None:
        """The data of the newest epoch's accepted event, where there is one."""
        found = [self.epochs[epoch].accepted for epoch in sorted(self.epochs)]
        newest = next((event for event in reversed(found) if event is not None), None)
        return None if newest is None else newest["data"]

    @property
    def begun(self) -> set[str]:
        """The outcome keys whose jobs have started, in any epoch."""
        return {key for epoch in self.epochs.values() for key in epoch.started}

    @property
    def known(self) -> bool:
        """Whether any event about it has arrived."""
        return any(epoch.accepted or epoch.outcomes for epoch in self.epochs.values())

    def take(self, kind: str, event: JsonObject, epoch: int) -> None:
        """Note an event of an epoch of this request; `kind` is from `event_kind`."""
        data = event["data"]
        progress = self.epochs.setdefault(epoch, EpochProgress())
        if isinstance(data.get("outcomeCount"), int):
            progress.outcome_count = max(progress.outcome_count or 1, data["outcomeCount"])
        if kind == "accepted":
            progress.accepted = event
        elif kind == "started":
            progress.started[data["outcomeKey"]] = event
        else:
            progress.outcomes.setdefault(data["outcomeKey"], event)

    def final_outcomes(self) -> list[JsonObject]:
        """The outcome of each database, from the highest epoch that has one."""
        final: dict[str, JsonObject] = {}
        for epoch in sorted(self.epochs):
            if self.epochs[epoch].outcomes:
                # A replay answers the databases it reached; an answer to the request as a whole stands for
                # all, and is itself superseded by answers to its databases.
                final.pop(REQUEST_KEY, None)
                final.update(self.epochs[epoch].outcomes)
        return list(final.values())


@dataclass(frozen=True)
class Observed:
    """An event that concerns a request that is waited for."""

    request: AwaitedRequest
    kind: str  #: `accepted`, `started` or `outcome`
    event: JsonObject


class AwaitedRequests:
    """The requests of one run."""

    def __init__(self, lines: Iterable[RequestLine]) -> None:
        self.requests = [AwaitedRequest(line) for line in lines]
        self._by_key = {request.line.key: request for request in self.requests}
        self._by_rejection = {
            request.line.rejected_id(epoch): (request, epoch)
            for request in self.requests
            for epoch in range(MOST_EPOCHS + 1)
        }

    @property
    def complete(self) -> bool:
        """Whether every request is."""
        return all(request.complete for request in self.requests)

    @property
    def succeeded(self) -> bool:
        """Whether every request is answered and every outcome that counts is a success."""
        return all(request.answered for request in self.requests) and all(
            is_success(outcome) for outcome in self.final_outcomes()
        )

    def final_outcomes(self) -> Iterator[JsonObject]:
        """The outcomes that count, in the order of the requests."""
        for request in self.requests:
            yield from request.final_outcomes()

    def find(self, operation: object, source: object, request_id: object) -> AwaitedRequest | None:
        """The request of that operation, source and id, if it is waited for."""
        if not (isinstance(operation, str) and isinstance(source, str) and isinstance(request_id, str)):
            return None
        return self._by_key.get(request_key(operation, source, request_id))

    def expect_epoch(self, request: AwaitedRequest, epoch: int) -> None:
        """Expect a replay of the request."""
        request.awaited_epoch = max(request.awaited_epoch, epoch)

    def find_rejection(self, event_id: object) -> tuple[AwaitedRequest, int] | None:
        """The request, with its epoch, whose rejection has this id."""
        return self._by_rejection.get(event_id) if isinstance(event_id, str) else None

    def observe(self, event: JsonObject) -> Observed | None:
        """Note an event of the topic; None where it concerns no request of this run."""
        data = event.get("data")
        kind = event_kind(event)
        if not isinstance(data, dict) or kind in (None, "gap"):
            # Gaps are in the outcome of their vault as well.
            return None
        if event.get("type") == _REJECTED:
            found = self.find_rejection(event.get("id"))
            if found is None:
                return None
            request, epoch = found
        else:
            operation = str(event.get("type")).split(".")[1]
            followed = self.find(operation, data.get("requestSource"), data.get("requestId"))
            if followed is None:
                return None
            request, epoch = followed, int(data.get("epoch", 0))
            if _refuses_all(data) and event.get("id") not in request.line.refusal_ids(epoch):
                # Somebody else sent a message with the same source and id: that one was refused, this one is accepted.
                return None
        request.take(kind, event, epoch)
        return Observed(request, kind, event)


def _refuses_all(data: JsonObject) -> bool:
    """Whether an outcome refuses a request as a whole."""
    return data.get("outcomeKey") == REQUEST_KEY and data.get("status") == Status.REJECTED


def event_kind(event: JsonObject) -> str | None:
    """`accepted`, `started`, `gap`, `outcome`, or None for what is no event of this app."""
    parts = str(event.get("type", "")).split(".")
    if len(parts) != 4 or parts[0] != "sqlvmbackup" or parts[2] == "requested":
        return None
    return parts[2] if parts[2] in ("accepted", "started", "gap") else "outcome"


def is_success(outcome: JsonObject) -> bool:
    """Whether it counts as a success for the exit status: a backup that was not needed does."""
    data = outcome.get("data", {})
    return (
        data.get("status") in set(SUCCESSES) or data.get("error", {}).get("code") == ErrorCode.RECENT_ENOUGH
    )
