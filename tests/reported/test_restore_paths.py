r"""Where the files of a restore go: where the request says, or a clear refusal.

What other tools met: a URL as the path of a file (lowlydba/lowlydba.sqlserver#318), files that lie elsewhere than
asked (microsoft/azuredatastudio#15978), a log recovery point that tells no files (priyansh17/MECRBROCTooling,
Restore-SQLIaaSVM-FromVault.ps1), names too long for a suffix (dataplat/dbatools#3518, SQLMesh/sqlmesh#5525), restores
to another subscription (MicrosoftDocs/azure-docs#121165). Rules of names:
https://learn.microsoft.com/windows/win32/fileio/naming-a-file.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from cli.awaited_requests import AwaitedRequests
from cli.main import main
from cli.output import Format, Output
from cli.request_lines import request_line
from cli.results import print_outcomes
from shared.clock import ServiceTime
from shared.engine.result import Failure
from shared.messages.requests import AlternateTarget
from shared.messages.windows_paths import LONGEST_PATH, length
from shared.settings import Settings
from shared.steps.database_files import map_files
from shared.steps.restore import default_name
from tests.e2e.harness import INSTANCE, POLICY, Estate, OpenEstate, virtual_machine
from tests.reported.commands import dry_restore

PIT = {"pointInTime": "2026-01-05T05:30:00Z"}


def one_database(
    estate: OpenEstate, name: str = "orders", settings: dict[str, str] | None = None, **details: Any
) -> Estate:
    """One VM with a protected database of two days."""
    database = {"name": name, "protectedBy": POLICY, "historyDays": 2, **details}
    return estate({"virtualMachines": [virtual_machine("sqlvm1", database, registeredTo="vault1")]}, settings)


def alternate(azure: Estate, **fields: Any) -> dict[str, Any]:
    return {"kind": "alternate", "vmId": azure.vm_id(), "instance": INSTANCE, "database": "copy", **fields}


def sent_paths(azure: Estate) -> dict[str, str]:
    """What the last restore that took effect was told of the files, by logical name."""
    *_, entry = [entry for entry in azure.simulator.ledger_entries if entry["route"] == "Restore"]
    mapped = entry["body"]["properties"].get("alternateDirectoryPaths", [])
    return {file["sourceLogicalName"]: file["targetPath"] for file in mapped}


# ---- which files there are


@pytest.mark.parametrize("choice", [PIT, {"latest": "any"}, {"before": "2026-01-05T05:30:00Z"}])
def test_files_are_told_by_the_full_before_the_moment(estate: OpenEstate, choice: dict[str, str]) -> None:
    azure = one_database(estate, extendedInfo="FullAndDifferential")
    target = alternate(azure, dataDirectory="X:\\sqldata", logDirectory="Y:\\sqllog")
    (outcome,) = azure.run(azure.restore("orders", target=target, recoveryPoint=choice))
    assert outcome["data"]["status"] == "succeeded"
    assert outcome["data"]["recoveryPoint"]["kind"] == "Log"
    assert sent_paths(azure) == {
        "orders": "X:\\sqldata\\copy_orders.mdf",
        "orders_log": "Y:\\sqllog\\copy_orders_log.ldf",
    }


def test_a_file_of_the_request_is_known_by_the_full_before_the_moment(estate: OpenEstate) -> None:
    azure = one_database(estate, extendedInfo="FullAndDifferential")
    target = alternate(azure, files=[{"logicalName": "orders", "path": "X:\\orders.mdf"}])
    (outcome,) = azure.run(azure.restore("orders", target=target, recoveryPoint=PIT))
    assert outcome["data"]["status"] == "succeeded"
    assert sent_paths(azure)["orders"] == "X:\\orders.mdf"


@pytest.mark.parametrize("choice", [PIT, {"latest": "full"}])
@pytest.mark.parametrize(
    "fields",
    [
        {"dataDirectory": "X:\\sqldata"},
        {"logDirectory": "Y:\\sqllog"},
        {"files": [{"logicalName": "orders", "path": "X:\\orders.mdf"}]},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_the_service_cannot_be_told_is_a_failure(
    estate: OpenEstate, choice: dict[str, str], fields: dict[str, Any]
) -> None:
    azure = one_database(estate, extendedInfo="None")
    (outcome,) = azure.run(azure.restore("orders", target=alternate(azure, **fields), recoveryPoint=choice))
    assert (outcome["data"]["status"], outcome["data"]["error"]["code"]) == ("failed", "FilesUnknown")
    assert next(iter(fields)) in outcome["data"]["error"]["message"]
    assert azure.mutations["Restore"] == 0


def test_files_that_the_service_places_are_a_warning(
    estate: OpenEstate, capsys: pytest.CaptureFixture[str]
) -> None:
    azure = one_database(estate, extendedInfo="None")
    command = dry_restore(azure)
    assert main([*command, "--to-database", "copy", "--arm-endpoint", azure.url, "--json"]) == 0
    assert "default directories" in json.loads(capsys.readouterr().out)["how"]
    (outcome,) = azure.run(azure.restore("orders", "copy", recoveryPoint=PIT))
    assert outcome["data"]["status"] == "succeededWithWarnings"
    (warning,) = outcome["data"]["warnings"]
    assert "copy" in warning and "default directories" in warning
    assert sent_paths(azure) == {}


# ---- paths by an allow-list

REFUSED = {
    "a URL": "https://evil.blob.core.windows.net/c/x.mdf",
    "a URL of one letter": "x://evil/x.mdf",
    "a file URL": "file:///F:/x.mdf",
    "a relative path": "x.mdf",
    "a path on the current drive": "\\Data\\x.mdf",
    "a path in the current directory of a drive": "F:x.mdf",
    "a device path": "\\\\?\\F:\\Data\\x.mdf",
    "a device path by slashes": "//?/F:/Data/x.mdf",
    "a device": "\\\\.\\PhysicalDrive0\\x.mdf",
    "an object of the kernel": "\\??\\F:\\x.mdf",
    "a share by its device": "\\\\?\\UNC\\evil\\x\\x.mdf",
    "WebDAV": "\\\\evil@SSL@443\\DavWWWRoot\\x.mdf",
    "a server without a share": "\\\\evil\\",
    "a pipe of a server": "\\\\evil\\pipe\\x.mdf",
    "a pipe character": "F:\\Da|ta\\x.mdf",
    "a question mark": "F:\\Data?\\x.mdf",
    "a star": "F:\\Data\\*.mdf",
    "quotes": 'F:\\"Data"\\x.mdf',
    "angle brackets": "F:\\<Data>\\x.mdf",
    "a line break": "F:\\Data\\x\n.mdf",
    "a C1 control character": "F:\\Data\\x\u0085.mdf",
    "a turned text": "F:\\Data\\x\u202efdm.",
    "a stream": "F:\\Data\\x.mdf:stream",
    "a stream of a directory": "F:\\Data:$I30:$INDEX_ALLOCATION\\x.mdf",
    "climbing": "F:\\Data\\..\\x.mdf",
    "climbing by slashes": "F:/Data/../x.mdf",
    "climbing with a blank": "F:\\Data\\.. \\x.mdf",
    "a trailing dot": "F:\\Data.\\x.mdf",
    "a trailing blank": "F:\\Data\\x.mdf ",
    "a leading blank": " F:\\Data\\x.mdf",
    "only blanks": "F:\\ \\x.mdf",
    "a device's name": "F:\\Data\\NUL",
    "a device's name with an ending": "F:\\Data\\com1.mdf",
    "a device's name as a directory": "F:\\aux\\x.mdf",
    "a device's name in superscript": "F:\\LPT\u00b9.mdf",
    "a path that is too long": "F:\\" + "d" * 130 + "\\" + "x" * 130 + ".mdf",
    "a drive that is none": "FF:\\x.mdf",
    "a drive of another alphabet": "\uff26:\\x.mdf",
    "nothing": "",
}


@pytest.fixture
def azure(estate: OpenEstate) -> Estate:
    """Restores as files may go anywhere on the VM's disks, and to one share."""
    allowed = json.dumps(["*", "\\\\nas\\sql"])
    return one_database(estate, settings={"RESTORE_ALLOWED_PATHS": allowed})


def rejected(azure: Estate, target: dict[str, Any]) -> str:
    """The message of a restore that is rejected before Azure is asked anything."""
    request = azure.restore("orders", target=target)
    (outcome,) = azure.run(json.dumps(request).encode())
    assert outcome["data"]["status"] == "rejected", outcome["data"]
    assert azure.mutations["Restore"] == 0
    message: str = outcome["data"]["error"]["message"]
    return message


@pytest.mark.parametrize("path", REFUSED.values(), ids=REFUSED)
def test_a_path_that_is_none_is_rejected_with_its_field(azure: Estate, path: str) -> None:
    for field, target in {
        "data.target.files.0.path": alternate(azure, files=[{"logicalName": "orders", "path": path}]),
        "data.target.dataDirectory": alternate(azure, dataDirectory=path),
        "data.target.logDirectory": alternate(azure, logDirectory=path),
        "data.target.path": {"kind": "files", "vmId": azure.vm_id(), "path": path},
    }.items():
        assert field in rejected(azure, target)


def test_a_directory_is_no_path_of_a_file(azure: Estate) -> None:
    for path in ("F:\\d\\", "F:/d/", "F:\\", "F:"):
        file = {"logicalName": "orders", "path": path}
        assert "data.target.files.0.path" in rejected(azure, alternate(azure, files=[file]))


def file(name: str, path: str) -> dict[str, str]:
    return {"logicalName": name, "path": path}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"files": [file("orders", "F:\\a.mdf"), file("orders", "F:\\b.mdf")]}, "files.1.logicalName"),
        ({"files": [file("orders", "F:\\a.mdf"), file("ORDERS", "F:\\b.mdf")]}, "files.1.logicalName"),
        ({"files": [file("orders", "F:\\a.mdf"), file("orders_log", "F:\\a.mdf")]}, "files.1.path"),
        ({"files": [file("orders", "F:\\a.mdf"), file("orders_log", "f:/A.MDF")]}, "files.1.path"),
        ({"files": [file("orders", "F:\\d"), file("orders_log", "F:\\d\\a.ldf")]}, "files.0.path"),
        ({"files": [file("orders", "F:\\d")], "dataDirectory": "F:\\d"}, "files.0.path"),
        ({"files": [file("orders", "F:\\d")], "logDirectory": "F:\\d\\logs\\"}, "files.0.path"),
        ({"files": [file("orders", "F:\\DATA")]}, "files.0.path"),
    ],
)
def test_files_that_are_in_each_other_s_way(azure: Estate, fields: dict[str, Any], named: str) -> None:
    assert f"data.target.{named}" in rejected(azure, alternate(azure, **fields))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("F:/Data/", "F:\\Data\\"),
        ("F:\\Data", "F:\\Data"),
        ("f:\\\\Data//Deep", "f:\\Data\\Deep"),
        ("F:", "F:\\"),
        ("F:/", "F:\\"),
        ("F:\\Program Files\\Données [1] & 'x' 数据", "F:\\Program Files\\Données [1] & 'x' 数据"),
        ("F:\\console\\nul_\\.hidden", "F:\\console\\nul_\\.hidden"),
        ("//nas/sql/Data", "\\\\nas\\sql\\Data"),
    ],
)
def test_a_path_is_written_as_windows_writes_it(azure: Estate, given: str, kept: str) -> None:
    (outcome,) = azure.run(azure.restore("orders", target=alternate(azure, dataDirectory=given)))
    assert outcome["data"]["status"] == "succeeded"
    assert outcome["data"]["target"]["dataDirectory"] == kept
    assert sent_paths(azure)["orders"] == f"{kept.rstrip(chr(92))}\\copy_orders.mdf"
    (outcome,) = azure.run(
        azure.restore("orders", target={"kind": "files", "vmId": azure.vm_id(), "path": given})
    )
    assert outcome["data"]["target"]["path"] == kept


def test_a_share_needs_the_setting(estate: OpenEstate) -> None:
    azure = one_database(estate)
    share = "\\\\nas\\sql\\today"
    message = rejected(azure, alternate(azure, logDirectory=share))
    assert "data.target.logDirectory" in message and json.dumps([share]) in message


def test_the_command_names_the_flag_of_a_path(azure: Estate, capsys: pytest.CaptureFixture[str]) -> None:
    command = dry_restore(azure)
    for flag, value in (
        ("--file", "orders=https://evil/x.mdf"),
        ("--data-directory", "Data"),
        ("--to-files", "\\\\.\\x"),
    ):
        assert main([*command, flag, value, "--arm-endpoint", azure.url]) == 2
        assert f" {flag}: " in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    ("listed", "path", "allowed"),
    [
        ("F:\\", "F:\\restore", True),
        ("F:\\", "f:\\", True),
        ("F:", "F:\\restore\\today", True),
        ("F:\\Restore", "F:\\Restore", True),
        ("F:\\Restore", "F:\\restore\\today\\", True),
        ("F:/Restore/", "F:\\Restore\\today", True),
        ("F:\\Restore", "F:\\Restored", False),
        ("F:\\Restore*", "F:\\Restored", True),
        ("F:\\", "G:\\restore", False),
        ("F:\\", "\\\\nas\\sql", False),
        ("*", "\\\\nas\\sql", False),
        ("\\", "\\\\nas\\sql", False),
        ("\\\\nas\\sql", "\\\\NAS\\sql\\today", True),
        ("\\\\nas\\sql", "\\\\nas\\sql2", False),
        ("\\\\nas\\sql", "\\\\nas.evil.example\\sql", False),
    ],
)
def test_what_is_listed_means_what_is_below_it(listed: str, path: str, allowed: bool) -> None:
    assert Settings(restore_allowed_paths=(listed,)).allows_path(path) is allowed


# ---- names that are too long


@pytest.mark.parametrize("name", ["x" * 84, "y" * 105, "z" * 128, "データ" * 42 + "ab"])
def test_a_long_name_is_restored_by_default(estate: OpenEstate, name: str) -> None:
    directory = "F:\\Program Files\\Microsoft SQL Server\\MSSQL15.MSSQLSERVER\\MSSQL\\DATA\\"
    database = {"name": name, "protectedBy": POLICY, "historyDays": 1}
    machine = virtual_machine("sqlvm1", database, registeredTo="vault1")
    machine["instances"][0] |= {"dataDirectory": directory, "logDirectory": directory}
    azure = estate({"virtualMachines": [machine]})
    (outcome,) = azure.run(azure.restore(name))
    assert outcome["data"]["status"] == "succeeded", outcome["data"]
    made = outcome["data"]["target"]["database"]
    assert length(made) <= 128
    assert made[:60] == name[:60] and "_restored_2026" in made
    paths = list(sent_paths(azure).values())
    assert len({path.lower() for path in paths}) == 2
    assert all(path.startswith(directory) and length(path) <= LONGEST_PATH for path in paths)


def test_names_that_differ_at_the_end_stay_apart() -> None:
    moment = ServiceTime(datetime(2026, 1, 5, 5, 30, tzinfo=UTC))
    first, second = (default_name("x" * 120 + end, moment) for end in ("a", "b"))
    assert first != second
    assert first == default_name("x" * 120 + "a", moment)
    assert default_name("orders", moment) == "orders_restored_20260105053000"
    assert length(default_name("\U0001f600" * 64, moment)) <= 128


def test_a_default_file_name_is_one_that_windows_makes() -> None:
    target = AlternateTarget.model_validate(
        {
            "kind": "alternate",
            "vmId": "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-sql/providers"
            "/Microsoft.Compute/virtualMachines/sqlvm1",
            "instance": INSTANCE,
            "database": "nul.copy",
            "files": [{"logicalName": "b", "path": "D:\\_nul.copy_a_8241bf08.mdf"}],
        }
    )
    files = [("Data", "F:\\a.mdf", "a"), ("Data", "F:\\b.ndf", "b"), ("Log", "F:\\c.ldf:x", "c\u202ed?")]
    mapped = map_files(files, target, {"data": "D:\\", "log": "L:\\"})
    assert not isinstance(mapped, Failure)
    assert [item["targetPath"] for item in mapped] == [
        "D:\\_nul.copy_a_8241bf08_2.mdf",
        "D:\\_nul.copy_a_8241bf08.mdf",
        "L:\\_nul.copy_c_d__6e84a83e.ldf",
    ]


def test_names_that_differ_in_what_windows_refuses_have_files_of_their_own(estate: OpenEstate) -> None:
    names = ("app*dev", "app?dev", "app|dev", 'app"dev', "app_dev", "nul", "_nul", "x.", "x")
    databases = [{"name": name, "protectedBy": POLICY, "historyDays": 1} for name in names]
    azure = estate({"virtualMachines": [virtual_machine("sqlvm1", *databases, registeredTo="vault1")]})
    outcomes = azure.run(*(azure.restore(name) for name in names))
    assert [outcome["data"]["status"] for outcome in outcomes] == ["succeeded"] * len(names), outcomes
    files = [
        file["targetPath"].lower()
        for entry in azure.simulator.ledger_entries
        for file in entry["body"]["properties"]["alternateDirectoryPaths"]
    ]
    assert len(set(files)) == len(files) == 2 * len(names)


# ---- targets that are out of reach


def test_another_subscription_is_out_of_reach_at_once(estate: OpenEstate) -> None:
    azure = one_database(estate)
    elsewhere = azure.vm_id().replace("000000000001", "000000000002")
    message = rejected(azure, alternate(azure, vmId=elsewhere))
    assert "data.target.vmId" in message and "subscription" in message


def test_a_vm_of_another_vault_is_out_of_reach(estate: OpenEstate) -> None:
    azure = estate(
        {
            "vaults": [{"name": "vault1"}, {"name": "vault2"}],
            "virtualMachines": [
                virtual_machine(
                    "sqlvm1",
                    {"name": "orders", "protectedBy": POLICY, "historyDays": 2},
                    registeredTo="vault1",
                ),
                virtual_machine("sqlvm2", "x", registeredTo="vault2"),
                virtual_machine("sqlvm3", "x"),
            ],
        },
        {"RESTORE_ALLOWED_TARGETS": '["*"]'},
    )
    (outcome,) = azure.run(azure.restore("orders", target=alternate(azure, vmId=azure.vm_id("sqlvm2"))))
    assert outcome["data"]["error"]["code"] == "TargetNotRegistered"
    assert "another vault are not supported" in outcome["data"]["error"]["message"]


# ---- what the command says of it


@pytest.mark.parametrize(
    ("flags", "place"),
    [
        (("--to-database", "copy"), "to copy"),
        (("--to-vm", "sqlvm2", "--to-database", "copy"), f"to sqlvm2/{INSTANCE}/copy"),
        (("--to-vm", "sqlvm2", "--to-files", "F:/x"), "to F:\\x on sqlvm2"),
    ],
)
def test_the_command_names_the_vm_that_a_restore_goes_to(
    estate: OpenEstate,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[str, ...],
    place: str,
) -> None:
    database = {"name": "orders", "protectedBy": POLICY, "historyDays": 2}
    machines = [
        virtual_machine("sqlvm1", database, registeredTo="vault1"),
        virtual_machine("sqlvm2", "x", registeredTo="vault1"),
    ]
    azure = estate({"virtualMachines": machines})
    monkeypatch.setenv("RESTORE_ALLOWED_TARGETS", '["*"]')
    monkeypatch.setenv("RESTORE_ALLOWED_PATHS", '["*"]')
    told = [azure.vm_id("sqlvm2") if flag == "sqlvm2" else flag for flag in flags]
    command = ["restore", "--vault", azure.vault_id, "--vm", azure.vm_id(), "--database", "orders", *told]
    assert main([*command, "--dry-run", "--arm-endpoint", azure.url, "--json"]) == 0
    assert place in json.loads(capsys.readouterr().out)["how"]


def test_the_result_names_the_vm_that_a_restore_went_to(
    estate: OpenEstate, capsys: pytest.CaptureFixture[str]
) -> None:
    database = {"name": "orders", "protectedBy": POLICY, "historyDays": 2}
    machines = [
        virtual_machine("sqlvm1", database, registeredTo="vault1"),
        virtual_machine("sqlvm2", "x", registeredTo="vault1"),
    ]
    azure = estate({"virtualMachines": machines}, {"RESTORE_ALLOWED_TARGETS": '["*"]'})
    request = azure.restore("orders", target=alternate(azure, vmId=azure.vm_id("sqlvm2")))
    awaited = AwaitedRequests([request_line(request)])
    for outcome in azure.run(request):
        awaited.observe(outcome)
    print_outcomes(awaited, Output(format=Format.TABLE))
    assert f"to sqlvm2/{INSTANCE}/copy" in capsys.readouterr().out
