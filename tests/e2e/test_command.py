"""The command as a person runs it: processes, files, exit statuses; the simulator over real HTTP."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from shlex import split
from threading import Event
from typing import Any

import pytest

from cli import demo
from cli.embedded import open_broker
from cli.main import main
from cli.request_lines import read_request_lines
from local.estate import JsonObject
from local.simulator import Scenario, Simulator, SimulatorServer
from tests.e2e.harness import INSTANCE, POLICY, virtual_machine

ROOT = Path(__file__).parents[2]
VAULT = Simulator(Scenario()).vault_id()
FAST = 0.002
PATIENCE = 60.0  # seconds that a process may take on a busy machine


class Azure:
    """A simulator on a fast clock, and the command against it."""

    def __init__(self, simulator: Simulator, url: str) -> None:
        self.simulator = simulator
        self.url = url

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AZURE_")}
        return {
            **kept,
            "ARM_ENDPOINT": self.url,
            "TIME_SCALE": str(self.simulator.time_scale),
            "TRACK_INTERVAL": "PT10S",
            "SQLVMBACKUP_VAULT": "",
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The command as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "cli.main", *arguments],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, list[JsonObject], str]:
        """Exit status, JSON lines of standard output, standard error."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=PATIENCE)
        return process.returncode, [json.loads(line) for line in out.splitlines()], err

    def request(self, operation: str, request_id: str, **data: Any) -> bytes:
        """A line of a file of requests."""
        event = {
            "specversion": "1.0",
            "type": f"sqlvmbackup.{operation}.requested.v1",
            "source": "/tests",
            "id": request_id,
            "data": {"vaultId": self.simulator.vault_id(), **data},
        }
        return json.dumps(event).encode() + b"\n"

    def protect(self, request_id: str = "p") -> bytes:
        return self.request(
            "protect", request_id, vmId=self.simulator.vm_id("sqlvm1"), policyName=POLICY, databases=EVERY
        )

    def backup(self, request_id: str = "b") -> bytes:
        return self.request("backup", request_id, databases=EVERY, backupType="Full")

    @property
    def mutations(self) -> Counter[str]:
        return Counter(entry["route"] for entry in self.simulator.ledger_entries)


EVERY = [{"instance": INSTANCE, "database": "*"}]
OpenAzure = Callable[..., Azure]


@pytest.fixture
def azure() -> Iterator[OpenAzure]:
    with ExitStack() as stack:

        def opened(*databases: str, time_scale: float = FAST, protected: bool = False) -> Azure:
            listed = [
                {"name": name, "protectedBy": POLICY if protected else None}
                for name in databases or ("orders",)
            ]
            machine = virtual_machine("sqlvm1", *listed, registeredTo="vault1" if protected else None)
            scenario = Scenario.model_validate({"virtualMachines": [machine]})
            simulator = Simulator(scenario, time_scale=time_scale)
            server = stack.enter_context(SimulatorServer(simulator))
            return Azure(simulator, server.url)

        yield opened


def lines_of(path: Path) -> list[JsonObject]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def wait_until(true: Callable[[], bool]) -> None:
    pause = Event()
    for _ in range(int(PATIENCE / 0.02)):
        if true():
            return
        pause.wait(0.02)
    raise AssertionError("it did not come true in time")


def test_run_in_order_then_again_with_its_state(azure: OpenAzure, tmp_path: Path) -> None:
    cloud = azure("orders", "billing", "hr")
    requests, outcomes = tmp_path / "requests.jsonl", tmp_path / "outcomes.jsonl"
    garbage = b"this is no request\n"
    requests.write_bytes(
        b"\xef\xbb\xbf" + cloud.protect() + b"\n" + garbage + cloud.backup() + cloud.protect() + garbage
    )
    kept = ("--outcomes", str(outcomes), "--state", str(tmp_path / "state"))
    arguments = ("run", "--requests", str(requests), "--in-order", *kept)
    status, shown, err = cloud.run(*arguments)
    assert status == 1, err  # the line that is no request
    assert Counter((line["type"].split(".")[1], line["data"]["status"]) for line in shown) == {
        ("protect", "succeeded"): 3,
        ("backup", "succeeded"): 3,
        ("request", "rejected"): 1,
    }
    assert all("job" in line["data"] for line in shown if line["data"]["status"] == "succeeded")
    assert "protect p: accepted, 3 databases" in err
    written = lines_of(outcomes)
    assert {line["id"] for line in written} == {line["id"] for line in shown}
    assert len(written) == len(shown) == 7
    done = cloud.mutations
    assert (done["Register"], done["ConfigureBackup"], done["Backup"]) == (1, 3, 3)
    # The same command again has nothing to do and says the same.
    assert "nded before" not in err
    again, shown_again, err = cloud.run(*arguments)
    assert again == 1
    told = f"Ended before in {tmp_path / 'state'}, and not sent again: 3 of 3 requests."
    assert err.splitlines().count(f"{told} To ask again, use a new id.") == 1
    assert [line["id"] for line in shown_again] == [line["id"] for line in shown]
    assert lines_of(outcomes) == written
    assert cloud.mutations == done


def test_a_killed_run_goes_on_where_it_was(azure: OpenAzure, tmp_path: Path) -> None:
    names = [f"db{number}" for number in range(12)]
    cloud = azure(*names, time_scale=0.005, protected=True)
    requests, outcomes = tmp_path / "requests.jsonl", tmp_path / "outcomes.jsonl"
    requests.write_bytes(cloud.backup())
    arguments = (
        "run",
        "--requests",
        str(requests),
        "--outcomes",
        str(outcomes),
        "--state",
        str(tmp_path / "s"),
    )
    for effects in (1, 6, 12):
        with cloud.start(*arguments) as process:
            wait_until(lambda effects=effects: cloud.mutations["Backup"] >= effects)  # type: ignore[misc]  # a default binds the loop's value
            process.kill()
        with outcomes.open("ab") as file:
            file.write(b'{"specversion":"1.0","id":"torn')
    status, shown, err = cloud.run(*arguments)
    assert status == 0, err
    assert Counter(line["data"]["database"] for line in shown) == Counter(names)
    assert cloud.mutations["Backup"] == len(names)
    written = lines_of(outcomes)
    assert Counter(line["data"]["database"] for line in written) == Counter(names)


def test_an_interrupted_run_drains_and_says_how_to_go_on(azure: OpenAzure, tmp_path: Path) -> None:
    cloud = azure(time_scale=0.005)
    requests = tmp_path / "requests.jsonl"
    requests.write_bytes(cloud.protect())
    arguments = ("run", "--requests", str(requests), "--state", str(tmp_path / "state"))
    with cloud.start(*arguments) as process:
        wait_until(lambda: cloud.mutations["Refresh"] == 1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (130, "")
    assert "Interrupted; run the same command again to go on where it was." in err
    assert "Traceback" not in err
    status, shown, err = cloud.run(*arguments)
    assert (status, len(shown)) == (0, 1), err
    assert cloud.mutations["Refresh"] == cloud.mutations["Register"] == 1


def test_a_person_on_a_terminal_sees_what_is_on_its_way_and_a_table(azure: OpenAzure, tmp_path: Path) -> None:
    cloud = azure(time_scale=0.005)
    requests = tmp_path / "requests.jsonl"
    requests.write_bytes(cloud.protect() + cloud.backup())
    terminal, end = pty.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, "-m", "cli.main", "run", "--requests", str(requests), "--in-order"],
            cwd=ROOT,
            env=cloud.environment | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
            stdout=end,
            stderr=end,
        ) as process:
            os.close(end)
            screen = b""
            with suppress(OSError):  # the terminal has no other end any more
                while piece := os.read(terminal, 65536):
                    screen += piece
    finally:
        os.close(terminal)
    text = screen.decode()
    assert process.returncode == 0, text
    assert "Traceback" not in text
    assert "waiting" in text
    assert "register container" in text
    assert re.search(r"backup +sqlvm1/MSSQLSERVER/orders +\S*succeeded", text), text


def test_an_interrupted_demo_says_what_became_of_it() -> None:
    faster = "import sys; from cli import demo, main; demo.TIME_SCALE = 0.005; sys.exit(main.main(['demo']))"
    with subprocess.Popen(
        [sys.executable, "-c", faster], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert any("accepted" in line for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (130, "")
    assert "Interrupted; the simulated Azure has ended with it." in err
    assert "--state" not in err


def test_two_runs_do_not_share_a_state(azure: OpenAzure, tmp_path: Path) -> None:
    cloud = azure(time_scale=1.0)
    requests = tmp_path / "requests.jsonl"
    requests.write_bytes(cloud.protect())
    arguments = ("run", "--requests", str(requests), "--state", str(tmp_path / "state"))
    with cloud.start(*arguments) as process:
        wait_until(lambda: cloud.mutations["Refresh"] == 1)
        status, _, err = cloud.run(*arguments)
        process.kill()
    assert status == 2
    assert "is in use by another sqlvmbackup" in err


def test_run_against_the_simulator_loads_no_azure_sdk(azure: OpenAzure, tmp_path: Path) -> None:
    cloud = azure(protected=True)
    requests = tmp_path / "requests.jsonl"
    requests.write_bytes(cloud.backup())
    script = (
        "import sys\n"
        "from cli.main import main\n"
        f"status = main(['run', '--requests', {str(requests)!r}])\n"
        "loaded = {'azure.identity', 'azure.servicebus', 'proton'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
        "sys.exit(status)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=cloud.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_demo_shows_three_outcomes_with_their_jobs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "TIME_SCALE", FAST)
    assert main(["demo"]) == 0
    out, err = capsys.readouterr()
    *lines, sums = out.splitlines()[1:]
    assert sums.startswith("3 outcomes: 3 succeeded (")
    rows = [line.split() for line in lines]
    assert [row[0] for row in rows] == ["protect", "backup", "restore"]
    assert all(row[1] == "sqlvm1/MSSQLSERVER/orders" and row[2] == "succeeded" for row in rows)
    assert all(
        any(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", cell) for cell in row) for row in rows
    )
    assert "orders_restored" in out
    assert "Azure is simulated at http://127.0.0.1:" in err
    assert "protect-sqlvm1: accepted, 1 database\n" in err
    assert not [line for line in out.splitlines() if line != line.rstrip()]


def test_a_fleet_in_the_demo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(demo, "TIME_SCALE", FAST)
    assert main(["demo", "--databases", "3", "--vms", "2", "--json"]) == 0
    outcomes = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert Counter(outcome["data"]["operation"] for outcome in outcomes) == {
        "protect": 6,
        "backup": 6,
        "restore": 1,
    }


# -- in this process: what needs no process of its own


@pytest.fixture
def here(azure: OpenAzure, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    cloud = azure("orders", "billing", protected=True)
    for name in ("ARM_ENDPOINT", "TIME_SCALE", "TRACK_INTERVAL", "SQLVMBACKUP_VAULT"):
        monkeypatch.setenv(name, cloud.environment[name])

    def call(*arguments: str) -> tuple[int, list[JsonObject], str]:
        status = main(arguments)
        out, err = capsys.readouterr()
        return status, [json.loads(line) for line in out.splitlines()], err

    return cloud, call


Here = tuple[Azure, Callable[..., tuple[int, list[JsonObject], str]]]


def test_one_request_from_flags(here: Here) -> None:
    cloud, call = here
    vault, machine = cloud.simulator.vault_id(), cloud.simulator.vm_id("sqlvm1")
    backup = (
        "backup",
        "--vault",
        vault,
        "--database",
        "orders",
        "--type",
        "CopyOnlyFull",
        "--retain-for",
        "P7D",
    )
    status, rows, _ = call(*backup, "--dry-run")
    assert status == 0
    assert (rows[0]["vm"], rows[0]["database"]) == ("sqlvm1", "MSSQLSERVER/orders")
    assert rows[0]["how"].startswith("CopyOnlyFull, kept until 2026-01-12T")
    assert not cloud.mutations
    status, outcomes, _ = call(*backup, "--id", "one")
    assert status == 0
    assert outcomes[0]["data"]["requestId"] == "one"
    assert outcomes[0]["data"]["backupType"] == "CopyOnlyFull"

    restore = ("restore", "--vault", vault, "--vm", machine, "--database", "orders", "--to-database", "copy")
    status, rows, _ = call(*restore, "--dry-run")
    assert status == 0
    assert "copy_orders.mdf" in rows[0]["how"]
    status, outcomes, _ = call(*restore)
    assert status == 0
    assert outcomes[0]["data"]["target"]["database"] == "copy"

    protect = ("protect", "--vault", vault, "--vm", machine, "--policy", POLICY)
    status, rows, _ = call(*protect, "--dry-run")
    assert (status, {row["would"] for row in rows}) == (0, {"stay as it is"})
    status, outcomes, _ = call(*protect, "--exclude", "copy")
    assert (status, len(outcomes)) == (0, 2)


def test_a_dry_run_of_a_restore_says_what_it_replaces(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud, call = here
    monkeypatch.setenv("SQLVMBACKUP_VAULT", cloud.simulator.vault_id())
    monkeypatch.setenv("RESTORE_ALLOW_OVERWRITE", "true")
    call("backup", "--database", "orders")
    restore = ("restore", "--vm", "sqlvm1", "--database", "orders", "--dry-run", "--overwrite")
    for target, told in (
        (("--to-database", "billing"), f"; it replaces {INSTANCE}/billing, which is there; files: "),
        (
            ("--to-database", "new"),
            f"there is no {INSTANCE}/new there; if it has been created since, it is replaced",
        ),
        (("--to-original",), f"to the original; it replaces {INSTANCE}/orders"),
    ):
        status, rows, err = call(*restore, *target)
        assert status == 0, err
        assert told in rows[0]["how"]


def test_a_dry_run_for_a_new_vm_says_which_databases_are_meant(
    azure: OpenAzure, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud = azure("orders")
    for name in ("ARM_ENDPOINT", "TIME_SCALE"):
        monkeypatch.setenv(name, cloud.environment[name])
    protect = ["protect", "--vault", cloud.simulator.vault_id(), "--vm", cloud.simulator.vm_id("sqlvm1")]
    for flags, meant in (
        ([], "every database that is found"),
        (
            ["--database", "orders*", "--database", "SQL2019/crm", "--exclude", "orders_old"],
            "every database that is found and matches orders*, SQL2019/crm, except orders_old",
        ),
    ):
        assert main([*protect, "--policy", POLICY, *flags, "--dry-run", "-o", "json"]) == 0
        assert json.loads(capsys.readouterr().out)[-1]["database"] == meant


def test_a_dry_run_of_a_protect_says_what_of_the_vm_is_known(here: Here) -> None:
    cloud, call = here
    vault, machine = cloud.simulator.vault_id(), cloud.simulator.vm_id("sqlvm1")
    protect = ("protect", "--vault", vault, "--policy", POLICY, "--dry-run")
    # A VM that the vault does not offer may come with the refresh that a run begins with.
    status, rows, _ = call(*protect, "--vm", machine + "x")
    assert (status, rows[0]["database"], rows[0]["would"]) == (0, "VM sqlvm1x", "be looked for")
    assert "does not offer this VM yet" in rows[0]["how"]
    # A name that is not known may be found by the inquiry that a run makes for it: only that can tell.
    status, rows, _ = call(*protect, "--vm", machine, "--database", "new")
    assert status == 0
    assert [(row["database"], row["would"]) for row in rows] == [
        ("VM sqlvm1", "be inquired"),
        ("*/new", "be looked for"),
    ]
    assert "fails for it if the inquiry does not find it" in rows[1]["how"]
    # For what is known no VM is looked at.
    status, rows, _ = call(*protect, "--vm", machine, "--database", "orders")
    assert [(row["database"], row["would"]) for row in rows] == [("MSSQLSERVER/orders", "stay as it is")]
    assert not cloud.mutations


def test_listings(here: Here) -> None:
    cloud, call = here
    vault = cloud.simulator.vault_id()
    status, rows, _ = call("databases", "--vault", vault)
    assert status == 0
    assert [(row["database"], row["state"], row["policy"]) for row in rows] == [
        ("billing", "IRPending", POLICY),
        ("orders", "IRPending", POLICY),
    ]
    call("backup", "--vault", vault, "--database", "orders")
    status, rows, _ = call("recovery-points", "--vault", vault, "--database", "ORDERS")
    assert status == 0
    # The point of the log ranges is there too, and holds none yet: nothing can be restored from it.
    assert [row["kind"] for row in rows] == ["Full"]
    assert call("recovery-points", "--vault", vault, "--database", "billing", "--json")[:2] == (0, [])
    status, rows, err = call("recovery-points", "--vault", vault, "--database", "nope")
    assert (status, rows) == (1, [])
    assert (
        "the vault protects no MSSQLSERVER/nope; it protects: MSSQLSERVER/billing, MSSQLSERVER/orders" in err
    )


def test_a_state_folder_says_what_it_holds_and_how_to_go_on(here: Here, tmp_path: Path) -> None:
    cloud, call = here
    state = tmp_path / "a state"
    backup = ("backup", "--vault", cloud.simulator.vault_id(), "--database", "orders", "--id", "done")
    assert call(*backup, "--state", str(state))[0] == 0
    # A run that was killed before it did anything.
    waiting = cloud.backup("left")
    (line,) = read_request_lines([waiting])
    with open_broker(state) as broker:
        broker.send(line.message().entity, [line.message()])
    status, (first, second), _ = call("runs", "--state", str(state))
    assert status == 0
    assert (first["id"], first["state"], first["outcomes"]) == ("done", "finished", {"succeeded": 1})
    assert first["succeeded"]
    assert "toGoOn" not in first
    assert (second["id"], second["state"], second["moving"]) == ("left", "waiting", {"backup-requests": 1})
    assert second["toGoOn"] == f"sqlvmbackup run --state '{state}'"
    # What it says is so.
    assert call(*split(second["toGoOn"])[1:])[0] == 0
    assert {row["state"] for row in call("runs", "--state", str(state))[1]} == {"finished"}


def test_an_id_stands_for_one_request_in_a_state(here: Here, tmp_path: Path) -> None:
    cloud, call = here
    state = str(tmp_path / "state")
    rest = ("--vault", cloud.simulator.vault_id(), "--id", "y1", "--state", state)
    assert call("backup", "--database", "orders", *rest)[0] == 0
    status, shown, err = call("backup", "--database", "billing", *rest)
    assert (status, shown) == (2, [])
    assert f"--id y1 was already used in {state} for another request: give a new --id." in err
    # The same request is answered as before, and another operation has ids of its own.
    status, (outcome,), _ = call("backup", "--database", "orders", *rest)
    assert (status, outcome["data"]["database"]) == (0, "orders")
    assert cloud.mutations["Backup"] == 1
    policy = ("--vm", cloud.simulator.vm_id("sqlvm1"), "--policy", POLICY)
    assert call("protect", "--database", "billing", *policy, *rest)[0] == 0


def test_no_line_of_a_file_is_taken_for_another_request(here: Here, tmp_path: Path) -> None:
    cloud, call = here
    file, state = tmp_path / "requests.jsonl", str(tmp_path / "state")
    run = ("run", "--requests", str(file), "--state", state)
    orders, billing, wrong = (
        cloud.request("backup", "y1", databases=[{"instance": INSTANCE, "database": name}], backupType=kind)
        for name, kind in (("orders", "Full"), ("billing", "Full"), ("orders", "Fast"))
    )
    file.write_bytes(orders + b"\n" + orders + billing)
    status, shown, err = call(*run)
    assert (status, shown) == (2, [])
    assert "lines 1 and 4 are different requests with the same type, source and id (backup y1)" in err
    # What was refused is corrected under its id.
    file.write_bytes(wrong)
    assert call(*run)[1][0]["data"]["status"] == "rejected"
    file.write_bytes(orders + orders)
    assert [event["data"]["database"] for event in call(*run)[1]] == ["orders"]
    # What was done stays what the id stands for.
    file.write_bytes(billing)
    status, shown, err = call(*run)
    assert (status, shown) == (2, [])
    assert (
        f"line 1: the id y1 was already used in {state} for another request: give a new id, or to go on"
        in err
    )
    assert cloud.mutations["Backup"] == 1


@pytest.mark.parametrize("command", ["runs", "run"])
def test_a_folder_that_keeps_no_run(here: Here, tmp_path: Path, command: str) -> None:
    _, call = here
    status, _, err = call(command, "--state", str(tmp_path))
    assert (status, "keeps no run" in err) == (2, True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["runs", "run"])
def test_a_state_that_must_not_be_read(
    here: Here, tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file can be read by root, whom a build server runs as: so the answer of the system is stood in for."""
    _, call = here
    (tmp_path / "broker.db").touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    status, _, err = call(command, "--state", str(tmp_path))
    assert (status, "cannot be used: only the user who made it may read it." in err) == (2, True)


def test_a_parked_request_is_listed_shown_and_sent_again(here: Here, tmp_path: Path) -> None:
    cloud, call = here
    requests, state = tmp_path / "requests.jsonl", str(tmp_path / "state")
    bad = cloud.request("backup", "bad", databases=EVERY, backupType="Huge")
    requests.write_bytes(bad + b"garbage\n")
    run = ("run", "--requests", str(requests), "--state", state, "--outcomes", str(tmp_path / "o.jsonl"))
    status, outcomes, _ = call(*run)
    assert (status, {outcome["data"]["status"] for outcome in outcomes}) == (1, {"rejected"})
    status, parked, _ = call("replay", "--state", state)
    assert status == 0
    # What is no JSON names no request.
    listed = {row["queue"]: row.get("request") for row in parked}
    assert listed == {"backup-requests": "bad", "events": None}
    number = next(str(row["number"]) for row in parked if row["queue"] == "backup-requests")
    status, (shown,), _ = call("replay", "show", number, "--state", state)
    assert json.loads(shown["body"]) == json.loads(bad)
    status, _, err = call("replay", "send", "99", "--state", state)
    assert (status, "no parked message has the number 99" in err) == (2, True)
    status, _, err = call("replay", "send", "--all", "--state", state)
    assert (status, "2 of 2 sent again." in err) == (0, True)
    # It is still no good: rejected anew, under the next epoch, and parked anew.
    status, outcomes, _ = call(*run)
    assert status == 1
    assert len(outcomes) == 2
    assert {outcome["data"].get("epoch", 1) for outcome in outcomes} == {1}
    status, parked, _ = call("replay", "list", "--state", state)
    assert [row["epoch"] for row in parked] == [1, 1]
    assert len(lines_of(tmp_path / "o.jsonl")) == 4


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["run", "--requests", "missing.jsonl"], {}, "cannot be read (No such file or directory)"),
        (["run", "--requests", os.devnull, "--outcomes", "/nowhere/o"], {}, "/nowhere/o cannot be written"),
        (["run", "--requests", os.devnull], {"TIME_SCALE": "fast"}, "TIME_SCALE: expected a number"),
        (["run", "--requests", os.devnull, "--arm-endpoint", "http://azure"], {}, "http is for a simulator"),
        (["run", "--requests", os.devnull, "--state", os.devnull], {}, "cannot be used"),
        (["run", "--requests", os.devnull, "--state", __file__], {}, "(it is a file): name a directory."),
        (["replay", "--state", "missing"], {}, "missing keeps no run"),
        (["run"], {}, "name a file with --requests FILE, or with --state DIR"),
        (["backup", "--vault", "v"], {}, '--vault: "v" is not the id'),
        (["databases", "--vault", "v"], {}, '--vault: "v" is not the id'),
        (["databases"], {}, "no vault is named"),
        (["restore", "--vault", VAULT, "--database", "d"], {}, "--vm: required, and not given: the VM that"),
        (
            ["restore", "--vault", "v", "--availability-group", "ag", "--database", "d"],
            {},
            "--to-vm: required, and not given, nor is --vm",
        ),
        (["protect", "--vault", "v", "--vm", "m", "--policy", "a/b"], {}, "--policy: "),
        (["backup", "--vault", "v", "--no-wait"], {}, "--vault: "),
        (["databases", "--vault", VAULT, "--query", "["], {}, "--query: '[' is no JMESPath expression"),
        (["backup", "--vault", VAULT, "--query", "["], {}, "--query: '[' is no JMESPath expression"),
        (["backup", "--vault", VAULT, "--no-wait"], {}, "--no-wait goes with --namespace"),
        (
            ["replay", "--namespace", "no-such-namespace.invalid"],
            {},
            "there is no host no-such-namespace.invalid",
        ),
        (
            ["run", "--requests", os.devnull],
            {"TIME_SCALE": "fast", "JOB_TIMEOUT": "long", "RESTORE_ALLOW_OVERWRITE": "perhaps"},
            'RESTORE_ALLOW_OVERWRITE: expected true or false, not "perhaps". JOB_TIMEOUT: ',
        ),
    ],
)
def test_what_cannot_be_used_is_one_sentence_and_status_2(
    arguments: list[str], environment: dict[str, str], said: str, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    status, shown, err = here[1](*arguments)
    assert (status, shown) == (2, [])
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["databases", "run"])
def test_a_secret_that_is_wrong_is_one_sentence_and_status_2(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    principal = {"clientId": "11111111-1111-1111-1111-111111111111", "clientSecret": "right"}
    simulator = Simulator(Scenario.model_validate({"servicePrincipals": [principal]}))
    with SimulatorServer(simulator, tls_directory=tmp_path) as server:
        for name, value in {
            "ARM_ENDPOINT": server.url,
            "AZURE_AUTHORITY_HOST": server.url,
            "AZURE_TENANT_ID": "00000000-0000-0000-0000-0000000000aa",
            "AZURE_CLIENT_ID": principal["clientId"],
            "AZURE_CLIENT_SECRET": "wrong",
            "REQUESTS_CA_BUNDLE": str(tmp_path / "cert.pem"),
        }.items():
            monkeypatch.setenv(name, value)
        what = {"databases": ["--vault", simulator.vault_id()], "run": ["--requests", os.devnull]}[command]
        assert main([command, *what]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "the secret in AZURE_CLIENT_SECRET is wrong (AADSTS7000215)." in err
    assert err.count("\n") == 1


def test_nothing_to_do_is_success(here: Here) -> None:
    assert here[1]("run", "--requests", os.devnull) == (0, [], f"There is no request in {os.devnull}.\n")


@pytest.mark.parametrize(
    "command",
    [
        "demo",
        "run",
        "protect",
        "backup",
        "restore",
        "databases",
        "recovery-points",
        "jobs",
        "policies",
        "replay",
        "completion",
        "simulator",
    ],
)
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "example:\n" in text
    assert text.partition("example:\n")[2].startswith(f"  sqlvmbackup {command}")


@pytest.mark.parametrize("command", ["protect", "restore"])
def test_help_says_when_the_vm_must_be_named(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "required, unless" in text.partition(" --vm VM name")[2].partition(" --")[0]
    assert "AZURE_SUBSCRIPTION_ID, then that in SQLVMBACKUP_VAULT, then that of `az`" in text


@pytest.mark.parametrize("before", [[], ["--verbose"]])
def test_the_simulator_has_options_of_its_own(before: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*before, "simulator", "--nonsense"])
    assert ended.value.code == 2
    assert "usage: sqlvmbackup simulator" in capsys.readouterr().err
