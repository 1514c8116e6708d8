"""A month of nightly drills: each database has its turn, what is damaged is found, and nothing else is touched.

`DRILL_NIGHTS` runs the whole of it (`make drills`): sixty databases on three VMs, ten a night. Without it a
smaller estate has as many turns.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from datetime import timedelta

import pytest

from local.estate import JsonObject
from shared.intake.planning import plan_drills
from tests.e2e.drills import (
    DRILL_VM,
    TARGET,
    drill_estate,
    drill_machine,
    every_database,
    settings,
    source,
    touched_by_drills,
)
from tests.e2e.harness import OpenEstate, virtual_machine

#: 128 characters, and everything that a script could trip over
HOSTILE = 'it\'s "quoted"]; $(Stop-Computer) %PATH% -- ' + "x" * 85
NIGHTS = int(os.environ.get("DRILL_NIGHTS", "0"))
VAULT = DRILL_VM.split("/resourceGroups/")[0] + (
    "/resourceGroups/rg-backup/providers/Microsoft.RecoveryServices/vaults/vault1"
)


@pytest.mark.timeout(3600 if NIGHTS else 300)
def test_a_month_of_nightly_drills(estate: OpenEstate) -> None:
    assert len(HOSTILE) == 128
    machines, each, count, nights = (3, 20, 10, NIGHTS) if NIGHTS else (2, 3, 2, 5)
    special: list[JsonObject] = [
        source("damaged", corrupt=True),
        source("huge", sizeMB=300_000),
        source("secret", encryptedBy="tde"),
        source(HOSTILE),
    ]
    plain = [source(f"db{number:02}") for number in range(machines * each - len(special))]
    listed = [*special, *plain]
    vms = [
        virtual_machine(f"sqlvm{number + 1}", *listed[number::machines], registeredTo="vault1")
        for number in range(machines)
    ]
    scenario = drill_estate(drills=drill_machine("master", "wages"), scheduledBackups=True)
    scenario["virtualMachines"] = [*vms, scenario["virtualMachines"][-1]]
    schedule = {
        "name": "nightly",
        "schedule": "0 0 1 * * *",
        "vaultId": VAULT,
        "databases": [{"instance": "*", "database": "*"}],
        "count": count,
        "target": TARGET,
        "maxLateness": "PT6H",
    }
    it = estate(scenario, settings(DRILL_SCHEDULES=json.dumps([schedule])))
    before = every_database(it.simulator)
    # Outcomes are kept for 14 days.
    events: dict[str, JsonObject] = {}
    for night in range(nights):
        assert plan_drills(it.runtime) == 1
        it.settle(within=timedelta(days=1))
        events |= {event["id"]: event for event in it.events()}
        noon = it.simulator.scenario.start_time.replace(hour=12) + timedelta(days=night + 1)
        it.clock.advance_to(noon)
    accepted = [event["data"] for event in events.values() if event["data"]["status"] == "accepted"]
    assert len(accepted) == nights
    outcomes: dict[str, list[JsonObject]] = defaultdict(list)
    for event in events.values():
        if event["type"].split(".")[2] not in ("accepted", "started"):
            outcomes[event["data"]["database"]].append(event["data"])
    names = {database["name"] for database in listed}
    assert set(outcomes) == names, "each has had its turn"
    for name, found in outcomes.items():
        statuses = {data["status"] for data in found}
        codes = {data["error"]["code"] for data in found if "error" in data}
        if name == "damaged":
            assert codes == {"DrillCheckFailed"}
            for data in found:
                assert "MSSQLSERVER/damaged" in data["error"]["message"]
                assert data["drill"]["checkErrors"] == 2
        elif name == "huge":
            assert (statuses, codes) == ({"skipped"}, {"DrillTooLarge"})
        elif name == "secret":
            assert codes == {"UserErrorCannotFindServerCertificateWithThumbprint"}
        else:
            assert statuses == {"succeeded"}, (name, found)
            for data in found:
                drilled = data["drill"]
                assert drilled["measuredRtoSeconds"] >= drilled["restoreSeconds"] > 0
                assert 0 <= drilled["achievedRpoSeconds"] < 3 * 3600
                assert drilled["checkErrors"] == 0
                assert drilled["cleanedUp"] is True
    turns = [len(found) for name, found in outcomes.items() if name != "huge"]
    assert max(turns) - min(turns) <= 2, "turns are even"
    after = every_database(it.simulator)
    assert after.keys() == before.keys()
    assert all(after[key] is before[key] for key in before)
    touched = touched_by_drills(it.simulator)
    assert {vm for vm, _ in touched} == {DRILL_VM}
    # All but what is too large.
    assert len(touched) == len(names) - 1
    assert all(name.startswith("drill_") for _, name in touched)
