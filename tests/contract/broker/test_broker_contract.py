"""What Service Bus promises, held by both clients of the broker."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from local.broker import MAX_MESSAGE_SIZE, EntityNotFoundError, MessageLockLostError, MessageNotFoundError
from shared.bus import BusError, BusUnavailableError, MessageTooLargeError, OutgoingMessage
from tests.contract.broker.clients import LOCK, MAX_DELIVERIES, TIME_TO_LIVE, WINDOW, BrokerClient

SECOND = timedelta(seconds=1)


def message(message_id: str, entity: str = "orders", **given: Any) -> OutgoingMessage:
    return OutgoingMessage(**{"entity": entity, "message_id": message_id, "body": b"{}", **given})


def advance(client: BrokerClient, by: timedelta) -> None:
    client.clock.advance(by)
    client.broker.wake()


def ready(client: BrokerClient, entity: str) -> int:
    """How many messages a receiver would get. The SDK takes half a second to find that there is none."""
    return client.broker.counts(entity).active


def ids(messages: list[Any]) -> list[str]:
    return [got.message_id for got in messages]


def test_a_message_arrives_as_it_was_sent(client: BrokerClient) -> None:
    sent = message(
        "m-ü-1",
        body="größe \U0001f5c4".encode() + bytes(range(256)),
        content_type="application/cloudevents+json",
        subject="sqlvmbackup.backup.succeeded.v1",
        correlation_id="correlation",
        application_properties={
            "type": "Ärger",
            "attempt": 2**31 - 1,
            "negative": -1,
            "retry": True,
            "last": False,
        },
    )
    client.bus.send([sent])
    [got] = client.receive("orders")
    assert got.body == sent.body
    assert got.message_id == sent.message_id
    assert got.content_type == sent.content_type
    assert got.subject == sent.subject
    assert got.correlation_id == sent.correlation_id
    assert got.properties == sent.application_properties
    assert got.delivery_count == 1
    assert got.scheduled_for is None
    assert got.dead_letter_source is None
    assert got.locked_until is not None
    assert abs(got.locked_until - client.clock.now() - LOCK) < SECOND
    assert abs(got.enqueued_time - client.clock.now()) < SECOND


def test_messages_come_in_the_order_sent_and_a_completed_one_never_again(client: BrokerClient) -> None:
    client.bus.send([message(f"{number}") for number in range(5)])
    received = client.receive("orders", 5)
    assert ids(received) == ["0", "1", "2", "3", "4"]
    numbers = [got.sequence_number for got in received]
    assert numbers == list(range(numbers[0], numbers[0] + 5))
    for got in received:
        client.complete("orders", got)
    advance(client, LOCK)
    assert client.receive("orders") == []


def test_an_abandoned_message_comes_again_first_and_is_counted(client: BrokerClient) -> None:
    client.bus.send([message("first"), message("second")])
    [first] = client.receive("orders")
    client.abandon("orders", first)
    again = client.receive("orders", 2)
    assert ids(again) == ["first", "second"]
    assert [got.delivery_count for got in again] == [2, 1]
    with pytest.raises(MessageLockLostError):
        client.complete("orders", first)


def test_a_message_that_is_never_settled_is_dead_lettered_after_its_last_delivery(
    client: BrokerClient,
) -> None:
    client.bus.send([message("poison", subject="s", application_properties={"k": "v"})])
    for delivery in range(1, MAX_DELIVERIES + 1):
        [got] = client.receive("orders")
        assert got.delivery_count == delivery
        if delivery % 2:
            client.abandon("orders", got)
        else:
            advance(client, LOCK)
    assert ready(client, "orders") == 0
    [dead] = client.receive("dead-letters")
    assert dead.message_id == "poison"
    assert dead.subject == "s"
    assert dead.delivery_count == 1
    assert dead.dead_letter_source == "orders"
    assert dead.properties["k"] == "v"
    assert dead.properties["DeadLetterReason"] == "MaxDeliveryCountExceeded"
    assert dead.properties["DeadLetterErrorDescription"]


@pytest.mark.parametrize(
    ("entity", "dead_letters", "source"),
    [
        ("orders", "dead-letters", "orders"),
        ("plain", "plain/$deadletterqueue", None),  # the service names a source only where it forwarded
    ],
)
def test_a_message_is_dead_lettered_with_its_reason(
    client: BrokerClient, entity: str, dead_letters: str, source: str | None
) -> None:
    client.bus.send([message("bad", entity, body=b"whole")])
    [got] = client.receive(entity)
    client.dead_letter(entity, got, "ValueError", "the amount is no number")
    assert ready(client, entity) == 0
    [dead] = client.receive(dead_letters)
    assert dead.body == b"whole"
    assert dead.properties["DeadLetterReason"] == "ValueError"
    assert dead.properties["DeadLetterErrorDescription"] == "the amount is no number"
    assert dead.dead_letter_source == source
    client.complete(dead_letters, dead)
    assert client.peek(dead_letters) == []


def test_dead_letters_of_two_queues_that_share_an_id_are_both_kept(client: BrokerClient) -> None:
    client.bus.send([message("same", "orders"), message("same", "invoices"), message("same", "dead-letters")])
    for entity in ("orders", "invoices"):
        [got] = client.receive(entity)
        client.dead_letter(entity, got, "r", "d")
    dead = client.receive("dead-letters", 3)
    assert {got.dead_letter_source for got in dead} == {None, "orders", "invoices"}


def test_a_lock_that_ends_gives_the_message_to_the_next(client: BrokerClient) -> None:
    client.bus.send([message("slow")])
    [first] = client.receive("orders")
    advance(client, LOCK - SECOND)
    assert ready(client, "orders") == 0
    advance(client, SECOND)
    [second] = client.receive("orders")
    assert second.delivery_count == 2
    with pytest.raises(MessageLockLostError):
        client.complete("orders", first)
    with pytest.raises(MessageLockLostError):
        client.dead_letter("orders", first, "r", "d")
    with pytest.raises(MessageLockLostError):
        client.renew("orders", first)
    client.complete("orders", second)
    assert client.peek("orders") == []


def test_a_renewed_lock_lasts_its_whole_duration_again(client: BrokerClient) -> None:
    client.bus.send([message("long")])
    [got] = client.receive("orders")
    for _ in range(3):
        advance(client, LOCK - SECOND)
        assert abs(client.renew("orders", got) - client.clock.now() - LOCK) < SECOND
    assert ready(client, "orders") == 0
    client.complete("orders", got)


def test_scheduled_messages_come_when_they_are_due_and_in_that_order(client: BrokerClient) -> None:
    now = client.clock.now()
    client.bus.send(
        [
            message("in 30", scheduled_for=now + timedelta(seconds=30)),
            message("now"),
            message("in 10", scheduled_for=now + timedelta(seconds=10)),
            message("in the past", scheduled_for=now - timedelta(seconds=10)),
        ]
    )
    assert ids(client.receive("orders", 2)) == ["now", "in the past"]
    assert ready(client, "orders") == 0
    advance(client, timedelta(seconds=9))
    client.bus.send([message("at 9")])
    advance(client, timedelta(seconds=30))
    later = client.receive("orders", 3)
    assert ids(later) == ["at 9", "in 10", "in 30"]
    assert later[1].scheduled_for is not None
    assert abs(later[1].scheduled_for - now - timedelta(seconds=10)) < SECOND
    assert abs(later[1].enqueued_time - now - timedelta(seconds=10)) < SECOND


def test_a_scheduled_message_can_be_cancelled_until_it_is_due(client: BrokerClient) -> None:
    soon: datetime = client.clock.now() + timedelta(minutes=5)
    number = client.schedule(message("cancelled", scheduled_for=soon))
    kept = client.schedule(message("kept", scheduled_for=soon))
    client.cancel("orders", number)
    with pytest.raises(MessageNotFoundError):
        client.cancel("orders", number)
    advance(client, timedelta(minutes=5))
    assert ready(client, "orders") == 1
    assert ids(client.receive("orders")) == ["kept"]
    with pytest.raises(MessageNotFoundError):
        client.cancel("orders", kept)


def test_peeking_shows_everything_and_takes_nothing(client: BrokerClient) -> None:
    later = client.clock.now() + timedelta(minutes=1)
    client.bus.send([message("locked"), message("active"), message("scheduled", scheduled_for=later)])
    client.receive("orders")
    peeked = client.peek("orders")
    assert ids(peeked) == ["locked", "active", "scheduled"]
    assert ids(client.peek("orders", peeked[1].sequence_number)) == ["active", "scheduled"]
    assert ids(client.receive("orders")) == ["active"]


def test_an_id_is_accepted_once_within_the_window(client: BrokerClient) -> None:
    client.bus.send([message("once", body=b"first"), message("once", body=b"same batch"), message("other")])
    client.bus.send([message("once", body=b"another send"), message("once", "invoices")])
    assert ready(client, "orders") == 2
    first, other = client.receive("orders", 2)
    assert (first.body, other.message_id) == (b"first", "other")
    client.complete("orders", first)
    client.complete("orders", other)
    advance(client, WINDOW - SECOND)
    client.bus.send([message("once", body=b"after completion")])
    assert ready(client, "orders") == 0
    assert ids(client.receive("invoices")) == ["once"]
    advance(client, SECOND)
    client.bus.send([message("once", body=b"after the window")])
    assert ready(client, "orders") == 1
    assert [got.body for got in client.receive("orders")] == [b"after the window"]


def test_a_scheduled_message_counts_as_sent_from_the_moment_it_is_sent(client: BrokerClient) -> None:
    due = client.clock.now() + WINDOW + SECOND
    client.bus.send([message("occurrence", scheduled_for=due)])
    client.bus.send([message("occurrence", scheduled_for=due), message("occurrence")])
    assert ready(client, "orders") == 0
    advance(client, WINDOW + SECOND)
    assert ready(client, "orders") == 1
    assert ids(client.receive("orders")) == ["occurrence"]


def test_many_messages_go_in_as_many_batches_as_it_takes(client: BrokerClient) -> None:
    client.bus.send([message(f"{number:03}", body=bytes(2_000)) for number in range(300)])
    received: list[str] = []
    while ready(client, "orders"):
        for got in client.receive("orders", 100):
            received.append(got.message_id or "")
            client.complete("orders", got)
    assert received == [f"{number:03}" for number in range(300)]


def test_a_message_over_the_limit_is_refused_and_the_limit_itself_is_not(client: BrokerClient) -> None:
    with pytest.raises(MessageTooLargeError, match="orders"):
        client.bus.send([message("large", body=bytes(MAX_MESSAGE_SIZE + 1))])
    client.bus.send([message("just", body=bytes(MAX_MESSAGE_SIZE - 500))])
    [got] = client.receive("orders")
    assert (got.message_id, len(got.body)) == ("just", MAX_MESSAGE_SIZE - 500)


def test_each_subscription_has_its_own_copy(client: BrokerClient) -> None:
    due = client.clock.now() + timedelta(seconds=30)
    client.bus.send(
        [message("event", "news"), message("later", "news", scheduled_for=due), message("event", "news")]
    )
    everyone, someone = "news/subscriptions/all", "news/subscriptions/some"
    assert (ready(client, everyone), ready(client, someone)) == (1, 1)
    [mine] = client.receive(everyone)
    client.complete(everyone, mine)
    assert ids(client.receive(someone)) == ["event"]
    advance(client, timedelta(seconds=30))
    assert (ready(client, everyone), ready(client, someone)) == (1, 1)
    assert ids(client.receive(everyone)) == ["later"]
    assert ids(client.receive(someone)) == ["later"]


def test_a_message_that_outlives_its_time_is_gone(client: BrokerClient) -> None:
    client.bus.send([message("old", "bulletins")])
    advance(client, TIME_TO_LIVE)
    client.bus.send([message("young", "bulletins")])
    assert ids(client.peek("bulletins/subscriptions/all")) == ["young"]
    assert ids(client.receive("bulletins/subscriptions/all")) == ["young"]


def test_an_unknown_entity_is_named(client: BrokerClient) -> None:
    with pytest.raises(BusError, match="nowhere") as refused:
        client.bus.send([message("m", "nowhere")])
    assert not isinstance(refused.value, BusUnavailableError)
    with pytest.raises(EntityNotFoundError, match="nowhere"):
        client.receive("nowhere")


def test_a_queue_with_a_huge_backlog_hands_out_each_message_once(client: BrokerClient) -> None:
    client.bus.send([message(f"{number}") for number in range(2_000)])
    seen: list[str] = []
    # A client may give fewer than it has received, and the rest the next time.
    while len(seen) < 2_000:
        seen += ids(client.receive("orders", 250))
    assert len(seen) == len(set(seen)) == 2_000
    assert ready(client, "orders") == 0
