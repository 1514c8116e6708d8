"""The command as whoever types it meets it: estates as they are, terminals and pipes, names, states, silence."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from cli.main import main
from local.estate import JsonObject
from local.simulator import FIXED_TOKEN, Scenario, Simulator, SimulatorServer
from tests.e2e.drills import drill_estate
from tests.e2e.harness import INSTANCE, POLICY, virtual_machine
from tests.e2e.test_command import PATIENCE, ROOT, Azure, wait_until

FAST = 0.002
#: Instances by name, system databases, odd names, a group's database, and what is not protected.
ODD = "it's a 日本 db"


def protected(*names: str) -> list[JsonObject]:
    return [{"name": name, "protectedBy": POLICY} for name in names]


ESTATE: dict[str, Any] = {
    "virtualMachines": [
        {
            "name": "sqlvm1",
            "registeredTo": "vault1",
            "instances": [
                {
                    "name": INSTANCE,
                    "databases": [
                        *protected("master", "msdb", "orders", ODD),
                        *protected("old"),
                        {"name": "forgotten"},
                    ],
                },
                {"name": "SQL2019", "databases": protected("crm", "msdb")},
            ],
        },
        {"name": "sqlag1", "registeredTo": "vault1", "instances": [{"name": INSTANCE, "databases": []}]},
        {"name": "sqlag2", "registeredTo": "vault1", "instances": [{"name": INSTANCE, "databases": []}]},
        {
            "name": "sqlvm3",
            "registeredTo": "vault1",
            "instances": [{"name": INSTANCE, "databases": [{"name": "nobody"}]}],
        },
    ],
    "availabilityGroups": [
        {"name": "ag1", "virtualMachines": ["sqlag1", "sqlag2"], "databases": protected("agdb")}
    ],
}

Open = Callable[..., Azure]


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    with ExitStack() as stack:

        def opened(scenario: JsonObject, *, time_scale: float = FAST) -> Azure:
            simulator = Simulator(Scenario.model_validate(scenario), time_scale=time_scale)
            cloud = Azure(simulator, stack.enter_context(SimulatorServer(simulator)).url)
            for name in ("ARM_ENDPOINT", "TIME_SCALE", "TRACK_INTERVAL"):
                monkeypatch.setenv(name, cloud.environment[name])
            monkeypatch.setenv("SQLVMBACKUP_VAULT", simulator.vault_id())
            return cloud

        yield opened


def an_operator_stops(cloud: Azure, item: str) -> None:
    """Stop the protection of a database, its recovery points kept."""
    stopped = {"protectedItemType": "AzureVmWorkloadSQLDatabase", "protectionState": "ProtectionStopped"}
    path = (
        f"{cloud.simulator.vault_id()}/backupFabrics/Azure/protectionContainers"
        f"/VMAppContainer;compute;rg-sql;sqlvm1/protectedItems/{item}?api-version=2024-04-01"
    )
    headers = {"Authorization": f"Bearer {FIXED_TOKEN}"}
    body = {"properties": {**stopped, "policyId": ""}}
    answer = requests.put(cloud.url + path, json=body, headers=headers, timeout=PATIENCE)
    assert answer.status_code == 202

    def has_stopped() -> bool:
        found = requests.get(cloud.url + path, headers=headers, timeout=PATIENCE).json()
        return str(found["properties"]["protectionState"]) == "ProtectionStopped"

    wait_until(has_stopped)


def one_vm(*databases: str, **durations: float) -> JsonObject:
    machine = virtual_machine("sqlvm1", *protected(*databases), registeredTo="vault1")
    return {"virtualMachines": [machine], "durations": durations}


def on_a_terminal(
    cloud: Azure, *arguments: str, columns: int, lines: int = 24, **environment: str
) -> tuple[int, str]:
    """Exit status, and what was written on standard output where that is a terminal of that size."""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    kept = {name: value for name, value in cloud.environment.items() if name not in ("COLUMNS", "LINES")}
    written = b""
    try:
        with subprocess.Popen(
            [sys.executable, "-m", "cli", *arguments],
            cwd=ROOT,
            env={**kept, "SQLVMBACKUP_VAULT": cloud.simulator.vault_id(), "TERM": "xterm", **environment},
            stdout=end,
            stderr=subprocess.DEVNULL,
        ) as process:
            os.close(end)
            with suppress(OSError):  # the terminal has no other end any more
                while piece := os.read(terminal, 65536):
                    written += piece
    finally:
        os.close(terminal)
    return process.returncode, written.decode().replace("\r\n", "\n")


# -- every user database, and what is left out


def test_a_backup_of_a_vault_takes_every_user_database_and_names_what_it_leaves_out(
    azure: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud = azure(ESTATE)
    an_operator_stops(cloud, f"SQLDataBase;{INSTANCE};old")
    before = cloud.mutations
    assert main(["backup", "--dry-run", "-o", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    would = {row["database"]: row["would"] for row in rows}
    taken = {f"{INSTANCE}/orders", f"{INSTANCE}/{ODD}", "SQL2019/crm", "ag1/agdb"}
    assert {name for name, what in would.items() if what == "be backed up"} == taken
    left_out = {
        f"{INSTANCE}/master",
        f"{INSTANCE}/msdb",
        "SQL2019/msdb",
        f"{INSTANCE}/old",
        f"sqlvm1/{INSTANCE}/forgotten",
        f"sqlvm3/{INSTANCE}/nobody",
    }
    assert would.keys() == taken | left_out
    assert cloud.mutations == before

    assert main(["backup", "-o", "table"]) == 0
    out, _ = capsys.readouterr()
    assert all(name in out for name in taken | left_out)
    assert "Left out: 2 not protected: " in out
    assert f"Left out: 1 protection stopped: {INSTANCE}/old." in out
    assert "Left out: 3 system databases (--include-system takes them): " in out
    assert re.search(r"\nBackup of 4 databases: 4 succeeded; 6 left out \(.*\)\.\n$", out)
    assert cloud.mutations["Backup"] == len(taken)


def test_what_a_request_names_is_all_that_it_is_about(
    azure: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    azure(ESTATE)
    assert main(["backup", "--database", "SQL2019/crm", "-o", "table"]) == 0
    out, _ = capsys.readouterr()
    assert "Left out" not in out
    assert out.splitlines()[-1].startswith("Backup of 1 database: 1 succeeded (")


def test_a_name_that_excludes_nothing_is_told(azure: Open, capsys: pytest.CaptureFixture[str]) -> None:
    azure(one_vm("orders", "orders_old"))
    for flags in (["--dry-run"], []):
        assert main(["backup", "--exclude", "orders_lod", "--exclude", "*_OLD", *flags]) == 0
        err = capsys.readouterr().err
        assert "--exclude: no database that is asked for is called orders_lod." in err
        assert "*_OLD" not in err.partition("--exclude:")[2]


def test_where_everything_is_excluded_a_dry_run_ends_as_the_real_one_does(
    azure: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    azure(one_vm("orders"))
    assert main(["backup", "--exclude", "*", "--dry-run"]) == 1
    assert main(["backup", "--exclude", "*"]) == 1
    err = capsys.readouterr().err
    assert "accepted, and there is nothing to do; left out: 1 excluded" in err


# -- names of places


def test_vaults_and_machines_by_their_names(azure: Open, capsys: pytest.CaptureFixture[str]) -> None:
    cloud = azure(ESTATE)
    named = ("-g", "rg-backup", "-v", "vault1", "--subscription", VAULT_SUBSCRIPTION)
    assert main(["databases", *named, "--vm", "SQLVM1", "-o", "tsv", "--query", "[].vmId"]) == 0
    assert set(capsys.readouterr().out.split()) == {cloud.simulator.vm_id("sqlvm1")}
    assert main(["databases", "--vm", "sqlvm2", "-o", "json"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "--vm: vault vault1 knows no VM sqlvm2; it knows: sqlag1, sqlag2, sqlvm1, sqlvm3." in err
    assert "Did you mean" in err


VAULT_SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"


def test_a_name_that_two_machines_have_is_not_guessed(
    azure: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    machines = [
        {
            **virtual_machine("sqlvm1", *protected("orders"), registeredTo="vault1"),
            "resourceGroup": group,
        }
        for group in ("rg-a", "rg-b")
    ]
    azure({"virtualMachines": machines})
    assert main(["databases", "--vm", "sqlvm1"]) == 2
    err = capsys.readouterr().err
    assert "several VMs of vault vault1 are called sqlvm1" in err
    assert "/rg-a/" in err
    assert "/rg-b/" in err


def test_a_restore_to_another_machine_names_it_from_the_first_line_to_the_last(
    azure: Open, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RESTORE_ALLOWED_TARGETS", '["*"]')
    azure(
        {
            "virtualMachines": [
                virtual_machine(
                    "sqlvm1",
                    {"name": "orders", "protectedBy": POLICY, "historyDays": 1},
                    registeredTo="vault1",
                ),
                virtual_machine("sqlvm2", {"name": "other"}, registeredTo="vault1"),
            ]
        }
    )
    restore = ["restore", "--vm", "sqlvm1", "--database", "orders", "--to-vm", "sqlvm2", "-o", "table"]
    assert main([*restore, "--dry-run"]) == 0
    assert f"to sqlvm2/{INSTANCE}/orders_restored_" in " ".join(capsys.readouterr().out.split())
    assert main(restore) == 0
    out, err = capsys.readouterr()
    assert f"to sqlvm2/{INSTANCE}/orders_restored_… started" in err
    assert re.search(rf"to sqlvm2/{INSTANCE}/orders_restored_\d+ succeeded", err)
    assert f"sqlvm2/{INSTANCE}/orders_restored_" in "".join(out.split())


def test_a_refusal_names_the_flag_and_the_value_that_would_do(
    azure: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud = azure(one_vm("orders"))
    restore = ["restore", "--vm", "sqlvm1", "--database", "orders"]
    for flags in ([], ["--dry-run"]):
        assert main([*restore, "--to-original", "-o", "table", *flags]) == 1
        said = "".join(capsys.readouterr())
        assert "OverwriteNotRequested" in said
        assert "give --overwrite if that is meant" in said
    assert main([*restore, "--to-original", "--overwrite", "--dry-run"]) == 1
    assert "to allow it, set RESTORE_ALLOW_OVERWRITE to true" in capsys.readouterr().err
    other = cloud.simulator.vm_id("sqlvm1").replace("sqlvm1", "sqlvm9")
    assert main([*restore, "--to-vm", other, "-o", "table"]) == 1
    assert f'A value that would: ["{other}"].' in capsys.readouterr().out
    assert main(["drill", "--to-vm", "sqlvm1", "--database", "orders", "-o", "table"]) == 1
    would = capsys.readouterr().out.partition("A value that would: ")[2].partition(".\n")[0]
    assert json.loads(would) == [{"vmId": cloud.simulator.vm_id("sqlvm1"), "instance": INSTANCE}]


def test_a_database_as_outcomes_show_it_is_told_how_it_is_given(
    azure: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    azure(one_vm("orders"))
    shown = f"{INSTANCE}/orders"
    assert main(["backup", "--database", f"sqlvm1/{shown}", "-o", "table"]) == 1
    hint = f"If sqlvm1 is a VM, give it as --vm, and {shown} as instance and database."
    assert hint in capsys.readouterr().out
    assert main(["backup", "--vm", "sqlvm1", "--database", shown, "-o", "table"]) == 0


def test_a_drill_is_told_with_what_would_have_been_lost_and_how_long_it_took(
    azure: Open, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud = azure(drill_estate("orders"))
    target = {"vmId": cloud.simulator.vm_id("drills1"), "instance": INSTANCE}
    monkeypatch.setenv("DRILL_TARGETS", json.dumps([target]))
    assert main(["drill", "--to-vm", "drills1", "-o", "table"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert re.search(r"drills1/\S+drill_orders_\w{8}; RPO [\w ]+; RTO 5 min \d+ s", told)


def test_a_survey_of_coverage_is_told_by_its_vault_and_its_counts(
    azure: Open, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud = azure(one_vm("orders"))
    request = {
        "specversion": "1.0",
        "type": "sqlvmbackup.coverage.requested.v1",
        "source": "/dba",
        "id": "1",
        "data": {"vaultIds": [cloud.simulator.vault_id()]},
    }
    lines = tmp_path / "requests.jsonl"
    lines.write_text(json.dumps(request) + "\n")
    assert main(["run", "--requests", str(lines), "-o", "table"]) == 0
    out, err = capsys.readouterr()
    assert "accepted, 1 vault\n" in err
    assert re.search(r"vault vault1 +succeeded +1 \w+", "".join(out))


def test_a_failure_has_the_code_and_the_number_of_the_service(
    azure: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    fault = {
        "route": "Backup",
        "fault": "jobFailure",
        "code": "UserErrorSQLNoSysadminMembership",
        "errorCode": 400032,
        "message": "It lacks sysadmin rights.",
    }
    azure({**one_vm("orders"), "faults": [fault]})
    assert main(["backup", "-o", "table"]) == 1
    out, err = capsys.readouterr()
    for said in (out, err):
        assert "UserErrorSQLNoSysadminMembership" in said
        assert "It lacks sysadmin rights. (error 400032)" in said
    assert "What to do: " in out


# -- terminals and pipes


@pytest.mark.parametrize(("columns", "also"), [(160, "HourlyLogBackup"), (80, f"{INSTANCE}  "), (40, "")])
def test_listings_show_name_and_status_on_every_terminal(azure: Open, columns: int, also: str) -> None:
    cloud = azure(ESTATE)
    status, text = on_a_terminal(cloud, "databases", columns=columns)
    assert status == 0
    assert "lastBackupStatus" in text
    assert "ag1" in text
    assert "agdb" in text
    assert "IRPending" in text
    assert also in text
    assert max(map(len, re.sub(r"\x1b\[[0-9;]*m", "", text).split("\n"))) <= columns


@pytest.mark.parametrize("columns", [110, 60])
def test_a_recovery_point_has_the_name_by_which_it_is_restored(azure: Open, columns: int) -> None:
    point = {"name": "orders", "protectedBy": POLICY, "historyDays": 1}
    cloud = azure({"virtualMachines": [virtual_machine("sqlvm1", point, registeredTo="vault1")]})
    status, text = on_a_terminal(cloud, "recovery-points", "--database", "orders", columns=columns)
    assert status == 0
    assert "DefaultRangeRecoveryPoint" in text


def test_the_columns_of_csv_and_tsv_are_the_same_whatever_is_listed(
    azure: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    failure = {"route": "Backup", "nth": 1, "fault": "jobFailure", "code": "UserErrorX", "errorCode": 1}
    known = {"name": "known", "protectedBy": POLICY, "historyDays": 1}
    machine = virtual_machine("sqlvm1", known, *protected("failed", "fresh"), registeredTo="vault1")
    other = virtual_machine("sqlvm3", {"name": "nobody"}, registeredTo="vault1")
    azure({"virtualMachines": [machine, other], "faults": [failure]})
    for name in ("failed", "fresh"):
        main(["backup", "--database", name])
    for one, another in (
        (["databases", "--vm", "sqlvm1"], ["databases", "--vm", "sqlvm3"]),
        (["jobs", "list", "--database", "failed"], ["jobs", "list", "--database", "fresh"]),
        (["recovery-points", "--database", "known"], ["recovery-points", "--database", "fresh"]),
        (
            ["backup", "--dry-run", "--database", "known"],
            ["restore", "--dry-run", "--vm", "sqlvm1", "--database", "known"],
        ),
    ):
        headers, widths = set(), set()
        for arguments in (one, another):
            capsys.readouterr()
            main([*arguments, "-o", "csv"])
            headers.add(capsys.readouterr().out.partition("\n")[0])
            main([*arguments, "-o", "tsv"])
            widths |= {line.count("\t") + 1 for line in capsys.readouterr().out.splitlines()}
        assert len(headers) == 1
        assert widths == {len(headers.pop().split(","))}


def test_no_color_means_none(azure: Open) -> None:
    cloud = azure(one_vm("orders"))
    _, coloured = on_a_terminal(cloud, "backup", columns=80)
    assert "\x1b[32m" in coloured
    status, plain = on_a_terminal(cloud, "backup", columns=80, NO_COLOR="1")
    assert status == 0
    assert not re.search(r"\x1b\[3\dm", plain)
    assert "succeeded" in plain


@pytest.mark.parametrize("format_", ["table", "json", "csv", "tsv"])
def test_a_pipe_that_is_not_utf_8_gets_escapes_and_the_work_is_told(azure: Open, format_: str) -> None:
    cloud = azure(ESTATE)
    done = subprocess.run(
        [sys.executable, "-m", "cli", "backup", "--database", ODD, "-o", format_],
        cwd=ROOT,
        env={
            **cloud.environment,
            "SQLVMBACKUP_VAULT": cloud.simulator.vault_id(),
            "PYTHONIOENCODING": "cp1252",
            "PYTHONUTF8": "0",
        },
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "\\u65e5\\u672c" in done.stdout.decode("cp1252")


# -- states and files


def test_one_request_is_not_mixed_with_what_a_state_holds_and_run_goes_on(
    azure: Open, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud = azure(one_vm("orders", "billing", backup=600.0), time_scale=0.01)
    environment = {**cloud.environment, "SQLVMBACKUP_VAULT": cloud.simulator.vault_id()}
    state = str(tmp_path / "state")
    with subprocess.Popen(
        [sys.executable, "-m", "cli", "backup", "--state", state],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_until(lambda: cloud.mutations["Backup"] == 2)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert f"go on with `sqlvmbackup run --state {state}`" in err

    assert main(["backup", "--state", state]) == 2
    err = capsys.readouterr().err
    assert "holds what has not ended: backup " in err
    assert f"`sqlvmbackup run --state {state}`" in err
    assert cloud.mutations["Backup"] == 2

    outcomes = tmp_path / "outcomes.jsonl"
    assert main(["run", "--state", state, "--outcomes", str(outcomes)]) == 0
    out, err = capsys.readouterr()
    assert "Going on with what the state holds: backup " in err
    assert len(out.splitlines()) == len(outcomes.read_text().splitlines()) == 2
    assert cloud.mutations["Backup"] == 2
    # Now it holds nothing that has not ended, and takes another request.
    assert main(["run", "--state", state]) == 0
    assert f"Nothing in {state} is unfinished." in capsys.readouterr().err
    assert main(["backup", "--state", state, "--dry-run"]) == 0


def test_a_file_of_requests_is_never_written_to(
    azure: Open, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud = azure(one_vm("orders"))
    lines, link = tmp_path / "requests.jsonl", tmp_path / "link.jsonl"
    lines.write_bytes(cloud.backup())
    link.symlink_to(lines)
    for outcomes in (lines, link):
        assert main(["run", "--requests", str(lines), "--outcomes", str(outcomes)]) == 2
        assert f"--outcomes: {outcomes} holds the requests" in capsys.readouterr().err
    other = tmp_path / "others.jsonl"
    other.write_bytes(cloud.backup("another"))
    before = other.read_bytes()
    assert main(["run", "--requests", str(lines), "--outcomes", str(other)]) == 2
    assert other.read_bytes() == before
    assert not cloud.mutations


def test_outcomes_are_added_to_those_of_last_night(azure: Open, tmp_path: Path) -> None:
    cloud = azure(one_vm("orders"))
    lines, outcomes = tmp_path / "requests.jsonl", tmp_path / "outcomes.jsonl"
    for night in ("1", "2"):
        lines.write_bytes(cloud.backup(night))
        assert main(["run", "--requests", str(lines), "--outcomes", str(outcomes)]) == 0
    told = [json.loads(line)["data"]["requestId"] for line in outcomes.read_text().splitlines()]
    assert told == ["1", "2"]


def test_what_is_refused_before_azure_is_asked_is_dated_by_the_service(
    azure: Open, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud = azure(one_vm("orders"))
    lines = tmp_path / "requests.jsonl"
    lines.write_bytes(cloud.request("backup", "bad", databases=[], backupType="Huge"))
    assert main(["run", "--requests", str(lines), "-o", "tsv", "--query", "[].time"]) == 1
    assert capsys.readouterr().out.startswith("2026-01-05T")


# -- an Azure that does not answer


def test_an_azure_that_refuses_connections_is_told_while_it_is_tried_again() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with subprocess.Popen(
            [sys.executable, "-m", "cli", "backup", "--vault", Simulator(Scenario()).vault_id()],
            cwd=ROOT,
            env={**os.environ, "ARM_ENDPOINT": nobody},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            said = next(line for line in process.stderr if "tried again" in line)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=PATIENCE)
    assert "Calls to Azure keep failing; they are tried again" in said
    assert "refused" in said.lower()
    assert process.returncode == 130


def test_a_second_interruption_ends_a_run_at_once_and_says_how_to_go_on(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    with socket.create_server(("127.0.0.1", 0)) as silent, ExitStack() as connections:
        silent.settimeout(PATIENCE)
        vault = ("--vault", Simulator(Scenario()).vault_id())
        with subprocess.Popen(
            [sys.executable, "-m", "cli", "backup", *vault, "--state", state],
            cwd=ROOT,
            env={**os.environ, "ARM_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            for _ in ("the question for the time", "the first call of a step"):
                connections.enter_context(silent.accept()[0])
            process.send_signal(signal.SIGINT)
            assert any("Stopping" in line for line in process.stderr)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert f"Interrupted; go on with `sqlvmbackup run --state {state}`." in err


def test_nothing_of_the_command_is_on_the_import_path_of_the_app() -> None:
    script = (
        "import sys, function_app\n"
        "of_the_command = {'cli', 'local', 'rich', 'jmespath', 'argcomplete'}\n"
        "loaded = of_the_command & {name.partition('.')[0] for name in sys.modules}\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=PATIENCE)
