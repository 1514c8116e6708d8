"""The whole app end to end: simulator over real HTTP, broker, host and functions, on one stepped clock.

`estate` is the fixture; `Estate.run` sends requests and steps the clock from one due moment to the next until
every outcome is there, so that hours of the service pass in milliseconds.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from functools import cache
from itertools import count
from typing import Any

import pytest

from cli.following import Following
from cli.request_lines import RequestLine, read_request_lines
from local.broker import Broker, InProcessBus
from local.host import FunctionDefinition, Host, HostSettings, InProcessReceiver, load
from local.simulator import Scenario, Simulator, SimulatorServer
from shared import composition
from shared.bus import OutgoingMessage
from shared.bus.topology import ALL_OUTCOMES, JOB_OUTCOMES, PARKED_MESSAGES
from shared.clock import SteppedClock
from shared.engine.runtime import Runtime

JsonObject = dict[str, Any]

SOURCE = "/tests"
POLICY = "HourlyLogBackup"
INSTANCE = "MSSQLSERVER"
OUTCOMES = f"{JOB_OUTCOMES}/subscriptions/{ALL_OUTCOMES}"
#: More moments than any test needs: a flow that does not end fails instead of hanging.
MOST_STEPS = 20_000


class NeverEndedError(AssertionError):
    """A flow went on for longer than a test allows, or stopped without its outcomes."""


@cache
def the_functions() -> tuple[FunctionDefinition, ...]:
    """The app's functions, indexed once."""
    return tuple(load("function_app", {}))


class Estate:
    """One simulated Azure with the app beside it. Everything in it is real but the clock and Azure."""

    def __init__(
        self,
        simulator: Simulator,
        broker: Broker,
        host: Host,
        clock: SteppedClock,
        runtime: Runtime,
        url: str,
    ) -> None:
        self.simulator = simulator
        self.broker = broker
        self.host = host
        self.clock = clock
        self.runtime = runtime
        self.url = url
        self._ids = count(1)

    # -- the estate

    @property
    def vault_id(self) -> str:
        """The first vault."""
        return self.simulator.vault_id()

    def vm_id(self, name: str = "sqlvm1", resource_group: str | None = None) -> str:
        """The ARM id of a VM."""
        return self.simulator.vm_id(name, resource_group)

    @property
    def mutations(self) -> Counter[str]:
        """How many mutations took effect, by route."""
        return Counter(entry["route"] for entry in self.simulator.ledger_entries)

    # -- requests

    def request(self, operation: str, data: Mapping[str, Any], **attributes: Any) -> JsonObject:
        """A request as a CloudEvent; attributes override its envelope."""
        return {
            "specversion": "1.0",
            "type": f"sqlvmbackup.{operation}.requested.v1",
            "source": SOURCE,
            "id": f"{operation}-{next(self._ids)}",
            "data": {"vaultId": self.vault_id, **data},
            **attributes,
        }

    def protect(self, *databases: str, vm: str = "sqlvm1", **data: Any) -> JsonObject:
        """Protect databases of the default instance; all where none is named."""
        fields = {"vmId": self.vm_id(vm), "policyName": POLICY, "databases": selectors(databases)}
        return self.request("protect", {**fields, **data})

    def backup(self, *databases: str, backup_type: str = "Full", **data: Any) -> JsonObject:
        """Back up databases of the default instance; all where none is named."""
        return self.request("backup", {"databases": selectors(databases), "backupType": backup_type, **data})

    def restore(self, database: str, to: str | None = None, *, vm: str = "sqlvm1", **data: Any) -> JsonObject:
        """Restore a database of the default instance to another name; its newest moment."""
        target = {"kind": "alternate", "vmId": self.vm_id(vm), "instance": INSTANCE}
        if to is not None:
            target["database"] = to
        fields = {
            "vmId": self.vm_id(vm),
            "instance": INSTANCE,
            "database": database,
            "recoveryPoint": {"latest": "any"},
            "target": target,
        }
        return self.request("restore", {**fields, **data})

    def coverage(self, **data: Any) -> JsonObject:
        """How the databases of the first vault stand."""
        request = self.request("coverage", {"vaultIds": [self.vault_id], **data})
        del request["data"]["vaultId"]
        return request

    # -- running

    def send(self, *requests: JsonObject | bytes) -> Following:
        """Put requests (or any bytes) on the queues of their types, as `sqlvmbackup run` does."""
        lines = read_request_lines(
            request if isinstance(request, bytes) else json.dumps(request).encode() for request in requests
        )
        for line in lines:
            message = line.message()
            self.broker.send(message.entity, [message])
        return Following(lines)

    def run(self, *requests: JsonObject | bytes, within: timedelta = timedelta(days=30)) -> list[JsonObject]:
        """Send requests, step the clock until all their outcomes are there, and give those."""
        return self.finish(self.send(*requests), within=within)

    def finish(self, following: Following, *, within: timedelta = timedelta(days=30)) -> list[JsonObject]:
        """Step the clock until all outcomes are there, and give those."""
        until = self.clock.now() + within

        def complete() -> bool:
            for event in self.events():
                following.observe(event)
            return following.complete

        self.step_until(complete, until=until)
        return list(following.final_outcomes())

    def step_until(self, done: Callable[[], bool], *, until: datetime | None = None) -> None:
        """Let the app do what is to be done now, then what is due next, and so on, until `done`."""
        for _ in range(MOST_STEPS):
            self.host.run_until_idle()
            if done():
                return
            due = self.broker.next_due()
            if due is None:
                raise NeverEndedError(f"nothing is left to do, and it is not done; parked: {self.parked()}")
            if until is not None and due > until:
                raise NeverEndedError(f"it is not done by {until}")
            self.clock.advance_to(due)
        raise NeverEndedError(f"it is not done after {MOST_STEPS} steps")

    def settle(self, *, within: timedelta = timedelta(days=30)) -> None:
        """Let everything that is on its way come to its end."""
        until = self.clock.now() + within

        def nothing_left() -> bool:
            due = self.broker.next_due()
            return due is None or due > until

        self.step_until(nothing_left, until=until)

    # -- what was published and put away

    def events(self) -> list[JsonObject]:
        """Everything that was published, oldest first."""
        found: list[JsonObject] = []
        start = 0
        while page := self.broker.peek(OUTCOMES, start, 500):
            found += [json.loads(message.body) for message in page]
            start = page[-1].sequence_number + 1
        return found

    def parked(self) -> list[JsonObject]:
        """What is put away, with the reasons."""
        return [
            {"body": message.body, **message.application_properties}
            for message in self.broker.peek(PARKED_MESSAGES, 0, 500)
        ]


def selectors(databases: Sequence[str]) -> list[JsonObject]:
    """Databases of the default instance; all where none is named."""
    return [{"instance": INSTANCE, "database": name} for name in (databases or ("*",))]


def virtual_machine(name: str, *databases: str | JsonObject, **details: Any) -> JsonObject:
    """A VM of a scenario with one instance and these databases."""
    listed = [{"name": item} if isinstance(item, str) else item for item in databases]
    return {"name": name, "instances": [{"name": INSTANCE, "databases": listed}], **details}


def statuses(outcomes: Sequence[JsonObject]) -> Counter[str]:
    """How many outcomes there are, by status."""
    return Counter(outcome["data"]["status"] for outcome in outcomes)


@contextmanager
def open_estate(
    scenario: Mapping[str, Any] | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[Estate]:
    """An estate that is closed at the end; `scenario` as in a scenario file, `settings` as app settings."""
    read = Scenario.model_validate(dict(scenario or {}))
    clock = SteppedClock(read.start_time)
    with ExitStack() as stack:
        simulator = Simulator(read, clock=clock)
        server = stack.enter_context(SimulatorServer(simulator))
        broker = stack.enter_context(Broker(None, clock=clock))
        # Fewer polls over real HTTP: what is tested here does not hang on how often.
        environment = {"ARM_ENDPOINT": server.url, "TRACK_INTERVAL": "PT30S", **(settings or {})}
        runtime = composition.build(environment, bus=InProcessBus(broker), clock=clock)
        stack.callback(runtime.backup.close)
        composition.install(runtime)
        stack.callback(composition.install, None)
        host = Host(
            the_functions(),
            InProcessReceiver(broker),
            settings=HostSettings(max_message_batch_size=200),
            clock=clock,
            timers=False,
        )
        yield Estate(simulator, broker, host, clock, runtime, server.url)


OpenEstate = Callable[..., Estate]


@pytest.fixture
def estate() -> Iterator[OpenEstate]:
    """Opens estates: `estate(scenario, settings)`."""
    with ExitStack() as stack:
        yield lambda scenario=None, settings=None: stack.enter_context(open_estate(scenario, settings))


def message_to(entity: str, body: bytes, message_id: str, **details: Any) -> OutgoingMessage:
    """A message as any sender would make it."""
    return OutgoingMessage(entity=entity, body=body, message_id=message_id, **details)


__all__ = [
    "INSTANCE",
    "POLICY",
    "SOURCE",
    "Estate",
    "NeverEndedError",
    "OpenEstate",
    "RequestLine",
    "estate",
    "message_to",
    "open_estate",
    "selectors",
    "statuses",
    "virtual_machine",
]
