"""The progress of a run, on standard error: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Final, Protocol

from rich.console import Console, Group
from rich.control import Control
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.awaited_requests import AwaitedRequest, AwaitedRequests, Observed
from cli.left_out import left_out_of
from cli.progress import Moving, Progress
from cli.request_lines import request_key
from cli.results import Reword
from cli.wording import count_of, going_to, place_of, spoken
from shared.arm.redaction import printable
from shared.messages.events import REQUEST_KEY

#: At least this many rows of a terminal show what is on its way.
_LEAST_ROOM: Final = 3
#: At most this many requests have a line of their own.
_MOST_REQUESTS: Final = 10
#: How many notes are shown again after the terminal has changed its size.
_MOST_NOTES: Final = 10
#: Seconds between two lines of sums in a log.
_BETWEEN_SUMS: Final = 60.0
#: For how many looks at the topic an outcome waits for the `accepted` that explains it.
_PATIENCE: Final = 3


#: What others do to a request, so that `the request rejected` would be read as what it did.
_DONE_TO_IT: Final = frozenset({"rejected", "skipped", "cancelled"})


class Display(Protocol):
    """Shows a run while it goes on."""

    @property
    def room(self) -> int:
        """How many databases in flight there is room for."""
        ...

    def observed(self, observed: Sequence[Observed]) -> None:
        """Show the events that one look at the topic gave, perhaps none."""
        ...

    def refresh(self, awaited: AwaitedRequests, moving: Moving, progress: Progress) -> None:
        """Redraw: time has passed."""
        ...

    def note(self, text: str) -> None:
        """Show a message on a line of its own."""
        ...

    def close(self) -> None:
        """End the display: the run is over."""
        ...


def display(*, requests: int = 1, reword: Reword = str) -> Display:
    """A live table on a terminal, plain lines elsewhere.

    Args:
        requests: how many there are; with only one, events need not name it.
        reword: rewords a message for the reader, such as with flags for fields.
    """
    lines = _Lines(several=requests > 1, reword=reword)
    return LiveDisplay(lines) if sys.stderr.isatty() else PlainDisplay(lines)


class _Lines:
    """Events as lines, in an order that makes sense: `accepted` before the outcomes of a request."""

    def __init__(self, *, several: bool, reword: Reword) -> None:
        self._several = several
        self._reword = reword
        self._held: dict[str, list[Observed]] = {}
        self._looks: dict[str, int] = {}

    def told(self, observed: Sequence[Observed], *, last: bool = False) -> Iterator[tuple[Observed, str]]:
        """Each event that can be shown now, with its line. `last`: no more events will come."""
        fresh: dict[str, list[Observed]] = {}
        for one in observed:
            fresh.setdefault(one.request.line.key, []).append(one)
        for key in list(dict.fromkeys((*self._held, *fresh))):
            events = self._held.pop(key, []) + fresh.get(key, [])
            accepted = next((one for one in events if one.kind == "accepted"), None)
            if accepted is None and events[0].request.accepted is None and not last:
                self._looks[key] = self._looks.get(key, 0) + 1
                if self._looks[key] < _PATIENCE:
                    self._held[key] = events
                    continue
            self._looks.pop(key, None)
            if accepted is not None:
                yield accepted, self._accepted(accepted, events)
            for one in events:
                if one.kind != "accepted":
                    yield one, self._line(one)

    def _accepted(self, observed: Observed, beside: Sequence[Observed]) -> str:
        data = observed.event["data"]
        started = {one.event["data"]["outcomeKey"] for one in beside if one.kind == "started"}
        ended = [one.event["data"] for one in beside if one.kind == "outcome"]
        at_once = [
            one
            for one in ended
            if one["outcomeKey"] not in started
            and not one.get("job")
            and not one["status"].startswith("succeeded")
        ]
        left_out = left_out_of(data)
        noun = "vault" if data.get("operation") == "coverage" else "database"
        text = f"accepted, {count_of(data['outcomeCount'], noun)}"
        if any(one["outcomeKey"] == REQUEST_KEY for one in ended):
            text = "accepted, and there is nothing to do"
        elif at_once:
            known = data["outcomeCount"] - len(at_once)
            text = f"accepted, {count_of(known, noun)}, and {len(at_once)} that cannot be done"
        if left_out:
            text += f"; left out: {self._reword('; '.join(map(str, left_out)))}"
        return f"{observed.request.line.label}: {text}"

    def _line(self, observed: Observed) -> str:
        label, data = observed.request.line.label, observed.event["data"]
        to = going_to(observed.request.line, data)
        before = f"{label}: " if self._several or data.get("database") is None else ""
        job = data.get("job", {}).get("id")
        named = f" (job {job})" if job else ""
        if observed.kind == "started":
            return f"{before}{place_of(data)}{to} started{named}"
        error = data.get("error") or {}
        why = f": {error.get('code', '')}: {self._reword(error.get('message', ''))}" if error else ""
        was = "was " if data.get("database") is None and data["status"] in _DONE_TO_IT else ""
        return f"{before}{place_of(data)}{to} {was}{data['status']}{named}{why}"


class PlainDisplay:
    """A line per event, and the sums now and then."""

    room = 1

    def __init__(self, lines: _Lines, *, now: Callable[[], float] = time.monotonic) -> None:
        self._lines = lines
        self._now = now
        self._next = now() + _BETWEEN_SUMS

    def observed(self, observed: Sequence[Observed]) -> None:
        for _, line in self._lines.told(observed):
            self.note(line)

    def refresh(self, awaited: AwaitedRequests, moving: Moving, progress: Progress) -> None:  # noqa: ARG002  a log has no table
        if self._now() >= self._next:
            self._next = self._now() + _BETWEEN_SUMS
            self.note(sums_of(progress, moving))

    def note(self, text: str) -> None:
        print(printable(text), file=sys.stderr, flush=True)

    def close(self) -> None:
        for _, line in self._lines.told((), last=True):
            self.note(line)


class LiveDisplay:
    """A table that is redrawn: the sums, the requests, and what is on its way."""

    def __init__(self, lines: _Lines | None = None) -> None:
        self._lines = lines or _Lines(several=True, reword=str)
        self._console = Console(stderr=True)
        self._size = self._console.size
        self._notes: list[str] = []
        self._live = self._started()

    def _started(self) -> Live:
        live = Live(console=self._console, refresh_per_second=4, transient=True)
        live.start()
        return live

    @property
    def room(self) -> int:
        return max(_LEAST_ROOM, self._console.size.height - _MOST_REQUESTS)

    def observed(self, observed: Sequence[Observed]) -> None:
        # Databases are rows of the table; final results are printed again at the end.
        for one, line in self._lines.told(observed):
            if one.kind == "accepted":
                self.note(line)

    def refresh(self, awaited: AwaitedRequests, moving: Moving, progress: Progress) -> None:
        if self._console.size != self._size:
            self._begin_anew()
        requests = min(len(awaited.requests), _MOST_REQUESTS) if len(awaited.requests) > 1 else 0
        room = max(_LEAST_ROOM, self._size.height - requests - 7)
        self._live.update(
            Group(
                Text(sums_of(progress, moving)),
                *([_requests(awaited, moving)] if requests else []),
                *([_moving(moving, room, width=self._size.width)] if moving.total else []),
            )
        )

    def _begin_anew(self) -> None:
        """Clear the terminal: its size has changed, so the place of the old lines is unknown."""
        self._live.stop()
        self._size = self._console.size
        self._console.control(Control.clear(), Control.home())
        for text in self._notes[-_MOST_NOTES:]:
            self._console.print(Text(text))
        self._live = self._started()

    def note(self, text: str) -> None:
        self._notes.append(printable(text))
        self._live.console.print(Text(self._notes[-1]))

    def close(self) -> None:
        self._live.stop()
        for one, line in self._lines.told((), last=True):
            if one.kind == "accepted":
                self.note(line)


def sums_of(progress: Progress, moving: Moving) -> str:
    """One line: `120 of 500 ended, 3 failed, 200 running, 180 waiting; 4 min 10 s so far, about 6 min still`."""
    so_far = f"{spoken(progress.elapsed)} so far"
    if not progress.total:
        return f"finding out what there is to do; {so_far}" if moving.total else f"waiting; {so_far}"
    parts = [f"{progress.ended:,} of {progress.total:,} ended"]
    for number, word in (
        (progress.failed, "failed"),
        (progress.running, "running"),
        (progress.waiting, "waiting"),
    ):
        if number:
            parts.append(f"{number:,} {word}")
    still = f", about {_rounded(progress.remaining)} still" if progress.remaining is not None else ""
    return f"{', '.join(parts)}; {so_far}{still}"


def _rounded(duration: timedelta) -> str:
    """A rough duration: without seconds once it is minutes."""
    seconds = duration.total_seconds()
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    if seconds < 3600:
        return f"{round(seconds / 60)} min"
    return spoken(duration)


def _requests(awaited: AwaitedRequests, moving: Moving) -> Table:
    under_way = {request_key(one.operation, one.source, one.request_id) for one in moving.shown}
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    open_requests = [request for request in awaited.requests if not request.complete]
    shown = (open_requests + [r for r in awaited.requests if r.complete])[:_MOST_REQUESTS]
    for request in shown:
        table.add_row(
            Text(printable(request.line.label, limit=60)),
            _summary(request, under_way=request.line.key in under_way),
        )
    if len(awaited.requests) > len(shown):
        table.add_row(Text(f"and {len(awaited.requests) - len(shown)} more requests"), "")
    return table


def _summary(request: AwaitedRequest, *, under_way: bool) -> Text:
    if request.outcome_count is None:
        return Text("under way" if under_way else "waiting")
    return Text(f"{len(request.final_outcomes()):,} of {request.outcome_count:,} ended")


def _moving(moving: Moving, room: int, *, width: int) -> Table:
    rows = [
        [
            one.database or f"({one.operation} request)",
            one.doing,
            "" if one.age is None else spoken(one.age),
            f"{one.percent:.0f} %" if one.percent is not None else "",
        ]
        for one in moving.shown[:room]
    ]
    names = ["database", "at", "for", "done"]
    # Numbers that change are never cut, only names.
    whole = [max(map(len, (name, *cells))) for name, *cells in zip(names, *rows, strict=True)][-3:]
    left = max(20, width - sum(whole) - 2 * len(names))
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    for database, *rest in rows:
        table.add_row(Text(printable(database, limit=left)), *map(Text, map(printable, rest)))
    if (more := moving.total - len(rows)) > 0:
        table.add_row(Text(f"and {more:,} more"), *("" for _ in names[1:]))
    return table
