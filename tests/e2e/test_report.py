"""`sqlvmbackup report` against a simulated estate: what it says, how it ends, and how little it asks."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.main import main
from local.estate import JsonObject
from local.simulator import Scenario, Simulator, SimulatorServer
from local.simulator.route_names import ROUTES
from tests.e2e.harness import INSTANCE, POLICY, virtual_machine

OpenAzure = Callable[..., Simulator]


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAzure]:
    with ExitStack() as stack:

        def opened(*machines: JsonObject, time_scale: float = 1.0, **scenario: Any) -> Simulator:
            simulator = Simulator(
                Scenario.model_validate({"virtualMachines": list(machines), **scenario}),
                time_scale=time_scale,
            )
            server = stack.enter_context(SimulatorServer(simulator))
            monkeypatch.setenv("ARM_ENDPOINT", server.url)
            monkeypatch.setenv("TIME_SCALE", str(time_scale))
            monkeypatch.delenv("SQLVMBACKUP_VAULT", raising=False)
            return simulator

        yield opened


@dataclass(frozen=True)
class Report:
    status: int
    out: str
    err: str

    @property
    def rows(self) -> list[JsonObject]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def states(self) -> dict[str, str]:
        return {row["database"]: row["state"] for row in self.rows}


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Callable[..., Report]:
    def asked(*arguments: str) -> Report:
        capsys.readouterr()
        status = main(["report", *arguments])
        out, err = capsys.readouterr()
        return Report(status, out, err)

    return asked


Asked = Callable[..., Report]


def protected(name: str, **details: Any) -> JsonObject:
    return {"name": name, "protectedBy": POLICY, "historyDays": 3, **details}


def estate(*databases: str | JsonObject, name: str = "sqlvm1", **details: Any) -> JsonObject:
    return virtual_machine(name, *databases, **{"registeredTo": "vault1", **details})


def test_without_a_gap_it_exits_0_and_says_so(azure: OpenAzure, report: Asked) -> None:
    cloud = azure(estate(protected("orders"), protected("billing"), protected("master")))
    told = report("--vault", cloud.vault_id())
    assert told.status == 0
    assert told.states == {"orders": "covered", "billing": "covered"}
    assert "All 2 databases are covered." in told.err
    assert "1 system database (--include-system takes it)" in told.err
    assert "What to do first" not in told.err


def test_drill_databases_are_in_no_report(
    azure: OpenAzure, report: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = azure(estate(protected("orders")), estate("drill_orders_0123abcd", name="drills1"))
    monkeypatch.delenv("DRILL_TARGETS", raising=False)
    assert report("--vault", cloud.vault_id()).states["drill_orders_0123abcd"] == "unprotected"
    target = {"vmId": cloud.vm_id("drills1"), "instance": INSTANCE}
    monkeypatch.setenv("DRILL_TARGETS", json.dumps([target]))
    told = report("--vault", cloud.vault_id())
    assert (told.status, told.states) == (0, {"orders": "covered"})


def test_with_a_gap_it_exits_1_and_ends_with_what_to_do_first(azure: OpenAzure, report: Asked) -> None:
    cloud = azure(estate(protected("orders"), "new", {"name": "fresh", "protectedBy": POLICY}))
    told = report("--vault", cloud.vault_id(), "-o", "table")
    assert told.status == 1
    lines = told.out.splitlines()
    shown = [line.split()[0] for line in lines[1:4]]
    assert shown == ["neverBackedUp", "unprotected", "covered"]
    last = lines[lines.index("What to do first:") :]
    assert last[1] == "  1. Wait for the policy's next full, or take one now."
    assert "on sqlvm1/MSSQLSERVER: fresh" in last[2]
    assert last[3] == "  2. Protect it with a policy, or exclude it."
    assert "on sqlvm1/MSSQLSERVER: new. NotProtected" in last[4]
    assert len(last) == 5


def test_each_row_has_the_code_and_what_to_do(azure: OpenAzure, report: Asked) -> None:
    cloud = azure(estate("new"))
    (row,) = report("--vault", cloud.vault_id()).rows
    assert row["code"] == "NotProtected"
    assert row["message"]
    assert row["advice"]
    assert row["vaultId"] == cloud.vault_id()
    assert row["vmId"] == cloud.vm_id("sqlvm1")


def test_a_vm_that_does_not_run_is_told_before_its_backups_are_too_old(
    azure: OpenAzure, report: Asked
) -> None:
    cloud = azure(estate(protected("orders"), running=False))
    (row,) = report("--vault", cloud.vault_id()).rows
    assert (row["state"], row["code"]) == ("unhealthy", "NotReachable")


def test_simple_recovery_is_no_gap_and_is_settled_by_single_reads(azure: OpenAzure, report: Asked) -> None:
    cloud = azure(estate(protected("wiki", recoveryModel="Simple")))
    told = report("--vault", cloud.vault_id())
    assert told.status == 0
    assert told.rows[0]["code"] == "RecoveryModelUnread"
    assert "--read-singly" in told.err
    told = report("--vault", cloud.vault_id(), "--read-singly")
    assert told.states == {"wiki": "covered"}
    assert told.rows[0]["recoveryModel"] == "SIMPLE"


def test_a_maximum_age_is_held_against_every_database(azure: OpenAzure, report: Asked) -> None:
    cloud = azure(estate(protected("orders"), protected("wiki", recoveryModel="Simple")))
    told = report("--vault", cloud.vault_id(), "--max-age", "3h")
    assert told.states == {"orders": "covered", "wiki": "stale"}
    assert report("--vault", cloud.vault_id(), "--max-age", "2d").status == 0


def test_a_maximum_age_that_is_none_is_refused(azure: OpenAzure, report: Asked) -> None:
    cloud = azure(estate())
    told = report("--vault", cloud.vault_id(), "--max-age", "soon")
    assert told.status == 2
    assert "--max-age" in told.err
    assert "'soon'" in told.err


def test_databases_are_chosen_and_excluded_as_in_requests(azure: OpenAzure, report: Asked) -> None:
    cloud = azure(estate(protected("orders"), "orders_old", "scratch", "msdb"))
    vault = ("--vault", cloud.vault_id())
    assert report(*vault, "--exclude", "scratch", "--exclude", "*_old").status == 0
    assert report(*vault, "--database", "orders*").states == {
        "orders": "covered",
        "orders_old": "unprotected",
    }
    assert report(*vault, "--database", "sqlvm/x").status == 1
    assert "No database matches sqlvm/x." in report(*vault, "--database", "sqlvm/x").err
    assert "msdb" in report(*vault, "--include-system").states
    told = report(*vault, "--database", "a,b")
    assert told.status == 2
    assert "--database" in told.err


def test_another_policy_than_asked_for_is_a_gap(azure: OpenAzure, report: Asked) -> None:
    cloud = azure(estate(protected("orders")), vaults=[{"name": "vault1", "policies": [POLICY, "Gold"]}])
    (row,) = report("--vault", cloud.vault_id(), "--policy", "Gold").rows
    assert (row["state"], row["code"], row["policy"]) == ("wrongPolicy", "ProtectedByAnotherPolicy", POLICY)
    assert report("--vault", cloud.vault_id(), "--policy", POLICY.upper()).status == 0


def test_a_policy_that_no_vault_has_is_no_gap_of_every_database_but_an_error(
    azure: OpenAzure, report: Asked
) -> None:
    cloud = azure(estate(protected("orders")))
    told = report("--vault", cloud.vault_id(), "--policy", "HourlyLogBakup")
    assert (told.status, told.out) == (1, "")
    assert f"Did you mean {POLICY}?" in told.err


def test_formats(azure: OpenAzure, report: Asked) -> None:
    cloud = azure(estate(protected("orders"), "a,b =1"))
    vault = ("--vault", cloud.vault_id())
    rows = list(csv.DictReader(io.StringIO(report(*vault, "-o", "csv").out)))
    assert {row["state"] for row in rows} == {"unprotected", "covered"}
    assert len(json.loads(report(*vault, "-o", "json").out)) == 2
    assert [row["state"] for row in report(*vault, "--failed-only").rows] == ["unprotected"]
    found = report(*vault, "--query", "[?state=='covered'].database", "-o", "json")
    assert json.loads(found.out) == ["orders"]


def test_several_vaults_are_one_report(azure: OpenAzure, report: Asked) -> None:
    cloud = azure(
        estate(protected("orders"), name="sqlvm1"),
        estate("new", name="sqlvm2", registeredTo="vault2"),
        vaults=[{"name": "vault1"}, {"name": "vault2"}],
    )
    told = report("--vault", cloud.vault_id("vault1"), "--vault", cloud.vault_id("vault2"), "-o", "table")
    assert told.out.split()[0] == "vault"
    assert "1 of 2 databases is covered, 1 has a gap." in told.out
    by_name = report("-g", "rg-backup", "-v", "vault2", "--subscription", cloud.subscription_id)
    assert [row["database"] for row in by_name.rows] == ["new"]


@pytest.mark.skipif("QueryResources" not in ROUTES, reason="the simulator answers no Resource Graph")
def test_a_whole_subscription_with_the_vms_that_no_vault_knows(azure: OpenAzure, report: Asked) -> None:
    cloud = azure(
        estate(protected("orders"), name="sqlvm1"),
        virtual_machine("lonely", "x"),
        virtual_machine("nosql", instances=[]),
        vaults=[{"name": "vault1"}, {"name": "vault2"}],
    )
    told = report("--subscription", cloud.subscription_id)
    assert told.status == 1
    assert [(row["vm"], row["database"], row["state"], row["code"]) for row in told.rows] == [
        ("lonely", "*", "unprotected", "NotRegistered"),
        ("sqlvm1", "orders", "covered", None),
    ]
    assert {entry["method"] for entry in cloud.access_entries if entry["route"] != "QueryResources"} == {
        "GET"
    }


def test_a_subscription_that_cannot_be_read_is_told(azure: OpenAzure, report: Asked) -> None:
    cloud = azure(faults=[{"route": "ListVaults", "probability": 1, "fault": "status", "status": 403}])
    told = report("--subscription", cloud.subscription_id)
    assert told.status == 1
    assert f"Subscription {cloud.subscription_id} could not be read" in told.err


def test_a_vault_that_is_not_there_is_told_beside_the_others(azure: OpenAzure, report: Asked) -> None:
    cloud = azure(estate(protected("orders")))
    told = report("--vault", cloud.vault_id(), "--vault", cloud.vault_id().replace("vault1", "vault9"))
    assert told.status == 1
    assert {(row["vault"], row["state"], row["code"]) for row in told.rows} == {
        ("vault1", "covered", None),
        ("vault9", "unknown", "VaultNotFound"),
    }
    assert "vault9 could not be read" in told.err


def test_a_service_that_is_busy_for_a_moment_is_asked_again(azure: OpenAzure, report: Asked) -> None:
    cloud = azure(
        estate(protected("orders")),
        faults=[{"route": "ListProtectedItems", "nth": 1, "fault": "status", "status": 503}],
        time_scale=0.01,
    )
    assert report("--vault", cloud.vault_id()).status == 0


def test_an_empty_vault_takes_two_reads(azure: OpenAzure, report: Asked) -> None:
    cloud = azure()
    told = report("--vault", cloud.vault_id(), "-o", "table")
    assert told.status == 0
    assert told.out.startswith("There are no databases.")
    assert len(cloud.access_entries) == 2


def test_two_thousand_databases_take_forty_reads_of_listings_alone(
    azure: OpenAzure, report: Asked, tmp_path: Path
) -> None:
    machines = [
        estate(
            *(
                protected(f"db{number:03}", recoveryModel="Simple" if number % 3 == 0 else "Full")
                if number % 10
                else f"db{number:03}"
                for number in range(100)
            ),
            name=f"sqlvm{machine}",
        )
        for machine in range(20)
    ]
    cloud = azure(*machines)
    told = report("--vault", cloud.vault_id(), "--html", str(tmp_path / "page.html"))
    assert told.status == 1
    assert len(told.rows) == 2000
    assert Counter(row["state"] for row in told.rows)["unprotected"] == 200
    asked = Counter((entry["method"], entry["route"]) for entry in cloud.access_entries)
    assert sum(asked.values()) <= 40
    assert {method for method, _ in asked} == {"GET"}
    assert {route for _, route in asked} == {
        "ListContainers",
        "ListProtectedItems",
        "ListProtectableItems",
        "ListPolicies",
    }
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert len(text) < 1_000_000
    data = json.loads(
        text.partition('<script type="application/json" id="data">')[2].partition("</script>")[0]
    )
    assert len(data["rows"]) == 2000
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_a_page_that_cannot_be_written_is_an_error(azure: OpenAzure, report: Asked, tmp_path: Path) -> None:
    cloud = azure(estate(protected("orders")))
    told = report("--vault", cloud.vault_id(), "--html", str(tmp_path / "none" / "page.html"))
    assert told.status == 2
    assert "--html" in told.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no vault is named"),
        (("--vault", "vault1"), "--vault"),
        (("--subscription", "no-guid"), "--subscription"),
        (("--vault", "x", "-v", "vault1"), "does not go with -v"),
        (("-g", "rg", "-v", "v", "--subscription", "a", "--subscription", "b"), "--subscription"),
    ],
)
def test_places_that_cannot_be_meant_are_refused(
    arguments: tuple[str, ...], said: str, azure: OpenAzure, report: Asked
) -> None:
    azure()
    told = report(*arguments)
    assert told.status == 2
    assert said in told.err
