"""Random schedules of what can go wrong, and the run of one of them.

A schedule says which requests are sent and how often, how Azure, the bus and the process fail and when, in
which order queues are served, and which deliveries are lost or put off. Its run goes on until nothing is left
to do; then the invariants are checked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from hypothesis import strategies as st

from tests.e2e.harness import JsonObject
from tests.faults.estate import FaultyEstate, Plan, bare_estate, fault, open_faulty, protected_estate

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
)
_ON_POLLS: Final[tuple[tuple[str, JsonObject], ...]] = (
    ("unknownStatus", {}),
    ("status", {"status": 404}),
    ("status", {"status": 410}),
    ("statusAfterEffect", {"status": 204}),
)


@dataclass(frozen=True)
class Schedule:
    """Everything that is not certain about a run."""

    flow: str
    #: how often the request is sent, beyond once
    duplicates: int = 0
    #: whether jobs bear the client request id
    echoes: bool = True
    faults: tuple[tuple[str, str, int, tuple[tuple[str, Any], ...]], ...] = ()
    crashes: tuple[tuple[int, str], ...] = ()
    slow: tuple[tuple[int, int], ...] = ()
    unavailable: tuple[int, ...] = ()
    uncompleted: tuple[tuple[int, str], ...] = ()
    held: tuple[int, ...] = ()
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
        )

    @property
    def disturbed(self) -> bool:
        """Whether a function may have run more than once for one message."""
        return bool(self.crashes or self.slow or self.unavailable or self.uncompleted)


FLOWS: Final = ("protect", "backup", "restore", "both", "two backups")


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
    return [estate.backup("orders"), estate.backup("*", backup_type="CopyOnlyFull")]


def _fault(route: str) -> st.SearchStrategy[tuple[str, str, int, tuple[tuple[str, Any], ...]]]:
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


def _some(one: st.SearchStrategy[Any], most: int) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(one, max_size=most).map(tuple)


_NUMBER: Final = st.integers(0, 40)

SCHEDULES: Final = st.builds(
    Schedule,
    flow=st.sampled_from(FLOWS),
    duplicates=st.integers(0, 2),
    echoes=st.sampled_from((True, True, False)),
    faults=_some(st.sampled_from(_MUTATIONS + _MUTATIONS + _READS).flatmap(_fault), 3),
    crashes=_some(st.tuples(_NUMBER, st.sampled_from(("before", "after"))), 3),
    slow=_some(st.tuples(_NUMBER, st.sampled_from((20, 160, 301, 900))), 2),
    unavailable=_some(_NUMBER, 2),
    uncompleted=_some(st.tuples(_NUMBER, st.sampled_from(("at once", "later"))), 2),
    held=_some(_NUMBER, 2),
    recovery=st.sampled_from(("at once", "later")),
    order=_some(st.integers(0, 17), 4),
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
    faults = [
        fault(
            route,
            name,
            nth=nth,
            **{key: list(value) if isinstance(value, tuple) else value for key, value in more},
        )
        for route, name, nth, more in schedule.faults
    ]
    base = bare_estate if schedule.flow == "protect" else protected_estate
    scenario = base("orders", "billing", faults=faults, echoActivityId=schedule.echoes)
    with open_faulty(scenario, schedule.plan, SETTINGS, order=schedule.order) as estate:
        for request in requests_of(estate, schedule.flow):
            estate.submit(request)
            for _ in range(schedule.duplicates):
                estate.send(request)
        estate.quiesce()
        estate.check(two_answers=schedule.disturbed and bool(schedule.faults))
        if not schedule.disturbed:
            estate.check_retry_after()
        if tally is not None:
            tally.schedules += 1
            tally.crashes += estate.crashes
            for outcome in estate.outcomes():
                status = outcome["data"]["status"]
                tally.statuses[status] = tally.statuses.get(status, 0) + 1
