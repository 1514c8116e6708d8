"""Requests on the `$cbs` and `$management` nodes. Follows
https://learn.microsoft.com/azure/service-bus-messaging/service-bus-amqp-protocol-guide (claims-based security) and
https://learn.microsoft.com/azure/service-bus-messaging/service-bus-amqp-request-response (management).
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import parse_qsl
from uuid import UUID

from proton import Array, Data, int32, symbol

from local.broker.amqp.codec import (
    Section,
    decode_message,
    encode_message,
    encode_response,
    sections,
    to_timestamp,
)
from local.broker.broker import Broker
from local.broker.model import BrokerError, EntityNotFoundError, MessageLockLostError, MessageNotFoundError
from shared.bus import BusError, MessageTooLargeError

__all__ = ["ManagementNode", "Refusal", "TokenNode", "refusal"]

_VENDOR: Final = "com.microsoft:"
_SIGNATURE: Final = "SharedAccessSignature "


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error answer, by status and AMQP error condition."""

    status: int
    condition: str
    description: str


def refusal(error: BusError) -> Refusal:
    """The status and AMQP error condition that Service Bus has for an error."""
    match error:
        case MessageLockLostError():
            return Refusal(410, _VENDOR + "message-lock-lost", str(error))
        case MessageNotFoundError():
            return Refusal(404, _VENDOR + "message-not-found", str(error))
        case EntityNotFoundError():
            return Refusal(404, "amqp:not-found", str(error))
        case MessageTooLargeError():
            return Refusal(413, "amqp:link:message-size-exceeded", str(error))
    return Refusal(400, _VENDOR + "argument-error", str(error))


@dataclass(frozen=True, slots=True)
class _Request:
    """A request message, decoded."""

    message_id: Any
    operation: str
    properties: dict[str, Any]
    body: Any

    @classmethod
    def decoded(cls, encoded: bytes) -> _Request:
        found = dict(sections(encoded))
        properties = found.get(Section.APPLICATION_PROPERTIES) or {}
        return cls(
            message_id=(found.get(Section.PROPERTIES) or [None])[0],
            operation=str(properties.get("operation")),
            properties=properties,
            body=found.get(Section.VALUE),
        )


class TokenNode:
    """`$cbs`: takes the tokens that let a connection use an entity.

    A shared access signature is checked against the key; a bearer token only needs to be there, since everybody on
    the loopback interface may use this broker.
    """

    def __init__(self, key_name: str, key: str, now: Callable[[], float]) -> None:
        self._key_name = key_name
        self._key = key
        self._now = now

    def answer(self, encoded: bytes) -> tuple[bytes, bool]:
        """The response to a request, and whether the connection is authorized by it."""
        request = _Request.decoded(encoded)
        if request.operation != "put-token":
            problem: str | None = f"operation {request.operation} is unknown"
        elif str(request.body).startswith(_SIGNATURE):
            # Recognised by its form, since the SDK announces signatures as `jwt` too.
            problem = self._problem(str(request.body))
        else:
            problem = None if request.body else "the token is empty"
        response = encode_response(
            request.message_id,
            {
                "status-code": int32(202 if problem is None else 401),
                "status-description": "Accepted" if problem is None else f"Unauthorized: {problem}",
            },
            None,
        )
        return response, problem is None

    def _problem(self, token: str) -> str | None:
        rest = token.removeprefix(_SIGNATURE)
        fields = dict(part.split("=", 1) for part in rest.split("&") if "=" in part)
        values = dict(parse_qsl(rest))
        if not {"sr", "sig", "se", "skn"} <= fields.keys():
            return "the shared access signature is not complete"
        expected = hmac.digest(self._key.encode(), f"{fields['sr']}\n{fields['se']}".encode(), "sha256")
        if values["skn"] != self._key_name or not hmac.compare_digest(
            base64.b64encode(expected).decode(), values["sig"]
        ):
            return "the signature is not valid"
        if not values["se"].isdigit() or int(values["se"]) <= self._now():
            return "the token has expired"
        return None


class ManagementNode:
    """`<entity>/$management`: peek, lock renewal, scheduling, settling by token."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._operations: dict[str, Callable[[str, dict[str, Any]], dict[str, Any] | None]] = {
            _VENDOR + "peek-message": self._peek,
            _VENDOR + "renew-lock": self._renew_lock,
            _VENDOR + "schedule-message": self._schedule,
            _VENDOR + "cancel-scheduled-message": self._cancel,
            _VENDOR + "update-disposition": self._settle,
        }

    def answer(self, entity: str, encoded: bytes) -> bytes:
        """The response to a request for that entity."""
        request = _Request.decoded(encoded)
        operation = self._operations.get(request.operation)
        if operation is None:
            return _refused(
                request,
                Refusal(501, "amqp:not-implemented", f"operation {request.operation} is not provided"),
            )
        try:
            body = operation(entity, request.body)
        except BusError as error:
            return _refused(request, refusal(error))
        status, description = (204, "No Content") if body is None else (200, "OK")
        return encode_response(
            request.message_id,
            {"statusCode": int32(status), "statusDescription": description},
            body or {},
        )

    def _peek(self, entity: str, body: dict[str, Any]) -> dict[str, Any] | None:
        messages = self._broker.peek(entity, int(body["from-sequence-number"]), int(body["message-count"]))
        if not messages:
            return None
        return {"messages": [{"message": encode_message(message)} for message in messages]}

    def _renew_lock(self, entity: str, body: dict[str, Any]) -> dict[str, Any]:
        ends = [self._broker.renew_lock(entity, token) for token in _tokens(body)]
        return {"expirations": Array(None, Data.TIMESTAMP, *map(to_timestamp, ends))}

    def _schedule(self, entity: str, body: dict[str, Any]) -> dict[str, Any]:
        messages = []
        for entry in body["messages"]:
            message = decode_message(entry["message"])
            messages.append(replace(message, message_id=message.message_id or entry.get("message-id")))
        numbers = self._broker.send(entity, messages)
        return {"sequence-numbers": Array(None, Data.LONG, *numbers)}

    def _cancel(self, entity: str, body: dict[str, Any]) -> dict[str, Any]:
        self._broker.cancel_scheduled(entity, [int(number) for number in body["sequence-numbers"].elements])
        return {}

    def _settle(self, entity: str, body: dict[str, Any]) -> dict[str, Any]:
        status = str(body["disposition-status"])
        for token in _tokens(body):
            match status:
                case "completed":
                    self._broker.complete(entity, token)
                case "abandoned":
                    self._broker.abandon(entity, token)
                case "suspended":
                    self._broker.dead_letter(
                        entity, token, body.get("deadletter-reason"), body.get("deadletter-description")
                    )
                case _:
                    raise BrokerError(f"a message cannot be settled as {status}: deferral is not provided")
        return {}


def _tokens(body: dict[str, Any]) -> list[UUID]:
    return list(body["lock-tokens"].elements)


def _refused(request: _Request, why: Refusal) -> bytes:
    properties = {
        "statusCode": int32(why.status),
        "statusDescription": why.description,
        "errorCondition": symbol(why.condition),
    }
    return encode_response(request.message_id, properties, {})
