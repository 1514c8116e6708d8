"""The databases of a vault, as its listings show them, and what listings and jobs say of each besides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace

from shared.arm.ids import ContainerId
from shared.azure_backup.listings import Unusable
from shared.azure_backup.models import Job, JobStatus, ProtectedItem
from shared.clock import ServiceTime
from shared.coverage.vault_listings import VaultListings
from shared.drills import DrillTarget, is_drill_database
from shared.engine.job_matching import is_of, names
from shared.messages.identity import Database
from shared.names import name_key
from shared.steps.candidates import Candidate

_SUCCEEDED = (JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_WARNINGS)
_NOT_DONE = (JobStatus.FAILED, JobStatus.CANCELLED)


class JobIndex:
    """A vault's jobs, by the name of the database that each names."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._by_name: dict[str, list[Job]] = {}
        for job in jobs:
            self._by_name.setdefault(name_key(job.database), []).append(job)

    def of(self, database: Database, server_name: str) -> list[Job]:
        """The jobs that may be of a database: those that name it, and no other host than `server_name`."""
        named = [
            *self._by_name.get(name_key(database.name), ()),
            *self._by_name.get(name_key(f"{database.parent}/{database.name}"), ()),
        ]
        return [job for job in named if names(job.entity_name, database, server_name)]


class Inventory:
    """The listings of one vault, indexed. Drill databases on `drill_targets` are no part of it."""

    def __init__(self, listings: VaultListings, drill_targets: Collection[DrillTarget]) -> None:
        self.listings = listings
        self.containers = {container.id: container for container in listings.containers.usable}
        self._registered = {
            *self.containers,
            *(unusable.container for unusable in listings.containers.unusable),
        }
        self._machines = dict(listings.machines)
        for item in listings.protected.usable:
            if item.virtual_machine_id is not None:
                self._machines.setdefault(item.id.container, item.virtual_machine_id)
        self._auto_protected = {
            (item.container, name_key(item.name))
            for item in listings.protectable.usable
            if item.is_auto_protected and not item.is_database
        }
        self._jobs = JobIndex(listings.jobs)
        self.candidates = [
            candidate
            for candidate in self._candidates()
            if not is_drill_database(candidate.database, drill_targets)
        ]
        #: how many databases of one name there are in a container: jobs may not tell them apart
        self._same_names = Counter(
            (_container_of(candidate), name_key(candidate.database.name)) for candidate in self.candidates
        )

    def _candidates(self) -> list[Candidate]:
        """Every listed database once; the live item where one was deleted and protected anew."""
        listings = self.listings
        known: dict[tuple[ContainerId, str, str], Candidate] = {}
        for listed in listings.protected.usable:
            item = listings.read.get(listed.id, listed)
            container = item.id.container
            key = (container, name_key(item.instance), item.name)
            if key not in known or _is_soft_deleted(known[key]):
                database = self._database(
                    container, item.instance, item.name, in_group=item.in_availability_group
                )
                known[key] = Candidate(database=database, protected=item)
        for offered in listings.protectable.usable:
            if not offered.is_database:
                continue
            container = offered.container
            key = (container, name_key(offered.instance), offered.name)
            if key not in known:
                database = self._database(
                    container, offered.instance, offered.name, in_group=offered.in_availability_group
                )
                known[key] = Candidate(database=database, protectable=offered)
            elif _is_soft_deleted(known[key]):
                known[key] = replace(known[key], protectable=offered)
        return [*known.values()] + [
            Candidate(database=self.unusable_database(unusable), unusable=unusable)
            for unusable in (*listings.protected.unusable, *listings.protectable.unusable)
            if unusable.is_database
        ]

    def _database(self, container: ContainerId, parent: str, name: str, *, in_group: bool) -> Database:
        return Database.inside(parent, name, group=in_group, vm_id=self._machines.get(container))

    def unusable_database(self, unusable: Unusable) -> Database:
        """The database of an entry that this app cannot use, as far as it is known."""
        machine = unusable.virtual_machine_id
        if machine is None and unusable.container is not None:
            machine = self._machines.get(unusable.container)
        return Database.inside(
            unusable.parent, unusable.name, group=unusable.in_availability_group, vm_id=machine
        )

    def is_registered(self, container: ContainerId) -> bool:
        """Whether the vault lists a container, usable or not."""
        return container in self._registered

    def is_auto_protected(self, candidate: Candidate) -> bool:
        """Whether a protection intent protects what is new on its instance or in its group."""
        return (_container_of(candidate), name_key(candidate.database.parent)) in self._auto_protected

    # -- its jobs

    def is_backup_running(self, candidate: Candidate) -> bool:
        """Whether a backup of it runs."""
        return any(is_of(job, "Backup") and not job.status.has_ended for job in self._jobs_of(candidate))

    def last_job(self, candidate: Candidate, operation: str) -> ServiceTime | None:
        """When the newest job of that operation started that did not fail."""
        return _newest_start(
            job for job in self._jobs_of(candidate) if is_of(job, operation) and job.status not in _NOT_DONE
        )

    def last_good_backup(self, candidate: Candidate, item: ProtectedItem) -> ServiceTime | None:
        """The newest moment that can be restored, as far as known."""
        return item.last_recovery_point or _newest_start(
            job for job in self._jobs_of(candidate) if is_of(job, "Backup") and job.status in _SUCCEEDED
        )

    def _jobs_of(self, candidate: Candidate) -> list[Job]:
        """A database's jobs, where they cannot be those of another of its name."""
        container = _container_of(candidate)
        if container is None or self._same_names[container, name_key(candidate.database.name)] > 1:
            return []
        jobs = self._jobs.of(candidate.database, candidate.server_name)
        return [job for job in jobs if job.entity_name != job.database]


def _is_soft_deleted(candidate: Candidate) -> bool:
    return candidate.protected is not None and candidate.protected.is_scheduled_for_deferred_delete


def _container_of(candidate: Candidate) -> ContainerId | None:
    if candidate.protected is not None:
        return candidate.protected.id.container
    if candidate.protectable is not None:
        return candidate.protectable.container
    return candidate.unusable.container if candidate.unusable is not None else None


def _newest_start(jobs: Iterable[Job]) -> ServiceTime | None:
    return max((job.start_time for job in jobs if job.start_time is not None), default=None)
