"""The timeline of a scenario: what happens to machines and databases, and which scheduled backups fail."""

from __future__ import annotations

from datetime import datetime
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from local.simulator.scenario.machines import DatabaseScenario
from local.simulator.scenario.parts import DatabaseName, Moment, Name, Part


class _Event(Part):
    """Something that happens to a virtual machine of the scenario, at a moment of the simulator's clock."""

    at: Moment
    virtual_machine: Name


class MachineStops(_Event):
    """The machine is shut down: scheduled backups of its databases fail."""

    event: Literal["machineStops"]


class MachineStarts(_Event):
    """The machine is started."""

    event: Literal["machineStarts"]


class DatabaseAppears(_Event):
    """A database is created on an instance; the next inquiry finds it."""

    event: Literal["databaseAppears"]
    instance: Name = "MSSQLSERVER"
    database: DatabaseScenario

    @model_validator(mode="after")
    def _is_new(self) -> Self:
        if self.database.protected_by is not None:
            raise ValueError(f"database {self.database.name} appears, and has protectedBy; it is new")
        return self


class DatabaseIsRenamed(_Event):
    """A database is renamed; its protected item keeps the old name, under which there is no database any more."""

    event: Literal["databaseIsRenamed"]
    instance: Name = "MSSQLSERVER"
    database: DatabaseName
    to: DatabaseName


class DatabaseIsDropped(_Event):
    """A database is dropped; its protected item stays."""

    event: Literal["databaseIsDropped"]
    instance: Name = "MSSQLSERVER"
    database: DatabaseName


TimelineEvent = Annotated[
    MachineStops | MachineStarts | DatabaseAppears | DatabaseIsRenamed | DatabaseIsDropped,
    Field(discriminator="event"),
]


class ScheduledFailureScenario(Part):
    """Scheduled backups of these kinds fail for a while, for databases that match shell-style patterns. For backups
    on demand, use `faults`.
    """

    virtual_machine: str = "*"
    database: str = "*"
    kinds: tuple[Literal["Full", "Differential", "Log"], ...] = ("Full", "Differential", "Log")
    since: Moment | None = Field(None, alias="from")
    until: Moment | None = None
    code: str = Field("UserErrorSQLPODoesNotExist", min_length=1)
    message: str = "The backup failed as the scenario says."
    recommendations: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.since is not None and self.until is not None and self.until <= self.since:
            raise ValueError("until must be later than from")
        return self

    def concerns(self, machine: str, database: str, kind: str) -> bool:
        """Whether it is about backups of that kind of the database, at any time."""
        return (
            kind in self.kinds
            and fnmatchcase(machine.lower(), self.virtual_machine.lower())
            and fnmatchcase(database.lower(), self.database.lower())
        )

    def applies(self, at: datetime) -> bool:
        """Whether backups fail at that moment."""
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)
