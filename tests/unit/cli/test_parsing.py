"""Options as people type them, and what is said of those that mean nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from cli.flags import in_flags
from cli.main import build_parser, main
from cli.parsing import read_duration, read_moment, read_time_zone

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("14d", "P14D"),
        ("36h", "PT36H"),
        ("90m", "PT90M"),
        ("2w", "P2W"),
        ("1d12h", "P1DT43200S"),
        ("14D", "P14D"),
        ("P45D", "P45D"),
        ("pt12h", "PT12H"),
    ],
)
def test_durations(text: str, expected: str) -> None:
    assert read_duration(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "14",
        "d",
        "14 d",
        "1.5d",
        "-3d",
        "0d",
        "P0D",
        "PT",
        "soon",
        "P1M",
        "9999999d",
        "9999999999d1h",
        "²d",
    ],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        read_duration(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-05T07:30:00Z", "2026-01-05T07:30:00Z"),
        ("2026-01-05 08:30+01:00", "2026-01-05T07:30:00Z"),
        ("2026-01-05 08:30", "2026-01-05T07:30:00Z"),
        ("2026-07-05", "2026-07-04T22:00:00Z"),
    ],
)
def test_moments(text: str, expected: str) -> None:
    assert read_moment(text, ZoneInfo("Europe/Berlin")) == expected


@pytest.mark.parametrize(
    ("text", "zone", "said"),
    [
        (
            "2026-01-05 08:30",
            None,
            "names no time zone: write 2026-01-05T08:30:00Z if it is UTC, or add --time-zone",
        ),
        ("2026-03-29 02:30", "Europe/Berlin", "does not exist in Europe/Berlin"),
        ("2026-10-25 02:30", "Europe/Berlin", "write 2026-10-25T02:30:00+02:00 or 2026-10-25T02:30:00+01:00"),
        ("yesterday", None, "expected a moment such as"),
        ("0001-01-01", "Asia/Tokyo", "expected a moment such as"),
    ],
)
def test_what_is_no_moment(text: str, zone: str | None, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        read_moment(text, ZoneInfo(zone) if zone else None)


@pytest.mark.parametrize(
    "name", ["Europe/Berlin", "europe/berlin", "W. Europe Standard Time", "w. europe standard time"]
)
def test_time_zones_are_known_by_the_names_of_either_world(name: str) -> None:
    assert read_time_zone(name).key == "Europe/Berlin"


@pytest.mark.parametrize(
    "name", ["", "Nowhere/Land", "../etc/passwd", "/etc/passwd", "Kamchatka Standard Time"]
)
def test_what_is_no_time_zone(name: str) -> None:
    with pytest.raises(ValueError, match="expected a time zone such as Europe/Berlin"):
        read_time_zone(name)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bakup"], "there is no command bakup. Did you mean backup?"),
        (["backup", "--databse", "x"], "there is no option --databse. Did you mean --database?"),
        (["backup", "--databse=x"], "Did you mean --database?"),
        (["backup", "--nonsense"], "there is no option --nonsense. (For help: sqlvmbackup backup --help)"),
        (
            ["jobs", "wait", "1", "--since", "1h"],
            "jobs wait: there is no option --since. (For help: sqlvmbackup jobs wait",
        ),
        (["policies"], "policies: expected list or show."),
        (["backup", "orders"], "orders is not expected here."),
        (["backup", "--database", "-dash"], "one that begins with a dash is given as --database=-VALUE."),
        (["backup", "--database"], "--database: expected a value"),
        (
            ["backup", "--type", "ful"],
            "expected Full, Differential, Log or CopyOnlyFull, not 'ful'. Did you mean Full?",
        ),
        (["backup", "-o", "xml"], "--output: expected table, json, jsonl, csv or tsv, not 'xml'."),
        (["protect"], "--policy: required, and not given."),
        (
            ["replay", "sned", "--state", "s"],
            "action: expected list, show or send, not 'sned'. Did you mean send?",
        ),
        (["demo", "--vms", "many"], "--vms: expected a whole number from 1 to 50, not 'many'."),
        (["restore", "--database", "a", "--latest", "full", "--before", "x"], "not allowed with"),
        (["completion", "cmd"], "expected bash, zsh, fish or powershell, not 'cmd'."),
    ],
)
def test_what_cannot_be_parsed_is_one_sentence_that_names_the_flag(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_the_bare_command_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "back up protected databases now" in capsys.readouterr().out


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("sqlvmbackup ")


def test_verbose_has_no_short_form() -> None:
    assert build_parser().parse_args(["databases", "-g", "rg", "-v", "vault1"]).vault_name == "vault1"
    assert build_parser().parse_args(["databases", "--verbose"]).verbose
    assert build_parser().parse_args(["--verbose", "databases"]).verbose


def test_options_are_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["restore", "--help"])
    text = capsys.readouterr().out
    for group in ("vault and VM:", "what it goes back to:", "where it goes:", "the request:", "output:"):
        assert group in text
    # What is not in a group is little.
    assert len(text.partition("\noptions:\n")[2].partition("\n\n")[0].splitlines()) == 2


def test_the_module_runs_as_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli", "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("sqlvmbackup ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "PowerShell"])
def test_completion_is_printed_for_each_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "sqlvmbackup" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sqlvmbackup ba", {"backup "}),
        ("sqlvmbackup backup --ex", {"--exclude "}),
        ("sqlvmbackup backup --type ", {"Full", "Differential", "Log", "CopyOnlyFull"}),
        ("sqlvmbackup databases -o ", {"table", "json", "jsonl", "csv", "tsv"}),
    ],
)
def test_a_shell_is_told_what_may_come_next(line: str, expected: set[str], tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    subprocess.run(
        [sys.executable, "-m", "cli"],
        cwd=ROOT,
        env={
            "PATH": "",
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
            "_ARGCOMPLETE_IFS": "\n",
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
        },
        check=False,
    )
    assert set(answer.read_text().split("\n")) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("set overwrite to true if that is meant.", "give --overwrite if that is meant."),
        ("set onExisting to changePolicy or keep.", "give --on-existing changePolicy or keep."),
        ("data.target.files.2.path: the setting", "--file: the setting"),
        ("A longer jobTimeout follows it", "A longer --job-timeout follows it"),
        ("the request asks to overwrite", "the request asks to overwrite"),
        ('A value that would: [{"vmId": "/x"}].', 'A value that would: [{"vmId": "/x"}].'),
        (
            "vmId is needed, except where every database is named by its availabilityGroup",
            "--vm is needed, except where every database is given with --group-database",
        ),
    ],
)
def test_messages_speak_of_flags_where_flags_were_typed(text: str, expected: str) -> None:
    assert in_flags(text) == expected
