"""A simulated Azure and the whole app on one stepped clock: hours pass in milliseconds.

Only the clock and Azure are simulated: the functions, the embedded broker and host, the engine and its client are the
real ones. It is the harness for this project's tests and benchmarks, and for tests of anything that sends requests or
reads outcomes:

    with Estate(Scenario.model_validate({...})) as estate:
        estate.put("protect-requests", json.dumps(request).encode(), "1")
        estate.settle()
        print(estate.events())
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final, Self
from urllib.parse import urlsplit

from local.broker import Broker, InProcessBus
from local.host import FunctionDefinition, Host, HostSettings, InProcessReceiver, load
from local.simulator import FIXED_TOKEN, Scenario, Simulator, SimulatorServer
from local.simulator.http_messages import Request, Response
from local.stepped_clock import SteppedClock
from shared import composition
from shared.arm.transport import ConnectionBrokenError, RawAnswer, Transport, TransportError
from shared.bus import Bus, OutgoingMessage
from shared.bus.topology import ALL_OUTCOMES, JOB_OUTCOMES, PARKED_MESSAGES
from shared.engine.runtime import Runtime

JsonObject = dict[str, Any]

OUTCOMES: Final = f"{JOB_OUTCOMES}/subscriptions/{ALL_OUTCOMES}"
#: The address for calls without sockets; nothing listens there.
LOOPBACK: Final = "http://127.0.0.1:9"
#: Seconds; longer than the app waits for an answer.
_TOO_LATE: Final = 30.0
_PAGE: Final = 500


class NeverEndedError(AssertionError):
    """A flow went on for too long, or stopped before it was done."""


@cache
def the_functions() -> tuple[FunctionDefinition, ...]:
    """The app's functions, indexed once."""
    return tuple(load("function_app", {}))


class DirectTransport:
    """A transport that calls the simulator directly instead of over HTTP, which is much faster."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        token: Callable[[], str],
        body: bytes | None,
        max_body: int,  # noqa: ARG002  the simulator's answers are never that large
    ) -> RawAnswer:
        """See `Transport.send`. Raises AssertionError where a call would leave the simulator."""
        parts = urlsplit(url)
        if f"{parts.scheme}://{parts.netloc}" != LOOPBACK:
            raise AssertionError(f"a token would leave the endpoint, for {parts.netloc}")
        names = {name.lower(): value for name, value in headers.items()}
        names |= {"authorization": f"Bearer {token()}", "host": parts.netloc}
        request = Request(method, parts.path, parts.query, names, body or b"", LOOPBACK)
        response = self._simulator.handle(request)
        if response.drop or response.drop_mid_body:
            raise ConnectionBrokenError("the connection broke", sent=True)
        if response.delay > _TOO_LATE:
            raise TransportError("no answer came in time", sent=True)
        answered = {name.lower(): value for name, value in response.headers}
        return RawAnswer(response.status, answered, response.body)

    def close(self) -> None:
        """There is nothing to close."""


def ask_by_hand(simulator: Simulator, method: str, path: str, body: object = None) -> Response:
    """Call Azure as somebody does in the portal: the app learns of it only from Azure."""
    content = b"" if body is None else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {FIXED_TOKEN}", "content-type": "application/json"}
    return simulator.handle(Request(method, path, "api-version=2024-04-01", headers, content, LOOPBACK))


class Estate:
    """A simulated Azure and the app. Open it with `with`; `settings` are those of docs/settings.md.

    Args:
        scenario: what there is in Azure.
        settings: of the app.
        sockets: whether Azure is called over HTTP.
        skew: how much this machine's clock is ahead of Azure's.
        batch: how many messages of a queue the host hands over at once, at most.
    """

    #: more steps than any flow needs, so that one that does not end fails instead of hanging
    most_steps = 20_000

    def __init__(
        self,
        scenario: Scenario,
        settings: Mapping[str, str] | None = None,
        *,
        sockets: bool = True,
        skew: timedelta = timedelta(),
        batch: int = 200,
    ) -> None:
        self.clock = SteppedClock(scenario.start_time + skew)
        self.simulator = Simulator(scenario, clock=self.clock)
        self.broker: Broker
        self.settings = {**(settings or {})}
        self._batch = batch
        self._server = SimulatorServer(self.simulator) if sockets else None
        self._opened = ExitStack()
        self.bus: Bus
        self.runtime: Runtime
        self.receiver: InProcessReceiver
        self.host: Host

    def __enter__(self) -> Self:
        if self._server is not None:
            self._opened.enter_context(self._server)
        self.settings = {"ARM_ENDPOINT": self.url, **self.settings}
        self._opened.callback(composition.install, None)
        self.open_namespace()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    @property
    def url(self) -> str:
        """Where the simulator answers."""
        return self._server.url if self._server is not None else LOOPBACK

    def open_namespace(self) -> None:
        """Open an empty namespace; the messages of the one before are lost."""
        self.broker = self._opened.enter_context(Broker(None, clock=self.clock))
        self.bus = self.open_bus()
        self._events: list[JsonObject] = []
        self._events_read = 0

    def start(self) -> None:
        """Start a process of the app; it replaces the one before."""
        self.runtime = self.build()
        composition.install(self.runtime)
        self.receiver = self.open_receiver()
        self.host = Host(
            self.functions(),
            self.receiver,
            settings=HostSettings(max_message_batch_size=self._batch),
            clock=self.clock,
            timers=False,
        )

    def build(self) -> Runtime:
        """The app, wired; closed with the estate."""
        runtime = composition.build(
            self.settings, bus=self.bus, clock=self.clock, transport=self.open_transport()
        )
        self._opened.callback(runtime.backup.close)
        return runtime

    def open_bus(self) -> Bus:
        """The bus that the app sends through, in every process."""
        return InProcessBus(self.broker)

    def open_transport(self) -> Transport | None:
        """The transport for the app's calls to Azure; None for HTTP."""
        return None if self._server is not None else DirectTransport(self.simulator)

    def open_receiver(self) -> InProcessReceiver:
        """The receiver of a process's host."""
        return InProcessReceiver(self.broker)

    def functions(self) -> Sequence[FunctionDefinition]:
        """The functions that the host runs, in the order in which it looks at their queues."""
        return the_functions()

    # -- Azure

    @property
    def vault_id(self) -> str:
        """The ARM id of the first vault."""
        return self.simulator.vault_id()

    def vm_id(self, name: str = "sqlvm1", resource_group: str | None = None) -> str:
        """The ARM id of a VM."""
        return self.simulator.vm_id(name, resource_group)

    @property
    def mutations(self) -> Counter[str]:
        """How many mutations took effect, by route."""
        return Counter(entry["route"] for entry in self.simulator.ledger_entries)

    # -- running

    def put(self, entity: str, body: bytes, message_id: str) -> None:
        """Put a message on a queue, as any sender does."""
        self.broker.send(entity, [OutgoingMessage(entity=entity, body=body, message_id=message_id)])

    def step(self, done: Callable[[], bool] = lambda: False, *, until: datetime | None = None) -> bool:
        """Let the app do what is due now, step the clock to what is due next, and so on, until `done`.

        Returns whether it is done: it also stops when nothing is left to do, or nothing more is due by `until`.
        Raises NeverEndedError after `most_steps`.
        """
        for _ in range(self.most_steps):
            self.host.run_until_idle()
            if done():
                return True
            due = self.broker.next_due()
            if due is None or (until is not None and due > until):
                return False
            self.clock.advance_to(due)
        raise NeverEndedError(f"it is not done after {self.most_steps} steps")

    def settle(self, *, within: timedelta = timedelta(days=30)) -> None:
        """Step the clock until nothing is left to do, or nothing more is due in time."""
        self.step(until=self.clock.now() + within)

    # -- what was published and parked

    def events(self) -> list[JsonObject]:
        """Everything that was published, oldest first."""
        # It is asked again and again while a flow runs, and nothing is read twice.
        while page := self.broker.peek(OUTCOMES, self._events_read, _PAGE):
            self._events += [json.loads(message.body) for message in page]
            self._events_read = page[-1].sequence_number + 1
        return [*self._events]

    def parked(self) -> list[JsonObject]:
        """The parked messages, with the reasons."""
        return [
            {"body": message.body, **message.application_properties}
            for message in self.broker.peek(PARKED_MESSAGES, 0, _PAGE)
        ]
