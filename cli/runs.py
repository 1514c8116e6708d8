"""`sqlvmbackup runs`: the requests that a state folder holds, what is unfinished, and how to go on."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Any, Final

from cli.awaited_requests import AwaitedRequest, event_kind
from cli.embedded import OUTCOMES, messages_in, open_kept_broker, request_of
from cli.encoding import JsonObject
from cli.output import output_of, print_rows
from cli.replay import UnusableError, read_parked
from cli.request_lines import request_key, request_label, request_line
from local.broker import Broker
from shared.arm.redaction import printable
from shared.bus.topology import (
    DEAD_LETTERS,
    PARKED_MESSAGES,
    REPLAYS,
    REQUEST_QUEUES,
    STEP_QUEUES,
    TRACK,
)
from shared.messages.cloud_events import InvalidMessageError
from shared.messages.events import SUCCESSES
from shared.messages.identity import MOST_EPOCHS

_COLUMNS: Final = ("request", "state", "databases", "began", "last")
#: What a request's line may hold, in this order.
_FIELDS: Final = (
    "operation",
    "source",
    "id",
    "state",
    "outcomeCount",
    "outcomes",
    "succeeded",
    "moving",
    "parked",
    "began",
    "last",
    "toGoOn",
)
_NEVER: Final = datetime.max.replace(tzinfo=UTC)


@dataclass
class KeptRequest:
    """A request as a state folder knows it."""

    operation: str
    source: str
    id: str
    request: AwaitedRequest
    began: datetime | None = None
    #: when something last happened to it
    last: datetime | None = None
    #: what is on its way, by step
    moving: Counter[str] = field(default_factory=Counter)
    #: how many of its messages were parked
    parked: int = 0

    @property
    def state(self) -> str:
        """`finished`, `parked`, `unfinished`, or `waiting` where nothing of it has begun."""
        if self.moving or not self.request.answered:
            if self.request.known or set(self.moving) - REQUEST_QUEUES:
                return "unfinished"
            return "waiting"
        return "parked" if self.parked else "finished"

    @property
    def is_unfinished(self) -> bool:
        """Whether a run still has something to do for it."""
        return self.state in ("unfinished", "waiting")

    @property
    def statuses(self) -> Counter[str]:
        """How many of its databases ended in each status."""
        return Counter(outcome["data"]["status"] for outcome in self.request.final_outcomes())

    def heard(self, moment: datetime | None) -> None:
        """Note that something happened to it at that moment."""
        if moment is None:
            return
        self.began = min(self.began or moment, moment)
        self.last = max(self.last or moment, moment)

    def how_to_go_on(self, state: Path) -> str | None:
        """What to type, where something is left to do."""
        folder = quote(str(state))
        if self.is_unfinished:
            return f"sqlvmbackup run --state {folder}"
        if self.parked:
            return f"sqlvmbackup replay list --state {folder}"
        return None


def kept_requests(broker: Broker) -> list[KeptRequest]:
    """The requests that a state's broker knows, in the order in which they began."""
    found: dict[str, KeptRequest] = {}

    def kept(operation: object, source: object, request_id: object) -> KeptRequest | None:
        if not (isinstance(operation, str) and isinstance(source, str) and isinstance(request_id, str)):
            return None
        key = request_key(operation, source, request_id)
        if key not in found:
            try:
                line = request_line(
                    {
                        "specversion": "1.0",
                        "type": f"sqlvmbackup.{operation}.requested.v1",
                        "source": source,
                        "id": request_id,
                    }
                )
            except InvalidMessageError:
                return None
            found[key] = KeptRequest(operation, source, request_id, AwaitedRequest(line))
        return found[key]

    for message in messages_in(broker, OUTCOMES):
        event = _object(message.body)
        kind, data = event_kind(event), event.get("data")
        if kind is None or not isinstance(data, dict):
            continue
        operation = str(event["type"]).split(".")[1]
        request = kept(operation, data.get("requestSource"), data.get("requestId"))
        epoch = data.get("epoch", 0)
        if request is not None and type(epoch) is int and 0 <= epoch <= MOST_EPOCHS:
            request.request.take(kind, event, epoch)
            request.heard(_moment(event.get("time")))
    for queue in (*sorted(REQUEST_QUEUES), REPLAYS, *STEP_QUEUES, TRACK, DEAD_LETTERS):
        for message in messages_in(broker, queue):
            request = kept(*request_of(message.body))
            if request is not None:
                request.moving[queue] += 1
                request.heard(message.enqueued_time if queue in REQUEST_QUEUES else _since(message.body))
    for message in messages_in(broker, PARKED_MESSAGES):
        try:
            parked = read_parked(message)
        except UnusableError:
            continue
        request = kept(*request_of(parked.body))
        if request is not None:
            request.parked += 1
    return sorted(found.values(), key=lambda one: (one.began is None, one.began or _NEVER, one.id))


def show_runs(options: argparse.Namespace) -> int:
    """Show what a state folder holds; returns the exit status."""
    state: Path = options.state
    output = output_of(options)
    with open_kept_broker(state) as broker:
        requests = kept_requests(broker)
    # Unfinished requests come last, next to the prompt.
    requests.sort(key=lambda request: request.how_to_go_on(state) is not None)
    print_rows(
        _COLUMNS,
        [_row(request, state) if not output.is_table else _shown(request) for request in requests],
        output,
        nothing="The folder holds no request.",
        fields=_FIELDS,
        spared=("began", "last"),
    )
    if output.is_table:
        for how in dict.fromkeys(filter(None, (request.how_to_go_on(state) for request in requests))):
            print(printable(f"To go on: {how}"))
    return 0


def _row(request: KeptRequest, state: Path) -> JsonObject:
    count = request.request.outcome_count
    row: JsonObject = {
        "operation": request.operation,
        "source": request.source,
        "id": request.id,
        "state": request.state,
        "outcomeCount": count,
        "outcomes": dict(request.statuses),
        "succeeded": not request.is_unfinished
        and all(status in set(SUCCESSES) for status in request.statuses),
        "moving": dict(request.moving),
        "parked": request.parked,
        "began": _text(request.began),
        "last": _text(request.last),
        "toGoOn": request.how_to_go_on(state),
    }
    return {name: value for name, value in row.items() if value is not None}


def _shown(request: KeptRequest) -> JsonObject:
    count = request.request.outcome_count
    statuses = request.statuses
    told = ", ".join(f"{number} {status}" for status, number in statuses.items())
    done = f"{statuses.total()} of {count} done" if count is not None else ""
    moving = ", ".join(f"{number} in {queue}" for queue, number in request.moving.items())
    return {
        "request": request_label(request.operation, request.id),
        "state": request.state if not request.parked else f"{request.state}, {request.parked} parked",
        "databases": "; ".join(filter(None, (done, told, moving))),
        "began": _text(request.began),
        "last": _text(request.last),
    }


def _object(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _since(body: bytes) -> datetime | None:
    return _moment(_object(body).get("since"))


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z") if moment is not None else None
