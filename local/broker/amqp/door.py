"""AMQP 1.0 over TCP, on a thread of its own.

The protocol engine (python-qpid-proton) does no I/O: this module moves its bytes and answers its events.
Behaviour towards clients follows
https://learn.microsoft.com/azure/service-bus-messaging/service-bus-amqp-protocol-guide.
"""

from __future__ import annotations

import logging
import secrets
import selectors
import socket
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from uuid import UUID

from proton import Collector, Condition, Connection, Delivery, Event, Link, Transport, symbol

from local.broker.amqp.codec import decode_messages, encode_message
from local.broker.amqp.requests import ManagementNode, Refusal, TokenNode, refusal
from local.broker.broker import Broker
from local.broker.model import MAX_MESSAGE_SIZE, BrokerError
from shared.bus import BusError, MessageTooLargeError
from shared.clock import SteppedClock, SystemClock

__all__ = ["AmqpDoor"]

_logger = logging.getLogger(__name__)

_TOKENS: Final = "$cbs"
_MANAGEMENT: Final = "/$management"
#: Transfers a client may have under way to the broker on one link.
_CREDIT: Final = 500
#: Messages taken from the broker in one step, so that one hungry receiver does not hold up the others.
_HANDFUL: Final = 50
_READ_SIZE: Final = 256 * 1024
_FRAME_SIZE: Final = 64 * 1024

_T = TypeVar("_T")


class AmqpDoor:
    """A broker's AMQP 1.0 door on 127.0.0.1, for the unmodified `azure-servicebus` SDK.

    Use it as a context manager, or call `start` and `stop`. The broker stays the caller's to close, after
    the door. Messages of a connection that breaks stay locked until their locks end, as in Service Bus.

    Args:
        broker: what stands behind the door.
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
        self._connections: dict[socket.socket, _Connection] = {}
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
            if sys.platform != "win32":  # where it lets two servers have one port
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
            target=self._serve, args=(self._selector, listener, sleeper), name="amqp-door", daemon=True
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        if self._listener is None:
            raise BrokerError("the AMQP door is not open: start it first")
        return int(self._listener.getsockname()[1])

    @property
    def connection_string(self) -> str:
        """What the SDK connects by. The key is made anew for each door."""
        return (
            f"Endpoint=sb://127.0.0.1:{self.port};SharedAccessKeyName=local;SharedAccessKey={self._key};"
            "UseDevelopmentEmulator=true;"
        )

    # -- faults, for tests

    def drop_connections(self) -> int:
        """Reset every TCP connection without a word, as a broken network does; returns how many there were."""

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

    # -- the door's thread

    def _call(self, function: Callable[[], _T]) -> _T:
        """Run `function` on the door's thread and give back what it returns."""
        if self._thread is None:
            raise BrokerError("the AMQP door is not open: start it first")
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
                raise BrokerError("the AMQP door has failed: see the log for why")
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
                        connection: _Connection = key.data
                        connection.read()
                # Cleared before the broker is looked at: what becomes available after that wakes the next round.
                available = more or self._awake.is_set()
                self._awake.clear()
                while self._calls:
                    self._calls.popleft()()
                more = False
                for connection in list(self._connections.values()):
                    more |= connection.turn(available=available)
                    self._watch(selector, connection)
        except Exception:
            _logger.exception("the AMQP door failed and is closed", extra={"action": "amqp_door_failed"})
        finally:
            for connection in list(self._connections.values()):
                connection.close()
            self._connections.clear()
            selector.close()
            listener.close()
            sleeper.close()

    def _pause(self) -> float | None:
        """Seconds until a schedule or a lock ends or a connection wants a sign of life; None: no such moment."""
        pauses = [pause for c in self._connections.values() if (pause := c.pause()) is not None]
        clock = self._broker.clock
        if not isinstance(clock, SteppedClock):
            due = self._broker.next_due()
            if due is not None:
                pauses.append(max(0.0, (due - clock.now()).total_seconds()))
        return min(pauses, default=None)

    def _accept(self, selector: selectors.BaseSelector, listener: socket.socket) -> None:
        with suppress(BlockingIOError, ConnectionError):
            client, _ = listener.accept()
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(client, self._broker, self._tokens, self._management, self._refusals)
            self._connections[client] = connection
            selector.register(client, selectors.EVENT_READ, connection)

    def _watch(self, selector: selectors.BaseSelector, connection: _Connection) -> None:
        if connection.closed:
            selector.unregister(connection.socket)
            del self._connections[connection.socket]
            connection.close()
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.has_output else 0)
        if selector.get_key(connection.socket).events != events:
            selector.modify(connection.socket, events, connection)


class _Connection:
    """One client: its socket, its protocol engine, its links."""

    def __init__(
        self,
        client: socket.socket,
        broker: Broker,
        tokens: TokenNode,
        management: ManagementNode,
        refusals: deque[Refusal],
    ) -> None:
        self.socket = client
        self.closed = False
        self._broker = broker
        self._tokens = tokens
        self._management = management
        self._refusals = refusals
        self._clock = SystemClock()
        self._let_in = False
        #: Links by which this client receives, those with messages of an entity and those with responses.
        self._receivers: dict[Link, str] = {}
        self._responders: dict[str, Link] = {}
        self._senders: dict[Link, str] = {}
        #: Receivers that have just asked for messages.
        self._hungry: list[Link] = []
        self._connection = Connection()
        self._collector = Collector()
        self._connection.collect(self._collector)
        self._transport = Transport(Transport.SERVER)
        self._transport.max_frame_size = _FRAME_SIZE
        self._transport.require_auth(False)
        self._transport.sasl().allowed_mechs("ANONYMOUS")
        self._transport.bind(self._connection)

    @property
    def has_output(self) -> bool:
        return bool(self._transport.pending() > 0)

    @property
    def link_count(self) -> int:
        return len(self._receivers) + len(self._senders)

    def pause(self) -> float | None:
        """Seconds until this connection wants `turn`, though nothing happens."""
        now = self._clock.monotonic()
        deadline = self._transport.tick(now)
        return max(0.0, deadline - now) if deadline else None

    def read(self) -> None:
        """Take what the client has sent and answer it."""
        try:
            data = self.socket.recv(_READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            self.closed = True
            return
        if not data:
            self.closed = True
            return
        while data and not self.closed:
            capacity = self._transport.capacity()
            if capacity <= 0:
                self.closed = True
                return
            self._transport.push(data[:capacity])
            data = data[capacity:]
            self._handle_events()

    def turn(self, *, available: bool) -> bool:
        """Hand over what receivers have asked for, and write; returns whether there may be more to hand over.

        `available` says that the broker may have something new, so that receivers who already asked are
        looked at too.
        """
        if self.closed:
            return False
        hungry = (
            list(self._receivers) if available else [link for link in self._hungry if link in self._receivers]
        )
        self._hungry.clear()
        more = False
        for link in hungry:
            more |= self._deliver(link, self._receivers[link])
        self._handle_events()
        self._write()
        return more or bool(self._hungry)

    def reset(self) -> None:
        """Break the TCP connection."""
        with suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.closed = True

    def detach_links(self) -> int:
        links = [*self._receivers, *self._senders]
        for link in links:
            self._detach(link, Refusal(0, "amqp:link:detach-forced", "the link was idle for too long"))
        return len(links)

    def close(self) -> None:
        self.closed = True
        self.socket.close()
        self._receivers.clear()
        self._responders.clear()
        self._senders.clear()
        with suppress(Exception):
            self._transport.unbind()
            self._collector.release()

    def _write(self) -> None:
        while not self.closed:
            pending = self._transport.pending()
            if pending < 0:
                self.closed = True
            elif pending == 0:
                return
            else:
                try:
                    sent = self.socket.send(self._transport.peek(pending) or b"")
                except BlockingIOError:
                    return
                except OSError:
                    self.closed = True
                    return
                self._transport.pop(sent)

    # -- the protocol's events

    def _handle_events(self) -> None:
        while (event := self._collector.peek()) is not None:
            try:
                self._handle(event)
            except Exception:
                _logger.exception(
                    "an AMQP connection failed and is closed", extra={"action": "amqp_connection_failed"}
                )
                self.closed = True
            self._collector.pop()

    # The engine's annotations say None for what an event of its kind always has, and text for the binary tags of
    # deliveries: its objects are `Any` where that would be in the way.

    def _handle(self, event: Any) -> None:
        kind = event.type
        if kind == Event.DELIVERY:
            self._on_delivery(event.delivery)
        elif kind == Event.LINK_FLOW:
            self._hungry.append(event.link)
        elif kind == Event.CONNECTION_REMOTE_OPEN:
            event.connection.container = "local-broker"
            event.connection.open()
        elif kind == Event.SESSION_REMOTE_OPEN:
            event.session.open()
        elif kind == Event.LINK_REMOTE_OPEN:
            self._on_attach(event.link)
        elif kind in (Event.LINK_REMOTE_CLOSE, Event.LINK_REMOTE_DETACH):
            self._forget(event.link)
            if kind == Event.LINK_REMOTE_CLOSE:
                event.link.close()
            else:
                event.link.detach()
        elif kind == Event.SESSION_REMOTE_CLOSE:
            event.session.close()
        elif kind == Event.CONNECTION_REMOTE_CLOSE:
            event.connection.close()
        elif kind == Event.TRANSPORT_CLOSED:
            self._write_last()

    def _write_last(self) -> None:
        with suppress(OSError):
            pending = self._transport.pending()
            if pending > 0:
                self.socket.send(self._transport.peek(pending) or b"")
        self.closed = True

    def _on_attach(self, link: Link) -> None:
        # The SDK compares the settle modes it asked for with those that it is told.
        link.snd_settle_mode = link.remote_snd_settle_mode
        link.rcv_settle_mode = link.remote_rcv_settle_mode
        link.source.copy(link.remote_source)
        link.target.copy(link.remote_target)
        address = _path(link.remote_source.address if link.is_sender else link.remote_target.address)
        node = address.lower()
        if node == _TOKENS or node.endswith(_MANAGEMENT):
            if node != _TOKENS and not self._may(link):
                return
            if link.is_sender:
                self._responders[node] = link
            link.open()
            if link.is_receiver:
                link.flow(_CREDIT)
            return
        if not self._may(link):
            return
        try:
            # Nothing is locked: it is asked only whether the entity is there and of the right kind.
            if link.is_sender:
                self._broker.receive(address, 0)
            else:
                self._broker.send(address, [])
        except BusError as error:
            self._refuse_attach(link, refusal(error))
            return
        link.max_message_size = MAX_MESSAGE_SIZE
        link.open()
        if link.is_sender:
            self._receivers[link] = address
        else:
            self._senders[link] = address
            link.flow(_CREDIT)

    def _may(self, link: Link) -> bool:
        if not self._let_in:
            why = "no token has been put for this connection"
            self._refuse_attach(link, Refusal(401, "amqp:unauthorized-access", why))
        return self._let_in

    def _refuse_attach(self, link: Link, why: Refusal) -> None:
        link.open()
        self._detach(link, why)

    def _detach(self, link: Link, why: Refusal) -> None:
        self._forget(link)
        link.condition = _condition(why)
        link.close()

    def _forget(self, link: Link) -> None:
        self._receivers.pop(link, None)
        self._senders.pop(link, None)
        for node, responder in list(self._responders.items()):
            if responder == link:
                del self._responders[node]

    def _on_delivery(self, delivery: Delivery) -> None:
        link = delivery.link
        if link.is_receiver:
            if delivery.readable and not delivery.partial:
                self._on_transfer(link, delivery)
        elif delivery.updated:
            self._on_outcome(link, delivery)

    # -- from the client

    def _on_transfer(self, link: Link, delivery: Delivery) -> None:
        encoded = bytes(link.recv(delivery.pending) or b"")
        link.advance()
        if link.credit < _CREDIT // 2:
            link.flow(_CREDIT - link.credit)
        entity = self._senders.get(link)
        if entity is not None:
            self._accept_messages(entity, encoded, delivery)
            return
        address = _path(link.target.address)
        node = address.lower()
        delivery.update(Delivery.ACCEPTED)
        delivery.settle()
        responder = self._responders.get(node)
        if responder is None:
            return
        if node == _TOKENS:
            response, let_in = self._tokens.answer(encoded)
            self._let_in |= let_in
        else:
            response = self._management.answer(address[: -len(_MANAGEMENT)], encoded)
        self._respond(responder, response)

    def _accept_messages(self, entity: str, encoded: bytes, delivery: Delivery) -> None:
        try:
            if self._refusals:
                _reject(delivery, self._refusals.popleft())
                return
            if len(encoded) > MAX_MESSAGE_SIZE:
                raise MessageTooLargeError(
                    f"a transfer to {entity} takes {len(encoded)} bytes: the broker accepts {MAX_MESSAGE_SIZE}"
                )
            self._broker.send(entity, decode_messages(encoded))
        except BusError as error:
            _reject(delivery, refusal(error))
            return
        delivery.update(Delivery.ACCEPTED)
        delivery.settle()

    def _respond(self, link: Any, response: bytes) -> None:
        delivery = link.delivery(secrets.token_bytes(8))
        link.stream(response)
        link.advance()
        delivery.settle()

    # -- to the client

    def _deliver(self, link: Any, entity: str) -> bool:
        """Hand over a few messages, so that one hungry receiver does not hold up the others."""
        settled = link.snd_settle_mode == Link.SND_SETTLED
        messages = self._broker.receive(entity, min(link.credit, _HANDFUL)) if link.credit > 0 else []
        for message in messages:
            delivery = link.delivery(message.lock_token.bytes_le)
            delivery.lock_token = message.lock_token
            link.stream(encode_message(message))
            link.advance()
            if settled:
                self._broker.complete(entity, message.lock_token)
                delivery.settle()
        if len(messages) == _HANDFUL:
            return True
        if link.drain_mode and link.credit > 0:
            link.drained()
        return False

    def _on_outcome(self, link: Link, delivery: Delivery) -> None:
        token = getattr(delivery, "lock_token", None)
        entity = self._receivers.get(link)
        if token is not None and entity is not None and delivery.remote_state:
            try:
                self._settle(entity, token, delivery)
            except BusError as error:
                if not delivery.settled:
                    _reject(delivery, refusal(error))
                    return
            if not delivery.settled:
                # The SDK waits for its own outcome to come back; a rejection that bears an error it takes
                # for a failure to dead-letter.
                delivery.local.failed = delivery.remote_state == Delivery.MODIFIED
                delivery.update(delivery.remote_state)
        if delivery.settled or delivery.remote_state:
            delivery.settle()

    def _settle(self, entity: str, token: UUID, delivery: Any) -> None:
        match delivery.remote_state:
            case Delivery.ACCEPTED:
                self._broker.complete(entity, token)
            case Delivery.REJECTED:
                condition = delivery.remote.condition
                info = (condition.info if condition is not None else None) or {}
                self._broker.dead_letter(
                    entity,
                    token,
                    _given(info, "DeadLetterReason"),
                    _given(info, "DeadLetterErrorDescription"),
                )
            case Delivery.RELEASED:
                self._broker.release(entity, token)
            case Delivery.MODIFIED if delivery.remote.undeliverable:
                raise BrokerError("a message cannot be deferred: this broker does not provide it")
            case Delivery.MODIFIED:
                self._broker.abandon(entity, token)


def _path(address: str | None) -> str:
    """The entity's path in a link's address, which may be a whole URL."""
    if not address:
        return ""
    if "://" in address:
        address = address.split("://", 1)[1].partition("/")[2]
    return address.strip("/")


def _given(info: dict[Any, Any], name: str) -> str | None:
    value = info.get(symbol(name), info.get(name))
    return None if value is None else str(value)


def _reject(delivery: Delivery, why: Refusal) -> None:
    delivery.local.condition = _condition(why)
    delivery.update(Delivery.REJECTED)
    delivery.settle()


def _condition(why: Refusal) -> Condition:
    # The SDK reads the third field of an error, which is left out on the wire where there is nothing in it.
    return Condition(why.condition, why.description, {symbol("tracking-id"): secrets.token_hex(8)})
