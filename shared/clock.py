"""Time is injected: nothing in this project reads the system's clock but `SystemClock`."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Final, NewType, Protocol

#: A `Date` further than this from the running estimate is a jump, and believed only after several answers in a row.
_JUMP: Final = timedelta(minutes=5)
_AGREEING: Final = 5
#: No service tells a later moment, and what is reckoned from it stays within the calendar.
_LATEST: Final = datetime(3000, 1, 1, tzinfo=UTC)


#: A moment by the service's clock, aware, in UTC: what messages, jobs and outcomes say.
ServiceTime = NewType("ServiceTime", datetime)
#: A moment by this machine's clock, aware, in UTC: what Service Bus and schedules go by.
MachineTime = NewType("MachineTime", datetime)


def service_time(moment: datetime) -> ServiceTime:
    """A moment that the service wrote; one without an offset is in UTC. Raises ValueError beyond the calendar."""
    try:
        return ServiceTime(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC))
    except OverflowError as error:
        raise ValueError("a moment is between the years 1 and 9999, in UTC") from error


class Clock(Protocol):
    """A source of time. Both readings advance together."""

    def now(self) -> MachineTime:
        """The current moment, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; never goes back."""
        ...

    def sleep(self, duration: timedelta) -> None:
        """Wait for this long."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> MachineTime:
        return MachineTime(datetime.now(UTC))

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, duration: timedelta) -> None:
        time.sleep(max(0.0, duration.total_seconds()))


class ServiceClock:
    """The service's clock: its last `Date` header plus the time since then.

    Deadlines and filters use it, so that a skewed machine clock does no harm. `scale` is the
    `TIME_SCALE` setting: at 0.01 a hundred seconds of the service pass in one second of this machine.
    Until the service has answered once, it is the latest of the machine's clock and the moments in messages
    (`at_least`).

    A `Date` that is far from the running estimate is not believed until others in a row agree with it: a single answer
    from a proxy with a wrong clock must not end what is followed. Only the service's own first answer is believed at
    once, since the estimate is no more than this machine's clock before it.
    """

    def __init__(self, clock: Clock, scale: float = 1.0) -> None:
        self._clock = clock
        self._scale = scale
        self._lock = threading.Lock()
        self._base: ServiceTime | None = None
        self._base_monotonic = 0.0
        self._answered = False
        #: a moment that was not believed, when it came, and how many in a row agreed with it
        self._doubted: tuple[ServiceTime, float, int] | None = None

    @property
    def scale(self) -> float:
        """How many of this machine's seconds a second of the service takes."""
        return self._scale

    def now(self) -> ServiceTime:
        """The current moment of the service, aware, in UTC."""
        with self._lock:
            return self._now()

    @property
    def is_known(self) -> bool:
        """Whether the service has answered: until then, this machine's clock may be hours ahead of it."""
        with self._lock:
            return self._answered

    def answered(self, date: ServiceTime, *, by_service: bool = True) -> None:
        """Note that an answer with this `Date` has just come. `by_service`: whether it is certainly the service's."""
        if date >= _LATEST:
            return
        with self._lock:
            doubtful = self._answered or not by_service
            if doubtful and abs(date - self._now()) > _JUMP and not self._confirmed(date):
                return
            self._base, self._base_monotonic, self._answered = date, self._clock.monotonic(), True
            self._doubted = None

    def _confirmed(self, date: ServiceTime) -> bool:
        """Whether enough answers in a row agree on a jump to believe it."""
        now = self._clock.monotonic()
        agreeing = 1
        if self._doubted is not None:
            earlier, at, count = self._doubted
            expected = earlier + timedelta(seconds=(now - at) / self._scale)
            agreeing = count + 1 if abs(date - expected) <= _JUMP else 1
        self._doubted = (date, now, agreeing)
        return agreeing >= _AGREEING

    def at_least(self, moment: ServiceTime) -> None:
        """Note that a message was written at `moment` of the service; used until the service itself has answered.

        It may have waited in its queue for hours, so it moves the clock only forward, this machine's as well.
        """
        with self._lock:
            if not self._answered and moment > self._now():
                self._base, self._base_monotonic = moment, self._clock.monotonic()

    def _now(self) -> ServiceTime:
        if self._base is None:
            return ServiceTime(self._clock.now())
        elapsed = (self._clock.monotonic() - self._base_monotonic) / self._scale
        return self._base + timedelta(seconds=elapsed)
