"""A run from the command line: its state, its files, and a disk that is full."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from cli.main import main
from local.broker import Broker
from local.estate import JsonObject
from local.simulator import Scenario, Simulator, SimulatorServer
from shared.bus.topology import BACKUP_REQUESTS
from shared.clock import MachineTime, SystemClock
from tests.e2e.harness import INSTANCE, POLICY, message_to, virtual_machine

ROOT = Path(__file__).parents[2]
FAST = 0.002
PATIENCE = 60


class Azure:
    """A simulator on a fast clock, with one protected database."""

    def __init__(self, simulator: Simulator, url: str, folder: Path) -> None:
        self.simulator = simulator
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AZURE_")},
            "ARM_ENDPOINT": url,
            "TIME_SCALE": str(FAST),
            "TRACK_INTERVAL": "PT10S",
        }

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def outcomes(self) -> Path:
        return self.folder / "outcomes.jsonl"

    @property
    def backups(self) -> int:
        return sum(entry["route"] == "Backup" for entry in self.simulator.ledger_entries)

    def arguments(self, **other: str) -> list[str]:
        """Of a run of one backup."""
        event: JsonObject = {
            "specversion": "1.0",
            "type": "sqlvmbackup.backup.requested.v1",
            "source": "/tests",
            "id": "b1",
            "data": {
                "vaultId": self.simulator.vault_id(),
                "databases": [{"instance": INSTANCE, "database": "orders"}],
                "backupType": "CopyOnlyFull",
            },
        }
        file = self.folder / "requests.jsonl"
        file.write_text(json.dumps(event) + "\n")
        options = {"requests": str(file), "state": str(self.state), "outcomes": str(self.outcomes), **other}
        return ["run", *(word for name, value in options.items() for word in (f"--{name}", value))]

    def process(
        self, *arguments: str, before: str = "pass", patience: float = PATIENCE
    ) -> subprocess.CompletedProcess[str]:
        """The command as a process, after Python has done `before`."""
        code = f"import sys; {before}; from cli.main import main; sys.exit(main(sys.argv[1:]))"
        # Where coverage is measured, its own files would find no room either.
        measured = {name: value for name, value in self.environment.items() if "COVERAGE" not in name}
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=ROOT,
            env=measured,
            capture_output=True,
            text=True,
            timeout=patience,
            check=False,
        )


@pytest.fixture
def azure(tmp_path: Path) -> Iterator[Azure]:
    machine = virtual_machine(
        "sqlvm1", {"name": "orders", "protectedBy": POLICY, "historyDays": 1}, registeredTo="vault1"
    )
    scenario = Scenario.model_validate({"virtualMachines": [machine], "scheduledBackups": False})
    with ExitStack() as stack:
        simulator = Simulator(scenario, time_scale=FAST)
        server = stack.enter_context(SimulatorServer(simulator))
        yield Azure(simulator, server.url, tmp_path)


def one_sentence(said: subprocess.CompletedProcess[str]) -> None:
    """It could not be done, and says so without a traceback."""
    assert "Traceback" not in said.stderr, said.stderr[-2000:]
    assert said.returncode == 2, said.stderr[-2000:]
    assert said.stderr.strip()


# Given again


@pytest.mark.parametrize("days", [1, 8, 15, 400])
def test_a_run_that_is_given_again_does_nothing_again(
    azure: Azure, days: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in azure.environment.items():
        monkeypatch.setenv(name, value)
    assert main(azure.arguments()) == 0

    class Later(SystemClock):
        def now(self) -> MachineTime:
            return super().now() + timedelta(days=days)

    monkeypatch.setattr("cli.embedded.SystemClock", Later)
    assert main(azure.arguments()) == 0
    assert azure.backups == 1
    assert len(azure.outcomes.read_text().splitlines()) == 1
    capsys.readouterr()


# A disk that is full


def test_outcomes_on_a_disk_that_is_full(azure: Azure) -> None:
    one_sentence(azure.process(*azure.arguments(outcomes="/dev/full")))


def test_output_on_a_disk_that_is_full(azure: Azure) -> None:
    said = subprocess.run(
        ["/bin/sh", "-c", f'exec "{sys.executable}" -m cli.main "$@" > /dev/full', "sh", *azure.arguments()],
        cwd=ROOT,
        env=azure.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    one_sentence(said)


def test_outcomes_that_had_no_room_are_written_by_the_same_command(azure: Azure) -> None:
    one_sentence(azure.process(*azure.arguments(outcomes="/dev/full")))
    assert azure.process(*azure.arguments()).returncode == 0
    assert len(azure.outcomes.read_text().splitlines()) == azure.backups == 1


LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))"


def test_a_state_on_a_disk_that_is_full_from_the_start(azure: Azure) -> None:
    one_sentence(azure.process(*azure.arguments(), before=LIMITED.format(8_192)))


@pytest.mark.parametrize("room", [40_000, 150_000, 180_000])
def test_a_state_on_a_disk_that_becomes_full(azure: Azure, room: int) -> None:
    one_sentence(azure.process(*azure.arguments(), before=LIMITED.format(room), patience=20))
    # With room again, it goes on.
    assert azure.process(*azure.arguments()).returncode == 0
    assert azure.backups == 1


# What the state holds


def test_a_state_is_for_its_owner_alone(azure: Azure) -> None:
    """It holds signed URLs."""
    assert azure.process(*azure.arguments(), before="import os; os.umask(0o022)").returncode == 0
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in azure.state.iterdir()}
    assert modes
    assert set(modes.values()) == {0o600}, modes


def test_a_state_whose_log_is_lost_says_so(azure: Azure) -> None:
    """Killed in the middle, then copied without its write-ahead log: what it did is not known."""
    azure.state.mkdir()
    broker_file = azure.state / "broker.db"
    with Broker(azure.folder / "broker.db") as broker:
        broker.send(BACKUP_REQUESTS, [message_to(BACKUP_REQUESTS, b"{}", "1")])
        # As a kill leaves it: the log has not been taken into the file.
        shutil.copy(azure.folder / "broker.db", broker_file)
        assert (azure.folder / "broker.db-wal").stat().st_size
        # A log that is there is a part of it.
        whole = azure.folder / "whole"
        whole.mkdir()
        for name in ("broker.db", "broker.db-wal"):
            shutil.copy(azure.folder / name, whole / name)
    with Broker(whole / "broker.db") as copy:
        assert copy.counts(BACKUP_REQUESTS).active == 1
    with Broker(whole / "broker.db") as closed_in_order:
        assert closed_in_order.counts(BACKUP_REQUESTS).active == 1
    said = azure.process(*azure.arguments())
    assert said.returncode == 2
    assert re.search(r"lost|missing|incomplete|not whole", said.stderr), said.stderr
    assert azure.backups == 0
