"""Whose turn a drill is."""

from __future__ import annotations

import base64
import gzip
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from shared.arm.ids import VaultId, VirtualMachineId
from shared.drills import drill_database_name
from shared.engine.message import StepMessage
from shared.messages.identity import Database, Request, drill_digest
from shared.messages.requests import AlternateTarget, Operation
from shared.steps.drill_restores import first_drill, next_drill
from shared.steps.drill_turns import JOBS_REACH, in_turn
from shared.steps.payloads import Drill, DrillSource, RestoreTask, packed_sources
from tests.e2e.drills import DRILL_VM, SUBSCRIPTION

VAULT = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.RecoveryServices/vaults/vault1"
SOURCE_VM = DRILL_VM.replace("drills1", "sqlvm1")
BEGAN = datetime(2026, 1, 5, 1, tzinfo=UTC)


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
    told: dict[str, datetime] = {}
    seen: dict[str, datetime] = {}
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
