"""What is known of an effect: what two deliveries know together, and what follows for the next one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from shared.engine.effect import CheckFirst, Effect, MayHaveStarted, State, Untried, Waiting
from shared.messages.events import ErrorInfo
from tests.unit.examples import NOW

LATER = NOW + timedelta(minutes=1)
REFUSED = {"refused_from": NOW, "refused_at": LATER}
LOST = {"may_have_started": True, "at": NOW, "given_up_at": LATER, "looks": 2}
LOST_CALL = MayHaveStarted(since=NOW, until=LATER, looks=2)

#: what is known of an effect of at most three, and what that means
STATES: dict[str, tuple[dict[str, Any], State]] = {
    "nothing": ({}, Untried()),
    "read beforehand": ({"ready": True}, Untried()),
    "requeued": ({"look_first": True}, CheckFirst()),
    "refused": (REFUSED, CheckFirst()),
    "the second": ({"n": 2}, CheckFirst()),
    "lost": (LOST, LOST_CALL),
    "lost after a refusal": ({**REFUSED, **LOST}, LOST_CALL),
    "lost after a wait": ({"n": 3, "waiting": True, **LOST}, LOST_CALL),
    "delivered again beyond the last": ({"n": 4, "waiting": True, **LOST}, Waiting(None, None, False, 0)),
    "delivered again beyond the last, read beforehand": ({"n": 4, **LOST}, CheckFirst()),
    "waiting": ({"n": 2, "waiting": True}, Waiting(None, None, explained=False, looks=0)),
    "waiting after a refusal": (
        {"n": 2, "waiting": True, "refusal_looks": 1, **REFUSED},
        Waiting(NOW, LATER, explained=False, looks=1),
    ),
    "waiting for somebody else": (
        {"n": 2, "waiting": True, "explained": True},
        Waiting(None, None, explained=True, looks=0),
    ),
    "has waited": ({"n": 2, "waiting": True, "ready": True}, CheckFirst()),
}


@pytest.mark.parametrize(("facts", "state"), STATES.values(), ids=STATES)
def test_what_is_known_means_one_state(facts: dict[str, Any], state: State) -> None:
    assert Effect(**facts).state(3) == state


def test_what_is_learned_adds_to_what_is_known() -> None:
    known = Effect(n=2, waiting=True, at=NOW)
    assert known.lost(since=LATER, looks=1) == Effect(
        n=2, waiting=True, may_have_started=True, at=NOW, looks=1
    )
    assert known.lost(since=NOW, until=LATER).given_up_at == LATER
    assert known.refused(since=NOW, until=LATER) == Effect(n=2, waiting=True, at=NOW, **REFUSED)
    assert known.conflict_explained() == known.model_copy(update={"explained": True})
    assert known.conflict_unexplained(3) == known.model_copy(update={"refusal_looks": 3})
    assert known.requeued() == known.model_copy(update={"look_first": True})
    assert known.prepared() == known.model_copy(update={"ready": True})


WHY = ErrorInfo(code="Busy", message="another operation was running.")
KNOWN: dict[str, Any] = {
    "may_have_started": True,
    "at": NOW,
    "given_up_at": NOW,
    "looks": 2,
    "refused_from": NOW,
    "refused_at": NOW,
    "refusal_looks": 1,
    "look_first": True,
    "waiting": True,
    "explained": True,
    "ready": True,
    "why": WHY,
}


@pytest.mark.parametrize("name", KNOWN)
def test_what_either_knows_of_an_effect_is_known(name: str) -> None:
    changes = {name: KNOWN[name], **({"refused_at": NOW} if name == "refused_from" else {})}
    one = Effect(**changes)
    assert one.joined(Effect()) == Effect().joined(one) == one.joined(one) == one


def test_of_two_calls_in_doubt_the_whole_time_is_known_and_of_two_refusals_the_later() -> None:
    early, late = Effect(at=NOW, given_up_at=NOW), Effect(at=LATER, given_up_at=LATER)
    assert early.joined(late) == late.joined(early) == Effect(at=NOW, given_up_at=LATER)
    first = Effect(refused_from=NOW, refused_at=NOW, looks=2)
    then = Effect(refused_from=LATER, refused_at=LATER, looks=1)
    both = Effect(refused_from=LATER, refused_at=LATER, looks=2)
    assert first.joined(then) == then.joined(first) == both


@pytest.mark.parametrize("number", [0, -1, 1_001, 10**30])
def test_the_number_of_a_call_is_bounded(number: int) -> None:
    """A message may have been written by anybody who may send to the app's own queues."""
    with pytest.raises(ValidationError, match=r"\bn\b"):
        Effect.model_validate({"n": number})
