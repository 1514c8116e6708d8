"""What recordings of the real service show, and the simulator, or the client, did otherwise.

The recordings are those of Azure/azure-cli and Azure/azure-powershell, 2019 to 2025. Each test says in a
sentence what they show.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.e2e.harness import OpenEstate, statuses, virtual_machine
from tests.reported.azure import POLICY, SQL, Azure, azure, protected

MANY = [f"db{number:02}" for number in range(40)]


def states(a: Azure, accepted: list[Any]) -> set[str]:
    return {a.operation(answer)["status"] for answer in accepted}


# ---- operations


def test_the_operation_of_a_backup_often_runs_at_the_first_look() -> None:
    """14 of 50 recorded ones did, for 14 seconds at most."""
    with azure(protected(*MANY)) as a:
        accepted = [a.backup(name) for name in MANY]
        running = [a.operation(answer) for answer in accepted]
        assert {entry["status"] for entry in running} == {"InProgress", "Succeeded"}
        assert all(("properties" in entry) == (entry["status"] == "Succeeded") for entry in running)
        assert all(
            entry["endTime"] == "0001-01-01T00:00:00" for entry in running if entry["status"] == "InProgress"
        )
        share = sum(entry["status"] == "InProgress" for entry in running) / len(running)
        assert 0.1 < share < 0.5
        a.wait(15)
        assert states(a, accepted) == {"Succeeded"}


def test_the_operation_of_a_restore_often_runs_at_the_first_look() -> None:
    """30 of 74 recorded ones did."""
    with azure(protected(*MANY)) as a:
        accepted = [a.restore(name) for name in MANY]
        running = [a.operation(answer)["status"] for answer in accepted]
        assert 0.2 < running.count("InProgress") / len(running) < 0.6
        a.wait(15)
        assert states(a, accepted) == {"Succeeded"}


# ---- jobs


def is_young(properties: dict[str, Any], database: str) -> bool:
    return bool(properties["entityFriendlyName"] == database and properties["operation"] == "Backup")


def test_a_young_job_has_no_server_no_tasks_and_no_type() -> None:
    """Seen up to 40 seconds after a job's start, in 2021, 2022 and 2023."""
    with azure(protected(*MANY, serviceVersion="2023-05")) as a:
        for name in MANY:
            a.backup(name)
        a.wait(5)
        jobs = [a.get(f"/backupJobs/{entry['name']}")["properties"] for entry in a.jobs()]
        young = [job for job in jobs if is_young(job, job["entityFriendlyName"].split(" [")[0])]
        assert 0 < len(young) < len(jobs)
        assert all(job["extendedInfo"]["tasksList"] == [] for job in young)
        a.wait(60)
        jobs = [a.get(f"/backupJobs/{entry['name']}")["properties"] for entry in a.jobs()]
        assert {job["operation"] for job in jobs} == {"Backup (Full)"}
        assert all(job["entityFriendlyName"].endswith(" [sqlvm1]") for job in jobs)
        assert all(job["extendedInfo"]["tasksList"] for job in jobs)


def test_a_filter_of_jobs_may_name_no_operation() -> None:
    """As PowerShell sends it (2025-01-06)."""
    with azure(protected("orders")) as a:
        a.job(a.backup())
        wanted = "operation eq '' and startTime eq '2026-01-05 12:00:00 AM' and endTime eq '2026-01-06 12:00:00 AM'"
        assert [job["properties"]["entityFriendlyName"] for job in a.jobs(wanted)] == ["orders [sqlvm1]"]


def test_a_cancellation_has_a_status_of_its_own_and_ends_before_its_job() -> None:
    """Recorded: both URLs at the job; 204 after five seconds, the job still Cancelling."""
    with azure(protected("orders")) as a:
        accepted = a.backup()
        a.wait(60)
        job = a.operation(accepted)["properties"]["jobId"]
        cancel = a.ask("POST", f"/backupJobs/{job}/cancel")
        assert cancel.status_code == 202
        path = cancel.headers["Azure-AsyncOperation"].split("?")[0]
        assert re.fullmatch(rf".*/backupJobs/{job}/operationsStatus/[0-9a-f-]{{36}}", path)
        assert "api-version=2019-05-13-preview" in cancel.headers["Azure-AsyncOperation"]
        assert a.operation(cancel)["status"] == "InProgress"
        a.wait(6)
        assert a.operation(cancel)["status"] == "Succeeded"
        assert a.ask("GET", cancel.headers["Location"]).status_code == 204
        assert a.get(f"/backupJobs/{job}")["properties"]["status"] == "Cancelling"
        a.wait(60)
        assert a.get(f"/backupJobs/{job}")["properties"]["status"] == "Cancelled"


def test_a_restore_that_failed_tells_its_kind_and_its_properties() -> None:
    """Recorded: Restore (Full) with error 520123 and everything that a successful one says."""
    fault = {
        "route": "Restore",
        "fault": "jobFailure",
        "errorCode": 520123,
        "code": "UserErrorRestoreFailedTargetFileAlreadyExists",
    }
    with azure(protected("orders", faults=[fault])) as a:
        properties = a.job(a.restore())["properties"]
    assert (properties["status"], properties["operation"]) == ("Failed", "Restore (Full)")
    assert set(properties["extendedInfo"]["propertyBag"]) == {
        "Data Transferred (in MB)",
        "Job Type",
        "RestoreRecoveryPointTime",
        "RestoreDestination",
    }
    assert properties["errorDetails"][0]["errorCode"] == 520123


def test_the_job_of_a_restore_has_its_operations_id() -> None:
    """67 of 67 since 2021-06."""
    with azure(protected(*MANY[:12])) as a:
        accepted = [a.restore(name) for name in MANY[:12]]
        a.wait(60)
        assert all(op["id"] == op["properties"]["jobId"] for op in map(a.operation, accepted))


def test_registering_and_unregistering_are_jobs() -> None:
    """A job list of 2020-12-21 has Register and UnRegister."""
    with azure({}) as a:
        a.ask("POST", "/backupFabrics/Azure/refreshContainers", filter=SQL)
        a.wait(60)
        body = {
            "backupManagementType": "AzureWorkload",
            "containerType": "VMAppContainer",
            "workloadType": "SQLDataBase",
            "sourceResourceId": a.simulator.vm_id("sqlvm1"),
        }
        assert a.ask("PUT", a.container(), {"properties": body}).status_code == 202
        a.wait(600)
        assert a.ask("DELETE", a.container()).status_code == 202
        a.wait(600)
        found = [(job["properties"]["operation"], job["properties"]["status"]) for job in a.jobs()]
        assert found == [("UnRegister", "Completed"), ("Register", "Completed")]
        assert len(a.jobs("operation eq 'Register'")) == 1


def test_deletion_and_restore_take_as_long_as_recorded() -> None:
    """DeleteBackupData took 33 seconds in the middle, a restore 272."""
    with azure(protected("orders", "billing")) as a:
        restored = a.job(a.restore())["properties"]
        deleted = a.job(a.ask("DELETE", a.item("billing")))["properties"]

    def seconds(properties: dict[str, Any]) -> float:
        match = re.fullmatch(r"PT(?:(\d+)M)?(?:([\d.]+)S)?", properties["duration"])
        assert match is not None
        return 60 * int(match.group(1) or 0) + float(match.group(2) or 0)

    assert 25 <= seconds(deleted) <= 45
    assert 240 <= seconds(restored) <= 300


# ---- items and their names


def test_an_item_names_its_resource_group_in_lower_case() -> None:
    """In the recordings of every year; the machine's own name is left as it is."""
    vm = {"resourceGroup": "RG-Prod", "name": "SqlVm1"}
    with azure(protected("orders", vm=vm)) as a:
        (item,) = a.get("/backupProtectedItems")["value"]
        expected = a.simulator.vm_id("SqlVm1").replace("RG-Prod", "rg-prod")
        assert item["properties"]["sourceResourceId"] == expected
        single = a.get(item["id"])
        assert single["properties"]["sourceResourceId"] == expected
        (container,) = a.get("/backupProtectionContainers", filter=SQL)["value"]
        assert container["properties"]["sourceResourceId"] == a.simulator.vm_id("SqlVm1")


def test_an_item_keeps_the_casing_that_it_was_protected_in() -> None:
    """Items of 2021 and 2023 are VMAppContainer;Compute;.../SQLDataBase;MSSQLSERVER;..."""
    unprotected = {"name": "Orders", "protectedBy": None, "historyDays": 0}
    with azure(protected(unprotected)) as a:
        name = "SQLDataBase;MSSQLSERVER;Orders"
        a.put(f"{a.container()}/protectedItems/{name}", policyId=a.policy_id())
        a.wait(120)
        (item,) = a.get("/backupProtectedItems")["value"]
        assert item["name"] == name
        assert item["id"].endswith(
            f"/protectionContainers/VMAppContainer;Compute;rg-sql;sqlvm1/protectedItems/{name}"
        )
        assert item["properties"]["containerName"] == "VMAppContainer;Compute;rg-sql;sqlvm1"


# ---- shapes of 2024


def test_the_shapes_are_those_of_2024() -> None:
    with azure(protected("orders", {"name": "new", "protectedBy": None, "historyDays": 0})) as a:
        answer = a.ask("GET", a.item())
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        item = answer.json()["properties"]
        (listed,) = a.get("/backupProtectedItems")["value"]
        for properties in (item, listed["properties"]):
            assert properties["vaultId"] == f"https://management.azure.com{a.vault}"
            assert properties["softDeleteRetentionPeriod"] == 0
            assert not {"kpisHealths", "policyName"} & properties.keys()
        backup = a.job(a.backup())["properties"]
        assert backup["actionsInfo"] == ["Cancellable"]
        assert backup["extendedInfo"]["tasksList"] == [
            {"taskId": "Transfer data to vault", "taskType": "Normal", "status": "Completed"}
        ]
        url = a.item("new").replace("VMAppContainer;Compute", "vmappcontainer;compute")
        configured = a.job(a.put(url, policyId=a.policy_id()))["properties"]
        assert configured["extendedInfo"]["propertyBag"] == {
            "Policy Name": POLICY,
            "ContainerUniqueName": "compute;rg-sql;sqlvm1",
        }
        deleted = a.job(a.ask("DELETE", a.item("new")))["properties"]
        assert deleted["extendedInfo"]["propertyBag"] == {"ContainerUniqueName": "Compute;rg-sql;sqlvm1"}
        container = a.get(a.container())["properties"]["extendedInfo"]["inquiryInfo"]["inquiryDetails"][0]
        assert "protectableItemCount" not in container["inquiryValidation"]


def test_a_scenario_chooses_an_older_services_shapes() -> None:
    with azure(protected("orders", serviceVersion="2021-05")) as a:
        answer = a.ask("GET", a.item())
        assert answer.headers["Content-Type"] == "application/json"
        assert "kpisHealths" in answer.json()["properties"]
        assert a.job(a.backup())["properties"]["actionsInfo"] == [1]


def test_the_location_of_an_unregistration_is_that_of_2024() -> None:
    with azure(protected({"name": "orders", "protectedBy": None, "historyDays": 0})) as a:
        answer = a.ask("DELETE", a.container())
        assert answer.status_code == 202
        assert "?fabricName=Azure%3fapi-version%3d2024-04-01&t=" in answer.headers["Location"]
        assert a.ask("GET", answer.headers["Location"]).status_code == 202
        a.wait(600)
        assert a.ask("GET", answer.headers["Location"]).status_code == 204


def test_request_ids_come_back_unasked_and_errors_name_their_cause() -> None:
    with azure(protected("orders")) as a:
        answer = a.ask("GET", a.item(), headers={"x-ms-client-request-id": "mine"})
        assert answer.headers["x-ms-client-request-id"] == "mine"
        assert "x-ms-failure-cause" not in answer.headers
        assert a.ask("GET", a.item("nothing")).headers["x-ms-failure-cause"] == "service"
        gone = a.vault.replace("rg-backup", "nowhere")
        assert a.ask("GET", gone).headers["x-ms-failure-cause"] == "gateway"


# ---- files and recovery points


def test_databases_have_the_files_that_sql_server_gives_them() -> None:
    files = [
        {"type": "Data", "logicalName": "orders", "path": "F:\\data\\orders.mdf"},
        {"type": "Data", "logicalName": "orders_2", "path": "F:\\data\\orders_2.ndf"},
        {"type": "Log", "logicalName": "orders_log", "path": "G:\\log\\orders_log.ldf"},
    ]
    with azure(protected("msdb", {"name": "orders", "files": files})) as a:

        def shown(database: str) -> list[dict[str, str]]:
            point = a.points(database)[0]["name"]
            found: list[dict[str, str]] = a.get(f"{a.item(database)}/recoveryPoints/{point}")["properties"][
                "extendedInfo"
            ]["dataDirectoryPaths"]
            return found

        assert [(file["type"], file["logicalName"]) for file in shown("msdb")] == [
            ("Data", "MSDBData"),
            ("Log", "MSDBLog"),
        ]
        assert shown("orders") == [
            {"type": f["type"], "path": f["path"], "logicalName": f["logicalName"]} for f in files
        ]
        mapping = [
            {
                "mappingType": file["type"],
                "sourceLogicalName": file["logicalName"],
                "sourcePath": file["path"],
                "targetPath": file["path"].replace("orders", "copy"),
            }
            for file in files
        ]
        assert (
            a.job(a.restore("orders", alternateDirectoryPaths=mapping))["properties"]["status"] == "Completed"
        )


def test_recovery_points_tell_their_tier_and_their_expiry() -> None:
    with azure(protected("orders")) as a:
        *snapshots, logs = a.points()
        for point in snapshots:
            properties = point["properties"]
            assert properties["recoveryPointTierDetails"] == [{"type": "HardenedRP", "status": "Valid"}]
            assert properties["recoveryPointMoveReadinessInfo"]["ArchivedRP"]["isReadyForMove"] is False
            kept = properties["recoveryPointProperties"]
            assert kept["isSoftDeleted"] is False
            assert kept["ruleName"] == "Daily"
            assert re.fullmatch(r"2026-0\d-\d\dT\d\d:\d\d:\d\d\.0000000Z", kept["expiryTime"])
        assert set(logs["properties"]) == {"objectType", "timeRanges", "type"}
        single = a.get(f"{a.item()}/recoveryPoints/{snapshots[0]['name']}")["properties"]
        assert single["extendedInfo"]["snapshotRecoveryPointInfo"] == {}


ARCHIVED = protected({"name": "orders", "archivedAfterDays": 2, "historyDays": 10})


def test_archived_recovery_points_are_listed_and_refuse_a_plain_restore() -> None:
    with azure(ARCHIVED) as a:
        tiers = [
            point["properties"]["recoveryPointTierDetails"][0]["type"]
            for point in a.points()
            if point["properties"]["type"] == "Full"
        ]
        assert tiers[:1] == ["HardenedRP"]
        assert tiers[-1:] == ["ArchivedRP"]
        old = a.points()[-2]["name"]
        assert a.restore(point=old).status_code == 400


def test_a_restore_from_before_a_moment_names_the_archive_tier(estate: OpenEstate) -> None:
    """Fulls are archived after 45 days at the earliest, logs are kept for 35 at most: no log goes back to them."""
    policy = long_term_policy()
    history = {"protectedBy": policy["name"], "historyDays": 60, "archivedAfterDays": 45}
    machine = virtual_machine("sqlvm1", {"name": "orders", **history}, registeredTo="vault1")
    az = estate({"virtualMachines": [machine], "vaults": [{"name": "vault1", "policies": [POLICY, policy]}]})
    (outcome,) = az.run(az.restore("orders", "copy", recoveryPoint={"before": "2025-11-12T00:00:00Z"}))
    assert outcome["data"]["status"] == "failed"
    assert outcome["data"]["error"]["code"] == "RecoveryPointNotFound"
    assert "archive" in outcome["data"]["error"]["message"].lower()
    assert az.mutations["Restore"] == 0
    for before in ("2025-12-01T00:00:00Z", "2025-12-30T00:00:00Z"):
        (outcome,) = az.run(az.restore("orders", f"copy{before[:10]}", recoveryPoint={"before": before}))
        assert outcome["data"]["status"] == "succeeded"


def long_term_policy() -> dict[str, Any]:
    """Daily fulls kept for a year, hourly logs for 30 days."""
    at = "2026-01-04T18:00:00Z"
    full = {
        "policyType": "Full",
        "schedulePolicy": {
            "schedulePolicyType": "SimpleSchedulePolicy",
            "scheduleRunFrequency": "Daily",
            "scheduleRunTimes": [at],
        },
        "retentionPolicy": {
            "retentionPolicyType": "LongTermRetentionPolicy",
            "dailySchedule": {
                "retentionTimes": [at],
                "retentionDuration": {"count": 365, "durationType": "Days"},
            },
        },
    }
    log = {
        "policyType": "Log",
        "schedulePolicy": {"schedulePolicyType": "LogSchedulePolicy", "scheduleFrequencyInMins": 60},
        "retentionPolicy": {
            "retentionPolicyType": "SimpleRetentionPolicy",
            "retentionDuration": {"count": 30, "durationType": "Days"},
        },
    }
    settings = {"timeZone": "UTC"}
    return {
        "name": "LongTerm",
        "properties": {
            "workLoadType": "SQLDataBase",
            "settings": settings,
            "subProtectionPolicy": [full, log],
        },
    }


# ---- soft delete


def test_soft_delete_is_always_on_for_14_to_180_days() -> None:
    """azure-docs backup/secure-by-default, 2025-11."""
    with azure(protected("orders")) as a:
        config = "/backupconfig/vaultconfig"
        refused = a.ask("PUT", config, {"properties": {"softDeleteFeatureState": "Disabled"}})
        assert (refused.status_code, refused.json()["error"]["code"]) == (
            400,
            "BMSUserErrorSoftDeleteStateAlwaysOn",
        )
        for days, status in ((13, 400), (181, 400), (30, 200)):
            body = {"properties": {"softDeleteRetentionPeriodInDays": days}}
            assert a.ask("PATCH", config, body).status_code == status
        assert a.get(config)["properties"]["softDeleteRetentionPeriodInDays"] == 30
        a.ask("DELETE", a.item())
        a.wait(20 * 86400)
        (item,) = a.get("/backupProtectedItems")["value"]
        assert item["properties"]["isScheduledForDeferredDelete"] is True
        assert item["properties"]["deferredDeleteTimeRemaining"].startswith("10.")
        settings = {"softDeleteSettings": {"softDeleteState": "Disabled"}}
        patched = a.ask("PATCH", a.vault, {"properties": {"securitySettings": settings}})
        assert patched.json()["error"]["code"] == "BMSUserErrorSoftDeleteStateAlwaysOn"


# ---- the client


@pytest.mark.parametrize("code", ["RestApiInternalError", "CloudInternalError", "AnotherInternalError"])
def test_an_internal_error_of_a_read_is_not_the_operations(estate: OpenEstate, code: str) -> None:
    """34 recorded on reads, 21 of them RestApiInternalError; the operation went on."""
    fault = {
        "route": "OperationStatus",
        "fault": "status",
        "nth": list(range(1, 8)),
        "status": 500,
        "code": code,
    }
    machine = virtual_machine("sqlvm1", {"name": "orders", "protectedBy": POLICY}, registeredTo="vault1")
    az = estate({"virtualMachines": [machine], "faults": [fault]})
    assert statuses(az.run(az.backup("orders"))) == {"succeeded": 1}


def test_an_internal_error_in_place_of_a_result_is_checked_against_the_status(estate: OpenEstate) -> None:
    """A result that is an error may be the operation's own, or the service's: its status tells."""
    fault = {
        "route": "OperationResult",
        "fault": "status",
        "nth": list(range(1, 30)),
        "status": 500,
        "code": "AnotherInternalError",
    }
    az = estate({"virtualMachines": [virtual_machine("sqlvm1", "orders")], "faults": [fault]})
    assert statuses(az.run(az.protect("orders"))) == {"succeeded": 1}
    assert az.mutations["Register"] == 1
