"""Message locks: a received message is locked until it is settled or its lock ends (peek-lock).

Follows https://learn.microsoft.com/azure/service-bus-messaging/message-transfers-locks-settlement.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import cast
from uuid import UUID, uuid4

from local.broker.dead_letters import dead_letter
from local.broker.entities import Entity
from local.broker.model import MessageLockLostError, MessageState, PropertyValue, ReceivedMessage
from local.broker.rows import COLUMNS, MICROSECOND, decode_properties, encode_properties, fields_of, to_moment
from local.broker.store import Store


def lock(store: Store, source: Entity, max_messages: int, now: int) -> list[ReceivedMessage]:
    """Lock up to `max_messages` of what is available, oldest first."""
    rows = store.database.execute(
        f"SELECT {COLUMNS} FROM messages WHERE entity = ? AND state = 0 ORDER BY sequence LIMIT ?",  # noqa: S608
        (source.id, max_messages),
    ).fetchall()
    if not rows:
        return []
    due = now + source.lock_duration // MICROSECOND
    locked_until = to_moment(due)
    received = []
    locks = []
    for row in rows:
        token = uuid4()
        locks.append((MessageState.LOCKED, due, token.bytes, row[0]))
        received.append(
            ReceivedMessage(**fields_of(row, delivered=1), lock_token=token, locked_until=locked_until)
        )
    store.database.executemany(
        "UPDATE messages SET state = ?, due = ?, lock_token = ?, delivery_count = delivery_count + 1"
        " WHERE id = ?",
        locks,
    )
    store.note_due(due)
    return received


def renew(store: Store, source: Entity, lock_token: UUID, now: int) -> datetime:
    """Lock the message anew for the whole lock duration; returns when that ends. Raises MessageLockLostError."""
    message, _, _ = locked_message(store, source, lock_token)
    due = now + source.lock_duration // MICROSECOND
    store.database.execute("UPDATE messages SET due = ? WHERE id = ?", (due, message))
    store.note_due(due)
    return to_moment(due)


def complete(store: Store, source: Entity, lock_token: UUID) -> None:
    """Delete the message. Raises MessageLockLostError."""
    store.database.execute(
        "DELETE FROM messages WHERE id = ?", (locked_message(store, source, lock_token)[0],)
    )


def abandon(
    store: Store,
    source: Entity,
    lock_token: UUID,
    properties_to_modify: Mapping[str, PropertyValue] | None,
    now: int,
) -> None:
    """Give the message back, with these properties changed. Raises MessageLockLostError."""
    message, deliveries, properties = locked_message(store, source, lock_token)
    if properties_to_modify:
        store.database.execute(
            "UPDATE messages SET properties = ? WHERE id = ?",
            (encode_properties({**decode_properties(properties), **properties_to_modify}), message),
        )
    give_back(store, source, message, deliveries, now)


def release(store: Store, source: Entity, lock_token: UUID) -> None:
    """Give the message back as if it had not been delivered. Raises MessageLockLostError."""
    message, deliveries, _ = locked_message(store, source, lock_token)
    store.database.execute(
        "UPDATE messages SET state = 0, due = NULL, lock_token = NULL, delivery_count = ? WHERE id = ?",
        (deliveries - 1, message),
    )
    store.became_available = True


def give_all_back(store: Store, now: int) -> None:
    """Unlock every message; whoever held the locks is dead."""
    rows = store.database.execute(
        "SELECT id, entity, delivery_count FROM messages WHERE state = ? ORDER BY entity, sequence",
        (MessageState.LOCKED,),
    ).fetchall()
    for message, entity_id, deliveries in rows:
        entity = store.by_id(entity_id)
        if entity is not None:
            give_back(store, entity, message, deliveries, now)


def locked_message(store: Store, source: Entity, lock_token: UUID) -> tuple[int, int, str]:
    """Row id, delivery count and properties of the message that this token locks. Raises MessageLockLostError."""
    row = store.database.execute(
        "SELECT id, delivery_count, properties FROM messages WHERE lock_token = ? AND entity = ?",
        (lock_token.bytes, source.id),
    ).fetchone()
    if row is None:
        raise MessageLockLostError(
            f"the lock {lock_token} on a message of {source.name} has ended: the message was settled, "
            f"or its {source.lock_duration.total_seconds():g} seconds passed without a renewal"
        )
    return cast("tuple[int, int, str]", row)


def give_back(store: Store, entity: Entity, message: int, deliveries: int, now: int) -> None:
    """Unlock a message: it is available again, or dead-lettered if that was its last delivery."""
    if entity.max_delivery_count is not None and deliveries >= entity.max_delivery_count:
        dead_letter(
            store,
            entity,
            message,
            "MaxDeliveryCountExceeded",
            f"Message could not be consumed after {deliveries} delivery attempts.",
            now=now,
        )
        return
    store.database.execute(
        "UPDATE messages SET state = 0, due = NULL, lock_token = NULL WHERE id = ?", (message,)
    )
    store.became_available = True
