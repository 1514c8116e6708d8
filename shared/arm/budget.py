"""Rate limits: how many calls the service still allows this principal, as each answer tells, and how to pace calls.

ARM counts requests in token buckets per subscription and principal: reads 250 refilled by 25 a second, writes
and deletes 200 refilled by 10.
https://learn.microsoft.com/azure/azure-resource-manager/management/request-limits-and-throttling

Azure Backup itself counts reads below vaults, per action and for all vaults of a subscription together: 300 in a
rolling hour, 450 for jobs. No document says so: both numbers are from headers and error texts of recorded sessions.
The hour rolls in slots of five minutes, whose reads are given back together.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from shared.clock import Clock

__all__ = [
    "JOB_READS",
    "PROTECTED_ITEM_LISTS",
    "PROTECTED_ITEM_READS",
    "READ_WINDOW",
    "RECOVERY_POINT_READS",
    "UNTOUCHED_WRITES",
    "WRITES",
    "Admission",
    "Pace",
    "RequestBudget",
    "action_of",
    "coming_back",
    "reads_per_hour",
]

_PREFIX = "x-ms-ratelimit-remaining-"
#: The header with the counter of the action that was called.
_OWN_COUNTER: Final = "subscription-resource-requests"

#: The bucket for calls that change something.
WRITES: Final = "subscription-writes"
#: ARM's buckets by the name of their header: how many calls at once, and how many per second after that.
_BUCKETS: Final = {
    "subscription-reads": (250, 25.0),
    WRITES: (200, 10.0),
    "subscription-deletes": (200, 10.0),
}
_VAULT: Final = "microsoft.recoveryservices/vaults/"
#: Reads that count only against the subscription: recorded answers to them name no counter of their own.
_NOT_BY_ACTION: Final = frozenset({f"{_VAULT}read", f"{_VAULT}backupresourceguardproxies/read"})
#: Reads of jobs, listed or single.
JOB_READS: Final = f"{_VAULT}backupjobs/read"
#: Single reads of protected items; their list is another action.
PROTECTED_ITEM_READS: Final = f"{_VAULT}backupfabrics/protectioncontainers/protecteditems/read"
PROTECTED_ITEM_LISTS: Final = f"{_VAULT}backupprotecteditems/read"
#: Lists of recovery points, and single reads of one.
RECOVERY_POINT_READS: Final = f"{_VAULT}backupfabrics/protectioncontainers/protecteditems/recoverypoints/read"
_READS_PER_HOUR: Final = 300
_JOB_READS_PER_HOUR: Final = 450
_SLOT: Final = timedelta(minutes=5)
#: A read counts until an hour after the end of its slot: at most this long.
READ_WINDOW: Final = timedelta(hours=1) + _SLOT
#: Own reads are remembered by the minute.
_REMEMBERED_BY: Final = 60.0
_VERBS: Final = {
    "GET": "read",
    "HEAD": "read",
    "PUT": "write",
    "PATCH": "write",
    "DELETE": "delete",
    "POST": "action",
}
#: Turns are given out a little slower than the bucket refills, since a clock may run fast.
_MARGIN: Final = 0.95
#: A refusal shows that others share the limit: fewer calls are made at once, and gradually more again.
_SHARE_KEPT: Final = 0.5
_SHARE_REGAINED: Final = 0.05
_LEAST_SHARE: Final = 0.02
#: Callers that were not refused themselves are held back no longer than this, whatever the refused were told.
_LONGEST_CLOSED: Final = 3600.0
#: How many calls a newcomer leaves for callers that come back for their turn.
_RESERVE: Final = 2

_coming_back: ContextVar[bool] = ContextVar("coming_back", default=False)


@contextmanager
def coming_back(yes: bool) -> Iterator[None]:
    """Within this context, whether the caller has waited for its turn before: then it keeps its place.

    A context, since whoever knows it runs a step, and all calls that steps make lie between that and the budget.
    """
    token = _coming_back.set(yes)
    try:
        yield
    finally:
        _coming_back.reset(token)


def action_of(method: str, path: str) -> str:
    """The action that a request counts as, in lower case.

    It is made of the resource types in the path and a verb, so that a list and a single read of one type are
    one action: `microsoft.recoveryservices/vaults/backupjobs/read`. Empty where the path names no provider.
    """
    _, found, rest = path.lower().rpartition("/providers/")
    provider, *segments = rest.strip("/").split("/")
    if not found or not segments:
        return ""
    return "/".join([provider, *segments[::2], _VERBS.get(method, "action")])


def reads_per_hour(action: str) -> int:
    """How many reads of an action an hour is assumed to allow, until the service has told."""
    return _JOB_READS_PER_HOUR if action == JOB_READS else _READS_PER_HOUR


class _Bucket:
    """One of ARM's token buckets: what is left in it, and who may call next."""

    longest_closed = _LONGEST_CLOSED

    def __init__(self, size: int, per_second: float, now: float, *, known: bool = True) -> None:
        self.size = size
        self.tokens = float(size)
        self.filled = now
        #: whether the limit applies: an undocumented one only once the service has mentioned it
        self.known = known
        self.in_flight = 0
        #: until then the service refuses every call, and nothing refills
        self.closed_until = now
        #: until then every turn has been given out
        self.taken_until = now
        self._per_second = per_second
        #: this process's share of what refills: other processes call too
        self._share = 1.0
        self._lessened = now - 1.0

    @property
    def per_second(self) -> float:
        """How many calls per second may be made, once the stock is used up."""
        return self._per_second * self._share

    @property
    def own(self) -> int:
        """How much of the limit this process can use, as far as known."""
        return self.size

    def fill(self, now: float) -> None:
        """Add what has refilled until now."""
        if now > self.filled:
            open_for = max(0.0, now - max(self.filled, self.closed_until))
            self.tokens = min(max(float(self.size), self.tokens), self.tokens + open_for * self.per_second)
            self._share = min(1.0, self._share + (now - self.filled) * _SHARE_REGAINED)
            self.filled = now

    def due(self, cost: int, now: float) -> float:
        """The time until there is enough for this many calls."""
        return max(now, self.closed_until) + max(cost - self.tokens, 0.0) / self.per_second

    def take(self, now: float) -> None:
        """Count a call."""
        self.fill(now)
        self.tokens -= 1
        self.in_flight += 1

    def told(self, left: int) -> None:
        """Take over what the service says is left."""
        self.known = True
        # The service has not counted the calls on their way yet.
        self.tokens = float(left - self.in_flight)

    def refuse(self, retry_after: timedelta | None, now: float) -> None:
        """Note a refusal: nothing is left for this long."""
        self.known = True
        wait = retry_after.total_seconds() if retry_after is not None else 1 / self.per_second
        self.closed_until = max(self.closed_until, now + min(wait, self.longest_closed))
        self.tokens = 1.0
        # Less refills than was thought. Calls that are refused together count as one shortage.
        if now - self._lessened >= 1:
            self._share = max(_LEAST_SHARE, self._share * _SHARE_KEPT)
            self._lessened = now

    def has(self, cost: int, now: float, *, returning: bool) -> bool:
        """Whether this many calls may be made now; `returning`: the caller has waited for its turn."""
        if not self.known:
            return True
        if now < self.closed_until:
            return False
        cost = min(cost, self.size // 2)
        if not returning and self.taken_until > now:
            cost += _RESERVE
        return self.tokens >= cost - 1e-6

    def turn(self, cost: int, now: float) -> float:
        """Take the next free turn; returns the seconds until then."""
        cost = min(cost, self.size // 2)
        due = max(self.due(cost, now), self.taken_until + cost / self.per_second / _MARGIN)
        self.taken_until = due
        return due - now


class _Hour(_Bucket):
    """The reads of one action in the rolling hour: a bucket into which they come back as they leave the hour.

    Reads of this process are given back once they have certainly left the hour. When reads of others come back, only
    the service knows: where it has said nothing for the length of a slot, an even share of theirs is assumed to be
    back, so that somebody calls and the answer tells.
    """

    longest_closed = READ_WINDOW.total_seconds()

    def __init__(self, size: int, now: float) -> None:
        super().__init__(size, 0.0, now, known=False)
        #: own reads: when they come back, and how many
        self._own: deque[tuple[float, int]] = deque()
        #: when the service last said what is left, and for how many slots since then reads were assumed to be back
        self._heard = now
        self._slots = 0

    @property
    def per_second(self) -> float:
        return self.size / READ_WINDOW.total_seconds()

    @property
    def _others(self) -> float:
        return max(0.0, self.size - self.tokens - sum(count for _, count in self._own))

    @property
    def own(self) -> int:
        return self.size - int(self._others)

    def take(self, now: float) -> None:
        super().take(now)
        back = (now // _REMEMBERED_BY + 1) * _REMEMBERED_BY + READ_WINDOW.total_seconds()
        count = self._own.pop()[1] if self._own and self._own[-1][0] == back else 0
        self._own.append((back, count + 1))

    def fill(self, now: float) -> None:
        while self._own and self._own[0][0] <= now:
            self.tokens += self._own.popleft()[1]
        slots = int(max(0.0, now - self._heard) // _SLOT.total_seconds())
        self.tokens += min((slots - self._slots) * _SLOT.total_seconds() * self.per_second, self._others)
        self._slots = slots
        self.filled = now

    def due(self, cost: int, now: float) -> float:
        opened = max(now, self.closed_until)
        missing = cost - self.tokens
        if missing <= 0:
            return opened
        slots = self._slots + math.ceil(missing / self.per_second / _SLOT.total_seconds())
        hoped = self._heard + slots * _SLOT.total_seconds() if missing <= self._others else math.inf
        own = opened
        for back, count in self._own:
            own = back
            missing -= count
            if missing <= 0:
                break
        # Where neither alone is enough, both are once the last of its own reads are back.
        return max(opened, min(hoped, own) if self._own else hoped)

    def told(self, left: int) -> None:
        super().told(left)
        self._heard, self._slots = self.filled, 0
        self.size = max(self.size, left)
        # More is left than if all of its own reads still counted: the oldest have come back.
        back = self.tokens + sum(count for _, count in self._own) - self.size
        while back > 0 and self._own:
            moment, count = self._own.popleft()
            if count > back:
                self._own.appendleft((moment, count - int(back)))
            back -= count

    def refuse(self, retry_after: timedelta | None, now: float) -> None:
        super().refuse(retry_after, now)
        self._heard, self._slots = self.closed_until, 0


@dataclass(frozen=True)
class Pace:
    """How simultaneous calls are spread over time, with a little left for others."""

    #: the wait before the first, which others have been promised
    after: timedelta
    #: how many at once
    at_once: int
    #: the rate of the others
    per_second: float

    def of(self, number: int) -> timedelta:
        """When to make the call with this number, counted from 0."""
        return self.after + timedelta(seconds=max(0, number + 1 - self.at_once) / self.per_second)


#: The pace of a full bucket.
UNTOUCHED_WRITES: Final = Pace(timedelta(), int(_BUCKETS[WRITES][0] * _MARGIN), _BUCKETS[WRITES][1] * _MARGIN)


@dataclass(frozen=True)
class Admission:
    """Permission for a call, with the limits that it counts against; passed back with its answer."""

    counters: tuple[tuple[str, str], ...]


class RequestBudget:
    """What is left of the rate limits, and who may call next. Safe to share between threads.

    ARM's buckets are named after their header (`subscription-reads`, `subscription-writes`,
    `subscription-deletes`), the counters of backup reads after their action (`action_of`). What an answer says holds
    only for the bucket or action of its own request. `scale` is how many of the machine's seconds a second of the
    service takes. Memory grows only with the number of subscriptions and resource types.
    """

    def __init__(self, clock: Clock, scale: float = 1.0) -> None:
        self._clock = clock
        self._scale = scale
        self._lock = threading.Lock()
        self._counters: dict[tuple[str, str], _Bucket] = {}
        self._pages: dict[str, int] = {}

    def admit(
        self, subscription_id: str, method: str, path: str, *, cost: int = 1, begun: bool = False
    ) -> Admission | timedelta:
        """Admit a call, or return how long (in the service's time) it has to wait for its turn.

        Args:
            cost: how many calls it is expected to take: a listing is begun only if there is room for all of it.
            begun: it continues a listing that was begun, and is not held up.
        """
        names = _counted_in(method, path)
        returning = begun or _coming_back.get()
        with self._lock:
            now = self._now()
            counters = [self._counter(subscription_id, name, now) for name in names]
            if not begun:
                short = [counter for counter in counters if not counter.has(cost, now, returning=returning)]
                if short:
                    return timedelta(seconds=max(counter.turn(cost, now) for counter in short))
            for counter in counters:
                counter.take(now)
        return Admission(tuple((subscription_id.lower(), name) for name in names))

    def answered(
        self,
        admission: Admission,
        headers: Mapping[str, str] | None,
        *,
        refused: bool = False,
        by_subscription: bool = False,
        retry_after: timedelta | None = None,
    ) -> None:
        """Note an answer with these headers (lower-case names); None: the call was not answered.

        `refused`: the answer was a 429, so nothing is left until `retry_after`, of the call's own action or, with
        `by_subscription`, of the subscription's bucket.
        """
        with self._lock:
            now = self._now()
            for key in admission.counters:
                counter = self._counters[key]
                counter.in_flight -= 1
                if headers is None:
                    continue
                counter.fill(now)
                header = key[1] if key[1] in _BUCKETS else _OWN_COUNTER
                left = _number(headers.get(_PREFIX + header))
                if left is not None:
                    counter.told(left)
            if refused:
                refusing = admission.counters[0 if by_subscription else -1]
                self._counters[refusing].refuse(retry_after, now)

    def left(self, subscription_id: str, name: str) -> int:
        """How many calls of an action (`action_of`) or a bucket may be made now, as far as known."""
        with self._lock:
            now = self._now()
            counter = self._counter(subscription_id, name, now)
            return 0 if now < counter.closed_until else max(0, int(counter.tokens))

    def own(self, subscription_id: str, name: str) -> int:
        """How many calls of an action an hour has for this process, without what others have used."""
        with self._lock:
            return self._counter(subscription_id, name, self._now()).own

    def pace(self, subscription_id: str, name: str) -> Pace:
        """How to spread simultaneous calls of a bucket, given what is left of it and who waits already."""
        with self._lock:
            now = self._now()
            counter = self._counter(subscription_id, name, now)
            after = max(counter.closed_until, counter.taken_until) - now
            at_once = int(counter.tokens * _MARGIN) if after <= 0 else 0
            return Pace(timedelta(seconds=max(0.0, after)), max(0, at_once), counter.per_second * _MARGIN)

    def listed(self, operation: str, pages: int) -> None:
        """Note how many calls a listing of this kind took."""
        with self._lock:
            self._pages[operation] = pages

    def pages(self, operation: str) -> int:
        """How many calls a listing of this kind took the last time; 1 before the first."""
        with self._lock:
            return self._pages.get(operation, 1)

    def _now(self) -> float:
        return self._clock.monotonic() / self._scale

    def _counter(self, subscription_id: str, name: str, now: float) -> _Bucket:
        key = (subscription_id.lower(), name)
        counter = self._counters.get(key)
        if counter is None:
            bucket = _BUCKETS.get(name)
            counter = _Bucket(*bucket, now) if bucket is not None else _Hour(reads_per_hour(name), now)
            self._counters[key] = counter
        counter.fill(now)
        return counter


def _counted_in(method: str, path: str) -> tuple[str, ...]:
    """The buckets and the action that a call counts against, the widest first."""
    if method == "DELETE":
        return ("subscription-deletes",)
    if method != "GET":
        # A query of Resource Graph changes nothing, whatever its method.
        asks = action_of(method, path).startswith("microsoft.resourcegraph/")
        return ("subscription-reads",) if asks else (WRITES,)
    action = action_of(method, path)
    if action.startswith(_VAULT) and action not in _NOT_BY_ACTION:
        return ("subscription-reads", action)
    return ("subscription-reads",)


def _number(value: str | None) -> int | None:
    if value is None or not value.isascii() or not value.isdigit() or len(value) > 9:
        return None
    return int(value)
