"""What a selection comes to: the databases to work on, those that fail at once, and those that are skipped."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from shared.engine.result import Failure
from shared.messages.identity import Database
from shared.steps.matching import Match

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Selection(Generic[T]):
    """The result of a selection: work, databases that fail at once, and those skipped, by reason."""

    tasks: list[T] = field(default_factory=list)
    failures: list[tuple[Database, Failure]] = field(default_factory=list)
    skipped: list[tuple[Database, str]] = field(default_factory=list)
    #: how many selectors match no known database
    missed: int = 0

    def pass_over(self, match: Match, reason: str | None, failure: Failure) -> None:
        """Skip a match of a pattern; one that is named, or without a reason to skip it, fails."""
        if match.by_pattern and reason is not None:
            passed = (match.candidate, *match.namesakes)
            self.skipped.extend((candidate.database, reason) for candidate in passed)
        else:
            self.failures.append((match.candidate.database, failure))

    @property
    def outcome_count(self) -> int:
        """How many outcomes will follow: at least one."""
        return max(1, len(self.tasks) + len(self.failures))

    @property
    def reasons(self) -> dict[str, int]:
        """How many were skipped, by reason."""
        return dict(Counter(reason for _, reason in self.skipped))

    @property
    def skipped_names(self) -> tuple[str, ...]:
        """The databases that were skipped, in the order of their `reasons`."""
        order = list(self.reasons)
        ordered = sorted(self.skipped, key=lambda skipped: order.index(skipped[1]))
        return tuple(str(database) for database, _ in ordered)
