"""What is met in real estates: vaults and policies to be made, stopped and soft-deleted items, odd targets."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from local.estate import ask_by_hand
from tests.e2e.harness import (
    INSTANCE,
    POLICY,
    Estate,
    OpenEstate,
    error_of,
    item_path,
    selectors,
    virtual_machine,
)

PROTECTED = {"name": "orders", "protectedBy": POLICY, "historyDays": 3}


def an_operator_puts(azure: Estate, database: str, properties: dict[str, Any]) -> None:
    """What somebody does to a protected item in the portal, done to its end."""
    azure.by_hand("PUT", item_path(database), {"properties": properties})
    azure.clock.advance(timedelta(minutes=10))


def an_operator_deletes(azure: Estate, database: str) -> None:
    """Stop protection and delete the backups, in the portal."""
    azure.by_hand("DELETE", item_path(database))
    azure.clock.advance(timedelta(minutes=10))


@pytest.fixture
def azure(estate: OpenEstate) -> Estate:
    """One VM with a protected database that has a history, and one that is not protected."""
    return estate(
        {
            "virtualMachines": [
                virtual_machine("sqlvm1", PROTECTED, "billing", registeredTo="vault1"),
                virtual_machine("sqlvm2", "ledger"),
            ]
        },
        {
            "RESTORE_ALLOW_OVERWRITE": "true",
            "RESTORE_ALLOWED_TARGETS": '["*"]',
            "RESTORE_ALLOWED_PATHS": '["F:\\\\restores\\\\*"]',
        },
    )


def test_a_vault_and_a_policy_are_made_where_there_are_none(azure: Estate) -> None:
    vault_id = azure.vault_id.replace("vault1", "vault9")
    (outcome,) = azure.run(
        azure.protect(
            "ledger",
            vm="sqlvm2",
            vaultId=vault_id,
            policyName="Weekly",
            createVault={"location": "westeurope", "redundancy": "ZoneRedundant", "tags": {"team": "dba"}},
            createPolicy={
                "full": {"frequency": "Weekly", "days": ["Sunday"], "time": "02:00", "retentionDays": 84},
                "differential": {"days": ["Wednesday"], "time": "02:00", "retentionDays": 30},
                "log": {"everyMinutes": 15, "retentionDays": 14},
            },
            firstBackup="now",
        )
    )
    data = outcome["data"]
    assert (data["status"], data["policyName"], data["protectionState"]) == (
        "succeeded",
        "Weekly",
        "Protected",
    )
    assert data["vaultId"] == vault_id
    assert azure.mutations["Backup"] == 1
    policy = json.loads(ask_by_hand(azure.simulator, "GET", f"{vault_id}/backupPolicies/Weekly").body)[
        "properties"
    ]
    assert [part["policyType"] for part in policy["subProtectionPolicy"]] == ["Full", "Differential", "Log"]
    vault = json.loads(ask_by_hand(azure.simulator, "GET", vault_id).body)
    assert vault["tags"] == {"team": "dba"}
    assert vault["properties"]["redundancySettings"]["standardTierStorageRedundancy"] == "ZoneRedundant"


@pytest.mark.parametrize("month", ["2019-06", "2021-06", "2026-07"])
def test_a_vault_is_made_whatever_the_year(estate: OpenEstate, month: str) -> None:
    """Since 2026 a vault is made in the background: it answers 201 and is `Provisioning` for a while."""
    azure = estate({"serviceVersion": month, "virtualMachines": [virtual_machine("sqlvm1", "orders")]})
    vault_id = azure.vault_id.replace("vault1", "vault9")
    create = {"location": "westeurope", "redundancy": "LocallyRedundant"}
    policy = {"full": {"time": "18:00", "retentionDays": 30}}
    (outcome,) = azure.run(
        azure.protect("orders", vaultId=vault_id, policyName="New", createVault=create, createPolicy=policy)
    )
    assert outcome["data"]["status"] == "succeeded", outcome["data"]
    assert azure.mutations["PutVault"] == 1


def test_another_policy_fails_is_kept_or_is_changed_as_asked(azure: Estate) -> None:
    made: dict[str, Any] = {
        "createPolicy": {"full": {"time": "18:00", "retentionDays": 30}},
        "policyName": "Other",
    }
    (failed,) = azure.run(azure.protect("orders", **made))
    status, code, message = error_of(failed)
    assert (status, code) == ("failed", "ProtectedByAnotherPolicy")
    assert POLICY in message and "onExisting" in message
    (kept,) = azure.run(azure.protect("orders", policyName="Other", onExisting="keep"))
    assert (kept["data"]["status"], kept["data"]["policyName"]) == ("succeeded", POLICY)
    assert azure.mutations["ConfigureBackup"] == 0
    (changed,) = azure.run(azure.protect("orders", policyName="Other", onExisting="changePolicy"))
    assert (changed["data"]["status"], changed["data"]["policyName"]) == ("succeeded", "Other")
    assert azure.mutations["ConfigureBackup"] == 1


def test_requests_for_the_same_database_at_once_all_end_well(azure: Estate) -> None:
    outcomes = azure.run(*(azure.protect("billing") for _ in range(6)))
    assert [outcome["data"]["status"] for outcome in outcomes] == ["succeeded"] * 6
    assert {outcome["data"]["policyName"] for outcome in outcomes} == {POLICY}


def test_a_policy_that_another_request_has_just_set_is_not_changed_unasked(azure: Estate) -> None:
    made: dict[str, Any] = {"createPolicy": {"full": {"time": "18:00", "retentionDays": 30}}}
    outcomes = azure.run(
        azure.protect("billing"),
        azure.protect("billing", policyName="Other", **made),
    )
    succeeded, failed = sorted(outcomes, key=lambda outcome: outcome["data"]["status"], reverse=True)
    assert succeeded["data"]["status"] == "succeeded"
    status, code, message = error_of(failed)
    assert (status, code) == ("failed", "ProtectedByAnotherPolicy")
    assert f"by policy {succeeded['data']['policyName']}, not by" in message
    assert azure.mutations["ConfigureBackup"] == 1


def test_another_operation_on_the_vm_is_waited_out(estate: OpenEstate) -> None:
    busy = [{"route": "Register", "nth": n, "fault": "status", "status": 409} for n in range(1, 11)]
    azure = estate({"virtualMachines": [virtual_machine("sqlvm1", "orders")], "faults": busy})
    (outcome,) = azure.run(azure.protect("orders"))
    assert outcome["data"]["status"] == "succeeded"
    assert azure.mutations["Register"] == 1


def test_another_operation_that_does_not_end_fails_the_request_in_time(estate: OpenEstate) -> None:
    busy = [{"route": "ConfigureBackup", "fault": "status", "status": 409, "code": "Busy"}]
    azure = estate({"virtualMachines": [virtual_machine("sqlvm1", "orders")], "faults": busy})
    (outcome,) = azure.run(azure.protect("orders"), within=timedelta(hours=4))
    assert error_of(outcome)[:2] == ("failed", "Busy")


def test_a_stopped_database_is_resumed_only_when_asked(azure: Estate) -> None:
    stopped = {"protectedItemType": "AzureVmWorkloadSQLDatabase", "protectionState": "ProtectionStopped"}
    an_operator_puts(azure, "orders", {**stopped, "policyId": ""})
    assert error_of(azure.run(azure.protect("orders"))[0])[:2] == ("failed", "ProtectionStopped")
    assert error_of(azure.run(azure.backup("orders"))[0])[:2] == ("failed", "ProtectionStopped")
    (skipped,) = azure.run(azure.backup())
    assert (skipped["data"]["status"], skipped["data"]["error"]["code"]) == ("skipped", "NothingToDo")
    accepted = [event for event in azure.events() if event["type"] == "sqlvmbackup.backup.accepted.v1"][-1]
    assert accepted["data"]["skipped"] == {"protectionStopped": 1}
    (resumed,) = azure.run(azure.protect("orders", resume=True))
    assert resumed["data"]["status"] == "succeeded"
    assert azure.run(azure.backup("orders"))[0]["data"]["status"] == "succeeded"


def test_a_soft_deleted_database_is_brought_back_only_when_asked(azure: Estate) -> None:
    an_operator_deletes(azure, "orders")
    assert error_of(azure.run(azure.protect("orders"))[0])[:2] == ("failed", "ItemSoftDeleted")
    assert error_of(azure.run(azure.backup("orders"))[0])[:2] == ("failed", "ItemSoftDeleted")
    assert error_of(azure.run(azure.restore("orders"))[0])[:2] == ("failed", "ItemSoftDeleted")
    (undeleted,) = azure.run(azure.protect("orders", undelete=True))
    assert undeleted["data"]["status"] == "succeeded"
    assert azure.mutations["Undelete"] == 1
    assert azure.run(azure.restore("orders", "orders_copy"))[0]["data"]["status"] == "succeeded"


def test_the_original_is_replaced_where_request_and_setting_both_say_so(azure: Estate) -> None:
    original: dict[str, Any] = {"target": {"kind": "original"}}
    assert error_of(azure.run(azure.restore("orders", **original))[0])[:2] == (
        "rejected",
        "OverwriteNotRequested",
    )
    (replaced,) = azure.run(azure.restore("orders", overwrite=True, **original))
    data = replaced["data"]
    assert (data["status"], data["target"]) == ("succeeded", {"kind": "original"})
    assert data["job"]["properties"]["Job Type"] == "Recovery to the original database"


def test_a_restore_over_an_existing_database_needs_overwrite(azure: Estate) -> None:
    status, code, message = error_of(azure.run(azure.restore("orders", "billing"))[0])
    assert (status, code) == ("rejected", "TargetDatabaseExists")
    assert f"{INSTANCE}/billing" in message
    assert azure.mutations["Restore"] == 0
    (replaced,) = azure.run(azure.restore("orders", "billing", overwrite=True))
    assert replaced["data"]["status"] == "succeeded"


def test_a_restore_as_files_goes_where_the_setting_allows(azure: Estate) -> None:
    def as_files(path: str) -> dict[str, Any]:
        return {"target": {"kind": "files", "vmId": azure.vm_id(), "path": path}}

    for path, why in (
        ("C:\\Windows", "PathNotAllowed"),
        ("F:\\restores\\..\\secret", "InvalidRequest"),
        ("\\\\share\\x", "PathNotAllowed"),
    ):
        refused = error_of(azure.run(azure.restore("orders", **as_files(path)))[0])
        assert refused[:2] == ("rejected", why)
    (restored,) = azure.run(azure.restore("orders", **as_files("F:\\restores\\today")))
    assert restored["data"]["status"] == "succeeded"
    (entry,) = [entry for entry in azure.simulator.ledger_entries if entry["route"] == "Restore"]
    assert entry["body"]["properties"]["recoveryMode"] == "FileRecovery"
    assert entry["body"]["properties"]["targetInfo"]["targetDirectoryForFileRestore"] == "F:\\restores\\today"


def test_files_go_where_the_request_says_and_recovery_waits_if_asked(azure: Estate) -> None:
    target = {
        "kind": "alternate",
        "vmId": azure.vm_id(),
        "instance": INSTANCE,
        "database": "orders2",
        "logDirectory": "L:\\logs",
        "files": [{"logicalName": "orders", "path": "D:\\data\\orders2.mdf"}],
    }
    (restored,) = azure.run(
        azure.restore("orders", recoveryPoint={"latest": "full"}, target=target, noRecovery=True)
    )
    assert restored["data"]["status"] == "succeeded"
    (entry,) = [entry for entry in azure.simulator.ledger_entries if entry["route"] == "Restore"]
    properties = entry["body"]["properties"]
    assert properties["isNonRecoverable"] is True
    placed = {part["sourceLogicalName"]: part["targetPath"] for part in properties["alternateDirectoryPaths"]}
    assert placed["orders"] == "D:\\data\\orders2.mdf"
    assert placed["orders_log"].startswith("L:\\logs\\")
    target["files"] = [{"logicalName": "stranger", "path": "D:\\x.mdf"}]
    status, code, message = error_of(azure.run(azure.restore("orders", target=target))[0])
    assert (status, code) == ("failed", "UnknownFile")
    assert "orders_log" in message


def test_a_target_that_is_not_registered_or_not_there_is_named(azure: Estate) -> None:
    status, code, message = error_of(
        azure.run(
            azure.restore(
                "orders", target={"kind": "alternate", "vmId": azure.vm_id("sqlvm2"), "instance": INSTANCE}
            )
        )[0]
    )
    assert (status, code) == ("failed", "TargetNotRegistered")
    assert azure.vm_id("sqlvm2") in message and azure.vm_id("sqlvm1") in message
    status, code, message = error_of(
        azure.run(
            azure.restore("orders", target={"kind": "alternate", "vmId": azure.vm_id(), "instance": "SALES"})
        )[0]
    )
    assert (status, code) == ("failed", "TargetInstanceNotFound")
    assert "SALES" in message and INSTANCE in message


def test_the_newest_moment_before_a_mishap_is_restored(azure: Estate) -> None:
    mishap = "2026-01-04T12:34:56.5Z"
    (restored,) = azure.run(azure.restore("orders", "before", recoveryPoint={"before": mishap}))
    assert restored["data"]["recoveryPoint"]["time"] == "2026-01-04T12:34:56Z"
    (latest,) = azure.run(azure.restore("orders", recoveryPoint={"latest": "full"}))
    assert latest["data"]["recoveryPoint"]["kind"] == "Full"
    chosen = latest["data"]["recoveryPoint"]["time"]
    stamp = "".join(character for character in chosen if character.isdigit())
    assert latest["data"]["target"]["database"] == f"orders_restored_{stamp}"


def test_a_log_backup_by_pattern_passes_over_the_simple_recovery_model(estate: OpenEstate) -> None:
    azure = estate(
        {
            "virtualMachines": [
                virtual_machine(
                    "sqlvm1",
                    PROTECTED,
                    {"name": "cache", "recoveryModel": "Simple", "protectedBy": POLICY, "historyDays": 1},
                    registeredTo="vault1",
                )
            ]
        }
    )
    (outcome,) = azure.run(azure.backup(backup_type="Log"))
    assert (outcome["data"]["database"], outcome["data"]["status"]) == ("orders", "succeeded")
    accepted = [event for event in azure.events() if event["type"] == "sqlvmbackup.backup.accepted.v1"][-1]
    assert accepted["data"]["skipped"] == {"typeNotSupported": 1}
    assert accepted["data"]["skippedNames"] == [f"{INSTANCE}/cache"]
    assert error_of(azure.run(azure.backup("cache", backup_type="Log"))[0])[:2] == (
        "failed",
        "UserErrorSQLPODoesNotSupportBackupType",
    )


def test_names_are_found_in_any_case_and_each_database_once(azure: Estate) -> None:
    everything = [*selectors(["BILLING"]), *selectors(["billing"]), *selectors(["bill*"])]
    outcomes = azure.run(azure.protect(databases=everything, policyName=POLICY.upper()))
    assert [outcome["data"]["database"] for outcome in outcomes] == ["billing"]
    assert azure.mutations["ConfigureBackup"] == 1


EVERYTHING_ALLOWED = {
    "RESTORE_ALLOW_OVERWRITE": "true",
    "RESTORE_ALLOWED_TARGETS": '["*"]',
    "RESTORE_ALLOWED_PATHS": '["*"]',
}


def estate_of(
    estate: OpenEstate,
    *faults: dict[str, Any],
    vault: dict[str, Any] | None = None,
    settings: dict[str, str] | None = None,
    **vm: Any,
) -> Estate:
    """A VM with a protected database and one that is not, and a target for restores beside it."""
    return estate(
        {
            "vaults": [{"name": "vault1", **(vault or {})}],
            "virtualMachines": [
                virtual_machine("sqlvm1", PROTECTED, "billing", registeredTo="vault1", **vm),
                virtual_machine("sqlvm2", "ledger", registeredTo="vault1"),
            ],
            "faults": faults,
        },
        settings or {"RESTORE_ALLOWED_TARGETS": '["*"]'},
    )


@pytest.mark.parametrize(
    ("vault", "code", "advice"),
    [
        ({"resourceGuard": True}, "ProtectedByResourceGuard", "owner approve"),
        ({"immutability": "Locked"}, "UserErrorOperationDeniedOnImmutableItem", "at least as long"),
    ],
    ids=["resource guard", "immutable"],
)
def test_a_guarded_vault_refuses_a_shorter_retention_only(
    estate: OpenEstate, vault: dict[str, Any], code: str, advice: str
) -> None:
    azure = estate_of(estate, vault=vault)
    shorter: dict[str, Any] = {
        "createPolicy": {"full": {"time": "18:00", "retentionDays": 7}},
        "policyName": "Short",
    }
    (refused,) = azure.run(azure.protect("orders", onExisting="changePolicy", **shorter))
    assert error_of(refused)[:2] == ("failed", code)
    assert advice in " ".join(refused["data"]["error"]["recommendations"])
    assert azure.mutations["ConfigureBackup"] == 0
    assert azure.run(azure.protect("billing"))[0]["data"]["status"] == "succeeded"
    assert azure.run(azure.backup("orders"))[0]["data"]["status"] == "succeeded"


def guard_reads(azure: Estate) -> int:
    """How often the vault was asked for its resource guard."""
    return sum(entry["route"] == "ListResourceGuardProxies" for entry in azure.simulator.access_entries)


@pytest.mark.parametrize("target", ["original", "alternate", "files"])
def test_a_restore_that_a_resource_guard_guards_is_refused_before_it_is_sent(
    estate: OpenEstate, target: str
) -> None:
    azure = estate_of(estate, vault={"resourceGuard": True}, settings=EVERYTHING_ALLOWED)
    wanted: dict[str, dict[str, Any]] = {
        "original": {"target": {"kind": "original"}, "overwrite": True},
        "alternate": {"target": beside(azure)},
        "files": {"target": {"kind": "files", "vmId": azure.vm_id("sqlvm2"), "path": "F:\\restores\\orders"}},
    }
    (outcome,) = azure.run(azure.restore("orders", **wanted[target]))
    status, code, message = error_of(outcome)
    assert (status, code) == ("failed", "ProtectedByResourceGuard")
    assert "Microsoft.DataProtection/resourceGuards/vault1-guard" in message
    assert "owner approve" in " ".join(outcome["data"]["error"]["recommendations"])
    assert "Restore" not in {entry["route"] for entry in azure.simulator.access_entries}
    assert guard_reads(azure) == 1


def test_a_guard_that_leaves_restores_out_stops_none(estate: OpenEstate) -> None:
    azure = estate_of(estate, vault={"resourceGuard": ["deleteProtectedItemRequests"]})
    (outcome,) = azure.run(azure.restore("orders", "copy"))
    assert outcome["data"]["status"] == "succeeded"


def test_a_guard_that_is_linked_after_the_look_is_recognised_in_the_services_refusal(
    estate: OpenEstate,
) -> None:
    azure = estate_of(estate, {"route": "Restore", "fault": "throttle", "nth": 1, "retryAfter": 60})
    following = azure.send(azure.restore("orders", "copy"))
    azure.step_until(lambda: "Restore" in {entry["route"] for entry in azure.simulator.access_entries})
    guard = f"{azure.vault_id.rpartition('/providers/')[0]}/providers/Microsoft.DataProtection/resourceGuards/guard"
    link = {"properties": {"resourceGuardResourceId": guard}}
    azure.by_hand("PUT", "/backupResourceGuardProxies/VaultProxy", link)
    (outcome,) = azure.finish(following)
    status, code, message = error_of(outcome)
    assert (status, code) == ("failed", "ProtectedByResourceGuard")
    assert "ResourceGuard Operation requestid" in message
    assert "owner approve" in " ".join(outcome["data"]["error"]["recommendations"])
    assert azure.mutations["Restore"] == 0


@pytest.mark.parametrize("status", [400, 403, 404])
def test_where_the_guard_cannot_be_read_the_service_decides(estate: OpenEstate, status: int) -> None:
    unreadable = {
        "route": "ListResourceGuardProxies",
        "fault": "status",
        "status": status,
        "code": "AuthorizationFailed" if status == 403 else "NotSupported",
    }
    azure = estate_of(estate, unreadable)
    assert azure.run(azure.restore("orders", "copy"))[0]["data"]["status"] == "succeeded"
    azure = estate_of(estate, unreadable, vault={"resourceGuard": True})
    assert error_of(azure.run(azure.restore("orders", "copy"))[0])[:2] == (
        "failed",
        "ProtectedByResourceGuard",
    )


def test_a_guard_that_cannot_be_read_just_now_is_read_again(estate: OpenEstate) -> None:
    passing = {"route": "ListResourceGuardProxies", "fault": "status", "nth": [1, 2, 3, 4]}
    azure = estate_of(estate, passing, vault={"resourceGuard": True})
    assert error_of(azure.run(azure.restore("orders", "copy"))[0])[:2] == (
        "failed",
        "ProtectedByResourceGuard",
    )
    assert azure.mutations["Restore"] == 0


def test_a_vm_that_is_down_is_one_clear_error_for_each_operation(estate: OpenEstate) -> None:
    azure = estate_of(estate, running=False)
    for request in (azure.protect("billing"), azure.backup("orders"), azure.restore("orders", "copy")):
        (outcome,) = azure.run(request)
        assert error_of(outcome)[:2] == ("failed", "VMNotInRunningStateUserError")
        assert "running" in outcome["data"]["error"]["recommendations"][0]
    assert azure.run(azure.restore("orders", "copy", vm="sqlvm1", target=beside(azure)))[0]["data"][
        "status"
    ] == ("succeeded")


def beside(azure: Estate) -> dict[str, Any]:
    return {"kind": "alternate", "vmId": azure.vm_id("sqlvm2"), "instance": INSTANCE, "database": "copy"}


def test_of_a_deleted_vm_databases_are_restored_elsewhere_and_no_more(estate: OpenEstate) -> None:
    azure = estate_of(estate, deleted=True)
    for request in (azure.protect("billing"), azure.restore("orders", "copy")):
        status, code, message = error_of(azure.run(request)[0])
        assert (status, code) == ("failed", "VirtualMachineDeleted")
        assert azure.vm_id("sqlvm1") in message
    assert azure.mutations["Restore"] == 0
    assert azure.run(azure.restore("orders", target=beside(azure)))[0]["data"]["status"] == "succeeded"


@pytest.mark.parametrize(
    ("code", "message", "advice"),
    [
        ("UserErrorCannotFindServerCertificateWithThumbprint", "No certificate.", "server certificate"),
        ("UserErrorRestoreFailed", "Change Data Capture is enabled on the database.", "kind files"),
    ],
    ids=["TDE", "CDC"],
)
def test_what_a_database_needs_for_its_restore_is_said(
    estate: OpenEstate, code: str, message: str, advice: str
) -> None:
    fault = {
        "route": "Restore",
        "fault": "jobFailure",
        "code": code,
        "message": message,
        "recommendations": [" "],
    }
    azure = estate_of(estate, fault)
    (outcome,) = azure.run(azure.restore("orders", "copy"))
    assert error_of(outcome)[:2] == ("failed", code)
    assert advice in " ".join(outcome["data"]["error"]["recommendations"])


def test_an_auto_protected_instance_is_found_protected(azure: Estate) -> None:
    instance = (
        f"{azure.vault_id}/backupFabrics/Azure/protectionContainers/vmappcontainer;compute;rg-sql;sqlvm1"
    )
    intent = {
        "protectionIntentItemType": "RecoveryServiceVaultItem",
        "backupManagementType": "AzureWorkload",
        "itemId": f"{instance}/protectableItems/sqlinstance;mssqlserver",
        "policyId": f"{azure.vault_id}/backupPolicies/{POLICY}",
    }
    path = "/backupFabrics/Azure/backupProtectionIntent/00000000-0000-0000-0000-0000000000cc"
    azure.by_hand("PUT", path, {"properties": intent})
    azure.clock.advance(timedelta(minutes=10))
    (outcome,) = azure.run(azure.protect("billing"))
    assert (outcome["data"]["status"], outcome["data"]["policyName"]) == ("succeeded", POLICY)
    assert azure.run(azure.backup("billing"))[0]["data"]["status"] == "succeeded"
