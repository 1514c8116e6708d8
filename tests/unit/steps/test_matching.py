"""Which databases the selectors of a request mean."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.examples import protectable
from tests.unit.steps.choices import protect, selector
from tests.unit.steps.test_protect_selection import select_for_protection

#: what is there, what is asked, which databases that means
ESTATE = (
    protectable("orders"),
    protectable("Orders_archive"),
    protectable("billing"),
    protectable("weird[1]"),
    protectable("master"),
    protectable("orders", instance="SECOND"),
)
MEANINGS: dict[str, tuple[tuple[str, ...], dict[str, Any], set[str]]] = {
    "one": (("orders",), {}, {"MSSQLSERVER/orders"}),
    "names compare as Azure does": (("mssqlserver/ORDERS",), {}, {"MSSQLSERVER/orders"}),
    "a prefix": (("orders*",), {}, {"MSSQLSERVER/orders", "MSSQLSERVER/Orders_archive"}),
    "all instances": (("*/orders",), {}, {"MSSQLSERVER/orders", "SECOND/orders"}),
    "brackets read literally too": (("weird[1]",), {}, {"MSSQLSERVER/weird[1]"}),
    "a pattern means user databases": (
        ("*",),
        {},
        {"MSSQLSERVER/orders", "MSSQLSERVER/Orders_archive", "MSSQLSERVER/billing", "MSSQLSERVER/weird[1]"},
    ),
    "system databases by wish": (("m*",), {"includeSystem": True}, {"MSSQLSERVER/master"}),
    "a system database by name": (("master",), {}, {"MSSQLSERVER/master"}),
    "excluded": (("orders*",), {"exclude": [selector("*archive")]}, {"MSSQLSERVER/orders"}),
    "named twice": (("orders", "ORD?RS", "Orders"), {}, {"MSSQLSERVER/orders"}),
}


@pytest.mark.parametrize(("asked", "data", "expected"), MEANINGS.values(), ids=MEANINGS)
def test_what_selectors_mean(asked: tuple[str, ...], data: dict[str, Any], expected: set[str]) -> None:
    chosen = select_for_protection(protect(*asked, **data), *ESTATE)
    assert [str(task.candidate.database) for task in chosen.tasks].count("MSSQLSERVER/orders") <= 1
    assert {str(task.candidate.database) for task in chosen.tasks} == expected


def test_a_name_that_matches_nothing_fails_beside_the_others_and_says_what_there_is() -> None:
    chosen = select_for_protection(protect("orders", "nope", "NOPE", "x*"), *ESTATE)
    assert len(chosen.tasks) == 1
    errors = {database.name: error for database, error in chosen.failures}
    assert set(errors) == {"nope", "x*"}
    assert chosen.outcome_count == 3
    assert len({database.key for database, _ in chosen.failures}) == 2
    assert "MSSQLSERVER/billing" in errors["nope"].message


def test_what_is_excluded_is_not_missed() -> None:
    chosen = select_for_protection(protect("orders", exclude=[selector("orders")]), *ESTATE)
    assert not chosen.tasks and not chosen.failures
    assert chosen.outcome_count == 1
