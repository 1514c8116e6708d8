"""One database's backup: how long it is kept, whether it is taken at all, and what its outcome tells."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from shared.azure_backup.models import Job, RecoveryPoint
from shared.engine.result import Call, End
from shared.messages.events import ErrorInfo, OutcomeDetails, Status
from shared.messages.requests import BackupType, Operation
from shared.steps.backup import (
    DEFAULT_RETENTION,
    MOST_NAMED,
    after_backup,
    attempts,
    conclude,
    conflict_status,
    expiry,
    trigger_backup,
    with_recovery_point,
)
from shared.steps.payloads import BackupTask
from tests.fakes.azure_backup import ACCEPTED, FakeAzureBackup
from tests.unit.engine.test_retry import answered
from tests.unit.examples import NOW, backup_message, item_id, job, request
from tests.unit.steps.calling import collaborators, made
from tests.unit.steps.test_recovery_points import logs, point

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
