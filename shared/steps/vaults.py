"""The vault that a request names: what it protects, and the error that lists the existing vaults."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from shared.arm.budget import PROTECTED_ITEM_LISTS
from shared.arm.errors import ArmStatusError
from shared.arm.ids import VaultId
from shared.arm.redaction import printable
from shared.engine.result import Collaborators, Failure
from shared.messages.error_codes import ErrorCode
from shared.names import enumeration

if TYPE_CHECKING:
    from shared.azure_backup.listings import Listing
    from shared.azure_backup.models import ProtectedItem
    from shared.engine.message import StepMessage


def vault_not_found(collaborators: Collaborators, vault_id: VaultId) -> Failure:
    """The error for an unknown vault, naming the existing ones."""
    vaults, others = collaborators.azure.list_vaults(vault_id.subscription_id)
    there = enumeration((*(vault.id.path for vault in vaults), *(other.name for other in others)))
    return Failure(
        ErrorCode.VAULT_NOT_FOUND,
        f"there is no vault {vault_id}; subscription {vault_id.subscription_id} has: {there}.",
    )


def restores_guarded(collaborators: Collaborators, vault_id: VaultId) -> Failure | None:
    """The error for a vault whose resource guard has to consent to restores.

    One read per restore, the last before its call: a guard may be linked at any time. Where the link cannot be read (a
    role without that permission, a cloud without the route), the service decides.
    """
    try:
        guard = collaborators.azure.get_resource_guard(vault_id)
    except ArmStatusError as error:
        if error.status in (400, 403, 404):
            return None
        raise
    if guard is None or not guard.guards_restores:
        return None
    return Failure(
        ErrorCode.PROTECTED_BY_RESOURCE_GUARD,
        f"vault {vault_id.name} restores nothing without the consent of its resource guard"
        f" {printable(guard.resource_guard_id, limit=512)} (multi-user authorization); the restore was not sent.",
    )


def protected_items(collaborators: Collaborators, vault_id: VaultId) -> Listing[ProtectedItem] | Failure:
    """What the vault protects; a Failure where there is no such vault."""
    try:
        return collaborators.azure.list_protected_items(vault_id)
    except ArmStatusError as error:
        if error.status == 404 and collaborators.azure.get_vault(vault_id) is None:
            return vault_not_found(collaborators, vault_id)
        raise


def recent_items(
    message: StepMessage[Any],
    collaborators: Collaborators,
    vault_id: VaultId,
    *,
    enough: Callable[[Listing[ProtectedItem]], bool],
) -> Listing[ProtectedItem] | Failure:
    """What the vault protects, listed after the request was made; requests that come together share one listing.

    Once half of the hourly budget is used, a listing that is some minutes old serves a request for which it is
    `enough`: requests for single databases of a large vault would otherwise use the budget up.
    """
    return collaborators.items.get(
        vault_id.key,
        asked=message.since,
        now=collaborators.now,
        load=lambda: protected_items(collaborators, vault_id),
        short=lambda: not collaborators.may_read_more(PROTECTED_ITEM_LISTS),
        enough=lambda known: not isinstance(known, Failure) and enough(known),
    )
