"""The results of a step, as values: it goes on, polls again, makes a call or its next effect, or ends.

A step is a plain function of its message and its collaborators that returns one of these. It never sends, never
changes anything in Azure itself, and raises only what its collaborators raise (`ArmError`, `TokenError`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar, overload

from shared.arm.budget import UNTOUCHED_WRITES, Pace, reads_per_hour
from shared.clock import MachineTime, ServiceTime
from shared.engine.effect import Effect
from shared.engine.message import DecidedEffect, Ending, Payload, StepMessage
from shared.listing_cache import ItemCache
from shared.messages.events import NO_DETAILS, ErrorInfo, Event, OutcomeDetails, Status
from shared.settings import Settings

if TYPE_CHECKING:
    from shared.azure_backup.calls import Mutations, Reads
    from shared.azure_backup.models import StartedOperation
    from shared.messages.identity import Request

C = TypeVar("C")
T = TypeVar("T")


@dataclass(frozen=True)
class To:
    """A message to a step, sent after `delay` of the service's time."""

    step: str
    payload: Payload
    delay: timedelta = timedelta()
    #: the request that it belongs to, where the step's own request starts another; None: the same one
    request: Request | None = None
    #: whether another delivery may have made its call: its job is looked for first
    look_first: bool = False


class FanOut(Sequence[T]):
    """What is made for each of many choices, as it is sent: thousands are never in memory together."""

    def __init__(self, choices: Sequence[C], make: Callable[[int, C], T]) -> None:
        self._choices = choices
        self._make = make

    def __len__(self) -> int:
        return len(self._choices)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        numbers = range(len(self))[index]
        if isinstance(numbers, range):
            return [self._make(number, self._choices[number]) for number in numbers]
        return self._make(numbers, self._choices[numbers])


@dataclass(frozen=True)
class Continue:
    """The request goes on: `events` are published first, then the messages are sent.

    `accepted` is published only once the broker has all of them, so it proves that none is missing.
    """

    to: Sequence[To] = ()
    events: tuple[Event, ...] = ()
    accepted: Event | None = None


@dataclass(frozen=True)
class Later:
    """The step polls again: the same message comes after `delay` of the service's time."""

    delay: timedelta
    #: what else is known of its effect
    effect: Effect | None = None
    #: where it differs
    payload: Payload | None = None
    events: tuple[Event, ...] = ()
    #: how many failures in a row, and since when: waits grow with them, and the step ends after too many
    attempt: int = 0
    failing_since: ServiceTime | None = None


@dataclass(frozen=True)
class End:
    """The outcome of what the message is about: its database, or its request where none is known yet."""

    status: Status
    error: ErrorInfo | None = None
    details: OutcomeDetails = NO_DETAILS
    events: tuple[Event, ...] = ()
    #: whether a mutating call was made and turned away
    called: bool = False

    @classmethod
    def decided(cls, ending: Ending) -> Self:
        """The end that was decided before, as the message carries it."""
        return cls(ending.status, ending.error, ending.details)

    def with_details(self, **details: Any) -> Self:
        """The same end, with these details among those that it has."""
        return replace(self, details=self.details.changed(**details))


@dataclass(frozen=True)
class NextEffect:
    """The effect did not happen: the step makes its next one."""

    #: not before the operation that is running has ended
    waiting: bool = False
    why: ErrorInfo | None = None
    #: the call was turned away between these moments
    refused_from: ServiceTime | None = None
    refused_at: ServiceTime | None = None


@dataclass(frozen=True)
class FollowJob:
    """The effect happened: this is its job, to be followed to its end."""

    job_id: str


@dataclass(frozen=True, kw_only=True)
class Call:
    """A mutating call to make now, unless it is too late; the operation that it starts is followed.

    Only the engine makes it: with the effect's client request id, in time, and once.
    """

    make: Callable[[Mutations, str], Any]
    #: the payload that the operation is followed with, where it differs from the message's
    payload: Payload | None = None
    #: what follows where the answer is the result itself, and no operation
    at_once: Callable[[Any], Result] | None = None
    #: published before the call, which another delivery makes
    events: tuple[Event, ...] = ()


@dataclass(frozen=True)
class FollowOperation:
    """The call was made, and this is its operation: it is followed with this payload."""

    operation: StartedOperation
    payload: Payload


Result: TypeAlias = Continue | Later | End | NextEffect | DecidedEffect | FollowJob | FollowOperation | Call


@dataclass(frozen=True)
class Failure:
    """Why a request, or one database's part of it, fails; a value, so that no caller can overlook it."""

    code: str
    message: str
    status: Status = Status.FAILED
    recommendations: tuple[str, ...] = ()

    @property
    def info(self) -> ErrorInfo:
        """The error as an outcome carries it."""
        return ErrorInfo(code=self.code, message=self.message, recommendations=self.recommendations)

    @property
    def end(self) -> End:
        """The end that it leads to."""
        return End(self.status, self.info)


def refused(code: str, message: str) -> Failure:
    """The request, or the app's settings, do not allow what is asked for; no call was made to Azure."""
    return Failure(code, message, Status.REJECTED)


@dataclass(frozen=True)
class GrownTick:
    """A tick that is longer than `TRACK_INTERVAL`, counted from the listing that all polls of a vault share."""

    length: timedelta
    since: ServiceTime


@dataclass(frozen=True, kw_only=True)
class Collaborators:
    """What a step may use. A step only reads from Azure; changes are made by returning a `Call`."""

    azure: Reads
    settings: Settings
    #: the service's time
    now: Callable[[], ServiceTime]
    #: this machine's time, which decides when schedules are due
    machine_now: Callable[[], MachineTime]
    #: what vaults protect: one listing serves requests that came together
    items: ItemCache = field(default_factory=ItemCache)
    #: whether more than half of an action's hourly budget is left (`shared.arm.budget.action_of`)
    may_read_more: Callable[[str], bool] = lambda _action: True
    #: how the calls of a fan-out are spread over time
    write_pace: Callable[[], Pace] = lambda: UNTOUCHED_WRITES
    #: how many reads of an action are left in this hour
    reads_left: Callable[[str], int] = reads_per_hour
    #: the tick on which a vault's polls meet, where it is longer than `TRACK_INTERVAL`
    grown_tick: GrownTick | None = None

    @property
    def tick(self) -> timedelta:
        """The interval at which the polls of a vault meet."""
        return self.grown_tick.length if self.grown_tick is not None else self.settings.track_interval

    @property
    def ticks_since(self) -> ServiceTime | None:
        """The time of the listing from which a longer tick is counted."""
        return self.grown_tick.since if self.grown_tick is not None else None


Step: TypeAlias = Callable[[StepMessage[Any], Collaborators], Result]
