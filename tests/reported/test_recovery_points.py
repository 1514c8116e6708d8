"""Which state of a database a restore goes back to: never an older one than was asked for.

Azure/azure-powershell#15812 shows a log range that begins within a second (`2021-08-19T15:22:11.6291972Z`), and
what comes of taking the end of the log range for the newest state. Points in the archive tier are as azure-cli
recorded them in 2024-05 (api-version 2024-04-01).
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from cli.main import main
from shared.azure_backup.models import RecoveryPoint
from shared.clock import ServiceTime
from shared.engine.result import Failure
from shared.messages.requests import RecoveryPointChoice
from shared.steps.payloads import ChosenRecoveryPoint
from shared.steps.recovery_points import available_points, choose_recovery_point
from tests.e2e.harness import POLICY, Estate, OpenEstate, virtual_machine
from tests.reported.commands import dry_restore

POINTS = (
    "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-backup/providers"
    "/Microsoft.RecoveryServices/vaults/vault1/backupFabrics/Azure/protectionContainers"
    "/VMAppContainer;Compute;rg-sql;sqlvm1/protectedItems/SQLDataBase;mssqlserver;orders/recoveryPoints/"
)
LOGS = "DefaultRangeRecoveryPoint"
AT = "2026-01-04T18:00:00Z"
FULL_ONLY = {
    "name": "FullOnly",
    "properties": {
        "workLoadType": "SQLDataBase",
        "settings": {"timeZone": "UTC"},
        "subProtectionPolicy": [
            {
                "policyType": "Full",
                "schedulePolicy": {
                    "schedulePolicyType": "SimpleSchedulePolicy",
                    "scheduleRunFrequency": "Daily",
                    "scheduleRunTimes": [AT],
                },
                "retentionPolicy": {
                    "retentionPolicyType": "LongTermRetentionPolicy",
                    "dailySchedule": {
                        "retentionTimes": [AT],
                        "retentionDuration": {"count": 30, "durationType": "Days"},
                    },
                },
            }
        ],
    },
}
ORDERS = {"name": "orders", "protectedBy": POLICY, "historyDays": 3}


def protected(estate: OpenEstate, **scenario: Any) -> Estate:
    """One VM whose database has three days of fulls and logs."""
    machine = virtual_machine("sqlvm1", ORDERS, registeredTo="vault1")
    return estate({"virtualMachines": [machine], **scenario})


def restored(azure: Estate, to: str, **choice: str) -> dict[str, Any]:
    """What a restore to another name went back to."""
    request = azure.restore("orders", to)
    request["data"]["recoveryPoint"] = choice or {"latest": "any"}
    (outcome,) = azure.run(request)
    assert outcome["data"]["status"] == "succeeded", outcome["data"]
    chosen: dict[str, Any] = outcome["data"]["recoveryPoint"]
    return chosen


# ---- the newest state


@pytest.fixture
def without_logs_for_days(estate: OpenEstate) -> Estate:
    """The log backups ended five days ago, the daily fulls go on."""
    azure = protected(estate, vaults=[{"name": "vault1", "policies": [POLICY, FULL_ONLY]}])
    azure.run(azure.protect("orders", policyName="FullOnly", onExisting="changePolicy"))
    azure.clock.advance(timedelta(days=5))
    return azure


def test_latest_is_a_full_where_the_log_backups_have_ended(without_logs_for_days: Estate) -> None:
    azure = without_logs_for_days
    now = azure.clock.now()
    chosen = restored(azure, "copy")
    assert chosen["kind"] == "Full"
    assert ServiceTime(now) - ServiceTime(datetime.fromisoformat(chosen["time"])) < timedelta(days=1)
    assert chosen["time"] == restored(azure, "copy2", before=now.isoformat())["time"]


def test_latest_is_what_was_just_backed_up(estate: OpenEstate) -> None:
    azure = protected(estate)
    azure.clock.advance(timedelta(minutes=40))
    asked = azure.clock.now()
    azure.run(azure.backup("orders", backup_type="CopyOnlyFull"))
    assert datetime.fromisoformat(restored(azure, "copy")["time"]) >= asked
    assert datetime.fromisoformat(restored(azure, "copy2", latest="full")["time"]) >= asked


def test_the_command_restores_the_newest_state_by_default(
    without_logs_for_days: Estate, capsys: pytest.CaptureFixture[str]
) -> None:
    azure = without_logs_for_days
    command = dry_restore(azure)
    assert main([*command, "--arm-endpoint", azure.url, "--json"]) == 0
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    listed = ["recovery-points", *command[1:-1], "--arm-endpoint", azure.url, "--json"]
    assert main(listed) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert row["recoveryPoint"] == rows[0]["name"] != LOGS


def full(name: str, time: str, **properties: Any) -> dict[str, Any]:
    """A full as the service lists it."""
    body = {"objectType": "AzureWorkloadSQLRecoveryPoint", "recoveryPointTimeInUTC": time, "type": "Full"}
    return {"id": POINTS + name, "name": name, "properties": {**body, **properties}}


def logs(*spans: tuple[str, str]) -> dict[str, Any]:
    """The log ranges as the service lists them."""
    return {
        "id": POINTS + LOGS,
        "name": LOGS,
        "properties": {
            "objectType": "AzureWorkloadSQLPointInTimeRecoveryPoint",
            "timeRanges": [{"startTime": start, "endTime": end} for start, end in spans],
            "type": "Log",
        },
    }


def chosen_of(choice: dict[str, str], *bodies: dict[str, Any]) -> ChosenRecoveryPoint | Failure:
    points = [RecoveryPoint.from_wire(body) for body in bodies]
    return choose_recovery_point(RecoveryPointChoice.model_validate(choice), points, "orders")


def refused(choice: dict[str, str], *bodies: dict[str, Any]) -> Failure:
    """Why what a request means cannot be restored."""
    failure = chosen_of(choice, *bodies)
    assert isinstance(failure, Failure), failure
    return failure


def choose(choice: dict[str, str], *bodies: dict[str, Any]) -> tuple[str, str]:
    """The name and the moment of what a request means."""
    chosen = chosen_of(choice, *bodies)
    assert isinstance(chosen, ChosenRecoveryPoint), chosen
    return chosen.name, f"{chosen.time:%Y-%m-%dT%H:%M:%SZ}"


@pytest.mark.parametrize(
    ("kind", "time", "newest"),
    [
        ("Full", "2026-02-03T12:00:00Z", "1"),
        ("CopyOnlyFull", "2026-02-03T12:00:00Z", "1"),
        ("Differential", "2026-02-03T12:00:00Z", "1"),
        ("Differential", "2026-02-03T11:00:00Z", LOGS),
    ],
)
def test_the_newest_moment_whatever_it_is_of(kind: str, time: str, newest: str) -> None:
    points = (
        full("1", time, type=kind),
        full("0", "2026-01-19T15:22:11Z"),
        logs(("2026-01-19T15:22:11Z", "2026-02-03T11:32:19Z")),
    )
    assert choose({"latest": "any"}, *points)[0] == newest
    assert choose({"before": "2026-03-01T00:00:00Z"}, *points)[0] == newest


# ---- log ranges that begin or end within a second

FRACTION = ("2021-08-19T15:22:11.6291972Z", "2021-08-20T13:31:07.5Z")


def test_the_start_that_is_told_is_one_that_can_be_restored() -> None:
    told = available_points([RecoveryPoint.from_wire(logs(FRACTION))])
    assert "2021-08-19T15:22:12Z to 2021-08-20T13:31:07Z" in told
    for moment in ("2021-08-19T15:22:12Z", "2021-08-20T13:31:07Z"):
        assert choose({"pointInTime": moment}, logs(FRACTION)) == (LOGS, moment)
    for outside in ("2021-08-19T15:22:11Z", "2021-08-20T13:31:08Z"):
        assert "15:22:12Z to" in refused({"pointInTime": outside}, logs(FRACTION)).message


def test_a_range_without_a_whole_second_is_not_chosen() -> None:
    short = logs(("2026-01-19T15:22:11.6291972Z", "2026-01-19T15:22:11.9Z"))
    for choice in ({"latest": "any"}, {"before": "2026-02-01T00:00:00Z"}):
        assert choose(choice, short, full("7", "2026-01-18T00:00:00Z"))[0] == "7"
        assert "Log ranges: none" in refused(choice, short).message


def test_before_is_never_before_the_range_begins() -> None:
    assert choose({"before": "2021-08-19T15:22:13Z"}, logs(FRACTION)) == (LOGS, "2021-08-19T15:22:12Z")
    for moment in ("2021-08-19T15:22:12Z", "2021-08-19T15:22:11.9Z"):
        assert refused({"before": moment}, logs(FRACTION)).code == "RecoveryPointNotFound"


def test_what_the_simulator_lists_can_be_restored_to_the_second(
    estate: OpenEstate, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = virtual_machine("sqlvm1", "orders", registeredTo="vault1")
    azure = estate({"virtualMachines": [machine], "durations": {"backup": 100.6291972}})
    azure.run(azure.protect("orders", firstBackup="now"))
    azure.clock.advance(timedelta(hours=3))
    command = ["--vault", azure.vault_id, "--vm", azure.vm_id(), "--database", "orders"]
    assert main(["recovery-points", *command, "--arm-endpoint", azure.url, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (span,) = [row for row in rows if row["kind"] == "log range"]
    assert "." not in span["from"] + span["to"]
    assert restored(azure, "first", pointInTime=span["from"])["time"] == span["from"]
    assert restored(azure, "last", pointInTime=span["to"])["time"] == span["to"]
    earlier = (datetime.fromisoformat(span["from"]) - timedelta(seconds=1)).isoformat()
    (refused,) = azure.run(azure.restore("orders", "copy", recoveryPoint={"pointInTime": earlier}))
    assert refused["data"]["error"]["code"] == "RecoveryPointNotFound"


# ---- moments at the end of the calendar


@pytest.mark.parametrize(
    ("field", "moment"),
    [
        ("before", "0001-01-01T00:00:00Z"),
        ("before", "0001-01-01T00:00:00.000001Z"),
        ("before", "1601-01-01T00:00:00Z"),
        ("pointInTime", "0001-01-01T00:00:00Z"),
    ],
)
def test_a_moment_before_everything_is_one_clear_failure(estate: OpenEstate, field: str, moment: str) -> None:
    azure = protected(estate)
    (outcome,) = azure.run(azure.restore("orders", "copy", recoveryPoint={field: moment}))
    assert (outcome["data"]["status"], outcome["data"]["error"]["code"]) == (
        "failed",
        "RecoveryPointNotFound",
    )
    assert moment[:19] in outcome["data"]["error"]["message"]
    assert azure.parked() == []


# ---- points that the service does not restore at once

ARCHIVED = {"recoveryPointTierDetails": [{"type": "ArchivedRP", "status": "Valid"}]}
VAULTED = {"recoveryPointTierDetails": [{"type": "HardenedRP", "status": "Valid"}]}
BOTH = {
    "recoveryPointTierDetails": [
        *VAULTED["recoveryPointTierDetails"],
        {"type": "ArchivedRP", "status": "Valid"},
    ]
}
DELETED = {"recoveryPointProperties": {"expiryTime": "2026-03-01T00:00:00.0000000Z", "isSoftDeleted": True}}


@pytest.mark.parametrize("unusable", [ARCHIVED, DELETED], ids=["archived", "deleted"])
def test_a_point_that_cannot_be_restored_is_not_the_newest(unusable: dict[str, Any]) -> None:
    points = (full("2", "2026-02-02T00:00:00Z", **unusable), full("1", "2026-02-01T00:00:00Z", **VAULTED))
    for choice in ({"latest": "any"}, {"latest": "full"}, {"before": "2026-03-01T00:00:00Z"}):
        assert choose(choice, *points)[0] == "1"
    assert refused({"name": "2"}, *points).code == "RecoveryPointNotFound"


def test_a_point_in_both_tiers_can_be_restored() -> None:
    assert choose({"latest": "any"}, full("2", "2026-02-02T00:00:00Z", **BOTH))[0] == "2"


def test_an_archived_point_says_what_it_is() -> None:
    failure = refused({"name": "2"}, full("2", "2026-02-02T00:00:00Z", **ARCHIVED))
    assert "2 (Full, 2026-02-02T00:00:00Z, archived)" in failure.message


# ---- tiers that hold nothing, snapshots, threats


def tiered(*tiers: tuple[str, str]) -> dict[str, Any]:
    return {"recoveryPointTierDetails": [{"type": kind, "status": status} for kind, status in tiers]}


#: What RecoveryPointTierStatus and RecoveryPointTierType may be (azure-mgmt-recoveryservicesbackup 11.2.0).
GONE = {
    "deleted": tiered(("HardenedRP", "Deleted")),
    "invalid": tiered(("HardenedRP", "Invalid"), ("ArchivedRP", "Invalid")),
    "disabled": tiered(("InstantRP", "Disabled"), ("HardenedRP", "Disabled")),
    "deleted and invalid": tiered(("InstantRP", "Deleted"), ("HardenedRP", "Invalid")),
    "archived": tiered(("HardenedRP", "Deleted"), ("ArchivedRP", "Valid")),
    "archived ": {"recoveryPointTierDetails": [{"type": 3, "status": 1}]},
    "deleted ": {"recoveryPointTierDetails": [{"type": 2, "status": 3}]},
    "snapshot": tiered(("IASnapshotRP", "Valid"), ("HardenedRP", "Deleted")),
    "snapshot ": {"type": "SnapshotFull", **VAULTED},
    "threats found": {"threatStatus": "UnHealthy", **VAULTED},
}


@pytest.mark.parametrize(("state", "properties"), GONE.items())
def test_the_newest_point_is_passed_over_where_it_should_not_be_restored(
    state: str, properties: dict[str, Any]
) -> None:
    points = (full("2", "2026-02-02T00:00:00Z", **properties), full("1", "2026-02-01T00:00:00Z", **VAULTED))
    for choice in ({"latest": "any"}, {"latest": "full"}, {"before": "2026-03-01T00:00:00Z"}):
        assert choose(choice, *points)[0] == "1"
        assert state.strip() in refused(choice, points[0]).message


@pytest.mark.parametrize(("state", "properties"), GONE.items())
def test_a_point_that_is_named_is_restored_only_where_it_can_be(
    state: str, properties: dict[str, Any]
) -> None:
    point = full("2", "2026-02-02T00:00:00Z", **properties)
    if state == "threats found":
        # Whoever names it has looked at it.
        assert choose({"name": "2"}, point)[0] == "2"
    else:
        assert state.strip() in refused({"name": "2"}, point).message


@pytest.mark.parametrize(
    "properties",
    [
        {},
        tiered(("HardenedRP", "Valid"), ("ArchivedRP", "Deleted")),
        tiered(("InstantRP", "Valid"), ("HardenedRP", "Valid")),
        tiered(("ArchivedRP", "Valid"), ("HardenedRP", "Rehydrated")),
        tiered(("ArchivedRP", "Rehydrated")),
        # As in 2021 (Azure/azure-cli test_workload_archive_sql, 2021-06-22).
        {"recoveryPointTierDetails": [{"type": 2, "status": 1}]},
        {
            "recoveryPointTierDetails": [
                {
                    "type": 3,
                    "status": 4,
                    "extendedInfo": {"RehydratedRPExpiryTime": "2021-07-06T14:58:52.6325184Z"},
                }
            ]
        },
        {"recoveryPointTierDetails": [{"type": "HardenedRP"}]},
        {"recoveryPointTierDetails": []},
        {"threatStatus": "Warning", "threatInfo": [{"threatSeverity": "High"}]},
        {"recoveryPointProperties": {"expiryTime": "2020-01-01T00:00:00.0000000Z"}},
        {"extendedInfo": {"snapshotRecoveryPointInfo": {}}},
    ],
    ids=str,
)
def test_a_point_that_can_be_restored_is_the_newest(properties: dict[str, Any]) -> None:
    points = (full("2", "2026-02-02T00:00:00Z", **properties), full("1", "2026-02-01T00:00:00Z", **VAULTED))
    assert choose({"latest": "any"}, *points)[0] == "2"


def test_log_ranges_of_points_that_are_gone_are_none() -> None:
    span = logs(("2026-01-19T15:22:11Z", "2026-02-03T11:32:19Z"))
    span["properties"] |= DELETED
    for choice in ({"latest": "any"}, {"pointInTime": "2026-02-01T00:00:00Z"}):
        assert "Log ranges: none" in refused(choice, span).message


def test_what_the_simulator_lists_is_told_and_avoided(
    estate: OpenEstate, capsys: pytest.CaptureFixture[str]
) -> None:
    database = {**ORDERS, "historyDays": 6, "threatsWithinDays": 2, "vaultTierDeletedAfterDays": 4}
    azure = estate({"virtualMachines": [virtual_machine("sqlvm1", database, registeredTo="vault1")]})
    command = ["--vault", azure.vault_id, "--vm", azure.vm_id(), "--database", "orders"]
    assert main(["recovery-points", *command, "--arm-endpoint", azure.url, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    fulls = [row for row in rows if row["kind"] == "Full"]
    assert [row.get("state") for row in fulls] == [
        "threats found",
        "threats found",
        None,
        None,
        "deleted",
        "deleted",
    ]
    assert fulls[2]["expires"] == fulls[2]["time"].replace("2026-01-02", "2026-02-01")
    assert restored(azure, "copy", latest="full")["time"] == fulls[2]["time"]
    (outcome,) = azure.run(azure.restore("orders", "late", recoveryPoint={"name": fulls[4]["name"]}))
    assert outcome["data"]["error"]["code"] == "RecoveryPointNotFound"
    assert f"{fulls[4]['name']} (Full, {fulls[4]['time']}, deleted)" in outcome["data"]["error"]["message"]
    # Whoever names a point with threats has looked at it.
    assert restored(azure, "named", name=fulls[0]["name"])["time"] == fulls[0]["time"]
