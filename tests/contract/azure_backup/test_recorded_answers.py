"""Every recorded exchange goes through the app's own client: it asks alike, and loses nothing it needs."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from pydantic import ValidationError

from shared.arm.client import ArmClient
from shared.arm.ids import ContainerId, ProtectedItemId, RecoveryPointId, VaultId
from shared.azure_backup.models import (
    Container,
    Job,
    JobStatus,
    OperationResult,
    OperationStatus,
    Policy,
    ProtectableContainer,
    ProtectableItem,
    ProtectedItem,
    RecoveryPoint,
    StartedOperation,
    Vault,
    WireModel,
    WorkloadItem,
)
from shared.azure_backup.operations import AzureBackup
from shared.azure_backup.wire import parse_time
from tests.unit.arm.server import Answer, Server, client_of, serving

EXCHANGES = Path(__file__).parents[2] / "data" / "exchanges"
REAL = "https://management.azure.com"
REQUEST_ID = "73716c62-0000-8000-8000-000000000001"


@dataclass(frozen=True)
class Exchange:
    file: str
    source: str
    number: int
    method: str
    path: str
    params: Mapping[str, str]
    request_body: Any
    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def url(self) -> str:
        return self.path + "?" + "&".join(f"{name}={value}" for name, value in self.params.items())

    @property
    def vault(self) -> VaultId:
        return VaultId.parse("/".join(self.path.split("/")[:9]))

    @property
    def tail(self) -> str:
        """The path below the vault."""
        return "/".join(self.path.split("/")[9:])

    @property
    def properties(self) -> Any:
        return self.body["properties"]


def _load() -> Iterator[Exchange]:
    for file in sorted(EXCHANGES.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            path, _, query = row["url"].removeprefix(REAL).partition("?")
            # Decoded in the recording, so `&` cannot be told from `&`: none of the values has one.
            params = dict(part.partition("=")[::2] for part in query.split("&") if part)
            yield Exchange(
                file.stem,
                row["source"],
                row["exchange"],
                row["method"],
                unquote(path),
                params,
                row["request_body"],
                row["status"],
                row["headers"],
                row["body"],
            )


ALL = list(_load())


@dataclass
class Replay:
    """The client, and the server that plays the service's part of one exchange."""

    server: Server
    arm: ArmClient
    backup: AzureBackup

    def play(self, exchange: Exchange) -> None:
        self.server.requests.clear()
        headers = {name.title(): value for name, value in exchange.headers.items() if name != "content-type"}
        self.server.answer(Answer(exchange.status, exchange.body, headers))

    def asked_as(self, exchange: Exchange, *, without: tuple[str, ...] = ()) -> None:
        """The one request that reached the server is the recorded one, but for its api-version."""
        (request,) = self.server.requests
        assert request.method == exchange.method
        assert request.path.lower() == exchange.path.lower()
        # The recordings' own casing of fixed words differs from time to time; what is named does not.
        assert request.path.split("/")[-1].lower() == exchange.path.split("/")[-1].lower()
        expected = {name: value for name, value in exchange.params.items() if name not in without}
        asked = {name: value for name, value in request.params.items() if name not in without}
        assert {**asked, "api-version": ""} == {**expected, "api-version": ""}
        if exchange.method != "GET":
            assert request.headers["x-ms-client-request-id"] == REQUEST_ID


@pytest.fixture(scope="module")
def replay() -> Iterator[Replay]:
    with serving() as server, client_of(server.url) as arm:
        yield Replay(server, arm, AzureBackup(arm))


Case = Callable[[Replay, Exchange], None]
CASES: list[tuple[str, str, int | None, Case]] = []


def case(method: str, tail: str, status: int | None = None) -> Callable[[Case], Case]:
    """The function is for exchanges of this method, whose path below the vault matches `tail`."""

    def register(function: Case) -> Case:
        CASES.append((method, tail, status, function))
        return function

    return register


def _started(started: object, exchange: Exchange) -> None:
    assert isinstance(started, StartedOperation)
    assert started.status == exchange.status
    assert started.async_operation_url == exchange.headers.get("azure-asyncoperation")
    assert started.location_url == exchange.headers.get("location")
    given = exchange.headers.get("retry-after")
    assert started.retry_after == (None if given is None else timedelta(seconds=int(given)))


@case("GET", r"")
def get_vault(replay: Replay, exchange: Exchange) -> None:
    vault = replay.backup.get_vault(exchange.vault)
    replay.asked_as(exchange)
    assert isinstance(vault, Vault)
    assert (vault.id, vault.location) == (exchange.vault, exchange.body["location"])
    assert vault.is_provisioned
    assert vault.tags == exchange.body.get("tags", {})
    redundancy = exchange.properties.get("redundancySettings", {})
    assert vault.redundancy == redundancy.get("standardTierStorageRedundancy")


@case("GET", r"backupResourceGuardProxies")
def get_resource_guard(replay: Replay, exchange: Exchange) -> None:
    guard = replay.backup.get_resource_guard(exchange.vault)
    replay.asked_as(exchange)
    if not exchange.body["value"]:
        assert guard is None
        return
    assert guard is not None
    (proxy,) = exchange.body["value"]
    assert guard.resource_guard_id == proxy["properties"]["resourceGuardResourceId"]
    assert list(guard.operations) == [
        detail["vaultCriticalOperation"] for detail in proxy["properties"]["resourceGuardOperationDetails"]
    ]
    assert guard.guards_restores


@case("PUT", r"")
def create_vault(replay: Replay, exchange: Exchange) -> None:
    vault = replay.backup.create_vault(
        exchange.vault,
        location=exchange.request_body["location"],
        redundancy="GeoRedundant",
        tags={},
        client_request_id=REQUEST_ID,
    )
    replay.asked_as(exchange)
    assert isinstance(vault, Vault)
    assert vault.is_provisioned


@case("GET", r"backupPolicies")
def list_policies(replay: Replay, exchange: Exchange) -> None:
    policies = replay.backup.list_policies(exchange.vault)
    replay.asked_as(exchange, without=("$filter",))
    assert replay.server.requests[0].params["$filter"] == "backupManagementType eq 'AzureWorkload'"
    expected = [
        item for item in exchange.body["value"] if item["properties"].get("workLoadType") == "SQLDataBase"
    ]
    assert [(policy.id, policy.name) for policy in policies] == [
        (item["id"], item["name"]) for item in expected
    ]
    assert [policy.protected_items_count for policy in policies] == [
        item["properties"]["protectedItemsCount"] for item in expected
    ]
    assert all(policy.backup_types[0] == "Full" and "Log" in policy.backup_types for policy in policies)


@case("GET", r"backupPolicies/[^/]+")
def one_policy(replay: Replay, exchange: Exchange) -> None:
    # The app reads policies from their list only; the item is the same.
    replay.server.answer(Answer(200, {"value": [exchange.body]}))
    (policy,) = replay.backup.list_policies(exchange.vault)
    assert policy.id == exchange.body["id"]
    assert policy.properties == exchange.properties


@case("PUT", r"backupPolicies/[^/]+", 200)
def create_policy(replay: Replay, exchange: Exchange) -> None:
    policy = _create_policy(replay, exchange)
    assert isinstance(policy, Policy)
    assert policy.is_for_sql
    assert policy.properties == exchange.properties


@case("PUT", r"backupPolicies/[^/]+", 202)
def change_policy(replay: Replay, exchange: Exchange) -> None:
    _started(_create_policy(replay, exchange), exchange)


def _create_policy(replay: Replay, exchange: Exchange) -> object:
    properties = exchange.request_body["properties"]
    answer = replay.backup.create_policy(
        exchange.vault, exchange.path.split("/")[-1], properties, client_request_id=REQUEST_ID
    )
    replay.asked_as(exchange)
    assert replay.server.requests[0].json == exchange.request_body
    return answer


@case("POST", r"backupFabrics/Azure/refreshContainers")
def refresh_containers(replay: Replay, exchange: Exchange) -> None:
    _started(replay.backup.refresh_containers(exchange.vault, client_request_id=REQUEST_ID), exchange)
    # Recorded for virtual machines as a whole; the filter is the specification's.
    replay.asked_as(exchange, without=("$filter",))
    assert replay.server.requests[0].params["$filter"] == "backupManagementType eq 'AzureWorkload'"
    assert replay.server.requests[0].body == b""


@case("GET", r"backupFabrics/Azure/protectableContainers")
def list_protectable_containers(replay: Replay, exchange: Exchange) -> None:
    containers = replay.backup.list_protectable_containers(exchange.vault)
    replay.asked_as(exchange)
    assert len(containers) == len(exchange.body["value"])
    for container, item in zip(containers, exchange.body["value"], strict=True):
        assert (container.id, container.name) == (item["id"], item["name"])
        assert container.virtual_machine_id is not None
        assert container.virtual_machine_id.key == item["properties"]["containerId"].lower()
        assert container.friendly_name == item["properties"]["friendlyName"]
        assert container.container_type == item["properties"]["protectableContainerType"]


@case("PUT", r"backupFabrics/Azure/protectionContainers/[^/]+")
def register_container(replay: Replay, exchange: Exchange) -> None:
    asked = exchange.request_body["properties"]
    name = exchange.path.split("/")[-1]
    protectable = ProtectableContainer(
        id="",
        name=name,
        virtual_machine_id=asked["sourceResourceId"],
        friendly_name=asked.get("friendlyName", ""),
        container_type=asked["containerType"],
    )
    started = replay.backup.register_container(exchange.vault, protectable, client_request_id=REQUEST_ID)
    replay.asked_as(exchange)
    sent = replay.server.requests[0].json["properties"]
    # PowerShell sends both optional fields, the CLI neither, and the service takes either.
    optional = ("friendlyName", "operationType")
    assert {k: v for k, v in sent.items() if k not in optional} == {
        k: v for k, v in asked.items() if k not in optional
    }
    _started(started, exchange)


def _is_container(container: Container | None, body: Mapping[str, Any]) -> None:
    assert container is not None
    assert container.id.key == body["id"].lower()
    assert container.name == body["name"]
    properties = body["properties"]
    assert container.virtual_machine_id is not None
    assert container.virtual_machine_id.key == properties["sourceResourceId"].lower()
    assert container.health_status == properties.get("healthStatus", "")
    assert container.last_updated == parse_time(properties.get("lastUpdatedTime"))
    assert container.friendly_name == properties["friendlyName"]
    assert container.inquiry is not None
    inquired = properties["extendedInfo"]["inquiryInfo"]
    assert container.inquiry.status == inquired["status"]
    assert [detail.item_count for detail in container.inquiry.details] == [
        detail["itemCount"] for detail in inquired["inquiryDetails"]
    ]
    codes = {detail["inquiryValidation"]["errorDetail"]["code"] for detail in inquired["inquiryDetails"]}
    assert (container.inquiry.failure is None) == (codes <= {"Success"})


@case("GET", r"backupFabrics/Azure/protectionContainers/[^/]+")
def get_container(replay: Replay, exchange: Exchange) -> None:
    container = replay.backup.get_container(ContainerId.parse(exchange.path))
    replay.asked_as(exchange, without=("$filter",))
    _is_container(container, exchange.body)


@case("GET", r"backupProtectionContainers")
def list_registered_containers(replay: Replay, exchange: Exchange) -> None:
    containers, unusable = replay.backup.list_registered_containers(exchange.vault)
    replay.asked_as(exchange)
    assert unusable == []
    for container, item in zip(containers, exchange.body["value"], strict=True):
        _is_container(container, item)


@case("GET", r"backupProtectableItems")
def list_protectable_items(replay: Replay, exchange: Exchange) -> None:
    items, unusable = replay.backup.list_protectable_items(exchange.vault)
    replay.asked_as(exchange)
    assert unusable == []
    for item, wire in zip(items, exchange.body["value"], strict=True):
        assert isinstance(item, ProtectableItem)
        properties = wire["properties"]
        assert item.id == wire["id"]
        assert item.container.key == wire["id"].rpartition("/protectableItems/")[0].lower()
        assert item.protected_item_id.name == wire["name"]
        assert item.item_type == properties["protectableItemType"]
        assert item.is_instance or item.is_database
        assert (item.instance, item.server_name) == (properties["parentName"], properties["serverName"])
        assert item.name == properties["friendlyName"]
        assert item.is_protectable is properties["IsProtectable"]
        assert item.is_auto_protected is properties["isAutoProtected"]


@case("GET", r"backupFabrics/Azure/protectionContainers/[^/]+/items")
def list_workload_items(replay: Replay, exchange: Exchange) -> None:
    container = ContainerId.parse(exchange.path.rpartition("/")[0])
    items = replay.backup.list_workload_items(container, "SQLInstance")
    replay.asked_as(exchange, without=("$filter",))
    for item, wire in zip(items, exchange.body["value"], strict=True):
        assert isinstance(item, WorkloadItem)
        assert (item.wire_name, item.instance) == (wire["name"], wire["properties"]["parentName"])
        assert item.data_directories == tuple(
            (directory["type"], directory["path"]) for directory in wire["properties"]["dataDirectoryPaths"]
        )


def _is_protected_item(item: ProtectedItem | None, wire: Mapping[str, Any]) -> None:
    assert item is not None
    properties = wire["properties"]
    extended = properties.get("extendedInfo", {})
    assert item.id.key == wire["id"].lower()
    assert (item.name, item.instance) == (properties["friendlyName"], properties["parentName"])
    assert item.server_name == properties["serverName"]
    assert item.virtual_machine_id is not None
    assert item.virtual_machine_id.key == properties["sourceResourceId"].lower()
    assert item.protection_state == properties["protectionState"]
    assert item.protection_status == properties["protectionStatus"]
    assert item.last_backup_status == properties["lastBackupStatus"]
    assert item.last_backup_time == parse_time(properties.get("lastBackupTime"))
    assert item.last_recovery_point == parse_time(properties.get("lastRecoveryPoint"))
    assert item.recovery_model == extended.get("recoveryModel")
    assert item.policy_id == (properties.get("policyId") or None)
    assert item.policy_name == ((properties.get("policyId") or "").split("/")[-1] or None)
    assert item.is_scheduled_for_deferred_delete is properties.get("isScheduledForDeferredDelete", False)
    error = properties.get("lastBackupErrorDetail", {})
    if error.get("code", "Success") == "Success":
        assert item.last_backup_error is None
    else:
        assert item.last_backup_error is not None
        assert item.last_backup_error.code == error["code"]
        assert item.last_backup_error.message == error["message"]
        assert list(item.last_backup_error.recommendations) == error["recommendations"]
    assert item.health_status == properties["protectedItemHealthStatus"]
    assert not item.in_availability_group


@case("GET", r"backupProtectedItems")
def list_protected_items(replay: Replay, exchange: Exchange) -> None:
    items, unusable = replay.backup.list_protected_items(exchange.vault)
    replay.asked_as(exchange)
    assert unusable == []
    assert len(items) == len(exchange.body["value"]) > 0
    for item, wire in zip(items, exchange.body["value"], strict=True):
        _is_protected_item(item, wire)


ITEM = r"backupFabrics/Azure/protectionContainers/[^/]+/protectedItems/[^/]+"


@case("GET", ITEM)
def get_protected_item(replay: Replay, exchange: Exchange) -> None:
    item = replay.backup.get_protected_item(ProtectedItemId.parse(exchange.path))
    replay.asked_as(exchange)
    _is_protected_item(item, exchange.body)


@case("PUT", ITEM)
def put_protected_item(replay: Replay, exchange: Exchange) -> None:
    item = ProtectedItemId.parse(exchange.path)
    asked = exchange.request_body["properties"]
    if asked.get("isRehydrate"):
        started = replay.backup.undelete(item, client_request_id=REQUEST_ID)
        sent = replay.server.requests[0].json["properties"]
        assert (sent["isRehydrate"], sent["protectionState"], sent["policyId"]) == (
            True,
            asked["protectionState"],
            asked["policyId"],
        )
    elif asked.get("protectionState") == "ProtectionStopped":
        # The app never stops protection; the answer has the form of the others.
        started = replay.backup.enable_protection(item, "unused", client_request_id=REQUEST_ID)
    else:
        started = replay.backup.enable_protection(item, asked["policyId"], client_request_id=REQUEST_ID)
        # A change of policy was recorded with fewer fields.
        assert asked.items() <= replay.server.requests[0].json["properties"].items()
    replay.asked_as(exchange)
    _started(started, exchange)


@case("POST", ITEM + "/backup")
def trigger_backup(replay: Replay, exchange: Exchange) -> None:
    asked = exchange.request_body["properties"]
    expiry = parse_time(asked.get("recoveryPointExpiryTimeInUTC"))
    started = replay.backup.trigger_backup(
        ProtectedItemId.parse(exchange.path.rpartition("/")[0]),
        backup_type="Full",
        compression=asked.get("enableCompression"),
        expiry=expiry,
        client_request_id=REQUEST_ID,
    )
    replay.asked_as(exchange)
    _started(started, exchange)
    if "IaasVM" in asked["objectType"]:
        return
    sent = replay.server.requests[0].json["properties"]
    assert sent.keys() == asked.keys()
    assert expiry is not None
    assert parse_time(sent.pop("recoveryPointExpiryTimeInUTC")) == expiry.replace(microsecond=0)
    assert sent.items() <= asked.items()


@case("GET", ITEM + "/recoveryPoints")
def list_recovery_points(replay: Replay, exchange: Exchange) -> None:
    query_type = re.search(r"restorePointQueryType eq '(\w+)'", exchange.params.get("$filter", ""))
    points = replay.backup.list_recovery_points(
        ProtectedItemId.parse(exchange.path.rpartition("/")[0]),
        query_type=query_type.group(1) if query_type else None,
        extended_info="extendedInfo" in exchange.params.get("$filter", ""),
    )
    dated = "startDate" in exchange.params.get("$filter", "")
    replay.asked_as(exchange, without=("$filter",) if dated else ())
    for point, wire in zip(points, exchange.body["value"], strict=True):
        _is_recovery_point(point, wire)


def _is_recovery_point(point: RecoveryPoint | None, wire: Mapping[str, Any]) -> None:
    assert point is not None
    properties = wire["properties"]
    assert point.id is not None
    assert point.id.key == wire["id"].lower()
    assert (point.name, point.kind) == (wire["name"], properties["type"])
    assert point.time == parse_time(properties.get("recoveryPointTimeInUTC"))
    assert (point.time is None) == point.is_log
    assert list(point.time_ranges) == [
        (parse_time(span["startTime"]), parse_time(span["endTime"]))
        for span in properties.get("timeRanges", [])
    ]
    assert list(point.data_directories) == [
        (file["type"], file["path"], file["logicalName"])
        for file in properties.get("extendedInfo", {}).get("dataDirectoryPaths", [])
    ]


@case("GET", ITEM + "/recoveryPoints/[^/]+")
def get_recovery_point(replay: Replay, exchange: Exchange) -> None:
    point = replay.backup.get_recovery_point(RecoveryPointId.parse(exchange.path))
    replay.asked_as(exchange)
    _is_recovery_point(point, exchange.body)


@case("POST", ITEM + "/recoveryPoints/[^/]+/restore")
def trigger_restore(replay: Replay, exchange: Exchange) -> None:
    started = replay.backup.trigger_restore(
        RecoveryPointId.parse(exchange.path.rpartition("/")[0]),
        exchange.request_body["properties"],
        client_request_id=REQUEST_ID,
    )
    replay.asked_as(exchange)
    assert replay.server.requests[0].json == exchange.request_body
    _started(started, exchange)


STATUS = r"(backupOperations|operationStatus|(.+/)?operationsStatus)/[^/]+"
RESULT = r"(backupOperationResults|(.+/)?operationResults)/[^/]+"


@case("GET", STATUS)
def operation_status(replay: Replay, exchange: Exchange) -> None:
    status = replay.backup.get_operation_status(replay.server.url + exchange.url, vault=exchange.vault)
    replay.asked_as(exchange)
    assert isinstance(status, OperationStatus)
    assert status.status == exchange.body["status"]
    assert status.finished is status.succeeded is (exchange.body["status"] == "Succeeded")
    assert status.job_id == exchange.body.get("properties", {}).get("jobId")
    assert (status.error_code, status.error_message) == (None, None)


@case("GET", RESULT)
def operation_result(replay: Replay, exchange: Exchange) -> None:
    result = replay.backup.get_operation_result(replay.server.url + exchange.url, vault=exchange.vault)
    replay.asked_as(exchange)
    assert isinstance(result, OperationResult)
    assert result.finished is (exchange.status != 202)
    if exchange.status == 200:
        assert result.body == exchange.body
    if "retry-after" in exchange.headers:
        assert result.retry_after == timedelta(seconds=int(exchange.headers["retry-after"]))


def _is_job(job: Job | None, wire: Mapping[str, Any]) -> None:
    assert job is not None
    properties = wire["properties"]
    extended = properties.get("extendedInfo", {})
    assert job.id == wire["name"]
    assert (job.status.value, job.raw_status) == (properties["status"], properties["status"])
    assert job.status is not JobStatus.UNKNOWN
    assert job.status.has_ended is ("endTime" in properties)
    assert (job.operation, job.entity_name) == (properties["operation"], properties["entityFriendlyName"])
    assert job.database == properties["entityFriendlyName"].split(" [")[0]
    assert job.start_time == parse_time(properties["startTime"])
    assert job.end_time == parse_time(properties.get("endTime"))
    assert job.activity_id == properties["activityId"]
    # `Cancellable` has been a name since 2024, and the number 1 before.
    assert job.is_cancellable is bool({1, "Cancellable"} & set(properties.get("actionsInfo", [])))
    assert job.duration is not None
    if job.end_time is not None and job.start_time is not None:
        assert abs(job.duration - (job.end_time - job.start_time)) < timedelta(seconds=1)
    assert list(job.tasks) == [(task["taskId"], task["status"]) for task in extended.get("tasksList", [])]
    assert job.properties == extended.get("propertyBag", {})
    assert job.dynamic_error_message == extended.get("dynamicErrorMessage")
    for error, detail in zip(job.error_details, properties.get("errorDetails", []), strict=True):
        assert (error.code, error.title) == (detail["errorCode"], detail["errorTitle"])
        assert error.message == detail["errorString"]
        assert [text.strip() for text in detail["recommendations"]] == list(error.recommendations)


@case("GET", r"backupJobs/[^/]+")
def get_job(replay: Replay, exchange: Exchange) -> None:
    job = replay.backup.get_job(exchange.vault, exchange.path.split("/")[-1])
    replay.asked_as(exchange)
    _is_job(job, exchange.body)


@case("GET", r"backupJobs")
def list_jobs(replay: Replay, exchange: Exchange) -> None:
    first = dict(exchange.body)
    first.pop("nextLink", None)
    answers = [Answer(200, first)]
    if link := exchange.body.get("nextLink"):
        # The example's own next link, with all that is encoded in it, on this server's address.
        answers = [
            Answer(200, {**exchange.body, "nextLink": link.replace(REAL, replay.server.url)}),
            Answer(200, {"value": []}),
        ]
    replay.server.answer(*answers)
    jobs = replay.backup.list_jobs(
        exchange.vault,
        start=datetime(2016, 1, 1, tzinfo=UTC),
        end=datetime(2017, 11, 29, tzinfo=UTC),
        operation="Backup",
        status="InProgress",
    )
    for job, wire in zip(jobs, exchange.body["value"], strict=True):
        _is_job(job, wire)
    first_request, *further = replay.server.requests
    # The example writes midnight as 00:00:00 AM, which is no time of a 12-hour clock.
    assert first_request.params["$filter"] == (
        "startTime eq '2016-01-01 12:00:00 AM' and endTime eq '2017-11-29 12:00:00 AM'"
        " and operation eq 'Backup' and backupManagementType eq 'AzureWorkload' and status eq 'InProgress'"
    )
    if link:
        (following,) = further
        assert unquote(following.target) == unquote(link.removeprefix(REAL))


#: what the app never asks
UNUSED = {
    ("DELETE", ""),
    ("DELETE", "backupPolicies/[^/]+"),
    ("POST", rf"{ITEM}/recoveryPoints/[^/]+/move"),
    ("GET", "backupProtectionIntents"),
    ("(PUT|DELETE)", "backupResourceGuardProxies/[^/]+"),
    ("POST", "backupResourceGuardProxies/[^/]+/unlockDelete"),
    ("PATCH", "backupconfig/vaultconfig"),
    ("DELETE", ITEM),
    ("DELETE", "backupFabrics/Azure/protectionContainers/[^/]+"),
    ("DELETE", "backupFabrics/Azure/backupProtectionIntent/[^/]+"),
    ("PUT", "backupFabrics/Azure/backupProtectionIntent/[^/]+"),
}


def _case_for(exchange: Exchange) -> Case | None:
    for method, tail, status, function in CASES:
        if (
            method == exchange.method
            and status in (None, exchange.status)
            and re.fullmatch(tail, exchange.tail, re.IGNORECASE)
        ):
            return function
    return None


def _is_unused(exchange: Exchange) -> bool:
    if "/Microsoft.Compute/" in exchange.path:
        return True
    return any(
        re.fullmatch(method, exchange.method) and re.fullmatch(tail, exchange.tail, re.IGNORECASE)
        for method, tail in UNUSED
    )


IN_VAULT = [exchange for exchange in ALL if "/vaults/" in exchange.path]
USED = [exchange for exchange in IN_VAULT if not _is_unused(exchange)]


@pytest.mark.parametrize(
    "exchange", USED, ids=[f"{exchange.file}-{exchange.number}-{n}" for n, exchange in enumerate(USED)]
)
def test_recorded_exchange(replay: Replay, exchange: Exchange) -> None:
    function = _case_for(exchange)
    assert function is not None, f"nothing reads {exchange.method} {exchange.tail}"
    replay.play(exchange)
    function(replay, exchange)


def test_list_vaults(replay: Replay) -> None:
    (exchange,) = [exchange for exchange in ALL if exchange.path.lower().endswith("/vaults")]
    replay.play(exchange)
    vaults, unusable = replay.backup.list_vaults(exchange.path.split("/")[2])
    replay.asked_as(exchange)
    assert unusable == []
    assert [vault.id.key for vault in vaults] == [item["id"].lower() for item in exchange.body["value"]]


def test_every_kind_of_answer_is_among_the_recordings() -> None:
    """The recordings are all there, and each operation the app uses has at least one, but for those listed."""
    played = Counter(getattr(_case_for(exchange), "__name__", None) for exchange in USED)
    assert sum(played.values()) > 100
    assert set(played) == {function.__name__ for *_, function in CASES}


MODELS: dict[str, type[WireModel]] = {
    "vaults": Vault,
    "backupPolicies": Policy,
    "protectableContainers": ProtectableContainer,
    "protectionContainers": Container,
    "protectableItems": ProtectableItem,
    "items": WorkloadItem,
    "protectedItems": ProtectedItem,
    "recoveryPoints": RecoveryPoint,
    "backupJobs": Job,
}
#: What no recording of SQL Server holds.
NOT_RECORDED: dict[str, Any] = {
    "vaults": {"tags": {}},
    "backupJobs": {"properties": {"errorDetails": [{"errorCode": 1, "recommendations": ["Wait."]}]}},
}


def _resources() -> Iterator[tuple[str, dict[str, Any]]]:
    """One recorded resource of each type and set of fields."""
    seen = set()
    for exchange in ALL:
        body = exchange.body if exchange.status == 200 and isinstance(exchange.body, dict) else {}
        for entry in body.get("value", [body]):
            kind = str(entry.get("type")).rpartition("/")[2]
            fields = (kind, *sorted(entry), *sorted(entry.get("properties") or ()))
            if kind in MODELS and fields not in seen:
                seen.add(fields)
                more = NOT_RECORDED.get(kind, {})
                properties = {**entry["properties"], **more.get("properties", {})}
                yield kind, {**entry, **more, "properties": properties}


def _places(value: Any, *above: str | int) -> Iterator[tuple[str | int, ...]]:
    fields = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    for name, inner in fields:
        if isinstance(value, dict):
            yield (*above, name)
        yield from _places(inner, *above, name)


def test_a_field_that_is_null_is_as_one_that_is_not_there() -> None:
    """A vault's `immutabilitySettings` is null in a PowerShell session of 2024-04-22; any other may be."""
    checked = Counter[str]()
    for kind, body in _resources():
        for place in _places(body):
            # What is handed on as it came.
            if "propertyBag" in place or (kind == "backupPolicies" and place[0] == "properties"):
                continue
            nulled, without = deepcopy(body), deepcopy(body)
            *above, last = place
            holders: list[Any] = [nulled, without]
            for step in above:
                holders = [holder[step] for holder in holders]
            holders[0][last] = None
            del holders[1][last]
            try:
                expected = MODELS[kind].from_wire(without)
            except ValidationError:
                continue
            assert MODELS[kind].from_wire(nulled) == expected, (kind, place)
            checked[kind] += 1
    assert checked.keys() == MODELS.keys()
