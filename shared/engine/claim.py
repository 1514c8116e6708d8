"""The claim on an effect: what a delivery of a step hands to the tracker, under the message id of the effect.

Of several deliveries of one message, each claims its effect under the same id. Service Bus detects the duplicates and
keeps the first, so only one of them goes on, and a doubt never replaces what is known.
"""

from __future__ import annotations

from typing import Any

from shared.clock import ServiceTime
from shared.engine.effect import Effect
from shared.engine.message import (
    TRACK,
    DecidedEffect,
    Ending,
    FollowedJob,
    FollowedOperation,
    Following,
    Payload,
    StepMessage,
)
from shared.engine.result import NextEffect


def claim(
    message: StepMessage[Any],
    followed: FollowedOperation | FollowedJob | Ending | DecidedEffect,
    *,
    at: ServiceTime,
    deadline: ServiceTime,
    payload: Payload | None = None,
    not_before: ServiceTime | None = None,
) -> StepMessage[Following]:
    """The message to the tracker that claims the effect of a step's message, with what its delivery came to.

    Args:
        message: the message of the step.
        followed: what is to be followed, or what has been decided.
        at: when it is sent, by the service's time.
        deadline: until when the operation or job is followed.
        payload: what the step goes on with; None: what its message holds.
        not_before: the earliest time of the first poll.
    """
    following = Following(
        origin=message.step,
        payload=payload if payload is not None else message.payload,
        followed=followed,
        client_request_id=message.client_request_id,
        began=at,
        deadline=deadline,
        not_before=not_before,
    )
    return StepMessage[Following](
        step=TRACK,
        sender=message.step,
        at=at,
        since=at,
        request=message.request,
        # Only its number, so that the id is the same whatever this delivery knows.
        effect=Effect(n=message.effect.n),
        payload=following,
    )


def next_effect(message: StepMessage[Any], result: NextEffect) -> DecidedEffect:
    """What claims an effect that did not happen: the step's next one."""
    message = message.of_origin
    effect = Effect(
        n=message.effect.n + 1,
        waiting=result.waiting,
        why=result.why,
        refused_from=result.refused_from,
        refused_at=result.refused_at,
    )
    return DecidedEffect(effect=effect, since=message.since)
