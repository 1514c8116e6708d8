"""Spans and measurements with OpenTelemetry. Imported only where `telemetryMode` is `OpenTelemetry`.

The global providers are left alone: the host's worker may have set its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.telemetry.log import logger
from shared.telemetry.tracing import ERROR_TYPE, Instrument, Kind, Span, Value

__all__ = ["OpenTelemetryRecorder", "recorder"]

_log = logger(__name__)

_NAME: Final = "sql-vm-backup-functions"
_KINDS: Final = {
    Kind.CONSUMER: trace.SpanKind.CONSUMER,
    Kind.PRODUCER: trace.SpanKind.PRODUCER,
    Kind.CLIENT: trace.SpanKind.CLIENT,
}
_W3C: Final = TraceContextTextMapPropagator()
_OTLP: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_AZURE_MONITOR: Final = "APPLICATIONINSIGHTS_CONNECTION_STRING"


def _context(traceparent: str) -> contexts.Context:
    return _W3C.extract({"traceparent": traceparent}, contexts.Context())


class _Span:
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @property
    def context(self) -> str | None:
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, trace.set_span_in_context(self._span, contexts.Context()))
        return carrier.get("traceparent")

    def set(self, name: str, value: Value | None) -> None:
        if value is not None:
            self._span.set_attribute(name, value)

    @contextmanager
    def active(self) -> Iterator[None]:
        with trace.use_span(self._span, record_exception=False, set_status_on_exception=False):
            yield

    def end(self, error: BaseException | None = None) -> None:
        if error is not None:
            # The text of an error may hold more than a trace should.
            self._span.set_attribute(ERROR_TYPE, type(error).__name__)
            self._span.set_status(trace.StatusCode.ERROR, type(error).__name__)
        self._span.end()


class OpenTelemetryRecorder:
    """Records with its own providers."""

    def __init__(self, processors: Sequence[SpanProcessor], readers: Sequence[MetricReader] = ()) -> None:
        resource = Resource.create({"service.name": os.environ.get("WEBSITE_SITE_NAME", _NAME)})
        self._spans = TracerProvider(resource=resource, shutdown_on_exit=True)
        for processor in processors:
            self._spans.add_span_processor(processor)
        self._tracer = self._spans.get_tracer(_NAME)
        self._metrics = MeterProvider(readers, resource=resource)
        meter = self._metrics.get_meter(_NAME)
        self._instruments: dict[Instrument, Any] = {
            each: (meter.create_counter if each.is_sum else meter.create_histogram)(
                each.value[0], unit=each.value[1], description=each.value[2]
            )
            for each in Instrument
        }

    def start(
        self,
        name: str,
        *,
        kind: Kind,
        parent: str | None,
        links: Sequence[str],
        attributes: Mapping[str, Value],
    ) -> Span:
        """Begin a span."""
        linked = [trace.get_current_span(_context(link)).get_span_context() for link in links]
        return _Span(
            self._tracer.start_span(
                name,
                context=_context(parent) if parent is not None else None,
                kind=_KINDS[kind],
                links=[trace.Link(link) for link in linked if link.is_valid],
                attributes=dict(attributes),
            )
        )

    def measure(self, instrument: Instrument, value: float, attributes: Mapping[str, Value]) -> None:
        """One measurement."""
        recorded = self._instruments[instrument]
        (recorded.add if instrument.is_sum else recorded.record)(value, dict(attributes))

    def close(self) -> None:
        """Export what is left, and stop."""
        self._spans.shutdown()
        self._metrics.shutdown()


def recorder(environment: Mapping[str, str]) -> OpenTelemetryRecorder | None:
    """A recorder that exports to where the settings say; None, with a log line, where that fails.

    Missing telemetry never keeps a message from being handled.
    """
    from opentelemetry.sdk.metrics.export import MetricExporter, PeriodicExportingMetricReader
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

    spans: list[SpanExporter] = []
    metrics: list[MetricExporter] = []
    try:
        if environment.get(_OTLP, "").strip():
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            spans.append(OTLPSpanExporter())
            metrics.append(OTLPMetricExporter())
        if connection := environment.get(_AZURE_MONITOR, "").strip():
            from azure.monitor.opentelemetry.exporter import (
                AzureMonitorMetricExporter,
                AzureMonitorTraceExporter,
            )

            spans.append(AzureMonitorTraceExporter(connection_string=connection))
            metrics.append(AzureMonitorMetricExporter(connection_string=connection))
    except (ImportError, ValueError) as error:
        _log.error("there is no telemetry by OpenTelemetry: %s", error, extra={"action": "telemetry"})
        return None
    if not spans:
        _log.warning(
            "telemetryMode is OpenTelemetry, and neither %s nor %s says where to send it",
            _OTLP,
            _AZURE_MONITOR,
            extra={"action": "telemetry"},
        )
        return None
    return OpenTelemetryRecorder(
        [BatchSpanProcessor(exporter) for exporter in spans],
        [PeriodicExportingMetricReader(exporter) for exporter in metrics],
    )
