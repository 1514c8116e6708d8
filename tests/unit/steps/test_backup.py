"""One database's backup: how long it is kept, whether it is taken at all, and what its outcome tells."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from shared.azure_backup.models import Job, RecoveryPoint
from shared.engine.result import Call, Continue, End
from shared.listing_cache import ItemCache
from shared.messages.events import ErrorInfo, OutcomeDetails, Status
from shared.messages.identity import Database
from shared.messages.requests import BackupType, Operation
from shared.schedules import read_schedules
from shared.settings import Settings
from shared.steps.backup import (
    DEFAULT_RETENTION,
    MOST_NAMED,
    after_backup,
    attempts,
    conclude,
    conflict_status,
    expiry,
    select_items,
    trigger_backup,
    with_recovery_point,
)
from shared.steps.payloads import BackupPlan, BackupTask, Planned
from tests.fakes.azure_backup import ACCEPTED, FakeAzureBackup
from tests.unit.engine.test_retry import answered
from tests.unit.examples import NOW, VM, backup_message, item_id, job, protected, request
from tests.unit.steps.calling import certain_failures, collaborators, following, made, message_to, refused
from tests.unit.steps.choices import backup
from tests.unit.steps.test_candidates import OTHER_VM, unusable
from tests.unit.steps.test_recovery_points import logs, point
from tests.unit.test_schedules import entry

S = timedelta(seconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
FAILED = End(Status.FAILED, ErrorInfo(code="UserErrorSQLPODoesNotSupportBackupType", message="No."))


def listing(*points: RecoveryPoint) -> FakeAzureBackup:
    return FakeAzureBackup(recovery_points=points)


def message(**changes: Any) -> Any:
    asked = changes.pop("request", request())
    found = backup_message(request=asked)
    return found.model_copy(update={"payload": found.payload.model_copy(update=changes)})


def task(**changes: Any) -> BackupTask:
    return cast("BackupTask", message(**changes).payload)


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ({"retain_until": NOW + DAY, "retain_for": 5 * DAY}, NOW + DAY),
        ({"retain_for": 5 * DAY}, NOW + 5 * DAY),
        ({}, NOW + DEFAULT_RETENTION[BackupType.FULL]),
        ({"backup_type": BackupType.LOG}, None),
    ],
)
def test_a_backup_is_kept_as_long_as_its_request_or_else_its_type_says(
    asked: dict[str, Any], kept: datetime | None
) -> None:
    assert expiry(task(**asked), NOW + timedelta(microseconds=5)) == kept


def test_a_backup_is_triggered_with_what_it_was_asked_for() -> None:
    azure = FakeAzureBackup()
    call = trigger_backup(message(compression=True, retain_for=DAY), collaborators(azure))
    assert isinstance(call, Call)
    assert made(azure, call) == (
        "trigger_backup",
        {"item": item_id("orders"), "backup_type": "Full", "compression": True, "expiry": NOW + DAY},
        ACCEPTED,
    )
    assert isinstance(call.payload, BackupTask)
    assert call.payload.retain_until == NOW + DAY


@pytest.mark.parametrize(("until", "taken"), [(NOW + S, True), (NOW, False), (NOW - S, False)])
def test_nothing_is_kept_until_a_moment_that_has_passed(until: datetime, taken: bool) -> None:
    result = trigger_backup(message(retain_until=until), collaborators(listing()))
    if taken:
        assert isinstance(result, Call)
    else:
        assert isinstance(result, End)
        assert result.error is not None
        assert (result.status, result.error.code) == (Status.REJECTED, "RetentionInThePast")


@pytest.mark.parametrize(
    ("points", "taken"),
    [
        ((), True),
        ((point("1", HOUR),), True),
        ((point("1", HOUR - S),), False),
        ((point("1", -5 * S),), False),
        ((point("1", -6 * S),), True),
    ],
    ids=["none", "an hour old", "younger", "a little to come", "to come"],
)
def test_what_can_be_restored_to_a_moment_young_enough_is_not_backed_up_again(
    points: tuple[RecoveryPoint, ...], taken: bool
) -> None:
    result = trigger_backup(message(unless_newer_than=HOUR), collaborators(listing(*points)))
    assert isinstance(result, Call) is taken
    if not taken:
        assert isinstance(result, End)
        assert result.error is not None
        assert (result.status, result.error.code) == (Status.SKIPPED, "RecentEnough")
        assert result.details.policy_name == "Daily"
        assert result.details.restorable is not None
        assert (result.details.restorable.recovery_point, result.details.restorable.listed) == ("1", True)


SUCCEEDED = End(Status.SUCCEEDED)
JOB = job(start_time=NOW - HOUR, end_time=NOW - S / 2)


def told(
    azure: FakeAzureBackup,
    changes: dict[str, Any] | None = None,
    *,
    end: End = SUCCEEDED,
    reads: bool = True,
    of: Job = JOB,
) -> Any:
    found = with_recovery_point(message(**(changes or {})), of, end, collaborators(azure, reads=reads))
    restorable = found.details.restorable
    return None if restorable is None else (restorable.kind, restorable.time, restorable.recovery_point)


def test_what_a_backup_can_be_restored_to_is_told_where_it_is_listed() -> None:
    new = point("1", HOUR - S)
    assert told(listing(new)) == ("Full", NOW - HOUR + S, "1")
    assert told(listing(point("1", HOUR + 5 * S))) is not None
    for old in (point("1", HOUR + 6 * S), point("1", 2 * HOUR)):
        assert told(listing(old)) is None
    assert told(listing()) is None
    # A log that reaches further says nothing of a full.
    assert told(listing(new, logs((NOW - DAY, NOW)))) == ("Full", NOW - HOUR + S, "1")
    assert told(listing(logs((NOW - DAY, NOW)))) is None
    assert told(listing(point("1", 2 * HOUR), logs((NOW - DAY, NOW)))) is None
    log = {"backup_type": BackupType.LOG}
    assert told(listing(new, logs((NOW - DAY, NOW))), log) == ("Log", NOW, None)


@pytest.mark.parametrize(("count", "few"), [(MOST_NAMED, True), (MOST_NAMED + 1, False)])
def test_recovery_points_are_read_for_small_requests_alone(count: int, few: bool) -> None:
    azure = listing(point("1", HOUR - S))
    assert (told(azure, {"outcome_count": count}) is not None) is few
    # A skipped one names it to few as well.
    result = trigger_backup(message(outcome_count=count, unless_newer_than=HOUR), collaborators(azure))
    assert isinstance(result, End)
    assert result.details.restorable is not None
    assert (result.details.restorable.recovery_point is not None) is few


def test_a_recovery_point_that_is_not_to_be_read_changes_nothing() -> None:
    azure = listing(point("1", HOUR - S))
    assert told(azure, end=FAILED) is None
    assert told(azure, {"request": request(operation=Operation.PROTECT)}) is None
    assert told(azure, reads=False) is None
    assert told(azure, of=job(start_time=None)) is None
    unreadable = listing()
    unreadable.calls.errors["list_recovery_points"] = answered(503, "GET")
    assert told(unreadable) is None


def test_a_backup_is_skipped_or_tried_again_as_its_request_says() -> None:
    assert conflict_status(task(if_running="skip")) is Status.SKIPPED
    assert conflict_status(task()) is Status.FAILED
    waiting = {"effect": backup_message().effect.model_copy(update={"waiting": True})}
    skipped = message(if_running="skip")
    assert attempts(skipped.model_copy(update=waiting), collaborators(listing())) == 1
    assert attempts(skipped, collaborators(listing())) == 3
    assert attempts(message().model_copy(update=waiting), collaborators(listing())) == 3


def test_the_outcome_of_a_first_backup_is_that_of_the_protection() -> None:
    first = message(request=request(operation=Operation.PROTECT))
    assert conclude(message(), FAILED) is FAILED
    done = conclude(first, SUCCEEDED)
    assert (done.status, done.details.protection_state) == (Status.SUCCEEDED, "Protected")
    warned = End(Status.FAILED, FAILED.error, OutcomeDetails(warnings=("Slow.",)))
    ended = conclude(first, warned)
    assert (ended.status, ended.error) == (Status.SUCCEEDED_WITH_WARNINGS, None)
    assert ended.details.protection_state == "IRPending"
    assert ended.details.warnings[0] == "Slow."
    assert "failed: UserErrorSQLPODoesNotSupportBackupType: No." in ended.details.warnings[1]


def test_a_type_that_a_database_does_not_allow_is_skipped_where_a_pattern_meant_it() -> None:
    assert after_backup(message(by_pattern=True), JOB, FAILED).status is Status.SKIPPED
    assert after_backup(message(), JOB, FAILED).status is Status.FAILED
    other = End(Status.FAILED, ErrorInfo(code="Odd", message="No."))
    assert after_backup(message(by_pattern=True), JOB, other).status is Status.FAILED


def test_the_outcome_of_a_backup_tells_what_was_taken() -> None:
    ended = job(
        operation="Backup (Copy Only Full)", end_time=NOW, properties={"Data Transferred (in MB)": "12.5"}
    )
    details = after_backup(message(retain_until=NOW + DAY), ended, SUCCEEDED).details
    assert (details.policy_name, details.backup_type) == ("Daily", "CopyOnlyFull")
    assert (details.data_transferred_mb, details.retain_until) == (12.5, NOW + DAY)
    # What the job itself tells of it: a moment in whole seconds that is not before it.
    assert details.restorable is not None
    assert (details.restorable.time, details.restorable.listed) == (NOW + S, False)
    assert details.restorable.kind == "CopyOnlyFull"
    for operation in ("Backup", "Backup (Full", "Full)"):
        plain = after_backup(message(), job(operation=operation, end_time=NOW), SUCCEEDED).details
        assert plain.backup_type == "Full"
    odd = job(properties={"Data Transferred (in MB)": "much"})
    assert after_backup(message(), odd, SUCCEEDED).details.data_transferred_mb is None
    assert after_backup(message(), odd, SUCCEEDED).details.restorable is None
    assert after_backup(message(), ended, FAILED).details.restorable is None
    known = with_recovery_point(message(), JOB, SUCCEEDED, collaborators(listing(point("1", HOUR - S))))
    assert after_backup(message(), JOB, known).details.restorable == known.details.restorable
    first = message(request=request(operation=Operation.PROTECT))
    of_protection = after_backup(first, ended, SUCCEEDED).details
    assert (of_protection.backup_type, of_protection.restorable) == (None, None)
    assert of_protection.policy_name == "Daily"


# -- select_items


def plan(*names: str, **data: Any) -> BackupPlan:
    return BackupPlan(data=backup(*names, **{"vmId": VM.path, **data}))


def selected(azure: FakeAzureBackup, payload: BackupPlan, **changes: Any) -> Any:
    """What follows on the selection once it is fixed; or what came in its place."""
    given = changes.pop("given", None) or collaborators(azure)
    result = select_items(message_to("select_items", payload, Operation.BACKUP, **changes), given)
    if not isinstance(result, Continue) or not result.to:
        return result
    step, fixed = following(result)
    assert step == "select_items"
    assert fixed.is_fixed
    nothing = FakeAzureBackup()
    spread = select_items(message_to("select_items", fixed, Operation.BACKUP), collaborators(nothing))
    assert nothing.calls == []
    return spread


def tasks(result: Any) -> list[BackupTask]:
    assert isinstance(result, Continue), result
    assert {to.step for to in result.to} <= {"trigger_backup"}
    return [to.payload for to in result.to]  # type: ignore[misc]  # as the assertion says


def test_each_database_is_backed_up_as_the_request_says() -> None:
    azure = FakeAzureBackup(protected_items=[protected("orders", server_name="host1"), protected("stock")])
    data = {
        "backup_type": "CopyOnlyFull",
        "retainFor": "P5D",
        "compression": True,
        "ifRunning": "skip",
        "unlessNewerThan": "PT1H",
    }
    first, second = tasks(selected(azure, plan("orders", "st*", **data)))
    assert first == BackupTask(
        database=Database(vm_id=VM, instance="MSSQLSERVER", name="orders"),
        item_id=item_id("orders").path,
        server_name="host1",
        policy_name="Daily",
        backup_type=BackupType.COPY_ONLY_FULL,
        retain_for=5 * DAY,
        compression=True,
        if_running="skip",
        unless_newer_than=HOUR,
        by_pattern=False,
        outcome_count=2,
    )
    assert (second.database.name, second.by_pattern) == ("stock", True)
    until = NOW + DAY
    (kept,) = tasks(selected(azure, plan("orders", retainUntil=until.isoformat())))
    assert (kept.retain_until, kept.retain_for) == (until, None)


def test_a_database_that_is_not_protected_fails_with_what_is() -> None:
    azure = FakeAzureBackup(protected_items=[protected("orders", virtual_machine_id=OTHER_VM)])
    error = certain_failures(selected(azure, plan("orders")))["orders"]
    assert error.code == "DatabaseNotFound"
    assert error.message == (
        f"the vault protects no database MSSQLSERVER/orders on {VM.path}; it protects there: none. A database is backed"
        f" up only once it is protected. The vault protects databases on these VMs: {OTHER_VM}."
    )


def test_a_vault_that_is_not_there_ends_the_request() -> None:
    azure = FakeAzureBackup()
    azure.calls.errors["list_protected_items"] = answered(404, "GET")
    assert refused(selected(azure, plan("orders"))) == ("failed", "VaultNotFound")


@pytest.mark.parametrize(
    ("number", "gate", "taken"), [(100, "PT1H", True), (101, "PT1H", False), (101, None, True)]
)
def test_a_hundred_are_looked_at_one_by_one_and_no_more(number: int, gate: str | None, taken: bool) -> None:
    items = [protected(f"db{each}") for each in range(number)]
    data = {"unlessNewerThan": gate} if gate is not None else {}
    result = selected(FakeAzureBackup(protected_items=[*items, protected("x")]), plan("db*", "x", **data))
    if taken:
        assert len(tasks(result)) == number + 1
    else:
        assert refused(result) == ("rejected", "TooManyDatabases")
        assert f"mean {number} databases" in result.error.message


def test_what_a_schedule_planned_is_taken_while_it_is_wanted() -> None:
    (schedule,) = read_schedules(json.dumps([entry()]))
    azure = FakeAzureBackup(protected_items=[protected("orders")])
    for due, digest in ((NOW, schedule.digest), (NOW - DAY, schedule.digest), (NOW, "another")):
        payload = BackupPlan(data=schedule.request, planned=Planned(due=due, digest=digest))
        given = collaborators(azure, settings=Settings(schedules=(schedule,)))
        result = selected(azure, payload, given=given, request={"schedule": schedule.name})
        if digest == "another":
            assert result == Continue()
        elif due == NOW:
            assert len(tasks(result)) == 1
        else:
            assert refused(result) == ("skipped", "TooLate")


#: the selectors, the type, whether reads are short, the databases that are read for their recovery models
MODELS: list[tuple[tuple[str, ...], str, bool, list[str]]] = [
    # only what a pattern means is skipped; what is named is refused by the service
    (("*",), "Log", False, ["orders", "stock"]),
    (("orders",), "Log", False, []),
    (("orders", "*"), "Log", False, ["stock"]),
    (("*",), "Full", False, []),
    (("*",), "Log", True, []),
]


@pytest.mark.parametrize(("asked", "kind", "short", "read"), MODELS)
def test_recovery_models_are_read_for_logs_by_pattern(
    asked: tuple[str, ...], kind: str, short: bool, read: list[str]
) -> None:
    known = protected("known", recovery_model="SIMPLE")
    azure = FakeAzureBackup(
        protected_items=[protected("orders"), protected("stock"), known, protected("master")],
        unusable={"list_protected_items": [unusable("odd")]},
    )
    result = selected(azure, plan(*asked, backup_type=kind), given=collaborators(azure, reads=not short))
    assert [call["item"] for call in azure.calls.of("get_protected_item")] == [item_id(name) for name in read]
    if "*" in asked:
        left_out = {"systemDatabase": 1, "notAddressable": 1}
        assert result.accepted is not None
        assert result.accepted.data.skipped == (
            {**left_out, "typeNotSupported": 1} if kind == "Log" else left_out
        )


def test_a_database_that_has_no_log_backups_is_passed_over() -> None:
    azure = FakeAzureBackup(
        protected_items=[protected("orders"), protected("stock")],
        # The other one has gone meanwhile.
        detailed_protected_items=[protected("orders", recovery_model="Simple")],
    )
    result = selected(azure, plan("*", backup_type="Log"))
    assert [task.database.name for task in tasks(result)] == ["stock"]
    assert result.accepted.data.skipped == {"typeNotSupported": 1}


#: the selectors, whether an older listing serves
SERVES = [(("orders",), True), (("*",), False), (("orders", "nope"), False)]


@pytest.mark.parametrize(("asked", "serves"), SERVES)
def test_an_older_listing_serves_where_it_has_all_that_is_named(asked: tuple[str, ...], serves: bool) -> None:
    azure = FakeAzureBackup(protected_items=[protected("orders")])
    items = ItemCache()
    for minute in (0, 1):
        now = NOW.replace(minute=minute)
        given = collaborators(azure, now=now, reads=False, items=items)
        selected(azure, plan(*asked), given=given, since=now)
    assert len(azure.calls) == (1 if serves else 2)
