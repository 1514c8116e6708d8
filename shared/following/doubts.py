"""Doubts: an `unknown` outcome is sent only once no other message is on its way that may know better.

The tracker's queue forgets the ids of its messages after an hour. If the app or its bus stood still for longer, a
repeated delivery may end in a doubt although an earlier one has gone on, and duplicate detection no longer drops it.
So before a doubt is sent, the queues are looked through; while another message is on its way for the same part of the
same request, the doubt waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, Final

from shared.bus import BusError, BusUnavailableError
from shared.engine.message import TRACK, Ending, Following, StepMessage
from shared.engine.result import Later
from shared.engine.run import NewerVersionError, read_step
from shared.engine.runtime import Runtime
from shared.engine.table import UnknownStepError
from shared.engine.telemetry import log_context
from shared.log import logger
from shared.messages.cloud_events import InvalidMessageError
from shared.messages.events import DOUBTS

_log: Final = logger(__name__)

_FIRST_WAIT: Final = timedelta(minutes=1)
_LONGEST_WAIT: Final = timedelta(minutes=15)

#: Identifies a part of a request: the request's source and id, and the database.
Part = tuple[str, ...]


def is_doubt(message: StepMessage[Any]) -> bool:
    """Whether all that is left for a message is to send a doubt."""
    of = message.payload.of if isinstance(message.payload, Following) else None
    return isinstance(of, Ending) and of.status in DOUBTS


def part_of(message: StepMessage[Any]) -> Part:
    """The request that a message belongs to, and the database that it is about."""
    return (*message.request.key, str(message.request.epoch), message.payload.part)


def outstanding(messages: Iterable[StepMessage[Any]], runtime: Runtime) -> frozenset[Part]:
    """The parts of requests whose doubts, among these messages, have to wait for other messages.

    All of them where the bus cannot be asked just now; none where this identity may not look into queues.
    """
    now = runtime.service_clock.now()
    doubts = [
        message
        for message in messages
        if is_doubt(message) and now - message.payload.began <= _patience(message, runtime)
    ]
    if not doubts:
        return frozenset()
    wanted = {part_of(message) for message in doubts}
    steps = {TRACK}.union(*(runtime.table.onward(message.payload.origin) for message in doubts))
    try:
        return frozenset(
            part_of(other)
            for step in sorted(steps)
            for other in _peeked(step, runtime)
            if not is_doubt(other) and part_of(other) in wanted
        )
    except BusUnavailableError as error:
        _log.warning(
            "doubts wait until the queues can be looked into: %s", error, extra={"action": "tell_doubts"}
        )
        return frozenset(wanted)
    except BusError as error:
        _log.error(
            "doubts are told though the queues cannot be looked into: %s",
            error,
            extra={"action": "tell_doubts"},
        )
        return frozenset()


def wait(message: StepMessage[Any]) -> Later:
    """What follows for a doubt that is not to be sent yet."""
    _log.info("a doubt waits for others of its request", extra=log_context(message))
    after: timedelta = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(message.attempt, 10))
    return Later(after, attempt=message.attempt + 1)


def _patience(message: StepMessage[Any], runtime: Runtime) -> timedelta:
    """The longest that a doubt waits: no job is followed for longer."""
    return message.request.job_timeout or runtime.settings.job_timeout


def _peeked(step: str, runtime: Runtime) -> Sequence[StepMessage[Any]]:
    row = runtime.table.row(step)
    found = []
    for body in runtime.bus.peek(row.queue):
        try:
            found.append(read_step(row, body, runtime.table))
        except (InvalidMessageError, NewerVersionError, UnknownStepError):
            continue  # Of another version: it waits for the app that understands it.
    return found
