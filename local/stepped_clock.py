"""A clock that is stepped by hand, for simulations and tests."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from shared.clock import MachineTime


class SteppedClock:
    """A clock that stands still until it is told to advance. Safe to read from several threads.

    Sleeping advances it, since nobody else would.
    """

    def __init__(self, start: datetime) -> None:
        if start.tzinfo is None:
            raise ValueError("a stepped clock starts at an aware moment, not at a naive one")
        self._lock = threading.Lock()
        self._start = MachineTime(start.astimezone(UTC))
        self._elapsed = timedelta()

    def now(self) -> MachineTime:
        with self._lock:
            return self._start + self._elapsed

    def monotonic(self) -> float:
        with self._lock:
            return self._elapsed.total_seconds()

    def advance(self, by: timedelta) -> None:
        """Move forward by `by`; raises ValueError for a step back."""
        if by < timedelta():
            raise ValueError("a clock does not go back")
        with self._lock:
            self._elapsed += by

    def sleep(self, duration: timedelta) -> None:
        """Move forward by `duration` at once."""
        self.advance(max(timedelta(), duration))

    def advance_to(self, moment: datetime) -> None:
        """Move forward to `moment`; a moment that has passed changes nothing."""
        with self._lock:
            self._elapsed = max(self._elapsed, moment - self._start)
