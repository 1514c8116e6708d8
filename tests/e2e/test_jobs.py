"""The commands `jobs` and `policies`: the service over real HTTP, and its time stepped by who waits."""

from __future__ import annotations

import json
import socket
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from cli.main import main
from local.estate import JsonObject
from shared import composition
from shared.arm.ids import VaultId
from shared.azure_backup.models import ProtectedItem
from tests.e2e.harness import POLICY, Estate, OpenEstate, virtual_machine
from tests.unit.examples import SUBSCRIPTION

#: Long enough that a job is never over before somebody looks, and over before the policy's own fulls at 18:00.
HOUR = 3600

Call = Callable[..., tuple[int, list[JsonObject], str]]


@pytest.fixture
def call(
    estate: OpenEstate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[Estate, Call]]]:
    """Opens an estate, and gives it with the command: exit status, lines of JSON, standard error."""

    def opened(
        *databases: str | JsonObject, vm: dict[str, Any] | None = None, **scenario: Any
    ) -> tuple[Estate, Call]:
        protected = [
            {"protectedBy": POLICY, **(one if isinstance(one, dict) else {"name": one})} for one in databases
        ]
        azure = estate(
            {
                "virtualMachines": [
                    virtual_machine("sqlvm1", *protected, registeredTo="vault1", **(vm or {}))
                ],
                "durations": {"backup": HOUR, "restore": HOUR},
                **scenario,
            }
        )
        monkeypatch.setenv("ARM_ENDPOINT", azure.url)
        monkeypatch.setattr(composition, "SystemClock", lambda: azure.clock)

        def command(*arguments: str) -> tuple[int, list[JsonObject], str]:
            status = main([*arguments, "--vault", azure.vault_id])
            out, err = capsys.readouterr()
            return status, [json.loads(line) for line in out.splitlines() if line.startswith("{")], err

        return azure, command

    yield opened


def items(azure: Estate) -> dict[str, ProtectedItem]:
    from shared.arm.ids import VaultId

    listed, _ = azure.runtime.backup.list_protected_items(VaultId.parse(azure.vault_id))
    return {item.name: item for item in listed}


def back_up_as_somebody(azure: Estate, database: str) -> None:
    """A backup that this app knows nothing of."""
    azure.runtime.backup.trigger_backup(
        items(azure)[database].id,
        backup_type="Full",
        compression=None,
        expiry=None,
        client_request_id=str(uuid.uuid4()),
    )
    azure.clock.advance(timedelta(minutes=5))


def test_jobs_are_listed_whoever_started_them_with_those_that_failed_last(call: Any) -> None:
    failure = {
        "route": "Backup",
        "nth": 1,
        "fault": "jobFailure",
        "code": "UserErrorSQLNoSysadminMembership",
        "errorCode": 310042,
        "message": "The plug-in account is no sysadmin.",
    }
    azure, command = call("orders", "billing", "hr", faults=[failure], pageSize=1)
    back_up_as_somebody(azure, "orders")
    azure.clock.advance(timedelta(hours=2))
    azure.run(azure.backup("billing"))
    back_up_as_somebody(azure, "hr")
    status, jobs, _ = command("jobs", "list")
    assert status == 0
    told = [(job["database"], job["status"], job["startedBy"]) for job in jobs]
    assert told == [
        ("billing", "Completed", "sqlvmbackup"),
        ("hr", "InProgress", "user"),
        ("orders", "Failed", "user"),
    ]
    error = jobs[-1]["errors"][0]
    assert (error["code"], error["number"]) == ("UserErrorSQLNoSysadminMembership", 310042)
    assert error["recommendations"]
    assert jobs[0]["durationSeconds"] == HOUR
    # Azure's own filters, and the database's name in any case or as a pattern.
    assert [job["database"] for job in command("jobs", "list", "--status", "failed")[1]] == ["orders"]
    several = command("jobs", "list", "--status", "failed", "--status", "InProgress")[1]
    assert [job["database"] for job in several] == ["hr", "orders"]
    assert command("jobs", "list", "--operation", "restore")[1] == []
    assert [job["database"] for job in command("jobs", "list", "--database", "ORD*")[1]] == ["orders"]
    assert [job["database"] for job in command("jobs", "list", "--since", "15m")[1]] == ["hr"]


@pytest.mark.parametrize("since", ["", "3", "-1d", "P1M", "yesterday", "0h"])
def test_what_is_no_duration_is_told_with_an_example(
    call: Any, capsys: pytest.CaptureFixture[str], since: str
) -> None:
    _, command = call("orders")
    with pytest.raises(SystemExit) as ended:
        command("jobs", "list", f"--since={since}")
    assert ended.value.code == 2
    assert "--since: expected a duration" in capsys.readouterr().err


def test_a_job_is_waited_for_within_the_hour_of_reads(call: Any) -> None:
    throttling = {"backupReads": {"perHour": 300, "jobsPerHour": 450}}
    azure, command = call("orders", durations={"backup": 8 * HOUR}, throttling=throttling)
    back_up_as_somebody(azure, "orders")
    (job,) = command("jobs", "list")[1]
    status, (ended,), err = command("jobs", "wait", job["id"])
    assert (status, ended["status"]) == (0, "Completed")
    assert job["id"] in err
    answers = Counter((entry["route"], entry["status"]) for entry in azure.simulator.access_entries)
    assert answers["GetJob", 429] == 0
    assert answers["GetJob", 200] <= 8 * 450


def test_a_wait_says_by_its_exit_status_how_the_job_ended(call: Any) -> None:
    azure, command = call(
        "orders",
        "billing",
        faults=[{"route": "Backup", "nth": 1, "fault": "jobFailure", "code": "X", "errorCode": 1}],
    )
    back_up_as_somebody(azure, "orders")
    back_up_as_somebody(azure, "billing")
    ids = [job["id"] for job in command("jobs", "list")[1]]
    status, ended, _ = command("jobs", "wait", *ids)
    assert (status, {job["status"] for job in ended}) == (1, {"Failed", "Completed"})
    # An id in capitals is the same job.
    assert command("jobs", "wait", ids[0].upper())[1][0]["id"] == ids[0]


def test_a_wait_outlasts_an_outage_and_ends_by_its_timeout(call: Any) -> None:
    azure, command = call(
        "orders",
        faults=[{"route": "GetJob", "nth": number, "fault": "status", "status": 503} for number in (2, 3)],
    )
    back_up_as_somebody(azure, "orders")
    (job,) = command("jobs", "list")[1]
    status, rows, err = command("jobs", "wait", job["id"], "--timeout", "30m")
    assert (status, rows) == (1, [])
    assert f"--timeout: after 30 min 0 s there still runs: {job['id']}" in err
    status, (ended,), _ = command("jobs", "wait", job["id"])
    assert (status, ended["status"]) == (0, "Completed")


def test_a_job_that_is_not_there(call: Any) -> None:
    _, command = call("orders")
    for action in ("show", "wait", "cancel"):
        status, rows, err = command("jobs", action, str(uuid.uuid4()))
        assert (status, rows) == (1, [])
        assert "vault vault1 has no job" in err
        status, _, err = command("jobs", action, "../vaults/other")
        assert status == 2
        assert "ID: " in err


def test_a_cancelled_backup_is_followed_until_it_has_stopped(
    call: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    azure, command = call("orders", durations={"backup": HOUR, "cancel": 600})
    back_up_as_somebody(azure, "orders")
    (job,) = command("jobs", "list")[1]
    assert job["isCancellable"]
    before = azure.clock.now()
    status, (ended,), err = command("jobs", "cancel", job["id"])
    assert (status, ended["status"]) == (0, "Cancelled")
    assert "Cancelling" in err  # the operation has ended, and the job not yet
    assert azure.clock.now() - before >= timedelta(seconds=600)
    assert azure.mutations["CancelJob"] == 1
    # Once more is nothing to do, and no failure; and its end says what it means.
    assert command("jobs", "cancel", job["id"], "--no-json")[0] == 0
    assert azure.mutations["CancelJob"] == 1
    assert main(["jobs", "show", job["id"], "--vault", azure.vault_id, "--no-json"]) == 0
    assert "A cancelled backup leaves no recovery point." in " ".join(capsys.readouterr().out.split())


def test_nothing_is_cancelled_while_mutations_are_off(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    azure, command = call("orders")
    back_up_as_somebody(azure, "orders")
    (job,) = command("jobs", "list")[1]
    monkeypatch.setenv("MUTATIONS", "off")
    status, rows, err = command("jobs", "cancel", job["id"])
    assert (status, rows) == (2, [])
    assert "MUTATIONS" in err
    assert azure.mutations["CancelJob"] == 0


@pytest.mark.parametrize("fault", ["dropAfterEffect", "dropBeforeEffect"])
def test_a_cancellation_whose_answer_is_lost_is_told_by_the_job(call: Any, fault: str) -> None:
    azure, command = call("orders", faults=[{"route": "CancelJob", "nth": 1, "fault": fault}])
    back_up_as_somebody(azure, "orders")
    (job,) = command("jobs", "list")[1]
    status, rows, err = command("jobs", "cancel", job["id"])
    if fault == "dropAfterEffect":
        assert (status, rows[0]["status"]) == (0, "Cancelled")
        return
    assert status == 1
    assert "give the same command again" in err
    assert command("jobs", "cancel", job["id"])[1][0]["status"] == "Cancelled"


def test_what_cannot_be_cancelled_is_told_in_the_service_s_words(call: Any) -> None:
    azure, command = call("orders", {"name": "new", "protectedBy": None}, durations={"protect": HOUR})
    azure.send(azure.protect("new"))
    azure.step_until(lambda: azure.mutations["ConfigureBackup"] == 1)
    (job,) = command("jobs", "list", "--operation", "ConfigureBackup")[1]
    status, _, err = command("jobs", "cancel", job["id"])
    assert status == 1
    assert "UserErrorJobCancellationNotAllowed" in err
    assert "Azure Backup cancels backups and restores only." in err
    azure.clock.advance(timedelta(hours=2))
    status, _, err = command("jobs", "cancel", job["id"])
    assert (status, "there is nothing left to cancel" in err) == (1, True)


def test_a_cancellation_that_is_not_waited_for(call: Any) -> None:
    azure, command = call("orders", durations={"backup": HOUR, "cancel": 600})
    back_up_as_somebody(azure, "orders")
    (job,) = command("jobs", "list")[1]
    status, rows, err = command("jobs", "cancel", job["id"], "--no-wait")
    assert (status, rows) == (0, [])
    assert "is being cancelled" in err
    assert command("jobs", "wait", job["id"])[0] == 1


def test_a_table_has_the_sum_last_and_the_code_with_its_number(
    call: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    azure, _ = call(
        "orders",
        "billing",
        faults=[
            {
                "route": "Backup",
                "nth": 1,
                "fault": "jobFailure",
                "code": "UserErrorX",
                "errorCode": 7,
                "message": "Why.",
            }
        ],
    )
    back_up_as_somebody(azure, "orders")
    back_up_as_somebody(azure, "billing")
    azure.clock.advance(timedelta(hours=2))
    assert main(["jobs", "list", "--vault", azure.vault_id, "--no-json"]) == 0
    *_, failed, total = capsys.readouterr().out.splitlines()
    assert failed.startswith("Failed")
    assert "UserErrorX: Why. (error 7)" in failed
    assert total == "2 jobs: 1 Completed, 1 Failed"


# -- policies


def test_where_no_simulator_answers_it_says_to_start_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ARM_ENDPOINT", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        assert main(["jobs", "list", "--vault", VaultId(SUBSCRIPTION, "rg-backup", "vault1").path]) == 1
    assert "Start the simulator again (sqlvmbackup simulator)" in capsys.readouterr().err


def test_policies_in_words(call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    azure, command = call("orders")
    status, (policy,), _ = command("policies", "list")
    assert status == 0
    assert (policy["name"], policy["protectedItemsCount"], policy["timeZone"]) == (POLICY, 1, "UTC")
    assert policy["schedules"] == [
        {"backupType": "Full", "taken": "every day at 18:00 UTC", "kept": ["kept 30 days"]},
        {"backupType": "Log", "taken": "every hour", "kept": ["kept 30 days"]},
    ]
    assert main(["policies", "show", POLICY.lower(), "--vault", azure.vault_id, "--no-json"]) == 0
    assert "every day at 18:00 UTC" in capsys.readouterr().out
    status, _, err = command("policies", "show", "HourlyLogBakup")
    assert (status, f"it has: {POLICY}." in err) == (1, True)
