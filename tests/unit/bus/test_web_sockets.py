"""AMQP inside a WebSocket, by the SDK as it is published: the way to a namespace where only port 443 is open."""

from __future__ import annotations

import base64
import hashlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import websocket

from local.broker import Broker
from local.broker.amqp import AmqpServer
from shared.bus import BusUnavailableError, OutgoingMessage, Transport
from shared.bus.service_bus import ServiceBusBus

_ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Gateway:
    """What the service has on port 443 (RFC 6455): a WebSocket whose binary frames are the bytes of AMQP."""

    def __init__(self, amqp_server: AmqpServer, *, silent: bool) -> None:
        host, _, port = (
            amqp_server.connection_string.partition("sb://")[2].partition(";")[0].strip("/").partition(":")
        )
        self._door = (host, int(port))
        self._silent = silent
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.asked: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._listener.getsockname()[1]}/$servicebus/websocket"

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, EOFError), client, socket.create_connection(self._door) as amqp:
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(4096)
            fields = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:] if line)
            self.asked.append(fields["sec-websocket-protocol"])
            key = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
            proof = base64.b64encode(hashlib.sha1(key.split(b": ")[1] + _ACCEPT).digest())
            client.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Protocol: AMQPWSB10\r\nSec-WebSocket-Accept: " + proof + b"\r\n\r\n"
            )
            if not self._silent:
                threading.Thread(target=_answers, args=(amqp, client), daemon=True).start()
            while (data := _frame(client)) is not None:
                if not self._silent:
                    amqp.sendall(data)


def _answers(amqp: socket.socket, client: socket.socket) -> None:
    with suppress(OSError):
        while data := amqp.recv(60_000):
            size = len(data)
            client.sendall(b"\x82" + (bytes([size]) if size < 126 else struct.pack(">BH", 126, size)) + data)


def _frame(client: socket.socket) -> bytes | None:
    first, second = _exactly(client, 2)
    size = second & 127
    if size == 126:
        (size,) = struct.unpack(">H", _exactly(client, 2))
    elif size == 127:
        (size,) = struct.unpack(">Q", _exactly(client, 8))
    mask = _exactly(client, 4)
    data = bytes(byte ^ mask[place % 4] for place, byte in enumerate(_exactly(client, size)))
    return None if first & 15 == 8 else data


def _exactly(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = client.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Gateway], Gateway]]:
    """The SDK reaches the gateway whatever the port: it leaves that of an emulator out of a WebSocket's URL."""
    gateways: list[Gateway] = []
    connect = websocket.create_connection

    def reach(gateway: Gateway) -> Gateway:
        gateways.append(gateway)

        def create_connection(url: str, **options: Any) -> Any:
            assert url.endswith("/$servicebus/websocket")
            return connect(gateway.url, **options)

        monkeypatch.setattr(websocket, "create_connection", create_connection)
        return gateway

    yield reach
    for gateway in gateways:
        gateway.close()


MESSAGES = [
    OutgoingMessage(entity="track", message_id=str(number), body=b"{}" * 2000) for number in range(40)
]


def test_messages_arrive_by_a_web_socket(
    broker: Broker, amqp_server: AmqpServer, opened: Callable[[Gateway], Gateway]
) -> None:
    gateway = opened(Gateway(amqp_server, silent=False))
    with ServiceBusBus.from_connection_string(
        amqp_server.connection_string, transport=Transport.AMQP_WEB_SOCKETS
    ) as bus:
        bus.send(MESSAGES)
    assert gateway.asked == ["amqpwsb10"]
    assert broker.counts("track").active == len(MESSAGES)


def test_a_gateway_that_says_nothing_does_not_hold_a_send_for_ever(
    amqp_server: AmqpServer, opened: Callable[[Gateway], Gateway]
) -> None:
    opened(Gateway(amqp_server, silent=True))
    with ServiceBusBus.from_connection_string(
        amqp_server.connection_string, transport=Transport.AMQP_WEB_SOCKETS, attempt_timeout=1.0
    ) as bus:
        failed: list[BaseException] = []

        def send() -> None:
            try:
                bus.send(MESSAGES[:1])
            except BusUnavailableError as error:
                failed.append(error)

        sending = threading.Thread(target=send, daemon=True)
        sending.start()
        sending.join(30)
        assert not sending.is_alive()
        assert failed
