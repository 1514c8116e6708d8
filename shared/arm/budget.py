"""How much the service still lets this principal ask, as it says itself with each answer, and the pace by it.

ARM counts requests in token buckets a subscription and principal: reads 250 refilled by 25 a second, writes
and deletes 200 refilled by 10. Azure Backup counts its reads itself, some 250 in five minutes.
https://learn.microsoft.com/azure/azure-resource-manager/management/request-limits-and-throttling
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from shared.clock import Clock

__all__ = ["BACKUP_READS", "Admission", "Observation", "RequestBudget", "coming_back"]

_PREFIX = "x-ms-ratelimit-remaining-"
BACKUP_READS: Final = "subscription-resource-requests"

#: Buckets by the name of their header: how many at once, how many a second after that.
_LIMITS: Final = {
    "subscription-reads": (250, 25.0),
    "subscription-writes": (200, 10.0),
    "subscription-deletes": (200, 10.0),
    BACKUP_READS: (250, 250 / 300),
}
#: Turns are given out a little slower than the bucket refills: a clock may run a little fast.
_MARGIN: Final = 0.95
#: A refusal tells that others share the limit: less is asked at once, more again little by little.
_SHARE_KEPT: Final = 0.5
_SHARE_REGAINED: Final = 0.05
_LEAST_SHARE: Final = 0.02
#: Those who were not refused themselves are held back no longer than this, whatever the refused were told.
_LONGEST_CLOSED: Final = 3600.0
#: What a newcomer leaves to those who come back for their turn.
_RESERVE: Final = 2

_coming_back: ContextVar[bool] = ContextVar("coming_back", default=False)


@contextmanager
def coming_back(yes: bool) -> Iterator[None]:
    """Within it, calls are made by one who was told to wait before (or not): it is not sent to the back again."""
    token = _coming_back.set(yes)
    try:
        yield
    finally:
        _coming_back.reset(token)


@dataclass(frozen=True)
class Observation:
    """What was left of a bucket, and when (this machine's clock)."""

    remaining: int
    at: datetime


class _Bucket:
    """One bucket as it is believed to be."""

    def __init__(self, size: int, per_second: float, now: float, *, known: bool) -> None:
        self.size = size
        self._per_second = per_second
        self.tokens = float(size)
        self.filled = now
        #: a limit that no document gives is one only once the service has spoken of it
        self.known = known
        self.in_flight = 0
        #: the share of what comes in that is ours: other processes ask too
        self._share = 1.0
        self._lessened = now - 1.0
        #: until then the service refuses every call, and nothing comes in
        self.closed_until = now
        #: until then every turn has been given out
        self.taken_until = now

    @property
    def per_second(self) -> float:
        """How many calls a second may be made, once what there was is used up."""
        return self._per_second * self._share

    def fill(self, now: float) -> None:
        if now > self.filled:
            coming_in = max(0.0, now - max(self.filled, self.closed_until))
            # The share grows evenly until it is whole, and what comes in with it.
            growing = min(coming_in, (1.0 - self._share) / _SHARE_REGAINED)
            seconds = growing * (self._share + growing * _SHARE_REGAINED / 2) + coming_in - growing
            self.tokens = min(max(float(self.size), self.tokens), self.tokens + seconds * self._per_second)
            self._share = min(1.0, self._share + (now - self.filled) * _SHARE_REGAINED)
            self.filled = now

    def refuse(self, retry_after: timedelta | None, now: float) -> None:
        """The service has refused: nothing is left for so long, and less than was thought comes in."""
        self.known = True
        wait = retry_after.total_seconds() if retry_after is not None else 1 / self.per_second
        self.closed_until = max(self.closed_until, now + min(wait, _LONGEST_CLOSED))
        self.tokens = 1.0
        # Those refused together speak of one shortage.
        if now - self._lessened >= 1:
            self._share = max(_LEAST_SHARE, self._share * _SHARE_KEPT)
            self._lessened = now

    def has(self, cost: int, now: float, *, returning: bool) -> bool:
        if not self.known:
            return True
        if now < self.closed_until:
            return False
        cost = min(cost, self.size // 2)
        if not returning and self.taken_until > now:
            cost += _RESERVE
        return self.tokens >= cost - 1e-6

    def turn(self, cost: int, now: float) -> float:
        """Seconds until the next turn that is free; it is taken by this."""
        cost = min(cost, self.size // 2)
        first = max(now, self.closed_until) + max(cost - self.tokens, 0.0) / self.per_second
        due = max(first, self.taken_until + cost / self.per_second / _MARGIN)
        self.taken_until = due
        return due - now


@dataclass(frozen=True)
class Admission:
    """A call that may be made: what it is counted in. To be given back with its answer."""

    buckets: tuple[tuple[str, str], ...]


class RequestBudget:
    """What is left of the rate limits, and who may ask next. Safe to share between threads.

    Buckets are named after their header: `subscription-reads`, `subscription-writes`, `tenant-reads`, and
    `subscription-resource-requests` for the reads that Azure Backup counts itself. `scale` is the machine's
    seconds in a second of the service. Its size depends on the number of subscriptions alone.
    """

    def __init__(self, clock: Clock, scale: float = 1.0) -> None:
        self._clock = clock
        self._scale = scale
        self._lock = threading.Lock()
        self._observed: dict[str, Observation] = {}
        self._buckets: dict[tuple[str, str], _Bucket] = {}
        self._pages: dict[str, int] = {}

    def admit(
        self, subscription_id: str, method: str, path: str, *, cost: int = 1, begun: bool = False
    ) -> Admission | timedelta:
        """Let a call be made, or say after how long (of the service's time) it is its turn.

        Args:
            cost: how many calls it is expected to take: a listing is begun only where its end can be paid.
            begun: it goes on with what was begun, and is not held up.
        """
        names = _counted_in(method, path)
        returning = begun or _coming_back.get()
        with self._lock:
            now = self._now()
            buckets = [self._bucket(subscription_id, name, now) for name in names]
            if not begun:
                short = [bucket for bucket in buckets if not bucket.has(cost, now, returning=returning)]
                if short:
                    return timedelta(seconds=max(bucket.turn(cost, now) for bucket in short))
            for bucket in buckets:
                bucket.tokens -= 1
                bucket.in_flight += 1
        return Admission(tuple((subscription_id, name) for name in names))

    def answered(
        self,
        admission: Admission,
        headers: Mapping[str, str] | None,
        *,
        refused: bool = False,
        retry_after: timedelta | None = None,
    ) -> None:
        """The call was answered with these headers (lower-case names), or `headers` is None: it was not.

        `refused`: with a 429, so that nothing is left until `retry_after`.
        """
        with self._lock:
            now = self._now()
            for key in admission.buckets:
                bucket = self._buckets[key]
                bucket.in_flight -= 1
                if headers is None:
                    continue
                bucket.fill(now)
                left = _number(headers.get(_PREFIX + key[1]))
                if left is not None:
                    bucket.known = True
                    # What is on its way has not been counted by the service yet.
                    bucket.tokens = float(left - bucket.in_flight)
            if refused:
                # The narrowest bucket is the one that refused.
                self._buckets[admission.buckets[-1]].refuse(retry_after, now)
        if headers is not None:
            self.observe(headers)

    def left(self, subscription_id: str, bucket: str = BACKUP_READS) -> int:
        """How many calls of a bucket may be made now, as far as is known."""
        with self._lock:
            return max(0, int(self._bucket(subscription_id, bucket, self._now()).tokens))

    def listed(self, operation: str, pages: int) -> None:
        """A listing of this kind has taken so many calls."""
        with self._lock:
            self._pages[operation] = pages

    def pages(self, operation: str) -> int:
        """How many calls a listing of this kind took the last time; 1 before the first."""
        with self._lock:
            return self._pages.get(operation, 1)

    def observe(self, headers: Mapping[str, str]) -> None:
        """Remember what the headers (lower-case names) of an answer say."""
        seen = {
            name.removeprefix(_PREFIX): number
            for name, value in headers.items()
            if name.startswith(_PREFIX) and (number := _number(value)) is not None
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

    def _now(self) -> float:
        return self._clock.monotonic() / self._scale

    def _bucket(self, subscription_id: str, name: str, now: float) -> _Bucket:
        key = (subscription_id, name)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(*_LIMITS[name], now, known=name != BACKUP_READS)
        bucket.fill(now)
        return bucket


def _counted_in(method: str, path: str) -> tuple[str, ...]:
    """The buckets a call is counted in, the widest first."""
    if method == "DELETE":
        return ("subscription-deletes",)
    if method != "GET":
        return ("subscription-writes",)
    _, found, rest = path.lower().partition("/microsoft.recoveryservices/vaults/")
    if found and rest.partition("/")[2].startswith("backup"):
        return ("subscription-reads", BACKUP_READS)
    return ("subscription-reads",)


def _number(value: str | None) -> int | None:
    if value is None or not value.isascii() or not value.isdigit() or len(value) > 9:
        return None
    return int(value)
