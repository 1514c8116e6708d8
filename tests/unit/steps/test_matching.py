"""Which databases the selectors of a request mean."""

from __future__ import annotations

from typing import Any

import pytest

from shared.azure_backup.listings import Listing, Unusable
from shared.azure_backup.models import ProtectedItem
from shared.messages.identity import Database
from shared.messages.requests import DatabaseSelector
from shared.steps.candidates import candidates
from shared.steps.matching import Meaning, called, match
from tests.unit.examples import protectable, protected
from tests.unit.steps.choices import protect, selector
from tests.unit.steps.test_candidates import OTHER_VM, of_group, unusable
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


def meant(
    *items: Any,
    databases: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
    include_system: bool = False,
) -> Meaning:
    """What selectors mean of candidates that are protected, or of the entries that cannot be used."""
    listing = Listing(
        [item for item in items if isinstance(item, ProtectedItem)],
        [item for item in items if isinstance(item, Unusable)],
    )
    return match(
        candidates(listing, vm_id=None),
        databases=[selector_of(text) for text in databases],
        exclude=[selector_of(text) for text in exclude],
        include_system=include_system,
    )


def selector_of(text: str) -> DatabaseSelector:
    """`ag:` before an availability group."""
    parent, _, name = text.rpartition("/")
    kind = "availabilityGroup" if parent.startswith("ag:") else "instance"
    return DatabaseSelector.model_validate(
        {kind: parent.removeprefix("ag:") or "MSSQLSERVER", "database": name}
    )


def named(meaning: Meaning) -> list[tuple[list[str], bool]]:
    """The names of each match, with its namesakes, and whether a pattern meant it."""
    return [
        ([each.database.name for each in (found.candidate, *found.namesakes)], found.by_pattern)
        for found in meaning.matches
    ]


def nameless() -> Unusable:
    """An entry of which neither name nor instance can be read."""
    return unusable("(entry 1)", code="NotReadable", is_nameless=True, parent="")


#: what is there, what is asked, the matches, the selectors that are missed
MATCHES: dict[str, tuple[list[Any], tuple[str, ...], list[tuple[list[str], bool]], list[str]]] = {
    "by name": ([protected("a"), protected("b")], ("a",), [(["a"], False)], []),
    "by pattern": ([protected("a"), protected("b")], ("[a]",), [(["a"], True)], []),
    "by name before by pattern": (
        [protected("a"), protected("ab")],
        ("a*", "ab"),
        [(["ab"], False), (["a"], True)],
        [],
    ),
    "a star is everything, even where a database is called so": (
        [protected("*"), protected("b")],
        ("*",),
        [(["*"], True), (["b"], True)],
        [],
    ),
    "two in other cases": ([protected("A"), protected("a")], ("a",), [(["a"], False)], []),
    "two in other cases, and neither exactly": (
        [protected("Ab"), protected("aB")],
        ("ab",),
        [(["Ab", "aB"], False)],
        [],
    ),
    "two in other cases by pattern": (
        [protected("Ab"), protected("aB")],
        ("a*",),
        [(["Ab", "aB"], True)],
        [],
    ),
    "both named": ([protected("Ab"), protected("aB")], ("aB", "Ab"), [(["aB", "Ab"], False)], []),
    "of another instance": ([protected("a", instance="B")], ("a",), [], ["MSSQLSERVER/a"]),
    "a group is no instance": (
        [of_group("a")],
        ("ag1/a", "ag:ag1/a", "ag:*/*"),
        [(["a"], False)],
        ["ag1/a"],
    ),
    "everything misses nothing": ([protected("a")], ("*/*", "ag:*/*"), [(["a"], True)], []),
    "but a name does": ([protected("a")], ("*/*", "ag:*/b"), [(["a"], True)], ["*/b"]),
    "everything of nothing is missed": ([], ("*/*",), [], ["*/*"]),
    "named twice in two spellings, missed once": ([], ("x", "X"), [], ["MSSQLSERVER/x"]),
    "only a system database": ([protected("master")], ("m*",), [], ["MSSQLSERVER/m*"]),
    "an entry without a name may be anything": ([nameless()], ("SQL2019/o*",), [(["(entry 1)"], True)], []),
    "an entry without a name is not what is named": ([nameless()], ("orders",), [], ["MSSQLSERVER/orders"]),
    "an entry without an instance may be of any": (
        [unusable("orders", parent="")],
        ("SQL2019/orders", "A/o*"),
        [(["orders"], False)],
        [],
    ),
    "an entry without an instance, by pattern": (
        [unusable("orders", parent="")],
        ("A/o*",),
        [(["orders"], True)],
        [],
    ),
    "a name that is shown escaped": ([unusable("a\nb")], ("a\\nb",), [(["a\nb"], False)], []),
}


@pytest.mark.parametrize(("items", "asked", "matches", "missed"), MATCHES.values(), ids=MATCHES)
def test_what_is_meant_and_missed(
    items: list[Any], asked: tuple[str, ...], matches: list[tuple[list[str], bool]], missed: list[str]
) -> None:
    meaning = meant(*items, databases=asked)
    assert named(meaning) == matches
    assert [str(selector) for selector in meaning.missed] == missed


def test_what_a_rule_leaves_out_is_told_with_the_rule() -> None:
    items = [protected(name) for name in ("master", "a", "b")]
    meaning = meant(*items, databases=("*",), exclude=("a",))
    assert named(meaning) == [(["b"], True)]
    assert [(database.name, rule) for database, rule in meaning.left_out] == [
        ("master", "systemDatabase"),
        ("a", "excluded"),
    ]
    assert meaning.missed == []
    whole = meant(*items, databases=("*", "master"), exclude=("a",), include_system=True)
    assert named(whole) == [(["master"], False), (["b"], True)]
    # Of namesakes only the one that is excluded is left out.
    meaning = meant(protected("Ab"), protected("aB"), databases=("a*",), exclude=("aB",))
    assert named(meaning) == [(["Ab"], True)]


def test_nothing_can_be_done_where_namesakes_cannot_be_told_apart() -> None:
    (found,) = meant(protected("Ab"), protected("aB"), databases=("ab",)).matches
    assert found.cannot is not None
    reason, failure = found.cannot
    assert (reason, failure.code) == ("ambiguousName", "AmbiguousDatabase")
    assert "MSSQLSERVER/aB, MSSQLSERVER/Ab. Name one" in failure.message or (
        "MSSQLSERVER/Ab, MSSQLSERVER/aB. Name one" in failure.message
    )
    (odd,) = meant(unusable("orders"), databases=("orders",)).matches
    assert odd.cannot is not None
    assert (odd.cannot[0], odd.cannot[1].code) == ("notAddressable", "NotAddressable")
    (usable,) = meant(protected("orders")).matches
    assert usable.cannot is None


def test_a_database_is_called_so_on_any_vm() -> None:
    known = candidates(
        Listing([protected("a"), protected("A", virtual_machine_id=OTHER_VM), of_group("a")], []), vm_id=None
    )

    def those_called(name: str, **place: str) -> list[tuple[str, int]]:
        database = Database(name=name, **place)
        return [(each.candidate.database.name, len(each.namesakes)) for each in called(known, database)]

    assert those_called("a", instance="mssqlserver") == [("a", 0), ("A", 0)]
    assert those_called("a", availability_group="ag1") == [("a", 0)]
    assert those_called("a", instance="ag1") == []
    assert those_called("b", instance="MSSQLSERVER") == []
    assert [each.by_pattern for each in called(known, Database(instance="MSSQLSERVER", name="a"))] == [
        False,
        False,
    ]
