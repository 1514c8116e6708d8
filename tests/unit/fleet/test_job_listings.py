"""One listing of a vault's jobs for all that are followed in it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from shared.arm.budget import RequestBudget
from shared.arm.ids import VaultId
from shared.azure_backup.models import Job
from shared.clock import SystemClock
from shared.listing_cache import JobCache, ListedJobs, ReadsOfJobs, tick_of
from tests.unit.examples import NOW, SUBSCRIPTION

SECOND = timedelta(seconds=1)
TICK = 30 * SECOND


class Vault:
    """A vault with jobs, some of which still run; remembers how it was asked."""

    def __init__(self, jobs: int, *, running: int = 0, page: int = 200) -> None:
        self.jobs, self.running, self.page = jobs, running, page
        self.asked: list[tuple[float, str | None]] = []
        self.now = NOW
        self.budget = RequestBudget(SystemClock())

    def list_jobs(
        self, _vault: VaultId, *, start: datetime, status: str | None, counted: Callable[[int], None]
    ) -> list[Job]:
        self.asked.append(((start - NOW).total_seconds(), status))
        numbers = range(self.running if status is not None else self.jobs)
        counted(max(1, -(-len(numbers) // self.page)))
        return [
            Job(
                id=f"Job-{n}",
                activity_id=f"Act-{n}",
                status="InProgress" if n < self.running else "Completed",
            )
            for n in numbers
        ]

    def list(
        self,
        listings: JobCache,
        *,
        oldest: int = 0,
        at: int = 0,
        running_only: bool = False,
        name: str = "vault1",
        subscription_id: str = SUBSCRIPTION,
    ) -> ListedJobs:
        self.now = NOW + at * SECOND
        azure: Any = self
        return listings.get(
            azure,
            VaultId(subscription_id, "g", name),
            oldest=NOW + oldest * SECOND,
            interval=TICK,
            now=lambda: self.now,
            running_only=running_only,
        )


def test_batches_of_one_tick_share_a_listing() -> None:
    vault, listings = Vault(600), JobCache()
    first = vault.list(listings, oldest=-300)
    assert vault.list(listings, oldest=-100, at=1) is first
    assert vault.list(listings, oldest=-300, at=2) is first
    assert len(vault.asked) == 1
    assert vault.list(listings, oldest=-300, at=30) is not first


def test_a_job_older_than_the_listing_is_not_looked_for_in_it() -> None:
    vault, listings = Vault(10), JobCache()
    vault.list(listings, oldest=-100)
    vault.list(listings, oldest=-500, at=1)
    assert [start for start, _ in vault.asked] == [-100, -500]


def test_the_window_reaches_back_to_what_other_batches_follow() -> None:
    vault, listings = Vault(10), JobCache()
    vault.list(listings, oldest=-900)
    # The next tick begins with a batch of younger jobs: the old ones are still followed by the others.
    vault.list(listings, oldest=-100, at=30)
    assert vault.asked[-1][0] == -900
    # Two ticks without them, and the window closes.
    vault.list(listings, oldest=-100, at=60)
    vault.list(listings, oldest=-100, at=90)
    assert vault.asked[-1][0] == -100


@pytest.mark.parametrize(
    ("pages", "left", "own", "seconds"),
    [
        # One job, or as many as a page holds: an even pace, however much is left.
        (1, 450, 450, 10),
        (1, 50, 450, 10),
        (1, 0, 450, 10),
        # While much is left, soon; later, as late as nobody may wait longer than.
        (10, 450, 450, 58),
        (10, 350, 450, 75),
        (10, 250, 450, 104),
        (10, 60, 450, 120),
        (10, 0, 450, 120),
        # More than can be listed so often: an even pace.
        (20, 450, 450, 193),
        (20, 0, 450, 193),
        (100, 450, 450, 963),
        # Another process takes half of the hour.
        (1, 225, 225, 12),
        (10, 225, 225, 193),
        # The service allows more than was thought.
        (1, 1999, 1999, 5),
    ],
)
def test_the_tick_spends_the_hour(pages: int, left: int, own: int, seconds: float) -> None:
    reads = ReadsOfJobs(left=left, own=own)
    assert tick_of(5 * SECOND, pages=pages, reads=reads).total_seconds() == seconds


def test_vaults_of_a_subscription_share_the_hour() -> None:
    listings = JobCache()
    ticks = [Vault(10).list(listings, name=f"vault{number}").tick(TICK) for number in range(10)]
    assert (ticks[0], ticks[-1]) == (TICK, 58 * SECOND)


def test_a_grown_tick_is_waited_for() -> None:
    vault, listings = Vault(2000), JobCache()
    first = vault.list(listings)
    assert vault.list(listings, at=50) is first
    assert vault.list(listings, at=58) is not first


def test_jobs_are_found_by_id_and_by_activity_in_any_case() -> None:
    listing = Vault(3).list(JobCache())
    by_id = listing.find(job_id="JOB-2", activity_id="none")
    by_activity = listing.find(job_id=None, activity_id="act-2")
    assert by_id is not None
    assert by_id is by_activity
    # An id that is known is not replaced by a namesake's activity.
    assert listing.find(job_id="job-9", activity_id="act-2") is None


def test_only_what_runs_is_listed_where_that_takes_fewer_pages() -> None:
    vault, listings = Vault(900, running=40), JobCache()
    vault.list(listings, running_only=True)
    listing = vault.list(listings, at=60, running_only=True)
    assert [status for _, status in vault.asked] == [None, "InProgress"]
    assert (listing.pages, listing.whole_pages) == (1, 5)
    # One who does not know its job's id yet needs them all.
    assert not vault.list(listings, at=61, running_only=False).running_only


@pytest.mark.parametrize(("jobs", "running"), [(300, 10), (900, 850)], ids=["few pages", "all run"])
def test_all_are_listed_where_that_is_no_dearer(jobs: int, running: int) -> None:
    vault, listings = Vault(jobs, running=running), JobCache()
    vault.list(listings, running_only=True)
    vault.list(listings, at=60, running_only=True)
    assert [status for _, status in vault.asked] == [None, None]


def test_all_are_listed_while_more_end_than_a_whole_listing_has_pages() -> None:
    vault, listings = Vault(900, running=400), JobCache()
    vault.list(listings, running_only=True)
    vault.running = 380
    vault.list(listings, at=60, running_only=True)
    # Twenty have ended since the last look: each would be a read of its own.
    vault.list(listings, at=120, running_only=True)
    vault.list(listings, at=180, running_only=True)
    assert [status for _, status in vault.asked] == [None, "InProgress", None, "InProgress"]


def test_a_vault_whose_jobs_have_ended_is_forgotten() -> None:
    listings = JobCache()
    ended = weakref.ref(Vault(10).list(listings, name="vault1"))
    grown = weakref.ref(
        Vault(20_000).list(listings, name="vault2", subscription_id=SUBSCRIPTION.replace("1", "2"))
    )
    followed = Vault(10)
    for at in range(0, 601, 30):
        followed.list(listings, name="vault3", at=at)
        listings.forget(TICK, NOW + at * SECOND)
    assert ended() is None
    assert grown() is not None, "its tick has grown to minutes: it is asked for less often"
    followed.list(listings, name="vault3", at=601)
    assert len(followed.asked) == 21


def test_a_listing_that_fails_leaves_nothing_behind() -> None:
    vault, listings = Vault(10), JobCache()

    def fail(*_: object, **_given: object) -> list[Job]:
        raise ConnectionError

    failing = Vault(10)
    failing.list_jobs = fail  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        failing.list(listings)
    assert len(vault.list(listings).by_id) == 10
