"""What the service finds on machines: when they are registered, on an inquiry, and every eight hours."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from local.simulator.auto_protection import auto_protect, auto_protect_found
from local.simulator.estate import AvailabilityGroup, Container, Inquiry, Intent, Vault, VirtualMachine
from local.simulator.world import World

DISCOVERY = timedelta(hours=8)
"""How often the service looks for new databases on an auto-protected instance.

https://learn.microsoft.com/azure/backup/faq-backup-sql-server
"""


def register_machine(world: World, vault: Vault, machine: VirtualMachine) -> Container:
    """Register the machine with the vault, and inquire what is on it."""
    machine.registered_with, machine.registering = vault, None
    key = machine.name.key
    container = vault.containers.get(key) or vault.deleted_containers.pop(key, None)
    if container is None:
        container = Container(vault, machine, world.now, next(world.sequence))
    container.updated = world.now
    vault.containers[key] = container
    vault.discovered.discard(key)
    inquire_container(world, container)
    return container


def inquire_container(world: World, container: Container) -> None:
    """Note which instances, databases and availability groups the machine has now."""
    group = container.group
    if group is not None:
        if group.registered_nodes(container.vault):
            _found_group(world, container, group)
        return
    machine = container.machine
    if not machine.instances:
        container.inquiry = Inquiry(
            validation_status="Failed",
            validation_code="UserErrorNoSQlInstancesOnMachine",
            validation_message="No SQL server instances were found on the machine.",
        )
    elif not machine.sysadmin:
        container.inquiry = Inquiry(
            validation_status="Failed",
            validation_code="UserErrorSQLNoSysadminMembership",
            validation_message="Azure Backup service requires sysadmin membership on the SQL instance.",
        )
    else:
        container.inquiry = Inquiry(
            found={
                instance.name: [
                    database.name
                    for database in instance.databases.values()
                    if database.name.lower() != "tempdb"
                    and not database.restoring
                    and database.group is None
                    and not instance.failover_cluster
                ]
                for instance in machine.instances.values()
            }
        )
        for found in world.groups:
            if any(node is machine for node in found.nodes):
                _find_group(world, container.vault, found)
    auto_protect_found(world, container)


def _find_group(world: World, vault: Vault, group: AvailabilityGroup) -> None:
    container = vault.containers.get(group.name.key)
    if container is None:
        container = Container(vault, group, world.now, next(world.sequence))
        vault.containers[group.name.key] = container
    _found_group(world, container, group)


def _found_group(world: World, container: Container, group: AvailabilityGroup) -> None:
    names = [] if group.basic else [database.name for database in group.databases.values()]
    container.inquiry = Inquiry(found={group.name.name: names})
    auto_protect_found(world, container)


def forget_groups(vault: Vault) -> None:
    """Remove the availability groups that have no node left in the vault."""
    for container in list(vault.containers.values()):
        if container.group is not None and not container.group.registered_nodes(vault):
            container.inquiry = Inquiry()
            if not container.items:
                del vault.containers[container.name.key]


def add_intent(world: World, vault: Vault, intent: Intent) -> None:
    """Auto-protect an instance: the databases found so far, and those found every eight hours from now on."""
    vault.intents[intent.name.lower()] = intent
    auto_protect(world, intent)
    world.agenda.at(world.now + DISCOVERY, partial(_discover_again, world, vault, intent))


def _discover_again(world: World, vault: Vault, intent: Intent) -> None:
    if vault.intents.get(intent.name.lower()) is not intent:
        return
    if intent.container.machine.running:
        inquire_container(world, intent.container)
    world.agenda.at(world.now + DISCOVERY, partial(_discover_again, world, vault, intent))
