"""Vaults and their configuration."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from local.simulator.calls import Answer, Call, Effect
from local.simulator.errors import ServiceError, arm, invalid_input
from local.simulator.estate import Vault
from local.simulator.handlers.deleted_vaults import remove_vault, vault_operation
from local.simulator.nested import nested
from local.simulator.operation_lifecycle import poll_headers
from local.simulator.security import check_guard, denied_on_immutable
from local.simulator.world import World

PROVISIONING = timedelta(seconds=90)
"""How long a vault takes to be created since 2026, as recorded."""
_VAULT_NAME = re.compile(r"[A-Za-z][-A-Za-z0-9]{1,49}")


# Long: an answer as recorded, field by field in the service's order.
def _render_vault(world: World, call: Call, vault: Vault) -> dict[str, Any]:
    created = vault.created.strftime("%Y-%m-%dT%H%%3A%M%%3A%S.%f")
    provisioning = vault.provisioned_from is not None and vault.provisioned_from > world.now
    body: dict[str, Any] = {
        "location": vault.location,
        "name": vault.name,
        "etag": f"W/\"datetime'{created}9Z'\"",
        "properties": (
            {
                "provisioningState": "Provisioning" if provisioning else "Succeeded",
                "privateEndpointStateForBackup": "None",
                "privateEndpointStateForSiteRecovery": "None",
            }
            if world.service.state_of_vaults
            else {}
        ),
        "id": world.canonical_vault_id(vault),
        "type": "Microsoft.RecoveryServices/vaults",
        "sku": vault.sku,
    }
    if call.api_version >= "2023":
        body["properties"] |= {
            "backupStorageVersion": "V1",
            "securitySettings": {
                "immutabilitySettings": {"state": "Disabled"},
                "multiUserAuthorization": "Enabled" if vault.resource_guard else "Disabled",
            },
            "redundancySettings": {
                "standardTierStorageRedundancy": "GeoRedundant",
                "crossRegionRestore": "Disabled",
            },
            "secureScore": "None",
            "bcdrSecurityLevel": "Poor",
            "publicNetworkAccess": "Enabled",
            "restoreSettings": {
                "crossSubscriptionRestoreSettings": {"crossSubscriptionRestoreState": "Enabled"}
            },
        }
        if world.service.vaults_in_the_background:
            _tell_security(body["properties"], vault, provisioning=provisioning)
        for name, value in vault.properties.items():
            own = body["properties"].get(name)
            merge = isinstance(value, dict) and isinstance(own, dict)
            body["properties"][name] = {**own, **value} if merge else value
        body["properties"]["securitySettings"] = {
            **body["properties"]["securitySettings"],
            "softDeleteSettings": {
                "softDeleteRetentionPeriodInDays": vault.soft_delete_days,
                "softDeleteState": vault.soft_delete,
                "enhancedSecurityState": "AlwaysON" if world.service.vaults_in_the_background else "Enabled",
            },
        }
    if vault.tags is not None:
        body["tags"] = vault.tags
    if vault.identity is not None:
        body["identity"] = vault.identity
    return body


def _tell_security(properties: dict[str, Any], vault: Vault, *, provisioning: bool) -> None:
    """Set the security settings that vaults have had since 2026."""
    if provisioning:
        del properties["backupStorageVersion"]
    elif not vault.containers:
        properties["backupStorageVersion"] = "Unassigned"
    guarded = "Enabled" if vault.resource_guard else "Disabled"
    properties["securitySettings"] = {
        "multiUserAuthorization": "Invalid" if provisioning else guarded,
        "sourceScanConfiguration": {"state": "Disabled"},
    }
    properties |= {
        "regionOfChoiceSettings": {"status": "Disabled"},
        "secureScore": "Adequate",
        "bcdrSecurityLevel": "Good",
    }


def list_vaults(world: World, call: Call) -> Answer:
    """GET vaults of the subscription, or of a resource group."""
    world.check_subscription(call)
    group = call.parameters.get("group")
    if group is not None and group.lower() not in world.resource_groups:
        raise arm(404, "ResourceGroupNotFound", f"Resource group '{group}' could not be found.")
    vaults = [v for v in world.vaults.values() if group is None or v.resource_group.lower() == group.lower()]
    return Answer(200, {"value": [_render_vault(world, call, vault) for vault in vaults]})


def get_vault(world: World, call: Call) -> Answer:
    """GET a vault."""
    return Answer(200, _render_vault(world, call, world.vault(call)))


def put_vault(world: World, call: Call) -> Answer:
    """PUT a vault: 201 when it is new, 200 when it is not."""
    world.check_subscription(call)
    group, name = call.parameters["group"], call.parameters["vault"]
    body = call.json()
    if not _VAULT_NAME.fullmatch(name):
        raise arm(400, "ResourceNameInvalid", f"The vault name '{name}' is not valid.")
    location, sku = body.get("location"), body.get("sku")
    if not isinstance(location, str) or not location:
        raise arm(400, "LocationRequired", "The location property is required for this definition.")
    if not isinstance(sku, dict) or sku.get("name") not in ("Standard", "RS0"):
        raise arm(400, "InvalidSku", "The sku of the vault must have the name Standard or RS0.")
    key = group.lower()
    if key not in world.resource_groups:
        raise arm(404, "ResourceGroupNotFound", f"Resource group '{group}' could not be found.")
    location = location.replace(" ", "").lower()
    vault = world.vaults.get(f"{group}/{name}".lower())
    status = 200 if vault is not None else 201
    headers: dict[str, str] = {}
    if vault is None:
        vault = world.new_vault(world.resource_groups[key], name, location)
        if world.service.vaults_in_the_background:
            vault.provisioned_from = world.now + PROVISIONING
            polled = poll_headers(world, call, vault_operation(world, call, vault))
            headers = {"Azure-AsyncOperation": polled["Azure-AsyncOperation"]}
    elif vault.location.lower() != location:
        raise arm(
            409,
            "InvalidResourceLocation",
            f"The resource '{name}' already exists in location '{vault.location}' in resource group '{group}'. "
            f"A resource with the same name cannot be created in location '{location}'.",
        )
    else:
        _refuse_weaker(vault, call, body)
    vault.sku = dict(sku)
    _update(vault, body)
    effect = Effect(world.canonical_vault_id(vault))
    return Answer(status, _render_vault(world, call, vault), headers, effect)


def patch_vault(world: World, call: Call) -> Answer:
    """PATCH tags, identity or properties of a vault."""
    vault = world.vault(call)
    body = call.json()
    _refuse_weaker(vault, call, body)
    _update(vault, body)
    return Answer(200, _render_vault(world, call, vault), effect=Effect(world.canonical_vault_id(vault)))


def _refuse_weaker(vault: Vault, call: Call, body: dict[str, Any]) -> None:
    """Refuse what a locked vault or its resource guard forbids: less immutability, no soft delete."""
    wanted = _security(body)
    states = ("Disabled", "Unlocked", "Locked")
    immutability = wanted["immutability"]
    if immutability in states and states.index(immutability) < states.index(vault.immutability):
        if vault.immutability == "Locked":
            raise denied_on_immutable()
        check_guard(vault, call, "reduceImmutabilityStateRequests")
    _check_soft_delete(vault, call, wanted["softDelete"], wanted["softDeleteDays"])


def _security(body: dict[str, Any]) -> dict[str, Any]:
    """What a body says of immutability and soft delete; None for what it leaves out."""
    paths = {
        "immutability": ("immutabilitySettings", "state"),
        "softDelete": ("softDeleteSettings", "softDeleteState"),
        "softDeleteDays": ("softDeleteSettings", "softDeleteRetentionPeriodInDays"),
    }
    return {name: nested(body, "properties", "securitySettings", *path) for name, path in paths.items()}


def _check_soft_delete(vault: Vault, call: Call, state: Any, days: Any) -> None:
    """Refuse what soft delete that is always on, the bounds of its retention, or the resource guard forbids."""
    if state is not None and state not in ("Enabled", "Disabled", "AlwaysON", "Invalid"):
        raise invalid_input("Parameter softDeleteFeatureState in request is invalid.")
    if vault.soft_delete == "AlwaysON" and state in ("Enabled", "Disabled"):
        raise ServiceError(
            400,
            "BMSUserErrorSoftDeleteStateAlwaysOn",
            "Soft delete is always on for this vault: it cannot be disabled, nor its state be changed.",
        )
    if days is not None and (not isinstance(days, int) or not 14 <= days <= 180):
        raise ServiceError(
            400,
            "BMSUserErrorInvalidSoftDeleteRetentionPeriod",
            "The soft delete retention period must be between 14 and 180 days.",
        )
    weaker = state == "Disabled" and vault.soft_delete != "Disabled"
    if weaker or (days is not None and days < vault.soft_delete_days):
        check_guard(vault, call, "disableSoftDeleteRequests")


def _set_soft_delete(vault: Vault, state: Any, days: Any) -> None:
    if state in ("Enabled", "Disabled", "AlwaysON"):
        vault.soft_delete = state
    if isinstance(days, int):
        vault.soft_delete_days = days


def _update(vault: Vault, body: dict[str, Any]) -> None:
    tags, identity, properties = body.get("tags"), body.get("identity"), body.get("properties")
    if isinstance(tags, dict):
        vault.tags = {str(name): str(value) for name, value in tags.items()}
    if isinstance(identity, dict):
        vault.identity = identity
    if isinstance(properties, dict):
        immutability = vault.immutability
        vault.properties |= {name: value for name, value in properties.items() if name != "provisioningState"}
        wanted = _security(body)
        _set_soft_delete(vault, wanted["softDelete"], wanted["softDeleteDays"])
        if immutability != "Disabled" and vault.immutability not in ("Unlocked", "Locked"):
            vault.set_immutability("Disabled" if wanted["immutability"] == "Disabled" else immutability)


def delete_vault(world: World, call: Call) -> Answer:
    """DELETE a vault, which must hold nothing but what is soft-deleted.

    It answers 200; from 2024-04-01 on 204, also if there is no such vault; since 2026 202.
    """
    try:
        vault = world.vault(call)
    except ServiceError as error:
        if error.code == "ResourceNotFound":
            return Answer(204)
        raise
    names = [
        container.name.name
        for container in vault.containers.values()
        if container.group is None or container.items
    ]
    names += [
        container.name.name
        for container in vault.deleted_containers.values()
        if any(not item.soft_deleted for item in container.items.values())
    ]
    if names:
        raise ServiceError(
            400,
            "ServiceResourceNotEmptyWithContainerDetails",
            "Vault cannot be deleted as there are existing resources within the vault. Please ensure there are no "
            "backup items, protected servers or backup management servers associated with this vault. Unregister "
            f"the following containers associated with this vault before proceeding for deletion : {', '.join(names)}",
        )
    return remove_vault(world, call, vault)


def get_vault_config(world: World, call: Call) -> Answer:
    """GET the vault's soft-delete configuration."""
    vault = world.vault(call)
    return Answer(200, _render_config(call, vault))


def put_vault_config(world: World, call: Call) -> Answer:
    """PUT or PATCH the vault's soft-delete configuration."""
    vault = world.vault(call)
    properties = call.properties()
    state, days = properties.get("softDeleteFeatureState"), properties.get("softDeleteRetentionPeriodInDays")
    _check_soft_delete(vault, call, state, days)
    _set_soft_delete(vault, state, days)
    return Answer(200, _render_config(call, vault), effect=Effect(world.canonical_vault_id(vault)))


def _render_config(call: Call, vault: Vault) -> dict[str, Any]:
    return {
        "id": f"{call.vault_id(vault)}/backupconfig/vaultconfig",
        "name": "vaultconfig",
        "type": "Microsoft.RecoveryServices/vaults/backupconfig",
        "properties": {
            "enhancedSecurityState": "Enabled",
            "softDeleteFeatureState": vault.soft_delete,
            "softDeleteRetentionPeriodInDays": vault.soft_delete_days,
            "isSoftDeleteFeatureStateEditable": vault.soft_delete != "AlwaysON",
        },
    }
