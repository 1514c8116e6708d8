"""Since when a gap has been open, where only the jobs that changed protection show it.

In listings, recorded jobs that configure, stop or delete protection name only the database (`entityFriendlyName` is
`orders`, where a backup's is `orders [sqlvm1]`); read one by one, they name the container (`ContainerUniqueName`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from shared.azure_backup.models import JobStatus
from shared.coverage.gaps import place_of
from shared.coverage.states import CoverageState, DatabaseCoverage
from shared.engine.job_matching import is_of
from shared.names import name_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.azure_backup.models import Job

_CONTAINER: Final = "ContainerUniqueName"
#: The operations of jobs that bring a database into its state.
_BY: Final = {
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


def key_of(one: DatabaseCoverage) -> tuple[str, str, str]:
    """Identifies a database within its vault."""
    return place_of(one), name_key(one.database.parent), one.database.name


def dated(
    databases: Iterable[DatabaseCoverage],
    jobs: Sequence[Job],
    *,
    read: Callable[[str], Job | None],
    most_reads: int,
    beside: Iterable[DatabaseCoverage] = (),
) -> Dated:
    """The databases with the moment at which each came into its state, as far as jobs show it.

    `read` reads one job, and is called at most `most_reads` times. A job may belong to a database in `beside` with the
    same name. Raises what `read` raises.
    """
    listed = list(databases)
    by_name: dict[str, list[Job]] = {}
    for job in jobs:
        if job.entity_name == job.database and job.status not in (JobStatus.FAILED, JobStatus.CANCELLED):
            by_name.setdefault(name_key(job.entity_name), []).append(job)
    known = [*listed, *beside]
    called_so = Counter(name_key(one.database.name) for one in known)
    on_one_vm = Counter((place_of(one), name_key(one.database.name)) for one in known)
    containers: dict[str, str] = {}
    found: list[DatabaseCoverage] = []
    doubtful: set[tuple[str, str, str]] = set()
    for one in listed:
        name = name_key(one.database.name)
        candidates = [
            job
            for job in by_name.get(name, ())
            if one.since is None and any(is_of(job, operation) for operation in _BY.get(one.state, ()))
        ]
        candidates.sort(key=_started, reverse=True)
        moment: datetime | None = None
        if called_so[name] == 1 and candidates:
            moment = candidates[0].start_time
        elif candidates and on_one_vm[place_of(one), name] == 1:
            for job in candidates[:_MOST_LOOKED_UP]:
                if job.id not in containers and len(containers) < most_reads:
                    whole = read(job.id)
                    containers[job.id] = (whole.properties.get(_CONTAINER, "") if whole else "").lower()
                if containers.get(job.id) and containers[job.id] == _container_of(one):
                    moment = job.start_time
                    break
        if candidates and moment is None:
            doubtful.add(key_of(one))
        found.append(replace(one, since=moment) if moment is not None else one)
    return Dated(found, frozenset(doubtful))


def _started(job: Job) -> float:
    return job.start_time.timestamp() if job.start_time is not None else 0.0


def _container_of(one: DatabaseCoverage) -> str:
    """The name of its container as in jobs, without the prefix for its kind."""
    if one.item_id is not None:
        return one.item_id.container.name.partition(";")[2].lower()
    machine = one.database.vm_id
    return f"compute;{machine.resource_group};{machine.name}".lower() if machine is not None else ""
