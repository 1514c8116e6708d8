"""What the broker does beyond what a client of Service Bus sees: waiting, surviving, keeping order."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from local.broker import (
    Broker,
    BrokerError,
    BrokerInUseError,
    EntityCounts,
    EntityNotFoundError,
    IncomingMessage,
    InProcessBus,
    MessageLockLostError,
    MessageState,
    PropertyValue,
)
from local.stepped_clock import SteppedClock
from shared.bus import BusError, MessageTooLargeError, OutgoingMessage
from shared.bus.topology import (
    DEAD_LETTERS,
    JOB_OUTCOMES,
    LOCK_DURATION,
    MAX_DELIVERY_COUNT,
    REQUEST_WINDOW,
    TRACK,
    Queue,
    Topology,
)

START = datetime(2026, 1, 5, 8, tzinfo=UTC)


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock(START)


@pytest.fixture
def broker(clock: SteppedClock) -> Iterator[Broker]:
    with Broker(None, clock=clock) as broker:
        yield broker


def message(message_id: str, entity: str = TRACK, **given: Any) -> OutgoingMessage:
    return OutgoingMessage(**{"entity": entity, "message_id": message_id, "body": b"{}", **given})


# -- surviving


def test_everything_outlives_the_process_and_its_locks_do_not(tmp_path: Path, clock: SteppedClock) -> None:
    file = tmp_path / "broker.db"
    with Broker(file, clock=clock) as broker:
        broker.send(
            TRACK,
            [
                message("locked"),
                message("active"),
                message("later", scheduled_for=START + timedelta(hours=1)),
            ],
        )
        [locked] = broker.receive(TRACK)
    with Broker(file, clock=clock) as broker:
        again = broker.receive(TRACK, 5)
        assert [(m.message_id, m.delivery_count) for m in again] == [("locked", 2), ("active", 1)]
        with pytest.raises(MessageLockLostError):
            broker.complete(TRACK, locked.lock_token)
        assert broker.send(TRACK, [message("active")]) == [again[1].sequence_number]
        assert broker.counts(TRACK).scheduled == 1
        [number] = broker.send(TRACK, [message("new")])
        assert number > max(m.sequence_number for m in broker.peek(TRACK)[:-1])


def test_a_message_that_kills_its_process_each_time_is_dead_lettered_in_the_end(
    tmp_path: Path, clock: SteppedClock
) -> None:
    file = tmp_path / "broker.db"
    with Broker(file, clock=clock) as broker:
        broker.send(TRACK, [message("deadly")])
    for delivery in range(1, MAX_DELIVERY_COUNT + 1):
        with Broker(file, clock=clock) as broker:
            [got] = broker.receive(TRACK)
            assert got.delivery_count == delivery
    with Broker(file, clock=clock) as broker:
        assert broker.receive(TRACK) == []
        [dead] = broker.receive(DEAD_LETTERS)
        assert dead.dead_letter_reason == "MaxDeliveryCountExceeded"
        assert dead.dead_letter_source == TRACK


SENDER = """
import sys
from pathlib import Path
from local.broker import Broker
from shared.bus import OutgoingMessage

broker = Broker(Path(sys.argv[1]))
for number in range(1_000_000):
    names = f"{number}.0", f"{number}.1"
    broker.send("track", [OutgoingMessage(entity="track", message_id=name, body=b"{}") for name in names])
    if number % 2 == 0:
        [taken] = broker.receive("track")
        broker.complete("track", taken.lock_token)
    print(number, flush=True)
"""


def test_what_was_accepted_survives_a_kill_and_a_send_is_whole_or_not_there(tmp_path: Path) -> None:
    file = tmp_path / "broker.db"
    sender = subprocess.Popen([sys.executable, "-c", SENDER, str(file)], stdout=subprocess.PIPE, text=True)
    with sender:
        assert sender.stdout is not None
        for line in sender.stdout:
            if int(line) >= 300:
                os.kill(sender.pid, signal.SIGKILL)
                break
        printed = [int(rest) for rest in sender.stdout.read().split()]
    last = max([300, *printed])
    with Broker(file) as broker:
        kept = [m.message_id or "" for m in broker.peek(TRACK, max_messages=1_000_000)]
        sent = [f"{number}.{part}" for number in range(last + 1) for part in (0, 1)]
        completed = last // 2 + 1
        # One more send, and one more completion, may have been done and not told.
        beyond = [name for name in kept if name not in set(sent)]
        assert beyond in ([], [f"{last + 1}.0", f"{last + 1}.1"])
        assert [name for name in kept if name in set(sent)] in (sent[completed:], sent[completed + 1 :])


def test_a_file_belongs_to_one_process_at_a_time(tmp_path: Path) -> None:
    file = tmp_path / "broker.db"
    opener = (
        "import sys; from pathlib import Path; from local.broker import Broker; Broker(Path(sys.argv[1]))"
    )
    with Broker(file) as broker:
        broker.send(TRACK, [message("m")])
        [taken] = broker.receive(TRACK)
        other = subprocess.run(
            [sys.executable, "-c", opener, str(file)], capture_output=True, text=True, check=False
        )
        assert "BrokerInUseError" in other.stderr
        assert "in use by another process" in other.stderr
        with pytest.raises(BrokerInUseError):
            Broker(file)
        broker.complete(TRACK, taken.lock_token)


def test_a_file_that_is_no_brokers_is_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but long enough to be taken for one " * 100)
    database = tmp_path / "other.db"
    connection = sqlite3.connect(database)
    connection.execute("CREATE TABLE mine (a)")
    connection.commit()
    connection.close()
    for file in (text, database):
        before = file.read_bytes()
        with pytest.raises(BrokerError, match=file.name):
            Broker(file)
        assert file.read_bytes() == before
    with pytest.raises(BrokerError, match="cannot be opened"):
        Broker(tmp_path / "no such directory" / "broker.db")


# -- waiting


def test_a_waiter_is_woken_by_another_threads_message(broker: Broker) -> None:
    seen = broker.version
    sender = threading.Timer(0.01, broker.send, (TRACK, [message("m")]))
    sender.start()
    assert broker.wait(30, seen)
    sender.join()
    # What came between looking and waiting is not missed either.
    assert broker.wait(30, seen)
    assert not broker.wait(0)


@pytest.mark.parametrize("ending", ["schedule", "lock"])
def test_a_waiter_is_woken_when_a_message_falls_due(ending: str) -> None:
    soon = timedelta(milliseconds=50)
    topology = Topology(
        queues=(Queue(name=TRACK, lock_duration=soon, forward_dead_letters_to=None),), topics=()
    )
    with Broker(None, topology) as broker:
        if ending == "schedule":
            broker.send(TRACK, [message("m", scheduled_for=datetime.now(UTC) + soon)])
        else:
            broker.send(TRACK, [message("m")])
            broker.receive(TRACK)
        assert broker.receive(TRACK) == []
        assert broker.wait(30)
        assert [m.message_id for m in broker.receive(TRACK)] == ["m"]


def test_a_waiter_learns_of_a_moment_that_comes_up_while_it_waits() -> None:
    with Broker(None) as broker:
        soon = datetime.now(UTC) + timedelta(milliseconds=60)
        sender = threading.Timer(0.02, broker.send, (TRACK, [message("m", scheduled_for=soon)]))
        sender.start()
        assert broker.wait(30)
        assert [m.message_id for m in broker.receive(TRACK)] == ["m"]
        sender.join()


def test_closing_and_waking_end_every_wait(broker: Broker) -> None:
    ended = []
    waiters = [threading.Thread(target=lambda: ended.append(broker.wait(30))) for _ in range(3)]
    for waiter in waiters:
        waiter.start()
    while len(ended) < 3:
        broker.wake()
    for waiter in waiters:
        waiter.join()
    assert ended == [True] * 3
    waiter = threading.Thread(target=lambda: ended.append(broker.wait(30)))
    waiter.start()
    broker.close()
    waiter.join()
    assert ended[-1] is False
    with pytest.raises(BrokerError, match="closed"):
        broker.receive(TRACK)


def test_next_due_is_the_earliest_future_moment(broker: Broker, clock: SteppedClock) -> None:
    assert broker.next_due() is None
    broker.send(TRACK, [message("a", scheduled_for=START + timedelta(hours=1)), message("b")])
    assert broker.next_due() == START + timedelta(hours=1)
    [second] = broker.receive(TRACK)
    assert broker.next_due() == second.locked_until == START + LOCK_DURATION
    broker.complete(TRACK, second.lock_token)
    assert broker.next_due() == START + timedelta(hours=1)
    clock.advance_to(START + timedelta(hours=1))
    assert broker.next_due() is None
    assert broker.counts(TRACK).active == 1


# -- many at once


def test_receivers_and_senders_on_many_threads_lose_and_double_nothing() -> None:
    total, threads = 2_000, 8
    taken: list[str] = []
    with Broker(None) as broker:

        def send(part: int) -> None:
            for number in range(part, total, threads):
                broker.send(TRACK, [message(f"{number}")])

        def receive() -> None:
            while len(taken) < total:
                seen = broker.version
                got = broker.receive(TRACK, 3)
                for one in got:
                    taken.append(one.message_id or "")
                    broker.complete(TRACK, one.lock_token)
                if not got:
                    broker.wait(0.05, seen)

        workers = [threading.Thread(target=send, args=(part,)) for part in range(threads)]
        workers += [threading.Thread(target=receive) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert sorted(taken, key=int) == [f"{number}" for number in range(total)]
        counts = broker.counts(TRACK)
        assert (counts.active, counts.locked) == (0, 0)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How much work the broker's queries have been, in the steps that SQLite counts itself."""
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    connect = sqlite3.connect

    def counting(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **kwargs)
        connection.set_progress_handler(count, 1)
        return connection

    monkeypatch.setattr(sqlite3, "connect", counting)
    return lambda: steps


def test_a_long_queue_takes_no_more_work_than_a_short_one(
    tmp_path: Path, clock: SteppedClock, steps: Callable[[], int]
) -> None:
    """Receiving looks only at what it takes."""

    def steps_to_take_one(broker: Broker) -> int:
        before = steps()
        [got] = broker.receive(TRACK)
        broker.complete(TRACK, got.lock_token)
        return steps() - before

    with Broker(tmp_path / "broker.db", clock=clock) as broker:
        broker.send(TRACK, [message(f"{n}") for n in range(10)])
        short = steps_to_take_one(broker)
        later = START + timedelta(days=1)
        broker.send(TRACK, [message(f"{n}") for n in range(10, 5_000)])
        broker.send(TRACK, [message(f"s{n}", scheduled_for=later) for n in range(5_000)])
        broker.receive(TRACK, 1_000)
        assert steps_to_take_one(broker) <= short + 50


def test_a_remembered_id_is_found_among_many_as_fast_as_among_few(
    tmp_path: Path, clock: SteppedClock, steps: Callable[[], int]
) -> None:
    def steps_to_find(broker: Broker) -> int:
        before = steps()
        assert broker.remembered_ids(TRACK, "m7:") == ["m7:a", "m7:\U0001f600"]
        return steps() - before

    with Broker(tmp_path / "broker.db", clock=clock) as broker:
        broker.send(TRACK, [message(one) for one in ("m7", "m7:a", "m7:\U0001f600", "m7;", "M7:a", "m8:a")])
        few = steps_to_find(broker)
        broker.send(TRACK, [message(f"{where}{n}:a") for where in ("m6-", "n") for n in range(2_000)])
        assert steps_to_find(broker) <= few + 50


# -- details of single calls


def test_a_call_that_fails_has_done_nothing(broker: Broker) -> None:
    large = message("large", body=bytes(300_000))
    with pytest.raises(MessageTooLargeError):
        broker.send(TRACK, [message("a"), large])
    with pytest.raises(BrokerError, match="129 characters"):
        broker.send(TRACK, [message("a"), message("x" * 129)])
    later = START + timedelta(hours=1)
    numbers = broker.send(TRACK, [message("b", scheduled_for=later)])
    with pytest.raises(BrokerError):
        broker.cancel_scheduled(TRACK, [*numbers, 999])
    assert broker.counts(TRACK).scheduled == 1
    assert broker.send(TRACK, [message("a")]) == [numbers[0] + 1]


def test_every_kind_of_application_property_is_kept(broker: Broker) -> None:
    properties: dict[str, PropertyValue] = {
        "text": "ü",
        "bytes": b"\x00\xff",
        "number": 2**62,
        "fraction": 0.1,
        "flag": True,
        "nothing": None,
        "id": UUID("00000000-0000-0000-0000-000000000001"),
        "moment": START,
    }
    broker.send(TRACK, [IncomingMessage(body=b"", application_properties=properties)])
    [got] = broker.receive(TRACK)
    assert got.application_properties == properties
    assert got.message_id is None


def test_a_message_without_an_id_is_never_a_duplicate(broker: Broker) -> None:
    broker.send(TRACK, [IncomingMessage(body=b"1"), IncomingMessage(body=b"1")])
    assert broker.counts(TRACK).active == 2


def test_a_released_message_was_not_delivered(broker: Broker) -> None:
    broker.send(TRACK, [message("m")])
    [got] = broker.receive(TRACK)
    broker.release(TRACK, got.lock_token)
    [again] = broker.receive(TRACK)
    assert again.delivery_count == 1


def test_a_messages_own_time_to_live_ends_before_its_entitys(broker: Broker, clock: SteppedClock) -> None:
    all_outcomes = f"{JOB_OUTCOMES}/subscriptions/all"
    broker.send(JOB_OUTCOMES, [IncomingMessage(body=b"", time_to_live=timedelta(days=1)), message("whole")])
    short, whole = broker.peek(all_outcomes)
    assert short.expires_at == START + timedelta(days=1)
    assert whole.expires_at == START + timedelta(days=14)
    clock.advance(timedelta(days=1))
    assert [m.message_id for m in broker.peek(all_outcomes)] == ["whole"]
    # What is locked stays with its receiver, who may still settle it.
    [held] = broker.receive(all_outcomes)
    clock.advance(timedelta(minutes=1))
    broker.complete(all_outcomes, held.lock_token)


def test_a_message_that_expires_in_a_queue_becomes_a_dead_letter(broker: Broker, clock: SteppedClock) -> None:
    short = IncomingMessage(body=b"late", message_id="m", time_to_live=timedelta(minutes=5))
    broker.send(TRACK, [short, message("stays")])
    clock.advance(timedelta(minutes=5))
    assert [m.message_id for m in broker.peek(TRACK)] == ["stays"]
    [dead] = broker.receive(DEAD_LETTERS)
    assert (dead.body, dead.dead_letter_source) == (b"late", TRACK)
    assert dead.application_properties["DeadLetterReason"] == "TTLExpiredException"


def test_a_queue_may_let_what_expires_vanish(clock: SteppedClock) -> None:
    queues = (Queue(name="q", forward_dead_letters_to=None, dead_letter_expired=False),)
    with Broker(None, Topology(queues=queues, topics=()), clock=clock) as broker:
        broker.send("q", [IncomingMessage(body=b"", time_to_live=timedelta(minutes=5))])
        clock.advance(timedelta(minutes=5))
        assert broker.counts("q") == EntityCounts(active=0, scheduled=0, locked=0, dead_lettered=0)


def test_ids_beyond_their_window_are_forgotten(tmp_path: Path, clock: SteppedClock) -> None:
    file = tmp_path / "broker.db"
    with Broker(file, clock=clock) as broker:
        broker.send(TRACK, [message(f"{n}") for n in range(100)])
        clock.advance(REQUEST_WINDOW)
        broker.send(TRACK, [message("last")])
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("SELECT message_id FROM history").fetchall() == [("last",)]


def test_entities_are_named_as_in_service_bus_and_a_wrong_use_is_explained(broker: Broker) -> None:
    broker.send("TRACK", [message("m")])
    assert broker.counts("Track").active == 1
    assert broker.peek("job-outcomes/Subscriptions/All/$DeadLetterQueue") == []
    with pytest.raises(EntityNotFoundError, match="'nowhere'"):
        broker.send("nowhere", [])
    with pytest.raises(EntityNotFoundError, match="job-outcomes/subscriptions/all"):
        broker.receive(JOB_OUTCOMES)
    for entity in ("job-outcomes/subscriptions/all", "track/$deadletterqueue"):
        with pytest.raises(EntityNotFoundError, match="send to a queue or to a topic"):
            broker.send(entity, [])


def test_a_dead_letter_cannot_be_dead_lettered(broker: Broker) -> None:
    broker.send(DEAD_LETTERS, [message("m")])
    [got] = broker.receive(DEAD_LETTERS)
    broker.dead_letter(DEAD_LETTERS, got.lock_token, "r", "d")
    assert broker.counts(DEAD_LETTERS).dead_lettered == 1
    sub_queue = f"{DEAD_LETTERS}/$deadletterqueue"
    for _ in range(MAX_DELIVERY_COUNT + 1):
        [dead] = broker.receive(sub_queue)
        broker.abandon(sub_queue, dead.lock_token)
    [dead] = broker.receive(sub_queue)
    with pytest.raises(BrokerError, match="complete it or abandon it"):
        broker.dead_letter(sub_queue, dead.lock_token)
    broker.complete(sub_queue, dead.lock_token)


def test_dead_letters_can_only_be_forwarded_to_a_queue_there_is() -> None:
    with pytest.raises(ValueError, match="no queue of the topology"):
        Broker(None, Topology(queues=(Queue(name="a"),), topics=()))


def test_peeked_messages_say_where_they_stand(broker: Broker) -> None:
    later = START + timedelta(hours=1)
    broker.send(TRACK, [message("locked"), message("active"), message("later", scheduled_for=later)])
    broker.receive(TRACK)
    states = [m.state for m in broker.peek(TRACK)]
    assert states == [MessageState.LOCKED, MessageState.ACTIVE, MessageState.SCHEDULED]


def test_the_in_process_bus_sends_each_entity_its_own(broker: Broker) -> None:
    bus = InProcessBus(broker)
    bus.send([message("1"), message("1", "events"), message("2")])
    assert [m.message_id for m in broker.receive(TRACK, 5)] == ["1", "2"]
    assert [m.message_id for m in broker.receive("events", 5)] == ["1"]
    with pytest.raises(BusError, match="nowhere"):
        bus.send([message("m", "nowhere")])
