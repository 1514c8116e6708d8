"""Faults F21 to F31, F38, F42 and F44 of the matrix: how jobs end, what an estate is like, and many at once."""

from __future__ import annotations

import json
import logging
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest

from shared.arm.transport import RawAnswer
from shared.workflow.planning import plan_backups
from tests.e2e.harness import JsonObject, virtual_machine
from tests.faults.estate import FaultyEstate, Plan, bare_estate, fault, open_faulty, protected_estate


def finished(estate: FaultyEstate, request: JsonObject) -> JsonObject:
    """The data of the request's one outcome, once nothing is left to do and the invariants hold."""
    estate.submit(request)
    estate.quiesce()
    estate.check()
    return estate.outcome(request)


def respelt(old: str, new: str, ending: str = "") -> Plan:
    """Azure says `new` in its jobs where it would say `old`."""

    def mangle(_: str, path: str, answer: RawAnswer) -> RawAnswer:
        if "/backupJobs" not in path or not path.endswith(ending):
            return answer
        return RawAnswer(answer.status, answer.headers, answer.body.replace(old.encode(), new.encode()))

    return Plan(mangle=mangle)


def test_f21_job_completed_with_warnings() -> None:
    says = {"code": "UserErrorPartial", "errorCode": 7, "message": "Some files were skipped."}
    with open_faulty(protected_estate(faults=[fault("Backup", "jobWarning", **says)])) as estate:
        outcome = finished(estate, estate.backup("orders"))
        assert outcome["status"] == "succeededWithWarnings"
        assert "Some files were skipped." in outcome["warnings"][0]
        assert "error" not in outcome


@pytest.mark.parametrize("spelling", ["Cancelled", "Canceled", "CANCELLED"])
def test_f22_job_cancelled(spelling: str) -> None:
    faults = [fault("Backup", "jobCancelled")]
    with open_faulty(protected_estate(faults=faults), respelt('"Cancelled"', f'"{spelling}"')) as estate:
        outcome = finished(estate, estate.backup("orders"))
        assert (outcome["status"], outcome["job"]["id"]) == ("cancelled", estate.job_ids("Backup")[0])
        assert estate.mutations["Backup"] == 1


def test_f22_a_job_that_is_being_cancelled_has_not_ended() -> None:
    with open_faulty(protected_estate(), respelt('"InProgress"', '"Cancelling"')) as estate:
        assert finished(estate, estate.backup("orders"))["status"] == "succeeded"


@pytest.mark.parametrize("route", ["GetJob", "OperationStatus"])
def test_f23_unknown_status_value(route: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with open_faulty(protected_estate(faults=[fault(route, "unknownStatus", times=2)])) as estate:
        assert finished(estate, estate.backup("orders"))["status"] == "succeeded"
    if route == "GetJob":
        assert 1 <= caplog.text.count("a status that is not known") <= 2
    settings = {"OPERATION_TIMEOUT": "PT20M"}
    with open_faulty(protected_estate(faults=[fault(route, "unknownStatus")]), settings=settings) as estate:
        outcome = finished(estate, estate.backup("orders", jobTimeout="PT20M"))
        assert outcome["status"] == "timedOut"
        assert estate.mutations["Backup"] == 1


USER_ERRORS = [
    (4, "UserErrorSQLLSNValidationFailure", "Full backup"),
    (5, "UserErrorBackupFailedAsTransactionLogIsFull", "transaction log"),
    (520010, "UserErrorParentFullBackupMissing", "Full backup"),
    (6, "VMNotInRunningStateUserError", "Start the VM"),
]


@pytest.mark.parametrize(("number", "code", "advice"), USER_ERRORS, ids=[row[1] for row in USER_ERRORS])
def test_f24_job_failed_with_user_error(number: int, code: str, advice: str) -> None:
    for own in (" ", "Do as the service says."):
        faults = [
            fault("Backup", "jobFailure", code=code, errorCode=number, message="No.", recommendations=[own])
        ]
        with open_faulty(protected_estate(faults=faults)) as estate:
            outcome = finished(estate, estate.backup("orders"))
            error = outcome["error"]
            assert (outcome["status"], error["code"]) == ("failed", code)
            assert "No." in error["message"]
            assert (own if own.strip() else advice) in " ".join(error["recommendations"])
            assert estate.mutations["Backup"] == 1, "what will fail again is not tried again"


CONFLICT = {
    "code": "OperationCancelledBecauseConflictingOperationRunningUserError",
    "errorCode": 510008,
    "message": "Operation cancelled as a conflicting operation was already running on the same database.",
}


@pytest.mark.parametrize("route", ["Backup", "Restore"])
def test_f25_conflict_another_operation_in_progress(route: str) -> None:
    # A real conflict: a backup of another request is running.
    with open_faulty(protected_estate("orders", durations={"backup": 1200, "restore": 60})) as estate:
        first = estate.backup("orders", backup_type="CopyOnlyFull")
        estate.submit(first)
        estate.step_until(lambda: estate.mutations["Backup"] == 1)
        second = estate.backup("orders") if route == "Backup" else estate.restore("orders")
        outcome = finished(estate, second)
        assert outcome["status"] == "succeeded"
        begun = datetime.fromisoformat(outcome["startTime"])
        ended = datetime.fromisoformat(estate.outcome(first)["endTime"])
        assert begun >= ended, "only once the other has ended"
        assert estate.mutations[route] <= 3


@pytest.mark.parametrize(
    "what",
    [
        fault("Backup", "status", status=409, code="Conflict"),
        fault("Backup", "jobFailure", **CONFLICT),
        fault("Backup", "operationFailure", code=CONFLICT["code"], message="Busy."),
    ],
    ids=["409", "job", "operation"],
)
def test_f25_at_most_three_attempts(what: JsonObject) -> None:
    with open_faulty(protected_estate(faults=[what])) as estate:
        estate.submit(estate.backup("orders"))
        estate.quiesce()
        outcome = estate.outcome()
        assert outcome["status"] == "failed"
        assert "attempt 3 of at most 3" in outcome["error"]["message"]
        posts = [entry for entry in estate.simulator.access_entries if entry["route"] == "Backup"]
        assert len(posts) == 3
    with open_faulty(protected_estate(faults=[what])) as estate:
        assert finished(estate, estate.backup("orders", ifRunning="skip"))["status"] == "skipped"


@pytest.mark.parametrize("code", ["CloudDosAbsoluteLimitReached", "CloudDosAbsoluteLimitReachedWithRetry"])
@pytest.mark.parametrize("kind", ["status", "jobFailure"])
def test_f26_cloud_dos_absolute_limit_reached(code: str, kind: str) -> None:
    faults = [
        fault("Backup", kind, code=code, message="Too many.", **({"status": 400} if kind == "status" else {}))
    ]
    with open_faulty(protected_estate(faults=faults)) as estate:
        outcome = finished(estate, estate.backup("orders"))
        assert (outcome["status"], outcome["error"]["code"]) == ("failed", "quota_exhausted")
        assert code in outcome["error"]["message"]
        posts = [entry for entry in estate.simulator.access_entries if entry["route"] == "Backup"]
        assert len(posts) == 1


def test_f26_the_tenth_full_of_a_day() -> None:
    with open_faulty(protected_estate()) as estate:
        outcomes = [finished(estate, estate.backup("orders")) for _ in range(10)]
        assert [outcome["status"] for outcome in outcomes] == ["succeeded"] * 9 + ["failed"]
        error = outcomes[-1]["error"]
        assert error["code"] == "quota_exhausted"
        assert "tomorrow" in error["recommendations"][0]


def test_f27_container_already_registered() -> None:
    machine = virtual_machine("sqlvm1", "orders", registeredTo="vault1")
    with open_faulty(bare_estate(virtualMachines=[machine])) as estate:
        assert finished(estate, estate.protect("orders"))["status"] == "succeeded"
        assert estate.mutations["Register"] == 0


def test_f27_registered_to_another_vault() -> None:
    vaults = [{"name": "vault1"}, {"name": "vault2"}]
    machine = virtual_machine("sqlvm1", "orders", registeredTo="vault2")
    with open_faulty(bare_estate(vaults=vaults, virtualMachines=[machine])) as estate:
        outcome = finished(estate, estate.protect("orders"))
        assert outcome["status"] == "failed"
        assert "sqlvm1" in outcome["error"]["message"]
        assert estate.mutations["ConfigureBackup"] == 0


def test_f28_db_already_protected() -> None:
    with open_faulty(protected_estate()) as estate:
        assert finished(estate, estate.protect("orders"))["status"] == "succeeded"
        assert estate.mutations["ConfigureBackup"] == 0


def test_f28_protected_by_another_policy() -> None:
    scenario = protected_estate(vaults=[{"name": "vault1", "policies": ["HourlyLogBackup", "Other"]}])
    with open_faulty(scenario) as estate:
        failed = finished(estate, estate.protect("orders", policyName="Other"))
        assert (failed["status"], failed["error"]["code"]) == ("failed", "ProtectedByAnotherPolicy")
        assert estate.mutations["ConfigureBackup"] == 0
        changed = finished(estate, estate.protect("orders", policyName="Other", onExisting="changePolicy"))
        assert (changed["status"], changed["policyName"]) == ("succeeded", "Other")
        assert estate.mutations["ConfigureBackup"] == 1


def test_f29_db_not_found_after_inquire() -> None:
    machines = [
        virtual_machine("sqlvm1", "orders", resourceGroup="rg-a"),
        virtual_machine("sqlvm1", "billing", resourceGroup="rg-b"),
    ]
    with open_faulty(bare_estate(virtualMachines=machines)) as estate:
        request = estate.protect("billing", "renamed", vmId=estate.vm_id("sqlvm1", "rg-b"))
        estate.submit(request)
        estate.quiesce()
        estate.check()
        found = {data["data"]["database"]: data["data"] for data in estate.outcomes_of(request)}
        assert found["billing"]["status"] == "succeeded"
        assert found["renamed"]["status"] == "failed"
        # What there is instead is named, and the namesake's database is not touched.
        assert "billing" in found["renamed"]["error"]["message"]
        assert [
            entry["item"] for entry in estate.simulator.ledger_entries if entry["route"] == "ConfigureBackup"
        ] == [
            item
            for item in [e["item"] for e in estate.simulator.ledger_entries]
            if ";rg-b;" in item.lower() and "protecteditems" in item.lower()
        ]


def test_f29_two_machines_of_one_name() -> None:
    machines = [virtual_machine("sqlvm1", "orders", resourceGroup=group) for group in ("rg-a", "rg-b")]
    with open_faulty(bare_estate(virtualMachines=machines)) as estate:
        outcome = finished(estate, estate.protect("orders", vmId=estate.vm_id("sqlvm1", "rg-b")))
        assert outcome["status"] == "succeeded"
        touched = [
            entry["item"].lower()
            for entry in estate.simulator.ledger_entries
            if entry["route"] == "ConfigureBackup"
        ]
        assert len(touched) == 1 and ";rg-b;sqlvm1" in touched[0]


@pytest.mark.parametrize("route", ["Backup", "Restore", "ConfigureBackup"])
def test_f30_extension_not_reachable(route: str) -> None:
    says = {
        "code": "WorkloadExtensionNotReachable",
        "errorCode": 1,
        "message": "No contact with the VM.",
        "recommendations": [" "],
    }
    scenario = bare_estate if route == "ConfigureBackup" else protected_estate
    with open_faulty(scenario(faults=[fault(route, "jobFailure", **says)])) as estate:
        request = (
            estate.protect("orders")
            if route == "ConfigureBackup"
            else estate.restore("orders")
            if route == "Restore"
            else estate.backup("orders")
        )
        outcome = finished(estate, request)
        assert (outcome["status"], outcome["error"]["code"]) == ("failed", "WorkloadExtensionNotReachable")
        assert "re-register" in outcome["error"]["recommendations"][0]
        assert estate.mutations[route] == 1


@pytest.mark.parametrize("allowed", ["true", "false"])
@pytest.mark.parametrize("overwrite", [True, False])
def test_f31_restore_target_exists(overwrite: bool, allowed: str) -> None:
    settings = {"RESTORE_ALLOW_OVERWRITE": allowed}
    with open_faulty(protected_estate("orders", "billing"), settings=settings) as estate:
        outcome = finished(estate, estate.restore("orders", to="billing", overwrite=overwrite))
        both = overwrite and allowed == "true"
        assert outcome["status"] == ("succeeded" if both else "rejected")
        assert estate.mutations["Restore"] == (1 if both else 0)


def test_f31_a_target_that_appears_meanwhile() -> None:
    code = "UserErrorCannotRestoreExistingDBWithoutForceOverwrite"
    with open_faulty(
        protected_estate(
            faults=[fault("Restore", "jobFailure", code=code, message="It exists.", recommendations=[" "])]
        )
    ) as estate:
        outcome = finished(estate, estate.restore("orders"))
        assert (outcome["status"], outcome["error"]["code"]) == ("failed", code)
        assert "RESTORE_ALLOW_OVERWRITE" in outcome["error"]["recommendations"][0]
        assert estate.mutations["Restore"] == 1


SCHEDULE: dict[str, Any] = {
    "name": "Hourly",
    "schedule": "0 0 * * * *",
    "maxLateness": "PT30M",
    "databases": [{"instance": "MSSQLSERVER", "database": "orders"}],
    "backupType": "Log",
}


def test_f38_timer_double_fire() -> None:
    with open_faulty(protected_estate("orders", "billing"), settings={"BACKUP_SCHEDULES": "[]"}) as quiet:
        SCHEDULE["vaultId"] = quiet.vault_id
    with open_faulty(protected_estate(), settings={"BACKUP_SCHEDULES": json.dumps([SCHEDULE])}) as estate:
        for _ in range(3):
            plan_backups(estate.runtime)
        # Nobody plans for the next five hours, and in two of them nothing runs at all.
        until = estate.clock.now() + timedelta(hours=3, minutes=30)
        estate.step_until(lambda: (estate.broker.next_due() or until) >= until)
        assert estate.mutations["Backup"] == 3
        estate.clock.advance(timedelta(hours=3))
        plan_backups(estate.runtime)
        estate.quiesce()
        outcomes = [outcome["data"] for outcome in estate.outcomes()]
        ids = Counter(outcome["requestId"] for outcome in outcomes)
        assert set(ids.values()) == {1}
        skipped = [outcome for outcome in outcomes if outcome["status"] == "skipped"]
        assert [outcome["error"]["code"] for outcome in skipped] == ["TooLate", "TooLate"]
        assert estate.mutations["Backup"] == len(outcomes) - 2


def test_f42_thundering_herd() -> None:
    """Hundreds of requests at once stay below what the service allows, and none waits for ever."""
    buckets = {
        "reads": {"bucket": 250, "perSecond": 25},
        "writes": {"bucket": 200, "perSecond": 10},
        "backupReads": {"bucket": 250, "perSecond": 0.83},
    }
    names = [f"db{number:03}" for number in range(260)]
    with open_faulty(protected_estate(*names, throttling=buckets)) as estate:
        requests = [estate.backup(name) for name in names]
        estate.submit(*requests)
        estate.quiesce()
        outcomes = estate.outcomes()
        answered = Counter(outcome["data"]["requestId"] for outcome in outcomes)
        assert answered == Counter(request["id"] for request in requests)
        assert {outcome["data"]["status"] for outcome in outcomes} == {"succeeded"}
        assert estate.mutations["Backup"] == len(names)
        refused = sum(entry["status"] == 429 for entry in estate.simulator.access_entries)
        assert refused <= len(names) // 20, "the app paces itself, instead of being refused"
        times = [datetime.fromisoformat(event["time"]) for event in outcomes]
        assert max(times) - min(times) < timedelta(hours=1), "the last is not left far behind the first"


def test_f44_storm_of_duplicates() -> None:
    with open_faulty(protected_estate()) as estate:
        request = estate.backup("orders")
        estate.submit(request)
        for _ in range(999):
            estate.send(request)
        estate.quiesce()
        for _ in range(10):
            estate.send(request)
        estate.quiesce()
        estate.check()
        assert estate.outcome(request)["status"] == "succeeded"
        assert estate.mutations["Backup"] == 1
