"""How a database stands, in every state that its listings can show it in."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.arm.ids import ContainerId, VirtualMachineId
from shared.azure_backup.listings import Unusable
from shared.azure_backup.models import (
    Container,
    ErrorDetail,
    Inquiry,
    InquiryDetail,
    ProtectableItem,
    ProtectedItem,
)
from shared.coverage.scope import Scope
from shared.coverage.states import CoverageState
from shared.drills import DrillTarget
from shared.messages.requests import DatabaseSelector
from tests.unit.coverage.estate import (
    FAILED_LAST,
    HOUR,
    NOW,
    container,
    item,
    log_policy,
    only,
    policy,
    sub_policy,
    surveyed,
)
from tests.unit.examples import CONTAINER, SUBSCRIPTION, VAULT, VM, job, protectable

Listed = ProtectedItem | ProtectableItem
FAILED = FAILED_LAST
PENDING: dict[str, Any] = {
    "protection_state": "IRPending",
    "last_backup_status": "IRPending",
    "health_status": "IRPending",
}

#: what is listed, what is asked, the state and the code
CASES: dict[str, tuple[Listed, dict[str, Any], str, str]] = {
    "young": (item(), {}, "covered", ""),
    "a minute ahead of the service's clock": (
        item(last_backup_time=NOW + timedelta(minutes=1)),
        {},
        "covered",
        "",
    ),
    "older than a log interval, model not known": (
        item(last_backup_time=NOW - 3 * HOUR),
        {},
        "unknown",
        "RecoveryModelUnread",
    ),
    "older than a log interval, simple": (
        item(last_backup_time=NOW - 3 * HOUR, recovery_model="SIMPLE"),
        {},
        "covered",
        "",
    ),
    "older than a log interval, full": (
        item(last_backup_time=NOW - 3 * HOUR, recovery_model="FULL"),
        {},
        "stale",
        "BackupTooOld",
    ),
    "older than a log interval, bulk-logged": (
        item(last_backup_time=NOW - 3 * HOUR, recovery_model="BULK_LOGGED"),
        {},
        "stale",
        "BackupTooOld",
    ),
    "older than the pause of fulls, model not known": (
        item(last_backup_time=NOW - 26 * HOUR),
        {},
        "stale",
        "BackupTooOld",
    ),
    "simple, older than the pause of fulls": (
        item(last_backup_time=NOW - 26 * HOUR, recovery_model="SIMPLE"),
        {},
        "stale",
        "BackupTooOld",
    ),
    "within the hour that a backup may be late": (item(last_backup_time=NOW - 2 * HOUR), {}, "covered", ""),
    "a year old and said to be healthy": (
        item(last_backup_time=NOW - timedelta(days=385), health_status="NotReachable"),
        {},
        "stale",
        "BackupTooOld",
    ),
    "older than the request allows": (
        item(last_backup_time=NOW - 3 * HOUR),
        {"max_age": 2 * HOUR},
        "stale",
        "BackupTooOld",
    ),
    "as old as the request allows, whatever the policy says": (
        item(last_backup_time=NOW - 50 * HOUR),
        {"max_age": 50 * HOUR},
        "covered",
        "",
    ),
    "a policy that is not listed": (item(policy_name="Gone"), {}, "unknown", "PolicyUnread"),
    "a policy that is not listed, with a maximum age": (
        item(policy_name="Gone"),
        {"max_age": HOUR},
        "covered",
        "",
    ),
    "failed": (item(**FAILED), {}, "failing", "UserErrorSQLPODoesNotExist"),
    "failed, without a code": (item(last_backup_status="Unhealthy"), {}, "failing", "BackupFailed"),
    "failed and long ago: the failure is told": (
        item(**FAILED, last_backup_time=NOW - timedelta(days=9)),
        {},
        "failing",
        "UserErrorSQLPODoesNotExist",
    ),
    "first backup pending": (
        item(**PENDING, last_backup_time=None),
        {},
        "neverBackedUp",
        "FirstBackupPending",
    ),
    "first backup running: an error that is none": (
        item(**PENDING, last_backup_error=ErrorDetail(code="CloudInternalError")),
        {},
        "neverBackedUp",
        "FirstBackupPending",
    ),
    "healthy without any backup": (item(last_backup_time=None), {}, "neverBackedUp", "FirstBackupPending"),
    "a status that is not known": (item(last_backup_status="Odd"), {}, "unknown", "BackupStatusUnknown"),
    "stopped, and its last backup young": (
        item(protection_state="ProtectionStopped", policy_name=None),
        {},
        "stopped",
        "ProtectionStopped",
    ),
    "suspended": (item(protection_state="BackupsSuspended"), {}, "stopped", "ProtectionStopped"),
    "paused": (item(protection_state="ProtectionPaused"), {}, "stopped", "ProtectionStopped"),
    "soft-deleted": (
        item(protection_state="ProtectionStopped", is_scheduled_for_deferred_delete=True),
        {},
        "stopped",
        "ItemSoftDeleted",
    ),
    "not reachable, and its last backup young": (
        item(health_status="NotReachable"),
        {},
        "unhealthy",
        "NotReachable",
    ),
    "not reachable, and its recovery model not known": (
        item(health_status="NotReachable", last_backup_time=NOW - 3 * HOUR),
        {},
        "unhealthy",
        "NotReachable",
    ),
    "protection in error": (item(protection_state="ProtectionError"), {}, "unhealthy", "ProtectionError"),
    "another policy than asked for": (
        item(),
        {"policy_name": "Gold"},
        "wrongPolicy",
        "ProtectedByAnotherPolicy",
    ),
    "the policy asked for, in another case": (item(), {"policy_name": "DAILY"}, "covered", ""),
    "stale and under another policy: stale": (
        item(last_backup_time=NOW - 99 * HOUR),
        {"policy_name": "Gold"},
        "stale",
        "BackupTooOld",
    ),
    "not protected": (protectable("orders"), {}, "unprotected", "NotProtected"),
    "not protectable": (
        protectable(
            "orders",
            is_protectable=False,
            prebackup_validation=ErrorDetail(code="UserErrorDatabaseOffline", message="It is offline."),
        ),
        {},
        "unprotected",
        "UserErrorDatabaseOffline",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_state(name: str) -> None:
    listed, asked, state, code = CASES[name]
    found = only(listed, scope=Scope(**asked))
    assert (found.state, found.code) == (state, code)
    assert found.is_gap == (state not in ("covered", "unknown"))
    # Whatever is not well says why and what to do.
    assert bool(found.message and found.advice) == (state != "covered")


def test_master_takes_fulls_alone_so_log_backups_do_not_make_it_stale() -> None:
    weekly = policy(
        sub_policy("Full", days=["Sunday"]),
        sub_policy("Differential", days=["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]),
        log_policy(60),
    )
    scope = Scope(include_system=True)
    old = item("master", last_backup_time=NOW - timedelta(days=6))
    assert only(old, scope=scope, policies=[weekly]).state == "covered"
    old = item("master", last_backup_time=NOW - timedelta(days=8))
    assert only(old, scope=scope, policies=[weekly]).state == "stale"


def test_what_was_read_singly_settles_what_the_listing_left_open() -> None:
    listed = item(last_backup_time=NOW - 3 * HOUR)
    found = only(listed)
    assert found.needs_recovery_model
    assert found.item_id == listed.id
    read = listed.model_copy(
        update={"recovery_model": "FULL", "last_recovery_point": NOW - timedelta(hours=3, minutes=1)}
    )
    assert only(listed, read=[read]).state == "stale"
    assert only(listed, read=[read.model_copy(update={"recovery_model": "SIMPLE"})]).state == "covered"


def test_a_recovery_point_that_was_read_counts_before_the_status_tells_of_it() -> None:
    listed = item(**PENDING)
    assert only(listed).state == "neverBackedUp"
    read = listed.model_copy(update={"last_recovery_point": NOW - HOUR, "recovery_model": "FULL"})
    assert only(listed, read=[read]).state == "covered"


def test_since_is_the_last_good_backup_as_far_as_it_is_known() -> None:
    failed = item(**FAILED)
    assert only(failed).since is None
    done = job("good", status="Completed", start_time=NOW - 9 * HOUR)
    also_failed = job("bad", status="Failed", start_time=NOW - 2 * HOUR)
    assert only(failed, jobs=[also_failed, done]).since == done.start_time
    read = failed.model_copy(update={"last_recovery_point": NOW - 8 * HOUR})
    assert only(failed, jobs=[done], read=[read]).since == NOW - 8 * HOUR
    stale = item(last_backup_time=NOW - 40 * HOUR)
    assert only(stale).since == NOW - 40 * HOUR


def test_jobs_that_may_be_those_of_a_namesake_tell_nothing() -> None:
    done = job("good", status="Completed", start_time=NOW - 9 * HOUR)
    found = surveyed(item(**FAILED), item(instance="SECOND", **FAILED), jobs=[done])
    assert [one.since for one in found.databases] == [None, None]
    on_another_vm = job("other", status="Completed", start_time=NOW, entity_name="orders [sqlvm2]")
    assert only(item(**FAILED), jobs=[on_another_vm]).since is None


def test_since_of_the_unprotected_is_when_protection_ended() -> None:
    deleted = job("d", operation="DeleteBackupData", status="Completed", start_time=NOW - 5 * HOUR)
    stopped = job("s", operation="DisableBackup", status="Completed", start_time=NOW - 7 * HOUR)
    assert only(protectable("orders"), jobs=[stopped, deleted]).since == deleted.start_time
    assert only(protectable("orders")).since is None


def test_since_of_what_was_never_backed_up_is_its_protection() -> None:
    configured = job("c", operation="ConfigureBackup", status="Completed", start_time=NOW - 5 * HOUR)
    assert only(item(**PENDING), jobs=[configured]).since == configured.start_time


def test_a_running_backup_is_told_beside_the_state() -> None:
    found = only(item(**FAILED), jobs=[job(status="InProgress")])
    assert found.state == "failing"
    assert found.backup_running


def test_deleted_and_offered_again_is_unprotected_and_told_once() -> None:
    deleted = item(protection_state="ProtectionStopped", is_scheduled_for_deferred_delete=True)
    found = only(deleted, protectable("orders"))
    assert (found.state, found.code) == ("unprotected", "NotProtected")


@pytest.mark.parametrize("order", [1, -1])
def test_deleted_and_protected_anew_counts_as_what_is_live(order: int) -> None:
    deleted = item(protection_state="ProtectionStopped", is_scheduled_for_deferred_delete=True)
    assert only(*[deleted, item()][::order]).state == "covered"


def test_a_protected_database_that_is_offered_too_is_told_once() -> None:
    assert only(item(), protectable("orders")).state == "covered"


def test_names_that_only_their_case_tells_apart_are_two() -> None:
    found = surveyed(item("Orders"), item("orders", last_backup_status="Unhealthy"))
    assert [(one.database.name, one.state) for one in found.databases] == [
        ("orders", "failing"),
        ("Orders", "covered"),
    ]


def test_system_databases_are_left_out_and_counted() -> None:
    found = surveyed(item("master"), item("msdb", **FAILED), item())
    assert [one.database.name for one in found.databases] == ["orders"]
    assert found.left_out == {"systemDatabase": 2}
    found = surveyed(item("master"), item(), scope=Scope(include_system=True))
    assert {one.database.name for one in found.databases} == {"master", "orders"}


def test_selectors_and_exclusions_are_those_of_requests() -> None:
    scope = Scope(
        databases=(
            DatabaseSelector(instance="*", database="o*"),
            DatabaseSelector(instance="MSSQLSERVER", database="gone"),
        ),
        exclude=(DatabaseSelector(instance="*", database="ORDERS_OLD"),),
    )
    found = surveyed(item("orders"), item("orders_old"), item("billing"), scope=scope)
    assert [one.database.name for one in found.databases] == ["orders"]
    assert found.left_out == {"excluded": 1}
    assert found.missed == ("MSSQLSERVER/gone",)


def test_an_empty_vault_misses_nothing() -> None:
    found = surveyed()
    assert found.databases == ()
    assert found.missed == ()


def test_unusable_entries_are_unknown_with_their_reason() -> None:
    bad = Unusable(
        code="NotAddressable", why="cannot be addressed: it has a slash", name="a/b", parent="MSSQLSERVER"
    )
    of_instance = Unusable(
        code="ProtectedAsInstance", why="is protected with its whole instance", name="x", parent="SNAP"
    )
    found = surveyed(unusable=[of_instance], unusable_protectable=[bad])
    assert [(one.database.name, one.state, one.code) for one in found.databases] == [
        ("a/b", "unknown", "NotAddressable"),
        ("x", "unknown", "ProtectedAsInstance"),
    ]
    assert not any(entry.is_gap for entry in found.databases)


def test_an_instance_that_cannot_be_used_is_unknown_as_a_whole() -> None:
    bad = Unusable(code="NotAddressable", why="cannot be addressed", name="ODD", is_database=False)
    (found,) = surveyed(unusable_protectable=[bad]).databases
    assert (found.database.instance, found.database.name, found.state) == ("ODD", "*", "unknown")


def test_unusable_containers_are_unknown_with_their_reason() -> None:
    bad = Unusable(code="NotAddressable", why="cannot be addressed", name="odd", virtual_machine_id=VM)
    (found,) = surveyed(unusable_containers=[bad]).databases
    assert (found.database.name, found.database.vm_id, found.state) == ("*", VM, "unknown")


def failed_inquiry(code: str = "UserErrorOpeningSQLConnection") -> Container:
    detail = InquiryDetail(type="SQL", status="Failed", error=ErrorDetail(code=code, message="No way in."))
    return container(inquiry=Inquiry(status="Success", details=(detail,)))


def test_a_vm_whose_databases_cannot_be_looked_for_is_a_gap_of_its_own() -> None:
    found = surveyed(item(), containers=[failed_inquiry()])
    assert [(one.database.name, one.state, one.code) for one in found.databases] == [
        ("*", "unhealthy", "UserErrorOpeningSQLConnection"),
        ("orders", "covered", ""),
    ]
    assert "log on" in found.databases[0].advice


def test_an_instance_that_the_service_cannot_back_up_is_a_gap_of_its_own() -> None:
    instance = protectable(
        "PAYROLL",
        item_type="SQLInstance",
        is_protectable=False,
        prebackup_validation=ErrorDetail(code="UserErrorSQLNoSysadminMembership", message="No rights."),
    )
    (found,) = surveyed(instance).databases
    assert (found.database.instance, found.database.name) == ("PAYROLL", "*")
    assert (found.state, found.code) == ("unhealthy", "UserErrorSQLNoSysadminMembership")
    assert "sysadmin" in found.advice


def test_a_container_of_sap_hana_is_no_business_of_ours() -> None:
    error = ErrorDetail(code="UserErrorHANASystemDBNotRunning", message="Not running.")
    details = (
        InquiryDetail(type="SAPHana", item_count=1, status="Failed", error=error),
        InquiryDetail(type="SQL", item_count=0, status="Failed", error=error),
    )
    found = surveyed(containers=[container(inquiry=Inquiry(status="Success", details=details))])
    assert found.databases == ()
    assert found.containers == ()


def test_the_databases_of_a_deleted_vm_say_so() -> None:
    found = only(item(), containers=[container(health_status="Deleted")])
    assert (found.state, found.code) == ("unhealthy", "VirtualMachineDeleted")


@pytest.mark.parametrize(
    ("health", "state"),
    [("Healthy", "covered"), ("", "covered"), ("Odd", "covered"), ("Unhealthy", "unhealthy")],
)
def test_the_health_of_the_vm_counts_where_it_means_no_backup(health: str, state: str) -> None:
    assert only(item(), containers=[container(health_status=health)]).state == state


def test_a_database_whose_vm_is_registered_no_more_is_unhealthy() -> None:
    found = only(item(), containers=[])
    assert (found.state, found.code) == ("unhealthy", "ContainerUnhealthy")


def test_databases_on_vms_without_an_id_are_not_taken_for_one() -> None:
    other = ContainerId(VAULT, "Azure", "VMAppContainer;Compute;rg-sql;sqlvm2")
    one = item(virtual_machine_id=None)
    two = one.model_copy(update={"id": type(one.id)(other, one.id.name), "server_name": "sqlvm2"})
    assert len(surveyed(one, two, containers=[]).databases) == 2


def test_databases_of_availability_groups_are_told_by_their_group() -> None:
    group = ContainerId(VAULT, "Azure", "SQLAGWorkLoadContainer;00000000-0000-0000-0000-0000000000aa;ag1")
    one = item(parent_type="AzureVmWorkloadSQLAvailabilityGroup", instance="ag1", virtual_machine_id=None)
    one = one.model_copy(update={"id": type(one.id)(group, one.id.name)})
    found = only(one)
    assert found.database.availability_group == "ag1"
    assert found.state == "covered"


def drill_target(vm: VirtualMachineId, instance: str) -> DrillTarget:
    return DrillTarget.model_validate({"vmId": vm.path, "instance": instance})


DRILLS = drill_target(VM, "mssqlserver")


@pytest.mark.parametrize(
    ("name", "targets", "shown"),
    [
        ("drill_orders_0123abcd", (DRILLS,), False),
        ("drill_orders_0123abcd", (), True),
        ("drill_orders_0123ABCD", (DRILLS,), True),
        ("drill_orders", (DRILLS,), True),
        ("mydrill_orders_0123abcd", (DRILLS,), True),
        ("drill_orders_0123abcd", (drill_target(VM, "OTHER"),), True),
        (
            "drill_orders_0123abcd",
            (drill_target(VirtualMachineId(SUBSCRIPTION, "rg", "vm9"), "MSSQLSERVER"),),
            True,
        ),
        (f"drill_{'x' * 90}_0123abcd", (DRILLS,), False),
        (f"drill_{'x' * 91}_0123abcd", (DRILLS,), True),
    ],
)
def test_drill_databases_are_in_no_report_where_drills_restore_them(
    name: str, targets: tuple[DrillTarget, ...], shown: bool
) -> None:
    found = surveyed(protectable(name), scope=Scope(drill_targets=targets))
    assert bool(found.databases) == shown


def test_an_instance_with_a_protection_intent_is_shown() -> None:
    instance = protectable("MSSQLSERVER", item_type="SQLInstance", is_auto_protected=True)
    found = surveyed(instance, protectable("orders"), item("billing"), protectable("x", instance="OTHER"))
    assert {one.database.name: one.auto_protected for one in found.databases} == {
        "orders": True,
        "billing": True,
        "x": False,
    }
    told = next(one for one in found.databases if one.database.name == "orders")
    assert "auto-protected" in told.message


def test_a_renamed_database_is_told_as_two_with_the_hint() -> None:
    found = surveyed(item("old", **FAILED), protectable("new"))
    assert [one.state for one in found.databases] == ["failing", "unprotected"]
    assert "new name" in found.databases[0].advice
    assert "new name" not in only(item("old", **FAILED)).advice


def test_the_worst_comes_first() -> None:
    found = surveyed(
        item("a"),
        item("b", **FAILED),
        protectable("c"),
        item("d", last_backup_time=NOW - 99 * HOUR),
        item("e", **PENDING),
    )
    assert [one.database.name for one in found.databases] == ["b", "d", "e", "c", "a"]
    assert found.counts == {
        CoverageState.FAILING: 1,
        CoverageState.STALE: 1,
        CoverageState.NEVER_BACKED_UP: 1,
        CoverageState.UNPROTECTED: 1,
        CoverageState.COVERED: 1,
    }
    assert sum(entry.is_gap for entry in found.databases) == 4


def test_it_is_told_how_old_the_knowledge_of_a_vm_is() -> None:
    registered = container(last_updated=NOW - timedelta(days=90))
    (known,) = surveyed(containers=[registered]).containers
    assert known.vm_id == VM
    assert known.updated == NOW - timedelta(days=90)
    assert registered.id == CONTAINER


_names = st.sampled_from(["orders", "Orders", "orders ", "a/b", "drill_x_0123abcd", "*", "master", "Кадры"])
_words = st.sampled_from(["", "Healthy", "Unhealthy", "IRPending", "NotReachable", "Odd", "HEALTHY"])
_protection = st.sampled_from(["", "Protected", "IRPending", "ProtectionStopped", "ProtectionError", "Odd"])
_ages = st.none() | st.integers(-(10**6), 10**9)


@st.composite
def _items(draw: st.DrawFn) -> ProtectedItem:
    seconds = draw(_ages)
    return item(
        "x",
        instance=draw(st.sampled_from(["MSSQLSERVER", "SECOND"])),
        protection_state=draw(_protection),
        last_backup_status=draw(_words),
        health_status=draw(_words),
        last_backup_time=None if seconds is None else NOW - timedelta(seconds=seconds),
        policy_name=draw(st.sampled_from([None, "Daily", "Gone"])),
        recovery_model=draw(st.sampled_from([None, "SIMPLE", "FULL"])),
        is_scheduled_for_deferred_delete=draw(st.booleans()),
        virtual_machine_id=draw(st.sampled_from([None, VM])),
    ).model_copy(update={"name": draw(_names)})


@given(
    items=st.lists(_items(), max_size=12),
    offered=st.lists(_names, max_size=12),
    registered=st.booleans(),
    hours=st.none() | st.integers(1, 100),
)
def test_whatever_is_listed_is_told_once(
    items: list[ProtectedItem], offered: list[str], registered: bool, hours: int | None
) -> None:
    scope = Scope(include_system=True, max_age=None if hours is None else hours * HOUR)
    plain = [protectable("x").model_copy(update={"name": name}) for name in offered]
    found = surveyed(*items, *plain, containers=[container()] if registered else [], scope=scope)
    listed = {(one.instance, one.name) for one in items} | {(one.instance, one.name) for one in plain}
    told = [(one.database.instance, one.database.name) for one in found.databases]
    assert sorted(told) == sorted(listed)
    for one in found.databases:
        assert (one.state == "covered") == (not one.code)
        assert bool(one.message and one.advice) == (one.state != "covered")


def test_a_backup_of_the_future_covers_nothing() -> None:
    for scope in (Scope(), Scope(max_age=HOUR)):
        found = only(item(last_backup_time=NOW + timedelta(days=400)), scope=scope)
        assert (found.state, found.code) == ("unknown", "BackupStatusUnknown")


def test_a_vm_whose_registration_cannot_be_read_is_not_taken_for_gone() -> None:
    odd = Unusable(code="NotReadable", why="cannot be read", name=CONTAINER.name, container=CONTAINER)
    found = surveyed(item(), containers=[], unusable_containers=[odd])
    assert {(one.database.name, one.state) for one in found.databases} == {
        ("orders", CoverageState.COVERED),
        ("*", CoverageState.UNKNOWN),
    }
