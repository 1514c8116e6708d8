"""Whether a database is backed up, in every state that it can be in."""

from __future__ import annotations

import pytest

from shared.azure_backup.models import ProtectedItem
from shared.steps.backup_selection import select_for_backup
from tests.unit.examples import protectable, protected
from tests.unit.steps.choices import DELETED, STOPPED, available, backup

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


def test_what_is_not_protected_is_not_backed_up() -> None:
    chosen = select_for_backup(backup("orders"), available(protectable("orders")))
    assert [error.code for _, error in chosen.failures] == ["DatabaseNotFound"]


def test_what_a_rule_leaves_out_is_skipped() -> None:
    chosen = select_for_backup(backup("*"), available(protected("orders"), protected("master")))
    assert [choice.candidate.database.name for choice in chosen.tasks] == ["orders"]
    assert chosen.reasons == {"systemDatabase": 1}


def test_a_selector_that_matches_nothing_says_what_is_protected() -> None:
    chosen = select_for_backup(backup("nope"), available(protected("orders")), hint="Look elsewhere.")
    ((_, failure),) = chosen.failures
    assert failure.message == (
        "the vault protects no database MSSQLSERVER/nope; it protects: MSSQLSERVER/orders. A database is backed up"
        " only once it is protected. Look elsewhere."
    )
