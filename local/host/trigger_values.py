"""What a trigger hands to a function: built by the azure-functions library's own converters.

The metadata names are those of the Service Bus extension 5.x, single and batch (its
`ServiceBusTriggerBindingStrategy`): no lock end and no dead-letter reason are among them, and moments are
written without an offset. Values are of the kinds that the platform sends over its protocol.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Final
from uuid import UUID

from azure.functions.meta import Datum
from azure.functions.servicebus import ServiceBusMessageInConverter
from azure.functions.timer import TimerRequestConverter

from local.broker.model import PropertyValue, ReceivedMessage

#: What the platform gives as the end of a message that never expires.
_NEVER: Final = datetime.max.replace(tzinfo=UTC)

_METADATA: Final[Mapping[str, Callable[[ReceivedMessage], Any]]] = {
    "DeliveryCount": lambda message: message.delivery_count,
    "DeadLetterSource": lambda message: message.dead_letter_source,
    "LockToken": lambda message: str(message.lock_token),
    "ExpiresAtUtc": lambda message: _moment(message.expires_at),
    "ExpiresAt": lambda message: _moment(message.expires_at),
    "EnqueuedTimeUtc": lambda message: _moment(message.enqueued_time),
    "EnqueuedTime": lambda message: _moment(message.enqueued_time),
    "MessageId": lambda message: message.message_id,
    "ContentType": lambda message: message.content_type,
    "ReplyTo": lambda _: None,
    "SequenceNumber": lambda message: message.sequence_number,
    "To": lambda _: None,
    "Subject": lambda message: message.subject,
    "Label": lambda message: message.subject,
    "CorrelationId": lambda message: message.correlation_id,
    "ApplicationProperties": lambda message: _properties(message.application_properties),
    "UserProperties": lambda message: _properties(message.application_properties),
    "SessionId": lambda _: None,
    "ReplyToSessionId": lambda _: None,
    "PartitionKey": lambda _: None,
    "TransactionPartitionKey": lambda _: None,
}


def single(message: ReceivedMessage, *, binary: bool) -> Any:
    """The `ServiceBusMessage` of a trigger with cardinality one."""
    metadata = {name: _datum(read(message)) for name, read in _METADATA.items()}
    text = None if binary else _text(message.body)
    body = Datum(message.body, "bytes") if text is None else Datum(text, "string")
    return ServiceBusMessageInConverter.decode(body, trigger_metadata=metadata)


def batch(messages: Sequence[ReceivedMessage], *, binary: bool) -> Any:
    """The list of `ServiceBusMessage` of a trigger with cardinality many."""
    metadata = {
        f"{name}Array": Datum(json.dumps([read(message) for message in messages]), "json")
        for name, read in _METADATA.items()
    }
    texts = [None if binary else _text(message.body) for message in messages]
    if any(text is None for text in texts):
        bodies = Datum(SimpleNamespace(bytes=[message.body for message in messages]), "collection_bytes")
    else:
        bodies = Datum(SimpleNamespace(string=texts), "collection_string")
    return ServiceBusMessageInConverter.decode(bodies, trigger_metadata=metadata)


def timer(*, past_due: bool, last: datetime | None, following: datetime) -> Any:
    """The `TimerRequest` of a timer trigger."""
    status = {
        "Last": (last or datetime.min.replace(tzinfo=UTC)).isoformat(),
        "Next": following.isoformat(),
        "LastUpdated": (last or datetime.min.replace(tzinfo=UTC)).isoformat(),
    }
    content = {"IsPastDue": past_due, "Schedule": {"AdjustForDST": True}, "ScheduleStatus": status}
    return TimerRequestConverter.decode(Datum(json.dumps(content), "json"), trigger_metadata=None)


def _datum(value: Any) -> Datum:
    if value is None:
        return Datum(None, None)
    if isinstance(value, int):
        return Datum(value, "int")
    if isinstance(value, str):
        return Datum(value, "string")
    return Datum(json.dumps(value), "json")


def _text(body: bytes) -> str | None:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _moment(moment: datetime | None) -> str:
    naive = (moment or _NEVER).astimezone(UTC).replace(tzinfo=None)
    return naive.isoformat(timespec="microseconds")


def _properties(properties: Mapping[str, PropertyValue]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in properties.items()}


def _plain(value: PropertyValue) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bytes):
        return list(value)
    return value
