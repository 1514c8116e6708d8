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
from dataclasses import dataclass
from types import CodeType, FrameType, FunctionType
from typing import Any, Final

import pytest

from tests.mutants.operators import ROOT, Mutant

#: Of a test: how long it takes, in seconds, and the lines of each module that it runs.
Record = tuple[float, dict[str, set[int]]]

#: Tests are run against a mutant, the fastest first, for as long as this many seconds in all.
MOST_SECONDS: Final = 10.0
_MOST_MEMORY: Final = 4 << 30
_SURVIVED, _KILLED = 0, 1
_BROKEN: Final = "an error of this runner"


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
            threading.settrace(None)
            ran = {self._paths[path]: lines for path, lines in self._lines.items() if lines}
            if ran:
                self.records[item.nodeid] = (time.monotonic() - began, ran)

    def _entered(self, frame: FrameType, event: str, arg: Any) -> Any:
        return self._at if frame.f_code.co_filename in self._lines else None

    def _at(self, frame: FrameType, event: str, arg: Any) -> Any:
        self._lines[frame.f_code.co_filename].add(frame.f_lineno)
        return self._at


@dataclass(frozen=True)
class Trial:
    """A mutant, or None for the code as it is, and the tests that may notice, with the seconds that they take."""

    mutant: Mutant | None
    tests: Sequence[str]
    seconds: float

    @classmethod
    def of(cls, mutant: Mutant, records: dict[str, Record]) -> Trial:
        """With the tests that run one of its lines."""
        chosen: list[str] = []
        total = 0.0
        for name, (seconds, lines) in sorted(records.items(), key=lambda record: record[1][0]):
            if not lines.get(mutant.path, set()).isdisjoint(mutant.lines):
                if chosen and total + seconds > MOST_SECONDS:
                    break
                chosen.append(name)
                total += seconds
        return cls(mutant, chosen, total)


@dataclass
class _Running:
    trial: Trial
    until: float
    says: int


class Runner:
    """A plugin of pytest: in place of running the tests, makes trials, and tells of each which test failed."""

    def __init__(
        self, trials: Sequence[Trial], workers: int, told: Callable[[Mutant | None, str | None], None]
    ) -> None:
        self._trials = trials
        self._workers = workers
        self._told = told
        self._running: dict[int, _Running] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        if unknown := {name for trial in self._trials for name in trial.tests} - {*items}:
            raise pytest.UsageError(f"no such test: {', '.join(sorted(unknown))}")
        functions = _functions({str(ROOT / trial.mutant.path) for trial in self._trials if trial.mutant})
        gc.freeze()
        for trial in self._trials:
            if not trial.tests:
                self._told(trial.mutant, None)
                continue
            while len(self._running) >= self._workers:
                self._wait()
            read, write = os.pipe()
            child = os.fork()
            if child == 0:
                _work(trial.mutant, functions, [items[name] for name in trial.tests], write)
            os.close(write)
            self._running[child] = _Running(trial, time.monotonic() + 10 + 5 * trial.seconds, read)
        while self._running:
            self._wait()
        return True

    def _wait(self) -> None:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child == 0:
            for late, running in self._running.items():
                if time.monotonic() > running.until:
                    os.killpg(late, signal.SIGKILL)
            time.sleep(0.005)
        elif child in self._running:
            running = self._running.pop(child)
            why = os.read(running.says, 10_000).decode()
            os.close(running.says)
            code = os.waitstatus_to_exitcode(status)
            if why == _BROKEN:
                raise RuntimeError(f"cannot be run: {running.trial.mutant and running.trial.mutant.name}")
            if code not in (_SURVIVED, _KILLED) and not why:
                why = "its time limit" if code == -signal.SIGKILL else f"its end with code {code}"
            self._told(running.trial.mutant, why or None)


def _functions(files: set[str]) -> dict[tuple[str, str, int], list[FunctionType]]:
    found: dict[tuple[str, str, int], list[FunctionType]] = {}
    for each in gc.get_objects():
        if isinstance(each, FunctionType) and each.__code__.co_filename in files:
            found.setdefault(_key(each.__code__), []).append(each)
    return found


def _key(code: CodeType) -> tuple[str, str, int]:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def _work(
    mutant: Mutant | None,
    functions: dict[tuple[str, str, int], list[FunctionType]],
    items: list[pytest.Item],
    says: int,
) -> None:
    """Put the mutant in place and run the tests to the first that fails, which is said; never returns."""
    why = _BROKEN
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        if mutant is not None:
            _put_in_place(mutant, functions)
        why = ""
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if item.session.testsfailed:
                why = item.nodeid
                break
    finally:
        os.write(says, why.encode())
        os._exit(_KILLED if why else _SURVIVED)


def _put_in_place(mutant: Mutant, functions: dict[tuple[str, str, int], list[FunctionType]]) -> None:
    changed = [
        (function, new)
        for new in mutant.codes()
        for function in functions.get(_key(new), ())
        if function.__code__ != new
    ]
    assert changed, "a mutant changes a function that is loaded"
    for function, new in changed:
        function.__code__ = new
