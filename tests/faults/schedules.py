"""Random schedules of what can go wrong, and the run of one of them.

A schedule says which requests are sent and how often, how Azure, the bus and the process fail and when, in
which order queues are served, and which deliveries are lost or put off. Its run goes on until nothing is left
to do; then the invariants are checked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any, Final, TypeAlias

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from local.estate import JsonObject
from shared.arm.transport import RawAnswer
from shared.bus import BusError, BusUnavailableError
from tests.faults.estate import (
    Crash,
    FaultyEstate,
    Plan,
    bare_estate,
    fault,
    gapped_estate,
    gave_way,
    open_faulty,
    protected_estate,
)
from tests.reported.effects import advance, settings_that_cannot_be_used

#: Deadlines short enough that what never ends is followed to its deadline in a few hundred polls.
SETTINGS: Final = {
    "OPERATION_TIMEOUT": "PT40M",
    "JOB_TIMEOUT": "PT3H",
    "TRACK_INTERVAL": "PT1M",
    "RESTORE_ALLOW_OVERWRITE": "true",
}
CONFLICT: Final = {
    "code": "OperationCancelledBecauseConflictingOperationRunningUserError",
    "errorCode": 510008,
    "message": "Operation cancelled as a conflicting operation was already running on the same database.",
}

_READS: Final = (
    "GetVault",
    "ListPolicies",
    "ListContainers",
    "ListProtectableContainers",
    "ListProtectableItems",
    "ListProtectedItems",
    "ListRecoveryPoints",
    "ListWorkloadItems",
    "OperationStatus",
    "OperationResult",
    "ListJobs",
    "GetJob",
    "GetProtectedItem",
)
_MUTATIONS: Final = ("Refresh", "Register", "Inquire", "ConfigureBackup", "Backup", "Restore")
_ON_ANYTHING: Final[tuple[tuple[str, JsonObject], ...]] = (
    ("status", {"status": 503}),
    ("status", {"status": 500}),
    ("status", {"status": 408}),
    ("status", {"status": 403}),
    ("status", {"status": 401}),
    ("statusAfterEffect", {"status": 503}),
    ("throttle", {"retryAfter": 5}),
    ("throttle", {"retryAfter": 90}),
    ("throttle", {"retryAfter": None}),
    ("throttle", {"retryAfter": 1_000_000}),
    ("dropBeforeEffect", {}),
    ("dropAfterEffect", {}),
    ("dropMidBody", {}),
    ("delayAfterEffect", {"seconds": 60}),
    ("malformedBody", {}),
    ("htmlBody", {}),
    ("emptyBody", {}),
    ("wrongTypeBody", {}),
    ("retryAfter", {"retryAfter": "soon"}),
    ("redirect", {}),
)
_ON_MUTATIONS: Final[tuple[tuple[str, JsonObject], ...]] = (
    ("status", {"status": 409, "code": "Conflict"}),
    ("missingHeaders", {}),
    ("missingHeaders", {"headers": ["Azure-AsyncOperation"]}),
    ("missingHeaders", {"headers": ["Location"]}),
    ("foreignPollUrl", {}),
    ("operationFailure", {"code": "UserErrorX", "message": "It failed."}),
    ("operationNeverEnds", {}),
    ("jobFailure", {"code": "UserErrorY", "errorCode": 1, "message": "It failed."}),
    ("jobFailure", CONFLICT),
    ("jobWarning", {"code": "UserErrorZ", "errorCode": 2, "message": "It is not quite well."}),
    ("jobCancelled", {}),
    ("jobNeverEnds", {}),
    ("twice", {}),
    ("twice", {}),
    ("jobListedLate", {"seconds": 240}),
    ("jobListedLate", {"seconds": 500}),
    ("redirectAfterEffect", {}),
)
#: Settings that cannot be used, an app that is older than the messages, a bus that is gone in one of two ways.
TROUBLES: Final = ("settings", "older version", "bus unavailable", "bus refuses")
_ON_POLLS: Final[tuple[tuple[str, JsonObject], ...]] = (
    ("unknownStatus", {}),
    ("status", {"status": 404}),
    ("status", {"status": 410}),
    ("statusAfterEffect", {"status": 204}),
)


#: A call's route, the fault, at which of the calls it comes up, and the fault's details.
Fault: TypeAlias = tuple[str, str, int, tuple[tuple[str, Any], ...]]


@dataclass(frozen=True)
class Schedule:
    """Everything that is not certain about a run."""

    flow: str
    #: how often the request is sent, beyond once
    duplicates: int = 0
    #: whether jobs bear the client request id
    echoes: bool = True
    faults: tuple[Fault, ...] = ()
    crashes: tuple[tuple[int, str], ...] = ()
    slow: tuple[tuple[int, int], ...] = ()
    unavailable: tuple[int, ...] = ()
    uncompleted: tuple[tuple[int, str], ...] = ()
    held: tuple[int, ...] = ()
    #: what breaks for a while, each with its step (-1: right after a crash) and its minutes
    troubles: tuple[tuple[str, int, int], ...] = ()
    #: from which answer on Azure's clock is off, and by how many minutes more
    jumps: tuple[tuple[int, int], ...] = ()
    recovery: str = "at once"
    order: tuple[int, ...] = ()

    @property
    def plan(self) -> Plan:
        """It as a plan of an estate."""
        return Plan(
            crashes=dict(self.crashes),  # type: ignore[arg-type]  # drawn from the two
            slow={number: timedelta(seconds=seconds) for number, seconds in self.slow},
            unavailable=set(self.unavailable),
            uncompleted=dict(self.uncompleted),  # type: ignore[arg-type]  # drawn from the two
            held=set(self.held),
            recovery=self.recovery,  # type: ignore[arg-type]  # drawn from the two
            mangle=Jumping(self.jumps) if self.jumps else None,
        )

    @property
    def scenario(self) -> JsonObject:
        """Its faults, as a scenario has them."""
        listed = [
            fault(route, name, nth=nth, **{key: _thawed(value) for key, value in details})
            for route, name, nth, details in self.faults
        ]
        return {"faults": listed, "echoActivityId": self.echoes}

    @property
    def disturbed(self) -> bool:
        """Whether a function may have run more than once for one message."""
        return bool(self.crashes or self.slow or self.unavailable or self.uncompleted or self.troubles)


class Jumping:
    """Azure's `Date` headers, off by so many minutes from so many answers on."""

    def __init__(self, jumps: tuple[tuple[int, int], ...]) -> None:
        self._jumps = jumps
        self._answers = 0

    def __call__(self, _method: str, _path: str, answer: RawAnswer) -> RawAnswer:
        self._answers += 1
        off = timedelta(minutes=sum(minutes for number, minutes in self._jumps if number < self._answers))
        if not off or "date" not in answer.headers:
            return answer
        date = format_datetime(parsedate_to_datetime(answer.headers["date"]) + off, usegmt=True)
        return RawAnswer(answer.status, {**answer.headers, "date": date}, answer.body)


#: What has no log backups is too old, and what no policy protects is protected.
REPAIRED: Final[JsonObject] = {
    "maxAge": "PT12H",
    "onUnprotected": {"protect": {"policyName": "HourlyLogBackup"}},
    "onStale": {"backup": {"backupType": "Full"}},
}

FLOWS: Final = (
    "protect",
    "backup",
    "restore",
    "both",
    "two backups",
    "two restores",
    "crowd",
    "coverage",
    "two coverages",
)


def requests_of(estate: FaultyEstate, flow: str) -> list[JsonObject]:
    """The requests of a flow."""
    if flow == "protect":
        return [estate.protect("*", firstBackup="now")]
    if flow == "backup":
        return [estate.backup("*", "nope")]
    if flow == "restore":
        return [estate.restore("orders")]
    if flow == "both":
        return [estate.backup("orders"), estate.restore("orders")]
    if flow == "coverage":
        return [estate.coverage(**REPAIRED)]
    if flow == "two coverages":
        return [estate.coverage(**REPAIRED), estate.coverage(**REPAIRED)]
    if flow == "two restores":
        return [estate.restore("orders", "orders_one"), estate.restore("orders", "orders_two")]
    backups = [estate.backup("orders"), estate.backup("*", backup_type="CopyOnlyFull")]
    if flow == "two backups":
        return backups
    return [*backups, estate.restore("orders", "orders_one"), estate.backup("orders", "billing")]


def fault_on(route: str) -> st.SearchStrategy[Fault]:
    """A fault of the calls of a route."""
    kinds = _ON_ANYTHING + (_ON_MUTATIONS if route in _MUTATIONS else ())
    kinds += _ON_POLLS if route in ("OperationStatus", "OperationResult", "GetJob") else ()
    return st.tuples(
        st.just(route),
        st.sampled_from(kinds),
        st.integers(1, 4 if route not in _MUTATIONS else 2),
    ).map(
        lambda drawn: (
            drawn[0],
            drawn[1][0],
            drawn[2],
            tuple((k, _frozen(v)) for k, v in drawn[1][1].items()),
        )
    )


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _thawed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def at_most(one: st.SearchStrategy[Any], most: int) -> st.SearchStrategy[tuple[Any, ...]]:
    """Up to `most` of these."""
    return st.lists(one, max_size=most).map(tuple)


def _trouble_for(kind: str) -> st.SearchStrategy[tuple[str, int, int]]:
    lasts = (3, 12, 45) if kind in ("settings", "older version") else (3, 12, 45, 360)
    return st.tuples(st.just(kind), st.integers(-1, 25), st.sampled_from(lasts))


def schedules(
    flows: Sequence[str],
    faults: st.SearchStrategy[Fault],
    *,
    effects: int,
    queues: int,
    **more: st.SearchStrategy[Any],
) -> st.SearchStrategy[Schedule]:
    """Schedules of these flows and faults.

    Args:
        effects: how many effects and deliveries a run has about.
        queues: how many queues it has.
        more: other fields of the schedules.
    """
    number = st.integers(0, effects)
    return st.builds(
        Schedule,
        flow=st.sampled_from(flows),
        duplicates=st.integers(0, 2),
        faults=at_most(faults, 3),
        crashes=at_most(st.tuples(number, st.sampled_from(("before", "after"))), 3),
        slow=at_most(st.tuples(number, st.sampled_from((20, 160, 301, 900))), 2),
        unavailable=at_most(number, 2),
        uncompleted=at_most(st.tuples(number, st.sampled_from(("at once", "later"))), 2),
        held=at_most(number, 2),
        recovery=st.sampled_from(("at once", "later")),
        order=at_most(st.integers(0, queues), 4),
        **more,
    )


SCHEDULES: Final = schedules(
    FLOWS,
    st.sampled_from(_MUTATIONS + _MUTATIONS + _READS).flatmap(fault_on),
    effects=40,
    queues=17,
    echoes=st.sampled_from((True, True, False)),
    troubles=at_most(st.sampled_from(TROUBLES).flatmap(_trouble_for), 2),
    jumps=at_most(st.tuples(st.integers(0, 30), st.sampled_from((-300, -90, -2, 2, 90, 300))), 1),
)


@dataclass
class Tally:
    """What many schedules came to."""

    schedules: int = 0
    crashes: int = 0
    statuses: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        ended = ", ".join(f"{count} {status}" for status, count in sorted(self.statuses.items()))
        return f"{self.schedules} schedules, {self.crashes} crashes; outcomes: {ended}"


def run(schedule: Schedule, tally: Tally | None = None) -> None:
    """Run a schedule to its end and check what must hold.

    Raises AssertionError where it does not.
    """
    if "coverage" in schedule.flow:
        scenario = gapped_estate(**schedule.scenario)
    else:
        base = bare_estate if schedule.flow == "protect" else protected_estate
        scenario = base("orders", "billing", **schedule.scenario)
    with open_faulty(scenario, schedule.plan, SETTINGS, order=schedule.order) as estate:
        answer(estate, schedule, requests_of(estate, schedule.flow))
        if schedule.echoes:
            check_true(estate)
        if not (schedule.disturbed or schedule.jumps):
            estate.check_retry_after()
        if tally is not None:
            tally.schedules += 1
            tally.crashes += estate.crashes
            for outcome in estate.outcomes():
                status = outcome["data"]["status"]
                tally.statuses[status] = tally.statuses.get(status, 0) + 1


def answer(estate: FaultyEstate, schedule: Schedule, requests: Iterable[JsonObject]) -> None:
    """Send the requests, each as often as the schedule says, go on to the end, and check what must hold of any."""
    for request in requests:
        estate.submit(request)
        for _ in range(schedule.duplicates):
            estate.send(request)
    _troubled(estate, schedule)
    estate.quiesce()
    estate.check(two_answers=schedule.disturbed and bool(schedule.faults))


def _troubled(estate: FaultyEstate, schedule: Schedule) -> None:
    """Go on through what breaks for a while, until all of it is over."""
    left = list(schedule.troubles)
    step = 0
    while left:
        crashed = _crashes(estate, estate.host.run_until_idle)
        if crashed:
            estate.restart()
        due = estate.broker.next_due()
        last = not crashed and due is None
        for trouble in [one for one in left if last or one[1] == step or (one[1] < 0 and crashed)]:
            left.remove(trouble)
            _trouble(estate, trouble[0], timedelta(minutes=trouble[2]))
        step += 1
        if not crashed and (due := estate.broker.next_due()) is not None:
            estate.clock.advance_to(due)


def _crashes(estate: FaultyEstate, work: Callable[[], object]) -> bool:
    try:
        work()
    except Crash:
        estate.crashes += 1
        return True
    return False


def _trouble(estate: FaultyEstate, kind: str, lasts: timedelta) -> None:
    """What breaks, and is mended after so long; the app works meanwhile as well as it can."""
    until = estate.clock.now() + lasts

    def go_on(restart: Callable[[], None]) -> None:
        while estate.clock.now() < until:
            if _crashes(estate, lambda: advance(estate, until - estate.clock.now())):
                restart()

    with pytest.MonkeyPatch.context() as patched:
        if kind == "settings":
            with settings_that_cannot_be_used(estate, patched, JOB_TIMEOUT="seven days"):
                go_on(lambda: estate.receiver.die(release=True))
        elif kind == "older version":
            estate.restart(release=True)
            with patched.context() as older:
                older.setattr("shared.engine.table.VERSION", 0)
                go_on(estate.restart)
            estate.restart(release=True)
        else:
            estate.meter.plan.bus_gone_until = until
            estate.meter.plan.refusal = BusUnavailableError if kind == "bus unavailable" else BusError
            go_on(estate.restart)


def check_true(estate: FaultyEstate) -> None:
    """In a vault that echoes, whatever succeeded did so by a job of its own, which no other outcome names."""
    items = {entry["jobId"]: entry["item"].lower() for entry in estate.simulator.ledger_entries}
    reported: dict[str, str] = {}
    for outcome in estate.outcomes():
        data = outcome["data"]
        job = (data.get("job") or {}).get("id")
        if job is None or data["operation"] == "protect":
            continue
        if data["status"] in ("succeeded", "succeededWithWarnings"):
            assert items[job] == outcome["subject"].lower(), f"a job of another database: {outcome}"
            assert not gave_way(estate.simulator, job), f"its job did nothing: {outcome}"
        assert job not in reported, f"{data['requestId']} and {reported[job]} have the same job"
        reported[job] = data["requestId"]


#: How many schedules are run at most to find a smaller one that fails.
_MOST_SMALLER: Final = 120


def smallest(schedule: Schedule, fails: Callable[[Schedule], bool]) -> Schedule:
    """A schedule that fails as well, and has as little in it as so many runs find."""
    runs = 0
    smaller = True
    while smaller:
        smaller = False
        for candidate in _less(schedule):
            runs += 1
            if runs > _MOST_SMALLER:
                return schedule
            if fails(candidate):
                schedule, smaller = candidate, True
                break
    return schedule


def _less(schedule: Schedule) -> Iterator[Schedule]:
    """The schedule without one of its parts."""
    for part in fields(schedule):
        value = getattr(schedule, part.name)
        if part.default is MISSING or value == part.default:
            continue
        yield replace(schedule, **{part.name: part.default})
        if isinstance(value, tuple) and len(value) > 1:
            for number in range(len(value)):
                less: Any = {part.name: value[:number] + value[number + 1 :]}
                yield replace(schedule, **less)


def hold_over(
    schedules: st.SearchStrategy[Schedule], run_one: Callable[[Schedule], None], *, count: int, begin: int
) -> None:
    """Run so many schedules from a seed; what the first that fails raises, with the smallest like it printed."""
    failed: list[Schedule] = []

    def fails(schedule: Schedule) -> bool:
        try:
            run_one(schedule)
        except Exception:
            return True
        return False

    @seed(begin)
    @settings(
        max_examples=count,
        database=None,
        suppress_health_check=list(HealthCheck),
        # Hypothesis would look for a smaller one for minutes, and print nothing before.
        phases=[Phase.generate],
    )
    @given(schedules)
    def hold(schedule: Schedule) -> None:
        if not failed and fails(schedule):
            failed.append(schedule)

    hold()
    if failed:
        schedule = smallest(failed[0], fails)
        sys.stdout.write(f"The smallest schedule that fails: {schedule}\n")
        run_one(schedule)
        raise AssertionError(f"it fails only at times: {failed[0]}")
