"""What the parts of a broker share: the file, the entities, and when something next falls due."""

from __future__ import annotations

import sqlite3
from typing import Final

from local.broker.entities import Entity
from local.broker.model import EntityNotFoundError

NEVER: Final = 2**62


class Store:
    """The messages of all entities. Every use is within a transaction of the broker, under its lock.

    Moments are microseconds since 1970.
    """

    def __init__(self, database: sqlite3.Connection, entities: dict[str, Entity]) -> None:
        self.database = database
        self.became_available = False
        """Whether a message became available in this transaction."""
        self.due_sooner = False
        """Whether `next_due` came nearer in this transaction."""
        self._entities = entities
        self._by_id: dict[int, Entity] = {}
        self.reset()

    def reset(self) -> None:
        """Forget what this transaction did, and when things fall due: the next transaction finds out."""
        self.became_available = self.due_sooner = False
        self.next_due = 0
        """No schedule and no lock ends before this moment."""
        self.next_expiry = 0
        """No message expires before this moment."""
        self.next_prune = 0
        """When message ids beyond their duplicate detection window are next forgotten."""

    # -- entities

    def find(self, name: str) -> Entity:
        """The entity of that name, in any case. Raises EntityNotFoundError."""
        entity = self._entities.get(name.lower())
        if entity is None:
            raise EntityNotFoundError(f"there is no queue, topic or subscription {name!r}")
        return entity

    def find_source(self, name: str) -> Entity:
        """The entity of that name, to receive from. Raises EntityNotFoundError for a topic, too."""
        entity = self.find(name)
        if not entity.receives:
            raise EntityNotFoundError(
                f"messages cannot be received from topic {entity.name}: receive from one of its subscriptions, "
                + ", ".join(subscription.name for subscription in entity.subscriptions)
            )
        return entity

    def find_target(self, name: str) -> Entity:
        """The entity of that name, to send to. Raises EntityNotFoundError unless it is a queue or a topic."""
        entity = self.find(name)
        if not entity.accepts:
            raise EntityNotFoundError(
                f"messages cannot be sent to {entity.name}: send to a queue or to a topic"
            )
        return entity

    def by_id(self, entity_id: int) -> Entity | None:
        """The entity with that row; None where the topology has it no more."""
        return self._by_id.get(entity_id)

    def adopt_entities(self) -> None:
        """Give every entity of the topology its row."""
        self.database.executemany(
            "INSERT INTO entities (name) VALUES (?) ON CONFLICT DO NOTHING",
            [(entity.name,) for entity in self._entities.values()],
        )

    def load_sequences(self) -> None:
        """Take ids and last sequence numbers from the rows."""
        for entity_id, name, last in self.database.execute("SELECT id, name, last_sequence FROM entities"):
            entity = self._entities.get(name)
            if entity is not None:
                entity.id, entity.last_sequence = entity_id, last
                self._by_id[entity_id] = entity

    def save_sequence(self, entity: Entity) -> None:
        """Keep the entity's last sequence number."""
        self.database.execute(
            "UPDATE entities SET last_sequence = ? WHERE id = ?", (entity.last_sequence, entity.id)
        )

    # -- moments

    def note_due(self, due: int) -> None:
        """A schedule or a lock ends at that moment."""
        if due < self.next_due:
            self.next_due = due
            self.due_sooner = True

    def note_expiry(self, expires: int) -> None:
        """A message expires at that moment."""
        self.next_expiry = min(self.next_expiry, expires)

    def earliest_due(self) -> int | None:
        """When the next schedule or lock ends; None where there is none."""
        (due,) = self.database.execute("SELECT min(due) FROM messages WHERE state <> 0").fetchone()
        return None if due is None else int(due)
