"""One benchmark in a process of its own."""

from __future__ import annotations

import importlib
import logging
import time

from bench.report import Finding


def measure(module: str, quick: bool) -> Finding:
    """Run the benchmark in `module`; its log of expected errors (429 and the like) is dropped."""
    logging.disable(logging.WARNING)
    began = time.perf_counter()
    finding: Finding = importlib.import_module(module).measure(quick=quick)
    finding.seconds = round(time.perf_counter() - began, 1)
    return finding
