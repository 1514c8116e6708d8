"""Restore drills killed for real, at random moments of every step of theirs.

Requests of three databases each, on two VMs in turn, one backup in them corrupt. Then a request for each VM that nobody
kills, of every database that is left there and of one more: what a drill leaves behind, the next one replaces.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final

from local.estate import JsonObject
from local.simulator import Scenario, Simulator, SimulatorServer
from shared.arm.ids import VirtualMachineId
from shared.drills import RUN_COMMAND_PREFIX, drill_database_name
from shared.messages.identity import Database
from tests.e2e.drills import drill_machine, every_database, script_of, source, touched_by_drills
from tests.e2e.harness import INSTANCE, virtual_machine
from tests.faults.chaos import FAULTS, Process, Tally
from tests.faults.estate import gave_way

#: Real seconds per simulated second: a process lives for a minute or two of the service's time.
TIME_SCALE: Final = 0.02
_TARGETS: Final = ("drills1", "drills2")
_EACH: Final = 3
_CORRUPT: Final = "db1"
_DURATIONS: Final = {"restore": 90, "check": 60, "script": 10, "runCommand": 10}
_SUCCESSES: Final = ("succeeded", "succeededWithWarnings")


def chaos_of_drills(
    directory: Path,
    *,
    requests: int,
    kills: int,
    seed: int,
    most_seconds: float = 4.0,
    time_scale: float = TIME_SCALE,
) -> Tally:
    """Run drills under kills, then the next ones. Raises TimeoutError where they never end."""
    names = [f"db{number}" for number in range(requests * _EACH)]
    simulator = Simulator(Scenario.model_validate(_estate(names, seed)), time_scale=time_scale)
    before = every_database(simulator)
    began = time.monotonic()
    groups = [names[at : at + _EACH] for at in range(0, len(names), _EACH)]
    with SimulatorServer(simulator) as server:
        lines = [_request(simulator, f"drill-{number}", number, group) for number, group in enumerate(groups)]
        process = _process(directory, "killed", lines, simulator, server.url, time_scale)
        tally = Tally(seed, len(lines), process.under_kills(kills, random.Random(seed), most_seconds))
        _count(tally, names, _outcomes(process), simulator)
        left = {name for _, name in every_database(simulator).keys() - before.keys()}
        again = [
            {
                name
                for name in chain.from_iterable(groups[number :: len(_TARGETS)])
                if _drilled_as(simulator, name) in left
            }
            | {groups[number][0]}
            for number in range(len(_TARGETS))
        ]
        lines = [
            _request(simulator, f"next-{number}", number, sorted(group)) for number, group in enumerate(again)
        ]
        process = _process(directory, "next", lines, simulator, server.url, time_scale)
        process.under_kills(0, random.Random(seed), most_seconds)
    tally.seconds = time.monotonic() - began
    _count_next(tally, set().union(*again), _outcomes(process))
    _look_around(tally, names, before, simulator)
    return tally


def _process(
    directory: Path, name: str, lines: Sequence[JsonObject], simulator: Simulator, url: str, time_scale: float
) -> Process:
    file, outcomes, state = (directory / f"{name}{suffix}" for suffix in (".jsonl", "-outcomes.jsonl", ""))
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    arguments = ("--requests", str(file), "--state", str(state), "--outcomes", str(outcomes))
    targets = json.dumps([_target(simulator, number) for number in range(len(_TARGETS))])
    return Process(url, arguments, time_scale, {"DRILL_TARGETS": targets})


def _outcomes(process: Process) -> list[JsonObject]:
    return [json.loads(text) for text in Path(process.arguments[-1]).read_text(encoding="utf-8").splitlines()]


def _estate(names: Iterable[str], seed: int) -> JsonObject:
    databases = [source(name, corrupt=name == _CORRUPT) for name in names]
    return {
        "seed": seed,
        "virtualMachines": [
            virtual_machine("sqlvm1", *databases, registeredTo="vault1"),
            *(drill_machine("master", "wages", name=name) for name in _TARGETS),
        ],
        "scheduledBackups": False,
        "faults": list(FAULTS),
        "durations": _DURATIONS,
    }


def _target(simulator: Simulator, number: int) -> JsonObject:
    return {"vmId": simulator.vm_id(_TARGETS[number % len(_TARGETS)]), "instance": INSTANCE}


def _request(simulator: Simulator, name: str, number: int, databases: Sequence[str]) -> JsonObject:
    named = [{"instance": INSTANCE, "database": database} for database in databases]
    target = _target(simulator, number)
    return {
        "specversion": "1.0",
        "type": "sqlvmbackup.drill.requested.v1",
        "source": "/chaos",
        "id": name,
        "data": {"vaultId": simulator.vault_id(), "databases": named, "target": target},
    }


def _drilled_as(simulator: Simulator, name: str) -> str:
    vm_id = VirtualMachineId.parse(simulator.vm_id("sqlvm1"))
    return drill_database_name(Database(vm_id=vm_id, instance=INSTANCE, name=name))


def _count(tally: Tally, names: Sequence[str], outcomes: Sequence[JsonObject], simulator: Simulator) -> None:
    """What became of each database under the kills, against what the ledger shows."""
    restores, scripts = _effects(simulator)
    for name in names:
        found = [outcome["data"] for outcome in outcomes if outcome["data"].get("database") == name]
        if not found:
            tally.lost.append(name)
            continue
        if len(found) > 1:
            tally.repeated.append(name)
        drilled = _drilled_as(simulator, name)
        counts = (restores[name], scripts[drilled, "check"], scripts[drilled, "drop"])
        if max(counts) > 1:
            tally.duplicated.append(f"{name}: {counts}")
        data = found[0]
        tally.outcomes[_ended(data)] += 1
        if data["status"] == "unknown":
            tally.unknown.append(f"{name}: {counts}")
        elif not _is_as_it_should(data) or 0 in counts[:2]:
            tally.untrue.append(f"{name}: {_ended(data)} {counts}")
    strange = {outcome["data"].get("database") for outcome in outcomes} - set(names)
    tally.untrue += [f"an outcome of {name}" for name in strange]


def _is_as_it_should(data: JsonObject) -> bool:
    if data.get("database") == _CORRUPT:
        return bool(data["status"] == "failed" and data["error"]["code"] == "DrillCheckFailed")
    return data["status"] in _SUCCESSES


def _ended(data: JsonObject) -> str:
    code = data.get("error", {}).get("code")
    return f"{data['status']}{f' ({code})' if code else ''}"


def _effects(simulator: Simulator) -> tuple[Counter[str], Counter[tuple[str, str]]]:
    """Restores by source, but those whose job gave way; and scripts that ran, by drill database and action."""
    restores: Counter[str] = Counter()
    scripts: Counter[tuple[str, str]] = Counter()
    there: set[str] = set()
    for entry in simulator.ledger_entries:
        if entry["route"] == "Restore" and not gave_way(simulator, entry["jobId"]):
            restores[entry["item"].rpartition(";")[2]] += 1
        elif entry["route"] == "DeleteRunCommand":
            there.discard(entry["item"])
        elif entry["route"] == "PutRunCommand" and entry["item"] not in there:
            # One that is there with the same script runs nothing.
            there.add(entry["item"])
            script = script_of(entry)
            scripts[script["database"], script["action"]] += 1
    return restores, scripts


def _count_next(tally: Tally, names: set[str], outcomes: Sequence[JsonObject]) -> None:
    """What became of the drills that nobody killed."""
    tally.untrue += [
        f"the next drill of {outcome['data'].get('database')}: {_ended(outcome['data'])}"
        for outcome in outcomes
        if not _is_as_it_should(outcome["data"])
    ]
    if {outcome["data"].get("database") for outcome in outcomes} != names:
        tally.lost.append("some of the next drills")


def _look_around(
    tally: Tally, names: Sequence[str], before: Mapping[tuple[str, str], Any], simulator: Simulator
) -> None:
    """After the next drills: nothing of those before is left, and nothing else was ever touched."""
    after = every_database(simulator)
    tally.changed += [f"{key} is there" for key in after.keys() - before.keys()]
    tally.changed += [f"{key} is not what it was" for key in before if after.get(key) is not before[key]]
    allowed = {
        (simulator.vm_id(target), _drilled_as(simulator, name)) for target in _TARGETS for name in names
    }
    tally.changed += [f"{key} was touched" for key in touched_by_drills(simulator) - allowed]
    for target in _TARGETS:
        machine = next(each for each in simulator.machines if each.name.name == target)
        own = [name for name in machine.run_commands if name.startswith(RUN_COMMAND_PREFIX)]
        if len(own) > 1:
            tally.changed.append(f"{target} has {len(own)} run commands")
