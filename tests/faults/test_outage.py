"""A bus that takes nothing for hours, and a message that ends its process: nothing is lost, and nothing goes along.

Service Bus counts deliveries of both alike, and gives a message up that was delivered too often
(https://learn.microsoft.com/azure/service-bus-messaging/service-bus-dead-letter-queues).
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from local.estate import JsonObject
from shared.bus import BusError, BusUnavailableError
from shared.bus.topology import PARKED_MESSAGES, TOPOLOGY
from tests.faults.estate import BRISK, Crash, FaultyEstate, Plan, protected_estate
from tests.faults.observing import OpenEstate, deadly
from tests.reported.effects import advance

MINUTE = timedelta(minutes=1)
HOURS = timedelta(hours=6)


def an_estate(count: int, **durations: int) -> JsonObject:
    names = [f"db{number:03}" for number in range(count)]
    return protected_estate(*names, durations={**BRISK, **durations})


def given_up(estate: FaultyEstate) -> list[str]:
    """What any queue gave up, wherever that went."""
    reports = [m.message_id or "" for m in estate.broker.peek(PARKED_MESSAGES, 0, 500)]
    for queue in TOPOLOGY.queues:
        dead = estate.broker.peek(f"{queue.name}/$deadletterqueue", 0, 500)
        reports += [f"{queue.name}: {message.message_id}" for message in dead]
    return reports


#: Few polls for hours.
SETTINGS = {"TRACK_INTERVAL": "PT2M"}


@pytest.fixture
def open_estate(open_estate: OpenEstate) -> OpenEstate:
    """Opens estates whose settings are those of this file."""
    return partial(open_estate, settings=SETTINGS)


@pytest.mark.parametrize("refusal", [BusUnavailableError, BusError])
@pytest.mark.parametrize(("followed", "waiting"), [(50, 50), (1, 1), (0, 3)])
def test_six_hours_without_a_bus_lose_nothing(
    open_estate: OpenEstate, followed: int, waiting: int, refusal: type[BusError]
) -> None:
    """Few messages are delivered most often: each has the whole outage to itself."""
    estate = open_estate(an_estate(followed + waiting, backup=1800))
    names = [f"db{number:03}" for number in range(followed + waiting)]
    requests = [estate.backup(name) for name in names]
    if followed:
        estate.submit(*requests[:followed])
        advance(estate, 10 * MINUTE)
        assert estate.mutations["Backup"] == followed
    estate.submit(*requests[followed:])
    until = estate.clock.now() + HOURS
    estate.meter.plan.refusal = refusal
    estate.meter.plan.bus_gone_until = until
    while estate.clock.now() < until:
        advance(estate, min(MINUTE, until - estate.clock.now()))
    estate.quiesce()
    estate.check()
    assert not given_up(estate)
    outcomes = [estate.outcomes_of(request) for request in requests]
    assert [len(found) for found in outcomes] == [1] * len(requests)
    assert {found[0]["data"]["status"] for found in outcomes} == {"succeeded"}
    assert estate.mutations["Backup"] == len(requests)
    died = [message for message in estate.bus.sent if message.application_properties.get("deaths")]
    assert not died, "an outage is counted as a death"


@pytest.mark.parametrize("minutes", [1, 4, 7, 60])
def test_an_outage_is_no_death_of_any_of_a_batch(open_estate: OpenEstate, minutes: int) -> None:
    estate = open_estate(an_estate(8, backup=1800))
    estate.submit(*(estate.backup(f"db{number:03}") for number in range(8)))
    advance(estate, 10 * MINUTE)
    estate.meter.plan.bus_gone_until = estate.clock.now() + minutes * MINUTE
    estate.quiesce()
    estate.check()
    died = [message for message in estate.bus.sent if message.application_properties.get("deaths")]
    assert not died


@pytest.mark.parametrize("hour", [1, 3, 5])
def test_a_process_that_is_replaced_in_an_outage_loses_nothing(open_estate: OpenEstate, hour: int) -> None:
    """What the process knew of the outage is gone with it, and every message looks as if it had died."""
    estate = open_estate(an_estate(12, backup=1800))
    requests = [estate.backup(f"db{number:03}") for number in range(12)]
    estate.submit(*requests[:6])
    advance(estate, 10 * MINUTE)
    estate.submit(*requests[6:])
    until = estate.clock.now() + HOURS
    estate.meter.plan.bus_gone_until = until
    restarts = [estate.clock.now() + timedelta(hours=at) for at in range(hour, 6)]
    while estate.clock.now() < until:
        advance(estate, min(MINUTE, until - estate.clock.now()))
        if restarts and estate.clock.now() >= restarts[0]:
            restarts.pop(0)
            estate.restart(release=True)
    estate.quiesce()
    estate.check()
    assert not given_up(estate)
    assert estate.mutations["Backup"] == 12
    statuses = Counter(outcome["data"]["status"] for outcome in estate.outcomes())
    assert statuses == {"succeeded": 12}


@pytest.mark.parametrize("hours", [2, 30])
def test_a_delivery_that_comes_again_hours_later_leaves_the_telling_to_the_one_that_went_on(
    open_estate: OpenEstate,
    hours: int,
) -> None:
    """The tracker's queue forgets within an hour who has gone on, and the vault does not tell whose a job is."""
    plan = Plan(at={"send track": "after"}, recovery="later")
    scenario = {**an_estate(1, backup=48 * 3600), "echoActivityId": False}
    estate = open_estate(scenario, plan)
    estate.submit(request := estate.backup("db000"))
    with pytest.raises(Crash):
        estate.host.run_until_idle()
    # Somebody else's gives way to it: two jobs may be the request's own.
    estate.back_up_by_hand("db000")
    estate.clock.advance(timedelta(hours=hours))
    estate.restart(release=True)
    estate.quiesce()
    estate.check()
    assert estate.outcome(request)["status"] == "succeeded"


def test_an_outage_that_comes_and_goes_parks_nothing(open_estate: OpenEstate) -> None:
    """The bus comes back for a moment between hours in which it takes nothing."""
    estate = open_estate(an_estate(8, backup=12 * 3600))
    requests = [estate.backup(f"db{number:03}") for number in range(8)]
    estate.submit(*requests)
    advance(estate, 10 * MINUTE)
    for _ in range(8):
        estate.meter.plan.bus_gone_until = estate.clock.now() + timedelta(hours=1)
        advance(estate, timedelta(hours=1))
        advance(estate, timedelta(seconds=20))
    estate.quiesce()
    estate.check()
    assert not given_up(estate)
    statuses = Counter(outcome["data"]["status"] for outcome in estate.outcomes())
    assert statuses == {"succeeded": 8}


# -- a message that ends its process


@pytest.mark.parametrize("read", [False, True], ids=["once it is run", "once it is read"])
@pytest.mark.parametrize("recovery", ["at once", "later"])
@pytest.mark.parametrize("queue", ["select-items", "trigger-backup"])
def test_a_message_that_ends_its_process_is_parked_alone(
    open_estate: OpenEstate, queue: str, recovery: Any, read: bool
) -> None:
    estate = open_estate(an_estate(4))
    estate.meter.plan.recovery = recovery
    requests = [estate.backup(f"db{number:03}") for number in range(4)]
    estate.submit(*requests)
    with deadly(queue, requests[1], read=read) as killed:
        estate.quiesce()
    assert len(killed) == 5
    _only_one_is_parked(estate, requests, queue)
    assert estate.mutations["Backup"] == 3


@pytest.mark.parametrize("read", [False, True], ids=["once it is run", "once it is read"])
@pytest.mark.parametrize("recovery", ["at once", "later"])
@pytest.mark.parametrize("count", [1, 4, 30])
def test_a_poll_that_ends_its_process_takes_no_other_of_its_batch_along(
    open_estate: OpenEstate, count: int, recovery: Any, read: bool
) -> None:
    estate = open_estate(an_estate(count, backup=1800))
    estate.meter.plan.recovery = recovery
    requests = [estate.backup(f"db{number:03}") for number in range(count)]
    estate.submit(*requests)
    with deadly("track", requests[0], read=read) as killed:
        estate.quiesce()
    assert len(killed) == 5
    _only_one_is_parked(estate, requests, "track", at=0)
    assert estate.mutations["Backup"] == count


def test_two_polls_that_end_their_process_are_parked_both_and_no_other(open_estate: OpenEstate) -> None:
    estate = open_estate(an_estate(10, backup=1800))
    requests = [estate.backup(f"db{number:03}") for number in range(10)]
    estate.submit(*requests)
    with deadly("track", *requests[:2]) as killed:
        estate.quiesce()
    # Of those that are in a batch when it ends its process at first, nobody can tell which did it.
    assert max(Counter(killed).values()) == 5
    assert len(estate.parked()) == 2
    statuses = [estate.outcome(request)["status"] for request in requests]
    assert statuses == ["unknown"] * 2 + ["succeeded"] * 8


def _only_one_is_parked(estate: FaultyEstate, requests: list[JsonObject], queue: str, at: int = 1) -> None:
    estate.check(two_answers=True)
    (parked,) = estate.parked()
    assert parked["originalQueue"] == queue
    for number, request in enumerate(requests):
        status = estate.outcome(request)["status"]
        # Before its databases are known a request has made no call.
        ended = "failed" if queue == "select-items" else "unknown"
        assert status == ("succeeded" if number != at else ended), (number, status)
    assert not any(
        list(estate.broker.peek(f"{each.name}/$deadletterqueue", 0, 10)) for each in TOPOLOGY.queues
    )
