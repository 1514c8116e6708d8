"""The app's rights, as roles: the one table behind templates, documentation and `doctor`.

Actions are those that Microsoft publishes for its resource providers
(https://learn.microsoft.com/azure/role-based-access-control/permissions/management-and-governance), one for each call
that the app makes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

_VAULT: Final = "Microsoft.RecoveryServices/Vaults/"
_FABRIC: Final = f"{_VAULT}backupFabrics/"
_CONTAINER: Final = f"{_FABRIC}protectionContainers/"
_ITEM: Final = f"{_CONTAINER}protectedItems/"
_MACHINE: Final = "Microsoft.Compute/virtualMachines/"


class Scope(Enum):
    """What a role is assigned on."""

    VAULT = "vault"
    VAULT_RESOURCE_GROUP = "vaultResourceGroup"
    SUBSCRIPTION = "subscription"
    VIRTUAL_MACHINE = "virtualMachine"
    DRILL_VIRTUAL_MACHINE = "drillVirtualMachine"


@dataclass(frozen=True, kw_only=True)
class Role:
    """A custom role: what it allows, on what, and which workflows need it."""

    name: str
    scope: Scope
    #: the workflows that need it
    workflows: frozenset[str]
    actions: tuple[str, ...]
    says: str
    #: what else asks for it: a field of a request, a parameter of the template
    option: str | None = None


def _role(
    name: str, scope: Scope, workflows: Iterable[str], says: str, *actions: str, option: str | None = None
) -> Role:
    return Role(
        name=name, scope=scope, workflows=frozenset(workflows), actions=actions, says=says, option=option
    )


_FOLLOWING: Final = (
    f"{_ITEM}operationsStatus/read",
    f"{_ITEM}operationResults/read",
    f"{_VAULT}backupJobs/read",
)

ROLES: Final = (
    _role(
        "protect",
        Scope.VAULT,
        ("protect",),
        "protect databases of a vault by its policies",
        f"{_VAULT}read",
        f"{_VAULT}backupPolicies/read",
        f"{_FABRIC}refreshContainers/action",
        f"{_FABRIC}operationResults/read",
        f"{_FABRIC}protectableContainers/read",
        f"{_VAULT}backupProtectionContainers/read",
        f"{_CONTAINER}read",
        f"{_CONTAINER}write",
        f"{_CONTAINER}inquire/action",
        f"{_CONTAINER}operationResults/read",
        f"{_VAULT}backupProtectableItems/read",
        f"{_VAULT}backupProtectedItems/read",
        f"{_ITEM}read",
        f"{_ITEM}write",
        *_FOLLOWING,
    ),
    _role(
        "backup",
        Scope.VAULT,
        ("backup",),
        "back up the protected databases of a vault",
        f"{_VAULT}read",
        f"{_VAULT}backupProtectedItems/read",
        f"{_ITEM}read",
        f"{_ITEM}recoveryPoints/read",
        f"{_ITEM}backup/action",
        *_FOLLOWING,
    ),
    _role(
        "restore",
        Scope.VAULT,
        ("restore", "drill"),
        "restore databases from the recovery points of a vault",
        f"{_VAULT}read",
        f"{_VAULT}backupProtectionContainers/read",
        f"{_CONTAINER}items/read",
        f"{_VAULT}backupResourceGuardProxies/read",
        f"{_VAULT}backupProtectedItems/read",
        f"{_ITEM}recoveryPoints/read",
        f"{_ITEM}recoveryPoints/restore/action",
        *_FOLLOWING,
    ),
    _role(
        "coverage",
        Scope.VAULT,
        ("coverage",),
        "see how the databases of a vault are backed up",
        f"{_VAULT}read",
        f"{_VAULT}backupPolicies/read",
        f"{_VAULT}backupProtectionContainers/read",
        f"{_CONTAINER}inquire/action",
        f"{_CONTAINER}operationResults/read",
        f"{_VAULT}backupProtectableItems/read",
        f"{_VAULT}backupProtectedItems/read",
        f"{_ITEM}read",
        f"{_ITEM}recoveryPoints/read",
        f"{_VAULT}backupProtectionIntents/read",
        f"{_VAULT}backupJobs/read",
    ),
    _role(
        "list-sql-virtual-machines",
        Scope.SUBSCRIPTION,
        ("coverage",),
        "find the VMs with SQL Server that no vault knows",
        "Microsoft.SqlVirtualMachine/sqlVirtualMachines/read",
    ),
    _role(
        "list-vaults",
        Scope.SUBSCRIPTION,
        ("protect", "backup", "restore", "coverage", "drill"),
        "find the vaults of a subscription, and name them if one is not found",
        f"{_VAULT}read",
    ),
    _role(
        "virtual-machine",
        Scope.VIRTUAL_MACHINE,
        ("protect", "restore", "drill"),
        "have the backup service protect databases on a VM, restore them, and restore to it",
        f"{_MACHINE}write",
    ),
    _role(
        "first-backup",
        Scope.VAULT,
        ("protect",),
        "take the first backup of a newly protected database",
        f"{_ITEM}backup/action",
        option="firstBackup",
    ),
    _role(
        "auto-protect",
        Scope.VAULT,
        ("protect",),
        "have the service protect future databases of an instance",
        f"{_VAULT}backupProtectionIntents/read",
        f"{_FABRIC}backupProtectionIntent/write",
        option="autoProtect",
    ),
    _role(
        "create-policy",
        Scope.VAULT,
        ("protect",),
        "create the policy that a request describes",
        f"{_VAULT}backupPolicies/write",
        f"{_VAULT}backupPolicies/operationResults/read",
        f"{_VAULT}backupPolicies/operations/read",
        option="createPolicy",
    ),
    _role(
        "create-vault",
        Scope.VAULT_RESOURCE_GROUP,
        ("protect",),
        "create the vault that a request describes",
        f"{_VAULT}write",
        f"{_VAULT}operationStatus/read",
        f"{_VAULT}operationResults/read",
        option="createVault",
    ),
    _role(
        "drill-virtual-machine",
        Scope.DRILL_VIRTUAL_MACHINE,
        ("drill",),
        "restore to a VM kept for drills, and run the app's check there as SYSTEM",
        f"{_MACHINE}write",
        f"{_MACHINE}runCommands/read",
        f"{_MACHINE}runCommands/write",
        f"{_MACHINE}runCommands/delete",
    ),
)


def needed(workflows: Iterable[str], *, options: Iterable[str] = ()) -> tuple[Role, ...]:
    """The roles that an app with these `workflows` needs, with those of some options."""
    served, asked = set(workflows), set(options)
    return tuple(
        role for role in ROLES if role.workflows & served and (role.option is None or role.option in asked)
    )


#: Built-in roles of the app's identity on what the template creates, with their ids, which are the same in every cloud.
SERVICE_BUS_DATA_OWNER: Final = "090c5cfd-751d-490a-894a-3ce6f1109419"
STORAGE_BLOB_DATA_OWNER: Final = "b7e6dc6d-f1e8-4753-8033-0f276bb0955b"
STORAGE_TABLE_DATA_CONTRIBUTOR: Final = "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3"
MONITORING_METRICS_PUBLISHER: Final = "3913510d-42f4-4e42-8a64-420c390055eb"

#: The actions of Azure Service Bus Data Owner that the app and the platform's scaler need.
NAMESPACE_ACTIONS: Final = ("Microsoft.ServiceBus/namespaces/queues/read",)
NAMESPACE_DATA_ACTIONS: Final = (
    "Microsoft.ServiceBus/namespaces/messages/send/action",
    "Microsoft.ServiceBus/namespaces/messages/receive/action",
)


def allows(pattern: str, action: str) -> bool:
    """Whether a role's action, which may hold `*`, covers an action, without regard to case.

    Follows https://learn.microsoft.com/azure/role-based-access-control/role-definitions#actions-format.
    """
    head, *rest = pattern.lower().split("*")
    text = action.lower()
    if not rest:
        return text == head
    if not text.startswith(head):
        return False
    place = len(head)
    for part in rest[:-1]:
        found = text.find(part, place)
        if found < 0:
            return False
        place = found + len(part)
    return len(text) - len(rest[-1]) >= place and text.endswith(rest[-1])


#: What the host needs beside the namespace: type, api-version of its listing, built-in role, and the data actions of it
#: that matter (https://learn.microsoft.com/azure/role-based-access-control/built-in-roles).
BESIDE: Final = (
    (
        "Microsoft.Storage/storageAccounts",
        "2025-01-01",
        "Storage Blob Data Owner",
        (
            "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read",
            "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write",
        ),
    ),
    (
        "Microsoft.Storage/storageAccounts",
        "2025-01-01",
        "Storage Table Data Contributor",
        (
            "Microsoft.Storage/storageAccounts/tableServices/tables/entities/read",
            "Microsoft.Storage/storageAccounts/tableServices/tables/entities/write",
        ),
    ),
    (
        "Microsoft.Insights/components",
        "2020-02-02",
        "Monitoring Metrics Publisher",
        ("Microsoft.Insights/Metrics/Write", "Microsoft.Insights/Telemetry/Write"),
    ),
)
