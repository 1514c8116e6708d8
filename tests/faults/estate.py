"""The whole app under faults: crashes at chosen effects, redelivery, reordering, a bus and an Azure that fail.

An effect is one mutating call to Azure, or one entity's messages handed to the bus. A `FaultyEstate` counts
them and can stop the process before or after any of them, as a power failure would: with an exception that no
`except Exception` catches. What was locked is then delivered again, by a new process.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, cast
from urllib.parse import urlsplit
from uuid import UUID

from cli.replay import ParkedInState
from local.broker import Broker, InProcessBus, MessageLockLostError, ReceivedMessage
from local.estate import JsonObject, NeverEndedError, ask_by_hand
from local.host import FunctionDefinition, InProcessReceiver
from local.simulator import Scenario, Simulator
from local.stepped_clock import SteppedClock
from shared.arm.endpoint import ArmEndpoint
from shared.arm.transport import HttpTransport, RawAnswer, Transport
from shared.bus import BusError, BusUnavailableError, OutgoingMessage
from shared.bus.topology import PARKED_MESSAGES, TOPOLOGY
from shared.drills import RUN_COMMAND_PREFIX
from shared.messages.events import DOUBTS, REQUEST_KEY
from tests.e2e.harness import POLICY, Estate, item_path, virtual_machine
from tests.faults.knowledge import Watched

Side = Literal["before", "after"]

#: No request takes longer than this, whatever happens: the longest deadline, three times over.
LONGEST_LIFE: Final = timedelta(days=30)
_MOST_STEPS: Final = 5000
#: What a job says that did nothing: it gave way to another one, or what it was to make was there.
DID_NOTHING: Final = (b"510008", b"520023")
_HTTP_TIMEOUT: Final = timedelta(seconds=30)
#: Routes whose answers say when to ask again.
_POLLS: Final = frozenset({"OperationStatus", "OperationResult"})


class Crash(BaseException):
    """No error of the app, but the end of its process."""


@dataclass
class Plan:
    """What goes wrong at which effect, call, send or settlement; each counted from 0, each once."""

    #: effects at which the process ends, by number, and by name (the first of that name)
    crashes: dict[int, Side] = field(default_factory=dict)
    at: dict[str, Side] = field(default_factory=dict)
    #: what is done to every answer of Azure on its way
    mangle: Callable[[str, str, RawAnswer], RawAnswer] | None = None
    #: calls to Azure that take this long, by the broker's clock too
    slow: dict[int, timedelta] = field(default_factory=dict)
    #: sends (one an entity) that the bus does not take
    unavailable: set[int] = field(default_factory=set)
    #: how many sends to an entity the bus refuses for good, as where a role is missing
    refused: dict[str, int] = field(default_factory=dict)
    #: queues that cannot be looked into, and what the bus says of them
    hidden: dict[str, type[BusError]] = field(default_factory=dict)
    #: until when the bus takes nothing at all, by the stepped clock
    bus_gone_until: datetime | None = None
    #: what the bus refuses with then
    refusal: type[BusError] = BusUnavailableError
    #: completions that are lost: the message is delivered again, at once or when its lock ends
    uncompleted: dict[int, Literal["at once", "later"]] = field(default_factory=dict)
    #: receipts of the entity's messages that are put off until nothing else is left
    held: set[int] = field(default_factory=set)
    #: after a crash: whether the locks end at once (a worker that died) or by time (a host that died)
    recovery: Literal["at once", "later"] = "at once"


class Meter:
    """Counts what can fail, and fails it where the plan says so."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.effects: list[str] = []
        self.calls = 0
        self.sends = 0
        self.completions = 0
        self.receipts = 0

    def effect(self, name: str, run: Callable[[], Any]) -> Any:
        number = len(self.effects)
        self.effects.append(name)
        side = self.plan.crashes.get(number, self.plan.at.pop(name, None))
        if side == "before":
            raise Crash(f"before effect {number}: {name}")
        result = run()
        if side == "after":
            raise Crash(f"after effect {number}: {name}")
        return result


class FaultyBus:
    """The bus in process, one entity after the other, with everything that was sent written down."""

    def __init__(self, broker: Broker, meter: Meter, clock: SteppedClock) -> None:
        self._bus = InProcessBus(broker)
        self._meter = meter
        self._clock = clock
        self.sent: list[OutgoingMessage] = []
        #: whether what is known of an effect is lowered on some way back to a queue
        self.watched = Watched()

    def send(self, messages: Sequence[OutgoingMessage]) -> None:
        by_entity: dict[str, list[OutgoingMessage]] = {}
        for message in messages:
            by_entity.setdefault(message.entity, []).append(message)
        for entity, batch in by_entity.items():
            self._send(entity, batch)

    def peek(self, queue: str) -> Iterator[bytes]:
        self._is_there(queue)
        plan = self._meter.plan
        if queue in plan.hidden:
            raise plan.hidden[queue](f"{queue} cannot be looked into")
        return self._bus.peek(queue)

    def _is_there(self, entity: str) -> None:
        plan = self._meter.plan
        if plan.bus_gone_until is not None and self._clock.now() < plan.bus_gone_until:
            raise plan.refusal(f"{entity} takes nothing for hours")

    def _send(self, entity: str, batch: list[OutgoingMessage]) -> None:
        for message in batch:
            self.watched.sends(message)
        number = self._meter.sends
        self._meter.sends += 1
        plan = self._meter.plan
        self._is_there(entity)
        if number in plan.unavailable:
            raise BusUnavailableError(f"{entity} takes nothing just now")
        if self._meter.plan.refused.get(entity, 0) > 0:
            self._meter.plan.refused[entity] -= 1
            raise BusError(f"this identity may not send to {entity}")

        def send() -> None:
            self._bus.send(batch)
            self.sent += batch

        self._meter.effect(f"send {entity}", send)


class MeteredTransport:
    """Counts the calls to Azure, and does to them what the plan says."""

    def __init__(
        self,
        transport: Transport,
        clock: SteppedClock,
        meter: Meter,
        watched: Watched,
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._meter = meter
        self._watched = watched

    def send(self, method: str, url: str, **details: Any) -> RawAnswer:
        number = self._meter.calls
        self._meter.calls += 1
        path = urlsplit(url).path

        def ask() -> RawAnswer:
            answer = self._transport.send(method, url, **details)
            mangle = self._meter.plan.mangle
            return answer if mangle is None else mangle(method, path, answer)

        try:
            if method == "GET":
                return ask()
            self._watched.called()
            return cast("RawAnswer", self._meter.effect(f"{method} {path.rpartition('/')[2]}", ask))
        finally:
            if (taken := self._meter.plan.slow.get(number)) is not None:
                self._clock.advance(taken)

    def close(self) -> None:
        """Close what is underneath."""
        self._transport.close()


class FaultyReceiver(InProcessReceiver):
    """Knows what its process has locked, and loses completions where the plan says so."""

    def __init__(self, broker: Broker, meter: Meter, watched: Watched) -> None:
        super().__init__(broker)
        self._meter = meter
        self._watched = watched
        self.locked: dict[UUID, str] = {}
        #: entities whose messages are put off
        self.held: set[str] = set()

    def receive(self, entity: str, max_messages: int) -> Sequence[ReceivedMessage]:
        if entity in self.held:
            return []
        messages = super().receive(entity, max_messages)
        if messages:
            number = self._meter.receipts
            self._meter.receipts += 1
            if number in self._meter.plan.held:
                self.held.add(entity)
                for message in messages:
                    self._broker.release(entity, message.lock_token)
                return []
        self.locked |= {message.lock_token: entity for message in messages}
        self._watched.handling(entity, messages)
        return messages

    def complete(self, entity: str, lock_token: UUID) -> None:
        number = self._meter.completions
        self._meter.completions += 1
        self.locked.pop(lock_token, None)
        fate = self._meter.plan.uncompleted.get(number)
        if fate == "at once":
            super().abandon(entity, lock_token)
        elif fate is None:
            super().complete(entity, lock_token)

    def abandon(self, entity: str, lock_token: UUID) -> None:
        self.locked.pop(lock_token, None)
        super().abandon(entity, lock_token)

    def die(self, *, release: bool) -> None:
        """The process is gone: its locks end now, or by time."""
        for token, entity in self.locked.items():
            if release:
                with suppress(MessageLockLostError):
                    super().abandon(entity, token)
        self.locked.clear()


class FaultyEstate(Estate):
    """An estate whose app is killed and starts again."""

    bus: FaultyBus
    receiver: FaultyReceiver

    def __init__(
        self,
        scenario: Scenario,
        settings: Mapping[str, str] | None = None,
        *,
        plan: Plan,
        order: Sequence[int] = (),
        **details: Any,
    ) -> None:
        super().__init__(scenario, settings, **details)
        self.meter = Meter(plan)
        self.crashes = 0
        self.deleted_by_hand = 0
        self.requests: list[JsonObject | bytes] = []
        self._order = order

    def open_bus(self) -> FaultyBus:
        """The bus under the plan."""
        return FaultyBus(self.broker, self.meter, self.clock)

    def open_transport(self) -> Transport:
        """The way to Azure under the plan."""
        http = HttpTransport(ArmEndpoint.parse(self.url), http_timeout=_HTTP_TIMEOUT)
        return MeteredTransport(super().open_transport() or http, self.clock, self.meter, self.bus.watched)

    def open_receiver(self) -> FaultyReceiver:
        """The hold of a process on its messages."""
        return FaultyReceiver(self.broker, self.meter, self.bus.watched)

    def functions(self) -> Sequence[FunctionDefinition]:
        """The functions in the order of the schedule."""
        functions = list(super().functions())
        for index in self._order:
            functions.append(functions.pop(index % len(functions)))
        return functions

    def restart(self, *, release: bool | None = None) -> None:
        """Kill the process and start another. `release`: whether its locks end at once."""
        recovery = self.meter.plan.recovery == "at once" if release is None else release
        self.receiver.die(release=recovery)
        self.start()

    def submit(self, *requests: JsonObject | bytes) -> None:
        """Put requests on their queues; `check` looks at what became of them."""
        self.requests += requests
        self.send(*requests)

    def replay(self) -> int:
        """What an operator does with `replay send --all`; how many were sent."""
        parked = ParkedInState(self.broker)
        return parked.replay(frozenset(message.sequence_number for message in parked.peek()))

    def delete_by_hand(self, database: str) -> None:
        """Somebody stops protection and deletes the backups, in the portal."""
        self.by_hand("DELETE", item_path(database))
        self.deleted_by_hand += 1
        self.clock.advance(timedelta(minutes=10))

    def quiesce(self) -> None:
        """Go on until nothing is left to do, through every crash."""
        until = self.clock.now() + LONGEST_LIFE
        for _ in range(_MOST_STEPS):
            try:
                self.host.run_until_idle()
            except Crash:
                self.crashes += 1
                self.restart()
                continue
            if self.receiver.held:
                self.receiver.held.clear()
                continue
            due = self.broker.next_due()
            if due is None:
                self.bus.watched.check()
                return
            assert due <= until, f"I7: something would go on after {LONGEST_LIFE}"
            self.clock.advance_to(due)
        raise NeverEndedError(f"I7: it goes on after {_MOST_STEPS} steps")

    # -- what must hold

    def outcomes(self) -> list[JsonObject]:
        """The outcomes that were published."""
        return [
            event
            for event in self.events()
            if event["type"].split(".")[2] not in ("accepted", "started", "gap")
        ]

    def outcomes_of(self, request: JsonObject, epoch: int = 0) -> list[JsonObject]:
        """The outcomes of one request."""
        return [
            outcome
            for outcome in self.outcomes()
            if (outcome["data"].get("requestSource"), outcome["data"].get("requestId"))
            == (request["source"], request["id"])
            and outcome["data"].get("epoch", 0) == epoch
        ]

    def outcome(self, request: JsonObject | None = None) -> JsonObject:
        """The data of the one outcome there is."""
        (found,) = self.outcomes() if request is None else self.outcomes_of(request)
        data: JsonObject = found["data"]
        return data

    def job_ids(self, route: str) -> list[str]:
        """The jobs that mutations of a route started."""
        return [entry["jobId"] for entry in self.simulator.ledger_entries if entry["route"] == route]

    def check(self, *, two_answers: bool = False) -> None:
        """The invariants, once nothing is left to do.

        `two_answers`: whether a request may have been answered as a whole and for its databases too. There
        is no store beside the broker, so this is the limit of what can be promised: a step before acceptance
        is delivered again after it has handed over, and of its two ways one fails and the other does not.
        """
        for request in self.requests:
            if isinstance(request, dict):
                self._check_outcomes(request, two_answers=two_answers)
        self.bus.watched.check()
        self._check_contradictions()
        self._check_effects()
        self._check_sizes()
        self._check_nothing_left()

    def _check_outcomes(self, request: JsonObject, *, two_answers: bool) -> None:
        """I1: exactly one terminal identity a database, and as many as were announced."""
        outcomes = self.outcomes_of(request)
        if two_answers and len(outcomes) > 1:
            outcomes = [outcome for outcome in outcomes if outcome["data"]["outcomeKey"] != REQUEST_KEY]
        keys = [outcome["data"]["outcomeKey"] for outcome in outcomes]
        assert keys, f"I1: {request['id']} has no outcome"
        assert len(set(keys)) == len(keys), f"I1: {request['id']} has two outcomes of one database"
        counts = {outcome["data"]["outcomeCount"] for outcome in outcomes}
        assert counts == {len(keys)}, f"I1: {request['id']} announced {counts} outcomes and has {keys}"

    def _check_contradictions(self) -> None:
        """Nobody is told of a doubt and then of a certainty: what comes second is dropped as a duplicate."""
        published: dict[str, list[str]] = defaultdict(list)
        for message in self.bus.sent:
            if message.entity == "job-outcomes":
                published[message.message_id].append(json.loads(message.body)["data"]["status"])
        for statuses in published.values():
            first_published, *dropped = statuses
            late = first_published in DOUBTS and not DOUBTS.issuperset(dropped)
            assert not late, f"what was known came too late: {statuses}"

    def _check_effects(self) -> None:
        """I2: at most one backup or restore a request and database, but for those that did nothing."""
        seen: Counter[tuple[str, str]] = Counter()
        jobs: dict[tuple[str, str], list[str]] = defaultdict(list)
        for entry in self.simulator.ledger_entries:
            if entry["route"] in ("Backup", "Restore"):
                seen[(entry["route"], entry["item"])] += 1
                jobs[(entry["route"], entry["item"])].append(entry["jobId"])
        asked: Counter[str] = Counter()
        for request in self.requests:
            if isinstance(request, dict):
                asked[request["type"].split(".")[1]] += 1
        # Whatever finds a gap, and however often, it has one repair.
        asked["backup"] += min(asked["coverage"], 1)
        for (route, item), count in seen.items():
            most = (
                asked["backup"] + asked["protect"] if route == "Backup" else asked["restore"] + asked["drill"]
            )
            if count > most:
                useless = sum(gave_way(self.simulator, job_id) for job_id in jobs[(route, item)])
                # A vault that does not echo does not tell that a backup gave way to its own twin.
                if route == "Backup" and not self.simulator.scenario.echo_activity_id:
                    most += sum(fault.fault == "twice" for fault in self.simulator.scenario.faults)
                assert count - useless <= most, f"I2: {count} times {route} of {item}"
        # What the app deletes: its own run commands, where drills were asked for.
        own = f"/runCommands/{RUN_COMMAND_PREFIX}" if asked["drill"] else "\n"
        deleted = [
            entry
            for entry in self.simulator.ledger_entries
            if "Delete" in entry["route"] and own not in entry["item"]
        ]
        assert len(deleted) == self.deleted_by_hand, "the app deleted something"

    def _check_sizes(self) -> None:
        """I5: no message grows with attempts."""
        first: dict[tuple[Any, ...], int] = {}
        for message in self.bus.sent:
            if message.entity in ("job-outcomes", PARKED_MESSAGES) or message.entity.endswith("-requests"):
                continue
            body = json.loads(message.body)
            payload = body["payload"]
            stage = (
                payload.get("of", {}).get("kind"),
                "fixed" in payload,
                "prepared" in payload or "prepared" in payload.get("payload", {}),
                "ending" in body,
            )
            database = payload.get("database", payload.get("payload", {}).get("database"))
            key = (
                message.entity,
                body["sender"],
                body["request"]["id"],
                json.dumps(database),
                stage,
            )
            # What one answer gives for a URL, another gives longer.
            followed = payload.get("of", {})
            urls = (followed.get("asyncOperationUrl", ""), followed.get("locationUrl", ""))
            size = len(message.body) - sum(map(len, urls))
            assert size <= first.setdefault(key, size) + 600, f"I5: a message to {message.entity} grows"

    def _check_nothing_left(self) -> None:
        """I6: no live poll and no lost one."""
        for queue in TOPOLOGY.queues:
            counts = self.broker.counts(queue.name)
            left = counts.active + counts.scheduled + counts.locked
            if queue.name != PARKED_MESSAGES:
                assert not left, f"I6: {left} messages are left in {queue.name}"

    def check_retry_after(self) -> None:
        """I4: no URL is asked before its Retry-After; only without crashes, which forget what was asked."""
        allowed: dict[tuple[str, str], datetime] = {}
        for entry in self.simulator.access_entries:
            if entry["route"] not in _POLLS:
                continue
            key = (entry["path"].lower(), entry["query"])
            at = datetime.fromisoformat(entry["time"]).replace(tzinfo=UTC)
            assert at >= allowed.get(key, at) - timedelta(seconds=1), f"I4: {entry['path']} asked too early"
            wait = str(entry["retryAfter"] or "")
            if wait.isdigit():
                allowed[key] = at + timedelta(seconds=int(wait))


def gave_way(simulator: Simulator, job_id: str) -> bool:
    """Whether a job did nothing, because of another operation on its database or what that had made."""
    path = f"{simulator.vault_id()}/backupJobs/{job_id}"
    # A fault may be meant for this very call.
    answers = [ask_by_hand(simulator, "GET", path).body for _ in range(10)]
    return any(reason in answer for answer in answers for reason in DID_NOTHING)


#: Short enough that a flow has few polls, long enough that there are some.
BRISK: Final = {"refresh": 10, "register": 50, "inquire": 10, "protect": 50, "backup": 70, "restore": 70}


def protected_estate(*databases: str, **scenario: Any) -> JsonObject:
    """A scenario of one registered VM whose databases are protected, with a day of recovery points."""
    listed = [{"name": name, "protectedBy": POLICY, "historyDays": 1} for name in (databases or ("orders",))]
    return {
        "virtualMachines": [virtual_machine("sqlvm1", *listed, registeredTo="vault1")],
        "scheduledBackups": False,
        "durations": BRISK,
        **scenario,
    }


def gapped_estate(**scenario: Any) -> JsonObject:
    """A scenario of one registered VM with a database that no policy protects, and two without log backups."""
    estate = protected_estate("orders", "billing", "sales", **scenario)
    (instance,) = estate["virtualMachines"][0]["instances"]
    simple = {"recoveryModel": "Simple", "protectedBy": POLICY, "historyDays": 1}
    instance["databases"] += [{"name": "old", **simple}, {"name": "older", **simple}, {"name": "new"}]
    return estate


def bare_estate(*databases: str, **scenario: Any) -> JsonObject:
    """A scenario of one VM that no vault knows."""
    return {
        "virtualMachines": [virtual_machine("sqlvm1", *(databases or ("orders",)))],
        "scheduledBackups": False,
        "durations": BRISK,
        **scenario,
    }


def fault(route: str, name: str, **details: Any) -> JsonObject:
    """A fault of the simulator."""
    return {"route": route, "fault": name, **details}


@contextmanager
def open_faulty(
    scenario: Mapping[str, Any],
    plan: Plan | None = None,
    settings: Mapping[str, str] | None = None,
    *,
    sockets: bool = False,
    order: Sequence[int] = (),
    skew: timedelta = timedelta(),
) -> Iterator[FaultyEstate]:
    """An estate under a plan. With `sockets` Azure is spoken to over real HTTP.

    `skew`: how much this machine's clock is ahead of Azure's.
    """
    read = Scenario.model_validate(dict(scenario))
    with FaultyEstate(read, settings, plan=plan or Plan(), order=order, sockets=sockets, skew=skew) as estate:
        yield estate
