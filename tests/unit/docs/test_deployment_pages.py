"""docs/deploy.md, docs/operations.md and the workflows against templates, command and code."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from cli.main import build_parser
from shared.telemetry.tracing import Instrument
from tests.unit.docs.markdown import ROOT, code, read, rows, section
from tests.unit.infra.bicep import load

OPERATIONS = read("docs/operations.md")
PAGES = ("docs/deploy.md", "docs/operations.md", "docs/cost.md")
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def test_every_alert_has_an_entry_with_its_severity_and_what_to_do() -> None:
    listed = {code(row[0])[0]: row for row in rows(section(OPERATIONS, "Alerts"))}
    alerts = {rule["name"]: rule for scope in load("alerts.json").values() for rule in scope}
    assert set(listed) == set(alerts)
    for name, rule in alerts.items():
        assert listed[name][1] == str(rule["severity"]), name
        assert listed[name][3], name
        assert rule["description"], name


def test_every_saved_query_is_named() -> None:
    named = {code(row[0])[0] for row in rows(section(OPERATIONS, "Watching")) if row[0].startswith("`")}
    assert {query["name"] for query in load("queries.json")} <= named


def test_queries_search_for_lines_that_the_app_logs() -> None:
    code_text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "shared").rglob("*.py"))
    queries = [rule["query"] for rule in load("alerts.json")["app"]] + [
        each["query"] for each in load("queries.json")
    ]
    said = {line for query in queries for line in re.findall(r"startswith '([^']+)'", query)}
    assert said
    assert all(f'"{line}' in code_text for line in said)
    statuses = {word for query in queries for word in re.findall(r"'status=(\w+)'", query)}
    assert statuses == {"failed", "timedOut", "unknown", "rejected"}


def test_every_metric_is_described_with_its_unit() -> None:
    described = {code(row[0])[0] for row in rows(section(OPERATIONS, "Traces and metrics"))}
    assert described == {instrument.value[0] for instrument in Instrument}


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_pages_is_one_that_there_is(page: str) -> None:
    text = read(page).replace("\\\n", " ")
    commands = [line.strip() for line in text.splitlines() if line.strip().startswith("sqlvmbackup ")]
    for line in commands:
        words = shlex.split(line.replace("…", "x"))[1:]
        # Raises SystemExit for an option that there is not.
        build_parser().parse_args(words)
    inline = re.findall(r"`sqlvmbackup ([a-z][a-z-]*)", text)
    known = build_parser().format_help()
    assert all(f"    {name}" in known for name in inline), inline
    assert commands or inline or page == "docs/cost.md"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_and_named_by_version(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    uses = re.findall(r"uses: (\S+)(.*)", text)
    assert uses
    for action, comment in uses:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+(\.\d+)*", comment), action


def test_the_smoke_workflow_signs_in_without_a_secret_and_tears_down() -> None:
    text = read(".github/workflows/azure-smoke.yml")
    assert "secrets." not in text
    assert "id-token: write" in text
    assert "if: always()" in text
    created = set(re.findall(r"az group create --name \"([^\"]+)\"", text)) | {"rg-$AZURE_ENV_NAME"}
    assert created <= set(re.findall(r"az group delete --name \"([^\"]+)\"", text))
    # What is given by the context is a variable of the environment before a shell sees it.
    for script in re.findall(r"run: [|>-]*\n((?: {10}.*\n)+)", text):
        assert "${{" not in script


def test_the_parameters_that_the_workflow_reads_are_outputs_of_the_template() -> None:
    text = read(".github/workflows/azure-smoke.yml")
    outputs = set(re.findall(r"^output (\w+)", read("infra/main.bicep"), flags=re.MULTILINE))
    script = re.search(r"azd env get-values > values.env\n((?: {10}.*\n)+)", text)
    assert script is not None
    read_there = set(re.findall(r"\$([A-Z_]+)", script[1])) | set(
        re.findall(r"azd env get-value (\w+)", text)
    )
    assert read_there - {"VAULT"} == {"AZURE_FUNCTION_NAME", "APP_IDENTITY_PRINCIPAL_ID"}
    assert read_there - {"VAULT"} <= outputs
    assert {"AZURE_RESOURCE_GROUP", "SERVICE_BUS_NAMESPACE"} <= outputs & set(
        re.findall(r"\$([A-Z_]+)", text)
    )
    told = {name for name in outputs if name.endswith(("_FUNCTION_NAME", "_NAMESPACE", "_PRINCIPAL_ID"))}
    page = read("docs/deploy.md")
    assert all(f"`{name}`" in page for name in told)


def test_what_the_templates_load_is_json() -> None:
    for path in (ROOT / "infra").glob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))


def test_the_lock_with_telemetry_holds_what_is_deployed_without_it() -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^([a-z0-9-]+==[^ ;\\\\]+)", read(name), flags=re.MULTILINE))

    plain, traced = pins("requirements.txt"), pins("requirements-telemetry.txt")
    assert plain
    assert plain <= traced
    assert {"azure-monitor-opentelemetry-exporter", "opentelemetry-exporter-otlp-proto-http"} <= {
        pin.partition("==")[0] for pin in traced - plain
    }
