"""Whether to try again: one pure function of what happened, how often, how long and until when.

The rules follow https://learn.microsoft.com/azure/azure-resource-manager/management/request-limits-and-throttling
and https://learn.microsoft.com/azure/architecture/best-practices/retry-service-specific.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import Final

FIRST_WAIT: Final = timedelta(seconds=2)
LONGEST_WAIT: Final = timedelta(seconds=60)
#: Role assignments take time to spread, and a token may predate them.
FORBIDDEN_FOR: Final = timedelta(minutes=10)
MOST_MALFORMED: Final = 5


class Happened(Enum):
    """What became of a call."""

    NOT_SENT = auto()  #: it never reached the service
    ANSWER_LOST = auto()  #: it was sent, and no answer came
    MALFORMED = auto()  #: the answer cannot be one of the service
    STATUS = auto()  #: the service answered with an error
    REFUSED = auto()  #: the app would not send it


@dataclass(frozen=True)
class Retry:
    """The same call again after `after` of the service's time."""

    after: timedelta
    #: the call may have taken effect
    may_have_started: bool
    #: it counts among the attempts that make waits longer
    counts: bool = True


@dataclass(frozen=True)
class Conflict:
    """Another operation is running: no new call before it has ended."""


@dataclass(frozen=True)
class GiveUp:
    """Trying again is pointless or comes too late."""

    #: the call may have taken effect
    may_have_started: bool
    #: the time ran out, rather than the error being permanent
    out_of_time: bool


Decision = Retry | Conflict | GiveUp


def decide(
    happened: Happened,
    *,
    status: int | None = None,
    retry_after: timedelta | None = None,
    mutation: bool,
    attempt: int,
    age: timedelta,
    time_left: timedelta,
    jitter: float,
) -> Decision:
    """What to do after a call that did not succeed.

    Args:
        happened: what became of the call; `status` and `retry_after` of its answer, if there was one.
        mutation: whether it was to change anything.
        attempt: how many have failed before in a row.
        age: how long the step has been trying.
        time_left: until its deadline.
        jitter: uniform in [0, 1): spreads those that failed together.
    """
    started = mutation and (
        happened in (Happened.ANSWER_LOST, Happened.MALFORMED)
        or (happened is Happened.STATUS and status is not None and (status >= 500 or status == 408))
    )
    if happened is Happened.REFUSED:
        return GiveUp(may_have_started=False, out_of_time=False)
    if happened is Happened.STATUS:
        assert status is not None
        if status == 409 and mutation:
            return Conflict()
        if status in (401, 403):
            if age >= FORBIDDEN_FOR:
                return GiveUp(may_have_started=False, out_of_time=False)
        elif status not in (408, 425, 429) and status < 500:
            return GiveUp(may_have_started=False, out_of_time=False)
    if happened is Happened.MALFORMED and attempt + 1 >= MOST_MALFORMED:
        return GiveUp(may_have_started=started, out_of_time=False)
    after = _wait(attempt, retry_after, jitter)
    if after > time_left:
        return GiveUp(may_have_started=started, out_of_time=True)
    return Retry(after, may_have_started=started, counts=status != 429 or retry_after is None)


def _wait(attempt: int, retry_after: timedelta | None, jitter: float) -> timedelta:
    if retry_after is not None:
        # Never earlier than asked; the spread keeps those that were asked together from coming together.
        return retry_after + jitter * min(LONGEST_WAIT, max(FIRST_WAIT, retry_after * 0.1))
    backoff: timedelta = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(attempt, 10))
    return backoff * (0.5 + jitter / 2)
