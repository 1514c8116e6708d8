"""Auto-protection: the intent to protect every database of an instance."""

from __future__ import annotations

from typing import Any

from local.simulator.calls import Answer, Call, Effect
from local.simulator.discovery import add_intent
from local.simulator.errors import ServiceError, container_not_found, invalid_input
from local.simulator.estate import Container, Intent, Vault
from local.simulator.filters import matches, parse_filter
from local.simulator.handlers.protection import policy_of
from local.simulator.naming import VmName, container_key, parse_id
from local.simulator.paging import paged
from local.simulator.world import World

_FIELDS = frozenset({"backupmanagementtype", "itemname", "itemtype", "parentname"})


def _render(call: Call, vault: Vault, intent: Intent) -> dict[str, Any]:
    prefix = call.vault_id(vault)
    name = intent.container.name
    # The service rewrites ids into this form, without part of the container's name.
    short = f"Compute;{name.resource_group};{name.name}" if isinstance(name, VmName) else name.container
    container = f"{prefix}/backupFabrics/Azure/protectionContainers/{short}"
    return {
        "id": f"{prefix}/backupFabrics/Azure/backupProtectionIntent/{intent.name}",
        "name": intent.name,
        "type": "Microsoft.RecoveryServices/vaults/backupProtectionIntent",
        "properties": {
            "protectionIntentItemType": "RecoveryServiceVaultItem",
            "backupManagementType": "AzureWorkload",
            "sourceResourceId": container,
            "itemId": f"{container}/protectableItems/{intent.instance}",
            "policyId": f"{prefix}/backupPolicies/{intent.policy.name}",
            "protectionState": "NotProtected",
        },
    }


def _kind(container: Container) -> str:
    return "SQLInstance" if container.group is None else "SQLAvailabilityGroupContainer"


def list_intents(world: World, call: Call) -> Answer:
    """GET the vault's intents."""
    vault = world.vault(call)
    wanted = parse_filter(call.filter, _FIELDS)
    parent = wanted.get("parentname")
    found = [
        intent
        for intent in vault.intents.values()
        if matches("AzureWorkload", wanted.get("backupmanagementtype"))
        and matches(intent.instance, wanted.get("itemname"))
        and matches(_kind(intent.container), wanted.get("itemtype"))
        and (parent is None or container_key(parent) == intent.container.name.key)
    ]
    return paged(
        world, call, found, lambda intent: intent.sequence, lambda intent: _render(call, vault, intent)
    )


def get_intent(world: World, call: Call) -> Answer:
    """GET an intent."""
    vault = world.vault(call)
    intent = vault.intents.get(call.parameters["intent"].lower())
    if intent is None:
        name = call.parameters["intent"]
        raise ServiceError(
            404, "BMSUserErrorProtectionIntentNotFound", f"Protection intent {name} was not found."
        )
    return Answer(200, _render(call, vault, intent))


def put_intent(world: World, call: Call) -> Answer:
    """PUT an intent: 200 at once; jobs protect the databases found so far, and those found by later inquiries."""
    vault = world.vault(call)
    properties = call.properties()
    kinds = (
        "RecoveryServiceVaultItem",
        "AzureWorkloadSQLAutoProtectionIntent",
        "AzureWorkloadContainerAutoProtectionIntent",
        "AzureWorkloadAutoProtectionIntent",
    )
    if properties.get("protectionIntentItemType") not in kinds:
        raise invalid_input("Parameter protectionIntentItemType in request is invalid.")
    target = parse_id(properties.get("itemId"))
    if target is None or target.rest[-2:-1] != ("protectableitems",) or len(target.rest) < 4:
        raise invalid_input("Parameter itemId in request is invalid.")
    container = vault.containers.get(container_key(target.rest[-3]) or "")
    if container is None:
        raise container_not_found(target.rest[-3])
    name = target.rest[-1].removeprefix(f"{_kind(container).lower()};")
    instance = next((found for found in container.inquiry.found if found.lower() == name), None)
    if instance is None:
        raise invalid_input(
            "Parameter itemId in request does not name an instance or availability group that was found."
        )
    policy = policy_of(world, vault, properties)
    title = call.parameters["intent"]
    intent = Intent(title, container, instance, policy, next(world.sequence))
    add_intent(world, vault, intent)
    effect = Effect(f"{world.canonical_vault_id(vault)}/backupFabrics/Azure/backupProtectionIntent/{title}")
    return Answer(200, _render(call, vault, intent), effect=effect)


def delete_intent(world: World, call: Call) -> Answer:
    """DELETE an intent: 204 whether it was there or not, as recorded."""
    vault = world.vault(call)
    intent = vault.intents.pop(call.parameters["intent"].lower(), None)
    if intent is None:
        return Answer(204)
    effect = Effect(
        f"{world.canonical_vault_id(vault)}/backupFabrics/Azure/backupProtectionIntent/{intent.name}"
    )
    return Answer(204, effect=effect)
