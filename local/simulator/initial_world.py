"""The world as a scenario describes it, at the moment it begins."""

from __future__ import annotations

from local.simulator.discovery import add_intent, register_machine
from local.simulator.estate import AvailabilityGroup, Intent, Principal, RunCommand, VirtualMachine
from local.simulator.naming import GroupName, VmName
from local.simulator.past_backups import PastRuns, give_history, give_jobs
from local.simulator.protection import protect_database, protect_instance
from local.simulator.resource_guards import ALWAYS, EVERY_REQUEST, ResourceGuard
from local.simulator.scenario import (
    AvailabilityGroupScenario,
    InstanceScenario,
    Scenario,
    VaultScenario,
    VirtualMachineScenario,
)
from local.simulator.scenario_databases import new_database, new_instance
from local.simulator.timeline import begin_timeline
from local.simulator.timing import SimulatedTime
from local.simulator.world import World


def build_world(scenario: Scenario, time: SimulatedTime) -> World:
    """The world that a scenario describes, with its machines, vaults, backups and jobs so far."""
    world = World(scenario, time)
    past_runs = PastRuns(world.now)
    for machine in scenario.virtual_machines:
        _add_machine(world, machine)
    for vault in scenario.vaults:
        _add_vault(world, vault)
    for group in scenario.availability_groups:
        world.groups.append(_group(world, group))
    for principal in scenario.service_principals:
        world.principals[principal.client_id.lower()] = Principal(principal, world.ids.guid())
    for machine in scenario.virtual_machines:
        if machine.registered_to is not None:
            _register(world, machine, machine.registered_to, past_runs)
    for group, found in zip(scenario.availability_groups, world.groups, strict=True):
        _protect_group(world, group, found, past_runs)
    give_jobs(world)
    for machine in scenario.virtual_machines:
        for instance in machine.instances:
            if instance.auto_protected_by is not None:
                _auto_protect(world, machine, instance)
    begin_timeline(world)
    return world


def _add_machine(world: World, entry: VirtualMachineScenario) -> None:
    name = VmName(entry.resource_group, entry.name)
    world.resource_groups.setdefault(entry.resource_group.lower(), entry.resource_group)
    world.machines[name.key] = VirtualMachine(
        name,
        entry.location or world.scenario.location,
        entry.sysadmin,
        entry.running and not entry.deleted,
        {instance.name.lower(): new_instance(instance) for instance in entry.instances},
        world.ids.guid(),
        entry.deleted,
        domain=entry.domain,
        sql_iaas_extension=entry.sql_iaas_extension,
        jobs_name_instance=entry.job_names == "full",
        agent_ready=entry.agent_ready,
        free_mb=entry.free_mb,
        run_commands={
            command.lower(): RunCommand(
                command,
                "exit 0",
                [],
                0,
                True,
                "Succeeded",
                "Succeeded",
                start=world.now,
                end=world.now,
            )
            for command in entry.run_commands
        },
    )


def _add_vault(world: World, entry: VaultScenario) -> None:
    scenario = world.scenario
    world.resource_groups.setdefault(entry.resource_group.lower(), entry.resource_group)
    vault = world.new_vault(
        entry.resource_group, entry.name, entry.location or scenario.location, entry.policies
    )
    if entry.soft_delete is not None:
        states = {"alwaysOn": "AlwaysON", True: "Enabled", False: "Disabled"}
        vault.soft_delete = states[entry.soft_delete]
    vault.soft_delete_days = entry.soft_delete_retention_days
    if entry.resource_guard:
        guard = entry.resource_guard
        guarded = EVERY_REQUEST if isinstance(guard, bool) else ALWAYS.union(guard)
        vault.resource_guard = ResourceGuard(
            f"/subscriptions/{scenario.subscription_id}/resourcegroups/{entry.resource_group}"
            f"/providers/Microsoft.DataProtection/resourceGuards/{entry.name}-guard",
            guarded,
            scenario.start_time,
        )
    if entry.immutability != "Disabled":
        vault.set_immutability(entry.immutability)


def _register(world: World, machine: VirtualMachineScenario, vault_name: str, past_runs: PastRuns) -> None:
    """Register a VM, and protect what the scenario says is protected on it."""
    vault = next(v for v in world.vaults.values() if v.name.lower() == vault_name.lower())
    container = register_machine(
        world, vault, world.machines[VmName(machine.resource_group, machine.name).key]
    )
    for instance in machine.instances:
        if instance.protected_by is not None:
            protect_instance(world, container, instance.name, vault.policies[instance.protected_by.lower()])
        for database in instance.databases:
            if database.protected_by is None:
                continue
            own = database.item_casing == "own"
            item = protect_database(
                world,
                container,
                instance.name,
                database.name,
                vault.policies[database.protected_by.lower()],
                container_name=container.name.container if own else "",
                name=f"SQLDataBase;{instance.name};{database.name}" if own else "",
            )
            give_history(world, item, database, past_runs)


def _protect_group(
    world: World, entry: AvailabilityGroupScenario, group: AvailabilityGroup, past_runs: PastRuns
) -> None:
    registered = group.primary.registered_with
    for database in entry.databases:
        if database.protected_by is not None and registered is not None:
            policy = registered.policies[database.protected_by.lower()]
            container = registered.containers[group.name.key]
            item = protect_database(world, container, group.name.name, database.name, policy)
            give_history(world, item, database, past_runs)


def _auto_protect(world: World, entry: VirtualMachineScenario, instance: InstanceScenario) -> None:
    machine = world.machine(entry.resource_group, entry.name)
    vault = machine.registered_with
    assert vault is not None and instance.auto_protected_by is not None
    container = vault.containers[machine.name.key]
    policy = vault.policies[instance.auto_protected_by.lower()]
    add_intent(
        world,
        vault,
        Intent(world.ids.guid(), container, instance.name, policy, next(world.sequence)),
    )


def _group(world: World, entry: AvailabilityGroupScenario) -> AvailabilityGroup:
    nodes = []
    for name in entry.virtual_machines:
        machine = world.scenario.machine_named(name)
        nodes.append(world.machines[VmName(machine.resource_group, machine.name).key])
    primary = next(node for node in nodes if node.name.name.lower() == entry.primary_machine.lower())
    instance = primary.instances[entry.instance.lower()]
    group = AvailabilityGroup(
        GroupName(entry.name, world.ids.guid()), nodes, primary, instance.name, entry.basic, {}
    )
    for scenario in entry.databases:
        database = new_database(scenario, instance)
        database.group = group
        group.databases[database.name.lower()] = database
        for node in nodes:
            node.instances[entry.instance.lower()].databases[database.name.lower()] = database
    return group
