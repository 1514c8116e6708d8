"""`sqlvmbackup status` and `watch`: what a deployed app has in flight, by looking into its queues.

Messages are only peeked, so no reader misses one.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Self

from cli.encoding import JsonObject
from cli.errors import CommandError
from cli.namespace import connected
from cli.output import Output, output_of, print_rows
from cli.progress import InFlight, read_in_flight
from cli.wording import count_of, spoken
from local.host.service_bus import message_fields
from local.host.signals import stop_requested
from shared.bus.topology import DEAD_LETTERS, INTERNAL_QUEUES, PARKED_MESSAGES, TOPOLOGY
from shared.settings import SERVICE_BUS_NAMESPACE, host_setting

if TYPE_CHECKING:
    from azure.servicebus import ServiceBusClient, ServiceBusReceiver

_PAGE: Final = 250
#: Queues that are opened, or closed, at once.
_AT_ONCE: Final = 8
#: How many messages of a queue are counted; beyond that, the number is given as "at least".
_MOST: Final = 20_000
#: Seconds between two looks of `watch`.
_LOOK: Final = 5.0
_COLUMNS: Final = ("request", "operation", "step", "messages", "oldest", "database")


@dataclass
class Requests:
    """The messages of one request at one step."""

    request: str
    source: str
    operation: str
    step: str
    messages: int = 0
    age: timedelta = field(default_factory=timedelta)
    #: of the oldest message
    database: str | None = None

    @property
    def row(self) -> JsonObject:
        """As it is shown."""
        return {
            "request": self.request,
            "source": self.source,
            "operation": self.operation,
            "step": self.step,
            "messages": self.messages,
            "oldest": spoken(self.age),
            "oldestSeconds": round(self.age.total_seconds()),
            "database": self.database,
        }


@dataclass
class Status:
    """What the queues of an app hold at one moment."""

    in_flight: list[Requests]
    #: requests that no function has taken yet
    waiting: int
    #: messages whose request this version cannot read
    unknown: int
    dead_letters: int
    parked: int
    #: queues that hold more than were counted
    more: tuple[str, ...] = ()

    @property
    def sums(self) -> JsonObject:
        """The numbers, as a line of JSON."""
        messages = sum(each.messages for each in self.in_flight)
        return {
            "requests": len({(each.source, each.request) for each in self.in_flight}),
            "messages": messages + self.unknown,
            "waiting": self.waiting,
            "deadLetters": self.dead_letters,
            "parked": self.parked,
            "countedInPart": list(self.more),
        }

    @property
    def in_words(self) -> str:
        """The numbers in one sentence."""
        sums = self.sums
        least = f" At least: {', '.join(self.more)} hold more than were counted." if self.more else ""
        return (
            f"{count_of(sums['requests'], 'request')} in flight ({count_of(sums['messages'], 'message')}),"
            f" {self.waiting} not yet taken, {count_of(self.dead_letters, 'dead letter')}, {self.parked} parked.{least}"
        )


def show_status(options: argparse.Namespace) -> int:
    """Show what is in flight, once. Exit status: 1 where dead letters or parked messages wait for somebody."""
    output = output_of(options)
    with connected(_namespace(options)) as (_, client), Queues(client) as queues:
        status = queues.look(now=datetime.now(UTC))
    _show(status, output)
    return 1 if status.dead_letters or status.parked else 0


def watch(options: argparse.Namespace) -> int:
    """Show what is in flight, again and again, until interrupted."""
    output = output_of(options)
    with stop_requested() as stop, connected(_namespace(options)) as (_, client), Queues(client) as queues:
        while not stop.is_set():
            status = queues.look(now=datetime.now(UTC))
            if output.is_table and sys.stdout.isatty():
                print("\x1b[2J\x1b[H", end="")
            _show(status, output)
            sys.stdout.flush()
            if options.once:
                break
            stop.wait(_LOOK)
    return 0


def _namespace(options: argparse.Namespace) -> str:
    found: str = options.namespace or host_setting(os.environ, SERVICE_BUS_NAMESPACE)
    if not found:
        raise CommandError(f"--namespace: no namespace is named; give it, or set {SERVICE_BUS_NAMESPACE}.")
    return found


def _show(status: Status, output: Output) -> None:
    rows = [each.row for each in status.in_flight]
    print_rows(
        _COLUMNS,
        rows if output.is_table else [*rows, status.sums],
        output,
        nothing="Nothing is in flight.",
        spared=("database",),
    )
    if output.is_table:
        print(status.in_words)


class Queues:
    """Every queue of a namespace, open to be looked into. A context manager."""

    def __init__(self, client: ServiceBusClient) -> None:
        self._client = client
        self._receivers: dict[str, ServiceBusReceiver] = {}

    def __enter__(self) -> Self:
        # Opening and closing take most of a second each, whatever the queue holds.
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            opened = pool.map(self._open, [queue.name for queue in TOPOLOGY.queues])
            self._receivers = {name: receiver for name, receiver in opened if receiver is not None}
        return self

    def __exit__(self, *exception: object) -> None:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda receiver: receiver.close(), self._receivers.values()))

    def _open(self, queue: str) -> tuple[str, ServiceBusReceiver | None]:
        from azure.servicebus.exceptions import MessagingEntityNotFoundError

        receiver = self._client.get_queue_receiver(queue)
        try:
            receiver.__enter__()
        except MessagingEntityNotFoundError:
            # An app has the queues of the workflows that it serves.
            receiver.close()
            return queue, None
        return queue, receiver

    def look(self, *, now: datetime) -> Status:
        """What every queue holds; the oldest request first."""
        found: dict[tuple[str, str, str], Requests] = {}
        counts = dict.fromkeys((queue.name for queue in TOPOLOGY.queues), 0)
        unknown = 0
        for queue, receiver in self._receivers.items():
            for body in _bodies(receiver):
                counts[queue] += 1
                if queue in INTERNAL_QUEUES:
                    message = read_in_flight(body, now)
                    if message is None:
                        unknown += 1
                    else:
                        _add(found, message)
        last = (DEAD_LETTERS, PARKED_MESSAGES)
        return Status(
            in_flight=sorted(found.values(), key=lambda each: each.age, reverse=True),
            waiting=sum(count for name, count in counts.items() if name not in (*INTERNAL_QUEUES, *last)),
            unknown=unknown,
            dead_letters=counts[DEAD_LETTERS],
            parked=counts[PARKED_MESSAGES],
            more=tuple(name for name, count in counts.items() if count >= _MOST),
        )


def _add(found: dict[tuple[str, str, str], Requests], message: InFlight) -> None:
    key = (message.source, message.request_id, message.doing if message.job_id is None else "job")
    entry = found.get(key)
    if entry is None:
        step = message.step.replace("_", "-") if message.job_id is None else f"{message.operation} job"
        entry = found[key] = Requests(message.request_id, message.source, message.operation, step)
    entry.messages += 1
    age = message.age or timedelta()
    if entry.messages == 1 or age > entry.age:
        entry.age, entry.database = age, message.database


def _bodies(receiver: ServiceBusReceiver) -> Iterator[bytes]:
    """The bodies of a queue's messages, waiting and scheduled, oldest first."""
    next_number = count = 0
    while count < _MOST and (page := receiver.peek_messages(_PAGE, sequence_number=next_number)):
        for message in page:
            fields = message_fields(message)
            next_number = fields["sequence_number"] + 1
            count += 1
            yield fields["body"]
