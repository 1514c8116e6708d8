"""The bus on the unmodified SDK of Service Bus, over AMQP to the local broker."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.servicebus import ServiceBusClient

from local.broker import Broker
from local.broker.amqp import AmqpServer
from local.stepped_clock import SteppedClock
from shared.bus import (
    BusError,
    BusUnavailableError,
    MessageTooLargeError,
    OutgoingMessage,
    UnknownEntityError,
)
from shared.bus.service_bus import IDLE_LIMIT, ServiceBusBus
from shared.bus.topology import TRACK

#: Seconds that the tests under load run; `make chaos` gives a minute.
LOAD_SECONDS = float(os.environ.get("CHAOS_SECONDS", "1.5"))


@pytest.fixture
def bus(amqp_server: AmqpServer) -> Iterator[ServiceBusBus]:
    with ServiceBusBus.from_connection_string(amqp_server.connection_string) as bus:
        yield bus


def message(message_id: str, entity: str = TRACK, **given: Any) -> OutgoingMessage:
    return OutgoingMessage(**{"entity": entity, "message_id": message_id, "body": b"{}", **given})


def kept(broker: Broker, entity: str = TRACK) -> list[str]:
    return [m.message_id or "" for m in broker.peek(entity, max_messages=10_000_000)]


def eventually(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(1_000):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it did not come true within ten seconds")


def test_the_module_loads_neither_the_sdk_nor_identity() -> None:
    program = (
        "import sys, shared.bus.service_bus as module\n"
        "module.ServiceBusBus.from_connection_string("
        "'Endpoint=sb://n.servicebus.windows.net/;SharedAccessKeyName=n;SharedAccessKey=k').close()\n"
        "print([name for name in sys.modules if name.startswith('azure')])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# -- what arrives


def test_messages_for_now_and_for_later_go_in_one_batch(broker: Broker, bus: ServiceBusBus) -> None:
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    other_zone = later.astimezone(tz=None)
    bus.send(
        [
            message("now", application_properties={"type": "t", "attempt": 3, "retry": True}),
            message("later", scheduled_for=later),
            message("elsewhere", "job-outcomes"),
            message("zoned", scheduled_for=other_zone),
        ]
    )
    now, *scheduled = broker.peek(TRACK)
    assert now.application_properties == {"type": "t", "attempt": 3, "retry": True}
    assert now.scheduled_for is None
    assert [(m.message_id, m.scheduled_for) for m in scheduled] == [("later", later), ("zoned", later)]
    assert broker.counts(TRACK).scheduled == 2
    assert kept(broker, "job-outcomes/subscriptions/all") == ["elsewhere"]


def test_one_message_too_many_goes_in_the_next_batch(broker: Broker, bus: ServiceBusBus) -> None:
    bus.send([message(f"{n}", body=bytes(100_000)) for n in range(5)])
    assert kept(broker) == ["0", "1", "2", "3", "4"]
    with pytest.raises(MessageTooLargeError, match=TRACK):
        bus.send([message("large", body=bytes(400_000))])
    assert len(kept(broker)) == 5


# -- many threads


def count_threads() -> int:
    """How many threads there are, without the one that calls to Azure in earlier tests may have left for a while."""
    return sum(thread.name != "deadlines" for thread in threading.enumerate())


def test_sixteen_threads_share_one_bus(broker: Broker, amqp_server: AmqpServer, bus: ServiceBusBus) -> None:
    entities = (TRACK, "events")
    for entity in entities:
        bus.send([message("warm-up", entity)])
    before = amqp_server.open_links(), count_threads()
    sent: list[list[str]] = [[] for _ in range(16)]
    over = threading.Event()
    failures: list[BaseException] = []

    def send(thread: int) -> None:
        try:
            for number in count():
                if over.is_set():
                    return
                names = [f"{thread}.{number}.{part}" for part in range(1 + number % 3)]
                bus.send([message(name, entities[number % 2]) for name in names])
                sent[thread] += names
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=send, args=(thread,)) for thread in range(16)]
    for thread in threads:
        thread.start()
    assert not over.wait(LOAD_SECONDS)
    during = amqp_server.open_links(), count_threads() - len(threads)
    over.set()
    for thread in threads:
        thread.join()
    assert not failures
    after = amqp_server.open_links(), count_threads()
    assert before == during == after
    assert before[0] == (2, 2)
    arrived = [name for entity in entities for name in kept(broker, entity) if name != "warm-up"]
    assert Counter(arrived) == Counter(name for names in sent for name in names)
    assert all(names for names in sent)


def test_connections_that_break_in_the_middle_lose_and_double_nothing(
    broker: Broker, amqp_server: AmqpServer, bus: ServiceBusBus
) -> None:
    sent: list[list[str]] = [[] for _ in range(4)]
    over = threading.Event()
    failures: list[BaseException] = []

    def send(thread: int) -> None:
        try:
            for number in count():
                if over.is_set():
                    return
                batch = [message(f"{thread}.{number}.{part}") for part in range(20)]
                while True:
                    try:
                        bus.send(batch)
                        break
                    except BusUnavailableError:
                        continue
                sent[thread] += [m.message_id for m in batch]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=send, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    drops = 0
    for _ in range(max(3, int(LOAD_SECONDS / 0.7))):
        # Not before messages flow again: each drop is to hit a send.
        flowing = sum(map(len, sent))
        eventually(lambda flowing=flowing: sum(map(len, sent)) > flowing + 100)  # type: ignore[misc]
        drops += amqp_server.drop_connections()
    flowing = sum(map(len, sent))
    eventually(lambda: sum(map(len, sent)) > flowing)
    over.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert drops >= 3
    arrived = Counter(kept(broker))
    assert set(arrived.values()) == {1}
    assert set(arrived) >= {name for names in sent for name in names}


# -- links that went stale


def test_a_link_that_the_service_detached_is_opened_anew(
    broker: Broker, amqp_server: AmqpServer, bus: ServiceBusBus
) -> None:
    bus.send([message("1")])
    assert amqp_server.detach_links() == 1
    bus.send([message("2")])
    assert amqp_server.drop_connections() == 1
    bus.send([message("3")])
    assert kept(broker) == ["1", "2", "3"]
    eventually(lambda: amqp_server.open_links() == (1, 1))


def test_a_link_that_was_idle_for_long_is_not_trusted(
    broker: Broker, amqp_server: AmqpServer, caplog: pytest.LogCaptureFixture
) -> None:
    clock = SteppedClock(datetime(2026, 1, 5, tzinfo=UTC))
    caplog.set_level(logging.INFO, "shared.bus")
    with ServiceBusBus.from_connection_string(amqp_server.connection_string, clock=clock) as bus:
        bus.send([message("1")])
        clock.advance(timedelta(seconds=IDLE_LIMIT + 1))
        amqp_server.detach_links()
        bus.send([message("2")])
    assert kept(broker) == ["1", "2"]
    # It was replaced before it was used, so there was no failure to recover from.
    assert not caplog.records


@pytest.mark.parametrize("condition", ["amqp:unauthorized-access", "amqp:not-found"])
def test_what_a_kept_link_is_refused_is_asked_again_on_a_new_one(
    broker: Broker, amqp_server: AmqpServer, bus: ServiceBusBus, condition: str
) -> None:
    bus.send([message("1")])
    # The token of the link has expired while the machine slept, or its queue was made anew.
    amqp_server.refuse_sends(condition)
    bus.send([message("2")])
    assert kept(broker) == ["1", "2"]
    amqp_server.refuse_sends(condition, 2)
    with pytest.raises(BusError, match=TRACK) as raised:
        bus.send([message("3")])
    assert not isinstance(raised.value, BusUnavailableError)


def test_an_identity_whose_token_has_expired_sends_by_a_new_one(
    broker: Broker, amqp_server: AmqpServer
) -> None:
    identity = Identity(first_life=timedelta(seconds=3))
    with plain_tcp(amqp_server, identity) as bus:
        bus.send([message("1")])
        first = identity.tokens[0].expires_on
        eventually(lambda: datetime.now(UTC).timestamp() > first + 1)
        bus.send([message("2")])
    assert kept(broker) == ["1", "2"]
    assert len(identity.tokens) == 2


# -- errors


@pytest.mark.parametrize(
    ("condition", "refusals", "expected"),
    [
        ("com.microsoft:server-busy", 1, None),  # gone with the second attempt
        ("com.microsoft:server-busy", 2, BusUnavailableError),
        ("amqp:resource-limit-exceeded", 2, BusUnavailableError),  # a full queue empties
        ("com.microsoft:entity-disabled", 2, BusUnavailableError),
        ("amqp:not-allowed", 1, BusError),
        ("amqp:unauthorized-access", 1, BusError),
        ("amqp:not-found", 1, UnknownEntityError),
    ],
)
def test_what_the_service_refuses_is_sorted(
    broker: Broker,
    amqp_server: AmqpServer,
    bus: ServiceBusBus,
    condition: str,
    refusals: int,
    expected: type[BusError] | None,
) -> None:
    amqp_server.refuse_sends(condition, refusals)
    if expected is None:
        bus.send([message("m")])
    else:
        with pytest.raises(BusError, match=TRACK) as raised:
            bus.send([message("m")])
        assert type(raised.value) is expected
        # What was refused did not use up its id.
        bus.send([message("m")])
    assert kept(broker) == ["m"]


def test_all_that_a_queue_holds_can_be_looked_at_and_stays(broker: Broker, bus: ServiceBusBus) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    bus.send([message(f"{n:03}", body=f"{n}".encode()) for n in range(300)])
    bus.send([message("later", body=b"later", scheduled_for=later)])
    broker.receive(TRACK, 5)
    seen = list(bus.peek(TRACK))
    assert sorted(seen) == sorted([*(f"{n}".encode() for n in range(300)), b"later"])
    assert list(bus.peek("trigger-backup")) == []
    assert broker.counts(TRACK).active == 295


def test_a_queue_that_is_not_there_cannot_be_looked_into(bus: ServiceBusBus) -> None:
    with pytest.raises(BusError, match="no queue or topic nowhere") as raised:
        list(bus.peek("nowhere"))
    assert type(raised.value) is UnknownEntityError


def test_whoever_may_not_look_is_told_which_role_does(amqp_server: AmqpServer) -> None:
    wrong = amqp_server.connection_string.replace("SharedAccessKey=", "SharedAccessKey=geheim")
    with (
        ServiceBusBus.from_connection_string(wrong) as bus,
        pytest.raises(BusError, match="look into track: give it the role Azure Service Bus Data Receiver"),
    ):
        list(bus.peek(TRACK))


def test_an_unknown_entity_is_no_passing_trouble(bus: ServiceBusBus) -> None:
    with pytest.raises(BusError, match="no queue or topic nowhere") as raised:
        bus.send([message("m", "nowhere")])
    assert type(raised.value) is UnknownEntityError


def test_a_wrong_key_says_what_to_do_and_not_what_the_key_is(
    amqp_server: AmqpServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    wrong = amqp_server.connection_string.replace("SharedAccessKey=", "SharedAccessKey=geheim")
    with (
        ServiceBusBus.from_connection_string(wrong) as bus,
        pytest.raises(BusError, match="Azure Service Bus Data Sender") as raised,
    ):
        bus.send([message("m")])
    assert type(raised.value) is BusError
    assert "geheim" not in str(raised.value) + caplog.text


def test_a_namespace_that_cannot_be_reached_is_unavailable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers
        string = (
            f"Endpoint=sb://127.0.0.1:{taken.getsockname()[1]};SharedAccessKeyName=n;SharedAccessKey=k;"
            "UseDevelopmentEmulator=true"
        )
        with ServiceBusBus.from_connection_string(string) as bus, pytest.raises(BusUnavailableError):
            bus.send([message("m")])


def test_a_namespace_that_accepts_and_then_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        string = (
            f"Endpoint=sb://127.0.0.1:{silent.getsockname()[1]};SharedAccessKeyName=n;SharedAccessKey=k;"
            "UseDevelopmentEmulator=true"
        )
        client = ServiceBusClient.from_connection_string(string, retry_total=0)
        with ServiceBusBus(lambda: client, attempt_timeout=0.2) as bus, pytest.raises(BusUnavailableError):
            bus.send([message("m")])


@pytest.mark.parametrize(
    ("string", "problem"),
    [
        ("", "malformed"),
        ("geheim", "malformed"),
        ("Endpoint=sb://n.servicebus.windows.net/;SharedAccessKey=geheim", "malformed"),
        (
            "Endpoint=sb://n.servicebus.windows.net/;SharedAccessKeyName=n;SharedAccessKey=geheim;EntityPath=track",
            "EntityPath",
        ),
    ],
)
def test_a_malformed_connection_string_is_one_clear_error(string: str, problem: str) -> None:
    with pytest.raises(BusError, match=problem) as raised:
        ServiceBusBus.from_connection_string(string).send([message("m")])
    assert "geheim" not in str(raised.value)


@pytest.mark.parametrize(
    "bad",
    [
        {"message_id": "x" * 129},
        {"application_properties": {"number": 2**31}},
    ],
)
def test_a_message_that_service_bus_would_not_take_is_named(bus: ServiceBusBus, bad: dict[str, Any]) -> None:
    with pytest.raises(BusError, match=TRACK) as raised:
        bus.send([message(**{"message_id": "m", **bad})])
    assert type(raised.value) is BusError


# -- by identity


class Identity:
    """A credential of azure-identity's shape."""

    def __init__(self, error: Exception | None = None, first_life: timedelta = timedelta(hours=1)) -> None:
        self.scopes: set[str] = set()
        self.tokens: list[AccessToken] = []
        self._error = error
        self._life = first_life

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        self.scopes.update(scopes)
        if self._error is not None:
            raise self._error
        # The SDK reckons in real seconds, and opening a link takes it one or two.
        self.tokens.append(AccessToken("token", int((datetime.now(UTC) + self._life).timestamp())))
        self._life = timedelta(hours=1)
        return self.tokens[-1]


def plain_tcp(amqp_server: AmqpServer, identity: Identity) -> ServiceBusBus:
    return ServiceBusBus(
        lambda: ServiceBusClient(f"127.0.0.1:{amqp_server.port}", identity, use_tls=False, retry_total=0)
    )


def test_an_identity_sends_with_its_token(broker: Broker, amqp_server: AmqpServer) -> None:
    identity = Identity()
    with plain_tcp(amqp_server, identity) as bus:
        bus.send([message("m")])
    assert kept(broker) == ["m"]
    assert identity.scopes == {"https://servicebus.azure.net//.default"}


def test_a_token_that_cannot_be_had_is_passing_trouble(amqp_server: AmqpServer) -> None:
    with (
        plain_tcp(amqp_server, Identity(ClientAuthenticationError("secret expired: geheim"))) as bus,
        pytest.raises(BusUnavailableError, match="sign in") as raised,
    ):
        bus.send([message("m")])
    assert "geheim" not in str(raised.value)


@pytest.mark.parametrize("namespace", ["", "https://n.servicebus.windows.net", "Endpoint=sb://n/"])
def test_a_namespace_is_a_host_name(namespace: str) -> None:
    with pytest.raises(BusError, match=r"NAMESPACE\.servicebus\.windows\.net"):
        ServiceBusBus.with_identity(namespace, Identity())


# -- the end


def test_a_closed_bus_leaves_no_connection_and_says_so(amqp_server: AmqpServer, bus: ServiceBusBus) -> None:
    bus.send([message("1"), message("1", "events")])
    bus.close()
    eventually(lambda: amqp_server.open_links() == (0, 0))
    bus.close()
    with pytest.raises(BusError, match="closed"):
        bus.send([message("2")])
