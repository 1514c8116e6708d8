"""The bus on Azure Service Bus, through the unmodified `azure-servicebus` SDK.

https://learn.microsoft.com/python/api/azure-servicebus/. The SDK is imported when the first message is sent or the
connection string is first parsed, not with this module, so that it does not slow the app's cold start.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from shared.bus import (
    BusError,
    BusUnavailableError,
    MessageTooLargeError,
    OutgoingMessage,
    Transport,
    UnknownEntityError,
)
from shared.causes import causes
from shared.clock import Clock, SystemClock
from shared.telemetry.log import logger

if TYPE_CHECKING:
    from uuid import UUID

    from azure.core.credentials import TokenCredential
    from azure.servicebus import (
        ServiceBusClient,
        ServiceBusMessage,
        ServiceBusMessageBatch,
        ServiceBusReceivedMessage,
        ServiceBusReceiver,
        ServiceBusSender,
    )

__all__ = ["ServiceBusBus", "client_options"]

_log: Final = logger(__name__)

# The SDK logs each connection, link and frame at INFO: a hundred lines for one of the app's own. The Functions host
# cannot filter them, since it gets all of a worker's records under the function's name.
logging.getLogger("azure.servicebus").setLevel(logging.WARNING)

#: Seconds one attempt to hand over one batch may take. With one renewal of the link a send ends, well or not,
#: within some 30 seconds, the time-out of the app's other calls.
ATTEMPT_TIMEOUT: Final = 14.0
#: Seconds a thread waits for others that send to the same entity.
TURN_TIMEOUT: Final = 30.0
#: Seconds without a send after which a link is opened anew before it is used. The service drops links that
#: are idle for ten minutes and connections for a few, not always telling; the SDK then only notices by a
#: time-out (https://learn.microsoft.com/azure/service-bus-messaging/service-bus-amqp-troubleshoot).
IDLE_LIMIT: Final = 120.0
#: Seconds the SDK's socket may take for one write; its own 0.2 are too few for a full batch on a slow line.
SOCKET_TIMEOUT: Final = 1.0
#: How many messages are peeked at together.
_PAGE: Final = 250

_NOT_FOUND: Final = frozenset({"amqp:not-found", "com.microsoft:entity-not-found"})
_NOT_ALLOWED: Final = frozenset(
    {"amqp:unauthorized-access", "com.microsoft:auth-failed", "com.microsoft:unauthorized-access"}
)
_REFUSED: Final = frozenset(
    {
        "amqp:not-allowed",
        "amqp:not-implemented",
        "amqp:invalid-field",
        "amqp:decode-error",
        "com.microsoft:argument-error",
        "com.microsoft:argument-out-of-range",
    }
)


def client_options(transport: Transport) -> dict[str, Any]:
    """The arguments of the SDK's client that select a transport.

    https://learn.microsoft.com/python/api/azure-servicebus/azure.servicebus.servicebusclient
    """
    from azure.servicebus import TransportType

    web_sockets = transport is Transport.AMQP_WEB_SOCKETS
    return {"transport_type": TransportType.AmqpOverWebsocket if web_sockets else TransportType.Amqp}


class ServiceBusBus:
    """`shared.bus.Bus` on a Service Bus namespace. Safe to share between threads.

    There is one client, and one sender per entity (a connection with a link of its own), opened by the first message
    and kept. Each sender has a lock, since the SDK's senders are not thread-safe. A link that fails is reopened once,
    and unacknowledged messages are sent again with the same ids, so that the broker's duplicate detection drops what
    had arrived. A second failure, or a refusal on a new link, is raised: nothing is retried for minutes out of sight.

    Make one with `from_connection_string` or `with_identity`.
    """

    def __init__(
        self,
        connect: Callable[[], ServiceBusClient],
        *,
        clock: Clock | None = None,
        attempt_timeout: float = ATTEMPT_TIMEOUT,
    ) -> None:
        self._connect = connect
        self._attempt_timeout = attempt_timeout
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._client: ServiceBusClient | None = None
        self._links: dict[str, _Link] = {}
        self._closed = False

    @classmethod
    def from_connection_string(
        cls,
        connection_string: str,
        *,
        clock: Clock | None = None,
        transport: Transport = Transport.AMQP,
        attempt_timeout: float = ATTEMPT_TIMEOUT,
    ) -> Self:
        """Connect with a connection string that has a shared access key or signature.

        `UseDevelopmentEmulator=true` in it makes the SDK speak plain TCP, to the port in its endpoint.

        Raises:
            BusError: the connection string is malformed, or bound to a single entity.
        """
        # The SDK's own message is not shown: it may quote the part of the string that is wrong.
        malformed = (
            "the Service Bus connection string is malformed: give the namespace's own, of the form "
            "Endpoint=sb://NAMESPACE.servicebus.windows.net/;SharedAccessKeyName=NAME;SharedAccessKey=KEY"
        )
        names = {part.split("=", 1)[0].strip().lower() for part in connection_string.split(";")}
        if "endpoint" not in names:
            raise BusError(malformed)
        if "entitypath" in names:
            raise BusError(
                "the Service Bus connection string has an EntityPath, but the app sends to several queues: "
                "give a connection string of the namespace"
            )

        def connect() -> ServiceBusClient:
            from azure.servicebus import ServiceBusClient

            try:
                return ServiceBusClient.from_connection_string(
                    connection_string,
                    retry_total=0,
                    try_timeout=attempt_timeout,
                    **client_options(transport),
                )
            except (ValueError, TypeError):
                raise BusError(malformed) from None

        return cls(connect, clock=clock, attempt_timeout=attempt_timeout)

    @classmethod
    def with_identity(
        cls,
        fully_qualified_namespace: str,
        credential: TokenCredential,
        *,
        clock: Clock | None = None,
        transport: Transport = Transport.AMQP,
    ) -> Self:
        """Connect as an identity that has the role Azure Service Bus Data Sender.

        Args:
            fully_qualified_namespace: `NAMESPACE.servicebus.windows.net`.
            credential: provides tokens; the caller closes it.
            clock: tells how long a link has been idle.
            transport: how the namespace is reached.

        Raises:
            BusError: the namespace is not a host name.
        """
        if not fully_qualified_namespace or any(c in fully_qualified_namespace for c in "/;= "):
            raise BusError(
                f"{fully_qualified_namespace!r} is no Service Bus namespace: give its host name, "
                "NAMESPACE.servicebus.windows.net"
            )

        def connect() -> ServiceBusClient:
            from azure.servicebus import ServiceBusClient

            return ServiceBusClient(
                fully_qualified_namespace,
                credential,
                retry_total=0,
                try_timeout=ATTEMPT_TIMEOUT,
                **client_options(transport),
            )

        return cls(connect, clock=clock)

    def send(self, messages: Sequence[OutgoingMessage]) -> None:
        """Send all messages, in batches per entity; see `shared.bus.Bus.send`."""
        by_entity: dict[str, list[OutgoingMessage]] = {}
        for message in messages:
            by_entity.setdefault(message.entity, []).append(message)
        for entity, batch in by_entity.items():
            self._link(entity).send(batch)

    def peek(self, queue: str) -> Iterator[bytes]:
        """The bodies of all messages in a queue; see `shared.bus.Bus.peek`.

        https://learn.microsoft.com/azure/service-bus-messaging/message-browsing
        """
        receiver = None
        try:
            receiver = self._connected().get_queue_receiver(
                queue, socket_timeout=SOCKET_TIMEOUT, keep_alive=0
            )
            start = 1
            while page := self._page(receiver, start):
                yield from (b"".join(message.body) for message in page)
                start = (page[-1].sequence_number or 0) + 1
        except BusError:
            raise
        except Exception as error:
            raise _bus_error(queue, error, None, to="look into", role="Data Receiver") from error
        finally:
            if receiver is not None:
                with suppress(Exception):
                    receiver.close()

    def _page(self, receiver: ServiceBusReceiver, start: int) -> list[ServiceBusReceivedMessage]:
        with _ended_after(self._attempt_timeout, receiver):
            return receiver.peek_messages(_PAGE, sequence_number=start, timeout=self._attempt_timeout)

    def close(self) -> None:
        """Close every link and the client, after the sends under way. Closing twice does nothing."""
        with self._lock:
            self._closed = True
            links, self._links = list(self._links.values()), {}
            client, self._client = self._client, None
        for link in links:
            link.close()
        if client is not None:
            client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _link(self, entity: str) -> _Link:
        with self._lock:
            link = self._links.get(entity)
            if link is None:
                link = self._links[entity] = _Link(
                    entity, self._open_sender, self._clock, self._attempt_timeout
                )
            return link

    def _open_sender(self, entity: str) -> ServiceBusSender:
        # The service only sees a sender's path: a queue sender reaches topics just as well.
        # Without the SDK's keep-alive there is no second thread that reads from the sender's connection.
        return self._connected().get_queue_sender(entity, socket_timeout=SOCKET_TIMEOUT, keep_alive=0)

    def _connected(self) -> ServiceBusClient:
        with self._lock:
            if self._closed:
                raise BusError("the connection to Service Bus is closed: make a new one to send")
            if self._client is None:
                self._client = self._connect()
            return self._client


class _Link:
    """The sender to one entity, one thread at a time."""

    def __init__(
        self,
        entity: str,
        open_sender: Callable[[str], ServiceBusSender],
        clock: Clock,
        attempt_timeout: float,
    ) -> None:
        self._entity = entity
        self._open_sender = open_sender
        self._clock = clock
        self._attempt_timeout = attempt_timeout
        self._turn = threading.Lock()
        self._sender: ServiceBusSender | None = None
        self._amqp_link: object = None
        self._last_used = 0.0

    def send(self, messages: Sequence[OutgoingMessage]) -> None:
        pending = [_native(message) for message in messages]
        if not self._turn.acquire(timeout=TURN_TIMEOUT):
            raise BusUnavailableError(
                f"sending to {self._entity} waited {TURN_TIMEOUT:g} s for other threads: send again later"
            )
        try:
            if self._clock.monotonic() - self._last_used > IDLE_LIMIT:
                self._drop()
            kept = self._sender is not None
            try:
                self._send_batches(pending)
            except BusError as failure:
                # A refusal on a kept link may be the link's fault: its token may have expired while the
                # machine slept, or its entity been recreated. A refusal on a new link is final.
                dropped = kept and self._sender is None and not isinstance(failure, MessageTooLargeError)
                if not dropped and not isinstance(failure, BusUnavailableError):
                    raise
                _log.info(
                    "the link to %s failed and is opened anew: %s",
                    self._entity,
                    failure,
                    extra={"action": "bus_reconnect", "entity": self._entity},
                )
                self._send_batches(pending)
        finally:
            self._turn.release()

    def close(self) -> None:
        with self._turn:
            self._drop()

    def _send_batches(self, pending: list[ServiceBusMessage]) -> None:
        """Send `pending`, removing what the broker has acknowledged; closes the link if that fails."""
        try:
            sender = self._sender or self._open()
            while pending:
                batch, count = self._filled_batch(sender, pending)
                sender.send_messages(batch, timeout=self._attempt_timeout)
                self._last_used = self._clock.monotonic()
                del pending[:count]
        except BusError:
            raise
        # The SDK also lets errors of its protocol layer and of the socket through, when a connection breaks
        # while it handles another error.
        except Exception as error:
            failure = _bus_error(self._entity, error, self._amqp_link)
            self._drop()
            raise failure from error

    def _open(self) -> ServiceBusSender:
        sender = self._sender = self._open_sender(self._entity)
        with _ended_after(self._attempt_timeout, sender):
            sender.create_message_batch()  # The call that opens the link.
        self._amqp_link = getattr(getattr(sender, "_handler", None), "_link", None)
        return sender

    def _filled_batch(
        self, sender: ServiceBusSender, pending: Iterable[ServiceBusMessage]
    ) -> tuple[ServiceBusMessageBatch | ServiceBusMessage, int]:
        """A batch filled with as many of `pending` as fit, and how many those are."""
        from azure.servicebus.exceptions import MessageSizeExceededError

        batch = sender.create_message_batch()
        for message in pending:
            try:
                batch.add_message(message)
            except MessageSizeExceededError:
                if len(batch) == 0:
                    # Without the batch's own overhead it may just fit.
                    return message, 1
                break
            except (ValueError, TypeError) as error:
                raise BusError(
                    f"a message to {self._entity} cannot be encoded for Service Bus "
                    f"(a number must fit in 32 bits): {error}"
                ) from error
        return batch, len(batch)

    def _drop(self) -> None:
        sender, self._sender = self._sender, None
        link, self._amqp_link = self._amqp_link, None
        if sender is None:
            return
        try:
            sender.close()
        except Exception as error:
            _log.debug(
                "the link to %s was not closed in order: %r",
                self._entity,
                error,
                extra={"action": "bus_close", "entity": self._entity},
            )
        # The SDK does not close the socket of a broken connection, and would leave that to the garbage
        # collector. Closing it twice does nothing.
        connection = getattr(getattr(link, "_session", None), "_connection", None)
        transport = getattr(connection, "_transport", None)
        if transport is not None:
            with suppress(Exception):
                transport.close()


@contextmanager
def _ended_after(seconds: float, link: ServiceBusSender | ServiceBusReceiver) -> Iterator[None]:
    """Break a link that takes longer than this: the SDK waits for ever for a peer that accepts and says nothing."""
    watchdog = threading.Timer(seconds, _break_connection, (link,))
    watchdog.daemon = True
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()
        watchdog.join()


def _break_connection(link: ServiceBusSender | ServiceBusReceiver) -> None:
    """End whatever read the link is in."""
    connection = getattr(getattr(link, "_handler", None), "_connection", None)
    open_socket = getattr(getattr(connection, "_transport", None), "sock", None)
    # Close the socket inside a WebSocket: the WebSocket itself would first say goodbye on it.
    if not isinstance(open_socket, socket.socket):
        open_socket = getattr(open_socket, "sock", None)
    if isinstance(open_socket, socket.socket):
        with suppress(OSError):
            open_socket.shutdown(socket.SHUT_RDWR)
        open_socket.close()


def _native(message: OutgoingMessage) -> ServiceBusMessage:
    from azure.servicebus import ServiceBusMessage

    scheduled = message.scheduled_for
    properties: dict[str | bytes, int | float | bytes | bool | str | UUID] = {}
    properties.update(message.application_properties.items())
    try:
        return ServiceBusMessage(
            message.body,
            message_id=message.message_id,
            content_type=message.content_type,
            subject=message.subject,
            correlation_id=message.correlation_id,
            application_properties=properties,
            scheduled_enqueue_time_utc=None if scheduled is None else scheduled.astimezone(UTC),
        )
    except (ValueError, TypeError) as error:
        raise BusError(f"a message to {message.entity} is not one that Service Bus takes: {error}") from error


def _bus_error(
    entity: str, error: Exception, link: object, *, to: str = "send to", role: str = "Data Sender"
) -> BusError:
    """The app's error for an SDK error, with advice. `to`: what was tried; `role`: the role that allows it.

    The SDK's own text stays in the exception's cause: it may quote the service's answer. A link that the
    service refuses is attached first and then detached with the reason; a send that is caught in between
    fails as `amqp:unknown-error`, and only the SDK's link object knows the reason.
    """
    from azure.core.exceptions import ClientAuthenticationError
    from azure.servicebus import exceptions as sdk

    links = ("inner_exception", "__cause__", "__context__")
    chain = [*causes(error, *links), *causes(getattr(link, "_error", None), *links)]
    conditions = {condition for cause in chain if (condition := _condition(cause))}
    conditions.discard("amqp:unknown-error")
    if any(isinstance(cause, sdk.MessageSizeExceededError) for cause in chain):
        return MessageTooLargeError(
            f"a message to {entity} is larger than the namespace accepts: make it smaller"
        )
    if conditions & _NOT_FOUND or isinstance(error, sdk.MessagingEntityNotFoundError):
        return UnknownEntityError(
            f"there is no queue or topic {entity} in the namespace: create it, or correct the connection"
        )
    if conditions & _NOT_ALLOWED or isinstance(
        error, sdk.ServiceBusAuthenticationError | sdk.ServiceBusAuthorizationError
    ):
        return BusError(
            f"the namespace refuses to let this identity {to} {entity}: give it the role "
            f"Azure Service Bus {role}, or correct the connection string"
        )
    if any(isinstance(cause, ClientAuthenticationError) for cause in chain):
        return BusUnavailableError(
            f"no token for Service Bus could be had to {to} {entity}: sign in, or check the app's identity"
        )
    if conditions & _REFUSED:
        return BusError(
            f"the namespace refused a message to {entity} ({', '.join(sorted(conditions))}): "
            "sending it again would not help"
        )
    what = ", ".join(sorted(conditions)) or type(error).__name__
    return BusUnavailableError(f"Service Bus did not let the app {to} {entity} ({what}): try again later")


def _condition(error: BaseException) -> str | None:
    """The AMQP error condition in an SDK or protocol error."""
    condition = getattr(error, "_condition", None) or getattr(error, "condition", None)
    condition = getattr(condition, "value", condition)
    if isinstance(condition, bytes):
        return condition.decode("ascii", "replace")
    return condition if isinstance(condition, str) else None
