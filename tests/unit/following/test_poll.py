"""One look at what is followed: from the operation to its job, from the job to the outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from shared.arm.errors import ArmError, ArmProtocolError
from shared.azure_backup.calls import Reads
from shared.azure_backup.listings import Listing
from shared.azure_backup.models import Job, JobError, OperationResult, OperationStatus, ProtectedItem
from shared.clock import MachineTime
from shared.engine.claim import claim
from shared.engine.message import FollowedJob, FollowedOperation, Following, StepMessage
from shared.engine.result import Collaborators, Continue, End, GrownTick, Later, NextEffect, Result, To
from shared.engine.table import Row
from shared.following.poll import Poll, adds_details, job_error, job_info
from shared.messages.error_codes import ErrorCode
from shared.messages.events import ErrorInfo, JobInfo, Status, TaskInfo
from shared.settings import Settings
from shared.workflows import TABLE
from tests.unit.engine.test_retry import answered, failed
from tests.unit.examples import HOUR, MINUTE, NOW, S, backup_message, job, protected, request

ASYNC = "https://management.azure.com/operations/1"
LOCATION = "https://management.azure.com/results/1"
BOTH = FollowedOperation(async_operation_url=ASYNC, location_url=LOCATION)
BACKUP = replace(TABLE.rows["trigger_backup"], look_up=lambda _message, _job, end, _c: end)
#: a step of whose call no job comes
REFRESH = TABLE.rows["refresh_containers"]
FOREIGN = "22222222-2222-1222-8222-222222222222"


class Azure:
    """Answers each read with what is given for it; what is given for none fails the test."""

    def __init__(
        self,
        *,
        status: OperationStatus | ArmError | None = None,
        result: OperationResult | ArmError | None = None,
        job: Job | None = None,
        jobs: Sequence[Job] | None = None,
        items: Sequence[ProtectedItem] = (),
    ) -> None:
        self._answers = {"status": status, "result": result, "jobs": jobs}
        self._job = job
        self._items = list(items) or [protected("orders")]
        self.asked: list[str] = []
        self.start: datetime | None = None

    def _answer(self, name: str) -> Any:
        self.asked.append(name)
        answer = self._answers[name]
        assert answer is not None, f"{name} is not to be asked"
        if isinstance(answer, ArmError):
            raise answer
        return answer

    def get_operation_status(self, _url: str, **_: object) -> Any:
        return self._answer("status")

    def get_operation_result(self, _url: str, **_: object) -> Any:
        return self._answer("result")

    def get_job(self, _vault: object, _job_id: str) -> Job | None:
        self.asked.append("job")
        return self._job

    def list_jobs(
        self,
        _vault: object,
        *,
        start: datetime,
        kept: Callable[[Job], bool],
        operation: str | None = None,
    ) -> list[Job]:
        self.start = start if operation is None else self.start
        return [job for job in self._answer("jobs") if kept(job)]

    def list_protected_items(self, _vault: object) -> Listing[ProtectedItem]:
        return Listing(self._items, [])


def tracked(followed: Any = BOTH, step: str = "trigger_backup", **changes: Any) -> StepMessage[Following]:
    message = backup_message(step=step, request=request(**changes.pop("request", {})))
    deadline = changes.pop("deadline", NOW + 2 * HOUR)
    claimed = claim(message, followed, at=NOW, deadline=deadline, not_before=changes.pop("not_before", None))
    return claimed.model_copy(update=changes)


def polled(
    azure: Azure,
    message: StepMessage[Following] | None = None,
    *,
    after: timedelta = 10 * MINUTE,
    row: Row = BACKUP,
    known: Job | None = None,
    details: bool = False,
    **collaborators: Any,
) -> Result:
    """What follows on a look, ten minutes after the start unless said otherwise."""
    c = Collaborators(
        azure=cast("Reads", azure),
        settings=Settings(track_interval=30 * S),
        now=lambda: NOW + after,
        machine_now=lambda: MachineTime(NOW + after),
        **collaborators,
    )
    return Poll(message or tracked(), row, c).result(known=known, details=details)


def own(name: str = "mine", **details: Any) -> Job:
    return job(name, activity_id=backup_message().client_request_id, **details)


def ended(status: str = "Completed", **details: Any) -> Job:
    return own(status=status, raw_status=status, end_time=NOW + MINUTE, **details)


RUNNING = OperationStatus(status="InProgress", finished=False, succeeded=False)
SUCCEEDED = OperationStatus(status="Succeeded", finished=True, succeeded=True)


def error_of(result: Result) -> tuple[Status, str]:
    assert isinstance(result, End)
    assert result.error is not None
    return result.status, result.error.code


def later(result: Result) -> Later:
    assert isinstance(result, Later)
    return result


def following(result: Result) -> Following:
    payload = later(result).payload
    assert isinstance(payload, Following)
    return payload


# -- the operation


def test_an_operation_that_runs_is_asked_again_when_it_says() -> None:
    asked = polled(Azure(status=replace(RUNNING, retry_after=40 * S)))
    assert later(asked).delay == MINUTE
    assert following(asked).not_before == NOW + 10 * MINUTE + 40 * S
    silent = polled(Azure(status=RUNNING))
    assert (later(silent).delay, following(silent).not_before) == (30 * S, None)


def test_of_an_operation_with_a_job_the_status_is_asked_else_its_result() -> None:
    for followed, row, name in (
        (BOTH, BACKUP, "status"),
        (BOTH, REFRESH, "result"),
        (BOTH.model_copy(update={"other_url": True}), BACKUP, "result"),
        (BOTH.model_copy(update={"other_url": True}), REFRESH, "status"),
        (FollowedOperation(location_url=LOCATION), BACKUP, "result"),
        (FollowedOperation(async_operation_url=ASYNC), REFRESH, "status"),
    ):
        azure = Azure(status=RUNNING, result=OperationResult(finished=False))
        later(polled(azure, tracked(followed, row.name), row=row))
        assert azure.asked == [name]


def test_an_operation_of_which_no_job_comes_goes_on_once_it_is_done() -> None:
    message = tracked(BOTH, "refresh_containers")
    result = polled(Azure(result=OperationResult(finished=True)), message, row=REFRESH)
    assert isinstance(result, Continue)
    assert [(to.step, to.payload) for to in result.to] == [("register_container", message.payload.payload)]


def test_an_operation_that_is_followed_by_no_url_has_its_job_looked_for() -> None:
    assert following(polled(Azure(jobs=[own()]), tracked(FollowedOperation()))).followed == FollowedJob(
        job_id="mine"
    )
    result = polled(Azure(), tracked(FollowedOperation(), "refresh_containers"), row=REFRESH)
    assert error_of(result) == (Status.FAILED, ErrorCode.NO_OPERATION_URL)


def test_an_operation_that_failed_says_why() -> None:
    bad = OperationStatus(status="Failed", finished=True, succeeded=False)
    named = replace(bad, error_code="Odd", error_message="It broke.")
    result = polled(Azure(status=named))
    assert isinstance(result, End)
    assert result.error == ErrorInfo(code="Odd", message="It broke.")
    assert error_of(polled(Azure(status=bad))) == (Status.FAILED, ErrorCode.OPERATION_FAILED)
    # Its job says it better.
    assert following(polled(Azure(status=replace(named, job_id="job-9")))).followed == FollowedJob(
        job_id="job-9"
    )


def test_a_conflict_of_the_operation_leads_to_the_next_effect() -> None:
    busy = OperationStatus(status="Failed", finished=True, succeeded=False, error_code="510008")
    result = polled(Azure(status=busy))
    assert isinstance(result, NextEffect)
    assert result.waiting
    of_refresh = polled(
        Azure(status=busy),
        tracked(FollowedOperation(async_operation_url=ASYNC), "refresh_containers"),
        row=REFRESH,
    )
    assert error_of(of_refresh) == (Status.FAILED, "510008")


@pytest.mark.parametrize(("n", "status"), [(2, None), (3, Status.FAILED)])
def test_what_is_created_again_and_again_and_never_there_is_given_up(n: int, status: Status | None) -> None:
    row = TABLE.rows["ensure_vault"]
    message = tracked(BOTH, "ensure_vault")
    message = message.model_copy(update={"effect": message.effect.model_copy(update={"n": n})})
    result = polled(Azure(result=OperationResult(finished=True)), message, row=row)
    if status is None:
        assert isinstance(result, Continue)
    else:
        assert error_of(result) == (status, ErrorCode.NOTHING_CAME)


#: what an operation answered, at which attempt and age, and what follows
ONE_URL = FollowedOperation(async_operation_url=ASYNC)
RESULT_URL = FollowedOperation(location_url=LOCATION)
ERRORS: dict[str, tuple[ArmError, FollowedOperation, dict[str, Any], str]] = {
    "forbidden": (answered(403, "GET"), BOTH, {}, "other url"),
    "forbidden again": (answered(403, "GET"), BOTH.model_copy(update={"other_url": True}), {}, "raised"),
    "forbidden and no other": (answered(403, "GET"), ONE_URL, {}, "raised"),
    "not readable yet": (answered(404, "GET"), ONE_URL, {"after": 5 * MINUTE - S}, "later"),
    "dead": (answered(404, "GET"), ONE_URL, {"after": 5 * MINUTE}, "its job"),
    "gone": (answered(410, "GET"), ONE_URL, {"after": S}, "its job"),
    "wrong": (answered(400, "GET", code="Odd"), ONE_URL, {}, "failed"),
    "unauthorised": (answered(401, "GET"), ONE_URL, {}, "raised"),
    "timed out": (answered(408, "GET"), ONE_URL, {}, "raised"),
    "locked": (answered(409, "GET"), ONE_URL, {}, "raised"),
    "too many": (answered(429, "GET"), ONE_URL, {}, "raised"),
    "teapot": (answered(418, "GET", code="Odd"), ONE_URL, {}, "failed"),
    "status in trouble": (answered(500, "GET", code="Odd"), ONE_URL, {"attempt": 9}, "raised"),
    "result in trouble": (answered(500, "GET", code="Odd"), RESULT_URL, {"attempt": 3}, "raised"),
    "result that is an error": (answered(500, "GET", code="Odd"), RESULT_URL, {"attempt": 4}, "failed"),
    "result in passing trouble": (
        answered(500, "GET", code="ServerBusy"),
        RESULT_URL,
        {"attempt": 9},
        "raised",
    ),
    "result that is an error, with a status": (
        answered(500, "GET", code="Odd"),
        BOTH.model_copy(update={"other_url": True}),
        {"attempt": 4},
        "failed",
    ),
    "malformed": (failed(ArmProtocolError, "GET"), ONE_URL, {"attempt": 3}, "raised"),
    "malformed for good": (failed(ArmProtocolError, "GET"), ONE_URL, {"attempt": 4}, "its job"),
}


@pytest.mark.parametrize(("error", "followed", "given", "follows"), ERRORS.values(), ids=ERRORS)
def test_what_an_operation_answered(
    error: ArmError, followed: FollowedOperation, given: dict[str, Any], follows: str
) -> None:
    azure = Azure(status=error, result=error, jobs=[own()])
    message = tracked(followed, attempt=given.get("attempt", 0))
    after = given.get("after", 10 * MINUTE)
    if follows == "raised":
        with pytest.raises(ArmError) as raised:
            polled(azure, message, after=after)
        assert raised.value is error
        return
    result = polled(azure, message, after=after)
    if follows == "failed":
        assert error_of(result) == (Status.FAILED, "Odd")
    elif follows == "other url":
        assert (following(result).followed, later(result).delay) == (
            followed.model_copy(update={"other_url": True}),
            timedelta(),
        )
    elif follows == "its job":
        assert following(result).followed == FollowedJob(job_id="mine")
    else:
        assert following(result).followed == followed
        assert later(result).events == ()


def test_a_dead_operation_without_a_job_has_been_done() -> None:
    message = tracked(RESULT_URL, "refresh_containers")
    assert isinstance(polled(Azure(result=answered(404, "GET")), message, row=REFRESH), Continue)
    with pytest.raises(ArmProtocolError):
        polled(
            Azure(result=failed(ArmProtocolError, "GET")),
            message.model_copy(update={"attempt": 9}),
            row=REFRESH,
        )


def test_the_result_of_a_failed_operation_is_left_for_its_status() -> None:
    message = tracked(BOTH, "refresh_containers", attempt=4)
    result = polled(Azure(result=answered(500, "GET", code="Odd")), message, row=REFRESH)
    assert following(result).followed == BOTH.model_copy(update={"other_url": True})
    assert later(result).delay == timedelta()


def test_no_url_is_asked_before_it_allows() -> None:
    early = polled(Azure(), tracked(not_before=NOW + 11 * MINUTE))
    assert later(early).delay == MINUTE
    for due in (NOW + 10 * MINUTE, NOW + 9 * MINUTE):
        azure = Azure(status=RUNNING)
        assert following(polled(azure, tracked(not_before=due))).followed == BOTH
        assert azure.asked == ["status"]
    # A listing that shows the job asks nothing.
    later(polled(Azure(), tracked(not_before=NOW + 11 * MINUTE), known=own()))


# -- from the operation to its job


def test_its_job_is_known_by_its_request_id_at_once() -> None:
    azure = Azure(jobs=[job("other"), own()])
    result = polled(azure, tracked(FollowedOperation()), after=S)
    assert following(result).followed == FollowedJob(job_id="mine")
    assert azure.start == NOW - 5 * MINUTE
    (started,) = later(result).events
    assert started.type.endswith("started.v1")
    assert getattr(started.data, "job", None) == JobInfo(id="mine", status="InProgress")


def test_a_job_that_is_listed_late_is_waited_for() -> None:
    one_by_itself = [job("lone", activity_id=FOREIGN)]
    assert (
        later(polled(Azure(jobs=one_by_itself), tracked(FollowedOperation()), after=5 * MINUTE - S)).delay
        == MINUTE + S
    )
    result = polled(Azure(jobs=one_by_itself), tracked(FollowedOperation()), after=5 * MINUTE)
    assert following(result).followed == FollowedJob(job_id="lone")


@pytest.mark.parametrize(
    ("jobs", "items"),
    [
        ([], []),
        ([job("1", activity_id=FOREIGN), job("2", activity_id=FOREIGN)], []),
        ([job("1", activity_id=FOREIGN)], [protected("orders"), protected("orders", instance="SQL2019")]),
        ([job("1", activity_id=FOREIGN, start_time=NOW - MINUTE - S)], []),
    ],
    ids=["none", "two", "a namesake's", "begun before"],
)
def test_a_job_that_cannot_be_told_is_looked_for_twice(jobs: list[Job], items: list[ProtectedItem]) -> None:
    again = polled(Azure(jobs=jobs, items=items), tracked(FollowedOperation()))
    assert following(again).followed == FollowedOperation(looked=True)
    assert later(again).delay == MINUTE
    end = polled(Azure(jobs=jobs, items=items), tracked(FollowedOperation(looked=True)))
    assert error_of(end) == (Status.UNKNOWN, ErrorCode.JOB_NOT_FOUND)


def test_a_job_begun_during_the_call_may_be_its_own() -> None:
    during = job("during", activity_id=FOREIGN, start_time=NOW - MINUTE)
    assert following(polled(Azure(jobs=[during]), tracked(FollowedOperation()))).followed == FollowedJob(
        job_id="during"
    )


def test_a_job_is_followed_from_when_its_operation_was_started() -> None:
    named = replace(SUCCEEDED, job_id="job-9")
    result = polled(Azure(status=named), tracked(not_before=NOW))
    assert following(result).deadline == NOW + timedelta(days=7)
    assert (later(result).delay, following(result).not_before) == (timedelta(), None)
    hasty = polled(Azure(status=named), tracked(request={"job_timeout": HOUR}))
    assert following(hasty).deadline == NOW + HOUR
    scarce = polled(Azure(status=named), may_read_more=lambda _action: False)
    assert later(scarce).delay == 30 * S


def test_a_job_that_is_found_after_its_deadline_has_one_look() -> None:
    named = replace(SUCCEEDED, job_id="mine")
    message = tracked(request={"job_timeout": 10 * MINUTE})
    result = polled(Azure(status=named, job=ended()), message)
    assert isinstance(result, End)
    assert (result.status, len(result.events)) == (Status.SUCCEEDED, 1)
    running = polled(Azure(status=named, job=own()), message)
    assert isinstance(running, End)
    assert (running.status, len(running.events)) == (Status.TIMED_OUT, 1)


def test_a_job_that_has_ended_by_the_time_it_is_found_is_started_and_ended_at_once() -> None:
    payload = backup_message("next").payload
    goes_on = replace(
        BACKUP, after_job=lambda _message, _job, _end: Continue((To("trigger_backup", payload),))
    )
    result = polled(Azure(), row=goes_on, known=ended())
    assert isinstance(result, Continue)
    assert [event.type.split(".")[2] for event in result.events] == ["started"]
    # One that gave way to another was no start.
    conflict = ended("Failed", error_details=[JobError(errorCode=510008)])
    assert isinstance(polled(Azure(), known=conflict), NextEffect)


# -- the job


def test_a_job_that_runs_is_looked_at_on_the_next_tick() -> None:
    result = polled(Azure(job=own(percent_complete=40.0)), tracked(FollowedJob(job_id="mine")))
    assert following(result).followed == FollowedJob(job_id="mine", percent_complete=40.0)
    assert later(result).delay == 30 * S
    silent = polled(Azure(job=own()), tracked(FollowedJob(job_id="mine", percent_complete=40.0)))
    assert following(silent).followed == FollowedJob(job_id="mine", percent_complete=40.0)


def test_a_job_that_the_vault_does_not_know_is_waited_for_a_little() -> None:
    message = tracked(FollowedJob(job_id="mine"))
    later(polled(Azure(), message, after=5 * MINUTE - S))
    assert error_of(polled(Azure(jobs=[]), message, after=5 * MINUTE)) == (
        Status.UNKNOWN,
        ErrorCode.JOB_NOT_FOUND,
    )


def test_a_job_of_a_strange_status_is_followed_to_its_deadline(caplog: pytest.LogCaptureFixture) -> None:
    strange = own(status="Dreaming", raw_status="Dreaming")
    later(polled(Azure(job=strange), tracked(FollowedJob(job_id="mine"))))
    assert "status that is not known" in caplog.text
    caplog.clear()
    later(polled(Azure(job=own()), tracked(FollowedJob(job_id="mine"))))
    assert not caplog.records


def test_time_is_up_at_the_deadline_and_where_the_next_look_would_be_after_it() -> None:
    message = tracked(FollowedJob(job_id="mine"), deadline=NOW + 10 * MINUTE)
    assert error_of(polled(Azure(job=own()), message)) == (Status.TIMED_OUT, ErrorCode.JOB_TIMEOUT)
    nearly = tracked(FollowedJob(job_id="mine"), deadline=NOW + 10 * MINUTE + 10 * S)
    assert later(polled(Azure(job=own()), nearly)).delay == 15 * S
    waits = Azure(status=replace(RUNNING, retry_after=MINUTE))
    assert error_of(polled(waits, tracked(deadline=NOW + 11 * MINUTE - S)))[0] is Status.TIMED_OUT
    # What asks to be asked at the deadline is asked then, though that is no tick.
    just = tracked(deadline=NOW + 10 * MINUTE + 40 * S)
    assert later(polled(Azure(status=replace(RUNNING, retry_after=40 * S)), just)).delay == 40 * S


def test_a_tick_that_has_grown_is_counted_from_the_listing() -> None:
    grown = GrownTick(2 * MINUTE, NOW + 10 * MINUTE - 10 * S)
    assert (
        later(polled(Azure(job=own()), tracked(FollowedJob(job_id="mine")), grown_tick=grown)).delay
        == 110 * S
    )


STRANGER = job("stranger", activity_id=FOREIGN, entity_name="billing [sqlvm1]")


def test_a_job_that_cannot_be_its_own_is_not_followed() -> None:
    message = tracked(FollowedJob(job_id="stranger"))
    result = polled(Azure(job=STRANGER, jobs=[STRANGER, own()]), message)
    assert following(result).followed == FollowedJob(job_id="mine")
    azure = Azure(job=STRANGER, jobs=[STRANGER])
    result = polled(azure, message)
    assert azure.start == NOW - 5 * MINUTE
    assert error_of(result) == (Status.UNKNOWN, ErrorCode.OTHER_JOB)
    assert isinstance(result, End)
    assert result.error is not None
    assert "a job Backup (Full) of billing [sqlvm1]" in result.error.message
    # As a listing shows it, or as the operation names it, it is no more its own.
    assert error_of(polled(azure, message, known=STRANGER)) == (Status.UNKNOWN, ErrorCode.OTHER_JOB)
    assert error_of(polled(azure, known=STRANGER)) == (Status.UNKNOWN, ErrorCode.OTHER_JOB)


def test_a_job_with_its_own_request_id_is_its_own_whatever_it_says() -> None:
    odd = own(entity_name="billing [sqlvm2]", operation="Restore")
    later(polled(Azure(job=odd), tracked(FollowedJob(job_id="mine"))))
    nobody = job("nobody", activity_id=FOREIGN, operation="Restore", entity_name="")
    result = polled(Azure(job=nobody, jobs=[]), tracked(FollowedJob(job_id="nobody")))
    assert isinstance(result, End)
    assert result.error is not None
    assert "a job Restore of nothing: it is" in result.error.message


# -- what a job ends in


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("Completed", Status.SUCCEEDED),
        ("CompletedWithWarnings", Status.SUCCEEDED_WITH_WARNINGS),
        ("Failed", Status.FAILED),
        ("Cancelled", Status.CANCELLED),
    ],
)
def test_a_job_ends_in_its_outcome(said: str, status: Status) -> None:
    why = [JobError(errorString=f"text {number}") for number in range(60)]
    result = polled(Azure(job=ended(said, error_details=why)), tracked(FollowedJob(job_id="mine")))
    assert isinstance(result, End)
    assert result.status is status
    succeeded = said.startswith("Completed")
    assert (result.error is None) is succeeded
    assert result.details.warnings == (tuple(f"text {number}" for number in range(50)) if succeeded else ())
    assert result.details.duration_seconds == 59.0
    assert (result.details.start_time, result.details.end_time) == (NOW + S, NOW + MINUTE)
    assert result.details.job is not None
    assert result.details.job.details_left_out is None


def test_a_conflict_that_a_job_tells_leads_to_the_next_effect() -> None:
    for why in (
        JobError(errorCode=510008),
        JobError(errorTitle="OperationCancelledBecauseConflictingOperationRunningUserError"),
    ):
        result = polled(Azure(job=ended("Failed", error_details=[why])), tracked(FollowedJob(job_id="mine")))
        assert isinstance(result, NextEffect)
        assert result.waiting
        assert result.why is not None
        cancelled = polled(
            Azure(job=ended("Cancelled", error_details=[why])), tracked(FollowedJob(job_id="mine"))
        )
        assert isinstance(cancelled, End)


def test_a_failed_job_may_prove_an_earlier_effect() -> None:
    assert BACKUP.job is not None
    row = replace(BACKUP, job=replace(BACKUP.job, proves=lambda error: error.code == "Exists"))
    exists = ended("Failed", error_details=[JobError(errorTitle="Exists")])
    message = tracked(FollowedJob(job_id="mine"), request={"epoch": 1})
    azure = Azure(job=exists, jobs=[])
    azure.list_jobs = lambda _vault, **_: []  # type: ignore[method-assign]  # looked through by its operation as well
    assert error_of(polled(azure, message, row=row))[0] is Status.UNKNOWN
    assert error_of(polled(azure, tracked(FollowedJob(job_id="mine")), row=row)) == (Status.FAILED, "Exists")
    refused = OperationStatus(status="Failed", finished=True, succeeded=False, error_code="Exists")
    azure = Azure(status=refused)
    azure.list_jobs = lambda _vault, **_: []  # type: ignore[method-assign]  # as above
    assert error_of(polled(azure, tracked(request={"epoch": 1}), row=row))[0] is Status.UNKNOWN


def test_a_job_of_a_listing_is_read_where_its_details_are_wanted() -> None:
    full = ended(error_details=[JobError(errorString="Full log.")])
    for known in (ended(), own()):
        azure = Azure(job=full)
        read = polled(azure, tracked(FollowedJob(job_id="mine")), known=known, details=True)
        assert isinstance(read, End)
        assert (azure.asked, read.details.warnings) == (["job"], ("Full log.",))
        assert read.details.job is not None
        assert read.details.job.details_left_out is None
    azure = Azure(job=full)
    listed = polled(azure, known=ended())
    assert isinstance(listed, End)
    assert azure.asked == []
    assert listed.details.job is not None
    assert listed.details.job.details_left_out is True
    assert len(listed.events) == 1
    # One that is gone meanwhile is what the listing showed.
    gone = polled(Azure(), tracked(FollowedJob(job_id="mine")), known=ended(), details=True)
    assert isinstance(gone, End)
    assert gone.status is Status.SUCCEEDED


def test_a_configuration_has_no_details_to_leave_out() -> None:
    assert adds_details(BACKUP)
    assert not adds_details(TABLE.rows["enable_protection"])
    assert not adds_details(REFRESH)


def test_a_job_is_told_as_far_as_it_is_known() -> None:
    found = own(
        tasks=[{"taskId": f"task {number}", "status": "Completed"} for number in range(60)],
        properties={f"name {number}": "x" for number in range(60)},
    )
    told = job_info(found)
    assert (told.id, told.status, told.activity_id) == ("mine", "InProgress", found.activity_id)
    assert told.tasks == tuple(TaskInfo(task_id=f"task {number}", status="Completed") for number in range(50))
    assert [*told.properties] == [f"name {number}" for number in range(50)]
    assert job_info(own(status="Completed", raw_status="")).status == "Completed"


def test_why_a_job_did_not_succeed_is_told_with_every_code_that_it_has() -> None:
    def told(dynamic: str | None = None, **why: Any) -> ErrorInfo:
        details = [JobError(**why), JobError(errorTitle="Second")] if why else []
        return job_error(ended("Failed", error_details=details, dynamic_error_message=dynamic))

    both = told(
        errorCode=7, errorTitle="Odd", errorString="It broke.", recommendations=[f"{n}" for n in range(30)]
    )
    assert (both.code, both.message) == ("Odd", "It broke. (error 7)")
    assert both.recommendations == tuple(f"{number}" for number in range(20))
    number = told(errorCode=7, errorString="It broke.")
    assert (number.code, number.message) == ("7", "It broke.")
    name = told(errorTitle="Odd", errorString="It broke.")
    assert (name.code, name.message) == ("Odd", "It broke.")
    assert told("At line 3.", errorTitle="Odd", errorString="It broke.").message == "It broke. At line 3."
    assert told("At line 3.") == ErrorInfo(code="JobFailed", message="At line 3.")
    assert told() == ErrorInfo(code="JobFailed", message="the job ended as Failed and gives no reason")
