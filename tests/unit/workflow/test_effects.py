"""Effects happen once: what the vault's jobs prove about a call whose answer was lost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from shared.azure_backup.models import Job
from shared.azure_backup.operations import AzureBackup
from shared.messages.events import Status
from shared.messages.steps import BackupTask, Effect, StepMessage
from shared.settings import Settings
from shared.workflow import effects
from shared.workflow.backup import trigger_backup
from shared.workflow.effects import Adopted, NotStarted, Settlement, Undecided
from shared.workflow.step import AgainError, Collaborators, LateError, NextEffectError, WorkflowError
from tests.unit.workflow.messages import NOW, backup_message, job

MINUTE = timedelta(minutes=1)


class JobList:
    """The vault's jobs, and nothing else of Azure: whatever is sent fails the test."""

    def __init__(self, jobs: Sequence[Job] = ()) -> None:
        self.jobs = list(jobs)

    def list_jobs(self, vault: object, *, start: datetime, **_: object) -> list[Job]:
        return [job for job in self.jobs if job.start_time is None or job.start_time >= start]


def in_doubt(**changes: Any) -> StepMessage[BackupTask]:
    return backup_message(effect=Effect(**{"may_have_started": True, "at": NOW, **changes}))


def look(message: StepMessage[BackupTask], jobs: Sequence[Job], now: datetime) -> Settlement:
    collaborators = Collaborators(
        backup=cast("AzureBackup", JobList(jobs)), settings=Settings(), now=lambda: now
    )
    return effects.settle(message, collaborators, operation="Backup", database="orders", server="sqlvm1")


def look_until_settled(
    message: StepMessage[BackupTask], jobs: Sequence[Job], start: datetime = NOW
) -> tuple[Settlement, datetime]:
    """Look again whenever told to; what it came to, and when."""
    now = start
    for _ in range(10):
        try:
            return look(message, jobs, now), now
        except AgainError as again:
            message = message.again(at=now, **again.changes)
            now += again.delay
    raise AssertionError("it never settles")


def marked(n: int = 1, **details: Any) -> Job:
    """A job that effect `n` of the message started."""
    return job(activity_id=in_doubt().request_id_of(n).upper(), **details)


OTHERS = job("others", activity_id="73716c62-aaaa-8aaa-8aaa-aaaaaaaaaaaa", entity_name="billing [sqlvm1]")
FOREIGN = job("scheduled", activity_id="22222222-2222-1222-8222-222222222222")


def test_its_own_job_is_adopted_at_first_sight() -> None:
    assert look(in_doubt(), [FOREIGN, OTHERS, marked(name="mine")], NOW) == Adopted(marked(name="mine"))


def test_nothing_is_believed_before_two_minutes_and_two_looks() -> None:
    settled, at = look_until_settled(in_doubt(), [OTHERS])
    assert settled == NotStarted()
    assert at - NOW >= timedelta(minutes=2)


def test_the_two_minutes_begin_with_the_first_look_however_old_the_message_is() -> None:
    first = NOW + timedelta(hours=3)
    settled, at = look_until_settled(in_doubt(), [job(**vars_of(OTHERS, start_time=first))], first)
    assert settled == NotStarted()
    assert at - first >= timedelta(minutes=2)


def vars_of(known: Job, **changes: Any) -> dict[str, Any]:
    fields = {"name": known.id, "activity_id": known.activity_id, "entity_name": known.entity_name}
    return {**fields, **changes}


#: which jobs are listed in the end, and what they prove
CASES: dict[str, tuple[list[Job], Settlement]] = {
    # no job at all: the vault is not known to echo, so the absence proves nothing
    "nothing listed": ([], Undecided(0, echoes=False)),
    # a job of another request that bears the mark: the vault echoes, so ours would be seen
    "echoes, not ours": ([OTHERS], NotStarted()),
    # the proof may be some days old
    "echoed days ago": ([job(**vars_of(OTHERS, start_time=NOW - timedelta(days=3)))], NotStarted()),
    # one job of that operation and database since then: it is taken for ours
    "one candidate": ([FOREIGN], Adopted(FOREIGN)),
    "one candidate, echoes": ([FOREIGN, OTHERS], Adopted(FOREIGN)),
    # two: nobody can tell
    "two candidates": ([FOREIGN, job("other")], Undecided(2, echoes=False)),
    # jobs of another operation, another database, another server, an earlier time are no candidates
    "a restore": ([job(operation="Restore"), OTHERS], NotStarted()),
    "a namesake's": ([job(entity_name="orders2 [sqlvm1]"), OTHERS], NotStarted()),
    "another server's": ([job(entity_name="orders [sqlvm2]"), OTHERS], NotStarted()),
    "earlier": ([job(start_time=NOW - MINUTE), OTHERS], NotStarted()),
    # a job that bears the mark belongs to another request of this app
    "another request's": ([job(activity_id=OTHERS.activity_id)], NotStarted()),
    # the server's name is left out by some listings
    "no server": ([job(entity_name="ORDERS")], Adopted(job(entity_name="ORDERS"))),
}


@pytest.mark.parametrize(("jobs", "expected"), CASES.values(), ids=CASES)
def test_settlement(jobs: list[Job], expected: Settlement) -> None:
    assert look_until_settled(in_doubt(), jobs)[0] == expected


def test_an_earlier_effect_that_shows_up_late_is_adopted() -> None:
    assert look(in_doubt(n=2), [marked(1)], NOW) == Adopted(marked(1))


def test_an_earlier_effect_that_failed_is_not_adopted_for_the_later_one() -> None:
    conflicted = marked(1, status="Failed", raw_status="Failed")
    settled, _ = look_until_settled(in_doubt(n=2), [conflicted])
    assert settled == NotStarted()
    assert look(in_doubt(n=2), [conflicted, marked(2)], NOW) == Adopted(marked(2))


def collaborators(jobs: Sequence[Job], now: datetime, *, late: bool = False) -> Collaborators:
    return Collaborators(
        backup=cast("AzureBackup", JobList(jobs)),
        settings=Settings(),
        now=lambda: now,
        late=lambda: late,
    )


def test_a_late_delivery_sends_nothing() -> None:
    with pytest.raises(LateError):
        trigger_backup(backup_message(), collaborators([], NOW, late=True))


def test_a_third_effect_that_did_not_start_is_the_last() -> None:
    message = in_doubt(n=3, looks=2, first_look=NOW - 2 * MINUTE, looked_at=NOW - MINUTE)
    with pytest.raises(WorkflowError, match="attempt 3 of at most 3") as raised:
        trigger_backup(message, collaborators([OTHERS], NOW))
    assert raised.value.status is Status.FAILED


def test_the_next_effect_is_not_sent_in_the_delivery_that_decides_on_it() -> None:
    message = in_doubt(looks=2, first_look=NOW - 2 * MINUTE, looked_at=NOW - MINUTE)
    with pytest.raises(NextEffectError) as raised:
        trigger_backup(message, collaborators([OTHERS], NOW))
    assert not raised.value.waiting


def test_what_nobody_can_tell_is_unknown() -> None:
    message = in_doubt(looks=2, first_look=NOW - 2 * MINUTE, looked_at=NOW - MINUTE)
    with pytest.raises(WorkflowError, match="2 jobs") as raised:
        trigger_backup(message, collaborators([FOREIGN, job("other")], NOW))
    assert raised.value.status is Status.UNKNOWN
