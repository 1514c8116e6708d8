"""Faults: each does what its name says, to the calls it was meant for, and to no others."""

from __future__ import annotations

from typing import Any

import pytest

from local.simulator import Scenario
from local.simulator.faults import FAULTS
from local.simulator.route_names import ROUTE_NAMES
from tests.unit.simulator.driver import Driver, estate


def faulty(*faults: dict[str, Any], **settings: Any) -> Driver:
    return Driver(
        estate({"name": "orders", "historyDays": 1}, {"name": "billing"}) | {"faults": faults, **settings}
    )


def effects(driver: Driver) -> list[str]:
    return [entry["route"] for entry in driver.simulator.ledger_entries]


@pytest.mark.parametrize(
    ("fault", "status", "effect"),
    [
        ({"fault": "status"}, 503, False),
        ({"fault": "status", "status": 403}, 403, False),
        ({"fault": "throttle"}, 429, False),
        ({"fault": "redirect"}, 307, False),
        ({"fault": "statusAfterEffect", "status": 504}, 504, True),
        ({"fault": "statusAfterEffect", "status": 401}, 401, True),
        ({"fault": "redirectAfterEffect"}, 307, True),
        ({"fault": "dropBeforeEffect"}, None, False),
        ({"fault": "dropAfterEffect"}, None, True),
    ],
)
def test_before_or_after_the_effect(fault: dict[str, Any], status: int | None, effect: bool) -> None:
    driver = faulty({"route": "Backup", **fault})
    answer = driver.backup()
    assert answer.dropped == (status is None)
    if status is not None:
        assert answer.status == status
    assert effects(driver) == (["Backup"] if effect else [])
    assert driver.simulator.access_entries[-1]["status"] == status
    assert len(driver.get("/backupJobs")["value"]) == (1 if effect else 0)


def test_a_gateway_that_repeats_a_call() -> None:
    driver = faulty({"route": "Backup", "fault": "twice"})
    answer = driver.backup(wait=0)
    assert answer.status == 202
    first, second = driver.simulator.ledger_entries
    assert first["clientRequestId"] == second["clientRequestId"]
    states = {job["name"]: job["properties"]["status"] for job in driver.get("/backupJobs")["value"]}
    # The second finds the first at work and gives way to it.
    assert states == {first["jobId"]: "InProgress", second["jobId"]: "Failed"}


def test_a_job_that_is_listed_late() -> None:
    driver = faulty({"route": "Backup", "fault": "jobListedLate"})
    driver.backup(wait=0)
    job = driver.simulator.ledger_entries[0]["jobId"]
    assert driver.get("/backupJobs")["value"] == []
    assert driver.get(f"/backupJobs/{job}")["name"] == job
    driver.wait(239)
    assert driver.get("/backupJobs")["value"] == []
    driver.wait(1)
    assert [entry["name"] for entry in driver.get("/backupJobs")["value"]] == [job]


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ({"fault": "malformedBody"}, None),
        ({"fault": "htmlBody"}, b"<!DOCTYPE"),
        ({"fault": "wrongTypeBody"}, b"["),
        ({"fault": "emptyBody"}, b""),
    ],
)
def test_bodies_that_are_not_what_they_should_be(fault: dict[str, Any], text: bytes | None) -> None:
    driver = faulty({"route": "GetJob", **fault})
    driver.backup()
    job = driver.get("/backupJobs")["value"][0]["name"]
    answer = driver.call("GET", f"/backupJobs/{job}")
    assert answer.status == 200
    if text is None:
        assert answer.text.startswith(b"{")
        assert answer.body is None
    else:
        assert answer.text[: max(len(text), 1)] == text


@pytest.mark.parametrize("value", [0, -1, "soon", "Mon, 05 Jan 2026 09:00:00 GMT", 10**9])
def test_retry_after_can_be_anything(value: object) -> None:
    driver = faulty({"route": "Backup", "fault": "retryAfter", "retryAfter": value})
    assert driver.backup().headers["retry-after"] == str(value)
    driver = faulty({"route": "Backup", "fault": "throttle", "retryAfter": None})
    assert "retry-after" not in driver.backup().headers


def test_headers_go_missing_or_point_elsewhere() -> None:
    driver = faulty(
        {"route": "Backup", "fault": "missingHeaders", "nth": 1},
        {"route": "Backup", "fault": "foreignPollUrl"},
    )
    first = driver.backup("orders")
    assert first.status == 202
    assert not {"location", "azure-asyncoperation", "retry-after"} & first.headers.keys()
    second = driver.backup("billing")
    assert second.headers["location"].startswith("http://evil.example/subscriptions/")
    driver = faulty(
        {"route": "ListJobs", "fault": "foreignNextLink"}, {"route": "ListPolicies", "fault": "nextLinkLoop"}
    )
    assert driver.get("/backupJobs")["nextLink"].startswith("http://evil.example/")
    page = driver.get("/backupPolicies")
    assert driver.get(page["nextLink"]) == page


def test_jobs_and_operations_end_as_told() -> None:
    driver = faulty(
        {
            "route": "Backup",
            "fault": "jobFailure",
            "nth": 1,
            "code": "UserErrorSQLLSNValidationFailure",
            "errorCode": 9,
            "dynamicErrorMessage": "Msg 4214",
        },
        {"route": "Backup", "fault": "jobWarning", "nth": 2, "code": "Careful"},
        {"route": "Backup", "fault": "jobCancelled", "nth": 3},
        {"route": "Backup", "fault": "jobNeverEnds", "nth": 4},
        {
            "route": "ConfigureBackup",
            "fault": "operationFailure",
            "nth": 1,
            "code": "Broken",
            "message": "It broke.",
        },
        {"route": "ConfigureBackup", "fault": "operationNeverEnds", "nth": 2},
        {"route": "GetJob", "fault": "unknownStatus", "nth": 5},
    )
    failed = driver.job(driver.backup())
    assert (failed["status"], failed["errorDetails"][0]["errorTitle"]) == (
        "Failed",
        "UserErrorSQLLSNValidationFailure",
    )
    assert failed["extendedInfo"]["dynamicErrorMessage"] == "Msg 4214"
    warned = driver.job(driver.backup())
    assert (warned["status"], warned["errorDetails"][0]["errorTitle"]) == ("CompletedWithWarnings", "Careful")
    assert driver.job(driver.backup())["status"] == "Cancelled"
    hanging = driver.backup()
    driver.wait(days=3)
    assert driver.job(hanging)["status"] == "InProgress"
    assert driver.job(hanging)["status"] == "Retrying"
    broken = driver.protect("billing")
    status = driver.get(broken.headers["azure-asyncoperation"])
    assert (status["status"], status["error"]) == ("Failed", {"code": "Broken", "message": "It broke."})
    assert driver.call("GET", broken.headers["location"]).status == 500
    endless = driver.protect("billing")
    driver.wait(days=3)
    assert driver.get(endless.headers["azure-asyncoperation"])["status"] == "InProgress"


def test_a_rule_is_counted_by_its_own_route_path_and_times() -> None:
    driver = faulty(
        {"route": "GetProtectedItem", "fault": "status", "nth": [2, 3]},
        {"route": "*", "fault": "status", "pathContains": "billing", "times": 1, "status": 500},
    )
    assert [driver.call("GET", driver.item()).status for _ in range(4)] == [200, 503, 503, 200]
    assert [driver.call("GET", driver.item("billing")).status for _ in range(2)] == [500, 200]


def test_chance_is_seeded_and_close_to_what_was_asked() -> None:
    def hits(seed: int) -> list[int]:
        driver = faulty({"route": "*", "fault": "status", "probability": 0.25}, seed=seed)
        return [driver.call("GET", "").status for _ in range(400)]

    assert hits(5) == hits(5)
    assert hits(5) != hits(6)
    assert 60 <= hits(5).count(503) <= 140


@pytest.mark.parametrize(
    "fault",
    [
        {"route": "NoSuchRoute", "fault": "status"},
        {"route": "Backup", "fault": "noSuchFault"},
        {"route": "Backup", "fault": "status", "nth": 1, "probability": 0.5},
        {"route": "Backup", "fault": "status", "colour": "red"},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(fault: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        Scenario.model_validate({"faults": [fault]})


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_can_be_put_on_every_route(name: str) -> None:
    seconds = {"seconds": 0}
    Scenario.model_validate(
        {"faults": [{"route": route, "fault": name, **seconds} for route in ("*", *ROUTE_NAMES)]}
    )
    driver = faulty({"route": "*", "fault": name, **seconds})
    for method, path in (
        ("GET", ""),
        ("GET", "/backupJobs"),
        ("POST", "/backupFabrics/Azure/refreshContainers"),
    ):
        assert driver.call(method, path).status in (200, 202, 307, 429, 500, 503)
