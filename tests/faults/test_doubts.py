"""A doubt that another message of its request contradicts later: it waits, wherever the other one is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from local.estate import JsonObject
from shared.arm.transport import RawAnswer
from shared.bus import BusError, UnknownEntityError
from shared.bus.topology import TRACK
from tests.faults.estate import BRISK, Crash, FaultyEstate, Plan, open_faulty, protected_estate
from tests.reported.effects import advance

HOUR = timedelta(hours=1)


def no_jobs(method: str, path: str, answer: RawAnswer) -> RawAnswer:
    """The vault lists no job."""
    listed = method == "GET" and path.endswith("/backupJobs")
    return replace(answer, body=b'{"value": []}') if listed else answer


def backup(azure: FaultyEstate) -> JsonObject:
    return azure.backup("orders")


def restore(azure: FaultyEstate) -> JsonObject:
    return azure.restore("orders", target={"kind": "original"}, overwrite=True)


@contextmanager
def doubted(
    ask: Callable[[FaultyEstate], JsonObject], plan: Plan, **settings: str
) -> Iterator[tuple[FaultyEstate, JsonObject]]:
    """A job runs for two days and is followed, and another delivery of its step has come to a doubt."""
    plan.at["send track"] = "after"
    durations = {**BRISK, "backup": 48 * 3600, "restore": 48 * 3600}
    estate = {**protected_estate("orders", durations=durations), "echoActivityId": False}
    given = {"TRACK_INTERVAL": "PT5M", "RESTORE_ALLOW_OVERWRITE": "true", **settings}
    with open_faulty(estate, plan, given) as azure:
        azure.submit(request := ask(azure))
        with pytest.raises(Crash):
            advance(azure, HOUR)
        azure.clock.advance(2 * HOUR)
        azure.restart(release=True)
        plan.mangle = no_jobs
        advance(azure, HOUR)
        plan.mangle = None
        yield azure, request


@pytest.mark.parametrize("ask", [backup, restore])
def test_a_doubt_waits_for_whoever_follows_the_job(ask: Callable[[FaultyEstate], JsonObject]) -> None:
    with doubted(ask, Plan()) as (azure, request):
        assert not azure.outcomes()
        azure.quiesce()
        assert azure.outcome(request)["status"] == "succeeded"


@pytest.mark.parametrize("why", [UnknownEntityError, BusError])
@pytest.mark.parametrize("hidden", ["check-drill", "clean-up-drill"])
def test_a_queue_that_is_not_there_or_not_to_be_seen_hides_no_other(hidden: str, why: type[BusError]) -> None:
    """An app that serves `restore` alone has no queues of drills."""
    with doubted(restore, Plan(hidden={hidden: why}), WORKFLOWS="restore") as (azure, request):
        assert not azure.outcomes()
        azure.quiesce()
        assert azure.outcome(request)["status"] == "succeeded"


def test_whoever_may_look_into_no_queue_tells_it_at_once() -> None:
    hidden = {"trigger-backup": BusError, TRACK: BusError}
    with doubted(backup, Plan(hidden=hidden)) as (azure, request):
        assert azure.outcome(request)["status"] == "unknown"
