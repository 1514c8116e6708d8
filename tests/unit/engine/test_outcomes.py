"""What a requester is told of a message's end, and of what was not waited for any longer."""

from __future__ import annotations

from datetime import timedelta

from shared.engine import outcomes
from shared.engine.claim import claim
from shared.engine.message import FollowedJob, FollowedOperation
from shared.engine.result import End, refused
from shared.engine.runtime import GivenBack
from shared.messages import events
from shared.messages.error_codes import ErrorCode
from shared.messages.events import JobInfo, Status
from shared.messages.requests import Operation, ProtectData
from shared.steps.payloads import ProtectPlan, VaultTask
from tests.unit.examples import NOW, VAULT, VM, backup_message, item_id, request


def test_a_job_that_has_not_ended_in_its_time_is_named_and_left_to_run() -> None:
    of_job = claim(backup_message(), FollowedJob(job_id="job-1"), at=NOW, deadline=NOW).payload
    end = outcomes.timed_out(of_job)
    assert end.error is not None
    assert (end.status, end.error.code) == (Status.TIMED_OUT, ErrorCode.JOB_TIMEOUT)
    assert end.error.message == "job job-1 had not ended by 2026-01-05T08:00:00Z; it is left to run."
    assert end.details.job == JobInfo(id="job-1", status="InProgress")


def test_an_operation_that_has_not_ended_in_its_time_is_told_by_its_step_and_request_id() -> None:
    following = claim(backup_message(), FollowedOperation(), at=NOW, deadline=NOW).payload
    end = outcomes.timed_out(following)
    assert end.error is not None
    assert (end.status, end.error.code) == (Status.TIMED_OUT, ErrorCode.OPERATION_TIMEOUT)
    assert "trigger_backup" in end.error.message
    assert following.client_request_id in end.error.message


def test_the_outcome_of_a_whole_request_names_the_vm_that_it_names() -> None:
    data = ProtectData.model_validate(
        {
            "vaultId": VAULT.path,
            "vmId": VM.path,
            "policyName": "Daily",
            "databases": [{"instance": "MSSQLSERVER", "database": "*"}],
        }
    )
    message = backup_message(request=request(operation=Operation.PROTECT)).model_copy(
        update={"payload": ProtectPlan(data=data)}
    )
    told = outcomes.outcome(message, End(Status.FAILED), at=NOW)
    assert told.to_message().message_id == events.claim_id(message.request)
    assert getattr(told.data, "vm_id", None) == VM.path
    beside = outcomes.outcome_beside_acceptance(message, End(Status.SKIPPED), at=NOW)
    assert beside.to_message().message_id == beside.id


def test_a_start_names_the_item() -> None:
    told = outcomes.started(backup_message(), JobInfo(id="job-1", status="InProgress"), at=NOW)
    assert told.subject == item_id("orders").path


def test_what_is_refused_is_rejected_and_not_failed() -> None:
    assert refused("Odd", "It is not allowed.").end.status is Status.REJECTED


def test_a_vault_is_told_of_under_its_own_key() -> None:
    message = backup_message().model_copy(update={"payload": VaultTask(vault_id=VAULT)})
    told = outcomes.outcome(message, End(Status.SUCCEEDED), at=NOW + timedelta(hours=1))
    assert getattr(told.data, "outcome_key", None) == VAULT.key


def test_what_was_given_back_is_known_once_and_the_oldest_of_many_forgotten() -> None:
    given_back = GivenBack()
    for number in range(10_000):
        given_back.add("track", str(number))
    assert not given_back.take("other", "0")
    assert given_back.take("track", "0")
    assert not given_back.take("track", "0")
    for number in (10_000, 10_001):
        given_back.add("track", str(number))
    assert not given_back.take("track", "1")
    assert given_back.take("track", "2")
