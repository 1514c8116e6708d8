"""Traces and measurements, independent of the recorder; nothing is recorded until one is installed.

The names follow the semantic conventions of OpenTelemetry for messaging
(https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/), which are not stable: they are kept here, in
one place. A context travels as a W3C `traceparent` (https://www.w3.org/TR/trace-context/): in the CloudEvent of a
request, and between steps in the application property of that name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

#: The application property that carries a trace context.
TRACEPARENT: Final = "traceparent"

SYSTEM: Final = "messaging.system"
OPERATION: Final = "messaging.operation.name"
OPERATION_TYPE: Final = "messaging.operation.type"
DESTINATION: Final = "messaging.destination.name"
BATCH_SIZE: Final = "messaging.batch.message_count"
DELIVERY_COUNT: Final = "messaging.servicebus.message.delivery_count"
ERROR_TYPE: Final = "error.type"
REQUEST_METHOD: Final = "http.request.method"
RESPONSE_STATUS: Final = "http.response.status_code"
_OWN: Final = "sqlvmbackup."
REQUEST_ID: Final = f"{_OWN}request.id"
REQUEST_SOURCE: Final = f"{_OWN}request.source"
STEP: Final = f"{_OWN}step"
DATABASE: Final = f"{_OWN}database"
RESULT: Final = f"{_OWN}result"
STATUS: Final = f"{_OWN}status"
CODE: Final = f"{_OWN}error.code"
CLIENT_REQUEST_ID: Final = "az.client_request_id"
SERVICE_REQUEST_ID: Final = "az.service_request_id"

Value = str | int | float | bool


class Kind(Enum):
    """The kind of a span."""

    CONSUMER = "consumer"
    PRODUCER = "producer"
    CLIENT = "client"


class Instrument(Enum):
    """A metric: its name, its unit and its description."""

    OUTCOMES = (
        "sqlvmbackup.outcomes",
        "{outcome}",
        "outcomes published, by operation, status and error code",
    )
    GAPS = ("sqlvmbackup.gaps", "{gap}", "gaps in coverage that were published, by state")
    PARKED = ("sqlvmbackup.parked", "{message}", "messages that were parked, by reason")
    LATENESS = (
        "sqlvmbackup.step.lateness",
        "s",
        "from when a step was due to when it was first taken, by step",
    )
    JOB_AGE = ("sqlvmbackup.job.age", "s", "age of the jobs and operations in flight, at each look, by step")
    FOLLOWED = (
        "sqlvmbackup.jobs.followed",
        "{job}",
        "jobs and operations in flight that were looked at together",
    )
    READS_LEFT = ("sqlvmbackup.reads.left", "{request}", "what Azure says is left of a limit, by limit")

    @property
    def is_sum(self) -> bool:
        """Whether its values are summed; else their distribution is recorded."""
        return self in (Instrument.OUTCOMES, Instrument.GAPS, Instrument.PARKED)


class Span(Protocol):
    """Something that takes time. It is ended once."""

    @property
    def context(self) -> str | None:
        """The span's `traceparent`; None where it is not recorded."""
        ...

    def set(self, name: str, value: Value | None) -> None:
        """Set an attribute; None sets nothing."""
        ...

    def active(self) -> AbstractContextManager[None]:
        """Within this context, spans that begin on this thread are part of this one."""
        ...

    def end(self, error: BaseException | None = None) -> None:
        """End the span."""
        ...


class Recorder(Protocol):
    """Records spans and measurements."""

    def start(
        self,
        name: str,
        *,
        kind: Kind,
        parent: str | None,
        links: Sequence[str],
        attributes: Mapping[str, Value],
    ) -> Span:
        """Begin a span. `parent` is a `traceparent`; None: the span that is active on this thread, else a new trace."""
        ...

    def measure(self, instrument: Instrument, value: float, attributes: Mapping[str, Value]) -> None:
        """One measurement."""
        ...


class _Nothing:
    """The span where nothing is recorded."""

    @property
    def context(self) -> str | None:
        return None

    def set(self, name: str, value: Value | None) -> None:
        pass

    @contextmanager
    def active(self) -> Iterator[None]:
        yield

    def end(self, error: BaseException | None = None) -> None:
        pass


@dataclass(frozen=True)
class _Processed:
    """The message that is being processed on this thread."""

    queue: str
    span: Span
    #: the context that it came with
    parent: str | None


#: The span where nobody records.
NOTHING: Final[Span] = _Nothing()
_recorder: Recorder | None = None
_processed: ContextVar[_Processed | None] = ContextVar("processed", default=None)


def install(recorder: Recorder | None) -> None:
    """Let `recorder` record for this process from now on; None: nothing is recorded."""
    global _recorder  # noqa: PLW0603 - one per process, like the runtime
    _recorder = recorder


def is_on() -> bool:
    """Whether a recorder is installed."""
    return _recorder is not None


def start(
    name: str,
    *,
    kind: Kind,
    parent: str | None = None,
    links: Sequence[str | None] = (),
    attributes: Mapping[str, Value | None] | None = None,
) -> Span:
    """Begin a span; the caller ends it."""
    if _recorder is None:
        return NOTHING
    known = {name: value for name, value in (attributes or {}).items() if value is not None}
    present = [link for link in links if link is not None]
    return _recorder.start(name, kind=kind, parent=parent, links=present, attributes=known)


@contextmanager
def span(
    name: str,
    *,
    kind: Kind,
    parent: str | None = None,
    links: Sequence[str | None] = (),
    attributes: Mapping[str, Value | None] | None = None,
) -> Iterator[Span]:
    """A span around a block of code. An exception becomes its error."""
    if _recorder is None:
        yield NOTHING
        return
    begun = start(name, kind=kind, parent=parent, links=links, attributes=attributes)
    try:
        with begun.active():
            yield begun
    except BaseException as error:
        begun.end(error)
        raise
    begun.end()


@contextmanager
def processing(queue: str, begun: Span, parent: str | None) -> Iterator[None]:
    """Within this context, a message of `queue` is processed, which came with the trace context `parent`."""
    if _recorder is None:
        yield
        return
    token = _processed.set(_Processed(queue, begun, parent))
    try:
        with begun.active():
            yield
    finally:
        _processed.reset(token)


def carried_to(queue: str) -> dict[str, str]:
    """The application properties that link a message to `queue` to what this thread processes.

    A message that goes back to its own queue keeps its context: looks at a job are siblings, not each a child of the
    one before.
    """
    now = _processed.get() if _recorder is not None else None
    if now is None:
        return {}
    context = now.parent if queue == now.queue and now.parent is not None else now.span.context
    return {TRACEPARENT: context} if context is not None else {}


def current_context() -> str | None:
    """The trace context of what this thread processes."""
    now = _processed.get() if _recorder is not None else None
    return now.span.context if now is not None else None


def measure(instrument: Instrument, value: float, **attributes: Value | None) -> None:
    """Record a measurement; attributes that are None are left out."""
    if _recorder is not None:
        known = {name: given for name, given in attributes.items() if given is not None}
        _recorder.measure(instrument, value, known)
