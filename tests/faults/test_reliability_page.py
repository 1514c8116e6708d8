"""The fault matrix is complete, and its table in docs/reliability.md is current."""

from __future__ import annotations

from tests.faults.matrix import MATRIX
from tests.faults.reliability import PAGE, page, proofs


def test_the_table_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.faults.reliability"


def test_every_fault_that_applies_has_a_test_and_no_other_has() -> None:
    assert [row.id for row in MATRIX] == [f"F{number:02}" for number in range(1, 46)]
    assert set(proofs()) == {row.id for row in MATRIX if not row.does_not_apply}
