"""Messages as rows of the file, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from local.broker.model import (
    MAX_MESSAGE_ID_LENGTH,
    MAX_MESSAGE_SIZE,
    BrokerError,
    IncomingMessage,
    MessageState,
    PropertyValue,
)
from shared.bus import MessageTooLargeError, OutgoingMessage

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)

#: The columns that `fields_of` reads, in its order.
COLUMNS: Final = (
    "id, body, message_id, content_type, subject, correlation_id, properties, sequence, first_sequence,"
    " enqueued, scheduled, delivery_count, expires, dead_letter_source, state"
)


def prepared(entity: str, message: OutgoingMessage | IncomingMessage) -> tuple[IncomingMessage, str]:
    """The message as the broker keeps it, and its properties encoded.

    Raises:
        MessageTooLargeError: it takes more than `MAX_MESSAGE_SIZE` bytes.
        BrokerError: its id is too long, or a property of a type that messages cannot have.
    """
    if isinstance(message, OutgoingMessage):
        message = IncomingMessage(
            body=message.body,
            message_id=message.message_id,
            content_type=message.content_type,
            subject=message.subject,
            correlation_id=message.correlation_id,
            application_properties=message.application_properties,
            scheduled_for=message.scheduled_for,
        )
    if message.message_id and len(message.message_id) > MAX_MESSAGE_ID_LENGTH:
        raise BrokerError(
            f"a message to {entity} has an id of {len(message.message_id)} characters: "
            f"at most {MAX_MESSAGE_ID_LENGTH} are accepted"
        )
    properties = encode_properties(message.application_properties)
    size = (
        len(message.body)
        + len(properties)
        + sum(
            len(text)
            for text in (message.message_id, message.content_type, message.subject, message.correlation_id)
            if text
        )
    )
    if size > MAX_MESSAGE_SIZE:
        raise MessageTooLargeError(
            f"a message to {entity} takes {size} bytes: the broker accepts {MAX_MESSAGE_SIZE}"
        )
    return message, properties


def fields_of(row: Sequence[Any], *, delivered: int = 0) -> dict[str, Any]:
    """The fields of a message from a row of `COLUMNS`; `delivered` is added to its delivery count."""
    return {
        "body": row[1],
        "message_id": row[2],
        "content_type": row[3],
        "subject": row[4],
        "correlation_id": row[5],
        "application_properties": decode_properties(row[6]),
        "sequence_number": row[7],
        "enqueued_sequence_number": row[8],
        "enqueued_time": to_moment(row[9]),
        "scheduled_for": None if row[10] is None else to_moment(row[10]),
        "delivery_count": row[11] + delivered,
        "expires_at": None if row[12] is None else to_moment(row[12]),
        "dead_letter_source": row[13],
        "state": MessageState.LOCKED if delivered else MessageState(row[14]),
    }


def to_microseconds(moment: datetime) -> int:
    """A moment as the file has it: microseconds since 1970."""
    return (moment - _EPOCH) // MICROSECOND


def to_moment(microseconds: int) -> datetime:
    """The moment, aware, in UTC, that the file has as microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=microseconds)


def encode_properties(properties: Mapping[str, PropertyValue]) -> str:
    """Application properties as JSON; a value of a type that JSON lacks becomes a pair of type and text."""
    return json.dumps(dict(properties), default=_tagged) if properties else "{}"


def _tagged(value: object) -> list[str]:
    match value:
        case bytes():
            return ["bytes", value.hex()]
        case UUID():
            return ["uuid", value.hex]
        case datetime():
            return ["datetime", value.isoformat()]
    raise BrokerError(f"an application property cannot be a {type(value).__name__}")


def decode_properties(properties: str) -> dict[str, PropertyValue]:
    """The application properties that `encode_properties` encoded."""
    if properties == "{}":
        return {}
    decoded: dict[str, Any] = json.loads(properties)
    return {name: _untagged(*value) if isinstance(value, list) else value for name, value in decoded.items()}


def _untagged(tag: str, text: str) -> PropertyValue:
    match tag:
        case "bytes":
            return bytes.fromhex(text)
        case "uuid":
            return UUID(hex=text)
        case _:
            return datetime.fromisoformat(text)
