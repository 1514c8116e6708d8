"""The command is killed for real, and started again until every request has ended."""

from __future__ import annotations

from pathlib import Path

from tests.faults.chaos import chaos


def test_killed_for_real(tmp_path: Path) -> None:
    tally = chaos(tmp_path, requests=20, kills=4, seed=7, most_seconds=3.5, time_scale=0.008)
    assert tally.kept, tally
    assert tally.kills >= 2, "it ended before it could be killed"
    assert sum(tally.outcomes.values()) == 20
