"""Deleted vaults: each is kept as long as its soft-deleted items, and can be undeleted until then.

The list, its entries and the answer to a DELETE of 2026 follow recordings of 2026-07 (Azure/azure-cli,
test_vault_soft_delete_basic and ..._misc_operations); there an empty vault is purged at once. The answer to an
undelete follows azure-sdk-for-js, arm-recoveryservices 7 (2025-08-01).
"""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

from local.simulator.calls import Answer, Call, Effect
from local.simulator.errors import ServiceError, arm, invalid_input
from local.simulator.estate import DeletedVault, Vault
from local.simulator.naming import encoded, parse_id
from local.simulator.operation_lifecycle import accepted_answer
from local.simulator.operations import Operation
from local.simulator.paging import paged_in_order
from local.simulator.timing import instant
from local.simulator.world import World, region_of

_BEFORE_DELETION = timedelta(milliseconds=300)
"""An empty vault is due to be purged this long before its deletion."""


def _place(call: Call) -> str:
    return (
        f"{call.subscriptions_segment}/providers/Microsoft.RecoveryServices/locations/"
        f"{call.parameters['location']}/deletedVaults"
    )


def _render(call: Call, entry: DeletedVault) -> dict[str, Any]:
    return {
        "id": encoded(f"{_place(call)}/{entry.name}"),
        "name": entry.name,
        "type": "Microsoft.RecoveryServices/locations/deletedVaults",
        "location": entry.vault.location,
        "properties": {
            "vaultId": entry.vault_id,
            "vaultDeletionTime": instant(entry.deleted),
            "purgeAt": instant(entry.purge_at),
        },
    }


def _known(world: World, call: Call) -> list[DeletedVault]:
    world.check_subscription(call)
    region = region_of(world, call)
    return [entry for entry in world.deleted_vaults if entry.vault.location.lower() == region]


def _named(world: World, call: Call) -> DeletedVault:
    name = call.parameters["deleted"]
    for entry in _known(world, call):
        if entry.name.lower() == name.lower():
            return entry
    raise arm(404, "ResourceNotFound", f"The deleted vault '{name}' was not found.")


def list_deleted(world: World, call: Call) -> Answer:
    """GET a region's deleted vaults, by name."""
    found = sorted(_known(world, call), key=lambda entry: entry.name.lower())
    return paged_in_order(world, call, found, lambda entry: _render(call, entry))


def get_deleted(world: World, call: Call) -> Answer:
    """GET a deleted vault."""
    return Answer(200, _render(call, _named(world, call)))


def remove_vault(world: World, call: Call, vault: Vault) -> Answer:
    """Delete a vault and answer the request; with soft delete, it is a deleted vault from then on."""
    del world.vaults[vault.key]
    vault_id = world.canonical_vault_id(vault)
    if vault.soft_delete != "Disabled":
        kept = [item.deferred_delete + item.kept_deleted for item in vault.items() if item.deferred_delete]
        name = f"{vault.resource_group}_{world.ids.guid()}"
        purge_at = max(kept, default=world.now - _BEFORE_DELETION)
        entry = DeletedVault(name, vault, vault_id, world.now, purge_at)
        world.deleted_vaults.append(entry)
        if purge_at > world.now:
            world.agenda.at(purge_at, lambda: _purge(world, entry))
    effect = Effect(vault_id)
    if world.service.vaults_in_the_background:
        return accepted_answer(world, call, vault_operation(world, call, vault), effect)
    # Later versions have only 202 and 204, and their clients take 200 for an error.
    return Answer(200 if call.api_version < "2024-04-01" else 204, effect=effect)


def _purge(world: World, entry: DeletedVault) -> None:
    if entry in world.deleted_vaults:
        world.deleted_vaults.remove(entry)


def vault_operation(world: World, call: Call, vault: Vault) -> Operation:
    """The operation that creates or deletes a vault: ended, unless the vault is still being created."""
    operation = _operation(world, call, call.vault_path(vault), "operationStatus", "operationResults")
    until = vault.provisioned_from
    if until is not None and until > world.now:
        operation.status, operation.end = "InProgress", None
        world.agenda.at(until, lambda: operation.finish(until))
    return operation


def _operation(world: World, call: Call, path: str, status: str, result: str) -> Operation:
    name = base64.b64encode(f"2047;{world.ids.guid()}".encode()).decode()
    operation = Operation(
        name,
        f"{path}/{status}/{name}",
        f"{path}/{result}/{name}",
        call.api_version,
        call.api_version,
        world.now,
        status="Succeeded",
        end=world.now,
    )
    world.vault_operations[name] = operation
    return operation


def undelete(world: World, call: Call) -> Answer:
    """POST undelete: bring a deleted vault back, with what is soft-deleted in it, into a resource group."""
    entry = _named(world, call)
    group = parse_id(f"{call.properties().get('recoveryResourceGroupId')}/providers/x/y/z")
    if group is None or group.subscription != world.scenario.subscription_id.lower():
        raise invalid_input("Parameter recoveryResourceGroupId in request is invalid.")
    if group.resource_group not in world.resource_groups:
        raise arm(
            404, "ResourceGroupNotFound", f"Resource group '{group.resource_group}' could not be found."
        )
    if entry.purge_at <= world.now:
        raise ServiceError(400, "UserErrorDeletedVaultPurged", "The deleted vault holds nothing any more.")
    key = f"{group.resource_group}/{entry.vault.name}".lower()
    if key in world.vaults:
        raise ServiceError(
            409, "VaultAlreadyExists", f"There is a vault {entry.vault.name} in that resource group."
        )
    world.deleted_vaults.remove(entry)
    entry.vault.resource_group = world.resource_groups[group.resource_group]
    world.vaults[entry.vault.key] = entry.vault
    operation = _operation(world, call, f"{_place(call)}/{entry.name}", "operations", "operationResults")
    return accepted_answer(world, call, operation, Effect(world.canonical_vault_id(entry.vault)))


def _found(world: World, call: Call) -> Operation:
    world.check_subscription(call)
    operation = world.vault_operations.get(call.parameters["operation"])
    if operation is None:
        raise arm(404, "ResourceNotFound", "There is no such operation.")
    return operation


def operation_status(world: World, call: Call) -> Answer:
    """GET the status of the creation or the deletion of a vault, or of bringing it back."""
    operation = _found(world, call)
    headers = {"Retry-After": str(world.scenario.retry_after)} if operation.running else {}
    body = {"id": encoded(operation.status_path), "name": operation.id, "status": operation.status}
    return Answer(200, body, headers)


def operation_result(world: World, call: Call) -> Answer:
    """GET the result of the deletion of a vault, or of bringing it back."""
    operation = _found(world, call)
    return accepted_answer(world, call, operation) if operation.running else Answer(204)
