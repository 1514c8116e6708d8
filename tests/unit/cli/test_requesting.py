"""Flags to requests: what each command builds, and what it refuses."""

from __future__ import annotations

import argparse
import json
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
RESTORE = ("restore", "--vault", VAULT, "--vm", VM, "--database", "orders")


def parsed(*arguments: str) -> argparse.Namespace:
    return build_parser().parse_args(arguments)


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
        "backup", "--vault", VAULT, "--type", "CopyOnlyFull", "--retain-for", "P9D", "--no-compression"
    )
    assert data == {
        "vaultId": VAULT,
        "databases": [{"instance": "*", "database": "*"}],
        "backupType": "CopyOnlyFull",
        "retainFor": "P9D",
        "compression": False,
    }


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
        ((*PROTECT, "--job-timeout", "soon"), "data.jobTimeout: expected an ISO 8601 duration"),
        ((*RESTORE, "--to-original", "--to-database", "x"), "--to-original stands alone"),
        ((*RESTORE, "--to-files", "F:\\d", "--to-database", "x"), "--to-files restores files"),
        (
            (*RESTORE, "--point-in-time", "yesterday"),
            "data.recoveryPoint.pointInTime: expected an RFC 3339 moment",
        ),
        (("backup", "--vault", VM), "(--vault)"),
    ],
)
def test_what_makes_no_request_is_said_in_a_sentence(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(CommandError) as caught:
        request_from(parsed(*arguments))
    assert said in str(caught.value)


def test_a_drill_is_of_all_databases_checked_and_cleaned_up_unless_it_is_said() -> None:
    command = ("drill", "--vault", VAULT, "--to-vm", OTHER)
    assert data_of(*command) == {
        "vaultId": VAULT,
        "databases": [{"instance": "*", "database": "*"}],
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
