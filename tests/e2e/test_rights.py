"""The table of roles is complete and no larger: the workflows run on what it allows, in an Azure that enforces it."""

from __future__ import annotations

from typing import Any

import pytest

from cli import rights
from cli.rights import Scope
from local.simulator.authentication import action_of
from local.simulator.calls import Call
from local.simulator.http_messages import Request
from tests.e2e import drills
from tests.e2e.harness import POLICY, Estate, OpenEstate, statuses, virtual_machine

JsonObject = dict[str, Any]

SUBSCRIPTION = "/subscriptions/00000000-0000-0000-0000-000000000001"
GROUP = f"{SUBSCRIPTION}/resourceGroups/rg-backup"
MACHINES = f"{SUBSCRIPTION}/resourceGroups/rg-sql/providers/Microsoft.Compute/virtualMachines"
SCOPES = {
    Scope.VAULT: [
        f"{GROUP}/providers/Microsoft.RecoveryServices/vaults/{name}" for name in ("vault1", "new-vault")
    ],
    Scope.VAULT_RESOURCE_GROUP: [GROUP],
    Scope.SUBSCRIPTION: [SUBSCRIPTION],
    Scope.VIRTUAL_MACHINE: [f"{MACHINES}/sqlvm1"],
    Scope.DRILL_VIRTUAL_MACHINE: [],
}
OPTIONS = ("firstBackup", "autoProtect", "createPolicy", "createVault")
#: Asked only where something does not go as it should.
IN_TROUBLE = {
    "protect": {
        "backupFabrics/protectionContainers/protectedItems/read",
        "backupFabrics/protectionContainers/read",
    },
    "backup": {"read", "backupFabrics/protectionContainers/protectedItems/read"},
    "restore": {"read"},
}


def assignments(*workflows: str, options: tuple[str, ...] = (), without: str = "") -> list[JsonObject]:
    return [
        {"scope": scope, "roleName": role.name, "actions": [each for each in role.actions if each != without]}
        for role in rights.needed(workflows, options=options)
        for scope in SCOPES[role.scope]
    ]


def asked(azure: Estate) -> set[str]:
    """The actions that were asked for so far and not refused, in lower case."""
    found = set()
    for entry in azure.simulator.access_entries:
        # After a refusal, the app asks in another way.
        if entry["route"] and entry["route"] != "Token" and entry["status"] != 403:
            request = Request(entry["method"], entry["path"], "", {}, b"", "http://x")
            action, _ = action_of(Call(request, entry["route"], {}, entry["path"], {}))
            found.add(action.lower())
    return found


def held(*workflows: str, options: tuple[str, ...] = ()) -> set[str]:
    return {action.lower() for role in rights.needed(workflows, options=options) for action in role.actions}


PROTECTED = virtual_machine(
    "sqlvm1", {"name": "orders", "protectedBy": POLICY, "historyDays": 2}, registeredTo="vault1"
)


def not_asked(azure: Estate, *workflows: str, options: tuple[str, ...] = ()) -> set[str]:
    """The actions of the roles that nothing has asked for so far, without the provider of backups."""
    left = held(*workflows, options=options) - asked(azure)
    return {action.removeprefix("microsoft.recoveryservices/vaults/") for action in left}


ITEM = "backupfabrics/protectioncontainers/protecteditems"
#: What the backup service itself asks for, in the name of who registers, protects or restores.
BY_THE_SERVICE = {"microsoft.compute/virtualmachines/write"}


def test_the_workflows_run_on_the_roles_of_the_table(estate: OpenEstate) -> None:
    azure = estate(
        {
            "virtualMachines": [virtual_machine("sqlvm1", "orders")],
            "roleAssignments": assignments("protect", "backup", "restore", options=OPTIONS),
        }
    )
    outcomes = azure.run(azure.protect("orders", firstBackup="now", autoProtect=["MSSQLSERVER"]))
    options = ("firstBackup", "autoProtect")
    assert not_asked(azure, "protect", options=options) == {
        *BY_THE_SERVICE,
        f"{ITEM}/read",
        f"{ITEM}/operationresults/read",
    }, "more than it needs where everything goes as it should"
    outcomes += azure.run(azure.backup("orders"))
    outcomes += azure.run(azure.restore("orders", "orders_copy"))
    assert set(statuses(outcomes)) == {"succeeded"}


def test_a_vault_and_a_policy_are_created_by_the_roles_of_the_table(estate: OpenEstate) -> None:
    azure = estate(
        {
            "virtualMachines": [virtual_machine("sqlvm1", "orders")],
            "roleAssignments": assignments("protect", options=OPTIONS),
        }
    )
    vault = SCOPES[Scope.VAULT][1]
    outcomes = azure.run(
        azure.protect(
            "orders",
            vaultId=vault,
            policyName="Daily",
            createVault={"location": "westeurope", "redundancy": "LocallyRedundant"},
            createPolicy={"full": {"time": "18:00", "retentionDays": 30}},
        )
    )
    assert statuses(outcomes) == {"succeeded": 1}
    assert asked(azure) <= held("protect", options=OPTIONS)
    created = {action for action in not_asked(azure, "protect", options=OPTIONS) if "operation" not in action}
    assert not created & {"write", "backuppolicies/write"}
    assert azure.mutations["PutPolicy"] == 1
    assert azure.mutations["PutVault"] == 1


def test_coverage_runs_on_its_roles_and_finds_vaults_and_machines_of_a_subscription(
    estate: OpenEstate,
) -> None:
    azure = estate(
        {
            "virtualMachines": [PROTECTED, virtual_machine("sqlvm2", "sales")],
            "roleAssignments": assignments("coverage"),
        }
    )
    request = azure.coverage(subscriptionIds=[SUBSCRIPTION.rpartition("/")[2]])
    del request["data"]["vaultIds"]
    outcomes = azure.run(request)
    assert set(statuses(outcomes)) == {"succeeded"}
    assert asked(azure) - {"microsoft.resourcegraph/resources/action"} <= held("coverage")
    assert not_asked(azure, "coverage") == {
        # One database, to see whether it takes logs; instances that are left to the service; Resource Graph's own.
        f"{ITEM}/read",
        f"{ITEM}/recoverypoints/read",
        "backupprotectionintents/read",
        "microsoft.sqlvirtualmachine/sqlvirtualmachines/read",
    }
    gaps = [event["data"] for event in azure.events() if event["type"].endswith(".gap.v1")]
    assert [gap["vmId"].rpartition("/")[2] for gap in gaps] == ["sqlvm2"], "no vault knows it"


def test_a_drill_runs_on_its_roles(estate: OpenEstate) -> None:
    machine = assignments("drill") + [
        {"scope": drills.DRILL_VM, "roleName": role.name, "actions": list(role.actions)}
        for role in rights.needed(["drill"])
        if role.scope is Scope.DRILL_VIRTUAL_MACHINE
    ]
    azure = estate(drills.drill_estate(roleAssignments=machine), drills.settings())
    outcomes = azure.run(drills.drill(azure, "orders"))
    assert statuses(outcomes) == {"succeeded": 1}
    assert asked(azure) <= held("drill")
    assert not_asked(azure, "drill") == {*BY_THE_SERVICE, f"{ITEM}/operationresults/read"}


@pytest.mark.parametrize(
    ("workflow", "role", "action"),
    [
        (workflow, role, action)
        for role in rights.ROLES
        if role.option is None and role.name not in ("list-vaults", "drill-virtual-machine")
        for workflow in sorted(role.workflows & {"protect", "backup", "restore"})
        for action in role.actions
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_a_workflow_asks_for_every_action_of_its_roles_and_for_no_other(
    estate: OpenEstate, workflow: str, role: rights.Role, action: str
) -> None:
    azure = estate(
        {
            "virtualMachines": [virtual_machine("sqlvm1", "orders") if workflow == "protect" else PROTECTED],
            "roleAssignments": assignments(workflow, without=action),
        },
        {"OPERATION_TIMEOUT": "PT20M"},
    )
    request = {
        "protect": lambda: azure.protect("orders"),
        "backup": lambda: azure.backup("orders"),
        "restore": lambda: azure.restore("orders", "orders_copy"),
    }[workflow]()
    azure.run(request)
    assert asked(azure) <= held(workflow)
    refused = [entry for entry in azure.simulator.access_entries if entry["status"] == 403]
    name = action.removeprefix("Microsoft.RecoveryServices/Vaults/")
    if name in IN_TROUBLE.get(workflow, ()) or name.endswith(
        ("operationsStatus/read", "operationResults/read")
    ):
        return
    assert refused, f"{action} is never asked for"
