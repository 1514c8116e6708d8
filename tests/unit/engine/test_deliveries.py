"""What a delivery knows of the message in it, and how that goes along with a copy."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from shared.bus import OutgoingMessage
from shared.bus.topology import BACKUP_REQUESTS
from shared.clock import MachineTime
from shared.engine.message import MOST_DEATHS, Delivery, plain, wait_until
from shared.engine.parking import park
from shared.messages.reserved import COPY_OF, DEAD_LETTER_SOURCE, DEATHS, DELIVERED, WAITED, WAITING_SINCE
from tests.unit.examples import NOW

LATER = MachineTime(NOW + timedelta(minutes=1))


def delivery(queue: str = "track", **details: Any) -> Delivery:
    return Delivery(queue=queue, taken=MachineTime(NOW), **{"body": b"{}", "message_id": "m1", **details})


def redelivered(sent: OutgoingMessage) -> Delivery:
    """A copy, as it is handed over in its turn."""
    return delivery(
        sent.entity,
        body=sent.body,
        message_id=sent.message_id,
        application_properties=sent.application_properties,
    )


def test_a_message_is_told_by_its_id_else_by_its_number() -> None:
    assert delivery(sequence_number=7).identity == "m1"
    assert delivery(message_id="", sequence_number=7).identity == "number 7"
    assert delivery(message_id="").identity == ""


def test_a_copy_is_told_by_its_original_however_often_it_is_copied() -> None:
    once = redelivered(delivery().copy())
    assert once.message_id != "m1"
    assert redelivered(once.copy()).identity == once.identity == "m1"


@pytest.mark.parametrize("written", ["", 5, None])
def test_what_a_sender_wrote_in_the_place_of_an_original_is_no_id(written: object) -> None:
    assert delivery(application_properties={COPY_OF: written}).identity == "m1"


def test_what_a_sender_wrote_of_waiting_does_not_go_on_with_its_dead_letter() -> None:
    # The SDK sends no number above this one: no copy of the dead letter could be sent.
    written = {WAITED: 2**31 - 1, WAITING_SINCE: "2020-01-01", DEATHS: 5}
    lost = delivery("dead-letters", application_properties=written, dead_letter_source="backup-requests")
    assert (lost.has_waited, lost.deaths) == (False, 0)
    sent = lost.copy().application_properties
    assert (sent[WAITED], WAITING_SINCE in sent) == (1, False)


@pytest.mark.parametrize(
    ("written", "deaths"),
    [(None, 0), (0, 0), (1, 1), (4, 4), (99, MOST_DEATHS), (-3, 0), ("four", 0)],
    ids=str,
)
def test_deaths_are_counted_as_far_as_they_are_a_count(written: object, deaths: int) -> None:
    properties = {} if written is None else {DEATHS: written}
    found = delivery(application_properties=properties)
    assert found.deaths == deaths
    assert found.delivered_before is (deaths > 0)


def test_a_death_is_counted_on_the_copy_and_nothing_else_is() -> None:
    first = redelivered(delivery().copy(died=True))
    assert (first.deaths, first.delivered_before) == (1, True)
    assert redelivered(first.copy(died=True)).deaths == 2
    assert redelivered(first.copy()).deaths == 1


def test_a_dead_letter_has_not_died_where_it_is_now_and_its_copy_tells_where_it_was() -> None:
    lost = delivery("dead-letters", dead_letter_source="track", application_properties={DEATHS: 4, "own": 1})
    assert (lost.deaths, lost.application_properties) == (0, {"own": 1})
    copied = lost.copy(died=True).application_properties
    assert (copied[DEAD_LETTER_SOURCE], copied[DEATHS]) == ("track", 1)
    assert DEAD_LETTER_SOURCE not in delivery().copy().application_properties


def test_a_copy_knows_whether_its_original_may_have_been_worked_on() -> None:
    untouched = redelivered(delivery().copy())
    assert not untouched.delivered_before
    worked_on = redelivered(delivery().copy(worked_on=True))
    assert worked_on.application_properties[DELIVERED] is True
    assert worked_on.delivered_before
    assert redelivered(worked_on.copy()).delivered_before
    assert redelivered(delivery(delivery_count=2).copy()).delivered_before
    assert not delivery(application_properties={DELIVERED: "yes"}).delivered_before


def test_a_message_has_waited_once_it_is_a_copy() -> None:
    assert not delivery().has_waited
    copy = delivery().copy()
    assert redelivered(copy).has_waited
    assert copy.application_properties[WAITED] == 1
    assert redelivered(copy).copy().application_properties[WAITED] == 2
    odd = delivery(application_properties={WAITED: "often"})
    assert not odd.has_waited
    assert odd.copy().application_properties[WAITED] == 1


def test_each_copy_has_an_id_of_its_own_and_is_else_the_same_message() -> None:
    original = delivery(
        body=b'{"a": 1}',
        content_type="text/x",
        correlation_id="c-1",
        application_properties={"color": "red"},
    )
    first = original.copy(scheduled_for=LATER, room="big")
    assert (first.entity, first.body, first.scheduled_for) == ("track", b'{"a": 1}', LATER)
    assert (first.content_type, first.correlation_id) == ("text/x", "c-1")
    assert {**first.application_properties}.items() >= {"color": "red", "room": "big"}.items()
    assert delivery().copy().content_type == "application/json"
    assert delivery().copy().scheduled_for is None
    assert first.message_id == original.copy(died=True, worked_on=True).message_id
    ids = [
        first.message_id,
        redelivered(first).copy().message_id,
        delivery().copy().message_id,
        delivery(message_id="m2").copy().message_id,
        delivery("select-items").copy().message_id,
        delivery(message_id="", sequence_number=1).copy().message_id,
        delivery(message_id="", sequence_number=2).copy().message_id,
        park(original, "reason", "why").message_id,
    ]
    assert len({*ids}) == len(ids)


def test_the_ids_of_copies_are_those_of_the_versions_before() -> None:
    """Functions of two versions run side by side while one is deployed: the broker drops the second copy."""
    assert delivery().copy().message_id == "4a4ebaa10568d8ee06882a33b719338a1a2234ac455617e302351b4e2c0ed158"
    assert (
        park(delivery(), "reason", "why").message_id
        == "b11ef635781a5412c8f6855720e12ff9bb3ffdf7d6a884b41426088cf0cbb26f"
    )


def test_reserved_properties_of_a_requester_are_not_believed() -> None:
    written = {DELIVERED: True, WAITED: 3, "color": "red"}
    assert delivery(BACKUP_REQUESTS, application_properties=written).application_properties == {
        "color": "red"
    }
    assert delivery(application_properties=written).application_properties == written


def test_properties_that_no_message_can_be_sent_with_are_left_out() -> None:
    largest, smallest = 2**31 - 1, -(2**31)
    given = {"a": "text", "b": True, "c": largest, "d": smallest, "e": 1.5, "f": None, "g": b"bytes"}
    assert plain(given) == {"a": "text", "b": True, "c": largest, "d": smallest}
    assert plain({"a": largest + 1, "b": smallest - 1}) == {"a": "2147483648", "b": "-2147483649"}


def test_properties_go_along_as_far_as_there_is_room() -> None:
    room = 56 * 1024
    assert plain({"a": "x" * (room - 1)}) == {"a": "x" * (room - 1)}
    assert plain({"a": "x" * room, "b": "y"}) == {"b": "y"}
    # A number takes eight bytes, and a letter as many as its encoding.
    assert [*plain({"a": "x" * (room - 10), "b": 1})] == ["a", "b"]
    assert [*plain({"a": "x" * (room - 9), "b": 1})] == ["a"]
    assert plain({"a": "é" * (room // 2)}) == {}


def test_what_is_sent_at_once_has_no_time() -> None:
    assert wait_until(MachineTime(NOW), timedelta()) is None
    assert wait_until(MachineTime(NOW), timedelta(minutes=1)) == LATER
