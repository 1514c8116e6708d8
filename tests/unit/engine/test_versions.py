"""Messages of the version before are read as what they say: its jobs and operations are followed on."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from shared.engine.claim import claim
from shared.engine.message import VERSION, DecidedEffect, Ending, FollowedJob, FollowedOperation, StepMessage
from shared.engine.table import upgraded
from shared.messages.events import ErrorInfo, Status
from shared.workflows import TABLE
from tests.unit.examples import NOW, backup_message, body_of

LATER = NOW + timedelta(minutes=5)


def of_version_1(message: StepMessage[Any], **payload: Any) -> dict[str, Any]:
    """The message as version 1 wrote it: requests were told by source and id, and what is followed had no kind."""
    body = body_of(message)
    del body["request"]["keyedBy"]
    kept = {name: value for name, value in body["payload"].items() if name != "of"}
    return {**body, "version": 1, "late": 2, "payload": {**kept, **payload}}


def read(**payload: Any) -> StepMessage[Any]:
    """A message to the tracker, which followed this in version 1."""
    message = claim(backup_message(), FollowedJob(job_id="-"), at=NOW, deadline=LATER, not_before=LATER)
    effect = payload.pop("effect", None)
    body = of_version_1(message, **payload)
    if effect is not None:
        body["effect"] = effect
    found = TABLE.read(TABLE.rows["track"], body)
    assert (found.version, found.request.keyed_by) == (VERSION, "sourceAndId")
    following = found.payload
    assert (following.origin, following.payload) == ("trigger_backup", backup_message().payload)
    assert (following.began, following.deadline, following.not_before) == (NOW, LATER, LATER)
    assert following.client_request_id == message.payload.client_request_id
    return found


def test_an_operation_is_followed_on() -> None:
    urls = {"asyncOperationUrl": "https://a", "locationUrl": "https://b"}
    followed = read(**urls, otherUrl=True, looked=True).payload.followed
    assert followed == FollowedOperation(
        async_operation_url="https://a", location_url="https://b", other_url=True, looked=True
    )
    assert read(locationUrl="https://b").payload.followed == FollowedOperation(location_url="https://b")


def test_a_job_is_followed_on() -> None:
    assert read(jobId="job-1", percentComplete=40.0).payload.followed == FollowedJob(
        job_id="job-1", percent_complete=40.0
    )
    assert read(jobId="job-1").payload.followed == FollowedJob(job_id="job-1")


def test_what_had_been_decided_stays_decided() -> None:
    verdict = {"status": "failed", "code": "Odd", "message": "It failed.", "recommendations": ["Wait."]}
    ending = read(verdict=verdict, jobId="job-1").payload.followed
    assert isinstance(ending, Ending)
    assert ending.status is Status.FAILED
    assert ending.error == ErrorInfo(code="Odd", message="It failed.", recommendations=("Wait.",))
    assert ending.details.job is not None
    assert (ending.details.job.id, ending.details.job.status) == ("job-1", "Unknown")
    del verdict["recommendations"]
    without_job = read(verdict=verdict).payload.followed
    assert without_job.details.job is None
    assert without_job.error.recommendations == ()


@pytest.mark.parametrize(
    ("effect", "following"), [({"n": 2}, 3), ({}, 2), ("none", 2), ({"n": "two"}, 2)], ids=str
)
def test_the_next_effect_is_the_next_one(effect: Any, following: int) -> None:
    again = {"waiting": True, "since": "2026-01-05T07:00:00Z"}
    body = upgraded(of_version_1(backup_message(step="track"), again=again) | {"effect": effect})
    assert body["payload"]["of"] == {
        "kind": "nextEffect",
        "effect": {"n": following, "waiting": True},
        "since": "2026-01-05T07:00:00Z",
    }


def test_a_next_effect_that_waits_for_nothing_is_read() -> None:
    followed = read(again={"since": "2026-01-05T07:00:00Z"}, effect={"n": 1}).payload.followed
    assert isinstance(followed, DecidedEffect)
    assert (followed.effect.n, followed.effect.waiting, followed.since) == (
        2,
        False,
        NOW - timedelta(hours=1),
    )


def test_a_message_to_a_step_is_read_by_its_request_and_payload() -> None:
    body = of_version_1(backup_message(poll=3)) | {"acceptance": {"any": "thing"}}
    found = TABLE.read(TABLE.rows["trigger_backup"], body)
    assert (found.version, found.poll, found.payload) == (VERSION, 3, backup_message().payload)
    assert found.request.keyed_by == "sourceAndId"
    assert not {"late", "acceptance"} & {*upgraded(body)}


@pytest.mark.parametrize("name", ["request", "payload"])
def test_what_is_no_object_is_left_for_the_reading_to_refuse(name: str) -> None:
    body = {**of_version_1(backup_message(step="track")), name: "nothing"}
    assert upgraded(body)[name] == "nothing"


def test_a_message_of_this_version_is_left_as_it_is() -> None:
    body = body_of(backup_message())
    assert upgraded(body) is body
