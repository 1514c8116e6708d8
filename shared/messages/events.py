"""The events that the app publishes on the topic `job-outcomes`: accepted, started and outcomes.

Their ids are deterministic, so that a consumer can drop a repeat; the JSON Schemas in docs/schemas are
generated from these models.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field

from shared.bus import OutgoingMessage
from shared.bus.topology import JOB_OUTCOMES
from shared.messages.cloud_events import (
    CONTENT_TYPE,
    InvalidMessageError,
    KnownAttributes,
    is_replaced,
    known_attributes,
    read_json,
)
from shared.messages.identity import Database, Request, fingerprint
from shared.messages.model import Explanation, Line, Model, Moment, Word

APP_NAME: Final = "sql-vm-backup-functions"
#: The outcome key of a request that ended before any of its databases was known.
REQUEST_KEY: Final = "request"
#: Bytes of an event that is published whole; the broker takes 256 KiB with the properties.
_LARGEST: Final = 200 * 1024
_SLIM_TEXT: Final = 1024
_SLIM_LIST: Final = 10


class Status(StrEnum):
    """How a database's part of a request ended. Every one is terminal."""

    SUCCEEDED = "succeeded"
    SUCCEEDED_WITH_WARNINGS = "succeededWithWarnings"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timedOut"  #: the job may still be running in the service
    UNKNOWN = "unknown"  #: an effect may or may not have happened, and no job can be found
    SKIPPED = "skipped"  #: there was nothing to do that could be done
    REJECTED = "rejected"  #: the request was refused before Azure was asked for an effect


SUCCESSES: Final = frozenset({Status.SUCCEEDED, Status.SUCCEEDED_WITH_WARNINGS})
#: a status that a later look may improve
DOUBTS: Final = frozenset({Status.UNKNOWN, Status.TIMED_OUT})


class EventModel(Model):
    """Data of an event, as it is published: camelCase, absent where there is nothing to say."""

    model_config = ConfigDict(extra="forbid", validate_by_name=True, validate_by_alias=True)


class ErrorInfo(EventModel):
    """Why something did not succeed."""

    code: Word
    message: Explanation
    recommendations: tuple[Line, ...] = ()


class TaskInfo(EventModel):
    """One task of a job."""

    task_id: Line
    status: Word


class JobInfo(EventModel):
    """The job in the vault, as far as it was read."""

    id: Word
    status: Word
    activity_id: Word | None = None
    tasks: tuple[TaskInfo, ...] = ()
    properties: dict[Line, Line] = Field(default_factory=dict)
    #: tasks and properties were not read: the service's hour of job reads had no room for them
    details_left_out: Literal[True] | None = None


class RecoveryPointInfo(EventModel):
    """The recovery point that a restore went back to."""

    name: str
    kind: str
    time: Moment


class RestorableInfo(EventModel):
    """What a database can be restored to, once its backup is taken, or where none was needed."""

    #: `Full`, `Differential`, `CopyOnlyFull` or `Log`
    kind: Word
    #: of a recovery point or the end of a log range that is listed, its moment; else the end of the backup's job, which
    #: the moment lies before
    time: Moment
    #: whether it is listed
    listed: bool
    #: the recovery point's name, in requests of at most 20 databases
    recovery_point: Word | None = None


class EventData(EventModel):
    """What the data of every event has."""

    request_id: str
    request_source: str
    epoch: int
    vault_id: str | None
    operation: str
    status: str


class AcceptedData(EventData):
    """A request is understood and its databases are known."""

    outcome_count: Annotated[int, Field(ge=1)]
    #: databases that the request's patterns mean but to which it cannot apply, by reason
    skipped: dict[str, int] = Field(default_factory=dict)
    #: up to 100 of them
    skipped_names: tuple[str, ...] = ()
    schedule: str | None = None


class StartedData(EventData):
    """The job of one database is known."""

    outcome_count: int
    outcome_key: str
    vm_id: str | None = None
    instance: str | None = None
    availability_group: str | None = None
    database: str
    job: JobInfo
    schedule: str | None = None


class RepairInfo(EventModel):
    """What is done about a gap by a rule of the request, or why not."""

    #: `protect` or `backup`
    action: str
    #: the request that was sent for it; absent where none was
    request_id: str | None = None
    #: when it begins, where it does not begin at once
    not_before: Moment | None = None
    #: why nothing is done: a word, and a sentence
    reason: Word | None = None
    message: Explanation | None = None


class GapInfo(EventModel):
    """A database, or a whole VM, that is not backed up as it should be."""

    #: of a VM as a whole `VirtualMachine`, of a database its state
    state: str
    since: Moment | None = None
    vm_id: str | None = None
    instance: str | None = None
    availability_group: str | None = None
    #: absent where it is the VM's as a whole
    database: str | None = None
    code: Word | None = None
    message: Explanation | None = None
    repair: RepairInfo | None = None


class CoverageInfo(EventModel):
    """How the databases of a vault stand."""

    #: when the vault was looked at
    at: Moment
    #: how many databases there are in each state
    counts: dict[str, int]
    #: up to 200 gaps, the worst first, and how many more there are
    gaps: tuple[GapInfo, ...] = ()
    gaps_left_out: int = 0
    #: how many repairs were sent, by action
    repairs: dict[str, int] = Field(default_factory=dict)
    #: how many were not, by reason
    held: dict[str, int] = Field(default_factory=dict)
    #: databases that the request leaves out, by reason
    left_out: dict[str, int] = Field(default_factory=dict)


class GapData(GapInfo, EventData):
    """One database, or a whole VM, that is not backed up as it should be; told once, then weekly."""

    outcome_count: int
    #: which outcome of the request it belongs to: the vault's
    outcome_key: str
    policy_name: Word | None = None
    last_backup_time: Moment | None = None
    recommendations: tuple[Line, ...] = ()
    #: it was open a week ago and longer
    reminder: bool = False
    schedule: str | None = None


class DrillInfo(EventModel):
    """What a restore drill proved, and what it took; absent where it did not come so far."""

    #: the drill database on the target
    database: str
    check: str
    #: how much would have been lost: from the moment that was restored to the beginning of the drill
    achieved_rpo_seconds: float | None = None
    restore_seconds: float | None = None
    check_seconds: float | None = None
    #: from the start of the restore until the database was restored and checked
    measured_rto_seconds: float | None = None
    #: of its files, by the instance; without a check, what the restore transferred
    size_mb: Annotated[float | None, Field(alias="sizeMB")] = None
    #: on the disk of its data files, once it was restored
    free_mb: Annotated[float | None, Field(alias="freeMB")] = None
    #: errors that DBCC CHECKDB reported, their numbers, and the first of them
    check_errors: int | None = None
    check_error_numbers: tuple[int, ...] = ()
    check_messages: tuple[Line, ...] = ()
    #: whether the drill database was dropped
    cleaned_up: bool | None = None


class OutcomeDetails(EventModel):
    """What an outcome tells of the job and of the database, beside how it ended."""

    start_time: Moment | None = None
    end_time: Moment | None = None
    duration_seconds: float | None = None
    policy_name: Word | None = None
    warnings: tuple[Line, ...] = ()
    job: JobInfo | None = None
    protection_state: Word | None = None
    backup_type: Word | None = None
    data_transferred_mb: Annotated[float | None, Field(alias="dataTransferredMB")] = None
    retain_until: Moment | None = None
    restorable: RestorableInfo | None = None
    recovery_point: RecoveryPointInfo | None = None
    target: dict[str, Any] | None = None
    coverage: CoverageInfo | None = None
    drill: DrillInfo | None = None


NO_DETAILS: Final = OutcomeDetails()


class OutcomeData(OutcomeDetails, EventData):
    """The one terminal event of a database's part of a request, or of the request itself."""

    outcome_count: int
    outcome_key: str
    vm_id: str | None = None
    instance: str | None = None
    availability_group: str | None = None
    database: str | None = None
    schedule: str | None = None
    error: ErrorInfo | None = None


class RequestRejectedData(EventModel):
    """A message that is no request at all."""

    epoch: int
    operation: str = "request"
    status: str = Status.REJECTED
    outcome_count: int = 1
    outcome_key: str = REQUEST_KEY
    request_id: str | None = None
    request_source: str | None = None
    message_id: str | None = None
    queue: str
    error: ErrorInfo


class Event(EventModel):
    """One CloudEvent of the topic, its attributes in the order in which they are written."""

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str
    type: str
    time: Moment
    datacontenttype: Literal["application/json"] = "application/json"
    subject: str | None
    traceparent: str | None = None
    correlation_id: Annotated[str | None, Field(alias="correlationid")] = None
    causation_id: Annotated[str | None, Field(alias="causationid")] = None
    data: AcceptedData | StartedData | OutcomeData | GapData | RequestRejectedData
    #: what the broker tells it from others by, where that is not its id
    message_id: Annotated[str | None, Field(exclude=True)] = None

    def to_json(self) -> bytes:
        """Structured CloudEvents JSON."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()

    def slim(self) -> Event:
        """The same event without details that only explain: a job's tasks and properties, and later warnings."""
        data = self.data
        changes: dict[str, Any] = {}
        job = getattr(data, "job", None)
        if isinstance(job, JobInfo):
            changes["job"] = job.changed(tasks=(), properties={})
        if isinstance(data, OutcomeData):
            kept = tuple(text[:_SLIM_TEXT] for text in data.warnings[:_SLIM_LIST])
            left_out = len(data.warnings) - len(kept)
            changes["warnings"] = (*kept, f"{left_out} more warnings are left out.") if left_out else kept
            if data.coverage is not None:
                few = data.coverage.gaps[:_SLIM_LIST]
                more = data.coverage.gaps_left_out + len(data.coverage.gaps) - len(few)
                changes["coverage"] = data.coverage.changed(gaps=few, gaps_left_out=more)
        error = getattr(data, "error", None)
        if isinstance(error, ErrorInfo):
            advice = tuple(text[:_SLIM_TEXT] for text in error.recommendations[:_SLIM_LIST])
            changes["error"] = error.changed(message=error.message[: 4 * _SLIM_TEXT], recommendations=advice)
        if isinstance(data, AcceptedData):
            changes["skipped_names"] = data.skipped_names[:_SLIM_LIST]
        return self.changed(data=data.changed(**changes))

    def to_message(self) -> OutgoingMessage:
        """The event as a message to the topic; its properties let a subscription filter without parsing.

        An event that would be too large for the broker is made slim: an outcome is always published.
        """
        body = self.to_json()
        if len(body) > _LARGEST:
            body = self.slim().to_json()
        parts = self.type.split(".")
        properties: dict[str, str | int | bool] = {
            "type": self.type,
            "workflow": parts[1],
            "status": parts[2],
        }
        vault_id = getattr(self.data, "vault_id", None)
        if vault_id:
            properties["vaultName"] = vault_id.rsplit("/", 1)[-1]
        database = getattr(self.data, "database", None)
        if database:
            properties["database"] = database
        if isinstance(self.data, GapData):
            properties["state"] = self.data.state
        return OutgoingMessage(
            entity=JOB_OUTCOMES,
            body=body,
            message_id=self.message_id or self.id,
            content_type=CONTENT_TYPE,
            subject=self.subject,
            correlation_id=self.correlation_id,
            application_properties=properties,
        )


def event_id(request_key: tuple[str, ...], *identity: object, epoch: int) -> str:
    """The id of a request's event; `identity` distinguishes it from the request's others of that epoch."""
    return fingerprint(*request_key, *identity, epoch)


def _event(
    request: Request,
    *,
    name: str,
    identity: tuple[object, ...],
    subject: str | None,
    at: datetime,
    data: AcceptedData | StartedData | OutcomeData | GapData,
) -> Event:
    return Event(
        id=event_id(request.key, *identity, epoch=request.epoch),
        source=request.vault_id.path.lower() if request.vault_id is not None else APP_NAME,
        type=f"sqlvmbackup.{request.operation}.{name}.v1",
        subject=subject or (request.vault_id.path if request.vault_id is not None else None),
        time=at,
        data=data,
        traceparent=request.traceparent,
        correlation_id=request.correlation_id,
        causation_id=request.id,
    )


def _common(request: Request, status: str) -> dict[str, Any]:
    return {
        "request_id": request.id,
        "request_source": request.source,
        "epoch": request.epoch,
        "vault_id": request.vault_id.path if request.vault_id is not None else None,
        "operation": request.operation.value,
        "status": status,
    }


def _identity(database: Database | None) -> dict[str, Any]:
    if database is None:
        return {}
    return {
        "vm_id": database.vm_id.path if database.vm_id is not None else None,
        "instance": database.instance,
        "availability_group": database.availability_group,
        "database": database.name,
    }


def claim_id(request: Request) -> str:
    """The id of a request's accepted event.

    An outcome for the whole request has the same id, and the broker keeps the first of the two: once a request has
    gone on to its databases, no second delivery can end it as a whole.
    """
    return fingerprint(*request.key, "accepted", request.epoch)


def accepted(
    request: Request, *, at: datetime, outcome_count: int, skipped: dict[str, int], names: tuple[str, ...]
) -> Event:
    """A request is understood; `outcome_count` outcomes will follow."""
    data = AcceptedData(
        **_common(request, "accepted"),
        outcome_count=outcome_count,
        skipped=skipped,
        skipped_names=names[:100],
        schedule=request.schedule,
    )
    return _event(request, name="accepted", identity=("accepted",), subject=None, at=at, data=data)


def started(
    request: Request,
    *,
    at: datetime,
    database: Database,
    subject: str,
    outcome_count: int,
    job: JobInfo,
) -> Event:
    """The job of one database is known."""
    data = StartedData(
        **_common(request, "started"),
        **_identity(database),
        outcome_count=outcome_count,
        outcome_key=database.key,
        job=job,
        schedule=request.schedule,
    )
    identity = ("started", database.key, job.id)
    return _event(request, name="started", identity=identity, subject=subject, at=at, data=data)


def outcome(
    request: Request,
    status: Status,
    *,
    at: datetime,
    database: Database | None = None,
    part: str | None = None,
    subject: str | None = None,
    outcome_count: int = 1,
    vm_id: str | None = None,
    error: ErrorInfo | None = None,
    details: OutcomeDetails = NO_DETAILS,
) -> Event:
    """The terminal event of a database, or of the request where none is known.

    `part`: the key of what it is about, where that is no database. The id does not depend on the status: a part of a
    request ends once per epoch.
    """
    key = database.key if database is not None else part or REQUEST_KEY
    data = OutcomeData(
        **_common(request, status.value),
        **(_identity(database) or {"vm_id": vm_id}),
        **{name: getattr(details, name) for name in OutcomeDetails.model_fields},
        outcome_count=outcome_count,
        outcome_key=key,
        schedule=request.schedule,
        error=error,
    )
    return _event(request, name=status.value, identity=("outcome", key), subject=subject, at=at, data=data)


def gap(
    request: Request,
    *,
    at: datetime,
    identity: tuple[object, ...],
    subject: str | None,
    info: GapInfo,
    outcome_count: int,
    outcome_key: str,
    policy_name: str | None,
    last_backup_time: datetime | None,
    recommendations: tuple[str, ...],
    reminder: bool,
) -> Event:
    """A gap. Its id is made of `identity`, so it is the same whichever request finds the gap."""
    data = GapData(
        **_common(request, "gap"),
        **{name: getattr(info, name) for name in GapInfo.model_fields},
        outcome_count=outcome_count,
        outcome_key=outcome_key,
        policy_name=policy_name,
        last_backup_time=last_backup_time,
        recommendations=recommendations,
        reminder=reminder,
        schedule=request.schedule,
    )
    event = _event(request, name="gap", identity=identity, subject=subject, at=at, data=data)
    return event.changed(id=fingerprint("gap", *identity))


def answer(
    request: Request, body: bytes, status: Status, *, at: datetime, error: ErrorInfo, queue: str
) -> Event:
    """The outcome for a message that was not accepted as the request that it claims to be.

    What it says proves nothing, so the outcome's id is made of the message's bytes and cannot collide with another
    outcome's.
    """
    event = outcome(request, status, at=at, error=error)
    return event.changed(id=answer_id(body, queue, request.operation.value, request.epoch))


def answer_id(body: bytes, queue: str, operation: str, epoch: int = 0) -> str:
    """The id of the answer to a message that was not accepted as a request, made of its bytes."""
    return fingerprint("answer", queue, operation, hashlib.sha256(body).hexdigest(), epoch)


def rejected_id(body: bytes, epoch: int = 0, identity: str = "") -> str:
    """The id of the answer to a message that is no request at all, made of its bytes.

    Where the platform has replaced some bytes, the broker's `identity` of the message goes in as well: messages that
    differed only in those bytes would otherwise have the same id.
    """
    told_apart = [identity] if is_replaced(body) else []
    return fingerprint("rejected", hashlib.sha256(body).hexdigest(), epoch, *told_apart)


def request_rejected(
    body: bytes,
    *,
    queue: str,
    message_id: str | None,
    identity: str,
    at: datetime,
    epoch: int,
    error: ErrorInfo,
) -> Event:
    """The answer to a message that is no request at all; its id is `rejected_id`.

    It names the sender that the message claims, which proves nothing.
    """
    try:
        known = known_attributes(read_json(body))
    except InvalidMessageError:
        known = KnownAttributes()
    return Event(
        id=rejected_id(body, epoch, identity),
        source=APP_NAME,
        type="sqlvmbackup.request.rejected.v1",
        subject=None,
        time=at,
        data=RequestRejectedData(
            epoch=epoch,
            request_id=known.id,
            request_source=known.source,
            queue=queue,
            message_id=message_id,
            error=error,
        ),
        traceparent=known.traceparent,
        correlation_id=known.correlation_id,
        causation_id=known.id,
    )
