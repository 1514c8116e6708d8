"""What a selection comes to, and how many outcomes follow."""

from __future__ import annotations

from typing import Any

import pytest

from shared.engine.result import Failure
from shared.messages.identity import Database
from shared.steps.candidates import Candidate
from shared.steps.matching import Match
from shared.steps.selection import Selection

FAILURE = Failure("Odd", "No.")


def candidate(name: str) -> Candidate:
    return Candidate(database=Database(instance="A", name=name))


#: how a database was meant, the reason to skip it, which are skipped, which fail
PASSED_OVER: list[tuple[bool, str | None, list[str], list[str]]] = [
    (True, "stopped", ["a", "A"], []),
    (False, "stopped", [], ["a"]),
    (True, None, [], ["a"]),
]


@pytest.mark.parametrize(("by_pattern", "reason", "skipped", "failed"), PASSED_OVER)
def test_what_only_a_pattern_meant_is_skipped(
    by_pattern: bool, reason: str | None, skipped: list[str], failed: list[str]
) -> None:
    selection: Selection[Any] = Selection()
    selection.pass_over(Match(candidate("a"), by_pattern, (candidate("A"),)), reason, FAILURE)
    assert [database.name for database, _ in selection.skipped] == skipped
    assert [(database.name, failure) for database, failure in selection.failures] == [
        (name, FAILURE) for name in failed
    ]


def test_there_is_an_outcome_for_each_and_one_at_least() -> None:
    assert Selection[Any]().outcome_count == 1
    failures = [(candidate("a").database, FAILURE)]
    assert Selection[Any](tasks=[1, 2], failures=failures).outcome_count == 3


def test_what_is_skipped_is_told_by_reason() -> None:
    skipped = [(candidate(name).database, reason) for name, reason in zip("abcd", "xyxy", strict=True)]
    selection = Selection[Any](skipped=skipped)
    assert selection.reasons == {"x": 2, "y": 2}
    assert selection.skipped_names == ("A/a", "A/c", "A/b", "A/d")
