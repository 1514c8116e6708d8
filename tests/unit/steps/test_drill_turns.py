"""Whose turn a drill is."""

from __future__ import annotations

import base64
import gzip
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from shared.arm.ids import VaultId, VirtualMachineId
from shared.azure_backup.models import Job
from shared.clock import ServiceTime
from shared.drills import drill_database_name
from shared.engine.message import StepMessage
from shared.engine.result import Collaborators
from shared.messages.identity import Database, Request, drill_digest, drill_request_id
from shared.messages.requests import AlternateTarget, Operation
from shared.steps.candidates import Candidate
from shared.steps.drill_restores import first_drill, next_drill
from shared.steps.drill_turns import JOBS_REACH, Sizes, in_turn, last_drills
from shared.steps.payloads import Drill, DrillSource, RestoreTask, packed_sources
from tests.e2e.drills import DRILL_VM, SUBSCRIPTION
from tests.fakes.azure_backup import FakeAzureBackup
from tests.unit.examples import job, protected
from tests.unit.steps.calling import collaborators

VAULT = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.RecoveryServices/vaults/vault1"
SOURCE_VM = DRILL_VM.replace("drills1", "sqlvm1")
BEGAN = ServiceTime(datetime(2026, 1, 5, 1, tzinfo=UTC))
DAY = timedelta(days=1)


def longest_pause(
    *,
    databases: int,
    count: int,
    nights: int,
    weekdays: bool = False,
    failing: int = 0,
    missed: tuple[int, ...] = (),
) -> tuple[int, int]:
    """How many nights it takes until each has had its turn, and the longest pause between two turns, in days.

    Of the `failing` no job tells, since their drills end before they have one.
    """
    known = [Database(instance="MSSQLSERVER", name=f"db{number}") for number in range(databases)]
    told: dict[str, ServiceTime] = {}
    seen: dict[str, ServiceTime] = {}
    whole = pause = 0
    for night in range(nights):
        now = BEGAN + timedelta(days=night)
        if night in missed or (weekdays and now.weekday() > 4):
            continue
        recent = {digest: at for digest, at in told.items() if now - at <= JOBS_REACH}
        for database in in_turn(known, recent, count=count, now=now)[:count]:
            if database.key in seen:
                pause = max(pause, (now - seen[database.key]).days)
            seen[database.key] = now
            if int(database.name[2:]) >= failing:
                told[drill_digest(database.key)] = now
        if not whole and len(seen) == databases:
            whole = night + 1
    return whole, pause


@pytest.mark.parametrize(("databases", "count", "nights"), [(60, 10, 6), (7, 3, 3), (90, 2, 45), (1, 5, 1)])
def test_each_has_its_turn_in_as_many_nights_as_it_takes(databases: int, count: int, nights: int) -> None:
    """90 by two are more than the jobs of 30 days tell of; 1,500 by ten are five times as many, and take 150."""
    assert longest_pause(databases=databases, count=count, nights=2 * nights + 5) == (nights, nights)


def test_a_schedule_of_weekdays_and_nights_that_were_missed_pass_nobody_over() -> None:
    assert longest_pause(databases=70, count=10, nights=60, weekdays=True)[1] <= 14
    assert longest_pause(databases=60, count=10, nights=60, missed=(3, 4, 9))[1] <= 12


def test_what_no_job_tells_of_does_not_take_every_turn() -> None:
    whole, pause = longest_pause(databases=60, count=10, nights=60, failing=20)
    assert whole == 6
    assert pause <= 12


def test_the_longest_ago_comes_first_and_each_once() -> None:
    databases = [Database(instance="MSSQLSERVER", name=f"db{number}") for number in range(5)]
    drilled = {
        drill_digest(database.key): BEGAN - timedelta(days=number + 1, hours=2)
        for number, database in enumerate(databases)
    }
    order = in_turn(databases, drilled, count=5, now=BEGAN)
    assert order[0] == databases[-1]
    assert len({database.key for database in order}) == 5


# -- one after the other

SOURCES = tuple(
    DrillSource(
        database=Database(instance="MSSQLSERVER", name=name, vm_id=VirtualMachineId.parse(SOURCE_VM)),
        item_id=f"{VAULT}/backupFabrics/Azure/protectionContainers/VMAppContainer;compute;rg;sqlvm1/protectedItems/{name}",
        outcome_count=3,
    )
    for name in ("orders", "billing", "stock")
)


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "é",
        "H4sIAAAA",
        base64.b64encode(gzip.compress(b"[{}]")).decode(),
        base64.b64encode(gzip.compress(b"[" + b" " * 10_000_000 + b"]")).decode(),
        packed_sources(SOURCES)[:-8],
    ],
    ids=["empty", "no base64", "no gzip", "no drill", "a bomb", "cut off"],
)
def test_drills_that_cannot_be_read_are_found_before_anything_is_done(rest: str) -> None:
    with pytest.raises(ValidationError):
        Drill(choice={"latest": "any"}, check="none", clean_up=True, rest=rest)


def at_its_end(task: RestoreTask, *, epoch: int = 0) -> StepMessage[RestoreTask]:
    request = Request(
        operation=Operation.DRILL, source="/tests", id="one", vault_id=VaultId.parse(VAULT), epoch=epoch
    )
    return StepMessage[RestoreTask](
        step="clean_up_drill", sender="check_drill", at=BEGAN, since=BEGAN, request=request, payload=task
    )


def test_each_drill_sets_the_next_one_going_and_the_last_none() -> None:
    target = AlternateTarget(kind="alternate", vmId=VirtualMachineId.parse(DRILL_VM), instance="MSSQLSERVER")
    following = first_drill(SOURCES, Drill(choice={"latest": "any"}, check="none", clean_up=True), target)
    names = []
    while following is not None:
        task = following.payload
        assert isinstance(task, RestoreTask)
        assert isinstance(task.target, AlternateTarget)
        assert task.target.database == drill_database_name(task.database)
        assert (task.outcome_count, task.drill and task.drill.check) == (3, "none")
        names.append(task.database.name)
        following = next_drill(at_its_end(task))
    assert names == ["orders", "billing", "stock"]


def test_a_drill_that_is_replayed_does_not_set_the_next_one_going_again() -> None:
    target = AlternateTarget(kind="alternate", vmId=VirtualMachineId.parse(DRILL_VM), instance="MSSQLSERVER")
    first = first_drill(SOURCES, Drill(choice={"latest": "any"}, check="none", clean_up=True), target)
    assert first is not None
    assert isinstance(first.payload, RestoreTask)
    assert next_drill(at_its_end(first.payload, epoch=1)) is None


# -- how it is known


def at_beginning(azure: FakeAzureBackup) -> Collaborators:
    return collaborators(azure, now=BEGAN)


def asked(azure: FakeAzureBackup) -> list[tuple[float, float | None, str]]:
    """Which windows of jobs were listed, in days before the beginning, and of which operation."""
    return [
        (
            (BEGAN - call["start"]) / DAY,
            (BEGAN - call["end"]) / DAY if call["end"] is not None else None,
            call["operation"],
        )
        for call in azure.calls.of("list_jobs")
    ]


def read(azure: FakeAzureBackup) -> list[str]:
    """The jobs that were read one by one."""
    return [call["job_id"] for call in azure.calls.of("get_job")]


def listing(*jobs: Job, sizes: dict[str, str] | None = None, pages: int = 1) -> FakeAzureBackup:
    """A vault that lists these jobs; single ones say what they transferred."""
    detailed = [
        full(name, properties={"Data Transferred (in MB)": size}) for name, size in (sizes or {}).items()
    ]
    return FakeAzureBackup(jobs=jobs, detailed_jobs=detailed, pages_of_jobs=pages)


def full(name: str, days: float = 0.5, **details: Any) -> Job:
    fields = {"start_time": BEGAN - days * DAY, "status": "Completed", "raw_status": "Completed"}
    return job(name, **{**fields, **details})


def size_of(azure: FakeAzureBackup, *available: Candidate) -> float | None:
    """The size of the first of these."""
    return Sizes(at_beginning(azure), VaultId.parse(VAULT), available).of(available[0])


def candidate(name: str = "orders", instance: str = "MSSQLSERVER", server: str = "sqlvm1") -> Candidate:
    item = protected(name, instance=instance, server_name=server)
    return Candidate(database=Database(instance=instance, name=name), protected=item)


def test_a_database_was_last_drilled_when_its_newest_restore_for_a_drill_was_started() -> None:
    known = {"a": drill_request_id("a", "target", 1), "b": drill_request_id("b", "target", 1)}
    restore: dict[str, Any] = {"operation": "Restore"}
    azure = listing(
        job("1", **restore, activity_id=known["a"], start_time=BEGAN - 2 * DAY),
        job("2", **restore, activity_id=drill_request_id("a", "other", 2), start_time=BEGAN - DAY),
        job("3", **restore, activity_id=known["a"], start_time=BEGAN - 3 * DAY),
        job("4", **restore, activity_id=known["b"], start_time=None),
        job("5", **restore, start_time=BEGAN - DAY),
    )
    assert last_drills(at_beginning(azure), VaultId.parse(VAULT)) == {drill_digest("a"): BEGAN - DAY}
    assert asked(azure) == [(30.0, None, "Restore")]


def test_a_drill_counts_for_the_day_that_it_was_done_on() -> None:
    databases = [Database(instance="MSSQLSERVER", name=f"db{number}") for number in range(12)]
    early = {drill_digest(each.key): BEGAN - DAY for each in databases}
    late = {drill_digest(each.key): BEGAN - DAY + timedelta(hours=22, microseconds=5) for each in databases}
    orders = [in_turn(databases, drilled, count=3, now=BEGAN) for drilled in (early, late)]
    assert orders[0] == orders[1]


def test_a_size_is_that_of_the_newest_full_that_succeeded() -> None:
    azure = listing(
        full("older", 0.9),
        full("newest", 0.1),
        full("log", 0.05, operation="Backup (Log)"),
        full("failed", 0.05, status="Failed", raw_status="Failed"),
        full("other", 0.05, entity_name="billing [sqlvm1]"),
        full("warned", 0.5, status="CompletedWithWarnings", raw_status="CompletedWithWarnings"),
        sizes={"newest": "12.5", "older": "99"},
    )
    assert size_of(azure, candidate()) == 12.5
    assert (asked(azure), read(azure)) == ([(1.0, None, "Backup")], ["newest"])


@pytest.mark.parametrize(("text", "size"), [("12", 12.0), ("much", None), (None, None)])
def test_a_size_is_known_as_far_as_the_job_tells_it(text: str | None, size: float | None) -> None:
    assert size_of(listing(full("1"), sizes={"1": text} if text else {}), candidate()) == size


def test_of_namesakes_the_largest_of_a_few_is_taken() -> None:
    jobs = [full(str(number), 0.1 * (number + 1)) for number in range(4)]
    sizes = {"0": "1", "1": "5", "2": "3", "3": "9"}
    namesake = candidate(instance="SQL2019")
    azure = listing(*jobs, sizes=sizes)
    assert size_of(azure, candidate(), namesake) == 5.0
    assert read(azure) == ["0", "1", "2"]
    for other in (candidate("billing"), candidate(server="sqlvm2")):
        assert size_of(listing(*jobs, sizes=sizes), candidate(), other) == 1.0


def test_fulls_are_looked_for_further_back_while_none_is_found_and_that_is_cheap() -> None:
    azure = listing(full("1", 20.0), sizes={"1": "7"})
    assert size_of(azure, candidate()) == 7.0
    assert asked(azure) == [(1.0, None, "Backup"), (8.0, 1.0, "Backup"), (31.0, 8.0, "Backup")]
    azure = listing()
    assert size_of(azure, candidate()) is None
    assert len(asked(azure)) == 3
    for pages, looks in ((2, 3), (3, 2)):
        azure = listing(pages=pages)
        assert size_of(azure, candidate()) is None
        assert len(asked(azure)) == looks
