"""What a log record says of the message it is about: the same fields everywhere, never a body or a URL."""

from __future__ import annotations

from typing import Any

from shared.engine.message import Delivery, Following, OfJob, StepMessage
from shared.messages.cloud_events import InvalidMessageError, read_json


def log_context(message: StepMessage[Any], action: str | None = None, **more: Any) -> dict[str, Any]:
    """The `extra` of a log record about a step's message."""
    database = message.database
    payload = message.payload
    of = payload.of if isinstance(payload, Following) else None
    vault_id = message.request.vault_id
    return {
        "action": action or message.step,
        "request_id": message.request.id,
        "source": message.request.source,
        "vault_id": vault_id.path if vault_id is not None else None,
        "correlation_id": message.request.correlation_id,
        "traceparent": message.request.traceparent,
        "operation": message.request.operation.value,
        "database": str(database) if database is not None else None,
        "job_id": of.job_id if isinstance(of, OfJob) else None,
        "effect": message.effect.n,
        "attempt": message.attempt,
        "poll": message.poll,
        **more,
    }


def delivery_context(delivery: Delivery, action: str, **more: Any) -> dict[str, Any]:
    """The `extra` of a log record about a delivery that is not, or not yet, understood as a step's message."""
    request_id, source = _request(delivery.body)
    return {
        "action": action,
        "queue": delivery.queue,
        "message_id": delivery.message_id or None,
        "sequence_number": delivery.sequence_number,
        "delivery_count": delivery.delivery_count,
        "request_id": request_id,
        "source": source,
        **more,
    }


def _request(body: bytes) -> tuple[str | None, str | None]:
    """Id and source of the request that a body is, or belongs to, as far as it says."""
    try:
        content = read_json(body)
    except InvalidMessageError:
        return None, None
    if not isinstance(content, dict):
        return None, None
    request = content.get("request", content)
    if not isinstance(request, dict):
        return None, None
    request_id, source = request.get("id"), request.get("source")
    return (
        request_id if isinstance(request_id, str) else None,
        source if isinstance(source, str) else None,
    )
