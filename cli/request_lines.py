"""Requests as lines of a file: read, identified, and addressed to their queues.

A line that is no request is no error of the command: the app answers it like any such message.
"""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from cli.errors import CommandError
from local.host import trigger_values
from shared.bus import OutgoingMessage
from shared.bus.topology import EVENTS
from shared.intake.senders import QUEUES
from shared.messages.cloud_events import CONTENT_TYPE, Envelope, InvalidMessageError, read_envelope
from shared.messages.events import REQUEST_KEY, answer_id, event_id, rejected_id
from shared.messages.identity import fingerprint, request_message_id
from shared.messages.requests import REQUEST_TYPES

#: The default source of requests that this command builds.
SOURCE: Final = "/sqlvmbackup/command"


@dataclass(frozen=True, kw_only=True)
class RequestLine:
    """One line to send."""

    #: counted from 1; None where it is of no file
    number: int | None = None
    body: bytes
    #: what can be read of it; None where it is no CloudEvent
    envelope: Envelope | None

    @property
    def key(self) -> str:
        """Equal for lines that are one request: those of one operation, source and id, else of the same bytes."""
        if self.envelope is None or self.envelope.type not in REQUEST_TYPES:
            return self._bytes_key
        return request_key(self.operation, self.envelope.source, self.envelope.id)

    @property
    def _bytes_key(self) -> str:
        return fingerprint("line", hashlib.sha256(self.body).hexdigest())

    @property
    def operation(self) -> str:
        """`protect`, `backup`, `restore`, or `request` for what is none of these."""
        if self.envelope is None or self.envelope.type not in REQUEST_TYPES:
            return "request"
        return REQUEST_TYPES[self.envelope.type][0].value

    @property
    def label(self) -> str:
        """Short, for people."""
        if self.envelope is None:
            return "a message that is no request" if self.number is None else f"line {self.number}"
        return request_label(self.operation, self.envelope.id)

    @property
    def given(self) -> bytes:
        """Its body as the app gets it from the platform, which replaces bytes that are not UTF-8."""
        return trigger_values.text(self.body).encode()

    def rejected_id(self, epoch: int) -> str:
        """The id of the answer where it is no request."""
        return rejected_id(self.given, epoch, self.message().message_id)

    def refusal_ids(self, epoch: int) -> tuple[str, ...]:
        """The ids of events that refuse it as a whole: as no valid request, or as the request that it is."""
        answer = answer_id(self.given, self.message().entity, self.operation, epoch)
        if self.envelope is None:
            return (answer,)
        key = (self.operation, self.envelope.source, self.envelope.id)
        return (answer, event_id(key, "outcome", REQUEST_KEY, epoch=epoch))

    def _message_id(self, operation: str, envelope: Envelope) -> str:
        # The body is part of the id: otherwise somebody who guesses source and id could send another message under
        # that id first, and the broker would drop this one as a duplicate.
        return f"{request_message_id(operation, envelope.source, envelope.id)}:{self._bytes_key[:16]}"

    def message(self) -> OutgoingMessage:
        """The line as a message to the queue of its type; a line without a type goes to `events`, to be answered."""
        known = REQUEST_TYPES.get(self.envelope.type) if self.envelope is not None else None
        if self.envelope is None or known is None:
            return OutgoingMessage(
                entity=EVENTS, body=self.body, message_id=self.key, content_type=CONTENT_TYPE
            )
        return OutgoingMessage(
            entity=QUEUES[known[0]],
            body=self.body,
            message_id=self._message_id(known[0].value, self.envelope),
            content_type=CONTENT_TYPE,
            subject=self.envelope.type,
            correlation_id=self.envelope.correlation_id,
        )


def request_label(operation: str, request_id: str) -> str:
    """A request for people: its id, after its operation unless the id begins with that anyway."""
    if request_id == operation or request_id.startswith(f"{operation}-"):
        return request_id
    return f"{operation} {request_id}"


def request_key(operation: str, source: str, request_id: str) -> str:
    """The key that identifies a request."""
    return fingerprint("request", operation, source, request_id)


def read_request_lines(lines: Iterable[bytes]) -> list[RequestLine]:
    """The requests in the lines of a JSONL file, each once; blank lines are passed over.

    Raises CommandError where two lines are different requests of one type, source and id: only one would be done.
    """
    found: dict[str, RequestLine] = {}
    for number, raw in enumerate(lines, start=1):
        body = (raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw).strip()
        if not body:
            continue
        line = line_of(body, number)
        same = found.setdefault(line.key, line)
        # Senders give each sending a `traceparent` or a `time` of its own: what is asked for is in the data.
        if same.envelope and line.envelope and same.envelope.data != line.envelope.data:
            raise CommandError(
                f"lines {same.number} and {number} are different requests with the same type, source and id"
                f" ({line.label}): give each an id of its own."
            )
    return list(found.values())


def line_of(body: bytes, number: int | None = None) -> RequestLine:
    """Any message as a line."""
    return RequestLine(number=number, body=body, envelope=_envelope(body))


def request_line(event: dict[str, Any]) -> RequestLine:
    """One request that this command has built itself."""
    body = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
    return RequestLine(body=body, envelope=read_envelope(body))


def _envelope(body: bytes) -> Envelope | None:
    try:
        return read_envelope(body)
    except InvalidMessageError:
        return None
