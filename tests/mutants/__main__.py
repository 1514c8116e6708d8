"""`python -m tests.mutants`: which small changes of the code no test notices. CONTRIBUTING.md says how to read it."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.mutants.operators import ROOT, Mutant, mutants_of
from tests.mutants.runner import Record, Recorder, Runner, Trial

_CACHE: Final = ROOT / ".cache" / "mutants"
#: What came of each mutant in the last run: the test that failed, or null.
_RESULTS: Final = _CACHE / "results.json"
_PACKAGES: Final = ["shared/engine", "shared/following", "shared/steps"]
#: The share of a package's mutants that may survive.
_MOST: Final = {"shared/engine": 0.05, "shared/following": 0.05, "shared/steps": 0.05}
_TESTS: Final = [
    "tests/unit/engine",
    "tests/unit/following",
    "tests/unit/intake",
    "tests/unit/steps",
    "tests/e2e/test_auto_protection.py",
    "tests/e2e/test_availability_groups.py",
    "tests/e2e/test_change_gate.py",
    "tests/e2e/test_drills.py",
    "tests/e2e/test_estates_as_they_are.py",
    "tests/e2e/test_flow.py",
    "tests/e2e/test_requests.py",
    "tests/faults",
    "tests/reported",
]
#: Each of them takes minutes.
_TOO_SLOW: Final = {"test_crash_points.py", "test_killed.py", "test_random_schedules.py"}
_SECONDS_OF_A_SAMPLE: Final = 4.0
_NO_LIMIT: Final = 1e6


def main(arguments: list[str]) -> int:
    options = _options(arguments)
    began = time.monotonic()
    sample: dict[str, str] = _data("sample.json")
    same = [name for group in _data("equivalent.json") for name in group["mutants"]]
    found = {mutant.name: mutant for path in map(_name, _files(_PACKAGES)) for mutant in mutants_of(path)}
    if strangers := {*sample, *same} - {*found}:
        _say("sample.json or equivalent.json names what is no mutant (any more):", *sorted(strangers))
        return 2
    results: dict[str, str | None] = json.loads(_RESULTS.read_text()) if options.again else {}
    if options.sample:
        trials = [Trial(found[name], [test], _SECONDS_OF_A_SAMPLE) for name, test in sample.items()]
    else:
        paths = {_name(path) for path in _files(options.paths)}
        listed = {*same} if options.equivalent else {*found} - {*same}
        wanted = [found[name] for name in found if name in listed and found[name].path in paths]
        records = _recorded(_files(options.tests))
        trials = [Trial.of(each, records) for each in wanted if results.get(each.name) is None]
        if not options.again:
            trials.insert(0, Trial(None, sorted(records, key=lambda name: records[name][0]), _NO_LIMIT))

    def told(mutant: Mutant | None, failed: str | None) -> None:
        if mutant is None:
            assert failed is None, f"without any mutant, {failed} fails in the order of speed"
            return
        results[mutant.name] = failed
        if (failed is None) != options.equivalent:
            _say(f"{'killed' if failed else 'survived'}: {mutant.name}")

    tests = sorted({name.split("::")[0] for trial in trials for name in trial.tests})
    _pytest(tests, Runner(trials, options.workers, told))
    if not (options.sample or options.equivalent):
        _CACHE.mkdir(parents=True, exist_ok=True)
        _RESULTS.write_text(json.dumps(results, indent=1))
    too_many = _summed_up(results, Counter(name.split(":")[0].rpartition("/")[0] for name in same))
    _say(f"{len(trials)} trials in {time.monotonic() - began:.0f} s")
    if options.equivalent:
        return int(any(results.values()))
    return int(None in results.values() if options.sample else too_many)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument(
        "paths", nargs="*", default=_PACKAGES, help="packages or modules (default: %(default)s)"
    )
    parser.add_argument("--tests", nargs="+", default=_TESTS, help="what is run (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes at a time (default: %(default)s)")
    parser.add_argument("--again", action="store_true", help="only those that survived the run before")
    parser.add_argument(
        "--sample", action="store_true", help="only those of sample.json, each by its one test"
    )
    parser.add_argument(
        "--equivalent", action="store_true", help="those of equivalent.json: all must survive"
    )
    return parser.parse_args(arguments)


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def _data(name: str) -> Any:
    return json.loads(Path(__file__).with_name(name).read_text())


def _files(names: Iterable[str]) -> list[Path]:
    found = {
        path
        for name in names
        for path in ((ROOT / name).rglob("*.py") if (ROOT / name).is_dir() else [ROOT / name])
    }
    return sorted(found)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _recorded(files: list[Path]) -> dict[str, Record]:
    """What each test runs: of a file of tests that is as it was, with all that it may use, from the cache."""
    used = [path for path in _files(["shared", "tests"]) if not path.name.startswith("test_")]
    digest = _digest(path for path in used if path.parent != Path(__file__).parent)
    now = {
        path: digest + _digest([path])
        for path in files
        if path.name.startswith("test_") and path.name not in _TOO_SLOW
    }
    cached = _CACHE / "lines.pickle"
    known = _known(cached)
    if stale := [path for path in now if path not in known or known[path][0] != now[path]]:
        _CACHE.mkdir(parents=True, exist_ok=True)
        child = os.fork()
        if child == 0:  # so that no mutant finds what these runs left in memory
            recorder = Recorder(map(_name, _files(_PACKAGES)))
            _pytest(list(map(str, stale)), recorder)
            known |= {path: (now[path], {}) for path in stale}
            for name, record in recorder.records.items():
                known[ROOT / name.split("::")[0]][1][name] = record
            cached.write_bytes(pickle.dumps(known))
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            sys.exit("the tests fail without any mutant")
        known = _known(cached)
    return {name: record for path in now for name, record in known[path][1].items()}


def _known(cached: Path) -> dict[Path, tuple[str, dict[str, Record]]]:
    return pickle.loads(cached.read_bytes()) if cached.exists() else {}


def _digest(files: Iterable[Path]) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _pytest(tests: list[str], plugin: object) -> None:
    options = ["-q", "-x", "-n", "0", "-p", "no:cacheprovider", "--capture=no", "--no-header", "--no-summary"]
    code = pytest.main([*options, "--hypothesis-profile=ci", *tests], plugins=[plugin])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        sys.exit(f"pytest ended with {code!r}")


def _summed_up(results: dict[str, str | None], equivalent: Counter[str]) -> bool:
    """Print a line for each module and package; whether more survive than may."""
    made = Counter(name.split(":")[0] for name in results)
    left = Counter(name.split(":")[0] for name, failed in results.items() if failed is None)
    too_many = False
    _say(f"{'module':42}{'mutants':>8}{'killed':>8}{'survived':>9}")
    for path in sorted(made):
        _say(f"{path:42}{made[path]:8}{made[path] - left[path]:8}{left[path]:9}")
    for package in sorted({path.rpartition("/")[0] for path in made}):
        all_of, left_of = (
            sum(n for path, n in of.items() if path.startswith(f"{package}/")) for of in (made, left)
        )
        same = equivalent[package]
        _say(
            f"{package}: {left_of} of {all_of} survive ({left_of / all_of:.1%}), {same} equivalent ones not counted"
        )
        too_many |= left_of / all_of > _MOST.get(package, 1.0)
    return too_many


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
