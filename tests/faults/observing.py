"""What the tests of the fault matrix share: running requests to their end, and looking at what was asked of Azure."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final, Literal

import pytest

from local.estate import JsonObject
from shared.engine import run as engine_run
from shared.engine.message import Delivery, StepMessage
from shared.engine.table import Row
from shared.following import batch, lookup
from tests.faults.estate import Crash, FaultyEstate

Recovery = Literal["at once", "later"]
RECOVERIES: Final[tuple[Recovery, ...]] = ("at once", "later")


#: Opens an estate that is closed at the end of the test: `open_estate(scenario, plan, settings, sockets=True)`.
OpenEstate = Callable[..., FaultyEstate]


def run(estate: FaultyEstate, *requests: JsonObject) -> list[JsonObject]:
    """Send requests, let everything come to its end, check the invariants; the outcomes' data."""
    estate.submit(*requests)
    estate.quiesce()
    estate.check()
    return [outcome["data"] for request in requests for outcome in estate.outcomes_of(request)]


def one(outcomes: list[JsonObject]) -> JsonObject:
    """The only outcome."""
    (outcome,) = outcomes
    return outcome


def finished(estate: FaultyEstate, request: JsonObject) -> JsonObject:
    """The data of the request's one outcome, once nothing is left to do and the invariants hold."""
    return one(run(estate, request))


def proven(estate: FaultyEstate) -> None:
    """Let the vault show that it echoes client request ids: by a backup of another database."""
    assert finished(estate, estate.backup("billing"))["status"] == "succeeded"


def asked(estate: FaultyEstate, route: str) -> list[tuple[datetime, int | None]]:
    """When a route was asked, by Azure's clock, and what it answered (None: nothing)."""
    return [
        (datetime.fromisoformat(entry["time"]).replace(tzinfo=UTC), entry["status"])
        for entry in estate.simulator.access_entries
        if entry["route"] == route
    ]


def times(estate: FaultyEstate, route: str) -> list[datetime]:
    """When a route was asked."""
    return [at for at, _ in asked(estate, route)]


def gaps(estate: FaultyEstate, route: str) -> list[float]:
    """Seconds between one call of a route and the next."""
    return [(later - earlier).total_seconds() for earlier, later in pairwise(times(estate, route))]


@contextmanager
def deadly(queue: str, *requests: JsonObject, read: bool = False) -> Iterator[list[str]]:
    """Every message of these requests to a queue ends the process once it is worked on; whose did, in order.

    `read`: as soon as it is read, else only once its step, or its poll, is run.
    """
    of_tracker = batch if read else lookup
    module, name = (of_tracker if queue == "track" else engine_run), "read" if read else "run"
    inner: Callable[..., Any] = getattr(module, name)
    ids = {request["id"] for request in requests}
    killed: list[str] = []

    def die(row: Row, message: Delivery | StepMessage[Any], *rest: Any, **options: Any) -> Any:
        if isinstance(message, Delivery):
            body = json.loads(message.body)
            # The answer for a message that is parked does not do what that did.
            answer = body["payload"].get("of", {}).get("kind") == "end"
            request_id, to_queue = "" if answer else body["request"]["id"], message.queue
        else:
            request_id, to_queue = message.request.id, message.step.replace("_", "-")
        if request_id in ids and to_queue == queue:
            killed.append(request_id)
            raise Crash(f"a message of {request_id} to {queue} ends its process")
        return inner(row, message, *rest, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, name, die)
        yield killed


@contextmanager
def stranger() -> Iterator[tuple[str, list[bytes]]]:
    """Somebody else's server on this machine: its address, and what it was sent."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        done = threading.Event()

        def listen() -> None:
            while not done.is_set():
                with suppress(TimeoutError):
                    connection, _ = listener.accept()
                    with connection:
                        received.append(connection.recv(4096))

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}", received
        finally:
            done.set()
            thread.join(5)
