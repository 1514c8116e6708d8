"""Protecting databases and instances, changing their policy, and stopping."""

from __future__ import annotations

from datetime import timedelta

from local.simulator.backups import schedule_backups
from local.simulator.estate import Container, Policy, ProtectedItem, WholeInstance
from local.simulator.policy_schedules import retention_rule
from local.simulator.world import World


def protect_database(
    world: World,
    container: Container,
    instance: str,
    database: str,
    policy: Policy,
    *,
    container_name: str = "",
    name: str = "",
) -> ProtectedItem:
    """Put a database under protection by the policy, from now on.

    `container_name` and `name` are how the item's id spells them; by default in lower case, as clients do that take
    the names from protectable items.
    """
    item = ProtectedItem(
        container,
        instance,
        database,
        world.ids.number(),
        next(world.sequence),
        policy,
        container_name=container_name,
        name=name,
    )
    container.items[item.key] = item
    schedule_backups(world, item)
    return item


def protect_instance(world: World, container: Container, instance: str, policy: Policy) -> None:
    """Protect an instance as a whole, with every database that was found on it."""
    found = container.inquiry.found.get(instance, [])
    whole = WholeInstance(instance, policy, world.ids.number(), list(found))
    container.whole_instances[instance.lower()] = whole
    for database in found:
        protect_database(world, container, instance, database, policy)


def change_policy(world: World, item: ProtectedItem, policy: Policy) -> None:
    """Protect an existing item by another policy; a stopped one is resumed."""
    resumed = item.stopped
    item.policy = policy
    if resumed:
        item.state = "Protected" if item.recovery_points else "IRPending"
    chain = item.open_chain
    if chain is not None:
        chain.end = chain.end_at(world.now)
        chain.interval, chain.base = policy.log_interval(), chain.end or chain.start
    _apply_retention(world, item, policy)
    schedule_backups(world, item)


def _apply_retention(world: World, item: ProtectedItem, policy: Policy) -> None:
    """Apply the policy's retention to the recovery points that a policy made.

    A point past its new retention is soft-deleted for as long as the vault says, and restored if a later
    policy keeps it longer
    (https://learn.microsoft.com/azure/backup/secure-by-default#soft-delete-of-recovery-points).
    """
    vault = item.container.vault
    softly = world.service.soft_delete_always_on and vault.soft_delete != "Disabled"
    for point in item.kept(world.now):
        if not point.rule or policy.sub_policy(point.kind) is None:
            continue
        kept_for, point.rule = retention_rule(policy, point.kind)
        point.expires = point.time + kept_for
        if point.expires > world.now:
            if point.purge_at is not None:
                point.soft_deleted, point.purge_at = False, None
        elif softly and not point.soft_deleted:
            point.soft_deleted = True
            point.purge_at = world.now + timedelta(days=vault.soft_delete_days)


def stop_protection(world: World, item: ProtectedItem, state: str) -> None:
    """Stop protection and keep the backups."""
    item.state = state
    item.policy = item.policy if state == "BackupsSuspended" else None
    item.schedule_epoch += 1
    if item.open_chain is not None:
        item.open_chain.close(world.now)


def container_property(world: World, container: str) -> dict[str, str]:
    """The property in which a job that changes protection names its container, without the type in front."""
    return {"ContainerUniqueName": container.partition(";")[2]} if world.service.container_of_jobs else {}
