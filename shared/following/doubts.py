"""Doubts: an `unknown` outcome is sent only once no other message is on its way that may know better.

The tracker's queue forgets the ids of its messages after an hour. Where the app or its bus stood still for longer, a
delivery that comes again may come to a doubt although an earlier one of it has gone on: what it hands over is then no
duplicate any more. So before a doubt is published, the queues are looked through, and while another message is on its
way for the same part of the same request, the doubt waits.

A message may go from one queue to another meanwhile. It is in the second before it leaves the first, so a queue is
looked into after those that messages come from: the steps' in the order of the table, the tracker's before and after.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

from shared.bus import BusError, BusUnavailableError, UnknownEntityError
from shared.engine.message import TRACK, Ending, Following, StepMessage
from shared.engine.result import Later
from shared.engine.runtime import Runtime
from shared.engine.table import NewerVersionError, UnknownStepError, read_step
from shared.engine.telemetry import log_context
from shared.messages.cloud_events import InvalidMessageError, read_json
from shared.messages.events import DOUBTS
from shared.telemetry.log import logger

_log: Final = logger(__name__)

_FIRST_WAIT: Final = timedelta(minutes=1)
_LONGEST_WAIT: Final = timedelta(minutes=15)
#: Looking takes no longer, since a batch has other work, and its locks are not renewed.
_LONGEST_LOOK: Final = timedelta(seconds=30)

#: Identifies a part of a request: the request's source and id, and the database.
Part = tuple[str, ...]


def is_doubt(message: StepMessage[Any]) -> bool:
    """Whether all that is left for a message is to send a doubt."""
    followed = message.payload.followed if isinstance(message.payload, Following) else None
    return isinstance(followed, Ending) and followed.status in DOUBTS


def part_of(message: StepMessage[Any]) -> Part:
    """The request that a message belongs to, and the database that it is about."""
    return (*message.request.key, str(message.request.epoch), message.payload.part)


def outstanding(messages: Iterable[StepMessage[Any]], runtime: Runtime) -> frozenset[Part]:
    """The parts of requests whose doubts, among these messages, have to wait for other messages.

    Where the bus cannot be asked just now, or holds more than can be looked through, those are all of them. A queue
    that is not there holds nothing, and one that this identity may not look into is passed over.
    """
    doubts = [
        message
        for message in messages
        # No job is followed for longer.
        if is_doubt(message) and _waited(message) <= message.job_timeout(runtime.settings)
    ]
    if not doubts:
        return frozenset()
    wanted = {part_of(message) for message in doubts}
    onward = {step for message in doubts for step in runtime.table.onward(message.payload.origin)}
    steps = [step for step in runtime.table.rows if step in onward]
    until = runtime.clock.monotonic() + _LONGEST_LOOK.total_seconds()
    found: set[Part] = set()
    try:
        for step in (TRACK, *steps, TRACK):
            if found != wanted:
                found |= wanted.intersection(_others(step, doubts, runtime, until))
    except BusUnavailableError as error:
        _log.warning(
            "doubts wait until the queues can be looked into: %s", error, extra={"action": "tell_doubts"}
        )
        return frozenset(wanted)
    return frozenset(found)


def wait(message: StepMessage[Following]) -> Later:
    """What follows for a doubt that is not to be published yet.

    It may have polled more often than the one it waits for: of both the broker would keep the first.
    """
    following = message.payload
    assert isinstance(following.followed, Ending)
    waiting = following.changed(followed=following.followed.changed(has_waited=True))
    _log.info("a doubt waits for others of its request", extra=log_context(message))
    return Later(_pause(message.attempt), payload=waiting, attempt=message.attempt + 1)


def _pause(attempt: int) -> timedelta:
    """How long a doubt waits after so many waits."""
    after: timedelta = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(attempt, 10))
    return after


def _waited(message: StepMessage[Any]) -> timedelta:
    """How long a doubt has waited; the time that the app or its bus stood still is none of it."""
    return sum(map(_pause, range(message.attempt)), timedelta())


def _others(step: str, doubts: Sequence[StepMessage[Any]], runtime: Runtime, until: float) -> Iterator[Part]:
    """The parts that what a step's queue holds of the requests in doubt is about. Raises BusUnavailableError."""
    row = runtime.table.row(step)
    requests = {message.request.id for message in doubts}
    try:
        _in_time(row.queue, runtime, until)
        for body in runtime.bus.peek(row.queue):
            _in_time(row.queue, runtime, until)
            with suppress(InvalidMessageError):
                # Most are of others, and not worth being read as a whole.
                if (request := _request_id(read_json(body))) not in requests:
                    continue
                try:
                    other = read_step(row, body, runtime.table)
                except (NewerVersionError, UnknownStepError):
                    # It waits for the app that understands it, and may be about any part of its request.
                    yield from (part_of(message) for message in doubts if message.request.id == request)
                else:
                    if not is_doubt(other):
                        yield part_of(other)
    except BusUnavailableError:
        raise
    except UnknownEntityError:
        return  # It belongs to a workflow that this app does not serve.
    except BusError as error:
        _log.error(
            "doubts are published though a queue cannot be looked into: %s",
            error,
            extra={"action": "tell_doubts"},
        )


def _in_time(queue: str, runtime: Runtime, until: float) -> None:
    if runtime.clock.monotonic() > until:
        raise BusUnavailableError(f"looking through the queues takes too long, at {queue}")


def _request_id(raw: Any) -> str | None:
    request = raw.get("request") if isinstance(raw, dict) else None
    found = request.get("id") if isinstance(request, dict) else None
    return found if isinstance(found, str) else None
