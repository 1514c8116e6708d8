"""A doubt is published only once nobody who may know better is on the way."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from shared.bus import BusError, BusUnavailableError, OutgoingMessage
from shared.engine.claim import claim
from shared.engine.message import Ending, FollowedJob, StepMessage
from shared.engine.result import Later
from shared.engine.runtime import Runtime
from shared.following.batch import handle_batch
from shared.following.doubts import outstanding, part_of, wait
from shared.messages.events import Status
from shared.workflows import TABLE
from tests.unit.app import OUTCOMES, App
from tests.unit.examples import HOUR, MINUTE, NOW, backup_message, body_of, request

DAY = timedelta(days=1)


def tracked(
    followed: Any, database: str = "orders", *, age: timedelta = timedelta(), **asked: Any
) -> StepMessage[Any]:
    message = backup_message(database, request=request(**asked))
    return claim(message, followed, at=NOW - age, deadline=NOW)


def doubt(database: str = "orders", *, age: timedelta = timedelta(), **asked: Any) -> StepMessage[Any]:
    return tracked(Ending(status=Status.UNKNOWN), database, age=age, **asked)


def job(database: str = "orders", **asked: Any) -> StepMessage[Any]:
    return tracked(FollowedJob(job_id="job-1"), database, **asked)


def put(app: App, *messages: StepMessage[Any]) -> None:
    """Put messages into the queues of their steps."""
    for number, message in enumerate(messages):
        queue = message.step.replace("_", "-")
        body = message.model_dump_json(by_alias=True).encode()
        app.runtime.bus.send([OutgoingMessage(entity=queue, body=body, message_id=f"{queue}-{number}")])


def test_a_doubt_waits_for_whoever_is_on_the_way_for_its_part_of_its_request(app: App) -> None:
    put(app, job("orders"), job("billing"), doubt("stock"), doubt("orders"))
    put(app, backup_message("payroll"))
    app.runtime.bus.send([OutgoingMessage(entity="track", body=b"no json", message_id="odd")])
    doubts = [doubt(name) for name in ("orders", "stock", "payroll", "missing")]
    # One of another request, or of another of its epochs, says nothing of this one.
    others = [doubt("billing", id="backup-2"), doubt("billing", epoch=1)]
    expected = {part_of(doubts[0]), part_of(doubts[2])}
    assert outstanding([*doubts, *others, job("billing")], app.runtime) == expected
    told = tracked(Ending(status=Status.FAILED))
    assert outstanding([told, job(), backup_message()], app.runtime) == frozenset()


def test_a_doubt_waits_no_longer_than_a_job_may_take(app: App) -> None:
    """Four waits are a quarter of an hour; what stood still does not count, however old the doubt is."""
    put(app, job())

    def waits(attempt: int, **asked: Any) -> bool:
        old = doubt(age=30 * DAY, **asked).model_copy(update={"attempt": attempt})
        return bool(outstanding([old], app.runtime))

    quarters = int(7 * DAY / (15 * MINUTE))
    assert (waits(0), waits(3 + quarters), waits(4 + quarters)) == (True, True, False)
    assert (waits(7, job_timeout=HOUR), waits(8, job_timeout=HOUR)) == (True, False)


class Blind:
    """A bus whose queues cannot be looked into."""

    def __init__(self, app: App, error: BusError) -> None:
        self._error = error
        self.send = app.runtime.bus.send

    def peek(self, _queue: str) -> list[bytes]:
        raise self._error


def blind(app: App, error: BusError) -> Runtime:
    return replace(app.runtime, bus=Blind(app, error))


def test_doubts_wait_while_queues_cannot_be_looked_into_and_not_where_they_never_can(app: App) -> None:
    away, forbidden = BusUnavailableError("busy"), BusError("no right")
    assert outstanding([doubt(), job("billing")], blind(app, away)) == {part_of(doubt())}
    assert outstanding([doubt()], blind(app, forbidden)) == frozenset()


class Slow:
    """A bus whose queues are empty, which takes a while to tell."""

    def __init__(self, app: App, takes: timedelta) -> None:
        self._clock, self._takes = app.clock, takes
        self.send = app.runtime.bus.send

    def peek(self, _queue: str) -> list[bytes]:
        self._clock.advance(self._takes)
        return []


def test_doubts_wait_where_the_queues_cannot_be_looked_through_in_half_a_minute(app: App) -> None:
    """The tracker's queue, the step's, and the tracker's again: the third is not looked into later than that."""
    quarter, longer = timedelta(seconds=15), timedelta(seconds=15.1)
    assert outstanding([doubt()], replace(app.runtime, bus=Slow(app, quarter))) == frozenset()
    assert outstanding([doubt()], replace(app.runtime, bus=Slow(app, longer))) == {part_of(doubt())}


def test_waits_grow_to_a_quarter_of_an_hour() -> None:
    waits = [wait(doubt().model_copy(update={"attempt": attempt})) for attempt in (0, 1, 3, 4, 99)]
    assert [later.delay / MINUTE for later in waits] == [1, 2, 8, 15, 15]
    assert waits[1] == Later(2 * MINUTE, payload=waits[1].payload, attempt=2)


def test_a_doubt_that_waits_takes_the_place_of_no_poll() -> None:
    waiting = wait(doubt()).payload
    assert waiting is not None
    assert waiting.is_waiting_doubt
    assert not any(message.payload.is_waiting_doubt for message in (doubt(), job(), backup_message()))


def test_what_waits_is_requeued_and_all_else_is_published(app: App) -> None:
    put(app, job("orders"))
    messages = [
        doubt("orders"),
        doubt("billing"),
        tracked(Ending(status=Status.FAILED), "orders", id="backup-2"),
    ]
    deliveries = [
        app.delivery("track", body_of(message), message_id=f"m{number}")
        for number, message in enumerate(messages)
    ]
    handle_batch(deliveries, app.runtime)
    told = {event["data"]["database"]: event["data"]["status"] for event in app.bodies(OUTCOMES)}
    assert told == {"billing": "unknown", "orders": "failed"}
    (waiting,) = [message for message in app.held("track") if message.scheduled_for is not None]
    assert waiting.scheduled_for == NOW + MINUTE


def test_every_step_that_may_follow_is_looked_at() -> None:
    assert TABLE.onward("trigger_restore") >= {"trigger_restore", "check_drill", "clean_up_drill"}
    assert TABLE.onward("trigger_backup") == {"trigger_backup"}
    assert TABLE.onward("enable_protection") == {"enable_protection", "trigger_backup"}
