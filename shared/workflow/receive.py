"""Requests in: each is understood whole or rejected whole, with every problem named."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from shared.bus import MessageTooLargeError, OutgoingMessage
from shared.bus.topology import BACKUP_REQUESTS, PROTECT_REQUESTS, RESTORE_REQUESTS
from shared.composition import Runtime
from shared.messages import events
from shared.messages.cloud_events import (
    CONTENT_TYPE,
    Envelope,
    InvalidMessageError,
    Problem,
    excerpt,
    read_envelope,
)
from shared.messages.events import ErrorInfo, Status
from shared.messages.requests import (
    REQUEST_TYPES,
    BackupData,
    Operation,
    ProtectData,
    RequestData,
    RestoreData,
    read_data,
)
from shared.messages.steps import (
    BackupPlan,
    ProtectPlan,
    Request,
    RestorePlan,
    StepMessage,
    fingerprint,
)
from shared.workflow.answers import outcome_of_request
from shared.workflow.delivery import outgoing_step
from shared.workflow.parking import EPOCH, Delivery, park
from shared.workflow.step import Next
from shared.workflow.workflows import FIRST_STEPS

_log: Final = logging.getLogger(__name__)

QUEUES: Final = {
    Operation.PROTECT: PROTECT_REQUESTS,
    Operation.BACKUP: BACKUP_REQUESTS,
    Operation.RESTORE: RESTORE_REQUESTS,
}
#: Properties of a message that was planned by a schedule.
SCHEDULES_SOURCE: Final = f"{events.APP_NAME}/schedules"
SCHEDULE: Final = "schedule"
DUE: Final = "due"
DIGEST: Final = "scheduleDigest"


def request_message_id(source: str, request_id: str, epoch: int = 0) -> str:
    """The message id of a request: the same pair of source and id is the same request."""
    return fingerprint("request", source, request_id, epoch)


def receive_event(delivery: Delivery, runtime: Runtime) -> None:
    """Route an event of another system to the queue of its type; a restore only where a setting says so."""
    try:
        envelope = read_envelope(delivery.body)
        operation, _ = read_data(envelope)
        if operation is Operation.RESTORE and not runtime.settings.events_allow_restore:
            raise InvalidMessageError(
                [
                    Problem(
                        "type",
                        excerpt(envelope.type),
                        f"restore requests are taken from queue {RESTORE_REQUESTS} only; the setting"
                        " EVENTS_ALLOW_RESTORE does not allow them here",
                    )
                ]
            )
        _check_served(operation, runtime)
    except InvalidMessageError as error:
        reject(delivery, runtime, error)
        return
    routed = OutgoingMessage(
        entity=QUEUES[operation],
        body=delivery.body,
        message_id=request_message_id(envelope.source, envelope.id, delivery.epoch),
        content_type=CONTENT_TYPE,
        subject=envelope.type,
        correlation_id=envelope.correlation_id,
        application_properties={EPOCH: delivery.epoch} if delivery.epoch else {},
    )
    _send_on(routed, delivery, runtime)


def _send_on(message: OutgoingMessage, delivery: Delivery, runtime: Runtime) -> None:
    """Send what a request leads to; one that leaves no room for what is added on its way is rejected."""
    try:
        runtime.bus.send([message])
    except MessageTooLargeError:
        given = f"{len(delivery.body)} bytes"
        problem = Problem("body", given, "expected a request that leaves room for what is added on its way")
        reject(delivery, runtime, InvalidMessageError([problem]))


def _check_served(operation: Operation, runtime: Runtime) -> None:
    if operation not in runtime.settings.workflows:
        served = ", ".join(sorted(runtime.settings.workflows))
        raise InvalidMessageError(
            [Problem("type", f"a {operation} request", f"this app serves {served} (setting WORKFLOWS)")]
        )


def receive_request(delivery: Delivery, runtime: Runtime, expected: Operation) -> None:
    """Take a request from its own queue and send it to the first step of its workflow."""
    try:
        envelope = read_envelope(delivery.body)
        operation, data = read_data(envelope)
        if operation is not expected:
            accepted = next(name for name, (kind, _) in REQUEST_TYPES.items() if kind is expected)
            raise InvalidMessageError(
                [Problem("type", excerpt(envelope.type), f"queue {delivery.queue} takes {accepted} only")]
            )
    except InvalidMessageError as error:
        reject(delivery, runtime, error)
        return
    planned = envelope.source == SCHEDULES_SOURCE
    schedule = delivery.application_properties.get(SCHEDULE) if planned else None
    request = Request(
        operation=operation,
        source=envelope.source,
        id=envelope.id,
        epoch=delivery.epoch,
        vault_id=data.vault_id,
        correlation_id=envelope.correlation_id,
        traceparent=envelope.traceparent,
        schedule=schedule if isinstance(schedule, str) else None,
        job_timeout=data.job_timeout,
    )
    if isinstance(schedule, str) and not _is_due(delivery, runtime, envelope, request):
        return
    at = runtime.service_clock.now()
    step = FIRST_STEPS[operation.value]
    message = StepMessage[Any](
        step=step,
        sender=delivery.queue.replace("-", "_"),
        at=at,
        since=at,
        request=request,
        payload=_plan(data),
    )
    _send_on(outgoing_step(Next(message), runtime), delivery, runtime)


def _plan(data: RequestData) -> ProtectPlan | BackupPlan | RestorePlan:
    if isinstance(data, ProtectData):
        return ProtectPlan(data=data)
    if isinstance(data, BackupData):
        return BackupPlan(data=data)
    assert isinstance(data, RestoreData)
    return RestorePlan(data=data)


def _is_due(delivery: Delivery, runtime: Runtime, envelope: Envelope, request: Request) -> bool:
    """Whether a planned backup is still wanted and not too late; a late one gets its outcome here."""
    properties = delivery.application_properties
    name = request.schedule
    schedule = next((item for item in runtime.settings.schedules if item.name == name), None)
    if schedule is None or schedule.digest != properties.get(DIGEST):
        _log.info(
            "a planned backup is dropped: its schedule has been changed or removed",
            extra={"action": "receive_backup_request", "schedule": name, "request_id": envelope.id},
        )
        return False
    due = datetime.fromisoformat(str(properties[DUE])).astimezone(UTC)
    now = runtime.clock.now()
    if now - due <= schedule.max_lateness:
        return True
    late = timedelta(seconds=round((now - due).total_seconds()))
    info = ErrorInfo(
        code="TooLate",
        message=f"the backup of schedule {name} was due at {due:%Y-%m-%dT%H:%M:%SZ} and is {late} late, more than"
        f" its maxLateness of {schedule.max_lateness}.",
        recommendations=("See why the app did not run in time, or give the schedule a longer maxLateness.",),
    )
    event = events.outcome(request, Status.SKIPPED, at=runtime.service_clock.now(), error=info)
    runtime.bus.send([event.to_message()])
    return False


def reject(delivery: Delivery, runtime: Runtime, error: InvalidMessageError) -> None:
    """Answer a request that cannot be understood, once, and park its original."""
    problems = "; ".join(str(problem) for problem in error.problems[:50])
    _log.warning(
        "a request is rejected",
        extra={"action": "reject", "queue": delivery.queue, "problems": len(error.problems)},
    )
    info = ErrorInfo(
        code="InvalidRequest",
        message=problems[:8192],
        recommendations=("Correct the request and send it with a new id.",),
    )
    event = outcome_of_request(
        delivery.body,
        info,
        at=runtime.service_clock.now(),
        queue=delivery.queue,
        epoch=delivery.epoch,
        status=Status.REJECTED,
        message_id=delivery.message_id,
    )
    runtime.bus.send([event.to_message(), park(delivery, "InvalidRequest", problems)])
