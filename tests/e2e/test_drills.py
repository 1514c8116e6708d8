"""Restore drills end to end: restored, checked, dropped, one after the other, and nothing else touched."""

from __future__ import annotations

from tests.e2e.drills import databases_on, drill, drill_estate, settings
from tests.e2e.harness import OpenEstate, statuses


def test_a_drill_restores_checks_and_drops(estate: OpenEstate) -> None:
    it = estate(drill_estate("orders"), settings())
    (outcome,) = it.run(drill(it, "orders"))
    data = outcome["data"]
    print(outcome)
    assert outcome["type"] == "sqlvmbackup.drill.succeeded.v1"
    assert data["drill"]["checkErrors"] == 0
    assert databases_on(it) == {"master"}
