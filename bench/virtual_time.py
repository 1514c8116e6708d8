"""Threads on a stepped clock: one runs until it sleeps; when all sleep, the clock moves to the next wake-up."""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Callable, Iterable
from datetime import timedelta

from local.stepped_clock import SteppedClock


class VirtualThreads:
    """Runs jobs on a pool of threads, one of which runs at a time; `sleep` costs no real time.

    A job that raises ends the run with that exception once the others have finished.
    """

    def __init__(self, clock: SteppedClock) -> None:
        self.clock = clock
        self._ready: deque[threading.Semaphore] = deque()
        self._asleep: list[tuple[float, int, threading.Semaphore]] = []
        self._order = 0
        self._own = threading.local()
        self._done = threading.Event()
        self._failure: BaseException | None = None

    def sleep(self, seconds: float) -> None:
        """Sleep on the stepped clock."""
        own: threading.Semaphore = self._own.turn
        self._order += 1
        heapq.heappush(self._asleep, (self.clock.monotonic() + max(seconds, 0.0), self._order, own))
        self._next()
        own.acquire()

    def run(self, jobs: Iterable[Callable[[], object]], *, threads: int) -> None:
        """Run all jobs on this many threads. Raises the first exception of a job."""
        pending = deque(jobs)
        self._done.clear()
        workers = []
        for _ in range(min(threads, len(pending))):
            turn = threading.Semaphore(0)
            self._ready.append(turn)
            workers.append(threading.Thread(target=self._work, args=(pending, turn), daemon=True))
        for worker in workers:
            worker.start()
        if workers:
            self._next()
            self._done.wait()
        for worker in workers:
            worker.join()
        if self._failure is not None:
            raise self._failure

    def _work(self, pending: deque[Callable[[], object]], turn: threading.Semaphore) -> None:
        self._own.turn = turn
        turn.acquire()
        try:
            while pending and self._failure is None:
                pending.popleft()()
        except BaseException as error:
            self._failure = self._failure or error
        finally:
            self._next()

    def _next(self) -> None:
        if self._ready:
            self._ready.popleft().release()
        elif self._asleep:
            due, _, turn = heapq.heappop(self._asleep)
            ahead = due - self.clock.monotonic()
            if ahead > 0:
                self.clock.advance(timedelta(seconds=ahead))
            turn.release()
        else:
            self._done.set()
