"""Gaps: what they are known by, when they are told again, and when a VM's are one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from shared.azure_backup.models import ErrorDetail
from shared.coverage.gaps import MOST_IN_A_GAP, VM_STOPPED, VM_UNHEALTHY, Gap, gap_of, gaps_of
from shared.coverage.scope import Scope
from shared.coverage.states import CoverageState
from shared.coverage.survey import survey
from tests.unit.coverage.estate import NOW, container, item, listings, policy, sub_policy
from tests.unit.examples import CONTAINER, protectable

STALE: dict[str, Any] = {"last_backup_time": NOW - timedelta(days=3)}
WEEK = timedelta(weeks=1)


def told(*items: Any, scope: Scope | None = None, **more: Any) -> list[Gap]:
    found = listings(*items, **more)
    return gaps_of(survey(found, scope or Scope(), NOW).databases, found, NOW)


def test_a_gap_is_the_same_whoever_looks_and_whenever_within_its_week() -> None:
    (gap,) = told(item("orders", **STALE), item("a"), item("b"))
    assert gap.since == NOW - timedelta(days=3)
    later = gap_of(gap.entry, NOW + timedelta(hours=5)) if gap.entry is not None else gap
    assert gap.identity(NOW) == later.identity(NOW + timedelta(hours=5))


def test_a_gap_is_told_again_each_week_as_a_reminder() -> None:
    (gap,) = told(item("orders", **STALE), item("a"), item("b"))
    assert gap.reminders(NOW) == 0
    assert gap.reminders(gap.opened + WEEK) == 1
    assert gap.identity(gap.opened + WEEK) != gap.identity(NOW)
    assert gap.reminders(gap.opened + 2 * WEEK - timedelta(seconds=1)) == 1


def test_what_nobody_knows_the_beginning_of_is_known_by_the_week() -> None:
    (gap,) = told(protectable("new"), item("a"), item("b"))
    assert (gap.state, gap.since, gap.dated) == ("unprotected", None, "2026-W02")
    assert gap.entry is not None
    assert gap_of(gap.entry, NOW + timedelta(days=6)).key == gap.key
    assert gap_of(gap.entry, NOW + WEEK).key != gap.key


@pytest.mark.parametrize(
    ("items", "more", "code"),
    [
        ([item("a", health_status="NotReachable"), item("b", health_status="NotReachable")], {}, VM_STOPPED),
        (
            [item("a", **STALE), item("b")],
            {"containers": [container(health_status="Unhealthy")]},
            VM_UNHEALTHY,
        ),
        ([item("a", **STALE), item("b", **STALE), item("c")], {}, MOST_IN_A_GAP),
    ],
)
def test_a_vm_in_trouble_is_one_gap(items: list[Any], more: dict[str, Any], code: str) -> None:
    found = told(*items, **more)
    (gap,) = found
    assert (gap.state, gap.code) == ("virtualMachine", code)
    assert gap.info(None).database is None
    assert gap.entry is None


@pytest.mark.parametrize(
    "items",
    [
        [item("a", **STALE), item("b")],
        # One that is unreachable among those that are not is its own.
        [item("a", health_status="NotReachable"), item("b"), item("c")],
    ],
)
def test_half_of_a_vm_is_not_most_of_it(items: list[Any]) -> None:
    (gap,) = told(*items)
    assert gap.database.name == "a"


def test_another_policy_is_no_sign_of_trouble() -> None:
    found = told(
        item("a", policy_name="Other"), item("b", policy_name="Other"), scope=Scope(policy_name="Daily")
    )
    assert [gap.state for gap in found] == [CoverageState.WRONG_POLICY.value] * 2


def test_what_a_request_does_not_name_is_part_of_its_vm() -> None:
    found = listings(item("a", **STALE), item("b"), item("c"))
    databases = survey(found, Scope(), NOW).databases
    named = [one for one in databases if one.database.name == "a"]
    others = [one for one in databases if one.database.name != "a"]
    (gap,) = gaps_of(named, found, NOW, others=others)
    assert gap.database.name == "a", "one of three is not most of the VM"
    (alone,) = gaps_of(named, found, NOW)
    assert alone.code == MOST_IN_A_GAP


def test_an_instance_that_cannot_be_looked_into_is_told_with_its_reason() -> None:
    instance = protectable(
        "MSSQLSERVER",
        id=f"{CONTAINER.path}/protectableItems/SQLInstance;mssqlserver",
        item_type="SQLInstance",
        is_protectable=False,
        prebackup_validation=ErrorDetail(code="UserErrorSQLNoSysadminMembership", message="No rights."),
    )
    (gap,) = told(instance)
    assert (gap.state, gap.code) == ("unhealthy", "UserErrorSQLNoSysadminMembership")


def test_what_fails_after_a_long_pause_of_its_policy_is_no_reminder() -> None:
    weekly = policy(sub_policy("Full", days=["Monday"]))
    last = NOW - timedelta(days=7, hours=2)
    failing = item("orders", last_backup_status="Unhealthy", last_recovery_point=last)
    (gap,) = told(failing, item("a"), item("b"), policies=[weekly])
    assert (gap.state, gap.since, gap.reminders(NOW)) == ("failing", last, 0)
    assert gap.reminders(NOW + 2 * WEEK) == 2


def test_a_gap_is_the_same_with_however_many_digits_its_moment_is_written() -> None:
    moment = NOW - timedelta(days=3)
    (listed,) = told(item("orders", last_backup_time=moment), item("a"), item("b"))
    exact = moment + timedelta(microseconds=412345)
    (read,) = told(item("orders", last_backup_time=exact), item("a"), item("b"))
    assert read.identity(NOW) == listed.identity(NOW)
