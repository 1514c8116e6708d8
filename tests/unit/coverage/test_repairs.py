"""Repairs: what the rules of a request do about gaps, and what bounds them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from shared.azure_backup.models import Job, JobStatus
from shared.coverage.gaps import Gap, gaps_of
from shared.coverage.repairs import COVERAGE_SOURCE, LEFT_TO_INTENT, Repair, Repairs
from shared.coverage.scope import Scope
from shared.coverage.survey import survey
from shared.engine.message import StepMessage
from shared.messages.identity import Request
from shared.messages.requests import CoverageData, Operation
from tests.unit.coverage.estate import HOURLY_LOGS, NOW, container, item, listings
from tests.unit.examples import CONTAINER, VAULT, VM, protectable

STALE: dict[str, Any] = {"last_backup_time": NOW - timedelta(days=2)}
FAILED: dict[str, Any] = {"last_backup_status": "Unhealthy", "last_backup_time": NOW - timedelta(hours=1)}
RULES = {"onUnprotected": {"protect": {"policyName": "Daily"}}, "onStale": {"backup": {"backupType": "Full"}}}


def job(
    name: str, operation: str = "Backup (Full)", *, ago: timedelta = timedelta(hours=1), **more: Any
) -> Job:
    fields: dict[str, Any] = {
        "id": f"job-{name}-{ago}",
        "entity_name": f"{name} [sqlvm1]",
        "operation": operation,
        "status": JobStatus.COMPLETED,
        "start_time": NOW - ago,
    }
    return Job(**{**fields, **more})


def repaired(
    *items: Any,
    jobs: list[Job] | None = None,
    mutations: bool = True,
    rules: dict[str, Any] | None = None,
    intents: dict[tuple[str, str], str | None] | None = None,
    at: Any = NOW,
    max_age: timedelta | None = None,
) -> dict[str, Repair | None]:
    """What is done about each database in a gap, by its name."""
    # Enough that a gap is not most of the VM.
    healthy = [item(f"healthy{number}", last_backup_time=at) for number in range(12)]
    found = listings(*items, *healthy, jobs=jobs or [], policies=[HOURLY_LOGS], containers=[container()])
    databases = survey(found, Scope(max_age=max_age), at).databases
    data = CoverageData.model_validate({"vaultIds": [VAULT.path], **(RULES if rules is None else rules)})
    request = Request(operation=Operation.COVERAGE, source="/tests", id="one", vault_id=VAULT)
    repairs = Repairs(
        request,
        data,
        found,
        now=at,
        mutations=mutations,
        doubtful=frozenset(),
        intent_policies=intents or {},
    )
    repairs.count_running(databases)
    gaps: list[Gap] = gaps_of(databases, found, at)
    return {gap.database.name: repairs.repair_of(gap) for gap in gaps}


def only(*items: Any, **more: Any) -> Repair:
    (found,) = repaired(*items, **more).values()
    assert found is not None
    return found


def test_what_is_stale_or_failed_is_backed_up_and_what_is_unprotected_protected() -> None:
    done = repaired(item("stale", **STALE), item("failed", **FAILED), protectable("new"))
    steps = {
        name: repair.to.step for name, repair in done.items() if repair is not None and repair.to is not None
    }
    assert steps == {"stale": "trigger_backup", "failed": "trigger_backup", "new": "enable_protection"}
    for repair in done.values():
        assert repair is not None
        assert repair.request is not None
        assert repair.to is not None
        assert repair.request.source == COVERAGE_SOURCE
        assert repair.to.look_first


def test_without_rules_nothing_is_done() -> None:
    assert repaired(item("stale", **STALE), protectable("new"), rules={}) == {"stale": None, "new": None}


def test_whoever_finds_a_gap_asks_for_the_same_repair_and_a_day_later_for_another() -> None:
    first = only(item("stale", **STALE)).request
    assert only(item("stale", **STALE), at=NOW + timedelta(minutes=5)).request == first
    assert only(item("stale", **STALE), at=NOW + timedelta(days=1)).request != first


@pytest.mark.parametrize(
    ("items", "more", "reason"),
    [
        ([item("a", **STALE)], {"mutations": False}, "MutationsOff"),
        ([protectable("a")], {"mutations": False}, "MutationsOff"),
        ([item("a", **STALE)], {"jobs": [job("a", "Backup", status=JobStatus.IN_PROGRESS)]}, "BackupRunning"),
        (
            [item("a", **STALE)],
            {"jobs": [job("a", ago=timedelta(minutes=number)) for number in range(6)]},
            "FullsSpent",
        ),
        (
            [item("a", recovery_model="Simple", **STALE)],
            {"rules": {"onStale": {"backup": {"backupType": "Log"}}}},
            "TypeNotSupported",
        ),
        ([protectable("a", is_protectable=False)], {}, "NotProtectable"),
        (
            [protectable("a")],
            {"rules": {"onUnprotected": {"protect": {"policyName": "Nightly"}}}},
            "PolicyNotFound",
        ),
    ],
)
def test_a_repair_is_held_back(items: list[Any], more: dict[str, Any], reason: str) -> None:
    repair = only(*items, **more)
    assert (repair.info.reason, repair.to) == (reason, None)
    assert repair.info.message is not None
    assert repair.info.message.startswith("No repair: ")


def test_five_fulls_of_the_day_leave_room_for_one_more() -> None:
    jobs = [job("a", ago=timedelta(minutes=number)) for number in range(5)]
    assert only(item("a", **STALE), jobs=jobs).to is not None


def _started(repair: Repair, *, ago: timedelta, status: JobStatus) -> Job:
    """The job of a repair."""
    assert repair.to is not None
    message: StepMessage[Any] = StepMessage(
        step=repair.to.step,
        sender="survey_vault",
        at=NOW,
        since=NOW,
        request=repair.request,
        payload=repair.to.payload,
    )
    return job("stale", ago=ago, status=status, activity_id=message.client_request_id)


def test_a_database_is_repaired_once_in_24_hours() -> None:
    first = only(item("stale", **STALE))
    failed = _started(first, ago=timedelta(hours=1), status=JobStatus.FAILED)
    assert only(item("stale", **STALE), jobs=[failed]).info.reason == "RepairedLately"
    # The next day has a repair of its own, and still sees that of the day before.
    tomorrow = NOW + timedelta(hours=22)
    assert only(item("stale", **STALE), jobs=[failed], at=tomorrow).info.reason == "RepairedLately"
    assert only(item("stale", **STALE), jobs=[failed], at=NOW + timedelta(hours=24)).to is not None


def test_a_vm_has_five_repairs_at_a_time() -> None:
    stale = [item(f"stale{number}", **STALE) for number in range(7)]
    done = repaired(*stale)
    sent = [name for name, repair in done.items() if repair is not None and repair.to is not None]
    held = {repair.info.reason for repair in done.values() if repair is not None and repair.to is None}
    assert (len(sent), held) == (5, {"VirtualMachineBusy"})
    first = only(item("stale", **STALE))
    running = _started(first, ago=timedelta(hours=30), status=JobStatus.IN_PROGRESS).model_copy(
        update={"entity_name": "healthy1 [sqlvm1]"}
    )
    done = repaired(*stale, jobs=[running])
    assert sum(repair is not None and repair.to is not None for repair in done.values()) == 4


def instance(**details: Any) -> Any:
    return protectable(
        "MSSQLSERVER",
        id=f"{CONTAINER.path}/protectableItems/SQLInstance;mssqlserver",
        wire_name="SQLInstance;mssqlserver",
        item_type="SQLInstance",
        is_auto_protected=True,
        is_protectable=False,
        **details,
    )


def test_an_instance_with_an_intent_is_left_to_it_for_a_day() -> None:
    place = (VM.key, "mssqlserver")
    repair = only(protectable("new"), instance(), intents={place: "Daily"})
    assert repair.to is not None
    assert repair.to.delay == LEFT_TO_INTENT
    assert repair.info.not_before == NOW + LEFT_TO_INTENT
    # However often it is found meanwhile, it is one.
    again = only(
        protectable("new"), instance(), intents={place: "Daily"}, at=NOW + timedelta(days=1, hours=1)
    )
    assert again.request == repair.request


def test_a_rule_with_another_policy_than_the_intent_is_refused() -> None:
    repair = only(protectable("new"), instance(), intents={(VM.key, "mssqlserver"): "Weekly"})
    assert repair.info.reason == "AutoProtectedByAnotherPolicy"


def test_a_first_backup_is_left_to_the_policy_until_it_is_due() -> None:
    pending = {"last_backup_status": "IRPending", "last_backup_time": None}
    configured = job("new", "ConfigureBackup", ago=timedelta(hours=3))
    assert only(item("new", **pending), jobs=[configured]).info.reason == "FirstBackupScheduled"
    old = job("new", "ConfigureBackup", ago=timedelta(hours=30))
    assert only(item("new", **pending), jobs=[old]).to is not None


def test_what_a_repair_leads_to_has_no_second_one_that_day() -> None:
    hourly = {"maxAge": "PT2H", **RULES}
    (first,) = repaired(item("stale", **STALE)).values()
    assert first is not None
    done = _started(first, ago=timedelta(hours=3), status=JobStatus.COMPLETED)
    # It succeeded, and what it took is older than the rule allows again; it failed, and the stale one is failing now.
    again = item("stale", last_backup_time=NOW - timedelta(hours=3))
    failing = item("stale", last_backup_status="Unhealthy", last_backup_time=NOW - timedelta(hours=3))
    for then, rules in ((again, hourly), (failing, RULES)):
        (repair,) = repaired(then, jobs=[done], rules=rules, max_age=timedelta(hours=2)).values()
        assert repair is not None
        assert (repair.info.reason, repair.to) == ("RepairedLately", None)
    # A vault that does not show request ids has the broker alone, which drops what bears the same id.
    (unseen,) = repaired(again, rules=hourly, max_age=timedelta(hours=2)).values()
    assert unseen is not None
    assert unseen.request == first.request


def test_a_backup_of_a_group_is_seen_whichever_node_took_it() -> None:
    group = item(
        "stale",
        instance="ag1",
        parent_type="AzureVmWorkloadSQLAvailabilityGroup",
        server_name="node1",
        **STALE,
    )
    running = job("stale", "Backup", status=JobStatus.IN_PROGRESS, entity_name="stale [node2]")
    neighbours = [
        item(f"well{number}", instance="ag1", parent_type="AzureVmWorkloadSQLAvailabilityGroup")
        for number in range(3)
    ]
    (repair,) = repaired(group, *neighbours, jobs=[running]).values()
    assert repair is not None
    assert repair.info.reason == "BackupRunning"
