"""Entries `*`: the VMs, instances and availability groups whose databases cannot be listed."""

from __future__ import annotations

from collections.abc import Iterator

from shared.azure_backup.models import Container, ErrorDetail, ProtectableItem
from shared.coverage.inventory import Inventory
from shared.coverage.scope import Scope
from shared.coverage.states import EVERY_DATABASE, CoverageCode, CoverageState, DatabaseCoverage
from shared.coverage.wording import ADVICE_ON_UNUSABLE, explained
from shared.messages.identity import Database


def undiscovered(inventory: Inventory, scope: Scope) -> list[DatabaseCoverage]:
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
        if failure and not is_for_others(container) and not container.is_of_deleted_vm:
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


def is_for_others(container: Container) -> bool:
    """Whether a container is registered for a workload other than SQL Server: SAP HANA has the same kind."""
    details = container.inquiry.details if container.inquiry is not None else ()
    workloads = {detail.type.lower() for detail in details if detail.item_count}
    return bool(workloads) and "sql" not in workloads
