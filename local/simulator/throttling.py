"""ARM's token buckets, the header that tells what is left, and the 429 when nothing is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from local.simulator.errors import ServiceError, arm
from local.simulator.scenario import BucketScenario, ThrottlingScenario


@dataclass
class _Bucket:
    size: int
    per_second: float
    tokens: float
    filled: datetime

    def take(self, now: datetime) -> float | None:
        """Take one; None when that worked, else the seconds until the next."""
        self.tokens = min(self.size, self.tokens + (now - self.filled).total_seconds() * self.per_second)
        self.filled = now
        if self.tokens >= 1:
            self.tokens -= 1
            return None
        return (1 - self.tokens) / self.per_second


class Throttle:
    """Counts requests in ARM's buckets: reads, writes, deletes, and the backup provider's own for reads."""

    def __init__(self, scenario: ThrottlingScenario, subscription: str, now: datetime) -> None:
        self._subscription = subscription

        def bucket(entry: BucketScenario | None) -> _Bucket | None:
            return None if entry is None else _Bucket(entry.bucket, entry.per_second, entry.bucket, now)

        self._buckets = {
            "reads": bucket(scenario.reads),
            "writes": bucket(scenario.writes),
            "deletes": bucket(scenario.deletes or scenario.writes),
            "backupReads": bucket(scenario.backup_reads),
        }

    def count(self, method: str, backup: bool, action: str, now: datetime) -> dict[str, str]:
        """Count a request; the headers that say what is left. Raises ServiceError (429) when nothing is."""
        kind = "reads" if method in ("GET", "HEAD") else "deletes" if method == "DELETE" else "writes"
        own = backup and kind == "reads"
        vault_write = not backup and kind != "reads"
        for name in (kind, "backupReads") if own else (kind,):
            bucket = self._buckets[name]
            if bucket is None:
                continue
            wait = bucket.take(now)
            if wait is not None:
                raise self._refusal(name, max(math.ceil(wait), 1), action, bucket)
        counted = self._buckets["backupReads" if own else kind]
        if own:
            left = math.floor(counted.tokens) if counted is not None else 249
            return {
                "x-ms-ratelimit-remaining-subscription-resource-requests": str(left),
                "x-ms-throttling-version": "v1",
            }
        if vault_write:
            # Recorded: writing or deleting a vault itself is counted by the provider.
            left = math.floor(counted.tokens) if counted is not None else 209
            return {"x-ms-ratelimit-remaining-subscription-resource-requests": str(left)}
        fresh = {"reads": 249, "writes": 199, "deletes": 199}[kind]
        left = math.floor(counted.tokens) if counted is not None else fresh
        return {f"x-ms-ratelimit-remaining-subscription-{kind}": str(left), "x-ms-throttling-version": "v2"}

    def _refusal(self, name: str, seconds: int, action: str, bucket: _Bucket) -> ServiceError:
        headers = {"Retry-After": str(seconds)}
        if name == "backupReads":
            return arm(
                429,
                "ResourceRequestsThrottled",
                f"Number of requests for action '{action}' exceeded the limit of '{bucket.size}' for time interval "
                f"'00:05:00'. Please try again after '{seconds}' seconds.",
                **headers,
            )
        kind = name.removesuffix("s")
        return arm(
            429,
            "SubscriptionRequestsThrottled",
            f"Number of '{kind}' requests for subscription '{self._subscription}' actor 'simulated' exceeded. "
            f"Please try again after '{seconds}' seconds after additional tokens are available. "
            "Refer to https://aka.ms/arm-throttling for additional information.",
            **headers,
        )
