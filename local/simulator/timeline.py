"""The timeline of a scenario: what happens to machines and databases, and which backups of policies fail, and when."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Final

from local.simulator.errors import JobError
from local.simulator.estate import LOG_LAG, Instance, ProtectedItem, VirtualMachine
from local.simulator.job_errors import database_is_gone, unreachable
from local.simulator.scenario import (
    DatabaseAppears,
    DatabaseIsDropped,
    DatabaseIsRenamed,
    MachineStarts,
    MachineStops,
    TimelineEvent,
)
from local.simulator.scenario_databases import new_database
from local.simulator.world import World

#: The error number of failures that the scenario asks for; it is the simulator's own.
_NUMBER: Final = 520099


def begin_timeline(world: World) -> None:
    """Put the scenario's events on the agenda, once the world is built."""
    for event in world.scenario.timeline:
        world.agenda.at(event.at, partial(_apply, world, event))
    for failure in world.scenario.scheduled_failures:
        if "Log" in failure.kinds:
            for moment in filter(None, (failure.since, failure.until)):
                if moment >= world.now:
                    world.agenda.at(moment, partial(_review_all_log_backups, world))
    _review_all_log_backups(world)


def scheduled_failure(world: World, item: ProtectedItem, kind: str, moment: datetime) -> JobError | None:
    """The error with which the policy's backup of that kind fails at that moment; None if it succeeds."""
    machine = item.container.machine.name.name
    for failure in world.scenario.scheduled_failures:
        if failure.concerns(machine, item.database, kind) and failure.applies(moment):
            return JobError(_NUMBER, failure.code, failure.message, list(failure.recommendations))
    return None


def _review_all_log_backups(world: World) -> None:
    for vault in world.vaults.values():
        for item in vault.items():
            review_log_backups(world, item)


def review_log_backups(world: World, item: ProtectedItem) -> None:
    """Make the item's scheduled log backups fail or succeed from now on, by the present state."""
    chain = item.open_chain
    if chain is None or chain.interval is None or chain.base is None:
        return
    now = world.now
    problem = _log_problem(world, item)
    if problem is not None and chain.failing_since is None:
        chain.failing_since = now
        tried = chain.base + ((now - chain.base) // chain.interval + 1) * chain.interval
        world.agenda.at(tried + LOG_LAG, partial(_log_failed, item, now, problem))
    elif problem is None and chain.failing_since is not None:
        item.last_backup_time = item.last_backup(now)
        chain.go_on(now)
        world.agenda.at(now + chain.interval + LOG_LAG, partial(_log_succeeded, item))


def _log_problem(world: World, item: ProtectedItem) -> JobError | None:
    if (problem := unreachable(item.container)) is not None:
        return problem
    if item.live_database() is None:
        return database_is_gone(item)
    return scheduled_failure(world, item, "Log", world.now)


def _log_failed(item: ProtectedItem, since: datetime, problem: JobError) -> None:
    chain = item.open_chain
    if chain is not None and chain.failing_since == since:
        item.last_backup_status = "Unhealthy"
        item.note_error(problem.title, problem.message, problem.recommendations)


def _log_succeeded(item: ProtectedItem) -> None:
    chain = item.open_chain
    if chain is not None and chain.failing_since is None:
        item.last_backup_status, item.last_error = "Healthy", None


def _apply(world: World, event: TimelineEvent) -> None:
    entry = world.scenario.machine_named(event.virtual_machine)
    machine = world.machine(entry.resource_group, entry.name)
    match event:
        case MachineStops():
            machine.running = False
        case MachineStarts():
            machine.running = True
        case DatabaseAppears():
            instance = _instance(machine, event.instance)
            created = new_database(event.database, instance)
            instance.databases[created.name.lower()] = created
        case DatabaseIsRenamed():
            databases = _instance(machine, event.instance).databases
            renamed = databases.pop(event.database.lower(), None)
            if renamed is not None:
                renamed.name = event.to
                databases[event.to.lower()] = renamed
        case DatabaseIsDropped():
            _instance(machine, event.instance).databases.pop(event.database.lower(), None)
    for vault in world.vaults.values():
        for item in vault.items():
            if item.container.machine is machine:
                review_log_backups(world, item)


def _instance(machine: VirtualMachine, name: str) -> Instance:
    return machine.instances[name.lower()]
