"""What only the AMQP server does: links, credit, connections that break."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.servicebus import ServiceBusClient, ServiceBusMessage, ServiceBusReceiveMode, ServiceBusReceiver
from azure.servicebus.exceptions import (
    MessageLockLostError,
    MessagingEntityNotFoundError,
    ServiceBusAuthenticationError,
    ServiceBusError,
)

from local.broker import Broker, BrokerError, IncomingMessage
from local.broker.amqp import AmqpServer
from local.broker.amqp.codec import decode_messages, encode_response
from local.stepped_clock import SteppedClock
from shared.bus.topology import LOCK_DURATION, TRACK
from tests.amqp import serving_amqp


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock(datetime.now(UTC))


@pytest.fixture
def broker(clock: SteppedClock) -> Iterator[Broker]:
    with Broker(None, clock=clock) as broker:
        yield broker


@pytest.fixture
def server(broker: Broker) -> Iterator[AmqpServer]:
    with serving_amqp(broker) as server:
        yield server


@pytest.fixture
def client(server: AmqpServer) -> Iterator[ServiceBusClient]:
    with ServiceBusClient.from_connection_string(server.connection_string, retry_total=1) as client:
        yield client


def send(broker: Broker, *names: str) -> None:
    broker.send(TRACK, [IncomingMessage(body=name.encode(), message_id=name) for name in names])


def receiver(
    client: ServiceBusClient, mode: ServiceBusReceiveMode = ServiceBusReceiveMode.PEEK_LOCK, prefetch: int = 0
) -> ServiceBusReceiver:
    return client.get_queue_receiver(TRACK, receive_mode=mode, prefetch_count=prefetch, keep_alive=0)


def drop(server: AmqpServer, receiver: ServiceBusReceiver) -> None:
    """Break the receiver's connection. The SDK never closes the socket of a broken one, so this does."""
    inner: Any = receiver
    transport = inner._handler._connection._transport
    assert server.drop_connections() == 1
    transport.close()


def test_a_message_received_without_a_lock_is_gone(broker: Broker, client: ServiceBusClient) -> None:
    send(broker, "1", "2")
    with receiver(client, ServiceBusReceiveMode.RECEIVE_AND_DELETE) as taker:
        assert [m.message_id for m in taker.receive_messages(2, max_wait_time=5)] == ["1", "2"]
    counts = broker.counts(TRACK)
    assert (counts.active, counts.locked) == (0, 0)


def test_messages_fetched_ahead_and_not_used_come_again_uncounted(
    broker: Broker, client: ServiceBusClient
) -> None:
    send(broker, *map(str, range(10)))
    with receiver(client, prefetch=10) as ahead:
        [first] = ahead.receive_messages(1, max_wait_time=5)
        ahead.complete_message(first)
    while broker.counts(TRACK).locked:  # the receiver does not wait for the answer to what it gives back
        assert broker.wait(10, 0)
    taken = broker.receive(TRACK, 20)
    assert [(m.message_id, m.delivery_count) for m in taken] == [(f"{n}", 1) for n in range(1, 10)]


def test_messages_of_a_broken_connection_stay_locked_until_their_locks_end(
    broker: Broker, server: AmqpServer, client: ServiceBusClient, clock: SteppedClock
) -> None:
    send(broker, "1", "2")
    with receiver(client) as one:
        received = one.receive_messages(2, max_wait_time=5)
        drop(server, one)
        assert broker.counts(TRACK).locked == 2
        # The lock outlives the connection, and the SDK settles by its token over a new one.
        one.complete_message(received[0])
    assert broker.counts(TRACK).locked == 1
    clock.advance(LOCK_DURATION)
    [again] = broker.receive(TRACK, 5)
    assert (again.message_id, again.delivery_count) == ("2", 2)


def test_a_waiting_receiver_gets_a_scheduled_message_when_it_falls_due() -> None:
    with (
        Broker(None) as broker,
        serving_amqp(broker) as server,
        ServiceBusClient.from_connection_string(server.connection_string) as client,
        receiver(client) as waiting,
    ):
        due = datetime.now(UTC) + timedelta(milliseconds=300)
        timer = threading.Timer(
            0.05, broker.send, (TRACK, [IncomingMessage(body=b"", message_id="m", scheduled_for=due)])
        )
        timer.start()
        [got] = waiting.receive_messages(1, max_wait_time=30)
        late = datetime.now(UTC) - due
        timer.join()
        assert got.message_id == "m"
        assert timedelta(0) <= late < timedelta(seconds=1)
        waiting.complete_message(got)


def test_receivers_share_a_queue(broker: Broker, client: ServiceBusClient) -> None:
    with receiver(client) as one, receiver(client) as other:
        send(broker, *map(str, range(200)))
        mine = one.receive_messages(100, max_wait_time=5)
        theirs = other.receive_messages(100, max_wait_time=5)
        names = {m.message_id for m in mine} | {m.message_id for m in theirs}
        assert len(mine) + len(theirs) == len(names)
        assert mine
        assert theirs


def test_what_is_not_provided_is_refused_and_the_message_kept(
    broker: Broker, client: ServiceBusClient
) -> None:
    send(broker, "m")
    with receiver(client) as one:
        [got] = one.receive_messages(1, max_wait_time=5)
        with pytest.raises(ServiceBusError, match="deferred"):
            one.defer_message(got)
        with pytest.raises(ServiceBusError, match="not provided"):
            one.receive_deferred_messages([got.sequence_number or 0])
    assert broker.counts(TRACK).locked == 1


def test_a_lock_lost_is_told_on_either_way_of_settling(
    broker: Broker, server: AmqpServer, client: ServiceBusClient
) -> None:
    send(broker, "1", "2")
    with receiver(client) as one:
        first, second = one.receive_messages(2, max_wait_time=5)
        for got in (first, second):
            assert not isinstance(got.lock_token, str)
            assert got.lock_token is not None
            broker.complete(TRACK, got.lock_token)
        with pytest.raises(MessageLockLostError):
            one.abandon_message(first)
        drop(server, one)
        with pytest.raises(MessageLockLostError):
            one.complete_message(second)


def test_names_that_lead_nowhere_and_keys_that_fit_nothing(
    server: AmqpServer, client: ServiceBusClient
) -> None:
    with (
        pytest.raises(MessagingEntityNotFoundError, match="nowhere"),
        client.get_queue_receiver("nowhere", keep_alive=0) as lost,
    ):
        lost.receive_messages(1, max_wait_time=1)
    forged = server.connection_string.replace("SharedAccessKey=", "SharedAccessKey=x")
    with (
        ServiceBusClient.from_connection_string(forged, retry_total=0) as stranger,
        pytest.raises(ServiceBusAuthenticationError),
        stranger.get_queue_sender(TRACK, keep_alive=0) as sender,
    ):
        sender.send_messages(ServiceBusMessage(b""))


def test_a_stranger_on_the_port_does_not_stop_the_door(
    broker: Broker, server: AmqpServer, client: ServiceBusClient
) -> None:
    for noise in (b"GET / HTTP/1.1\r\n\r\n", b"", b"AMQP\x00\x01\x00\x00" + bytes(64)):
        with socket.create_connection(("127.0.0.1", server.port)) as stranger:
            stranger.sendall(noise)
    with client.get_queue_sender(TRACK, keep_alive=0) as sender:
        sender.send_messages(ServiceBusMessage(b"", message_id="m"))
    assert broker.counts(TRACK).active == 1


def test_a_port_that_is_taken_is_one_clear_error(broker: Broker, server: AmqpServer) -> None:
    with pytest.raises(BrokerError, match=f"port {server.port} "):
        AmqpServer(broker, server.port).start()
    closed = AmqpServer(broker)
    with pytest.raises(BrokerError, match="start it first"):
        _ = closed.connection_string
    closed.stop()


def test_a_body_that_begins_like_a_message_is_no_batch() -> None:
    inner = encode_response("id", {}, "value")
    lookalike = b"\x00\x53\x77\xa1\xffbroken"
    for body in (lookalike, b"\x00\x53", b"", b"{}"):
        [message] = decode_messages(b"\x00\x53\x75\xb0" + len(body).to_bytes(4, "big") + body)
        assert message.body == body
    with pytest.raises(BrokerError, match="must be binary"):
        decode_messages(inner)
    with pytest.raises(BrokerError, match=r"AMQP 1\.0"):
        decode_messages(b"\xff\xff")
