"""What a log record says of the message it is about: the same fields everywhere, never a body or a URL."""

from __future__ import annotations

from typing import Any

from shared.engine.message import Following, OfJob, StepMessage


def log_context(message: StepMessage[Any], action: str | None = None) -> dict[str, Any]:
    """The `extra` of a log record about a step's message."""
    database = message.database
    payload = message.payload
    of = payload.of if isinstance(payload, Following) else None
    vault_id = message.request.vault_id
    return {
        "action": action or message.step,
        "request_id": message.request.id,
        "vault_id": vault_id.path if vault_id is not None else None,
        "correlation_id": message.request.correlation_id,
        "traceparent": message.request.traceparent,
        "operation": message.request.operation.value,
        "database": str(database) if database is not None else None,
        "job_id": of.job_id if isinstance(of, OfJob) else None,
        "effect": message.effect.n,
        "attempt": message.attempt,
        "poll": message.poll,
    }
