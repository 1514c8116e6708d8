"""What is read of a vault, and how much of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import pytest

from shared.arm.budget import PROTECTED_ITEM_READS, RequestBudget
from shared.azure_backup.calls import Reads
from shared.azure_backup.listings import Listing, Unusable
from shared.clock import SystemClock
from shared.coverage.single_reads import item_reads_left, unread, with_read
from shared.coverage.vault_listings import read_listings
from tests.unit.coverage.estate import HOUR, HOURLY_LOGS, NOW, container, item, listings, surveyed
from tests.unit.examples import CONTAINER, SUBSCRIPTION, VAULT, protectable

UNUSABLE = Unusable(code="NotAddressable", why="cannot be addressed", name="odd")


class Vault:
    """A vault that counts what is asked of it."""

    def __init__(self, containers: Listing[Any], protected: Listing[Any]) -> None:
        self.containers, self.protected = containers, protected
        self.asked: list[str] = []

    def list_registered_containers(self, vault: object) -> Listing[Any]:
        self.asked.append("containers")
        return self.containers

    def list_protected_items(self, vault: object) -> Listing[Any]:
        self.asked.append("protected")
        return self.protected

    def list_protectable_items(self, vault: object) -> Listing[Any]:
        self.asked.append("protectable")
        return Listing([protectable("new")], [])

    def list_policies(self, vault: object) -> list[Any]:
        self.asked.append("policies")
        return [HOURLY_LOGS]


NOTHING: Listing[Any] = Listing([], [])


@pytest.mark.parametrize(
    ("containers", "protected", "whole"),
    [
        (NOTHING, NOTHING, False),
        (Listing([container()], []), NOTHING, True),
        (NOTHING, Listing([item()], []), True),
        (Listing([], [UNUSABLE]), NOTHING, True),
        (NOTHING, Listing([], [UNUSABLE]), True),
    ],
)
def test_a_vault_without_sql_server_is_asked_no_further(
    containers: Listing[Any], protected: Listing[Any], whole: bool
) -> None:
    vault = Vault(containers, protected)
    found = read_listings(cast("Reads", vault), VAULT)
    assert vault.asked == ["containers", "protected", *(["protectable", "policies"] if whole else [])]
    assert bool(found.policies) == whole


def test_coverage_leaves_three_quarters_of_an_hours_single_reads_to_others() -> None:
    budget = RequestBudget(SystemClock())
    assert item_reads_left(budget, VAULT) == 75
    path = f"{CONTAINER.url_path}/protectedItems/x"
    for left, mine in ((299, 74), (250, 25), (225, 0), (10, 0)):
        admission = budget.admit(SUBSCRIPTION, "GET", path)
        assert not isinstance(admission, timedelta)
        budget.answered(admission, {"x-ms-ratelimit-remaining-subscription-resource-requests": str(left)})
        assert budget.left(SUBSCRIPTION, PROTECTED_ITEM_READS) == left
        assert item_reads_left(budget, VAULT) == mine


def test_what_is_read_first_is_what_may_be_most_out_of_date() -> None:
    items = [item(f"db{hours}", last_backup_time=NOW - hours * HOUR) for hours in (3, 20, 1, 9)]
    coverage = surveyed(*items)
    chosen = unread(coverage.databases, 2)
    assert [one.name.rpartition(";")[2] for one in chosen] == ["db20", "db9"]
    assert unread(coverage.databases, 0) == []


def test_an_item_that_is_gone_by_then_is_left_as_it_was_listed() -> None:
    one, other = item("one", last_backup_time=NOW - 3 * HOUR), item("other", last_backup_time=NOW - 3 * HOUR)
    read = one.model_copy(update={"recovery_model": "SIMPLE"})
    found = with_read(listings(one, other), [one.id, other.id], {one.id: read}.get)
    assert dict(found.read) == {one.id: read}
