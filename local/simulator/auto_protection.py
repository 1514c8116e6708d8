"""Auto-protection: every database found on an instance with an intent is protected.

Follows https://learn.microsoft.com/azure/backup/backup-sql-server-database-azure-vms#enable-auto-protection.
"""

from __future__ import annotations

from local.simulator.errors import JobError
from local.simulator.estate import Container, Intent
from local.simulator.job_lifecycle import start_job
from local.simulator.jobs import Job
from local.simulator.protection import container_property, protect_database
from local.simulator.world import World


def auto_protect_found(world: World, container: Container) -> None:
    """Auto-protect what an inquiry of the container has found."""
    for intent in list(container.vault.intents.values()):
        if intent.container is container:
            auto_protect(world, intent)


def auto_protect(world: World, intent: Intent) -> None:
    """Start a job for each database of the intent's instance that was found and is not yet protected."""
    container = intent.container
    for database in container.inquiry.found.get(intent.instance, []):
        key = (intent.instance.lower(), database.lower())
        mark = (container.vault.key, container.name.key, key)
        if key not in container.items and mark not in world.configuring:
            world.configuring.add(mark)
            _auto_protect_database(world, intent, database, mark)


def _auto_protect_database(
    world: World, intent: Intent, database: str, mark: tuple[str, str, tuple[str, str]]
) -> None:
    container = intent.container
    vault = container.vault

    def complete(_: Job) -> None:
        valid = intent in vault.intents.values() and vault.containers.get(container.name.key) is container
        if not valid:
            raise JobError(
                510040,
                "AutoProtectionCancelledOrNotValid",
                "Auto-protection Intent was either removed or is no more valid.",
                ["Enable auto-protection once again."],
                cancelled=True,
            )
        if mark[2] not in container.items:
            protect_database(
                world,
                container,
                intent.instance,
                database,
                intent.policy,
                container_name=container.name.container,
                name=f"SQLDataBase;{intent.instance};{database}",
            )

    start_job(
        world,
        None,
        vault,
        "ConfigureBackup",
        entity=database,
        item=None,
        length=world.durations.draw("protect"),
        complete=complete,
        always=lambda _: world.configuring.discard(mark),
        user_triggered=False,
        property_bag={
            "Policy Name": intent.policy.name,
            **container_property(world, container.name.container),
        },
    )
