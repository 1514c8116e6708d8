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

_HERE: Final = Path(__file__).parent
_CACHE: Final = ROOT / ".cache" / "mutants"
#: What came of each mutant in the last run: the test that failed, or null.
_RESULTS: Final = _CACHE / "results.json"
_PACKAGES: Final = ["shared/engine", "shared/following", "shared/steps"]
_TESTS: Final = ["tests/unit", "tests/faults", "tests/reported"]
#: The share of a package's mutants that may survive.
_MOST: Final = {"shared/engine": 0.05, "shared/following": 0.05}


def main(arguments: list[str]) -> int:
    options = _options(arguments)
    began = time.monotonic()
    sample: dict[str, str] = _data("sample.json")
    why = {name: group["why"] for group in _data("equivalent.json") for name in group["mutants"]}
    found = [each for name in options.paths for path in modules_of(name) for each in mutants_of(path)]
    if strangers := {*sample, *why} - {each.name for name in _PACKAGES for path in modules_of(name) for each in mutants_of(path)}:
        print("sample.json or equivalent.json names what is no mutant (any more):", *sorted(strangers), sep="\n  ")
        return 2
    if options.sample:
        trials = [Trial(each, [sample[each.name]], 4.0) for each in found if each.name in sample]
    else:
        records = recorded(options.tests)
        last = json.loads(_RESULTS.read_text()) if options.again else {}
        trials = [
            Trial.of(each, records)
            for each in found
            if (each.name in why) == options.equivalent and last.get(each.name) is None
        ]
        as_it_is = Trial(None, sorted(records, key=lambda name: records[name][0]), 1e6)
        # trials.insert(0, as_it_is)
    results: dict[str, str | None] = {}

    def told(mutant: Mutant | None, failed: str | None) -> None:
        if mutant is None:
            assert failed is None, f"without any mutant, {failed} fails in the order of speed"
            return
        results[mutant.name] = failed
        if failed is None:
            print(f"survived: {mutant.name}", flush=True)

    _pytest(sorted({name.split("::")[0] for trial in trials for name in trial.tests}), Runner(trials, options.workers, told))
    _CACHE.mkdir(parents=True, exist_ok=True)
    _RESULTS.write_text(json.dumps(results, indent=1))
    bad = _told(results, Counter(name.split(":")[0].rpartition("/")[0] for name in why))
    print(f"{len(results)} mutants in {time.monotonic() - began:.0f} s; what failed of each: {_RESULTS}")
    return int(any(failed is None for failed in results.values()) if options.sample else bad)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("paths", nargs="*", default=_PACKAGES, help="packages or modules (default: %(default)s)")
    parser.add_argument("--tests", nargs="+", default=_TESTS, help="what is run (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes at a time (default: %(default)s)")
    parser.add_argument("--again", action="store_true", help="only those that survived the run before")
    parser.add_argument("--sample", action="store_true", help="only those of sample.json, each by its one test")
    parser.add_argument("--equivalent", action="store_true", help="those of equivalent.json: all must survive")
    return parser.parse_args(arguments)


def _data(name: str) -> Any:
    return json.loads((_HERE / name).read_text())


def files_in(name: str) -> list[Path]:
    path = ROOT / name
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def modules_of(name: str) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in files_in(name)]


def recorded(tests: list[str]) -> dict[str, Record]:
    """What each test runs: of a file of tests that is as it was, with all else, from the cache."""
    others = [*ROOT.glob("shared/**/*.py"), *ROOT.glob("tests/**/*.py")]
    files = sorted({path for name in tests for path in files_in(name) if _is_test(path)})
    rest = _digest(path for path in others if not _is_test(path) and path.parent != _HERE)
    now = {path: rest + _digest([path]) for path in files}
    cached = _CACHE / "lines.pickle"
    known = _known(cached)
    if stale := [path for path in files if path not in known or known[path][0] != now[path]]:
        _CACHE.mkdir(parents=True, exist_ok=True)
        child = os.fork()
        if child == 0:  # so that no mutant finds what these runs left in memory
            cached.write_bytes(pickle.dumps(known | _record(stale, now)))
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            sys.exit("the tests fail without any mutant")
        known = _known(cached)
    return {name: record for path in files for name, record in known[path][1].items()}


def _known(cached: Path) -> dict[Path, tuple[str, dict[str, Record]]]:
    return pickle.loads(cached.read_bytes()) if cached.exists() else {}


def _record(files: list[Path], digests: dict[Path, str]) -> dict[Path, tuple[str, dict[str, Record]]]:
    recorder = Recorder([path for name in _PACKAGES for path in modules_of(name)])
    _pytest(list(map(str, files)), recorder)
    found: dict[Path, tuple[str, dict[str, Record]]] = {path: (digests[path], {}) for path in files}
    for name, record in recorder.records.items():
        found[ROOT / name.split("::")[0]][1][name] = record
    return found


def _is_test(path: Path) -> bool:
    return path.name.startswith("test_")


def _digest(files: Iterable[Path]) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()


def _pytest(tests: list[str], plugin: object) -> None:
    options = ["-q", "-x", "-n", "0", "-p", "no:cacheprovider", "--capture=no", "--no-header", "--no-summary"]
    code = pytest.main([*options, "--hypothesis-profile=ci", *tests], plugins=[plugin])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        sys.exit(f"pytest ended with {code!r}")


def _told(results: dict[str, str | None], equivalent: Counter[str]) -> bool:
    """Print a line for each module and package; whether more survive than may."""
    made = Counter(name.split(":")[0] for name in results)
    left = Counter(name.split(":")[0] for name, failed in results.items() if failed is None)
    too_many = False
    print(f"{'module':42}{'mutants':>8}{'killed':>8}{'survived':>9}")
    for path in sorted(made):
        print(f"{path:42}{made[path]:8}{made[path] - left[path]:8}{left[path]:9}")
    for package in sorted({path.rpartition("/")[0] for path in made}):
        all_of, left_of = (sum(n for path, n in of.items() if path.startswith(f"{package}/")) for of in (made, left))
        same = equivalent[package]
        print(f"{package}: {left_of} of {all_of} survive ({left_of / all_of:.1%}), {same} equivalent ones not counted")
        too_many |= left_of / all_of > _MOST.get(package, 1.0)
    return too_many


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
