"""Which databases are drilled next: those whose last drill is longest ago, and a fixed rotation where no job tells.

The jobs of the last 30 days tell when a database was last drilled: the client request ids of drills' restores bear
a mark and a hash of the database. A drill that ended before its restore had a job (nothing to restore, too large)
leaves no trace, so one such database would take every turn. Therefore jobs decide half of the turns, and a rotation
the other half: in it, each database comes up once in a number of days, whatever happened to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import TYPE_CHECKING, Any, Final

from shared.arm.ids import VaultId
from shared.clock import ServiceTime
from shared.engine import job_matching
from shared.engine.result import Collaborators
from shared.messages.identity import Database, drill_digest, drill_of, fingerprint
from shared.steps.candidates import Candidate

if TYPE_CHECKING:
    from shared.azure_backup.models import Job

#: How far back a vault's jobs reach.
JOBS_REACH: Final = timedelta(days=30)
#: How far back a database's last full is looked for: policies take one per day or week. The last reach is used only
#: where the earlier ones had few pages.
_FULLS: Final = (timedelta(days=1), timedelta(days=8), timedelta(days=31))
_FEW_PAGES: Final = 5
#: Jobs that may belong to one database or to a namesake.
_MOST_READ: Final = 3


def last_drills(collaborators: Collaborators, vault_id: VaultId) -> dict[str, ServiceTime]:
    """When databases were last drilled, by their digests: every drill that had a restore job counts."""
    jobs = collaborators.azure.list_jobs(
        vault_id,
        start=collaborators.now() - JOBS_REACH,
        operation="Restore",
        kept=lambda job: drill_of(job.activity_id) is not None,
    )
    newest: dict[str, ServiceTime] = {}
    for job in jobs:
        drilled = drill_of(job.activity_id)
        assert drilled is not None
        if job.start_time is not None:
            newest[drilled[0]] = max(job.start_time, newest.get(drilled[0], job.start_time))
    return newest


def in_turn(
    databases: Sequence[Database], drilled: dict[str, ServiceTime], *, count: int, now: ServiceTime
) -> list[Database]:
    """The databases in the order in which they are to be drilled.

    Args:
        databases: each once.
        drilled: when they were last drilled, by digest, as far as is known.
        count: how many are drilled per day.
        now: decides the day, in UTC.
    """
    named = {database.key: database for database in databases}
    fixed = sorted(named, key=lambda key: fingerprint("drill turn", key))
    day = now.astimezone(UTC).date().toordinal()
    days = max(1, ceil(len(fixed) / count))
    midnight = datetime.combine(now.astimezone(UTC).date(), datetime.min.time(), UTC)
    known = {key: drilled.get(drill_digest(key)) for key in fixed}
    until = {key: (position // count - day) % days for position, key in enumerate(fixed)}
    # The day on which the rotation reaches them; today's has not come yet.
    came_by = {key: midnight - timedelta(days=days - until[key]) for key in fixed}

    def by_jobs(key: str) -> tuple[Any, ...]:
        last = known[key]
        return (last is not None, last or midnight, until[key])

    def by_rotation(key: str) -> tuple[Any, ...]:
        last, came = known[key], came_by[key]
        # A drill counts for the day on which it was done.
        day_of = last.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) if last else came
        return (max(day_of, came), last is not None, last or came, until[key])

    # Sorting is stable, so equal ones stay in the fixed order.
    return [named[key] for key in _alternating(sorted(fixed, key=by_jobs), sorted(fixed, key=by_rotation))]


def _alternating(first: Sequence[str], second: Sequence[str]) -> Iterator[str]:
    taken: set[str] = set()
    turns = (iter(first), iter(second))
    for _ in first:
        for turn in turns:
            following = next((key for key in turn if key not in taken), None)
            if following is not None:
                taken.add(following)
                yield following


@dataclass
class Sizes:
    """Sizes of databases by their last full: only a single job, not the list, tells how much was transferred."""

    collaborators: Collaborators
    vault_id: VaultId
    available: Sequence[Candidate]
    _jobs: list[Job] = field(default_factory=list)
    _windows: int = 0
    _pages: int = 0

    def of(self, candidate: Candidate) -> float | None:
        """The size of a database in MB; None where no full in reach tells it."""
        while not (jobs := self._fulls_of(candidate)) and self._look_further():
            pass
        namesakes = sum(
            other.server_name.lower() == candidate.server_name.lower()
            and other.database.name.lower() == candidate.database.name.lower()
            for other in self.available
        )
        most = _MOST_READ if namesakes > 1 else 1
        sizes = [size for job in jobs[:most] if (size := self._size(job)) is not None]
        return max(sizes, default=None)

    def _fulls_of(self, candidate: Candidate) -> list[Job]:
        server = candidate.server_name
        return [job for job in self._jobs if job_matching.names(job.entity_name, candidate.database, server)]

    def _look_further(self) -> bool:
        """List the fulls before those that are known, the newest first; False where enough has been listed."""
        number = self._windows
        if number >= len(_FULLS) or (number == len(_FULLS) - 1 and self._pages > _FEW_PAGES):
            return False
        now = self.collaborators.now()
        end = now - _FULLS[number - 1] if number else None
        pages: list[int] = []
        fulls = self.collaborators.azure.list_jobs(
            self.vault_id,
            start=now - _FULLS[number],
            end=end,
            operation="Backup",
            counted=pages.append,
            kept=_is_full,
        )
        fulls.sort(key=lambda job: job.start_time or datetime.min.replace(tzinfo=UTC), reverse=True)
        self._jobs += fulls
        self._windows += 1
        self._pages += sum(pages)
        return True

    def _size(self, job: Job) -> float | None:
        whole = self.collaborators.azure.get_job(self.vault_id, job.id)
        return whole.transferred_mb if whole is not None else None


def _is_full(job: Job) -> bool:
    return "full" in job.operation.lower() and job.status.value.startswith("Completed")
