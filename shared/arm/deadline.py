"""One deadline for a whole call to Azure: the token, the connection, the request and its whole answer.

The time-outs of `urllib3` only bound the wait for the next byte, so a slow trickle of bytes can last for ever
(https://urllib3.readthedocs.io/en/stable/reference/urllib3.util.html#urllib3.util.Timeout). Here the connection is shut
down at the deadline, whatever is being read or written.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Final, TypeVar

from shared.clock import SystemClock

__all__ = ["Deadline", "deadline"]

_T = TypeVar("_T")
#: A socket waits in this machine's time, whatever clock the app goes by.
_CLOCK: Final = SystemClock()


class Deadline:
    """When a call is over. Made by `deadline`."""

    def __init__(self, limit: timedelta) -> None:
        #: by this machine's monotonic clock
        self.ends = _CLOCK.monotonic() + limit.total_seconds()
        #: whether sending the request that is under way has begun
        self.has_sent = False
        self._lock = threading.Lock()
        self._watched: socket.socket | None = None
        self._has_rung = False

    @property
    def remaining(self) -> float:
        """Seconds that are left, 0 once it has passed."""
        return max(0.0, self.ends - _CLOCK.monotonic())

    @property
    def has_passed(self) -> bool:
        """Whether no time is left."""
        return self._has_rung or self.remaining == 0.0

    def watch(self, connection: int) -> None:
        """Shut the connection with this file descriptor down at the deadline, unless it is released before."""
        self.release()
        with self._lock:
            # A duplicate: TLS takes the socket over, and http.client closes it before the body is read.
            self._watched = socket.fromfd(connection, socket.AF_INET, socket.SOCK_STREAM)
        if self.has_passed:
            self.ring()
        else:
            _WATCHDOG.add(self)

    def release(self) -> None:
        """Stop watching the connection, which others may use next."""
        with self._lock:
            if self._watched is not None:
                self._watched.close()
                self._watched = None

    def wait_for(self, work: Callable[[], _T], *, too_late: Callable[[_T], object] = lambda _: None) -> _T:
        """Run `work`, which cannot be interrupted; at the deadline it is left alone, and `too_late` gets its result.

        Returns or raises what `work` does. Raises TimeoutError at the deadline.
        """
        future: Future[_T] = Future()

        def run() -> None:
            try:
                result = work()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        def end(ended: Future[_T]) -> None:
            if ended.exception() is None:
                too_late(ended.result())

        threading.Thread(target=run, name="bounded", daemon=True).start()
        try:
            return future.result(self.remaining)
        except TimeoutError:
            future.add_done_callback(end)
            raise

    def ring(self) -> None:
        """The deadline has come: shut down the connection that is watched."""
        with self._lock:
            self._has_rung = True
            if self._watched is not None:
                with suppress(OSError):
                    self._watched.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """The call is over."""
        _WATCHDOG.remove(self)
        self.release()


class _Watchdog:
    """One thread that rings at the deadlines of all calls in flight; it ends where none is left."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._watched: set[Deadline] = set()
        self._thread: threading.Thread | None = None
        self._wakes = 0.0

    def add(self, one: Deadline) -> None:
        with self._changed:
            self._watched.add(one)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
                self._thread.start()
            elif one.ends < self._wakes:
                self._changed.notify()

    def remove(self, one: Deadline) -> None:
        with self._changed:
            self._watched.discard(one)

    def _run(self) -> None:
        while True:
            with self._changed:
                now = _CLOCK.monotonic()
                due = [one for one in self._watched if one.ends <= now]
                self._watched.difference_update(due)
                if not due and not self._watched:
                    self._thread = None
                    return
                if not due:
                    self._wakes = min(one.ends for one in self._watched)
                    self._changed.wait(self._wakes - now)
            for one in due:
                one.ring()


_WATCHDOG: Final = _Watchdog()


class _OfThread(threading.local):
    """The deadline of the call that this thread makes: the libraries in between hand nothing through."""

    deadline: Deadline | None = None


_of_thread = _OfThread()


@contextmanager
def deadline(limit: timedelta) -> Iterator[Deadline]:
    """The deadline of the call that this thread is in; where it is in none, a new one after `limit`."""
    if _of_thread.deadline is not None:
        yield _of_thread.deadline
        return
    started = Deadline(limit)
    _of_thread.deadline = started
    try:
        yield started
    finally:
        _of_thread.deadline = None
        started.end()
