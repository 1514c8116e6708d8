"""The last listings of each vault's jobs and protected items: one serves everything in the process that asks for it.

Those of jobs serve for a tick, which is as long as the reads that an hour has left allow.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from math import ceil
from typing import TYPE_CHECKING, Final, TypeVar, cast

from shared.arm.budget import JOB_READS, READ_WINDOW, RequestBudget, reads_per_hour
from shared.azure_backup.wire import uuid_text
from shared.clock import ServiceTime
from shared.messages.identity import is_marked

if TYPE_CHECKING:
    from shared.arm.ids import VaultId
    from shared.azure_backup.calls import Reads
    from shared.azure_backup.models import Job

T = TypeVar("T")

#: Jobs per page, until a listing of several pages shows it: documented nowhere.
PAGE_SIZE: Final = 200
#: The share of an hour's job reads that listings take at an even pace; the rest is for single reads.
_SHARE_OF_LISTINGS: Final = 0.9
#: Ticks up to this length are never shortened: haste gains little, and the last polls would pay for it.
_SOON_ENOUGH: Final = timedelta(seconds=15)
#: Otherwise, while much of the hour's budget is left, it is spent this much faster: most jobs end early.
_HASTE: Final = 1.5
#: Nobody is left unseen for longer, where an even pace allows it; and a little longer once little is left.
_LONGEST_TICK: Final = timedelta(seconds=104)
_LONGEST_TICK_AT_THE_END: Final = timedelta(seconds=120)
_LITTLE: Final = 0.15
#: Service Bus delivers scheduled messages to about the second.
_STEP: Final = timedelta(seconds=1)
#: From this many pages on, only the running jobs may be listed.
_MANY_PAGES: Final = 3
#: A listing serves the polls of one tick; those of the next tick may come a little early.
_PART_OF_A_TICK: Final = 0.9
#: After this many ticks without a question, a vault has no jobs in flight in this process.
_TICKS_REMEMBERED: Final = 4
_MOST_ITEM_LISTINGS: Final = 8
#: Requests that come together are served by one listing of what the vault protects.
_ITEMS_SERVE: Final = timedelta(seconds=30)
#: It serves for so long where all that is asked for is in it, and reads are short: a vault of 2,000 takes ten of 300.
_ITEMS_REMEMBERED: Final = timedelta(minutes=10)


@dataclass(frozen=True)
class ReadsOfJobs:
    """The job reads that a subscription's rolling hour has for this process."""

    #: how many are left now
    left: int = reads_per_hour(JOB_READS)
    #: how many the hour has, without those that others have used
    own: int = reads_per_hour(JOB_READS)


def reads_of_jobs(budget: RequestBudget, subscription_id: str) -> ReadsOfJobs:
    """The job reads that a subscription's hour has now."""
    return ReadsOfJobs(
        left=budget.left(subscription_id, JOB_READS), own=budget.own(subscription_id, JOB_READS)
    )


def tick_of(interval: timedelta, *, pages: int, reads: ReadsOfJobs) -> timedelta:
    """How often to list jobs: at most once per `interval`, and as often as the reads allow.

    Args:
        interval: the shortest tick.
        pages: how many reads a tick takes, for all vaults of the subscription.
        reads: what the hour has left.
    """
    even = pages * READ_WINDOW / (max(reads.own, 1) * _SHARE_OF_LISTINGS)
    soon = pages * READ_WINDOW / (max(reads.left, 1) * _HASTE)
    longest = _LONGEST_TICK if reads.left > _LITTLE * reads.own else _LONGEST_TICK_AT_THE_END
    # Neither the few nor those for whom even that is too much are hurried.
    tick = min(soon, longest) if _SOON_ENOUGH < even < longest else even
    return interval if tick <= interval else ceil(tick / _STEP) * _STEP


@dataclass(frozen=True)
class ListedJobs:
    """The jobs of a vault that started from `start` on, as they were at `at` (the service's time)."""

    start: ServiceTime
    at: ServiceTime
    by_id: dict[str, Job] = field(repr=False)
    by_activity: dict[str, Job] = field(repr=False)
    #: whether it holds only the jobs that were running
    running_only: bool = False
    #: how many jobs there are, including ended ones, as far as known
    whole: int = 0
    running: int = 0
    #: how many of those that are followed have ended since the listing before it
    ended: int = 0
    page_size: int = PAGE_SIZE
    #: how many requests the listings of the subscription's other vaults take
    other_pages: int = 0
    #: what the hour had left after it was made
    reads: ReadsOfJobs = ReadsOfJobs()

    @property
    def pages(self) -> int:
        """How many requests it took."""
        return max(1, ceil(len(self.by_id) / self.page_size))

    @property
    def whole_pages(self) -> int:
        """How many requests it takes with the jobs that have ended."""
        return max(1, ceil(self.whole / self.page_size))

    @property
    def running_pages(self) -> int:
        """How many requests the jobs that were running take by themselves."""
        return max(1, ceil(self.running / self.page_size))

    def tick(self, interval: timedelta) -> timedelta:
        """The interval at which this listing and those of the other vaults are repeated."""
        return tick_of(interval, pages=self.pages + self.other_pages, reads=self.reads)

    def reads_ahead(self, interval: timedelta) -> int:
        """How many reads listings will take in the next hour: they are not for single reads."""
        return ceil((self.pages + self.other_pages) * READ_WINDOW / self.tick(interval))

    def find(self, *, job_id: str | None, activity_id: str) -> Job | None:
        """The job with this id, or else the one started by this client request id."""
        if job_id is not None:
            return self.by_id.get(uuid_text(job_id))
        return self.by_activity.get(activity_id)

    def serves(
        self, oldest: ServiceTime, interval: timedelta, now: ServiceTime, *, running_only: bool
    ) -> bool:
        """Whether it answers, at `now`, polls of jobs that have started since `oldest`."""
        return (
            self.start <= oldest
            and (running_only or not self.running_only)
            and now - self.at < self.tick(interval) * _PART_OF_A_TICK
        )


@dataclass(frozen=True)
class _Before:
    """What the next listing of a vault takes over from the last one."""

    #: the running jobs alone are listed, since all of them take many pages
    few: bool = False
    whole: int = 0
    page_size: int = PAGE_SIZE
    #: the ids of the running jobs that this app started, as far as the vault tells: else of all of them
    ran: frozenset[str] = frozenset()

    @classmethod
    def of(cls, last: ListedJobs | None, *, running_only: bool) -> _Before:
        """What `last` tells; `running_only`: jobs that have ended may be missing from the next."""
        if last is None:
            return cls()
        running = {key: job for key, job in last.by_id.items() if not job.status.has_ended}
        own = {key for key, job in running.items() if is_marked(job.activity_id)}
        few = (
            running_only
            and last.whole_pages >= _MANY_PAGES
            # Each job that has ended meanwhile is read on its own.
            and last.running_pages + last.ended <= last.whole_pages
            and last.running_pages < last.whole_pages
        )
        return cls(few, last.whole, last.page_size, frozenset(own or running))

    def then(
        self,
        jobs: list[Job],
        *,
        pages: int,
        start: ServiceTime,
        at: ServiceTime,
        others: int,
        reads: ReadsOfJobs,
    ) -> ListedJobs:
        """The next listing."""
        running = {uuid_text(job.id) for job in jobs if not job.status.has_ended}
        return ListedJobs(
            start=start,
            at=at,
            by_id={uuid_text(job.id): job for job in jobs},
            by_activity={job.activity_id: job for job in jobs if job.activity_id is not None},
            running_only=self.few,
            whole=self.whole if self.few else len(jobs),
            running=len(running),
            ended=len(self.ran - running),
            page_size=max(1, ceil(len(jobs) / pages) if pages > 1 else self.page_size),
            other_pages=others,
            reads=reads,
        )


class _Vault:
    """What is remembered of one vault: its last listing, and since when jobs of it are followed."""

    def __init__(self, subscription_id: str) -> None:
        self.lock = threading.Lock()
        #: its vaults share the reads of an hour
        self.subscription_id = subscription_id
        #: how many requests its last listing took
        self.pages = 0
        self.asked: ServiceTime | None = None
        self.listing: ListedJobs | None = None
        self.oldest: ServiceTime | None = None
        self.oldest_before: ServiceTime | None = None


class JobCache:
    """Listings by vault. Safe to share between threads: threads that want the same listing wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._vaults: dict[str, _Vault] = {}

    def forget(self, interval: timedelta, now: ServiceTime) -> None:
        """Drop the vaults whose jobs nobody follows any more."""
        with self._lock:
            for key, vault in list(self._vaults.items()):
                tick = vault.listing.tick(interval) if vault.listing is not None else interval
                idle = vault.asked is not None and now - vault.asked > tick * _TICKS_REMEMBERED
                if idle and not vault.lock.locked():
                    del self._vaults[key]

    def pages(self, subscription_id: str) -> int:
        """How many requests the listings of a subscription's vaults take in a tick."""
        with self._lock:
            return sum(
                vault.pages for vault in self._vaults.values() if vault.subscription_id == subscription_id
            )

    def recent(
        self,
        vault_id: VaultId,
        *,
        oldest: ServiceTime,
        interval: timedelta,
        now: ServiceTime,
        running_only: bool = False,
    ) -> bool:
        """Whether an existing listing serves."""
        with self._lock:
            vault = self._vaults.get(vault_id.key)
        last = vault.listing if vault is not None else None
        return last is not None and last.serves(oldest, interval, now, running_only=running_only)

    def get(
        self,
        azure: Reads,
        vault_id: VaultId,
        *,
        oldest: ServiceTime,
        interval: timedelta,
        now: Callable[[], ServiceTime],
        running_only: bool = False,
    ) -> ListedJobs:
        """The vault's jobs since `oldest` at least, listed at most a tick ago.

        Args:
            azure: lists the jobs, and knows what the hour of the vault's subscription has left.
            vault_id: the vault.
            oldest: when the oldest of the jobs that are asked about was started, by the service's clock.
            interval: the tick, before it has grown.
            now: the service's clock.
            running_only: jobs that have ended may be missing, if that takes fewer pages: whoever asks knows
                the ids of its jobs, and reads singly what is missing.

        Raises what `azure` raises.
        """
        subscription_id = vault_id.subscription_id
        with self._lock:
            vault = self._vaults.setdefault(vault_id.key, _Vault(subscription_id))
            vault.asked = now()
            sharing = [one for one in self._vaults.values() if one.subscription_id == subscription_id]
            others = sum(one.pages for one in sharing if one is not vault)
        with vault.lock:
            # What was the oldest in this tick or the one before is in flight still, in other batches.
            start = min(filter(None, (oldest, vault.oldest, vault.oldest_before)))
            last = vault.listing
            if last is not None and last.serves(oldest, interval, now(), running_only=running_only):
                vault.oldest = min(oldest, vault.oldest) if vault.oldest is not None else oldest
                return last
            before = _Before.of(last, running_only=running_only)
            # Two of them are not kept at once.
            last = vault.listing = None
            pages: list[int] = []
            status = "InProgress" if before.few else None
            jobs = azure.list_jobs(vault_id, start=start, status=status, counted=pages.append)
            reads = reads_of_jobs(azure.budget, subscription_id)
            listing = before.then(jobs, pages=pages[-1], start=start, at=now(), others=others, reads=reads)
            vault.pages = listing.pages
            vault.listing, vault.oldest_before, vault.oldest = listing, vault.oldest, oldest
            return listing


class _Items:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.at: ServiceTime | None = None
        self.items: object = None
        #: for longer than requests that come together
        self.kept = False


class ItemCache:
    """Listings of protected items, for requests that come together. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._vaults: dict[str, _Items] = {}

    def forget(self, now: ServiceTime) -> None:
        """Drop listings that are too old to serve."""
        with self._lock:
            old = [
                key
                for key, vault in self._vaults.items()
                if vault.at is not None
                and now - vault.at > (_ITEMS_REMEMBERED if vault.kept else _ITEMS_SERVE)
            ]
            for key in old:
                del self._vaults[key]

    def get(
        self,
        vault_key: str,
        *,
        asked: ServiceTime,
        now: Callable[[], ServiceTime],
        load: Callable[[], T],
        short: Callable[[], bool] = lambda: False,
        enough: Callable[[T], bool] = lambda _: False,
    ) -> T:
        """The vault's items as `load` gives them, listed after `asked`, so that nothing made before is missed.

        Args:
            vault_key: tells the vault from others.
            asked: when the request was made, by the service's clock.
            now: the service's clock.
            load: lists the items.
            short: whether reads are scarce.
            enough: whether a listing that is some minutes old holds all that is needed; it then serves where reads are
            scarce.

        Raises whatever `load` raises.
        """
        with self._lock:
            vault = self._vaults.pop(vault_key, None) or _Items()
            self._vaults[vault_key] = vault
            while len(self._vaults) > _MOST_ITEM_LISTINGS:
                del self._vaults[next(iter(self._vaults))]
        with vault.lock:
            at = now()
            age = at - vault.at if vault.at is not None else _ITEMS_REMEMBERED
            serves = vault.at is not None and vault.at >= asked and age < _ITEMS_SERVE
            if not serves and not (age < _ITEMS_REMEMBERED and short() and enough(cast("T", vault.items))):
                # Where loading fails nothing is known; that must not look like an empty listing.
                vault.items, vault.at = None, None
                vault.items, vault.at = load(), at
                vault.kept = short()
            return cast("T", vault.items)
