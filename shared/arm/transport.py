"""HTTP below the ARM client: one pool of connections per host, no redirects, cookies, netrc or retries.

The connections are urllib3's. Proxies and certificate authorities come from the environment variables that requests
reads, so that every client on a machine is configured alike. Imported on first use only: neither library is on the
import path of the Function App.
"""

from __future__ import annotations

import http.client
import logging
import os
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Protocol

import requests.utils
import urllib3
import urllib3.connection
import urllib3.connectionpool
import urllib3.exceptions
import urllib3.util

from shared.arm.deadline import Deadline, deadline
from shared.arm.endpoint import ArmEndpoint
from shared.causes import causes

__all__ = [
    "ConnectionBrokenError",
    "HttpTransport",
    "RawAnswer",
    "Transport",
    "TransportError",
]

_POOL_SIZE = 32
_CONNECT_TIMEOUT = timedelta(seconds=10)
_CHUNK = 65_536


class TransportError(Exception):
    """No complete answer came back. `sent` says whether sending the request had begun."""

    def __init__(self, problem: str, *, sent: bool) -> None:
        super().__init__(problem)
        self.sent = sent


class UntrustedError(TransportError):
    """The server's certificate is not trusted: trying again would not help."""


class ConnectionBrokenError(TransportError):
    """The connection was closed or reset before the answer was whole."""


@dataclass(frozen=True)
class RawAnswer:
    """One HTTP answer, read to its end."""

    status: int
    headers: Mapping[str, str] = field(repr=False)  #: lower-case names
    body: bytes = field(repr=False)


class Transport(Protocol):
    """Sends one request at a time, and reads its answer to the end. Safe to share between threads."""

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        token: Callable[[], str],
        body: bytes | None,
        max_body: int,
    ) -> RawAnswer:
        """Send one request to `url` as it stands.

        Raises:
            TransportError: no whole answer; `sent` says whether the request had begun to leave.
        """
        ...

    def close(self) -> None:
        """Close every connection."""
        ...


class _WithoutQueries(logging.Filter):
    """Cuts the queries, which are signed, out of the URLs that urllib3 logs."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                argument.partition("?")[0] if isinstance(argument, str) else argument
                for argument in record.args
            )
        return True


_without_queries = _WithoutQueries()
for _name in ("urllib3.connectionpool", "urllib3.connection"):
    logging.getLogger(_name).addFilter(_without_queries)


#: The default, for a connection that is used without `Transport.send`: never.
_NO_LIMIT: Final = timedelta(days=1)


class _Response(http.client.HTTPResponse):
    """Detects an answer that ended within its headers, which `http.client` takes for their end."""

    def begin(self) -> None:
        super().begin()
        if self.msg.defects:
            raise http.client.HTTPException("the headers are not whole")


class _HttpConnection(urllib3.connection.HTTPConnection):
    """Notes when sending begins, and keeps the deadline."""

    response_class = _Response

    def _new_conn(self) -> socket.socket:
        # Neither the look-up of a name nor the number of its addresses is bounded by a time-out.
        with deadline(_NO_LIMIT) as limit:
            try:
                made = limit.wait_for(super()._new_conn, too_late=socket.socket.close)
            except TimeoutError:
                raise urllib3.exceptions.ConnectTimeoutError(self, "no connection in time") from None
            limit.watch(made.fileno())
            return made

    def endheaders(self, message_body: Any = None, *, encode_chunked: bool = False) -> None:
        # Here, and not where a proxy is asked for a tunnel: connecting first leaves only the sending.
        if self.sock is None:
            self.connect()
        with deadline(_NO_LIMIT) as limit:
            if limit.has_passed:
                raise TimeoutError
            limit.watch(self.sock.fileno())
            limit.has_sent = True
            super().endheaders(message_body, encode_chunked=encode_chunked)


class _HttpsConnection(_HttpConnection, urllib3.connection.HTTPSConnection):
    """The same by TLS."""


class _HttpPool(urllib3.connectionpool.HTTPConnectionPool):
    """Stops watching a connection when it is returned."""

    ConnectionCls = _HttpConnection

    def _put_conn(self, conn: Any) -> None:
        with deadline(_NO_LIMIT) as limit:
            limit.release()
        super()._put_conn(conn)


class _HttpsPool(_HttpPool, urllib3.connectionpool.HTTPSConnectionPool):
    """The same by TLS."""

    ConnectionCls = _HttpsConnection


_POOLS = {"http": _HttpPool, "https": _HttpsPool}


def _socket_options() -> list[tuple[int, int, int]]:
    """Keep-alive probes: Azure drops an idle connection after four minutes without a word."""
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, seconds in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        option = getattr(socket, name, None)
        if option is not None:
            options.append((socket.IPPROTO_TCP, option, seconds))
    return options


class HttpTransport:
    """Sends requests to one endpoint over HTTP."""

    def __init__(self, endpoint: ArmEndpoint, *, http_timeout: timedelta) -> None:
        self._endpoint = endpoint
        self._limit = http_timeout
        self._timeout = urllib3.Timeout(
            connect=min(http_timeout, _CONNECT_TIMEOUT).total_seconds(), read=http_timeout.total_seconds()
        )
        self._lock = threading.Lock()
        #: by host: that of the endpoint, and those of its regions
        self._pools: dict[str, urllib3.HTTPConnectionPool] = {}

    def close(self) -> None:
        """See `Transport.close`."""
        with self._lock:
            pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.close()

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        token: Callable[[], str],
        body: bytes | None,
        max_body: int,
    ) -> RawAnswer:
        """See `Transport.send`. It ends within the deadline of the call that it is part of, or `http_timeout`."""
        if not self._endpoint.serves(url):
            raise TransportError("the URL leads away from the endpoint", sent=False)
        response: urllib3.BaseHTTPResponse | None = None
        failure: TransportError
        with deadline(self._limit) as limit:
            limit.has_sent = False
            authorised = {**headers, "Authorization": f"Bearer {token()}"}
            try:
                _, _, host, target = url.split("/", 3)
                response = self._pool(url, host).urlopen(
                    method,
                    f"/{target}",
                    body,
                    authorised,
                    retries=False,
                    redirect=False,
                    timeout=self._timeout,
                    pool_timeout=limit.remaining,  # type: ignore[arg-type]  # it may be a fraction
                    preload_content=False,
                )
                received = self._read(response, limit, max_body)
                # Looked up by name, the values of a repeated header come joined.
                shown = {name.lower(): response.headers[name] for name in response.headers}
                return RawAnswer(response.status, shown, received)
            except TransportError as error:
                failure = error
            except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
                sent = limit.has_sent
                failure = self._late(sent=sent) if limit.has_passed else _classify(error, sent=sent)
            if response is not None:
                response.close()
                response.release_conn()
        # Not raised within `except`: the libraries' error holds the signed URL, and a traceback would show it.
        raise failure

    def _late(self, *, sent: bool) -> TransportError:
        missed = "no whole answer came" if sent else "no connection was made"
        seconds = f"{self._limit.total_seconds():g} s"
        return TransportError(f"{missed} in time, it took longer than {seconds}", sent=sent)

    def _read(self, response: urllib3.BaseHTTPResponse, limit: Deadline, max_body: int) -> bytes:
        received = bytearray()
        while chunk := response.read1(_CHUNK, decode_content=True):
            received += chunk
            if len(received) > max_body:
                raise TransportError(f"the answer is larger than {max_body} bytes", sent=True)
        # A connection that was shut down looks like the end of an answer that does not tell its length.
        if limit.has_passed:
            raise self._late(sent=True)
        response.release_conn()
        return bytes(received)

    def _pool(self, url: str, host: str) -> urllib3.HTTPConnectionPool:
        """The connections to the host of a URL."""
        with self._lock:
            pool = self._pools.get(host)
            if pool is None:
                manager = self._manager(url)
                manager.pool_classes_by_scheme = _POOLS
                pool = self._pools[host] = manager.connection_from_url(url)
            return pool

    def _manager(self, url: str) -> urllib3.PoolManager:
        """What opens the connections, through a proxy where the environment names one."""
        options: dict[str, Any] = {
            "maxsize": _POOL_SIZE,
            "block": True,
            "socket_options": _socket_options(),
            "ssl_context": _trusted() if self._endpoint.scheme == "https" else None,
        }
        proxy = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url, None))
        # A server on this machine is not called through a proxy.
        if not proxy or self._endpoint.is_loopback:
            return urllib3.PoolManager(**options)
        proxy = proxy if "://" in proxy else f"http://{proxy}"
        if not urllib3.util.parse_url(proxy).host:
            # The host itself would be asked for a tunnel.
            raise TransportError("the proxy cannot be used", sent=False)
        user, password = requests.utils.get_auth_from_url(proxy)
        identity = urllib3.util.make_headers(proxy_basic_auth=f"{user}:{password}") if user else None
        return urllib3.ProxyManager(
            proxy, proxy_headers=identity, proxy_ssl_context=options["ssl_context"], **options
        )


def _trusted() -> ssl.SSLContext:
    """A TLS context that trusts the certificate authorities of the environment, else those of requests."""
    named = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    authorities = Path(named or requests.utils.DEFAULT_CA_BUNDLE_PATH)
    if not authorities.exists():
        raise UntrustedError("REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names no file of certificates", sent=False)
    context = urllib3.util.create_urllib3_context()
    if authorities.is_dir():
        context.load_verify_locations(capath=authorities)
    else:
        context.load_verify_locations(cafile=authorities)
    return context


def _classify(error: BaseException, *, sent: bool) -> TransportError:
    """The TransportError for an exception of urllib3 or the socket, with a short reason."""
    chain = causes(error, "reason", "__cause__")

    def came_from(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in chain)

    if came_from(urllib3.exceptions.NameResolutionError):
        return TransportError("the host name cannot be resolved", sent=sent)
    if came_from(urllib3.exceptions.SSLError, ssl.SSLError):
        text = " ".join(str(cause) for cause in chain)
        if "CERTIFICATE_VERIFY_FAILED" in text or "doesn't match" in text:
            return UntrustedError(
                "its TLS certificate is not trusted (if it is right, name its authority in "
                "REQUESTS_CA_BUNDLE)",
                sent=sent,
            )
        return TransportError("the TLS connection failed", sent=sent)
    if came_from(urllib3.exceptions.ProxyError, urllib3.exceptions.ProxySchemeUnknown) or any(
        "Tunnel connection failed" in str(cause) for cause in chain
    ):
        return TransportError("the proxy cannot be used", sent=sent)
    if came_from(ConnectionRefusedError):
        return TransportError("the connection was refused", sent=sent)
    if came_from(urllib3.exceptions.TimeoutError, TimeoutError) and not came_from(
        urllib3.exceptions.NewConnectionError
    ):
        missed = "no answer came" if sent else "no connection was made"
        return TransportError(f"{missed} in time", sent=sent)
    if sent:
        return ConnectionBrokenError(f"the connection broke ({type(chain[-1]).__name__})", sent=True)
    return TransportError(f"no connection could be made ({type(chain[-1]).__name__})", sent=False)
