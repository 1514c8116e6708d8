"""What a vault protects, listed once for requests that come together."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest

from shared.azure_backup.models import ProtectedItem
from shared.listing_cache import ItemCache
from tests.unit.examples import NOW, protected

SECOND = timedelta(seconds=1)
ITEMS = [protected("orders")]


class Vault:
    """Lists what it protects, but for the calls that fail; counts them."""

    def __init__(self, *failing: int) -> None:
        self._failing = failing
        self.calls = 0

    def load(self) -> Sequence[ProtectedItem]:
        self.calls += 1
        if self.calls in self._failing:
            raise ConnectionError
        return ITEMS


def ask(listings: ItemCache, vault: Vault, *, asked: int, now: int) -> Sequence[ProtectedItem]:
    return listings.get(
        "vault1",
        asked=NOW + asked * SECOND,
        now=lambda: NOW + now * SECOND,
        load=vault.load,
    )


def test_requests_that_come_together_share_a_listing() -> None:
    listings, vault = ItemCache(), Vault()
    assert [ask(listings, vault, asked=0, now=now) for now in (1, 2, 20)] == [ITEMS] * 3
    assert vault.calls == 1


@pytest.mark.parametrize(("asked", "now"), [(5, 6), (0, 40)], ids=["asked later", "too old"])
def test_a_listing_serves_nobody_who_asked_after_it_or_comes_late(asked: int, now: int) -> None:
    listings, vault = ItemCache(), Vault()
    ask(listings, vault, asked=0, now=1)
    ask(listings, vault, asked=asked, now=now)
    assert vault.calls == 2


def test_a_listing_of_some_minutes_ago_serves_whoever_says_that_it_is_enough() -> None:
    listings, vault = ItemCache(), Vault()

    def ask_again(now: int, *, enough: bool) -> None:
        listings.get(
            "vault1",
            asked=NOW + now * SECOND,
            now=lambda: NOW + now * SECOND,
            load=vault.load,
            short=lambda: True,
            enough=lambda known: enough and known == ITEMS,
        )

    ask_again(0, enough=True)
    ask_again(599, enough=True)
    assert vault.calls == 1
    ask_again(599, enough=False)
    assert vault.calls == 2
    ask_again(1200, enough=True)
    assert vault.calls == 3


def test_a_listing_that_failed_is_not_taken_for_an_empty_vault() -> None:
    listings, vault = ItemCache(), Vault(2)
    ask(listings, vault, asked=0, now=1)
    with pytest.raises(ConnectionError):
        ask(listings, vault, asked=5, now=6)
    # One who asked before the first listing is served by no remnant of it.
    assert ask(listings, vault, asked=0, now=7) == ITEMS
