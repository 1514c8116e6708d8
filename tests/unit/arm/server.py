"""A real HTTP server on loopback that answers as a test tells it, and the clients to ask it with."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

from shared.arm.client import ArmClient
from shared.arm.credentials import FixedTokenSource, TokenSource
from shared.clock import ServiceClock, SystemClock

SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
VAULT_PATH = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-backup"
    "/providers/Microsoft.RecoveryServices/vaults/vault1"
)
DATE = "Mon, 05 Jan 2026 08:00:00 GMT"


@dataclass(frozen=True)
class Request:
    """What reached the server."""

    method: str
    target: str  #: path and query as sent
    headers: Mapping[str, str]  #: lower-case names
    body: bytes

    @property
    def path(self) -> str:
        return unquote(self.target.partition("?")[0])

    @property
    def params(self) -> dict[str, str]:
        query = self.target.partition("?")[2]
        return {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None


@dataclass(frozen=True)
class Answer:
    """What the server says; a `body` that is no bytes is sent as JSON."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Server:
    """Calls `respond` for every request; keeps the requests."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[Request] = []
        self.respond: Callable[[Request], Answer] = lambda request: Answer(body={})
        self.connections = 0

    def answer(self, *answers: Answer) -> None:
        """Give these answers in turn, the last one for ever."""
        pending = list(answers)
        lock = threading.Lock()

        def respond(request: Request) -> Answer:
            with lock:
                return pending.pop(0) if len(pending) > 1 else pending[0]

        self.respond = respond


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that refuse the certificate or leave early are what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65_536
    disable_nagle_algorithm = True
    scripted: Server

    def setup(self) -> None:
        super().setup()
        self.scripted.connections += 1

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it
        pass

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        request = Request(
            self.command,
            self.path,
            {name.lower(): value for name, value in self.headers.items()},
            self.rfile.read(length),
        )
        self.scripted.requests.append(request)
        answer = self.scripted.respond(request)
        body = b"" if answer.body is None else answer.body
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.send_response_only(answer.status)
        headers = {"Date": DATE, "Content-Type": "application/json", **answer.headers}
        if answer.status != 204:
            headers.setdefault("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815  the base class's convention


@contextmanager
def serving(*, tls: tuple[Path, Path] | None = None) -> Iterator[Server]:
    """A running server; `tls` is its certificate and key."""
    scripted = Server("")
    handler = type("Handler", (_Handler,), {"scripted": scripted})
    http = _QuietServer(("127.0.0.1", 0), handler)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        http.socket = context.wrap_socket(http.socket, server_side=True, do_handshake_on_connect=False)
    scripted.url = f"{'https' if tls else 'http'}://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield scripted
    finally:
        http.shutdown()
        http.server_close()
        thread.join(5)


@contextmanager
def client_of(
    url: str, *, token_source: TokenSource | None = None, http_timeout: timedelta = timedelta(seconds=10)
) -> Iterator[ArmClient]:
    """An ARM client of the server at `url`."""
    clock = SystemClock()
    with ArmClient(
        endpoint=url,
        token_source=token_source or FixedTokenSource(),
        clock=clock,
        service_clock=ServiceClock(clock),
        http_timeout=http_timeout,
    ) as client:
        yield client


def make_certificate(
    folder: Path, *, valid_until: datetime | None = None, key_in_certificate: bool = False
) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and localhost: its path, and its key's."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    # RSA, since that is what Entra ID takes for a client certificate.
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    until = valid_until or datetime.now(UTC) + timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(until - timedelta(days=2))
        .not_valid_after(until)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_pem = certificate.public_bytes(serialization.Encoding.PEM)
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    certificate_path, key_path = folder / "cert.pem", folder / "key.pem"
    certificate_path.write_bytes(certificate_pem + (key_pem if key_in_certificate else b""))
    key_path.write_bytes(key_pem)
    return certificate_path, key_path
