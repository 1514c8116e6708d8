"""What no listing shows, read one by one: recovery models and last good backups. Budgets bound how much is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from shared.arm.budget import PROTECTED_ITEM_READS, RECOVERY_POINT_READS, RequestBudget, reads_per_hour
from shared.arm.errors import ArmStatusError
from shared.arm.ids import ProtectedItemId, VaultId
from shared.clock import ServiceTime
from shared.coverage.states import CoverageState, DatabaseCoverage
from shared.coverage.vault_listings import VaultListings
from shared.engine.result import Collaborators
from shared.messages.identity import fingerprint

if TYPE_CHECKING:
    from shared.azure_backup.models import ProtectedItem

#: The most that coverage takes of an hour's single reads of one kind: backups need them too.
_SHARE_OF_READS: Final = 4


def reads_left(action: str, collaborators: Collaborators) -> int:
    """How many single reads of an action a survey may make: a quarter of the hour's, with half left for others."""
    return _a_quarter(action, left=collaborators.reads_left(action), reserved=reads_per_hour(action) // 2)


def item_reads_left(budget: RequestBudget, vault_id: VaultId) -> int:
    """How many protected items may be read one by one now.

    A quarter of what an hour allows, as long as that leaves three quarters for others.
    """
    left = budget.left(vault_id.subscription_id, PROTECTED_ITEM_READS)
    whole = reads_per_hour(PROTECTED_ITEM_READS)
    return _a_quarter(PROTECTED_ITEM_READS, left=left, reserved=whole - whole // _SHARE_OF_READS)


def _a_quarter(action: str, *, left: int, reserved: int) -> int:
    return max(0, min(reads_per_hour(action) // _SHARE_OF_READS, left - reserved))


def unread(databases: Iterable[DatabaseCoverage], most: int) -> list[ProtectedItemId]:
    """The protected items whose recovery model settles their state, the oldest backup first."""
    entries = [entry for entry in databases if entry.needs_recovery_model]
    entries.sort(key=lambda entry: (entry.last_backup_time is not None, entry.last_backup_time))
    return [entry.item_id for entry in entries[:most] if entry.item_id is not None]


def with_read(
    listings: VaultListings,
    items: Iterable[ProtectedItemId],
    get: Callable[[ProtectedItemId], ProtectedItem | None],
) -> VaultListings:
    """The listings with these items read one by one. Raises what `get` raises."""
    read = {item: current for item in items if (current := get(item)) is not None}
    return replace(listings, read={**listings.read, **read})


def read_recovery_models(
    databases: Iterable[DatabaseCoverage],
    listings: VaultListings,
    now: ServiceTime,
    collaborators: Collaborators,
) -> VaultListings:
    """The listings with the items read that are stale only by their log backups: the recovery model decides."""
    items = [entry.item_id for entry in databases if entry.needs_recovery_model and entry.item_id is not None]
    return with_read(
        listings,
        _in_turn(items, PROTECTED_ITEM_READS, now, collaborators),
        collaborators.azure.get_protected_item,
    )


def read_last_good_backups(
    databases: Iterable[DatabaseCoverage], now: ServiceTime, collaborators: Collaborators
) -> dict[str, ServiceTime | None]:
    """The last good backups of failing databases, by the key of their item; None where there is none.

    Without it, each failure would be another gap.
    """
    items = [
        entry.item_id
        for entry in databases
        if entry.state is CoverageState.FAILING and entry.item_id is not None
    ]
    return {
        item.key: _last_good_backup(item, collaborators)
        for item in _in_turn(items, RECOVERY_POINT_READS, now, collaborators)
    }


def _in_turn(
    items: Iterable[ProtectedItemId], action: str, now: ServiceTime, collaborators: Collaborators
) -> list[ProtectedItemId]:
    """As many items as may be read. Where that is not all of them, each survey chooses others."""
    order = sorted(items, key=lambda item: fingerprint(item.key, now.isoformat()))
    return order[: reads_left(action, collaborators)]


def _last_good_backup(item: ProtectedItemId, collaborators: Collaborators) -> ServiceTime | None:
    """The newest full or differential: log backups that go on while those fail would change it each time."""
    try:
        points = collaborators.azure.list_recovery_points(item)
    except ArmStatusError as error:
        # The item was deleted after it was listed.
        if error.status == 404:
            return None
        raise
    whole = [point.time for point in points if not point.is_log and point.time is not None]
    ends = [span.end for point in points for span in point.time_ranges]
    return max(whole, default=None) or max(ends, default=None)


def with_last_good(
    databases: Iterable[DatabaseCoverage], last_good: Mapping[str, ServiceTime | None]
) -> list[DatabaseCoverage]:
    """The databases, since when by their last good backups where those were found."""
    return [
        replace(entry, since=moment)
        if entry.item_id is not None and (moment := last_good.get(entry.item_id.key)) is not None
        else entry
        for entry in databases
    ]
