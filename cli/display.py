"""What a person, or a program, sees of a run: progress on standard error, results on standard output.

A terminal gets a live table and a table of outcomes; a pipe gets plain lines of progress and a JSON line an
outcome.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, Final, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.encoding import json_text
from cli.following import FollowedRequest, Following, Observed
from cli.progress import InFlight
from cli.request_lines import request_key, request_label
from shared.arm.redaction import printable

#: Wide enough for a job id beside a sentence, where no terminal says how wide it is.
_PLAIN_WIDTH: Final = 160
#: From this many columns on, an outcome is one line.
_WIDE: Final = 130
#: From this many columns on, there is room to say which request a database on its way belongs to.
_ROOMY: Final = 100
#: Columns of ids, words and moments, which no terminal is too narrow for.
_WHOLE: Final = frozenset(
    {
        "job",
        "status",
        "took",
        "request",
        "would",
        "instance",
        "state",
        "lastBackup",
        "number",
        "queue",
        "reason",
    }
)
_STYLES: Final = {
    "succeeded": "green",
    "succeededWithWarnings": "yellow",
    "skipped": "yellow",
}

#: So many databases that are passed over are named in a line.
_MOST_NAMES: Final = 10

JsonObject = dict[str, Any]


class Display(Protocol):
    """Shows a run while it goes on."""

    def observed(self, observed: Observed) -> None:
        """An event has arrived."""
        ...

    def refresh(self, following: Following, moving: Sequence[InFlight]) -> None:
        """Time has passed."""
        ...

    def note(self, text: str) -> None:
        """Something worth a line."""
        ...

    def close(self) -> None:
        """The run is over."""
        ...


def is_terminal() -> bool:
    """Whether a person sees the progress."""
    return sys.stderr.isatty()


def display() -> Display:
    """A live table on a terminal, plain lines elsewhere."""
    return LiveDisplay() if is_terminal() else PlainDisplay()


class PlainDisplay:
    """A line an event."""

    def observed(self, observed: Observed) -> None:
        self.note(_line(observed))

    def refresh(self, following: Following, moving: Sequence[InFlight]) -> None:
        pass

    def note(self, text: str) -> None:
        print(printable(text), file=sys.stderr, flush=True)

    def close(self) -> None:
        pass


class LiveDisplay:
    """A table that is drawn over and over: the requests, and what is on its way."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)
        self._live.start()

    def observed(self, observed: Observed) -> None:
        # Databases are rows of the table; what is final is told once more at the end.
        if observed.kind == "accepted":
            self.note(_line(observed))

    def refresh(self, following: Following, moving: Sequence[InFlight]) -> None:
        room = self._room(len(following.requests))
        self._live.update(
            Group(_requests(following, moving), _moving(moving, room, width=self._console.width))
        )

    def _room(self, requests: int) -> int:
        return max(3, self._console.size.height - min(requests, 10) - 8)

    def note(self, text: str) -> None:
        self._live.console.print(Text(printable(text)))

    def close(self) -> None:
        self._live.stop()


def _line(observed: Observed) -> str:
    label, data = observed.request.line.label, observed.event["data"]
    if observed.kind == "accepted":
        skipped = sum(data.get("skipped", {}).values())
        more = f", {skipped} skipped ({_reasons(data['skipped'])}){_names(data, skipped)}" if skipped else ""
        return f"{label}: accepted, {_count(data['outcomeCount'], 'database')}{more}"
    job = data.get("job", {}).get("id")
    named = f" (job {job})" if job else ""
    if observed.kind == "started":
        return f"{label}: {_place(data)} started{named}"
    error = data.get("error", {}).get("message")
    return f"{label}: {_place(data)} {data['status']}{named}{f': {error}' if error else ''}"


def _reasons(reasons: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in reasons.items())


def _names(data: JsonObject, skipped: int) -> str:
    shown = data.get("skippedNames", [])[:_MOST_NAMES]
    more = f" and {skipped - len(shown)} more" if shown and skipped > len(shown) else ""
    return f": {', '.join(shown)}{more}" if shown else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _place(data: JsonObject) -> str:
    if data.get("database") is None:
        return "the request"
    parent = data.get("instance") or data.get("availabilityGroup") or ""
    machine = str(data.get("vmId") or "").rpartition("/")[2]
    return "/".join(part for part in (machine, parent, data["database"]) if part)


def _requests(following: Following, moving: Sequence[InFlight]) -> Table:
    under_way = {request_key(one.operation, one.source, one.request_id) for one in moving}
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    open_requests = [request for request in following.requests if not request.complete]
    shown = (open_requests + [r for r in following.requests if r.complete])[:10]
    for request in shown:
        table.add_row(
            Text(printable(request.line.label, limit=60)),
            _summary(request, under_way=request.line.key in under_way),
        )
    if len(following.requests) > len(shown):
        table.add_row(Text(f"and {len(following.requests) - len(shown)} more requests"), "")
    return table


def _summary(request: FollowedRequest, *, under_way: bool) -> Text:
    outcomes = request.final_outcomes()
    statuses = Counter(outcome["data"]["status"] for outcome in outcomes)
    if request.outcome_count is None:
        return Text("under way" if under_way else "waiting")
    done = Text(f"{len(outcomes)} of {request.outcome_count} done")
    for status, count in statuses.items():
        done.append(f"  {count} {status}", style=_STYLES.get(status, "red"))
    return done


def _moving(moving: Sequence[InFlight], room: int, *, width: int) -> Table:
    rows = [
        [
            one.database or "(all)",
            request_label(one.operation, one.request_id),
            one.doing,
            spoken(one.age),
            f"{one.percent:.0f} %" if one.percent is not None else "",
        ]
        for one in moving[:room]
    ]
    names = ["database", "request", "at", "for", "done"]
    if width < _ROOMY:
        names.remove("request")
        for row in rows:
            del row[1]
    # What moves is never cut: only names are.
    whole = [max(map(len, (name, *cells))) for name, *cells in zip(names, *rows, strict=True)][-3:]
    left = max(20, width - sum(whole) - 2 * len(names))
    limits = [left] if width < _ROOMY else [left * 2 // 3, left // 3]
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    for row in rows:
        clipped = [printable(text, limit=limit) for text, limit in zip(row, limits, strict=False)]
        table.add_row(*map(Text, [*clipped, *map(printable, row[len(limits) :])]))
    if len(moving) > room:
        table.add_row(Text(f"and {len(moving) - room} more"), *("" for _ in names[1:]))
    return table


def spoken(duration: timedelta) -> str:
    """A duration for people: `42 s`, `5 min 3 s`, `2 h 5 min`, `3 d 4 h`."""
    seconds = int(duration.total_seconds())
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    if seconds < 86400:
        return f"{seconds // 3600} h {seconds % 3600 // 60} min"
    return f"{seconds // 86400} d {seconds % 86400 // 3600} h"


def json_lines(wanted: bool | None) -> bool:
    """Whether results are JSON lines: where asked for, and where no person reads them."""
    return not sys.stdout.isatty() if wanted is None else wanted


def print_outcomes(outcomes: Iterable[JsonObject], *, as_json: bool) -> None:
    """The outcomes, on standard output: a JSON line each, or a table."""
    if as_json:
        for outcome in outcomes:
            print(json_text(outcome, separators=(",", ":")))
        sys.stdout.flush()
        return
    rows = [tuple(map(printable, _row(outcome))) for outcome in outcomes]
    if not rows:
        return
    if _console().width >= _WIDE:
        print_table(("request", "database", "status", "took", "job", "remarks"), rows, status_column=2)
        return
    stacked = [
        (operation, "\n  ".join(filter(None, (place, f"job {job}" if job else "", remarks))), status, took)
        for operation, place, status, took, job, remarks in rows
    ]
    print_table(("request", "database", "status", "took"), stacked, status_column=2)


def _row(outcome: JsonObject) -> tuple[str, ...]:
    data = outcome["data"]
    operation = str(outcome["type"]).split(".")[1]
    seconds = data.get("durationSeconds")
    return (
        operation,
        _place(data),
        data["status"],
        spoken(timedelta(seconds=seconds)) if isinstance(seconds, int | float) else "",
        data.get("job", {}).get("id", ""),
        "; ".join(_remarks(data)),
    )


def _remarks(data: JsonObject) -> Iterable[str]:
    if "error" in data:
        yield data["error"]["message"]
        yield from data["error"].get("recommendations", ())
    yield from data.get("warnings", ())
    if data.get("status") not in _STYLES:
        return
    if data.get("operation") == "protect" and data.get("policyName"):
        yield f"policy {data['policyName']}"
    if data.get("backupType"):
        until = f", kept until {data['retainUntil'][:10]}" if data.get("retainUntil") else ""
        yield f"{data['backupType']}{until}"
    target = data.get("target")
    if isinstance(target, dict) and data.get("recoveryPoint"):
        yield f"{data['recoveryPoint']['time']} to {restored_to(data)}"


def restored_to(data: JsonObject) -> str:
    """Where a restore goes: a name or a path, behind the VM and the instance where those are not the source's."""
    target = data["target"]
    if target["kind"] == "original":
        return "the original"
    machine = str(target["vmId"])
    same_machine = machine.lower() == str(data.get("vmId", "")).lower()
    vm = "" if same_machine else machine.rpartition("/")[2]
    if target["kind"] == "files":
        return f"{target['path']} on {vm}" if vm else str(target["path"])
    same_instance = same_machine and str(target["instance"]).lower() == str(data.get("instance", "")).lower()
    instance = "" if same_instance else str(target["instance"])
    return "/".join(part for part in (vm, instance, target.get("database")) if part)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH, highlight=False)


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, status_column: int | None = None
) -> None:
    """A table on standard output."""
    console = _console()
    table = Table(header_style="bold", box=None, padding=(0, 2, 0, 0))
    for column in columns:
        # Ids are there to be copied: they are not broken into lines.
        table.add_column(column, overflow="fold", no_wrap=column in _WHOLE)
    for row in rows:
        cells = [Text("\n".join(map(printable, cell.split("\n")))) for cell in row]
        if status_column is not None:
            cells[status_column].stylize(_STYLES.get(row[status_column], "red"))
        table.add_row(*cells)
    if sys.stdout.isatty():
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    # Columns are filled up with blanks, which end in what people paste.
    print("\n".join(line.rstrip() for line in captured.get().splitlines()), flush=True)


def print_rows(
    columns: Sequence[str],
    rows: Iterable[JsonObject],
    *,
    as_json: bool,
    nothing: str,
    spared: Sequence[str] = (),
) -> None:
    """Rows of a listing, on standard output: a JSON line each, or a table of those columns.

    Args:
        columns: of the table.
        rows: what they hold, and more of it in JSON.
        as_json: whether a program reads it.
        nothing: said instead of an empty table.
        spared: columns that a narrow terminal has no room for.
    """
    rows = list(rows)
    if as_json:
        for row in rows:
            print(json_text(row))
        return
    if not rows:
        print(nothing)
        return
    if _console().width < _ROOMY:
        columns = [column for column in columns if column not in spared]
    print_table(columns, [[_cell(row.get(column)) for column in columns] for row in rows])


def _cell(value: object) -> str:
    return "" if value is None else printable(value)
