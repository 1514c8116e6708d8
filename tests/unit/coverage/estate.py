"""Vaults as their listings show them, for the tests of coverage."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.azure_backup.listings import Listing, Unusable
from shared.azure_backup.models import Container, ErrorDetail, Job, Policy, ProtectableItem, ProtectedItem
from shared.clock import ServiceTime
from shared.coverage.scope import Scope
from shared.coverage.states import DatabaseCoverage, VaultCoverage
from shared.coverage.survey import survey
from shared.coverage.vault_listings import VaultListings
from tests.unit.examples import CONTAINER, VAULT, VM, protected

#: a Monday
NOW = ServiceTime(datetime(2026, 1, 5, 8, tzinfo=UTC))
HOUR = timedelta(hours=1)
FAILED_LAST: dict[str, Any] = {
    "last_backup_status": "Unhealthy",
    "last_backup_error": ErrorDetail(code="UserErrorSQLPODoesNotExist", message="It is gone."),
}


def sub_policy(kind: str, *, days: Sequence[str] = (), at: Sequence[str] = ("18:00",)) -> dict[str, Any]:
    """A part of a policy as the service answers it: weekly where days are given."""
    schedule: dict[str, Any] = {
        "schedulePolicyType": "SimpleSchedulePolicy",
        "scheduleRunFrequency": "Weekly" if days else "Daily",
        "scheduleRunTimes": [f"2025-12-01T{time}:00Z" for time in at],
        "scheduleWeeklyFrequency": 0,
    }
    if days:
        schedule["scheduleRunDays"] = list(days)
    return {"policyType": kind, "schedulePolicy": schedule}


def log_policy(minutes: object) -> dict[str, Any]:
    return {
        "policyType": "Log",
        "schedulePolicy": {"schedulePolicyType": "LogSchedulePolicy", "scheduleFrequencyInMins": minutes},
    }


def policy(*parts: dict[str, Any], name: str = "Daily", zone: object = "UTC") -> Policy:
    return Policy(
        id=f"{VAULT.path}/backupPolicies/{name}",
        name=name,
        properties={"settings": {"timeZone": zone}, "subProtectionPolicy": list(parts)},
    )


#: a full a day and a log backup an hour, as every vault has it
HOURLY_LOGS = policy(sub_policy("Full"), log_policy(60))


def item(name: str = "orders", **details: Any) -> ProtectedItem:
    """A protected database, covered."""
    fields: dict[str, Any] = {
        "protection_status": "Healthy",
        "last_backup_status": "Healthy",
        "last_backup_time": NOW - timedelta(minutes=30),
        "health_status": "Healthy",
    }
    return protected(name, **{**fields, **details})


def container(**details: Any) -> Container:
    fields: dict[str, Any] = {
        "id": CONTAINER,
        "name": CONTAINER.name,
        "virtual_machine_id": VM,
        "friendly_name": "sqlvm1",
        "health_status": "Healthy",
    }
    return Container(**{**fields, **details})


def listings(
    *items: ProtectedItem | ProtectableItem,
    policies: Sequence[Policy] = (HOURLY_LOGS,),
    containers: Sequence[Container] | None = None,
    jobs: Sequence[Job] = (),
    unusable: Sequence[Unusable] = (),
    unusable_protectable: Sequence[Unusable] = (),
    unusable_containers: Sequence[Unusable] = (),
    read: Sequence[ProtectedItem] = (),
) -> VaultListings:
    return VaultListings(
        vault_id=VAULT,
        protected=Listing([one for one in items if isinstance(one, ProtectedItem)], list(unusable)),
        protectable=Listing(
            [one for one in items if isinstance(one, ProtectableItem)], list(unusable_protectable)
        ),
        containers=Listing(
            list(containers) if containers is not None else [container()], list(unusable_containers)
        ),
        policies=policies,
        jobs=jobs,
        read={one.id: one for one in read},
    )


def surveyed(
    *items: ProtectedItem | ProtectableItem, scope: Scope | None = None, **rest: Any
) -> VaultCoverage:
    return survey(listings(*items, **rest), scope or Scope(), NOW)


def only(
    *items: ProtectedItem | ProtectableItem, scope: Scope | None = None, **rest: Any
) -> DatabaseCoverage:
    """How the one database there stands."""
    (found,) = surveyed(*items, scope=scope, **rest).databases
    return found
