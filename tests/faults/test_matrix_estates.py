# ruff: noqa: N802 - the tests bear the numbers of their faults
"""The fault matrix, F27, F28, F29, F31: what is there already, or is not.

Each test bears the number of its fault; `tests/faults/matrix.py` says what is expected.
"""

from __future__ import annotations

import json

import pytest

from tests.e2e.harness import virtual_machine
from tests.faults.estate import (
    bare_estate,
    fault,
    protected_estate,
)
from tests.faults.observing import (
    OpenEstate,
    finished,
    run,
)


def test_F27_container_registered_to_another_vault(open_estate: OpenEstate) -> None:
    vaults = [{"name": "vault1"}, {"name": "secretvault"}]
    machines = [virtual_machine("sqlvm1", "orders", registeredTo="secretvault")]
    estate = open_estate({"vaults": vaults, "virtualMachines": machines})
    outcome = finished(estate, estate.protect("orders"))
    assert outcome["status"] == "failed"
    assert "another vault" in outcome["error"]["message"]
    assert "sqlvm1" in outcome["error"]["message"]
    assert "secretvault" not in json.dumps(outcome)
    assert estate.mutations["ConfigureBackup"] == 0


def test_F27_container_already_registered(open_estate: OpenEstate) -> None:
    machine = virtual_machine("sqlvm1", "orders", registeredTo="vault1")
    estate = open_estate(bare_estate(virtualMachines=[machine]))
    assert finished(estate, estate.protect("orders"))["status"] == "succeeded"
    assert estate.mutations["Register"] == 0


def test_F28_db_already_protected(open_estate: OpenEstate) -> None:
    estate = open_estate(protected_estate())
    outcome = finished(estate, estate.protect("orders"))
    assert (outcome["status"], outcome["protectionState"]) == ("succeeded", "Protected")
    assert estate.mutations["ConfigureBackup"] == 0


def test_F28_protected_by_another_policy(open_estate: OpenEstate) -> None:
    scenario = protected_estate(vaults=[{"name": "vault1", "policies": ["HourlyLogBackup", "Other"]}])
    estate = open_estate(scenario)
    failed = finished(estate, estate.protect("orders", policyName="Other"))
    assert (failed["status"], failed["error"]["code"]) == ("failed", "ProtectedByAnotherPolicy")
    assert estate.mutations["ConfigureBackup"] == 0
    changed = finished(estate, estate.protect("orders", policyName="Other", onExisting="changePolicy"))
    assert (changed["status"], changed["policyName"]) == ("succeeded", "Other")
    assert estate.mutations["ConfigureBackup"] == 1


def test_F29_a_database_that_is_not_there_fails_alone_and_what_there_is_is_named(
    open_estate: OpenEstate,
) -> None:
    estate = open_estate(bare_estate("orders", "billing"))
    outcomes = run(estate, estate.protect("billing", "payroll"))
    found = {outcome["database"]: outcome for outcome in outcomes}
    assert found["billing"]["status"] == "succeeded"
    error = found["payroll"]["error"]
    assert (found["payroll"]["status"], error["code"]) == ("failed", "DatabaseNotFound")
    assert "MSSQLSERVER/billing, MSSQLSERVER/orders" in error["message"]
    assert estate.mutations["ConfigureBackup"] == 1


def test_F29_two_machines_of_one_name(open_estate: OpenEstate) -> None:
    machines = [virtual_machine("sqlvm1", "orders", resourceGroup=group) for group in ("rg-a", "rg-b")]
    estate = open_estate(bare_estate(virtualMachines=machines))
    outcome = finished(estate, estate.protect("orders", vmId=estate.vm_id("sqlvm1", "rg-b")))
    assert outcome["status"] == "succeeded"
    touched = [
        entry["item"].lower()
        for entry in estate.simulator.ledger_entries
        if entry["route"] == "ConfigureBackup"
    ]
    assert len(touched) == 1 and ";rg-b;sqlvm1" in touched[0]


@pytest.mark.parametrize("allowed", ["true", "false"])
@pytest.mark.parametrize("overwrite", [True, False])
def test_F31_restore_target_exists(open_estate: OpenEstate, overwrite: bool, allowed: str) -> None:
    settings = {"RESTORE_ALLOW_OVERWRITE": allowed}
    estate = open_estate(protected_estate("orders", "billing"), settings=settings)
    outcome = finished(estate, estate.restore("orders", to="billing", overwrite=overwrite))
    both = overwrite and allowed == "true"
    assert outcome["status"] == ("succeeded" if both else "rejected")
    assert estate.mutations["Restore"] == (1 if both else 0)
    if not overwrite:
        assert outcome["error"]["code"] == "TargetDatabaseExists"


def test_F31_a_target_that_appears_meanwhile(open_estate: OpenEstate) -> None:
    code = "UserErrorCannotRestoreExistingDBWithoutForceOverwrite"
    estate = open_estate(
        protected_estate(
            faults=[fault("Restore", "jobFailure", code=code, message="It exists.", recommendations=[" "])]
        )
    )
    outcome = finished(estate, estate.restore("orders"))
    assert (outcome["status"], outcome["error"]["code"]) == ("failed", code)
    assert "RESTORE_ALLOW_OVERWRITE" in outcome["error"]["recommendations"][0]
    assert estate.mutations["Restore"] == 1
