"""`python -m bench`: measures, prints a table against the goals, and writes the figures as JSON.

    python -m bench             everything, in a few minutes on two cores
    python -m bench --quick     the same with smaller numbers, within a minute
    python -m bench p3 p8       only these
    python -m bench --reference everything, as the figures and plots of docs/performance.md

Benchmarks on a stepped clock give the same figures on any machine, however busy, and run two at a time; timed ones
run alone.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import multiprocessing
import os
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.plots import draw
from bench.report import Finding, Row, document, table
from bench.single import measure

_HERE = Path(__file__).resolve().parent
_RESULTS = _HERE / "results"
_DOCUMENT = _HERE.parent / "docs" / "performance.md"
#: The longest first.
_STEPPED = {
    "p3": "bench.p3_lateness",
    "p8": "bench.p8_burst",
    "p9": "bench.p9_memory",
    "p10": "bench.p10_cost",
    "p2": "bench.p2_reads",
    "p1": "bench.p1_calls",
    "p4": "bench.p4_flat",
}
_TIMED = {
    "p5": "bench.p5_step",
    "p6": "bench.p6_start",
    "p7": "bench.p7_throughput",
    "embedded": "bench.embedded",
}
#: As tables show them.
_ORDER = ("p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9", "p10", "embedded")


def main(arguments: list[str]) -> int:
    """0 when every goal was reached, 1 when some were not."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure the app against its goals and its peers."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to measure: {', '.join(_ORDER)}")
    parser.add_argument("--quick", action="store_true", help="smaller numbers: within a minute")
    parser.add_argument("--reference", action="store_true", help="write the figures of docs/performance.md")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in _ORDER]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(_ORDER)}")
    wanted = options.names or _ORDER
    began = time.perf_counter()
    findings = _run({name: _STEPPED[name] for name in _STEPPED if name in wanted}, options.quick, workers=2)
    findings += _run({name: _TIMED[name] for name in _TIMED if name in wanted}, options.quick, workers=1)
    findings.sort(key=lambda finding: _ORDER.index(finding.name))
    machine = _machine()
    print(f"\n{table(findings)}\n")
    print(f"{machine['python']}, {machine['cores']} x {machine['processor']}; ", end="")
    print(
        f"a loop that takes 0.21 s on the idle reference machine takes {machine['loop']:.2f} s now; ", end=""
    )
    print(f"{time.perf_counter() - began:.0f} s in all")
    result = {
        "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "quick": options.quick,
        "machine": machine,
        "findings": [finding.as_json() for finding in findings],
    }
    _RESULTS.mkdir(exist_ok=True)
    target = _RESULTS / ("reference.json" if options.reference else "latest.json")
    if options.reference and target.exists():
        result = _merged(json.loads(target.read_text(encoding="utf-8")), result)
    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    plots = _DOCUMENT.parent / "performance" if options.reference else _RESULTS / "plots"
    draw({entry["name"]: entry["figures"] for entry in result["findings"]}, plots)
    if options.reference:
        document(_DOCUMENT, [_finding(entry) for entry in result["findings"]])
        print("docs/cost.md shows some of these figures: run python -m docs.generate")
    print(f"figures in {target.relative_to(_HERE.parent)}, plots in {plots.relative_to(_HERE.parent)}")
    missed = [row for finding in findings for row in finding.rows if row.reached is False]
    return 1 if missed else 0


def _run(modules: dict[str, str], quick: bool, *, workers: int) -> list[Finding]:
    context = multiprocessing.get_context("spawn")
    found: list[Finding] = []
    with ProcessPoolExecutor(workers, mp_context=context, max_tasks_per_child=1) as pool:
        futures = [pool.submit(measure, module, quick) for module in modules.values()]
        for future in as_completed(futures):
            finding = future.result()
            print(f"{finding.name}: {finding.title} ({finding.seconds:.0f} s)", file=sys.stderr, flush=True)
            found.append(finding)
    return found


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The new figures, with the old ones of benchmarks that were not run now."""
    named = {entry["name"] for entry in new["findings"]}
    kept = [entry for entry in old["findings"] if entry["name"] not in named]
    entries = sorted([*new["findings"], *kept], key=lambda entry: _ORDER.index(entry["name"]))
    return {**new, "findings": entries}


def _finding(entry: dict[str, Any]) -> Finding:
    return Finding(**{**entry, "rows": [Row(**row) for row in entry["rows"]]})


def _machine() -> dict[str, Any]:
    began = time.thread_time()
    total = 0
    for number in range(3_000_000):
        total += number * number
    loop = time.thread_time() - began
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = models[0].partition(":")[2].strip() if models else processor
    packages = ("azure-functions", "azure-mgmt-recoveryservicesbackup", "pydantic", "requests")
    return {
        "python": f"Python {platform.python_version()}",
        "system": platform.system(),
        "cores": os.cpu_count(),
        "processor": processor,
        "loop": round(loop, 3),
        "packages": {name: importlib.metadata.version(name) for name in packages},
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
