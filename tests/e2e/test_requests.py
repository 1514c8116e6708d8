"""What can be wrong with a request, or with the estate it asks about: each ends in a clear outcome."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from cli.request_lines import read_request_lines
from local.estate import JsonObject
from local.host import trigger_values
from shared.bus.topology import EVENTS, PROTECT_REQUESTS
from tests.e2e.harness import INSTANCE, POLICY, Estate, OpenEstate, message_to, statuses, virtual_machine

REGISTERED = {"registeredTo": "vault1"}
MID_LIFE = {
    "virtualMachines": [
        virtual_machine(
            "sqlvm1",
            {"name": "orders", "protectedBy": POLICY, "historyDays": 3},
            {"name": "billing", "protectedBy": POLICY},
            {"name": "logless", "recoveryModel": "Simple", "protectedBy": POLICY},
            **REGISTERED,
        )
    ]
}


def one(outcomes: list[JsonObject]) -> JsonObject:
    """The data of the only outcome."""
    assert len(outcomes) == 1
    data: JsonObject = outcomes[0]["data"]
    return data


def test_a_point_in_time_inside_the_log_range_is_restored(estate: OpenEstate) -> None:
    azure = estate(MID_LIFE)
    moment = azure.clock.now() - timedelta(days=1, seconds=17)
    request = azure.restore(
        "orders", "orders_then", recoveryPoint={"pointInTime": f"{moment:%Y-%m-%dT%H:%M:%SZ}"}
    )
    data = one(azure.run(request))
    assert data["status"] == "succeeded"
    assert data["recoveryPoint"]["kind"] == "Log"
    assert data["recoveryPoint"]["time"] == f"{moment:%Y-%m-%dT%H:%M:%SZ}"
    assert data["target"]["database"] == "orders_then"
    (entry,) = [entry for entry in azure.simulator.ledger_entries if entry["route"] == "Restore"]
    assert entry["jobId"] == data["job"]["id"]


def test_a_moment_outside_every_range_is_refused_with_the_ranges_there_are(estate: OpenEstate) -> None:
    azure = estate(MID_LIFE)
    request = azure.restore("orders", "x", recoveryPoint={"pointInTime": "2020-01-01T00:00:00Z"})
    error = one(azure.run(request))["error"]
    assert error["code"] == "RecoveryPointNotFound"
    assert "2020-01-01T00:00:00Z" in error["message"]
    assert "Log ranges: 2026-01-0" in error["message"]
    assert azure.mutations["Restore"] == 0


Ask = Callable[[Estate], JsonObject]


def elsewhere(azure: Estate) -> str:
    """The id of a VM that there is not."""
    return azure.vm_id().replace("sqlvm1", "sqlvm9")


@pytest.mark.parametrize(
    ("ask", "code", "named"),
    [
        pytest.param(
            lambda azure: azure.protect(vaultId=azure.vault_id.replace("vault1", "vault9")),
            "VaultNotFound",
            ["vault9", "vaults/vault1"],
            id="unknown vault",
        ),
        pytest.param(
            lambda azure: azure.backup("orders", vaultId=azure.vault_id.replace("vault1", "vault9")),
            "VaultNotFound",
            ["vault9", "vaults/vault1"],
            id="unknown vault of a backup",
        ),
        pytest.param(
            lambda azure: azure.protect(policyName="Weekly"),
            "PolicyNotFound",
            ["Weekly", POLICY],
            id="unknown policy",
        ),
        pytest.param(
            lambda azure: azure.protect(vmId=azure.vm_id().replace("sqlvm1", "sqlvm9")),
            "VirtualMachineNotFound",
            ["sqlvm9"],
            id="unknown VM",
        ),
        pytest.param(
            lambda azure: azure.backup("orders", vmId=elsewhere(azure)),
            "DatabaseNotFound",
            ["virtualMachines/sqlvm9", "on these VMs: ", "virtualMachines/sqlvm1."],
            id="unknown VM of a backup",
        ),
        pytest.param(
            lambda azure: azure.restore(
                "orders",
                vmId=elsewhere(azure),
                target={"kind": "alternate", "vmId": elsewhere(azure), "instance": "MSSQLSERVER"},
            ),
            "DatabaseNotFound",
            ["virtualMachines/sqlvm9", "on these VMs: ", "virtualMachines/sqlvm1."],
            id="unknown VM of a restore",
        ),
        pytest.param(
            lambda azure: azure.protect("orderz"),
            "DatabaseNotFound",
            ["MSSQLSERVER/orderz", "MSSQLSERVER/orders"],
            id="unknown database",
        ),
        pytest.param(
            lambda azure: azure.backup("orderz"),
            "DatabaseNotFound",
            ["MSSQLSERVER/orderz", "MSSQLSERVER/orders"],
            id="unknown database of a backup",
        ),
        pytest.param(
            lambda azure: azure.restore("orderz", "x"),
            "DatabaseNotFound",
            ["MSSQLSERVER/orderz", "MSSQLSERVER/orders"],
            id="unknown database of a restore",
        ),
        pytest.param(
            lambda azure: azure.restore("orders", "x", recoveryPoint={"name": "12345"}),
            "RecoveryPointNotFound",
            ["12345", "Recovery points: ", "Full"],
            id="unknown recovery point",
        ),
    ],
)
def test_what_is_not_there_is_named_beside_what_is(
    ask: Ask, code: str, named: list[str], estate: OpenEstate
) -> None:
    azure = estate(MID_LIFE)
    data = one(azure.run(ask(azure)))
    assert (data["status"], data["error"]["code"]) == ("failed", code)
    assert all(part in data["error"]["message"] for part in named), data["error"]["message"]
    assert not set(azure.mutations) & {"ConfigureBackup", "Backup", "Restore", "Register"}


@pytest.mark.parametrize(
    ("machine", "named"),
    [
        pytest.param({"name": "sqlvm1"}, ["MSSQLSERVER/*"], id="no SQL Server"),
        pytest.param(
            virtual_machine("sqlvm1", "orders", sysadmin=False), ["sysadmin"], id="no sysadmin rights"
        ),
        pytest.param(virtual_machine("sqlvm1", "orders", running=False), ["sqlvm1"], id="stopped"),
    ],
)
def test_a_vm_that_cannot_be_protected_is_one_clear_failure(
    machine: JsonObject, named: list[str], estate: OpenEstate
) -> None:
    azure = estate({"virtualMachines": [machine]})
    data = one(azure.run(azure.protect()))
    assert data["status"] == "failed"
    assert all(part in json.dumps(data["error"]) for part in named), data["error"]
    assert azure.mutations["ConfigureBackup"] == 0


def test_a_backup_type_that_the_service_refuses_is_its_error(estate: OpenEstate) -> None:
    azure = estate(MID_LIFE)
    data = one(azure.run(azure.backup("logless", backup_type="Log")))
    assert (data["status"], data["error"]["code"]) == ("failed", "UserErrorSQLPODoesNotSupportBackupType")
    assert data["job"]["status"] == "Failed"


def test_names_are_found_in_any_case(estate: OpenEstate) -> None:
    azure = estate({"virtualMachines": [virtual_machine("SqlVm1", "Orders")], "vaults": [{"name": "Vault1"}]})
    selectors = [{"instance": "mssqlserver", "database": "ORDERS"}]
    protect = azure.protect(
        vm="SqlVm1",
        vaultId=azure.vault_id.lower(),
        vmId=azure.vm_id("SqlVm1").upper().replace("/SUBSCRIPTIONS/", "/subscriptions/"),
        policyName="hourlylogbackup",
        databases=selectors,
    )
    backup = azure.backup(vaultId=azure.vault_id.upper(), databases=selectors)
    assert statuses(azure.run(protect) + azure.run(backup)) == {"succeeded": 2}
    assert azure.mutations["ConfigureBackup"] == azure.mutations["Backup"] == 1


def test_of_two_vms_of_one_name_the_one_of_the_id_is_protected(estate: OpenEstate) -> None:
    machines = [
        virtual_machine("sqlvm1", "orders", resourceGroup="rg-north"),
        virtual_machine("sqlvm1", "orders", "extra", resourceGroup="rg-south"),
    ]
    azure = estate({"virtualMachines": machines})
    south = azure.vm_id("sqlvm1", "rg-south")
    outcomes = azure.run(azure.protect(vmId=south))
    assert {outcome["data"]["database"] for outcome in outcomes} == {"orders", "extra"}
    assert {outcome["data"]["vmId"].lower() for outcome in outcomes} == {south.lower()}
    assert all("rg-south" in outcome["subject"].lower() for outcome in outcomes)


def test_a_miss_beside_hits_has_its_own_outcome(estate: OpenEstate) -> None:
    azure = estate(MID_LIFE)
    outcomes = azure.run(azure.backup("orders", "orderz"))
    found = {outcome["data"]["database"]: outcome["data"] for outcome in outcomes}
    assert {name: data["status"] for name, data in found.items()} == {
        "orders": "succeeded",
        "orderz": "failed",
    }
    assert {data["outcomeCount"] for data in found.values()} == {2}


# -- messages that are no request, or no good one

MALFORMED: list[tuple[str, bytes | JsonObject, list[str]]] = [
    ("not JSON", b"{nope", ["expected a JSON object"]),
    ("not UTF-8", b'{"id": "L\xe4uft"}', ["UTF-8"]),
    ("not an object", b"[1]", ["expected a CloudEvent"]),
    ("no CloudEvent", b'{"data": {}}', ["specversion", "type", "source", "id"]),
    (
        "unknown type",
        {"specversion": "1.0", "type": "sqlvmbackup.explode.requested.v1", "source": "/t", "id": "u"},
        ["sqlvmbackup.explode.requested.v1", "sqlvmbackup.protect.requested.v1"],
    ),
]


@pytest.mark.parametrize(
    ("body", "named"), [case[1:] for case in MALFORMED], ids=[case[0] for case in MALFORMED]
)
def test_what_is_no_request_is_rejected_once_and_parked(
    body: bytes | JsonObject, named: list[str], estate: OpenEstate
) -> None:
    azure = estate(MID_LIFE)
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    (outcome,) = azure.run(body)
    assert outcome["type"] == "sqlvmbackup.request.rejected.v1"
    (line,) = read_request_lines([body])
    assert outcome["id"] == line.rejected_id(0)
    assert all(part in outcome["data"]["error"]["message"] for part in named), outcome
    (parked,) = azure.parked()
    assert parked["body"] == trigger_values.text(body).encode()
    assert (parked["originalQueue"], parked["epoch"]) == (EVENTS, 0)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({"colour": "blue"}, ["data.colour"]),
        ({"databases": "orders"}, ["data.databases"]),
        ({"databases": [{"instance": INSTANCE, "database": 7}]}, ["data.databases.0.database", "7"]),
        ({"vmId": "/subscriptions/x"}, ["data.vmId"]),
        ({"vmId": "{vault}"}, ["data.vmId"]),
        ({"vaultId": "{vault}/../../../vaults/other"}, ["data.vaultId"]),
        ({"policyName": "../../x", "colour": "blue"}, ["data.policyName", "data.colour"]),
        ({"jobTimeout": "12 hours"}, ["data.jobTimeout", "PT12H"]),
    ],
)
def test_a_bad_request_is_one_rejected_outcome_that_names_every_problem(
    data: dict[str, Any], named: list[str], estate: OpenEstate
) -> None:
    azure = estate(MID_LIFE)
    filled = json.loads(json.dumps(data).replace("{vault}", azure.vault_id))
    bad = azure.protect("billing", **filled)
    good = azure.backup("orders")
    outcomes = azure.run(bad, good)
    by_id = {outcome["data"]["requestId"]: outcome["data"] for outcome in outcomes}
    assert by_id[bad["id"]]["status"] == "rejected"
    assert all(part in by_id[bad["id"]]["error"]["message"] for part in named), by_id[bad["id"]]
    assert by_id[good["id"]]["status"] == "succeeded"
    (parked,) = azure.parked()
    assert json.loads(parked["body"]) == bad
    assert parked["originalQueue"] == PROTECT_REQUESTS


def test_the_same_request_again_does_nothing(estate: OpenEstate) -> None:
    azure = estate(MID_LIFE)
    request = azure.backup("orders")
    azure.run(request)
    before = len(azure.events())
    azure.send(request)
    azure.settle(within=timedelta(hours=1))
    assert len(azure.events()) == before
    assert azure.mutations["Backup"] == 1


def test_events_of_other_systems_are_routed_and_restores_only_where_allowed(estate: OpenEstate) -> None:
    for allowed, status in (("false", "rejected"), ("true", "succeeded")):
        azure = estate(MID_LIFE, {"EVENTS_ALLOW_RESTORE": allowed})
        restore, backup = azure.restore("orders", "orders_then"), azure.backup("billing")
        for request in (restore, backup):
            azure.broker.send(EVENTS, [message_to(EVENTS, json.dumps(request).encode(), request["id"])])
        azure.settle(within=timedelta(hours=1))
        ended = {
            event["data"]["requestId"]: event["data"]["status"]
            for event in azure.events()
            if event["type"].split(".")[2] not in ("accepted", "started")
        }
        assert ended == {restore["id"]: status, backup["id"]: "succeeded"}


def test_what_a_restore_may_not_do_is_refused_before_azure_is_asked(estate: OpenEstate) -> None:
    azure = estate(MID_LIFE)
    original = azure.restore("orders", target={"kind": "original"})
    elsewhere = azure.restore(
        "orders",
        target={"kind": "alternate", "vmId": azure.vm_id().replace("vm1", "vm2"), "instance": INSTANCE},
    )
    files = azure.restore("orders", target={"kind": "files", "vmId": azure.vm_id(), "path": "F:\\dump"})
    asked = len(azure.simulator.access_entries)
    codes = {
        outcome["data"]["requestId"]: (outcome["data"]["status"], outcome["data"]["error"]["code"])
        for outcome in azure.run(original, elsewhere, files)
    }
    assert codes == {
        original["id"]: ("rejected", "OverwriteNotRequested"),
        elsewhere["id"]: ("rejected", "TargetNotAllowed"),
        files["id"]: ("rejected", "PathNotAllowed"),
    }
    assert len(azure.simulator.access_entries) == asked


def test_a_restore_over_the_original_needs_request_and_setting(estate: OpenEstate) -> None:
    azure = estate(MID_LIFE, {"RESTORE_ALLOW_OVERWRITE": "true"})
    data = one(azure.run(azure.restore("orders", target={"kind": "original"}, overwrite=True)))
    assert data["status"] == "succeeded"
    assert data["target"] == {"kind": "original"}


def test_trace_and_correlation_reach_every_event(estate: OpenEstate) -> None:
    azure = estate(MID_LIFE)
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    request = azure.request(
        "backup",
        {"databases": [{"instance": INSTANCE, "database": "orders"}], "backupType": "Full"},
        traceparent=trace,
        correlationid="ticket-42",
        vendorextension="ignored",
    )
    azure.run(request)
    events = azure.events()
    assert [event["type"].split(".")[2] for event in events] == ["accepted", "started", "succeeded"]
    assert {event["traceparent"] for event in events} == {trace}
    assert {event["correlationid"] for event in events} == {"ticket-42"}
    assert {event["causationid"] for event in events} == {request["id"]}
    assert {event["source"] for event in events} == {azure.vault_id.lower()}
