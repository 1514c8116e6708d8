"""What the command prints where the output's encoding lacks a character.

From public reports: Azure/azure-cli#21409, #26843, #21703, #14426, #28497 (cp1252 on Windows, in a pipe or a file).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.reported.azure import Azure, azure, protected

ROOT = Path(__file__).parents[2]
NAME = "データベース"


@contextmanager
def japanese() -> Iterator[Azure]:
    scenario = protected({"name": NAME, "historyDays": 1}, durations={"backup": 0, "accept": 0, "young": 0})
    scenario |= {"retryAfter": 0}
    with azure(scenario) as a:
        yield a


def run(a: Azure, *arguments: str, encoding: str = "cp1252") -> subprocess.CompletedProcess[bytes]:
    """The command as a process whose standard streams have an encoding of Windows."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AZURE_")}
    environment = {
        **kept,
        "ARM_ENDPOINT": a.url,
        "PYTHONIOENCODING": encoding,
        "PYTHONUTF8": "0",
        "TIME_SCALE": "0.01",
    }
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "cp437"])
def test_a_listing_in_json_holds_every_name(encoding: str) -> None:
    with japanese() as a:
        done = run(a, "databases", "--vault", a.vault, "--json", encoding=encoding)
    assert done.returncode == 0, done.stderr
    names = [json.loads(line)["database"] for line in done.stdout.decode("utf-8").splitlines()]
    assert NAME in names


def test_a_listing_as_a_table_escapes_what_cannot_be_written() -> None:
    with japanese() as a:
        done = run(a, "databases", "--vault", a.vault, "--no-json")
    assert done.returncode == 0, done.stderr
    assert NAME.encode("ascii", "backslashreplace").decode() in done.stdout.decode("cp1252")


def test_outcomes_keep_their_names_and_the_exit_status() -> None:
    with japanese() as a:
        flags = ("--type", "CopyOnlyFull", "--database", "*", "--vault", a.vault)
        done = run(a, "backup", *flags, "--json")
    assert done.returncode == 0, done.stderr
    (outcome,) = (json.loads(line)["data"] for line in done.stdout.decode("utf-8").splitlines())
    assert (outcome["database"], outcome["status"]) == (NAME, "succeeded")


def test_a_dry_run_shows_what_it_would_do() -> None:
    with japanese() as a:
        done = run(a, "backup", "--database", "*", "--vault", a.vault, "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["database"] for line in done.stdout.splitlines()] == [f"MSSQLSERVER/{NAME}"]
