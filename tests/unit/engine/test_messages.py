"""What a message between steps says of its request, and what of it goes along when it comes back."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.engine.claim import claim
from shared.engine.effect import Effect
from shared.engine.message import FollowedJob, Payload
from shared.steps.payloads import VaultTask
from tests.unit.examples import CONTAINER, NOW, VAULT, backup_message

LATER = NOW + timedelta(minutes=5)
TOLD = ("about", "part", "is_silent", "subject", "outcomes", "is_accepted")


def test_what_says_nothing_more_is_about_the_whole_request() -> None:
    payload = Payload()
    assert [getattr(payload, name) for name in TOLD] == [None, "", False, None, 1, False]
    assert (payload.variant, payload.drills, payload.is_fixed) == ("", None, False)
    assert payload.server == ""
    assert VaultTask(vault_id=VAULT, outcome_count=3).outcomes == 3


@pytest.mark.parametrize(
    "payload",
    [backup_message().payload, VaultTask(vault_id=VAULT, container_id=CONTAINER.path, outcome_count=3)],
    ids=lambda payload: type(payload).__name__,
)
def test_what_is_followed_is_about_what_its_step_is_about(payload: Payload) -> None:
    message = backup_message().model_copy(update={"payload": payload})
    following = claim(message, FollowedJob(job_id="job-1"), at=NOW, deadline=NOW).payload
    assert [getattr(following, name) for name in TOLD] == [getattr(payload, name) for name in TOLD]


def test_what_comes_back_starts_to_count_failures_anew_unless_it_says_so() -> None:
    failing = backup_message(attempt=3, failing_since=NOW, poll=2)
    again = failing.next_poll(at=LATER)
    assert (again.at, again.since, again.poll) == (LATER, NOW, 3)
    assert (again.attempt, again.failing_since) == (0, None)
    still = failing.next_poll(at=LATER, attempt=4, failing_since=NOW)
    assert (still.attempt, still.failing_since) == (4, NOW)


def test_a_field_that_a_message_does_not_have_cannot_be_changed() -> None:
    message = backup_message()
    assert message.changed(attempt=3, poll=2) == backup_message(attempt=3, poll=2)
    with pytest.raises(TypeError, match="has no field attempts"):
        message.changed(attempts=3)


def test_what_is_known_of_an_effect_comes_back_with_it() -> None:
    doubtful = backup_message(effect=Effect(may_have_started=True))
    looked = doubtful.next_poll(at=LATER, effect=Effect(looks=1))
    assert looked.effect == doubtful.learned(Effect(looks=1)).effect == Effect(may_have_started=True, looks=1)
    assert doubtful.next_poll(at=LATER).effect == doubtful.effect


def test_what_is_followed_tells_of_the_message_of_its_step() -> None:
    step = backup_message(poll=4, effect=Effect(n=2))
    followed = claim(step, FollowedJob(job_id="job-1"), at=LATER, deadline=LATER).next_poll(at=LATER)
    origin = followed.of_origin
    assert (origin.step, origin.sender, origin.poll) == ("trigger_backup", "track", 0)
    assert (origin.since, origin.payload, origin.effect.n) == (LATER, step.payload, 2)
    assert step.of_origin is step
