"""The outcome for a message in a request queue that was not accepted as a request."""

from __future__ import annotations

from typing import Any

from shared.arm.ids import InvalidResourceIdError, VaultId
from shared.bus.topology import REQUEST_QUEUES
from shared.engine.message import Delivery
from shared.engine.parking import answer_nobody
from shared.engine.runtime import Runtime
from shared.intake.senders import named_operation
from shared.messages import events
from shared.messages.cloud_events import InvalidMessageError, read_envelope
from shared.messages.events import ErrorInfo, Event, Status
from shared.messages.identity import Request


def answer_request(delivery: Delivery, info: ErrorInfo, runtime: Runtime, *, status: Status) -> Event:
    """The outcome for a message in a request queue, from whatever can be read of it.

    What the message says proves nothing, so the outcome's id is made of the message's bytes and cannot collide with
    that of another request.
    """
    try:
        envelope = read_envelope(delivery.body)
    except InvalidMessageError:
        return answer_nobody(delivery, info, runtime)
    known = delivery.queue in REQUEST_QUEUES
    operation = named_operation(envelope, delivery.queue, runtime.settings) if known else None
    if operation is None:
        return answer_nobody(delivery, info, runtime)
    data = envelope.data if isinstance(envelope.data, dict) else {}
    request = Request.model_validate(
        {
            "operation": operation,
            "source": envelope.source,
            "id": envelope.id,
            "epoch": delivery.epoch,
            "vaultId": _vault_or_none(data.get("vaultId")),
            "correlationId": envelope.correlation_id,
            "traceparent": envelope.traceparent,
        }
    )
    at = runtime.service_clock.now()
    return events.answer(request, delivery.body, status, at=at, error=info, queue=delivery.queue)


def _vault_or_none(text: Any) -> str | None:
    if not isinstance(text, str):
        return None
    try:
        return VaultId.parse(text).path
    except InvalidResourceIdError:
        return None
