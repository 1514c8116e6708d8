"""Which databases a request means, and what is done with each, in every state they can be in."""

from __future__ import annotations

from typing import Any

import pytest

from shared.azure_backup.listings import Listing
from shared.azure_backup.models import ErrorDetail, ProtectableItem, ProtectedItem
from shared.messages.requests import BackupData, ProtectData
from shared.steps import protect_selection
from shared.steps.backup_selection import select_for_backup
from shared.steps.candidates import Candidate, candidates
from shared.steps.protect_selection import ProtectChoice
from shared.steps.selection import Selection
from tests.unit.examples import CONTAINER, VAULT, VM, protectable, protected

STOPPED: dict[str, Any] = {"protection_state": "ProtectionStopped", "policy_name": None}
DELETED: dict[str, Any] = {**STOPPED, "is_scheduled_for_deferred_delete": True}


def selector(text: str) -> dict[str, str]:
    parent, _, name = text.rpartition("/")
    return {"instance": parent or "MSSQLSERVER", "database": name}


def protect(*databases: str, **data: Any) -> ProtectData:
    fields = {
        "vaultId": VAULT.path,
        "vmId": VM.path,
        "policyName": "Daily",
        "databases": [selector(name) for name in databases],
    }
    return ProtectData.model_validate({**fields, **data})


def backup(*databases: str, backup_type: str = "Full", **data: Any) -> BackupData:
    fields = {
        "vaultId": VAULT.path,
        "backupType": backup_type,
        "databases": [selector(name) for name in databases],
    }
    return BackupData.model_validate({**fields, **data})


def select_for_protection(
    data: ProtectData, *items: ProtectedItem | ProtectableItem
) -> Selection[ProtectChoice]:
    return protect_selection.select_for_protection(data, available(*items), policy_name="Daily")


def available(*items: ProtectedItem | ProtectableItem) -> list[Candidate]:
    return candidates(
        Listing([item for item in items if isinstance(item, ProtectedItem)], []),
        Listing([item for item in items if isinstance(item, ProtectableItem)], []),
        vm_id=VM,
        container=CONTAINER,
    )


#: the state of `orders`, what else the request says, what is done where it is named
PROTECT_STATES: dict[str, tuple[ProtectedItem | ProtectableItem, dict[str, Any], str]] = {
    "not protected": (protectable("orders"), {}, "enable"),
    "protected so": (protected("orders"), {}, "already"),
    "protected so, in another case": (protected("orders", policy_name="DAILY"), {}, "already"),
    "by another policy": (protected("orders", policy_name="Weekly"), {}, "ProtectedByAnotherPolicy"),
    "by another, keep": (protected("orders", policy_name="Weekly"), {"onExisting": "keep"}, "already"),
    "by another, change": (
        protected("orders", policy_name="Weekly"),
        {"onExisting": "changePolicy"},
        "changePolicy",
    ),
    "stopped": (protected("orders", **STOPPED), {}, "ProtectionStopped"),
    "stopped, resume": (protected("orders", **STOPPED), {"resume": True}, "resume"),
    "suspended": (protected("orders", protection_state="BackupsSuspended"), {}, "ProtectionStopped"),
    "soft-deleted": (protected("orders", **DELETED), {}, "ItemSoftDeleted"),
    "soft-deleted, resume": (protected("orders", **DELETED), {"resume": True}, "ItemSoftDeleted"),
    "soft-deleted, undelete": (protected("orders", **DELETED), {"undelete": True}, "undelete"),
    "not protectable": (
        protectable(
            "orders",
            is_protectable=False,
            prebackup_validation=ErrorDetail(code="UserErrorSQLNoSysadminMembership", message="no rights"),
        ),
        {},
        "UserErrorSQLNoSysadminMembership",
    ),
}


@pytest.mark.parametrize(("item", "data", "expected"), PROTECT_STATES.values(), ids=PROTECT_STATES)
def test_protecting_a_database_by_name(
    item: ProtectedItem | ProtectableItem, data: dict[str, Any], expected: str
) -> None:
    chosen = select_for_protection(protect("orders", **data), item)
    found = [task.action for task in chosen.tasks] + [error.code for _, error in chosen.failures]
    assert found == [expected]
    assert chosen.outcome_count == 1


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (protected("orders", **STOPPED), "protectionStopped"),
        (protected("orders", **DELETED), "softDeleted"),
        (protectable("orders", is_protectable=False), "notProtectable"),
    ],
)
def test_a_pattern_passes_over_what_the_request_cannot_apply_to(
    item: ProtectedItem | ProtectableItem, reason: str
) -> None:
    chosen = select_for_protection(protect("*"), item, protectable("billing"))
    assert [str(task.candidate.database) for task in chosen.tasks] == ["MSSQLSERVER/billing"]
    assert chosen.reasons == {reason: 1}
    assert not chosen.failures


def test_another_policy_is_a_failure_even_for_a_pattern() -> None:
    chosen = select_for_protection(protect("*"), protected("orders", policy_name="Weekly"))
    assert [error.code for _, error in chosen.failures] == ["ProtectedByAnotherPolicy"]


#: what is there, what is asked, which databases that means
ESTATE = (
    protectable("orders"),
    protectable("Orders_archive"),
    protectable("billing"),
    protectable("weird[1]"),
    protectable("master"),
    protectable("orders", instance="SECOND"),
)
MEANINGS: dict[str, tuple[tuple[str, ...], dict[str, Any], set[str]]] = {
    "one": (("orders",), {}, {"MSSQLSERVER/orders"}),
    "names compare as Azure does": (("mssqlserver/ORDERS",), {}, {"MSSQLSERVER/orders"}),
    "a prefix": (("orders*",), {}, {"MSSQLSERVER/orders", "MSSQLSERVER/Orders_archive"}),
    "all instances": (("*/orders",), {}, {"MSSQLSERVER/orders", "SECOND/orders"}),
    "brackets read literally too": (("weird[1]",), {}, {"MSSQLSERVER/weird[1]"}),
    "a pattern means user databases": (
        ("*",),
        {},
        {"MSSQLSERVER/orders", "MSSQLSERVER/Orders_archive", "MSSQLSERVER/billing", "MSSQLSERVER/weird[1]"},
    ),
    "system databases by wish": (("m*",), {"includeSystem": True}, {"MSSQLSERVER/master"}),
    "a system database by name": (("master",), {}, {"MSSQLSERVER/master"}),
    "excluded": (("orders*",), {"exclude": [selector("*archive")]}, {"MSSQLSERVER/orders"}),
    "named twice": (("orders", "ORD?RS", "Orders"), {}, {"MSSQLSERVER/orders"}),
}


@pytest.mark.parametrize(("asked", "data", "expected"), MEANINGS.values(), ids=MEANINGS)
def test_what_selectors_mean(asked: tuple[str, ...], data: dict[str, Any], expected: set[str]) -> None:
    chosen = select_for_protection(protect(*asked, **data), *ESTATE)
    assert [str(task.candidate.database) for task in chosen.tasks].count("MSSQLSERVER/orders") <= 1
    assert {str(task.candidate.database) for task in chosen.tasks} == expected


def test_a_name_that_matches_nothing_fails_beside_the_others_and_says_what_there_is() -> None:
    chosen = select_for_protection(protect("orders", "nope", "NOPE", "x*"), *ESTATE)
    assert len(chosen.tasks) == 1
    errors = {database.name: error for database, error in chosen.failures}
    assert set(errors) == {"nope", "x*"}
    assert chosen.outcome_count == 3
    assert len({database.key for database, _ in chosen.failures}) == 2
    assert "MSSQLSERVER/billing" in errors["nope"].message


def test_what_is_excluded_is_not_missed() -> None:
    chosen = select_for_protection(protect("orders", exclude=[selector("orders")]), *ESTATE)
    assert not chosen.tasks and not chosen.failures
    assert chosen.outcome_count == 1


#: type, state of the item, what is done where it is named, the reason where a pattern means it
BACKUP_STATES: dict[str, tuple[str, ProtectedItem, str | None, str | None]] = {
    "full": ("Full", protected("orders"), None, None),
    "first full is still to come": ("Full", protected("orders", protection_state="IRPending"), None, None),
    "stopped": ("Full", protected("orders", **STOPPED), "ProtectionStopped", "protectionStopped"),
    "soft-deleted": ("Full", protected("orders", **DELETED), "ItemSoftDeleted", "softDeleted"),
    "log": ("Log", protected("orders", recovery_model="FULL"), None, None),
    "log, model not known": ("Log", protected("orders"), None, None),
    "log, simple": (
        "Log",
        protected("orders", recovery_model="SIMPLE"),
        "UserErrorSQLPODoesNotSupportBackupType",
        "typeNotSupported",
    ),
    "differential, simple": ("Differential", protected("orders", recovery_model="SIMPLE"), None, None),
    "master, differential": (
        "Differential",
        protected("master"),
        "UserErrorSQLPODoesNotSupportBackupType",
        "typeNotSupported",
    ),
    "master, full": ("Full", protected("master"), None, None),
}


@pytest.mark.parametrize(("kind", "item", "code", "reason"), BACKUP_STATES.values(), ids=BACKUP_STATES)
def test_backing_up(kind: str, item: ProtectedItem, code: str | None, reason: str | None) -> None:
    named = select_for_backup(backup(item.name, backup_type=kind), available(item))
    assert [error.code for _, error in named.failures] == ([code] if code else [])
    assert len(named.tasks) == (0 if code else 1)
    meant = select_for_backup(
        backup("*", backup_type=kind, includeSystem=True), available(item, protected("other"))
    )
    assert meant.reasons == ({reason: 1} if reason else {})
    assert not meant.failures


def test_a_database_deleted_and_protected_anew_counts_as_it_lives() -> None:
    for items in ((protected("orders", **DELETED), protected("orders")), (protected("orders"),)):
        (found,) = available(*items)
        assert found.protected is not None
        assert not found.protected.is_scheduled_for_deferred_delete


def test_what_is_not_protected_is_not_backed_up() -> None:
    chosen = select_for_backup(backup("orders"), available(protectable("orders")))
    assert [error.code for _, error in chosen.failures] == ["DatabaseNotFound"]
