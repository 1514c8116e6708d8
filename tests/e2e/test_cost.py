"""What a fleet costs in executions and calls, beside a monitor for each database (docs/cost.md has the benchmark)."""

from __future__ import annotations

from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared.telemetry import tracing
from shared.telemetry.open_telemetry import OpenTelemetryRecorder
from tests.e2e.harness import POLICY, OpenEstate, statuses, virtual_machine

FLEET = 100
#: Of a monitor that looks eight times: each look is an activity and two replays of its orchestrator.
DURABLE = 3 * 8 + 3


def test_a_backup_costs_a_fifth_of_a_durable_monitor_at_most(estate: OpenEstate) -> None:
    databases = [{"name": f"db{number}", "protectedBy": POLICY} for number in range(FLEET)]
    azure = estate(
        {"virtualMachines": [virtual_machine("sqlvm1", *databases, registeredTo="vault1")]},
        {"TRACK_INTERVAL": "PT5S"},
    )
    spans = InMemorySpanExporter()
    recorder = OpenTelemetryRecorder([SimpleSpanProcessor(spans)])
    tracing.install(recorder)
    try:
        outcomes = azure.run(azure.backup())
    finally:
        tracing.install(None)
        recorder.close()
    assert statuses(outcomes) == {"succeeded": FLEET}
    # A batch is one execution, however many messages it has.
    executions = [
        span
        for span in spans.get_finished_spans()
        if span.name.startswith("process ") and span.name != "process track"
    ]
    assert len(executions) * 5 <= FLEET * DURABLE
    calls = [span for span in spans.get_finished_spans() if span.kind.name == "CLIENT"]
    assert len(calls) == len(azure.simulator.access_entries)
    # A monitor asks to start, and at each of its looks.
    assert len(calls) * 3 <= FLEET * 9
