"""Who may ask next: the rate limits as the service tells them, before it has to refuse."""

from __future__ import annotations

import heapq
import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from shared.arm.budget import BACKUP_READS, Admission, RequestBudget, coming_back
from shared.clock import SteppedClock

SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
VAULT = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.RecoveryServices/vaults/v"
JOBS = f"{VAULT}/backupJobs"
_HEADER = "x-ms-ratelimit-remaining-"
_WRITES = f"{_HEADER}subscription-writes"
_READS = f"{_HEADER}{BACKUP_READS}"


class Asker:
    """Asks on a stepped clock, and is answered with what is said to be left."""

    def __init__(self, scale: float = 1.0) -> None:
        self.clock = SteppedClock(datetime(2026, 1, 5, 8, tzinfo=UTC))
        self.budget = RequestBudget(self.clock, scale)

    def ask(
        self, method: str = "POST", path: str = JOBS, *, cost: int = 1, begun: bool = False
    ) -> Admission | float:
        """The admission, or the seconds to wait."""
        found = self.budget.admit(SUBSCRIPTION, method, path, cost=cost, begun=begun)
        return found if isinstance(found, Admission) else found.total_seconds()

    def told(self, left: int, method: str = "POST", path: str = JOBS) -> None:
        """One call that is answered with so much left."""
        admission = self.ask(method, path, begun=True)
        assert isinstance(admission, Admission)
        self.budget.answered(admission, {(_WRITES if method == "POST" else _READS): str(left)})

    def wait(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))


def test_a_limit_that_no_document_gives_holds_once_the_service_speaks_of_it() -> None:
    asker = Asker()
    assert all(isinstance(asker.ask("GET"), Admission) for _ in range(249))
    assert isinstance(asker.ask("GET", begun=True), Admission)
    asker.told(0, "GET")
    assert isinstance(asker.ask("GET"), float)


def test_the_documented_limit_holds_from_the_first_call_on() -> None:
    asker = Asker()
    assert [isinstance(asker.ask(), Admission) for _ in range(201)] == [True] * 200 + [False]


def test_what_is_left_may_be_asked_and_no_more() -> None:
    asker = Asker()
    asker.told(5)
    assert [isinstance(asker.ask(), Admission) for _ in range(6)] == [True] * 5 + [False]


def test_calls_on_their_way_count_against_what_is_left() -> None:
    asker = Asker()
    asker.told(10)
    on_their_way = [asker.ask() for _ in range(4)]
    asker.told(6)  # counted by the service before the four
    assert [isinstance(asker.ask(), Admission) for _ in range(3)] == [True, True, False]
    assert len(on_their_way) == 4


def test_turns_are_spread_as_the_bucket_refills() -> None:
    asker = Asker()
    asker.told(0)
    waits = [asker.ask() for _ in range(20)]
    assert all(isinstance(wait, float) for wait in waits)
    gaps = [later - sooner for sooner, later in pairwise(waits)]  # type: ignore[operator]
    # Ten a second, less a margin.
    assert all(0.1 <= gap <= 0.11 for gap in gaps)


def test_everybody_is_served_at_his_turn_whoever_comes_meanwhile() -> None:
    asker = Asker()
    asker.told(0)
    turns = sorted(wait for wait in (asker.ask() for _ in range(50)) if isinstance(wait, float))
    elapsed = 0.0
    newcomers = 0
    for turn in turns:
        asker.wait(turn - elapsed)
        elapsed = turn
        newcomers += isinstance(asker.ask(), Admission)
        with coming_back(True):
            admission = asker.ask()
        assert isinstance(admission, Admission), f"sent to the back after {turn:.1f} s"
    # What the margin leaves over is theirs.
    assert newcomers <= 50 * 0.05


def test_newcomers_go_ahead_where_those_before_do_not_come_back() -> None:
    asker = Asker()
    asker.told(0)
    for _ in range(100):
        asker.ask()
    asker.wait(1)
    assert isinstance(asker.ask(), Admission)


def test_a_refusal_stops_everybody_for_as_long_as_it_says() -> None:
    asker = Asker()
    admission = asker.ask("GET")
    assert isinstance(admission, Admission)
    asker.budget.answered(admission, {}, refused=True, retry_after=timedelta(seconds=90))
    wait = asker.ask("GET")
    assert isinstance(wait, float)
    assert 90 <= wait <= 95
    asker.wait(89)
    assert isinstance(asker.ask("GET"), float)
    asker.wait(6)
    with coming_back(True):
        assert isinstance(asker.ask("GET"), Admission)


def test_a_refusal_leaves_other_limits_alone() -> None:
    asker = Asker()
    admission = asker.ask("GET")
    assert isinstance(admission, Admission)
    asker.budget.answered(admission, {}, refused=True, retry_after=timedelta(seconds=90))
    assert isinstance(asker.ask("POST"), Admission)
    assert isinstance(asker.ask("GET", VAULT), Admission)


def test_one_refusal_after_another_makes_no_wait_longer_than_it_says() -> None:
    asker = Asker()
    for _ in range(5):
        with coming_back(True):
            admission = asker.ask("GET")
        assert isinstance(admission, Admission)
        asker.budget.answered(admission, {}, refused=True, retry_after=timedelta(seconds=600))
        asker.wait(600)


def test_an_absurd_refusal_stops_the_others_for_an_hour_at_most() -> None:
    asker = Asker()
    admission = asker.ask()
    assert isinstance(admission, Admission)
    asker.budget.answered(admission, {}, refused=True, retry_after=timedelta(days=30))
    wait = asker.ask()
    assert isinstance(wait, float)
    assert 3600 <= wait <= 3605
    asker.wait(wait)
    with coming_back(True):
        assert isinstance(asker.ask(), Admission)


def test_a_process_that_is_refused_takes_less_of_what_it_shares_with_others() -> None:
    # Four processes, one limit: 600 calls that all want to be made at once, each by any of them.
    chance = random.Random(1)
    clock = SteppedClock(datetime(2026, 1, 5, 8, tzinfo=UTC))
    budgets = [RequestBudget(clock) for _ in range(4)]
    waiting = [(0.0, number, False) for number in range(600)]
    left, filled, calls, refused, last = 200.0, 0.0, 0, 0, 0.0
    while waiting:
        at, number, returning = heapq.heappop(waiting)
        clock.advance_to(clock.now() + timedelta(seconds=at - clock.monotonic()))
        budget = chance.choice(budgets)
        with coming_back(returning):
            admission = budget.admit(SUBSCRIPTION, "POST", JOBS)
        if isinstance(admission, timedelta):
            heapq.heappush(waiting, (at + admission.total_seconds(), number, True))
            continue
        left, filled, calls = min(200.0, left + (at - filled) * 10), at, calls + 1
        if left >= 1:
            left, last = left - 1, at
            budget.answered(admission, {_WRITES: str(int(left))})
        else:
            refused += 1
            budget.answered(admission, {}, refused=True, retry_after=timedelta(seconds=1))
            heapq.heappush(waiting, (at + 1 + 2 * chance.random(), number, True))
    assert refused / calls < 0.25
    assert last < 40 * 2, "against 40 s for one that need not share"


def test_another_subscription_has_limits_of_its_own() -> None:
    asker = Asker()
    asker.told(0)
    other = asker.budget.admit("00000000-0000-0000-0000-000000000002", "POST", JOBS)
    assert isinstance(other, Admission)


def test_a_listing_is_begun_only_where_its_end_can_be_paid() -> None:
    asker = Asker()
    asker.told(8, "GET")
    wait = asker.ask("GET", cost=10)
    assert isinstance(wait, float)
    # Two more reads at 250 in five minutes.
    assert 2.4 <= wait <= 15
    with coming_back(True):
        assert isinstance(asker.ask("GET", cost=8), Admission)
    # What has begun goes on to its end, whatever is left.
    assert all(isinstance(asker.ask("GET", begun=True), Admission) for _ in range(9))


def test_a_listing_larger_than_the_bucket_is_not_put_off_for_ever() -> None:
    asker = Asker()
    asker.told(200, "GET")
    assert isinstance(asker.ask("GET", cost=1000), Admission)


def test_an_answer_that_was_lost_frees_its_place() -> None:
    asker = Asker()
    asker.told(10)
    for _ in range(5):
        admission = asker.ask()
        assert isinstance(admission, Admission)
        asker.budget.answered(admission, None)
    asker.told(3)
    assert [isinstance(asker.ask(), Admission) for _ in range(4)] == [True] * 3 + [False]


def test_time_runs_by_the_scale_of_the_service() -> None:
    asker = Asker(scale=0.01)
    asker.told(0)
    wait = asker.ask()
    assert isinstance(wait, float)
    asker.wait(wait * 0.01)
    with coming_back(True):
        assert isinstance(asker.ask(), Admission)


@pytest.mark.parametrize(
    ("path", "counted"),
    [
        (VAULT, False),
        (JOBS, True),
        (f"{VAULT}/backupFabrics/Azure/protectableContainers", True),
        (JOBS.upper(), True),
    ],
)
def test_reads_of_backup_resources_are_counted_by_azure_backup_too(path: str, counted: bool) -> None:
    asker = Asker()
    asker.told(0, "GET")
    assert isinstance(asker.ask("GET", path), float) is counted


def test_nonsense_in_the_headers_changes_nothing() -> None:
    asker = Asker()
    for text in ("", "-1", "many", "9" * 40, "١٢"):
        admission = asker.ask()
        assert isinstance(admission, Admission)
        asker.budget.answered(admission, {_WRITES: text})
    assert isinstance(asker.ask(), Admission)
    assert asker.budget.left(SUBSCRIPTION) == 250
