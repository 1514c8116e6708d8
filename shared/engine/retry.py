"""Whether to try again: one pure function of what happened, how often, how long and until when.

The rules follow https://learn.microsoft.com/azure/azure-resource-manager/management/request-limits-and-throttling
and https://learn.microsoft.com/azure/architecture/best-practices/retry-service-specific.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from shared.arm.errors import (
    CALL_NOT_FOUND,
    PARENT_NOT_FOUND,
    ArmError,
    ArmPacedError,
    ArmProtocolError,
    ArmStatusError,
    ArmUntrustedError,
    ArmUrlRefusedError,
)

FIRST_WAIT: Final = timedelta(seconds=2)
#: A step makes several calls: when it polls again, it should find budget for more than the one that was missing.
SHORTEST_WAIT: Final = timedelta(seconds=1)
LONGEST_WAIT: Final = timedelta(seconds=60)
#: Role assignments take time to spread, and a token may predate them.
FORBIDDEN_FOR: Final = timedelta(minutes=10)
#: What was just created or listed may be missing elsewhere for a while: "replication delays that resolve after one or
#: more retries" (https://learn.microsoft.com/azure/azure-resource-manager/bicep/bicep-retryon).
MISSING_FOR: Final = timedelta(minutes=5)
#: Codes of a 404 that do not pass: they name what a requester may have misspelled, or what the cloud does not have.
_MISSING_FOR_GOOD: Final = PARENT_NOT_FOUND | CALL_NOT_FOUND
MOST_MALFORMED: Final = 5


@dataclass(frozen=True)
class Retry:
    """The same call again after `after` of the service's time."""

    after: timedelta
    #: the call may have taken effect
    may_have_started: bool
    #: whether it counts as an attempt, which makes later waits longer
    counts: bool = True


@dataclass(frozen=True)
class Conflict:
    """Another operation is running: no new call before it has ended."""


@dataclass(frozen=True)
class GiveUp:
    """Trying again is pointless or too late."""

    #: the call may have taken effect
    may_have_started: bool
    #: whether the time ran out; else the error is permanent
    out_of_time: bool


Decision = Retry | Conflict | GiveUp


def decide(
    error: ArmError,
    *,
    conflicting: bool = False,
    attempt: int,
    age: timedelta,
    time_left: timedelta,
    jitter: float,
) -> Decision:
    """What to do after a call that did not succeed.

    Args:
        error: how the call ended, and whether it may have taken effect.
        conflicting: whether the service's code says that another operation is running.
        attempt: how many attempts in a row failed before.
        age: how long the step has been trying.
        time_left: until its deadline.
        jitter: uniform in [0, 1); spreads calls that failed together.
    """
    started = error.is_mutation and error.may_have_started
    if isinstance(error, ArmUntrustedError) or (isinstance(error, ArmUrlRefusedError) and not started):
        return GiveUp(may_have_started=False, out_of_time=False)
    if isinstance(error, ArmStatusError):
        if error.is_mutation and (conflicting or error.status == 409):
            return Conflict()
        if error.status in (401, 403):
            if age >= FORBIDDEN_FOR:
                return GiveUp(may_have_started=False, out_of_time=False)
        elif _is_missing(error):
            if age >= MISSING_FOR:
                return GiveUp(may_have_started=False, out_of_time=False)
        elif error.status not in (408, 425, 429) and error.status < 500 and not started:
            return GiveUp(may_have_started=False, out_of_time=False)
    if isinstance(error, ArmProtocolError) and attempt + 1 >= MOST_MALFORMED:
        return GiveUp(may_have_started=started, out_of_time=False)
    retry_after = error.retry_after if isinstance(error, ArmStatusError | ArmPacedError) else None
    after = _wait(attempt, retry_after, jitter)
    if after > time_left:
        return GiveUp(may_have_started=started, out_of_time=True)
    return Retry(after, may_have_started=started, counts=retry_after is None or not _is_throttled(error))


def _is_missing(error: ArmStatusError) -> bool:
    """Whether the service says that a resource is not there, which a step names only once it was seen."""
    code = error.code.lower()
    return error.status == 404 and code.endswith("notfound") and code not in _MISSING_FOR_GOOD


def _is_throttled(error: ArmError) -> bool:
    """Whether a rate limit turned the call away: the service's, or the app's own that keeps below it."""
    return isinstance(error, ArmPacedError) or (isinstance(error, ArmStatusError) and error.status == 429)


def _wait(attempt: int, retry_after: timedelta | None, jitter: float) -> timedelta:
    if retry_after is not None:
        # Never earlier than asked; the spread keeps calls that failed together from coming back together.
        return max(retry_after, SHORTEST_WAIT) + jitter * min(
            LONGEST_WAIT, max(FIRST_WAIT, retry_after * 0.1)
        )
    backoff: timedelta = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(attempt, 10))
    return backoff * (0.5 + jitter / 2)
