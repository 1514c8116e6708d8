"""A few mutants in each run of the tests: tests notice them, and notice nothing where there is nothing to notice."""

from __future__ import annotations

import subprocess
import sys

from tests.mutants.operators import ROOT


def mutants(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutants", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_sample_of_mutants_is_noticed() -> None:
    assert "shared/engine: 0 of " in mutants("--sample")


def test_an_equivalent_mutant_is_not_noticed() -> None:
    retries = "tests/unit/engine/test_retry.py"
    assert "shared/engine: 1 of 1 survive" in mutants(
        "shared/engine/retry.py", "--equivalent", "--tests", retries
    )
