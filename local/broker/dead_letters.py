"""Dead letters: messages that cannot be handled, moved to a sub-queue or forwarded to a queue.

Follows https://learn.microsoft.com/azure/service-bus-messaging/service-bus-dead-letter-queues.
"""

from __future__ import annotations

from local.broker.entities import Entity
from local.broker.model import BrokerError
from local.broker.rows import decode_properties, encode_properties
from local.broker.store import Store


def dead_letter(
    store: Store, entity: Entity, message: int, reason: str | None, description: str | None, *, now: int
) -> None:
    """Move a message to where the entity's dead letters go. Raises BrokerError for a message of a dead-letter queue."""
    # A forwarded dead letter is moved, not sent: duplicate detection neither compares nor notes its id, because
    # messages of two queues may have the same id and neither may be lost.
    target = entity.dead_letter_target
    if target is None:
        raise BrokerError(f"a message of {entity.name} cannot be dead-lettered: complete it or abandon it")
    (encoded, deliveries) = store.database.execute(
        "SELECT properties, delivery_count FROM messages WHERE id = ?", (message,)
    ).fetchone()
    properties = decode_properties(encoded)
    if reason is not None:
        properties["DeadLetterReason"] = reason
    if description is not None:
        properties["DeadLetterErrorDescription"] = description
    store.database.execute(
        "UPDATE messages SET entity = ?, sequence = ?, state = 0, due = NULL, expires = NULL,"
        " lock_token = NULL, delivery_count = ?, enqueued = ?, dead_letter_source = ?, properties = ?"
        " WHERE id = ?",
        (
            target.id,
            target.next_sequence(),
            0 if entity.forward_to else deliveries,
            now,
            entity.name if entity.forward_to else None,
            encode_properties(properties),
            message,
        ),
    )
    store.save_sequence(target)
    store.became_available = True
