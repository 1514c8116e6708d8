"""Scheduled messages: they are enqueued when they fall due, under a new sequence number.

Follows https://learn.microsoft.com/azure/service-bus-messaging/message-sequencing#scheduled-messages.
"""

from __future__ import annotations

from collections.abc import Sequence

from local.broker.entities import Entity
from local.broker.expiration import expiry_of
from local.broker.model import MessageNotFoundError, MessageState
from local.broker.store import Store


def enqueue(store: Store, entity: Entity, message: int, due: int) -> None:
    """Make a scheduled message available: in the queue, or in every subscription of the topic."""
    (time_to_live,) = store.database.execute(
        "SELECT time_to_live FROM messages WHERE id = ?", (message,)
    ).fetchone()
    if entity.receives:
        store.database.execute(
            "UPDATE messages SET state = 0, due = NULL, sequence = ?, first_sequence = ?, enqueued = ?,"
            " expires = ? WHERE id = ?",
            (
                entity.next_sequence(),
                entity.last_sequence,
                due,
                expiry_of(store, entity, due, time_to_live),
                message,
            ),
        )
    else:
        first = entity.next_sequence()
        for subscription in entity.subscriptions:
            store.database.execute(
                "INSERT INTO messages (entity, sequence, first_sequence, state, expires, time_to_live,"
                " enqueued, scheduled, message_id, content_type, subject, correlation_id,"
                " properties, body)"
                " SELECT ?, ?, ?, 0, ?, time_to_live, ?, scheduled, message_id, content_type, subject,"
                " correlation_id, properties, body FROM messages WHERE id = ?",
                (
                    subscription.id,
                    subscription.next_sequence(),
                    first,
                    expiry_of(store, subscription, due, time_to_live),
                    due,
                    message,
                ),
            )
            store.save_sequence(subscription)
        store.database.execute("DELETE FROM messages WHERE id = ?", (message,))
    store.save_sequence(entity)
    store.became_available = True


def cancel(store: Store, entity: Entity, sequence_numbers: Sequence[int]) -> None:
    """Delete scheduled messages. Raises MessageNotFoundError where one is not scheduled (any more)."""
    for number in sequence_numbers:
        cancelled = store.database.execute(
            "DELETE FROM messages WHERE entity = ? AND sequence = ? AND state = ?",
            (entity.id, number, MessageState.SCHEDULED),
        )
        if not cancelled.rowcount:
            raise MessageNotFoundError(
                f"{entity.name} has no scheduled message with sequence number {number}: "
                "it was cancelled before, or it has fallen due"
            )
