"""The host: what a function gets, and what becomes of its message."""

from __future__ import annotations

import codecs
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, List  # noqa: UP035

import azure.functions as func
import pytest

from local.broker import Broker
from local.broker.model import IncomingMessage, PropertyValue
from local.host import Host, HostSettings, IndexingError, InProcessReceiver, index, trigger_values
from local.stepped_clock import SteppedClock
from shared.bus import OutgoingMessage
from shared.bus.topology import DEAD_LETTERS, MAX_DELIVERY_COUNT, TRACK
from shared.clock import Clock, SystemClock

START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
STEP = "ensure-vault"
DELAY = 10.0  # seconds of real time that a condition may take to come true


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock(START)


@pytest.fixture
def broker(clock: SteppedClock) -> Iterator[Broker]:
    with Broker(None, clock=clock) as opened:
        yield opened


def message(number: int = 1, **details: Any) -> OutgoingMessage:
    details = {"body": b"{}", **details}
    return OutgoingMessage(entity=STEP, message_id=f"id-{number}", **details)


def step_app(
    step: Callable[[func.ServiceBusMessage], None], *, data_type: func.DataType | None = None
) -> func.FunctionApp:
    app = func.FunctionApp()

    @app.service_bus_queue_trigger(arg_name="message", queue_name=STEP, connection="C", data_type=data_type)
    def the_step(message: func.ServiceBusMessage) -> None:
        step(message)

    return app


def batch_app(
    step: Callable[[list[func.ServiceBusMessage]], None],
    *,
    data_type: func.DataType | None = func.DataType.BINARY,
) -> func.FunctionApp:
    app = func.FunctionApp()

    @app.service_bus_queue_trigger(
        arg_name="messages",
        queue_name=TRACK,
        connection="C",
        cardinality=func.Cardinality.MANY,
        data_type=data_type,
    )
    def track(messages: List[func.ServiceBusMessage]) -> None:  # noqa: UP006 - the worker refuses list[...]
        step(messages)

    return app


def host_of(app: func.FunctionApp, broker: Broker, clock: Clock, **options: Any) -> Host:
    return Host(index(app, {}), InProcessReceiver(broker), clock=clock, **options)


def test_a_function_gets_what_the_platform_gives(broker: Broker, clock: SteppedClock) -> None:
    seen: list[func.ServiceBusMessage] = []
    host = host_of(step_app(seen.append), broker, clock)
    properties: dict[str, str | int | bool] = {"epoch": 1, "type": "t", "flag": True}
    sent = message(
        body='{"name": "Bücher"}'.encode(),
        subject="s",
        correlation_id="c",
        content_type="application/json",
        application_properties=properties,
    )
    broker.send(STEP, [sent])
    assert host.run_until_idle() == 1
    (got,) = seen
    assert got.get_body() == sent.body
    assert (got.message_id, got.subject, got.label, got.correlation_id) == ("id-1", "s", "s", "c")
    assert got.content_type == "application/json"
    assert got.application_properties == got.user_properties == properties
    assert got.delivery_count == 1
    assert isinstance(got.lock_token, str)
    # The extension hands over neither, and its moments carry no offset.
    assert got.locked_until is None
    assert got.dead_letter_reason is None
    assert got.enqueued_time_utc == START.replace(tzinfo=None)
    assert isinstance(got.metadata, dict)
    assert got.metadata["MessageId"] == "id-1"


@pytest.mark.parametrize(
    ("body", "as_text"),
    [
        (b"", ""),
        ("\N{SNOWMAN} text".encode(), "\N{SNOWMAN} text"),
        (b'"json"', '"json"'),
        (b"null", "null"),
        ("L\u00e4uft".encode("latin-1"), "L\ufffduft"),
        # A byte order mark tells the encoding, and is taken off.
        (codecs.BOM_UTF8 + "\u00fc".encode(), "\u00fc"),
        (codecs.BOM_UTF8 + b"\xfc", "\ufffd"),
        (codecs.BOM_UTF16_LE + "\u00fc{}".encode("utf-16-le"), "\u00fc{}"),
        (codecs.BOM_UTF16_BE + "\u00fc{}".encode("utf-16-be"), "\u00fc{}"),
        (codecs.BOM_UTF32_LE + "\u00fc{}".encode("utf-32-le"), "\u00fc{}"),
        (codecs.BOM_UTF32_BE + "\u00fc{}".encode("utf-32-be"), "\u00fc{}"),
        # Two marks, of which one is text.
        (codecs.BOM_UTF8 * 2 + b"{}", "\ufeff{}"),
        ("{}".encode("utf-16-le"), "{\0}\0"),
    ],
)
def test_a_body_is_text_unless_the_trigger_asks_for_bytes(
    body: bytes, as_text: str, broker: Broker, clock: SteppedClock
) -> None:
    for data_type, expected in ((None, as_text.encode()), (func.DataType.BINARY, body)):
        seen: list[bytes] = []
        broker.send(STEP, [message(body=body)])
        app = step_app(lambda m, seen=seen: seen.append(m.get_body()), data_type=data_type)  # type: ignore[misc]
        host_of(app, broker, clock).run_until_idle()
        assert seen == [expected]
        clock.advance(timedelta(days=8))  # past the duplicate window


#: What precedes the text of `new BrokeredMessage("...")`: `<string xmlns="...">` in .NET's binary XML.
ELEMENT = b"\x40\x06string\x08\x33http://schemas.microsoft.com/2003/10/Serialization/"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (ELEMENT + b"\x99\x04{\xc3\xa4}", "{\u00e4}"),
        (ELEMENT + b"\x9b\x2c\x01" + b"x" * 300, "x" * 300),
        (ELEMENT + b"\x9d\x2c\x01\x00\x00" + b"x" * 300, "x" * 300),
        (ELEMENT + b"\x98\x02ab\x99\x02cd", "abcd"),
        (ELEMENT + b"\x98\x02ab\x01", "ab"),
        (ELEMENT + b"\x99\x02ab", "ab"),
        (ELEMENT + b"\x81", "0"),
        (ELEMENT + b"\xa9", ""),
    ],
    ids=repr,
)
def test_strings_of_old_dotnet_senders_arrive_as_their_text(
    body: bytes, expected: str, broker: Broker, clock: SteppedClock
) -> None:
    seen: list[bytes] = []
    broker.send(STEP, [message(body=body)])
    host_of(step_app(lambda m: seen.append(m.get_body())), broker, clock).run_until_idle()
    assert seen == [expected.encode()]


@pytest.mark.parametrize(
    "rest",
    [b"", b"\x99", b"\x99\x05abc", b"\x99\x01a!", b"\x99\x01\xff", b"\xff", b"\x98\x01a", b"\x40\x01a\x01"],
)
def test_what_only_begins_like_such_a_string_stays_what_it_is(rest: bytes) -> None:
    spoiled = ELEMENT + rest + b"\xff"
    assert trigger_values.text(spoiled) == spoiled.decode(errors="replace")


def test_metadata_is_encoded_as_by_the_extension_and_the_host(broker: Broker, clock: SteppedClock) -> None:
    moment = datetime(2026, 1, 5, 8, 0, 0, 250_000, tzinfo=UTC)
    properties: dict[str, PropertyValue] = {
        "a": "x",
        "n": 2**40,
        "at": moment,
        "bytes": b"\xff\x00",
        "infinite": float("inf"),
    }
    broker.send(STEP, [IncomingMessage(body=b"{}", message_id="id", application_properties=properties)])
    (received,) = broker.receive(STEP)
    _, metadata = trigger_values.single_data(received, binary=False)
    written = '{"a": "x", "n": 1099511627776, "at": "2026-01-05T08:00:00.25Z", "bytes": "/wA=", "infinite": "Infinity"}'
    assert {name: (datum.type, datum.value) for name, datum in metadata.items() if name != "LockToken"} == {
        "DeliveryCount": ("json", "1"),
        "SequenceNumber": ("json", str(received.sequence_number)),
        "MessageId": ("string", "id"),
        "ExpiresAtUtc": ("json", '"9999-12-31T23:59:59.9999999"'),
        "ExpiresAt": ("json", '"9999-12-31T23:59:59.9999999+00:00"'),
        "EnqueuedTimeUtc": ("json", '"2026-01-05T08:00:00"'),
        "EnqueuedTime": ("json", '"2026-01-05T08:00:00+00:00"'),
        "ApplicationProperties": ("json", written),
        "UserProperties": ("json", written),
    }, "what is null is left out"


def test_a_batch_leaves_out_null_and_empty_strings_and_keeps_the_rest_in_place(
    broker: Broker, clock: SteppedClock
) -> None:
    broker.send(
        TRACK,
        [
            IncomingMessage(body=b"first", message_id="id-0", application_properties={"n": 0}),
            IncomingMessage(body=b"", message_id=None, subject="", application_properties={"n": 1}),
            IncomingMessage(body=b"last", message_id="id-2", correlation_id="c", subject="s"),
        ],
    )
    received = broker.receive(TRACK, 3)
    bodies, metadata = trigger_values.batch_data(received, binary=False)
    assert (bodies.type, bodies.python_value) == ("collection_string", ["first", "last"])
    values = {name: (datum.type, datum.python_value) for name, datum in metadata.items()}
    assert values["MessageIdArray"] == ("collection_string", ["id-0", "id-2"])
    assert values["CorrelationIdArray"] == ("collection_string", ["c"])
    assert values["SubjectArray"] == values["LabelArray"] == ("collection_string", ["s"])
    assert values["ContentTypeArray"] == ("collection_string", [])
    assert values["DeliveryCountArray"] == ("json", [1, 1, 1])
    assert values["SequenceNumberArray"] == (
        "collection_sint64",
        [message.sequence_number for message in received],
    )
    assert values["ApplicationPropertiesArray"] == ("json", [{"n": 0}, {"n": 1}, {}])
    assert not [name for name in values if name.startswith("LockedUntil")]
    bodies, _ = trigger_values.batch_data(received, binary=True)
    assert (bodies.type, bodies.python_value) == ("collection_bytes", [b"first", b"", b"last"])


def test_an_empty_body_fails_a_batch_of_strings_before_the_function_is_called(
    broker: Broker, clock: SteppedClock, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[int] = []
    broker.send(TRACK, [IncomingMessage(body=body, message_id=None) for body in (b"1", b"", b"3")])
    host = host_of(batch_app(lambda batch: called.append(len(batch)), data_type=None), broker, clock)
    host.run_until_idle()
    assert called == []
    assert host.failures == MAX_DELIVERY_COUNT
    assert broker.counts(DEAD_LETTERS).active == 3


def test_a_batch_is_one_call_with_each_message_own_properties(broker: Broker, clock: SteppedClock) -> None:
    batches: list[list[func.ServiceBusMessage]] = []
    host = host_of(batch_app(batches.append), broker, clock, settings=HostSettings(max_message_batch_size=3))
    for number in range(4):
        broker.send(
            TRACK,
            [
                OutgoingMessage(
                    entity=TRACK,
                    body=b"%d" % number if number else b"\xff",
                    message_id=f"id-{number}",
                    application_properties={"n": number},
                )
            ],
        )
    assert host.run_until_idle() == 4
    assert [len(batch) for batch in batches] == [3, 1]
    got = [m for batch in batches for m in batch]
    assert [m.get_body() for m in got] == [b"\xff", b"1", b"2", b"3"]
    assert [m.message_id for m in got] == [f"id-{n}" for n in range(4)]
    assert [m.application_properties for m in got] == [{"n": n} for n in range(4)]
    assert {m.delivery_count for m in got} == {1}
    assert broker.counts(TRACK).active == 0


def test_an_exception_is_logged_and_redelivered_until_it_is_a_dead_letter(
    broker: Broker, clock: SteppedClock, caplog: pytest.LogCaptureFixture
) -> None:
    deliveries: list[int | None] = []

    def fail(got: func.ServiceBusMessage) -> None:
        deliveries.append(got.delivery_count)
        raise LookupError("nothing there")

    host = host_of(step_app(fail), broker, clock)
    broker.send(STEP, [message()])
    host.run_until_idle()
    assert deliveries == list(range(1, MAX_DELIVERY_COUNT + 1))
    assert host.failures == MAX_DELIVERY_COUNT
    assert broker.counts(DEAD_LETTERS).active == 1
    assert "LookupError: nothing there" in caplog.text


def test_a_batch_that_raises_gives_all_of_it_back(broker: Broker, clock: SteppedClock) -> None:
    counts: list[list[int | None]] = []

    def fail_once(batch: list[func.ServiceBusMessage]) -> None:
        counts.append([m.delivery_count for m in batch])
        if len(counts) == 1:
            raise LookupError

    broker.send(TRACK, [OutgoingMessage(entity=TRACK, body=b"", message_id=str(n)) for n in range(2)])
    host_of(batch_app(fail_once), broker, clock).run_until_idle()
    assert counts == [[1, 1], [2, 2]]


def test_a_process_that_dies_leaves_its_message_to_the_lock(broker: Broker, clock: SteppedClock) -> None:
    class Killed(BaseException):
        pass

    def die(_: func.ServiceBusMessage) -> None:
        raise Killed

    broker.send(STEP, [message()])
    with pytest.raises(Killed):
        host_of(step_app(die), broker, clock).run_until_idle()
    assert broker.counts(STEP).locked == 1
    clock.advance(timedelta(minutes=5))
    again: list[int | None] = []
    host_of(step_app(lambda m: again.append(m.delivery_count)), broker, clock).run_until_idle()
    assert again == [2]


def test_messages_for_later_wait_for_the_clock(broker: Broker, clock: SteppedClock) -> None:
    at: list[datetime] = []
    host = host_of(step_app(lambda _: at.append(clock.now())), broker, clock)
    due = START + timedelta(hours=12)
    broker.send(STEP, [message(scheduled_for=due)])
    assert host.run_until_idle() == 0
    assert broker.next_due() == due
    clock.advance_to(due)
    assert host.run_until_idle() == 1
    assert at == [due]


def timer_app(fired: list[func.TimerRequest], schedule: str = "0 */15 * * * *") -> func.FunctionApp:
    app = func.FunctionApp()

    @app.timer_trigger(arg_name="timer", schedule=schedule)
    def plan(timer: func.TimerRequest) -> None:
        fired.append(timer)

    return app


def test_timers_fire_when_due_and_say_when_they_were_late(broker: Broker, clock: SteppedClock) -> None:
    fired: list[func.TimerRequest] = []
    host = host_of(timer_app(fired), broker, clock)
    for minutes, total, past_due in (
        (14, 0, False),
        (1, 1, False),
        (1, 1, False),
        (46, 2, True),
        (13, 3, False),
    ):
        clock.advance(timedelta(minutes=minutes))
        host.run_until_idle()
        assert len(fired) == total
        assert not fired or fired[-1].past_due is past_due
    host = host_of(timer_app(fired), broker, clock, timers=False)
    clock.advance(timedelta(hours=1))
    host.run_until_idle()
    assert len(fired) == 3


@pytest.mark.parametrize("schedule", ["*/15 * * * *", "0 0 0 1 * 1", "0 99 * * * *"])
def test_a_schedule_that_cannot_be_followed_is_named(
    schedule: str, broker: Broker, clock: SteppedClock
) -> None:
    with pytest.raises(IndexingError, match="0 functions found: function plan: schedule"):
        host_of(timer_app([], schedule), broker, clock)


# -- with threads


@pytest.fixture
def live() -> Iterator[Broker]:
    with Broker(None) as opened:
        yield opened


def wait_until(true: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(DELAY / 0.005)):
        if true():
            return
        pause.wait(0.005)
    raise AssertionError("it did not come true in time")


def test_concurrency_is_bounded_and_everything_is_handled(live: Broker) -> None:
    lock = threading.Lock()
    now, most, done = 0, 0, 0

    def busy(_: func.ServiceBusMessage) -> None:
        nonlocal now, most, done
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.002)
        with lock:
            now -= 1
            done += 1

    settings = HostSettings(max_concurrent_calls=3)
    host = host_of(step_app(busy), live, SystemClock(), settings=settings, threads=8)
    host.start()
    live.send(STEP, [message(number) for number in range(40)])
    wait_until(lambda: done == 40)
    assert host.stop()
    assert most == 3
    assert live.counts(STEP).active == live.counts(STEP).locked == 0


class Stumbling(InProcessReceiver):
    """Its storage fails at the first question of when something is due."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker)
        self.failed = threading.Event()

    def next_due(self) -> datetime | None:
        if not self.failed.is_set():
            self.failed.set()
            raise OSError(28, "No space left on device")
        return super().next_due()


def test_a_host_goes_on_after_its_storage_has_failed_once(live: Broker) -> None:
    taken = threading.Event()
    receiver = Stumbling(live)
    host = Host(index(step_app(lambda _: taken.set()), {}), receiver, timers=False)
    host.start()
    assert receiver.failed.wait(DELAY)
    live.send(STEP, [message()])
    assert taken.wait(DELAY), "the host has stopped receiving"
    assert host.stop()


def test_stopping_finishes_what_runs_and_starts_nothing_new(live: Broker) -> None:
    entered, leave = threading.Event(), threading.Event()
    calls = 0

    def wait(_: func.ServiceBusMessage) -> None:
        nonlocal calls
        calls += 1
        entered.set()
        assert leave.wait(DELAY)

    host = host_of(step_app(wait), live, SystemClock(), threads=1)
    host.start()
    live.send(STEP, [message(number) for number in range(2)])
    assert entered.wait(DELAY)
    assert [invocation.function.name for invocation in host.running] == ["the_step"]
    assert not host.stop(grace=timedelta(seconds=0.01))
    leave.set()
    assert host.stop()
    assert calls == 1
    counts = live.counts(STEP)
    assert (counts.active, counts.locked) == (1, 0)


@pytest.mark.parametrize("abandoned", [False, True])
def test_what_fails_after_the_host_was_abandoned_is_no_failure_of_a_function(
    live: Broker, caplog: pytest.LogCaptureFixture, *, abandoned: bool
) -> None:
    entered, leave = threading.Event(), threading.Event()

    def send_late(_: func.ServiceBusMessage) -> None:
        entered.set()
        assert leave.wait(DELAY)
        live.send(STEP, [message(2)])

    host = host_of(step_app(send_late), live, SystemClock(), threads=1)
    host.start()
    live.send(STEP, [message(1)])
    assert entered.wait(DELAY)
    if abandoned:
        host.abandon()
    live.close()
    leave.set()
    assert host.stop()
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert bool(errors) is not abandoned


class HeldStep:
    """A step that runs until it is let go, and notes the delivery count of each message."""

    def __init__(self) -> None:
        self.entered, self.leave = threading.Event(), threading.Event()
        self.counts: list[int | None] = []

    def __call__(self, got: func.ServiceBusMessage) -> None:
        self.counts.append(got.delivery_count)
        self.entered.set()
        assert self.leave.wait(DELAY)


def test_the_lock_is_renewed_while_a_function_runs_and_not_after(
    broker: Broker, clock: SteppedClock, caplog: pytest.LogCaptureFixture
) -> None:
    held = HeldStep()
    settings = HostSettings(max_auto_lock_renewal_duration=timedelta(minutes=30))
    host = host_of(step_app(held), broker, clock, settings=settings, threads=1)
    host.start()
    broker.send(STEP, [message()])
    assert held.entered.wait(DELAY)

    def lock_end() -> datetime:
        return broker.next_due() or clock.now()

    for _ in range(4):  # 12 minutes: more than two lock durations
        before = lock_end()
        clock.advance(timedelta(minutes=3))
        broker.wake()
        wait_until(lambda before=before: lock_end() > before)  # type: ignore[misc]  # a default binds the loop's value
    held.leave.set()
    assert host.stop()
    assert held.counts == [1]
    assert broker.counts(STEP).locked == 0
    assert not caplog.records


def test_a_function_that_outlives_its_time_gives_its_message_back(
    broker: Broker, clock: SteppedClock, caplog: pytest.LogCaptureFixture
) -> None:
    held = HeldStep()
    settings = HostSettings(function_timeout=timedelta(minutes=1))
    host = host_of(step_app(held), broker, clock, settings=settings, threads=1)
    host.start()
    broker.send(STEP, [message()])
    assert held.entered.wait(DELAY)
    clock.advance(timedelta(minutes=2))
    broker.wake()
    wait_until(lambda: "longer than functionTimeout" in caplog.text)
    held.leave.set()
    wait_until(lambda: len(held.counts) == 2)
    host.stop()
    assert held.counts == [1, 2]


def test_a_batch_waits_for_company_as_told(broker: Broker, clock: SteppedClock) -> None:
    batches: list[int] = []
    settings = HostSettings(min_message_batch_size=3, max_batch_wait_time=timedelta(seconds=5))
    host = host_of(batch_app(lambda batch: batches.append(len(batch))), broker, clock, settings=settings)
    host.start()
    entities = [OutgoingMessage(entity=TRACK, body=b"", message_id=str(n)) for n in range(5)]
    broker.send(TRACK, entities[:3])
    wait_until(lambda: batches == [3] and broker.counts(TRACK).locked == 0)
    broker.send(TRACK, entities[3:])
    wait_until(lambda: broker.counts(TRACK).locked == 2)
    assert batches == [3]
    clock.advance(timedelta(seconds=5))
    broker.wake()
    wait_until(lambda: batches == [3, 2])
    assert host.stop()


def test_logs_name_the_function_and_its_call(
    broker: Broker, clock: SteppedClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "local.host")
    broker.send(STEP, [message()])
    host_of(step_app(lambda _: None), broker, clock).run_until_idle()
    (record,) = caplog.records
    assert record.getMessage().startswith("function the_step succeeded")
    assert vars(record)["action"] == "invoke"
