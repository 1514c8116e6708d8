"""A doubt that another message of its request contradicts later: it waits, wherever the other one is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from local.estate import JsonObject
from shared.arm.transport import RawAnswer
from shared.bus import BusError, OutgoingMessage, UnknownEntityError
from shared.bus.topology import TRACK
from shared.engine.table import read_step
from shared.following import doubts, lookup
from shared.workflows import TABLE
from tests.faults.estate import BRISK, Crash, FaultyEstate, Plan, open_faulty, protected_estate
from tests.reported.effects import advance

HOUR = timedelta(hours=1)


def no_jobs(method: str, path: str, answer: RawAnswer) -> RawAnswer:
    """The vault lists no job."""
    listed = method == "GET" and path.endswith("/backupJobs")
    return replace(answer, body=b'{"value": []}') if listed else answer


def backup(estate: FaultyEstate) -> JsonObject:
    return estate.backup("orders")


def restore(estate: FaultyEstate) -> JsonObject:
    return estate.restore("orders", target={"kind": "original"}, overwrite=True)


@contextmanager
def doubted(
    ask: Callable[[FaultyEstate], JsonObject], plan: Plan, **settings: str
) -> Iterator[tuple[FaultyEstate, JsonObject]]:
    """A job runs for two days and is followed, and another delivery of its step has come to a doubt."""
    plan.at["send track"] = "after"
    durations = {**BRISK, "backup": 48 * 3600, "restore": 48 * 3600}
    scenario = {**protected_estate("orders", durations=durations), "echoActivityId": False}
    given = {"TRACK_INTERVAL": "PT5M", "RESTORE_ALLOW_OVERWRITE": "true", **settings}
    with open_faulty(scenario, plan, given) as estate:
        estate.submit(request := ask(estate))
        with pytest.raises(Crash):
            advance(estate, HOUR)
        estate.clock.advance(2 * HOUR)
        estate.restart(release=True)
        plan.mangle = no_jobs
        advance(estate, HOUR)
        plan.mangle = None
        yield estate, request


@pytest.mark.parametrize("ask", [backup, restore])
@pytest.mark.parametrize("interval", ["PT5M", "PT163M", "PT187M", "PT199M"])
def test_a_doubt_waits_for_whoever_follows_the_job(
    ask: Callable[[FaultyEstate], JsonObject], interval: str
) -> None:
    """However seldom that one polls: its polls have other ids than those of the doubt."""
    with doubted(ask, Plan(), TRACK_INTERVAL=interval) as (estate, request):
        assert not estate.outcomes()
        estate.quiesce()
        assert estate.outcome(request)["status"] == "succeeded"


@pytest.mark.parametrize("why", [UnknownEntityError, BusError])
@pytest.mark.parametrize("hidden", ["check-drill", "clean-up-drill"])
def test_a_queue_that_is_not_there_or_not_to_be_seen_hides_no_other(hidden: str, why: type[BusError]) -> None:
    """An app that serves `restore` alone has no queues of drills."""
    with doubted(restore, Plan(hidden={hidden: why}), WORKFLOWS="restore") as (estate, request):
        assert not estate.outcomes()
        estate.quiesce()
        assert estate.outcome(request)["status"] == "succeeded"


def test_whoever_may_look_into_no_queue_tells_it_at_once() -> None:
    hidden = {"trigger-backup": BusError, TRACK: BusError}
    with doubted(backup, Plan(hidden=hidden)) as (estate, request):
        assert estate.outcome(request)["status"] == "unknown"


def bodies(estate: FaultyEstate) -> list[bytes]:
    """What follows the job, and the doubt."""
    found = (message.body for message in estate.broker.peek(TRACK))
    return sorted(found, key=lambda body: b'"kind":"end"' in body)


class Passing:
    """A bus with one message, which goes from one queue to another right before a look."""

    def __init__(self, bodies: Mapping[str, bytes], start: str, goes_at: int) -> None:
        self._bodies = bodies
        self._at = start
        self._goes_at = goes_at
        self._looks = 0

    def send(self, messages: Sequence[OutgoingMessage]) -> None:
        raise AssertionError("a look sends nothing")

    def peek(self, queue: str) -> list[bytes]:
        if self._looks == self._goes_at:
            (self._at,) = self._bodies.keys() - {self._at}
        self._looks += 1
        return [self._bodies[queue]] if queue == self._at else []


@pytest.mark.parametrize("goes_at", range(4))
@pytest.mark.parametrize("start", ["trigger-backup", TRACK])
def test_who_goes_from_queue_to_queue_meanwhile_is_seen(start: str, goes_at: int) -> None:
    """It is in the one before it leaves the other, and yet two looks may miss it: one too late, one too early."""
    with doubted(backup, Plan()) as (estate, _):
        followed, doubt = bodies(estate)
        step = next(message.body for message in estate.bus.sent if message.entity == "trigger-backup")
        bus = Passing({"trigger-backup": step, TRACK: followed}, start, goes_at)
        message = read_step(TABLE.row(TRACK), doubt, TABLE)
        assert doubts.is_doubt(message)
        runtime = replace(estate.runtime, bus=bus)
        assert doubts.outstanding([message], runtime) == {doubts.part_of(message)}


def test_a_queue_that_takes_too_long_to_be_looked_through_is_given_up_and_the_doubt_waits() -> None:
    with doubted(backup, Plan()) as (estate, _):
        _, doubt = bodies(estate)

        class Endless(Passing):
            def peek(self, queue: str) -> Iterator[bytes]:  # type: ignore[override]
                while True:
                    estate.clock.advance(timedelta(seconds=1))
                    yield doubt

        began = estate.clock.monotonic()
        message = read_step(TABLE.row(TRACK), doubt, TABLE)
        runtime = replace(estate.runtime, bus=Endless({}, TRACK, 0))
        assert doubts.outstanding([message], runtime) == {doubts.part_of(message)}
        assert estate.clock.monotonic() - began < lookup.LONGEST_WORK.total_seconds()


@pytest.mark.parametrize(
    ("old", "new"), [(b'"version":2', b'"version":3'), (b'"origin":"trigger_backup"', b'"origin":"weigh"')]
)
def test_what_only_a_newer_app_understands_is_waited_for(old: bytes, new: bytes) -> None:
    """A deployment was taken back, and that app's message follows the job."""
    with doubted(backup, Plan()) as (estate, _):
        followed, doubt = bodies(estate)
        message = read_step(TABLE.row(TRACK), doubt, TABLE)
        changed = followed.replace(old, new)
        assert changed != followed
        runtime = replace(estate.runtime, bus=Passing({TRACK: changed}, TRACK, 99))
        assert doubts.outstanding([message], runtime) == {doubts.part_of(message)}
        of_another = changed.replace(message.request.id.encode(), b"another")
        runtime = replace(estate.runtime, bus=Passing({TRACK: of_another}, TRACK, 99))
        assert not doubts.outstanding([message], runtime)


def test_a_doubt_is_told_however_late_its_batch_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """To tell it takes no call to Azure."""
    hidden = {"trigger-backup": BusError, TRACK: BusError}
    monkeypatch.setattr(lookup, "LONGEST_WORK", timedelta(seconds=-1))
    with doubted(backup, Plan(hidden=hidden), TRACK_INTERVAL="PT9H") as (estate, request):
        assert estate.outcome(request)["status"] == "unknown"
