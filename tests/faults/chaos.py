"""The long fault run: many requests, a simulator that misbehaves, and the whole process killed again and again.

    python -m tests.faults.chaos --requests 200 --kills 30 --seeds 1 2 3

Protect, backup and restore requests are mixed and sent at once by `sqlvmbackup run --state`. The process is
ended by SIGKILL at random moments and started again until all is done; the simulator, a process of its own,
drops answers after the effect, answers 429 and 503, and delays. Then the promise is checked: each database of
each request has exactly one terminal outcome, nothing is lost, and the ledger shows no effect twice.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import requests

from shared.messages.steps import is_marked

TIME_SCALE: Final = 0.01
SUBSCRIPTION: Final = "/subscriptions/00000000-0000-0000-0000-000000000001"
VAULT: Final = f"{SUBSCRIPTION}/resourceGroups/rg-backup/providers/Microsoft.RecoveryServices/vaults/vault1"
POLICY: Final = "HourlyLogBackup"
INSTANCE: Final = "MSSQLSERVER"
FAULTS: Final = [
    {"route": "*", "probability": 0.02, "fault": "dropAfterEffect"},
    {"route": "*", "probability": 0.025, "fault": "throttle", "retryAfter": 5},
    {"route": "*", "probability": 0.025, "fault": "status", "status": 503},
    {"route": "*", "probability": 0.05, "fault": "delay", "seconds": 0.05},
]
#: A run that is not done by then has hung, in seconds.
_PATIENCE: Final = 900.0

JsonObject = dict[str, Any]


@dataclass
class Tally:
    """What came of one seed."""

    seed: int
    requests: int
    kills: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    effects: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    doubled_outcomes: list[str] = field(default_factory=list)
    doubled_effects: list[str] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        """Whether the promise was kept."""
        return not (self.lost or self.doubled_outcomes or self.doubled_effects)

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.requests} requests, {self.kills} kills, {self.seconds:.0f} s;"
            f" outcomes {dict(self.outcomes)}; effects {dict(self.effects)};"
            f" lost {len(self.lost)}, outcomes doubled {len(self.doubled_outcomes)},"
            f" effects doubled {len(self.doubled_effects)}"
        )


def vm_id(number: int) -> str:
    """The ARM id of a VM of the scenario."""
    return f"{SUBSCRIPTION}/resourceGroups/rg-sql/providers/Microsoft.Compute/virtualMachines/sql{number}"


def scenario(seed: int, databases: int) -> JsonObject:
    """Two VMs whose databases are protected and have a history, and two that are new to the vault."""

    def machine(number: int, **database: Any) -> JsonObject:
        listed = [{"name": f"db{number}_{index:03}", **database} for index in range(databases)]
        return {"name": f"sql{number}", "instances": [{"name": INSTANCE, "databases": listed}]}

    old = {"protectedBy": POLICY, "historyDays": 2}
    return {
        "seed": seed,
        "scheduledBackups": False,
        "virtualMachines": [
            {**machine(1, **old), "registeredTo": "vault1"},
            {**machine(2, **old), "registeredTo": "vault1"},
            machine(3),
            machine(4),
        ],
        "durations": {"backup": [90, 0.5], "restore": [120, 0.5], "register": 60},
        "faults": FAULTS,
    }


def mixed_requests(seed: int, count: int, databases: int) -> list[JsonObject]:
    """Requests of all three kinds, one database each; at most a few fulls of one database."""
    chance = random.Random(seed)
    made: list[JsonObject] = []
    for number in range(count):
        kind = chance.choices(("protect", "backup", "restore"), (3, 5, 2))[0]
        machine = chance.choice((3, 4)) if kind == "protect" else chance.choice((1, 2))
        name = f"db{machine}_{chance.randrange(databases):03}"
        selected = {"databases": [{"instance": INSTANCE, "database": name}], "vmId": vm_id(machine)}
        data: JsonObject = {"vaultId": VAULT, **selected}
        if kind == "protect":
            data["policyName"] = POLICY
        elif kind == "backup":
            data["backupType"] = chance.choice(("Full", "CopyOnlyFull", "Log", "Differential"))
        else:
            data = {
                "vaultId": VAULT,
                "vmId": vm_id(machine),
                "instance": INSTANCE,
                "database": name,
                "recoveryPoint": {"latest": "any"},
                "target": {
                    "kind": "alternate",
                    "vmId": vm_id(machine),
                    "instance": INSTANCE,
                    "database": f"{name}_copy{number}",
                },
            }
        made.append(
            {
                "specversion": "1.0",
                "type": f"sqlvmbackup.{kind}.requested.v1",
                "source": "/chaos",
                "id": f"{kind}-{number}",
                "data": data,
            }
        )
    return made


@contextmanager
def simulator(directory: Path, seed: int, databases: int) -> Iterator[str]:
    """A simulator in a process of its own; gives its URL."""
    estate = directory / "scenario.json"
    estate.write_text(json.dumps(scenario(seed, databases)))
    command = [sys.executable, "-m", "cli.main", "simulator", "--port", "0", "--scenario", str(estate)]
    command += ["--ledger", str(directory / "ledger.jsonl"), "--time-scale", str(TIME_SCALE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[-1]
        finally:
            process.terminate()
            process.wait(30)


def run_with_kills(directory: Path, url: str, kills: int, chance: random.Random) -> int:
    """Run the requests to their end, killed at random moments; returns how often it was."""
    command = [sys.executable, "-m", "cli.main", "run", "--requests", str(directory / "requests.jsonl")]
    command += ["--state", str(directory / "state"), "--outcomes", str(directory / "outcomes.jsonl")]
    command += ["--arm-endpoint", url]
    environment = {**os.environ, "TIME_SCALE": str(TIME_SCALE)}
    killed = 0
    until = time.monotonic() + _PATIENCE
    while True:
        with (directory / "run.log").open("ab") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            try:
                # Long enough to get past the start of Python, short enough to hit the middle of the work.
                patience = chance.uniform(0.8, 2.5) if killed < kills else until - time.monotonic()
                process.wait(max(patience, 1.0))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait(30)
                if killed >= kills:
                    raise TimeoutError(f"not done after {_PATIENCE:.0f} s; see {directory}") from None
                killed += 1
                continue
        if process.returncode not in (0, 1):
            raise RuntimeError(f"the command ended with {process.returncode}; see {directory / 'run.log'}")
        return killed


def check(directory: Path, tally: Tally, made: list[JsonObject], url: str) -> None:
    """Hold the outcomes file and the ledger to the promise."""
    seen: Counter[tuple[str, str]] = Counter()
    for line in (directory / "outcomes.jsonl").read_text().splitlines():
        data = json.loads(line)["data"]
        seen[(data["requestId"], data["outcomeKey"])] += 1
        tally.outcomes[data["status"]] += 1
    answered = Counter(request_id for request_id, _ in seen)
    tally.lost = [request["id"] for request in made if answered[request["id"]] != 1]
    tally.doubled_outcomes = [f"{key}" for key, count in seen.items() if count > 1]
    ledger = [json.loads(line) for line in (directory / "ledger.jsonl").read_text().splitlines()]
    tally.effects = Counter(entry["route"] for entry in ledger)
    sent: Counter[tuple[str, str]] = Counter()
    for entry in ledger:
        if entry["route"] not in ("Backup", "Restore"):
            continue
        assert is_marked(entry["clientRequestId"]), "a mutation without the app's mark"
        sent[(entry["route"], entry["clientRequestId"])] += 1
    tally.doubled_effects = [f"{route} {mark}" for (route, mark), count in sent.items() if count > 1]
    tally.doubled_effects += _beyond_their_requests(made, ledger, url)


def _beyond_their_requests(made: list[JsonObject], ledger: list[JsonObject], url: str) -> list[str]:
    """Items with more backups or restores than were asked for, jobs that met another operation apart."""
    asked: Counter[tuple[str, str]] = Counter()
    for request in made:
        kind = request["type"].split(".")[1]
        data = request["data"]
        name = data["database"] if kind == "restore" else data["databases"][0]["database"]
        asked[(kind.capitalize(), name.lower())] += 1
    done: Counter[tuple[str, str]] = Counter()
    for entry in ledger:
        if entry["route"] not in ("Backup", "Restore"):
            continue
        if _status(url, entry["jobId"]) == "Failed":
            continue  # it was refused for another operation that was running, and sent again
        done[(entry["route"], entry["item"].split(";")[-1].lower())] += 1
    return [
        f"{route} of {name}: {count} for {asked[(route, name)]}"
        for (route, name), count in done.items()
        if count > asked[(route, name)]
    ]


def _status(url: str, job_id: str) -> str:
    for _ in range(50):  # the simulator still misbehaves
        try:
            answer = requests.get(
                f"{url}{VAULT}/backupJobs/{job_id}",
                params={"api-version": "2024-04-01"},
                headers={"Authorization": "Bearer local-simulator"},
                timeout=10,
            )
        except requests.RequestException:
            continue
        if answer.status_code == 200:
            return str(answer.json()["properties"]["status"])
    raise AssertionError(f"the simulator does not tell of job {job_id}")


def chaos(seed: int, count: int, kills: int, directory: Path) -> Tally:
    """One run with one seed."""
    databases = max(4, count // 8)
    made = mixed_requests(seed, count, databases)
    (directory / "requests.jsonl").write_text("".join(f"{json.dumps(request)}\n" for request in made))
    tally = Tally(seed=seed, requests=count)
    began = time.monotonic()
    with simulator(directory, seed, databases) as url:
        tally.kills = run_with_kills(directory, url, kills, random.Random(seed))
        tally.seconds = time.monotonic() - began
        check(directory, tally, made, url)
    return tally


def main() -> int:
    """Run the seeds; 0 where the promise was kept for every one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    kept = True
    for seed in options.seeds:
        with tempfile.TemporaryDirectory(prefix=f"chaos-{seed}-") as name:
            tally = chaos(seed, options.requests, options.kills, Path(name))
        print(tally, flush=True)  # noqa: T201
        for problem in (*tally.lost, *tally.doubled_outcomes, *tally.doubled_effects):
            print(f"  {problem}", flush=True)  # noqa: T201
        kept = kept and tally.kept
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
