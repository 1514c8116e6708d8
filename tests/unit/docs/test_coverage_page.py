"""docs/coverage.md explains every state and every code of coverage, and no other."""

from __future__ import annotations

from shared.coverage.states import CoverageCode, CoverageState
from tests.unit.docs.markdown import code, read, rows, section

PAGE = read("docs/coverage.md")
CODES = {code(row[0])[0]: row for row in rows(section(PAGE, "Codes"))}


def test_the_states_are_explained_in_their_order() -> None:
    told = [code(row[0])[0] for row in rows(section(PAGE, "States"))]
    assert told == [state.value for state in CoverageState]


def test_the_codes_are_explained_and_no_others() -> None:
    assert set(CODES) == {each.value for each in CoverageCode}


def test_each_code_is_of_a_state_and_has_an_advice() -> None:
    states = {state.value for state in CoverageState}
    for name, row in CODES.items():
        assert set(row[1].split(", ")) <= states, name
        assert row[2], name
        assert row[3], name
