"""HTTP below the ARM client: one pool of connections, no redirects, cookies, netrc or retries.

Imported on first use only: `requests` is not on the import path of the Function App.
"""

from __future__ import annotations

import http.client
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final, Protocol

import requests
import requests.adapters
import urllib3
import urllib3.connection
import urllib3.connectionpool
import urllib3.exceptions

from shared.arm.deadline import Deadline, deadline
from shared.arm.endpoint import ArmEndpoint
from shared.causes import causes

__all__ = [
    "ConnectionBrokenError",
    "HttpTransport",
    "RawAnswer",
    "Transport",
    "TransportError",
    "TransportTimeoutError",
]

_POOL_SIZE = 32
_CONNECT_TIMEOUT = timedelta(seconds=10)
_CHUNK = 65_536
#: how the error of `requests` for a missing file of certificate authorities begins
_NO_BUNDLE = "TLS CA certificate bundle"


class TransportError(Exception):
    """No complete answer came back. `sent` says whether sending the request had begun."""

    def __init__(self, problem: str, *, sent: bool) -> None:
        super().__init__(problem)
        self.sent = sent


class TransportTimeoutError(TransportError):
    """The answer took too long."""


class UntrustedError(TransportError):
    """The server's certificate is not trusted: trying again would not help."""


class ConnectionBrokenError(TransportError):
    """The connection was closed or reset before the answer was whole."""


class AnswerTooLargeError(TransportError):
    """The answer's body is larger than any that the service sends."""


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


class _Progress(threading.local):
    """Whether sending the request of this thread has begun."""

    sent = False


_progress = _Progress()


def _check_headers(response: object) -> None:
    """HTTPException where an answer ended within its headers, which `http.client` takes for their end."""
    if not isinstance(response, urllib3.HTTPResponse):
        return
    original = response._original_response
    if original is not None and original.msg.defects:
        response.close()
        raise http.client.HTTPException("the headers are not whole")


class _HttpConnection(urllib3.connection.HTTPConnection):
    """Notes when sending begins, detects an answer that ended within its headers, and keeps the deadline."""

    def _new_conn(self) -> socket.socket:
        # Neither the look-up of a name nor the number of its addresses is bounded by a time-out.
        with deadline(_NO_LIMIT) as limit:
            try:
                made = limit.wait_for(super()._new_conn, too_late=socket.socket.close)
            except TimeoutError:
                raise urllib3.exceptions.ConnectTimeoutError(self, "no connection in time") from None
            limit.watch(made.fileno())
            return made

    def getresponse(self) -> Any:
        response = super().getresponse()
        _check_headers(response)
        return response

    def _tunnel(self) -> None:
        super()._tunnel()
        with deadline(_NO_LIMIT) as limit:
            # http.client takes the end of the connection for the end of a proxy's headers.
            if limit.has_passed:
                raise TimeoutError

    def endheaders(self, message_body: Any = None, *, encode_chunked: bool = False) -> None:
        # Here, and not where a proxy is asked for a tunnel: connecting first leaves only the sending.
        if self.sock is None:
            self.connect()
        with deadline(_NO_LIMIT) as limit:
            if limit.has_passed:
                raise TimeoutError
            limit.watch(self.sock.fileno())
            _progress.sent = True
            super().endheaders(message_body, encode_chunked=encode_chunked)


class _HttpsConnection(_HttpConnection, urllib3.connection.HTTPSConnection):
    """The same by TLS."""


class _HttpPool(urllib3.connectionpool.HTTPConnectionPool):
    """Waits for a connection within the deadline, and stops watching it when it is returned."""

    ConnectionCls = _HttpConnection

    def _get_conn(self, timeout: float | None = None) -> Any:  # noqa: ARG002  requests gives none
        with deadline(_NO_LIMIT) as limit:
            return super()._get_conn(limit.remaining)

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


class _Adapter(requests.adapters.HTTPAdapter):
    """Uses connections that note when sending begins."""

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any
    ) -> None:
        super().init_poolmanager(
            connections, maxsize, block=block, socket_options=_socket_options(), **pool_kwargs
        )
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> urllib3.ProxyManager:
        manager: urllib3.ProxyManager = super().proxy_manager_for(proxy, **proxy_kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def close(self) -> None:
        # urllib3 leaves the closing to the garbage collector, which may come late.
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for key in manager.pools.keys():  # noqa: SIM118  the container forbids iteration
                pool = manager.pools.get(key)
                if pool is not None:
                    pool.close()
        super().close()


class HttpTransport:
    """Sends requests to one endpoint over HTTP."""

    def __init__(self, endpoint: ArmEndpoint, *, http_timeout: timedelta) -> None:
        self._endpoint = endpoint
        self._limit = http_timeout
        self._timeout = (min(http_timeout, _CONNECT_TIMEOUT).total_seconds(), http_timeout.total_seconds())
        self._session = requests.Session()
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = _Adapter(pool_connections=8, pool_maxsize=_POOL_SIZE, max_retries=0, pool_block=True)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        self._settings_lock = threading.Lock()
        self._settings: dict[str, dict[str, Any]] = {}

    def close(self) -> None:
        """See `Transport.close`."""
        self._session.close()

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

        def attach_token(prepared: requests.PreparedRequest) -> requests.PreparedRequest:
            # An auth object, because a bare header would give way to an entry of ~/.netrc.
            if not self._endpoint.serves(prepared.url or ""):
                raise TransportError("the URL leads away from the endpoint", sent=False)
            prepared.headers["Authorization"] = f"Bearer {token()}"
            return prepared

        with deadline(self._limit) as limit:
            try:
                prepared = requests.Request(
                    method, url, headers=dict(headers), data=body, auth=attach_token
                ).prepare()
            except (requests.RequestException, UnicodeError) as error:
                raise TransportError(
                    f"the URL cannot be asked ({type(error).__name__})", sent=False
                ) from None
            # `requests` rewrites percent-encoding; a signed URL goes out as it came in.
            prepared.url = url
            return self._answer_to(prepared, url, max_body, limit)

    def _answer_to(
        self, prepared: requests.PreparedRequest, url: str, max_body: int, limit: Deadline
    ) -> RawAnswer:
        _progress.sent = False
        response: requests.Response | None = None
        failure: TransportError
        try:
            response = self._session.send(
                prepared,
                timeout=self._timeout,
                allow_redirects=False,
                stream=True,
                **self._environment_settings(url),
            )
            received = self._read(response, limit, max_body)
        except TransportError as error:
            failure = error
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            sent = _progress.sent or response is not None
            failure = self._late(sent=sent) if limit.has_passed else _classify(error, sent=sent)
        else:
            return RawAnswer(
                response.status_code,
                {name.lower(): value for name, value in response.headers.items()},
                received,
            )
        if response is not None:
            response.close()
        # Not raised within `except`: the libraries' error holds the signed URL, and a traceback would show it.
        raise failure

    def _late(self, *, sent: bool) -> TransportTimeoutError:
        seconds = f"{self._limit.total_seconds():g} s"
        if sent:
            return TransportTimeoutError(
                f"no whole answer came in time, it took longer than {seconds}", sent=True
            )
        return TransportTimeoutError(
            f"no connection was made in time, it took longer than {seconds}", sent=False
        )

    def _read(self, response: requests.Response, limit: Deadline, max_body: int) -> bytes:
        received = bytearray()
        while chunk := response.raw.read1(_CHUNK, decode_content=True):
            received += chunk
            if len(received) > max_body:
                raise AnswerTooLargeError(f"the answer is larger than {max_body} bytes", sent=True)
        # A connection that was shut down looks like the end of an answer that does not tell its length.
        if limit.has_passed:
            raise self._late(sent=True)
        response.raw.release_conn()
        return bytes(received)

    def _environment_settings(self, url: str) -> dict[str, Any]:
        """Proxies and certificate authorities, from the usual environment variables."""
        host = url.split("/", 3)[2]
        with self._settings_lock:
            settings = self._settings.get(host)
            if settings is None:
                merged = self._session.merge_environment_settings(url, {}, True, None, None)
                settings = {"proxies": merged["proxies"], "verify": merged["verify"], "cert": merged["cert"]}
                if self._endpoint.is_loopback:
                    # A server on this machine is not called through a proxy.
                    settings["proxies"] = {}
                if settings["verify"] is False:
                    settings["verify"] = True
                self._settings[host] = settings
            return dict(settings)


def _classify(error: BaseException, *, sent: bool) -> TransportError:
    """The TransportError for an exception of requests, urllib3 or the socket, with a short reason."""
    chain = causes(error, "reason", "__cause__")
    if any(_NO_BUNDLE in str(cause) for cause in chain):
        return UntrustedError(
            "REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names no file of certificates", sent=False
        )
    if any(isinstance(cause, urllib3.exceptions.NameResolutionError) for cause in chain):
        return TransportError("the host name cannot be resolved", sent=sent)
    if any(isinstance(cause, requests.exceptions.SSLError | urllib3.exceptions.SSLError) for cause in chain):
        text = " ".join(str(cause) for cause in chain)
        if "CERTIFICATE_VERIFY_FAILED" in text or "doesn't match" in text:
            return UntrustedError(
                "its TLS certificate is not trusted (if it is right, name its authority in "
                "REQUESTS_CA_BUNDLE)",
                sent=sent,
            )
        return TransportError("the TLS connection failed", sent=sent)
    if any(
        isinstance(
            cause,
            requests.exceptions.ProxyError
            | requests.exceptions.InvalidProxyURL
            | requests.exceptions.InvalidSchema
            | urllib3.exceptions.ProxyError,
        )
        or "Tunnel connection failed" in str(cause)
        for cause in chain
    ):
        return TransportError("the proxy cannot be used", sent=sent)
    if any(isinstance(cause, ConnectionRefusedError) for cause in chain):
        return TransportError("the connection was refused", sent=sent)
    if any(
        isinstance(
            cause,
            requests.exceptions.Timeout
            | urllib3.exceptions.TimeoutError
            | urllib3.exceptions.EmptyPoolError
            | TimeoutError,
        )
        and not isinstance(cause, urllib3.exceptions.NewConnectionError)
        for cause in chain
    ):
        if sent:
            return TransportTimeoutError("no answer came in time", sent=True)
        return TransportTimeoutError("no connection was made in time", sent=False)
    if sent:
        return ConnectionBrokenError(f"the connection broke ({type(chain[-1]).__name__})", sent=True)
    return TransportError(f"no connection could be made ({type(chain[-1]).__name__})", sent=False)
