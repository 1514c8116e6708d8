"""How an accepted message enters a queue, or the subscriptions of a topic."""

from __future__ import annotations

from local.broker.entities import Entity
from local.broker.expiration import expiry_of
from local.broker.model import IncomingMessage, MessageState
from local.broker.rows import MICROSECOND, to_microseconds
from local.broker.store import Store


def accept(
    store: Store, target: Entity, message: IncomingMessage, properties: str, *, sequence: int, now: int
) -> None:
    """Enqueue a message, schedule it, or give every subscription of a topic a copy."""
    scheduled = None if message.scheduled_for is None else to_microseconds(message.scheduled_for)
    if scheduled is not None and scheduled > now:
        _insert(store, target, message, properties, first_sequence=sequence, now=now, due=scheduled)
        store.note_due(scheduled)
    elif target.receives:
        _insert(store, target, message, properties, first_sequence=sequence, now=now)
    else:
        for subscription in target.subscriptions:
            subscription.next_sequence()
            store.save_sequence(subscription)
            _insert(store, subscription, message, properties, first_sequence=sequence, now=now)


def _insert(
    store: Store,
    entity: Entity,
    message: IncomingMessage,
    properties: str,
    *,
    first_sequence: int,
    now: int,
    due: int | None = None,
) -> None:
    """Store the message under the entity's last sequence number."""
    time_to_live = None if message.time_to_live is None else message.time_to_live // MICROSECOND
    store.database.execute(
        "INSERT INTO messages (entity, sequence, first_sequence, state, due, expires, time_to_live,"
        " enqueued, scheduled, message_id, content_type, subject, correlation_id, properties, body)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            entity.id,
            entity.last_sequence,
            first_sequence,
            MessageState.ACTIVE if due is None else MessageState.SCHEDULED,
            due,
            expiry_of(store, entity, now, time_to_live) if due is None else None,
            time_to_live,
            now,
            None if message.scheduled_for is None else to_microseconds(message.scheduled_for),
            message.message_id,
            message.content_type,
            message.subject,
            message.correlation_id,
            properties,
            message.body,
        ),
    )
    store.became_available |= due is None
