"""One listing of a vault's jobs for all that are followed in it, shared by the process for a tick."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from shared.azure_backup.models import Job

PAGE_SIZE: Final = 200
#: The backup provider's own budget of reads, and the time in which it is counted: documented nowhere,
#: taken from the headers and error texts of the recorded sessions.
READ_BUDGET: Final = 250
READ_WINDOW: Final = timedelta(seconds=300)


@dataclass(frozen=True)
class JobListing:
    """The jobs of a vault that started from `start` on, as they were at `at` (the service's time)."""

    start: datetime
    at: datetime
    by_id: dict[str, Job] = field(repr=False)
    by_activity: dict[str, Job] = field(repr=False)

    @property
    def pages(self) -> int:
        """How many requests it took."""
        return max(1, math.ceil(len(self.by_id) / PAGE_SIZE))

    def tick(self, interval: timedelta) -> timedelta:
        """The interval at which such a listing takes half of the read budget at most."""
        return max(interval, self.pages * READ_WINDOW / (READ_BUDGET / 2))

    def find(self, *, job_id: str | None, activity_id: str) -> Job | None:
        """The job with this id, or else the one started by this client request id."""
        if job_id is not None:
            return self.by_id.get(job_id.lower())
        return self.by_activity.get(activity_id.lower())


class _Vault:
    """What is remembered of one vault: bounded, whatever the number of jobs in flight."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.listing: JobListing | None = None
        self.oldest: datetime | None = None
        self.oldest_before: datetime | None = None


class JobListings:
    """Listings by vault. Safe to share between threads: those who want the same one wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._vaults: dict[str, _Vault] = {}

    def get(
        self,
        vault_key: str,
        *,
        oldest: datetime,
        interval: timedelta,
        now: Callable[[], datetime],
        load: Callable[[datetime], list[Job]],
    ) -> JobListing:
        """The vault's jobs since `oldest` at least, listed at most a tick ago.

        Raises whatever `load` raises.
        """
        with self._lock:
            vault = self._vaults.setdefault(vault_key, _Vault())
        with vault.lock:
            # What was the oldest in this tick or the one before is in flight still, in other batches.
            seen = [moment for moment in (oldest, vault.oldest, vault.oldest_before) if moment is not None]
            last = vault.listing
            if last is not None and last.start <= oldest and now() - last.at < last.tick(interval) * 0.9:
                vault.oldest = min(oldest, vault.oldest) if vault.oldest is not None else oldest
                return last
            jobs = load(min(seen))
            listing = JobListing(
                start=min(seen),
                at=now(),
                by_id={job.id.lower(): job for job in jobs},
                by_activity={job.activity_id.lower(): job for job in jobs if job.activity_id is not None},
            )
            vault.listing, vault.oldest_before, vault.oldest = listing, vault.oldest, oldest
            return listing
