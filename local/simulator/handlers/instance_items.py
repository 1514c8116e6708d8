"""Protected items of whole instances, listed only: nothing can be done to them here.

Fields follow azure-mgmt-recoveryservicesbackup 11.2.0 (AzureVmWorkloadSQLInstanceProtectedItem); no answer of the
service with one in it is public.
"""

from __future__ import annotations

from typing import Any

from local.simulator.calls import Call
from local.simulator.errors import ServiceError, item_not_found
from local.simulator.estate import Container, Vault, WholeInstance
from local.simulator.naming import VmName, encoded, encoded_segment
from local.simulator.world import World


def instance_items(world: World, call: Call, vault: Vault) -> list[dict[str, Any]]:
    """The entries of the vault's whole instances."""
    return [
        _render(world, call, container, whole)
        for container in vault.containers.values()
        for whole in container.whole_instances.values()
    ]


def instance_item(world: World, call: Call, vault: Vault) -> dict[str, Any]:
    """The whole instance that the URL names. Raises ServiceError (404)."""
    whole = world.container(call, vault).whole_instance(call.parameters["item"].partition(";")[2])
    if whole is None:
        raise item_not_found()
    return _render(world, call, world.container(call, vault), whole)


def _render(world: World, call: Call, container: Container, whole: WholeInstance) -> dict[str, Any]:
    name = f"SQLInstance;{whole.name.lower()}"
    prefix = call.vault_id(container.vault)
    machine = container.machine.name
    return {
        "id": f"{prefix}/backupFabrics/Azure/protectionContainers/"
        f"{encoded(container.name.container_in_item)}/protectedItems/{encoded_segment(name)}",
        "name": name,
        "type": "Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/protectedItems",
        "properties": {
            "friendlyName": whole.name,
            "serverName": container.server_name,
            "parentName": whole.name,
            "parentType": "AzureVmWorkloadSQLInstance",
            "protectionStatus": "Healthy",
            "protectionState": "Protected",
            "lastBackupStatus": "IRPending",
            "protectedItemDataSourceId": whole.source_id,
            "protectedItemHealthStatus": "Healthy",
            "childDatabaseNameList": whole.databases,
            "instanceProtectionReadiness": "Ready",
            "protectedItemType": "AzureVmWorkloadSQLInstance",
            "backupManagementType": "AzureWorkload",
            "workloadType": "SQLInstance",
            "containerName": container.name.container_in_item,
            "sourceResourceId": VmName(machine.resource_group.lower(), machine.name).vm_id(
                world.scenario.subscription_id
            ),
            "policyId": f"{prefix}/backupPolicies/{encoded(whole.policy.name)}",
        },
    }


def refuse_under_instance(container: Container, instance: str) -> None:
    """Raise ServiceError for an operation on one database if its instance is protected as a whole. The refusal is
    inferred: the preview of 2026 is about operations on instances.
    """
    if container.whole_instance(instance) is not None:
        raise ServiceError(
            400,
            "UserErrorOperationNotAllowedOnDatabaseUnderInstance",
            f"The database is protected with its instance {instance}. Do this to the instance.",
        )
