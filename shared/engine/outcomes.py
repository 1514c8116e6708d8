"""The one builder of outcomes: the events that tell a requester how a step's message ended.

An outcome's id depends neither on its status nor on who sends it: a database's part of a request ends once per epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from shared.clock import ServiceTime
from shared.engine.advice import advised
from shared.engine.message import FollowedJob, Following
from shared.engine.result import End
from shared.messages import events
from shared.messages.error_codes import ErrorCode
from shared.messages.events import ErrorInfo, Event, JobInfo, OutcomeDetails, Status
from shared.messages.identity import Database

if TYPE_CHECKING:
    from shared.engine.message import Payload, StepMessage


def outcome(
    message: StepMessage[Any], end: End, *, at: ServiceTime, database: Database | None = None
) -> Event:
    """The outcome of a message's database, or of its request where no database is known yet.

    `database`: which of the request's databases it is about, where the message is about all of them.

    An outcome of the whole request has the message id of the request's acceptance, and the broker keeps the first of
    the two: once a request has gone on to its databases, no second delivery can end it as a whole.
    """
    payload: Payload = message.payload
    about = database or payload.about
    event = events.outcome(
        message.request,
        end.status,
        at=at,
        database=about,
        part=payload.part,
        subject=payload.subject,
        outcome_count=payload.outcomes,
        vm_id=payload.vm_id.path if payload.vm_id is not None else None,
        error=advised(end.error),
        details=end.details,
    )
    if payload.is_accepted or database is not None:
        return event
    return event.changed(message_id=events.claim_id(message.request))


def outcome_beside_acceptance(message: StepMessage[Any], end: End, *, at: ServiceTime) -> Event:
    """The outcome of a whole request that was accepted and means no database."""
    return outcome(message, end, at=at).changed(message_id=None)


def accepted(
    message: StepMessage[Any], *, at: ServiceTime, skipped: Mapping[str, int], names: Iterable[str]
) -> Event:
    """A request was understood and its databases are known: tells how many outcomes will follow."""
    return events.accepted(
        message.request,
        at=at,
        outcome_count=message.payload.outcomes,
        skipped=dict(skipped),
        names=tuple(names),
    )


def timed_out(following: Following) -> End:
    """The operation or job did not end in time; it is left to run."""
    if isinstance(following.followed, FollowedJob):
        job_id = following.followed.job_id
        text = f"job {job_id} had not ended by {following.deadline:%Y-%m-%dT%H:%M:%SZ}; it is left to run."
        details = OutcomeDetails(job=JobInfo(id=job_id, status="InProgress"))
        return End(Status.TIMED_OUT, ErrorInfo(code=ErrorCode.JOB_TIMEOUT, message=text), details)
    text = (
        f"the operation of step {following.origin} had not ended by {following.deadline:%Y-%m-%dT%H:%M:%SZ}"
        f" (client request id {following.client_request_id}); it is left to run."
    )
    return End(Status.TIMED_OUT, ErrorInfo(code=ErrorCode.OPERATION_TIMEOUT, message=text))


def started(message: StepMessage[Any], job: JobInfo, *, at: ServiceTime) -> Event:
    """The job of a message's database is known."""
    database, subject = message.payload.about, message.payload.subject
    assert database is not None and subject is not None
    return events.started(
        message.request,
        at=at,
        database=database,
        subject=subject,
        outcome_count=message.payload.outcomes,
        job=job,
    )
