"""Since when a gap has been open, where only the jobs that changed protection show it.

In listings, recorded jobs that configure, stop or delete protection name only the database (`entityFriendlyName` is
`orders`, where a backup's is `orders [sqlvm1]`); read one by one, they name the container (`ContainerUniqueName`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from shared.azure_backup.models import JobStatus
from shared.clock import ServiceTime
from shared.coverage.states import CoverageState, DatabaseCoverage
from shared.engine.job_matching import is_of
from shared.names import name_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.azure_backup.models import Job

_CONTAINER: Final = "ContainerUniqueName"
#: The operations of jobs that bring a database into a state.
_OPERATIONS: Final = {
    CoverageState.NEVER_BACKED_UP: ("ConfigureBackup",),
    CoverageState.UNPROTECTED: ("DisableBackup", "DeleteBackupData"),
    CoverageState.STOPPED: ("DisableBackup", "DeleteBackupData"),
}
#: The most jobs of one database name whose container is looked up.
_MOST_LOOKED_UP: Final = 3


class Dated(NamedTuple):
    """Databases with the moments that jobs show."""

    databases: list[DatabaseCoverage]
    #: the databases that a job may concern, though not for certain: by place, instance and name
    doubtful: frozenset[tuple[str, str, str]]


def dated(
    databases: Iterable[DatabaseCoverage],
    jobs: Sequence[Job],
    *,
    read: Callable[[str], Job | None],
    most_reads: int,
    others: Iterable[DatabaseCoverage] = (),
) -> Dated:
    """The databases with the moment at which each came into its state, as far as jobs show it.

    `read` reads one job, and is called at most `most_reads` times. A job may belong to one of the `others` with the
    same name. Raises what `read` raises.
    """
    listed = list(databases)
    by_name: dict[str, list[Job]] = {}
    for job in jobs:
        if job.entity_name == job.database and job.status not in (JobStatus.FAILED, JobStatus.CANCELLED):
            by_name.setdefault(name_key(job.entity_name), []).append(job)
    known = [*listed, *others]
    of_name = Counter(name_key(entry.database.name) for entry in known)
    of_name_on_vm = Counter((entry.place_key, name_key(entry.database.name)) for entry in known)
    containers: dict[str, str] = {}
    with_moments: list[DatabaseCoverage] = []
    doubtful: set[tuple[str, str, str]] = set()
    for entry in listed:
        name = name_key(entry.database.name)
        candidates = [
            job
            for job in by_name.get(name, ())
            if entry.since is None
            and any(is_of(job, operation) for operation in _OPERATIONS.get(entry.state, ()))
        ]
        candidates.sort(key=_started, reverse=True)
        moment: ServiceTime | None = None
        if of_name[name] == 1 and candidates:
            moment = candidates[0].start_time
        elif candidates and of_name_on_vm[entry.place_key, name] == 1:
            for job in candidates[:_MOST_LOOKED_UP]:
                if job.id not in containers and len(containers) < most_reads:
                    whole = read(job.id)
                    containers[job.id] = (whole.properties.get(_CONTAINER, "") if whole else "").lower()
                if containers.get(job.id) and containers[job.id] == _container_of(entry):
                    moment = job.start_time
                    break
        if candidates and moment is None:
            doubtful.add(entry.key)
        with_moments.append(replace(entry, since=moment) if moment is not None else entry)
    return Dated(with_moments, frozenset(doubtful))


def _started(job: Job) -> float:
    return job.start_time.timestamp() if job.start_time is not None else 0.0


def _container_of(entry: DatabaseCoverage) -> str:
    """The name of its container as in jobs, without the prefix for its kind."""
    if entry.item_id is not None:
        return entry.item_id.container.name.partition(";")[2].lower()
    machine = entry.database.vm_id
    return f"compute;{machine.resource_group};{machine.name}".lower() if machine is not None else ""
