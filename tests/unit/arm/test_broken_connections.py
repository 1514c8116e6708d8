"""A server that misbehaves: whether a call may have had its effect decides what may follow."""

from __future__ import annotations

import base64
import contextlib
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from shared.arm.client import ArmClient
from shared.arm.errors import ArmAnswerLostError, ArmNotSentError, ArmUntrustedError
from shared.arm.ids import VaultId
from tests.unit.arm.server import VAULT_PATH, client_of, make_certificate, serving

VAULT = VaultId.parse(VAULT_PATH)
REQUEST_ID = "73716c62-1111-8222-8333-444444444444"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Peer:
    """Speaks raw TCP: `behave` is called with each connection and its number."""

    def __init__(self, listener: socket.socket) -> None:
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.received: list[bytes] = []
        self.connections = 0
        self.release = threading.Event()
        self.behave: Callable[[socket.socket, int], None] = lambda connection, number: None

    def read_request(self, connection: socket.socket) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = connection.recv(65_536)
            if not chunk:
                return
            data += chunk
        self.received.append(data)


def reset(connection: socket.socket) -> None:
    """Close with a reset, as a crashed process or a firewall does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@contextmanager
def peer() -> Iterator[Peer]:
    listener = socket.create_server(("127.0.0.1", 0))
    running = Peer(listener)
    threads = []

    def serve(connection: socket.socket, number: int) -> None:
        with connection, contextlib.suppress(OSError):
            running.behave(connection, number)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                running.connections += 1
                thread = threading.Thread(target=serve, args=(connection, running.connections))
                thread.start()
                threads.append(thread)

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield running
    finally:
        running.release.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(5)
        for thread in threads:
            thread.join(5)


@pytest.fixture
def misbehaving() -> Iterator[Peer]:
    with peer() as running:
        yield running


def post(arm: ArmClient) -> None:
    arm.post("trigger", VAULT.url_path, params={}, json={"a": 1}, client_request_id=REQUEST_ID)


def get(arm: ArmClient) -> None:
    arm.get("get", VAULT.url_path, params={})


def closes_unanswered(of: Peer, connection: socket.socket) -> None:
    of.read_request(connection)


def resets_unanswered(of: Peer, connection: socket.socket) -> None:
    of.read_request(connection)
    reset(connection)


def resets_unread(of: Peer, connection: socket.socket) -> None:
    connection.recv(1)
    reset(connection)


def truncates_the_body(of: Peer, connection: socket.socket) -> None:
    of.read_request(connection)
    connection.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 100\r\n\r\n{")


def truncates_a_chunk(of: Peer, connection: socket.socket) -> None:
    of.read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{")


def resets_in_the_body(of: Peer, connection: socket.socket) -> None:
    of.read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    reset(connection)


def closes_in_the_headers(of: Peer, connection: socket.socket) -> None:
    of.read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Le")


def speaks_no_http(of: Peer, connection: socket.socket) -> None:
    of.read_request(connection)
    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")


BROKEN = [
    closes_unanswered,
    resets_unanswered,
    resets_unread,
    truncates_the_body,
    truncates_a_chunk,
    resets_in_the_body,
    speaks_no_http,
]


@pytest.mark.parametrize("behaviour", BROKEN, ids=lambda behaviour: behaviour.__name__)
def test_f12_a_broken_answer_to_a_mutation_may_hide_its_effect(
    misbehaving: Peer, behaviour: Callable[[Peer, socket.socket], None]
) -> None:
    misbehaving.behave = lambda connection, number: behaviour(misbehaving, connection)
    with client_of(misbehaving.url) as arm, pytest.raises(ArmAnswerLostError) as caught:
        post(arm)
    assert caught.value.may_have_started
    assert caught.value.client_request_id == REQUEST_ID
    assert misbehaving.connections == 1, "it was sent once"


@pytest.mark.parametrize("behaviour", BROKEN, ids=lambda behaviour: behaviour.__name__)
def test_f12_a_broken_answer_to_a_read_is_asked_for_once_more(
    misbehaving: Peer, behaviour: Callable[[Peer, socket.socket], None]
) -> None:
    def behave(connection: socket.socket, number: int) -> None:
        if number == 1:
            behaviour(misbehaving, connection)
        else:
            misbehaving.read_request(connection)
            connection.sendall(OK)

    misbehaving.behave = behave
    with client_of(misbehaving.url) as arm:
        get(arm)
    assert misbehaving.connections == 2
    misbehaving.behave = lambda connection, number: behaviour(misbehaving, connection)
    with client_of(misbehaving.url) as arm, pytest.raises(ArmAnswerLostError):
        get(arm)
    assert misbehaving.connections == 4, "once, not for ever"


def test_headers_that_end_early_are_no_answer(misbehaving: Peer) -> None:
    misbehaving.behave = lambda connection, number: closes_in_the_headers(misbehaving, connection)
    with client_of(misbehaving.url) as arm, pytest.raises(ArmAnswerLostError):
        post(arm)


def test_f11_an_answer_that_never_comes(misbehaving: Peer) -> None:
    def behave(connection: socket.socket, number: int) -> None:
        misbehaving.read_request(connection)
        misbehaving.release.wait(10)

    misbehaving.behave = behave
    with client_of(misbehaving.url, http_timeout=timedelta(seconds=0.2)) as arm:
        with pytest.raises(ArmAnswerLostError, match="in time") as caught:
            post(arm)
        assert caught.value.may_have_started
        with pytest.raises(ArmAnswerLostError, match="in time"):
            get(arm)
    assert misbehaving.connections == 2, "a read that takes too long is not asked again at once"


def test_an_answer_that_trickles_is_given_up(misbehaving: Peer) -> None:
    def behave(connection: socket.socket, number: int) -> None:
        misbehaving.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not misbehaving.release.wait(0.05):
            connection.sendall(b" ")

    misbehaving.behave = behave
    with (
        client_of(misbehaving.url, http_timeout=timedelta(seconds=0.3)) as arm,
        pytest.raises(ArmAnswerLostError, match="longer than"),
    ):
        post(arm)


def test_a_kept_connection_that_was_closed_meanwhile(misbehaving: Peer) -> None:
    """The peer answers the first request of a connection and resets at the second, having read it."""

    def behave(connection: socket.socket, number: int) -> None:
        misbehaving.read_request(connection)
        connection.sendall(OK)
        misbehaving.read_request(connection)
        reset(connection)

    misbehaving.behave = behave
    with client_of(misbehaving.url) as arm:
        get(arm)
        with pytest.raises(ArmAnswerLostError):
            post(arm)
        get(arm)
        get(arm)
        assert misbehaving.connections == 3, "the last read came through on a new connection"


def test_a_connection_closed_while_idle_costs_nothing(misbehaving: Peer) -> None:
    closed = threading.Event()

    def behave(connection: socket.socket, number: int) -> None:
        misbehaving.read_request(connection)
        connection.sendall(OK)
        connection.close()
        closed.set()

    misbehaving.behave = behave
    with client_of(misbehaving.url) as arm:
        get(arm)
        assert closed.wait(5)
        closed.clear()
        post(arm)


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_a_refused_connection_means_that_nothing_started() -> None:
    url = f"http://127.0.0.1:{_closed_port()}"
    with client_of(url) as arm, pytest.raises(ArmNotSentError, match="refused") as caught:
        post(arm)
    assert not caught.value.may_have_started
    assert url in str(caught.value)


def test_an_unknown_host_means_that_nothing_started() -> None:
    with (
        client_of("https://management.invalid", http_timeout=timedelta(seconds=5)) as arm,
        pytest.raises(ArmNotSentError) as caught,
    ):
        post(arm)
    assert not caught.value.may_have_started


def test_a_failed_tls_handshake_means_that_nothing_started(misbehaving: Peer) -> None:
    def behave(connection: socket.socket, number: int) -> None:
        connection.recv(10)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    misbehaving.behave = behave
    url = misbehaving.url.replace("http://", "https://")
    with client_of(url) as arm, pytest.raises(ArmNotSentError, match=r"TLS|connection") as caught:
        post(arm)
    assert not caught.value.may_have_started


@pytest.mark.parametrize("reply", [b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", b""])
def test_a_proxy_that_opens_no_tunnel_means_that_nothing_started(
    misbehaving: Peer, reply: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def behave(connection: socket.socket, number: int) -> None:
        misbehaving.read_request(connection)
        connection.sendall(reply)

    misbehaving.behave = behave
    monkeypatch.setenv("https_proxy", misbehaving.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with client_of("https://management.invalid") as arm, pytest.raises(ArmNotSentError) as caught:
        post(arm)
    assert not caught.value.may_have_started
    (asked,) = misbehaving.received
    assert asked.startswith(b"CONNECT management.invalid:443")
    assert b"Authorization" not in asked


def test_a_proxy_is_told_who_asks(misbehaving: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    def behave(connection: socket.socket, number: int) -> None:
        misbehaving.read_request(connection)
        connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")

    misbehaving.behave = behave
    for scheme in ("http://", ""):
        monkeypatch.setenv("https_proxy", misbehaving.url.replace("http://", f"{scheme}user:p%40ss@"))
        monkeypatch.setenv("no_proxy", "other.invalid")
        with (
            client_of("https://management.invalid") as arm,
            pytest.raises(ArmNotSentError, match="proxy") as caught,
        ):
            post(arm)
        _, header, *_ = misbehaving.received.pop().split(b"\r\n")
        name, value = header.split(b": ")
        assert (name.lower(), value) == (
            b"proxy-authorization",
            b"Basic " + base64.b64encode(b"user:p@ss"),
        )
        assert "p%40ss" not in str(caught.value)


def test_a_host_outside_the_proxy_is_asked_itself(misbehaving: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", misbehaving.url)
    monkeypatch.setenv("no_proxy", "management.invalid")
    with client_of("https://management.invalid") as arm, pytest.raises(ArmNotSentError, match="resolved"):
        post(arm)
    assert not misbehaving.connections


@pytest.mark.parametrize("proxy", ["socks9://127.0.0.1:1", "http://", "http://:80", "http://user:p@"])
def test_what_can_be_no_proxy_means_that_nothing_started(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    with (
        client_of("https://management.invalid") as arm,
        pytest.raises(ArmNotSentError, match="the proxy cannot be used"),
    ):
        post(arm)


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_certificate_authorities_are_those_of_the_environment(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(each, raising=False)
    certificate = make_certificate(tmp_path)
    with serving(tls=certificate) as server:
        with client_of(server.url) as arm, pytest.raises(ArmUntrustedError, match="is not trusted"):
            get(arm)
        monkeypatch.setenv(name, str(certificate[0]))
        with client_of(server.url) as arm:
            get(arm)
        monkeypatch.setenv(name, str(tmp_path / "none.pem"))
        with client_of(server.url) as arm, pytest.raises(ArmUntrustedError, match="names no file"):
            get(arm)
        folder = tmp_path / "authorities"
        folder.mkdir()
        hashed = subprocess.run(
            ["openssl", "x509", "-noout", "-hash", "-in", certificate[0]],
            capture_output=True,
            text=True,
            check=True,
        )
        shutil.copy(certificate[0], folder / f"{hashed.stdout.strip()}.0")
        monkeypatch.setenv(name, str(folder))
        with client_of(server.url) as arm:
            get(arm)
