"""Azure's own CLI goes through the whole flow against the simulator, over https.

azure-cli is large (733 MB), so this is outside the normal run: it needs `az` on PATH, or SQLVMBACKUP_AZ to say
where it is. Each command takes about a second, and its own polling five.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from local.simulator import Scenario, Simulator, SimulatorServer

AZ = os.environ.get("SQLVMBACKUP_AZ") or shutil.which("az")

pytestmark = [
    pytest.mark.az,
    pytest.mark.timeout(900),
]


@dataclass
class AzureCli:
    """The CLI with a configuration of its own, logged in to the simulator."""

    url: str
    directory: Path

    def __call__(self, *arguments: str) -> Any:
        """Run a command; its JSON answer. Fails the test where the command fails."""
        ended = self.run(*arguments)
        assert ended.returncode == 0, f"az {' '.join(arguments)}\n{ended.stdout}\n{ended.stderr}"
        return json.loads(ended.stdout) if ended.stdout.strip() else None

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "AZURE_CONFIG_DIR": str(self.directory / "azure"),
            "AZURE_CORE_COLLECT_TELEMETRY": "0",
            "AZURE_CORE_INSTANCE_DISCOVERY": "false",
            "AZURE_CORE_ONLY_SHOW_ERRORS": "1",
            "AZURE_CORE_NO_COLOR": "1",
            "REQUESTS_CA_BUNDLE": str(self.directory / "cert.pem"),
        }
        assert AZ is not None, "azure-cli is not installed: put az on PATH, or name it in SQLVMBACKUP_AZ"
        return subprocess.run(
            [AZ, *arguments, "-o", "json"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def backup(self, *arguments: str) -> Any:
        """A command of `az backup` on the vault."""
        return self("backup", *arguments, "-g", "rg-backup", "-v", "vault1")


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[tuple[AzureCli, Simulator]]:
    lengths = {"refresh": 1, "register": 2, "inquire": 1, "protect": 1, "backup": 2, "restore": 2}
    estate = Simulator(
        Scenario.model_validate({"durations": lengths, "retryAfter": 1, "scheduledBackups": False}),
        access_log=tmp_path / "access.jsonl",
    )
    with SimulatorServer(estate, tls_directory=tmp_path) as server:
        az = AzureCli(server.url, tmp_path)
        slash = f"{server.url}/"
        az(
            *("cloud", "register", "-n", "simulated", "--endpoint-resource-manager", slash),
            *("--endpoint-active-directory", server.url, "--endpoint-active-directory-resource-id", slash),
            *("--endpoint-active-directory-graph-resource-id", slash, "--endpoint-management", slash),
            *("--endpoint-microsoft-graph-resource-id", slash),
        )
        az("cloud", "set", "-n", "simulated")
        az("login", "--service-principal", "-u", "client", "-p", "secret", "--tenant", estate.tenant_id)
        yield az, estate


def test_the_cli_protects_backs_up_restores_stops_and_unregisters(
    simulator: tuple[AzureCli, Simulator], tmp_path: Path
) -> None:
    az, estate = simulator
    container = "VMAppContainer;Compute;rg-sql;sqlvm1"
    item = "sqldatabase;mssqlserver;orders"
    of_workload = ("--backup-management-type", "AzureWorkload")
    of_sql = (*of_workload, "--workload-type", "MSSQL")

    of_vault2 = ("-g", "rg-backup", "-n", "vault2")
    az("backup", "vault", "create", *of_vault2, "-l", "westeurope")
    assert [vault["name"] for vault in az("backup", "vault", "list")] == ["vault1", "vault2"]
    az("backup", "vault", "delete", *of_vault2, "--yes")
    assert az.run("backup", "vault", "show", *of_vault2).returncode != 0

    assert "HourlyLogBackup" in [policy["name"] for policy in az.backup("policy", "list", *of_sql)]
    az.backup("container", "register", *of_sql, "--resource-id", estate.vm_id("sqlvm1"))
    (registered,) = az.backup("container", "list", *of_workload)
    assert registered["name"] == container
    az.backup("protectable-item", "initialize", "--container-name", container, "--workload-type", "MSSQL")
    items = az.backup("protectable-item", "list", "--workload-type", "MSSQL", "--container-name", container)
    assert item in [entry["name"] for entry in items]
    job = az.backup(
        *("protection", "enable-for-azurewl", "--policy-name", "HourlyLogBackup"),
        *("--protectable-item-type", "SQLDataBase", "--protectable-item-name", item),
        *("--server-name", "sqlvm1", "--workload-type", "MSSQL"),
    )
    assert job["properties"]["operation"] == "ConfigureBackup"

    of_item = ("--container-name", container, "--item-name", item)
    job = az.backup("protection", "backup-now", *of_item, *of_workload, "--backup-type", "Full")
    az.backup("job", "wait", "-n", job["name"])
    job = az.backup("job", "show", "-n", job["name"])
    assert (job["properties"]["status"], job["properties"]["operation"]) == ("Completed", "Backup (Full)")

    (full, log) = az.backup("recoverypoint", "list", *of_item, *of_sql)
    assert (full["properties"]["type"], log["name"]) == ("Full", "DefaultRangeRecoveryPoint")
    configuration = az.backup(
        *("recoveryconfig", "show", *of_item, "--restore-mode", "AlternateWorkloadRestore"),
        *("--rp-name", full["name"], "--target-item-name", "sqlinstance;mssqlserver"),
        *(
            "--target-server-type",
            "SQLInstance",
            "--target-server-name",
            "sqlvm1",
            "--workload-type",
            "MSSQL",
        ),
    )
    configuration["database_name"] = "MSSQLSERVER/orders_copy"
    file = tmp_path / "recoveryconfig.json"
    file.write_text(json.dumps(configuration), encoding="utf-8")
    job = az.backup("restore", "restore-azurewl", "--recovery-config", str(file))
    az.backup("job", "wait", "-n", job["name"])
    restored = az.backup("job", "show", "-n", job["name"])["properties"]
    assert restored["status"] == "Completed"
    assert restored["extendedInfo"]["propertyBag"]["RestoreDestination"] == "sqlvm1/MSSQLSERVER/orders_copy"
    operations = {entry["properties"]["operation"] for entry in az.backup("job", "list")}
    assert operations == {"ConfigureBackup", "Backup (Full)", "Restore (Full)"}

    az.backup("protection", "disable", *of_item, *of_sql, "--yes")
    stopped = az.backup("item", "show", *("--name", item, "--container-name", container), *of_sql)
    assert stopped["properties"]["protectionState"] == "ProtectionStopped"
    az.backup("protection", "resume", *of_item, *of_sql, "--policy-name", "HourlyLogBackup")
    az.backup("protection", "disable", *of_item, *of_sql, "--delete-backup-data", "true", "--yes")
    az.backup("container", "unregister", "--container-name", container, *of_workload, "--yes")
    assert az.backup("container", "list", *of_workload) == []

    routes = [entry["route"] for entry in estate.ledger_entries]
    assert routes == [
        "PutVault",
        "DeleteVault",
        "Refresh",
        "Register",
        "Inquire",
        "ConfigureBackup",
        "Backup",
        "Restore",
        "StopProtection",
        "ConfigureBackup",
        "DeleteProtection",
        "Unregister",
    ]
    assert all(entry["route"] is not None for entry in estate.access_entries)
