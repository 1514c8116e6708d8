"""Dead letters: what the broker gave up is answered and parked, so that nobody waits for ever."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from shared.composition import Runtime
from shared.messages import events
from shared.messages.cloud_events import InvalidMessageError, read_envelope, read_json
from shared.messages.events import ErrorInfo, Event, Status
from shared.messages.model import TolerantModel
from shared.messages.requests import REQUEST_TYPES, Operation
from shared.messages.steps import Request, StepMessage, database_of
from shared.workflow.delivery import Delivery, given_up, park
from shared.workflow.flow import is_before_acceptance

_log: Final = logging.getLogger(__name__)

#: What Service Bus says of a message whose time to live has passed.
_EXPIRED: Final = "TTLExpiredException"
#: Steps whose effect may have happened when their message was given up.
_UNCERTAIN: Final = frozenset({"enable_protection", "trigger_backup", "trigger_restore", "track"})


def report_dead_letter(delivery: Delivery, runtime: Runtime) -> None:
    """Answer the requester of a dead letter, and park the original for `sqlvmbackup replay`."""
    reason = _text(delivery, "DeadLetterReason", "DeadLettered")
    description = _text(delivery, "DeadLetterErrorDescription", "the broker gave the message up")
    queue = _text(delivery, "DeadLetterSource", delivery.queue)
    _log.error(
        "a dead letter is parked",
        extra={
            "action": "report_dead_letter",
            "queue": queue,
            "reason": reason,
            "message_id": delivery.message_id,
        },
    )
    if reason == _EXPIRED:
        info = ErrorInfo(
            code="MessageExpired",
            message=f"the message's own time to live passed while it was in queue {queue}; it is kept in"
            " parked-messages: replay it if it is still wanted.",
        )
    else:
        info = ErrorInfo(
            code="failed_internal",
            message=f"a message of queue {queue} could not be handled ({reason}: {description[:500]}); it is kept"
            " in parked-messages: find the cause in the log, then replay it.",
        )
    from shared.workflow.table import STEPS

    definition = STEPS.get(queue.replace("-", "_"))
    answer = given_up(definition, delivery, runtime, info) if definition is not None else None
    if answer is None:
        answer = [outcome_of_body(delivery, info, at=runtime.service_clock.now(), queue=queue).to_message()]
    runtime.bus.send([*answer, park(delivery, reason, description, queue=queue)])


def _text(delivery: Delivery, name: str, default: str) -> str:
    value = delivery.application_properties.get(name)
    return value if isinstance(value, str) and value else default


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
    uncertain = message.step in _UNCERTAIN and (message.step != "track" or database is not None)
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
    from shared.arm.ids import InvalidResourceIdError, VaultId

    if not isinstance(text, str):
        return None
    try:
        return VaultId.parse(text).path
    except InvalidResourceIdError:
        return None
