"""What guards a vault: immutability, and a resource guard for its critical operations."""

from __future__ import annotations

from local.simulator.calls import Call
from local.simulator.errors import ServiceError
from local.simulator.estate import Policy, Vault
from local.simulator.world import retention

_ITEMS = "Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/protectedItems"
GUARDED = {
    f"{_ITEMS}/delete": "deleteProtectedItemRequests",
    f"{_ITEMS}/write": "updateProtectedItemRequests",
    "Microsoft.RecoveryServices/vaults/backupPolicies/write": "updateProtectionPolicyRequests",
    "Microsoft.RecoveryServices/vaults/backupResourceGuardProxies/delete": "deleteResourceGuardProxyRequests",
    "Microsoft.RecoveryServices/vaults/backupconfig/write": "disableSoftDeleteRequests",
}
"""The operations that a resource guard guards unless it leaves some out, and what is asked of it for each."""


def is_immutable(vault: Vault) -> bool:
    """Whether immutability is on, locked or not."""
    return vault.immutability in ("Unlocked", "Locked")


def denied_on_immutable() -> ServiceError:
    """What an immutable vault answers to what would lose recovery points before their time."""
    return ServiceError(
        400,
        "UserErrorOperationDeniedOnImmutableItem",
        "The Vault and Backup Item is in Immutable state where destructive operations are not supported. "
        "The Vault and Backup Item is immutable, hence operation is denied. Refer to the documentation to "
        "learn more: https://aka.ms/AB-ImmutableVaults-States ",
    )


def check_guard(vault: Vault, call: Call) -> None:
    """Raise ServiceError for a critical operation on a guarded vault, unless it names the guard's consent.

    Clients name it in `resourceGuardOperationRequests`, of the body's properties or of the body.
    """
    if not vault.resource_guard:
        return
    body = call.recorded_body()
    properties = body.get("properties") if isinstance(body, dict) else None
    for part in (body, properties):
        if isinstance(part, dict) and part.get("resourceGuardOperationRequests"):
            return
    raise ServiceError(
        400,
        "UserErrorResourceGuardOperationRequestIdMissing",
        "ResourceGuard Operation requestid is either null or empty. The operation is protected by a resource guard.",
    )


def shortens(old: Policy, new: Policy) -> bool:
    """Whether the new policy keeps backups of some kind for less long than the old one."""
    return any(
        retention(new, kind) < retention(old, kind)
        for kind in ("Full", "Differential", "Log")
        if old.sub_policy(kind) is not None and new.sub_policy(kind) is not None
    )
