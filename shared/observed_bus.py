"""A bus that reports what it sends: outcomes in the log, and spans and measurements where these are recorded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from shared.bus import Bus, OutgoingMessage
from shared.bus.topology import JOB_OUTCOMES, PARKED_MESSAGES
from shared.messages.events import Status
from shared.messages.reserved import REASON
from shared.telemetry import tracing
from shared.telemetry.log import logger
from shared.telemetry.tracing import Instrument, Kind

_log: Final = logger(__name__)

_STATUSES: Final = frozenset(status.value for status in Status)


class ObservedBus:
    """Sends through another bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def send(self, messages: Sequence[OutgoingMessage]) -> None:
        """Send all; raises what the other bus raises."""
        if tracing.is_on():
            messages = [stamped(message) for message in messages]
            self._traced(messages)
        else:
            self._bus.send(messages)
        for message in messages:
            if message.entity == JOB_OUTCOMES:
                _tell(message)
            elif message.entity == PARKED_MESSAGES:
                reason = message.application_properties.get(REASON)
                tracing.measure(Instrument.PARKED, 1, reason=str(reason) if reason is not None else None)

    def peek(self, queue: str) -> Iterable[bytes]:
        """See `Bus.peek`."""
        return self._bus.peek(queue)

    def _traced(self, messages: Sequence[OutgoingMessage]) -> None:
        entities = sorted({message.entity for message in messages})
        attributes: dict[str, tracing.Value | None] = {
            tracing.SYSTEM: "servicebus",
            tracing.OPERATION: "send",
            tracing.OPERATION_TYPE: "send",
            tracing.DESTINATION: ", ".join(entities),
            tracing.BATCH_SIZE: len(messages) if len(messages) > 1 else None,
        }
        # Outside of any message (a timer, the command) a send is no part of a request.
        if tracing.current_context() is None:
            self._bus.send(messages)
            return
        with tracing.span(f"send {', '.join(entities)}", kind=Kind.PRODUCER, attributes=attributes):
            self._bus.send(messages)


def stamped(message: OutgoingMessage) -> OutgoingMessage:
    """A message with the trace context of what this thread processes, where it has none yet."""
    if tracing.TRACEPARENT in message.application_properties:
        return message
    added = tracing.carried_to(message.entity)
    properties = {**message.application_properties, **added}
    return replace(message, application_properties=properties) if added else message


def _tell(message: OutgoingMessage) -> None:
    """Report what is published: a log line and, for an outcome, also a span and a count."""
    kind = str(message.application_properties.get("type", ""))
    status = str(message.application_properties.get("status", ""))
    operation = str(message.application_properties.get("workflow", ""))
    if status == "gap":
        tracing.measure(Instrument.GAPS, 1, state=_text(_data(_event(message)).get("state")))
        return
    if status not in {*_STATUSES, "accepted"}:
        return
    event = _event(message)
    data = _data(event)
    fields = {
        "operation": operation,
        "request_id": data.get("requestId") or event.get("causationid"),
        "source": data.get("requestSource"),
        "epoch": data.get("epoch"),
        "vault_id": data.get("vaultId"),
    }
    if status == "accepted":
        _log.info(
            "a request is accepted",
            extra={"action": "publish", **fields, "outcomes": data.get("outcomeCount")},
        )
        return
    error = data.get("error")
    code = _text(error.get("code")) if isinstance(error, dict) else None
    job = data.get("job")
    _log.info(
        "an outcome is published",
        extra={
            "action": "publish",
            **fields,
            "status": status,
            "code": code,
            "outcome_key": data.get("outcomeKey"),
            "database": data.get("database"),
            "job_id": job.get("id") if isinstance(job, dict) else None,
            "traceparent": event.get("traceparent"),
        },
    )
    tracing.measure(Instrument.OUTCOMES, 1, operation=operation, status=status, code=code)
    parent = _text(message.application_properties.get(tracing.TRACEPARENT)) or _text(event.get("traceparent"))
    if parent is not None or tracing.current_context() is not None:
        _trace(kind, data, status=status, code=code, parent=parent)


def _trace(kind: str, data: Mapping[str, Any], *, status: str, code: str | None, parent: str | None) -> None:
    """Record a span for a published outcome in its request's trace."""
    attributes = {
        tracing.SYSTEM: "servicebus",
        tracing.OPERATION: "publish",
        tracing.OPERATION_TYPE: "send",
        tracing.DESTINATION: JOB_OUTCOMES,
        tracing.REQUEST_ID: _text(data.get("requestId")),
        tracing.REQUEST_SOURCE: _text(data.get("requestSource")),
        tracing.DATABASE: _text(data.get("database")),
        tracing.STATUS: status,
        tracing.CODE: code,
    }
    tracing.start(f"publish {kind}", kind=Kind.PRODUCER, parent=parent, attributes=attributes).end()


def _event(message: OutgoingMessage) -> Mapping[str, Any]:
    event = json.loads(message.body)
    return event if isinstance(event, dict) else {}


def _data(event: Mapping[str, Any]) -> Mapping[str, Any]:
    data = event.get("data")
    return data if isinstance(data, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
