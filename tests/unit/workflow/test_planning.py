"""Scheduled backups: each occurrence of the next day planned once, dropped or skipped where it must be."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from local.broker import ReceivedMessage
from shared.messages.requests import Operation
from shared.workflow.planning import plan_backups
from shared.workflow.receive import receive_request
from tests.unit.workflow.app import OUTCOMES, App, open_app
from tests.unit.workflow.messages import NOW
from tests.unit.workflow.test_schedules import entry

QUARTER = timedelta(minutes=15)


def settings(**changes: Any) -> dict[str, str]:
    return {"BACKUP_SCHEDULES": json.dumps([entry(**{"schedule": "0 0 */6 * * *", **changes})])}


def take(app: App) -> ReceivedMessage:
    (message,) = app.broker.receive("backup-requests")
    delivery = app.delivery(
        "backup-requests",
        message.body,
        message_id=message.message_id,
        application_properties=message.application_properties,
    )
    receive_request(delivery, app.runtime, Operation.BACKUP)
    app.broker.complete("backup-requests", message.lock_token)
    return message


def test_a_day_is_planned_ahead_and_twice_is_once() -> None:
    with open_app(settings()) as app:
        for _ in range(3):
            plan_backups(app.runtime)
        planned = app.held("backup-requests")
        assert [message.scheduled_for for message in planned] == [
            NOW.replace(hour=0) + timedelta(hours=hours) for hours in (12, 18, 24, 30)
        ]


@pytest.mark.parametrize("stalls", [1, 13, 90], ids=lambda quarters: f"every {quarters} quarters")
def test_a_timer_that_fires_late_or_often_loses_and_doubles_nothing(stalls: int) -> None:
    with open_app(settings()) as app:
        for _ in range(5 * 96 // stalls):
            plan_backups(app.runtime)
            app.clock.advance(stalls * QUARTER)
        due = [json.loads(message.body)["id"] for message in app.held("backup-requests")]
        assert len(due) == len(set(due))
        days = (app.clock.now() - NOW) / timedelta(days=1)
        assert len(due) >= int(days * 4)


def test_a_due_occurrence_becomes_a_request_that_names_its_schedule() -> None:
    with open_app(settings()) as app:
        plan_backups(app.runtime)
        app.clock.advance_to(NOW.replace(hour=12))
        take(app)
        (message,) = app.bodies("select-items")
        assert message["request"]["schedule"] == "Nightly"
        assert message["request"]["id"] == "Nightly/2026-01-05T12:00:00Z"


def test_an_occurrence_of_a_changed_or_removed_schedule_is_dropped() -> None:
    with open_app(settings()) as app:
        plan_backups(app.runtime)
        app.clock.advance_to(NOW.replace(hour=12))
        for other in (settings(schedule="0 0 */8 * * *"), settings(name="Other"), {}):
            with open_app(other) as changed:
                (message,) = [
                    item for item in app.held("backup-requests") if item.scheduled_for == app.clock.now()
                ]
                delivery = changed.delivery(
                    "backup-requests", message.body, application_properties=message.application_properties
                )
                receive_request(delivery, changed.runtime, Operation.BACKUP)
                assert not changed.held("select-items")
                assert not changed.held(OUTCOMES)


def test_one_that_is_too_late_is_skipped_and_says_so() -> None:
    with open_app(settings(maxLateness="PT30M")) as app:
        plan_backups(app.runtime)
        app.clock.advance_to(NOW.replace(hour=12, minute=30))
        take(app)
        assert len(app.held("select-items")) == 1
        app.clock.advance_to(NOW.replace(hour=18, minute=30, second=1))
        take(app)
        assert len(app.held("select-items")) == 1
        (outcome,) = app.bodies(OUTCOMES)
        assert outcome["type"] == "sqlvmbackup.backup.skipped.v1"
        assert outcome["data"]["schedule"] == "Nightly"
        assert "due at 2026-01-05T18:00:00Z" in outcome["data"]["error"]["message"]
