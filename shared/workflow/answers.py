"""The outcome for a message that cannot be handled: whatever its body tells is used, so that nobody waits for ever.

Changes with what an outcome says; it looks at bodies that no model may fit.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import ValidationError

from shared.arm.ids import InvalidResourceIdError, VaultId
from shared.messages import events
from shared.messages.cloud_events import InvalidMessageError, read_envelope, read_json
from shared.messages.events import ErrorInfo, Event, Status
from shared.messages.model import TolerantModel
from shared.messages.requests import REQUEST_TYPES, Operation
from shared.messages.steps import Request, StepMessage, database_of
from shared.workflow.flow import TRACK, is_before_acceptance
from shared.workflow.parking import Delivery
from shared.workflow.workflows import starts_job


def outcome_of_body(delivery: Delivery, info: ErrorInfo, *, at: datetime, queue: str | None = None) -> Event:
    """The outcome for whatever request a message belongs to, read as far as it can be."""
    where = queue or delivery.queue
    body = delivery.body
    try:
        raw = read_json(body)
    except InvalidMessageError:
        raw = None
    if isinstance(raw, dict) and "specversion" in raw:
        return outcome_of_request(
            body, info, at=at, queue=where, epoch=delivery.epoch, status=Status.FAILED, taken=True
        )
    if isinstance(raw, dict):
        found = _outcome_of_step(raw, info, at=at, epoch=delivery.epoch)
        if found is not None:
            return found
    return events.request_rejected(
        body, queue=where, message_id=delivery.message_id or None, at=at, epoch=delivery.epoch, error=info
    )


def _outcome_of_step(raw: dict[str, Any], info: ErrorInfo, *, at: datetime, epoch: int) -> Event | None:
    try:
        message = StepMessage[TolerantModel].model_validate({**raw, "payload": {}}, extra="ignore")
    except ValidationError:
        return None
    payload = raw.get("payload")
    payload = payload if isinstance(payload, dict) else {}
    tracked: dict[str, Any] = payload.get("payload") if isinstance(payload.get("payload"), dict) else payload  # type: ignore[assignment]
    try:
        database = database_of(tracked)
    except ValidationError:
        database = None
    job_id = payload.get("jobId")
    details: dict[str, Any] = {}
    if isinstance(job_id, str):
        details["job"] = events.JobInfo(id=job_id, status="Unknown")
    # A call of the step, or the job that is followed, may have done something before its message was given up.
    uncertain = starts_job(message.step) or (message.step == TRACK and database is not None)
    count = tracked.get("outcomeCount", 1)
    item = tracked.get("itemId")
    request = message.request.model_copy(update={"epoch": max(epoch, message.request.epoch)})
    outcome = events.outcome(
        request,
        Status.UNKNOWN if uncertain else Status.FAILED,
        at=at,
        database=database,
        subject=item if isinstance(item, str) else None,
        outcome_count=count if isinstance(count, int) and count > 0 else 1,
        error=info,
        **details,
    )
    claim = events.claim_id(request) if is_before_acceptance(tracked) else None
    return outcome.model_copy(update={"message_id": claim})


def outcome_of_request(
    body: bytes,
    info: ErrorInfo,
    *,
    at: datetime,
    queue: str,
    epoch: int,
    status: Status,
    message_id: str = "",
    taken: bool = False,
) -> Event:
    """The outcome of a request's own event, read as far as it can be.

    `taken`: the request was understood, and may have gone on.
    """
    try:
        envelope = read_envelope(body)
    except InvalidMessageError:
        return events.request_rejected(
            body, queue=queue, message_id=message_id or None, at=at, epoch=epoch, error=info
        )
    if envelope.type not in REQUEST_TYPES:
        return events.request_rejected(
            body, queue=queue, message_id=message_id or None, at=at, epoch=epoch, error=info
        )
    operation: Operation = REQUEST_TYPES[envelope.type][0]
    data = envelope.data if isinstance(envelope.data, dict) else {}
    request = Request.model_validate(
        {
            "operation": operation,
            "source": envelope.source,
            "id": envelope.id,
            "epoch": epoch,
            "vaultId": _vault_or_none(data.get("vaultId")),
            "correlationId": envelope.correlation_id,
            "traceparent": envelope.traceparent,
        }
    )
    outcome = events.outcome(request, status, at=at, error=info)
    return outcome.model_copy(update={"message_id": events.claim_id(request) if taken else None})


def _vault_or_none(text: Any) -> str | None:
    if not isinstance(text, str):
        return None
    try:
        return VaultId.parse(text).path
    except InvalidResourceIdError:
        return None
