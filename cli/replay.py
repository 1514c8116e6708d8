"""`sqlvmbackup replay`: lists, shows and sends again messages that could not be handled and were parked.

Each is read on its own: one that cannot be read or sent again does not hold up the others.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from cli.embedded import messages_in, open_kept_broker, step_request
from cli.encoding import JsonObject, json_text
from cli.errors import CommandError
from cli.output import output_of, print_rows, write_data
from local.broker import Broker, PeekedMessage, ReceivedMessage
from shared.arm.redaction import printable
from shared.bus import OutgoingMessage
from shared.bus.topology import INTERNAL_QUEUES, PARKED_MESSAGES, REPLAYS, REQUEST_QUEUES
from shared.engine.reconcile import REPLAYS_REACH
from shared.messages.cloud_events import InvalidMessageError, read_json
from shared.messages.identity import MOST_EPOCHS, fingerprint
from shared.messages.parked_body import unpacked
from shared.messages.reserved import (
    DESCRIPTION,
    EPOCH,
    ORIGINAL_MESSAGE_ID,
    ORIGINAL_QUEUE,
    REASON,
    without_reserved,
)

_COLUMNS: Final = ("number", "request", "queue", "epoch", "parked", "reason", "description")
_SHOWN: Final = 120
#: Times in a message between steps that show how old its work is.
_MOMENTS: Final = ("since", "at", "began")


class UnusableError(Exception):
    """A parked message cannot be sent again; the text says why."""


@dataclass(frozen=True, kw_only=True)
class ParkedMessage:
    """A parked message that can be read."""

    queue: str
    #: how often it has been sent again
    epoch: int
    body: bytes
    #: since when its request may have done something, as far as known
    since: datetime


def read_parked(message: PeekedMessage) -> ParkedMessage:
    """Read a parked message. Raises UnusableError."""
    properties = message.application_properties
    queue, epoch = properties.get(ORIGINAL_QUEUE), properties.get(EPOCH, 0)
    if not isinstance(queue, str) or queue not in REQUEST_QUEUES | INTERNAL_QUEUES:
        raise UnusableError(f"its {ORIGINAL_QUEUE} is {queue!r}, which is no queue of requests or of a step")
    if type(epoch) is not int or not 0 <= epoch <= MOST_EPOCHS:
        raise UnusableError(f"its {EPOCH} is {epoch!r}: expected a whole number from 0 to {MOST_EPOCHS}")
    try:
        body = unpacked(message.body, properties)
    except ValueError as error:
        raise UnusableError(str(error)) from None
    since = (
        min([message.enqueued_time, *_moments(body)]) if queue in INTERNAL_QUEUES else message.enqueued_time
    )
    return ParkedMessage(queue=queue, epoch=epoch, body=body, since=since)


def _moments(body: bytes) -> Iterator[datetime]:
    if not step_request(body):
        return
    content = json.loads(body)
    payload = content.get("payload")
    for part in (content, payload if isinstance(payload, dict) else {}):
        for name in _MOMENTS:
            try:
                moment = datetime.fromisoformat(str(part.get(name)))
            except ValueError:
                continue
            if moment.tzinfo is not None:
                yield moment


def message_again(message: PeekedMessage) -> OutgoingMessage:
    """The message that sends a parked one again, under the next epoch, which neither it nor its answers had.

    Raises UnusableError.
    """
    parked = read_parked(message)
    epoch = parked.epoch + 1
    if epoch > MOST_EPOCHS:
        raise UnusableError(f"it has been sent again {MOST_EPOCHS} times: find the cause, and send it anew")
    properties = message.application_properties
    original_id = properties.get(ORIGINAL_MESSAGE_ID) or message.message_id
    own = {
        name: value
        for name, value in without_reserved(properties).items()
        if isinstance(value, str | int | bool)
    }
    return OutgoingMessage(
        entity=REPLAYS,
        body=parked.body,
        # An id that a sender chose may be that of a message of another queue, or of other bytes.
        message_id=fingerprint("replay", parked.queue, original_id, parked.body.hex(), epoch),
        content_type=message.content_type or "application/json",
        subject=message.subject,
        correlation_id=message.correlation_id,
        application_properties={**own, ORIGINAL_QUEUE: parked.queue, EPOCH: epoch},
    )


def why_not(message: PeekedMessage, *, again: bool, now: datetime) -> str | None:
    """Why a parked message is not sent again; None where it can be.

    `again`: send it although what it did before can no longer be found.
    """
    try:
        message_again(message)
        parked = read_parked(message)
    except UnusableError as error:
        return str(error)
    if now - parked.since <= REPLAYS_REACH or again:
        return None
    return (
        f"it is from {parked.since:%Y-%m-%d}, and a replay looks for what its request has done before in the jobs of"
        f" the last {REPLAYS_REACH.days} days; give --again to have it done all the same"
    )


class Parked(Protocol):
    """A queue of parked messages, local or deployed."""

    def peek(self) -> Sequence[PeekedMessage]:
        """All parked messages, oldest first."""
        ...

    def replay(self, numbers: frozenset[int]) -> int:
        """Send the messages with these numbers again, then remove them; returns how many were sent.

        A message that cannot be sent again stays parked.
        """
        ...


class ParkedInState:
    """The parked messages of a run's own broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def peek(self) -> list[PeekedMessage]:
        return list(messages_in(self._broker, PARKED_MESSAGES))

    def replay(self, numbers: frozenset[int]) -> int:
        held: list[ReceivedMessage] = []
        left = set(numbers)
        sent = 0
        try:
            while left and (received := self._broker.receive(PARKED_MESSAGES)):
                message = received[0]
                if message.sequence_number not in left:
                    held.append(message)
                    continue
                left.remove(message.sequence_number)
                try:
                    again = message_again(message)
                except UnusableError:
                    held.append(message)
                    continue
                # Sent before it is removed: if the process dies in between, it is not lost, and a second send is a
                # duplicate.
                self._broker.send(again.entity, [again])
                self._broker.complete(PARKED_MESSAGES, message.lock_token)
                sent += 1
        finally:
            for message in held:
                self._broker.abandon(PARKED_MESSAGES, message.lock_token)
        return sent


def replay(options: argparse.Namespace) -> int:
    """List, show or send again."""
    output = output_of(options)
    with _parked(options) as parked:
        messages = parked.peek()
        if options.action == "list":
            print_rows(
                _COLUMNS,
                [_row(message) for message in messages],
                output,
                nothing="No message is parked.",
                spared=("epoch", "parked", "queue"),
            )
            return 1 if any(_problem(message) for message in messages) else 0
        numbers = _numbers(options, messages)
        chosen = [message for message in messages if message.sequence_number in numbers]
        if options.action == "show":
            shown = [_whole(message) for message in chosen]
            if output.is_table:
                # A body has no place in a table.
                for row in shown:
                    print(json_text(row, indent=2))
            else:
                write_data(shown, output)
            return 1 if any(_problem(message) for message in chosen) else 0
        now = datetime.now(UTC)
        kept = {message.sequence_number: why_not(message, again=options.again, now=now) for message in chosen}
        for number, why in kept.items():
            if why is not None:
                print(printable(f"{number} is not sent again: {why}."), file=sys.stderr)
        sent = parked.replay(frozenset(number for number, why in kept.items() if why is None))
        if any(_problem(message) for message in chosen):
            print(
                "What cannot be sent again can be read with `replay show`, and its request given anew.",
                file=sys.stderr,
            )
        print(f"{sent} of {len(numbers)} sent again.{_what_next(options)}", file=sys.stderr)
        return 0 if sent == len(numbers) else 1


def _what_next(options: argparse.Namespace) -> str:
    if options.state is None:
        return ""
    return f" They are handled by `sqlvmbackup run --state {options.state}`."


@contextmanager
def _parked(options: argparse.Namespace) -> Iterator[Parked]:
    if options.namespace is not None:
        from cli.namespace import parked_in_namespace

        with parked_in_namespace(options.namespace) as parked:
            yield parked
        return
    with open_kept_broker(options.state) as broker:
        yield ParkedInState(broker)


def _numbers(options: argparse.Namespace, messages: Sequence[PeekedMessage]) -> frozenset[int]:
    there = frozenset(message.sequence_number for message in messages)
    if options.all:
        return there
    numbers = frozenset(options.numbers)
    if not numbers:
        raise CommandError(f"name the messages to {options.action} by their numbers, or --all.")
    unknown = sorted(numbers - there)
    if unknown:
        known = ", ".join(map(str, sorted(there)[:20])) or "none"
        raise CommandError(f"no parked message has the number {unknown[0]}; there are: {known}.")
    return numbers


def _problem(message: PeekedMessage) -> str | None:
    try:
        read_parked(message)
    except UnusableError as error:
        return str(error)
    return None


def _row(message: PeekedMessage) -> JsonObject:
    properties = message.application_properties
    problem = _problem(message)
    description = str(properties.get(DESCRIPTION, ""))
    if len(description) > _SHOWN:
        description = f"{description[:_SHOWN]}…"
    return {
        "number": message.sequence_number,
        "request": _request_id(message),
        "queue": properties.get(ORIGINAL_QUEUE),
        "epoch": properties.get(EPOCH, 0),
        "parked": message.enqueued_time.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "reason": properties.get(REASON),
        "description": description if problem is None else f"cannot be sent again: {problem}",
    }


def _request_id(message: PeekedMessage) -> str | None:
    """The id of the request that a parked message is, or belongs to, as far as it can be read."""
    try:
        content = read_json(read_parked(message).body)
    except (UnusableError, InvalidMessageError):
        return None
    named = content.get("request", content) if isinstance(content, dict) else None
    found = named.get("id") if isinstance(named, dict) else None
    return found if isinstance(found, str) else None


def _whole(message: PeekedMessage) -> JsonObject:
    shown = _row(message)
    try:
        body = read_parked(message).body
        shown["description"] = message.application_properties.get(DESCRIPTION)
    except UnusableError:
        body = message.body
    shown["body"] = body.decode("utf-8", "backslashreplace")
    return shown
