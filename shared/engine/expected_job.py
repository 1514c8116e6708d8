"""The job that Azure Backup starts for a step's call: how it is recognised, and when the call may be made again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from shared.engine.message import Payload, StepMessage
from shared.engine.result import Collaborators, Result
from shared.messages.error_codes import ErrorCode
from shared.messages.events import ErrorInfo, Status

MOST_POSTS: Final = 3
#: A PUT may be repeated until its deadline; this bound is for a clock that stands still.
MOST_PUTS: Final = 100


@dataclass(frozen=True, kw_only=True)
class ExpectedJob:
    """The job that a step's call starts: how it is recognised, and when the call may be repeated."""

    #: as the service names its operation
    operation: str
    #: the operation of the other variant of the step's calls
    variants: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    #: whether the call ends in the same state when it is sent again
    repeatable: bool = False
    #: whether another call, once no job of the first is listed, could do harm
    harmless: Callable[[Any], bool] = lambda _: True
    #: how many effects the step may have, the one at hand included
    attempts: Callable[[StepMessage[Any], Collaborators], int] = lambda *_: MOST_POSTS
    #: how the step ends where a conflict leaves it no further effect
    conflict_status: Callable[[Any], Status] = lambda _: Status.FAILED
    #: reads whether the effect happened: what follows if it did
    happened: Callable[[StepMessage[Any], Collaborators], Result | None] = lambda *_: None
    #: a refusal that proves that an effect before it happened
    proves: Callable[[ErrorInfo], bool] = lambda _: False
    #: the code of the step's outcome where the service took none of its calls
    not_started: ErrorCode = ErrorCode.OUTCOME_UNKNOWN
    #: in words, for errors
    noun: str = "request"

    def operation_of(self, payload: Payload) -> str:
        """The operation of the job of this payload's call."""
        return self.variants.get(payload.variant, self.operation)
