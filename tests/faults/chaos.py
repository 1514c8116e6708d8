"""Killed for real: `sqlvmbackup run --state DIR` under `kill -9` at random moments, until every request has ended.

Meanwhile the simulator loses 2 % of its answers after the effect, answers 5 % with 429 or 503, and delays 5 %.
`python -m tests.faults.chaos` does it with 200 requests and 30 kills at three seeds and prints a tally;
`--requests`, `--kills` and `--seed` change that. `--copies`: 20 copy-only fulls and 20 restores to other names,
each of a database of its own, under 25 kills and no fault of Azure's, at five seeds: whatever is in doubt then is
the kills' doing. `--drills`: restore drills on two VMs under 40 kills, at three seeds (`tests.faults.chaos_of_drills`).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from local.estate import JsonObject
from local.simulator import Scenario, Simulator, SimulatorServer
from tests.e2e.harness import INSTANCE, POLICY, virtual_machine
from tests.faults.estate import gave_way

ROOT: Final = Path(__file__).resolve().parents[2]
#: Real seconds a simulated second takes: slow enough that thirty kills find work to interrupt.
TIME_SCALE: Final = 0.12
#: The longest a run may take once nobody kills it any more, in seconds.
PATIENCE: Final = 300.0
FAULTS: Final = (
    {"route": "*", "probability": 0.02, "fault": "dropAfterEffect"},
    {"route": "*", "probability": 0.025, "fault": "status", "status": 503},
    {"route": "*", "probability": 0.025, "fault": "throttle", "retryAfter": 5},
    {"route": "*", "probability": 0.05, "fault": "delay", "seconds": 0.05},
)


@dataclass(frozen=True)
class Work:
    """What is asked of the command, and what goes wrong in Azure meanwhile."""

    #: of the requests
    shares: Mapping[str, float]
    backup_type: str
    faults: tuple[JsonObject, ...]
    #: of jobs, in seconds of the service
    durations: JsonObject
    #: outcomes in doubt that are allowed at most; None: any number
    most_unknown: int | None = None


MIXED: Final = Work({"protect": 0.4, "backup": 0.4, "restore": 0.2}, "Full", FAULTS, {})
#: The jobs are long enough that every kill finds work.
COPIES: Final = Work({"backup": 0.5, "restore": 0.5}, "CopyOnlyFull", (), {"backup": 600, "restore": 900}, 1)


@dataclass
class Tally:
    """What a run under kills came to."""

    seed: int
    requests: int
    kills: int
    seconds: float = 0.0
    #: outcomes by workflow and status
    outcomes: Counter[str] = field(default_factory=Counter)
    #: databases without an outcome
    lost: list[str] = field(default_factory=list)
    #: databases with more than one outcome
    repeated: list[str] = field(default_factory=list)
    #: outcomes in doubt that are allowed at most; None: any number
    most_unknown: int | None = None
    #: databases whose outcome is `unknown`
    unknown: list[str] = field(default_factory=list)
    #: databases with more than one backup or restore whose job did not give way to another
    duplicated: list[str] = field(default_factory=list)
    #: outcomes that say succeeded where the ledger shows no effect, or failed where it shows one
    untrue: list[str] = field(default_factory=list)
    #: what was changed and may not be, or is left where nothing may be
    changed: list[str] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        """Whether the promise was kept."""
        doubtful = self.most_unknown is not None and len(self.unknown) > self.most_unknown
        return not (doubtful or self.lost or self.repeated or self.duplicated or self.untrue or self.changed)

    def __str__(self) -> str:
        ended = ", ".join(f"{count} {name}" for name, count in sorted(self.outcomes.items()))
        return (
            f"seed {self.seed}: {self.requests} requests, {self.kills} kills, {self.seconds:.0f} s; {ended};"
            f" {len(self.lost)} lost, {len(self.repeated)} answered twice, {len(self.duplicated)} effects"
            f" duplicated, {len(self.untrue)} untrue, {len(self.changed)} changed"
        )


def _estate(work: Work, numbers: Mapping[str, int], seed: int) -> JsonObject:
    """A database of its own for each request, so that each effect can be told by its database."""
    machines = []
    for operation, count in numbers.items():
        details = {} if operation == "protect" else {"protectedBy": POLICY, "historyDays": 2}
        databases = [{"name": f"{operation}{number}", **details} for number in range(count)]
        registered = {} if operation == "protect" else {"registeredTo": "vault1"}
        machines.append(virtual_machine(f"vm-{operation}", *databases, **registered))
    return {
        "seed": seed,
        "virtualMachines": machines,
        "scheduledBackups": False,
        "faults": list(work.faults),
        "durations": work.durations,
        "retryAfter": 30,
    }


def _requests(work: Work, simulator: Simulator, numbers: Mapping[str, int]) -> list[JsonObject]:
    made = []
    for operation, count in numbers.items():
        vm_id = simulator.vm_id(f"vm-{operation}")
        for number in range(count):
            database = f"{operation}{number}"
            data: JsonObject = {"vaultId": simulator.vault_id(), "vmId": vm_id}
            if operation == "restore":
                target = {
                    "kind": "alternate",
                    "vmId": vm_id,
                    "instance": INSTANCE,
                    "database": f"{database}_copy",
                }
                data |= {
                    "instance": INSTANCE,
                    "database": database,
                    "recoveryPoint": {"latest": "any"},
                    "target": target,
                }
            else:
                data["databases"] = [{"instance": INSTANCE, "database": database}]
                data |= {"policyName": POLICY} if operation == "protect" else {"backupType": work.backup_type}
            made.append(
                {
                    "specversion": "1.0",
                    "type": f"sqlvmbackup.{operation}.requested.v1",
                    "source": "/chaos",
                    "id": database,
                    "data": data,
                }
            )
    return made


def chaos(
    directory: Path,
    *,
    requests: int,
    kills: int,
    seed: int,
    most_seconds: float = 4.0,
    time_scale: float = TIME_SCALE,
    work: Work = MIXED,
) -> Tally:
    """Run requests under kills; each process lives `most_seconds` at most until the kills are used up.

    Raises TimeoutError where the last process, which nobody kills, does not end.
    """
    chance = random.Random(seed)
    numbers = {operation: max(1, round(requests * share)) for operation, share in work.shares.items()}
    simulator = Simulator(Scenario.model_validate(_estate(work, numbers, seed)), time_scale=time_scale)
    began = time.monotonic()
    with SimulatorServer(simulator) as server:
        lines = _requests(work, simulator, numbers)
        chance.shuffle(lines)
        file, outcomes = directory / "requests.jsonl", directory / "outcomes.jsonl"
        file.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
        arguments = (
            "--requests",
            str(file),
            "--outcomes",
            str(outcomes),
            "--state",
            str(directory / "state"),
        )
        process = Process(server.url, arguments, time_scale)
        done = process.under_kills(kills, chance, most_seconds)
    tally = Tally(seed, len(lines), done, time.monotonic() - began, most_unknown=work.most_unknown)
    _count(tally, lines, outcomes, simulator)
    return tally


@dataclass(frozen=True)
class Process:
    """`sqlvmbackup run`, started anew after each kill."""

    url: str
    arguments: Sequence[str]
    time_scale: float
    settings: Mapping[str, str] = field(default_factory=dict)

    def under_kills(self, kills: int, chance: random.Random, most_seconds: float) -> int:
        """Start and kill it so often, then let it come to its end; how often it was killed.

        Raises TimeoutError where the last one, which nobody kills, does not end.
        """
        done = 0
        while done < kills and self._is_killed(chance.uniform(0.5, most_seconds)):
            done += 1
        with self._start() as process:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                raise TimeoutError(f"the last run had not ended after {PATIENCE:g} s") from None
        return done

    def _start(self) -> subprocess.Popen[bytes]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AZURE_")}
        scale = {"TIME_SCALE": str(self.time_scale), "TRACK_INTERVAL": "PT30S"}
        return subprocess.Popen(
            [sys.executable, "-m", "cli.main", "run", *self.arguments],
            cwd=ROOT,
            env={**kept, "ARM_ENDPOINT": self.url, **scale, **self.settings},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _is_killed(self, after: float) -> bool:
        """Whether the process was killed; it may end of itself before."""
        with self._start() as process:
            with suppress(subprocess.TimeoutExpired):
                process.wait(after)
                return False
            process.kill()
        return True


def _count(tally: Tally, lines: Sequence[JsonObject], outcomes: Path, simulator: Simulator) -> None:
    answers: dict[str, list[JsonObject]] = {}
    for text in outcomes.read_text(encoding="utf-8").splitlines():
        outcome: JsonObject = json.loads(text)
        answers.setdefault(outcome["data"]["requestId"], []).append(outcome)
    effects: Counter[str] = Counter()
    for entry in simulator.ledger_entries:
        if entry["route"] in ("ConfigureBackup", "Backup", "Restore") and not gave_way(
            simulator, entry["jobId"]
        ):
            effects[entry["item"].rpartition(";")[2].lower()] += 1
    for line in lines:
        name, operation = line["id"], line["type"].split(".")[1]
        found = answers.get(name, [])
        if not found:
            tally.lost.append(name)
            continue
        if len({outcome["data"]["outcomeKey"] for outcome in found}) != len(found) or len(found) > 1:
            tally.repeated.append(name)
        status = found[0]["data"]["status"]
        why = found[0]["data"].get("error", {}).get("code")
        tally.outcomes[f"{operation} {status}" + (f" ({why})" if why else "")] += 1
        if operation != "protect" and effects[name] > 1:
            tally.duplicated.append(name)
        succeeded = status in ("succeeded", "succeededWithWarnings")
        if status == "unknown":
            tally.unknown.append(f"{name}: {effects[name]} effects")
        elif succeeded != bool(effects[name]):
            tally.untrue.append(f"{name}: {status}, {effects[name]} effects")


def main() -> int:
    """The long version; 0 where the promise was kept at every seed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--copies", action="store_true", help="copy-only fulls and restores to other names")
    kinds.add_argument("--drills", action="store_true", help="restore drills")
    parser.add_argument("--requests", type=int, help="200; 40 with --copies, 8 with --drills")
    parser.add_argument("--kills", type=int, help="30; 25 with --copies, 40 with --drills")
    parser.add_argument(
        "--seed", type=int, action="append", help="may be given several times; 1 to 3; 1 to 5 with --copies"
    )
    options = parser.parse_args()
    if options.drills:
        from tests.faults.chaos_of_drills import chaos_of_drills

        run, requests, kills, seeds = chaos_of_drills, 8, 40, range(1, 4)
    elif options.copies:
        run, requests, kills, seeds = partial(chaos, work=COPIES), 40, 25, range(1, 6)
    else:
        run, requests, kills, seeds = chaos, 200, 30, range(1, 4)
    kept = True
    for seed in options.seed or seeds:
        with tempfile.TemporaryDirectory() as directory:
            tally = run(
                Path(directory),
                requests=options.requests or requests,
                kills=options.kills or kills,
                seed=seed,
            )
        sys.stdout.write(f"{tally}\n")
        for names in (
            tally.lost,
            tally.repeated,
            tally.duplicated,
            tally.untrue,
            tally.changed,
            tally.unknown,
        ):
            if names:
                sys.stdout.write(f"  {', '.join(names[:20])}\n")
        sys.stdout.flush()
        kept = kept and tally.kept
    return 0 if kept else 1


if __name__ == "__main__":
    raise SystemExit(main())
