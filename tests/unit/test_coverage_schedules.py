"""`COVERAGE_SCHEDULES`, and coverage requests: what is accepted, and what is said of the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.messages.cloud_events import InvalidMessageError, read_envelope
from shared.messages.requests import CoverageData, read_data
from shared.settings import SettingsError, read_settings
from tests.unit.examples import SUBSCRIPTION, VAULT

FULL = {"onStale": {"backup": {"backupType": "Full"}}}
COPY = {"onStale": {"backup": {"backupType": "CopyOnlyFull"}}}
OTHER = VAULT.path.replace("vault1", "vault2")


def schedule(name: str, **data: Any) -> dict[str, Any]:
    return {"name": name, "schedule": "0 0 3 * * *", "vaultIds": [VAULT.path], **data}


def problems(*schedules: dict[str, Any], **environment: str) -> list[str]:
    try:
        read_settings({"COVERAGE_SCHEDULES": json.dumps(schedules), **environment})
    except SettingsError as error:
        return error.problems
    return []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (FULL, COPY),
        (FULL, {**COPY, "databases": [{"instance": "*", "database": "orders"}]}),
        (FULL, {**COPY, "vaultIds": [], "subscriptionIds": [SUBSCRIPTION]}),
        (FULL, {**COPY, "exclude": [{"instance": "*", "database": "?"}]}),
        (
            {"onUnprotected": {"protect": {"policyName": "Daily"}}},
            {"onUnprotected": {"protect": {"policyName": "Hourly"}}},
        ),
    ],
)
def test_two_schedules_that_would_repair_one_database_in_two_ways_are_an_error(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    (problem,) = problems(schedule("one", **one), schedule("other", **other))
    assert "one" in problem
    assert "other" in problem
    assert next(iter(one)) in problem


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (FULL, FULL),
        (FULL, {}),
        (FULL, {**COPY, "vaultIds": [OTHER]}),
        (
            {**FULL, "databases": [{"instance": "*", "database": "orders"}]},
            {**COPY, "databases": [{"instance": "*", "database": "billing"}]},
        ),
        (
            {**FULL, "exclude": [{"instance": "*", "database": "tmp_*"}]},
            {**COPY, "databases": [{"instance": "SQL2", "database": "tmp_a*"}]},
        ),
        (
            {**FULL, "databases": [{"instance": "*", "database": "crm_*"}]},
            {**COPY, "databases": [{"instance": "*", "database": "erp_*"}]},
        ),
    ],
)
def test_schedules_that_agree_or_do_not_meet_are_none(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert problems(schedule("one", **one), schedule("other", **other)) == []


def test_a_repair_whose_workflow_is_not_served_is_an_error() -> None:
    assert problems(schedule("one", **FULL), WORKFLOWS="coverage,backup") == []
    (problem,) = problems(schedule("one", **FULL), WORKFLOWS="coverage")
    assert "backup" in problem
    assert "WORKFLOWS" in problem


def read(data: dict[str, Any]) -> CoverageData:
    event = {
        "specversion": "1.0",
        "type": "sqlvmbackup.coverage.requested.v1",
        "source": "/tests",
        "id": "one",
        "data": data,
    }
    found = read_data(read_envelope(json.dumps(event).encode()))[1]
    assert isinstance(found, CoverageData)
    return found


@pytest.mark.parametrize(
    ("data", "field", "says"),
    [
        ({}, "data", "exactly one of vaultIds and subscriptionIds"),
        (
            {"vaultIds": [VAULT.path], "subscriptionIds": [SUBSCRIPTION]},
            "data",
            "exactly one of vaultIds and subscriptionIds",
        ),
        ({"vaultIds": ["vault1"]}, "data.vaultIds.0", "Recovery Services vault"),
        ({"subscriptionIds": ["mine"]}, "data.subscriptionIds.0", "matches"),
        ({"vaultIds": [VAULT.path], "onStale": "repair"}, "data.onStale", "expected report, or an object"),
        ({"vaultIds": [VAULT.path], "onStale": {"backup": {}}}, "data.onStale.backup.backupType", "required"),
        (
            {"vaultIds": [VAULT.path], "onUnprotected": {"protect": {"policyName": ""}}},
            "data.onUnprotected",
            "",
        ),
        ({"vaultIds": [VAULT.path], "maxAge": "1d"}, "data.maxAge", "ISO 8601"),
    ],
)
def test_what_is_wrong_with_a_request_is_named(data: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(InvalidMessageError) as raised:
        read(data)
    (problem,) = raised.value.problems
    assert problem.field.startswith(field)
    assert says in problem.accepted


def test_report_is_the_default_of_both_rules() -> None:
    data = read({"vaultIds": [VAULT.path], "onStale": "report", "onUnprotected": "report"})
    assert (data.on_stale, data.on_unprotected, data.repairs) == (None, None, frozenset())
    assert data == read({"vaultIds": [VAULT.path]})
