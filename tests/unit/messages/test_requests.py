"""Requests: understood whole, or refused with every problem named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.messages.cloud_events import InvalidMessageError, read_envelope
from shared.messages.requests import BackupData, Operation, ProtectData, RestoreData, read_data
from tests.unit.examples import VAULT, VM

PROTECT: dict[str, Any] = {
    "vaultId": VAULT.path,
    "vmId": VM.path,
    "policyName": "Daily",
    "databases": [{"instance": "MSSQLSERVER", "database": "*"}],
}
BACKUP: dict[str, Any] = {
    "vaultId": VAULT.path,
    "backupType": "Full",
    "databases": [{"instance": "MSSQLSERVER", "database": "orders"}],
}
RESTORE: dict[str, Any] = {
    "vaultId": VAULT.path,
    "vmId": VM.path,
    "instance": "MSSQLSERVER",
    "database": "orders",
    "recoveryPoint": {"latest": "any"},
    "target": {"kind": "alternate", "vmId": VM.path, "instance": "MSSQLSERVER"},
}
DATA = {"protect": PROTECT, "backup": BACKUP, "restore": RESTORE}


def event(operation: str = "backup", data: Any = None, **attributes: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "type": f"sqlvmbackup.{operation}.requested.v1",
        "source": "/tests",
        "id": "1",
        "data": DATA[operation] if data is None else data,
        **attributes,
    }


def problems(body: Any) -> list[str]:
    """What is wrong with a message; empty where nothing is."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        read_data(read_envelope(raw))
    except InvalidMessageError as error:
        return [str(problem) for problem in error.problems]
    return []


def changed(operation: str, **changes: Any) -> dict[str, Any]:
    """A request with changed data; None leaves a field out."""
    data = {**DATA[operation], **changes}
    return event(operation, {name: value for name, value in data.items() if value is not None})


@pytest.mark.parametrize(
    ("operation", "model"), [("protect", ProtectData), ("backup", BackupData), ("restore", RestoreData)]
)
def test_a_request_is_read_as_what_it_asks_for(operation: str, model: type) -> None:
    found, data = read_data(read_envelope(json.dumps(event(operation)).encode()))
    assert found is Operation(operation)
    assert type(data) is model


OTHER_KIND = VM.path.replace("Microsoft.Compute/virtualMachines", "Microsoft.Storage/storageAccounts")

#: what is sent, and words of each problem that is named
WRONG: dict[str, tuple[Any, list[str]]] = {
    "nothing": (b"", ["body: expected a JSON object"]),
    "no JSON": (
        b"{",
        ["body: expected a JSON object (given: what cannot be read as JSON: Expecting property name"],
    ),
    "no UTF-8": (b'{"a": "\xff"}', ["UTF-8"]),
    "not a number": (b'{"a": NaN}', ["body: expected a JSON object"]),
    "a name twice": (
        b'{"id": "1", "data": {"b": 1, "a": 1, "a": 2}}',
        ['body: expected each name of an object once (given: "a" twice)'],
    ),
    "half a surrogate pair": (b'{"a": "\\ud800"}', ["whole characters"]),
    "nested without end": (b"[" * 100_000, ["nested"]),
    "nested too deeply": (b'{"data":' + b"[" * 64 + b"]" * 64 + b"}", ["nested to at most 64 levels"]),
    "a list": ([], ["CloudEvent"]),
    "no envelope": ({}, ["specversion", "type", "source", "id"]),
    "another version": (event(specversion="0.3"), ["specversion"]),
    "blank identity": (event(source="", id=""), ["source", "id"]),
    "endless identity": (event(id="x" * 513), ["id: expected a non-empty string of at most 512"]),
    "upper-case attribute": (event(Comment="x"), ["lower-case"]),
    "binary data": (event(data_base64="AA=="), ["data_base64"]),
    "not as JSON": (event(datacontenttype="text/xml"), ["datacontenttype"]),
    "log injection": (event(correlationid="a\nERROR b"), ["correlationid"]),
    "a line end after a correlation id": (event(correlationid="a\n"), ["correlationid"]),
    "a line end after an attribute's name": (
        event(**{"partitionkey\n": "1"}),
        ["lower-case letters and digits"],
    ),
    "another type": (event(type="com.example.order"), ["type: expected one of"]),
    "version 2": (event(type="sqlvmbackup.backup.requested.v2"), ["type: expected one of"]),
    "no data": ({**event(), "data": None}, ["data: expected the data of a backup request"]),
    "data as text": (event(data="x"), ["data: expected the data of a backup request"]),
    "a field too many": (changed("backup", vault="x"), ["data.vault: is not a field of it"]),
    "a typo beside what it meant": (
        changed("backup", backupType=None, backuptype="Full"),
        ["data.backupType: is required", "data.backuptype: is not a field of it"],
    ),
    "a number for a text": (changed("protect", policyName=5), ["data.policyName"]),
    "a text for a flag": (changed("protect", resume="yes"), ["data.resume"]),
    "no databases": (changed("backup", databases=[]), ["data.databases"]),
    "two parents": (
        changed("backup", databases=[{"instance": "A", "availabilityGroup": "B", "database": "c"}]),
        ["data.databases.0: expected exactly one of instance and availabilityGroup"],
    ),
    "another kind of resource": (changed("protect", vmId=OTHER_KIND), ["data.vmId"]),
    "a path that climbs": (changed("protect", vaultId=f"{VAULT.path}/../../evil"), ["data.vaultId"]),
    "a hidden slash": (changed("protect", vaultId=f"{VAULT.path}%2f..%2fevil"), ["data.vaultId"]),
    "a query": (changed("protect", vaultId=f"{VAULT.path}?x=y"), ["data.vaultId"]),
    "a control character": (changed("protect", vmId=f"{VM.path}\r\nHost: evil"), ["data.vmId"]),
    "both retentions": (
        changed("backup", retainFor="P1D", retainUntil="2030-01-01T00:00:00Z"),
        ["expected at most one of retainFor and retainUntil"],
    ),
    "retention of a log backup": (
        changed("backup", backupType="Log", retainFor="P1D"),
        ["comes from its policy"],
    ),
    "retention of nothing": (changed("backup", retainFor="PT0S"), ["longer than zero"]),
    "a month has no length": (changed("backup", retainFor="P1M"), ["ISO 8601 duration"]),
    "a line end after a duration": (changed("backup", retainFor="P1D\n"), ["ISO 8601 duration"]),
    "a naive moment": (changed("backup", retainUntil="2030-01-01T00:00:00"), ["names no time zone"]),
    "before time began": (
        changed("backup", retainUntil="0001-01-01T00:00:00+05:00"),
        ["data.retainUntil: expected a moment between"],
    ),
    "no recovery point": (changed("restore", recoveryPoint={}), ["exactly one of name, pointInTime"]),
    "two recovery points": (
        changed("restore", recoveryPoint={"latest": "any", "name": "1"}),
        ["exactly one of name, pointInTime"],
    ),
    "half a second": (
        changed("restore", recoveryPoint={"pointInTime": "2026-01-05T08:00:00.5Z"}),
        ["whole seconds"],
    ),
    "a recovery point that climbs": (
        changed("restore", recoveryPoint={"name": "../x"}),
        ["data.recoveryPoint.name"],
    ),
    "another target": (changed("restore", target={"kind": "cloud"}), ["data.target"]),
    "no VM": (changed("restore", vmId=None), ["vmId is needed"]),
    "a window that never comes": (changed("protect", createPolicy={"full": {}}), ["time", "retentionDays"]),
}


@pytest.mark.parametrize(("body", "said"), WRONG.values(), ids=WRONG)
def test_every_problem_is_named(body: Any, said: list[str]) -> None:
    found = problems(body)
    assert len(found) >= len(said)
    for words in said:
        assert any(words in problem for problem in found), found
    for problem in found:
        assert problem.isprintable(), problem
        assert len(problem) < 1000


SAID_ONCE: dict[str, tuple[Any, str]] = {
    "a wrong item": (
        changed("protect", databases=[{"database": "orders"}]),
        "data.databases.0: expected exactly one of instance and availabilityGroup (given: an object)",
    ),
    "a name for a database": (
        changed("backup", exclude=["b*"]),
        'data.exclude.0: expected an object such as {"instance": "MSSQLSERVER", "database": "orders"} (given: "b*")',
    ),
    "no items": (
        changed("backup", databases=[]),
        "data.databases: expected a list of at least 1 (given: [])",
    ),
    "another choice": (
        changed("protect", firstBackup="later"),
        "data.firstBackup: expected 'scheduled' or 'now' (given: \"later\")",
    ),
    "another kind": (
        changed("restore", target={"kind": "cloud"}),
        "data.target.kind: expected one of 'original', 'alternate', 'files' (given: \"cloud\")",
    ),
    "no kind": (changed("restore", target={}), "data.target.kind: is required (given: nothing)"),
    "no time for a job": (
        changed("protect", jobTimeout="PT0S"),
        'data.jobTimeout: expected a duration longer than zero (given: "PT0S")',
    ),
    "no event": (b"null", "body: expected a CloudEvent: a JSON object (given: null)"),
}


@pytest.mark.parametrize(("body", "said"), SAID_ONCE.values(), ids=SAID_ONCE)
def test_a_problem_is_said_once_in_terms_of_json(body: Any, said: str) -> None:
    assert problems(body) == [said]


def test_problems_of_several_fields_come_together() -> None:
    body = changed("protect", vaultId="vault1", policyName="", databases="orders", surprise=True)
    fields = {problem.partition(":")[0] for problem in problems(body)}
    assert fields == {"data.vaultId", "data.policyName", "data.databases", "data.surprise"}


def test_extensions_of_other_senders_are_no_problem() -> None:
    assert not problems(
        event(partitionkey="7", dataschema="https://example.com/s", time="2026-01-05T08:00:00Z")
    )


def test_a_traceparent_that_cannot_be_read_is_ignored() -> None:
    good = f"00-{'1' * 32}-{'2' * 16}-01"
    for text, read in ((good, good), ("00-zz", None), (f"00-{'0' * 32}-{'2' * 16}-01", None), (5, None)):
        assert read_envelope(json.dumps(event(traceparent=text)).encode()).traceparent == read


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    sorted({name for data in DATA.values() for name in data} | {"target", "exclude", "jobTimeout"})
)


@given(operation=st.sampled_from(sorted(DATA)), changes=st.dictionaries(FIELDS, JSON, max_size=3))
def test_no_data_whatever_does_more_than_be_refused(operation: str, changes: dict[str, Any]) -> None:
    problems(event(operation, {**DATA[operation], **changes}))


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_whatever_do_more_than_be_refused(body: bytes) -> None:
    assert problems(body)
