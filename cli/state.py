"""The unfinished requests in the state of a run."""

from __future__ import annotations

from collections.abc import Iterator

from cli.embedded import EmbeddedApp, step_request
from cli.request_lines import RequestLine, line_of
from shared.bus.topology import DEAD_LETTERS, INTERNAL_QUEUES, REPLAYS, REQUEST_QUEUES
from shared.messages.cloud_events import Envelope
from shared.messages.requests import REQUEST_TYPES, Operation

_TYPES = {operation: type_ for type_, (operation, _) in REQUEST_TYPES.items()}


def unfinished(app: EmbeddedApp) -> list[RequestLine]:
    """The requests that the state of an earlier run holds and that have not ended, each once."""
    found: dict[str, RequestLine] = {}
    for queue in sorted({*REQUEST_QUEUES, *INTERNAL_QUEUES, DEAD_LETTERS, REPLAYS}):
        for message in app.messages(queue):
            for line in _lines(message.body):
                found.setdefault(line.key, line)
    return list(found.values())


def _lines(body: bytes) -> Iterator[RequestLine]:
    of_step = step_request(body)
    if not of_step:
        # The message as it was sent, a request or not.
        yield line_of(body)
        return
    operation, source, request_id = (of_step.get(name) for name in ("operation", "source", "id"))
    if (
        isinstance(source, str)
        and isinstance(request_id, str)
        and operation in {str(one) for one in Operation}
    ):
        type_ = _TYPES[Operation(operation)]
        envelope = Envelope(type=type_, source=source, id=request_id, data=None)
        yield RequestLine(body=body, envelope=envelope)
