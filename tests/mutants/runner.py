"""Runs tests against mutants: pytest collects once, and each mutant has a process of its own, forked from there."""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from types import CodeType, FrameType, FunctionType
from typing import Any, Final

import pytest

from tests.mutants.operators import ROOT, Mutant

#: Of a test: how long it takes, in seconds, and the lines of each module that it runs.
Record = tuple[float, dict[str, set[int]]]

#: Tests are run against a mutant, the fastest first, for as long as this many seconds in all.
MOST_SECONDS: Final = 30.0
_MOST_MEMORY: Final = 4 << 30
_SURVIVED, _KILLED, _BROKEN = 0, 1, 3


class Recorder:
    """A plugin of pytest: which lines of some modules each test runs, and how long it takes."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = {str(ROOT / path): path for path in paths}
        self._lines: dict[str, set[int]] = {}
        self.records: dict[str, Record] = {}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self._lines = {path: set() for path in self._paths}
        began = time.monotonic()
        threading.settrace(self._entered)
        sys.settrace(self._entered)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
            ran = {self._paths[path]: lines for path, lines in self._lines.items() if lines}
            if ran:
                self.records[item.nodeid] = (time.monotonic() - began, ran)

    def _entered(self, frame: FrameType, event: str, arg: Any) -> Any:
        return self._at if frame.f_code.co_filename in self._lines else None

    def _at(self, frame: FrameType, event: str, arg: Any) -> Any:
        self._lines[frame.f_code.co_filename].add(frame.f_lineno)
        return self._at


class Runner:
    """A plugin of pytest: in place of running the tests, runs for each mutant those that run its lines."""

    def __init__(
        self,
        mutants: Sequence[Mutant],
        records: dict[str, Record],
        workers: int,
        told: Callable[[Mutant, str], None],
    ) -> None:
        self._mutants = mutants
        self._records = records
        self._workers = workers
        self._told = told
        self._running: dict[int, tuple[Mutant, float]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        functions = _functions({str(ROOT / mutant.path) for mutant in self._mutants})
        gc.freeze()
        for mutant in self._mutants:
            chosen, seconds = self._tests(mutant)
            if not chosen:
                self._told(mutant, "no test")
                continue
            while len(self._running) >= self._workers:
                self._wait()
            child = os.fork()
            if child == 0:
                _work(mutant, functions, [items[name] for name in chosen])
            self._running[child] = mutant, time.monotonic() + 10 + 5 * seconds
        while self._running:
            self._wait()
        return True

    def _tests(self, mutant: Mutant) -> tuple[list[str], float]:
        chosen, total = [], 0.0
        for name, (seconds, lines) in sorted(self._records.items(), key=lambda record: record[1][0]):
            if lines.get(mutant.path, set()).intersection(mutant.lines):
                if chosen and total + seconds > MOST_SECONDS:
                    break
                chosen.append(name)
                total += seconds
        return chosen, total

    def _wait(self) -> None:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child == 0:
            for late, (_, limit) in self._running.items():
                if time.monotonic() > limit:
                    os.killpg(late, signal.SIGKILL)
            time.sleep(0.005)
        elif child in self._running:
            mutant, _ = self._running.pop(child)
            code = os.waitstatus_to_exitcode(status)
            if code == _BROKEN:
                raise RuntimeError(f"the mutant could not be run: {mutant.name}")
            self._told(mutant, {_SURVIVED: "survived", _KILLED: "killed"}.get(code, "killed by its end"))


def _functions(files: set[str]) -> dict[tuple[str, str, int], list[FunctionType]]:
    found: dict[tuple[str, str, int], list[FunctionType]] = {}
    for each in gc.get_objects():
        if isinstance(each, FunctionType) and each.__code__.co_filename in files:
            found.setdefault(_key(each.__code__), []).append(each)
    return found


def _key(code: CodeType) -> tuple[str, str, int]:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def _work(
    mutant: Mutant, functions: dict[tuple[str, str, int], list[FunctionType]], items: list[pytest.Item]
) -> None:
    """Put the mutant in place and run the tests to the first that fails; never returns."""
    code = _BROKEN
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        changed = 0
        for new in mutant.codes():
            for function in functions.get(_key(new), ()):
                if function.__code__ != new:
                    function.__code__ = new
                    changed += 1
        if changed:
            code = _KILLED if _fails(items) else _SURVIVED
    finally:
        os._exit(code)


def _fails(items: list[pytest.Item]) -> bool:
    for item, following in zip(items, [*items[1:], None], strict=True):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if item.session.testsfailed:
            return True
    return False
