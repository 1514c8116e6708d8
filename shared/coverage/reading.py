"""Reads the listings of a vault in as few calls as possible; changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from shared.arm.budget import PROTECTED_ITEM_READS, RequestBudget, reads_per_hour
from shared.arm.ids import ProtectedItemId, VaultId
from shared.azure_backup.listings import Listing
from shared.coverage.survey import VaultListings

if TYPE_CHECKING:
    from shared.azure_backup.calls import Reads
    from shared.azure_backup.models import ProtectedItem
    from shared.coverage.states import DatabaseCoverage

#: The most that coverage takes of an hour's single reads of protected items: backups need them too.
_SHARE_OF_READS: Final = 4
_NOTHING: Final[Listing[Any]] = Listing([], [])


def read_listings(azure: Reads, vault_id: VaultId) -> VaultListings:
    """Read a vault's containers and protected items and, if there are any, its protectable items and policies.

    Raises what `azure` raises.
    """
    containers = azure.list_registered_containers(vault_id)
    protected = azure.list_protected_items(vault_id)
    known = any((*containers, *protected))
    return VaultListings(
        vault_id=vault_id,
        protected=protected,
        protectable=azure.list_protectable_items(vault_id) if known else _NOTHING,
        containers=containers,
        policies=azure.list_policies(vault_id) if known else (),
    )


def single_reads_left(budget: RequestBudget, vault_id: VaultId) -> int:
    """How many protected items coverage may read one by one now.

    A quarter of what an hour allows, as long as that leaves three quarters for others.
    """
    left = budget.left(vault_id.subscription_id, PROTECTED_ITEM_READS)
    whole = reads_per_hour(PROTECTED_ITEM_READS)
    return a_quarter(PROTECTED_ITEM_READS, left=left, beside=whole - whole // _SHARE_OF_READS)


def a_quarter(action: str, *, left: int, beside: int) -> int:
    """How many reads of an action coverage may make: a quarter of the hour's, with `beside` left for others."""
    return max(0, min(reads_per_hour(action) // _SHARE_OF_READS, left - beside))


def unread(databases: Iterable[DatabaseCoverage], most: int) -> list[ProtectedItemId]:
    """The protected items whose recovery model settles their state, the oldest backup first."""
    open_ones = [one for one in databases if one.needs_recovery_model]
    open_ones.sort(key=lambda one: (one.last_backup_time is not None, one.last_backup_time))
    return [one.item_id for one in open_ones[:most] if one.item_id is not None]


def with_read(
    listings: VaultListings,
    items: Iterable[ProtectedItemId],
    get: Callable[[ProtectedItemId], ProtectedItem | None],
) -> VaultListings:
    """The listings with these items read one by one. Raises what `get` raises."""
    found = {item: read for item in items if (read := get(item)) is not None}
    return replace(listings, read={**listings.read, **found})
