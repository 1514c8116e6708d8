"""A few mutants in each run of the tests: that the tests notice them, and that the lists name what there is."""

from __future__ import annotations

import subprocess
import sys

from tests.mutants.operators import ROOT


def test_a_sample_of_mutants_is_noticed() -> None:
    done = subprocess.run(  # what it says is told where it fails
        [sys.executable, "-m", "tests.mutants", "--sample"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "shared/engine: 0 of" in done.stdout
