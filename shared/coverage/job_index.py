"""The jobs of each database, among a vault's."""

from __future__ import annotations

from collections.abc import Iterable

from shared.azure_backup.models import Job
from shared.engine.job_matching import names
from shared.messages.identity import Database
from shared.names import name_key


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
