"""No path lowers what is known of an effect: over every way back to a queue, and over its parts.

Every estate under faults watches its deliveries (`tests.faults.knowledge`); here each way is taken on purpose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.estate import JsonObject
from shared.bus import OutgoingMessage
from shared.clock import MachineTime, ServiceTime
from shared.engine.effect import Effect
from shared.engine.message import Delivery, StepMessage
from shared.messages.events import ErrorInfo
from shared.workflows import TABLE
from tests.faults.estate import BRISK, FaultyEstate, fault, protected_estate
from tests.faults.knowledge import Knowledge, known_of
from tests.faults.observing import OpenEstate, deadly, proven
from tests.reported.effects import (
    OVERWRITING,
    advance,
    ask,
    crash_in_the_call,
    did_once,
    effects,
    route_of,
    settings_that_cannot_be_used,
    until_it_crashes,
)

OPERATIONS = ("backup", "restore", "restore over the original")
NOW = ServiceTime(datetime(2026, 1, 5, 9, tzinfo=UTC))
MINUTE = timedelta(minutes=1)

# -- every way back to a queue, after a crash while the call was out

Way = Callable[[FaultyEstate, pytest.MonkeyPatch], None]


def _settings(estate: FaultyEstate, patch: pytest.MonkeyPatch) -> None:
    with settings_that_cannot_be_used(estate, patch, JOB_TIMEOUT="seven days"):
        advance(estate, 12 * MINUTE)


def _older_version(estate: FaultyEstate, patch: pytest.MonkeyPatch) -> None:
    estate.restart(release=True)
    with patch.context() as patched:
        patched.setattr("shared.engine.table.VERSION", 0)
        advance(estate, 12 * MINUTE)
    estate.restart(release=True)


def _settings_then_older_version(estate: FaultyEstate, patch: pytest.MonkeyPatch) -> None:
    _settings(estate, patch)
    _older_version(estate, patch)


def _next_queue_refuses(estate: FaultyEstate, _: pytest.MonkeyPatch) -> None:
    estate.meter.plan.refused = {"track": 8}
    estate.restart(release=True)
    advance(estate, 12 * MINUTE)


def _bus_takes_nothing(estate: FaultyEstate, _: pytest.MonkeyPatch) -> None:
    estate.meter.plan.bus_gone_until = estate.clock.now() + 30 * MINUTE
    estate.restart(release=True)
    advance(estate, 40 * MINUTE)


def _lock_ends(estate: FaultyEstate, _: pytest.MonkeyPatch) -> None:
    estate.restart(release=False)


def _dies_again(estate: FaultyEstate, _: pytest.MonkeyPatch) -> None:
    estate.meter.plan.crashes = {len(estate.meter.effects) + 1: "before"}
    estate.restart(release=True)
    estate.quiesce()


def crashed_in_the_call(
    open_estate: OpenEstate, operation: str, *, seconds: int
) -> tuple[FaultyEstate, JsonObject]:
    """An estate whose process has died while the call of a request was out, and the request; its job runs on."""
    durations = {**BRISK, "backup": seconds, "restore": seconds}
    estate = open_estate(protected_estate("orders", "billing", durations=durations), settings=OVERWRITING)
    proven(estate)
    estate.meter.plan.at = crash_in_the_call(operation).at
    request = ask(estate, operation)
    estate.submit(request)
    until_it_crashes(estate)
    return estate, request


WAYS: dict[str, Way] = {
    "settings that cannot be used": _settings,
    "an older version": _older_version,
    "unusable settings, then an older version": _settings_then_older_version,
    "a next queue that refuses": _next_queue_refuses,
    "a bus that takes nothing": _bus_takes_nothing,
    "a lock that ends": _lock_ends,
    "another death": _dies_again,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_call_that_was_out_is_remembered(
    open_estate: OpenEstate, operation: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    estate, request = crashed_in_the_call(open_estate, operation, seconds=600)
    back = estate.bus.watched.came_back.total()
    WAYS[way](estate, monkeypatch)
    estate.quiesce()
    estate.check()
    assert estate.bus.watched.came_back.total() > back
    did_once(estate, route_of(operation), estate.outcome(request))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_is_parked_and_sent_again_knows_of_its_call(open_estate: OpenEstate, operation: str) -> None:
    """It kills its process until it is parked; its replay finds the job of the call that was out."""
    estate, request = crashed_in_the_call(open_estate, operation, seconds=6000)
    estate.restart(release=True)
    with deadly(f"trigger-{operation.partition(' ')[0]}", request) as killed:
        estate.quiesce()
    assert len(killed) == 4, "its first death was the crash in the call"
    assert estate.bus.watched.came_back["parked"] == 1
    (parked,) = estate.outcomes_of(request)
    assert parked["data"]["status"] == "unknown"
    assert estate.replay() == 1
    estate.quiesce()
    (outcome,) = estate.outcomes_of(request, epoch=1)
    did_once(estate, route_of(operation), outcome["data"])
    assert estate.bus.watched.came_back["its replay"] == 1


@pytest.mark.parametrize("status", [401, 403, 409, 429, 500, 503])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_call_that_was_answered_badly_is_remembered_while_settings_break(
    open_estate: OpenEstate, operation: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    route = route_of(operation)
    failing = fault(route, "statusAfterEffect", pathContains="orders", nth=1, status=status)
    scenario = protected_estate("orders", "billing", faults=[failing], durations={**BRISK, "restore": 600})
    estate = open_estate(scenario, settings=OVERWRITING)
    proven(estate)
    request = ask(estate, operation)
    estate.submit(request)
    for _ in range(1000):
        estate.host.run_until_idle()
        if effects(estate, route):
            break
        due = estate.broker.next_due()
        assert due is not None
        estate.clock.advance_to(due)
    _settings_then_older_version(estate, monkeypatch)
    estate.quiesce()
    estate.check()
    did_once(estate, route, estate.outcome(request))


# -- the watch sees what it is there for


def _forgets_delivery(patch: pytest.MonkeyPatch) -> None:
    again = Delivery.copy

    def forgetful(delivery: Delivery, **options: Any) -> OutgoingMessage:
        message = again(delivery, **options)
        kept = {k: v for k, v in message.application_properties.items() if k not in ("delivered", "deaths")}
        return replace(message, application_properties=kept)

    patch.setattr(Delivery, "copy", forgetful)


def _forgets_effect(patch: pytest.MonkeyPatch) -> None:
    again = StepMessage.next_poll
    once = iter([Effect()])

    def forgetful(message: StepMessage[Any], **options: Any) -> StepMessage[Any]:
        sent = again(message, **options)
        return sent.model_copy(update={"effect": next(once, sent.effect)})

    patch.setattr(StepMessage, "next_poll", forgetful)


@pytest.mark.parametrize("forget", [_forgets_delivery, _forgets_effect])
def test_a_way_that_lowers_what_is_known_is_seen(
    open_estate: OpenEstate, forget: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    late = {"route": "Restore", "fault": "jobListedLate", "seconds": 240}
    estate = open_estate(protected_estate(faults=[late]), crash_in_the_call("restore"))
    estate.submit(estate.restore("orders"))
    until_it_crashes(estate)
    estate.restart(release=True)
    forget(monkeypatch)
    with pytest.raises(AssertionError, match=r"lowers what is known|without knowing it"):
        estate.quiesce()


# -- its parts

MOMENTS = st.none() | st.integers(0, 10_000).map(lambda minutes: NOW + minutes * MINUTE)


def effects_of(n: st.SearchStrategy[int]) -> st.SearchStrategy[Effect]:
    return st.builds(
        Effect,
        n=n,
        may_have_started=st.booleans(),
        refused_at=MOMENTS,
        refusal_looks=st.integers(0, 4),
        at=MOMENTS,
        given_up_at=MOMENTS,
        looks=st.integers(0, 4),
        look_first=st.booleans(),
        waiting=st.booleans(),
        explained=st.booleans(),
        ready=st.booleans(),
        why=st.none() | st.just(ErrorInfo(code="Conflict", message="another one was running")),
    )


ALIKE = effects_of(st.just(2))
ANY = effects_of(st.integers(1, 4))


def known(effect: Effect) -> Knowledge:
    """What a message with this effect says on the wire."""
    return known_of("track", message_of(effect))


def message_of(effect: Effect, **properties: Any) -> OutgoingMessage:
    body = f'{{"effect":{effect.model_dump_json(by_alias=True, exclude_none=True)}}}'.encode()
    return OutgoingMessage(entity="track", body=body, message_id="m", application_properties=properties)


@given(ALIKE, ALIKE)
def test_joined_knows_what_either_knows(one: Effect, other: Effect) -> None:
    joined = one.joined(other)
    assert not known(one).lowered_by(known(joined))
    assert not known(other).lowered_by(known(joined))
    assert known(joined) == known(other.joined(one))


@given(ALIKE, ALIKE, ALIKE)
def test_joined_again_adds_nothing_in_any_order(one: Effect, two: Effect, three: Effect) -> None:
    assert one.joined(one) == one
    assert one.joined(two).joined(two) == one.joined(two)
    assert known(one.joined(two).joined(three)) == known(one.joined(two.joined(three)))


@given(ANY, ANY)
def test_of_two_effects_the_later_is_what_is_known(one: Effect, other: Effect) -> None:
    joined = one.joined(other)
    assert joined.n == max(one.n, other.n)
    if one.n != other.n:
        assert joined == max(one, other, key=lambda effect: effect.n)


def a_message(effect: Effect) -> StepMessage[Any]:
    raw: JsonObject = {
        "version": 2,
        "step": "trigger_backup",
        "sender": "select_items",
        "at": NOW,
        "since": NOW,
        "request": {
            "operation": "backup",
            "source": "/tests",
            "id": "1",
            "vaultId": None,
        },
        "effect": effect.model_dump(by_alias=True, mode="json"),
        "payload": {},
    }
    return StepMessage[Any].model_validate(
        {**raw, "payload": TABLE.row("trigger_backup").payload.model_construct()}
    )


@given(ANY, st.none() | ANY, st.none() | ANY)
def test_the_same_message_again_knows_no_less(
    effect: Effect, more: Effect | None, later: Effect | None
) -> None:
    message = a_message(effect)
    once = message.next_poll(at=NOW, effect=more)
    twice = once.next_poll(at=NOW, effect=later)
    for before, after in ((message, once), (once, twice)):
        assert after.effect.n >= before.effect.n
        if after.effect.n == before.effect.n:
            assert not known(before.effect).lowered_by(known(after.effect))
    assert twice.next_poll(at=NOW).effect == twice.effect
    assert not known(effect).lowered_by(known(message.learned(effect).effect))


@given(
    count=st.integers(1, 3),
    properties=st.fixed_dictionaries(
        {},
        optional={
            "delivered": st.sampled_from([True, False, "true", 1, None]),
            "deaths": st.sampled_from([0, 1, 4, 5, 900, -1, "2", True, None]),
            "waited": st.sampled_from([0, 3, "x"]),
            "own": st.just("kept"),
        },
    ),
    ways=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=4),
)
def test_a_copy_of_a_delivery_knows_no_less(
    count: int, properties: dict[str, Any], ways: list[tuple[bool, bool]]
) -> None:
    delivery = Delivery(
        queue="track",
        body=b"{}",
        message_id="m",
        delivery_count=count,
        taken=MachineTime(NOW),
        application_properties=properties,
    )
    ids = {delivery.message_id}
    for died, worked_on in ways:
        copy = delivery.copy(died=died, worked_on=worked_on)
        after = Delivery(
            queue="track",
            body=copy.body,
            message_id=copy.message_id,
            taken=MachineTime(NOW),
            application_properties=copy.application_properties,
        )
        assert after.body == delivery.body
        assert after.delivered_before >= (delivery.delivered_before or died or worked_on)
        assert after.deaths >= min(delivery.deaths + died, 5)
        assert after.message_id not in ids, "duplicate detection drops the copy"
        ids.add(after.message_id)
        delivery = after
