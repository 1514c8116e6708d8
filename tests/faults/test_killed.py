"""The command is killed for real, and started again until every request has ended."""

from __future__ import annotations

from pathlib import Path

from tests.faults.chaos import chaos
from tests.faults.chaos_of_drills import chaos_of_drills


def test_killed_for_real(tmp_path: Path) -> None:
    tally = chaos(tmp_path, requests=20, kills=4, seed=7, most_seconds=3.5, time_scale=0.008)
    assert tally.kept, tally
    assert tally.kills >= 2, "it ended before it could be killed"
    assert sum(tally.outcomes.values()) == 20


def test_drills_killed_for_real(tmp_path: Path) -> None:
    tally = chaos_of_drills(tmp_path, requests=2, kills=4, seed=7, most_seconds=3.0, time_scale=0.008)
    assert tally.kept, (tally, tally.untrue, tally.changed)
    assert tally.kills >= 2, "it ended before it could be killed"
    assert sum(tally.outcomes.values()) == 6
