"""What happens around a step, whatever it comes to: its call, the way back to its queue, and the end of what dies."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from shared.arm.budget import JOB_READS, _coming_back, reads_per_hour
from shared.arm.errors import ArmAnswerLostError, ArmError, AuthenticationError
from shared.azure_backup.models import StartedOperation
from shared.azure_backup.operations import AzureBackup
from shared.bus import BusError, BusUnavailableError
from shared.clock import ServiceTime
from shared.engine.effect import Effect
from shared.engine.message import MOST_DEATHS, Ending, StepMessage
from shared.engine.parking import answer_and_park, has_died_too_often
from shared.engine.result import Call, End, FollowJob, FollowOperation, Later, Result
from shared.engine.run import as_delivered, handle, handle_without_effect, requeue_unsent, run
from shared.engine.runtime import Runtime, collaborate, plenty_of_reads, some_reads
from shared.engine.table import Row, read_step
from shared.messages.cloud_events import InvalidMessageError
from shared.messages.error_codes import ErrorCode
from shared.messages.events import ErrorInfo, Status
from shared.messages.reserved import DEATHS, DELIVERED, WAITED, WAITING_SINCE
from shared.steps.payloads import BackupTask
from shared.workflows import TABLE
from tests.unit.app import OUTCOMES, App, refusing
from tests.unit.engine.test_reconcile import marked
from tests.unit.engine.test_retry import answered, failed
from tests.unit.examples import (
    HOUR,
    MINUTE,
    NOW,
    SUBSCRIPTION,
    S,
    backup_message,
    body_of,
    job,
    request,
    restore_message,
    selection,
)
from tests.unit.test_tracing import Recorded, recorded

__all__ = ["recorded"]

#: a step that makes calls of which no job comes, with the payload at hand
ROW = replace(TABLE.rows["ensure_vault"], payload=BackupTask)
BACKUP = TABLE.rows["trigger_backup"]
STARTED = StartedOperation(status=202)


def coming_to(result: Result | Exception, row: Row = ROW) -> Row:
    """A step that comes to this."""

    def step(_message: object, _c: object) -> Result:
        if isinstance(result, Exception):
            raise result
        return result

    return replace(row, run=step)


def ran(
    app: App, row: Row, message: StepMessage[Any] | None = None, runtime: Runtime | None = None
) -> Result:
    message = message or backup_message(step=row.name)
    delivery = app.delivery(row.queue, body_of(message))
    return run(row, message, delivery, runtime or app.runtime)


# -- reading


def test_how_late_a_message_is_worked_on_is_measured(app: App, recorded: Recorded) -> None:
    row = coming_to(End(Status.SUCCEEDED))
    for since in (NOW - 10 * S, NOW + HOUR):
        body = body_of(backup_message(step="ensure_vault", since=since))
        handle(row, app.delivery(row.queue, body), app.runtime)
    assert recorded.sum_of("sqlvmbackup.step.lateness") == 10.0
    (first, *_) = [span for span in recorded.spans if span.name == "process ensure-vault"]
    assert (first.attributes or {})["sqlvmbackup.result"] == "End"


def test_a_message_tells_the_time_until_the_service_does(new_app: App) -> None:
    body = body_of(backup_message(step="ensure_vault", at=NOW + HOUR))
    handle(coming_to(End(Status.SUCCEEDED)), new_app.delivery("ensure-vault", body), new_app.runtime)
    assert new_app.runtime.service_clock.now() == NOW + HOUR


def test_what_is_wrong_with_a_message_is_named_up_to_a_number() -> None:
    body = body_of(backup_message())
    body["request"] = {"operation": "odd", "source": "/tests", "id": "1"}
    with pytest.raises(InvalidMessageError) as raised:
        read_step(BACKUP, json.dumps(body).encode(), TABLE)
    assert [problem.field for problem in raised.value.problems] == ["request.operation"]
    body = body_of(backup_message())
    body["payload"] = {"data": {"databases": [{"strange": 1}] * 30}}
    with pytest.raises(InvalidMessageError) as raised:
        read_step(TABLE.rows["ensure_vault"], json.dumps({**body, "step": "ensure_vault"}).encode(), TABLE)
    assert len(raised.value.problems) == 20


def test_a_delivery_tells_what_it_knows_of_the_effect(app: App) -> None:
    def known(row: Row, effect: Effect, **properties: Any) -> Effect:
        delivery = app.delivery(row.queue, {}, application_properties=properties)
        message = backup_message(step=row.name, effect=effect)
        return as_delivered(row, message, delivery, NOW + MINUTE).effect

    in_doubt = Effect(may_have_started=True, at=NOW, given_up_at=NOW + MINUTE)
    restore = TABLE.rows["trigger_restore"]
    assert known(BACKUP, Effect()) == Effect()
    assert known(BACKUP, Effect(), **{WAITED: 1}) == Effect(look_first=True)
    assert known(BACKUP, Effect(), **{DELIVERED: True}) == in_doubt
    # Its call has a delivery of its own: this one can have made none.
    assert known(restore, Effect(), **{DELIVERED: True}) == Effect()
    ready = known(restore, Effect(ready=True), **{DELIVERED: True})
    assert ready == in_doubt.model_copy(update={"ready": True})


# -- calling


def test_a_call_is_made_while_its_lock_is_sure_to_hold(app: App) -> None:
    made: list[str] = []

    def make(_azure: object, request_id: str) -> StartedOperation:
        made.append(request_id)
        return STARTED

    message = backup_message()
    row = coming_to(Call(make=make), replace(BACKUP, job=None, after_operation="trigger_backup"))
    delivery = app.delivery(row.queue, body_of(message))
    app.clock.advance(150 * S)
    assert run(row, message, delivery, app.runtime) == FollowOperation(STARTED, message.payload)
    assert made == [message.client_request_id]
    app.clock.advance(S)
    assert run(row, message, delivery, app.runtime) == Later(5 * S)
    assert len(made) == 1


def test_what_a_call_is_followed_with_may_differ_from_its_message(app: App) -> None:
    other = backup_message("other").payload
    result = ran(app, coming_to(Call(make=lambda _azure, _id: STARTED, payload=other)))
    assert result == FollowOperation(STARTED, other)


def test_an_answer_at_once_is_what_the_step_makes_of_it(app: App) -> None:
    call = Call(
        make=lambda _azure, _id: "done",
        at_once=lambda answer: End(Status.SUCCEEDED, None) if answer else End(Status.FAILED),
    )
    assert ran(app, coming_to(call)) == End(Status.SUCCEEDED)


def test_a_call_with_a_delivery_of_its_own_is_only_prepared(app: App) -> None:
    other = backup_message("other").payload
    call = Call(make=lambda _azure, _id: STARTED, payload=other)
    restore = coming_to(call, replace(TABLE.rows["trigger_restore"], job=None, after_operation="x"))
    message = backup_message(step="trigger_restore")
    assert ran(app, restore, message) == Later(timedelta(), effect=Effect(ready=True), payload=other)
    assert ran(app, restore, message.learned(Effect(ready=True))) == FollowOperation(STARTED, other)


def test_nothing_is_changed_while_changes_are_off(app: App) -> None:
    runtime = replace(app.runtime, settings=replace(app.runtime.settings, mutations=False))
    end = ran(app, coming_to(Call(make=lambda _azure, _id: pytest.fail("made"))), runtime=runtime)
    assert isinstance(end, End)
    assert end.error is not None
    assert (end.status, end.error.code) == (Status.REJECTED, ErrorCode.MUTATIONS_OFF)


@pytest.mark.parametrize("known", [True, False])
def test_a_lost_call_was_made_when_the_service_or_else_its_message_says(new_app: App, known: bool) -> None:
    new_app.clock.advance(5 * HOUR)
    if known:
        new_app.runtime.service_clock.answered(ServiceTime(new_app.clock.now()))
    later = ran(new_app, coming_to(failed(ArmAnswerLostError)))
    assert isinstance(later, Later)
    assert later.effect is not None
    assert later.effect.at == (new_app.clock.now() if known else NOW)


def test_a_missing_token_is_waited_for(app: App) -> None:
    assert isinstance(ran(app, coming_to(AuthenticationError("no identity"))), Later)


# -- what the vault's jobs prove


class Jobs:
    """Lists these jobs of any vault, or cannot."""

    def __init__(self, *jobs: Any) -> None:
        self._jobs = jobs

    def list_jobs(self, _vault: object, **_: object) -> list[Any]:
        if isinstance(self._jobs[0], ArmError):
            raise self._jobs[0]
        return [*self._jobs]


def with_jobs(app: App, *jobs: Any) -> Runtime:
    return replace(app.runtime, backup=cast("AzureBackup", Jobs(*jobs)))


EXISTS = ErrorInfo(code=ErrorCode.TARGET_DATABASE_EXISTS, message="The target exists.")


def test_its_own_job_is_looked_for_before_the_step_runs(app: App) -> None:
    row = coming_to(End(Status.FAILED), BACKUP)
    message = backup_message(effect=Effect(may_have_started=True))
    assert ran(app, row, message, with_jobs(app, marked(name="mine"))) == FollowJob("mine")


def test_a_refusal_of_the_step_itself_may_prove_an_earlier_effect(app: App) -> None:
    restore = TABLE.rows["trigger_restore"]
    message = restore_message(effect=Effect(n=2, ready=True))
    first = job("first", activity_id=message.client_request_id_of(1, 0), operation="Restore", status="Failed")
    proven = ran(app, coming_to(End(Status.FAILED, EXISTS), restore), message, with_jobs(app, first))
    assert isinstance(proven, End)
    assert proven.status is Status.UNKNOWN
    other = End(Status.FAILED, ErrorInfo(code="Odd", message="It failed."))
    assert ran(app, coming_to(other, restore), message, with_jobs(app, first)) is other
    succeeded = End(Status.SUCCEEDED)
    assert ran(app, coming_to(succeeded, restore), message, with_jobs(app, first)) is succeeded
    # Of a step without jobs nothing is proven.
    again = backup_message(step="ensure_vault", effect=Effect(n=2))
    refusal = End(Status.FAILED, EXISTS)
    assert ran(app, coming_to(refusal), again) is refusal


def test_a_job_that_cannot_be_looked_for_is_looked_for_by_the_next_delivery(app: App) -> None:
    app.runtime.service_clock.answered(NOW)
    message = restore_message(effect=Effect(n=2, ready=True), attempt=1)
    refusal = answered(400, code="UserErrorCannotRestoreExistingDBWithoutForceOverwrite")
    row = coming_to(refusal, TABLE.rows["trigger_restore"])
    no_jobs = with_jobs(app, failed(ArmAnswerLostError, "GET"))
    # Before the step its own job is looked for as well: here that has been done.
    result = run(row, message, app.delivery(row.queue, {}), no_jobs, step=row.run)
    assert result == Later(MINUTE, effect=message.effect.lost(since=NOW), attempt=2)


def test_whoever_comes_back_is_not_sent_to_the_back_again(app: App) -> None:
    seen: list[bool] = []

    def step(_message: object, _c: object) -> Result:
        seen.append(_coming_back.get())
        return End(Status.SUCCEEDED)

    for poll in (0, 1, 2):
        ran(app, replace(ROW, run=step), backup_message(step="ensure_vault", poll=poll))
    assert seen == [False, True, True]


# -- what is left of the hour's reads


class Budget:
    """So many reads of every action are left, and this pace of writes is for one subscription."""

    def __init__(self, left: int) -> None:
        self.budget = self
        self._left = left

    def left(self, _subscription_id: str, _action: str) -> int:
        return self._left

    def pace(self, subscription_id: str, _bucket: str) -> str:
        return subscription_id


def test_single_reads_leave_enough_to_others(app: App) -> None:
    def may(left: int) -> tuple[bool, bool]:
        runtime = replace(app.runtime, backup=cast("AzureBackup", Budget(left)))
        vault_id = backup_message().request.vault_id
        return some_reads(runtime, vault_id, JOB_READS), plenty_of_reads(runtime, vault_id, JOB_READS)

    hour = reads_per_hour(JOB_READS)
    assert may(hour // 5) == (False, False)
    assert may(hour // 5 + 1) == may(hour // 2) == (True, False)
    assert may(hour // 2 + 1) == (True, True)


def test_a_request_that_names_no_vault_has_a_whole_hour(app: App) -> None:
    runtime = replace(app.runtime, backup=cast("AzureBackup", Budget(0)))
    c = collaborate(runtime, backup_message(request=request(vault_id=None)))
    assert c.reads_left(JOB_READS) == reads_per_hour(JOB_READS)
    assert c.may_read_more(JOB_READS)
    assert str(c.write_pace()) == ""
    c = collaborate(runtime, backup_message())
    assert (c.reads_left(JOB_READS), c.may_read_more(JOB_READS)) == (0, False)
    assert str(c.write_pace()) == SUBSCRIPTION


# -- back to the queue


@pytest.mark.parametrize(
    ("error", "wait"),
    [(BusError("no right"), MINUTE), (BusUnavailableError("busy"), 30 * S)],
    ids=["refused", "busy"],
)
def test_what_the_bus_does_not_take_is_tried_again(app: App, error: BusError, wait: timedelta) -> None:
    row = coming_to(End(Status.SUCCEEDED))
    body = body_of(backup_message(step="ensure_vault"))
    handle(row, app.delivery(row.queue, body), refusing(app, error, "job-outcomes"))
    (copy,) = app.held("ensure-vault")
    assert json.loads(copy.body) == body
    assert copy.scheduled_for == NOW + wait
    assert copy.application_properties[WAITING_SINCE] == "2026-01-05T08:00:00Z"
    # It may have had an effect; what changes nothing has had none.
    assert copy.application_properties[DELIVERED] is True


def test_what_changes_nothing_is_tried_again_as_if_nobody_had_worked_on_it(app: App) -> None:
    def handler(_delivery: object, _runtime: object) -> None:
        raise BusError("no right")

    handle_without_effect(handler, app.delivery("backup-requests", {}), app.runtime)
    (copy,) = app.held("backup-requests")
    assert DELIVERED not in copy.application_properties
    done: list[object] = []
    handle_without_effect(
        lambda delivery, _: done.append(delivery), app.delivery("backup-requests", {}), app.runtime
    )
    assert len(done) == 1


@pytest.mark.parametrize(
    ("error", "queue", "since", "answered"),
    [
        (BusError("no right"), "ensure-vault", NOW - 2 * HOUR, True),
        (BusError("no right"), "ensure-vault", NOW - 2 * HOUR + S, False),
        (BusError("no right"), "ensure-vault", "yesterday", False),
        (BusError("no right"), "ensure-vault", 5, False),
        (BusUnavailableError("busy"), "ensure-vault", NOW - 2 * HOUR, False),
        (BusError("no right"), "backup-requests", NOW - 2 * HOUR, False),
    ],
)
def test_a_requester_who_can_be_told_does_not_wait_for_a_right_for_ever(
    app: App, error: BusError, queue: str, since: Any, answered: bool
) -> None:
    text = since if isinstance(since, str | int) else since.isoformat()
    delivery = app.delivery(
        queue, body_of(backup_message(step="ensure_vault")), application_properties={WAITING_SINCE: text}
    )

    def handler(_delivery: object, _runtime: object) -> None:
        raise error

    handle_without_effect(handler, delivery, app.runtime)
    told = [event["data"]["error"]["message"] for event in app.bodies(OUTCOMES)]
    assert len(told) == len(app.held("parked-messages")) == answered
    assert len(app.held(queue)) == (not answered)
    if answered:
        assert "the bus refused what follows on a message to ensure-vault for 2:00:00: no right" in told[0]


def test_where_the_answer_is_refused_too_it_comes_back_all_the_same(app: App) -> None:
    properties = {WAITING_SINCE: (NOW - 3 * HOUR).isoformat()}
    body = body_of(backup_message(step="ensure_vault"))
    delivery = app.delivery("ensure-vault", body, application_properties=properties)
    runtime = refusing(app, BusError("no right"), "job-outcomes")
    handle(coming_to(End(Status.SUCCEEDED)), delivery, runtime)
    assert len(app.held("ensure-vault")) == 1


# -- what is given up

GIVEN_UP = ErrorInfo(code=ErrorCode.FAILED_INTERNAL, message="It was given up.")


def told(app: App) -> dict[str, str]:
    """What is told of each database."""
    events = app.bodies(OUTCOMES)
    return {event["data"].get("database", "all"): event["type"].split(".")[2] for event in events}


def test_of_a_selection_that_is_given_up_each_database_is_answered_in_its_place(app: App) -> None:
    answer_and_park(
        app.delivery("select-items", body_of(selection("orders", "billing"))), app.runtime, GIVEN_UP
    )
    assert told(app) == {"missing": "failed", "all": "accepted"}
    ended = app.bodies("trigger-backup")
    assert [message["payload"]["database"]["name"] for message in ended] == ["orders", "billing"]
    assert [message["ending"]["status"] for message in ended] == ["unknown", "unknown"]
    assert len(app.held("parked-messages")) == 1


def test_where_the_way_on_is_refused_each_database_is_answered_straight(app: App) -> None:
    properties = {WAITING_SINCE: (NOW - 3 * HOUR).isoformat()}
    delivery = app.delivery("select-items", body_of(selection("orders")), application_properties=properties)
    requeue_unsent(delivery, app.runtime, BusError("no right"), worked_on=True)
    assert told(app) == {"missing": "failed", "orders": "unknown", "all": "accepted"}
    assert not app.held("trigger-backup")


def test_what_has_ended_already_is_told_as_it_ended(app: App) -> None:
    ending = Ending(status=Status.SKIPPED)
    answer_and_park(
        app.delivery("trigger-backup", body_of(backup_message(ending=ending))), app.runtime, GIVEN_UP
    )
    assert told(app) == {"orders": "skipped"}
    of_selection = selection("orders").model_copy(update={"ending": ending})
    answer_and_park(app.delivery("select-items", body_of(of_selection)), app.runtime, GIVEN_UP)
    assert told(app) == {"orders": "skipped", "all": "skipped"}


def test_a_request_whose_databases_are_not_known_yet_is_answered_as_a_whole(app: App) -> None:
    message = selection("orders")
    plan = message.payload.model_copy(update={"fixed": None})
    answer_and_park(
        app.delivery("select-items", body_of(message.model_copy(update={"payload": plan}))),
        app.runtime,
        GIVEN_UP,
    )
    assert told(app) == {"all": "failed"}


@pytest.mark.parametrize(("of_delivery", "of_body", "later"), [(0, 2, 2), (3, 2, 3)])
def test_an_end_in_place_of_what_goes_on_is_of_the_later_epoch(
    app: App, of_delivery: int, of_body: int, later: int
) -> None:
    message = backup_message(request=request(epoch=of_body))
    answer_and_park(
        app.delivery("trigger-backup", body_of(message), epoch=of_delivery), app.runtime, GIVEN_UP
    )
    # A delivery of it may have gone on: the tracker is told, which knows better.
    (end,) = app.bodies("track")
    assert (end["payload"]["of"]["kind"], end["request"]["epoch"]) == ("end", later)


# -- what dies


@pytest.mark.parametrize(
    ("deaths", "deliveries", "often"),
    [
        (0, 1, False),
        (MOST_DEATHS - 1, 1, False),
        (MOST_DEATHS, 1, True),
        (0, MOST_DEATHS, False),
        (0, 6, True),
    ],
)
def test_a_message_that_kills_its_process_is_parked_and_answered(
    app: App, deaths: int, deliveries: int, often: bool
) -> None:
    delivery = app.delivery(
        "ensure-vault",
        body_of(backup_message(step="ensure_vault")),
        application_properties={DEATHS: deaths},
        delivery_count=deliveries,
    )
    assert has_died_too_often(delivery) is often
    if deliveries == 1:
        handle(coming_to(End(Status.SUCCEEDED)), delivery, app.runtime)
        assert len(app.held("parked-messages")) == often
        assert [event["data"]["status"] for event in app.bodies(OUTCOMES)] == (
            ["failed"] if often else ["succeeded"] if not deaths else []
        )
