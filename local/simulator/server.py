"""The simulator's socket: HTTP/1.1 with keep-alive on loopback, a thread per connection, TLS where asked for."""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import threading
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO, Self, cast

from local.simulator.certificate import write_certificate
from local.simulator.http_messages import Request, Response
from local.simulator.simulator import Simulator

MAX_LINE = 65536
MAX_BODY = 4 * 1024 * 1024
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class _BadRequestError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class SimulatorServer:
    """Serves a `Simulator` on 127.0.0.1. A context manager; `port` 0 picks a free one.

    With `tls_directory` it speaks https with a certificate of its own, written to `cert.pem` there (and its key
    to `key.pem`) for clients to trust.
    """

    def __init__(self, simulator: Simulator, *, port: int = 0, tls_directory: Path | None = None) -> None:
        self.simulator = simulator
        self._port = port
        self._tls_directory = tls_directory
        self._listener: socket.socket | None = None
        self._tls: ssl.SSLContext | None = None
        self._connections: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._guard = threading.Lock()
        self._stopping = threading.Event()
        self._acceptor: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The address clients are given, without a trailing slash. Raises RuntimeError before the start."""
        if self._listener is None:
            raise RuntimeError("The simulator's server has not been started.")
        port = self._listener.getsockname()[1]
        return f"https://localhost:{port}" if self._tls_directory is not None else f"http://127.0.0.1:{port}"

    def start(self) -> None:
        """Listen. Raises OSError where the port is taken."""
        if self._tls_directory is not None:
            certificate, key = write_certificate(self._tls_directory)
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate, key)
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if sys.platform != "win32":  # where it lets two servers have one port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self._port))
            listener.listen(256)
        except OSError:
            listener.close()
            raise
        self._listener = listener
        self._stopping.clear()
        self._acceptor = threading.Thread(target=self._accept, name="simulator-accept", daemon=True)
        self._acceptor.start()

    def stop(self) -> None:
        """Close every connection and stop listening; the simulator's state and records stay readable."""
        self._stopping.set()
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        if self._acceptor is not None:
            self._acceptor.join(5)
        with self._guard:
            connections, threads = list(self._connections), list(self._threads)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(5)
        self.simulator.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _accept(self) -> None:
        listener = self._listener
        assert listener is not None
        while not self._stopping.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), name="simulator", daemon=True)
            with self._guard:
                self._connections.add(connection)
                self._threads.add(thread)
            thread.start()

    def _serve(self, raw: socket.socket) -> None:
        connection = raw
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                raw.settimeout(30)
                connection = self._tls.wrap_socket(raw, server_side=True)
                with self._guard:
                    self._connections.discard(raw)
                    self._connections.add(connection)
                connection.settimeout(None)
            with cast("BinaryIO", connection.makefile("rb", buffering=65536)) as reader:
                while not self._stopping.is_set() and self._exchange(connection, reader):
                    pass
        except (OSError, ValueError):
            pass  # The peer went away, or the server is stopping: there is nobody to tell.
        finally:
            with self._guard:
                self._connections.discard(raw)
                self._connections.discard(connection)
                self._threads.discard(threading.current_thread())
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _exchange(self, connection: socket.socket, reader: BinaryIO) -> bool:
        """Read a request and answer it; whether the connection stays open."""
        try:
            request, keep = self._read(connection, reader)
        except _BadRequestError as error:
            connection.sendall(_encode(Response(error.status), close=True, head=False))
            return False
        if request is None:
            return False
        response = self.simulator.handle(request, self._wait)
        if response.delay:
            self._wait(response.delay)
        if response.drop:
            return False
        data = _encode(response, close=not keep, head=request.method == "HEAD")
        if response.drop_mid_body:
            connection.sendall(data[: len(data) - max(len(response.body) // 2, 1)])
            return False
        connection.sendall(data)
        return keep

    def _wait(self, seconds: float) -> None:
        """Wait, unless the server stops meanwhile: then the request is given up."""
        if self._stopping.wait(seconds):
            raise ConnectionAbortedError("the server is stopping")

    def _read(self, connection: socket.socket, reader: BinaryIO) -> tuple[Request | None, bool]:
        line = reader.readline(MAX_LINE)
        if line in (b"\r\n", b"\n"):
            line = reader.readline(MAX_LINE)
        if not line:
            return None, False
        parts = line.decode("latin-1").split()
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            raise _BadRequestError(400 if line.endswith(b"\n") else 414)
        method, target, version = parts
        headers: dict[str, str] = {}
        total = 0
        while True:
            line = reader.readline(MAX_LINE)
            total += len(line)
            if total > MAX_LINE * 2 or not line:
                raise _BadRequestError(431 if line else 400)
            if line in (b"\r\n", b"\n"):
                break
            name, separator, value = line.decode("latin-1").partition(":")
            if not separator:
                raise _BadRequestError(400)
            headers[name.strip().lower()] = value.strip()
        if headers.get("expect", "").lower() == "100-continue":
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = _read_body(reader, headers)
        if target.startswith(("http://", "https://")):
            target = "/" + target.split("/", 3)[3] if target.count("/") >= 3 else "/"
        path, _, query = target.partition("?")
        keep = headers.get("connection", "").lower() != "close" and version == "HTTP/1.1"
        return Request(method.upper(), path, query, headers, body, self._origin(headers)), keep

    def _origin(self, headers: dict[str, str]) -> str:
        # Poll URLs name the host as the client does (localhost or 127.0.0.1), never one it made up.
        url = self.url if self._listener is not None else "http://127.0.0.1"
        scheme, _, own = url.partition("://")
        port = own.rpartition(":")[2]
        host = headers.get("host", "").lower()
        if host in (f"127.0.0.1:{port}", f"localhost:{port}"):
            return f"{scheme}://{host}"
        return url


def _read_body(reader: BinaryIO, headers: dict[str, str]) -> bytes:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        chunks: list[bytes] = []
        total = 0
        while True:
            size_line = reader.readline(MAX_LINE).split(b";")[0].strip()
            try:
                size = int(size_line, 16)
            except ValueError as error:
                raise _BadRequestError(400) from error
            total += size
            if size < 0 or total > MAX_BODY:
                raise _BadRequestError(413)
            if size == 0:
                while reader.readline(MAX_LINE).strip():
                    pass
                return b"".join(chunks)
            chunks.append(reader.read(size))
            reader.readline(MAX_LINE)
    text = headers.get("content-length", "0")
    if not text.isdigit():
        raise _BadRequestError(400)
    length = int(text)
    if length > MAX_BODY:
        raise _BadRequestError(413)
    body = reader.read(length) if length else b""
    if len(body) < length:
        raise _BadRequestError(400)
    return body


def _encode(response: Response, *, close: bool, head: bool) -> bytes:
    lines = [f"HTTP/1.1 {response.status} {_REASONS.get(response.status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in response.headers]
    if response.status not in (204, 304):
        lines.append(f"Content-Length: {len(response.body)}")
    if close:
        lines.append("Connection: close")
    text = "\r\n".join(lines) + "\r\n\r\n"
    return text.encode("latin-1", "replace") + (
        b"" if head or response.status in (204, 304) else response.body
    )
