"""An effect: one mutating call of a step, as a change in Azure that has to happen once.

Nobody can ask Azure Resource Manager whether it has seen a call before. So what deliveries learn of a call travels with
the step's message: `Effect` holds these facts, and `Effect.state` says what they mean for the next delivery.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Self, TypeAlias

from pydantic import Field

from shared.clock import ServiceTime
from shared.messages.events import ErrorInfo
from shared.messages.model import Moment, TolerantModel

#: No step makes a tenth as many calls; it bounds loops over effects, whoever wrote the message.
MOST_EFFECTS: Final = 1_000
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Untried:
    """Nothing says that the call was made: it may be made now."""


@dataclass(frozen=True)
class CheckFirst:
    """Refused before, not the first, or in another delivery's hands: its job is looked for once, then it is made."""


@dataclass(frozen=True)
class Waiting:
    """The effect before it met another operation: that has to end first, and may have been the step's own."""

    #: between these moments the service refused the call, where it was the call that was refused
    refused_from: ServiceTime | None
    refused_at: ServiceTime | None
    #: whether somebody else's job was seen that explains the conflict; how many looks at the jobs did not explain it
    explained: bool
    looks: int


@dataclass(frozen=True)
class MayHaveStarted:
    """An answer was lost, or an earlier delivery may have made the call: its job is looked for, for ten minutes."""

    #: between these moments such calls were made, as far as is known
    since: ServiceTime | None
    until: ServiceTime | None
    #: how many looks at the vault's jobs did not find the job
    looks: int


State: TypeAlias = Untried | CheckFirst | Waiting | MayHaveStarted


class Effect(TolerantModel):
    """The facts that are known of an effect, as messages carry them.

    Facts do not exclude each other: a call may have waited, been refused, and then have lost its answer. Deliveries
    that learn at the same time learn different ones. So facts are only ever added (`joined`), every combination can be
    read, and each means exactly one state. The first row that holds counts:

    | facts | state |
    | --- | --- |
    | `may_have_started`, and the step may make this call at all | `MayHaveStarted` |
    | `waiting`, and not `ready` | `Waiting` |
    | `n` above 1, `refused_at`, or `look_first` | `CheckFirst` |
    | none of these | `Untried` |
    """

    #: the number of the call among those of its step
    n: Annotated[int, Field(ge=1, le=MOST_EFFECTS)] = 1
    #: whether an answer was lost, or the message was delivered before
    may_have_started: bool = False
    #: the calls that may have started were made between these moments; the second may be unknown
    at: Moment | None = None
    given_up_at: Moment | None = None
    #: how many looks at the vault's jobs did not find the job of such a call
    looks: int = 0
    #: the service turned the last call away, or it was held back by another operation, between these moments
    refused_from: Moment | None = None
    refused_at: Moment | None = None
    #: how many looks at the vault's jobs did not explain that
    refusal_looks: int = 0
    #: whether an earlier delivery may have made the call all the same
    look_first: bool = False
    #: whether another operation is running: no new call before it has ended
    waiting: bool = False
    #: whether somebody else's job was seen that explains the refusal
    explained: bool = False
    #: whether all reading is done: the next delivery makes the call, and does nothing before it
    ready: bool = False
    #: why the effect before it did not happen
    why: ErrorInfo | None = None

    def state(self, most: int) -> State:
        """What the facts mean for the next delivery of a step that may make `most` calls."""
        # The step makes no call beyond its last, so none can have been lost.
        if self.may_have_started and self.n <= most:
            return MayHaveStarted(self.at, self.given_up_at, self.looks)
        if self.waiting and not self.ready:
            return Waiting(self.refused_from, self.refused_at, self.explained, self.refusal_looks)
        if self.n > 1 or self.refused_at is not None or self.look_first:
            return CheckFirst()
        return Untried()

    def lost(self, *, since: ServiceTime, until: ServiceTime | None = None, looks: int = 0) -> Self:
        """The call may have been made in that time; so many looks have not found its job."""
        return self._learned(may_have_started=True, at=since, given_up_at=until, looks=looks)

    def refused(self, *, since: ServiceTime, until: ServiceTime) -> Self:
        """The service refused the call between these moments."""
        return self._learned(refused_from=since, refused_at=until)

    def conflict_explained(self) -> Self:
        """Somebody else's job was seen that explains the conflict."""
        return self._learned(explained=True)

    def conflict_unexplained(self, looks: int) -> Self:
        """So many looks at the vault's jobs have not explained the conflict."""
        return self._learned(refusal_looks=looks)

    def requeued(self) -> Self:
        """A copy of the message went to its queue; another process may have received the original since."""
        return self._learned(look_first=True)

    def prepared(self) -> Self:
        """All reading is done: the next delivery makes the call."""
        return self._learned(ready=True)

    def _learned(self, **facts: Any) -> Self:
        return self.joined(type(self)(n=self.n, **facts))

    def joined(self, other: Self) -> Self:
        """Of one effect, what the two know together; of two effects, what is known of the later one."""
        if self.n != other.n:
            return self if self.n > other.n else other
        refused = max(self, other, key=lambda effect: effect.refused_at or _NEVER)
        return self.changed(
            may_have_started=self.may_have_started or other.may_have_started,
            at=_extreme(min, self.at, other.at),
            given_up_at=_extreme(max, self.given_up_at, other.given_up_at),
            looks=max(self.looks, other.looks),
            refused_from=refused.refused_from,
            refused_at=refused.refused_at,
            refusal_looks=max(self.refusal_looks, other.refusal_looks),
            look_first=self.look_first or other.look_first,
            waiting=self.waiting or other.waiting,
            explained=self.explained or other.explained,
            ready=self.ready or other.ready,
            why=self.why or other.why,
        )


def _extreme(
    choose: Callable[[list[ServiceTime]], ServiceTime], *moments: ServiceTime | None
) -> ServiceTime | None:
    known = [moment for moment in moments if moment is not None]
    return choose(known) if known else None
