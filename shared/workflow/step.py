"""What a step is: a plain function of its message and its collaborators that returns data.

The trigger around it decodes the message, calls the step and hands the result to the bus, in that order, in
one place (`shared.workflow.delivery`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, overload

from shared.bus import OutgoingMessage
from shared.listings import ItemListings
from shared.messages.events import ErrorInfo, Event, Status
from shared.messages.steps import StepMessage
from shared.settings import Settings

if TYPE_CHECKING:
    from shared.azure_backup.operations import AzureBackup


@dataclass(frozen=True, kw_only=True)
class Collaborators:
    """What a step may use. `late` tells whether its message was delivered too long ago for a mutation."""

    backup: AzureBackup
    settings: Settings
    #: the service's time
    now: Callable[[], datetime]
    late: Callable[[], bool] = lambda: False
    #: what vaults protect, as listed for requests that came together
    items: ItemListings = field(default_factory=ItemListings)
    #: whether more than half of the read budget is left
    may_read_more: Callable[[], bool] = lambda: True
    #: the tick on which polls meet, where it has grown beyond `TRACK_INTERVAL`
    grown_tick: timedelta | None = None

    @property
    def tick(self) -> timedelta:
        """The tick on which the polls of a vault meet."""
        return self.grown_tick if self.grown_tick is not None else self.settings.track_interval


@dataclass(frozen=True)
class Next:
    """A message to a step, sent after `delay` of the service's time."""

    message: StepMessage[Any]
    delay: timedelta = timedelta()


class FanOut(Sequence[Next]):
    """One message for each of many, made when it is sent: thousands are never in memory together."""

    def __init__(self, choices: Sequence[Any], make: Callable[[int, Any], Next]) -> None:
        self._choices = choices
        self._make = make

    def __len__(self) -> int:
        return len(self._choices)

    @overload
    def __getitem__(self, index: int) -> Next: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Next]: ...
    def __getitem__(self, index: int | slice) -> Next | Sequence[Next]:
        numbers = range(len(self))[index]
        if isinstance(numbers, range):
            return [self._make(number, self._choices[number]) for number in numbers]
        return self._make(numbers, self._choices[numbers])


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a step leads to. `events` are published first, then `next` and `forward` are sent.

    `accepted` is published once the broker has all of them: where it was published, nothing is missing.
    """

    events: tuple[Event, ...] = ()
    next: Sequence[Next] = ()
    forward: tuple[OutgoingMessage, ...] = ()
    accepted: Event | None = None


class WorkflowError(Exception):
    """A request, or one database's part of it, ends here: the base of what a step raises on purpose."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: Status = Status.FAILED,
        recommendations: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.recommendations = recommendations

    @property
    def info(self) -> ErrorInfo:
        """The error as an outcome carries it."""
        return ErrorInfo(code=self.code, message=self.message, recommendations=self.recommendations)


class RefusedError(WorkflowError):
    """The request asks for what it, or this app's settings, do not allow; Azure was not asked."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message, status=Status.REJECTED)


class LateError(Exception):
    """The message was delivered too long ago: another delivery of it may be running. Nothing was sent."""


class AgainError(Exception):
    """The step cannot go on yet: the same message is to come back after `delay`."""

    def __init__(self, delay: timedelta, **changes: Any) -> None:
        super().__init__(f"again in {delay}")
        self.delay = delay
        self.changes = changes


class NextEffectError(Exception):
    """The effect did not happen: the step is to come back for its next one."""

    def __init__(self, *, waiting: bool) -> None:
        super().__init__("the next effect")
        #: not before the operation that is running has ended
        self.waiting = waiting


Step = Callable[[StepMessage[Any], Collaborators], Result]


@dataclass(frozen=True, kw_only=True)
class StepDefinition:
    """One row of the workflow table."""

    name: str
    workflow: str
    run: Step
    payload: type[Any]
    #: what it does, for the diagram
    does: str
    follows: tuple[str, ...] = ()
    #: it starts an asynchronous operation and hands it to the tracker
    tracked: bool = False
    #: the operation of the job that comes of it, as the service names it
    job: str | None = None
    #: several messages of it may be sent at once, one a database
    fans_out_to: str | None = None
    queue: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "queue", self.name.replace("_", "-"))
