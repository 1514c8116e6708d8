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
from shared.engine.run import read_step
from shared.following import batch, doubts
from shared.workflows import TABLE
from tests.faults.estate import BRISK, Crash, FaultyEstate, Plan, open_faulty, protected_estate
from tests.reported.effects import advance

HOUR = timedelta(hours=1)


def no_jobs(method: str, path: str, answer: RawAnswer) -> RawAnswer:
    """The vault lists no job."""
    listed = method == "GET" and path.endswith("/backupJobs")
    return replace(answer, body=b'{"value": []}') if listed else answer


def backup(azure: FaultyEstate) -> JsonObject:
    return azure.backup("orders")


def restore(azure: FaultyEstate) -> JsonObject:
    return azure.restore("orders", target={"kind": "original"}, overwrite=True)


@contextmanager
def doubted(
    ask: Callable[[FaultyEstate], JsonObject], plan: Plan, **settings: str
) -> Iterator[tuple[FaultyEstate, JsonObject]]:
    """A job runs for two days and is followed, and another delivery of its step has come to a doubt."""
    plan.at["send track"] = "after"
    durations = {**BRISK, "backup": 48 * 3600, "restore": 48 * 3600}
    estate = {**protected_estate("orders", durations=durations), "echoActivityId": False}
    given = {"TRACK_INTERVAL": "PT5M", "RESTORE_ALLOW_OVERWRITE": "true", **settings}
    with open_faulty(estate, plan, given) as azure:
        azure.submit(request := ask(azure))
        with pytest.raises(Crash):
            advance(azure, HOUR)
        azure.clock.advance(2 * HOUR)
        azure.restart(release=True)
        plan.mangle = no_jobs
        advance(azure, HOUR)
        plan.mangle = None
        yield azure, request


@pytest.mark.parametrize("ask", [backup, restore])
@pytest.mark.parametrize("interval", ["PT5M", "PT163M", "PT187M", "PT199M"])
def test_a_doubt_waits_for_whoever_follows_the_job(
    ask: Callable[[FaultyEstate], JsonObject], interval: str
) -> None:
    """However seldom that one polls: its polls have other ids than those of the doubt."""
    with doubted(ask, Plan(), TRACK_INTERVAL=interval) as (azure, request):
        assert not azure.outcomes()
        azure.quiesce()
        assert azure.outcome(request)["status"] == "succeeded"


@pytest.mark.parametrize("why", [UnknownEntityError, BusError])
@pytest.mark.parametrize("hidden", ["check-drill", "clean-up-drill"])
def test_a_queue_that_is_not_there_or_not_to_be_seen_hides_no_other(hidden: str, why: type[BusError]) -> None:
    """An app that serves `restore` alone has no queues of drills."""
    with doubted(restore, Plan(hidden={hidden: why}), WORKFLOWS="restore") as (azure, request):
        assert not azure.outcomes()
        azure.quiesce()
        assert azure.outcome(request)["status"] == "succeeded"


def test_whoever_may_look_into_no_queue_tells_it_at_once() -> None:
    hidden = {"trigger-backup": BusError, TRACK: BusError}
    with doubted(backup, Plan(hidden=hidden)) as (azure, request):
        assert azure.outcome(request)["status"] == "unknown"


def bodies(azure: FaultyEstate) -> list[bytes]:
    """What follows the job, and the doubt."""
    found = (message.body for message in azure.broker.peek(TRACK))
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
    with doubted(backup, Plan()) as (azure, _):
        followed, doubt = bodies(azure)
        step = next(message.body for message in azure.bus.sent if message.entity == "trigger-backup")
        bus = Passing({"trigger-backup": step, TRACK: followed}, start, goes_at)
        told = read_step(TABLE.row(TRACK), doubt, TABLE)
        assert doubts.is_doubt(told)
        runtime = replace(azure.runtime, bus=bus)
        assert doubts.outstanding([told], runtime) == {doubts.part_of(told)}


def test_a_queue_that_takes_too_long_to_be_looked_through_is_given_up_and_the_doubt_waits() -> None:
    with doubted(backup, Plan()) as (azure, _):
        _, doubt = bodies(azure)

        class Endless(Passing):
            def peek(self, queue: str) -> Iterator[bytes]:  # type: ignore[override]
                while True:
                    azure.clock.advance(timedelta(seconds=1))
                    yield doubt

        began = azure.clock.monotonic()
        told = read_step(TABLE.row(TRACK), doubt, TABLE)
        runtime = replace(azure.runtime, bus=Endless({}, TRACK, 0))
        assert doubts.outstanding([told], runtime) == {doubts.part_of(told)}
        assert azure.clock.monotonic() - began < batch.LONGEST_WORK.total_seconds()


@pytest.mark.parametrize(
    ("what", "newer"), [(b'"version":2', b'"version":3'), (b'"origin":"trigger_backup"', b'"origin":"weigh"')]
)
def test_what_only_a_newer_app_understands_is_waited_for(what: bytes, newer: bytes) -> None:
    """A deployment was taken back, and that app's message follows the job."""
    with doubted(backup, Plan()) as (azure, _):
        followed, doubt = bodies(azure)
        told = read_step(TABLE.row(TRACK), doubt, TABLE)
        changed = followed.replace(what, newer)
        assert changed != followed
        runtime = replace(azure.runtime, bus=Passing({TRACK: changed}, TRACK, 99))
        assert doubts.outstanding([told], runtime) == {doubts.part_of(told)}
        of_another = changed.replace(told.request.id.encode(), b"another")
        runtime = replace(azure.runtime, bus=Passing({TRACK: of_another}, TRACK, 99))
        assert not doubts.outstanding([told], runtime)


def test_a_doubt_is_told_however_late_its_batch_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """To tell it takes no call to Azure."""
    hidden = {"trigger-backup": BusError, TRACK: BusError}
    monkeypatch.setattr(batch, "LONGEST_WORK", timedelta(seconds=-1))
    with doubted(backup, Plan(hidden=hidden), TRACK_INTERVAL="PT9H") as (azure, request):
        assert azure.outcome(request)["status"] == "unknown"
