"""What a protect request does with a database, in every state that it can be in."""

from __future__ import annotations

from typing import Any

import pytest

from shared.azure_backup.models import ErrorDetail, ProtectableItem, ProtectedItem
from shared.messages.requests import ProtectData
from shared.steps import protect_selection
from shared.steps.protect_selection import ProtectChoice
from shared.steps.selection import Selection
from tests.unit.examples import protectable, protected
from tests.unit.steps.choices import DELETED, STOPPED, available, protect


def select_for_protection(
    data: ProtectData, *items: ProtectedItem | ProtectableItem
) -> Selection[ProtectChoice]:
    return protect_selection.select_for_protection(data, available(*items), policy_name="Daily")


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


def test_what_is_left_out_or_cannot_be_used_is_skipped() -> None:
    items = [protectable("orders"), protectable("master"), protectable("Ab"), protectable("aB")]
    chosen = select_for_protection(protect("*"), *items)
    assert [task.candidate.database.name for task in chosen.tasks] == ["orders"]
    assert chosen.reasons == {"ambiguousName": 2, "systemDatabase": 1}


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ErrorDetail(code="Odd", message="no rights"), " (no rights)."),
        (ErrorDetail(code="Odd"), "for protection."),
        (None, "for protection."),
    ],
)
def test_what_the_service_does_not_offer_says_why(error: ErrorDetail | None, text: str) -> None:
    item = protectable("orders", is_protectable=False, prebackup_validation=error)
    ((_, failure),) = select_for_protection(protect("orders"), item).failures
    assert failure.code == ("Odd" if error is not None else "NotProtectable")
    assert failure.message.endswith(text)


def test_a_group_is_looked_for_on_a_vm() -> None:
    group = {"vmId": None, "databases": [{"availabilityGroup": "ag1", "database": "x"}]}
    for data, says in ((group, "is then registered and inquired."), ({}, "there are: none.")):
        ((_, failure),) = select_for_protection(protect("x", **data)).failures
        assert failure.message.endswith(says)
