"""`python -m tests.mutants`: how many small changes of the code no test notices. CONTRIBUTING.md says how to read it."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.mutants.operators import ROOT, Mutant, mutants_of
from tests.mutants.runner import Record, Recorder, Runner

_EQUIVALENT: Final = Path(__file__).with_name("equivalent.json")
_CACHE: Final = ROOT / ".cache" / "mutants"
#: The share of a package's mutants that may survive.
_MOST: Final = {"shared/engine": 0.05, "shared/following": 0.05}
_PACKAGES: Final = ["shared/engine", "shared/following", "shared/steps"]
_TESTS: Final = ["tests/unit", "tests/faults", "tests/reported"]


def main(arguments: list[str]) -> int:
    options = _options(arguments)
    began = time.monotonic()
    paths = [path for name in options.paths for path in modules_of(name)]
    found = [mutant for path in paths for mutant in mutants_of(path)]
    listed = equivalent()
    if strangers := {name for name in listed if name.split(":")[0] in paths} - {each.name for each in found}:
        print("equivalent.json names what is no mutant:", *sorted(strangers), sep="\n  ")
        return 2
    results: dict[str, str] = {}
    wanted = [each for each in found if (each.name in listed) == options.equivalent]
    if options.sample:
        wanted = sample(wanted, options.sample)
    elif options.again:
        survived = json.loads((_CACHE / "survivors.json").read_text())
        wanted = [each for each in wanted if each.name in survived]
    records = recorded(paths, options.tests)

    def told(mutant: Mutant, result: str) -> None:
        results[mutant.name] = result
        if not result.startswith("killed"):
            print(f"{result}: {mutant.name}", flush=True)

    _pytest(sorted({name.split("::")[0] for name in records}), Runner(wanted, records, options.workers, told))
    survivors = [name for name, result in results.items() if not result.startswith("killed")]
    _CACHE.mkdir(parents=True, exist_ok=True)
    (_CACHE / "survivors.json").write_text(json.dumps(survivors, indent=1))
    print(f"{len(wanted)} mutants in {time.monotonic() - began:.0f} s")
    return _told(wanted, listed, results)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("paths", nargs="*", default=_PACKAGES, help="packages or modules (default: %(default)s)")
    parser.add_argument("--tests", nargs="+", default=_TESTS, help="what is run (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes at a time (default: %(default)s)")
    parser.add_argument("--sample", type=int, default=0, help="only so many, spread over the modules")
    parser.add_argument("--again", action="store_true", help="only those that survived the run before")
    parser.add_argument("--equivalent", action="store_true", help="those listed as equivalent: all must survive")
    return parser.parse_args(arguments)


def modules_of(name: str) -> list[str]:
    path = ROOT / name
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    return [str(file.relative_to(ROOT)) for file in files]


def equivalent() -> dict[str, str]:
    """Why a mutant behaves as the code does, as far as anybody can notice."""
    return {name: group["why"] for group in json.loads(_EQUIVALENT.read_text()) for name in group["mutants"]}


def sample(mutants: list[Mutant], most: int) -> list[Mutant]:
    """So many of them, as many of one module as of another, the same whatever else changes in the module."""
    turns: Counter[str] = Counter()
    order = []
    for mutant in sorted(mutants, key=lambda each: hashlib.sha256(each.name.encode()).digest()):
        order.append((turns[mutant.path], mutant.path, mutant))
        turns[mutant.path] += 1
    return [mutant for _, _, mutant in sorted(order, key=lambda each: each[:2])[:most]]


def recorded(paths: list[str], tests: list[str]) -> dict[str, Record]:
    """What the tests run, from the cache where nothing has changed since."""
    digest = hashlib.sha256(repr((paths, tests)).encode())
    for file in sorted([*ROOT.glob("shared/**/*.py"), *ROOT.glob("tests/**/*.py")]):
        digest.update(file.read_bytes())
    cached = _CACHE / f"{digest.hexdigest()[:16]}.pickle"
    if not cached.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        child = os.fork()
        if child == 0:  # so that no mutant finds what these tests left in memory
            recorder = Recorder(paths)
            _pytest(tests, recorder)
            cached.write_bytes(pickle.dumps(recorder.records))
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            sys.exit("the tests fail without any mutant")
    records: dict[str, Record] = pickle.loads(cached.read_bytes())
    return records


def _pytest(tests: list[str], plugin: object) -> None:
    options = ["-q", "-x", "-n", "0", "-p", "no:cacheprovider", "--capture=no", "--no-header", "--no-summary"]
    options.append("--hypothesis-profile=ci")
    code = pytest.main([*options, *tests], plugins=[plugin])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        sys.exit(f"pytest ended with {code!r}")


def _told(wanted: list[Mutant], listed: dict[str, str], results: dict[str, str]) -> int:
    left = Counter(each.path for each in wanted if not results[each.name].startswith("killed"))
    made = Counter(each.path for each in wanted)
    bad = 0
    print(f"{'module':42}{'mutants':>8}{'killed':>8}{'survived':>9}")
    for path in sorted(made):
        print(f"{path:42}{made[path]:8}{made[path] - left[path]:8}{left[path]:9}")
    for package in sorted({path.rpartition("/")[0] for path in made}):
        all_of = sum(number for path, number in made.items() if path.startswith(f"{package}/"))
        left_of = sum(number for path, number in left.items() if path.startswith(f"{package}/"))
        same = sum(name.startswith(f"{package}/") for name in listed)
        print(f"{package}: {left_of} of {all_of} survive ({left_of / all_of:.1%}); {same} equivalent ones not counted")
        bad |= left_of / all_of > _MOST.get(package, 1.0)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
