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

from local.estate import JsonObject, ask_by_hand
from shared.bus import BusError, BusUnavailableError
from shared.bus.topology import PARKED_MESSAGES, TOPOLOGY
from tests.faults.estate import BRISK, Crash, FaultyEstate, Plan, open_faulty, protected_estate
from tests.faults.observing import deadly
from tests.reported.effects import advance

MINUTE = timedelta(minutes=1)
HOURS = timedelta(hours=6)


def an_estate(count: int, **durations: int) -> JsonObject:
    names = [f"db{number:03}" for number in range(count)]
    return protected_estate(*names, durations={**BRISK, **durations})


def given_up(azure: FaultyEstate) -> list[str]:
    """What any queue gave up, wherever that went."""
    reports = [m.message_id or "" for m in azure.broker.peek(PARKED_MESSAGES, 0, 500)]
    for queue in TOPOLOGY.queues:
        dead = azure.broker.peek(f"{queue.name}/$deadletterqueue", 0, 500)
        reports += [f"{queue.name}: {message.message_id}" for message in dead]
    return reports


#: Few polls for hours.
SETTINGS = {"TRACK_INTERVAL": "PT2M"}
opened = partial(open_faulty, settings=SETTINGS)


@pytest.mark.parametrize("refusal", [BusUnavailableError, BusError])
@pytest.mark.parametrize(("followed", "waiting"), [(50, 50), (1, 1), (0, 3)])
def test_six_hours_without_a_bus_lose_nothing(followed: int, waiting: int, refusal: type[BusError]) -> None:
    """Few messages are delivered most often: each has the whole outage to itself."""
    with opened(an_estate(followed + waiting, backup=1800)) as azure:
        names = [f"db{number:03}" for number in range(followed + waiting)]
        requests = [azure.backup(name) for name in names]
        if followed:
            azure.submit(*requests[:followed])
            advance(azure, 10 * MINUTE)
            assert azure.mutations["Backup"] == followed
        azure.submit(*requests[followed:])
        until = azure.clock.now() + HOURS
        azure.meter.plan.refusal = refusal
        azure.meter.plan.bus_gone_until = until
        while azure.clock.now() < until:
            advance(azure, min(MINUTE, until - azure.clock.now()))
        azure.quiesce()
        azure.check()
        assert not given_up(azure)
        outcomes = [azure.outcomes_of(request) for request in requests]
        assert [len(found) for found in outcomes] == [1] * len(requests)
        assert {found[0]["data"]["status"] for found in outcomes} == {"succeeded"}
        assert azure.mutations["Backup"] == len(requests)
        died = [message for message in azure.bus.sent if message.application_properties.get("deaths")]
        assert not died, "an outage is counted as a death"


@pytest.mark.parametrize("minutes", [1, 4, 7, 60])
def test_an_outage_is_no_death_of_any_of_a_batch(minutes: int) -> None:
    with opened(an_estate(8, backup=1800)) as azure:
        azure.submit(*(azure.backup(f"db{number:03}") for number in range(8)))
        advance(azure, 10 * MINUTE)
        azure.meter.plan.bus_gone_until = azure.clock.now() + minutes * MINUTE
        azure.quiesce()
        azure.check()
        died = [message for message in azure.bus.sent if message.application_properties.get("deaths")]
        assert not died


@pytest.mark.parametrize("hour", [1, 3, 5])
def test_a_process_that_is_replaced_in_an_outage_loses_nothing(hour: int) -> None:
    """What the process knew of the outage is gone with it, and every message looks as if it had died."""
    with opened(an_estate(12, backup=1800)) as azure:
        requests = [azure.backup(f"db{number:03}") for number in range(12)]
        azure.submit(*requests[:6])
        advance(azure, 10 * MINUTE)
        azure.submit(*requests[6:])
        until = azure.clock.now() + HOURS
        azure.meter.plan.bus_gone_until = until
        restarts = [azure.clock.now() + timedelta(hours=at) for at in range(hour, 6)]
        while azure.clock.now() < until:
            advance(azure, min(MINUTE, until - azure.clock.now()))
            if restarts and azure.clock.now() >= restarts[0]:
                restarts.pop(0)
                azure.restart(release=True)
        azure.quiesce()
        azure.check()
        assert not given_up(azure)
        assert azure.mutations["Backup"] == 12
        statuses = Counter(outcome["data"]["status"] for outcome in azure.outcomes())
        assert statuses == {"succeeded": 12}


@pytest.mark.parametrize("hours", [2, 30])
def test_a_delivery_that_comes_again_hours_later_leaves_the_telling_to_the_one_that_went_on(
    hours: int,
) -> None:
    """The tracker's queue forgets within an hour who has gone on, and the vault does not tell whose a job is."""
    plan = Plan(at={"send track": "after"}, recovery="later")
    estate = {**an_estate(1, backup=48 * 3600), "echoActivityId": False}
    with opened(estate, plan) as azure:
        azure.submit(request := azure.backup("db000"))
        with pytest.raises(Crash):
            azure.host.run_until_idle()
        item = next(entry["item"] for entry in azure.simulator.ledger_entries if entry["route"] == "Backup")
        body = {"properties": {"objectType": "AzureWorkloadBackupRequest", "backupType": "Full"}}
        # Somebody else's gives way to it: two jobs may be the request's own.
        assert ask_by_hand(azure.simulator, "POST", f"{item}/backup", body).status == 202
        azure.clock.advance(timedelta(hours=hours))
        azure.restart(release=True)
        azure.quiesce()
        azure.check()
        assert azure.outcome(request)["status"] == "succeeded"


def test_an_outage_that_comes_and_goes_parks_nothing() -> None:
    """The bus comes back for a moment between hours in which it takes nothing."""
    with opened(an_estate(8, backup=12 * 3600)) as azure:
        requests = [azure.backup(f"db{number:03}") for number in range(8)]
        azure.submit(*requests)
        advance(azure, 10 * MINUTE)
        for _ in range(8):
            azure.meter.plan.bus_gone_until = azure.clock.now() + timedelta(hours=1)
            advance(azure, timedelta(hours=1))
            advance(azure, timedelta(seconds=20))
        azure.quiesce()
        azure.check()
        assert not given_up(azure)
        statuses = Counter(outcome["data"]["status"] for outcome in azure.outcomes())
        assert statuses == {"succeeded": 8}


# -- a message that ends its process


@pytest.mark.parametrize("read", [False, True], ids=["once it is run", "once it is read"])
@pytest.mark.parametrize("recovery", ["at once", "later"])
@pytest.mark.parametrize("queue", ["select-items", "trigger-backup"])
def test_a_message_that_ends_its_process_is_parked_alone(queue: str, recovery: Any, read: bool) -> None:
    with opened(an_estate(4)) as azure:
        azure.meter.plan.recovery = recovery
        requests = [azure.backup(f"db{number:03}") for number in range(4)]
        azure.submit(*requests)
        with deadly(queue, requests[1], read=read) as killed:
            azure.quiesce()
        assert len(killed) == 5
        _only_one_is_parked(azure, requests, queue)
        assert azure.mutations["Backup"] == 3


@pytest.mark.parametrize("read", [False, True], ids=["once it is run", "once it is read"])
@pytest.mark.parametrize("recovery", ["at once", "later"])
@pytest.mark.parametrize("count", [1, 4, 30])
def test_a_poll_that_ends_its_process_takes_no_other_of_its_batch_along(
    count: int, recovery: Any, read: bool
) -> None:
    with opened(an_estate(count, backup=1800)) as azure:
        azure.meter.plan.recovery = recovery
        requests = [azure.backup(f"db{number:03}") for number in range(count)]
        azure.submit(*requests)
        with deadly("track", requests[0], read=read) as killed:
            azure.quiesce()
        assert len(killed) == 5
        _only_one_is_parked(azure, requests, "track", at=0)
        assert azure.mutations["Backup"] == count


def test_two_polls_that_end_their_process_are_parked_both_and_no_other() -> None:
    with opened(an_estate(10, backup=1800)) as azure:
        requests = [azure.backup(f"db{number:03}") for number in range(10)]
        azure.submit(*requests)
        with deadly("track", *requests[:2]) as killed:
            azure.quiesce()
        # Of those that are in a batch when it ends its process at first, nobody can tell which did it.
        assert max(Counter(killed).values()) == 5
        assert len(azure.parked()) == 2
        statuses = [azure.outcome(request)["status"] for request in requests]
        assert statuses == ["unknown"] * 2 + ["succeeded"] * 8


def _only_one_is_parked(azure: FaultyEstate, requests: list[JsonObject], queue: str, at: int = 1) -> None:
    azure.check(two_answers=True)
    (parked,) = azure.parked()
    assert parked["originalQueue"] == queue
    for number, request in enumerate(requests):
        status = azure.outcome(request)["status"]
        # Before its databases are known a request has made no call.
        ended = "failed" if queue == "select-items" else "unknown"
        assert status == ("succeeded" if number != at else ended), (number, status)
    assert not any(
        list(azure.broker.peek(f"{each.name}/$deadletterqueue", 0, 10)) for each in TOPOLOGY.queues
    )
