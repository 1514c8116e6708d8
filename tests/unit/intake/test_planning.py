"""Scheduled backups: each occurrence of the next day planned once, dropped or skipped where it must be."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from local.broker import PeekedMessage, ReceivedMessage
from shared import composition, triggers
from shared.clock import MachineTime
from shared.engine.run import handle
from shared.intake.planning import plan_backups
from shared.settings import SettingsError
from shared.workflows import TABLE
from tests.unit.app import OUTCOMES, App, open_app
from tests.unit.examples import NOW
from tests.unit.test_schedules import entry

QUARTER = timedelta(minutes=15)


def settings(**changes: Any) -> dict[str, str]:
    return {"BACKUP_SCHEDULES": json.dumps([entry(**{"schedule": "0 0 */6 * * *", **changes})])}


def take(app: App, message: ReceivedMessage | PeekedMessage) -> None:
    """Hand a planned message to its step, in an app whose Azure does not answer: what is wanted comes back."""
    delivery = app.delivery("select-items", message.body, message_id=message.message_id)
    handle(TABLE.rows["select_items"], delivery, app.runtime)


def take_next(app: App) -> None:
    (message,) = app.broker.receive("select-items")
    take(app, message)
    app.broker.complete("select-items", message.lock_token)


def polls(app: App) -> list[int]:
    return [body["poll"] for body in app.bodies("select-items")]


def test_a_day_is_planned_ahead_and_twice_is_once() -> None:
    with open_app(settings()) as app:
        for _ in range(3):
            plan_backups(app.runtime)
        planned = app.held("select-items")
        assert [message.scheduled_for for message in planned] == [
            NOW.replace(hour=0) + timedelta(hours=hours) for hours in (12, 18, 24, 30)
        ]


@pytest.mark.parametrize("name", ["plan_backups", "plan_coverage", "plan_drills"])
def test_each_run_of_a_timer_leaves_a_line_that_the_watchdog_sees(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with open_app({}) as app:
        composition.install(app.runtime)
        try:
            triggers.plan(name, past_due=False)
        finally:
            composition.install(None)
    (line,) = [record.getMessage() for record in caplog.records if "planned" in record.getMessage()]
    assert line.startswith(f"the schedules are planned [action={name} ")
    assert line.endswith(" occurrences=0]")


def test_a_timer_says_which_settings_cannot_be_used(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOB_TIMEOUT", "a week")
    with pytest.raises(SettingsError):
        triggers.plan("plan_backups", past_due=False)
    # The alert `settings-unusable` looks for lines that begin so.
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert line.startswith("the settings cannot be used: ")
    assert "JOB_TIMEOUT" in line


@pytest.mark.parametrize("stalls", [1, 13, 90], ids=lambda quarters: f"every {quarters} quarters")
def test_a_timer_that_fires_late_or_often_loses_and_doubles_nothing(stalls: int) -> None:
    with open_app(settings()) as app:
        for _ in range(5 * 96 // stalls):
            plan_backups(app.runtime)
            app.clock.advance(stalls * QUARTER)
        due = [body["request"]["id"] for body in app.bodies("select-items")]
        assert len(due) == len(set(due))
        days = (app.clock.now() - MachineTime(NOW)) / timedelta(days=1)
        assert len(due) >= int(days * 4)


def test_a_due_occurrence_is_a_request_of_the_app_s_own_that_names_its_schedule() -> None:
    with open_app(settings()) as app:
        plan_backups(app.runtime)
        request = app.bodies("select-items")[0]["request"]
        assert request["schedule"] == "Nightly"
        assert request["source"] == "sql-vm-backup-functions/schedules"
        assert request["id"] == "Nightly/2026-01-05T12:00:00Z"
        app.clock.advance_to(NOW.replace(hour=12))
        take_next(app)
        assert sorted(polls(app)) == [0, 0, 0, 1], "Azure is asked for what is due"


def test_an_occurrence_of_a_changed_or_removed_schedule_is_dropped() -> None:
    with open_app(settings()) as app:
        plan_backups(app.runtime)
        app.clock.advance_to(NOW.replace(hour=12))
        (message,) = [item for item in app.held("select-items") if item.scheduled_for == app.clock.now()]
        for other in (settings(schedule="0 0 */8 * * *"), settings(name="Other"), {}):
            with open_app(other, app.clock.now()) as changed:
                take(changed, message)
                assert not changed.held("select-items")
                assert not changed.held(OUTCOMES)
        with open_app(settings(), app.clock.now()) as same:
            take(same, message)
            assert polls(same) == [1]


def test_one_that_is_too_late_is_skipped_and_says_so() -> None:
    with open_app(settings(maxLateness="PT30M")) as app:
        plan_backups(app.runtime)
        first, second = app.held("select-items")[:2]
        app.clock.advance_to(NOW.replace(hour=12, minute=30))
        take(app, first)
        assert max(polls(app)) == 1
        assert not app.held(OUTCOMES)
        app.clock.advance_to(NOW.replace(hour=18, minute=30, second=1))
        take(app, second)
        # It ends where it would have gone on.
        (end,) = [item for item in app.held("select-items") if b'"ending"' in item.body]
        take(app, end)
        assert sorted(polls(app)) == [0, 0, 0, 0, 0, 1]
        (outcome,) = app.bodies(OUTCOMES)
        assert outcome["type"] == "sqlvmbackup.backup.skipped.v1"
        assert outcome["data"]["error"]["code"] == "TooLate"
        assert outcome["data"]["schedule"] == "Nightly"
        assert "due at 2026-01-05T18:00:00Z" in outcome["data"]["error"]["message"]


def test_one_that_began_in_time_goes_on_however_long_azure_is_gone() -> None:
    with open_app(settings(maxLateness="PT30M")) as app:
        plan_backups(app.runtime)
        first = app.held("select-items")[0]
        app.clock.advance_to(NOW.replace(hour=12))
        take(app, first)
        app.clock.advance_to(NOW.replace(hour=13, minute=15))
        (again,) = [item for item in app.held("select-items") if json.loads(item.body)["poll"] == 1]
        take(app, again)
        assert max(polls(app)) == 2
        assert not app.held(OUTCOMES)
