"""Every crash point of every workflow: the process is killed before and after each of its effects.

An effect is one mutating call to Azure or one entity's messages handed to the bus; killed "after" one, the
process has had its answer and done nothing with it. After recovery the promise holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from local.estate import JsonObject
from tests.faults.estate import (
    FaultyEstate,
    Plan,
    Side,
    bare_estate,
    fault,
    gapped_estate,
    open_faulty,
    protected_estate,
)
from tests.faults.observing import OpenEstate
from tests.faults.schedules import REPAIRED

CREATE: JsonObject = {
    "createVault": {"location": "westeurope", "redundancy": "GeoRedundant"},
    "createPolicy": {"full": {"frequency": "Daily", "time": "02:00", "retentionDays": 30}},
}


STOPPED: JsonObject = {"status": 400, "code": "VMNotInRunningStateUserError", "message": "It is shut down."}
CONFLICT: JsonObject = {"nth": 1, "status": 409, "code": "Conflict"}


@dataclass(frozen=True)
class Flow:
    """One workflow with everything it can do."""

    scenario: JsonObject
    request: Callable[[FaultyEstate], JsonObject]
    #: how its outcomes may end: what is known for certain without a crash
    ends: frozenset[str] = frozenset({"succeeded"})
    #: mutations that happen exactly once, however often the process is killed
    once: tuple[str, ...] = ()
    #: the mutation of which there are as many as outcomes that say succeeded
    told: str = ""
    #: its vault is not known to echo when the process is killed: whether the call was made is not always known
    doubtful: bool = False
    settings: tuple[tuple[str, str], ...] = ()

    def run(self, plan: Plan) -> tuple[FaultyEstate, list[JsonObject]]:
        with open_faulty(self.scenario, plan, dict(self.settings)) as estate:
            request = self.request(estate)
            estate.submit(request)
            estate.quiesce()
            estate.check()
            return estate, [outcome["data"] for outcome in estate.outcomes_of(request)]


def _new_vault(estate: FaultyEstate) -> JsonObject:
    vault_id = estate.vault_id.replace("vault1", "vault9")
    return estate.protect("orders", vaultId=vault_id, policyName="Nightly", **CREATE)


def _soft_deleted(estate: FaultyEstate) -> JsonObject:
    estate.delete_by_hand("orders")
    return estate.protect("orders", undelete=True)


FLOWS: dict[str, Flow] = {
    "protect, from nothing": Flow(
        bare_estate("orders", "billing"),
        lambda estate: estate.protect("*", firstBackup="now"),
        once=("Backup",),
    ),
    "protect, vault and policy created": Flow(bare_estate(), _new_vault),
    "protect, undeleted and resumed": Flow(protected_estate(), _soft_deleted),
    "protect, a name that is not there": Flow(
        protected_estate("orders"),
        lambda estate: estate.protect("orders", "nope"),
        frozenset({"succeeded", "failed"}),
    ),
    "backup": Flow(
        protected_estate("orders", "billing"), lambda estate: estate.backup("*"), once=("Backup",)
    ),
    "restore": Flow(protected_estate(), lambda estate: estate.restore("orders"), once=("Restore",)),
    "restore over the original": Flow(
        protected_estate(),
        lambda estate: estate.restore("orders", target={"kind": "original"}, overwrite=True),
        once=("Restore",),
        settings=(("RESTORE_ALLOW_OVERWRITE", "true"),),
    ),
    "backup, another operation running": Flow(
        protected_estate("orders", "billing", faults=[fault("Backup", "status", **CONFLICT)]),
        lambda estate: estate.backup("*"),
        once=("Backup",),
        told="Backup",
        doubtful=True,
    ),
    "restore, another operation running": Flow(
        protected_estate(faults=[fault("Restore", "status", **CONFLICT)]),
        lambda estate: estate.restore("orders"),
        once=("Restore",),
        told="Restore",
    ),
    "backup, refused": Flow(
        protected_estate("orders", "billing", faults=[fault("Backup", "status", nth=1, status=400)]),
        lambda estate: estate.backup("*"),
        frozenset({"succeeded", "failed"}),
        told="Backup",
        doubtful=True,
    ),
    "backup, skipped where another operation runs": Flow(
        protected_estate("orders", "billing", faults=[fault("Backup", "status", **CONFLICT)]),
        lambda estate: estate.backup("*", ifRunning="skip"),
        frozenset({"succeeded", "skipped"}),
        told="Backup",
        doubtful=True,
    ),
    "protect, auto-protected": Flow(
        bare_estate("orders"),
        lambda estate: estate.protect("*", autoProtect=["MSSQLSERVER"]),
        once=("PutProtectionIntent",),
    ),
    "coverage, with repairs": Flow(
        gapped_estate(),
        lambda estate: estate.coverage(**REPAIRED),
        once=("Backup", "ConfigureBackup"),
    ),
    "coverage, its inquiry fails and its repair meets another operation": Flow(
        gapped_estate(
            faults=[
                fault("Inquire", "operationFailure", nth=1, **STOPPED),
                fault("Backup", "status", **CONFLICT),
            ]
        ),
        lambda estate: estate.coverage(**REPAIRED),
        once=("ConfigureBackup",),
    ),
    "backup, its answer lost": Flow(
        protected_estate("orders", "billing", faults=[fault("Backup", "status", nth=2, status=503)]),
        lambda estate: estate.backup("*"),
        once=("Backup",),
        told="Backup",
    ),
}


@pytest.mark.parametrize("recovery", ["at once", "later"])
@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("name", FLOWS)
def test_killed_at_every_effect(name: str, side: Side, recovery: Literal["at once", "later"]) -> None:
    flow = FLOWS[name]
    untouched, outcomes = flow.run(Plan())
    expected = untouched.mutations
    assert {outcome["status"] for outcome in outcomes} == flow.ends
    effects = list(untouched.meter.effects)
    assert len(effects) >= 5
    for number, effect in enumerate(effects):
        where = f"{side} effect {number} ({effect})"
        estate, found = flow.run(Plan(crashes={number: side}, recovery=recovery))
        assert estate.crashes == 1, where
        statuses = {outcome["status"] for outcome in found}
        # Whether a restore has started is not always known; it is never sent twice to find out.
        allowed = flow.ends | ({"unknown"} if "Restore" in flow.once or flow.doubtful else set())
        assert statuses <= allowed, f"{where}: {statuses}"
        assert len(found) == len(outcomes), where
        for route in flow.once:
            most = expected[route]
            least = 0 if "unknown" in statuses else most
            assert least <= estate.mutations[route] <= most, f"{where}: {estate.mutations}"
        if flow.told:
            told = sum(outcome["status"] == "succeeded" for outcome in found)
            assert estate.mutations[flow.told] == told, f"{where}: {estate.mutations}, {told} are told of"
        if "unknown" in statuses and not flow.doubtful:
            # The honest answer is kept for where no effect can be shown.
            assert not any(estate.mutations[route] for route in flow.once), where


def test_a_first_delivery_that_succeeds_costs_no_call_more(open_estate: OpenEstate) -> None:
    """What is done for the case that something fails is paid for then: these are the calls of the work itself."""
    estate = open_estate(protected_estate())
    estate.submit(estate.backup("orders"))
    estate.quiesce()
    calls = [entry["route"] for entry in estate.simulator.access_entries]
    # The last is of a small request alone: it names the recovery point.
    assert calls == [
        "ListProtectedItems",
        "Backup",
        "OperationStatus",
        "GetJob",
        "GetJob",
        "ListRecoveryPoints",
    ]
    estate = open_estate(protected_estate())
    estate.submit(estate.restore("orders"))
    estate.quiesce()
    calls = [entry["route"] for entry in estate.simulator.access_entries]
    assert calls[-4:] == ["Restore", "OperationStatus", "GetJob", "GetJob"]
    assert "ListJobs" not in calls


@pytest.mark.parametrize("name", ["backup", "restore"])
def test_killed_twice_at_every_pair_of_effects(name: str) -> None:
    flow = FLOWS[name]
    count = len(flow.run(Plan())[0].meter.effects)
    for first in range(count):
        plan: dict[str, Any] = {"recovery": "at once" if first % 2 else "later"}
        for gap in (1, 2, 3):
            flow.run(Plan(crashes={first: "after", first + gap: "after"}, **plan))
