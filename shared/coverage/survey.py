"""The survey: from a vault's listings to the state of each database. Pure functions."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Final

from shared.clock import ServiceTime
from shared.coverage.ages import AgesByPolicy
from shared.coverage.assessment import Assessment
from shared.coverage.inventory import Inventory
from shared.coverage.scope import Scope
from shared.coverage.states import (
    CoverageState,
    DatabaseCoverage,
    RegisteredContainer,
    VaultCoverage,
)
from shared.coverage.undiscovered import is_for_others, undiscovered
from shared.coverage.vault_listings import VaultListings
from shared.names import name_key
from shared.steps.matching import match

_RENAMED: Final = " If it was renamed, its new name is among the unprotected databases of the instance."


def survey(listings: VaultListings, scope: Scope, now: ServiceTime) -> VaultCoverage:
    """The state of each of a vault's databases at `now`, the service's time.

    A listed database that cannot be judged is reported as `unknown` with the reason. So no listed database is missing,
    except those that the scope leaves out, which are counted.
    """
    inventory = Inventory(listings, scope.drill_targets)
    ages = AgesByPolicy(listings.policies, now)
    meaning = match(
        inventory.candidates,
        databases=scope.databases,
        exclude=scope.exclude,
        include_system=scope.include_system,
    )
    entries = [
        Assessment(candidate=candidate, inventory=inventory, ages=ages, scope=scope, now=now).result()
        for meant in meaning.matches
        for candidate in (meant.candidate, *meant.namesakes)
    ]
    entries = _with_hints(entries + undiscovered(inventory, scope))
    return VaultCoverage(
        vault_id=listings.vault_id,
        at=now,
        databases=tuple(sorted(entries, key=lambda entry: entry.order)),
        containers=tuple(
            RegisteredContainer(
                name=container.friendly_name or container.name,
                vm_id=container.virtual_machine_id,
                health=container.health_status,
                updated=container.last_updated,
            )
            for container in listings.containers.usable
            if not is_for_others(container)
        ),
        left_out=dict(Counter(reason for _, reason in meaning.left_out)),
        missed=() if scope.is_everything else tuple(map(str, meaning.missed)),
    )


def _with_hints(entries: list[DatabaseCoverage]) -> list[DatabaseCoverage]:
    """Add hints to renamed databases: the old name fails or ages, the new one is listed as unprotected."""
    with_new_names = {
        (entry.database.vm_id, name_key(entry.database.parent))
        for entry in entries
        if entry.state is CoverageState.UNPROTECTED
    }
    return [
        replace(entry, advice=entry.advice + _RENAMED)
        if entry.code.lower() == "usererrorsqlpodoesnotexist"
        and (entry.database.vm_id, name_key(entry.database.parent)) in with_new_names
        else entry
        for entry in entries
    ]
