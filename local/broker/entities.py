"""Queues, topics, subscriptions and their dead-letter sub-queues, made from the topology."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from local.broker.model import DEAD_LETTER_QUEUE
from shared.bus.topology import Queue, Topology


@dataclass(slots=True)
class Entity:
    """A queue, a topic, a subscription or a dead-letter sub-queue, with the id of its row."""

    name: str
    lock_duration: timedelta = timedelta()
    #: None: deliver for ever, as a dead-letter queue does
    max_delivery_count: int | None = None
    duplicate_window: timedelta | None = None
    time_to_live: timedelta | None = None
    dead_letters_expired: bool = False  #: whether a message that expires becomes a dead letter
    receives: bool = True  #: whether messages can be received from it
    accepts: bool = False  #: whether messages can be sent to it
    subscriptions: list[Entity] = field(default_factory=list)
    dead_letters: Entity | None = None  #: its sub-queue
    forward_to: Entity | None = None  #: where its dead letters go instead of to its sub-queue
    id: int = 0
    last_sequence: int = 0

    @property
    def dead_letter_target(self) -> Entity | None:
        """Where its dead letters go; None for a dead-letter queue."""
        return self.forward_to or self.dead_letters

    def next_sequence(self) -> int:
        """Count up the sequence numbers; returns the new one."""
        self.last_sequence += 1
        return self.last_sequence


def entities_of(topology: Topology) -> dict[str, Entity]:
    """Every entity of the topology by its lower-cased name."""
    entities: dict[str, Entity] = {}

    def add(entity: Entity) -> Entity:
        entities[entity.name] = entity
        return entity

    def with_dead_letters(entity: Entity) -> Entity:
        name = f"{entity.name}/{DEAD_LETTER_QUEUE}"
        entity.dead_letters = add(Entity(name=name, lock_duration=entity.lock_duration))
        return add(entity)

    for queue in topology.queues:
        with_dead_letters(
            Entity(
                name=queue.name.lower(),
                lock_duration=queue.lock_duration,
                max_delivery_count=queue.max_delivery_count,
                duplicate_window=queue.duplicate_detection_window,
                dead_letters_expired=queue.dead_letter_expired,
                accepts=True,
            )
        )
    for topic in topology.topics:
        name = topic.name.lower()
        subscriptions = [
            with_dead_letters(
                Entity(
                    name=f"{name}/subscriptions/{subscription.name.lower()}",
                    lock_duration=subscription.lock_duration,
                    max_delivery_count=subscription.max_delivery_count,
                    time_to_live=subscription.time_to_live,
                )
            )
            for subscription in topic.subscriptions
        ]
        add(
            Entity(
                name=name,
                duplicate_window=topic.duplicate_detection_window,
                receives=False,
                accepts=True,
                subscriptions=subscriptions,
            )
        )
    for queue in topology.queues:
        if queue.forward_dead_letters_to is not None:
            entities[queue.name.lower()].forward_to = _forward_target(queue, entities)
    return entities


def _forward_target(queue: Queue, entities: Mapping[str, Entity]) -> Entity:
    """The queue that a queue forwards its dead letters to. Raises ValueError where the topology has no such queue."""
    target = entities.get((queue.forward_dead_letters_to or "").lower())
    if target is None or not (target.accepts and target.receives):
        raise ValueError(
            f"queue {queue.name} forwards its dead letters to {queue.forward_dead_letters_to}, "
            "which is no queue of the topology"
        )
    return target
