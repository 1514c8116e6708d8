"""Message expiration: a message whose time to live has passed is dead-lettered or deleted.

Follows https://learn.microsoft.com/azure/service-bus-messaging/message-expiration.
"""

from __future__ import annotations

from local.broker.dead_letters import dead_letter
from local.broker.entities import Entity
from local.broker.rows import MICROSECOND
from local.broker.store import NEVER, Store


def expiry_of(store: Store, entity: Entity, enqueued: int, time_to_live: int | None) -> int | None:
    """When a message enqueued at a moment expires, by its own time to live and the entity's; None: never."""
    limits = [] if time_to_live is None else [time_to_live]
    if entity.time_to_live is not None:
        limits.append(entity.time_to_live // MICROSECOND)
    if not limits:
        return None
    expires = enqueued + min(limits)
    store.note_expiry(expires)
    return expires


def expire(store: Store, now: int) -> None:
    """Dead-letter or delete every message that has expired and is not locked."""
    expired = store.database.execute(
        "SELECT id, entity FROM messages WHERE expires <= ? AND state = 0 ORDER BY expires, sequence",
        (now,),
    ).fetchall()
    for message, entity_id in expired:
        entity = store.by_id(entity_id)
        if entity is not None and entity.dead_letters_expired:
            dead_letter(
                store,
                entity,
                message,
                "TTLExpiredException",
                "The message expired and was dead lettered.",
                now=now,
            )
        else:
            store.database.execute("DELETE FROM messages WHERE id = ?", (message,))
    (following,) = store.database.execute(
        "SELECT min(expires) FROM messages WHERE expires IS NOT NULL AND expires > ?", (now,)
    ).fetchone()
    store.next_expiry = NEVER if following is None else following
