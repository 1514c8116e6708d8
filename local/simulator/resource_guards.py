"""A vault's link to a resource guard: which operations need its consent, and how a client refers to the consent."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, get_args

GuardedRequest = Literal[
    "deleteProtectedItemRequests",
    "updateProtectedItemRequests",
    "updateProtectionPolicyRequests",
    "deleteResourceGuardProxyRequests",
    "getBackupSecurityPINRequests",
    "disableSoftDeleteRequests",
    "stopProtectionWithRetainDataRequests",
    "reduceImmutabilityStateRequests",
    "triggerRestoreRequests",
]

_VAULTS = "Microsoft.RecoveryServices/vaults"
_ITEMS = f"{_VAULTS}/backupFabrics/protectionContainers/protectedItems"
GUARDED: Final[dict[GuardedRequest, str]] = {
    "deleteProtectedItemRequests": f"{_ITEMS}/delete",
    "updateProtectedItemRequests": f"{_ITEMS}/write",
    "updateProtectionPolicyRequests": f"{_VAULTS}/backupPolicies/write",
    "deleteResourceGuardProxyRequests": f"{_VAULTS}/backupResourceGuardProxies/delete",
    "getBackupSecurityPINRequests": f"{_VAULTS}/backupSecurityPIN/action",
    "disableSoftDeleteRequests": f"{_VAULTS}/backupconfig/write",
    "stopProtectionWithRetainDataRequests": f"{_ITEMS}/write#stopProtectionWithRetainData",
    "reduceImmutabilityStateRequests": f"{_VAULTS}/write#reduceImmutabilityState",
    "triggerRestoreRequests": f"{_ITEMS}/recoveryPoints/restore/action",
}
"""The requests of a guard, each with the operation it guards, in the order recorded in 2024."""

EVERY_REQUEST: Final[frozenset[GuardedRequest]] = frozenset(get_args(GuardedRequest))
#: The guard's owner cannot exclude these
#: (https://learn.microsoft.com/azure/backup/multi-user-authorization-concept).
ALWAYS: Final[frozenset[GuardedRequest]] = frozenset(
    {"disableSoftDeleteRequests", "deleteResourceGuardProxyRequests"}
)


@dataclass
class ResourceGuard:
    """A vault's link to its resource guard, which has to consent to the operations of `requests`."""

    id: str
    requests: frozenset[GuardedRequest]
    linked: datetime
    unlocked: dict[str, datetime] = field(default_factory=dict)
    """Until when an item may be deleted, by its id in lower case."""

    def default_request(self, request: GuardedRequest) -> str:
        """The id with which a client asks for that operation: `.../triggerRestoreRequests/default`."""
        return f"{self.id}/{request}/default"

    def is_unlocked(self, resource: str, now: datetime) -> bool:
        """Whether the item may be deleted: it was unlocked within the last half hour."""
        return now < self.unlocked.get(resource.lower(), now)
