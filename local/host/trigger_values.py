"""The values that triggers pass to functions: encoded as the platform does, and decoded by the azure-functions
library.

Names and kinds of the metadata are those of the Service Bus extension 5.x, single and batch (its
`ServiceBusTriggerBindingStrategy`): they have neither the end of the lock nor the dead-letter reason. The encoding
between host and worker is that of the Functions host
(`GrpcMessageConversionExtensions` in Azure/azure-functions-host): null is left out, numbers and moments are JSON, and
**null and empty strings are left out of every array of strings**, so that later entries move up.
"""

from __future__ import annotations

import base64
import codecs
import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Final
from uuid import UUID

from azure.functions.meta import Datum
from azure.functions.servicebus import ServiceBusMessageInConverter
from azure.functions.timer import TimerRequestConverter

from local.broker.model import PropertyValue, ReceivedMessage
from local.host.data_contract import NoDataContractStringError, read_string

#: When a message without a time to live expires.
_NEVER: Final = "9999-12-31T23:59:59.9999999"

_METADATA: Final[Mapping[str, Callable[[ReceivedMessage], Any]]] = {
    "DeliveryCount": lambda message: message.delivery_count,
    "DeadLetterSource": lambda message: message.dead_letter_source,
    "LockToken": lambda message: str(message.lock_token),
    "ExpiresAtUtc": lambda message: _Moment(_without_offset(message.expires_at)),
    "ExpiresAt": lambda message: _Moment(_without_offset(message.expires_at) + "+00:00"),
    "EnqueuedTimeUtc": lambda message: _Moment(_without_offset(message.enqueued_time)),
    "EnqueuedTime": lambda message: _Moment(_without_offset(message.enqueued_time) + "+00:00"),
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
#: What the extension declares as an array of strings, or of 64-bit numbers; the others become JSON.
_STRINGS: Final = frozenset(
    {
        "DeadLetterSource",
        "LockToken",
        "MessageId",
        "ContentType",
        "ReplyTo",
        "To",
        "Subject",
        "Label",
        "CorrelationId",
        "SessionId",
        "ReplyToSessionId",
        "PartitionKey",
        "TransactionPartitionKey",
    }
)
_LONGS: Final = frozenset({"SequenceNumber"})

#: Byte order marks in the order in which .NET's StreamReader looks for them.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
)

#: A trigger's value and its metadata, as the worker receives them.
TriggerData = tuple[Datum, dict[str, Datum]]


class _Moment(str):
    """The text of a moment; unlike other strings it is JSON in the protocol."""

    __slots__ = ()


def single(message: ReceivedMessage, *, binary: bool) -> Any:
    """The `ServiceBusMessage` of a trigger with cardinality one."""
    data, metadata = single_data(message, binary=binary)
    return ServiceBusMessageInConverter.decode(data, trigger_metadata=metadata)


def batch(messages: Sequence[ReceivedMessage], *, binary: bool) -> Any:
    """The list of `ServiceBusMessage` of a trigger with cardinality many.

    Raises IndexError where a body is empty and the trigger's data type is not binary, as the library does on the
    platform: then there are fewer bodies than messages.
    """
    data, metadata = batch_data(messages, binary=binary)
    return ServiceBusMessageInConverter.decode(data, trigger_metadata=metadata)


def single_data(message: ReceivedMessage, *, binary: bool) -> TriggerData:
    """What the worker receives for a trigger with cardinality one."""
    values = {name: read(message) for name, read in _METADATA.items()}
    metadata = {name: _datum(value) for name, value in values.items() if value is not None}
    body = Datum(message.body, "bytes") if binary else Datum(text(message.body), "string")
    return body, metadata


def batch_data(messages: Sequence[ReceivedMessage], *, binary: bool) -> TriggerData:
    """What the worker receives for a trigger with cardinality many."""
    metadata = {
        f"{name}Array": _array(name, [read(message) for message in messages])
        for name, read in _METADATA.items()
    }
    bodies = [message.body for message in messages]
    if binary:
        return Datum(SimpleNamespace(bytes=bodies), "collection_bytes"), metadata
    return _string_array([text(body) for body in bodies]), metadata


def text(body: bytes) -> str:
    """A body as the string that a trigger without a data type gets.

    A byte order mark (UTF-8, UTF-16, UTF-32) tells the encoding and is taken off; without one, bytes that are not
    UTF-8 are read as a string of .NET's data contract serializer (old senders use `BrokeredMessage`), or else decoded
    with U+FFFD for what is not valid. (`MessageToStringConverter` of the extension. By
    Azure/azure-sdk-for-net#26161 its version 5.2 leaves a mark in place; the app reads both.)
    """
    for mark, encoding in _MARKS:
        if body.startswith(mark):
            return body[len(mark) :].decode(encoding, errors="replace")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        pass
    try:
        return read_string(body)
    except NoDataContractStringError:
        return body.decode("utf-8", errors="replace")


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
    if isinstance(value, str) and not isinstance(value, _Moment):
        return Datum(value, "string")
    return Datum(json.dumps(value), "json")


def _array(name: str, values: Sequence[Any]) -> Datum:
    if name in _STRINGS:
        return _string_array(values)
    if name in _LONGS:
        return Datum(SimpleNamespace(sint64=list(values)), "collection_sint64")
    return Datum(json.dumps(values), "json")


def _string_array(values: Sequence[str | None]) -> Datum:
    """Without the null and empty ones: no Python worker announces `IncludeEmptyEntriesInMessagePayload`."""
    return Datum(SimpleNamespace(string=[value for value in values if value]), "collection_string")


def _without_offset(moment: datetime | None) -> str:
    """As Newtonsoft.Json writes a `DateTime` without a kind: up to seven digits of a second."""
    if moment is None:
        return _NEVER
    naive = moment.astimezone(UTC).replace(tzinfo=None)
    return naive.isoformat(timespec="microseconds").rstrip("0").rstrip(".")


def _properties(properties: Mapping[str, PropertyValue]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in properties.items()}


def _plain(value: PropertyValue) -> Any:
    """An application property as Newtonsoft.Json writes it."""
    if isinstance(value, datetime):
        return _without_offset(value) + "Z"
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return value
