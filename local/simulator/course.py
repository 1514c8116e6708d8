"""The course of a scenario: what happens to machines and databases, and which backups of policies fail, and when."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Final, Protocol

from local.simulator.errors import JobError
from local.simulator.estate import (
    LOG_LAG,
    Container,
    Database,
    Instance,
    ProtectedItem,
    Vault,
    VirtualMachine,
)
from local.simulator.scenario import (
    DatabaseAppears,
    DatabaseIsDropped,
    DatabaseIsRenamed,
    DatabaseScenario,
    MachineStarts,
    MachineStops,
    Scenario,
    ScheduledFailureScenario,
    TimelineEvent,
)
from local.simulator.timing import Agenda

#: The number in an error that the scenario asks for: the simulator's own.
_NUMBER: Final = 520099


class World(Protocol):
    """What a course needs of the world that it happens in."""

    scenario: Scenario
    agenda: Agenda
    vaults: dict[str, Vault]

    @property
    def now(self) -> datetime: ...

    def machine(self, group: str, name: str) -> VirtualMachine: ...

    def database(self, item: ProtectedItem) -> Database | None: ...

    def new_database(self, entry: DatabaseScenario, instance: Instance) -> Database: ...

    def unreachable(self, container: Container) -> JobError | None: ...

    def database_is_gone(self, item: ProtectedItem) -> JobError: ...


class Course:
    """Puts the events of a scenario on a world's agenda."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._failures = world.scenario.scheduled_failures

    def begin(self) -> None:
        """Put everything on the agenda, once the world is built."""
        world = self._world
        for event in world.scenario.timeline:
            world.agenda.at(event.at, partial(self._happen, event))
        for failure in self._failures:
            if "Log" in failure.kinds:
                for moment in filter(None, (failure.since, failure.until)):
                    if moment >= world.now:
                        world.agenda.at(moment, self._review_logs)
        self._review_logs()

    # ---- failures

    def failure(self, item: ProtectedItem, kind: str, at: datetime) -> JobError | None:
        """Why a backup of that kind, which the policy takes at a moment, fails by the scenario."""
        machine = item.container.machine.name.name
        for failure in self._failures:
            if failure.concerns(machine, item.database, kind) and failure.applies(at):
                return _as_error(failure)
        return None

    def chain_begins(self, item: ProtectedItem) -> None:
        """An item's log backups begin: they fail at once where the scenario says so."""
        self._review(item)

    def _review_logs(self) -> None:
        for vault in self._world.vaults.values():
            for item in vault.items():
                self._review(item)

    def _log_problem(self, item: ProtectedItem) -> JobError | None:
        world = self._world
        if (problem := world.unreachable(item.container)) is not None:
            return problem
        if world.database(item) is None:
            return world.database_is_gone(item)
        return self.failure(item, "Log", world.now)

    def _review(self, item: ProtectedItem) -> None:
        """Let the item's scheduled log backups fail, or succeed again, as it now is."""
        chain = item.open_chain
        if chain is None or chain.interval is None or chain.base is None:
            return
        now = self._world.now
        problem = self._log_problem(item)
        if problem is not None and chain.failing_since is None:
            chain.failing_since = now
            tried = chain.base + ((now - chain.base) // chain.interval + 1) * chain.interval
            self._world.agenda.at(tried + LOG_LAG, partial(self._log_failed, item, now, problem))
        elif problem is None and chain.failing_since is not None:
            item.last_backup_time = item.last_backup(now)
            chain.go_on(now)
            self._world.agenda.at(now + chain.interval + LOG_LAG, partial(self._log_succeeded, item))

    def _log_failed(self, item: ProtectedItem, since: datetime, problem: JobError) -> None:
        chain = item.open_chain
        if chain is not None and chain.failing_since == since:
            item.last_backup_status = "Unhealthy"
            item.note_error(problem.title, problem.message, problem.recommendations)

    def _log_succeeded(self, item: ProtectedItem) -> None:
        chain = item.open_chain
        if chain is not None and chain.failing_since is None:
            item.last_backup_status, item.last_error = "Healthy", None

    # ---- the timeline

    def _happen(self, event: TimelineEvent) -> None:
        entry = self._world.scenario.machine_named(event.virtual_machine)
        machine = self._world.machine(entry.resource_group, entry.name)
        match event:
            case MachineStops():
                machine.running = False
            case MachineStarts():
                machine.running = True
            case DatabaseAppears():
                instance = _instance(machine, event.instance)
                created = self._world.new_database(event.database, instance)
                instance.databases[created.name.lower()] = created
            case DatabaseIsRenamed():
                databases = _instance(machine, event.instance).databases
                renamed = databases.pop(event.database.lower(), None)
                if renamed is not None:
                    renamed.name = event.to
                    databases[event.to.lower()] = renamed
            case DatabaseIsDropped():
                _instance(machine, event.instance).databases.pop(event.database.lower(), None)
        for item in self._items_on(machine):
            self._review(item)

    def _items_on(self, machine: VirtualMachine) -> Iterator[ProtectedItem]:
        for vault in self._world.vaults.values():
            for item in vault.items():
                if item.container.machine is machine:
                    yield item


def _instance(machine: VirtualMachine, name: str) -> Instance:
    return machine.instances[name.lower()]


def _as_error(failure: ScheduledFailureScenario) -> JobError:
    return JobError(_NUMBER, failure.code, failure.message, list(failure.recommendations))
