"""The published schemas say what the app takes and what it publishes."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import jsonschema
import pytest

from docs.examples import event_examples
from docs.generate import DURATION, ROOT, SAMPLES, SCHEMAS
from shared.messages.cloud_events import InvalidMessageError, read_envelope
from shared.messages.model import parse_duration
from shared.messages.requests import read_data

SCHEMA_FILES = sorted((ROOT / SCHEMAS).glob("*.json"))
REQUESTS = sorted((ROOT / SAMPLES).glob("*.json"))
EVENTS = event_examples()


def validator(name: str) -> Any:
    schema = json.loads((ROOT / SCHEMAS / name).read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(schema)


def is_request(event: dict[str, Any]) -> bool:
    try:
        read_data(read_envelope(json.dumps(event).encode()))
    except InvalidMessageError:
        return False
    return True


def sample(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / SAMPLES / name).read_text(encoding="utf-8"))
    return found


def schema_of_request(event: dict[str, Any]) -> str:
    return f"{event['type'].removeprefix('sqlvmbackup.')}.json"


@pytest.mark.parametrize("path", SCHEMA_FILES, ids=lambda path: path.name)
def test_each_is_a_schema_of_the_dialect_it_names(path: Any) -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", [path.name for path in REQUESTS])
def test_each_sample_request_is_taken_by_the_app_and_by_its_schema(name: str) -> None:
    event = sample(name)
    assert is_request(event)
    validator(schema_of_request(event)).validate(event)


def test_the_lines_of_the_sample_file_are_requests() -> None:
    lines = (ROOT / SAMPLES / "requests.jsonl").read_text(encoding="utf-8").splitlines()
    assert [is_request(json.loads(line)) for line in lines] == [True] * 3


def test_the_http_sample_sends_samples_that_there_are() -> None:
    text = (ROOT / SAMPLES / "send.http").read_text(encoding="utf-8")
    sent = [line.removeprefix("< ./") for line in text.splitlines() if line.startswith("< ")]
    assert sent
    assert all((ROOT / SAMPLES / name).is_file() for name in sent)


VAULT = "vaultId"
WRONG: list[tuple[str, str, dict[str, Any] | None, dict[str, Any] | None]] = [
    # sample, what is wrong, changes of the envelope, changes of the data
    ("backup.json", "another version of CloudEvents", {"specversion": "0.3"}, None),
    ("backup.json", "no id", {"id": ""}, None),
    ("backup.json", "an id that is no text", {"id": 7}, None),
    ("backup.json", "data that is not JSON", {"datacontenttype": "text/plain"}, None),
    ("backup.json", "a correlation id with a line break", {"correlationid": "a\nb"}, None),
    ("backup.json", "binary data", {"data_base64": "e30="}, None),
    ("backup.json", "data that is no object", {"data": []}, None),
    ("backup.json", "an unknown field", None, {"databse": "orders"}),
    ("backup.json", "no database", None, {"databases": []}),
    ("backup.json", "an unknown type", None, {"backupType": "Fullest"}),
    ("backup.json", "a vault that is a VM", None, {VAULT: sample("backup.json")["data"]["vmId"]}),
    ("backup.json", "a vault by its name", None, {VAULT: "vault1"}),
    ("backup.json", "a duration in months", None, {"retainFor": "P1M"}),
    ("backup.json", "a number for text", None, {"ifRunning": 1}),
    ("backup.json", "text for a boolean", None, {"compression": "true"}),
    (
        "backup.json",
        "instance and group",
        None,
        {"databases": [{"instance": "i", "availabilityGroup": "g", "database": "d"}]},
    ),
    ("backup.json", "neither instance nor group", None, {"databases": [{"database": "d"}]}),
    ("protect.json", "a policy name with a slash", None, {"policyName": "a/b"}),
    ("protect.json", "an unknown choice", None, {"onExisting": "replace"}),
    (
        "protect-into-new-vault.json",
        "an unknown redundancy",
        None,
        {"createVault": {"location": "westeurope", "redundancy": "LRS"}},
    ),
    ("restore-original.json", "no target", None, {"target": {}}),
    ("restore-original.json", "an unknown target", None, {"target": {"kind": "elsewhere"}}),
    ("restore-original.json", "two recovery points", None, {"recoveryPoint": {"latest": "any", "name": "1"}}),
    ("restore-original.json", "no recovery point", None, {"recoveryPoint": {}}),
    ("restore-as-files.json", "a target without its path", None, {"target": {"kind": "files"}}),
]


@pytest.mark.parametrize(("name", "what", "envelope", "data"), WRONG, ids=[row[1] for row in WRONG])
def test_the_schema_refuses_what_the_app_refuses(
    name: str, what: str, envelope: dict[str, Any] | None, data: dict[str, Any] | None
) -> None:
    event = deepcopy(sample(name))
    schema = validator(schema_of_request(event))
    event.update(envelope or {})
    if data is not None:
        event["data"].update(data)
    assert not is_request(event)
    assert not schema.is_valid(event)


@pytest.mark.parametrize(
    "text",
    [
        "PT1H",
        "P7D",
        "P1W",
        "P1DT12H",
        "PT0.5S",
        "PT90M",
        "P1M",
        "P1Y",
        "P",
        "PT",
        "7D",
        "PT1H ",
        "-P1D",
        "P1DT",
    ],
)
def test_the_pattern_of_durations_is_what_the_app_takes(text: str) -> None:
    try:
        parse_duration(text)
        taken = True
    except ValueError:
        taken = False
    assert jsonschema.Draft202012Validator({"pattern": DURATION}).is_valid(text) is taken


@pytest.mark.parametrize("name", EVENTS)
def test_each_event_is_what_its_schema_says(name: str) -> None:
    event = json.loads(EVENTS[name].to_json())
    _, operation, status, version = event["type"].split(".")
    by_kind = {"accepted": "accepted", "started": "started", "gap": "gap"}
    kind = "request.rejected" if operation == "request" else by_kind.get(status, "outcome")
    schema = validator(f"{kind}.{version}.json")
    schema.validate(event)
    assert set(event) <= set(schema.schema["properties"])
    assert set(event["data"]) <= set(schema.schema["properties"]["data"]["properties"])


@pytest.mark.parametrize("lost", ["status", "requestId", "outcomeCount", "outcomeKey"])
def test_an_event_without_a_promised_field_is_none(lost: str) -> None:
    event = json.loads(EVENTS["backup succeeded"].to_json())
    del event["data"][lost]
    assert not validator("outcome.v1.json").is_valid(event)
