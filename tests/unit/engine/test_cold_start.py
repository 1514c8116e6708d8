"""A new process before Azure has first answered it: what it knows of the time is what its machine says."""

from __future__ import annotations

import json
from typing import Any

from shared.clock import ServiceTime
from shared.engine.claim import claim
from shared.engine.message import FollowedJob, StepMessage
from shared.engine.run import handle
from shared.following.batch import handle_batch
from shared.workflows import TABLE
from tests.unit.app import OUTCOMES, App, open_app
from tests.unit.examples import HOUR, NOW, backup_message


def body(message: StepMessage[Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(message.model_dump_json(by_alias=True))
    return found


def statuses(app: App) -> list[str]:
    return [event["data"]["status"] for event in app.bodies(OUTCOMES)]


def test_hours_in_the_queue_are_not_hours_of_failing() -> None:
    with open_app(start=NOW + 5 * HOUR) as app:
        waited = body(backup_message())
        handle(TABLE.rows["trigger_backup"], app.delivery("trigger-backup", waited), app.runtime)
        (again,) = app.bodies("trigger-backup")
        assert again["failingSince"] == "2026-01-05T13:00:00Z"
        # Meanwhile another call has been answered, and says what time it is.
        app.runtime.service_clock.answered(ServiceTime(app.clock.now()))
        app.clock.advance(HOUR)
        handle(TABLE.rows["trigger_backup"], app.delivery("trigger-backup", again), app.runtime)
        assert not app.held("track")
        app.clock.advance(HOUR)
        handle(TABLE.rows["trigger_backup"], app.delivery("trigger-backup", again), app.runtime)
        (end,) = app.bodies("track")
        handle_batch([app.delivery("track", end)], app.runtime)
        assert statuses(app) == ["failed"]


def test_a_job_is_not_over_its_deadline_because_this_machine_says_so() -> None:
    with open_app(start=NOW + 30 * 24 * HOUR) as app:
        poll = body(claim(backup_message(), FollowedJob(job_id="job-1"), at=NOW, deadline=NOW + HOUR))
        handle_batch([app.delivery("track", poll)], app.runtime)
        assert not statuses(app)
        (again,) = app.bodies("track")
        # Nor does it tell the next process so.
        assert again["at"] == poll["at"]
        app.clock.advance(2 * HOUR)
        handle_batch([app.delivery("track", app.taken("track"))], app.runtime)
        # What is decided is told by the next delivery.
        handle_batch([app.delivery("track", app.taken("track"))], app.runtime)
        assert statuses(app) == ["timedOut"]
