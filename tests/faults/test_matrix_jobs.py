# ruff: noqa: N802 - the tests bear the numbers of their faults
"""The fault matrix, F19, F21, F22, F23, F24, F25, F26, F30: how operations and jobs end, or do not.

Each test bears the number of its fault; `tests/faults/matrix.py` says what is expected.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

import pytest

from local.estate import JsonObject
from shared.arm.transport import RawAnswer
from tests.faults.estate import (
    Plan,
    bare_estate,
    fault,
    protected_estate,
)
from tests.faults.observing import (
    OpenEstate,
    asked,
    finished,
    run,
)

MINUTE = timedelta(minutes=1)


CONFLICT = {
    "code": "OperationCancelledBecauseConflictingOperationRunningUserError",
    "errorCode": 510008,
    "message": "Operation cancelled as a conflicting operation was already running on the same database.",
}


def respelt(old: str, new: str, ending: str = "") -> Plan:
    """Azure says `new` in its jobs where it would say `old`."""

    def mangle(_: str, path: str, answer: RawAnswer) -> RawAnswer:
        if "/backupJobs" not in path or not path.endswith(ending):
            return answer
        return RawAnswer(answer.status, answer.headers, answer.body.replace(old.encode(), new.encode()))

    return Plan(mangle=mangle)


USER_ERRORS = [
    (4, "UserErrorSQLLSNValidationFailure", "Full backup"),
    (5, "UserErrorBackupFailedAsTransactionLogIsFull", "transaction log"),
    (520010, "UserErrorParentFullBackupMissing", "Full backup"),
    (6, "VMNotInRunningStateUserError", "Start the VM"),
    (7, "UserErrorNobodyHasHeardOf", ""),
]


@pytest.mark.parametrize(
    ("route", "kind"),
    [
        ("Backup", "jobNeverEnds"),
        ("Restore", "jobNeverEnds"),
        ("Backup", "operationNeverEnds"),
        ("Register", "operationNeverEnds"),
    ],
)
def test_F19_operation_never_ends(open_estate: OpenEstate, route: str, kind: str) -> None:
    scenario = bare_estate if route == "Register" else protected_estate
    estate = open_estate(scenario(faults=[fault(route, kind)]))
    began = estate.clock.now()
    request = (
        estate.protect("orders")
        if route == "Register"
        else estate.backup("orders", jobTimeout="PT6H")
        if route == "Backup"
        else estate.restore("orders", jobTimeout="PT6H")
    )
    outcome = finished(estate, request)
    limit = timedelta(hours=6 if kind == "jobNeverEnds" else 2)
    assert outcome["status"] == "timedOut"
    assert outcome["error"]["recommendations"], "it says what to do"
    if kind == "jobNeverEnds":
        assert outcome["job"]["id"] == estate.job_ids(route)[0]
    assert limit <= estate.clock.now() - began <= limit + 2 * MINUTE, "deadline and one poll"
    # The job is left to run: it is Azure's, and a person's to cancel.
    assert not asked(estate, "CancelJob")


def test_F21_job_completed_with_warnings(open_estate: OpenEstate) -> None:
    problem = {"code": "UserErrorPartial", "errorCode": 7, "message": "Some files were skipped."}
    estate = open_estate(protected_estate(faults=[fault("Backup", "jobWarning", **problem)]))
    outcome = finished(estate, estate.backup("orders"))
    assert outcome["status"] == "succeededWithWarnings"
    assert "Some files were skipped." in outcome["warnings"][0]
    assert "error" not in outcome


@pytest.mark.parametrize("spelling", ["Cancelled", "Canceled", "CANCELLED"])
def test_F22_job_cancelled(open_estate: OpenEstate, spelling: str) -> None:
    faults = [fault("Backup", "jobCancelled")]
    estate = open_estate(protected_estate(faults=faults), respelt('"Cancelled"', f'"{spelling}"'))
    outcome = finished(estate, estate.backup("orders"))
    assert (outcome["status"], outcome["job"]["id"]) == ("cancelled", estate.job_ids("Backup")[0])
    assert estate.mutations["Backup"] == 1


def test_F22_a_job_that_is_being_cancelled_has_not_ended(open_estate: OpenEstate) -> None:
    estate = open_estate(protected_estate(), respelt('"InProgress"', '"Cancelling"'))
    assert finished(estate, estate.backup("orders"))["status"] == "succeeded"


@pytest.mark.parametrize("route", ["GetJob", "OperationStatus"])
def test_F23_unknown_status_value(
    open_estate: OpenEstate, route: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    estate = open_estate(protected_estate(faults=[fault(route, "unknownStatus", times=2)]))
    assert finished(estate, estate.backup("orders"))["status"] == "succeeded"
    if route == "GetJob":
        assert 1 <= caplog.text.count("a status that is not known") <= 2
    settings = {"OPERATION_TIMEOUT": "PT20M"}
    estate = open_estate(protected_estate(faults=[fault(route, "unknownStatus")]), settings=settings)
    outcome = finished(estate, estate.backup("orders", jobTimeout="PT20M"))
    assert outcome["status"] == "timedOut"
    assert estate.mutations["Backup"] == 1


@pytest.mark.parametrize(("number", "code", "advice"), USER_ERRORS, ids=[row[1] for row in USER_ERRORS])
def test_F24_job_failed_with_user_error(open_estate: OpenEstate, number: int, code: str, advice: str) -> None:
    for own in (" ", "Do as the service says."):
        faults = [
            fault("Backup", "jobFailure", code=code, errorCode=number, message="No.", recommendations=[own])
        ]
        estate = open_estate(protected_estate(faults=faults))
        outcome = finished(estate, estate.backup("orders"))
        error = outcome["error"]
        assert (outcome["status"], error["code"]) == ("failed", code)
        assert "No." in error["message"]
        assert (own if own.strip() else advice) in " ".join(error["recommendations"])
        assert estate.mutations["Backup"] == 1, "what will fail again is not tried again"


def test_F25_conflict_another_operation_in_progress(open_estate: OpenEstate) -> None:
    # Real conflicts: while a backup is running, another one and a restore are asked for.
    estate = open_estate(protected_estate(durations={"backup": 3600, "restore": 600}))
    first = estate.backup("orders", backup_type="CopyOnlyFull")
    estate.submit(first)
    estate.step_until(lambda: estate.mutations["Backup"] == 1)
    outcomes = run(estate, estate.backup("orders"), estate.restore("orders"))
    assert [outcome["status"] for outcome in outcomes] == ["succeeded"] * 2
    assert estate.outcome(first)["status"] == "succeeded"
    ended = datetime.fromisoformat(estate.outcome(first)["endTime"])
    for outcome in outcomes:
        assert datetime.fromisoformat(outcome["startTime"]) >= ended, "only once the first has ended"
    for route, outcome in zip(("Backup", "Restore"), outcomes, strict=True):
        assert outcome["job"]["id"] == estate.job_ids(route)[-1], "those before it gave way"
        assert estate.mutations[route] <= 3


@pytest.mark.parametrize(
    "refusal",
    [
        fault("Backup", "status", status=409, code="Conflict"),
        fault("Backup", "jobFailure", **CONFLICT),
        fault("Backup", "operationFailure", code=CONFLICT["code"], message="Busy."),
    ],
    ids=["409", "job", "operation"],
)
def test_F25_at_most_three_attempts(open_estate: OpenEstate, refusal: JsonObject) -> None:
    estate = open_estate(protected_estate(faults=[refusal]))
    estate.submit(estate.backup("orders"))
    estate.quiesce()
    outcome = estate.outcome()
    assert outcome["status"] == "failed"
    assert "attempt 3 of at most 3" in outcome["error"]["message"]
    assert len(asked(estate, "Backup")) == 3
    estate = open_estate(protected_estate(faults=[refusal]))
    assert finished(estate, estate.backup("orders", ifRunning="skip"))["status"] == "skipped"


def test_F26_the_tenth_full_of_a_day(open_estate: OpenEstate) -> None:
    estate = open_estate(protected_estate())
    for _ in range(9):
        assert finished(estate, estate.backup("orders"))["status"] == "succeeded"
    before = len(asked(estate, "Backup"))
    outcome = finished(estate, estate.backup("orders"))
    assert outcome["status"] == "failed"
    assert outcome["error"]["code"] == "QuotaExhausted"
    assert "tomorrow" in outcome["error"]["recommendations"][0]
    assert len(asked(estate, "Backup")) == before + 1


@pytest.mark.parametrize("code", ["CloudDosAbsoluteLimitReached", "CloudDosAbsoluteLimitReachedWithRetry"])
@pytest.mark.parametrize("kind", ["status", "jobFailure"])
def test_F26_cloud_dos_absolute_limit_reached(open_estate: OpenEstate, code: str, kind: str) -> None:
    faults = [
        fault("Backup", kind, code=code, message="Too many.", **({"status": 400} if kind == "status" else {}))
    ]
    estate = open_estate(protected_estate(faults=faults))
    outcome = finished(estate, estate.backup("orders"))
    assert (outcome["status"], outcome["error"]["code"]) == ("failed", "QuotaExhausted")
    assert code in outcome["error"]["message"]
    assert len(asked(estate, "Backup")) == 1


@pytest.mark.parametrize("route", ["Inquire", "Backup", "Restore", "ConfigureBackup"])
def test_F30_extension_not_reachable(open_estate: OpenEstate, route: str) -> None:
    problem = {
        "code": "WorkloadExtensionNotReachable",
        "errorCode": 1,
        "message": "No contact with the VM.",
        "recommendations": [" "],
    }
    protects = route in ("Inquire", "ConfigureBackup")
    kind = "operationFailure" if route == "Inquire" else "jobFailure"
    estate = open_estate(
        (bare_estate if protects else protected_estate)(faults=[fault(route, kind, **problem)])
    )
    request = (
        estate.protect("orders")
        if protects
        else estate.restore("orders")
        if route == "Restore"
        else estate.backup("orders")
    )
    outcome = finished(estate, request)
    assert (outcome["status"], outcome["error"]["code"]) == ("failed", "WorkloadExtensionNotReachable")
    assert "re-register" in outcome["error"]["recommendations"][0]
    assert estate.mutations[route] == 1
