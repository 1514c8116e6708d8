"""Limits: ARM's token buckets, and hourly limits for each kind of backup read.

Reads of what lies under a vault are counted by action (a list and a single read of one type of resource are one
action), for all vaults of the subscription together. The window is an hour that rolls in slots of five minutes,
which begin with the action's first read; the reads of a slot are given back together, an hour after its end.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from local.simulator.errors import ServiceError, arm
from local.simulator.scenario import BucketScenario, ThrottlingScenario
from local.simulator.service_version import ServiceVersion

_SLOT = timedelta(minutes=5)
_WINDOW = timedelta(hours=1)
_JOBS = "microsoft.recoveryservices/vaults/backupjobs/read"
_OWN = "x-ms-ratelimit-remaining-subscription-resource-requests"


@dataclass
class _Bucket:
    size: int
    per_second: float
    tokens: float
    filled: datetime

    def take(self, now: datetime) -> float | None:
        """Take a token. Returns None if there was one, else the seconds until the next."""
        self.tokens = min(self.size, self.tokens + (now - self.filled).total_seconds() * self.per_second)
        self.filled = now
        if self.tokens >= 1:
            self.tokens -= 1
            return None
        return (1 - self.tokens) / self.per_second


@dataclass
class _Slot:
    began: datetime
    count: int = 0

    @property
    def given_back(self) -> datetime:
        return self.began + _SLOT + _WINDOW


@dataclass
class _Hour:
    """The reads of one action in the rolling hour."""

    limit: int
    began: datetime
    slots: deque[_Slot] = field(default_factory=deque)

    @property
    def left(self) -> int:
        return self.limit - sum(slot.count for slot in self.slots)

    def take(self, now: datetime) -> float | None:
        """Count a read. Returns None if it is allowed, else the seconds until some reads are given back."""
        while self.slots and self.slots[0].given_back <= now:
            self.slots.popleft()
        if self.left < 1:
            return (self.slots[0].given_back - now).total_seconds()
        slot = self.began + (now - self.began) // _SLOT * _SLOT
        if not self.slots or self.slots[-1].began != slot:
            self.slots.append(_Slot(slot))
        self.slots[-1].count += 1
        return None


class Throttle:
    """Counts requests in ARM's buckets of reads, writes and deletes, and backup reads by action too."""

    def __init__(
        self, scenario: ThrottlingScenario, subscription: str, now: datetime, service: ServiceVersion
    ) -> None:
        self._subscription = subscription
        self._service = service

        def bucket(entry: BucketScenario | None) -> _Bucket | None:
            return None if entry is None else _Bucket(entry.bucket, entry.per_second, entry.bucket, now)

        self._buckets = {
            "reads": bucket(scenario.reads),
            "writes": bucket(scenario.writes),
            "deletes": bucket(scenario.deletes or scenario.writes),
        }
        self._backup_reads = scenario.backup_reads
        self._hours: dict[str, _Hour] = {}

    def count(self, method: str, backup: bool, action: str, now: datetime) -> dict[str, str]:
        """Count a request; returns the headers with what is left. Raises ServiceError (429) when nothing is left."""
        kind = "reads" if method in ("GET", "HEAD") else "deletes" if method == "DELETE" else "writes"
        bucket = self._buckets[kind]
        if bucket is not None and (wait := bucket.take(now)) is not None:
            raise self._subscription_refusal(kind, _whole(wait))
        left = math.floor(bucket.tokens) if bucket is not None else None
        counted = self._service.counts_backup_reads or self._backup_reads is not None
        if backup and kind == "reads" and counted:
            return {_OWN: str(self._count_read(action, now)), **self._version("v1")}
        if not backup and kind != "reads":
            # Recorded: writing or deleting a vault itself is counted by the provider.
            return {_OWN: str(left if left is not None else 209)}
        fresh = self._service.requests_of_subscription[kind] - 1
        return {
            f"x-ms-ratelimit-remaining-subscription-{kind}": str(left if left is not None else fresh),
            **self._version("v2"),
        }

    def _version(self, generation: str) -> dict[str, str]:
        return {"x-ms-throttling-version": generation} if self._service.throttling_version else {}

    def _count_read(self, action: str, now: datetime) -> int:
        """How many reads of this action are left after this one. Raises ServiceError (429) when none was left."""
        limits = self._backup_reads
        if limits is None:
            return self._service.reads_per_hour[action.lower() == _JOBS] - 1
        limit = limits.jobs_per_hour if action.lower() == _JOBS else limits.per_hour
        hour = self._hours.setdefault(action.lower(), _Hour(limit, now))
        if (wait := hour.take(now)) is not None:
            seconds = _whole(wait)
            raise arm(
                429,
                "ResourceRequestsThrottled",
                f"Number of requests for action '{action}' exceeded the limit of '{limit}' for time interval "
                f"'01:00:00'. Please try again after '{seconds}' seconds.",
                **{"Retry-After": str(seconds)},
            )
        return hour.left

    def _subscription_refusal(self, name: str, seconds: int) -> ServiceError:
        kind = name.removesuffix("s")
        return arm(
            429,
            "SubscriptionRequestsThrottled",
            f"Number of '{kind}' requests for subscription '{self._subscription}' actor 'simulated' exceeded. "
            f"Please try again after '{seconds}' seconds after additional tokens are available. "
            "Refer to https://aka.ms/arm-throttling for additional information.",
            **{"Retry-After": str(seconds)},
        )


def _whole(seconds: float) -> int:
    return max(math.ceil(seconds), 1)
