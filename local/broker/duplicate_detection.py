"""Duplicate detection: a message whose id was accepted before is accepted silently, and not enqueued.

Follows https://learn.microsoft.com/azure/service-bus-messaging/duplicate-detection.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Final, cast

from local.broker.entities import Entity
from local.broker.rows import MICROSECOND
from local.broker.store import Store

#: How often, in the broker's own time, message ids beyond their window are forgotten.
_PRUNE_INTERVAL: Final = timedelta(minutes=1)


def original_of(store: Store, target: Entity, message_id: str, sequence: int, now: int) -> int | None:
    """The sequence number of the message that this id duplicates; None where it is new, and noted as accepted."""
    if target.duplicate_window is None:
        return None
    until = now + target.duplicate_window // MICROSECOND
    noted = store.database.execute(
        "INSERT INTO history (entity, message_id, until, sequence) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (entity, message_id) DO UPDATE SET until = excluded.until,"
        " sequence = excluded.sequence WHERE until <= ?",
        (target.id, message_id, until, sequence, now),
    )
    if noted.rowcount:
        return None
    (original,) = store.database.execute(
        "SELECT sequence FROM history WHERE entity = ? AND message_id = ?", (target.id, message_id)
    ).fetchone()
    return cast("int", original)


def remembered_ids(store: Store, target: Entity, prefix: str) -> list[str]:
    """The message ids that begin so, of messages that the entity accepted within its window."""
    # The two bounds let the key's index find them; no id has the last of all characters after the prefix.
    rows = store.database.execute(
        "SELECT message_id FROM history WHERE entity = ? AND message_id >= ? AND message_id < ?",
        (target.id, prefix, f"{prefix}{chr(sys.maxunicode)}"),
    )
    return [message_id for (message_id,) in rows]


def forget_old_ids(store: Store, now: int) -> None:
    """Forget the ids beyond their window, at most once per `_PRUNE_INTERVAL`."""
    if now >= store.next_prune:
        store.database.execute("DELETE FROM history WHERE until <= ?", (now,))
        store.next_prune = now + _PRUNE_INTERVAL // MICROSECOND
