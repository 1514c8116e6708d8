"""What a report says in words."""

from __future__ import annotations

import pytest

from cli.report_advice import first_steps, headline, most_pressing, sums
from docs.report_example import databases, entry
from shared.coverage.states import CoverageState

FAILING, STALE, UNKNOWN = CoverageState.FAILING, CoverageState.STALE, CoverageState.UNKNOWN


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ([], "There are no databases"),
        ([CoverageState.COVERED], "The one database is covered"),
        ([CoverageState.COVERED] * 2, "All 2 databases are covered"),
        ([CoverageState.COVERED, FAILING], "1 of 2 databases is covered, 1 has a gap"),
        (
            [CoverageState.COVERED, CoverageState.COVERED, UNKNOWN],
            "2 of 3 databases are covered, the others are unknown",
        ),
        ([FAILING, STALE], "0 of 2 databases are covered, 2 have a gap"),
        ([UNKNOWN], "0 of 1 database are covered, the others are unknown"),
    ],
)
def test_the_headline(states: list[CoverageState], said: str) -> None:
    assert headline([entry(f"db{number}", state) for number, state in enumerate(states)]).startswith(said)


def test_the_sums_name_each_state_the_worst_first() -> None:
    assert sums(databases(10)) == (
        "31 databases: 10 failing, 2 stale, 1 never backed up, 4 unprotected, 1 stopped, 3 unknown, 10 covered."
    )


def test_vms_that_cannot_be_looked_into_are_no_databases() -> None:
    whole = entry("*", CoverageState.UNHEALTHY)
    assert headline([entry("a"), whole]) == (
        "The one database is covered, and 1 whole VM, instance or vault cannot be looked into"
    )
    assert (
        headline([whole, whole])
        == "There are no databases, and 2 whole VMs, instances or vaults cannot be looked into"
    )
    assert (
        sums([entry("a"), whole]) == "1 database and 1 whole VM, instance or vault: 1 unhealthy, 1 covered."
    )


def test_what_shares_a_cause_is_one_thing_to_do() -> None:
    steps = first_steps(databases(10))
    assert [(step.state.value, step.count) for step in steps] == [
        ("failing", 9),
        ("failing", 1),
        ("stale", 2),
        ("neverBackedUp", 1),
        ("unprotected", 4),
        ("stopped", 1),
    ]
    assert steps[0].what == "9 databases"
    assert steps[0].where == "on sqlfin03/MSSQLSERVER: ledger_00, ledger_01, ledger_02 and 6 more"
    assert steps[0].why.startswith("UserErrorVMInternetConnectivityIssue: The VM cannot reach")
    # Their messages differ, so none of them stands for all.
    assert steps[2].why == "BackupTooOld."
    assert len(most_pressing(steps)) == 5


def test_databases_in_several_places_are_told_with_their_places() -> None:
    (step,) = first_steps(
        [entry("a", FAILING, vm="sql1", code="x"), entry("b", FAILING, vm="sql2", code="X")]
    )
    assert step.where == "on 2 instances: sql1/MSSQLSERVER/a, sql2/MSSQLSERVER/b"


def test_what_is_unknown_or_covered_is_nothing_to_do() -> None:
    assert first_steps([entry("a"), entry("b", UNKNOWN, code="RecoveryModelUnread")]) == []


def test_a_whole_vm_is_told_as_one() -> None:
    one = entry("*", CoverageState.UNHEALTHY, code="UserErrorOpeningSQLConnection", message="No way in.")
    (step,) = first_steps([one])
    assert step.what == "1 whole VM, instance or vault"
    assert step.where == "on sqlprod01/MSSQLSERVER"
