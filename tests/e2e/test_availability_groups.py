"""Availability groups end to end, and what the service does not back up: basic groups, failover clusters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from local.estate import JsonObject
from tests.e2e.harness import INSTANCE, POLICY, Estate, OpenEstate, by_database, error_of, virtual_machine


def in_group(*databases: str, group: str = "ag1") -> list[JsonObject]:
    """Databases of an availability group."""
    return [{"availabilityGroup": group, "database": name} for name in databases]


def scenario(*, registered: Sequence[str] = (), **group: Any) -> dict[str, Any]:
    """Two nodes with a group, a machine of its own, and a failover cluster; some of them registered."""
    nodes = [
        virtual_machine(name, "local", registeredTo="vault1" if name in registered else None)
        for name in ("sqlag1", "sqlag2")
    ]
    cluster = virtual_machine("sqlfci1", "payroll")
    cluster["instances"][0]["failoverCluster"] = True
    databases = [{"name": name} for name in ("sales", "crm")]
    return {
        "virtualMachines": [*nodes, virtual_machine("sqlvm3", "own", registeredTo="vault1"), cluster],
        "availabilityGroups": [
            {"name": "ag1", "virtualMachines": ["sqlag1", "sqlag2"], "databases": databases, **group},
            {
                "name": "small",
                "virtualMachines": ["sqlag1", "sqlag2"],
                "databases": [{"name": "legacy"}],
                "basic": True,
            },
        ],
    }


@pytest.fixture
def azure(estate: OpenEstate) -> Estate:
    """The group's databases are protected and have a history; both nodes are registered."""
    databases = [{"name": name, "protectedBy": POLICY, "historyDays": 2} for name in ("sales", "crm")]
    return estate(
        scenario(registered=("sqlag1", "sqlag2"), databases=databases),
        {"RESTORE_ALLOW_OVERWRITE": "true", "RESTORE_ALLOWED_TARGETS": '["*"]'},
    )


def restore_of_group(azure: Estate, database: str, target: JsonObject, **data: Any) -> JsonObject:
    fields = {
        "availabilityGroup": "ag1",
        "database": database,
        "recoveryPoint": {"latest": "any"},
        "target": target,
    }
    return azure.request("restore", {**fields, **data})


def test_a_group_is_protected_by_way_of_a_node_and_backed_up_by_its_name(estate: OpenEstate) -> None:
    azure = estate(scenario())
    protected = azure.run(azure.protect(vm="sqlag1", databases=in_group("*")))
    assert {name: data["status"] for name, data in by_database(protected).items()} == {
        "sales": "succeeded",
        "crm": "succeeded",
    }
    for data in by_database(protected).values():
        assert (data.get("vmId"), data["protectionState"]) == (None, "IRPending")
        assert data["outcomeKey"].startswith("availabilityGroup;ag1;")
    items = {entry["item"] for entry in azure.simulator.ledger_entries if entry["route"] == "ConfigureBackup"}
    assert all("/SQLAGWorkLoadContainer;" in item for item in items) and len(items) == 2

    (backed_up,) = azure.run(azure.backup(databases=in_group("SALES", group="AG1")))
    assert (backed_up["data"]["status"], backed_up["data"]["database"]) == ("succeeded", "sales")
    assert backed_up["data"]["outcomeKey"] == "availabilityGroup;ag1;sales"
    assert azure.mutations["Backup"] == 1
    # The nodes' own databases of that vault are another matter.
    assert azure.run(azure.backup(vmId=azure.vm_id("sqlag1")))[0]["data"]["status"] != "succeeded"


def test_a_registered_group_needs_no_machine_in_the_request(estate: OpenEstate) -> None:
    azure = estate(scenario(registered=("sqlag1",)))
    (outcome,) = azure.run(
        azure.request("protect", {"policyName": POLICY, "databases": in_group("crm"), "firstBackup": "now"})
    )
    assert (outcome["data"]["status"], outcome["data"]["protectionState"]) == ("succeeded", "Protected")
    assert azure.mutations["Register"] == azure.mutations["Refresh"] == 0
    (again,) = azure.run(azure.request("protect", {"policyName": POLICY, "databases": in_group("crm")}))
    assert again["data"]["status"] == "succeeded"
    assert azure.mutations["ConfigureBackup"] == 1


def test_a_groups_database_is_restored_to_a_standalone_instance(azure: Estate) -> None:
    target = {"kind": "alternate", "vmId": azure.vm_id("sqlvm3"), "instance": INSTANCE, "database": "copy"}
    (outcome,) = azure.run(restore_of_group(azure, "sales", target))
    assert outcome["data"]["status"] == "succeeded", outcome
    assert outcome["data"]["target"]["database"] == "copy"
    (protected,) = azure.run(azure.protect("copy", vm="sqlvm3"))
    assert protected["data"]["status"] == "succeeded"
    (taken,) = azure.run(restore_of_group(azure, "crm", target))
    assert error_of(taken)[:2] == ("rejected", "TargetDatabaseExists")


def test_a_groups_database_is_never_restored_into_the_group(azure: Estate) -> None:
    (original,) = azure.run(restore_of_group(azure, "sales", {"kind": "original"}, overwrite=True))
    status, code, message = error_of(original)
    assert (status, code) == ("rejected", "OriginalRestoreOfAvailabilityGroup")
    assert "ag1" in message and "another database" in message
    assert azure.mutations["Restore"] == 0
    # On a node, under its own name, only the service can tell.
    onto = {"kind": "alternate", "vmId": azure.vm_id("sqlag1"), "instance": INSTANCE, "database": "sales"}
    (outcome,) = azure.run(restore_of_group(azure, "sales", onto, overwrite=True))
    assert error_of(outcome)[:2] == ("failed", "UserErrorRestoreFailedDatabaseCannotBeOfflined")


@pytest.mark.parametrize(
    ("vm", "selector", "named", "code"),
    [
        (
            "sqlag1",
            {"availabilityGroup": "small", "database": "legacy"},
            "availability group small",
            "UserErrorBasicAvailabilityGroupNotSupported",
        ),
        (
            "sqlag1",
            {"availabilityGroup": "small", "database": "*"},
            "availability group small",
            "UserErrorBasicAvailabilityGroupNotSupported",
        ),
        (
            "sqlfci1",
            {"instance": INSTANCE, "database": "payroll"},
            f"instance {INSTANCE}",
            "UserErrorSQLFailoverClusterInstanceNotSupported",
        ),
    ],
    ids=["basic group", "basic group by pattern", "failover cluster"],
)
def test_what_the_service_does_not_back_up_is_refused_by_name(
    estate: OpenEstate, vm: str, selector: JsonObject, named: str, code: str
) -> None:
    azure = estate(scenario())
    (outcome,) = azure.run(azure.protect(vm=vm, databases=[selector]))
    status, found, message = error_of(outcome)
    assert (status, found) == ("failed", code)
    assert named in message and "not support" in message
    assert azure.mutations["ConfigureBackup"] == 0


def test_a_group_whose_primary_is_not_registered_fails_with_the_services_reason(estate: OpenEstate) -> None:
    azure = estate(scenario(registered=("sqlag2",)))
    (outcome,) = azure.run(azure.request("protect", {"policyName": POLICY, "databases": in_group("sales")}))
    assert error_of(outcome)[:2] == ("failed", "FabricSvcBackupPreferenceCheckFailedUserError")
    (mended,) = azure.run(azure.protect(vm="sqlag1", databases=in_group("sales")))
    assert mended["data"]["status"] == "succeeded"


def test_a_group_that_no_registered_node_shows_is_named_with_what_to_do(estate: OpenEstate) -> None:
    azure = estate(scenario())
    (outcome,) = azure.run(azure.request("protect", {"policyName": POLICY, "databases": in_group("sales")}))
    status, code, message = error_of(outcome)
    assert (status, code) == ("failed", "DatabaseNotFound")
    assert "ag1/sales" in message and "vmId" in message


def test_a_basic_group_is_not_blamed_for_what_an_instance_does_not_have(estate: OpenEstate) -> None:
    azure = estate(scenario(registered=("sqlag1",)))
    (outcome,) = azure.run(azure.protect(vm="sqlag1", databases=[{"instance": "*", "database": "nosuch"}]))
    status, code, message = error_of(outcome)
    assert (status, code) == ("failed", "DatabaseNotFound")
    assert f"{INSTANCE}/local" in message and "does not back up" not in message
