"""The whole app in this process: the embedded broker, the functions, and a host that runs them."""

from __future__ import annotations

import json
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from email.utils import parsedate_to_datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

from cli.errors import CommandError
from local.broker import Broker, BrokerError, BrokerInUseError, InProcessBus, PeekedMessage
from local.host import Host, HostSettingsError, IndexingError, InProcessReceiver, load, read_host_json
from shared import composition
from shared.arm.errors import TokenError
from shared.bus.topology import (
    ALL_OUTCOMES,
    DEAD_LETTERS,
    INTERNAL_QUEUES,
    JOB_OUTCOMES,
    PARKED_MESSAGES,
    REPLAYS,
    TOPOLOGY,
    TRACK,
    Topology,
)
from shared.clock import Clock, ServiceTime, SystemClock
from shared.engine.runtime import Runtime
from shared.messages.cloud_events import InvalidMessageError, read_envelope
from shared.messages.identity import MOST_EPOCHS
from shared.messages.requests import REQUEST_TYPES
from shared.messages.reserved import EPOCH
from shared.settings import SettingsError

logger: Final = logging.getLogger(__name__)

BROKER_FILE: Final = "broker.db"
OUTCOMES: Final = f"{JOB_OUTCOMES}/subscriptions/{ALL_OUTCOMES}"
#: Settings of a deployed app that do not shape a run from the command line.
NOT_OF_A_RUN: Final = frozenset({"WORKFLOWS", "BACKUP_SCHEDULES", "COVERAGE_SCHEDULES", "DRILL_SCHEDULES"})
_PAGE: Final = 200
#: Seconds to wait for a simulator to tell its time.
_TIME_TIMEOUT: Final = 2.0
_FOR_EVER: Final = timedelta(days=100 * 365)


def _that_forgets_nothing(topology: Topology) -> Topology:
    """The entities of a run, which never forget message ids: a request given again much later is still a duplicate.

    The ids of polls are forgotten: there is no end of them, and a repeated poll only reads.
    """
    return replace(
        topology,
        queues=tuple(
            queue if queue.name == TRACK else replace(queue, duplicate_detection_window=_FOR_EVER)
            for queue in topology.queues
        ),
        topics=tuple(
            replace(
                topic,
                duplicate_detection_window=_FOR_EVER,
                subscriptions=tuple(replace(each, time_to_live=_FOR_EVER) for each in topic.subscriptions),
            )
            for topic in topology.topics
        ),
    )


_TOPOLOGY_OF_A_RUN: Final = _that_forgets_nothing(TOPOLOGY)


class EmbeddedApp:
    """The app on a broker of its own. Use `embedded_app` to open one."""

    def __init__(self, broker: Broker, host: Host, runtime: Runtime, *, resumed: bool) -> None:
        self.broker = broker
        self.host = host
        self.runtime = runtime
        #: whether there is state from an earlier run
        self.resumed = resumed
        self._next_sequence = 0

    def events(self, start: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """The events that were published, with their numbers, oldest first."""
        for message in messages_in(self.broker, OUTCOMES, start=start):
            event = json.loads(message.body)
            if isinstance(event, dict):
                yield message.sequence_number, event

    def new_events(self) -> Iterator[dict[str, Any]]:
        """The events that were published since the last call, oldest first."""
        for number, event in self.events(self._next_sequence):
            self._next_sequence = number + 1
            yield event

    def messages(self, entity: str, most: int | None = None) -> list[PeekedMessage]:
        """The messages in an entity, oldest first, `most` at most."""
        return list(islice(messages_in(self.broker, entity), most))

    @property
    def idle(self) -> bool:
        """Whether no message is left that a function would handle, now or later."""
        if self.host.running:
            return False
        for queue in TOPOLOGY.queues:
            if queue.name != PARKED_MESSAGES:
                counts = self.broker.counts(queue.name)
                if counts.active or counts.scheduled or counts.locked:
                    return False
        return not self.host.running

    def pending_epochs(self) -> Iterator[tuple[PeekedMessage, int]]:
        """The messages of replays that are on their way, with their epochs."""
        for queue in TOPOLOGY.queues:
            if queue.name not in (*INTERNAL_QUEUES, DEAD_LETTERS, REPLAYS):
                continue
            for message in messages_in(self.broker, queue.name):
                if queue.name == REPLAYS:
                    epoch = message.application_properties.get(EPOCH)
                else:
                    epoch = step_request(message.body).get("epoch")
                if type(epoch) is int and 0 < epoch <= MOST_EPOCHS:
                    yield message, epoch


def messages_in(broker: Broker, entity: str, *, start: int = 0) -> Iterator[PeekedMessage]:
    """The messages in an entity from a sequence number on, oldest first."""
    while page := broker.peek(entity, start, _PAGE):
        yield from page
        start = page[-1].sequence_number + 1
        if len(page) < _PAGE:
            return


def request_of(body: bytes) -> tuple[object, object, object]:
    """Operation, source and id of the request that a message is, or belongs to, as far as they can be read."""
    step = step_request(body)
    if step:
        return step.get("operation"), step.get("source"), step.get("id")
    try:
        envelope = read_envelope(body)
    except InvalidMessageError:
        return None, None, None
    known = REQUEST_TYPES.get(envelope.type)
    return (known[0].value if known is not None else None), envelope.source, envelope.id


def step_request(body: bytes) -> dict[str, Any]:
    """The request in a message between steps; empty for any other message."""
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    request = content.get("request") if isinstance(content, dict) else None
    return request if isinstance(request, dict) else {}


def settings_of_a_run(environment: Mapping[str, str], arm_endpoint: str | None) -> dict[str, str]:
    """The environment as the app of a run sees it."""
    settings = {name: value for name, value in environment.items() if name not in NOT_OF_A_RUN}
    if arm_endpoint is not None:
        settings["ARM_ENDPOINT"] = arm_endpoint
    return settings


def open_broker(state: Path | None, clock: Clock | None = None) -> Broker:
    """The broker of a state directory, or one in memory. Raises CommandError."""
    if state is None:
        return Broker(None, _TOPOLOGY_OF_A_RUN, clock=clock)
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        what = "it is a file" if state.is_file() else error.strerror
        raise CommandError(f"the state in {state} cannot be used ({what}): name a directory.") from error
    try:
        return Broker(state / BROKER_FILE, _TOPOLOGY_OF_A_RUN, clock=clock)
    except BrokerInUseError as error:
        raise CommandError(
            f"the state in {state} is in use by another sqlvmbackup: wait for it, or name another directory."
        ) from error
    except (BrokerError, OSError) as error:
        raise CommandError(f"the state in {state} cannot be used: {error}.") from error


def open_kept_broker(state: Path) -> Broker:
    """The broker of a state directory that an earlier run left. Raises CommandError where there is none."""
    require_kept_run(state)
    return open_broker(state)


def require_kept_run(state: Path) -> None:
    """Raise CommandError where a directory holds no state of an earlier run, or not one that may be used."""
    file = state / BROKER_FILE
    try:
        file.stat()
        usable = os.access(file, os.R_OK | os.W_OK)
    except (FileNotFoundError, NotADirectoryError):
        raise CommandError(f"{state} keeps no run: name the directory that was given with --state.") from None
    except OSError:
        usable = False
    if not usable:
        raise CommandError(f"the state in {state} cannot be used: only the user who made it may read it.")


@contextmanager
def embedded_app(
    settings: Mapping[str, str], state: Path | None = None, *, clock: Clock | None = None
) -> Iterator[EmbeddedApp]:
    """The app, ready to be started; closed at the end.

    Args:
        settings: see `settings_of_a_run`.
        state: the directory that keeps it; None keeps it in memory.
        clock: stands in for the machine's.

    Raises:
        CommandError: settings, state or the app itself cannot be used.
    """
    clock = clock or SystemClock()
    resumed = state is not None and (state / BROKER_FILE).exists()
    broker = open_broker(state, clock)
    try:
        bus = InProcessBus(broker)
        try:
            runtime = composition.build(settings, bus=bus, clock=clock)
            host = Host(
                _functions(settings),
                InProcessReceiver(broker),
                settings=read_host_json(_host_json()),
                clock=clock,
                timers=False,
            )
        except (SettingsError, IndexingError, HostSettingsError) as error:
            raise CommandError(str(error)) from error
        composition.install(runtime)
        try:
            # Steps retry for minutes, since a role may have to spread; a person is told at once.
            runtime.backup.authenticate()
            _ask_the_time(runtime)
            yield EmbeddedApp(broker, host, runtime, resumed=resumed)
        except TokenError as error:
            raise CommandError(f"{error}.") from error
        finally:
            host.abandon()
            composition.install(None)
            runtime.backup.close()
    finally:
        broker.close()


def _ask_the_time(runtime: Runtime) -> None:
    """Learn the time of a simulator, which has a clock of its own, before anything is dated."""
    if not runtime.settings.on_loopback:
        return
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(runtime.settings.arm_endpoint, timeout=_TIME_TIMEOUT) as answer:  # on loopback
            date = answer.headers.get("Date")
    except urllib.error.HTTPError as error:
        with error:
            date = error.headers.get("Date")
    except OSError:
        return
    with suppress(TypeError, ValueError):
        runtime.service_clock.answered(ServiceTime(parsedate_to_datetime(date)))


def _functions(settings: Mapping[str, str]) -> Any:
    # WORKFLOWS is read when the app is imported; a run serves all workflows.
    served = os.environ.pop("WORKFLOWS", None)
    try:
        return load("function_app", settings)
    finally:
        if served is not None:
            os.environ["WORKFLOWS"] = served


def _host_json() -> Path:
    import function_app
    import local.host

    # At the root of a checkout, where the platform has it; a wheel carries it beside the host.
    root = Path(function_app.__file__).parent / "host.json"
    return root if root.exists() else Path(local.host.__file__).parent / "host.json"
