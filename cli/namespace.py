"""A deployed app from outside: sends requests to its namespace, and reads outcomes and parked messages.

The topic's subscription is only peeked, so that no other reader misses a message.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from cli.awaited_requests import AwaitedRequests
from cli.display import display
from cli.errors import INTERRUPTED, CommandError
from cli.findings import reason_of
from cli.flags import in_flags
from cli.left_out import all_left_out
from cli.outcomes_file import OutcomesFile
from cli.output import output_of
from cli.progress import NOTHING_MOVES, Stopwatch
from cli.replay import Parked, UnusableError, message_again
from cli.request_lines import RequestLine
from cli.results import print_outcomes
from local.broker import PeekedMessage
from local.host.service_bus import message_fields
from local.host.signals import stop_requested
from shared.bus import BusError
from shared.bus.service_bus import ServiceBusBus, client_options
from shared.bus.topology import ALL_OUTCOMES, JOB_OUTCOMES, PARKED_MESSAGES
from shared.settings import SERVICE_BUS_CONNECTION, SettingsError, host_setting, service_bus_transport

if TYPE_CHECKING:
    from azure.servicebus import ServiceBusClient, ServiceBusReceiver

#: Seconds between two looks at the topic.
_LOOK: Final = 2.0
_PAGE: Final = 100
#: The bits of a sequence number below its partition.
_PARTITION: Final = 48
#: Seconds that a receiver waits for a message of a queue that may be empty.
_WAIT: Final = 5.0


def send_and_wait(
    line: RequestLine,
    options: argparse.Namespace,
    finished: Callable[[Iterable[dict[str, Any]]], None] = lambda _outcomes: None,
) -> int:
    """Send one request to a deployed app and, unless told not to, wait for its outcomes, which go to `finished`."""
    output = output_of(options)
    with ExitStack() as stack:
        bus, client = stack.enter_context(connected(options.namespace))
        if options.no_wait:
            bus.send([line.message()])
            print(f"{line.label} is sent; its outcomes come on topic {JOB_OUTCOMES}.", file=sys.stderr)
            return 0
        written = options.outcomes
        file = stack.enter_context(OutcomesFile(written, resumed=False)) if written is not None else None
        stop = stack.enter_context(stop_requested())
        receiver = stack.enter_context(client.get_subscription_receiver(JOB_OUTCOMES, ALL_OUTCOMES))
        shown = display(reword=in_flags)
        stack.callback(shown.close)
        awaited = AwaitedRequests([line])
        watch = Stopwatch(awaited, scale=1.0, began=time.monotonic())
        events = _Events(receiver)
        # Existing events are skipped, except earlier answers to this very request.
        for event in events.new():
            awaited.observe(event)
        bus.send([line.message()])
        while not awaited.complete and not stop.is_set():
            news = [found for event in events.new() if (found := awaited.observe(event)) is not None]
            shown.observed(news)
            shown.refresh(awaited, NOTHING_MOVES, watch.progress(time.monotonic()))
            if not awaited.complete:
                stop.wait(_LOOK)
        shown.close()
        for outcome in awaited.final_outcomes():
            if file is not None:
                file.write(outcome)
        left_out, elapsed = all_left_out(awaited), watch.elapsed(time.monotonic())
        print_outcomes(awaited, output, left_out=left_out, elapsed=elapsed, reword=in_flags)
        if not awaited.complete:
            print(
                f"Interrupted; the app goes on with {line.label}, and its outcomes come on topic"
                f" {JOB_OUTCOMES}.",
                file=sys.stderr,
            )
            return INTERRUPTED
        finished(awaited.final_outcomes())
        return 0 if awaited.succeeded else 1


class _Events:
    """The events of the topic, from the oldest kept one on."""

    def __init__(self, receiver: ServiceBusReceiver) -> None:
        self._receiver = receiver
        self._next = 0

    def new(self) -> Iterator[dict[str, Any]]:
        """The events since the last call. Raises CommandError where the topic is partitioned."""
        while page := self._receiver.peek_messages(_PAGE, sequence_number=self._next):
            for message in page:
                number = message.sequence_number or 0
                _refuse_partitions(JOB_OUTCOMES, number)
                self._next = number + 1
                event = json.loads(message_fields(message)["body"])
                if isinstance(event, dict):
                    yield event


def _refuse_partitions(entity: str, sequence_number: int) -> None:
    """Raise CommandError for a partitioned entity: its messages have no single order to follow.

    A partition is in the top 16 bits of the sequence numbers that it gives
    (https://learn.microsoft.com/azure/service-bus-messaging/message-sequencing).
    """
    if sequence_number >> _PARTITION:
        raise CommandError(
            f"{entity} is partitioned, so its messages cannot be followed in their order: use a namespace without"
            " partitions for the app, or send with --no-wait and read the outcomes by a subscription of your own.",
            status=1,
        )


class ParkedInNamespace:
    """The parked messages of a deployed app."""

    def __init__(self, bus: ServiceBusBus, client: ServiceBusClient) -> None:
        self._bus = bus
        self._client = client

    def peek(self) -> list[PeekedMessage]:
        found: list[PeekedMessage] = []
        with self._client.get_queue_receiver(PARKED_MESSAGES) as receiver:
            next_number = 0
            while page := receiver.peek_messages(_PAGE, sequence_number=next_number):
                found += [PeekedMessage(**message_fields(message)) for message in page]
                _refuse_partitions(PARKED_MESSAGES, found[-1].sequence_number)
                next_number = found[-1].sequence_number + 1
        return found

    def replay(self, numbers: frozenset[int]) -> int:
        left = set(numbers)
        sent = 0
        with self._client.get_queue_receiver(PARKED_MESSAGES) as receiver:
            held = []
            try:
                while left and (received := receiver.receive_messages(1, max_wait_time=_WAIT)):
                    message = received[0]
                    if message.sequence_number not in left:
                        held.append(message)
                        continue
                    left.remove(message.sequence_number)
                    try:
                        again = message_again(PeekedMessage(**message_fields(message)))
                    except UnusableError:
                        held.append(message)
                        continue
                    # Sent before it is removed: whatever happens in between, it is not lost.
                    self._bus.send([again])
                    receiver.complete_message(message)
                    sent += 1
            finally:
                for message in held:
                    receiver.abandon_message(message)
        return sent


@contextmanager
def parked_in_namespace(namespace: str) -> Iterator[Parked]:
    """The parked messages of a deployed app. Raises CommandError."""
    with connected(namespace) as (bus, client):
        yield ParkedInNamespace(bus, client)


@contextmanager
def connected(namespace: str) -> Iterator[tuple[ServiceBusBus, ServiceBusClient]]:
    """The namespace, by the connection string in the environment if it is its own, else by identity.

    Raises CommandError where it cannot be used.
    """
    from azure.core.exceptions import AzureError
    from azure.servicebus import ServiceBusClient

    from shared.arm.credentials import service_bus_credential
    from shared.arm.errors import TokenError

    host = namespace if "." in namespace or ":" in namespace else f"{namespace}.servicebus.windows.net"
    connection_string = host_setting(os.environ, SERVICE_BUS_CONNECTION)
    try:
        transport = service_bus_transport(os.environ)
    except SettingsError as error:
        raise CommandError(str(error)) from error
    options = client_options(transport)
    try:
        if _host_of(connection_string) == host.lower():
            bus = ServiceBusBus.from_connection_string(connection_string, transport=transport)
            client = ServiceBusClient.from_connection_string(connection_string, **options)
        else:
            credential = service_bus_credential(os.environ)
            bus = ServiceBusBus.with_identity(host, credential, transport=transport)
            client = ServiceBusClient(host, credential, **options)
        with client:
            try:
                yield bus, client
            finally:
                bus.close()
    except (AzureError, BusError, TokenError, ValueError) as error:
        if not _has_an_address(host):
            raise CommandError(
                f"--namespace: there is no host {host}: check the name, and that this network resolves it (a private"
                " endpoint, VPN). A namespace is given as NAME, or by its whole host name in another cloud."
            ) from error
        raise CommandError(
            f"namespace {host} cannot be used: {reason_of(error)} Sending needs the role Azure"
            " Service Bus Data Sender, looking at outcomes Azure Service Bus Data Receiver.",
            status=1,
        ) from error


def _has_an_address(host: str) -> bool:
    try:
        socket.getaddrinfo(urlsplit(f"//{host}").hostname, None)
    except (OSError, ValueError, UnicodeError):
        return False
    return True


def _host_of(connection_string: str) -> str | None:
    parts = dict(part.partition("=")[::2] for part in connection_string.split(";"))
    endpoint = next((value for name, value in parts.items() if name.strip().lower() == "endpoint"), "")
    return urlsplit(endpoint).netloc.lower() or None
