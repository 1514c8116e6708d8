"""The vault a request names: what it protects, and the error that says which vaults there are instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.arm.errors import ArmStatusError
from shared.arm.ids import VaultId
from shared.workflow.selection import listing
from shared.workflow.step import Collaborators, WorkflowError

if TYPE_CHECKING:
    from shared.azure_backup.models import ProtectedItem


def vault_not_found(c: Collaborators, vault_id: VaultId) -> WorkflowError:
    """The error for an unknown vault, naming those there are."""
    there = listing(vault.id.path for vault in c.backup.list_vaults(vault_id.subscription_id))
    return WorkflowError(
        "VaultNotFound",
        f"there is no vault {vault_id}; subscription {vault_id.subscription_id} has: {there}.",
    )


def protected_items(c: Collaborators, vault_id: VaultId) -> list[ProtectedItem]:
    """The databases that the vault protects. Raises WorkflowError where there is no such vault."""
    try:
        return c.backup.list_protected_items(vault_id)
    except ArmStatusError as error:
        if error.status == 404 and c.backup.get_vault(vault_id) is None:
            raise vault_not_found(c, vault_id) from None
        raise
