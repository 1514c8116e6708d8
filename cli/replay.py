"""`sqlvmbackup replay`: messages that could not be handled, put away whole; listed, shown, sent again."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from cli.display import json_lines, print_rows
from cli.embedded import BROKER_FILE, open_broker
from cli.errors import CommandError
from local.broker import Broker, PeekedMessage, ReceivedMessage
from shared.bus import OutgoingMessage
from shared.bus.topology import PARKED_MESSAGES
from shared.messages.parking import ENCODING, unpacked
from shared.messages.steps import fingerprint

JsonObject = dict[str, Any]

_COLUMNS: Final = ("number", "queue", "epoch", "parked", "reason", "description")
#: Of the parked message itself, not of the one that is sent again.
_OF_PARKING: Final = frozenset(
    {
        "reason",
        "description",
        "originalQueue",
        "originalMessageId",
        "epoch",
        ENCODING,
        "DeadLetterReason",
        "DeadLetterErrorDescription",
        "DeadLetterSource",
    }
)
_SHOWN: Final = 120


class Parked(Protocol):
    """The queue of parked messages, wherever it is."""

    def peek(self) -> Sequence[PeekedMessage]:
        """Everything that is there, oldest first."""
        ...

    def replay(self, numbers: frozenset[int]) -> int:
        """Send those with these numbers again, then remove them; how many there were."""
        ...


class ParkedInState:
    """The parked messages of a run's own broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def peek(self) -> list[PeekedMessage]:
        found: list[PeekedMessage] = []
        while page := self._broker.peek(PARKED_MESSAGES, found[-1].sequence_number + 1 if found else 0):
            found += page
        return found

    def replay(self, numbers: frozenset[int]) -> int:
        held: list[ReceivedMessage] = []
        left = set(numbers)
        try:
            while left and (received := self._broker.receive(PARKED_MESSAGES)):
                message = received[0]
                if message.sequence_number not in left:
                    held.append(message)
                    continue
                again = message_again(message)
                # Sent before it is removed: whatever happens in between, it is not lost, and is a duplicate.
                self._broker.send(again.entity, [again])
                self._broker.complete(PARKED_MESSAGES, message.lock_token)
                left.remove(message.sequence_number)
        finally:
            for message in held:
                self._broker.abandon(PARKED_MESSAGES, message.lock_token)
        return len(numbers) - len(left)


def message_again(message: PeekedMessage) -> OutgoingMessage:
    """A parked message as it is sent again: the next epoch, which neither it nor its answers have had."""
    properties = message.application_properties
    epoch = _epoch(properties) + 1
    original_id = properties.get("originalMessageId") or message.message_id
    return OutgoingMessage(
        entity=str(properties["originalQueue"]),
        body=_body(message),
        message_id=fingerprint(original_id, epoch),
        content_type=message.content_type or "application/json",
        subject=message.subject,
        correlation_id=message.correlation_id,
        application_properties={**_kept(properties), "epoch": epoch},
    )


def _body(message: PeekedMessage) -> bytes:
    try:
        return unpacked(message.body, message.application_properties)
    except ValueError as error:
        raise CommandError(f"parked message {message.sequence_number} cannot be read: {error}.") from None


def _kept(properties: Mapping[str, Any]) -> dict[str, str | int | bool]:
    return {
        name: value
        for name, value in properties.items()
        if name not in _OF_PARKING and isinstance(value, str | int | bool)
    }


def _epoch(properties: Mapping[str, Any]) -> int:
    epoch = properties.get("epoch", 0)
    return epoch if isinstance(epoch, int) else 0


def replay(options: argparse.Namespace) -> int:
    """List, show or send again."""
    with _parked(options) as parked:
        messages = parked.peek()
        if options.action == "list":
            print_rows(
                _COLUMNS,
                [_row(message) for message in messages],
                as_json=json_lines(options.json),
                nothing="No message is parked.",
                spared=("epoch", "parked"),
            )
            return 0
        numbers = _numbers(options, messages)
        if options.action == "show":
            for message in messages:
                if message.sequence_number in numbers:
                    _show(message, as_json=json_lines(options.json))
            return 0
        sent = parked.replay(numbers)
        print(f"{sent} of {len(numbers)} sent again.{_what_next(options)}", file=sys.stderr)
        return 0 if sent == len(numbers) else 1


def _what_next(options: argparse.Namespace) -> str:
    if options.state is None:
        return ""
    return f" They are handled by the next `sqlvmbackup run --state {options.state}`."


@contextmanager
def _parked(options: argparse.Namespace) -> Iterator[Parked]:
    if options.namespace is not None:
        from cli.namespace import parked_in_namespace

        with parked_in_namespace(options.namespace) as parked:
            yield parked
        return
    state: Path = options.state
    if not (state / BROKER_FILE).exists():
        raise CommandError(f"{state} keeps no run: name the directory that was given to run with --state.")
    with open_broker(state) as broker:
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


def _row(message: PeekedMessage) -> JsonObject:
    properties = message.application_properties
    return {
        "number": message.sequence_number,
        "queue": properties.get("originalQueue"),
        "epoch": _epoch(properties),
        "parked": message.enqueued_time.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "reason": properties.get("reason"),
        "description": str(properties.get("description", ""))[:_SHOWN],
    }


def _show(message: PeekedMessage, *, as_json: bool) -> None:
    shown = {
        **_row(message),
        "description": message.application_properties.get("description"),
        "body": _body(message).decode("utf-8", "backslashreplace"),
    }
    print(json.dumps(shown, ensure_ascii=False, indent=None if as_json else 2))
