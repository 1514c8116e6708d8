"""Messages of a Service Bus namespace for the local host, through the unmodified `azure-servicebus` SDK.

A receiver of the SDK serves one thread, and waits a little to fill a batch, so each entity has a few of
them, each on a thread of its own that takes one message (or batch), has it settled, and takes the next.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from local.broker.model import MessageLockLostError, MessageState, ReceivedMessage

if TYPE_CHECKING:
    from azure.servicebus import ServiceBusClient, ServiceBusReceivedMessage
    from azure.servicebus import ServiceBusReceiver as SdkReceiver

logger: Final = logging.getLogger("local.host.service_bus")

#: Seconds that one call for messages waits, and so the longest that closing takes.
_LOOK: Final = 1.0
#: Seconds after a lost connection before the next is tried.
_RECONNECT: Final = 0.5
#: Receivers of an entity whose messages are taken one at a time; with batches it has one.
_RECEIVERS: Final = 2
#: Seconds that a settlement may take.
_SETTLE: Final = 30.0


@dataclass(eq=False)
class _Command:
    """A command for a message, to be done on the thread that received it."""

    action: str  #: `complete`, `abandon` or `renew`
    token: UUID
    done: Future[datetime | None] = field(default_factory=Future)


class ServiceBusReceiver:
    """`local.host.Receiver` on a namespace. Close it after the host has been stopped.

    Args:
        client: of the namespace; the caller closes it, after this. Make it with `retry_total=0`: this class
        reconnects by itself.
        entities: the most messages that one receiver takes at once, by entity.
    """

    def __init__(self, client: ServiceBusClient, entities: Mapping[str, int]) -> None:
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], None]] = []
        self._pumps: dict[str, list[_Pump]] = {
            entity: [
                _Pump(client, entity, most, self._closing, self._notify)
                for _ in range(_RECEIVERS if most == 1 else 1)
            ]
            for entity, most in entities.items()
        }
        for pump in self._all():
            pump.start()

    def receive(self, entity: str, max_messages: int) -> Sequence[ReceivedMessage]:
        found: list[ReceivedMessage] = []
        for pump in self._pumps[entity]:
            found += pump.take(max_messages - len(found))
        return found

    def complete(self, entity: str, lock_token: UUID) -> None:
        self._do(entity, _Command("complete", lock_token))

    def abandon(self, entity: str, lock_token: UUID) -> None:
        self._do(entity, _Command("abandon", lock_token))

    def renew(self, entity: str, lock_token: UUID) -> datetime:
        until = self._do(entity, _Command("renew", lock_token))
        assert until is not None
        return until

    def next_due(self) -> datetime | None:
        return None

    def add_listener(self, listener: Callable[[], None]) -> Callable[[], None]:
        with self._lock:
            self._listeners.append(listener)

        def remove() -> None:
            with self._lock:
                if listener in self._listeners:
                    self._listeners.remove(listener)

        return remove

    def close(self) -> None:
        """Give back the messages that were not taken, and close every receiver."""
        self._closing.set()
        for pump in self._all():
            pump.join()

    def _all(self) -> list[_Pump]:
        return [pump for pumps in self._pumps.values() for pump in pumps]

    def _notify(self) -> None:
        with self._lock:
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener()

    def _do(self, entity: str, command: _Command) -> datetime | None:
        for pump in self._pumps[entity]:
            if pump.accepts(command):
                return command.done.result(_SETTLE)
        raise MessageLockLostError(
            f"the message was received by a connection to {entity} that has been lost: it is delivered again"
        )


class _Pump:
    """One receiver of the SDK, on a thread of its own: receives messages, and does the host's commands."""

    def __init__(
        self,
        client: ServiceBusClient,
        entity: str,
        most: int,
        closing: threading.Event,
        notify: Callable[[], None],
    ) -> None:
        # Not a subclass of Thread, whose later versions might use the same names.
        self._thread = threading.Thread(target=self._run, name=f"receive-{entity}", daemon=True)
        self._client = client
        self._entity = entity
        self._most = most
        self._closing = closing
        self._notify = notify
        self._lock = threading.Lock()
        self._waiting: deque[ReceivedMessage] = deque()
        self._held: dict[UUID, ServiceBusReceivedMessage] = {}
        self._commands: queue.SimpleQueue[_Command] = queue.SimpleQueue()

    def take(self, most: int) -> list[ReceivedMessage]:
        """The messages that were received and not yet taken."""
        with self._lock:
            return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    def accepts(self, command: _Command) -> bool:
        """Queue a command, if the message is this receiver's; returns whether it is."""
        with self._lock:
            if command.token not in self._held:
                return False
            self._commands.put(command)
            return True

    def start(self) -> None:
        """Begin to receive."""
        self._thread.start()

    def join(self) -> None:
        """Wait until it has ended, after it was told to close."""
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set():
            receiver: SdkReceiver | None = None
            connection: Any = None
            try:
                receiver = self._open()
                with receiver:
                    # When a link breaks, the SDK forgets its connection.
                    connection = _connection_of(receiver)
                    self._serve(receiver)
            except Exception as error:
                # Whatever broke the link, the messages are delivered again when their locks end.
                if not self._closing.is_set():
                    logger.warning(
                        "receiving from %s was interrupted: %s",
                        self._entity,
                        type(error).__name__,
                        extra={"action": "receive"},
                    )
            finally:
                self._let_go()
                if receiver is not None:
                    _close(receiver, connection)
            self._closing.wait(_RECONNECT)

    def _open(self) -> SdkReceiver:
        topic, slash, subscription = self._entity.partition("/subscriptions/")
        if slash:
            return self._client.get_subscription_receiver(topic, subscription)
        return self._client.get_queue_receiver(self._entity)

    def _serve(self, receiver: SdkReceiver) -> None:
        while True:
            while self._held:
                self._handle(receiver)
            if self._closing.is_set():
                return
            self._offer(receiver.receive_messages(self._most, max_wait_time=_LOOK))

    def _offer(self, received: Sequence[ServiceBusReceivedMessage]) -> None:
        if not received:
            return
        with self._lock:
            for message in received:
                self._held[UUID(str(message.lock_token))] = message
                self._waiting.append(received_message(message))
        self._notify()

    def _handle(self, receiver: SdkReceiver) -> None:
        try:
            command = self._commands.get(timeout=_LOOK)
        except queue.Empty:
            if self._closing.is_set():
                self._give_back(receiver)
            return
        message = self._held.get(command.token)
        if message is None:  # settled while its lock was about to be renewed
            command.done.set_exception(MessageLockLostError("the message has been settled"))
            return
        try:
            until = None
            if command.action == "renew":
                until = receiver.renew_message_lock(message)
            elif command.action == "complete":
                receiver.complete_message(message)
            else:
                receiver.abandon_message(message)
        except Exception as error:
            command.done.set_exception(error)
        else:
            command.done.set_result(until)
        if command.action != "renew":
            with self._lock:
                self._held.pop(command.token, None)

    def _give_back(self, receiver: SdkReceiver) -> None:
        """The host has stopped: give back what it did not take or settle."""
        with self._lock:
            self._waiting.clear()
            held = list(self._held.values())
            self._held.clear()
        for message in held:
            receiver.abandon_message(message)

    def _let_go(self) -> None:
        with self._lock:
            self._waiting.clear()
            self._held.clear()
        while not self._commands.empty():
            self._commands.get().done.set_exception(MessageLockLostError("the connection was lost"))


def _connection_of(receiver: SdkReceiver) -> Any:
    link = getattr(getattr(receiver, "_handler", None), "_link", None)
    return getattr(getattr(link, "_session", None), "_connection", None)


def _close(receiver: SdkReceiver, connection: Any) -> None:
    with suppress(Exception):
        receiver.close()
    # The SDK leaves the socket of a broken connection to the garbage collector. Closing it twice does nothing.
    transport = getattr(connection, "_transport", None)
    if transport is not None:
        with suppress(Exception):
            transport.close()


def received_message(message: ServiceBusReceivedMessage) -> ReceivedMessage:
    """A message of the SDK as a `ReceivedMessage`. The wire counts deliveries from 0."""
    return ReceivedMessage(
        **message_fields(message),
        lock_token=UUID(str(message.lock_token)),
        locked_until=message.locked_until_utc or datetime.now(UTC),
    )


def message_fields(message: ServiceBusReceivedMessage) -> dict[str, Any]:
    """The fields of a message of the SDK by the names of `local.broker.PeekedMessage`.

    State and delivery count are those of a locked message; a peeked one's are not read.
    """
    body = message.body
    properties = message.application_properties or {}
    return {
        "body": body if isinstance(body, bytes) else b"".join(body),
        "message_id": message.message_id,
        "content_type": message.content_type,
        "subject": message.subject,
        "correlation_id": message.correlation_id,
        "application_properties": {_text(name): _text(value) for name, value in properties.items()},
        "sequence_number": message.sequence_number or 0,
        "enqueued_sequence_number": message.enqueued_sequence_number or 0,
        "enqueued_time": message.enqueued_time_utc or datetime.now(UTC),
        "scheduled_for": message.scheduled_enqueue_time_utc,
        "delivery_count": (message.delivery_count or 0) + 1,
        "expires_at": message.expires_at_utc,
        "dead_letter_source": message.dead_letter_source,
        "state": MessageState.LOCKED,
    }


def _text(value: Any) -> Any:
    # The SDK gives text as bytes.
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
