"""The survey: from a vault's listings to the state of each database. Pure functions.

Where databases cannot be listed, one entry `*` stands for all of a VM, an instance or an availability group.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from shared.azure_backup.models import Container, ErrorDetail, ProtectableItem
from shared.clock import ServiceTime
from shared.coverage.ages import AgesByPolicy
from shared.coverage.assessment import Assessment
from shared.coverage.inventory import Inventory
from shared.coverage.scope import Scope
from shared.coverage.states import (
    EVERY_DATABASE,
    CoverageCode,
    CoverageState,
    DatabaseCoverage,
    RegisteredContainer,
    VaultCoverage,
)
from shared.coverage.vault_listings import VaultListings
from shared.coverage.wording import ADVICE_ON_UNUSABLE, explained
from shared.messages.identity import Database
from shared.names import name_key
from shared.steps.matching import match

_RENAMED: Final = " If it was renamed, its new name is among the unprotected databases of the instance."


def survey(listings: VaultListings, scope: Scope, now: ServiceTime) -> VaultCoverage:
    """The state of each of a vault's databases at `now`, the service's time.

    A listed database that cannot be judged is reported as `unknown` with the reason. So no listed database is missing,
    except those that the scope leaves out, which are counted.
    """
    inventory = Inventory(listings, scope.drill_targets)
    ages = AgesByPolicy(listings.policies, now)
    meaning = match(
        inventory.candidates,
        databases=scope.databases,
        exclude=scope.exclude,
        include_system=scope.include_system,
    )
    entries = [
        Assessment(candidate=candidate, inventory=inventory, ages=ages, scope=scope, now=now).result()
        for meant in meaning.matches
        for candidate in (meant.candidate, *meant.namesakes)
    ]
    entries = _with_hints(entries + _undiscovered(inventory, scope))
    return VaultCoverage(
        vault_id=listings.vault_id,
        at=now,
        databases=tuple(sorted(entries, key=lambda entry: entry.order)),
        containers=tuple(
            RegisteredContainer(
                name=container.friendly_name or container.name,
                vm_id=container.virtual_machine_id,
                health=container.health_status,
                updated=container.last_updated,
            )
            for container in listings.containers.usable
            if not _is_for_others(container)
        ),
        left_out=dict(Counter(reason for _, reason in meaning.left_out)),
        missed=() if scope.is_everything else tuple(map(str, meaning.missed)),
    )


def _with_hints(entries: list[DatabaseCoverage]) -> list[DatabaseCoverage]:
    """Add hints to renamed databases: the old name fails or ages, the new one is listed as unprotected."""
    with_new_names = {
        (entry.database.vm_id, name_key(entry.database.parent))
        for entry in entries
        if entry.state is CoverageState.UNPROTECTED
    }
    return [
        replace(entry, advice=entry.advice + _RENAMED)
        if entry.code.lower() == "usererrorsqlpodoesnotexist"
        and (entry.database.vm_id, name_key(entry.database.parent)) in with_new_names
        else entry
        for entry in entries
    ]


# -- what cannot be listed


def _undiscovered(inventory: Inventory, scope: Scope) -> list[DatabaseCoverage]:
    """One entry `*` for each VM, instance or group of which the scope may mean databases that cannot be listed."""
    entries = (*_unusable_containers(inventory), *_unusable_parents(inventory), *_failed_inquiries(inventory))
    return [entry for entry in entries if scope.may_include(entry.database)]


def _unusable_containers(inventory: Inventory) -> Iterator[DatabaseCoverage]:
    for unusable in inventory.listings.containers.unusable:
        yield DatabaseCoverage(
            vault_id=inventory.listings.vault_id,
            database=Database(
                vm_id=unusable.virtual_machine_id, instance=EVERY_DATABASE, name=EVERY_DATABASE
            ),
            state=CoverageState.UNKNOWN,
            code=unusable.code,
            message=f"The container {unusable.shown} {unusable.why}.",
            advice=ADVICE_ON_UNUSABLE.get(unusable.code, ""),
            server_name=unusable.name,
        )


def _unusable_parents(inventory: Inventory) -> Iterator[DatabaseCoverage]:
    for unusable in inventory.listings.protectable.unusable:
        if not unusable.is_database:
            whole = {"instance": unusable.name, "name": EVERY_DATABASE}
            yield DatabaseCoverage(
                vault_id=inventory.listings.vault_id,
                database=inventory.unusable_database(unusable).changed(**whole),
                state=CoverageState.UNKNOWN,
                code=unusable.code,
                message=f"It {unusable.why}.",
                advice=ADVICE_ON_UNUSABLE.get(unusable.code, ""),
            )


def _failed_inquiries(inventory: Inventory) -> Iterator[DatabaseCoverage]:
    for container in inventory.listings.containers.usable:
        failure = container.inquiry.failure if container.inquiry is not None else None
        if failure and not _is_for_others(container) and not container.is_of_deleted_vm:
            yield _failed_inquiry(inventory, container, None, failure)
    for parent in inventory.listings.protectable.usable:
        if parent.prebackup_validation is not None and (parent.is_instance or parent.is_availability_group):
            container_of_parent = inventory.containers.get(parent.container)
            yield _failed_inquiry(inventory, container_of_parent, parent, parent.prebackup_validation)


def _failed_inquiry(
    inventory: Inventory, container: Container | None, parent: ProtectableItem | None, failure: ErrorDetail
) -> DatabaseCoverage:
    """The entry for an instance or a group, or where there is no `parent` for a whole VM."""
    in_group = parent is not None and parent.is_availability_group
    what = "VM" if parent is None else "group" if in_group else "instance"
    code, message, advice = explained(
        failure, CoverageCode.NOT_DISCOVERED, f"The databases of this {what} could not be looked for."
    )
    return DatabaseCoverage(
        vault_id=inventory.listings.vault_id,
        database=Database.inside(
            parent.name if parent is not None else EVERY_DATABASE,
            EVERY_DATABASE,
            group=in_group,
            vm_id=container.virtual_machine_id if container is not None else None,
        ),
        state=CoverageState.UNHEALTHY,
        code=code,
        message=message,
        advice=advice,
        server_name=parent.server_name
        if parent is not None
        else container.name
        if container is not None
        else "",
    )


def _is_for_others(container: Container) -> bool:
    """Whether a container is registered for a workload other than SQL Server: SAP HANA has the same kind."""
    details = container.inquiry.details if container.inquiry is not None else ()
    workloads = {detail.type.lower() for detail in details if detail.item_count}
    return bool(workloads) and "sql" not in workloads
