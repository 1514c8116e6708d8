"""One client of the AMQP server: its socket, its links, and what it sends and receives.

The protocol engine (python-qpid-proton) does no I/O: this module moves its bytes and answers its events.
Follows https://learn.microsoft.com/azure/service-bus-messaging/service-bus-amqp-protocol-guide.
"""

from __future__ import annotations

import logging
import secrets
import socket
import struct
from collections import deque
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

from proton import Collector, Condition, Connection, Delivery, Event, Link, Transport, symbol

from local.broker.amqp.codec import decode_messages, encode_message
from local.broker.amqp.requests import ManagementNode, Refusal, TokenNode, refusal
from local.broker.broker import Broker
from local.broker.model import MAX_MESSAGE_SIZE, BrokerError
from shared.bus import BusError, MessageTooLargeError
from shared.clock import SystemClock

__all__ = ["ClientConnection"]

_logger = logging.getLogger(__name__)

_TOKENS: Final = "$cbs"
_MANAGEMENT: Final = "/$management"
#: Transfers a client may have under way to the broker on one link.
_CREDIT: Final = 500
#: Messages taken from the broker in one step, so that one waiting receiver does not hold up the others.
_BATCH: Final = 50
_READ_SIZE: Final = 256 * 1024
_FRAME_SIZE: Final = 64 * 1024


class ClientConnection:
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
        self._authorized = False
        #: Links by which this client receives: messages of an entity, and responses of a node.
        self._receivers: dict[Link, str] = {}
        self._responders: dict[str, Link] = {}
        self._senders: dict[Link, str] = {}
        #: Receivers that have just asked for messages.
        self._waiting: list[Link] = []
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
        """Seconds until `turn` is needed even if nothing happens; None: it is not."""
        now = self._clock.monotonic()
        deadline = self._transport.tick(now)
        return max(0.0, deadline - now) if deadline else None

    def read(self) -> None:
        """Read what the client has sent, and handle it."""
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
        """Deliver what receivers have asked for, and write; returns whether there may be more to deliver.

        `available`: the broker may have new messages, so receivers that asked before are served too.
        """
        if self.closed:
            return False
        waiting = (
            list(self._receivers)
            if available
            else [link for link in self._waiting if link in self._receivers]
        )
        self._waiting.clear()
        more = False
        for link in waiting:
            more |= self._deliver(link, self._receivers[link])
        self._handle_events()
        self._write()
        return more or bool(self._waiting)

    def reset(self) -> None:
        """Break the TCP connection."""
        with suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.closed = True

    def detach_links(self) -> int:
        """Detach every link to an entity; returns how many there were."""
        links = [*self._receivers, *self._senders]
        for link in links:
            self._detach(link, Refusal(0, "amqp:link:detach-forced", "the link was idle for too long"))
        return len(links)

    def close(self) -> None:
        """Close the socket and forget the links."""
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

    # Proton's annotations allow None where an event always has a value, and call the binary tags of deliveries text:
    # where they are in the way, its objects are `Any` here.

    def _handle(self, event: Any) -> None:
        kind = event.type
        if kind == Event.DELIVERY:
            self._on_delivery(event.delivery)
        elif kind == Event.LINK_FLOW:
            self._waiting.append(event.link)
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
            self._write()
            self.closed = True

    def _on_attach(self, link: Link) -> None:
        # The SDK compares the settle modes it asked for with those in the answer.
        link.snd_settle_mode = link.remote_snd_settle_mode
        link.rcv_settle_mode = link.remote_rcv_settle_mode
        link.source.copy(link.remote_source)
        link.target.copy(link.remote_target)
        address = _path(link.remote_source.address if link.is_sender else link.remote_target.address)
        node = address.lower()
        if node != _TOKENS and not self._check_authorized(link):
            return
        if node == _TOKENS or node.endswith(_MANAGEMENT):
            if link.is_sender:
                self._responders[node] = link
            link.open()
            if link.is_receiver:
                link.flow(_CREDIT)
            return
        try:
            # This locks nothing and sends nothing: it fails unless the entity exists and is of the right kind.
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

    def _check_authorized(self, link: Link) -> bool:
        if not self._authorized:
            why = "no token has been put for this connection"
            self._refuse_attach(link, Refusal(401, "amqp:unauthorized-access", why))
        return self._authorized

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
            response, authorized = self._tokens.answer(encoded)
            self._authorized |= authorized
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
        """Deliver up to `_BATCH` messages; returns whether there may be more."""
        settled = link.snd_settle_mode == Link.SND_SETTLED
        messages = self._broker.receive(entity, min(link.credit, _BATCH)) if link.credit > 0 else []
        for message in messages:
            delivery = link.delivery(message.lock_token.bytes_le)
            delivery.lock_token = message.lock_token
            link.stream(encode_message(message))
            link.advance()
            if settled:
                self._broker.complete(entity, message.lock_token)
                delivery.settle()
        if len(messages) == _BATCH:
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
                # The SDK waits for its own outcome to come back; it takes a rejection with an error for a failure to
                # dead-letter.
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
    # The SDK reads the third field of an error, which an empty one would lack on the wire.
    return Condition(why.condition, why.description, {symbol("tracking-id"): secrets.token_hex(8)})
