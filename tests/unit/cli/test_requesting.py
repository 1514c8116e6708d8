"""Flags to requests: what each command builds, and what it refuses."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import pytest

from cli.errors import CommandError
from cli.main import build_parser
from cli.requesting import request_from

PREFIX = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg"
VAULT = f"{PREFIX}/providers/Microsoft.RecoveryServices/vaults/vault1"
VM = f"{PREFIX}/providers/Microsoft.Compute/virtualMachines/sqlvm1"
OTHER = VM.replace("sqlvm1", "sqlvm2")
PROTECT = ("protect", "--vault", VAULT, "--vm", VM, "--policy", "Daily")
BACKUP = ("backup", "--vault", VAULT)
RESTORE = ("restore", "--vault", VAULT, "--vm", VM, "--database", "orders")


def parsed(*arguments: str) -> argparse.Namespace:
    options: argparse.Namespace = build_parser().parse_args(arguments)
    return options


def data_of(*arguments: str) -> Any:
    return json.loads(request_from(parsed(*arguments)).body)["data"]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), {"databases": [{"instance": "*", "database": "*"}]}),
        (
            ("--instance", "PROD", "--database", "orders", "--database", "DEV/a/b", "--exclude", "x*"),
            {
                "databases": [
                    {"instance": "PROD", "database": "orders"},
                    {"instance": "DEV", "database": "a/b"},
                ],
                "exclude": [{"instance": "PROD", "database": "x*"}],
            },
        ),
        (
            ("--group-database", "ag1/orders", "--include-system"),
            {"databases": [{"availabilityGroup": "ag1", "database": "orders"}], "includeSystem": True},
        ),
        (
            ("--create-vault", "westeurope", "--redundancy", "ZoneRedundant", "--tag", "team=sql"),
            {
                "createVault": {
                    "location": "westeurope",
                    "redundancy": "ZoneRedundant",
                    "tags": {"team": "sql"},
                }
            },
        ),
        (
            ("--on-existing", "changePolicy", "--resume", "--undelete", "--first-backup-now"),
            {"onExisting": "changePolicy", "resume": True, "undelete": True, "firstBackup": "now"},
        ),
    ],
)
def test_protect(flags: tuple[str, ...], expected: dict[str, Any]) -> None:
    data = data_of(*PROTECT, *flags)
    assert {name: data[name] for name in expected} == expected
    assert (data["vaultId"], data["vmId"], data["policyName"]) == (VAULT, VM, "Daily")


def test_create_policy_comes_from_a_file(tmp_path: Path) -> None:
    policy = {"full": {"time": "02:00", "retentionDays": 30}}
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(policy))
    assert data_of(*PROTECT, "--create-policy", str(path))["createPolicy"] == policy


def test_backup() -> None:
    data = data_of(
        "backup", "--vault", VAULT, "--type", "copyonlyfull", "--retain-for", "9d", "--no-compression"
    )
    assert data == {
        "vaultId": VAULT,
        # Everything of the vault: of every instance, and of every availability group.
        "databases": [
            {"instance": "*", "database": "*"},
            {"availabilityGroup": "*", "database": "*"},
        ],
        "backupType": "CopyOnlyFull",
        "retainFor": "P9D",
        "compression": False,
    }


def test_a_backup_of_one_vm_or_instance_takes_no_availability_groups() -> None:
    for flags in (("--vm", VM), ("--instance", "*"), ("--database", "*")):
        data = data_of("backup", "--vault", VAULT, *flags)
        assert data["databases"] == [{"instance": "*", "database": "*"}]


def test_what_a_backup_of_everything_excludes_it_excludes_of_groups_too() -> None:
    data = data_of("backup", "--vault", VAULT, "--exclude", "tmp*")
    assert {"availabilityGroup": "*", "database": "tmp*"} in data["exclude"]
    assert {"instance": "*", "database": "tmp*"} in data["exclude"]


@pytest.mark.parametrize(
    ("flags", "point", "target"),
    [
        ((), {"latest": "any"}, {"kind": "alternate", "vmId": VM, "instance": "MSSQLSERVER"}),
        (
            ("--point-in-time", "2026-01-05T07:30:00Z", "--to-database", "copy", "--to-vm", OTHER),
            {"pointInTime": "2026-01-05T07:30:00Z"},
            {"kind": "alternate", "vmId": OTHER, "instance": "MSSQLSERVER", "database": "copy"},
        ),
        (("--latest", "full", "--to-original", "--overwrite"), {"latest": "full"}, {"kind": "original"}),
        (
            ("--before", "2026-01-05T07:30:00Z", "--to-files", "F:\\dump"),
            {"before": "2026-01-05T07:30:00Z"},
            {"kind": "files", "vmId": VM, "path": "F:\\dump"},
        ),
        (
            (
                "--recovery-point",
                "123",
                "--instance",
                "PROD",
                "--file",
                "orders=F:\\o.mdf",
                "--log-directory",
                "L:\\",
            ),
            {"name": "123"},
            {
                "kind": "alternate",
                "vmId": VM,
                "instance": "PROD",
                "logDirectory": "L:\\",
                "files": [{"logicalName": "orders", "path": "F:\\o.mdf"}],
            },
        ),
    ],
)
def test_restore(flags: tuple[str, ...], point: dict[str, str], target: dict[str, Any]) -> None:
    data = data_of(*RESTORE, *flags)
    assert (data["recoveryPoint"], data["target"]) == (point, target)


def test_the_envelope() -> None:
    first, second = (request_from(parsed(*PROTECT)) for _ in range(2))
    assert first.key != second.key
    named = request_from(parsed(*PROTECT, "--id", "7", "--source", "/me", "--correlation-id", "c"))
    assert named.envelope is not None
    assert (named.envelope.id, named.envelope.source, named.envelope.correlation_id) == ("7", "/me", "c")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*PROTECT, "--redundancy", "ZoneRedundant"), "go with --create-vault"),
        ((*PROTECT, "--create-vault", "westeurope"), "--create-vault needs --redundancy"),
        (
            (*PROTECT, "--create-vault", "x", "--redundancy", "ZoneRedundant", "--tag", "a"),
            "--tag: expected NAME=VALUE",
        ),
        ((*PROTECT, "--group-database", "orders"), "expected GROUP/DATABASE"),
        ((*PROTECT, "--create-policy", "missing.json"), "--create-policy: missing.json cannot be read"),
        (
            (*PROTECT, "--job-timeout", "soon"),
            "--job-timeout: expected a duration such as 14d, 36h or P14D",
        ),
        ((*RESTORE, "--to-original", "--to-database", "x"), "--to-original stands alone"),
        ((*RESTORE, "--to-files", "F:\\d", "--to-database", "x"), "--to-files restores files"),
        (
            (*RESTORE, "--point-in-time", "yesterday"),
            "--point-in-time: expected a moment such as 2026-01-05T07:30:00Z",
        ),
        (("backup", "--vault", VM), "--vault: "),
        ((*PROTECT, "--database", "SQL2019\\crm"), "written INSTANCE/NAME: --database SQL2019/crm"),
        ((*PROTECT, "--database", "HOST\\SQL2019\\crm"), "--database SQL2019/crm"),
        ((*PROTECT, "--exclude", "[my db]"), "without brackets: --exclude 'my db'"),
        ((*PROTECT, "--database", "a,b"), "one by one: --database a --database b"),
        ((*RESTORE[:-1], "PROD\\orders"), "--database PROD/orders"),
        ((*RESTORE[:-1], "orders*"), "the name of one database, not a pattern such as orders*"),
        ((*RESTORE[:-1], "order?"), "`sqlvmbackup databases` lists the names"),
        ((*RESTORE, "--recovery-point", "a b"), "--recovery-point: expected the name of a recovery point"),
        ((*RESTORE, "--to-database", ""), "--to-database: "),
        (
            (*PROTECT, "--create-vault", "a/b", "--redundancy", "ZoneRedundant"),
            "--create-vault: expected a region",
        ),
        (("backup",), "no vault is named: give --vault /subscriptions/"),
        (("backup", "-v", "vault1"), "-g GROUP (its resource group) is missing"),
        (("backup", "--vault", VAULT, "-g", "g"), "does not go with -g"),
        (
            (*BACKUP, "--retain-for", "1d", "--retain-until", "2027-01-31T00:00:00Z"),
            "at most one of",
        ),
        (("backup", "--vault", "vault1"), "a vault is given as -g GROUP -v vault1"),
    ],
)
def test_what_makes_no_request_is_said_in_a_sentence(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(CommandError) as caught:
        request_from(parsed(*arguments))
    assert said in str(caught.value)
    # A person who types flags knows no fields, no JSON and no regular expressions.
    assert not re.search(r"data\.|\b(vmId|vaultId|retainFor|retainUntil|pointInTime)\b|\^", str(caught.value))


def test_a_name_that_looks_like_a_mistake_is_taken_with_its_instance() -> None:
    for name in ("[ab]", "a,b", "a\\b", "-dash"):
        data = data_of(*PROTECT, f"--database=PROD/{name}")
        assert data["databases"] == [{"instance": "PROD", "database": name}]
    assert data_of(*RESTORE[:-1], "PROD/orders*")["database"] == "orders*"


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(CommandError) as caught:
        request_from(
            parsed("backup", "--vault", "v", "--retain-for", "soon", "--job-timeout", "x", "--vm", "/vm")
        )
    said = str(caught.value)
    assert all(flag in said for flag in ("--vault: ", "--retain-for: ", "--job-timeout: ", "--vm: "))


def test_moments_of_a_time_zone() -> None:
    zone = ("--time-zone", "W. Europe Standard Time")
    data = data_of(*RESTORE, "--point-in-time", "2026-01-05 08:30", *zone)
    assert data["recoveryPoint"] == {"pointInTime": "2026-01-05T07:30:00Z"}
    data = data_of("backup", "--vault", VAULT, "--retain-until", "2027-07-01", "--time-zone", "europe/berlin")
    assert data["retainUntil"] == "2027-06-30T22:00:00Z"
    with pytest.raises(CommandError, match=r"^--time-zone: .* Did you mean Europe/Berlin\?$"):
        request_from(parsed(*RESTORE, "--point-in-time", "2026-01-05 08:30", "--time-zone", "Europe/Berlim"))


def test_choices_are_taken_in_any_case() -> None:
    assert data_of(*PROTECT, "--on-existing", "CHANGEPOLICY")["onExisting"] == "changePolicy"
    assert data_of(*RESTORE, "--latest", "Full")["recoveryPoint"] == {"latest": "full"}
    assert data_of("backup", "--vault", VAULT, "--if-running", "Skip")["ifRunning"] == "skip"


def test_a_vault_by_its_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AZURE_SUBSCRIPTION_ID", raising=False)
    monkeypatch.setenv("AZURE_CONFIG_DIR", str(tmp_path))
    subscription = VAULT.split("/")[2]
    named = ("backup", "-g", "rg", "-v", "vault1")
    assert data_of(*named, "--subscription", subscription)["vaultId"] == VAULT
    with pytest.raises(CommandError, match="no subscription is named: give --subscription ID"):
        request_from(parsed(*named))
    # As `az login` leaves it.
    profile = {"subscriptions": [{"id": subscription, "name": "Production", "isDefault": True}]}
    (tmp_path / "azureProfile.json").write_text(json.dumps(profile), encoding="utf-8-sig")
    assert data_of(*named)["vaultId"] == VAULT
    assert data_of(*named, "--subscription", "production")["vaultId"] == VAULT
    with pytest.raises(CommandError, match=r"--subscription: .* `az` knows: Production"):
        request_from(parsed(*named, "--subscription", "other"))
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", subscription.replace("1", "2"))
    assert subscription.replace("1", "2") in data_of(*named)["vaultId"]


def test_a_vault_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLVMBACKUP_VAULT", f"{VAULT}/")
    assert data_of("backup")["vaultId"] == VAULT
    other = VAULT.replace("vault1", "vault2")
    assert data_of("backup", "--vault", other)["vaultId"] == other
    monkeypatch.setenv("SQLVMBACKUP_VAULT", "vault1")
    with pytest.raises(CommandError, match=r"^SQLVMBACKUP_VAULT: "):
        request_from(parsed("backup"))


def test_the_subscription_of_a_vault_by_its_names_is_that_of_the_environments_vault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AZURE_SUBSCRIPTION_ID", raising=False)
    monkeypatch.setenv("AZURE_CONFIG_DIR", str(tmp_path))
    other = {"id": VAULT.split("/")[2].replace("1", "2"), "name": "Of az", "isDefault": True}
    (tmp_path / "azureProfile.json").write_text(json.dumps({"subscriptions": [other]}), encoding="utf-8")
    monkeypatch.setenv("SQLVMBACKUP_VAULT", VAULT.replace("vault1", "vault2"))
    named = ("backup", "-g", "rg", "-v", "vault1")
    assert data_of(*named)["vaultId"] == VAULT
    assert other["id"] in data_of(*named, "--subscription", str(other["id"]))["vaultId"]
    monkeypatch.setenv("SQLVMBACKUP_VAULT", "vault2")
    with pytest.raises(CommandError, match=r"^SQLVMBACKUP_VAULT: "):
        request_from(parsed(*named))


def test_a_slash_at_the_end_of_an_id_is_taken() -> None:
    data = data_of("protect", "--vault", f"{VAULT}/", "--vm", f"{VM}/", "--policy", "Daily")
    assert (data["vaultId"], data["vmId"]) == (VAULT, VM)


@pytest.fixture(autouse=True)
def no_vault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SQLVMBACKUP_VAULT", raising=False)


def test_a_drill_is_of_all_databases_checked_and_cleaned_up_unless_it_is_said() -> None:
    command = ("drill", "--vault", VAULT, "--to-vm", OTHER)
    assert data_of(*command) == {
        "vaultId": VAULT,
        "databases": [{"instance": "*", "database": "*"}, {"availabilityGroup": "*", "database": "*"}],
        "recoveryPoint": {"latest": "any"},
        "target": {"vmId": OTHER, "instance": "MSSQLSERVER"},
        "check": "checkdb",
        "cleanUp": True,
    }
    said = data_of(
        *command,
        "--database",
        "orders",
        "--count",
        "3",
        "--to-instance",
        "DRILLS",
        "--check",
        "None",
        "--no-clean-up",
    )
    assert (said["count"], said["target"]["instance"]) == (3, "DRILLS")
    assert (said["check"], said["cleanUp"]) == ("none", False)
    assert said["databases"] == [{"instance": "*", "database": "orders"}]
