"""The broker core: Service Bus semantics on SQLite.

Semantics follow the service's documentation under https://learn.microsoft.com/azure/service-bus-messaging/:
message-transfers-locks-settlement (peek-lock), message-sequencing (sequence numbers, scheduled messages),
duplicate-detection, service-bus-dead-letter-queues, message-expiration, message-browsing.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, cast
from uuid import UUID, uuid4

from local.broker.model import (
    DEAD_LETTER_QUEUE,
    MAX_MESSAGE_ID_LENGTH,
    MAX_MESSAGE_SIZE,
    BrokerError,
    BrokerInUseError,
    BrokerStorageError,
    EntityCounts,
    EntityNotFoundError,
    IncomingMessage,
    MessageLockLostError,
    MessageNotFoundError,
    MessageState,
    PeekedMessage,
    PropertyValue,
    ReceivedMessage,
)
from local.stepped_clock import SteppedClock
from shared.bus import MessageTooLargeError, OutgoingMessage
from shared.bus.topology import TOPOLOGY, Queue, Topology
from shared.clock import Clock, SystemClock

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_NEVER: Final = 2**62
#: How often, in the broker's own time, message ids beyond their window are forgotten.
_PRUNE_INTERVAL: Final = timedelta(minutes=1)

_SCHEMA_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE entities (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    last_sequence INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE messages (
    id INTEGER PRIMARY KEY,
    entity INTEGER NOT NULL REFERENCES entities (id),
    sequence INTEGER NOT NULL,
    first_sequence INTEGER NOT NULL,
    state INTEGER NOT NULL,
    due INTEGER,                        -- when a schedule or a lock ends
    expires INTEGER,
    time_to_live INTEGER,
    lock_token BLOB,
    delivery_count INTEGER NOT NULL DEFAULT 0,
    enqueued INTEGER NOT NULL,
    scheduled INTEGER,
    message_id TEXT,
    content_type TEXT,
    subject TEXT,
    correlation_id TEXT,
    dead_letter_source TEXT,
    properties TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE UNIQUE INDEX messages_by_sequence ON messages (entity, sequence);
CREATE INDEX messages_ready ON messages (entity, sequence) WHERE state = 0;
CREATE INDEX messages_due ON messages (due) WHERE state <> 0;
CREATE INDEX messages_expiring ON messages (expires) WHERE expires IS NOT NULL;
CREATE UNIQUE INDEX messages_locked ON messages (lock_token) WHERE lock_token IS NOT NULL;
CREATE TABLE history (
    entity INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    until INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (entity, message_id)
) WITHOUT ROWID;
CREATE INDEX history_until ON history (until);
"""

_READ: Final = (
    "id, body, message_id, content_type, subject, correlation_id, properties, sequence, first_sequence,"
    " enqueued, scheduled, delivery_count, expires, dead_letter_source, state"
)


@dataclass(slots=True)
class _Entity:
    """A queue, a topic, a subscription or a sub-queue, with its row's id."""

    name: str
    lock_duration: timedelta = timedelta()
    #: None: deliver for ever, as a dead-letter queue does
    max_delivery_count: int | None = None
    duplicate_window: timedelta | None = None
    time_to_live: timedelta | None = None
    dead_letters_expired: bool = False  #: whether a message that expires becomes a dead letter
    receives: bool = True  #: whether messages can be received from it
    accepts: bool = False  #: whether messages can be sent to it
    subscriptions: list[_Entity] = field(default_factory=list)
    dead_letters: _Entity | None = None  #: its sub-queue
    forward_to: _Entity | None = None  #: where its dead letters go instead of to its sub-queue
    id: int = 0
    last_sequence: int = 0

    def next_sequence(self) -> int:
        self.last_sequence += 1
        return self.last_sequence


class Broker:
    """Queues, topics and subscriptions with the semantics of Service Bus. Safe to share between threads.

    Entities are named as Service Bus names them, in any case: a queue or a topic by its name (to send to),
    `topic/subscriptions/name` (to receive from), and either with `/$deadletterqueue`.

    With a path, the state is a file that outlives the process: every call that has returned survives a kill
    of the process. The file is in write-ahead mode with `synchronous=NORMAL`: what was written is in the
    operating system's hands, so only a loss of power can lose the last calls, and even that does not corrupt
    the file. Flushing the disk for each call would be much slower and guard nothing that is promised. While it
    is open, and after a kill, the write-ahead log beside it is a part of it: without that it is refused. Only
    its owner may read it. One process at a time has the file, so on opening it every lock of the process before
    is released at once: whoever held it is dead. Delivery counts stay, and a message that has used up its
    deliveries is dead-lettered then.

    Args:
        path: the file to keep the state in; None keeps it in memory.
        topology: the entities there are.
        clock: the time by which schedules, locks, windows and times to live are reckoned.

    Raises:
        BrokerInUseError: another process has the file open.
        BrokerError: the file is not a broker's, of another version, or without its write-ahead log.
        BrokerStorageError: the file cannot be written. So may every method, and `storage_error` says it.
        ValueError: the topology forwards dead letters to a queue that it does not hold.
    """

    def __init__(
        self, path: Path | None, topology: Topology = TOPOLOGY, *, clock: Clock | None = None
    ) -> None:
        self._clock: Clock = clock or SystemClock()
        self._real = SystemClock()
        self._condition = threading.Condition(threading.RLock())
        self._version = 0
        self._became_available = False
        self._due_sooner = False
        self._listeners: list[Callable[[], None]] = []
        self._entities = _entities_of(topology)
        self._by_id: dict[int, _Entity] = {}
        self._due = 0  # a lower bound of every `due`; 0 makes the first call look
        self._expiry = 0
        self._prune_at = 0
        self._closed = False
        self._path = path
        self._storage_error: BrokerStorageError | None = None
        self._database = _open(path)
        try:
            self._adopt_entities()
            self._release_locks()
        except BaseException:
            _shut(self._database)
            raise

    # -- life cycle

    def close(self) -> None:
        """Close the file and wake every waiter. Closing twice does nothing."""
        with self._condition:
            if not self._closed:
                self._closed = True
                _shut(self._database)
                self._condition.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def storage_error(self) -> BrokerStorageError | None:
        """The last failure of the file; None where it never failed. What that call was to write is lost."""
        with self._condition:
            return self._storage_error

    @property
    def clock(self) -> Clock:
        """The clock that this broker reckons by."""
        return self._clock

    # -- sending

    def send(self, entity: str, messages: Sequence[OutgoingMessage | IncomingMessage]) -> list[int]:
        """Accept all messages or, when it raises, none of them.

        A message whose id the entity has accepted within its duplicate detection window is accepted
        silently and not enqueued; what counts is the moment of sending, for a scheduled message too.

        Returns:
            The sequence number of each message, in their order; for a duplicate that of the original.

        Raises:
            EntityNotFoundError: no queue or topic has that name.
            MessageTooLargeError: a message is over `MAX_MESSAGE_SIZE`.
            BrokerError: a message id is longer than Service Bus allows.
        """
        target = self._find(entity)
        if not target.accepts:
            raise EntityNotFoundError(
                f"messages cannot be sent to {target.name}: send to a queue or to a topic"
            )
        prepared = [_prepared(target.name, message) for message in messages]
        with self._transaction() as now:
            numbers = []
            for message, properties in prepared:
                sequence = target.last_sequence + 1
                if message.message_id and target.duplicate_window is not None:
                    original = self._remember(target, message.message_id, sequence, now)
                    if original is not None:
                        numbers.append(original)
                        continue
                target.last_sequence = sequence
                numbers.append(sequence)
                self._accept(target, message, properties, sequence=sequence, now=now)
            self._save_sequence(target)
            if now >= self._prune_at:
                self._database.execute("DELETE FROM history WHERE until <= ?", (now,))
                self._prune_at = now + _PRUNE_INTERVAL // _MICROSECOND
            return numbers

    def cancel_scheduled(self, entity: str, sequence_numbers: Sequence[int]) -> None:
        """Delete scheduled messages. Their ids stay known to duplicate detection, as Service Bus keeps them.

        Raises:
            EntityNotFoundError: no queue or topic has that name.
            MessageNotFoundError: one of the messages is not scheduled (any more); nothing is cancelled then.
        """
        target = self._find(entity)
        with self._transaction():
            for number in sequence_numbers:
                cancelled = self._database.execute(
                    "DELETE FROM messages WHERE entity = ? AND sequence = ? AND state = ?",
                    (target.id, number, MessageState.SCHEDULED),
                )
                if not cancelled.rowcount:
                    raise MessageNotFoundError(
                        f"{target.name} has no scheduled message with sequence number {number}: "
                        "it was cancelled before, or it has fallen due"
                    )

    # -- receiving and settling

    def receive(self, entity: str, max_messages: int = 1) -> list[ReceivedMessage]:
        """Lock up to `max_messages` of what is ready, oldest first, without waiting.

        Raises:
            EntityNotFoundError: nothing can be received from that name.
        """
        source = self._source(entity)
        with self._transaction() as now:
            rows = self._database.execute(
                f"SELECT {_READ} FROM messages WHERE entity = ? AND state = 0 ORDER BY sequence LIMIT ?",  # noqa: S608
                (source.id, max_messages),
            ).fetchall()
            if not rows:
                return []
            due = now + source.lock_duration // _MICROSECOND
            locked_until = _moment(due)
            received = []
            locks = []
            for row in rows:
                token = uuid4()
                locks.append((MessageState.LOCKED, due, token.bytes, row[0]))
                received.append(
                    ReceivedMessage(**_fields(row, delivered=1), lock_token=token, locked_until=locked_until)
                )
            self._database.executemany(
                "UPDATE messages SET state = ?, due = ?, lock_token = ?, delivery_count = delivery_count + 1"
                " WHERE id = ?",
                locks,
            )
            self._note_due(due)
            return received

    def complete(self, entity: str, lock_token: UUID) -> None:
        """Settle a message as done: it is deleted.

        Raises:
            MessageLockLostError: the lock has ended.
        """
        source = self._source(entity)
        with self._transaction():
            self._database.execute(
                "DELETE FROM messages WHERE id = ?", (self._locked(source, lock_token)[0],)
            )

    def abandon(
        self,
        entity: str,
        lock_token: UUID,
        properties_to_modify: Mapping[str, PropertyValue] | None = None,
    ) -> None:
        """Give a message back, to be delivered again at once, or dead-lettered after its last delivery.

        Raises:
            MessageLockLostError: the lock has ended.
        """
        source = self._source(entity)
        with self._transaction() as now:
            message, deliveries, properties = self._locked(source, lock_token)
            if properties_to_modify:
                self._database.execute(
                    "UPDATE messages SET properties = ? WHERE id = ?",
                    (_encoded({**_decoded(properties), **properties_to_modify}), message),
                )
            self._release(source, message, deliveries, now)

    def release(self, entity: str, lock_token: UUID) -> None:
        """Give a message back as if never delivered: the delivery is not counted.

        Raises:
            MessageLockLostError: the lock has ended.
        """
        source = self._source(entity)
        with self._transaction():
            message, deliveries, _ = self._locked(source, lock_token)
            self._database.execute(
                "UPDATE messages SET state = 0, due = NULL, lock_token = NULL, delivery_count = ? WHERE id = ?",
                (deliveries - 1, message),
            )
            self._became_available = True

    def dead_letter(
        self, entity: str, lock_token: UUID, reason: str | None = None, description: str | None = None
    ) -> None:
        """Settle a message as one that cannot be handled: it goes to where the entity's dead letters go.

        Raises:
            MessageLockLostError: the lock has ended.
            BrokerError: the message already is in a dead-letter queue.
        """
        source = self._source(entity)
        with self._transaction() as now:
            message, _, _ = self._locked(source, lock_token)
            self._dead_letter(source, message, reason, description, now)

    def renew_lock(self, entity: str, lock_token: UUID) -> datetime:
        """Lock the message anew for the entity's whole lock duration; returns when that ends.

        Raises:
            MessageLockLostError: the lock has ended.
        """
        source = self._source(entity)
        with self._transaction() as now:
            message, _, _ = self._locked(source, lock_token)
            due = now + source.lock_duration // _MICROSECOND
            self._database.execute("UPDATE messages SET due = ? WHERE id = ?", (due, message))
            self._note_due(due)
            return _moment(due)

    # -- looking

    def peek(
        self, entity: str, from_sequence_number: int = 0, max_messages: int = 100
    ) -> list[PeekedMessage]:
        """The messages in the entity, including scheduled and locked ones, by sequence number.

        Raises:
            EntityNotFoundError: no entity has that name.
        """
        source = self._find(entity)
        with self._transaction():
            rows = self._database.execute(
                f"SELECT {_READ} FROM messages WHERE entity = ? AND sequence >= ? ORDER BY sequence LIMIT ?",  # noqa: S608
                (source.id, from_sequence_number, max_messages),
            )
            return [PeekedMessage(**_fields(row)) for row in rows]

    def counts(self, entity: str) -> EntityCounts:
        """How many messages the entity holds.

        Raises:
            EntityNotFoundError: no entity has that name.
        """
        source = self._find(entity)
        with self._transaction():
            held = self._count(source)
            dead = sum(self._count(source.dead_letters).values()) if source.dead_letters else 0
        return EntityCounts(
            active=held.get(MessageState.ACTIVE, 0),
            scheduled=held.get(MessageState.SCHEDULED, 0),
            locked=held.get(MessageState.LOCKED, 0),
            dead_lettered=dead,
        )

    # -- waiting

    @property
    def version(self) -> int:
        """Grows whenever a message becomes available; see `wait`."""
        with self._condition:
            return self._version

    def next_due(self) -> datetime | None:
        """The earliest future moment at which a schedule or a lock ends; None where there is none."""
        with self._transaction():
            due = self._next_due()
        return None if due is None else _moment(due)

    def wait(self, timeout: float, since: int | None = None) -> bool:
        """Block until a message becomes available in some entity, `timeout` seconds of real time at most.

        Args:
            timeout: seconds.
            since: a `version` read before looking for messages: what has become available after it was
                read ends the wait at once, so that nothing slips through between looking and waiting.
                None: the version of this moment.

        Returns:
            Whether a message became available. What falls due by a stepped clock is noticed when it is
            looked for, or on `wake`.
        """
        deadline = self._real.monotonic() + timeout
        with self._condition:
            if since is None:
                since = self._version
            while not self._closed:
                with self._transaction() as now:
                    due = self._due
                if self._version != since:
                    return True
                pause = deadline - self._real.monotonic()
                if pause <= 0:
                    return False
                if not isinstance(self._clock, SteppedClock):
                    pause = min(pause, (due - now) / 1_000_000)
                self._condition.wait(pause)
            return False

    def wake(self) -> None:
        """Make every waiter look again: for whoever has stepped the clock, or wants the waiters to stop."""
        with self._condition:
            self._version += 1
            self._condition.notify_all()
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener()

    def add_listener(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have `listener` called after each call that made a message available or moved `next_due` nearer.

        It is called on the thread of that call, must return at once and not call the broker.
        Returns a function that removes it.
        """
        with self._condition:
            self._listeners.append(listener)

        def remove() -> None:
            with self._condition:
                if listener in self._listeners:
                    self._listeners.remove(listener)

        return remove

    # -- inside a transaction

    @contextmanager
    def _transaction(self) -> Iterator[int]:
        """The connection for one call, with everything that has fallen due done first; gives the time."""
        with self._condition:
            if self._closed:
                raise self._storage_error or BrokerError("the broker is closed: open it again to use it")
            now = _microseconds(self._clock.now())
            try:
                self._database.execute("BEGIN")
                if now >= self._due:
                    self._advance(now)
                if now >= self._expiry:
                    self._expire(now)
                yield now
                self._database.execute("COMMIT")
            except BaseException as error:
                # Of some errors SQLite has rolled back by itself; of a file that fails, reading may fail as well.
                with suppress(sqlite3.Error):
                    if self._database.in_transaction:
                        self._database.execute("ROLLBACK")
                    self._load_sequences()
                self._became_available = self._due_sooner = False
                self._due = self._expiry = self._prune_at = 0
                if _is_of_storage(error):
                    self._storage_error = BrokerStorageError(_not_written(self._path, error))
                    raise self._storage_error from error
                raise
            if not (self._became_available or self._due_sooner):
                return
            self._version += self._became_available
            self._became_available = self._due_sooner = False
            self._condition.notify_all()
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener()

    def _advance(self, now: int) -> None:
        rows = self._database.execute(
            "SELECT id, entity, state, due, delivery_count FROM messages"
            " WHERE state <> 0 AND due <= ? ORDER BY due, sequence",
            (now,),
        ).fetchall()
        for message, entity_id, state, due, deliveries in rows:
            entity = self._by_id.get(entity_id)
            if entity is None:
                continue
            if state == MessageState.LOCKED:
                self._release(entity, message, deliveries, due)
            else:
                self._enqueue_scheduled(entity, message, due)
        following = self._next_due()
        self._due = _NEVER if following is None else following

    def _note_due(self, due: int) -> None:
        if due < self._due:
            self._due = due
            self._due_sooner = True

    def _next_due(self) -> int | None:
        (due,) = self._database.execute("SELECT min(due) FROM messages WHERE state <> 0").fetchone()
        return cast("int | None", due)

    def _expire(self, now: int) -> None:
        expired = self._database.execute(
            "SELECT id, entity FROM messages WHERE expires <= ? AND state = 0 ORDER BY expires, sequence",
            (now,),
        ).fetchall()
        for message, entity_id in expired:
            entity = self._by_id.get(entity_id)
            if entity is not None and entity.dead_letters_expired:
                self._dead_letter(
                    entity, message, "TTLExpiredException", "The message expired and was dead lettered.", now
                )
            else:
                self._database.execute("DELETE FROM messages WHERE id = ?", (message,))
        (following,) = self._database.execute(
            "SELECT min(expires) FROM messages WHERE expires IS NOT NULL AND expires > ?", (now,)
        ).fetchone()
        self._expiry = _NEVER if following is None else following

    def _remember(self, target: _Entity, message_id: str, sequence: int, now: int) -> int | None:
        """Note the id as accepted; for a duplicate, the original's sequence number."""
        assert target.duplicate_window is not None
        until = now + target.duplicate_window // _MICROSECOND
        noted = self._database.execute(
            "INSERT INTO history (entity, message_id, until, sequence) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (entity, message_id) DO UPDATE SET until = excluded.until,"
            " sequence = excluded.sequence WHERE until <= ?",
            (target.id, message_id, until, sequence, now),
        )
        if noted.rowcount:
            return None
        (original,) = self._database.execute(
            "SELECT sequence FROM history WHERE entity = ? AND message_id = ?", (target.id, message_id)
        ).fetchone()
        return cast("int", original)

    def _accept(
        self, target: _Entity, message: IncomingMessage, properties: str, *, sequence: int, now: int
    ) -> None:
        scheduled = None if message.scheduled_for is None else _microseconds(message.scheduled_for)
        if scheduled is not None and scheduled > now:
            self._insert(target, message, properties, first_sequence=sequence, now=now, due=scheduled)
            self._note_due(scheduled)
        elif target.receives:
            self._insert(target, message, properties, first_sequence=sequence, now=now)
        else:
            for subscription in target.subscriptions:
                subscription.next_sequence()
                self._save_sequence(subscription)
                self._insert(subscription, message, properties, first_sequence=sequence, now=now)

    def _insert(
        self,
        entity: _Entity,
        message: IncomingMessage,
        properties: str,
        *,
        first_sequence: int,
        now: int,
        due: int | None = None,
    ) -> None:
        """Store the message under the entity's last sequence number."""
        time_to_live = None if message.time_to_live is None else message.time_to_live // _MICROSECOND
        self._database.execute(
            "INSERT INTO messages (entity, sequence, first_sequence, state, due, expires, time_to_live,"
            " enqueued, scheduled, message_id, content_type, subject, correlation_id, properties, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                entity.id,
                entity.last_sequence,
                first_sequence,
                MessageState.ACTIVE if due is None else MessageState.SCHEDULED,
                due,
                self._expires(entity, now, time_to_live) if due is None else None,
                time_to_live,
                now,
                None if message.scheduled_for is None else _microseconds(message.scheduled_for),
                message.message_id,
                message.content_type,
                message.subject,
                message.correlation_id,
                properties,
                message.body,
            ),
        )
        self._became_available |= due is None

    def _expires(self, entity: _Entity, enqueued: int, time_to_live: int | None) -> int | None:
        limits = [limit for limit in (time_to_live,) if limit is not None]
        if entity.time_to_live is not None:
            limits.append(entity.time_to_live // _MICROSECOND)
        if not limits:
            return None
        expires = enqueued + min(limits)
        self._expiry = min(self._expiry, expires)
        return expires

    def _enqueue_scheduled(self, entity: _Entity, message: int, due: int) -> None:
        (time_to_live,) = self._database.execute(
            "SELECT time_to_live FROM messages WHERE id = ?", (message,)
        ).fetchone()
        if entity.receives:
            self._database.execute(
                "UPDATE messages SET state = 0, due = NULL, sequence = ?, first_sequence = ?, enqueued = ?,"
                " expires = ? WHERE id = ?",
                (
                    entity.next_sequence(),
                    entity.last_sequence,
                    due,
                    self._expires(entity, due, time_to_live),
                    message,
                ),
            )
        else:
            first = entity.next_sequence()
            for subscription in entity.subscriptions:
                self._database.execute(
                    "INSERT INTO messages (entity, sequence, first_sequence, state, expires, time_to_live,"
                    " enqueued, scheduled, message_id, content_type, subject, correlation_id,"
                    " properties, body)"
                    " SELECT ?, ?, ?, 0, ?, time_to_live, ?, scheduled, message_id, content_type, subject,"
                    " correlation_id, properties, body FROM messages WHERE id = ?",
                    (
                        subscription.id,
                        subscription.next_sequence(),
                        first,
                        self._expires(subscription, due, time_to_live),
                        due,
                        message,
                    ),
                )
                self._save_sequence(subscription)
            self._database.execute("DELETE FROM messages WHERE id = ?", (message,))
        self._save_sequence(entity)
        self._became_available = True

    def _locked(self, source: _Entity, lock_token: UUID) -> tuple[int, int, str]:
        """Row id, delivery count and properties of the message that this token locks."""
        row = self._database.execute(
            "SELECT id, delivery_count, properties FROM messages WHERE lock_token = ? AND entity = ?",
            (lock_token.bytes, source.id),
        ).fetchone()
        if row is None:
            raise MessageLockLostError(
                f"the lock {lock_token} on a message of {source.name} has ended: the message was settled, "
                f"or its {source.lock_duration.total_seconds():g} seconds passed without a renewal"
            )
        return cast("tuple[int, int, str]", row)

    def _release(self, entity: _Entity, message: int, deliveries: int, now: int) -> None:
        if entity.max_delivery_count is not None and deliveries >= entity.max_delivery_count:
            self._dead_letter(
                entity,
                message,
                "MaxDeliveryCountExceeded",
                f"Message could not be consumed after {deliveries} delivery attempts.",
                now,
            )
            return
        self._database.execute(
            "UPDATE messages SET state = 0, due = NULL, lock_token = NULL WHERE id = ?", (message,)
        )
        self._became_available = True

    def _dead_letter(
        self, entity: _Entity, message: int, reason: str | None, description: str | None, now: int
    ) -> None:
        if entity.dead_letters is None:
            raise BrokerError(
                f"a message of {entity.name} cannot be dead-lettered: complete it or abandon it"
            )
        (encoded, deliveries) = self._database.execute(
            "SELECT properties, delivery_count FROM messages WHERE id = ?", (message,)
        ).fetchone()
        properties = _decoded(encoded)
        if reason is not None:
            properties["DeadLetterReason"] = reason
        if description is not None:
            properties["DeadLetterErrorDescription"] = description
        # A forwarded dead letter is moved, not sent: it neither is compared with the target's history of ids
        # nor enters it, because messages of two queues may bear the same id and neither may be lost.
        target = entity.forward_to or entity.dead_letters
        self._database.execute(
            "UPDATE messages SET entity = ?, sequence = ?, state = 0, due = NULL, expires = NULL,"
            " lock_token = NULL, delivery_count = ?, enqueued = ?, dead_letter_source = ?, properties = ?"
            " WHERE id = ?",
            (
                target.id,
                target.next_sequence(),
                0 if entity.forward_to else deliveries,
                now,
                entity.name if entity.forward_to else None,
                _encoded(properties),
                message,
            ),
        )
        self._save_sequence(target)
        self._became_available = True

    def _count(self, entity: _Entity) -> dict[int, int]:
        return dict(
            self._database.execute(
                "SELECT state, count(*) FROM messages WHERE entity = ? GROUP BY state", (entity.id,)
            ).fetchall()
        )

    # -- entities

    def _find(self, name: str) -> _Entity:
        entity = self._entities.get(name.lower())
        if entity is None:
            raise EntityNotFoundError(f"there is no queue, topic or subscription {name!r}")
        return entity

    def _source(self, name: str) -> _Entity:
        entity = self._find(name)
        if not entity.receives:
            raise EntityNotFoundError(
                f"messages cannot be received from topic {entity.name}: "
                "receive from one of its subscriptions, " + ", ".join(s.name for s in entity.subscriptions)
            )
        return entity

    def _adopt_entities(self) -> None:
        try:
            self._database.execute("BEGIN")
            self._database.executemany(
                "INSERT INTO entities (name) VALUES (?) ON CONFLICT DO NOTHING",
                [(entity.name,) for entity in self._entities.values()],
            )
            self._database.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise BrokerStorageError(_not_written(self._path, error)) from error
        self._load_sequences()

    def _load_sequences(self) -> None:
        for entity_id, name, last in self._database.execute("SELECT id, name, last_sequence FROM entities"):
            entity = self._entities.get(name)
            if entity is not None:
                entity.id, entity.last_sequence = entity_id, last
                self._by_id[entity_id] = entity

    def _save_sequence(self, entity: _Entity) -> None:
        self._database.execute(
            "UPDATE entities SET last_sequence = ? WHERE id = ?", (entity.last_sequence, entity.id)
        )

    def _release_locks(self) -> None:
        with self._transaction() as now:
            rows = self._database.execute(
                "SELECT id, entity, delivery_count FROM messages WHERE state = ? ORDER BY entity, sequence",
                (MessageState.LOCKED,),
            ).fetchall()
            for message, entity_id, deliveries in rows:
                entity = self._by_id.get(entity_id)
                if entity is not None:
                    self._release(entity, message, deliveries, now)


def _entities_of(topology: Topology) -> dict[str, _Entity]:
    """Every entity of the topology by its lower-cased name."""
    entities: dict[str, _Entity] = {}

    def add(entity: _Entity) -> _Entity:
        entities[entity.name] = entity
        return entity

    def with_dead_letters(entity: _Entity) -> _Entity:
        name = f"{entity.name}/{DEAD_LETTER_QUEUE}"
        entity.dead_letters = add(_Entity(name=name, lock_duration=entity.lock_duration))
        return add(entity)

    for queue in topology.queues:
        with_dead_letters(
            _Entity(
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
                _Entity(
                    name=f"{name}/subscriptions/{subscription.name.lower()}",
                    lock_duration=subscription.lock_duration,
                    max_delivery_count=subscription.max_delivery_count,
                    time_to_live=subscription.time_to_live,
                )
            )
            for subscription in topic.subscriptions
        ]
        add(
            _Entity(
                name=name,
                duplicate_window=topic.duplicate_detection_window,
                receives=False,
                accepts=True,
                subscriptions=subscriptions,
            )
        )
    for queue in topology.queues:
        if queue.forward_dead_letters_to is not None:
            entities[queue.name.lower()].forward_to = _target(queue, entities)
    return entities


def _target(queue: Queue, entities: Mapping[str, _Entity]) -> _Entity:
    """Where a queue forwards its dead letters. Raises ValueError where that is no queue."""
    target = entities.get((queue.forward_dead_letters_to or "").lower())
    if target is None or not (target.accepts and target.receives):
        raise ValueError(
            f"queue {queue.name} forwards its dead letters to {queue.forward_dead_letters_to}, "
            "which is no queue of the topology"
        )
    return target


def _is_of_storage(error: BaseException) -> bool:
    # What is wrong with a statement has a class of its own.
    return isinstance(error, sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError


def _not_written(path: Path | None, error: BaseException) -> str:
    return f"{path} cannot be read or written ({error}): see whether its disk is full"


def _require_log(path: Path) -> None:
    """Raises BrokerError for a file whose write-ahead log is gone: what was done last is in that.

    The file says so itself, by the format's version numbers (https://www.sqlite.org/fileformat2.html#file_format_version_numbers):
    it is in write-ahead mode from when it is opened until it is closed in order.
    """
    with suppress(FileNotFoundError):
        with path.open("rb") as file:
            versions = file.read(20)[18:20]
        if versions == b"\2\2" and not path.with_name(f"{path.name}-wal").exists():
            raise BrokerError(
                f"{path} is incomplete: its write-ahead log, {path.name}-wal, is missing, and what was done last was"
                " in it: put that file back beside it, or see in the vault's jobs what was done and start anew"
            )


def _keep_to_owner(path: Path) -> None:
    """The file is its owner's alone: it holds signed URLs. SQLite gives what it puts beside it the same mode."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    for each in (path, path.with_name(f"{path.name}-wal")):
        with suppress(OSError):
            if each.is_file():
                each.chmod(0o600)


def _shut(database: sqlite3.Connection) -> None:
    """Close a file in order: what is in the write-ahead log is taken into it, and it says that it has none."""
    with suppress(sqlite3.Error):
        database.execute("PRAGMA journal_mode = MEMORY")
    database.close()


def _open(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        try:
            _require_log(path)
            _keep_to_owner(path)
        except OSError as error:
            raise BrokerError(f"{path} cannot be opened as the broker's file: {error.strerror}") from error
    try:
        # A process that was just killed may take a moment to let go of the file.
        database = sqlite3.connect(
            ":memory:" if path is None else path, isolation_level=None, check_same_thread=False, timeout=1
        )
    except sqlite3.OperationalError as error:
        raise BrokerError(f"{path} cannot be opened as the broker's file: {error}") from error
    try:
        _prepare(database, path)
    except sqlite3.OperationalError as error:
        _shut(database)
        if "locked" in str(error):
            raise BrokerInUseError(
                f"{path} is in use by another process: wait until it has ended, or give another file"
            ) from error
        raise BrokerError(f"{path} cannot be opened as the broker's file: {error}") from error
    except sqlite3.DatabaseError as error:
        _shut(database)
        raise BrokerError(f"{path} is not a broker's file: give another one ({error})") from error
    except BaseException:
        _shut(database)
        raise
    return database


def _prepare(database: sqlite3.Connection, path: Path | None) -> None:
    # Exclusive before anything is read, so that no second process can release locks that are alive.
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (tables,) = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if version != _SCHEMA_VERSION and (version or tables):
        raise BrokerError(
            f"{path} is not a file of this broker's version: "
            "give another file, or delete this one to start anew"
        )
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute("PRAGMA temp_store = MEMORY")
    if not version:
        database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;")


def _prepared(entity: str, message: OutgoingMessage | IncomingMessage) -> tuple[IncomingMessage, str]:
    """The message as the broker keeps it, with its properties encoded; raises for what is over a limit."""
    if isinstance(message, OutgoingMessage):
        message = IncomingMessage(
            body=message.body,
            message_id=message.message_id,
            content_type=message.content_type,
            subject=message.subject,
            correlation_id=message.correlation_id,
            application_properties=message.application_properties,
            scheduled_for=message.scheduled_for,
        )
    if message.message_id and len(message.message_id) > MAX_MESSAGE_ID_LENGTH:
        raise BrokerError(
            f"a message to {entity} has an id of {len(message.message_id)} characters: "
            f"at most {MAX_MESSAGE_ID_LENGTH} are accepted"
        )
    properties = _encoded(message.application_properties)
    size = (
        len(message.body)
        + len(properties)
        + sum(
            len(text)
            for text in (message.message_id, message.content_type, message.subject, message.correlation_id)
            if text
        )
    )
    if size > MAX_MESSAGE_SIZE:
        raise MessageTooLargeError(
            f"a message to {entity} takes {size} bytes: the broker accepts {MAX_MESSAGE_SIZE}"
        )
    return message, properties


def _fields(row: Sequence[Any], *, delivered: int = 0) -> dict[str, Any]:
    """The fields of a message that a row of `_READ` holds."""
    return {
        "body": row[1],
        "message_id": row[2],
        "content_type": row[3],
        "subject": row[4],
        "correlation_id": row[5],
        "application_properties": _decoded(row[6]),
        "sequence_number": row[7],
        "enqueued_sequence_number": row[8],
        "enqueued_time": _moment(row[9]),
        "scheduled_for": None if row[10] is None else _moment(row[10]),
        "delivery_count": row[11] + delivered,
        "expires_at": None if row[12] is None else _moment(row[12]),
        "dead_letter_source": row[13],
        "state": MessageState.LOCKED if delivered else MessageState(row[14]),
    }


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def _encoded(properties: Mapping[str, PropertyValue]) -> str:
    """Application properties as JSON; what JSON has no type for becomes a pair of its type and its text."""
    return json.dumps(dict(properties), default=_tagged) if properties else "{}"


def _tagged(value: object) -> list[str]:
    match value:
        case bytes():
            return ["bytes", value.hex()]
        case UUID():
            return ["uuid", value.hex]
        case datetime():
            return ["datetime", value.isoformat()]
    raise BrokerError(f"an application property cannot be a {type(value).__name__}")


def _decoded(properties: str) -> dict[str, PropertyValue]:
    if properties == "{}":
        return {}
    decoded: dict[str, Any] = json.loads(properties)
    return {name: _untagged(*value) if isinstance(value, list) else value for name, value in decoded.items()}


def _untagged(tag: str, text: str) -> PropertyValue:
    match tag:
        case "bytes":
            return bytes.fromhex(text)
        case "uuid":
            return UUID(hex=text)
        case _:
            return datetime.fromisoformat(text)
