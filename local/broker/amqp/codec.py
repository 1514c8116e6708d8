"""Messages of the broker as AMQP 1.0 messages, and back.

Format: OASIS AMQP 1.0, part 3 (http://docs.oasis-open.org/amqp/core/v1.0/os/amqp-core-messaging-v1.0-os.html);
annotations: https://learn.microsoft.com/azure/service-bus-messaging/service-bus-amqp-protocol-guide.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any, Final
from uuid import UUID

from proton import Data, DataException, Described, symbol, timestamp, ulong

from local.broker.model import (
    BrokerError,
    IncomingMessage,
    MessageState,
    PeekedMessage,
    PropertyValue,
    ReceivedMessage,
)

__all__ = [
    "Section",
    "decode_message",
    "decode_messages",
    "encode_message",
    "encode_response",
    "from_timestamp",
    "sections",
    "to_timestamp",
]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
#: How Service Bus numbers the states that a peeked message can be in.
_WIRE_STATES: Final = {MessageState.ACTIVE: 0, MessageState.LOCKED: 0, MessageState.SCHEDULED: 2}


class Section(IntEnum):
    """Descriptors of the sections of a message."""

    HEADER = 0x70
    DELIVERY_ANNOTATIONS = 0x71
    MESSAGE_ANNOTATIONS = 0x72
    PROPERTIES = 0x73
    APPLICATION_PROPERTIES = 0x74
    DATA = 0x75
    SEQUENCE = 0x76
    VALUE = 0x77
    FOOTER = 0x78


def sections(encoded: bytes | memoryview) -> list[tuple[int, Any]]:
    """The sections of an encoded message as descriptor and value.

    Raises:
        BrokerError: the bytes are not an AMQP message.
    """
    # Not copied for each section: the engine takes any buffer, though its annotations say bytes.
    rest: Any = memoryview(encoded)
    found = []
    data = Data()
    while rest:
        data.clear()
        try:
            length = data.decode(rest)
            data.rewind()
            data.next()
            section = data.get_object()
        except (DataException, UnicodeDecodeError) as error:
            raise BrokerError(f"a message is not encoded as AMQP 1.0 says: {error}") from error
        if not isinstance(section, Described) or not isinstance(section.descriptor, int):
            raise BrokerError("a message is not made of AMQP 1.0 sections")
        found.append((int(section.descriptor), _owned(section.value)))
        rest = rest[length:]
    return found


def _owned(value: Any) -> Any:
    """The value with its binary parts copied: the engine gives views of memory that it reuses."""
    match value:
        case memoryview():
            return bytes(value)
        case dict():
            return {_owned(key): _owned(entry) for key, entry in value.items()}
        case list():
            return [_owned(entry) for entry in value]
    return value


def decode_messages(encoded: bytes) -> list[IncomingMessage]:
    """One message, or those of a batch.

    A batch is a message whose every data section is an encoded message. Its transfer has a message format of its
    own, 0x80013700, but the protocol engine does not tell it. The batch's own properties say nothing.

    Raises:
        BrokerError: the bytes are not a message that the broker can keep.
    """
    outer = sections(encoded)
    parts = [value for descriptor, value in outer if descriptor == Section.DATA]
    if parts and all(_looks_encoded(part) for part in parts):
        try:
            return [_message(sections(part)) for part in parts]
        except BrokerError:
            pass  # A body that merely begins as a message does.
    return [_message(outer)]


def decode_message(encoded: bytes) -> IncomingMessage:
    """One message that is no batch, as requests to schedule carry it.

    Raises:
        BrokerError: the bytes are not a message that the broker can keep.
    """
    return _message(sections(encoded))


def encode_message(message: PeekedMessage) -> bytes:
    """The message as a receiver gets it, with the broker's annotations."""
    annotations: dict[Any, Any] = {
        symbol("x-opt-sequence-number"): message.sequence_number,
        symbol("x-opt-enqueue-sequence-number"): message.enqueued_sequence_number,
        symbol("x-opt-enqueued-time"): to_timestamp(message.enqueued_time),
        symbol("x-opt-message-state"): _WIRE_STATES[message.state],
    }
    if message.scheduled_for is not None:
        annotations[symbol("x-opt-scheduled-enqueue-time")] = to_timestamp(message.scheduled_for)
    if message.dead_letter_source is not None:
        annotations[symbol("x-opt-deadletter-source")] = message.dead_letter_source
    deliveries = message.delivery_count
    if isinstance(message, ReceivedMessage):
        annotations[symbol("x-opt-locked-until")] = to_timestamp(message.locked_until)
        deliveries -= 1  # On the wire it counts the deliveries before this one.
    content_type = None if message.content_type is None else symbol(message.content_type)
    properties = [message.message_id, None, None, message.subject, None, message.correlation_id, content_type]
    application_properties = {name: _wire(value) for name, value in message.application_properties.items()}
    time_to_live = None if message.expires_at is None else message.expires_at - message.enqueued_time
    return b"".join(
        (
            _header(time_to_live, deliveries),
            _encoded(Section.MESSAGE_ANNOTATIONS, annotations),
            _encoded(Section.PROPERTIES, properties),
            _encoded(Section.APPLICATION_PROPERTIES, application_properties),
            b"\x00\x53\x75\xb0" + struct.pack(">I", len(message.body)) + message.body,
        )
    )


def encode_response(correlation_id: Any, properties: dict[str, Any], body: Any) -> bytes:
    """The answer to a request on a management or token link; `body` is the value it holds."""
    return b"".join(
        (
            _encoded(Section.PROPERTIES, [None] * 5 + [correlation_id]),
            _encoded(Section.APPLICATION_PROPERTIES, properties),
            _encoded(Section.VALUE, body),
        )
    )


def from_timestamp(value: int) -> datetime:
    """The moment that an AMQP timestamp (milliseconds since 1970) means."""
    return _EPOCH + value * _MILLISECOND


def to_timestamp(moment: datetime) -> Any:
    """The moment as an AMQP timestamp, cut to the millisecond."""
    return timestamp((moment - _EPOCH) // _MILLISECOND)


def _looks_encoded(part: bytes) -> bool:
    """Whether it begins with a section's descriptor, in either encoding of a small number."""
    if part[:2] == b"\x00\x53":
        descriptor = part[2:3]
    elif part[:9] == b"\x00\x80" + bytes(7):
        descriptor = part[9:10]
    else:
        return False
    return bool(descriptor) and Section.HEADER <= descriptor[0] <= Section.FOOTER


def _message(found: Iterable[tuple[int, Any]]) -> IncomingMessage:
    header: list[Any] = []
    annotations: dict[str, Any] = {}
    properties: list[Any] = []
    application_properties: dict[str, Any] = {}
    body = []
    for descriptor, value in found:
        match descriptor:
            case Section.HEADER:
                header = value
            case Section.MESSAGE_ANNOTATIONS:
                annotations = value
            case Section.PROPERTIES:
                properties = value
            case Section.APPLICATION_PROPERTIES:
                application_properties = value
            case Section.DATA:
                body.append(value)
            case Section.VALUE if value is None:
                pass
            case Section.DELIVERY_ANNOTATIONS | Section.FOOTER:
                pass
            case _:
                raise BrokerError("a message's body must be binary data: sequences and values are not kept")
    scheduled = annotations.get("x-opt-scheduled-enqueue-time")
    time_to_live = _at(header, 2)
    return IncomingMessage(
        body=b"".join(body),
        message_id=_text(_at(properties, 0)),
        subject=_text(_at(properties, 3)),
        correlation_id=_text(_at(properties, 5)),
        content_type=_text(_at(properties, 6)),
        application_properties={str(name): _kept(value) for name, value in application_properties.items()},
        scheduled_for=None if scheduled is None else from_timestamp(scheduled),
        time_to_live=None if time_to_live is None else time_to_live * _MILLISECOND,
    )


def _at(fields: list[Any], index: int) -> Any:
    """A field of a list whose trailing fields may be left out."""
    return fields[index] if index < len(fields) else None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _kept(value: Any) -> PropertyValue:
    """An application property as the broker keeps it."""
    match value:
        case timestamp():
            return from_timestamp(value)
        case bool() | None | UUID() | datetime():
            return value
        case int():
            return int(value)
        case float():
            return float(value)
        case str():
            return str(value)
        case bytes():
            return value
    raise BrokerError(f"an application property cannot be of AMQP type {type(value).__name__}")


def _wire(value: PropertyValue) -> Any:
    return to_timestamp(value) if isinstance(value, datetime) else value


def _header(time_to_live: timedelta | None, deliveries: int) -> bytes:
    """The header section, written out: the SDK takes the count of an absent header for None, not for 0."""
    milliseconds = (
        b"\x40"
        if time_to_live is None
        else b"\x70" + struct.pack(">I", min(time_to_live // _MILLISECOND, 2**32 - 1))
    )
    fields = b"\x42\x40" + milliseconds + b"\x42\x70" + struct.pack(">I", deliveries)
    return b"\x00\x53\x70\xc0" + bytes((len(fields) + 1, 5)) + fields


def _encoded(descriptor: int, value: Any) -> bytes:
    data = Data()
    data.put_object(Described(ulong(descriptor), value))
    return bytes(data.encode())
