"""The spans of a run in a file: a JSON line each, written as they end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from cli.errors import CommandError
from shared.telemetry import tracing

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan


@contextmanager
def traced_to(path: Path | None) -> Iterator[None]:
    """Meanwhile every span is written to `path`; None records nothing.

    Raises:
        CommandError: the file cannot be written, or OpenTelemetry is not installed.
    """
    if path is None:
        yield
        return
    try:
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

        from shared.telemetry.open_telemetry import OpenTelemetryRecorder
    except ImportError as error:
        raise CommandError(
            "--trace: OpenTelemetry is not installed: in a clone, pip install -r requirements-telemetry.txt; elsewhere,"
            " install the package with its extra [telemetry]."
        ) from error
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise CommandError(f"--trace: {path} cannot be written ({error.strerror}).") from error

    class Lines(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            for span in spans:
                _write(file, span)
            return SpanExportResult.SUCCESS

    with file:
        recorder = OpenTelemetryRecorder([SimpleSpanProcessor(Lines())])
        tracing.install(recorder)
        try:
            yield
        finally:
            tracing.install(None)
            recorder.close()


def _write(file: TextIO, span: ReadableSpan) -> None:
    context = span.get_span_context()
    if context is None:
        return
    line: dict[str, Any] = {
        "traceId": f"{context.trace_id:032x}",
        "spanId": f"{context.span_id:016x}",
        "parentSpanId": f"{span.parent.span_id:016x}" if span.parent is not None else None,
        "name": span.name,
        "kind": span.kind.name,
        "startTimeUnixNano": span.start_time,
        "endTimeUnixNano": span.end_time,
        "status": span.status.status_code.name,
        "attributes": dict(span.attributes or {}),
        "links": [
            {"traceId": f"{link.context.trace_id:032x}", "spanId": f"{link.context.span_id:016x}"}
            for link in span.links
        ],
    }
    file.write(json.dumps(line) + "\n")
    file.flush()
