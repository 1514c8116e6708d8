"""One wrong entry of a listing, of whatever kind: it is named, and everything else goes on.

What may be wrong follows azure-mgmt-recoveryservicesbackup 11.2.0, in whose models nearly everything is optional.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from local.estate import JsonObject
from shared.arm.transport import RawAnswer
from shared.azure_backup.listings import unusable_entries
from tests.e2e.harness import virtual_machine
from tests.faults.estate import Plan, open_faulty, protected_estate
from tests.faults.observing import run

DATABASES = ("db1", "db2", "db3", "db4")
OTHERS = {name: "succeeded" for name in DATABASES if name != "db3"}
LONG = "x" * 600


def one_wrong(listing: str, about: str, wrong: JsonObject | str | int | None) -> Plan:
    """The entry of a listing that is about `about` has these fields instead, or is this instead.

    A field with a dot is one of its properties.
    """

    def mangle(_: str, path: str, answer: RawAnswer) -> RawAnswer:
        if not path.endswith(listing) or answer.status != 200:
            return answer
        body = json.loads(answer.body)
        body["value"] = [spoilt(entry) if about in json.dumps(entry) else entry for entry in body["value"]]
        return RawAnswer(answer.status, answer.headers, json.dumps(body).encode())

    def spoilt(entry: JsonObject) -> Any:
        if not isinstance(wrong, dict):
            return wrong
        for name, value in wrong.items():
            holder, _, field = name.rpartition(".")
            (entry[holder] if holder else entry)[field] = value
        return entry

    return Plan(mangle=mangle)


UNREADABLE = [
    {"properties.lastBackupTime": "yesterday"},
    {"properties.lastBackupTime": {"at": 5}},
    {"properties.protectionState": ["Protected"]},
    {"properties.isScheduledForDeferredDelete": "perhaps"},
    {"properties.friendlyName": {"a": {"b": 1}}},
    {"properties.friendlyName": None},
    {"properties.friendlyName": LONG},
    {"properties.parentName": LONG},
    {"properties.lastBackupErrorDetail": {"code": {"a": []}}},
    {"properties.extendedInfo": {"recoveryModel": {"a": 1}}},
    {"properties": "text"},
    {"properties": None},
]


@pytest.mark.parametrize("wrong", UNREADABLE, ids=str)
def test_a_protected_item_that_cannot_be_read_is_skipped_by_name(wrong: JsonObject) -> None:
    plan = one_wrong("/backupProtectedItems", "db3", wrong)
    with open_faulty(protected_estate(*DATABASES), plan) as azure:
        request = azure.backup("*")
        ended = {outcome["database"]: outcome["status"] for outcome in run(azure, request)}
        assert ended == OTHERS
        (accepted,) = [event for event in azure.events() if ".accepted." in event["type"]]
        assert accepted["data"]["skipped"] == {"notReadable": 1}
        (named,) = accepted["data"]["skippedNames"]
        assert "db3" in named or "xxx" in named
        assert azure.mutations["Backup"] == len(OTHERS)


@pytest.mark.parametrize("whole", [7, None, "text", [], True, {}])
def test_what_is_no_protected_item_is_counted_and_called_by_its_place(whole: Any) -> None:
    plan = one_wrong("/backupProtectedItems", "db3", whole)
    with open_faulty(protected_estate(*DATABASES), plan) as azure:
        request = azure.backup("*")
        ended = {outcome["database"]: outcome["status"] for outcome in run(azure, request)}
        assert ended == OTHERS or whole == {}
        (accepted,) = [event for event in azure.events() if ".accepted." in event["type"]]
        if whole != {}:
            assert accepted["data"]["skipped"] == {"notReadable": 1}
            assert "entry" in accepted["data"]["skippedNames"][0]


def test_named_outright_it_fails_with_the_reason() -> None:
    wrong = {"properties.lastBackupTime": "yesterday"}
    with open_faulty(protected_estate(*DATABASES), one_wrong("/backupProtectedItems", "db3", wrong)) as azure:
        for request in (azure.backup("db3"), azure.restore("db3", "copy")):
            (outcome,) = run(azure, request)
            assert (outcome["status"], outcome["error"]["code"]) == ("failed", "NotReadable")
            assert "properties.lastBackupTime" in outcome["error"]["message"]
        assert azure.mutations == {}


@pytest.mark.parametrize("wrong", [7, None, {"name": None, "properties": 3}, {"properties.parentName": [1]}])
def test_a_protectable_item_that_cannot_be_read_harms_no_other(wrong: Any) -> None:
    scenario = protected_estate("db1")
    scenario["virtualMachines"] = [virtual_machine("sqlvm1", *DATABASES, registeredTo="vault1")]
    with open_faulty(scenario, one_wrong("/backupProtectableItems", ";db3", wrong)) as azure:
        ended = {outcome["database"]: outcome["status"] for outcome in run(azure, azure.protect("*"))}
        assert ended == OTHERS


@pytest.mark.parametrize(
    "wrong", [7, None, {"name": None}, {"properties": "x"}, {"properties.containerId": 5}]
)
@pytest.mark.parametrize("listing", ["/backupProtectionContainers", "/protectableContainers"])
def test_another_machine_that_cannot_be_read_harms_no_other(listing: str, wrong: Any) -> None:
    machines = [virtual_machine(name, *DATABASES) for name in ("sqlvm1", "sqlvm2")]
    scenario = {**protected_estate("db1"), "virtualMachines": machines}
    with open_faulty(scenario, one_wrong(listing, "sqlvm2", wrong)) as azure:
        ended = {outcome["status"] for outcome in run(azure, azure.protect("*"))}
        assert ended == {"succeeded"}


def test_the_machine_itself_whose_container_cannot_be_read_is_not_registered_again() -> None:
    wrong = {"properties.sourceResourceId": 5, "properties.extendedInfo": "x"}
    plan = one_wrong("/backupProtectionContainers", "sqlvm1", wrong)
    with open_faulty(protected_estate("db1"), plan) as azure:
        (outcome,) = run(azure, azure.protect("*"))
        assert outcome["error"]["code"] == "NotReadable"
        assert azure.mutations == {}


@pytest.mark.parametrize(
    "wrong",
    [
        7,
        None,
        {"name": None, "id": None},
        {"properties": "x"},
        {"properties.duration": 5, "properties.startTime": "then"},
        {"properties.status": {"a": 1}, "properties.errorDetails": "none"},
        {"properties.activityId": 5, "properties.entityFriendlyName": []},
        {"properties.extendedInfo": {"propertyBag": {"a": {"b": [1]}, "c": True}, "tasksList": 7}},
    ],
    ids=str,
)
def test_a_job_that_cannot_be_read_harms_no_other(wrong: Any) -> None:
    with open_faulty(protected_estate(*DATABASES), one_wrong("/backupJobs", "db3", wrong)) as azure:
        ended = {outcome["database"]: outcome["status"] for outcome in run(azure, azure.backup("*"))}
        assert {name: ended[name] for name in OTHERS} == OTHERS
        assert azure.mutations["Backup"] == len(DATABASES)


@pytest.mark.parametrize("wrong", [7, {"properties": []}, {"properties.protectedItemsCount": "many"}])
def test_another_policy_that_cannot_be_read_harms_no_request(wrong: Any) -> None:
    scenario = protected_estate("db1", vaults=[{"policies": ["HourlyLogBackup", "other"]}])
    scenario["virtualMachines"] = [virtual_machine("sqlvm1", "db1", registeredTo="vault1")]
    with open_faulty(scenario, one_wrong("/backupPolicies", "/other", wrong)) as azure:
        (outcome,) = run(azure, azure.protect("db1"))
        assert outcome["status"] == "succeeded"


def test_a_policy_that_cannot_be_read_is_neither_used_nor_overwritten() -> None:
    scenario = protected_estate("db1", vaults=[{"policies": ["HourlyLogBackup", "other"]}])
    wrong = {"properties.backupManagementType": 7, "properties.protectedItemsCount": "many"}
    create = {"full": {"time": "18:00", "retentionDays": 30}}
    with open_faulty(scenario, one_wrong("/backupPolicies", "/other", wrong)) as azure:
        (outcome,) = run(azure, azure.protect("db1", policyName="other", createPolicy=create))
        assert (outcome["status"], outcome["error"]["code"]) == ("failed", "PolicyNotSupported")
        assert "protectedItemsCount" in outcome["error"]["message"]
        assert azure.mutations == {}


@pytest.mark.parametrize("wrong", [{"properties.recoveryPointTierDetails": "x"}, {"properties": 7}, 7])
def test_a_recovery_point_that_cannot_be_read_is_avoided_and_named(
    wrong: Any,
) -> None:
    scenario = protected_estate("db1")
    with open_faulty(scenario, one_wrong("/recoveryPoints", '"Full"', wrong)) as azure:
        request = azure.restore("db1", "copy", recoveryPoint={"latest": "full"})
        (outcome,) = run(azure, request)
        assert outcome["error"]["code"] == "RecoveryPointNotFound"
        assert "Not readable: " in outcome["error"]["message"]
        (outcome,) = run(azure, azure.restore("db1", "copy", recoveryPoint={"latest": "any"}))
        assert (outcome["status"], outcome["recoveryPoint"]["kind"]) == ("succeeded", "Log")


def test_a_job_with_nested_values_has_its_outcome() -> None:
    """A property bag holds texts; what is none is shown as JSON, and keeps nobody from the job's end."""
    odd = {"a": {"b": [1]}, "c": True, "d": 4.5, "e": None}

    def mangle(_: str, path: str, answer: RawAnswer) -> RawAnswer:
        if "/backupJobs/" not in path or answer.status != 200:
            return answer
        body = json.loads(answer.body)
        body["properties"]["extendedInfo"]["propertyBag"] |= odd
        return RawAnswer(answer.status, answer.headers, json.dumps(body).encode())

    with open_faulty(protected_estate("db1"), Plan(mangle=mangle)) as azure:
        (outcome,) = run(azure, azure.backup("db1"))
        assert outcome["status"] == "succeeded"


# ---- names


def entries(*names: str) -> list[JsonObject]:
    return [{"id": "", "name": "x", "properties": {"friendlyName": name}} for name in names]


def test_names_that_print_alike_are_not_the_same() -> None:
    alike = ["a\nb", "a\\nb", "a\\x0ab", LONG + "1", LONG + "2"]
    found = [unusable_entries(body, "NotReadable", "is odd", position=1)[0] for body in entries(*alike)]
    assert len({one.name for one in found}) == len(alike)
    assert found[0].shown == found[1].shown == "a\\nb"
    assert all(one.shown.isprintable() and len(one.name) <= 512 for one in found)


# ---- instances that are protected as a whole, and policies for them


def with_whole_instance() -> JsonObject:
    scenario = protected_estate("db1")
    (machine,) = scenario["virtualMachines"]
    whole = {"name": "WHOLE", "protectedBy": "HourlyLogBackup", "databases": [{"name": "a"}, {"name": "b"}]}
    return {**scenario, "virtualMachines": [{**machine, "instances": [*machine["instances"], whole]}]}


def on_whole(azure: Any, operation: str, database: str) -> JsonObject:
    if operation == "restore":
        request: JsonObject = azure.restore(database, "copy")
        request["data"]["instance"] = "WHOLE"
        return request
    request = getattr(azure, operation)(database)
    request["data"]["databases"] = [{"instance": "WHOLE", "database": database}]
    return request


@pytest.mark.parametrize("operation", ["protect", "backup", "restore"])
@pytest.mark.parametrize("database", ["a", "B"])
@pytest.mark.parametrize("listing", ["databases", "instance", "instance without names"])
def test_nothing_is_done_to_a_database_of_a_whole_instance(
    operation: str, database: str, listing: str
) -> None:
    """The service may list its databases, the instance with their names, or the instance alone."""
    with open_faulty(with_whole_instance(), listed_as(listing)) as azure:
        (outcome,) = run(azure, on_whole(azure, operation, database))
        assert (outcome["status"], outcome["error"]["code"]) == ("failed", "ProtectedAsInstance")
        # To look again for what was not found changes nothing.
        assert set(azure.mutations) <= {"Inquire"}


def listed_as(how: str) -> Plan:
    """Another form of the listing of protected items."""
    if how == "databases":
        return Plan()

    def mangle(_: str, path: str, answer: RawAnswer) -> RawAnswer:
        if not path.endswith("/backupProtectedItems") or answer.status != 200:
            return answer
        body = json.loads(answer.body)
        inside = [entry for entry in body["value"] if entry["properties"]["parentName"] == "WHOLE"]
        others = [entry for entry in body["value"] if entry not in inside]
        whole = json.loads(json.dumps(inside[0]))
        whole["id"] = whole["id"].replace("SQLDataBase;whole;a", "SQLInstance;whole")
        whole["name"] = "SQLInstance;whole"
        whole["properties"] |= {
            "friendlyName": "WHOLE",
            "protectedItemType": "AzureVmWorkloadSQLInstance",
            **({"childDatabaseNameList": ["a", "b"]} if how == "instance" else {}),
        }
        body["value"] = [whole, *others]
        return RawAnswer(answer.status, answer.headers, json.dumps(body).encode())

    return Plan(mangle=mangle)


@pytest.mark.parametrize("listing", ["databases", "instance", "instance without names"])
def test_a_pattern_passes_over_a_whole_instance(listing: str) -> None:
    with open_faulty(with_whole_instance(), listed_as(listing)) as azure:
        request = azure.backup("*")
        request["data"]["databases"] = [{"instance": "*", "database": "*"}]
        (outcome,) = run(azure, request)
        assert (outcome["database"], outcome["status"]) == ("db1", "succeeded")
        (accepted,) = [event for event in azure.events() if ".accepted." in event["type"]]
        assert list(accepted["data"]["skipped"]) == ["protectedAsInstance"]
        assert all(name.startswith("WHOLE/") for name in accepted["data"]["skippedNames"])


def test_what_a_whole_instance_has_got_since_is_not_protected_one_by_one() -> None:
    with open_faulty(with_whole_instance(), listed_as("instance without names")) as azure:
        request = azure.protect("*")
        request["data"]["databases"] = [{"instance": "WHOLE", "database": "*"}]
        outcomes = run(azure, request)
        assert azure.mutations.get("ConfigureBackup", 0) == 0
        assert {outcome["status"] for outcome in outcomes} <= {"skipped", "failed"}


POLICIES: list[JsonObject] = [
    {"workLoadType": "SQLInstance"},
    {"vmWorkloadPolicyType": "SnapshotV1"},
    {"vmWorkloadPolicyType": "SnapshotV2"},
    {"subProtectionPolicy": [{"policyType": "SnapshotFull"}]},
]


@pytest.mark.parametrize("kind", POLICIES, ids=str)
def test_a_policy_that_streams_no_databases_is_neither_used_nor_overwritten(kind: JsonObject) -> None:
    properties = {"workLoadType": "SQLDataBase", "subProtectionPolicy": [], **kind}
    vaults = [{"policies": ["HourlyLogBackup", {"name": "Fast", "properties": properties}]}]
    create = {"full": {"time": "18:00", "retentionDays": 30}}
    with open_faulty(protected_estate("db1", vaults=vaults)) as azure:
        wanted: tuple[dict[str, Any], ...] = ({}, {"createPolicy": create})
        for more in wanted:
            (outcome,) = run(azure, azure.protect("db1", policyName="Fast", **more))
            assert (outcome["status"], outcome["error"]["code"]) == ("failed", "PolicyNotSupported")
        assert azure.mutations == {}
