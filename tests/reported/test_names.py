"""Names as people and servers have them: nothing that Azure lists is lost over how it is spelled.

Inputs come of public reports: databases with `%` (olahallengren/sql-server-maintenance-solution#169), names that
users type (#522 there), `[` in names (PR#1056 there), `%` and `/` in a path (Azure/azure-rest-api-specs#23982), a
policy with `_` (Azure/azure-powershell#13869), full host names (Azure/azure-powershell#9356); and of a recording of
2023, in which `id` is percent-encoded and `name` is not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import quote, unquote

import pytest

from cli.awaited_requests import AwaitedRequests
from cli.display import display
from cli.main import main
from cli.request_lines import read_request_lines
from local.estate import JsonObject
from local.simulator import estate as simulated
from shared.arm.ids import VaultId, VirtualMachineId
from shared.azure_backup.listings import Listing
from shared.azure_backup.models import ProtectedItem
from shared.azure_backup.operations import AzureBackup
from shared.messages.requests import BackupData
from shared.steps.backup_selection import BackupChoice, select_for_backup
from shared.steps.candidates import candidates
from shared.steps.selection import Selection
from tests.e2e.harness import (
    INSTANCE,
    POLICY,
    Estate,
    OpenEstate,
    estate,
    selectors,
    statuses,
    virtual_machine,
)
from tests.unit.arm.server import Answer, Server, client_of, serving

__all__ = ["estate"]

#: Names that SQL Server takes and that tools take apart, decode or match.
ODD = (
    "C#Training",
    "Why?",
    "dom\\app",
    "\\\\srv\\share",
    "Rebate50%ab",
    "Price10%de",
    "50%2foff",
    "50%25",
    "100%",
    "my db",
    " padded",
    "Кадры",
    "人事",
    "crème brûlée",
    "semi;colon",
    "SQLDataBase;x",
    "log[1]",
    "[brackets]",
    "what*",
    "it's",
    'say "hi"',
    "a+b",
    "a&b=c",
    "a@b:c",
    "a,b|c",
    "<tag>",
    "{curly}",
    "~tilde^`",
    "protectedItems",
    "sqlvm1",
    "x.y",
    "...",
)
#: What no path can carry: a slash is a slash to the service however it is quoted, and `..` climbs.
UNADDRESSABLE = ("reports/2025", "..", "a;..;b")


def protected_by(name: str, policy: str = POLICY, **details: Any) -> JsonObject:
    return {"name": name, "protectedBy": policy, "historyDays": 1, **details}


def registered(*databases: str, **scenario: Any) -> JsonObject:
    """An estate in which these databases are protected, with a day of backups."""
    machine = virtual_machine("sqlvm1", *map(protected_by, databases), registeredTo="vault1")
    return {"virtualMachines": [machine], **scenario}


def names_of(outcomes: Sequence[JsonObject], status: str = "succeeded") -> set[str]:
    return {outcome["data"].get("database") for outcome in outcomes if outcome["data"]["status"] == status}


def accepted(azure: Estate) -> JsonObject:
    """The data of the newest acceptance."""
    found: list[JsonObject] = [
        event["data"] for event in azure.events() if event["type"].endswith("accepted.v1")
    ]
    return found[-1]


Command = Callable[..., tuple[int, list[JsonObject], str]]


@pytest.fixture
def command(
    estate: OpenEstate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[[Estate], Command]]:
    """The command as typed, against an estate: exit status, rows, what went to standard error."""

    def of(azure: Estate) -> Command:
        monkeypatch.setenv("ARM_ENDPOINT", azure.url)
        monkeypatch.setenv("TIME_SCALE", "0.001")
        monkeypatch.setenv("TRACK_INTERVAL", "PT5S")

        def call(*arguments: str) -> tuple[int, list[JsonObject], str]:
            status = main(arguments)
            out, err = capsys.readouterr()
            return status, [json.loads(line) for line in out.splitlines()], err

        return call

    yield of


# -- nothing that Azure lists vanishes


def test_databases_of_any_name_are_protected_backed_up_and_restored(estate: OpenEstate) -> None:
    azure = estate({"virtualMachines": [virtual_machine("sqlvm1", *ODD)]})
    assert names_of(azure.run(azure.protect())) == set(ODD)
    assert names_of(azure.run(azure.backup())) == set(ODD)
    restores = [
        azure.restore(name, f"copy{number}", recoveryPoint={"latest": "full"})
        for number, name in enumerate(ODD)
    ]
    assert names_of(azure.run(*restores)) == set(ODD)
    backups = {entry["item"].rpartition(";")[2] for entry in azure.simulator.ledger_entries}
    assert "rebate50%ab" in backups


@pytest.mark.parametrize("name", ODD)
def test_a_database_of_any_name_can_be_named(estate: OpenEstate, name: str) -> None:
    azure = estate({"virtualMachines": [virtual_machine("sqlvm1", "orders", name)]})
    for request in (azure.protect(name), azure.backup(name), azure.restore(name, "copy")):
        assert names_of(azure.run(request)) == {name}
    (_, backup, _) = azure.simulator.ledger_entries[-3:]
    assert backup["route"] == "Backup"


def test_the_command_lists_databases_of_any_name(
    estate: OpenEstate, command: Callable[[Estate], Command]
) -> None:
    azure = estate(registered(*ODD, *UNADDRESSABLE))
    status, rows, _ = command(azure)("databases", "--vault", azure.vault_id)
    assert status == 0
    assert {row["database"] for row in rows} == {*ODD, *UNADDRESSABLE}
    odd = {row["database"]: row for row in rows if row["database"] in UNADDRESSABLE}
    assert {row["state"] for row in odd.values()} == {"Unusable"}
    assert all(row["reason"] for row in odd.values())


def test_a_vm_of_a_resource_group_that_is_not_ascii(
    estate: OpenEstate, command: Callable[[Estate], Command]
) -> None:
    # The group's name is of the recording.
    machine = virtual_machine("zvmtst-2", "orders", "Кадры", resourceGroup="ztst-中文名资源组")
    azure = estate({"virtualMachines": [machine]})
    assert statuses(azure.run(azure.protect(vm="zvmtst-2"))) == {"succeeded": 2}
    vm = azure.vm_id("zvmtst-2")
    assert statuses(azure.run(azure.backup(vmId=vm))) == {"succeeded": 2}
    assert statuses(azure.run(azure.protect(vm="zvmtst-2"))) == {"succeeded": 2}
    assert azure.mutations["Register"] == 1
    restored = azure.run(azure.restore("orders", "copy", vm="zvmtst-2", recoveryPoint={"latest": "full"}))
    assert statuses(restored) == {"succeeded": 1}
    status, rows, _ = command(azure)("databases", "--vault", azure.vault_id, "--vm", vm)
    assert (status, {row["database"] for row in rows}) == (0, {"orders", "Кадры"})


@pytest.mark.parametrize("name", UNADDRESSABLE)
def test_what_cannot_be_addressed_is_skipped_or_failed_by_its_name(estate: OpenEstate, name: str) -> None:
    azure = estate({"virtualMachines": [virtual_machine("sqlvm1", "orders", name)]})
    assert names_of(azure.run(azure.protect())) == {"orders"}
    assert accepted(azure)["skipped"] == {"notAddressable": 1}
    assert accepted(azure)["skippedNames"] == [f"{INSTANCE}/{name}"]
    (outcome,) = azure.run(azure.protect(name))
    assert (outcome["data"]["status"], outcome["data"]["database"]) == ("failed", name)
    assert outcome["data"]["error"]["code"] == "NotAddressable"


@pytest.mark.parametrize("name", UNADDRESSABLE)
def test_a_protected_database_that_cannot_be_addressed_is_not_backed_up_in_silence(
    estate: OpenEstate, command: Callable[[Estate], Command], name: str
) -> None:
    azure = estate(registered("orders", name))
    assert names_of(azure.run(azure.backup())) == {"orders"}
    assert accepted(azure)["skipped"] == {"notAddressable": 1}
    assert accepted(azure)["skippedNames"] == [f"{INSTANCE}/{name}"]
    for request in (azure.backup(name), azure.restore(name, "copy")):
        (outcome,) = azure.run(request)
        assert outcome["data"]["status"] == "failed"
        assert outcome["data"]["error"]["code"] == "NotAddressable"
        assert name in outcome["data"]["error"]["message"]
    call = command(azure)
    status, rows, _ = call("backup", "--vault", azure.vault_id, "--dry-run")
    assert status == 0
    assert {(row["database"], row["would"]) for row in rows} == {
        (f"{INSTANCE}/orders", "be backed up"),
        (f"{INSTANCE}/{name}", "be skipped"),
    }
    status, _, said = call("recovery-points", "--vault", azure.vault_id, "--database", f"{INSTANCE}/{name}")
    assert status == 1
    assert "cannot be addressed" in said


#: An entry of a list of protectable containers (azure-cli, test_backup_wl_sql_item.yaml, 2023-05-11).
RECORDED: JsonObject = {
    "id": "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/sql-clitest-rg/providers"
    "/Microsoft.RecoveryServices/vaults/sql-clitestvault-donotuse/backupFabrics/Azure/protectableContainers"
    "/VMAppContainer;Compute;ztst-%E4%B8%AD%E6%96%87%E5%90%8D%E8%B5%84%E6%BA%90%E7%BB%84;zvmtst-2",
    "name": "VMAppContainer;Compute;ztst-中文名资源组;zvmtst-2",
    "type": "Microsoft.RecoveryServices/vaults/backupFabrics/protectableContainers",
    "properties": {
        "friendlyName": "zvmtst-2",
        "backupManagementType": "AzureWorkload",
        "protectableContainerType": "VMAppContainer",
        "healthStatus": "Healthy",
        "containerId": "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/ztst-中文名资源组/providers"
        "/Microsoft.Compute/virtualMachines/zvmtst-2",
    },
}
PREFIX = RECORDED["id"].partition("/backupFabrics/")[0]
CONTAINER = f"{PREFIX}/backupFabrics/Azure/protectionContainers/VMAppContainer;Compute;rg-sql;sqlvm1"
GROUP = f"{PREFIX.partition('/resourceGroups/')[0]}/resourceGroups/rg-sql"
VM = f"{GROUP}/providers/Microsoft.Compute/virtualMachines/sqlvm1"


@pytest.fixture
def service() -> Iterator[tuple[Server, AzureBackup]]:
    """The app's client, and the server that plays the service's part."""
    with serving() as server, client_of(server.url) as arm:
        yield server, AzureBackup(arm)


def listed(service: tuple[Server, AzureBackup], *entries: JsonObject) -> Listing[ProtectedItem]:
    """What the client makes of a list of protected items."""
    server, backup = service
    server.answer(Answer(200, {"value": list(entries)}))
    return backup.list_protected_items(VaultId.parse(PREFIX))


def item(last: str, name: str, **properties: Any) -> JsonObject:
    """A protected item as it is listed: the last segment of its id, and its name."""
    friendly = name.rpartition("mssqlserver;")[2]
    described = {"friendlyName": friendly, "parentName": INSTANCE, "sourceResourceId": VM, **properties}
    return {"id": f"{CONTAINER}/protectedItems/{last}", "name": name, "properties": described}


def test_a_recorded_container_whose_id_is_encoded_is_registered_by_its_name(
    service: tuple[Server, AzureBackup],
) -> None:
    server, backup = service
    vault = VaultId.parse(PREFIX)
    server.answer(Answer(200, {"value": [RECORDED]}))
    (offered,) = backup.list_protectable_containers(vault)
    server.answer(Answer(202, None, {}))
    backup.register_container(vault, offered, client_request_id="73716c62-0000-8000-8000-000000000001")
    put = server.requests[-1]
    assert put.path.endswith(f"/protectionContainers/{RECORDED['name']}")
    # Registered, it is listed in the same way.
    registered = {**RECORDED, "id": RECORDED["id"].replace("protectableContainers", "protectionContainers")}
    registered["properties"] = {"sourceResourceId": RECORDED["properties"]["containerId"].upper()}
    server.answer(Answer(200, {"value": [registered]}))
    (container,), unusable = backup.list_registered_containers(vault)
    assert unusable == []
    assert container.id.name == RECORDED["name"]
    assert container.virtual_machine_id == offered.virtual_machine_id


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize(
    "as_sent", [quote, lambda text: text, lambda text: quote(text, safe="#?[]@!$&'()*+,;=")]
)
def test_an_id_is_decoded_once_where_it_is_encoded(
    service: tuple[Server, AzureBackup], name: str, as_sent: Callable[[str], str]
) -> None:
    # That ids of items are encoded is inferred, and how thoroughly is not known.
    whole = f"SQLDataBase;mssqlserver;{name}"
    (found,), unusable = listed(service, item(as_sent(whole), whole))
    assert unusable == []
    assert (found.id.name, found.name) == (whole, name)
    assert unquote(found.id.url_path.rpartition("/")[2]) == whole


@pytest.mark.parametrize("wrong", [7, None, [], {}, {"friendlyName": []}, "text"])
def test_an_entry_in_which_nothing_is_right_is_listed_all_the_same(
    service: tuple[Server, AzureBackup], wrong: Any
) -> None:
    entry = {"id": f"{CONTAINER}/protectedItems/a%2Fb", "name": wrong, "properties": wrong}
    usable, (unusable,) = listed(service, entry)
    assert usable == []
    assert unusable.code == "NotAddressable"
    assert unusable.name


def test_an_encoded_id_may_be_longer_than_any_that_is_sent(service: tuple[Server, AzureBackup]) -> None:
    server, backup = service
    group, vm = "資" * 90, "v" * 64
    vault = VaultId(PREFIX.split("/")[2], group, "vault1")
    name = f"VMAppContainer;Compute;{group};{vm}"
    sent = f"{quote(vault.path)}/backupFabrics/Azure/protectionContainers/{quote(name, safe=';')}"
    assert len(sent) > 1700
    database = f"SQLDataBase;mssqlserver;{'庫' * 128}"
    entry = {
        "id": f"{sent}/protectedItems/{quote(database)}",
        "name": database,
        "properties": {"friendlyName": "庫" * 128},
    }
    server.answer(Answer(200, {"value": [entry]}))
    (found,), unusable = backup.list_protected_items(vault)
    assert unusable == []
    assert (found.id.container.name, found.id.name) == (name, database)


@pytest.mark.parametrize(
    ("entry", "code", "names"),
    [
        (
            item(
                "x",
                "x",
                protectedItemType="AzureVmWorkloadSQLDatabase",
                protectionLevel="DatabaseUnderInstance",
            ),
            "ProtectedAsInstance",
            [f"{INSTANCE}/x"],
        ),
        (
            item("i", "i", protectedItemType="AzureVmWorkloadSQLInstance", childDatabaseNameList=["a", "b"]),
            "ProtectedAsInstance",
            ["i/a", "i/b"],
        ),
        (item("i", "i", protectedItemType="AzureVmWorkloadSQLInstance"), "ProtectedAsInstance", ["i/*"]),
        (
            item("x", "x", protectedItemType="AzureVmWorkloadSQLSnapshot"),
            "KindNotSupported",
            [f"{INSTANCE}/x"],
        ),
        (item("x%2Fy", "x/y"), "NotAddressable", [f"{INSTANCE}/x/y"]),
        (item("%2e%2e", ".."), "NotAddressable", [f"{INSTANCE}/.."]),
        (
            item("SQLDataBase;mssqlserver;a%0Ab", "SQLDataBase;mssqlserver;a\nb"),
            "NotAddressable",
            [f"{INSTANCE}/a\\nb"],
        ),
        (item("one%20thing", "another"), "NotAddressable", [f"{INSTANCE}/another"]),
    ],
)
def test_a_backup_skips_or_fails_what_is_protected_otherwise(
    service: tuple[Server, AzureBackup], entry: JsonObject, code: str, names: list[str]
) -> None:
    listing = listed(service, entry, item("SQLDataBase;mssqlserver;orders", "SQLDataBase;mssqlserver;orders"))
    available = candidates(listing, vm_id=VirtualMachineId.parse(VM))

    def chosen(databases: Sequence[JsonObject]) -> Selection[BackupChoice]:
        data = {"vaultId": PREFIX, "backupType": "Full", "databases": databases}
        return select_for_backup(BackupData.model_validate(data), available)

    everything = chosen([{"instance": "*", "database": "*"}])
    assert everything.failures == []
    assert [str(task.candidate.database) for task in everything.tasks] == [f"{INSTANCE}/orders"]
    assert list(everything.skipped_names) == names
    assert list(everything.reasons) == [code[0].lower() + code[1:]]
    parent, _, name = names[0].partition("/")
    if name != "*":
        named = chosen([{"instance": parent, "database": name}])
        assert [error.code for _, error in named.failures] == [code]


def test_names_that_only_their_case_tells_apart(service: tuple[Server, AzureBackup]) -> None:
    # An instance with a case-sensitive collation has both.
    entries = [
        item(f"SQLDataBase;mssqlserver;{name}", f"SQLDataBase;mssqlserver;{name}")
        for name in ("Orders", "orders")
    ]
    available = candidates(listed(service, *entries), vm_id=None)

    def chosen(*names: str) -> Selection[BackupChoice]:
        data = {"vaultId": PREFIX, "backupType": "Full", "databases": selectors(names)}
        return select_for_backup(BackupData.model_validate(data), available)

    for name in ("Orders", "orders"):
        (task,) = chosen(name).tasks
        assert task.item.name == name
    for names in (("ORDERS",), ("Orders", "orders")):
        refused = chosen(*names)
        assert refused.tasks == []
        ((_, error),) = refused.failures
        assert error.code == "AmbiguousDatabase"
        assert f"{INSTANCE}/Orders, {INSTANCE}/orders" in error.message
    assert chosen("*").reasons == {"ambiguousName": 2}
    assert set(chosen("*").skipped_names) == {f"{INSTANCE}/Orders", f"{INSTANCE}/orders"}


# -- policies by any name

POLICIES = ("SQL_Daily_30d", "SQL!Policy", "SQL Policy", "Pol.icy", "täglich", "7-days", "Q&A (gold)")


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_of_any_name_that_there_is(
    estate: OpenEstate, command: Callable[[Estate], Command], policy: str
) -> None:
    machine = virtual_machine("sqlvm1", "orders", protected_by("crm", policy), registeredTo="vault1")
    azure = estate({"vaults": [{"name": "vault1", "policies": [policy]}], "virtualMachines": [machine]})
    outcomes = azure.run(azure.protect(policyName=policy.upper()))
    assert {outcome["data"]["status"] for outcome in outcomes} == {"succeeded"}
    assert {outcome["data"]["policyName"] for outcome in outcomes} == {policy}
    assert azure.mutations["ConfigureBackup"] == 1, "crm is protected by it already"
    _, rows, _ = command(azure)("databases", "--vault", azure.vault_id)
    assert {row["policy"] for row in rows} == {policy}


def test_a_policy_by_the_id_that_az_shows(estate: OpenEstate) -> None:
    azure = estate({"virtualMachines": [virtual_machine("sqlvm1", "orders")]})
    shown = f"{azure.vault_id}/backupPolicies/{POLICY}"
    (outcome,) = azure.run(azure.protect(policyName=shown))
    assert (outcome["data"]["status"], outcome["data"]["policyName"]) == ("succeeded", POLICY)
    other = shown.replace("/vaults/vault1/", "/vaults/vault2/")
    (outcome,) = azure.run(azure.protect(policyName=other))
    assert outcome["data"]["status"] == "rejected"
    said = outcome["data"]["error"]["message"]
    assert "policyName" in said and "vault2" in said and azure.vault_id in said


@pytest.mark.parametrize(
    ("name", "status"), [("SQL_Daily!", "succeeded"), ("7/days", "rejected"), ("SQL Policy", "rejected")]
)
def test_a_policy_that_is_to_be_created(estate: OpenEstate, name: str, status: str) -> None:
    azure = estate({"virtualMachines": [virtual_machine("sqlvm1", "orders")]})
    create = {"full": {"time": "02:00", "retentionDays": 30}}
    (outcome,) = azure.run(azure.protect("orders", policyName=name, createPolicy=create))
    assert outcome["data"]["status"] == status
    if status == "rejected":
        assert "150" in outcome["data"]["error"]["message"]


# -- names compare as the service compares them


@pytest.mark.parametrize("names", [("straße", "strasse"), ("strasse", "straße")])
def test_ss_and_sharp_s_are_two_names(estate: OpenEstate, names: tuple[str, str]) -> None:
    azure = estate(registered(*names))
    for name in (*names, "STRASSE"):
        meant = "straße" if "ß" in name else "strasse"
        assert names_of(azure.run(azure.backup(name))) == {meant}
        assert azure.simulator.ledger_entries[-1]["item"].endswith(f";{meant}")
        (outcome,) = azure.run(azure.restore(name, f"copy of {name}", recoveryPoint={"latest": "full"}))
        assert outcome["data"]["database"] == name
        assert azure.simulator.ledger_entries[-1]["item"].endswith(f";{meant}")
    assert names_of(azure.run(azure.backup(exclude=selectors(["strasse"])))) == {"straße"}


def test_a_name_that_only_folding_would_find_is_not_there(estate: OpenEstate) -> None:
    azure = estate(registered("straße"))
    for request in (azure.backup("strasse"), azure.restore("strasse", "copy")):
        (outcome,) = azure.run(request)
        assert outcome["data"]["error"]["code"] == "DatabaseNotFound"
        assert "straße" in outcome["data"]["error"]["message"]


def test_names_compare_without_their_case(estate: OpenEstate) -> None:
    azure = estate(registered("Straße", "ΟΔΟΣ", "Кадры"))
    assert names_of(azure.run(azure.backup("STRAßE", "οδος", "кАДРЫ"))) == {"Straße", "ΟΔΟΣ", "Кадры"}


# -- a literal name in brackets


def test_a_literal_name_in_brackets_is_meant_alone(estate: OpenEstate) -> None:
    azure = estate(registered("log[1]", "log1", "LOG1x", "orders"))
    assert names_of(azure.run(azure.backup("log[1]"))) == {"log[1]"}
    assert names_of(azure.run(azure.backup("LOG[1]"))) == {"log[1]"}
    everything_but = azure.run(azure.backup(exclude=selectors(["log[1]"])))
    assert names_of(everything_but) == {"log1", "LOG1x", "orders"}
    # Where no database is called so, it is a pattern; `*` always is.
    assert names_of(azure.run(azure.backup("log[1]*"))) == {"log1", "LOG1x"}
    other = estate(registered("*", "orders"))
    assert names_of(other.run(other.backup())) == {"*", "orders"}


# -- the command


def test_without_an_instance_every_one_is_meant(
    estate: OpenEstate, command: Callable[[Estate], Command]
) -> None:
    machine: JsonObject = {
        "name": "sqlvm1",
        "registeredTo": "vault1",
        "instances": [
            {"name": INSTANCE, "databases": [protected_by("orders"), protected_by("msdb")]},
            {"name": "SQL2019", "databases": [protected_by("crm"), protected_by("orders"), {"name": "new"}]},
        ],
    }
    azure = estate({"virtualMachines": [machine]})
    call, vault, vm = command(azure), azure.vault_id, azure.vm_id()
    backup = ("backup", "--vault", vault)
    status, rows, _ = call(*backup, "--dry-run")
    would = {row["database"]: row["would"] for row in rows}
    assert status == 0
    assert would == {
        f"{INSTANCE}/orders": "be backed up",
        f"{INSTANCE}/msdb": "be skipped",
        "SQL2019/crm": "be backed up",
        "SQL2019/orders": "be backed up",
        # It is not protected.
        "sqlvm1/SQL2019/new": "be left out",
    }
    _, rows, _ = call(*backup, "--database", "orders", "--dry-run")
    assert {row["database"] for row in rows} == {f"{INSTANCE}/orders", "SQL2019/orders"}
    # A name that is spelled out is meant, whichever instance it is on.
    _, rows, _ = call(*backup, "--database", "msdb", "--dry-run")
    assert [(row["database"], row["would"]) for row in rows] == [(f"{INSTANCE}/msdb", "be backed up")]
    protect = ("protect", "--vault", vault, "--vm", vm, "--policy", POLICY)
    _, rows, _ = call(*protect, "--exclude", "orders", "--dry-run")
    would = {row["database"]: row["would"] for row in rows if not row["database"].startswith("VM ")}
    assert would == {
        f"{INSTANCE}/orders": "be skipped",
        f"{INSTANCE}/msdb": "be skipped",
        "SQL2019/crm": "stay as it is",
        "SQL2019/orders": "be skipped",
        "SQL2019/new": "be protected",
    }


def test_what_a_pattern_leaves_out_is_counted_and_named(
    estate: OpenEstate, capsys: pytest.CaptureFixture[str]
) -> None:
    azure = estate(registered("orders", "msdb", "old"))
    azure.run(azure.backup(exclude=selectors(["old"])))
    assert accepted(azure)["skipped"] == {"systemDatabase": 1, "excluded": 1}
    assert sorted(accepted(azure)["skippedNames"]) == [f"{INSTANCE}/msdb", f"{INSTANCE}/old"]
    # A person sees them too.
    request = azure.backup(exclude=selectors(["old"]))
    awaited = azure.send(request)
    azure.finish(awaited)
    shown = display()
    again = AwaitedRequests(read_request_lines([json.dumps(request).encode()]))
    shown.observed([found for event in azure.events() if (found := again.observe(event)) is not None])
    said = capsys.readouterr().err
    assert "left out: " in said
    assert all(
        text in said for text in ("1 system database", "1 excluded", f"{INSTANCE}/msdb", f"{INSTANCE}/old")
    )


def test_restore_takes_a_name_as_the_command_prints_it(
    estate: OpenEstate, command: Callable[[Estate], Command]
) -> None:
    machine: JsonObject = {
        "name": "sqlvm1",
        "registeredTo": "vault1",
        "instances": [{"name": INSTANCE}, {"name": "SQL2019", "databases": [protected_by("crm")]}],
    }
    azure = estate({"virtualMachines": [machine]})
    call = command(azure)
    where = ("--vault", azure.vault_id, "--vm", azure.vm_id(), "--database", "SQL2019/crm")
    status, rows, said = call("restore", *where, "--latest", "full", "--to-database", "copy", "--dry-run")
    assert (status, said) == (0, "")
    assert (rows[0]["database"], rows[0]["would"]) == ("SQL2019/crm", "be restored")
    assert rows[0]["target"]["instance"] == "SQL2019"
    status, rows, _ = call("recovery-points", *where)
    assert status == 0
    assert "Full" in {row["kind"] for row in rows}


def test_a_vm_that_the_vault_does_not_know_is_an_error(
    estate: OpenEstate, command: Callable[[Estate], Command]
) -> None:
    azure = estate(registered("orders"))
    call, typo = command(azure), f"{azure.vm_id()}x"
    for arguments in (("databases",), ("recovery-points", "--database", "orders")):
        status, rows, said = call(*arguments, "--vault", azure.vault_id, "--vm", typo)
        assert status != 0
        assert rows == []
        assert typo in said and azure.vm_id() in said.replace(typo, "")


def test_a_database_that_is_not_protected_is_said_to_be_so(
    estate: OpenEstate, command: Callable[[Estate], Command]
) -> None:
    machine = virtual_machine("sqlvm1", protected_by("orders"), "crm", registeredTo="vault1")
    azure = estate({"virtualMachines": [machine]})
    status, _, said = command(azure)("recovery-points", "--vault", azure.vault_id, "--database", "crm")
    assert status == 1
    assert f"{INSTANCE}/crm is not protected" in said


# -- names of hosts


@pytest.mark.parametrize(
    ("of_items", "of_jobs"),
    [
        # Public reports show full host names, Microsoft's articles both forms of a job's entity.
        ("sqlvm1.contoso.local", "orders [sqlvm1]"),
        ("sqlvm1.contoso.local", "MSSQLSERVER/orders [sqlvm1.contoso.local]"),
        ("sqlvm1", "MSSQLSERVER/orders [sqlvm1.contoso.local]"),
    ],
)
def test_a_job_on_a_domain_joined_host_is_recognised(
    estate: OpenEstate, monkeypatch: pytest.MonkeyPatch, of_items: str, of_jobs: str
) -> None:
    monkeypatch.setattr(simulated.VirtualMachine, "host_name", property(lambda _: of_items))
    monkeypatch.setattr(simulated.ProtectedItem, "job_name", property(lambda _: of_jobs))
    azure = estate(registered("orders", durations={"backup": 7200, "young": 0}))
    azure.back_up_by_hand("orders")
    (outcome,) = azure.run(azure.backup("orders"))
    assert outcome["data"]["status"] == "succeeded"
