"""The broker: queues, topics and subscriptions with the semantics of Service Bus, kept in SQLite.

Follows the documentation under https://learn.microsoft.com/azure/service-bus-messaging/, each part of it in a module
of its own. Sessions and deferral are not provided.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Self
from uuid import UUID

from local.broker import message_locks, scheduled_messages
from local.broker.dead_letters import dead_letter
from local.broker.duplicate_detection import forget_old_ids, original_of, remembered_ids
from local.broker.enqueueing import accept
from local.broker.entities import Entity, entities_of
from local.broker.expiration import expire
from local.broker.model import (
    BrokerError,
    BrokerStorageError,
    EntityCounts,
    IncomingMessage,
    MessageState,
    PeekedMessage,
    PropertyValue,
    ReceivedMessage,
)
from local.broker.rows import COLUMNS, fields_of, prepared, to_microseconds, to_moment
from local.broker.storage import as_storage_error, close_file, is_storage_failure, open_file
from local.broker.store import NEVER, Store
from local.stepped_clock import SteppedClock
from shared.bus import OutgoingMessage
from shared.bus.topology import TOPOLOGY, Topology
from shared.clock import Clock, SystemClock


class Broker:
    """Queues, topics and subscriptions with the semantics of Service Bus. Safe to share between threads.

    Entities are named as Service Bus names them, in any case: a queue or a topic by its name (to send to),
    `topic/subscriptions/name` (to receive from), and either with `/$deadletterqueue`.

    With a path, the state is a file that outlives the process: every call that has returned survives a kill
    of the process. The file is in write-ahead mode with `synchronous=NORMAL`: the operating system has what was
    written, so only a loss of power can lose the last calls, and even that does not corrupt the file. Flushing the
    disk for each call would be much slower, and no promise needs it. While the file is open, and after a kill, its
    write-ahead log is a part of it: without the log it is refused. Only its owner may read it. Only one process at a
    time can open the file, so every lock of the process before is released when it is opened: that process is dead.
    Delivery counts stay, and a message that has used up its deliveries is dead-lettered then.

    Args:
        path: the file to keep the state in; None keeps it in memory.
        topology: the entities.
        clock: the time by which schedules, locks, windows and times to live end.

    Raises:
        BrokerInUseError: another process has the file open.
        BrokerError: the file is not a broker's, of another version, or without its write-ahead log.
        BrokerStorageError: the file cannot be written. Every method may raise it too, and `storage_error` keeps it.
        ValueError: the topology forwards dead letters to a queue that it does not hold.
    """

    def __init__(
        self, path: Path | None, topology: Topology = TOPOLOGY, *, clock: Clock | None = None
    ) -> None:
        self._clock: Clock = clock or SystemClock()
        self._real = SystemClock()
        self._condition = threading.Condition(threading.RLock())
        self._version = 0
        self._listeners: list[Callable[[], None]] = []
        self._closed = False
        self._path = path
        self._storage_error: BrokerStorageError | None = None
        self._database = open_file(path)
        self._store = Store(self._database, entities_of(topology))
        try:
            self._begin()
        except BaseException:
            close_file(self._database)
            raise

    def _begin(self) -> None:
        """Add missing entities, and release the locks of the process before."""
        try:
            self._database.execute("BEGIN")
            self._store.adopt_entities()
            self._database.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise as_storage_error(self._path, error) from error
        self._store.load_sequences()
        with self._transaction() as now:
            message_locks.give_all_back(self._store, now)

    # -- life cycle

    def close(self) -> None:
        """Close the file and wake every waiter. Closing twice does nothing."""
        with self._condition:
            if not self._closed:
                self._closed = True
                close_file(self._database)
                self._condition.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def storage_error(self) -> BrokerStorageError | None:
        """The last failure of the file; None if it never failed. What the failed call was to write is lost."""
        with self._condition:
            return self._storage_error

    # -- sending

    def send(self, entity: str, messages: Sequence[OutgoingMessage | IncomingMessage]) -> list[int]:
        """Accept all messages or, when it raises, none of them.

        A message whose id the entity has accepted within its duplicate detection window is accepted
        silently and not enqueued; the window begins when a message is sent, even if it is scheduled.

        Returns:
            The sequence number of each message, in their order; for a duplicate that of the original.

        Raises:
            EntityNotFoundError: no queue or topic has that name.
            MessageTooLargeError: a message is over `MAX_MESSAGE_SIZE`.
            BrokerError: a message id is longer than Service Bus allows.
        """
        target = self._store.find_target(entity)
        prepared_messages = [prepared(target.name, message) for message in messages]
        with self._transaction() as now:
            numbers = []
            for message, properties in prepared_messages:
                sequence = target.last_sequence + 1
                if message.message_id:
                    original = original_of(self._store, target, message.message_id, sequence, now)
                    if original is not None:
                        numbers.append(original)
                        continue
                target.last_sequence = sequence
                numbers.append(sequence)
                accept(self._store, target, message, properties, sequence=sequence, now=now)
            self._store.save_sequence(target)
            forget_old_ids(self._store, now)
            return numbers

    def cancel_scheduled(self, entity: str, sequence_numbers: Sequence[int]) -> None:
        """Delete scheduled messages. Their ids stay known to duplicate detection, as Service Bus keeps them.

        Raises:
            EntityNotFoundError: no queue or topic has that name.
            MessageNotFoundError: one of the messages is not scheduled (any more); nothing is cancelled then.
        """
        target = self._store.find(entity)
        with self._transaction():
            scheduled_messages.cancel(self._store, target, sequence_numbers)

    # -- receiving and settling

    def receive(self, entity: str, max_messages: int = 1) -> list[ReceivedMessage]:
        """Lock up to `max_messages` of the messages that are available, oldest first, without waiting.

        Raises:
            EntityNotFoundError: nothing can be received from that name.
        """
        source = self._store.find_source(entity)
        with self._transaction() as now:
            return message_locks.lock(self._store, source, max_messages, now)

    def complete(self, entity: str, lock_token: UUID) -> None:
        """Settle a message as done: it is deleted.

        Raises:
            MessageLockLostError: the lock has ended.
        """
        source = self._store.find_source(entity)
        with self._transaction():
            message_locks.complete(self._store, source, lock_token)

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
        source = self._store.find_source(entity)
        with self._transaction() as now:
            message_locks.abandon(self._store, source, lock_token, properties_to_modify, now)

    def release(self, entity: str, lock_token: UUID) -> None:
        """Give a message back as if never delivered: the delivery is not counted.

        Raises:
            MessageLockLostError: the lock has ended.
        """
        source = self._store.find_source(entity)
        with self._transaction():
            message_locks.release(self._store, source, lock_token)

    def dead_letter(
        self, entity: str, lock_token: UUID, reason: str | None = None, description: str | None = None
    ) -> None:
        """Settle a message as one that cannot be handled: it goes to where the entity's dead letters go.

        Raises:
            MessageLockLostError: the lock has ended.
            BrokerError: the message already is in a dead-letter queue.
        """
        source = self._store.find_source(entity)
        with self._transaction() as now:
            message, _, _ = message_locks.locked_message(self._store, source, lock_token)
            dead_letter(self._store, source, message, reason, description, now=now)

    def renew_lock(self, entity: str, lock_token: UUID) -> datetime:
        """Lock the message anew for the entity's whole lock duration; returns when that ends.

        Raises:
            MessageLockLostError: the lock has ended.
        """
        source = self._store.find_source(entity)
        with self._transaction() as now:
            return message_locks.renew(self._store, source, lock_token, now)

    # -- peeking

    def peek(
        self, entity: str, from_sequence_number: int = 0, max_messages: int = 100
    ) -> list[PeekedMessage]:
        """The messages in the entity, including scheduled and locked ones, by sequence number.

        Raises:
            EntityNotFoundError: no entity has that name.
        """
        source = self._store.find(entity)
        with self._transaction():
            rows = self._database.execute(
                f"SELECT {COLUMNS} FROM messages WHERE entity = ? AND sequence >= ? ORDER BY sequence LIMIT ?",  # noqa: S608
                (source.id, from_sequence_number, max_messages),
            )
            return [PeekedMessage(**fields_of(row)) for row in rows]

    def remembered_ids(self, entity: str, prefix: str) -> list[str]:
        """The message ids that begin so and that the entity remembers for duplicate detection.

        Raises:
            EntityNotFoundError: no queue or topic has that name.
        """
        target = self._store.find_target(entity)
        with self._transaction():
            return remembered_ids(self._store, target, prefix)

    def counts(self, entity: str) -> EntityCounts:
        """How many messages the entity holds.

        Raises:
            EntityNotFoundError: no entity has that name.
        """
        source = self._store.find(entity)
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
            due = self._store.earliest_due()
        return None if due is None else to_moment(due)

    def seconds_until_due(self) -> float | None:
        """Seconds until `next_due`; None where there is none, or where the clock only moves when it is stepped."""
        due = None if isinstance(self._clock, SteppedClock) else self.next_due()
        return None if due is None else max(0.0, (due - self._clock.now()).total_seconds())

    def wait(self, timeout: float, since: int | None = None) -> bool:
        """Block until a message becomes available in some entity, `timeout` seconds of real time at most.

        Args:
            timeout: seconds.
            since: a `version` read before looking for messages: a message that became available after it was read
                ends the wait at once, so that none is missed between looking and waiting. None: the present version.

        Returns:
            Whether a message became available. What falls due by a stepped clock is noticed only on the next call, or
            on `wake`.
        """
        deadline = self._real.monotonic() + timeout
        with self._condition:
            if since is None:
                since = self._version
            while not self._closed:
                with self._transaction() as now:
                    due = self._store.next_due
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
        """Make every waiter look again, after the clock was stepped or to let the waiters stop."""
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
        """A transaction for one call, with everything that has fallen due done first; gives the moment."""
        with self._condition:
            if self._closed:
                raise self._storage_error or BrokerError("the broker is closed: open it again to use it")
            store = self._store
            now = to_microseconds(self._clock.now())
            try:
                self._database.execute("BEGIN")
                if now >= store.next_due:
                    self._do_due(now)
                if now >= store.next_expiry:
                    expire(store, now)
                yield now
                self._database.execute("COMMIT")
            except BaseException as error:
                # SQLite has rolled back some errors by itself; where the file fails, reading may fail as well.
                with suppress(sqlite3.Error):
                    if self._database.in_transaction:
                        self._database.execute("ROLLBACK")
                    store.load_sequences()
                store.reset()
                if is_storage_failure(error):
                    self._storage_error = as_storage_error(self._path, error)
                    raise self._storage_error from error
                raise
            if not (store.became_available or store.due_sooner):
                return
            self._version += store.became_available
            store.became_available = store.due_sooner = False
            self._condition.notify_all()
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener()

    def _do_due(self, now: int) -> None:
        """End the locks and enqueue the scheduled messages that have fallen due, in their order."""
        store = self._store
        rows = self._database.execute(
            "SELECT id, entity, state, due, delivery_count FROM messages"
            " WHERE state <> 0 AND due <= ? ORDER BY due, sequence",
            (now,),
        ).fetchall()
        for message, entity_id, state, due, deliveries in rows:
            entity = store.by_id(entity_id)
            if entity is None:
                continue
            if state == MessageState.LOCKED:
                message_locks.give_back(store, entity, message, deliveries, due)
            else:
                scheduled_messages.enqueue(store, entity, message, due)
        following = store.earliest_due()
        store.next_due = NEVER if following is None else following

    def _count(self, entity: Entity) -> dict[int, int]:
        return dict(
            self._database.execute(
                "SELECT state, count(*) FROM messages WHERE entity = ? GROUP BY state", (entity.id,)
            ).fetchall()
        )
