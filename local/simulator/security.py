"""What protects a vault: immutability, and a resource guard for critical operations."""

from __future__ import annotations

from local.simulator.calls import Call
from local.simulator.errors import ServiceError
from local.simulator.estate import Policy, Vault
from local.simulator.nested import nested
from local.simulator.policy_schedules import retention
from local.simulator.resource_guards import GuardedRequest


def is_immutable(vault: Vault) -> bool:
    """Whether immutability is on, locked or not."""
    return vault.immutability in ("Unlocked", "Locked")


def denied_on_immutable() -> ServiceError:
    """An immutable vault's answer to whatever would remove recovery points early."""
    return ServiceError(
        400,
        "UserErrorOperationDeniedOnImmutableItem",
        "The Vault and Backup Item is in Immutable state where destructive operations are not supported. "
        "The Vault and Backup Item is immutable, hence operation is denied. Refer to the documentation to "
        "learn more: https://aka.ms/AB-ImmutableVaults-States ",
    )


def check_guard(vault: Vault, call: Call, request: GuardedRequest) -> None:
    """Raise ServiceError for an operation that the vault's resource guard guards, unless the call names the guard's
    request for it. Clients name it in `resourceGuardOperationRequests`, in the body or in its properties.
    """
    guard = vault.resource_guard
    if guard is None or request not in guard.requests:
        return
    body = call.recorded_body()
    wanted = guard.default_request(request).lower()
    for path in ((), ("properties",)):
        named = nested(body, *path, "resourceGuardOperationRequests")
        if isinstance(named, list) and wanted in (str(each).lower() for each in named):
            return
    raise needs_consent()


def needs_consent() -> ServiceError:
    """The answer to an operation without the consent of its resource guard."""
    return ServiceError(
        400,
        "UserErrorResourceGuardOperationRequestIdMissing",
        "ResourceGuard Operation requestid is either null or empty. The operation is protected by a resource guard.",
    )


def shortens(old: Policy, new: Policy) -> bool:
    """Whether the new policy keeps some kind of backup for a shorter time than the old one."""
    return any(
        retention(new, kind) < retention(old, kind)
        for kind in ("Full", "Differential", "Log")
        if old.sub_policy(kind) is not None and new.sub_policy(kind) is not None
    )
