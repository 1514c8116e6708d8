"""Which databases a survey is about, and what they have to meet."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

from shared.coverage.states import EVERY_DATABASE
from shared.drills import DrillTarget
from shared.messages.identity import Database
from shared.messages.requests import EVERYTHING, SYSTEM_DATABASES, DatabaseSelector
from shared.names import name_key


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Which databases are asked about, and what they have to meet."""

    databases: Sequence[DatabaseSelector] = EVERYTHING
    exclude: Sequence[DatabaseSelector] = ()
    include_system: bool = False
    #: how old the last backup may be; None: the policy decides
    max_age: timedelta | None = None
    #: the policy that should protect them; None: any
    policy_name: str | None = None
    #: drill databases on these targets are left out
    drill_targets: Collection[DrillTarget] = ()

    @property
    def is_everything(self) -> bool:
        """Whether it names no database."""
        return tuple(self.databases) == EVERYTHING

    def excludes(self, database: Database) -> bool:
        """Whether the scope leaves a database out on purpose."""
        if name_key(database.name) in SYSTEM_DATABASES and not self.include_system:
            return True
        in_group = database.availability_group is not None
        return any(selector.matches(database.parent, database.name, in_group) for selector in self.exclude)

    def may_include(self, databases: Database) -> bool:
        """Whether it may mean some databases of a VM, an instance or a group of which none can be named."""
        in_group = databases.availability_group is not None
        return any(
            selector.matches_parent(databases.parent, in_group)
            or (databases.parent == EVERY_DATABASE and not in_group)
            for selector in self.databases
        )
