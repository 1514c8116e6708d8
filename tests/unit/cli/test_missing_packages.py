"""The command where its packages are not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("arguments", [("--help",), ("report",), ("simulator",)])
def test_a_package_that_is_not_installed_is_said_in_one_sentence(arguments: tuple[str, ...]) -> None:
    # -S: without site-packages.
    done = subprocess.run(
        [sys.executable, "-S", "-m", "cli", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "is not installed for" in line
    assert "make setup" in line
