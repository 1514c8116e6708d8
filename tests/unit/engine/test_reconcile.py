"""Effects happen once: what the vault's jobs prove about a call whose answer was lost, or that was turned away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from shared.azure_backup.calls import Reads
from shared.azure_backup.listings import Listing
from shared.azure_backup.models import Job, ProtectedItem
from shared.clock import MachineTime, ServiceTime
from shared.engine import job_matching, reconcile
from shared.engine.claim import next_effect
from shared.engine.effect import Effect
from shared.engine.expected_job import ExpectedJob
from shared.engine.message import StepMessage
from shared.engine.result import Collaborators, End, FollowJob, Later, NextEffect, Result
from shared.messages.events import ErrorInfo, Status
from shared.settings import Settings
from shared.steps.payloads import BackupTask
from shared.workflows import TABLE
from tests.unit.examples import MINUTE, NOW, backup_message, job, protected, request

ROW = TABLE.rows["trigger_backup"]


class Vault:
    """What is listed of a vault, and nothing else of Azure: whatever is sent fails the test."""

    def __init__(self, jobs: Sequence[Job] = (), items: Sequence[ProtectedItem] = ()) -> None:
        self.jobs = list(jobs)
        self.items = list(items) or [protected("orders")]

    def list_jobs(
        self,
        vault: object,
        *,
        start: datetime,
        operation: str | None = None,
        status: str | None = None,
        kept: Callable[[Job], bool],
    ) -> list[Job]:
        return [
            job
            for job in self.jobs
            if (job.start_time is None or job.start_time >= start)
            and (operation is None or job_matching.is_of(job, operation))
            and status in (None, job.raw_status)
            and kept(job)
        ]

    def list_protected_items(self, vault: object) -> Listing[ProtectedItem]:
        return Listing(self.items, [])


def in_doubt(**changes: Any) -> StepMessage[BackupTask]:
    return backup_message(effect=Effect(**{"may_have_started": True, "at": NOW, **changes}))


def collaborators(vault: Vault | Sequence[Job], now: ServiceTime = NOW) -> Collaborators:
    azure = vault if isinstance(vault, Vault) else Vault(vault)
    return Collaborators(
        azure=cast("Reads", azure), settings=Settings(), now=lambda: now, machine_now=lambda: MachineTime(now)
    )


def look(
    message: StepMessage[Any],
    vault: Vault | Sequence[Job],
    now: ServiceTime,
    *,
    job_of: ExpectedJob | None = ROW.job,
) -> Result | None:
    """One look, as the engine makes it before the step's call."""
    assert job_of is not None
    return reconcile.before_call(job_of, message, collaborators(vault, now))


def look_until_settled(
    message: StepMessage[Any], vault: Vault | Sequence[Job], start: ServiceTime = NOW
) -> tuple[Result | None, ServiceTime, int]:
    """Look again whenever told to; what it came to, when, and at which look."""
    now = start
    for looks in range(1, 10):
        result = look(message, vault, now)
        if not isinstance(result, Later):
            return result, now, looks
        message = message.next_poll(at=now, effect=result.effect)
        now += result.delay
    raise AssertionError("it never settles")


def settled(message: StepMessage[Any], vault: Vault | Sequence[Job]) -> Result | Status | None:
    """What it comes to; of an outcome, its status."""
    result, _, _ = look_until_settled(message, vault)
    return result.status if isinstance(result, End) else result


def marked(n: int = 1, **details: Any) -> Job:
    """A job that effect `n` of the message started."""
    return job(activity_id=in_doubt().client_request_id_of(n, 0).upper(), **details)


def changed(known: Job, **changes: Any) -> Job:
    fields = {"name": known.id, "activity_id": known.activity_id, "entity_name": known.entity_name}
    return job(**{**fields, **changes})


def has_ended(known: Job) -> Job:
    return changed(known, start_time=known.start_time, status="Completed", raw_status="Completed")


OTHERS = job("others", activity_id="73716c62-aaaa-8aaa-8aaa-aaaaaaaaaaaa", entity_name="billing [sqlvm1]")
FOREIGN = job("scheduled", activity_id="22222222-2222-1222-8222-222222222222")
OTHERS_RESTORE = changed(OTHERS, operation="Restore")


def test_its_own_job_is_adopted_at_first_sight() -> None:
    assert look(in_doubt(), [FOREIGN, OTHERS, marked(name="mine")], NOW) == FollowJob("mine")


@pytest.mark.parametrize("form", [str.upper, lambda text: f"{{{text}}}", lambda text: text.replace("-", "")])
def test_its_own_job_is_known_in_whatever_form_its_id_is_written(form: Any) -> None:
    own = in_doubt().client_request_id
    assert look(in_doubt(), [job("mine", activity_id=form(own))], NOW) == FollowJob("mine")


def test_nothing_is_believed_before_ten_minutes_and_three_looks() -> None:
    result, at, looks = look_until_settled(in_doubt(), [OTHERS])
    assert result == NextEffect()
    assert at - NOW >= timedelta(minutes=10)
    assert looks >= 3


@pytest.mark.parametrize("minutes", range(1, 10))
def test_a_job_that_is_listed_late_is_adopted(minutes: int) -> None:
    vault = Vault([OTHERS])
    message, now = in_doubt(), NOW
    while isinstance(result := look(message, vault, now), Later):
        message = message.next_poll(at=now, effect=result.effect)
        now += result.delay
        if now - NOW >= minutes * MINUTE and len(vault.jobs) == 1:
            vault.jobs.append(marked(name="late"))
    assert result == FollowJob("late")


#: which jobs are listed in the end, and what they prove
CASES: dict[str, tuple[list[Job], Result | Status]] = {
    # no job at all: the vault is not known to echo, so the absence proves nothing
    "nothing listed": ([], Status.UNKNOWN),
    # a job of another request that bears the mark: the vault echoes, so ours would be seen
    "echoes, not ours": ([OTHERS], NextEffect()),
    # the proof may be some days old
    "echoed days ago": ([changed(OTHERS, start_time=NOW - timedelta(days=3))], NextEffect()),
    # it is of its operation: what holds for a restore need not hold for a backup
    "another operation echoes": ([OTHERS_RESTORE], Status.UNKNOWN),
    # one job of that operation and database since then, in a vault that does not echo
    "one candidate": ([FOREIGN], FollowJob("scheduled")),
    # in one that does, only a job with the app's own id is its own
    "one candidate, echoes": ([FOREIGN, OTHERS], Status.UNKNOWN),
    # two: nobody can tell
    "two candidates": ([FOREIGN, job("other")], Status.UNKNOWN),
    # jobs of another operation, another database, another server, an earlier time are no candidates
    "a restore": ([job(operation="Restore"), OTHERS], NextEffect()),
    "a namesake's": ([job(entity_name="orders2 [sqlvm1]"), OTHERS], NextEffect()),
    "another server's": ([job(entity_name="orders [sqlvm2]"), OTHERS], NextEffect()),
    "earlier": ([job(start_time=NOW - MINUTE), OTHERS], NextEffect()),
    # clocks may disagree by five seconds
    "just earlier": ([job("early", start_time=NOW - timedelta(seconds=5))], FollowJob("early")),
    # a job that bears the mark belongs to another request of this app
    "another request's": ([job(activity_id=OTHERS.activity_id)], NextEffect()),
    # the server's name is left out by some listings
    "no server": ([job("young", entity_name="ORDERS")], FollowJob("young")),
}


@pytest.mark.parametrize(("jobs", "expected"), CASES.values(), ids=CASES)
def test_settlement(jobs: list[Job], expected: Result | Status) -> None:
    assert settled(in_doubt(), jobs) == expected


def test_a_candidate_that_may_be_a_namesakes_is_not_adopted() -> None:
    other_instance = [protected("orders"), protected("orders", instance="SQL2019")]
    assert settled(in_doubt(), Vault([FOREIGN], other_instance)) is Status.UNKNOWN


def test_an_earlier_effect_that_shows_up_late_is_adopted() -> None:
    assert look(in_doubt(n=2), [marked(1, name="first")], NOW) == FollowJob("first")
    not_in_doubt = backup_message(effect=Effect(n=2))
    assert look(not_in_doubt, [marked(1, name="first")], NOW) == FollowJob("first")


def test_an_earlier_effect_that_failed_is_not_adopted_for_the_later_one() -> None:
    conflicted = marked(1, name="first", status="Failed", raw_status="Failed")
    assert settled(in_doubt(n=2), [conflicted]) == NextEffect()
    assert look(in_doubt(n=2), [conflicted, marked(2, name="second")], NOW) == FollowJob("second")


def test_a_first_effect_that_nothing_is_known_of_costs_no_look() -> None:
    assert look(backup_message(), cast("Any", None) or Vault(), NOW) is None


REFUSED = Effect(refused_at=NOW, refused_from=NOW - timedelta(seconds=2))


def test_after_a_refusal_its_own_job_is_looked_for_before_the_call_is_made_again() -> None:
    refused = backup_message(effect=REFUSED)
    assert look(refused, [marked(name="mine")], NOW) == FollowJob("mine")
    assert look(refused, [FOREIGN], NOW) is None


WHY = ErrorInfo(code="Conflict", message="another operation is running.")


def waiting(n: int = 2, **changes: Any) -> StepMessage[BackupTask]:
    """The effect after a call that was turned away since another operation was running."""
    known = {
        "n": n,
        "waiting": True,
        "why": WHY,
        "refused_at": NOW,
        "refused_from": NOW - timedelta(seconds=2),
    }
    return backup_message(effect=Effect(**{**known, **changes}))


def test_a_conflict_with_ones_own_call_is_no_conflict() -> None:
    assert look(waiting(), [OTHERS, marked(1, name="mine")], NOW) == FollowJob("mine")
    ended = marked(1, name="mine", status="Completed", raw_status="Completed")
    assert look(waiting(), [OTHERS, ended], NOW) == FollowJob("mine")


def test_a_conflict_that_nothing_explains_may_be_with_a_job_that_is_listed_late() -> None:
    vault = Vault([OTHERS])
    result, at, looks = look_until_settled(waiting(), vault)
    assert result is None
    assert at - NOW >= timedelta(minutes=10)
    assert looks >= 3


def test_an_operation_that_is_running_is_waited_for() -> None:
    running = changed(FOREIGN, name="scheduled", start_time=NOW - timedelta(hours=3))
    first = look(waiting(), [OTHERS, running], NOW)
    assert isinstance(first, Later)
    # Once somebody else's job explains the conflict, nothing else is to be waited for.
    again = waiting().next_poll(at=NOW, effect=first.effect)
    assert look(again, [OTHERS], NOW + MINUTE) is None


def test_the_last_conflict_is_the_outcome() -> None:
    running = changed(FOREIGN, start_time=NOW - timedelta(hours=3))
    result = look(waiting(n=4), [OTHERS, running], NOW)
    assert isinstance(result, End)
    assert result.status is Status.FAILED
    assert result.error is not None
    assert "attempt 3 of at most 3" in result.error.message


def test_a_third_effect_that_did_not_start_is_the_last() -> None:
    result, _, _ = look_until_settled(in_doubt(n=3), [OTHERS])
    assert isinstance(result, End)
    assert result.status is Status.FAILED
    assert result.error is not None
    assert "attempt 3 of at most 3" in result.error.message


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_replay_adopts_what_an_earlier_epoch_has_done(epoch: int) -> None:
    replayed = backup_message(request=request(epoch=epoch), at=NOW + timedelta(days=6))
    done = marked(1, name="done", status="Completed", raw_status="Completed")
    assert look(replayed, [done], NOW + timedelta(days=6)) == FollowJob("done")
    failed = marked(1, status="Failed", raw_status="Failed")
    assert look(replayed, [failed], NOW + timedelta(days=6)) is None


def test_a_job_begun_before_the_call_was_made_is_not_that_calls() -> None:
    """The time of a call that was turned away for certain is no time at which the lost one may have begun."""
    refused = Effect(refused_from=NOW, refused_at=NOW + timedelta(seconds=1))
    made = NOW + timedelta(minutes=15)
    lost = refused.joined(Effect(may_have_started=True, at=made, given_up_at=made + timedelta(seconds=30)))
    strangers = changed(FOREIGN, start_time=NOW + timedelta(seconds=30))
    assert settled(backup_message(effect=lost, at=made), [strangers]) is Status.UNKNOWN


def test_a_job_begun_after_the_answer_was_given_up_is_not_that_calls() -> None:
    lost = Effect(may_have_started=True, at=NOW, given_up_at=NOW + timedelta(seconds=30))
    strangers = changed(FOREIGN, start_time=NOW + timedelta(seconds=36))
    assert settled(backup_message(effect=lost), [strangers]) is Status.UNKNOWN
    # Clocks may disagree by five seconds.
    own = changed(FOREIGN, name="own", start_time=NOW + timedelta(seconds=35))
    assert settled(backup_message(effect=lost), [own]) == FollowJob("own")


def test_looks_that_a_conflict_took_do_not_count_for_the_lost_answer_after_it() -> None:
    message = waiting(may_have_started=True, ready=True, refusal_looks=3, given_up_at=NOW)
    result, at, looks = look_until_settled(message, [OTHERS])
    assert result == NextEffect()
    assert (at - NOW, looks) >= (timedelta(minutes=10), 3)


def test_the_last_conflict_is_looked_at_for_its_own_earlier_job() -> None:
    message = backup_message(effect=Effect(n=4, waiting=True, why=WHY))
    assert look(message, [OTHERS, marked(2, name="second")], NOW) == FollowJob("second")
    assert isinstance(look(message, [OTHERS], NOW), Later)


def test_a_copy_whose_original_may_have_been_worked_on_looks_before_its_first_call() -> None:
    message = backup_message(effect=Effect(look_first=True))
    assert look(message, [marked(name="mine")], NOW) == FollowJob("mine")
    assert look(message, [OTHERS], NOW) is None


def test_a_namesake_on_another_server_is_told_apart_where_the_server_is_known() -> None:
    vault = Vault(
        [FOREIGN], [protected("orders"), protected("orders", instance="SQL2019", server_name="sqlvm2")]
    )
    assert settled(in_doubt(), vault) == FollowJob("scheduled")
    nowhere = in_doubt()
    task = nowhere.payload.model_copy(update={"server_name": ""})
    assert settled(nowhere.model_copy(update={"payload": task}), vault) is Status.UNKNOWN


def test_where_the_effect_itself_can_be_seen_no_job_is_needed() -> None:
    assert ROW.job is not None
    seen = replace(ROW.job, happened=lambda _message, _c: End(Status.SUCCEEDED))
    assert look(in_doubt(), [OTHERS], NOW, job_of=seen) == End(Status.SUCCEEDED)
    replayed = backup_message(request=request(epoch=1))
    assert look(replayed, [OTHERS], NOW, job_of=seen) == End(Status.SUCCEEDED)


def test_its_own_job_is_found_though_a_clock_has_jumped_by_days() -> None:
    assert settled(in_doubt(), [marked(name="mine", start_time=NOW - timedelta(days=2))]) == FollowJob("mine")


#: what is listed while a conflict is waited for, in a vault that is not known to echo, and what that comes to
DURING_THE_CALL = job("during", activity_id=FOREIGN.activity_id, start_time=NOW - timedelta(seconds=1))
CONFLICTS: dict[str, tuple[list[Job], Result | Status | None]] = {
    "one that began during the call": ([DURING_THE_CALL], FollowJob("during")),
    "two that began during the call": ([DURING_THE_CALL, changed(DURING_THE_CALL, name="2")], Status.UNKNOWN),
    "one that began before": ([changed(DURING_THE_CALL, start_time=NOW - MINUTE)], None),
    "one that began after": ([changed(DURING_THE_CALL, start_time=NOW + MINUTE)], None),
    "one in a vault that echoes": ([DURING_THE_CALL, OTHERS], None),
}


@pytest.mark.parametrize("ended", [False, True], ids=["running", "ended"])
@pytest.mark.parametrize(("jobs", "expected"), CONFLICTS.values(), ids=CONFLICTS)
def test_a_conflict_may_be_with_the_call_that_was_turned_away(
    jobs: list[Job], expected: Result | Status | None, ended: bool
) -> None:
    listed = [has_ended(job) for job in jobs] if ended else jobs
    if ended or expected is not None:
        assert settled(waiting(), listed) == expected
    else:
        assert isinstance(look(waiting(), listed, NOW), Later)


def test_a_conflict_that_may_be_with_a_namesakes_job_leaves_a_doubt() -> None:
    namesakes = [protected("orders"), protected("orders", instance="SQL2019")]
    assert settled(waiting(), Vault([DURING_THE_CALL], namesakes)) is Status.UNKNOWN
    result, _, _ = look_until_settled(waiting(), Vault([DURING_THE_CALL], namesakes))
    assert isinstance(result, End)
    assert result.error is not None
    assert (
        "the vault lists one job that may be its own, and the vault is not known to echo"
        in result.error.message
    )


def test_a_call_that_was_never_turned_away_is_no_cause_of_a_conflict() -> None:
    for message in (waiting(refused_at=None), waiting(refused_from=None)):
        assert isinstance(look(message, [DURING_THE_CALL], NOW), Later)


def test_a_conflict_that_is_explained_is_with_somebody_elses_job() -> None:
    assert look(waiting(explained=True), [has_ended(DURING_THE_CALL)], NOW) is None


def test_a_running_operation_is_waited_for_as_long_as_a_job_may_take() -> None:
    running = changed(FOREIGN, name="scheduled", start_time=NOW - timedelta(hours=3))
    for attempts in (2, 3):
        assert isinstance(look(waiting(n=attempts), [running], NOW), Later)
    message = waiting(n=3)
    assert isinstance(look(message, [OTHERS, running], NOW + timedelta(days=7)), Later)
    end = look(message, [OTHERS, running], NOW + timedelta(days=7, seconds=1))
    assert isinstance(end, End)
    assert end.error is not None
    assert (end.status, end.error.code) == (Status.TIMED_OUT, "ConflictingOperation")
    assert "job scheduled (Backup (Full)) was still running" in end.error.message
    hasty = waiting(n=3).model_copy(update={"request": request(job_timeout=timedelta(hours=1))})
    assert isinstance(look(hasty, [running], NOW + timedelta(hours=2)), End)


def test_the_last_conflict_says_why_as_far_as_that_is_known() -> None:
    end = look(waiting(n=4, explained=True), [OTHERS], NOW)
    assert isinstance(end, End)
    assert end.error is not None
    assert (end.status, end.error.code) == (Status.FAILED, "Conflict")
    end = look(waiting(n=4, explained=True, why=None), [OTHERS], NOW)
    assert isinstance(end, End)
    assert end.error is not None
    assert end.error.code == "ConflictingOperation"


def test_what_is_not_to_wait_is_skipped_and_not_failed() -> None:
    message = waiting(explained=True)
    task = message.payload.model_copy(update={"if_running": "skip"})
    end = look(message.model_copy(update={"payload": task}), [OTHERS], NOW)
    assert end == End(Status.SKIPPED, WHY)


#: what is listed when a request is sent again by hand, in a vault that is not known to echo
REPLAYS: dict[str, tuple[list[Job], Result | Status | None]] = {
    "nothing": ([], None),
    "one that may be its own": ([FOREIGN], FollowJob("scheduled")),
    "two that may be its own": ([FOREIGN, changed(FOREIGN, name="other")], Status.UNKNOWN),
    "one in a vault that echoes": ([FOREIGN, OTHERS], None),
    "one that began before": ([changed(FOREIGN, start_time=NOW - MINUTE)], None),
}


@pytest.mark.parametrize(("jobs", "expected"), REPLAYS.values(), ids=REPLAYS)
def test_a_replay_may_have_been_done_before(jobs: list[Job], expected: Result | Status | None) -> None:
    assert settled(backup_message(request=request(epoch=1)), jobs) == expected


def test_a_replay_that_may_have_been_done_for_a_namesake_leaves_a_doubt() -> None:
    namesakes = [protected("orders"), protected("orders", instance="SQL2019")]
    result = look(backup_message(request=request(epoch=1)), Vault([FOREIGN], namesakes), NOW)
    assert isinstance(result, End)
    assert result.error is not None
    assert result.status is Status.UNKNOWN
    assert (
        "the vault lists one job that may be its own, and the vault is not known to echo"
        in result.error.message
    )


def test_a_doubt_says_what_is_listed_and_what_that_proves() -> None:
    def said(jobs: list[Job]) -> str:
        result, _, _ = look_until_settled(in_doubt(), jobs)
        assert isinstance(result, End)
        assert result.error is not None
        return result.error.message

    nothing = said([])
    assert "the vault lists no job that may be its own, and the vault is not known to echo" in nothing
    assert "the vault lists one job that may be its own. Look at the vault's jobs" in said([FOREIGN, OTHERS])
    assert "the vault lists 2 jobs that may be its own, and" in said([FOREIGN, changed(FOREIGN, name="2")])


def test_a_refusal_that_proves_an_earlier_effect_leads_to_its_job_or_leaves_a_doubt() -> None:
    assert ROW.job is not None
    job_of = replace(ROW.job, proves=lambda error: error.code == "Exists")
    exists = ErrorInfo(code="Exists", message="It exists.")

    def proven(
        message: StepMessage[Any], jobs: list[Job], error: ErrorInfo = exists
    ) -> Result | Status | None:
        result = reconcile.proven(job_of, message, collaborators(jobs), error)
        return result.status if isinstance(result, End) else result

    second = backup_message(effect=Effect(n=2))
    assert proven(second, [marked(1, name="first")]) == FollowJob("first")
    assert proven(second, [marked(2, name="second")]) == FollowJob("second")
    failed = marked(2, status="Failed", raw_status="Failed")
    assert proven(second, [failed]) is Status.UNKNOWN
    assert proven(second, []) is Status.UNKNOWN
    assert proven(second, [], WHY) is None
    assert proven(backup_message(), []) is None
    assert proven(backup_message(request=request(epoch=1)), []) is Status.UNKNOWN


def test_the_next_effect_is_the_next_of_the_same_step() -> None:
    message = backup_message(effect=Effect(n=2), since=NOW - MINUTE)
    later = NOW + MINUTE
    following = reconcile.turned_away(WHY, called=NOW, at=later)
    repetition = next_effect(message, following)
    assert repetition.since == NOW - MINUTE
    assert repetition.effect == Effect(n=3, waiting=True, why=WHY, refused_from=NOW, refused_at=later)


#: what is listed beside a job that gave way to another operation, and whether it may have given way to its twin
GAVE_WAY = changed(FOREIGN, name="gave-way", start_time=NOW, status="Failed", raw_status="Failed")
TWIN = changed(FOREIGN, name="twin", start_time=NOW + timedelta(seconds=5))
TWINS: dict[str, tuple[list[Job], bool]] = {
    "nothing": ([], False),
    "one that began with it": ([TWIN], True),
    "one that began just before it": ([changed(TWIN, start_time=NOW - timedelta(seconds=5))], True),
    "one that began before": ([changed(TWIN, start_time=NOW - timedelta(seconds=6))], False),
    "one that began after": ([changed(TWIN, start_time=NOW + timedelta(seconds=6))], False),
    "one that failed": ([changed(TWIN, status="Failed", raw_status="Failed", start_time=NOW)], False),
    "one in a vault that echoes": ([TWIN, OTHERS], False),
}


@pytest.mark.parametrize(("others", "doubtful"), TWINS.values(), ids=TWINS)
def test_a_job_may_have_given_way_to_one_of_the_same_call(others: list[Job], doubtful: bool) -> None:
    assert ROW.job is not None
    harmful = replace(ROW.job, harmless=lambda _payload: False)
    c = collaborators([GAVE_WAY, *others])
    end = reconcile.gave_way_to_its_twin(harmful, backup_message(), c, GAVE_WAY)
    if not doubtful:
        assert end is None
        return
    assert isinstance(end, End)
    assert end.error is not None
    assert (end.status, end.error.code) == (Status.UNKNOWN, "OutcomeUnknown")
    assert "job gave-way gave way to job twin" in end.error.message
    # Where a second call can do no harm, or nothing says when the job began, there is nothing to doubt.
    assert reconcile.gave_way_to_its_twin(ROW.job, backup_message(), c, GAVE_WAY) is None
    ageless = GAVE_WAY.model_copy(update={"start_time": None})
    assert reconcile.gave_way_to_its_twin(harmful, backup_message(), c, ageless) is None
