"""The two ways to reach the broker, as clients with one interface: in process, and by the SDK of Service Bus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from azure.servicebus import (
    ServiceBusClient,
    ServiceBusMessage,
    ServiceBusReceivedMessage,
    ServiceBusReceiver,
    ServiceBusSender,
    ServiceBusSubQueue,
)
from azure.servicebus.exceptions import MessageAlreadySettled, MessagingEntityNotFoundError
from azure.servicebus.exceptions import MessageLockLostError as SdkMessageLockLostError
from azure.servicebus.exceptions import MessageNotFoundError as SdkMessageNotFoundError

from local.broker import (
    Broker,
    EntityNotFoundError,
    InProcessBus,
    MessageLockLostError,
    MessageNotFoundError,
    PeekedMessage,
    PropertyValue,
    ReceivedMessage,
)
from local.stepped_clock import SteppedClock
from shared.bus import Bus, OutgoingMessage
from shared.bus.service_bus import ServiceBusBus
from shared.bus.topology import Queue, Subscription, Topic, Topology
from tests.amqp import serving_amqp

LOCK = timedelta(minutes=1)
WINDOW = timedelta(minutes=10)
TIME_TO_LIVE = timedelta(hours=1)
MAX_DELIVERIES = 3
TOPOLOGY = Topology(
    queues=(
        *(
            Queue(
                name=name,
                duplicate_detection_window=WINDOW,
                lock_duration=LOCK,
                max_delivery_count=MAX_DELIVERIES,
                forward_dead_letters_to="dead-letters",
            )
            for name in ("orders", "invoices")
        ),
        Queue(
            name="plain",
            duplicate_detection_window=WINDOW,
            lock_duration=LOCK,
            max_delivery_count=MAX_DELIVERIES,
            forward_dead_letters_to=None,
        ),
        Queue(
            name="dead-letters",
            duplicate_detection_window=WINDOW,
            lock_duration=LOCK,
            forward_dead_letters_to=None,
        ),
    ),
    topics=(
        Topic(
            name="news",
            duplicate_detection_window=WINDOW,
            subscriptions=(
                Subscription(name="all", time_to_live=TIME_TO_LIVE, lock_duration=LOCK),
                Subscription(name="some", time_to_live=TIME_TO_LIVE, lock_duration=LOCK),
            ),
        ),
        # For one case alone: a receiver that has asked for more than there was is given what comes at once.
        Topic(
            name="bulletins",
            duplicate_detection_window=WINDOW,
            subscriptions=(Subscription(name="all", time_to_live=TIME_TO_LIVE, lock_duration=LOCK),),
        ),
    ),
)
ENTITIES = (
    "orders",
    "invoices",
    "plain",
    "plain/$deadletterqueue",
    "dead-letters",
    "news/subscriptions/all",
    "news/subscriptions/some",
    "bulletins/subscriptions/all",
)


@dataclass(frozen=True, kw_only=True)
class Got:
    """A message as a receiver sees it, whichever client received it."""

    body: bytes
    message_id: str | None
    subject: str | None
    content_type: str | None
    correlation_id: str | None
    properties: Mapping[str, PropertyValue]
    sequence_number: int
    enqueued_time: datetime
    scheduled_for: datetime | None
    delivery_count: int  #: from 1, as the Functions host tells it
    dead_letter_source: str | None
    locked_until: datetime | None
    #: what the client settles by
    handle: Any


class BrokerClient(Protocol):
    """A way to the broker."""

    @property
    def broker(self) -> Broker: ...
    @property
    def clock(self) -> SteppedClock: ...
    @property
    def bus(self) -> Bus: ...
    def schedule(self, message: OutgoingMessage) -> int: ...
    def cancel(self, entity: str, sequence_number: int) -> None: ...
    def receive(self, entity: str, count: int = 1) -> list[Got]: ...
    def complete(self, entity: str, got: Got) -> None: ...
    def abandon(self, entity: str, got: Got) -> None: ...
    def dead_letter(self, entity: str, got: Got, reason: str, description: str) -> None: ...
    def renew(self, entity: str, got: Got) -> datetime: ...
    def peek(self, entity: str, start: int = 0) -> list[Got]: ...
    def settle_down(self) -> None:
        """Stop asking for messages."""


class InProcessClient:
    """The broker called directly."""

    def __init__(self, broker: Broker, clock: SteppedClock) -> None:
        self.broker = broker
        self.clock = clock
        self.bus: Bus = InProcessBus(broker)

    def schedule(self, message: OutgoingMessage) -> int:
        [number] = self.broker.send(message.entity, [message])
        return number

    def cancel(self, entity: str, sequence_number: int) -> None:
        self.broker.cancel_scheduled(entity, [sequence_number])

    def receive(self, entity: str, count: int = 1) -> list[Got]:
        return [_got(message) for message in self.broker.receive(entity, count)]

    def complete(self, entity: str, got: Got) -> None:
        self.broker.complete(entity, got.handle)

    def abandon(self, entity: str, got: Got) -> None:
        self.broker.abandon(entity, got.handle)

    def dead_letter(self, entity: str, got: Got, reason: str, description: str) -> None:
        self.broker.dead_letter(entity, got.handle, reason, description)

    def renew(self, entity: str, got: Got) -> datetime:
        return self.broker.renew_lock(entity, got.handle)

    def peek(self, entity: str, start: int = 0) -> list[Got]:
        return [_got(message) for message in self.broker.peek(entity, start)]

    def settle_down(self) -> None:
        pass


class SdkClient:
    """The broker over AMQP: sends by the app's adapter, the rest by the SDK itself."""

    def __init__(self, broker: Broker, clock: SteppedClock, connection_string: str) -> None:
        self.broker = broker
        self.clock = clock
        self._adapter = ServiceBusBus.from_connection_string(connection_string)
        self.bus: Bus = self._adapter
        self._client = ServiceBusClient.from_connection_string(connection_string, retry_total=0)
        self._receivers: dict[str, ServiceBusReceiver] = {}
        self._senders: dict[str, ServiceBusSender] = {}
        self._hungry: set[str] = set()

    def settle_down(self) -> None:
        """Close the receivers that asked for more than they got: they would take what comes next."""
        for entity in self._hungry:
            self._receivers.pop(entity).close()
        self._hungry.clear()

    def close(self) -> None:
        self._adapter.close()
        self._client.close()

    def schedule(self, message: OutgoingMessage) -> int:
        assert message.scheduled_for is not None
        native = ServiceBusMessage(message.body, message_id=message.message_id)
        [number] = self._sender(message.entity).schedule_messages(native, message.scheduled_for)
        return number

    def cancel(self, entity: str, sequence_number: int) -> None:
        with _broker_errors():
            self._sender(entity).cancel_scheduled_messages(sequence_number)

    def receive(self, entity: str, count: int = 1) -> list[Got]:
        with _broker_errors():
            messages = self._receiver(entity).receive_messages(count, max_wait_time=0.3)
        if len(messages) < count:
            self._hungry.add(entity)
        else:
            self._hungry.discard(entity)
        return [_native_got(message) for message in messages]

    def complete(self, entity: str, got: Got) -> None:
        with _broker_errors():
            self._receiver(entity).complete_message(got.handle)

    def abandon(self, entity: str, got: Got) -> None:
        with _broker_errors():
            self._receiver(entity).abandon_message(got.handle)

    def dead_letter(self, entity: str, got: Got, reason: str, description: str) -> None:
        with _broker_errors():
            self._receiver(entity).dead_letter_message(
                got.handle, reason=reason, error_description=description
            )

    def renew(self, entity: str, got: Got) -> datetime:
        with _broker_errors():
            return self._receiver(entity).renew_message_lock(got.handle)

    def peek(self, entity: str, start: int = 0) -> list[Got]:
        with _broker_errors():
            messages = self._receiver(entity).peek_messages(100, sequence_number=max(start, 1))
        return [_native_got(message) for message in messages]

    def _sender(self, entity: str) -> ServiceBusSender:
        if entity not in self._senders:
            self._senders[entity] = self._client.get_queue_sender(entity, keep_alive=0)
        return self._senders[entity]

    def _receiver(self, entity: str) -> ServiceBusReceiver:
        if entity not in self._receivers:
            name, _, sub_queue = entity.partition("/$")
            dead = ServiceBusSubQueue.DEAD_LETTER if sub_queue else None
            topic, _, subscription = name.partition("/subscriptions/")
            if subscription:
                receiver = self._client.get_subscription_receiver(
                    topic, subscription, sub_queue=dead, keep_alive=0
                )
            else:
                receiver = self._client.get_queue_receiver(name, sub_queue=dead, keep_alive=0)
            # Opened before it is used: else the wait for messages includes that for the link.
            self._receivers[entity] = receiver.__enter__()
        return self._receivers[entity]


@contextmanager
def in_process_client() -> Iterator[BrokerClient]:
    clock = SteppedClock(datetime.now(UTC))
    with Broker(None, TOPOLOGY, clock=clock) as broker:
        yield InProcessClient(broker, clock)


@contextmanager
def amqp_client() -> Iterator[BrokerClient]:
    # The SDK compares the end of a lock with the machine's clock: the broker's must not be behind it.
    clock = SteppedClock(datetime.now(UTC))
    with Broker(None, TOPOLOGY, clock=clock) as broker, serving_amqp(broker) as server:
        sdk = SdkClient(broker, clock, server.connection_string)
        try:
            yield sdk
        finally:
            sdk.close()


def purge(client: BrokerClient) -> None:
    """Empty every entity, and let every message id be forgotten."""
    client.settle_down()
    client.clock.advance(max(WINDOW, LOCK, TIME_TO_LIVE))
    for entity in ENTITIES:
        while messages := client.broker.receive(entity, 100):
            for message in messages:
                client.broker.complete(entity, message.lock_token)
        assert client.broker.peek(entity) == []


def _got(message: PeekedMessage) -> Got:
    return Got(
        body=message.body,
        message_id=message.message_id,
        subject=message.subject,
        content_type=message.content_type,
        correlation_id=message.correlation_id,
        properties=message.application_properties,
        sequence_number=message.sequence_number,
        enqueued_time=message.enqueued_time,
        scheduled_for=message.scheduled_for,
        delivery_count=message.delivery_count,
        dead_letter_source=message.dead_letter_source,
        locked_until=message.locked_until if isinstance(message, ReceivedMessage) else None,
        handle=message.lock_token if isinstance(message, ReceivedMessage) else None,
    )


def _native_got(message: ServiceBusReceivedMessage) -> Got:
    body: Sequence[bytes] = list(message.body)
    received = message.lock_token is not None
    assert message.sequence_number is not None
    assert message.enqueued_time_utc is not None
    assert message.delivery_count is not None
    return Got(
        body=b"".join(body),
        message_id=message.message_id,
        subject=message.subject,
        content_type=message.content_type,
        correlation_id=message.correlation_id,
        properties={
            _decoded(name): _decoded(value) for name, value in (message.application_properties or {}).items()
        },
        sequence_number=message.sequence_number,
        enqueued_time=message.enqueued_time_utc,
        scheduled_for=message.scheduled_enqueue_time_utc,
        delivery_count=message.delivery_count + received,
        dead_letter_source=message.dead_letter_source,
        locked_until=message.locked_until_utc if received else None,
        handle=message,
    )


def _decoded(value: Any) -> Any:
    """The SDK hands text out as the bytes it came in."""
    return value.decode() if isinstance(value, bytes) else value


@contextmanager
def _broker_errors() -> Iterator[None]:
    """What the SDK raises, as the broker's own error of the same meaning."""
    try:
        yield
    except (SdkMessageLockLostError, MessageAlreadySettled) as error:
        raise MessageLockLostError(str(error)) from error
    except SdkMessageNotFoundError as error:
        raise MessageNotFoundError(str(error)) from error
    except MessagingEntityNotFoundError as error:
        raise EntityNotFoundError(str(error)) from error
