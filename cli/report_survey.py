"""The survey that a report is made of: vaults and subscriptions, read one after the other, patiently."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from difflib import get_close_matches
from functools import partial
from typing import Final, TypeVar

from cli.errors import FAILED, CommandError
from cli.parsing import did_you_mean
from shared.arm.errors import ArmError, ArmStatusError
from shared.arm.ids import VaultId
from shared.coverage.estate import together, unregistered
from shared.coverage.scope import Scope
from shared.coverage.single_reads import item_reads_left, unread, with_read
from shared.coverage.states import (
    EVERY_DATABASE,
    CoverageState,
    DatabaseCoverage,
    VaultCoverage,
)
from shared.coverage.survey import survey
from shared.coverage.vault_listings import read_listings
from shared.engine.result import Collaborators
from shared.engine.retry import Retry, decide
from shared.messages.error_codes import ErrorCode
from shared.messages.identity import Database
from shared.names import enumeration, same_name

T = TypeVar("T")
_TRIES: Final = 4
#: A single process makes one call after the other: no one else has to be spared.
_JITTER: Final = 0.5
_PATIENCE: Final = timedelta(minutes=2)


@dataclass
class EstateSurvey:
    """The results of the surveys."""

    vaults: list[VaultCoverage] = field(default_factory=list)
    #: entries without databases: vaults that could not be read, VMs that no vault knows
    others: list[DatabaseCoverage] = field(default_factory=list)
    #: what could not be read, so that the report is incomplete
    problems: list[str] = field(default_factory=list)
    #: the subscriptions not all of whose vaults could be read
    unread_in: set[str] = field(default_factory=set)
    #: the names of the policies in the vaults that were read
    policies: set[str] = field(default_factory=set)

    @property
    def databases(self) -> tuple[DatabaseCoverage, ...]:
        return tuple(sorted((*together(self.vaults), *self.others), key=lambda entry: entry.order))

    @property
    def left_out(self) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for vault in self.vaults:
            counts.update(vault.left_out)
        return dict(counts)


def survey_estate(
    collaborators: Collaborators,
    named: Sequence[VaultId],
    subscriptions: Sequence[str],
    scope: Scope,
    *,
    singly: bool,
) -> EstateSurvey:
    """Read everything that was named. Raises CommandError where no vault has the policy of the scope."""
    estate = EstateSurvey()
    wanted = list(dict.fromkeys((*named, *_vaults_of(subscriptions, collaborators, estate))))
    for number, vault_id in enumerate(wanted, 1):
        if sys.stderr.isatty() and len(wanted) > 1:
            print(f"Reading vault {vault_id.name} ({number} of {len(wanted)})", file=sys.stderr)
        coverage = _read(
            collaborators,
            estate,
            f"vault {vault_id.name}",
            partial(_vault, collaborators, estate, vault_id, scope, singly=singly),
            vault_id=vault_id,
        )
        if coverage is None:
            estate.unread_in.add(vault_id.subscription_id.lower())
        else:
            estate.vaults.append(coverage)
    _require_policy(scope.policy_name, estate)
    missed = [set(vault.missed) for vault in estate.vaults]
    estate.problems += [
        f"No database matches {selector}." for selector in sorted(set.intersection(*missed) if missed else ())
    ]
    for subscription in subscriptions:
        machines = _read(
            collaborators,
            estate,
            f"the SQL virtual machines of subscription {subscription}",
            partial(collaborators.azure.list_sql_virtual_machines, subscription),
        )
        if machines is not None:
            estate.others += unregistered(
                machines, estate.vaults, vaults_unread=subscription in estate.unread_in
            )
    return estate


def _vaults_of(
    subscriptions: Sequence[str], collaborators: Collaborators, estate: EstateSurvey
) -> list[VaultId]:
    """The vaults of subscriptions; what cannot be read is noted in `estate`."""
    vaults: list[VaultId] = []
    for subscription in subscriptions:
        listed = _read(
            collaborators,
            estate,
            f"subscription {subscription}",
            partial(collaborators.azure.list_vaults, subscription),
        )
        if listed is None:
            estate.unread_in.add(subscription)
            continue
        vaults += (vault.id for vault in listed.usable)
        for entry in listed.unusable:
            estate.unread_in.add(subscription)
            estate.problems.append(f"The vault {entry.name} of subscription {subscription} {entry.why}.")
    return vaults


def _require_policy(wanted: str | None, estate: EstateSurvey) -> None:
    """Raise CommandError for a policy that no vault has: all databases would be called wrongly protected."""
    if wanted is None or estate.unread_in or not estate.policies:
        return
    if not any(same_name(wanted, name) for name in estate.policies):
        meant = get_close_matches(wanted, estate.policies, n=1)
        raise CommandError(
            f"--policy: no vault has a SQL policy named {wanted}; there are:"
            f" {enumeration(estate.policies)}.{did_you_mean(meant)}",
            status=FAILED,
        )


def _vault(
    collaborators: Collaborators, estate: EstateSurvey, vault_id: VaultId, scope: Scope, *, singly: bool
) -> VaultCoverage:
    listings = read_listings(collaborators.azure, vault_id)
    estate.policies |= {policy.name for policy in listings.policies}
    coverage = survey(listings, scope, collaborators.now())
    if not singly:
        return coverage
    items = unread(coverage.databases, item_reads_left(collaborators.azure.budget, vault_id))
    if not items:
        return coverage
    return survey(
        with_read(listings, items, collaborators.azure.get_protected_item), scope, collaborators.now()
    )


def _read(
    collaborators: Collaborators,
    estate: EstateSurvey,
    what: str,
    read: Callable[[], T],
    *,
    vault_id: VaultId | None = None,
) -> T | None:
    """What `read` gives; None where it could not be had, which is told in the report and not passed over."""
    try:
        return _patiently(read, scale=collaborators.settings.time_scale)
    except ArmError as error:
        code = error.code if isinstance(error, ArmStatusError) else type(error).__name__.removesuffix("Error")
        if isinstance(error, ArmStatusError) and error.status == 404 and vault_id is not None:
            code = ErrorCode.VAULT_NOT_FOUND
        estate.problems.append(f"{what[:1].upper()}{what[1:]} could not be read: {error}.")
        if vault_id is not None:
            estate.others.append(
                DatabaseCoverage(
                    vault_id=vault_id,
                    database=Database(instance=EVERY_DATABASE, name=EVERY_DATABASE),
                    state=CoverageState.UNKNOWN,
                    code=code,
                    message=f"The vault could not be read: {error.summary}.",
                    advice="See that its id is right and that you may read it (Backup Reader).",
                )
            )
        return None


def _patiently(read: Callable[[], T], *, scale: float) -> T:
    """What `read` gives, asked again where the service was only busy."""
    waited = timedelta()
    for attempt in range(_TRIES):
        try:
            return read()
        except ArmError as error:
            # Neither a right nor a vault is on its way: a person is told at once.
            refused = isinstance(error, ArmStatusError) and error.status in (401, 403, 404)
            next_time = decide(
                error, attempt=attempt, age=waited, time_left=_PATIENCE - waited, jitter=_JITTER
            )
            if refused or not isinstance(next_time, Retry) or attempt + 1 == _TRIES:
                raise
            waited += next_time.after
            time.sleep(next_time.after.total_seconds() * scale)
    raise AssertionError("unreachable")
