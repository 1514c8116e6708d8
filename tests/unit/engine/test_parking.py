"""What cannot be handled is kept whole, with why, and with what whoever sends it again has to know."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.clock import MachineTime
from shared.engine.message import Delivery
from shared.engine.parking import park
from shared.messages.identity import MOST_EPOCHS
from shared.messages.reserved import COPY_OF, DEATHS, DELIVERED, WAITED
from tests.unit.examples import NOW


def delivery(body: Any = None, queue: str = "track", **details: Any) -> Delivery:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Delivery(queue=queue, body=raw, taken=MachineTime(NOW), **{"message_id": "m1", **details})


def properties_of(found: Delivery) -> dict[str, Any]:
    return {**park(found, "Broken", "x" * 2000).application_properties}


def test_a_message_is_kept_as_it_was() -> None:
    found = park(delivery(b"no json", content_type="text/x", correlation_id="c-1"), "Broken", "It broke.")
    assert (found.entity, found.body) == ("parked-messages", b"no json")
    assert (found.content_type, found.correlation_id) == ("text/x", "c-1")
    assert park(delivery(), "Broken", "It broke.").content_type == "application/json"


def test_it_says_where_it_was_and_why_it_is_no_longer_there() -> None:
    properties = properties_of(delivery(application_properties={"color": "red", WAITED: 2}))
    assert properties == {
        "color": "red",
        "reason": "Broken",
        "description": "x" * 1024,
        "originalQueue": "track",
        "originalMessageId": "m1",
        "epoch": 0,
    }


def test_sent_again_it_has_not_died_and_is_no_copy_but_may_have_been_worked_on() -> None:
    died = properties_of(delivery(application_properties={DEATHS: 5, COPY_OF: "m0"}))
    assert DEATHS not in died
    assert COPY_OF not in died
    assert died[DELIVERED] is True
    assert DELIVERED not in properties_of(delivery())


@pytest.mark.parametrize(
    ("epoch", "kept"),
    [(3, 3), (MOST_EPOCHS, MOST_EPOCHS), (MOST_EPOCHS + 1, 0), (-1, 0), (True, 0), ("3", 0), (None, 0)],
    ids=str,
)
def test_the_epoch_of_a_message_between_steps_is_kept(epoch: object, kept: int) -> None:
    body = {"request": {"epoch": epoch}}
    assert properties_of(delivery(body))["epoch"] == kept
    # A requester's word of it is not believed.
    assert properties_of(delivery(body, "backup-requests"))["epoch"] == 0


@pytest.mark.parametrize("body", [b"no json", [], {"request": []}, {}], ids=str)
def test_what_bears_no_epoch_has_that_of_its_delivery(body: Any) -> None:
    assert properties_of(delivery(body, epoch=2))["epoch"] == 2
    assert properties_of(delivery(body))["epoch"] == 0


def test_each_epoch_of_a_message_is_kept_and_none_of_them_twice() -> None:
    ids = [park(delivery({"a": 1}, epoch=epoch), "Broken", "why").message_id for epoch in (0, 1)]
    ids += [park(delivery({"a": 2}), "Broken", "why").message_id]
    ids += [park(delivery({"a": 1}, "select-items"), "Broken", "why").message_id]
    ids += [park(delivery({"a": 1}, message_id="m2"), "Broken", "why").message_id]
    assert len({*ids}) == len(ids)
    assert park(delivery({"a": 1}), "Other", "another reason").message_id == ids[0]
