"""What log records and spans say of their message: the same fields everywhere, never a body or a URL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from shared.bus.topology import REQUEST_QUEUES
from shared.engine.message import Delivery, FollowedJob, Following, StepMessage
from shared.messages.cloud_events import InvalidMessageError, read_json
from shared.telemetry import tracing


def log_context(message: StepMessage[Any], action: str | None = None, **more: Any) -> dict[str, Any]:
    """The `extra` of a log record about a step's message."""
    database = message.database
    payload = message.payload
    followed = payload.followed if isinstance(payload, Following) else None
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
        "job_id": followed.job_id if isinstance(followed, FollowedJob) else None,
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


@contextmanager
def traced(delivery: Delivery) -> Iterator[tracing.Span]:
    """A span around the processing of a delivery, in the trace of its request."""
    parent = context_of(delivery)
    begun = started(delivery, parent)
    try:
        with tracing.processing(delivery.queue, begun, parent):
            yield begun
    except BaseException as error:
        begun.end(error)
        raise
    begun.end()


def started(delivery: Delivery, parent: str | None, *links: str | None) -> tracing.Span:
    """Start the span of a delivery's processing; the caller ends it."""
    return tracing.start(
        f"process {delivery.queue}",
        kind=tracing.Kind.CONSUMER,
        parent=parent,
        links=links,
        attributes={
            tracing.SYSTEM: "servicebus",
            tracing.OPERATION: "process",
            tracing.OPERATION_TYPE: "process",
            tracing.DESTINATION: delivery.queue,
            tracing.DELIVERY_COUNT: delivery.delivery_count,
        },
    )


@contextmanager
def traced_batch(deliveries: Sequence[Delivery]) -> Iterator[tracing.Span]:
    """A span around a batch, linked to each of its messages; part of a trace where all of them belong to it."""
    if not tracing.is_on() or not deliveries:
        yield tracing.NOTHING
        return
    parents = [context_of(delivery) for delivery in deliveries]
    traces = {parent.split("-")[1] if parent is not None else None for parent in parents}
    parent = parents[0] if len(traces) == 1 else None
    queue = deliveries[0].queue
    begun = tracing.start(
        f"process batch of {queue}",
        kind=tracing.Kind.CONSUMER,
        parent=parent,
        links=parents,
        attributes={
            tracing.SYSTEM: "servicebus",
            tracing.OPERATION: "process",
            tracing.OPERATION_TYPE: "process",
            tracing.DESTINATION: queue,
            tracing.BATCH_SIZE: len(deliveries),
        },
    )
    try:
        with tracing.processing(queue, begun, parent):
            yield begun
    except BaseException as error:
        begun.end(error)
        raise
    begun.end()


def say(span: tracing.Span, message: StepMessage[Any], result: object) -> None:
    """Add to a span which message was processed, and its result."""
    if not tracing.is_on():
        return
    span.set(tracing.REQUEST_ID, message.request.id)
    span.set(tracing.REQUEST_SOURCE, message.request.source)
    span.set(tracing.STEP, message.step)
    span.set(tracing.DATABASE, str(message.database) if message.database is not None else None)
    span.set(tracing.RESULT, type(result).__name__)


def context_of(delivery: Delivery) -> str | None:
    """The trace context that a delivery came with: a request's own, or that of the step that sent it."""
    if not tracing.is_on():
        return None
    sent = delivery.application_properties.get(tracing.TRACEPARENT)
    of_sender = sent if isinstance(sent, str) and sent else None
    if of_sender is not None and delivery.queue not in REQUEST_QUEUES:
        return of_sender
    return _traceparent(delivery.body) or of_sender


def _traceparent(body: bytes) -> str | None:
    try:
        content = read_json(body)
    except InvalidMessageError:
        return None
    request = content.get("request", content) if isinstance(content, dict) else None
    found = request.get(tracing.TRACEPARENT) if isinstance(request, dict) else None
    return found if isinstance(found, str) and found else None


def _request(body: bytes) -> tuple[str | None, str | None]:
    """Id and source of the request in a body, or that the body belongs to, as far as it says."""
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
