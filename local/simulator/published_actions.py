"""The actions that roles can allow, as Microsoft publishes them.

Source: https://learn.microsoft.com/azure/role-based-access-control/permissions/management-and-governance, and the pages
compute, databases, integration and web-and-mobile beside it (MicrosoftDocs/azure-docs,
articles/role-based-access-control/permissions).
The action of a route follows from its path and method; it must be in this list.
"""

from __future__ import annotations

from typing import Final

_VAULTS: Final = """
    read write delete backupconfig/read backupconfig/write backupDeletedProtectionContainers/read
    backupFabrics/refreshContainers/action backupFabrics/backupProtectionIntent/delete
    backupFabrics/backupProtectionIntent/read backupFabrics/backupProtectionIntent/write
    backupFabrics/operationResults/read backupFabrics/operationsStatus/read backupFabrics/protectableContainers/read
    backupFabrics/protectionContainers/delete backupFabrics/protectionContainers/inquire/action
    backupFabrics/protectionContainers/read backupFabrics/protectionContainers/write
    backupFabrics/protectionContainers/items/read backupFabrics/protectionContainers/operationResults/read
    backupFabrics/protectionContainers/operationsStatus/read
    backupFabrics/protectionContainers/protectedItems/backup/action
    backupFabrics/protectionContainers/protectedItems/delete backupFabrics/protectionContainers/protectedItems/read
    backupFabrics/protectionContainers/protectedItems/write
    backupFabrics/protectionContainers/protectedItems/operationResults/read
    backupFabrics/protectionContainers/protectedItems/operationsStatus/read
    backupFabrics/protectionContainers/protectedItems/recoveryPoints/move/action
    backupFabrics/protectionContainers/protectedItems/recoveryPoints/read
    backupFabrics/protectionContainers/protectedItems/recoveryPoints/restore/action
    backupJobs/cancel/action backupJobs/read backupJobs/operationResults/read backupJobs/operationsStatus/read
    backupOperationResults/read backupOperations/read backupPolicies/delete backupPolicies/read backupPolicies/write
    backupPolicies/operationResults/read backupPolicies/operations/read backupProtectableItems/read
    backupProtectedItems/read backupProtectionContainers/read backupProtectionIntents/read
    backupResourceGuardProxies/delete backupResourceGuardProxies/read backupResourceGuardProxies/write
    backupResourceGuardProxies/unlockDelete/action backupstorageconfig/read backupstorageconfig/write
    backupTriggerValidateOperation/action backupUsageSummaries/read backupValidateOperationsStatuses/read
    operationResults/read operationStatus/read usages/read
    """
_OTHERS: Final = """
    Microsoft.RecoveryServices/Locations/backupStatus/action
    Microsoft.RecoveryServices/Locations/backupPreValidateProtection/action
    Microsoft.Compute/virtualMachines/read Microsoft.Compute/virtualMachines/write
    Microsoft.Compute/virtualMachines/runCommands/read Microsoft.Compute/virtualMachines/runCommands/write
    Microsoft.Compute/virtualMachines/runCommands/delete
    Microsoft.Authorization/permissions/read Microsoft.Authorization/roleAssignments/read
    Microsoft.Authorization/roleDefinitions/read
    Microsoft.ServiceBus/namespaces/read Microsoft.ServiceBus/namespaces/queues/read
    Microsoft.ServiceBus/namespaces/topics/read Microsoft.ServiceBus/namespaces/topics/subscriptions/read
    Microsoft.Web/sites/Read Microsoft.Web/sites/config/list/Action
    Microsoft.Storage/storageAccounts/read Microsoft.Insights/Components/Read
    Microsoft.RecoveryServices/Locations/deletedVaults/read
    Microsoft.RecoveryServices/Locations/deletedVaults/undelete/action
    Microsoft.Compute/locations/operations/read Microsoft.SqlVirtualMachine/sqlVirtualMachines/read
    Microsoft.ResourceGraph/resources/read Microsoft.Resources/subscriptions/read
    """

PUBLISHED: Final = frozenset(
    action.lower()
    for action in (
        *(f"Microsoft.RecoveryServices/Vaults/{name}" for name in _VAULTS.split()),
        *_OTHERS.split(),
    )
)
