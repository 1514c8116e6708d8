"""The README's commands as they stand, in the order given; and what the demo says comes next."""

from __future__ import annotations

import html
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from cli import demo
from cli.main import main
from docs.picture import ARGUMENTS, PICTURE
from tests.unit.docs.markdown import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
#: Clocks that are ten times as fast as those of the README and the demo: what is said is the same.
FASTER = 0.002

JsonObject = dict[str, Any]
Shell = Callable[[str], list[JsonObject]]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found: int = free.getsockname()[1]
        return found


@pytest.fixture
def shell(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
    port: int,
) -> Iterator[Shell]:
    """Gives a line as a shell does, in a folder with the samples; what it prints as lines of JSON.

    What begins in the background is a process of its own, everything else is called.
    """
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "samples").symlink_to(ROOT / "samples")
    monkeypatch.chdir(folder)
    for name in [
        name for name in os.environ if name.startswith(("AZURE_", "ARM_", "RESTORE_", "SQLVMBACKUP_"))
    ]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TRACK_INTERVAL", "PT10S")
    running: list[subprocess.Popen[str]] = []

    def give(line: str) -> list[JsonObject]:
        words = shlex.split(os.path.expandvars(line.replace("8080", str(port))), comments=True)
        if words[0] == "export":
            words = words[1:]
        if all(re.match(r"[A-Z_]+=", word) for word in words):
            for word in words:
                name, _, value = word.partition("=")
                monkeypatch.setenv(name, str(FASTER) if name == "TIME_SCALE" else value)
            return []
        if words[0] == "unset":
            for name in words[1:]:
                monkeypatch.delenv(name)
            return []
        if words == ["kill", "%1"]:
            running[0].terminate()
            assert running[0].wait(30) == 0
            return []
        assert words[0] == "sqlvmbackup", line
        if "simulator" in words:
            fast = [str(FASTER) if word == "0.02" else word for word in words[1:] if word != "&"]
            process = subprocess.Popen(
                [sys.executable, "-m", "cli", *fast], cwd=ROOT, stdout=subprocess.PIPE, text=True
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            running.append(process)
            assert process.stdout is not None
            assert "ready" in process.stdout.readline()
            return []
        capsys.readouterr()
        assert main(words[1:]) == 0, (line, capsys.readouterr().err)
        return [json.loads(text) for text in capsys.readouterr().out.splitlines() if text.startswith("{")]

    with ExitStack() as stack:
        yield give


def test_every_command_works_as_it_stands_in_the_order_given(shell: Shell) -> None:
    *commands, ending = blocks("sh")
    printed = {line: shell(line) for block in commands for line in block.splitlines() if line}

    def by(start: str) -> list[JsonObject]:
        return [
            row for line, rows in printed.items() if line.startswith(f"sqlvmbackup {start}") for row in rows
        ]

    assert [row["name"] for row in by("policies list")] == ["HourlyLogBackup"]
    assert {row["data"]["status"] for row in by("backup")} == {"succeeded"}
    assert by("databases")
    assert by("recovery-points")
    assert by("restore")[0]["data"]["target"]["database"] == "orders_copy"
    assert {row["operation"].partition(" ")[0] for row in by("jobs list")} >= {"Backup", "Restore"}
    assert [row["state"] for row in by("runs")] == ["finished"]
    assert {row["data"]["status"] for row in by("run ")} == {"succeeded"}
    # The line that the README shows is one of those that came.
    (shown,) = [json.loads(text) for text in blocks("json") if "startedBy" in text]
    assert shapes(shown) in [shapes(row) for row in by("jobs list")]
    for line in ending.splitlines():
        shell(line)


def shapes(value: Any) -> Any:
    """JSON but for what chance and time decide."""
    if isinstance(value, dict):
        return {key: shapes(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shapes(inner) for inner in value]
    if isinstance(value, str):
        return re.sub(r"[0-9a-f-]{32,}|\d{4}-\d\d-\d\dT[\d:.]+Z", "X", value)
    return value if isinstance(value, bool) else type(value).__name__


def test_the_picture_is_of_the_demo_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "TIME_SCALE", FASTER)
    assert main(list(ARGUMENTS)) == 0
    printed = capsys.readouterr().out
    lines: dict[str, str] = {}
    for y, text in re.findall(
        r'<text [^>]* y="([\d.]+)"[^>]*>(.*?)</text>', PICTURE.read_text(encoding="utf-8")
    ):
        lines[y] = lines.get(y, "") + html.unescape(text)
    assert f"$ sqlvmbackup {' '.join(ARGUMENTS)}" in " ".join(lines.values()).replace("\xa0", " ")
    assert results("\n".join(lines.values())) == results(printed)


def results(text: str) -> list[str]:
    """The lines of the table and the sum, but for what chance and time decide."""
    masked = re.sub(
        r"[0-9a-f-]{36}|\d{4}-\d\d-\d\d\S*|\(.*\)|\d+ (min|s|h)\b", "X", text.replace("\xa0", " ")
    )
    return sorted(" ".join(line.split()) for line in masked.splitlines() if "succeeded" in line)


def test_what_the_demo_says_comes_next_works_as_printed(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "TIME_SCALE", FASTER)
    monkeypatch.setattr(sys, "argv", ["/nowhere/sqlvmbackup", "demo"])
    assert main(["demo"]) == 0
    _, _, told = capsys.readouterr().err.partition("Next:\n")
    lines = [line.strip() for line in told.splitlines()]
    assert len(lines) == 3
    for line in lines:
        assert line.startswith("/nowhere/sqlvmbackup ")
        shell(line.removeprefix("/nowhere/"))
    # Where the command is found by its name, that is what is to be typed.
    monkeypatch.setattr(shutil, "which", lambda _name: "/nowhere/sqlvmbackup")
    assert main(["demo"]) == 0
    assert "\n  sqlvmbackup demo --databases 20" in capsys.readouterr().err
