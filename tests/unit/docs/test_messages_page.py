"""docs/messages.md names every field of the contract, and no other."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from docs.examples import event_examples
from shared.messages.events import (
    AcceptedData,
    CoverageInfo,
    DrillInfo,
    GapData,
    OutcomeData,
    RepairInfo,
    RequestRejectedData,
    StartedData,
    Status,
)
from shared.messages.policies import CreatePolicy
from shared.messages.requests import (
    REQUEST_TYPES,
    AlternateTarget,
    BackupData,
    CoverageData,
    DatabaseSelector,
    DrillData,
    ProtectData,
    RecoveryPointChoice,
    RestoreData,
)
from tests.unit.docs.markdown import code, read, rows, section

PAGE = read("docs/messages.md")
COMMON = section(PAGE, "What they have in common")


def fields(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def named(text: str, *, table: int = 0) -> set[str]:
    """The fields in the first column of one of a section's tables."""
    tables = [part for part in text.split("\n\n") if part.startswith("| ")]
    return {name for row in rows(tables[table]) for name in code(row[0])}


@pytest.mark.parametrize(
    ("heading", "model"), [("Protect", ProtectData), ("Backup", BackupData), ("Restore", RestoreData)]
)
def test_every_field_of_a_request_is_named(heading: str, model: type[BaseModel]) -> None:
    assert named(section(PAGE, heading)) | named(COMMON) == fields(model)


def test_every_field_of_a_coverage_request_is_named() -> None:
    assert named(section(PAGE, "Coverage")) == fields(CoverageData)


@pytest.mark.parametrize(
    ("heading", "table", "model"),
    [
        ("What they have in common", 1, DatabaseSelector),
        ("Protect", 1, CreatePolicy),
        ("Restore", 1, RecoveryPointChoice),
    ],
)
def test_every_field_inside_a_request_is_named(heading: str, table: int, model: type[BaseModel]) -> None:
    assert named(section(PAGE, heading), table=table) == fields(model)


def test_every_field_of_an_alternate_target_is_named() -> None:
    targets = {code(row[0])[0]: row for row in rows(section(PAGE, "Restore")) if len(row) == 3}
    assert fields(AlternateTarget) - {"kind"} <= set(code(targets["alternate"][2]))


def test_every_field_of_a_drill_request_is_named() -> None:
    assert named(section(PAGE, "Drill")) | {"vaultId", "jobTimeout"} == fields(DrillData)


def test_every_field_of_what_a_drill_proved_is_named() -> None:
    row = next(row for row in rows(section(PAGE, "Fields of data")) if code(row[0]) == ["drill"])
    assert set(code(row[2])) == fields(DrillInfo)


def test_every_type_of_request_is_named() -> None:
    assert named(section(PAGE, "Requests")) == set(REQUEST_TYPES)


def test_every_field_of_an_event_is_named() -> None:
    told = fields(AcceptedData) | fields(StartedData) | fields(OutcomeData) | fields(GapData)
    assert named(section(PAGE, "Fields of data")) == told
    assert fields(CoverageInfo) | fields(RepairInfo) <= set(code(section(PAGE, "Fields of data")))
    assert fields(RequestRejectedData) <= set(code(section(PAGE, "A message that is no request")))


def test_every_status_is_named() -> None:
    assert named(section(PAGE, "Statuses of outcomes")) == {status.value for status in Status}


def test_every_application_property_is_named_with_what_a_filter_would_see() -> None:
    properties = event_examples()["backup succeeded"].to_message().application_properties
    assert named(PAGE.split("application properties for filters")[1].split("For instance")[0]) == set(
        properties
    )
