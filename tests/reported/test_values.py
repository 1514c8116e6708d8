"""Values that the service, or other tools, take and refuse: policies, time zones, files, regions, durations.

From public reports: hashicorp/terraform-provider-azurerm#24133, #27619, #26917, #25845, #17158,
Azure/azure-sdk-for-go#2822, MicrosoftDocs/azure-docs PR#3498, Azure/azure-sdk-for-node#2266,
Azure/azure-xplat-cli#1966, and the limits that the documentation gives.
"""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

import pytest

from cli.main import main
from cli.parsing import read_moment
from cli.request_file import read_file
from tests.e2e.harness import OpenEstate, virtual_machine
from tests.reported.azure import POLICY, SQL, azure, protected

TIME = "2026-01-05T18:00:00Z"


# ---- policies


def simple(count: int) -> dict[str, Any]:
    return {
        "retentionPolicyType": "SimpleRetentionPolicy",
        "retentionDuration": {"count": count, "durationType": "Days"},
    }


def kept(schedule: str, count: int, unit: str, time: str = TIME, **more: Any) -> dict[str, Any]:
    entry = {
        "retentionTimes": [time],
        "retentionDuration": {"count": count, "durationType": unit},
        **more,
    }
    return {"retentionPolicyType": "LongTermRetentionPolicy", schedule: entry}


def daily(count: int = 30, time: str = TIME) -> dict[str, Any]:
    return kept("dailySchedule", count, "Days", time)


def weekly(day: str, count: int = 8) -> dict[str, Any]:
    return kept("weeklySchedule", count, "Weeks", daysOfTheWeek=[day])


def part(kind: str, retention: dict[str, Any], day: str | None = None, time: str = TIME) -> dict[str, Any]:
    schedule: dict[str, Any] = {
        "schedulePolicyType": "SimpleSchedulePolicy",
        "scheduleRunFrequency": "Weekly" if day else "Daily",
        "scheduleRunTimes": [time],
    }
    if day:
        schedule["scheduleRunDays"] = [day]
    return {"policyType": kind, "schedulePolicy": schedule, "retentionPolicy": retention}


def log(minutes: int = 60, days: int = 30) -> dict[str, Any]:
    return {
        "policyType": "Log",
        "schedulePolicy": {"schedulePolicyType": "LogSchedulePolicy", "scheduleFrequencyInMins": minutes},
        "retentionPolicy": simple(days),
    }


def policy(*parts: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return {
        "properties": {
            "backupManagementType": "AzureWorkload",
            "workLoadType": "SQLDataBase",
            "settings": {"timeZone": "UTC", **settings},
            "subProtectionPolicy": list(parts),
        }
    }


SUNDAY = part("Full", weekly("Sunday"), "Sunday")
REFUSED = {
    "a long-term retention of a differential": policy(
        SUNDAY, part("Differential", weekly("Monday"), "Monday"), log()
    ),
    "an incremental part": policy(SUNDAY, part("Incremental", simple(30), "Monday"), log()),
    "retention at another time than the run": policy(part("Full", daily(time="2026-01-05T20:00:00Z")), log()),
    "a differential kept for more than 180 days": policy(SUNDAY, part("Differential", simple(365), "Monday")),
    "a differential kept for less than 7 days": policy(SUNDAY, part("Differential", simple(6), "Monday")),
    "a differential on the day of a full": policy(SUNDAY, part("Differential", simple(30), "Sunday")),
    "a differential beside daily fulls": policy(
        part("Full", daily()), part("Differential", simple(30), "Monday")
    ),
    "fulls kept for less than 7 days": policy(part("Full", daily(count=3))),
    "a simple retention of fulls": policy(part("Full", simple(30))),
    "weekly fulls kept by days": policy(part("Full", daily(), "Sunday")),
    "daily fulls kept by weeks only": policy(part("Full", weekly("Sunday"))),
    "retention for other days than the runs": policy(part("Full", weekly("Monday"), "Sunday")),
    "logs kept for less than 7 days": policy(part("Full", daily()), log(days=6)),
    "logs kept for more than 35 days": policy(part("Full", daily()), log(days=36)),
    "logs at an interval that there is not": policy(part("Full", daily()), log(minutes=45)),
    "a long-term retention of logs": policy(part("Full", daily()), {**log(), "retentionPolicy": daily()}),
    "a run at a quarter past": policy(
        part("Full", daily(time="2026-01-05T18:15:00Z"), time="2026-01-05T18:15:00Z")
    ),
    "a run with an offset": policy(
        part("Full", daily(time="2026-01-05T19:19:24+08:00"), time="2026-01-05T19:19:24+08:00")
    ),
    "two runs a day": policy(
        {
            **part("Full", daily()),
            "schedulePolicy": {
                "schedulePolicyType": "SimpleSchedulePolicy",
                "scheduleRunFrequency": "Daily",
                "scheduleRunTimes": [TIME, "2026-01-05T19:00:00Z"],
            },
        }
    ),
    "a day that there is not": policy(part("Full", weekly("Funday"), "Funday")),
    "a count that is no number": policy(part("Full", kept("dailySchedule", "30", "Days"))),  # type: ignore[arg-type]
    "an IANA time zone": policy(part("Full", daily()), timeZone="Europe/Berlin"),
    "an abbreviated time zone": policy(part("Full", daily()), timeZone="CDT"),
    "a time zone with dots": policy(part("Full", daily()), timeZone="A.U.S. Central Standard Time"),
}
TAKEN = {
    "daily": policy(part("Full", daily()), log()),
    "weekly with differentials": policy(SUNDAY, part("Differential", simple(180), "Monday"), log(15, 35)),
    "daily, weekly, monthly and yearly retention": policy(
        part(
            "Full",
            {
                **daily(7),
                **{
                    name: value
                    for name, value in (
                        weekly("Sunday")
                        | kept(
                            "monthlySchedule",
                            60,
                            "Months",
                            retentionScheduleFormatType="Weekly",
                            retentionScheduleWeekly={
                                "daysOfTheWeek": ["Sunday"],
                                "weeksOfTheMonth": ["First"],
                            },
                        )
                    ).items()
                    if name != "retentionPolicyType"
                },
            },
        )
    ),
    "a zone by its Windows name": policy(part("Full", daily()), timeZone="W. Europe Standard Time"),
    "a zone in another case": policy(part("Full", daily()), timeZone="aus central standard time"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_simulator_refuses_a_policy_as_the_service_does(name: str) -> None:
    with azure(protected("orders")) as a:
        answer = a.ask("PUT", "/backupPolicies/policy1", REFUSED[name])
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "BMSUserErrorInvalidPolicyInput"


@pytest.mark.parametrize("name", TAKEN)
def test_the_simulator_takes_a_policy_as_the_service_does(name: str) -> None:
    with azure(protected("orders")) as a:
        answer = a.ask("PUT", "/backupPolicies/policy1", TAKEN[name])
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("name", ["a", "ab", "SQL Policy", "1policy", "p" * 151, "poli.cy"])
def test_the_simulator_refuses_a_policys_name_as_the_service_does(name: str) -> None:
    """3 to 150 letters, digits and hyphens, a letter first: what the portal says of a new policy."""
    with azure(protected("orders")) as a:
        answer = a.ask("PUT", f"/backupPolicies/{name}", TAKEN["daily"])
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "BMSUserErrorInvalidPolicyInput"


# ---- time zones

PREFIX = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg"
VAULT = f"{PREFIX}/providers/Microsoft.RecoveryServices/vaults/vault1"
VM = f"{PREFIX}/providers/Microsoft.Compute/virtualMachines/sqlvm1"
FULL = {"time": "18:00", "retentionDays": 30}


#: The exit status where a file was read, and nobody listens at the vault's address; one that cannot be used gives 2.
READ = 1


def protect(directory: Path, created: Any, *, encoding: str = "utf-8") -> int:
    """`sqlvmbackup protect --create-policy FILE`, as far as reading it."""
    file = directory / "policy.json"
    text = created if isinstance(created, str) else json.dumps(created)
    file.write_bytes(text.encode(encoding))
    arguments = ["--vault", VAULT, "--vm", VM, "--policy", "New", "--create-policy", str(file), "--dry-run"]
    return main(["protect", *arguments, "--arm-endpoint", "http://127.0.0.1:9"])


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "CDT", "A.U.S. Central Standard Time", "Mars Standard Time"]
)
def test_a_time_zone_is_refused_with_what_is_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], zone: str
) -> None:
    assert protect(tmp_path, {"timeZone": zone, "full": FULL}) == 2
    said = capsys.readouterr().err
    assert "--create-policy: timeZone: " in said
    assert "the Windows name of a time zone, such as W. Europe Standard Time" in said
    assert zone in said
    assert "^[" not in said


@pytest.mark.parametrize(
    ("zone", "meant"),
    [
        ("Europe/Berlin", "W. Europe Standard Time"),
        ("A.U.S. Central Standard Time", "AUS Central Standard Time"),
        # (Get-TimeZone).DaylightName and .DisplayName, and what the portal lists.
        ("W. Europe Daylight Time", "W. Europe Standard Time"),
        ("(UTC+01:00) Amsterdam, Berlin, Bern, Rome, Stockholm, Vienna", "W. Europe Standard Time"),
        ("(UTC-05:00) Eastern Time (US & Canada)", "Eastern Standard Time"),
        ("(UTC+05:30) Chennai, Kolkata, Mumbai, New Delhi", "India Standard Time"),
        ("Coordinated Universal Time", "UTC"),
        ("New York", "Eastern Standard Time"),
    ],
)
def test_the_zone_that_was_meant_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], zone: str, meant: str
) -> None:
    protect(tmp_path, {"timeZone": zone, "full": FULL})
    assert f"did you mean {meant}?" in capsys.readouterr().err


@pytest.mark.parametrize("time", ["18:17", "8:00", "24:00", "18.00"])
def test_a_time_of_day_is_refused_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], time: str
) -> None:
    assert protect(tmp_path, {"full": {**FULL, "time": time}}) == 2
    said = capsys.readouterr().err
    assert (
        "--create-policy: full.time: expected a time of day on the hour or half past, such as 18:00 or 06:30"
        in said
    )
    assert "^" not in said


@pytest.mark.parametrize(
    "moment",
    [
        "2026-01-05T05:30:00Z",
        "2026-01-05t05:30:00z",
        "2026-01-05T06:30:00+01:00",
        "2026-01-05T05:30:00.0000000Z",
    ],
)
def test_a_moment_is_taken_in_every_form_of_rfc_3339(estate: OpenEstate, moment: str) -> None:
    """Section 5.6: T and Z may be in lower case, and .NET writes seven digits."""
    azure = estate(
        {
            "virtualMachines": [
                virtual_machine(
                    "sqlvm1",
                    {"name": "orders", "protectedBy": POLICY, "historyDays": 2},
                    registeredTo="vault1",
                )
            ]
        }
    )
    (outcome,) = azure.run(azure.restore("orders", recoveryPoint={"pointInTime": moment}))
    assert outcome["data"]["status"] == "succeeded", outcome["data"]
    assert outcome["data"]["recoveryPoint"]["time"] == "2026-01-05T05:30:00Z"
    assert read_moment(moment, None) == "2026-01-05T05:30:00Z"


# ---- files


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_json_in_utf_16_is_read(tmp_path: Path, encoding: str) -> None:
    """What `>`, Out-File and WriteAllText of Windows PowerShell write, with a byte order mark or without."""
    assert protect(tmp_path, {"full": FULL}, encoding=encoding) == READ


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_requests_in_utf_16_are_read(tmp_path: Path, encoding: str) -> None:
    events = [
        {
            "specversion": "1.0",
            "type": "sqlvmbackup.backup.requested.v1",
            "source": "/Läufe/夜",
            "id": f"Läuft-{number}",
            "data": {"vaultId": VAULT, "databases": [{"vmId": VM, "instance": "I", "database": "Кадры"}]},
        }
        for number in range(2)
    ]
    text = "\r\n".join(json.dumps(event, ensure_ascii=False) for event in events)
    file = tmp_path / "requests.jsonl"
    file.write_bytes(text.encode(encoding))
    assert [json.loads(line.body) for line in read_file(str(file))] == events


def test_a_scenario_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    from local.simulator import Scenario

    file = tmp_path / "scenario.json"
    file.write_bytes(codecs.BOM_UTF8 + b'{"seed": 7}')
    assert Scenario.load(file).seed == 7


def test_a_request_on_several_lines_is_told_to_be_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    event = {
        "specversion": "1.0",
        "type": "sqlvmbackup.backup.requested.v1",
        "source": "/tests",
        "id": "1",
        "data": {"vaultId": VAULT, "backupType": "Full", "databases": [{"instance": "I", "database": "d"}]},
    }
    file = tmp_path / "requests.jsonl"
    file.write_text(json.dumps(event, indent=4), encoding="utf-8")
    status = main(["run", "--requests", str(file), "--arm-endpoint", "http://127.0.0.1:9", "--json"])
    said = capsys.readouterr()
    assert status == 2
    assert "each line of the file is one request" in said.err
    assert said.out == ""


# ---- answers of the simulator


def test_a_policy_of_another_kind_is_refused_under_its_code() -> None:
    with azure(protected("orders", {"name": "new", "protectedBy": None, "historyDays": 0})) as a:
        answer = a.put(a.item("new"), policyId=a.policy_id("DefaultPolicy"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (
        400,
        "BMSUserErrorInvalidPolicyForGivenProvider",
    )


def test_a_machine_is_unregistered_once_protection_is_stopped() -> None:
    """What public scripts of today do; that deletion is needed was reported in 2019 (azure-powershell#10521)."""
    with azure(protected("orders")) as a:
        assert a.ask("DELETE", a.container()).json()["error"]["code"] == "BMSUserErrorContainerHasDatasources"
        a.put(a.item(), protectionState="ProtectionStopped", policyId="")
        a.wait(120)
        assert a.ask("DELETE", a.container()).status_code == 202
        a.wait(600)
        assert a.get("/backupProtectionContainers", filter=SQL)["value"] == []
    with azure(protected("orders", serviceVersion="2021-05")) as a:
        a.put(a.item(), protectionState="ProtectionStopped", policyId="")
        a.wait(120)
        assert a.ask("DELETE", a.container()).json()["error"]["code"] == "BMSUserErrorContainerHasDatasources"


def test_a_node_of_a_protected_group_is_refused_under_its_code() -> None:
    machines = [
        {"name": name, "registeredTo": "vault1", "instances": [{"databases": [{"name": "local"}]}]}
        for name in ("sqlvm1", "sqlvm2")
    ]
    group = {
        "name": "AG1",
        "virtualMachines": ["sqlvm1", "sqlvm2"],
        "databases": [{"name": "agdb", "protectedBy": POLICY, "historyDays": 1}],
    }
    with azure({"virtualMachines": machines, "availabilityGroups": [group]}) as a:
        answer = a.ask("DELETE", a.container())
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "BMSUserErrorNodePartOfActiveAG")


# ---- values that other tools take


def sent(az: Any, operation: str, **data: Any) -> dict[str, Any]:
    """The outcome of a request."""
    (outcome,) = az.run(az.request(operation, data))
    found: dict[str, Any] = outcome["data"]
    return found


@pytest.mark.parametrize("location", ["West Europe", "westeurope", "WestEurope"])
def test_a_region_may_be_written_as_people_see_it(estate: OpenEstate, location: str) -> None:
    az = estate({})
    data = sent(
        az,
        "protect",
        vaultId=az.vault_id.replace("vault1", "vault2"),
        vmId=az.vm_id(),
        policyName=POLICY,
        databases=[{"instance": "MSSQLSERVER", "database": "orders"}],
        createVault={"location": location, "redundancy": "geoRedundant"},
    )
    assert data["status"] == "succeeded", data


@pytest.mark.parametrize("duration", ["P1Y", "P1M", "P1Y6M", "P1M2D"])
def test_months_and_years_are_refused_for_what_they_are(estate: OpenEstate, duration: str) -> None:
    az = estate({})
    databases = [{"instance": "MSSQLSERVER", "database": "orders"}]
    data = sent(az, "backup", databases=databases, backupType="Full", retainFor=duration)
    message = data["error"]["message"]
    assert "retainFor" in message
    assert "months and years have no fixed length" in message
    assert "P365D" in message


@pytest.mark.parametrize("backup_type", ["full", "FULL", "copyOnlyFull"])
def test_a_backup_type_is_taken_in_any_case_as_azure_does(estate: OpenEstate, backup_type: str) -> None:
    az = estate(protected("orders"))
    databases = [{"instance": "MSSQLSERVER", "database": "orders"}]
    data = sent(az, "backup", databases=databases, backupType=backup_type)
    assert data["status"] == "succeeded", data
    assert data["backupType"] in ("Full", "CopyOnlyFull")


def test_days_and_frequencies_are_taken_in_any_case(tmp_path: Path) -> None:
    full = {**FULL, "frequency": "weekly", "days": ["sunday", "WEDNESDAY"], "retentionDays": 56}
    assert protect(tmp_path, {"full": full}) == READ
