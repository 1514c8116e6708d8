"""Answers without an end: a call ends within its deadline, and a list within a bound."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import pytest

from shared.arm.errors import ArmAnswerLostError, ArmError, ArmProtocolError
from tests.unit.arm.server import SUBSCRIPTION, VAULT_PATH, Answer, Request, client_of, serving

PATH = f"{VAULT_PATH}/backupJobs"
DEADLINE = timedelta(seconds=0.2)
#: So long does a server go on that nobody leaves: six times the deadline.
PAUSE, PIECES = 0.04, 30


class Dripping:
    """A server that answers a little at a time: `first`, then `piece` again and again, and at last `end`."""

    def __init__(self, first: bytes, piece: bytes, end: bytes = b"Content-Length: 2\r\n\r\n{}") -> None:
        self._first = first
        self._piece = piece
        self._end = end
        self._done = threading.Event()
        #: it has said everything, and the client was still there
        self.ended = threading.Event()

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Its URL, while it runs."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(0.1)
            thread = threading.Thread(target=self._serve, args=(listener,), daemon=True)
            thread.start()
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                self._done.set()
                thread.join(5)

    def _serve(self, listener: socket.socket) -> None:
        while not self._done.is_set():
            with suppress(TimeoutError, OSError):
                connection, _ = listener.accept()
                with connection:
                    self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        connection.settimeout(5)
        asked = b""
        while not asked.endswith((b"\r\n\r\n", b"{}")) or (asked[:4] == b"POST" and asked[-2:] != b"{}"):
            asked += connection.recv(65536)
        connection.sendall(self._first)
        for _ in range(PIECES):
            if self._done.wait(PAUSE):
                return
            connection.sendall(self._piece)
        self.ended.set()
        connection.sendall(self._end)


HEADERS = b"HTTP/1.1 200 OK\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
ANSWERS = {
    "headers": (HEADERS, b"X-A: b\r\n"),
    "one header": (HEADERS + b"X-Long: ", b"x", b"\r\nContent-Length: 2\r\n\r\n{}"),
    "the status line": (b"HTTP/1.1 200 O", b"K", b"\r\nContent-Length: 2\r\n\r\n{}"),
    "100 without end": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", WHOLE),
    "headers of a 100": (b"HTTP/1.1 100 Continue\r\n", b"X-A: b\r\n", b"\r\n" + WHOLE),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_call_ends_within_its_deadline(answer: tuple[bytes, ...], method: str) -> None:
    server = Dripping(*answer)
    with server.serving() as url, client_of(url, http_timeout=DEADLINE) as client:
        lost: ArmError | None = None
        try:
            if method == "GET":
                client.get("list jobs", PATH, params={})
            else:
                client.post("trigger", PATH, params={}, json={}, client_request_id="x")
        except ArmError as error:
            lost = error
        assert not server.ended.is_set(), "the call went on for six times its deadline"
        assert isinstance(lost, ArmAnswerLostError)


def test_a_body_that_drips_ends_within_the_deadline() -> None:
    server = Dripping(HEADERS + b"Content-Length: 1000\r\n\r\n{", b" ", b"}")
    with server.serving() as url, client_of(url, http_timeout=DEADLINE) as client:
        with pytest.raises(ArmAnswerLostError):
            client.get("list jobs", PATH, params={})
        assert not server.ended.is_set()


#: Of a vault's jobs in a month, or its databases: no vault has so many.
MOST_ITEMS = 500_000


def test_a_list_without_end_is_bounded_in_its_items() -> None:
    page = [{"name": "x"}] * 20_000
    pages = MOST_ITEMS // len(page) + 5

    with serving() as server:

        def respond(request: Request) -> Answer:
            number = int(request.params.get("$skiptoken", "0"))
            link = f"{server.url}/subscriptions/{SUBSCRIPTION}/jobs?$skiptoken={number + 1}"
            return Answer(
                body=json.dumps({"value": page, "nextLink": link if number < pages else None}).encode()
            )

        server.respond = respond
        with client_of(server.url) as client:
            taken = 0
            with pytest.raises(ArmProtocolError, match="items"):
                for _ in client.pages("list jobs", PATH, params={}):
                    taken += 1
            assert taken <= MOST_ITEMS
