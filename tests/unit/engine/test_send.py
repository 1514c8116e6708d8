"""What a step came to, as messages: to whom, when and under which claim."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from shared.azure_backup.models import StartedOperation
from shared.engine.claim import claim
from shared.engine.effect import Effect
from shared.engine.message import (
    DecidedEffect,
    Ending,
    FollowedJob,
    FollowedOperation,
    Following,
    StepMessage,
)
from shared.engine.parking import answer_and_park
from shared.engine.result import (
    Continue,
    End,
    FanOut,
    FollowJob,
    FollowOperation,
    Later,
    NextEffect,
    Result,
    To,
)
from shared.engine.send import hand_over, messages_of, next_tick, on_tick
from shared.engine.table import Row, TableError
from shared.messages.error_codes import ErrorCode
from shared.messages.events import ErrorInfo, Status
from shared.steps.payloads import BackupTask, VaultTask
from shared.workflows import TABLE
from tests.unit.app import OUTCOMES, App, RecordingBus, open_app
from tests.unit.examples import (
    CONTAINER,
    HOUR,
    MINUTE,
    NOW,
    VAULT,
    S,
    backup_message,
    request,
    restore_message,
    selection,
)

BACKUP = TABLE.rows["trigger_backup"]
WHY = ErrorInfo(code="Odd", message="It failed.")
FAILED = End(Status.FAILED, WHY)
UNKNOWN = End(Status.UNKNOWN, WHY)


def tracked(followed: Any = None, **changes: Any) -> StepMessage[Following]:
    """A message to the tracker, for a backup."""
    message = backup_message(**changes)
    claimed = claim(message, followed or FollowedJob(job_id="job-1"), at=NOW, deadline=NOW + HOUR)
    return claimed.model_copy(update={"payload": claimed.payload.model_copy(update={"not_before": NOW})})


def sent(
    app: App, result: Result, message: StepMessage[Any] | None = None, row: Row = BACKUP
) -> tuple[list[Any], list[tuple[StepMessage[Any], timedelta]]]:
    """The events, and the messages to steps with their delays."""
    events, messages = messages_of(row, message or backup_message(), result, app.runtime)
    return [*events], [*messages]


def one(app: App, result: Result, message: StepMessage[Any] | None = None, row: Row = BACKUP) -> Any:
    events, ((following, delay),) = sent(app, result, message, row)
    assert not events
    return following, delay


# -- what goes on


def test_nothing_is_sent_that_the_row_does_not_list(app: App) -> None:
    with pytest.raises(TableError):
        sent(app, Continue((To("trigger_restore", backup_message().payload),)))


def test_what_goes_on_is_sent_with_its_delay_and_its_request(app: App) -> None:
    other = request(id="other")
    to = To("trigger_backup", backup_message("billing").payload, MINUTE, request=other, look_first=True)
    row = TABLE.rows["select_items"]
    following, delay = one(app, Continue((to,)), backup_message(step="select_items"), row)
    assert (following.step, following.sender, delay) == ("trigger_backup", "select_items", MINUTE)
    assert (following.at, following.since, following.request) == (NOW, NOW + MINUTE, other)
    assert following.effect == Effect(look_first=True)


def test_a_step_that_follows_on_itself_goes_on_with_its_next_effect(app: App) -> None:
    row = TABLE.rows["ensure_vault"]
    to = Continue((To("ensure_vault", backup_message().payload),))
    message = backup_message(step="ensure_vault", effect=Effect(n=2))
    assert one(app, to, message, row)[0].effect == Effect(n=3)
    followed = claim(message, FollowedOperation(), at=NOW, deadline=NOW)
    assert one(app, to, followed, row)[0].effect == Effect(n=3)


def test_a_fan_out_is_made_as_it_is_sent(app: App) -> None:
    payload = backup_message().payload
    fan_out = FanOut(range(300), lambda number, _: To("trigger_backup", payload, number * S))
    row = TABLE.rows["select_items"]
    _, messages = messages_of(row, backup_message(step="select_items"), Continue(fan_out), app.runtime)
    assert len(messages) == 300
    assert [delay for _, delay in messages[100:103]] == [100 * S, 101 * S, 102 * S]
    assert messages[7][1] == 7 * S


def test_what_comes_back_is_the_same_message_with_what_is_known(app: App) -> None:
    later = Later(MINUTE, Effect(looks=1), backup_message("other").payload, attempt=2, failing_since=NOW)
    again, delay = one(app, later)
    assert (again.poll, again.attempt, again.failing_since, delay) == (1, 2, NOW, MINUTE)
    assert (again.effect, again.payload) == (Effect(looks=1), backup_message("other").payload)
    assert one(app, Later(MINUTE))[0].payload == backup_message().payload


@pytest.mark.parametrize(("waiting", "delay"), [(True, MINUTE), (False, timedelta())])
def test_the_next_effect_is_claimed_before_it_is_made(app: App, waiting: bool, delay: timedelta) -> None:
    claimed, at_once = one(app, NextEffect(waiting=waiting, why=WHY))
    assert (claimed.step, at_once) == ("track", timedelta())
    repetition = claimed.payload.followed
    assert repetition == DecidedEffect(effect=Effect(n=2, waiting=waiting, why=WHY), since=NOW)
    made, later = one(app, repetition, claimed)
    assert (made.step, made.sender, made.effect.n, later) == ("trigger_backup", "track", 2, delay)
    # The tracker has the claim already.
    made, later = one(app, NextEffect(waiting=waiting), tracked())
    assert (made.step, made.effect.n, later) == ("trigger_backup", 2, delay)


@pytest.mark.parametrize(("job_timeout", "limit"), [(None, timedelta(days=7)), (HOUR, HOUR)])
def test_a_job_is_followed_for_as_long_as_its_request_says(
    app: App, job_timeout: timedelta | None, limit: timedelta
) -> None:
    asked = request(job_timeout=job_timeout)
    for message in (backup_message(request=asked), tracked(FollowedOperation(), request=asked)):
        following, delay = one(app, FollowJob("job-2"), message)
        assert (following.step, delay) == ("track", timedelta())
        assert following.payload.followed == FollowedJob(job_id="job-2")
        assert (following.payload.deadline, following.payload.not_before) == (NOW + limit, None)


@pytest.mark.parametrize(
    ("asked", "delay"), [(None, 30 * S), (10 * S, 30 * S), (40 * S, MINUTE), (2 * HOUR, 2 * HOUR)], ids=str
)
def test_an_operation_is_asked_on_the_first_tick_that_it_allows(
    app: App, asked: timedelta | None, delay: timedelta
) -> None:
    operation = StartedOperation(status=202, location_url="https://a", retry_after=asked)
    runtime = replace(app.runtime, settings=replace(app.runtime.settings, track_interval=30 * S))
    result = FollowOperation(operation, backup_message("other").payload)
    _, ((following, wait),) = messages_of(BACKUP, backup_message(), result, runtime)
    assert (following.payload.followed, wait) == (FollowedOperation(location_url="https://a"), delay)
    assert following.payload.not_before == (NOW + asked if asked else None)
    assert following.payload.deadline == NOW + 2 * HOUR
    assert following.payload.payload == backup_message("other").payload


def test_an_operation_that_may_be_asked_only_after_its_deadline_is_over(app: App) -> None:
    operation = StartedOperation(status=202, location_url="https://a", retry_after=2 * HOUR + S)
    following, delay = one(app, FollowOperation(operation, backup_message().payload))
    assert (following.payload.followed.status, delay) == (Status.TIMED_OUT, timedelta())


def test_the_time_that_only_this_machine_tells_is_not_passed_on() -> None:
    with open_app(start=NOW + HOUR) as app:
        assert one(app, Later(MINUTE))[0].at == NOW


# -- ticks


def test_polls_meet_on_ticks() -> None:
    tick = 30 * S
    assert on_tick(NOW, timedelta(), tick) == timedelta()
    assert on_tick(NOW, S, tick) == 30 * S
    assert on_tick(NOW + 0.5 * S, timedelta(), tick) == 29.5 * S
    assert on_tick(NOW, 20 * S, tick, since=NOW - 5 * S) == 25 * S


def test_the_next_tick_is_the_next_though_this_one_was_not_quite_met() -> None:
    tick = 30 * S
    assert next_tick(NOW, tick) == next_tick(NOW, tick, since=NOW) == 30 * S
    # a little early, or rather late
    assert next_tick(NOW - S, tick) == 31 * S
    assert next_tick(NOW + 14 * S, tick) == 16 * S
    assert next_tick(NOW + 16 * S, tick) == 44 * S
    # from a listing it is never early
    assert next_tick(NOW + 28 * S, tick, since=NOW) == 2 * S
    assert next_tick(NOW + 28.55 * S, tick, since=NOW) == 31.45 * S


# -- what it ends in


def straight(app: App, end: End, message: StepMessage[Any], row: Row = BACKUP) -> bool:
    """Whether the outcome is told at once, instead of by a message that whoever goes on may forestall."""
    events, messages = sent(app, end, message, row)
    assert bool(events) is not bool(messages)
    return bool(events)


def test_an_end_that_nobody_may_contradict_is_told_at_once(app: App) -> None:
    assert straight(app, FAILED, backup_message())
    assert straight(app, FAILED, tracked())
    assert straight(app, UNKNOWN, tracked(Ending(status=Status.UNKNOWN)))
    assert straight(app, UNKNOWN, backup_message(ending=Ending(status=Status.UNKNOWN)))


def test_an_end_that_another_delivery_may_contradict_goes_the_way_of_going_on(app: App) -> None:
    doubtful = Effect(may_have_started=True)
    assert not straight(app, UNKNOWN, backup_message())
    assert not straight(app, replace(FAILED, called=True), backup_message())
    assert not straight(app, FAILED, backup_message(effect=doubtful))
    assert not straight(app, UNKNOWN, tracked())
    assert not straight(app, FAILED, tracked().learned(doubtful))
    # Of a step without a job a doubt is none, and a refusal is what it says.
    vault_step = TABLE.rows["ensure_vault"]
    assert straight(app, UNKNOWN, backup_message(step="ensure_vault"), vault_step)
    assert straight(app, replace(FAILED, called=True), backup_message(step="ensure_vault"), vault_step)


def test_a_doubt_of_the_tracker_is_decided_by_its_next_delivery(app: App) -> None:
    following, delay = one(app, UNKNOWN, tracked())
    assert (following.payload.followed, following.payload.not_before) == (
        Ending(status=Status.UNKNOWN, error=WHY),
        None,
    )
    assert delay == timedelta()


def test_an_end_waits_as_long_as_a_request_that_went_on_may_take_to_be_accepted(app: App) -> None:
    doubtful = Effect(may_have_started=True)
    vault_step = TABLE.rows["ensure_vault"]
    assert one(app, FAILED, backup_message(effect=doubtful))[1] == timedelta()
    message = backup_message(step="ensure_vault", effect=doubtful)
    assert one(app, FAILED, message, vault_step)[1] == 30 * MINUTE
    # A selection that ends does so in the place of its own message; another way on is waited for.
    for step, effect, wait in (
        ("select_items", Effect(), timedelta()),
        ("select_items", doubtful, timedelta()),
        ("select_databases", Effect(), timedelta()),
        ("select_databases", doubtful, 30 * MINUTE),
    ):
        following, delay = one(app, FAILED, backup_message(step=step, effect=effect), TABLE.rows[step])
        assert (following.step, following.ending, delay) == (
            step,
            Ending(status=Status.FAILED, error=WHY),
            wait,
        )


def test_of_a_call_apart_the_reading_ends_as_its_call_would_have_gone_on(app: App) -> None:
    row = TABLE.rows["trigger_restore"]
    again, _ = one(app, FAILED, restore_message(), row)
    assert (again.step, again.poll, again.ending) == (
        "trigger_restore",
        1,
        Ending(status=Status.FAILED, error=WHY),
    )
    assert straight(app, FAILED, again, row)
    assert straight(app, FAILED, restore_message(effect=Effect(ready=True)), row)


def test_what_nobody_waits_for_is_logged_where_it_failed(app: App, caplog: pytest.LogCaptureFixture) -> None:
    inquiry = VaultTask(vault_id=VAULT, container_id=CONTAINER.path)
    message = backup_message(step="survey_vault").model_copy(update={"payload": inquiry})
    row = TABLE.rows["survey_vault"]
    assert sent(app, End(Status.SUCCEEDED), message, row) == ([], [])
    assert not caplog.records
    assert sent(app, FAILED, message, row) == ([], [])
    assert "It failed." in caplog.text


def test_the_end_of_one_may_set_another_going_whoever_tells_it(app: App) -> None:
    to = To("trigger_restore", backup_message("next").payload, MINUTE)
    row = replace(
        TABLE.rows["trigger_restore"], sets_going=lambda _message: to, conclude=lambda _message, end: end
    )
    (event,), ((following, delay),) = sent(app, FAILED, restore_message(effect=Effect(n=2, ready=True)), row)
    assert event.type.endswith("failed.v1")
    assert (following.step, following.sender, delay) == ("trigger_restore", "outcome", MINUTE)
    assert (following.effect, following.payload) == (Effect(), to.payload)


def test_a_vault_whose_survey_is_given_up_may_have_been_surveyed(app: App) -> None:
    message = backup_message(step="survey_vault").model_copy(update={"payload": VaultTask(vault_id=VAULT)})
    answer_and_park(
        app.delivery("survey-vault", message.model_dump(mode="json", by_alias=True)), app.runtime, WHY
    )
    assert not app.held(OUTCOMES)
    (held,) = app.held("track")
    assert held.scheduled_for == NOW + 30 * MINUTE


# -- onto the bus


def backup_of(name: str, policy: str = "Daily") -> BackupTask:
    return backup_message(name).payload.model_copy(update={"policy_name": policy})


def fan_out(*tasks: BackupTask) -> Continue:
    return Continue([To("trigger_backup", task) for task in tasks])


def test_what_is_too_large_for_the_broker_harms_only_itself(app: App) -> None:
    bus = RecordingBus(largest=3000)
    message = selection("a", "b", "c")
    result = fan_out(backup_of("a"), backup_of("b", "x" * 3000), backup_of("c"))
    hand_over(TABLE.rows["select_items"], message, result, replace(app.runtime, bus=bus))
    assert [sent.entity for sent in bus.sent] == ["trigger-backup", "job-outcomes", "trigger-backup"]
    assert b'"MessageTooLarge"' in bus.sent[1].body
    assert b"cannot be carried further: too large" in bus.sent[1].body
    assert b'"failed"' in bus.sent[1].body


def test_what_no_message_can_be_made_of_harms_only_itself(app: App) -> None:
    bus = RecordingBus()
    result = fan_out(backup_of("a"), backup_of("b", "\udc80"))
    hand_over(
        TABLE.rows["select_items"], backup_message(step="select_items"), result, replace(app.runtime, bus=bus)
    )
    assert [sent.entity for sent in bus.sent] == ["trigger-backup", "job-outcomes"]
    assert ErrorCode.FAILED_INTERNAL.encode() in bus.sent[1].body
    assert b"Error while a message was made of it" in bus.sent[1].body
    # A message holds what is known, and no more.
    assert b"null" not in bus.sent[0].body


def test_what_cannot_be_carried_on_after_a_call_leaves_a_doubt(app: App) -> None:
    bus = RecordingBus(largest=3000)
    later = Later(MINUTE, payload=backup_of("b", "x" * 3000))
    hand_over(BACKUP, backup_message(), later, replace(app.runtime, bus=bus))
    (told,) = bus.sent
    assert b'"unknown"' in told.body


def test_many_events_are_sent_in_portions_and_before_everything_else(app: App) -> None:
    bus = RecordingBus()
    events = tuple(sent(app, FAILED, backup_message(f"db{number}"))[0][0] for number in range(250))
    result = replace(
        fan_out(*(backup_of(f"new{number}") for number in range(150))),
        events=events[:249],
        accepted=events[249],
    )
    hand_over(
        TABLE.rows["select_items"], backup_message(step="select_items"), result, replace(app.runtime, bus=bus)
    )
    entities = [message.entity for message in bus.sent]
    assert entities == ["job-outcomes"] * 249 + ["trigger-backup"] * 150 + ["job-outcomes"]
    assert len({message.message_id for message in bus.sent}) == 400
