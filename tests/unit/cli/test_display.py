"""What a person sees."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from rich.console import Console

from cli import display
from cli.following import Following
from cli.progress import InFlight
from cli.request_lines import read_request_lines


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0 s"), (59.9, "59 s"), (61, "1 min 1 s"), (3600, "1 h 0 min"), (100_000, "1 d 3 h")],
)
def test_durations(seconds: float, expected: str) -> None:
    assert display.spoken(timedelta(seconds=seconds)) == expected


def test_the_live_table_shows_step_age_job_and_percentage_and_bounds_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(
        display, "Console", lambda **_: Console(file=screen, force_terminal=True, width=120, height=20)
    )
    shown = display.LiveDisplay()
    following = Following(
        read_request_lines(
            [b'{"specversion":"1.0","type":"sqlvmbackup.backup.requested.v1","source":"/s","id":"nightly"}']
        )
    )
    moving = [
        InFlight(
            source="/s",
            request_id="nightly",
            operation="backup",
            database=f"MSSQLSERVER/db{number}\x1b[31m",
            step="trigger_backup",
            age=timedelta(seconds=75),
            job_id="0123456789",
            percent=40.0,
        )
        for number in range(50)
    ]
    shown.refresh(following, moving)
    shown.close()
    text = screen.getvalue()
    assert "backup nightly" in text
    assert "backup job 01234567" in text
    assert "1 min 15 s" in text
    assert "40 %" in text
    assert "more" in text
    # What others have named does not reach the terminal as commands.
    assert "\x1b[31m" not in text


def test_a_narrow_live_table_cuts_names_and_never_what_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(
        display, "Console", lambda **_: Console(file=screen, force_terminal=True, width=80, height=24)
    )
    shown = display.LiveDisplay()
    moving = [
        InFlight(
            source="/s",
            request_id="a-request-with-a-long-id-of-its-own",
            operation="backup",
            database=f"sqlvm{number}/MSSQLSERVER/" + "a_database_with_a_name_that_is_long" * number,
            step="trigger_backup",
            age=timedelta(minutes=11, seconds=59),
            job_id="0123456789",
            percent=100.0,
        )
        for number in (1, 2)
    ]
    shown.refresh(Following([]), moving)
    shown.close()
    rows = [line for line in screen.getvalue().splitlines() if "sqlvm" in line]
    assert {row[row.index("sqlvm") :][:6] for row in rows} == {"sqlvm1", "sqlvm2"}
    for row in rows:
        for whole in ("backup job 01234567", "11 min 59 s", "100 %"):
            assert whole in row


@pytest.mark.parametrize("width", [80, 120])
def test_a_live_table_with_nothing_on_its_way(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(
        display, "Console", lambda **_: Console(file=screen, force_terminal=True, width=width, height=24)
    )
    shown = display.LiveDisplay()
    shown.refresh(Following(read_request_lines([b"no request"])), [])
    shown.close()
    assert "waiting" in screen.getvalue()


@pytest.mark.parametrize(("width", "status_shown"), [(80, False), (120, True)])
def test_a_listing_on_a_narrow_terminal_breaks_no_word_that_is_looked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int, status_shown: bool
) -> None:
    monkeypatch.setattr(display, "_console", lambda: Console(width=width, highlight=False))
    columns = ("vm", "instance", "database", "state", "policy", "lastBackup", "lastBackupStatus")
    cells = (
        "sqlvm1",
        "MSSQLSERVER",
        "billing",
        "Protected",
        "HourlyLogBackup",
        "2026-01-06T02:00:20Z",
        "Healthy",
    )
    row = dict(zip(columns, cells, strict=True))
    display.print_rows(columns, [row], as_json=False, nothing="", spared=("lastBackupStatus",))
    line = capsys.readouterr().out.splitlines()[1]
    for whole in ("sqlvm1", "MSSQLSERVER", "billing", "Protected", "2026-01-06T02:00:20Z"):
        assert f"{whole} " in f"{line} "
    assert ("Healthy" in line) == status_shown
