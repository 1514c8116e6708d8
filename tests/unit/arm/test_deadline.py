"""One deadline for the whole of a call: whatever takes long is given up, and whether it was sent is told."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from azure.core.credentials import AccessToken

from shared.arm import transport
from shared.arm.client import ArmClient
from shared.arm.credentials import CredentialChoice, CredentialKind, IdentityTokenSource
from shared.arm.errors import ArmAnswerLostError, ArmNotSentError, ArmProtocolError, TokenUnavailableError
from shared.clock import SystemClock
from tests.unit.arm.server import VAULT_PATH, Answer, client_of, make_certificate, serving

DEADLINE = timedelta(seconds=0.3)
LONG = 10


def post(arm: ArmClient) -> None:
    arm.post("trigger", VAULT_PATH, params={}, json={"a": 1}, client_request_id="x")


def get(arm: ArmClient) -> None:
    arm.get("get", VAULT_PATH, params={})


class Slow:
    """A peer that reads what comes, says `piece` again and again, and never comes to an end."""

    def __init__(self, piece: bytes) -> None:
        self.piece = piece
        self.done = threading.Event()
        self.left = threading.Event()
        self.url = ""

    def serve(self, listener: socket.socket) -> None:
        while not self.done.is_set():
            with suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65_536)
                    try:
                        while not self.done.wait(0.03):
                            connection.sendall(self.piece)
                    except OSError:
                        self.left.set()


@contextmanager
def slow(piece: bytes) -> Iterator[Slow]:
    peer = Slow(piece)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        peer.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=peer.serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield peer
        finally:
            peer.done.set()
            thread.join(5)


@pytest.mark.parametrize("call", [get, post])
def test_an_answer_without_a_length_is_not_taken_for_whole(call: Any) -> None:
    with slow(b"HTTP/1.1 200 OK\r\n\r\n") as peer, client_of(peer.url, http_timeout=DEADLINE) as arm:
        with pytest.raises(ArmAnswerLostError, match="in time"):
            call(arm)
        assert peer.left.wait(LONG), "the connection is closed"


def test_a_tls_handshake_that_drips_means_that_nothing_was_sent() -> None:
    # The head of a TLS record of 16 KiB, and then its content, a byte at a time.
    with slow(b"\x16\x03\x03\x40\x00") as peer:
        url = peer.url.replace("http://", "https://")
        with client_of(url, http_timeout=DEADLINE) as arm, pytest.raises(ArmNotSentError, match="in time"):
            post(arm)
        assert peer.left.wait(LONG)


def test_a_proxy_that_drips_means_that_nothing_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    with slow(b"HTTP/1.1 200 OK\r\nX-A: b\r\n") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        with (
            client_of("https://management.azure.com", http_timeout=DEADLINE) as arm,
            pytest.raises(ArmNotSentError, match="in time"),
        ):
            post(arm)
        assert proxy.left.wait(LONG)


def test_a_name_that_is_looked_up_for_long_means_that_nothing_was_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = threading.Event()

    def look_up(*_: Any, **__: Any) -> list[Any]:
        done.wait(LONG)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with (
        client_of("https://management.azure.com", http_timeout=DEADLINE) as arm,
        pytest.raises(ArmNotSentError, match="in time"),
    ):
        post(arm)
    assert not done.is_set()
    done.set()


def test_waiting_for_a_free_connection_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_POOL_SIZE", 1)
    asked, done = threading.Event(), threading.Event()

    def respond(_: object) -> Answer:
        asked.set()
        done.wait(LONG)
        return Answer(body={})

    with serving() as server, ThreadPoolExecutor(1) as pool:
        server.respond = respond
        with client_of(server.url, http_timeout=timedelta(seconds=1)) as arm:
            first = pool.submit(get, arm)
            assert asked.wait(LONG)
            with pytest.raises((ArmNotSentError, ArmAnswerLostError)):
                post(arm)
            with pytest.raises(ArmAnswerLostError):
                first.result(LONG)
            done.set()


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_connection_outlives_the_deadline_of_the_call_that_opened_it(
    encrypted: bool, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = make_certificate(tmp_path) if encrypted else None
    if certificate is not None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    taking, limit = timedelta(seconds=0.6), timedelta(seconds=1)

    def respond(_: object) -> Answer:
        threading.Event().wait(taking.total_seconds())
        return Answer(body={})

    with serving(tls=certificate) as server:
        server.respond = respond
        with client_of(server.url, http_timeout=limit) as arm:
            get(arm)
            get(arm)
        assert server.connections == 1


def test_a_token_that_does_not_come_means_that_nothing_was_sent() -> None:
    done = threading.Event()

    class Hanging:
        opened = 0

        def __init__(self, _: object) -> None:
            Hanging.opened += 1
            self.answers = Hanging.opened > 1

        def get_token(self, *_: str, **__: Any) -> AccessToken:
            if not self.answers:
                done.wait(LONG)
            return AccessToken("t", 4_000_000_000)

    source = IdentityTokenSource(
        CredentialChoice(kind=CredentialKind.MANAGED_IDENTITY),
        "scope",
        clock=SystemClock(),
        open_credential=Hanging,
    )
    with serving() as server, client_of(server.url, token_source=source, http_timeout=DEADLINE) as arm:
        with pytest.raises(TokenUnavailableError, match="in time"):
            post(arm)
        assert not done.is_set()
        assert not server.requests
        post(arm)
        assert len(server.requests) == 1, "a new credential is asked, and the hanging one holds up nobody"
        done.set()


def test_a_list_is_bounded_in_its_bytes() -> None:
    text = "x" * (8 * 1024 * 1024)
    with serving() as server:
        pages = iter(range(1000))

        def respond(_: object) -> Answer:
            link = f"{server.url}{VAULT_PATH}/backupJobs?$skiptoken={next(pages)}"
            return Answer(body={"value": [{"name": text}], "nextLink": link})

        server.respond = respond
        with client_of(server.url) as arm, pytest.raises(ArmProtocolError, match="bytes"):
            for _ in arm.pages("list jobs", f"{VAULT_PATH}/backupJobs", params={}):
                pass
        assert len(server.requests) < 40
