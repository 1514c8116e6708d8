"""The invariants hold over random schedules of delivery, duplication, reordering, crashes and failures.

`CHAOS_SCHEDULES` sets how many are run (300 by default), `CHAOS_SEED` where they begin; a failure prints the
smallest schedule that fails, to be kept below as an example.
"""

from __future__ import annotations

import os
import sys
from functools import partial

import pytest

from tests.faults.schedules import SCHEDULES, Schedule, Tally, hold_over, run

SHARDS = 10
COUNT = int(os.environ.get("CHAOS_SCHEDULES", "300"))
SEED = int(os.environ.get("CHAOS_SEED", "20260105"))

#: Schedules that once broke an invariant.
REGRESSIONS: dict[str, Schedule] = {
    "a doubt was published before the certainty of the first delivery": Schedule(
        flow="two backups",
        duplicates=2,
        echoes=False,
        uncompleted=((13, "later"), (3, "later")),
        order=(9, 12, 6),
    ),
    "a poll delivered again gave up what the next poll followed": Schedule(
        flow="two backups",
        faults=(("ListJobs", "throttle", 2, (("retryAfter", 1000000),)),),
        crashes=((18, "after"),),
        unavailable=(23, 12),
        uncompleted=((15, "later"), (13, "at once")),
        recovery="later",
        order=(3, 2, 9, 5),
    ),
    "a second look at the selection failed the request": Schedule(
        flow="protect",
        faults=(
            ("Refresh", "missingHeaders", 1, (("headers", ("Location",)),)),
            ("ListProtectedItems", "redirect", 4, ()),
        ),
        crashes=((36, "after"), (3, "after"), (13, "before")),
        slow=((33, 301), (36, 20)),
        unavailable=(8,),
        uncompleted=((10, "later"), (9, "later")),
        held=(14, 30),
        recovery="later",
        order=(11, 10, 3),
    ),
    "a step failed after the other delivery of it had gone on": Schedule(
        flow="protect",
        duplicates=2,
        faults=(("OperationResult", "redirect", 2, ()),),
        crashes=((29, "after"), (35, "after"), (12, "after")),
        slow=((0, 900), (29, 20)),
        unavailable=(3, 6),
        uncompleted=((23, "at once"), (37, "later")),
        held=(12,),
        recovery="later",
        order=(3, 6),
    ),
    "a step that was delivered again made the effect that its other delivery had made": Schedule(
        flow="protect",
        crashes=((23, "before"), (24, "after"), (36, "after")),
        slow=((6, 301),),
        recovery="later",
    ),
    "a step that could not publish its acceptance ran again, and failed beside what it had sent on": Schedule(
        flow="both",
        faults=(("ListContainers", "throttle", 1, (("retryAfter", 1000000),)),),
        unavailable=(6,),
    ),
    "a job was given up after one look, and found by the next": Schedule(
        flow="two backups",
        echoes=False,
        faults=(("OperationStatus", "status", 1, (("status", 410),)),),
        slow=((0, 20), (5, 301)),
    ),
    "a clock that leapt timed out a job that the next delivery found ended": Schedule(
        flow="crowd",
        crashes=((24, "after"), (3, "before")),
        jumps=((12, 300),),
        recovery="later",
        order=(14, 15),
    ),
    "a doubt was told after an outage in which the tracker had forgotten who had gone on": Schedule(
        flow="crowd",
        echoes=False,
        faults=(("Backup", "throttle", 1, (("retryAfter", 5),)),),
        crashes=((28, "after"), (12, "after")),
        slow=((10, 20),),
        uncompleted=((12, "at once"),),
        troubles=(("bus unavailable", 11, 360),),
        recovery="later",
        order=(7, 1, 13),
    ),
    "a doubt was told unlooked at after an outage that was longer than a job may take": Schedule(
        flow="two restores",
        faults=(("OperationStatus", "throttle", 1, (("retryAfter", 1000000),)),),
        crashes=((9, "after"),),
        troubles=(("bus unavailable", 4, 360),),
        recovery="later",
    ),
    "a step that was delivered again started an operation with longer URLs": Schedule(
        flow="protect",
        faults=(
            ("GetVault", "emptyBody", 1, ()),
            ("Inquire", "missingHeaders", 1, (("headers", ("Azure-AsyncOperation",)),)),
        ),
        uncompleted=((5, "at once"), (10, "later")),
    ),
}


@pytest.mark.timeout(0 if COUNT > 400 else 120)
@pytest.mark.parametrize("shard", range(SHARDS))
def test_invariants_hold(shard: int) -> None:
    tally = Tally()
    sys.stdout.write(f"CHAOS_SEED={SEED} shard {shard}\n")
    hold_over(SCHEDULES, partial(run, tally=tally), count=COUNT // SHARDS, begin=SEED + shard)
    sys.stdout.write(f"{tally}\n")


@pytest.mark.parametrize("schedule", REGRESSIONS.values(), ids=REGRESSIONS)
def test_what_once_broke_holds(schedule: Schedule) -> None:
    run(schedule)
