"""The databases of a vault's listings: each once, and as it lives."""

from __future__ import annotations

from tests.unit.examples import protected
from tests.unit.steps.choices import DELETED, available


def test_a_database_deleted_and_protected_anew_counts_as_it_lives() -> None:
    for items in ((protected("orders", **DELETED), protected("orders")), (protected("orders"),)):
        (found,) = available(*items)
        assert found.protected is not None
        assert not found.protected.is_scheduled_for_deferred_delete
