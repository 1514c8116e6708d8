"""What the recordings do not hold: errors, missing things, odd answers, estates of availability groups."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.arm.errors import ArmProtocolError, ArmStatusError, ArmUrlRefusedError
from shared.arm.ids import (
    ContainerId,
    InvalidResourceIdError,
    ProtectedItemId,
    RecoveryPointId,
    VaultId,
    VirtualMachineId,
)
from shared.azure_backup.models import (
    Inquiry,
    Job,
    JobStatus,
    ProtectableContainer,
    ProtectedItem,
    StartedOperation,
    Vault,
)
from shared.azure_backup.operations import AzureBackup
from tests.unit.arm.server import VAULT_PATH, Answer, Server, client_of, serving

VAULT = VaultId.parse(VAULT_PATH)
CONTAINER = ContainerId(VAULT, "Azure", "VMAppContainer;Compute;rg-sql;sqlvm1")
AG_CONTAINER = ContainerId(VAULT, "Azure", "SQLAGWorkLoadContainer;AG1")
ITEM = ProtectedItemId(CONTAINER, "SQLDataBase;mssqlserver;orders")
POINT = RecoveryPointId(ITEM, "DefaultRangeRecoveryPoint")
VM = (
    "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-sql"
    "/providers/Microsoft.Compute/virtualMachines/sqlvm1"
)
REQUEST_ID = "73716c62-1111-8222-8333-444444444444"
OPERATIONS = f"{VAULT_PATH}/backupOperations/1"


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Server, AzureBackup]]:
    with serving() as server, client_of(server.url) as arm:
        yield server, AzureBackup(arm)


@pytest.fixture
def server(running: tuple[Server, AzureBackup]) -> Server:
    running[0].requests.clear()
    return running[0]


@pytest.fixture
def backup(running: tuple[Server, AzureBackup]) -> AzureBackup:
    return running[1]


def error(status: int, code: str, message: str = "Said.") -> Answer:
    return Answer(status, {"error": {"code": code, "message": message}})


def ask_all(backup: AzureBackup) -> dict[str, Any]:
    """The reads of one resource, by name."""
    return {
        "vault": lambda: backup.get_vault(VAULT),
        "container": lambda: backup.get_container(CONTAINER),
        "item": lambda: backup.get_protected_item(ITEM),
        "point": lambda: backup.get_recovery_point(POINT),
        "job": lambda: backup.get_job(VAULT, "7ab1d9cc-0000-0000-0000-000000000001"),
    }


@pytest.mark.parametrize("what", ["vault", "container", "item", "point", "job"])
@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        (error(404, "ResourceNotFound"), True),
        (error(404, "BMSUserErrorObjectNotFound"), True),
        (error(404, "UserErrorJobNotFound"), True),
        (error(404, "ResourceGroupNotFound"), "vault"),
        (error(404, "SubscriptionNotFound"), "vault"),
        (error(404, "ResourceProviderNotFound"), False),
        (error(404, "InvalidResourceType"), False),
        (Answer(404, b"<html>no such page</html>"), False),
        (Answer(404), False),
        (Answer(404, {}), True),
        (error(403, "AuthorizationFailed"), False),
        (error(400, "ResourceNotFound"), False),
    ],
)
def test_only_a_thing_that_is_not_there_is_none(
    server: Server, backup: AzureBackup, what: str, answer: Answer, missing: bool | str
) -> None:
    server.answer(answer)
    ask = ask_all(backup)[what]
    if missing is True or missing == what:
        assert ask() is None
    else:
        with pytest.raises(ArmStatusError) as caught:
            ask()
        assert caught.value.status == answer.status


@pytest.mark.parametrize("what", ["vault", "container", "item", "point", "job"])
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"id": 7, "name": [], "properties": {}},
        {"id": "x", "name": None, "properties": None},
        {"id": "/subscriptions/../../evil", "properties": {"status": None}},
        {"name": "n", "properties": {"status": "Completed", "startTime": "yesterday"}},
        {"name": "n", "properties": []},
        [],
        "text",
        7,
        None,
    ],
)
def test_f13_what_is_no_such_resource(server: Server, backup: AzureBackup, what: str, body: object) -> None:
    server.answer(Answer(200, json.dumps(body).encode()))
    with pytest.raises(ArmProtocolError) as caught:
        ask_all(backup)[what]()
    assert str(caught.value).isprintable()
    assert VAULT_PATH in str(caught.value)


def test_a_protocol_error_names_fields_and_not_values(server: Server, backup: AzureBackup) -> None:
    server.answer(Answer(200, {"name": "j", "properties": {"status": "Failed", "duration": "s3cret"}}))
    with pytest.raises(ArmProtocolError, match=r"properties\.duration") as caught:
        backup.get_job(VAULT, "j")
    assert "s3cret" not in str(caught.value)


def test_a_listed_thing_that_cannot_be_addressed_is_listed_as_such(
    server: Server, backup: AzureBackup
) -> None:
    odd = f"{CONTAINER.path}/protectedItems/SQLDataBase;mssqlserver;what%2Fever"
    properties = {"friendlyName": "what/ever", "parentName": "MSSQLSERVER", "sourceResourceId": VM}
    server.answer(
        Answer(
            200,
            {
                "value": [
                    {"id": odd, "name": "SQLDataBase;mssqlserver;what/ever", "properties": properties},
                    {"id": ITEM.path, "properties": {"friendlyName": "orders"}},
                ]
            },
        )
    )
    (item,), (unusable,) = backup.list_protected_items(VAULT)
    assert item.id == ITEM
    assert (unusable.code, unusable.reason) == ("NotAddressable", "notAddressable")
    assert (unusable.parent, unusable.name) == ("MSSQLSERVER", "what/ever")
    assert unusable.virtual_machine_id == VirtualMachineId.parse(VM)
    assert unusable.container == CONTAINER
    offered = odd.replace("protectedItems", "protectableItems")
    server.answer(Answer(200, {"value": [{"id": offered, "name": "x"}]}))
    usable, (unusable,) = backup.list_protectable_items(VAULT)
    assert usable == []
    assert "cannot be addressed" in unusable.why


def test_minimal_and_unknown_fields(server: Server, backup: AzureBackup) -> None:
    server.answer(
        Answer(
            200,
            {
                "id": ITEM.path,
                "new": 1,
                "properties": {"policyId": "", "extendedInfo": None, "alsoNew": {"x": []}},
            },
        )
    )
    item = backup.get_protected_item(ITEM)
    assert item is not None
    assert (item.id, item.policy_id, item.policy_name, item.recovery_model) == (ITEM, None, None, None)


# Availability groups and other states of real estates


def test_databases_of_an_availability_group(server: Server, backup: AzureBackup) -> None:
    group = f"{AG_CONTAINER.path}/protectableItems/SQLAvailabilityGroupContainer;AG1"
    database = f"{AG_CONTAINER.path}/protectableItems/SQLDataBase;AG1;orders"
    server.answer(
        Answer(
            200,
            {
                "value": [
                    {
                        "id": group,
                        "name": "SQLAvailabilityGroupContainer;AG1",
                        "properties": {
                            "protectableItemType": "SQLAvailabilityGroupContainer",
                            "friendlyName": "AG1",
                            "nodesList": [
                                {"nodeName": "n1", "status": "Registered", "sourceResourceId": VM},
                                {"nodeName": "n2", "status": "NotRegistered"},
                            ],
                            "prebackupvalidation": {
                                "status": "Failed",
                                "code": "UserErrorX",
                                "message": "No.",
                            },
                        },
                    },
                    {
                        "id": database,
                        "name": "SQLDataBase;AG1;orders",
                        "properties": {
                            "protectableItemType": "SQLDataBase",
                            "parentName": "AG1",
                            "friendlyName": "orders",
                            "IsProtectable": True,
                        },
                    },
                ]
            },
        )
    )
    (listed_group, listed_database), _ = backup.list_protectable_items(VAULT)
    assert listed_group.is_availability_group
    assert listed_group.prebackup_validation is not None
    assert listed_group.prebackup_validation.code == "UserErrorX"
    assert listed_database.in_availability_group
    assert listed_database.protected_item_id == ProtectedItemId(AG_CONTAINER, "SQLDataBase;AG1;orders")

    server.answer(
        Answer(
            200,
            {
                "id": f"{AG_CONTAINER.path}/protectedItems/SQLDataBase;AG1;orders",
                "properties": {
                    "parentType": "AzureVmWorkloadSQLAvailabilityGroup",
                    "sourceResourceId": f"{VAULT_PATH}/x",
                    "isScheduledForDeferredDelete": True,
                    "protectionState": "ProtectionStopped",
                },
            },
        )
    )
    item = backup.get_protected_item(ITEM)
    assert item is not None
    assert item.in_availability_group
    assert item.virtual_machine_id is None
    assert item.is_scheduled_for_deferred_delete


@pytest.mark.parametrize(
    ("inquiry", "code"),
    [
        ({"status": "Success", "errorDetail": {"code": "Success"}}, None),
        ({"status": "Success", "inquiryDetails": None}, None),
        (
            {
                "status": "Success",
                "inquiryDetails": [
                    {
                        "type": "SQL",
                        "inquiryValidation": {
                            "status": "Failed",
                            "errorDetail": {"code": "UserErrorOpeningSQLConnection", "message": "m"},
                        },
                    }
                ],
            },
            "UserErrorOpeningSQLConnection",
        ),
        (
            {"status": "Failed", "errorDetail": {"code": "UserErrorNoSQlInstancesOnMachine"}},
            "UserErrorNoSQlInstancesOnMachine",
        ),
        ({"status": "Invalid"}, "Invalid"),
        (
            {
                "status": "Success",
                "inquiryDetails": [{"type": "SAPHana", "inquiryValidation": {"status": "Failed"}}],
            },
            None,
        ),
    ],
)
def test_why_an_inquiry_failed(inquiry: object, code: str | None) -> None:
    failure = Inquiry.from_wire(inquiry).failure
    assert (None if failure is None else failure.code) == code


def test_what_is_no_virtual_machine_is_not_registered(server: Server, backup: AzureBackup) -> None:
    server.answer(
        Answer(
            200, {"value": [{"id": "x", "name": "StorageContainer;a", "properties": {"containerId": "/x"}}]}
        )
    )
    (container,) = backup.list_protectable_containers(VAULT)
    assert container.virtual_machine_id is None
    with pytest.raises(ValueError, match="no virtual machine"):
        backup.register_container(VAULT, container, client_request_id=REQUEST_ID)


@pytest.mark.parametrize("name", ["../../evil", "a/b", "..;x", "a?b", ""])
def test_a_name_from_a_list_does_not_lead_elsewhere(server: Server, backup: AzureBackup, name: str) -> None:
    protectable = ProtectableContainer(id="x", name=name, virtual_machine_id=VirtualMachineId.parse(VM))
    with pytest.raises(InvalidResourceIdError):
        backup.register_container(VAULT, protectable, client_request_id=REQUEST_ID)
    with pytest.raises(InvalidResourceIdError):
        backup.create_policy(VAULT, name, {}, client_request_id=REQUEST_ID)
    with pytest.raises(InvalidResourceIdError):
        backup.get_job(VAULT, name)
    with pytest.raises(InvalidResourceIdError):
        backup.list_vaults(name)
    assert server.requests == []


# Started operations


def test_a_vault_that_takes_its_time(server: Server, backup: AzureBackup) -> None:
    def create() -> StartedOperation | Vault:
        return backup.create_vault(
            VAULT,
            location="westeurope",
            redundancy="ZoneRedundant",
            tags={"team": "dba"},
            client_request_id=REQUEST_ID,
        )

    body = {"id": VAULT_PATH, "name": "vault1", "properties": {"provisioningState": "Provisioning"}}
    url = f"https://management.azure.com{VAULT_PATH}/operationStatus/1?s=signature"
    server.answer(Answer(201, body, {"Azure-AsyncOperation": url, "Retry-After": "10"}))
    started = create()
    assert started == StartedOperation(
        status=201, async_operation_url=url, retry_after=timedelta(seconds=10), location_url=None
    )
    assert "signature" not in repr(started)
    assert (
        server.requests[0].json["properties"]["redundancySettings"]["standardTierStorageRedundancy"]
        == "ZoneRedundant"
    )
    assert (server.requests[0].json["location"], server.requests[0].json["tags"]) == (
        "westeurope",
        {"team": "dba"},
    )
    server.answer(Answer(200, {**body, "properties": {"provisioningState": "Succeeded"}}))
    assert isinstance(create(), Vault)


def test_f18_an_accepted_call_without_headers(server: Server, backup: AzureBackup) -> None:
    server.answer(Answer(202))
    started = backup.enable_protection(ITEM, "/policy", client_request_id=REQUEST_ID)
    assert started == StartedOperation(status=202)


def test_a_backup_leaves_to_the_policy_what_is_not_said(server: Server, backup: AzureBackup) -> None:
    server.answer(Answer(202))
    backup.trigger_backup(
        ITEM, backup_type="Log", compression=None, expiry=None, client_request_id=REQUEST_ID
    )
    assert server.requests[0].json == {
        "properties": {"objectType": "AzureWorkloadBackupRequest", "backupType": "Log"}
    }
    assert server.requests[0].headers["x-ms-client-request-id"] == REQUEST_ID


def status_of(server: Server, backup: AzureBackup, body: object, **headers: str) -> Any:
    server.answer(Answer(200, body, {name.replace("_", "-"): value for name, value in headers.items()}))
    return backup.get_operation_status(server.url + OPERATIONS, vault=VAULT)


@pytest.mark.parametrize(
    ("word", "finished", "succeeded"),
    [
        ("InProgress", False, False),
        ("Invalid", False, False),
        ("Accepted", False, False),
        ("Succeeded", True, True),
        ("SUCCEEDED", True, True),
        ("Success", True, True),  # of vaults
        ("Failed", True, False),
        ("Canceled", True, False),
        ("Cancelled", True, False),
    ],
)
def test_operation_statuses(
    server: Server, backup: AzureBackup, word: str, finished: bool, succeeded: bool
) -> None:
    status = status_of(server, backup, {"status": word}, Retry_After="60")
    assert (status.status, status.finished, status.succeeded) == (word, finished, succeeded)
    assert status.retry_after == timedelta(seconds=60)


def test_why_an_operation_failed(server: Server, backup: AzureBackup) -> None:
    said = {"code": "UserErrorX", "message": "See https://x.example/?sig=secret"}
    status = status_of(server, backup, {"status": "Failed", "error": said})
    assert (status.error_code, status.error_message) == ("UserErrorX", "See https://x.example/?...")


@pytest.mark.parametrize(
    ("properties", "job_id"),
    [
        ({"objectType": "OperationStatusJobExtendedInfo", "jobId": "j-1"}, "j-1"),
        ({"objectType": "OperationStatusJobsExtendedInfo", "jobIds": ["j-2"]}, "j-2"),
        ({"jobIds": ["j-2", "j-3"]}, None),
        ({"jobId": None}, None),
        ({"jobId": "../../evil"}, None),
        ({"jobId": 7}, None),
        (None, None),
        ([], None),
    ],
)
def test_the_job_of_an_operation(
    server: Server, backup: AzureBackup, properties: object, job_id: str | None
) -> None:
    assert status_of(server, backup, {"status": "Succeeded", "properties": properties}).job_id == job_id


@pytest.mark.parametrize(
    "body", [{}, {"status": None}, {"status": ""}, {"status": 1}, [], None, "InProgress"]
)
def test_f13_a_status_that_is_none(server: Server, backup: AzureBackup, body: object) -> None:
    with pytest.raises(ArmProtocolError, match="no status"):
        status_of(server, backup, json.dumps(body).encode())


def test_an_operation_that_is_still_being_accepted(server: Server, backup: AzureBackup) -> None:
    server.answer(Answer(202, {}, {"Retry-After": "30"}))
    status = backup.get_operation_status(server.url + OPERATIONS, vault=VAULT)
    assert (status.finished, status.retry_after) == (False, timedelta(seconds=30))


def test_results(server: Server, backup: AzureBackup) -> None:
    url = f"{server.url}{VAULT_PATH}/backupOperationResults/1?fabricName=Azure?api-version=2020-10-01"
    server.answer(
        Answer(202, {}, {"Retry-After": "60"}), Answer(200, {"a": 1}), Answer(204), error(409, "Failed")
    )
    running, done, empty = (backup.get_operation_result(url, vault=VAULT) for _ in range(3))
    assert (running.finished, running.retry_after, running.body) == (False, timedelta(seconds=60), None)
    assert (done.finished, done.body) == (True, {"a": 1})
    assert (empty.finished, empty.body) == (True, None)
    with pytest.raises(ArmStatusError, match="Failed"):
        backup.get_operation_result(url, vault=VAULT)
    with pytest.raises(ArmUrlRefusedError):
        backup.get_operation_result(url.replace(server.url, "http://127.0.0.1:1"), vault=VAULT)


# Jobs


@pytest.mark.parametrize(
    ("word", "status", "ended"),
    [
        ("InProgress", JobStatus.IN_PROGRESS, False),
        ("Completed", JobStatus.COMPLETED, True),
        ("CompletedWithWarnings", JobStatus.COMPLETED_WITH_WARNINGS, True),
        ("Failed", JobStatus.FAILED, True),
        ("Cancelled", JobStatus.CANCELLED, True),
        ("Canceled", JobStatus.CANCELLED, True),
        ("Cancelling", JobStatus.CANCELLING, False),
        ("completed", JobStatus.COMPLETED, True),
        ("Hibernating", JobStatus.UNKNOWN, False),
    ],
)
def test_f22_f23_job_statuses(
    server: Server, backup: AzureBackup, word: str, status: JobStatus, ended: bool
) -> None:
    server.answer(Answer(200, {"name": "j", "properties": {"status": word, "jobType": "AzureWorkloadJob"}}))
    job = backup.get_job(VAULT, "j")
    assert job is not None
    assert (job.status, job.status.has_ended, job.raw_status) == (status, ended, word)


def test_a_job_with_everything_and_one_from_a_list() -> None:
    properties: dict[str, Any] = {
        "status": "CompletedWithWarnings",
        "progressPercentage": 42.5,
        "entityFriendlyName": "odd [name] [sqlvm1]",
        "activityId": "",
        "errorDetails": [{"errorCode": None, "errorTitle": None, "recommendations": None}],
        "extendedInfo": {
            "tasksList": [{"taskId": "Transfer", "status": None}],
            "propertyBag": {"Data Transferred (in MB)": 20, "None": None},
        },
    }
    job = Job.from_wire({"name": "j", "properties": properties})
    assert job.percent_complete == 42.5
    assert job.database == "odd [name]"
    assert job.activity_id is None
    assert job.properties == {"Data Transferred (in MB)": "20", "None": ""}
    assert job.tasks == (("Transfer", ""),)
    assert [(e.code, e.title, e.message, e.recommendations) for e in job.error_details] == [
        (None, "", "", ())
    ]
    for missing in ("errorDetails", "extendedInfo"):
        del properties[missing]
    listed = Job.from_wire({"name": "j", "properties": properties})
    assert (listed.properties, listed.tasks, listed.error_details) == ({}, (), ())


def test_jobs_are_asked_for_by_time(server: Server, backup: AzureBackup) -> None:
    server.answer(Answer(200, {"value": []}))
    # The test's service says that it is shortly after 8: a day more leaves room for clocks that differ.
    backup.list_jobs(VAULT, start=datetime(2026, 1, 5, 13, 0, 0, 500_000, UTC))
    assert server.requests[0].params["$filter"] == (
        "startTime eq '2026-01-05 01:00:00 PM' and endTime eq '2026-01-06 08:00:01 AM'"
        " and backupManagementType eq 'AzureWorkload'"
    )


def test_jobs_that_nobody_looks_for_are_not_kept(server: Server, backup: AzureBackup) -> None:
    jobs = [{"name": name, "properties": {"operation": "Backup"}} for name in ("j1", "j2", "j3")]
    server.answer(Answer(200, {"value": jobs}))
    start = datetime(2026, 1, 5, 13, tzinfo=UTC)
    assert [job.id for job in backup.list_jobs(VAULT, start=start, kept=lambda job: job.id == "j2")] == ["j2"]
    assert len(backup.list_jobs(VAULT, start=start)) == 3


def test_recovery_points_with_their_files(server: Server, backup: AzureBackup) -> None:
    server.answer(Answer(200, {"value": []}))
    backup.list_recovery_points(ITEM, query_type="Log", extended_info=True)
    backup.list_recovery_points(ITEM)
    assert server.requests[0].params["$filter"] == "extendedInfo eq 'True' and restorePointQueryType eq 'Log'"
    assert "$filter" not in server.requests[1].params


def test_models_are_values() -> None:
    item = ProtectedItem(id=ITEM, name="orders", policy_name="HourlyLogBackup")
    assert item.policy_name == "HourlyLogBackup"
    assert item == ProtectedItem(
        id=ProtectedItemId.parse(ITEM.path.upper()), name="orders", policy_name="HourlyLogBackup"
    )
    with pytest.raises(ValueError, match="frozen"):
        item.name = "x"  # type: ignore[misc]  # that it cannot is the point


@pytest.mark.parametrize(
    ("properties", "ready", "failed"),
    [
        ({}, True, False),
        ({"provisioningState": "Succeeded"}, True, False),
        ({"provisioningState": "Provisioning"}, False, False),
        ({"provisioningState": "Updating"}, False, False),
        ({"provisioningState": "Failed"}, False, True),
        ({"provisioningState": "Canceled"}, False, True),
    ],
)
def test_a_vault_is_ready_or_has_failed_or_neither_yet(
    server: Server, backup: AzureBackup, properties: dict[str, str], ready: bool, failed: bool
) -> None:
    """Succeeded, Failed and Canceled are the states that last.

    https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations#provisioningstate-values
    """
    server.answer(Answer(200, {"id": VAULT_PATH, "name": "vault1", "properties": properties}))
    vault = backup.get_vault(VAULT)
    assert vault is not None
    assert (vault.is_provisioned, vault.has_failed) == (ready, failed)
