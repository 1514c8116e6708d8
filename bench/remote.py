"""The simulator in a process of its own, so that its work and memory are not counted as the app's.

`python -m bench.remote` reads its scenario as one line of JSON and answers with its URL; every further line is
a number of seconds by which to advance its stepped clock, answered with `ok`. With `--real` its clock is the
machine's.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timedelta
from typing import Self

from local.simulator import Scenario, Simulator, SimulatorServer
from local.stepped_clock import SteppedClock
from shared.clock import SystemClock


class RemoteSimulator:
    """Runs it, and keeps a stepped clock of this process in step with it."""

    def __init__(self, scenario: Scenario, *, real: bool = False) -> None:
        # Kept as text, and only until it is sent, so that it does not count as the app's memory.
        self._scenario = scenario.model_dump_json(by_alias=True, exclude_unset=True)
        self._real = real
        self.clock = SteppedClock(scenario.start_time)
        self.url = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.remote", *(["--real"] if self._real else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = self._ask(self._scenario)
        self._scenario = ""
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def advance_to(self, moment: datetime) -> None:
        """Step both clocks."""
        seconds = (moment - self.clock.now()) / timedelta(seconds=1)
        if seconds > 0:
            self._ask(repr(seconds))
            self.clock.advance_to(moment)

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


def main(arguments: list[str]) -> None:
    scenario = Scenario.model_validate(json.loads(sys.stdin.readline()))
    stepped = SteppedClock(scenario.start_time)
    simulator = Simulator(scenario, clock=SystemClock() if "--real" in arguments else stepped)
    with SimulatorServer(simulator) as server:
        print(server.url, flush=True)
        for line in sys.stdin:
            stepped.advance(timedelta(seconds=float(line)))
            print("ok", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
