"""The program in docs/simulator.md, as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_the_program_prints_what_the_page_says() -> None:
    page = (ROOT / "docs/simulator.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n((?:(?!```).)*)```\n\nIt prints `(\w+)`", page, re.DOTALL)
    assert found is not None
    done = subprocess.run(
        [sys.executable, "-c", found[1]], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == found[2], done.stderr
