"""What every function of this process shares."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from shared.arm.budget import WRITES, reads_per_hour
from shared.bus import Bus
from shared.clock import Clock, ServiceClock
from shared.engine.message import StepMessage
from shared.engine.result import Collaborators, GrownTick
from shared.engine.table import Table
from shared.listing_cache import ItemCache, JobCache
from shared.settings import Settings

if TYPE_CHECKING:
    from shared.arm.ids import VaultId
    from shared.azure_backup.operations import AzureBackup

_MOST_REMEMBERED: Final = 10_000


class GivenBack:
    """Deliveries that this process gave back because the bus took nothing: they did not kill their process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids: dict[tuple[str, str], None] = {}

    def add(self, queue: str, message_id: str) -> None:
        """Remember a delivery; the oldest is forgotten where there are too many."""
        with self._lock:
            self._ids[(queue, message_id)] = None
            while len(self._ids) > _MOST_REMEMBERED:
                del self._ids[next(iter(self._ids))]

    def take(self, queue: str, message_id: str) -> bool:
        """Whether it was remembered; forgets it."""
        with self._lock:
            return self._ids.pop((queue, message_id), self) is None


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What every function of this process shares."""

    settings: Settings
    bus: Bus
    backup: AzureBackup
    clock: Clock
    service_clock: ServiceClock
    table: Table
    #: the last listing of each vault's jobs, shared by all that are followed
    listings: JobCache = field(default_factory=JobCache)
    #: the last listing of each vault's protected items
    items: ItemCache = field(default_factory=ItemCache)
    given_back: GivenBack = field(default_factory=GivenBack)


def collaborate(
    runtime: Runtime, message: StepMessage[Any], *, grown_tick: GrownTick | None = None
) -> Collaborators:
    """What a step may use while it handles a message."""
    vault_id = message.request.vault_id
    return Collaborators(
        azure=runtime.backup,
        settings=runtime.settings,
        now=runtime.service_clock.now,
        machine_now=runtime.clock.now,
        grown_tick=grown_tick,
        items=runtime.items,
        may_read_more=lambda action: plenty_of_reads(runtime, vault_id, action),
        write_pace=lambda: runtime.backup.budget.pace(
            vault_id.subscription_id if vault_id is not None else "", WRITES
        ),
        reads_left=lambda action: _reads_left(runtime, vault_id, action),
    )


def plenty_of_reads(runtime: Runtime, vault_id: VaultId | None, action: str) -> bool:
    """Whether more than half of an action's hourly budget is left in the vault's subscription."""
    return _share_left(runtime, vault_id, action) > 0.5


def some_reads(runtime: Runtime, vault_id: VaultId | None, action: str) -> bool:
    """Whether single lookups by an action leave enough of its hourly budget to others."""
    return _share_left(runtime, vault_id, action) > 0.2


def _share_left(runtime: Runtime, vault_id: VaultId | None, action: str) -> float:
    return _reads_left(runtime, vault_id, action) / reads_per_hour(action)


def _reads_left(runtime: Runtime, vault_id: VaultId | None, action: str) -> int:
    """How many reads of an action are left this hour in the vault's subscription."""
    if vault_id is None:
        return reads_per_hour(action)
    return runtime.backup.budget.left(vault_id.subscription_id, action)
