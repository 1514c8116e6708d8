"""`sqlvmbackup drill` as a DBA runs it: by flags, with a dry run, against a simulator over HTTP."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from cli.main import main
from local.estate import JsonObject
from local.simulator import Scenario, Simulator, SimulatorServer
from tests.e2e.drills import DRILL_VM, TARGET, drill_estate, drill_machine, source, touched_by_drills
from tests.e2e.harness import virtual_machine

#: Real seconds per simulated second.
FAST = 0.002
HOSTILE = 'it\'s $(x); "q"'


class Command:
    """The command against a simulator of its own."""

    def __init__(self, simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
        self.simulator = simulator
        self._capsys = capsys

    def __call__(self, *arguments: str, vault: bool = True) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        named = ("--vault", self.simulator.vault_id()) if vault else ()
        status = main(("drill", *named, *arguments))
        out, err = self._capsys.readouterr()
        return status, out, err

    def rows(self, *arguments: str) -> tuple[int, list[JsonObject]]:
        """Exit status and JSON lines."""
        status, out, _ = self(*arguments)
        return status, [json.loads(line) for line in out.splitlines()]

    @property
    def mutations(self) -> Counter[str]:
        """What took effect, by route."""
        return Counter(entry["route"] for entry in self.simulator.ledger_entries)


OpenCommand = Callable[..., Command]


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Command]]:
    servers: list[SimulatorServer] = []

    def opened(estate: JsonObject, targets: list[JsonObject] | None = None) -> Command:
        simulator = Simulator(Scenario.model_validate(estate), time_scale=FAST)
        servers.append(SimulatorServer(simulator))
        monkeypatch.setenv("ARM_ENDPOINT", servers[-1].__enter__().url)
        monkeypatch.setenv("TIME_SCALE", str(FAST))
        monkeypatch.setenv("TRACK_INTERVAL", "PT10S")
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.delenv("SQLVMBACKUP_VAULT", raising=False)
        monkeypatch.setenv("DRILL_TARGETS", json.dumps([TARGET] if targets is None else targets))
        return Command(simulator, capsys)

    yield opened
    for server in servers:
        server.__exit__(None, None, None)


def test_a_dry_run_shows_what_would_be_drilled_and_changes_nothing(command: OpenCommand) -> None:
    estate = drill_estate(HOSTILE, source("master"), source("huge", sizeMB=300_000), "orders")
    drill = command(estate)
    status, rows = drill.rows("--to-vm", "drills1", "--dry-run")
    assert status == 0
    told = {row["database"]: (row["would"], row["how"]) for row in rows}
    assert told.keys() == {f"MSSQLSERVER/{name}" for name in (HOSTILE, "master", "huge", "orders")}
    assert told["MSSQLSERVER/orders"][0] == "be drilled"
    assert told["MSSQLSERVER/orders"][1].startswith("drills1/MSSQLSERVER/drill_orders_")
    assert told["MSSQLSERVER/orders"][1].endswith("then checked by DBCC CHECKDB and dropped")
    assert told["MSSQLSERVER/huge"][0] == "be skipped"
    assert "293.0 GB" in told["MSSQLSERVER/huge"][1]
    # No flag of a drill takes it.
    assert told["MSSQLSERVER/master"] == ("be skipped", "system database, and those are never drilled")
    status, rows = drill.rows("--to-vm", "drills1", "--dry-run", "--count", "1", "--exclude", "huge")
    assert Counter(row["would"] for row in rows) == {"be drilled": 1, "be skipped": 3}
    assert "not drilled now, since others' last drill is longer ago" in {row["how"] for row in rows}
    assert not drill.mutations


def test_a_drill_from_flags(command: OpenCommand) -> None:
    drill = command(drill_estate("orders", source("damaged", corrupt=True)))
    status, out, err = drill("--to-vm", "drills1", "-o", "table")
    assert status == 1, "one is damaged"
    told = " ".join(out.split())
    assert "RTO 5 min 3" in told
    assert "no error found by DBCC CHECKDB; dropped" in told
    assert "DrillCheckFailed" in told
    assert "sqlvm1/MSSQLSERVER/damaged to drills1/MSSQLSERVER/drill_damaged_" in told
    assert "accepted, 2 databases" in err
    assert "Drill of 2 databases: 1 succeeded, 1 failed" in out
    assert drill.mutations == {"Restore": 2, "PutRunCommand": 4, "DeleteRunCommand": 3}
    status, outcomes = drill.rows(
        "--to-vm", DRILL_VM, "--database", "orders", "--check", "none", "--no-clean-up"
    )
    assert (status, outcomes[0]["data"]["drill"]["cleanedUp"]) == (0, False)
    status, out, _ = drill(
        "--to-vm", DRILL_VM, "--database", "orders", "--check", "none", "--no-clean-up", "-o", "table"
    )
    assert "not dropped" in out
    assert "CHECKDB" not in out


@pytest.mark.parametrize(
    ("targets", "drills", "code", "said"),
    [
        ([], None, "TargetNotAllowed", "--to-vm or --to-instance: the setting DRILL_TARGETS does not allow"),
        ([{**TARGET, "instance": "OTHER"}], None, "TargetNotAllowed", "it allows: instance OTHER of /subscr"),
        (None, drill_machine("master", source("wages")), "DrillTargetInUse", "MSSQLSERVER/wages"),
    ],
    ids=["unset", "another instance", "in use"],
)
def test_a_target_that_may_not_be_is_rejected_in_the_words_of_the_flags(
    command: OpenCommand,
    targets: list[JsonObject] | None,
    drills: JsonObject | None,
    code: str,
    said: str,
) -> None:
    drill = command(drill_estate("orders", drills=drills), targets)
    for dry in (("--dry-run",), ()):
        status, out, err = drill("--to-vm", "drills1", *dry, "-o", "table")
        assert status == 1
        # Lines are as long as the terminal is wide.
        told = "".join(f"{out}{err}".split())
        assert code in told
        assert "".join(said.split()) in told
        assert "data.target" not in told
    if targets is not None:
        assert f"Avaluethatwould:{json.dumps([TARGET], separators=(',', ':'))}" in told
    assert not drill.mutations


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--to-vm: required"),
        (("--to-vm", ""), "--to-vm: expected the name or the full ARM id of a VM, not ''"),
        (("--to-vm", "nope"), "--to-vm: vault vault1 knows no VM nope; it knows: drills1, sqlvm1"),
        (("--to-vm", DRILL_VM, "--count", "0"), "--count: expected a whole number from 1 to 100"),
        (("--to-vm", DRILL_VM, "--check", "all"), "--check: expected none or checkdb, not 'all'"),
        (("--to-vm", DRILL_VM, "--to-instance", ""), "--to-instance"),
        (("--to-vm", DRILL_VM, "--before", "yesterday"), "--before: expected a moment such as"),
        (("--to-vm", DRILL_VM, "--before", "2026-01-05"), "add --time-zone"),
        (("--to-vm", DRILL_VM, "--latest", "full", "--before", "2026-01-05T00:00Z"), "not allowed with"),
        (("--to-vm", DRILL_VM, "--recovery-point", "a/b"), "--recovery-point: expected the name"),
        (("--to-vm", DRILL_VM, "--job-timeout", "soon"), "--job-timeout: expected a duration"),
        (("--to-vm", DRILL_VM, "--database", ""), "--database"),
        (("--to-vm", "/subscriptions/x"), "--to-vm"),
    ],
)
def test_what_is_wrong_is_one_sentence_that_names_the_flag(
    command: OpenCommand, arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    drill = command(drill_estate("orders"))
    try:
        status, out, err = drill(*arguments)
    except SystemExit as ended:  # by argparse
        status, out, err = int(str(ended.code)), "", capsys.readouterr().err
    assert status in (1, 2)
    assert said in err, err
    assert "Traceback" not in err
    assert not out
    assert not drill.mutations


def test_databases_of_availability_groups_are_drilled_with_the_others(command: OpenCommand) -> None:
    estate = drill_estate("orders")
    nodes = [virtual_machine(name, registeredTo="vault1") for name in ("sqlag1", "sqlag2")]
    group = {"name": "ag1", "virtualMachines": ["sqlag1", "sqlag2"], "databases": [source("sales")]}
    estate["virtualMachines"] += nodes
    estate["availabilityGroups"] = [group]
    drill = command(estate)
    status, outcomes = drill.rows("--to-vm", "drills1")
    assert status == 0
    assert {outcome["data"]["database"]: outcome["data"]["status"] for outcome in outcomes} == {
        "orders": "succeeded",
        "sales": "succeeded",
    }
    assert {vm for vm, _ in touched_by_drills(drill.simulator)} == {DRILL_VM}


def test_a_moment_of_a_time_zone(command: OpenCommand) -> None:
    drill = command(drill_estate("orders"))
    zone = ("--time-zone", "Europe/Berlin")
    status, outcomes = drill.rows(
        "--to-vm", DRILL_VM, "--database", "orders", "--before", "2026-01-05T08:30", *zone, "--check", "none"
    )
    assert status == 0
    assert outcomes[0]["data"]["recoveryPoint"]["time"] < "2026-01-05T07:30:00Z"


@pytest.mark.parametrize(
    "text", ["[", "{}", '[{"vmId": "x"}]', f'[{{"vmId": "{DRILL_VM}", "instance": "A", "size": 1}}]']
)
def test_a_setting_that_cannot_be_used_is_one_sentence(
    command: OpenCommand, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drill = command(drill_estate("orders"))
    monkeypatch.setenv("DRILL_TARGETS", text)
    status, out, err = drill("--to-vm", DRILL_VM, "--database", "orders")
    assert (status, out) == (2, "")
    assert "DRILL_TARGETS: " in err
    assert not drill.mutations


def test_what_is_not_there_or_never_drilled_says_what_is(command: OpenCommand) -> None:
    drill = command(drill_estate(source("master"), "orders"))
    for database, code, said in (
        ("nope", "DatabaseNotFound", "Only what is protected can be drilled"),
        ("master", "SystemDatabase", "those are never drilled"),
    ):
        status, out, _ = drill("--to-vm", DRILL_VM, "--database", database, "-o", "table")
        told = " ".join(out.split())
        assert status == 1
        assert code in told
        assert said in told
    assert not drill.mutations
