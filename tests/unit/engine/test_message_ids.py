"""What messages and requests are told apart by: equal for equal work, distinct for everything else."""

from __future__ import annotations

import uuid
from datetime import timedelta
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.engine.claim import claim
from shared.engine.effect import Effect
from shared.engine.message import Ending, StepMessage
from shared.messages import events
from shared.messages.events import Status
from shared.messages.identity import (
    MARK,
    REQUESTED,
    Database,
    fingerprint,
    is_marked,
    marked_request_id,
    request_message_id,
)
from shared.messages.requests import Operation
from shared.steps.payloads import ProtectTask
from tests.unit.examples import NOW, VM, backup_message, item_id, request

ORDERS = Database(vm_id=VM, instance="MSSQLSERVER", name="orders")


def variants() -> dict[str, StepMessage[Any]]:
    """Messages that are different work, each in one respect."""
    return {
        "plain": backup_message(),
        "another database": backup_message("billing"),
        "another request": backup_message(request=request(id="backup-2")),
        "another source": backup_message(request=request(source="/other")),
        "another operation": backup_message(request=request(operation=Operation.PROTECT)),
        "a replay": backup_message(request=request(epoch=1)),
        "the next poll": backup_message().next_poll(at=NOW),
        "the next effect": backup_message(effect=Effect(n=2)),
        "another sender": backup_message(sender="track"),
        "another step": backup_message(step="trigger_restore"),
    }


def test_message_ids_are_distinct_and_fit() -> None:
    ids = {name: message.message_id for name, message in variants().items()}
    assert len(set(ids.values())) == len(ids), ids
    assert all(len(text) <= 128 and text.isascii() for text in ids.values())


def test_a_doubt_that_waits_has_ids_of_its_own_which_stay_the_same() -> None:
    decided, waiting = (
        claim(backup_message(), Ending(status=Status.UNKNOWN, has_waited=waits), at=NOW, deadline=NOW)
        for waits in (False, True)
    )
    assert decided.message_id != waiting.message_id
    # Messages of the version before are on their way.
    assert waiting.message_id == "20beb073a25c9b0f9086976da312cdf0d7d7bb590d5ec7e782428f55f773aec8"


@pytest.mark.parametrize(
    "change",
    [
        {"at": NOW + timedelta(hours=1)},
        {"since": NOW - timedelta(hours=1)},
        {"attempt": 3},
        {"effect": Effect(may_have_started=True, looks=1)},
        {"request": request(correlation_id="c", traceparent=f"00-{'1' * 32}-{'2' * 16}-01")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_does_not_make_work_different_keeps_the_message_id(change: dict[str, Any]) -> None:
    assert backup_message(**change).message_id == backup_message().message_id


def test_client_request_ids_are_uuids_of_version_8_with_the_mark() -> None:
    made = uuid.UUID(backup_message().client_request_id)
    assert made.version == 8
    assert made.variant == uuid.RFC_4122
    assert made.int >> 96 == MARK == int.from_bytes(b"sqlb", "big")
    assert is_marked(str(made).upper())


def test_a_client_request_id_is_that_of_the_effect_and_not_of_the_poll() -> None:
    message = backup_message()
    assert (
        message.next_poll(at=NOW + timedelta(hours=1), attempt=2).client_request_id
        == message.client_request_id
    )
    assert backup_message(effect=Effect(n=2)).client_request_id == message.client_request_id_of(2, 0)
    assert message.client_request_id_of(2, 0) != message.client_request_id_of(1, 0)
    distinct = {message.client_request_id for name, message in variants().items() if name != "the next poll"}
    # the sender of a message does not make its effect another one
    assert len(distinct) == len(variants()) - 2


def test_the_first_message_of_a_request_has_the_id_of_the_request() -> None:
    first = backup_message(sender=REQUESTED, request=request(epoch=2))
    assert first.message_id == request_message_id("backup", "/tests", "backup-1", 2)
    assert first.next_poll(at=NOW).message_id != first.message_id


def test_every_client_request_id_that_may_have_been_used_is_known_the_newest_first() -> None:
    message = backup_message(request=request(epoch=1), effect=Effect(n=2))
    known = [*message.client_request_ids(3)]
    numbers = [(1, 3), (1, 2), (1, 1), (0, 3), (0, 2), (0, 1)]
    assert known == [(message.client_request_id_of(n, epoch), (epoch, n) < (1, 2)) for epoch, n in numbers]
    beyond = backup_message(effect=Effect(n=4))
    assert next(beyond.client_request_ids(3)) == (beyond.client_request_id, False)


def test_each_action_on_an_item_has_its_own_client_request_id() -> None:
    def protect(action: Any) -> str:
        task = ProtectTask(
            database=ORDERS,
            item_id=item_id("orders").path,
            policy_id="p",
            policy_name="Daily",
            action=action,
            outcome_count=1,
        )
        fields = backup_message().model_copy(update={"step": "enable_protection", "payload": task})
        return fields.client_request_id

    assert protect("undelete") != protect("resume")


@pytest.mark.parametrize(
    "text", [None, "", "no uuid", "b0356a0e-0000-1000-8000-000000000000", "73716c6"], ids=repr
)
def test_what_this_app_did_not_make_is_not_marked(text: str | None) -> None:
    assert not is_marked(text)


def test_an_outcome_has_one_id_however_it_ends() -> None:
    outcomes = [events.outcome(request(), status, at=NOW, database=ORDERS) for status in Status]
    later = events.outcome(request(), Status.FAILED, at=NOW + timedelta(days=1), database=ORDERS)
    assert len({outcome.id for outcome in [*outcomes, later]}) == 1
    replayed = events.outcome(request(epoch=1), Status.FAILED, at=NOW, database=ORDERS)
    assert replayed.id != later.id


def test_names_in_another_case_are_the_same_database() -> None:
    shouted = Database(vm_id=VM, instance="mssqlserver", name="ORDERS")
    assert shouted.key == ORDERS.key
    assert (
        events.outcome(request(), Status.FAILED, at=NOW, database=shouted).id
        == events.outcome(request(), Status.FAILED, at=NOW, database=ORDERS).id
    )


def test_parts_of_a_key_cannot_be_shifted_into_each_other() -> None:
    tricky = [
        Database(vm_id=VM, instance="a", name="b;c"),
        Database(vm_id=VM, instance="a;b", name="c"),
        Database(vm_id=VM, instance="a", name="b%3bc"),
    ]
    assert len({database.key for database in tricky}) == len(tricky)


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), min_size=2, max_size=6, unique=True))
def test_a_fingerprint_is_of_its_parts_and_no_others(pairs: list[tuple[str, str]]) -> None:
    for one, other in combinations(pairs, 2):
        assert fingerprint(*one) != fingerprint(*other)
        assert marked_request_id(*one) != marked_request_id(*other)
