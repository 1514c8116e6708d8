"""The simulator's time: how it passes, how the service writes it, and what is due when."""

from __future__ import annotations

import heapq
import math
import random
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count

from shared.clock import Clock

NO_END = "0001-01-01T00:00:00"
"""The `endTime` in an operation's status before it ends; without a zone letter, as recorded."""

TICKS_EPOCH = datetime(1, 1, 1, tzinfo=UTC)


class SimulatedTime:
    """`start` + the seconds elapsed on `clock` since construction, divided by `scale`."""

    def __init__(self, clock: Clock, start: datetime, scale: float) -> None:
        if not (scale > 0 and math.isfinite(scale)):
            raise ValueError(f"the time scale must be a positive number, not {scale}")
        self._clock = clock
        self._start = start.astimezone(UTC)
        self._scale = scale
        self._origin = clock.monotonic()

    @property
    def scale(self) -> float:
        """Real seconds per simulated second."""
        return self._scale

    def now(self) -> datetime:
        """The simulator's current moment, aware, in UTC."""
        return self._start + timedelta(seconds=(self._clock.monotonic() - self._origin) / self._scale)

    def real_seconds(self) -> float:
        """Real seconds since construction; for what is not scaled, as the life of a token."""
        return self._clock.monotonic() - self._origin


class Agenda:
    """Actions that are due at moments; they run in order as time passes."""

    def __init__(self, start: datetime) -> None:
        self.now = start
        self._due: list[tuple[datetime, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, moment: datetime, action: Callable[[], None]) -> None:
        """Run `action` once time has reached `moment`; actions due at one moment run in the order they were added."""
        heapq.heappush(self._due, (moment, next(self._order), action))

    def after(self, length: timedelta, action: Callable[[], None]) -> None:
        """Run `action` once `length` has passed; at once if `length` is not positive."""
        if length <= timedelta():
            action()
        else:
            self.at(self.now + length, action)

    def advance(self, now: datetime) -> None:
        """Move time to `now`. Each action that falls due on the way runs with `self.now` at its own moment."""
        due = self._due
        while due and due[0][0] <= now:
            moment, _, action = heapq.heappop(due)
            self.now = max(self.now, moment)
            action()
        self.now = max(self.now, now)


class Durations:
    """Seconds that things take: fixed, or drawn from a lognormal given as [median, sigma]."""

    def __init__(
        self,
        values: dict[str, float | tuple[float, float] | None],
        chance: random.Random,
        recorded: random.Random,
    ) -> None:
        self._values = values
        self._chance = chance
        self._recorded = recorded

    def draw(self, kind: str, *, factor: float = 1.0) -> timedelta:
        """A duration of that kind, times `factor`."""
        value = self._values[kind]
        assert value is not None, kind
        if isinstance(value, tuple):
            median, sigma = value
            value = self._chance.lognormvariate(math.log(median), sigma) if median > 0 else 0.0
        return timedelta(seconds=value * factor)

    def accept(self, operation: str) -> timedelta:
        """How long the operation of a Backup or Restore runs until it names its job.

        Recorded: 14 of 50 backups and 30 of 74 restores still ran at the first look, for 1 to 6 seconds, at
        most 14.
        """
        if self._values["accept"] is not None:
            return self.draw("accept")
        share = {"Backup": 14 / 50, "Restore": 30 / 74}[operation]
        # Both are drawn every time, so that one result does not shift the draws after it.
        runs, seconds = self._recorded.random() < share, self._recorded.lognormvariate(math.log(3), 0.6)
        return timedelta(seconds=min(max(seconds, 1.0), 14.0)) if runs else timedelta()

    def young(self) -> timedelta:
        """How long a new job has neither server nor tasks: recorded for some, up to 40 seconds after their start.
        Their share is not known; a quarter is assumed.
        """
        if self._values["young"] is not None:
            return self.draw("young")
        runs, seconds = self._recorded.random() < 1 / 4, self._recorded.uniform(10, 45)
        return timedelta(seconds=seconds) if runs else timedelta()

    def coin(self) -> bool:
        """True or False, each with a probability of one half."""
        return self._recorded.random() < 0.5


def instant(moment: datetime) -> str:
    """A moment as .NET writes it: up to seven digits of a second without trailing zeros, then `Z`."""
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    if moment.microsecond:
        # The service counts in 100 ns; the seventh digit is made from the others so that it never changes.
        seventh = (moment.microsecond * 7 + 3) % 10
        text += f".{moment.microsecond:06d}{seventh}".rstrip("0")
    return text + "Z"


def whole_seconds(moment: datetime) -> str:
    """A moment as recovery points have it: whole seconds, then `Z`."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def duration(length: timedelta) -> str:
    """A length of time as XML Schema writes it (`PT2M1.768889S`)."""
    total = max(length, timedelta())
    if not total:
        return "PT0S"
    minutes, seconds = divmod(total.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    text = "P" + (f"{total.days}D" if total.days else "")
    if not (total.seconds or total.microseconds):
        return text
    text += "T" + (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes else "")
    if seconds or total.microseconds:
        fraction = f".{total.microseconds:06d}".rstrip("0") if total.microseconds else ""
        text += f"{seconds}{fraction}S"
    return text


def time_span(length: timedelta) -> str:
    """A length of time as .NET's TimeSpan prints it (`13.23:59:44.59`)."""
    total = max(length, timedelta())
    hours, rest = divmod(total.seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    text = (f"{total.days}." if total.days else "") + f"{hours:02d}:{minutes:02d}:{seconds:02d}"
    return text + (f".{total.microseconds:06d}0" if total.microseconds else "")


def ticks(moment: datetime) -> int:
    """100 ns since the year 1, as in the `t` of a signed URL."""
    return (moment - TICKS_EPOCH) // timedelta(microseconds=1) * 10


_FILTER_TIME = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[T ](\d{1,2}):(\d{2}):(\d{2})(?:\.\d+)?Z?(?: ?([AaPp][Mm]))?)?"
)


def filter_time(text: str) -> datetime | None:
    """The moment in a filter: `2021-07-25 08:41:32 AM`, with the specification's own `00:00:00 AM` allowed."""
    match = _FILTER_TIME.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day = (int(part) for part in match.group(1, 2, 3))
    hour, minute, second = (int(part or 0) for part in match.group(4, 5, 6))
    half = (match.group(7) or "").upper()
    if half and hour > 12:
        return None
    if half == "PM" and hour < 12:
        hour += 12
    elif half == "AM" and hour == 12:
        hour = 0
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None


def request_time(text: object) -> datetime | None:
    """The moment in a request body (RFC 3339; without a zone it is UTC); None if it is not one."""
    if not isinstance(text, str) or len(text) < 10:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
