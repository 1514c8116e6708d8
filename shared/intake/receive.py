"""Receiving requests: each is accepted only if all of it is valid, or rejected with every problem named.

A request goes straight to the first step of its workflow, whichever queue it came by.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from shared.bus import MessageTooLargeError, OutgoingMessage
from shared.clock import ServiceTime
from shared.engine.message import Delivery, StepMessage
from shared.engine.parking import has_died_too_often, park, too_many_deaths
from shared.engine.runtime import Runtime
from shared.engine.send import outgoing
from shared.engine.telemetry import delivery_context
from shared.intake import senders
from shared.intake.request_answers import answer_request
from shared.messages.cloud_events import Envelope, InvalidMessageError, Problem, read_envelope
from shared.messages.error_codes import ErrorCode
from shared.messages.events import ErrorInfo, Status
from shared.messages.identity import REQUESTED, Request
from shared.messages.requests import (
    BackupData,
    CoverageData,
    DrillData,
    Operation,
    ProtectData,
    RequestData,
    RestoreData,
    read_data,
)
from shared.steps.payloads import BackupPlan, CoveragePlan, DrillPlan, Plan, ProtectPlan, RestorePlan
from shared.telemetry import tracing
from shared.telemetry.log import logger

_log: Final = logger(__name__)


def receive_request(delivery: Delivery, runtime: Runtime) -> None:
    """Take a request from its queue and send it to the first step of its workflow."""
    if has_died_too_often(delivery):
        info = too_many_deaths(delivery)
        event = answer_request(delivery, info, runtime, status=Status.FAILED)
        runtime.bus.send([event.to_message(), park(delivery, info.code, info.message)])
        return
    try:
        envelope, operation, data = _read(delivery, runtime)
    except InvalidMessageError as error:
        reject(delivery, runtime, error)
        return
    request = Request(
        operation=operation,
        source=envelope.source,
        id=envelope.id,
        epoch=delivery.epoch,
        vault_id=None if isinstance(data, CoverageData) else data.vault_id,
        correlation_id=envelope.correlation_id,
        # A traced request that came without a context has this span's context up to its outcome.
        traceparent=envelope.traceparent or tracing.current_context(),
        job_timeout=data.job_timeout,
    )
    message = first_step(request, _plan(data), runtime, at=runtime.service_clock.now(), sender=REQUESTED)
    _send_on(outgoing(message, timedelta(), runtime), delivery, runtime)


def _read(delivery: Delivery, runtime: Runtime) -> tuple[Envelope, Operation, RequestData]:
    """The request in a delivery. Raises InvalidMessageError with every problem."""
    envelope = read_envelope(delivery.body)
    problems = senders.problems(envelope, delivery.queue, runtime.settings)
    try:
        operation, data = read_data(envelope)
    except InvalidMessageError as error:
        raise InvalidMessageError([*problems, *error.problems]) from None
    if isinstance(data, CoverageData):
        problems += _repairs_not_served(data, runtime)
    if problems:
        raise InvalidMessageError(problems)
    return envelope, operation, data


def _repairs_not_served(data: CoverageData, runtime: Runtime) -> list[Problem]:
    served = runtime.settings.workflows
    rules = {"onUnprotected": Operation.PROTECT, "onStale": Operation.BACKUP}
    return [
        Problem(
            f"data.{field}",
            f"a {operation}",
            f"this app serves {', '.join(sorted(served))} (setting WORKFLOWS)",
        )
        for field, operation in rules.items()
        if operation in data.repairs - served
    ]


def first_step(
    request: Request, plan: Plan, runtime: Runtime, *, at: ServiceTime, sender: str
) -> StepMessage[Any]:
    """The message to the first step of a request's workflow."""
    return StepMessage[Any](
        step=runtime.table.first[request.operation.value],
        sender=sender,
        at=at,
        since=at,
        request=request,
        payload=plan,
    )


def _send_on(message: OutgoingMessage, delivery: Delivery, runtime: Runtime) -> None:
    """Send a request's first message; reject a request that leaves no room for what the steps add."""
    try:
        runtime.bus.send([message])
    except MessageTooLargeError:
        given = f"{len(delivery.body)} bytes"
        problem = Problem("body", given, "expected a request that leaves room for what is added on its way")
        reject(delivery, runtime, InvalidMessageError([problem]))


def _plan(data: RequestData) -> Plan:
    if isinstance(data, ProtectData):
        return ProtectPlan(data=data)
    if isinstance(data, BackupData):
        return BackupPlan(data=data)
    if isinstance(data, CoverageData):
        return CoveragePlan(data=data)
    if isinstance(data, DrillData):
        return DrillPlan(data=data)
    assert isinstance(data, RestoreData)
    return RestorePlan(data=data)


def reject(delivery: Delivery, runtime: Runtime, error: InvalidMessageError) -> None:
    """Answer a request that cannot be understood, once, and park its original."""
    problems = "; ".join(str(problem) for problem in error.problems[:50])
    _log.warning(
        "a request is rejected",
        extra=delivery_context(delivery, "reject", reason=problems),
    )
    info = ErrorInfo(
        code=ErrorCode.INVALID_REQUEST,
        message=problems[:8192],
        recommendations=("Correct the request and send it with a new id.",),
    )
    event = answer_request(delivery, info, runtime, status=Status.REJECTED)
    runtime.bus.send([event.to_message(), park(delivery, ErrorCode.INVALID_REQUEST, problems)])
