"""What an error of Azure, or of the sign-in to it, means for a request: later, the next effect, or the end."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from shared.arm.errors import (
    ArmAnswerLostError,
    ArmError,
    ArmNotSentError,
    ArmPacedError,
    ArmStatusError,
    ArmUntrustedError,
    AuthenticationError,
    TokenUnavailableError,
)
from shared.azure_backup.calls import Reads
from shared.clock import MachineTime
from shared.engine.claim import claim
from shared.engine.effect import Effect
from shared.engine.failures import after_arm_error, after_token_error
from shared.engine.message import FollowedJob, FollowedOperation, StepMessage
from shared.engine.result import Collaborators, End, FollowJob, Later, NextEffect, Result
from shared.engine.table import Row
from shared.messages.error_codes import ErrorCode
from shared.messages.events import Status
from shared.settings import Settings
from shared.workflows import TABLE
from tests.unit.app import App, open_app
from tests.unit.engine.test_reconcile import Vault
from tests.unit.engine.test_retry import answered, failed
from tests.unit.examples import HOUR, MINUTE, NOW, S, backup_message, job, restore_message

BACKUP = TABLE.rows["trigger_backup"]
#: a step that makes calls of which no job comes
VAULT_STEP = TABLE.rows["ensure_vault"]
CALLED = NOW - 3 * S


def after(
    app: App, error: ArmError, row: Row = BACKUP, message: StepMessage[Any] | None = None, vault: Any = None
) -> Result:
    """What follows for a backup, unless another message is given."""
    c = Collaborators(
        azure=cast("Reads", vault or Vault()),
        settings=Settings(),
        now=lambda: NOW,
        machine_now=lambda: MachineTime(NOW),
    )
    return after_arm_error(row, message or backup_message(), c, app.runtime, error, called=CALLED)


def test_a_refusal_that_proves_an_earlier_effect_leads_to_its_job(app: App) -> None:
    refusal = answered(400, code="UserErrorCannotRestoreExistingDBWithoutForceOverwrite")
    message = restore_message(effect=Effect(n=2))
    first = job("first", activity_id=message.client_request_id_of(1, 0), operation="Restore")
    row = TABLE.rows["trigger_restore"]
    assert after(app, refusal, row, message, Vault([first])) == FollowJob("first")
    # To a first effect it is what it says; to a read it says nothing of a call.
    first_effect = after(app, refusal, row, restore_message(), Vault([first]))
    assert isinstance(first_effect, End)
    assert (first_effect.status, first_effect.called) == (Status.FAILED, True)
    read = answered(400, "GET", code="UserErrorCannotRestoreExistingDBWithoutForceOverwrite")
    assert isinstance(after(app, read, row, message, Vault([first])), End)


def test_a_quota_of_the_day_is_the_end_of_what_was_to_be_changed(app: App) -> None:
    end = after(app, answered(429, code="CloudDosLimit"))
    assert isinstance(end, End)
    assert (end.status, end.called) == (Status.FAILED, True)
    assert isinstance(after(app, answered(429, "GET", code="CloudDosLimit")), Later)


def test_a_call_whose_answer_was_lost_is_looked_for_and_not_made_again(app: App) -> None:
    in_doubt = Effect(may_have_started=True, at=CALLED, given_up_at=NOW)
    assert after(app, failed(ArmAnswerLostError)) == Later(2 * S, effect=in_doubt, failing_since=NOW)
    assert isinstance(after(app, failed(ArmAnswerLostError, "GET")), Later)


def test_a_call_of_which_no_job_comes_is_made_again(app: App) -> None:
    later = after(app, failed(ArmAnswerLostError), VAULT_STEP)
    assert isinstance(later, Later)
    assert (later.attempt, later.failing_since) == (1, NOW)
    assert later.effect == Effect(may_have_started=True, at=CALLED, given_up_at=NOW)


def test_what_a_read_came_to_says_nothing_of_the_effect(app: App) -> None:
    later = after(app, failed(ArmAnswerLostError, "GET"))
    assert isinstance(later, Later)
    assert (later.effect, later.attempt) == (None, 1)


def test_a_call_that_was_turned_away_is_known_to_have_been(app: App) -> None:
    later = after(app, answered(429, code="TooManyRequests"))
    assert isinstance(later, Later)
    assert later.effect == Effect(refused_from=CALLED, refused_at=NOW)
    # What never left this machine was turned away by nobody.
    never_sent = after(app, failed(ArmNotSentError))
    assert isinstance(never_sent, Later)
    assert never_sent.effect is None


def test_another_operation_on_the_database_leads_to_the_next_effect(app: App) -> None:
    for error in (answered(409, code="Busy"), answered(400, code="510008")):
        following = after(app, error)
        assert isinstance(following, NextEffect)
        assert (following.waiting, following.refused_from, following.refused_at) == (True, CALLED, NOW)


@pytest.mark.parametrize("failing", [timedelta(), 2 * HOUR - S, 2 * HOUR])
def test_another_operation_on_a_vault_is_waited_for_as_long_as_an_operation_may_take(
    app: App, failing: timedelta
) -> None:
    message = backup_message(failing_since=NOW - failing, attempt=3)
    result = after(app, answered(409, code="Busy"), VAULT_STEP, message)
    if failing < 2 * HOUR:
        assert result == Later(MINUTE, attempt=4, failing_since=NOW - failing)
    else:
        assert isinstance(result, End)
        assert (result.status, result.called) == (Status.FAILED, True)


def test_turns_that_the_app_gives_out_are_kept_to_and_do_not_count(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    paced = ArmPacedError(retry_after=30 * S, operation="trigger", method="POST", path="/x")
    assert after(app, paced) == Later(30 * S, failing_since=NOW)
    assert after(app, paced, message=backup_message(attempt=2)) == Later(30 * S, attempt=2, failing_since=NOW)
    # Nor are they anything to look into.
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    after(app, answered(503, "GET"))
    assert [record.levelname for record in caplog.records if record.levelname != "DEBUG"] == ["WARNING"]


def test_failures_are_counted_and_spread(app: App) -> None:
    delays = set()
    for _ in range(20):
        later = after(app, answered(503, "GET"), message=backup_message(attempt=2))
        assert isinstance(later, Later)
        assert later.attempt == 3
        delays.add(later.delay)
    assert len(delays) > 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (answered(404, "GET", code="ResourceNotFound"), "ResourceNotFound"),
        (answered(404, "GET"), "Http404"),
        (answered(401, "GET", code="InvalidToken"), ErrorCode.NOT_AUTHORISED),
        (answered(403, "GET", code="Forbidden"), ErrorCode.NOT_AUTHORISED),
        (answered(402, "GET", code="Odd"), "Odd"),
        (failed(ArmUntrustedError, "GET"), "ArmUntrusted"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_no_repetition_mends_is_the_end(app: App, error: ArmError, code: str) -> None:
    end = after(app, error, message=backup_message(failing_since=NOW - 10 * MINUTE))
    assert isinstance(end, End)
    assert end.error is not None
    assert (end.status, end.error.code, end.called) == (Status.FAILED, code, False)


def test_what_was_refused_for_good_was_called(app: App) -> None:
    end = after(app, answered(400, code="BadRequest"))
    assert isinstance(end, End)
    assert (end.status, end.called) == (Status.FAILED, True)


def test_what_may_have_happened_before_time_was_up_is_not_known(app: App) -> None:
    end = after(app, failed(ArmAnswerLostError), VAULT_STEP, backup_message(failing_since=NOW - 2 * HOUR))
    assert isinstance(end, End)
    assert end.status is Status.UNKNOWN
    doubtful = backup_message(failing_since=NOW - 2 * HOUR, effect=Effect(may_have_started=True))
    read = after(app, failed(ArmAnswerLostError, "GET"), BACKUP, doubtful)
    assert isinstance(read, End)
    assert read.status is Status.UNKNOWN
    # Where no job comes of a step, what it asked for is there or not: that is seen by whoever asks again.
    of_vault = after(app, failed(ArmAnswerLostError, "GET"), VAULT_STEP, doubtful)
    assert isinstance(of_vault, End)
    assert of_vault.status is Status.FAILED


def test_the_deadline_of_what_is_followed_ends_its_polls(app: App) -> None:
    def polled(deadline: timedelta) -> Result:
        followed = FollowedJob(job_id="job-1")
        message = claim(backup_message(), followed, at=NOW, deadline=NOW + deadline)
        return after(app, answered(503, "GET"), BACKUP, message)

    assert isinstance(polled(MINUTE), Later)
    end = polled(timedelta())
    assert isinstance(end, End)
    assert end.status is Status.TIMED_OUT


def test_before_the_service_has_spoken_a_deadline_has_not_passed() -> None:
    followed = FollowedOperation(location_url="https://management.azure.com/1")
    message = claim(backup_message(), followed, at=NOW, deadline=NOW - MINUTE)
    with open_app() as app:
        assert isinstance(after(app, answered(503, "GET"), BACKUP, message), Later)


@pytest.mark.parametrize(
    ("row", "message", "status"),
    [
        (BACKUP, backup_message(), Status.FAILED),
        (BACKUP, backup_message(effect=Effect(may_have_started=True)), Status.UNKNOWN),
        (VAULT_STEP, backup_message(effect=Effect(may_have_started=True)), Status.FAILED),
        (BACKUP, claim(backup_message(), FollowedJob(job_id="j"), at=NOW, deadline=NOW), Status.UNKNOWN),
    ],
    ids=["nothing called", "a call in doubt", "a call without a job", "a job followed"],
)
def test_without_a_token_a_request_ends_honestly(
    app: App, row: Row, message: StepMessage[Any], status: Status
) -> None:
    message = message.model_copy(update={"failing_since": NOW - 10 * MINUTE})
    end = after_token_error(row, message, app.runtime, AuthenticationError("no identity"))
    assert isinstance(end, End)
    assert end.error is not None
    assert (end.status, end.error.code) == (status, ErrorCode.NOT_AUTHORISED)


def test_a_token_is_waited_for_as_long_as_that_may_help(app: App) -> None:
    def waits(error: Any, failing: timedelta | None) -> bool:
        since = NOW - failing if failing is not None else None
        result = after_token_error(BACKUP, backup_message(failing_since=since, attempt=1), app.runtime, error)
        if isinstance(result, Later):
            assert result == Later(30 * S, attempt=2, failing_since=since or NOW)
        return isinstance(result, Later)

    configured_wrongly, away = AuthenticationError("no identity"), TokenUnavailableError("no answer")
    assert [waits(configured_wrongly, age) for age in (None, 9 * MINUTE, 10 * MINUTE)] == [True, True, False]
    assert [waits(away, age) for age in (None, 10 * MINUTE, 119 * MINUTE, 2 * HOUR)] == [
        True,
        True,
        True,
        False,
    ]
    impatient = replace(app.runtime, settings=Settings(operation_timeout=MINUTE))
    message = backup_message(failing_since=NOW - MINUTE)
    assert isinstance(after_token_error(BACKUP, message, impatient, configured_wrongly), End)


def test_what_the_service_answered_is_told_with_what_it_recommends(app: App) -> None:
    error = answered(400, "GET", code="BadRequest")
    assert isinstance(error, ArmStatusError)
    error.recommendations = ("Ask for less.",)
    end = after(app, error)
    assert isinstance(end, End)
    assert end.error is not None
    assert end.error.recommendations == ("Ask for less.",)
