"""The vault a request names: what it protects, and the error that says which vaults there are instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.arm.errors import ArmStatusError
from shared.arm.ids import VaultId
from shared.engine.result import Collaborators, Failure
from shared.messages.error_codes import ErrorCode
from shared.steps.selection import listing

if TYPE_CHECKING:
    from shared.azure_backup.listings import Listing
    from shared.azure_backup.models import ProtectedItem


def vault_not_found(c: Collaborators, vault_id: VaultId) -> Failure:
    """The error for an unknown vault, naming the existing ones."""
    vaults, others = c.azure.list_vaults(vault_id.subscription_id)
    there = listing((*(vault.id.path for vault in vaults), *(other.name for other in others)))
    return Failure(
        ErrorCode.VAULT_NOT_FOUND,
        f"there is no vault {vault_id}; subscription {vault_id.subscription_id} has: {there}.",
    )


def protected_items(c: Collaborators, vault_id: VaultId) -> Listing[ProtectedItem] | Failure:
    """What the vault protects; a Failure where there is no such vault."""
    try:
        return c.azure.list_protected_items(vault_id)
    except ArmStatusError as error:
        if error.status == 404 and c.azure.get_vault(vault_id) is None:
            return vault_not_found(c, vault_id)
        raise
