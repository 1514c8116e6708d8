"""Microsoft's own SDK goes through the whole flow against the simulator, over https, with its own pollers.

Every answer must become the SDK's models with each required field there, and hold no field that they do not
know, but for those that the recordings of the real service show as well.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import ClientSecretCredential
from azure.mgmt.recoveryservicesbackup import RecoveryServicesBackupClient, models

from local.simulator import FIXED_TOKEN, Scenario, Simulator, SimulatorServer

GROUP, VAULT, FABRIC = "rg-backup", "vault1", "Azure"
CONTAINER = "VMAppContainer;Compute;rg-sql;sqlvm1"
ITEM = "SQLDataBase;mssqlserver;orders"
SQL = "backupManagementType eq 'AzureWorkload'"
QUICK = 0.02
Value = TypeVar("Value")
Model = TypeVar("Model")

NOT_MODELLED = {
    "objectType": "in the answer of backupStatus that was recorded in 2024",
    "IsProtectable": "recorded with this capital; the SDK expects isProtectable",
    "softDeleteRetentionPeriod": "in every item recorded since 2023; the SDK expects softDeleteRetentionPeriodInDays",
    "taskType": "recorded in 2024 as Normal; the SDK does not have it",
    "isUserTriggered": "in every recorded job",
    "progressPercentage": "the SDK has it on jobs of other kinds only; the simulator gives it for jobs over 5 minutes",
}


class FakeCredential:
    """A credential that has the simulator's fixed token."""

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        return AccessToken(FIXED_TOKEN, 4102444800)


LENGTHS = ("refresh", "register", "inquire", "protect", "stop", "delete", "backup", "restore", "cancel")


@contextmanager
def sdk(directory: Path, **scenario: Any) -> Iterator[tuple[Any, Simulator]]:
    """A client of a simulator whose operations take no time to speak of."""
    lengths = dict.fromkeys(LENGTHS, QUICK) | {"accept": 0, "young": 0}
    settings = {"durations": lengths, "retryAfter": 0, "scheduledBackups": False, **scenario}
    simulator = Simulator(Scenario.model_validate(settings))
    with (
        SimulatorServer(simulator, tls_directory=directory) as server,
        RecoveryServicesBackupClient(
            FakeCredential(),
            simulator.subscription_id,
            base_url=server.url,
            credential_scopes=[f"{server.url}/.default"],
            connection_verify=str(directory / "cert.pem"),
            polling_interval=0.01,
            retry_total=0,
        ) as client,
    ):
        yield client, simulator


def until(probe: Callable[[], Value | None], what: str) -> Value:
    """What `probe` gives once it gives something; the simulator's clock is the machine's here."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        value = probe()
        if value is not None:
            return value
        time.sleep(0.005)
    pytest.fail(f"{what} did not happen within 10 seconds")


#: A registered machine with a protected database that has recovery points.
WITH_HISTORY = {
    "name": "sqlvm1",
    "registeredTo": "vault1",
    "instances": [{"databases": [{"name": "orders", "protectedBy": "HourlyLogBackup", "historyDays": 2}]}],
}


def headers_of(response: Any, body: Any, headers: dict[str, str]) -> dict[str, str]:
    """For calls the SDK has no poller for."""
    return dict(response.http_response.headers)


def operation_id(headers: dict[str, str]) -> str:
    return headers["Location"].split("?")[0].rsplit("/", 1)[-1]


def concrete(model: Any) -> Any:
    """The model as the class its discriminator names: the SDK itself finds only classes one level down."""

    def named(base: Any, value: str) -> Any:
        mapping = base.__dict__.get("__mapping__", {})
        inner = (named(child, value) for child in mapping.values() if child is not base)
        return mapping.get(value) or next((found for found in inner if found is not None), None)

    for rest in getattr(model, "_attr_to_rest_field", {}).values():
        if rest._is_discriminator and (found := named(type(model), model.get(rest._rest_name))) is not None:
            return found(dict(model.items()))
    return model


def flaws(model: Any, path: str = "") -> Iterator[str]:
    """Required fields that are missing, and fields that no model knows."""
    model = concrete(model)
    if isinstance(model, list):
        for index, entry in enumerate(model):
            yield from flaws(entry, f"{path}[{index}]")
        return
    fields = getattr(type(model), "_attr_to_rest_field", None) or getattr(model, "_attr_to_rest_field", None)
    if fields is None:
        return
    annotations: dict[str, Any] = {}
    for base in reversed(type(model).__mro__):
        annotations |= getattr(base, "__annotations__", {})
    known = set()
    for attribute, rest in fields.items():
        name = rest._rest_name
        known.add(name)
        value = model.get(name)
        if value is None:
            if not re.search("Optional|None", str(annotations.get(attribute, None))):
                yield f"{path}.{name} of {type(model).__name__} is required and missing"
        else:
            yield from flaws(getattr(model, attribute), f"{path}.{name}")
    for name in model:
        if name not in known and name not in NOT_MODELLED:
            yield f"{path}.{name} is not a field of {type(model).__name__}"


def sound(model: Model) -> Model:
    """The model, once it has no flaws."""
    assert not list(flaws(model)), list(flaws(model))
    return model


def discover(client: Any, simulator: Simulator) -> None:
    """Refresh, register and inquire `sqlvm1`."""
    headers = client.protection_containers.refresh(VAULT, GROUP, FABRIC, filter=SQL, cls=headers_of)
    until(lambda: _gone(client, operation_id(headers)), "the end of the refresh")
    found = list(client.protectable_containers.list(VAULT, GROUP, FABRIC, filter=SQL))
    names = [sound(container).name for container in found]
    assert names == [CONTAINER, "VMAppContainer;Compute;rg-sql;sqlvm2"]
    registered = client.protection_containers.begin_register(
        VAULT,
        GROUP,
        FABRIC,
        CONTAINER,
        models.ProtectionContainerResource(
            properties=models.AzureVMAppContainerProtectionContainer(
                backup_management_type="AzureWorkload",
                workload_type="SQLDataBase",
                source_resource_id=simulator.vm_id("sqlvm1"),
            )
        ),
    ).result()
    assert isinstance(concrete(sound(registered).properties), models.AzureVMAppContainerProtectionContainer)
    headers = client.protection_containers.inquire(VAULT, GROUP, FABRIC, CONTAINER, cls=headers_of)
    result = until(
        lambda: client.protection_container_operation_results.get(
            VAULT, GROUP, FABRIC, CONTAINER, operation_id(headers)
        ),
        "the end of the inquiry",
    )
    assert result.name == CONTAINER


def _gone(client: Any, operation: str) -> bool | None:
    ended = client.protection_container_refresh_operation_results.get(
        VAULT,
        GROUP,
        FABRIC,
        operation,
        cls=lambda response, body, headers: response.http_response.status_code,
    )
    return True if ended == 204 else None


def policy_id(simulator: Simulator, name: str = "HourlyLogBackup") -> str:
    return f"{simulator.vault_id()}/backupPolicies/{name}"


def put_item(client: Any, **properties: Any) -> Any:
    resource = models.ProtectedItemResource(
        properties=models.AzureVmWorkloadSQLDatabaseProtectedItem(**properties)
    )
    return client.protected_items.begin_create_or_update(
        VAULT, GROUP, FABRIC, CONTAINER, ITEM, resource
    ).result()


def ended_job(client: Any, job_id: str) -> Any:
    def probe() -> Any:
        job = sound(client.job_details.get(VAULT, GROUP, job_id))
        assert isinstance(job.properties, models.AzureWorkloadJob)
        return job.properties if job.properties.status != "InProgress" else None

    return until(probe, "the end of the job")


def newest_job(client: Any, operation: str) -> Any:
    jobs = list(client.backup_jobs.list(VAULT, GROUP, filter=f"{SQL} and operation eq '{operation}'"))
    assert isinstance(sound(jobs[0]).properties, models.AzureWorkloadJob)
    return ended_job(client, jobs[0].name)


def back_up(client: Any, kind: str) -> Any:
    headers = client.backups.trigger(
        VAULT,
        GROUP,
        FABRIC,
        CONTAINER,
        ITEM,
        models.BackupRequestResource(properties=models.AzureWorkloadBackupRequest(backup_type=kind)),
        cls=headers_of,
    )
    status = sound(client.backup_operation_statuses.get(VAULT, GROUP, operation_id(headers)))
    assert status.status == "Succeeded"
    assert isinstance(status.properties, models.OperationStatusJobExtendedInfo)
    assert status.properties.job_id
    return ended_job(client, status.properties.job_id)


def restore(client: Any, point: str, request: Any) -> Any:
    client.restores.begin_trigger(
        VAULT, GROUP, FABRIC, CONTAINER, ITEM, point, models.RestoreRequestResource(properties=request)
    ).result()
    return newest_job(client, "Restore")


def test_the_sdk_protects_backs_up_and_restores(tmp_path: Path) -> None:
    with sdk(tmp_path) as (client, simulator):
        policies = [sound(policy) for policy in client.backup_policies.list(VAULT, GROUP, filter=SQL)]
        assert [policy.name for policy in policies] == ["HourlyLogBackup"]
        assert isinstance(policies[0].properties, models.AzureVmWorkloadProtectionPolicy)

        discover(client, simulator)
        protectable = list(
            client.backup_protectable_items.list(
                VAULT, GROUP, filter=f"{SQL} and workloadType eq 'SQLDataBase'"
            )
        )
        kinds = {type(concrete(sound(entry).properties)) for entry in protectable}
        assert kinds == {
            models.AzureVmWorkloadSQLInstanceProtectableItem,
            models.AzureVmWorkloadSQLDatabaseProtectableItem,
        }
        orders = next(entry for entry in protectable if concrete(entry.properties).friendly_name == "orders")
        assert orders.name == "sqldatabase;mssqlserver;orders"

        item = put_item(client, policy_id=policy_id(simulator))
        assert sound(item).name == ITEM
        assert concrete(item.properties).protection_state == "IRPending"
        assert newest_job(client, "ConfigureBackup").status == "Completed"

        assert back_up(client, "Full").operation == "Backup (Full)"
        assert back_up(client, "Differential").status == "Completed"
        assert back_up(client, "Log").status == "Completed"
        item = client.protected_items.get(VAULT, GROUP, FABRIC, CONTAINER, ITEM)
        assert concrete(sound(item).properties).protection_state == "Protected"

        points = list(client.recovery_points.list(VAULT, GROUP, FABRIC, CONTAINER, ITEM))
        assert [concrete(sound(point).properties).type for point in points] == ["Differential", "Full", "Log"]
        full, log = points[1], points[2]
        details = client.recovery_points.get(VAULT, GROUP, FABRIC, CONTAINER, ITEM, full.name)
        assert isinstance(concrete(sound(details).properties), models.AzureWorkloadSQLRecoveryPoint)
        files = concrete(details.properties).extended_info.data_directory_paths
        assert [entry.type for entry in files] == ["Data", "Log"]

        target_id = f"{simulator.vault_id()}/backupFabrics/Azure/protectionContainers/{CONTAINER}"
        alternate = models.AzureWorkloadSQLRestoreRequest(
            recovery_type="AlternateLocation",
            source_resource_id=simulator.vm_id("sqlvm1"),
            should_use_alternate_target_location=True,
            is_non_recoverable=False,
            target_info=models.TargetRestoreInfo(
                overwrite_option="FailOnConflict",
                container_id=target_id,
                database_name="MSSQLSERVER/orders_copy",
            ),
            alternate_directory_paths=[
                models.SQLDataDirectoryMapping(
                    mapping_type=entry.type,
                    source_logical_name=entry.logical_name,
                    source_path=entry.path,
                    target_path=entry.path.replace("orders", "orders_copy"),
                )
                for entry in files
            ],
        )
        job = restore(client, full.name, alternate)
        assert (job.status, job.operation) == ("Completed", "Restore (Full)")
        assert job.extended_info.property_bag["RestoreDestination"] == "sqlvm1/MSSQLSERVER/orders_copy"
        again = restore(client, full.name, alternate)
        assert again.status == "Failed"
        assert again.error_details[0].error_title == "UserErrorCannotRestoreExistingDBWithoutForceOverwrite"

        original = models.AzureWorkloadSQLRestoreRequest(
            recovery_type="OriginalLocation",
            should_use_alternate_target_location=True,
            is_non_recoverable=False,
        )
        assert restore(client, full.name, original).status == "Completed"
        moment = concrete(log.properties).time_ranges[0].end_time
        in_time = models.AzureWorkloadSQLPointInTimeRestoreRequest(
            recovery_type="OriginalLocation", point_in_time=moment, is_non_recoverable=False
        )
        assert restore(client, log.name, in_time).operation == "Restore (Log)"

        items = client.backup_workload_items.list(VAULT, GROUP, FABRIC, CONTAINER, filter=SQL)
        names = {concrete(sound(entry).properties).friendly_name for entry in items}
        assert "orders_copy" not in names
        client.protection_containers.inquire(VAULT, GROUP, FABRIC, CONTAINER)
        until(
            lambda: (
                True
                if "orders_copy"
                in {
                    concrete(entry.properties).friendly_name
                    for entry in client.backup_workload_items.list(
                        VAULT, GROUP, FABRIC, CONTAINER, filter=SQL
                    )
                }
                else None
            ),
            "the restored database's discovery",
        )


def test_the_sdk_stops_resumes_deletes_undeletes_and_unregisters(tmp_path: Path) -> None:
    estate = {"virtualMachines": [WITH_HISTORY]}
    with sdk(tmp_path, **estate) as (client, simulator):
        stopped = put_item(client, policy_id="", protection_state="ProtectionStopped")
        assert concrete(sound(stopped).properties).protection_state == "ProtectionStopped"
        assert not concrete(stopped.properties).policy_id
        resumed = put_item(client, policy_id=policy_id(simulator))
        assert concrete(sound(resumed).properties).protection_state == "Protected"

        headers = client.protected_items.delete(VAULT, GROUP, FABRIC, CONTAINER, ITEM, cls=headers_of)
        assert "/backupOperationResults/" in headers["Location"]
        assert newest_job(client, "DeleteBackupData").status == "Completed"
        deleted = client.protected_items.get(VAULT, GROUP, FABRIC, CONTAINER, ITEM)
        assert concrete(sound(deleted).properties).is_scheduled_for_deferred_delete
        assert concrete(deleted.properties).deferred_delete_time_remaining.startswith("13.23:59:")
        with pytest.raises(HttpResponseError):
            put_item(client, policy_id=policy_id(simulator))
        back = put_item(client, policy_id="", protection_state="ProtectionStopped", is_rehydrate=True)
        assert not concrete(sound(back).properties).is_scheduled_for_deferred_delete
        assert newest_job(client, "Undelete").status == "Completed"

        resumed = put_item(client, policy_id=policy_id(simulator))
        with pytest.raises(HttpResponseError) as refused:
            client.protection_containers.unregister(VAULT, GROUP, FABRIC, CONTAINER)
        assert refused.value.error is not None
        assert refused.value.error.code == "BMSUserErrorContainerHasDatasources"
        client.protected_items.delete(VAULT, GROUP, FABRIC, CONTAINER, ITEM)
        assert newest_job(client, "DeleteBackupData").status == "Completed"
        client.protection_containers.unregister(VAULT, GROUP, FABRIC, CONTAINER)
        until(
            lambda: (
                True if not list(client.backup_protection_containers.list(VAULT, GROUP, filter=SQL)) else None
            ),
            "the end of the registration",
        )
        (gone,) = client.deleted_protection_containers.list(GROUP, VAULT, filter=SQL)
        assert concrete(sound(gone).properties).registration_status == "SoftDeleted"


def test_the_sdk_cancels_a_job_and_pages_through_lists(tmp_path: Path) -> None:
    databases = [{"name": f"db{index:03}", "protectedBy": "HourlyLogBackup"} for index in range(25)]
    estate = {
        "pageSize": 10,
        "virtualMachines": [
            {
                "name": "sqlvm1",
                "registeredTo": "vault1",
                "instances": [
                    {"databases": [*databases, {"name": "orders", "protectedBy": "HourlyLogBackup"}]}
                ],
            }
        ],
    }
    lengths = dict.fromkeys(LENGTHS, QUICK) | {"accept": 0, "young": 0, "backup": 3600, "cancel": 30}
    with sdk(tmp_path, **estate, durations=lengths) as (client, _):
        items = [sound(item) for item in client.backup_protected_items.list(VAULT, GROUP, filter=SQL)]
        assert len({item.name for item in items}) == 26
        headers = client.backups.trigger(
            VAULT,
            GROUP,
            FABRIC,
            CONTAINER,
            ITEM,
            models.BackupRequestResource(properties=models.AzureWorkloadBackupRequest(backup_type="Full")),
            cls=headers_of,
        )
        job_id = client.backup_operation_statuses.get(VAULT, GROUP, operation_id(headers)).properties.job_id
        job = sound(client.job_details.get(VAULT, GROUP, job_id)).properties
        assert (job.status, job.end_time) == ("InProgress", None)
        assert job.extended_info.tasks_list[0].status == "InProgress"
        client.job_cancellations.trigger(VAULT, GROUP, job_id)
        assert client.job_details.get(VAULT, GROUP, job_id).properties.status == "Cancelling"
        with pytest.raises(HttpResponseError):
            client.job_cancellations.trigger(VAULT, GROUP, job_id)


def test_azure_identity_gets_a_token_that_the_simulator_takes(tmp_path: Path) -> None:
    simulator = Simulator()
    with SimulatorServer(simulator, tls_directory=tmp_path) as server:
        trusted = str(tmp_path / "cert.pem")
        with (
            ClientSecretCredential(
                simulator.tenant_id,
                "client",
                "secret",
                authority=server.url,
                disable_instance_discovery=True,
                connection_verify=trusted,
            ) as credential,
            RecoveryServicesBackupClient(
                credential,
                simulator.subscription_id,
                base_url=server.url,
                credential_scopes=[f"{server.url}/.default"],
                connection_verify=trusted,
            ) as client,
        ):
            assert [policy.name for policy in client.backup_policies.list(VAULT, GROUP, filter=SQL)] == [
                "HourlyLogBackup"
            ]
    routes = [entry["route"] for entry in simulator.access_entries]
    assert routes == ["OpenIdConfiguration", "Token", "ListPolicies"]


def test_the_sdk_makes_a_policy_and_an_intent(tmp_path: Path) -> None:
    with sdk(tmp_path) as (client, simulator):
        discover(client, simulator)
        source = client.protection_policies.get(VAULT, GROUP, "HourlyLogBackup")
        made = client.protection_policies.create_or_update(VAULT, GROUP, "Weekly", source)
        assert sound(made).properties.protected_items_count == 0
        intent = models.ProtectionIntentResource(
            properties=models.AzureRecoveryServiceVaultProtectionIntent(
                backup_management_type="AzureWorkload",
                policy_id=policy_id(simulator, "Weekly"),
                item_id=(
                    f"{simulator.vault_id()}/backupFabrics/Azure/protectionContainers/{CONTAINER.lower()}"
                    "/protectableItems/sqlinstance;mssqlserver"
                ),
            )
        )
        name = "7ec9429d-bea2-4573-9562-799406b69e6e"
        assert (
            sound(client.protection_intent.create_or_update(VAULT, GROUP, FABRIC, name, intent)).name == name
        )
        assert [sound(found).name for found in client.backup_protection_intent.list(VAULT, GROUP)] == [name]
        until(
            lambda: True if len(list(client.backup_protected_items.list(VAULT, GROUP))) == 5 else None,
            "the protection of all five databases",
        )
        with pytest.raises(HttpResponseError) as refused:
            client.protection_policies.begin_delete(VAULT, GROUP, "Weekly").result()
        assert refused.value.error is not None
        assert refused.value.error.code == "BMSUserErrorPolicyObjectInUse"
        client.protection_intent.delete(VAULT, GROUP, FABRIC, name)
        with pytest.raises(ResourceNotFoundError):
            client.protection_intent.get(VAULT, GROUP, FABRIC, name)


def test_the_sdk_knows_availability_groups_and_failover_clusters(tmp_path: Path) -> None:
    nodes = ["node1", "node2"]
    machines = [
        {"name": name, "registeredTo": VAULT, "instances": [{"databases": [{"name": "local"}]}]}
        for name in nodes
    ]
    cluster = {"name": "cluster1", "registeredTo": VAULT, "instances": [{"failoverCluster": True}]}
    sales = {"name": "sales", "protectedBy": "HourlyLogBackup", "historyDays": 1}
    groups = [
        {"name": "ag1", "virtualMachines": nodes, "databases": [sales, {"name": "crm"}]},
        {"name": "small", "virtualMachines": nodes, "basic": True},
    ]
    with sdk(tmp_path, virtualMachines=[*machines, cluster], availabilityGroups=groups) as (client, _):
        listed = [sound(entry) for entry in client.backup_protectable_items.list(VAULT, GROUP, filter=SQL)]
        found = [concrete(entry.properties) for entry in listed]
        kinds = [type(entry) for entry in found]
        assert kinds.count(models.AzureVmWorkloadSQLAvailabilityGroupProtectableItem) == 2
        refused = {
            entry.friendly_name for entry in found if (entry.get("prebackupvalidation") or {}).get("message")
        }
        assert refused == {"small", "MSSQLSERVER"}
        (item,) = client.backup_protected_items.list(VAULT, GROUP, filter=SQL)
        container = item.id.split("/")[12]
        assert container.startswith("SQLAGWorkLoadContainer;")
        registered = sound(client.protection_containers.get(VAULT, GROUP, FABRIC, container))
        group: Any = concrete(registered.properties)
        assert type(group).__name__ == "AzureSQLAGWorkloadContainerProtectionContainer"
        assert [node.node_name for node in group.extended_info.nodes_list] == nodes
        sound(client.protected_items.get(VAULT, GROUP, FABRIC, container, item.name))
        points = list(client.recovery_points.list(VAULT, GROUP, FABRIC, container, item.name))
        assert [sound(point).name for point in points][-1] == "DefaultRangeRecoveryPoint"


def test_the_sdk_asks_what_a_vault_and_a_region_tell_in_one_answer(tmp_path: Path) -> None:
    with sdk(tmp_path, virtualMachines=[WITH_HISTORY]) as (client, simulator):
        vm_id = simulator.vm_id("sqlvm1")
        status = sound(
            client.backup_status.get(
                "westeurope",
                models.BackupStatusRequest(
                    resource_type="SQLDataBase", resource_id=vm_id, po_logical_name="MSSQLSERVER;orders"
                ),
            )
        )
        assert (status.protection_status, status.policy_name) == ("Protected", "HourlyLogBackup")
        assert (status.vault_id, status.container_name, status.protected_item_name.lower()) == (
            simulator.vault_id(),
            CONTAINER,
            ITEM.lower(),
        )
        nothing = client.backup_status.get(
            "westeurope", models.BackupStatusRequest(resource_type="VM", resource_id=vm_id)
        )
        assert (sound(nothing).protection_status, nothing.vault_id) == ("NotProtected", None)
        validated = sound(
            client.protection_intent.validate(
                "westeurope",
                models.PreValidateEnableBackupRequest(
                    resource_type="VM", resource_id=vm_id, vault_id=simulator.vault_id(), properties=""
                ),
            )
        )
        assert (validated.status, validated.container_name) == ("Succeeded", CONTAINER)
        for kind in ("BackupProtectedItemCountSummary", "BackupProtectionContainerCountSummary"):
            (summary,) = client.backup_usage_summaries.list(VAULT, GROUP, filter=f"type eq '{kind}'")
            assert (sound(summary).current_value, summary.name.value) == (1, "AzureWorkload")
        storage = sound(client.backup_resource_storage_configs_non_crr.get(VAULT, GROUP))
        assert (storage.properties.storage_type, storage.properties.storage_type_state) == (
            "GeoRedundant",
            "Locked",
        )


def test_the_sdk_has_a_restore_validated(tmp_path: Path) -> None:
    with sdk(tmp_path, virtualMachines=[WITH_HISTORY]) as (client, simulator):
        (point, *_) = client.recovery_points.list(VAULT, GROUP, FABRIC, CONTAINER, ITEM)

        def validate(database: str) -> Any:
            container = f"{simulator.vault_id()}/backupFabrics/Azure/protectionContainers/{CONTAINER}"
            request = models.AzureWorkloadSQLRestoreRequest(
                recovery_type="AlternateLocation",
                source_resource_id=simulator.vm_id("sqlvm1"),
                target_virtual_machine_id=simulator.vm_id("sqlvm1"),
                should_use_alternate_target_location=True,
                target_info=models.TargetRestoreInfo(
                    overwrite_option="FailOnConflict",
                    container_id=container,
                    database_name=f"MSSQLSERVER/{database}",
                ),
            )
            resource = models.ValidateOperationRequestResource(
                id=point.id,
                properties=models.ValidateAzureWorkloadRestoreOperationRequest(restore_request=request),
            )
            headers: dict[str, str] = {}
            client.validate_operation.begin_trigger(
                VAULT,
                GROUP,
                resource,
                polling=False,
                raw_response_hook=lambda response: headers.update(response.http_response.headers),
            )
            simulator_id = operation_id(headers)
            assert "/backupValidateOperationsStatuses/" in headers["Azure-AsyncOperation"]
            return until(
                lambda: (
                    status
                    if (
                        status := sound(client.validate_operation_statuses.get(VAULT, GROUP, simulator_id))
                    ).status
                    == "Succeeded"
                    else None
                ),
                "the validation",
            ).properties.validate_operation_response.validation_results

        assert validate("copy") == []
        (refused,) = validate("orders")
        assert refused.code == "UserErrorCannotRestoreExistingDBWithoutForceOverwrite"
        assert list(client.backup_jobs.list(VAULT, GROUP, filter=f"{SQL} and operation eq 'Restore'")) == []


def test_the_sdk_restores_with_the_consent_of_a_resource_guard(tmp_path: Path) -> None:
    guard = (
        "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/security"
        "/providers/Microsoft.DataProtection/resourceGuards/guard"
    )
    with sdk(tmp_path, virtualMachines=[WITH_HISTORY]) as (client, _):
        proxy = models.ResourceGuardProxyBaseResource(
            properties=models.ResourceGuardProxyBase(resource_guard_resource_id=guard)
        )
        sound(client.resource_guard_proxy.put(VAULT, GROUP, "VaultProxy", proxy))
        (found,) = client.resource_guard_proxies.get(VAULT, GROUP)
        (point, *_) = client.recovery_points.list(VAULT, GROUP, FABRIC, CONTAINER, ITEM)
        request = models.AzureWorkloadSQLRestoreRequest(recovery_type="OriginalLocation")
        with pytest.raises(HttpResponseError, match="ResourceGuard Operation requestid"):
            restore(client, point.name, request)
        (consent,) = (
            detail.default_resource_request
            for detail in sound(found).properties.resource_guard_operation_details
            if detail.vault_critical_operation.endswith("/recoveryPoints/restore/action")
        )
        request.resource_guard_operation_requests = [consent]
        restore(client, point.name, request)
        unlocked = client.resource_guard_proxy.unlock_delete(
            VAULT,
            GROUP,
            "VaultProxy",
            models.UnlockDeleteRequest(
                resource_guard_operation_requests=[
                    consent.replace("triggerRestoreRequests", "deleteResourceGuardProxyRequests")
                ]
            ),
        )
        assert sound(unlocked).unlock_delete_expiry_time is not None
        client.resource_guard_proxy.delete(VAULT, GROUP, "VaultProxy")
        assert list(client.resource_guard_proxies.get(VAULT, GROUP)) == []
