"""What a person sees of a run while it goes on."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from cli import display
from cli.awaited_requests import AwaitedRequests, Observed
from cli.embedded import EmbeddedApp, messages_in
from cli.progress import NOTHING_MOVES, InFlight, Moving, Progress, Stopwatch, in_flight
from cli.request_lines import read_request_lines
from cli.wording import spoken
from local.broker import Broker
from shared.bus import OutgoingMessage
from shared.bus.topology import TRACK

Screen = Callable[..., tuple[display.LiveDisplay, io.StringIO]]
SOURCE = "/s"


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    def opened(width: int, height: int = 24) -> tuple[display.LiveDisplay, io.StringIO]:
        written = io.StringIO()
        monkeypatch.setattr(
            display,
            "Console",
            lambda **_: Console(file=written, force_terminal=True, width=width, height=height),
        )
        return display.LiveDisplay(), written

    return opened


def awaited(*ids: str) -> AwaitedRequests:
    lines = [
        json.dumps(
            {"specversion": "1.0", "type": "sqlvmbackup.backup.requested.v1", "source": SOURCE, "id": one}
        ).encode()
        for one in ids
    ]
    return AwaitedRequests(read_request_lines(lines))


def event(kind: str, database: str | None = None, request: str = "nightly", **data: Any) -> dict[str, Any]:
    named = {"outcomeKey": "request"}
    if database is not None:
        named = {"outcomeKey": database, "database": database, "instance": "PROD", "vmId": "/x/sqlvm1"}
    common = {"requestSource": SOURCE, "requestId": request, "epoch": 0, "status": kind}
    identity = f"{request}-{kind}-{database}"
    whole = {**common, **named, "outcomeCount": 2, **data}
    return {"id": identity, "type": f"sqlvmbackup.backup.{kind}.v1", "data": whole}


def seen(requests: AwaitedRequests, *events: dict[str, Any]) -> list[Observed]:
    return [found for one in events if (found := requests.observe(one)) is not None]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0 s"), (59.9, "59 s"), (61, "1 min 1 s"), (3600, "1 h 0 min"), (100_000, "1 d 3 h")],
)
def test_durations(seconds: float, expected: str) -> None:
    assert spoken(timedelta(seconds=seconds)) == expected


def moving(name: Callable[[int], str], numbers: range, *, total: int | None = None) -> Moving:
    shown = [
        InFlight(
            source=SOURCE,
            request_id="nightly",
            operation="backup",
            database=name(number),
            step="trigger_backup",
            age=timedelta(minutes=11, seconds=59),
            job_id="0123456789",
            percent=40.0,
        )
        for number in numbers
    ]
    return Moving(shown, len(shown) if total is None else total)


def test_the_live_table_shows_step_age_job_and_percentage_and_bounds_itself(screen: Screen) -> None:
    shown, written = screen(120, 20)
    many = moving(lambda number: f"MSSQLSERVER/db{number}\x1b[31m", range(20), total=2500)
    shown.refresh(
        awaited("nightly"),
        many,
        Progress(total=2500, ended=120, failed=3, running=200, elapsed=timedelta(minutes=4)),
    )
    shown.close()
    text = written.getvalue()
    assert "120 of 2,500 ended, 3 failed, 200 running, 2,180 waiting; 4 min 0 s so far" in text
    assert "backup job 01234567" in text
    assert "11 min 59 s" in text
    assert "40 %" in text
    # The true number, of which only some are shown.
    rows = text.count("backup job 01234567")
    assert f"and {2500 - rows:,} more" in text
    assert rows < 20
    # The requester's words are not on each row.
    assert text.count("nightly") <= 1
    # What others have named does not reach the terminal as commands.
    assert "\x1b[31m" not in text


def test_a_request_whose_databases_are_not_known_yet_is_not_shown_as_about_all(screen: Screen) -> None:
    shown, written = screen(120)
    whole = replace(moving(str, range(1)).shown[0], operation="protect", database=None, job_id=None)
    shown.refresh(awaited("nightly"), Moving([whole], 1), Progress())
    shown.close()
    assert "(protect request)" in written.getvalue()
    assert "all" not in written.getvalue()


@pytest.mark.parametrize("width", [40, 80])
def test_a_narrow_live_table_cuts_names_and_never_what_moves(screen: Screen, width: int) -> None:
    shown, written = screen(width)
    long = moving(
        lambda number: f"sqlvm{number}/MSSQLSERVER/" + "a_database_with_a_long_name" * number, range(1, 3)
    )
    shown.refresh(awaited("a-request-with-a-long-id-of-its-own"), long, Progress())
    shown.close()
    rows = [line for line in written.getvalue().splitlines() if "sqlvm" in line]
    assert {row[row.index("sqlvm") :][:6] for row in rows} == {"sqlvm1", "sqlvm2"}
    if width == 80:
        for row in rows:
            for whole in ("backup job 01234567", "11 min 59 s", "40 %"):
                assert whole in row


def test_a_database_that_goes_from_step_to_step_is_shown_once() -> None:
    request = {"operation": "backup", "source": SOURCE, "id": "nightly"}
    began = "2026-01-05T08:00:00Z"

    def between(name: str, step: str) -> dict[str, Any]:
        task = {"database": {"instance": "PROD", "name": name}}
        content = {"step": step, "since": began, "request": request, "payload": task}
        if step != TRACK:
            return content
        return {**content, "payload": {"payload": task, "of": {}, "origin": "trigger_backup", "began": began}}

    with Broker(None) as broker:
        for name, queue, step in (
            ("payroll", TRACK, TRACK),
            ("payroll", "trigger-backup", "trigger_backup"),
            ("orders", "trigger-backup", "trigger_backup"),
        ):
            body = json.dumps(between(name, step)).encode()
            broker.send(queue, [OutgoingMessage(entity=queue, body=body, message_id=f"{name}{queue}")])
        app = SimpleNamespace(
            broker=broker,
            messages=lambda queue, most: list(messages_in(broker, queue))[:most],
            runtime=SimpleNamespace(service_clock=SimpleNamespace(is_known=False)),
        )
        found = in_flight(cast("EmbeddedApp", app), 10)
    assert [one.database for one in found.shown] == ["PROD/payroll", "PROD/orders"]
    assert found.total == 2


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_live_table_with_nothing_on_its_way(screen: Screen, width: int) -> None:
    shown, written = screen(width)
    shown.refresh(awaited("1"), NOTHING_MOVES, Progress(elapsed=timedelta(seconds=3)))
    shown.close()
    assert "waiting; 3 s so far" in written.getvalue()
    assert "database" not in written.getvalue()


def test_a_terminal_that_has_changed_its_size_is_cleared_and_keeps_the_notes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=100, height=24)
    monkeypatch.setattr(display, "Console", lambda **_: console)
    shown = display.LiveDisplay()
    shown.note("backup nightly: accepted")
    console.width = 50
    shown.refresh(awaited("nightly"), NOTHING_MOVES, Progress())
    shown.close()
    after = written.getvalue().partition("\x1b[2J")[2]
    assert "backup nightly: accepted" in after


def test_what_is_accepted_is_told_before_what_cannot_be_done(capsys: pytest.CaptureFixture[str]) -> None:
    requests = awaited("nightly")
    shown = display.display(requests=1)
    error = {"code": "DatabaseNotFound", "message": "there is no database PROD/nope."}
    # The topic gives them in the order in which they were published.
    shown.observed(seen(requests, event("failed", "nope", error=error)))
    shown.observed(seen(requests, event("accepted")))
    shown.observed(seen(requests, event("started", "orders"), event("succeeded", "orders")))
    shown.close()
    assert capsys.readouterr().err.splitlines() == [
        "backup nightly: accepted, 1 database, and 1 that cannot be done",
        "sqlvm1/PROD/nope failed: DatabaseNotFound: there is no database PROD/nope.",
        "sqlvm1/PROD/orders started",
        "sqlvm1/PROD/orders succeeded",
    ]


def test_what_needed_no_job_is_not_told_as_what_cannot_be_done(capsys: pytest.CaptureFixture[str]) -> None:
    requests = awaited("nightly")
    shown = display.display(requests=1)
    shown.observed(seen(requests, event("accepted"), event("succeeded", "orders")))
    shown.close()
    assert capsys.readouterr().err.splitlines() == [
        "backup nightly: accepted, 2 databases",
        "sqlvm1/PROD/orders succeeded",
    ]


def test_a_request_that_is_refused_is_told_without_an_acceptance(capsys: pytest.CaptureFixture[str]) -> None:
    requests = awaited("nightly", "hourly")
    shown = display.display(requests=2)
    shown.observed(seen(requests, event("failed", error={"code": "VaultNotFound", "message": "no vault."})))
    shown.close()
    refusal = event("failed", request="hourly", status="rejected", error={"code": "X", "message": "no."})
    refusal["id"] = requests.requests[1].line.refusal_ids(0)[0]
    shown.observed(seen(requests, refusal))
    shown.close()
    assert capsys.readouterr().err.splitlines() == [
        "backup nightly: the request failed: VaultNotFound: no vault.",
        "backup hourly: the request was rejected: X: no.",
    ]


def test_a_log_gets_the_sums_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    at = [0.0]
    shown = display.PlainDisplay(display._Lines(several=False, reword=str), now=lambda: at[0])
    for seconds in (0.0, 59.0, 61.0, 100.0, 122.0):
        at[0] = seconds
        progress = Progress(total=9, ended=1, running=8, elapsed=timedelta(seconds=seconds))
        shown.refresh(awaited("nightly"), NOTHING_MOVES, progress)
    assert capsys.readouterr().err.splitlines() == [
        "1 of 9 ended, 8 running; 1 min 1 s so far",
        "1 of 9 ended, 8 running; 2 min 2 s so far",
    ]


def test_how_long_it_takes_yet_follows_the_durations_so_far() -> None:
    requests = awaited("nightly")
    names = [f"db{number}" for number in range(20)]
    requests.observe(event("accepted", outcomeCount=20))
    watch = Stopwatch(requests, scale=0.5, began=100.0)
    watch.begin()
    # Of a service whose seconds are half as long as here.
    assert watch.progress(110.0).elapsed == timedelta(seconds=20)
    for name in names[:10]:
        requests.observe(event("started", name, outcomeCount=20))
    assert watch.progress(110.0).remaining is None
    for name in names[:5]:
        requests.observe(event("succeeded", name, outcomeCount=20, durationSeconds=60.0))
    progress = watch.progress(160.0)
    assert (progress.total, progress.ended, progress.running, progress.waiting) == (20, 5, 5, 10)
    # Ten began in 120 s, so that the last of ten that wait begins as much later, and takes a minute.
    assert progress.remaining == timedelta(seconds=180)


def test_what_an_earlier_run_has_done_tells_nothing_of_the_pace() -> None:
    requests = awaited("nightly")
    requests.observe(event("accepted", outcomeCount=20))
    for number in range(10):
        requests.observe(event("started", f"db{number}", outcomeCount=20))
        requests.observe(event("succeeded", f"db{number}", outcomeCount=20, durationSeconds=60.0))
    watch = Stopwatch(requests, scale=1.0, began=0.0)
    watch.begin()
    progress = watch.progress(1.0)
    assert (progress.ended, progress.waiting, progress.remaining) == (10, 10, None)
