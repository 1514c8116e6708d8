"""What every function of this process shares."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from shared.bus import Bus
from shared.clock import Clock, ServiceClock
from shared.engine.table import Table
from shared.listing_cache import ItemCache, JobCache
from shared.settings import Settings

if TYPE_CHECKING:
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
