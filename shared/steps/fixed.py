"""A selection is fixed before it is acted upon.

The vault may change between two deliveries of a selection. So the selection is first sent on to the same step, under
one message id, and only that message is acted upon: `accepted` and the outcomes then agree on how many outcomes there
are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from shared.engine import outcomes
from shared.engine.advice import advised
from shared.engine.message import Payload, StepMessage
from shared.engine.result import Collaborators, Continue, End, FanOut, To
from shared.messages.error_codes import ErrorCode
from shared.messages.events import ErrorInfo, Event, Status
from shared.steps.payloads import CertainFailure, FixedSelection, Plan, packed, unpacked

if TYPE_CHECKING:
    from shared.steps.selection import Selection

_MOST_NAMES: Final = 100
#: More bytes than a selection has that fits into a message.
_LONGEST: Final = 64 * 1024 * 1024

P = TypeVar("P", bound=Plan)
T = TypeVar("T", bound=Payload)


def fix(message: StepMessage[P], chosen: Selection[Any], tasks: Iterable[Payload]) -> Continue:
    """Send the selection to the step that made it, which acts on it (`spread`)."""
    fixed = FixedSelection(
        tasks=tuple(task.model_dump(mode="json", by_alias=True, exclude_none=True) for task in tasks),
        failures=tuple(
            CertainFailure(database=database, status=failure.status, error=_with_advice(failure.info))
            for database, failure in chosen.failures
        ),
        skipped=chosen.reasons,
        names=chosen.skipped_names[:_MOST_NAMES],
    )
    body = fixed.model_dump_json(by_alias=True, exclude_defaults=True).encode()
    plan = message.payload.changed(fixed=packed(body), outcome_count=chosen.outcome_count)
    return Continue((To(message.step, plan),))


def _with_advice(error: ErrorInfo) -> ErrorInfo:
    known = advised(error)
    assert known is not None
    return known


def spread(
    message: StepMessage[P], collaborators: Collaborators, step: str, model: type[Payload]
) -> Continue:
    """Act on a fixed selection: `accepted`, the outcomes that are certain already, and a task per database."""
    fixed, events, accepted = _unpacked(message, collaborators)
    pace = collaborators.write_pace()

    def task(number: int, raw: dict[str, Any]) -> To:
        return To(step, model.model_validate(raw, extra="ignore"), pace.of(number))

    return Continue(FanOut(fixed.tasks, task), events, accepted)


def spread_in_turn(
    message: StepMessage[P],
    collaborators: Collaborators,
    first: Callable[[Sequence[T]], To | None],
    model: type[T],
) -> Continue:
    """As `spread`, for tasks that are done one after the other: only the first is sent, and carries the others."""
    fixed, events, accepted = _unpacked(message, collaborators)
    begun = first([model.model_validate(raw, extra="ignore") for raw in fixed.tasks])
    return Continue((begun,) if begun is not None else (), events, accepted)


def _unpacked(
    message: StepMessage[P], collaborators: Collaborators
) -> tuple[FixedSelection, tuple[Event, ...], Event]:
    """A selection that was fixed, the outcomes that are certain already, and `accepted`."""
    plan = message.payload
    assert plan.fixed is not None
    fixed = FixedSelection.model_validate_json(unpacked(plan.fixed, longest=_LONGEST))
    at = collaborators.now()
    accepted = outcomes.accepted(message, at=at, skipped=fixed.skipped, names=fixed.names)
    events = [
        outcomes.outcome(message, End(failure.status, failure.error), at=at, database=failure.database)
        for failure in fixed.failures
    ]
    if not fixed.tasks and not fixed.failures:
        reasons = ", ".join(f"{count} {reason}" for reason, count in fixed.skipped.items())
        nothing = ErrorInfo(
            code=ErrorCode.NOTHING_TO_DO,
            message=f"the request means no database that it can apply to ({reasons or 'all are excluded'}).",
        )
        events.append(outcomes.outcome_beside_acceptance(message, End(Status.SKIPPED, nothing), at=at))
    return fixed, tuple(events), accepted
