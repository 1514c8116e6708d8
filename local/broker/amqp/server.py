"""The broker by AMQP 1.0 over TCP, on a thread of its own.

Follows https://learn.microsoft.com/azure/service-bus-messaging/service-bus-amqp-protocol-guide.
"""

from __future__ import annotations

import logging
import secrets
import selectors
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Self, TypeVar

from local.broker.amqp.connection import ClientConnection
from local.broker.amqp.requests import ManagementNode, Refusal, TokenNode
from local.broker.broker import Broker
from local.broker.model import BrokerError
from shared.clock import SystemClock

__all__ = ["AmqpServer"]

_logger = logging.getLogger(__name__)

_T = TypeVar("_T")


class AmqpServer:
    """Serves a broker by AMQP 1.0 on 127.0.0.1, to the unmodified `azure-servicebus` SDK.

    Use it as a context manager, or call `start` and `stop`. The caller closes the broker, after the server. Messages
    of a connection that breaks stay locked until their locks end, as in Service Bus.

    Args:
        broker: the broker to serve.
        port: to listen on; 0 takes a free one.
    """

    def __init__(self, broker: Broker, port: int = 0) -> None:
        self._broker = broker
        self._key = secrets.token_urlsafe(24)
        self._clock = SystemClock()
        self._tokens = TokenNode("local", self._key, lambda: self._clock.now().timestamp())
        self._management = ManagementNode(broker)
        self._wanted_port = port
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._remove_listener: Callable[[], None] | None = None
        self._selector: selectors.BaseSelector | None = None
        self._waker: socket.socket | None = None
        self._awake = threading.Event()
        self._calls: deque[Callable[[], None]] = deque()
        self._connections: dict[socket.socket, ClientConnection] = {}
        self._refusals: deque[Refusal] = deque()
        self._stopping = False

    # -- life cycle

    def start(self) -> Self:
        """Listen and serve.

        Raises:
            BrokerError: the port is taken.
        """
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if sys.platform != "win32":  # on Windows it would let two servers share a port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self._wanted_port))
            listener.listen(128)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            raise BrokerError(
                f"port {self._wanted_port} of 127.0.0.1 cannot be listened on: choose another ({error})"
            ) from error
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        sleeper, self._waker = socket.socketpair()
        sleeper.setblocking(False)
        self._waker.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(sleeper, selectors.EVENT_READ)
        self._stopping = False
        self._remove_listener = self._broker.add_listener(self._wake)
        self._thread = threading.Thread(
            target=self._serve, args=(self._selector, listener, sleeper), name="amqp-server", daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close every connection and stop listening. Stopping twice does nothing."""
        if self._thread is None:
            return
        if self._remove_listener is not None:
            self._remove_listener()
        self._stopping = True
        self._wake()
        self._thread.join()
        self._thread = None
        if self._waker is not None:
            self._waker.close()
            self._waker = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        if self._listener is None:
            raise BrokerError("the AMQP server is not running: start it first")
        return int(self._listener.getsockname()[1])

    @property
    def connection_string(self) -> str:
        """What the SDK connects by. Each server makes a key of its own."""
        return (
            f"Endpoint=sb://127.0.0.1:{self.port};SharedAccessKeyName=local;SharedAccessKey={self._key};"
            "UseDevelopmentEmulator=true;"
        )

    # -- faults, for tests

    def drop_connections(self) -> int:
        """Reset every TCP connection, as a broken network does; returns how many there were."""

        def drop() -> int:
            connections = list(self._connections.values())
            for connection in connections:
                connection.reset()
            return len(connections)

        return self._call(drop)

    def detach_links(self) -> int:
        """Detach every link to an entity, as the service does with idle ones; returns how many there were."""

        def detach() -> int:
            return sum(connection.detach_links() for connection in self._connections.values())

        return self._call(detach)

    def refuse_sends(self, condition: str, count: int = 1) -> None:
        """Answer the next `count` transfers of messages with that AMQP error condition."""

        def refuse() -> None:
            self._refusals.extend([Refusal(0, condition, "refused by a test")] * count)

        self._call(refuse)

    def open_links(self) -> tuple[int, int]:
        """How many TCP connections there are, and how many links to entities they carry."""

        def count() -> tuple[int, int]:
            return len(self._connections), sum(
                connection.link_count for connection in self._connections.values()
            )

        return self._call(count)

    # -- the server's thread

    def _call(self, function: Callable[[], _T]) -> _T:
        """Run `function` on the server's thread and return its result."""
        if self._thread is None:
            raise BrokerError("the AMQP server is not running: start it first")
        results: list[_T] = []
        done = threading.Event()

        def run() -> None:
            try:
                results.append(function())
            finally:
                done.set()

        self._calls.append(run)
        self._wake()
        while not done.wait(1):
            if not self._thread.is_alive():
                raise BrokerError("the AMQP server has failed: see the log for why")
        return results[0]

    def _wake(self) -> None:
        if not self._awake.is_set():
            self._awake.set()
            waker = self._waker
            if waker is not None:
                with suppress(OSError):
                    waker.send(b"\0")

    def _serve(
        self, selector: selectors.BaseSelector, listener: socket.socket, sleeper: socket.socket
    ) -> None:
        more = False
        try:
            while not self._stopping:
                for key, _ in selector.select(0 if more else self._pause()):
                    if key.fileobj is listener:
                        self._accept(selector, listener)
                    elif key.fileobj is sleeper:
                        with suppress(BlockingIOError):
                            sleeper.recv(4096)
                    else:
                        connection: ClientConnection = key.data
                        connection.read()
                # Cleared before the broker is read, so that what becomes available afterwards wakes the next round.
                available = more or self._awake.is_set()
                self._awake.clear()
                while self._calls:
                    self._calls.popleft()()
                more = False
                for connection in list(self._connections.values()):
                    more |= connection.turn(available=available)
                    self._watch(selector, connection)
        except Exception:
            _logger.exception("the AMQP server failed and is stopped", extra={"action": "amqp_server_failed"})
        finally:
            for connection in list(self._connections.values()):
                connection.close()
            self._connections.clear()
            selector.close()
            listener.close()
            sleeper.close()

    def _pause(self) -> float | None:
        """Seconds until a schedule or a lock ends, or a connection needs an empty frame; None: no such moment."""
        pauses = [self._broker.seconds_until_due(), *(each.pause() for each in self._connections.values())]
        return min((pause for pause in pauses if pause is not None), default=None)

    def _accept(self, selector: selectors.BaseSelector, listener: socket.socket) -> None:
        with suppress(BlockingIOError, ConnectionError):
            client, _ = listener.accept()
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = ClientConnection(
                client, self._broker, self._tokens, self._management, self._refusals
            )
            self._connections[client] = connection
            selector.register(client, selectors.EVENT_READ, connection)

    def _watch(self, selector: selectors.BaseSelector, connection: ClientConnection) -> None:
        if connection.closed:
            selector.unregister(connection.socket)
            del self._connections[connection.socket]
            connection.close()
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.has_output else 0)
        if selector.get_key(connection.socket).events != events:
            selector.modify(connection.socket, events, connection)
