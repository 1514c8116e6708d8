"""Results in each format, on terminals of each width and in pipes of each encoding."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from cli import output, results
from cli.awaited_requests import AwaitedRequests
from cli.encoding import escape_what_cannot_be_written
from cli.errors import CommandError
from cli.left_out import LeftOut
from cli.output import Format, Output, output_of, print_rows
from cli.results import print_outcomes
from tests.unit.cli.test_display import awaited, event

TABLE = Output(format=Format.TABLE)
COLUMNS = ("vm", "instance", "database", "state", "policy", "lastBackup", "lastBackupStatus")
CELLS = (
    "sqlvm1",
    "MSSQLSERVER",
    "billing",
    "Protected",
    "HourlyLogBackup",
    "2026-01-06T02:00:20Z",
    "Unhealthy",
)
ROW = dict(zip(COLUMNS, CELLS, strict=True))
SPARED = ("policy", "lastBackup", "state")

Wide = Callable[[int], None]


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> Wide:
    """A terminal of so many columns and 24 lines, as far as tables go."""

    def of(columns: int) -> None:
        for module in (output, results):
            monkeypatch.setattr(
                module,
                "console",
                lambda: Console(width=columns, height=24, highlight=False, color_system=None),
            )
            monkeypatch.setattr(f"{module.__name__}.sys.stdout.isatty", lambda: True)

    return of


@pytest.mark.parametrize(
    ("columns", "shown", "left_away"),
    [
        (160, CELLS, ()),
        (80, ("sqlvm1", "MSSQLSERVER", "billing", "Unhealthy"), ("HourlyLogBackup",)),
        (45, ("sqlvm1/MSSQLSERVER/", "Unhealthy"), ("Protected",)),
        (40, CELLS, ()),
    ],
)
def test_the_name_and_how_it_is_go_last(
    wide: Wide,
    columns: int,
    shown: tuple[str, ...],
    left_away: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    wide(columns)
    print_rows(COLUMNS, [ROW], TABLE, nothing="", spared=SPARED, name=("vm", "instance", "database"))
    out, told = capsys.readouterr()
    assert all(text in out for text in shown)
    assert not any(text in out for text in left_away)
    assert max(map(len, out.splitlines())) <= columns
    # What a person does not see is named, and how to see it.
    names = [name for name, cell in ROW.items() if cell not in out]
    assert all(name in told for name in names)
    assert (f"to fit in {columns} columns" in told) == bool(left_away)


def test_where_there_is_no_room_side_by_side_nothing_is_cut(
    wide: Wide, capsys: pytest.CaptureFixture[str]
) -> None:
    wide(40)
    points = [{"kind": "log range", "from": "2026-01-02T18:00:42Z", "to": "2026-01-05T15:00:44Z"}] * 2
    print_rows(("kind", "from", "to"), points, TABLE, nothing="")
    assert capsys.readouterr().out.splitlines()[:4] == [
        "kind: log range",
        "from: 2026-01-02T18:00:42Z",
        "to: 2026-01-05T15:00:44Z",
        "",
    ]


def test_what_is_written_line_by_line_leaves_nothing_out(
    wide: Wide, capsys: pytest.CaptureFixture[str]
) -> None:
    wide(40)
    point = {
        "name": "12345",
        "kind": "log range",
        "from": "2026-01-02T18:00:42Z",
        "to": "2026-01-05T15:00:44Z",
    }
    print_rows(tuple(point), [point], TABLE, nothing="", spared=("name",))
    out, told = capsys.readouterr()
    assert out.splitlines() == [f"{column}: {cell}" for column, cell in point.items()]
    assert told == ""


def test_words_that_are_read_or_copied_whole_are_not_broken(
    wide: Wide, capsys: pytest.CaptureFixture[str]
) -> None:
    job = "0ec4824d-230a-4896-9ed4-8e8f265d3a6d"
    for columns in (40, 60, 80):
        wide(columns)
        row = {"status": "Completed", "took": "2 min 0 s", "description": ("Backup of orders", f"  {job}")}
        print_rows(("status", "took", "description"), [row], TABLE, nothing="")
        assert job in capsys.readouterr().out
        words = {"database": "sqlvm1/MSSQLSERVER/orders", "status": "IRPending", "policy": "HourlyLogBackup"}
        print_rows(("database", "status", "policy"), [words], TABLE, nothing="")
        out = capsys.readouterr().out
        assert all(text in out for text in words.values())
        assert max(map(len, out.splitlines())) <= columns


def test_a_line_break_in_a_name_is_none_on_the_screen(wide: Wide, capsys: pytest.CaptureFixture[str]) -> None:
    wide(80)
    print_rows(("name", "takes"), [{"name": "a\nb", "takes": ("Full", "Log\nc")}], TABLE, nothing="")
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["name", "takes"],
        ["a\\nb", "Full"],
        ["Log\\nc"],
    ]


def written(rows: list[dict[str, Any]], format_: str, query: str | None = None) -> None:
    options = argparse.Namespace(output=format_, query=query, failed_only=False)
    print_rows(("database", "status"), rows, output_of(options), nothing="There is none.")


ROWS: list[dict[str, Any]] = [
    {"database": "it's, a\tdb", "status": "failed", "job": {"id": "1"}},
    {"database": "日本", "status": "succeeded", "job": None},
]


def test_formats(capsys: pytest.CaptureFixture[str]) -> None:
    written(ROWS, "json")
    assert json.loads(capsys.readouterr().out) == ROWS
    written(ROWS, "jsonl")
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == ROWS
    written(ROWS, "csv")
    names, *cells = csv.reader(io.StringIO(capsys.readouterr().out))
    assert names == ["database", "status", "job"]
    assert cells == [["it's, a\\tdb", "failed", '{"id":"1"}'], ["日本", "succeeded", ""]]
    # As `az` has it: without names, and a cell holds no tab.
    written(ROWS, "tsv")
    assert [line.count("\t") for line in capsys.readouterr().out.splitlines()] == [2, 2]


def test_no_cell_of_csv_is_a_formula(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = ["=cmd|'/c calc'!A1", "+1+1", "-2+3", "@SUM(1)", " =1", "\uff1d1"]
    written([{"database": name, "seconds": -1.5} for name in hostile], "csv")
    _, *cells = csv.reader(io.StringIO(capsys.readouterr().out))
    assert cells == [[f"'{name}", "-1.5"] for name in hostile]
    # A script reads names as they are from the others.
    written([{"database": "=x"}], "tsv")
    assert capsys.readouterr().out == "=x\n"


@pytest.mark.parametrize(
    ("query", "format_", "expected"),
    [
        ("[].database", "tsv", "it's, a\\tdb\n日本\n"),
        ("[?status=='failed'].[status, job.id]", "tsv", "failed\t1\n"),
        ("length(@)", "json", "2\n"),
        ("[?status=='none']", "csv", ""),
        ("[].{s: status}", "csv", "s\nfailed\nsucceeded\n"),
        ("[].{s: status}", "table", "s\nfailed\nsucceeded\n"),
        ("[0].status", "tsv", "failed\n"),
    ],
)
def test_queries(query: str, format_: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    written(ROWS, format_, query)
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize("query", ["[", "foo(", ""])
def test_a_query_that_is_none_is_told_with_one_that_fits_any_result(
    query: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CommandError, match=r"--query: .* is no JMESPath expression .* for example") as told:
        output_of(argparse.Namespace(output=None, query=query))
    example = str(told.value).partition("for example --query '")[2].partition("'")[0]
    for row in ({"database": "orders"}, event("succeeded", "orders")):
        written([row], "json", example)
        assert json.loads(capsys.readouterr().out) == row


def test_a_query_that_does_not_apply_is_named() -> None:
    with pytest.raises(CommandError, match="--query: it does not apply to these results"):
        written(ROWS, "json", "sum([].database)")


def test_where_there_is_nothing_it_is_said_and_programs_get_an_empty_list(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for format_, out in (("json", "[]\n"), ("jsonl", ""), ("csv", "")):
        written([], format_)
        assert capsys.readouterr() == (out, "There is none.\n")


@pytest.mark.parametrize("format_", list(Format))
def test_an_output_that_is_not_utf_8_gets_escapes(format_: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(pipe, encoding="cp1252", newline=""))
    escape_what_cannot_be_written()
    written(ROWS, format_.value)
    text = pipe.getvalue().decode("cp1252")
    assert "\\u65e5\\u672c" in text
    if format_ is Format.JSON:
        assert json.loads(text) == ROWS


def fleet(failures: list[dict[str, Any]], total: int = 500) -> AwaitedRequests:
    requests = awaited("nightly")
    requests.observe(
        event("accepted", outcomeCount=total, skipped={"systemDatabase": 2}, skippedNames=["a", "b"])
    )
    for number, error in enumerate(failures):
        job = {"id": f"{number:08}-0735-4b62-bf5a-d32623dd6065"}
        requests.observe(event("failed", f"bad{number}", outcomeCount=total, error=error, job=job))
    for number in range(total - len(failures)):
        requests.observe(event("succeeded", f"db{number}", outcomeCount=total, durationSeconds=120.0))
    return requests


def failure(code: str) -> dict[str, Any]:
    return {
        "code": code,
        "message": f"Azure Backup is not able to connect to the SQL instance {code}. (error 400032)",
        "recommendations": ["Make NT SERVICE\\AzureWLBackupPluginSvc a member of sysadmin on the instance."],
    }


@pytest.mark.parametrize("codes", [["UserErrorSameForAll"] * 5, [f"UserErrorOfItsOwn{n}" for n in range(5)]])
def test_the_last_screen_shows_five_failures_of_five_hundred_and_the_sums(
    wide: Wide, codes: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    wide(80)
    print_outcomes(fleet([failure(code) for code in codes]), TABLE)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    screen = " ".join(line.strip() for line in lines[-23:])
    for number, code in enumerate(codes):
        assert f"sqlvm1/PROD/bad{number}" in screen
        assert code in screen
        assert "(error 400032)" in screen
    assert screen.count("AzureWLBackupPluginSvc") == len(set(codes))
    assert lines[-1] == "Backup of 500 databases: 495 succeeded, 5 failed."


def test_failed_only_leaves_out_what_succeeded_and_not_the_sums(
    wide: Wide, capsys: pytest.CaptureFixture[str]
) -> None:
    wide(80)
    print_outcomes(fleet([failure("Bad")]), Output(format=Format.TABLE, failed_only=True))
    out = capsys.readouterr().out
    assert "db7" not in out
    assert "bad0" in out
    assert "495" not in out
    assert out.endswith("Backup of 500 databases: 499 succeeded, 1 failed.\n")


def test_a_program_gets_events_and_a_person_the_sums(capsys: pytest.CaptureFixture[str]) -> None:
    print_outcomes(fleet([failure("Bad")], total=3), Output(format=Format.JSONL))
    out, err = capsys.readouterr()
    assert [json.loads(line)["data"]["status"] for line in out.splitlines()] == [
        "succeeded",
        "succeeded",
        "failed",
    ]
    assert err == "Backup of 3 databases: 2 succeeded, 1 failed.\n"


def test_flat_outcomes_have_code_and_place(capsys: pytest.CaptureFixture[str]) -> None:
    print_outcomes(fleet([failure("Bad")], total=1), Output(format=Format.CSV))
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["vm"], row["instance"], row["database"]) == ("sqlvm1", "PROD", "bad0")
    assert (row["status"], row["errorCode"]) == ("failed", "Bad")


def test_what_is_left_out_is_counted_and_named(wide: Wide, capsys: pytest.CaptureFixture[str]) -> None:
    wide(80)
    left_out = [
        LeftOut("systemDatabase", 2, ("PROD/master", "PROD/msdb")),
        LeftOut("notProtected", 1, ("x",)),
    ]
    print_outcomes(fleet([], total=1), TABLE, left_out=left_out)
    out = capsys.readouterr().out
    assert "Left out: 2 system databases (includeSystem takes them): PROD/master, PROD/msdb." in " ".join(
        out.split()
    )
    assert "Left out: 1 not protected: x." in out
    assert out.endswith("Backup of 1 database: 1 succeeded; 3 left out.\n")
    # A program's output has only the outcomes, so it is named beside them.
    print_outcomes(fleet([], total=1), Output(format=Format.JSONL), left_out=left_out)
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert err.splitlines() == [
        "Left out: 2 system databases (includeSystem takes them): PROD/master, PROD/msdb.",
        "Left out: 1 not protected: x.",
        "Backup of 1 database: 1 succeeded; 3 left out.",
    ]


def test_a_run_that_was_interrupted_says_how_many_have_not_ended(capsys: pytest.CaptureFixture[str]) -> None:
    requests = awaited("nightly")
    requests.observe(event("accepted", outcomeCount=9))
    requests.observe(event("succeeded", "orders", outcomeCount=9))
    print_outcomes(requests, Output(format=Format.JSONL))
    assert capsys.readouterr().err == "Backup of 9 databases: 1 succeeded, 8 not ended.\n"


@pytest.mark.parametrize("columns", [40, 80, 160])
def test_a_restore_says_where_it_goes_whether_it_succeeds_or_not(
    wide: Wide, columns: int, capsys: pytest.CaptureFixture[str]
) -> None:
    wide(columns)
    target = {"kind": "alternate", "vmId": "/x/sqlvm2", "instance": "PROD", "database": "copy"}
    point = {"name": "1", "kind": "Full", "time": "2026-01-05T08:00:00Z"}
    for status in ("succeeded", "failed"):
        requests = awaited("nightly")
        requests.observe(event(status, "orders", outcomeCount=1, target=target, recoveryPoint=point))
        print_outcomes(requests, TABLE)
        shown = "".join(line.strip() for line in capsys.readouterr().out.splitlines())
        assert "sqlvm2/PROD/copy" in shown
