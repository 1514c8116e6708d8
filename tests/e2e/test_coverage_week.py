"""Days of an estate whose backups go wrong: every gap is told once, repaired or its reason named, and no other."""

from __future__ import annotations

import pytest

from tests.e2e.week import check, lived


@pytest.mark.timeout(400)
def test_days_of_an_estate_with_trouble() -> None:
    """A smaller estate than that of `make week`, for three days."""
    with lived(machines=6, databases=8, days=3, every=4) as week:
        check(week)
        protected = {
            (one["database"], one["status"]) for one in week.repairs() if one["operation"] == "protect"
        }
        assert {("new0", "succeeded"), ("new1", "succeeded"), ("db02_renamed", "succeeded")} <= protected
        backed_up = {one["database"]: one["status"] for one in week.repairs() if one["operation"] == "backup"}
        assert backed_up["db04"] == "succeeded"
        # What was renamed is not there to be backed up, and its outcome says so.
        assert backed_up["db02"] == "failed"
