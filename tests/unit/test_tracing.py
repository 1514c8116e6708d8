"""One trace for each request, from what comes in to its outcome; and nothing of it where it is off."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from cli import demo
from cli.main import main
from shared import composition
from shared.telemetry import tracing
from shared.telemetry.open_telemetry import OpenTelemetryRecorder, recorder
from tests.e2e.harness import Estate, OpenEstate, estate, statuses, virtual_machine
from tests.unit.infra.bicep import load

__all__ = ["estate"]

JsonObject = dict[str, Any]
ROOT = Path(__file__).parents[2]
INCOMING = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Recorded:
    """What is recorded while a test runs."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self._metrics = InMemoryMetricReader()
        self.recorder = OpenTelemetryRecorder([SimpleSpanProcessor(self._spans)], [self._metrics])

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._spans.get_finished_spans()

    def traces(self) -> dict[int, list[ReadableSpan]]:
        found: dict[int, list[ReadableSpan]] = defaultdict(list)
        for span in self.spans:
            assert span.context is not None
            found[span.context.trace_id].append(span)
        return found

    def metrics(self) -> dict[str, list[dict[str, Any]]]:
        """The attributes of each metric's points."""
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for name, point in self._points():
            found[name].append(dict(point.attributes or {}))
        return found

    def points(self, name: str, **attributes: Any) -> list[Any]:
        """The points of a metric that have these attributes."""
        return [
            each for found, each in self._points() if found == name and dict(each.attributes) == attributes
        ]

    def sum_of(self, name: str) -> float:
        """All that was measured by a metric."""
        return float(sum(getattr(point, "sum", 0) for found, point in self._points() if found == name))

    def _points(self) -> Iterator[tuple[str, Any]]:
        data = self._metrics.get_metrics_data()
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        yield metric.name, point


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    found = Recorded()
    tracing.install(found.recorder)
    yield found
    tracing.install(None)
    found.recorder.close()


def roots(spans: list[ReadableSpan]) -> list[ReadableSpan]:
    own = {span.context.span_id for span in spans if span.context is not None}
    return [span for span in spans if span.parent is None or span.parent.span_id not in own]


def flow(azure: Estate, **attributes: Any) -> list[JsonObject]:
    outcomes = azure.run({**azure.protect(), **attributes})
    outcomes += azure.run({**azure.backup(), **attributes})
    return outcomes + azure.run({**azure.restore("orders", "copy"), **attributes})


def test_each_request_is_one_tree_down_to_its_outcome(estate: OpenEstate, recorded: Recorded) -> None:
    azure = estate({"virtualMachines": [virtual_machine("sqlvm1", "orders", "billing")]})
    outcomes = flow(azure)
    assert set(statuses(outcomes)) == {"succeeded"}
    traces = recorded.traces()
    assert len(traces) == 3
    for spans in traces.values():
        (root,) = roots(spans)
        assert root.parent is None
        assert root.name in (
            "process protect-requests",
            "process backup-requests",
            "process restore-requests",
        )
        names = {span.name for span in spans}
        assert {"process track", "process batch of track"} <= names
        assert any(name.startswith("publish sqlvmbackup.") for name in names)
        assert any(span.kind.name == "CLIENT" for span in spans), "calls to Azure"
    published = {span.name.split(".")[1] for span in recorded.spans if span.name.startswith("publish ")}
    assert published == {"protect", "backup", "restore"}
    # A consumer can go on with the trace.
    of_events = {outcome["traceparent"].split("-")[1] for outcome in outcomes}
    assert of_events == {f"{trace:032x}" for trace in traces}


def test_the_context_of_the_requester_is_the_parent_of_everything(
    estate: OpenEstate, recorded: Recorded
) -> None:
    azure = estate({"virtualMachines": [virtual_machine("sqlvm1", "orders")]})
    outcomes = azure.run(azure.protect("orders") | {"traceparent": INCOMING})
    ((trace, spans),) = recorded.traces().items()
    assert f"{trace:032x}" == INCOMING.split("-")[1]
    (root,) = roots(spans)
    assert root.parent is not None
    assert f"{root.parent.span_id:016x}" == INCOMING.split("-")[2]
    assert outcomes[0]["traceparent"] == INCOMING


def test_a_batch_of_many_requests_is_linked_to_each_and_part_of_none(
    estate: OpenEstate, recorded: Recorded
) -> None:
    protected = {"protectedBy": "HourlyLogBackup"}
    names = [f"db{number}" for number in range(6)]
    azure = estate(
        {
            "virtualMachines": [
                virtual_machine(
                    "sqlvm1", *({"name": name, **protected} for name in names), registeredTo="vault1"
                )
            ]
        }
    )
    outcomes = azure.run(*(azure.backup(name) for name in names))
    assert statuses(outcomes) == {"succeeded": 6}
    batches = [
        span for span in recorded.spans if span.name == "process batch of track" and len(span.links) > 1
    ]
    assert batches
    for batch in batches:
        traces = {link.context.trace_id for link in batch.links}
        if len(traces) > 1:
            assert batch.parent is None
    requests = [
        spans for spans in recorded.traces().values() if roots(spans)[0].name == "process backup-requests"
    ]
    assert len(requests) == 6
    for spans in requests:
        assert len(roots(spans)) == 1
        ids = {(span.attributes or {}).get(tracing.REQUEST_ID) for span in spans} - {None}
        assert len(ids) == 1


def test_what_fails_says_so_and_nothing_secret(estate: OpenEstate, recorded: Recorded) -> None:
    azure = estate({"faults": [{"route": "GetVault", "fault": "status", "status": 503, "nth": 1}]})
    azure.run(azure.protect("orders"))
    failed = [span for span in recorded.spans if span.status.status_code.name == "ERROR"]
    assert any((span.attributes or {}).get(tracing.RESPONSE_STATUS) == 503 for span in failed)
    everything = "".join(span.to_json() for span in recorded.spans)
    for secret in ("http://", "/subscriptions/", "Bearer", "api-version"):
        assert secret not in everything


def test_the_metrics_say_what_waits_fails_and_is_left(estate: OpenEstate, recorded: Recorded) -> None:
    azure = estate(
        {
            "virtualMachines": [virtual_machine("sqlvm1", "orders")],
            "throttling": {"backupReads": {"perHour": 300, "jobsPerHour": 450}},
        }
    )
    azure.run(azure.protect("orders"), b"no request")
    azure.run(azure.backup("missing"))
    found = recorded.metrics()
    assert {"protect", "backup", "request"} >= {point["operation"] for point in found["sqlvmbackup.outcomes"]}
    assert {"status": "failed", "code": "DatabaseNotFound", "operation": "backup"} in found[
        "sqlvmbackup.outcomes"
    ]
    assert found["sqlvmbackup.parked"] == [{"reason": "InvalidRequest"}]
    assert {point["step"] for point in found["sqlvmbackup.job.age"]} >= {
        "register_container",
        "enable_protection",
    }
    assert {point["step"] for point in found["sqlvmbackup.step.lateness"]} >= {"ensure_vault", "select_items"}
    assert found["sqlvmbackup.jobs.followed"]
    assert found["sqlvmbackup.reads.left"]


def test_a_step_that_waits_for_azure_is_not_late(estate: OpenEstate, recorded: Recorded) -> None:
    down = [{"route": "GetVault", "fault": "status", "status": 503, "nth": nth} for nth in (1, 2, 3)]
    azure = estate({"faults": down})
    azure.run(azure.protect("orders"))
    (point,) = recorded.points("sqlvmbackup.step.lateness", step="ensure_vault")
    assert point.count == 1
    assert point.max < 5


def test_without_anybody_who_records_messages_are_as_they_were(estate: OpenEstate) -> None:
    azure = estate({"virtualMachines": [virtual_machine("sqlvm1", "orders")]})
    azure.send(azure.protect("orders"))
    azure.host.run_until_idle()
    (message,) = azure.broker.peek("track")
    assert tracing.TRACEPARENT not in message.application_properties
    assert "traceparent" not in json.loads(message.body)["request"]


def test_importing_the_app_loads_no_open_telemetry() -> None:
    script = (
        "import sys, function_app, shared.composition, shared.triggers\n"
        "from shared.workflows import TABLE\n"
        "shared.composition.build({'ARM_ENDPOINT': 'http://127.0.0.1:1'}, bus=object())\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry') or name.startswith('azure.monitor')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("environment", "on"),
    [
        ({}, False),
        ({"AzureFunctionsJobHost__telemetryMode": "OpenTelemetry"}, True),
        ({"azurefunctionsjobhost__telemetrymode": " opentelemetry "}, True),
        ({"AzureFunctionsJobHost__telemetryMode": "ApplicationInsights"}, False),
    ],
)
def test_the_setting_of_the_host_switches_the_app_as_well(environment: dict[str, str], on: bool) -> None:
    assert composition.records_by_open_telemetry(environment) is on


def test_telemetry_that_cannot_be_had_keeps_nothing_from_working(caplog: pytest.LogCaptureFixture) -> None:
    assert recorder({}) is None
    assert "APPLICATIONINSIGHTS_CONNECTION_STRING" in caplog.text
    assert recorder({"APPLICATIONINSIGHTS_CONNECTION_STRING": "nonsense"}) is None


def test_the_demo_writes_one_tree_for_each_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "TIME_SCALE", 0.002)
    file = tmp_path / "spans.jsonl"
    assert main(["demo", "--databases", "2", "--trace", str(file)]) == 0
    spans = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    by_trace: dict[str, list[JsonObject]] = defaultdict(list)
    for span in spans:
        by_trace[span["traceId"]].append(span)
    assert len(by_trace) == 3
    for found in by_trace.values():
        ids = {span["spanId"] for span in found}
        assert len([span for span in found if span["parentSpanId"] not in ids]) == 1
        assert any(span["name"].startswith("publish sqlvmbackup.") for span in found)
        assert all(span["endTimeUnixNano"] >= span["startTimeUnixNano"] for span in found)


def test_a_trace_that_cannot_be_written_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--trace", str(tmp_path / "nowhere" / "spans.jsonl")]) == 2
    assert "--trace" in capsys.readouterr().err


def test_the_saved_query_tells_by_the_log_which_requests_lack_outcomes(
    estate: OpenEstate, caplog: pytest.LogCaptureFixture
) -> None:
    (query,) = (each["query"] for each in load("queries.json") if each["name"] == "requests-unanswered")
    first, second, _ = query.split(";\n")
    caplog.set_level("INFO")
    azure = estate({"virtualMachines": [virtual_machine("sqlvm1", "orders", "sales")]})
    azure.run(azure.protect("*"))
    azure.run(azure.backup("missing"))
    lines = [record.getMessage() for record in caplog.records]

    def told(part: str) -> list[dict[str, str]]:
        """What the query reads from the lines that it looks for."""
        (begins,) = re.findall(r"startswith '([^']+)'", part)
        fields = re.findall(r"(\w+) = (?:toint\()?extract\('([^']+)', 1, Message\)", part)
        assert fields
        return [
            {name: found[1] if (found := re.search(pattern, line)) else "" for name, pattern in fields}
            for line in lines
            if line.startswith(begins)
        ]

    accepted, answered = told(first), told(second)
    assert [(each["operation"], each["request"], each["epoch"], each["outcomes"]) for each in accepted] == [
        ("protect", "protect-1", "0", "2"),
        ("backup", "backup-2", "0", "1"),
    ]
    keys = {(each["operation"], each["source"], each["request"], each["epoch"]) for each in accepted}
    assert {(each["operation"], each["source"], each["request"], each["epoch"]) for each in answered} == keys
    assert len({each["outcome"] for each in answered}) == len(answered) == 3
    assert all(each["outcome"] and each["source"] for each in answered)
