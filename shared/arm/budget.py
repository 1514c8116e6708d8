"""How much the service still lets this principal ask, as it says itself with each answer."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from shared.clock import Clock

__all__ = ["Observation", "RequestBudget"]

_PREFIX = "x-ms-ratelimit-remaining-"


@dataclass(frozen=True)
class Observation:
    """What was left of a bucket, and when (this machine's clock)."""

    remaining: int
    at: datetime


class RequestBudget:
    """The last `x-ms-ratelimit-remaining-*` values. Safe to share between threads.

    Buckets are named after their header: `subscription-reads`, `subscription-writes`, `tenant-reads`, and
    `subscription-resource-requests` for the reads that Azure Backup counts itself.
    https://learn.microsoft.com/azure/azure-resource-manager/management/request-limits-and-throttling
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._observed: dict[str, Observation] = {}

    def observe(self, headers: Mapping[str, str]) -> None:
        """Remember what the headers (lower-case names) of an answer say."""
        seen = {
            name.removeprefix(_PREFIX): int(value)
            for name, value in headers.items()
            if name.startswith(_PREFIX) and value.isascii() and value.isdigit() and len(value) < 10
        }
        if not seen:
            return
        now = self._clock.now()
        with self._lock:
            for bucket, remaining in seen.items():
                self._observed[bucket] = Observation(remaining, now)

    def observations(self) -> Mapping[str, Observation]:
        """The last value of every bucket seen so far."""
        with self._lock:
            return dict(self._observed)

    def remaining(self, bucket: str) -> int | None:
        """The last value of a bucket; None before the first."""
        with self._lock:
            observation = self._observed.get(bucket)
        return None if observation is None else observation.remaining
