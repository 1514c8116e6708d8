"""Who may ask next: the rate limits as the service tells them, before it has to refuse."""

from __future__ import annotations

import heapq
import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from local.simulator.errors import ServiceError
from local.simulator.scenario import SERVICE_LIMITS, ThrottlingScenario
from local.simulator.service_version import DEFAULT, ServiceVersion
from local.simulator.throttling import Throttle
from local.stepped_clock import SteppedClock
from shared.arm.budget import JOB_READS, Admission, RequestBudget, action_of, coming_back

SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
VAULT = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.RecoveryServices/vaults/v"
JOBS = f"{VAULT}/backupJobs"
_HEADER = "x-ms-ratelimit-remaining-"
_WRITES = f"{_HEADER}subscription-writes"
_READS = f"{_HEADER}subscription-resource-requests"


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
    # Two more, of those that others have asked: they may come back with any slot of five minutes.
    assert wait == 300
    with coming_back(True):
        assert isinstance(asker.ask("GET", cost=8), Admission)
    # What has begun goes on to its end, whatever is left.
    assert all(isinstance(asker.ask("GET", begun=True), Admission) for _ in range(9))


def test_a_listing_larger_than_the_limit_is_not_put_off_for_ever() -> None:
    asker = Asker()
    asker.told(230, "GET")
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


_CONTAINER = f"{VAULT}/backupFabrics/Azure/protectionContainers/VMAppContainer;compute;rg;vm"
_ITEM = f"{_CONTAINER}/protectedItems/SQLDataBase;mssqlserver;orders"


@pytest.mark.parametrize(
    ("method", "path", "action"),
    [
        ("GET", VAULT, ""),
        ("GET", JOBS, "/backupjobs"),
        ("GET", f"{JOBS}/0aabbcc8-1234-4f7d-8b55-3f4c5a4e2f11", "/backupjobs"),
        ("GET", JOBS.upper(), "/backupjobs"),
        ("GET", f"{JOBS}/1/operationResults/2", "/backupjobs/operationresults"),
        ("GET", f"{VAULT}/backupOperations/1", "/backupoperations"),
        ("GET", f"{VAULT}/backupOperationResults/1", "/backupoperationresults"),
        ("GET", f"{VAULT}/backupProtectedItems", "/backupprotecteditems"),
        ("GET", f"{VAULT}/backupPolicies/Daily", "/backuppolicies"),
        ("GET", f"{VAULT}/backupFabrics/Azure/protectableContainers", "/backupfabrics/protectablecontainers"),
        ("GET", _CONTAINER, "/backupfabrics/protectioncontainers"),
        (
            "GET",
            f"{_CONTAINER}/operationResults/1",
            "/backupfabrics/protectioncontainers/operationresults",
        ),
        ("GET", _ITEM, "/backupfabrics/protectioncontainers/protecteditems"),
        (
            "GET",
            f"{_ITEM}/recoveryPoints",
            "/backupfabrics/protectioncontainers/protecteditems/recoverypoints",
        ),
        (
            "GET",
            f"{_ITEM}/recoveryPoints/7",
            "/backupfabrics/protectioncontainers/protecteditems/recoverypoints",
        ),
    ],
)
def test_the_action_of_a_read_is_made_of_the_types_in_its_path(method: str, path: str, action: str) -> None:
    assert action_of(method, path) == f"microsoft.recoveryservices/vaults{action}/read"


@pytest.mark.parametrize(
    ("method", "path", "action"),
    [
        (
            "POST",
            f"{_ITEM}/backup",
            "microsoft.recoveryservices/vaults/backupfabrics/protectioncontainers/protecteditems/backup/action",
        ),
        ("PUT", f"{VAULT}/backupPolicies/Daily", "microsoft.recoveryservices/vaults/backuppolicies/write"),
        ("DELETE", VAULT, "microsoft.recoveryservices/vaults/delete"),
        ("GET", f"/subscriptions/{SUBSCRIPTION}", ""),
        ("GET", "/", ""),
    ],
)
def test_the_action_of_anything_else(method: str, path: str, action: str) -> None:
    assert action_of(method, path) == action


@pytest.mark.parametrize(
    ("path", "closed"),
    [
        (f"{JOBS}/1", True),
        (JOBS.upper(), True),
        (JOBS.replace("/vaults/v/", "/vaults/another/"), True),
        (VAULT, False),
        (_ITEM, False),
        (f"{VAULT}/backupOperations/1", False),
    ],
    ids=["single", "casing", "another vault", "vault", "item", "operation"],
)
@pytest.mark.parametrize("how", ["used up", "refused"])
def test_what_an_answer_says_holds_for_its_own_action(path: str, closed: bool, how: str) -> None:
    asker = Asker()
    admission = asker.ask("GET")
    assert isinstance(admission, Admission)
    headers = {_READS: "0"} if how == "used up" else {}
    asker.budget.answered(admission, headers, refused=how == "refused", retry_after=timedelta(seconds=324))
    assert isinstance(asker.ask("GET", path), float) is closed


def test_a_refusal_of_the_subscriptions_bucket_closes_all_reads() -> None:
    asker = Asker()
    admission = asker.ask("GET")
    assert isinstance(admission, Admission)
    asker.budget.answered(admission, {}, refused=True, by_subscription=True, retry_after=timedelta(seconds=9))
    assert isinstance(asker.ask("GET", _ITEM), float)
    assert asker.budget.left(SUBSCRIPTION, JOB_READS) == 449


def test_own_reads_come_back_once_they_have_left_the_hour() -> None:
    asker = Asker()
    for left in range(449, -1, -1):
        asker.told(left, "GET")
    wait = asker.ask("GET")
    assert isinstance(wait, float)
    # An hour after the slot of five minutes, remembered by the minute.
    assert 3900 <= wait <= 3960
    asker.wait(wait)
    with coming_back(True):
        assert isinstance(asker.ask("GET"), Admission)


def test_a_process_that_begins_in_anothers_hour_asks_again_after_a_slot() -> None:
    asker = Asker()
    asker.told(0, "GET")
    wait = asker.ask("GET")
    assert isinstance(wait, float)
    assert 299 <= wait <= 301


@pytest.mark.parametrize("cost", [1, 10])
@pytest.mark.parametrize("every", [1, 8, 11, 60])
def test_who_asks_as_often_as_the_budget_lets_him_is_never_refused(cost: int, every: int) -> None:
    asker = Asker()
    limits = ThrottlingScenario.model_validate(SERVICE_LIMITS)
    service = Throttle(limits, SUBSCRIPTION, asker.clock.now(), ServiceVersion(DEFAULT))
    hours, made, waiting = 5, 0, False
    while asker.clock.monotonic() < hours * 3600:
        with coming_back(waiting):
            found = asker.ask("GET", cost=cost)
        waiting = isinstance(found, float)
        if isinstance(found, float):
            asker.wait(found)
            continue
        for number in range(cost):
            admission = found if number == 0 else asker.ask("GET", begun=True)
            assert isinstance(admission, Admission)
            try:
                told = service.count("GET", True, JOB_READS, asker.clock.now())
            except ServiceError as error:
                pytest.fail(f"refused after {asker.clock.monotonic():.0f} s, {made} reads: {error.headers}")
            asker.budget.answered(admission, told)
            made += 1
        asker.wait(every)
    # Little of what there was has been left: 450 at once, and as many with each 65 minutes.
    possible = min(450 * (1 + (hours * 3600 - 3900) / 3900), hours * 3600 / every * cost)
    assert made >= possible * 0.85


def test_nonsense_in_the_headers_changes_nothing() -> None:
    asker = Asker()
    for text in ("", "-1", "many", "9" * 40, "١٢"):
        admission = asker.ask()
        assert isinstance(admission, Admission)
        asker.budget.answered(admission, {_WRITES: text})
    assert isinstance(asker.ask(), Admission)
    assert asker.budget.left(SUBSCRIPTION, JOB_READS) == 450


@pytest.mark.parametrize("path", [VAULT, f"{VAULT}/backupResourceGuardProxies"])
def test_reads_without_a_counter_of_their_own_are_counted_among_the_subscriptions(path: str) -> None:
    asker = Asker()
    admission = asker.ask("GET", path)
    assert isinstance(admission, Admission)
    assert [name for _, name in admission.counters] == ["subscription-reads"]
