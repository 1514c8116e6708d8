"""The invariants hold over random schedules of delivery, duplication, reordering, crashes and failures.

`CHAOS_SCHEDULES` sets how many are run (1,000 by default), `CHAOS_SEED` where they begin; a failure prints the
smallest schedule that fails, to be kept below as an example.
"""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import HealthCheck, given, seed, settings

from tests.faults.schedules import SCHEDULES, Schedule, Tally, run

SHARDS = 10
COUNT = int(os.environ.get("CHAOS_SCHEDULES", "1000"))
SEED = int(os.environ.get("CHAOS_SEED", "20260105"))

#: Schedules that once broke an invariant.
REGRESSIONS: dict[str, Schedule] = {}


@pytest.mark.timeout(0 if COUNT > 1000 else 120)
@pytest.mark.parametrize("shard", range(SHARDS))
def test_invariants_hold(shard: int) -> None:
    tally = Tally()

    @seed(SEED + shard)
    @settings(
        max_examples=COUNT // SHARDS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    @given(SCHEDULES)
    def hold(schedule: Schedule) -> None:
        run(schedule, tally)

    sys.stdout.write(f"CHAOS_SEED={SEED} shard {shard}\n")
    hold()
    sys.stdout.write(f"{tally}\n")


@pytest.mark.parametrize("schedule", REGRESSIONS.values(), ids=REGRESSIONS)
def test_what_once_broke_holds(schedule: Schedule) -> None:
    run(schedule)
