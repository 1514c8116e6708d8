"""`sqlvmbackup doctor` names whatever is missing, and says nothing where nothing is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from cli import rights
from cli.deployed_app import DeployedApp, lacking
from cli.main import main
from local.simulator import Scenario, Simulator, SimulatorServer
from shared.bus.topology import TOPOLOGY
from tests.deployment import (
    CLIENT,
    GIVEN,
    PRINCIPAL,
    TOPOLOGY_DATA,
    app_settings,
    filled_in,
    function_app,
    namespace,
)
from tests.unit.examples import SUBSCRIPTION

JsonObject = dict[str, Any]

BUS = {
    "roleName": "Azure Service Bus Data Owner",
    "actions": ["Microsoft.ServiceBus/*"],
    "dataActions": ["Microsoft.ServiceBus/*"],
}
HERE = "http://here"
#: Who looks, who is not the app.
READER = {"roleName": "Reader", "actions": ["*/read"], "principalId": "local-simulator"}
LOOKING = {**READER, "actions": ["*/read", "Microsoft.Web/sites/config/list/action"]}
HOST = [{"roleName": role, "dataActions": list(actions)} for _, _, role, actions in rights.BESIDE]


def roles(*without: str) -> list[JsonObject]:
    """Every role of the app, without some of their actions."""
    return [
        {"roleName": role.name, "actions": [action for action in role.actions if action not in without]}
        for role in rights.ROLES
    ]


Look = Callable[..., tuple[int, list[JsonObject]]]


@pytest.fixture
def look(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Look]:
    """Runs the command against an estate: its exit status, and what it found wrong."""

    def run(
        *flags: str,
        assignments: list[JsonObject] | None = None,
        bus: JsonObject | None = None,
        settings: dict[str, str] | None = None,
        app: dict[str, str] | None = None,
    ) -> tuple[int, list[JsonObject]]:
        for name, value in (settings or {}).items():
            monkeypatch.setenv(name, value)
        scenario: JsonObject = {"serviceBusNamespaces": [bus or namespace()]}
        if app is not None:
            scenario["functionApps"] = [function_app(app)]
        if assignments is not None:
            scenario["roleAssignments"] = [*assignments, LOOKING if app is not None else READER]
        simulator = Simulator(Scenario.model_validate(scenario))
        with SimulatorServer(simulator) as server:
            arguments = ["--arm-endpoint", server.url, "--vault", simulator.vault_id()]
            arguments += ["--vm", simulator.vm_id("sqlvm1"), "--drill-vm", simulator.vm_id("sqlvm2")]
            if app is None:
                arguments += ["--namespace", "sb-app"]
            elif app.get("ARM_ENDPOINT") == HERE:
                app["ARM_ENDPOINT"] = server.url
                simulator.scenario.function_apps[0].settings["ARM_ENDPOINT"] = server.url
            arguments += ["--json", *flags]
            arguments += [
                flag
                for name in ("firstBackup", "autoProtect", "createPolicy", "createVault")
                for flag in ("--option", name)
            ]
            status = main(["doctor", *arguments])
        found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert simulator.ledger_entries == [], "it changes nothing"
        assert not [each for each in found if each["result"] == "skipped"]
        return status, [each for each in found if each["result"] != "ok"]

    yield run


def held_by_app(entries: list[JsonObject]) -> list[JsonObject]:
    return [{**entry, "principalId": PRINCIPAL} for entry in entries]


def test_nothing_is_wrong_where_everything_is_there(look: Look) -> None:
    assert look("--identity", PRINCIPAL, assignments=held_by_app([*roles(), BUS, *HOST])) == (0, [])
    assert look() == (0, []), "what one may do oneself"


@pytest.mark.parametrize("role", rights.ROLES, ids=lambda role: role.name)
def test_a_role_that_is_not_assigned_is_named_with_its_scope(look: Look, role: rights.Role) -> None:
    others = [entry for entry in roles() if entry["roleName"] != role.name]
    only = {action for action in role.actions if not action.endswith("/read")} - {
        action for other in rights.ROLES if other is not role for action in other.actions
    }
    status, wrong = look("--identity", PRINCIPAL, assignments=held_by_app([*others, BUS, *HOST]))
    # What other roles hold as well is there all the same, on every scope of this estate.
    expected = {action for action in role.actions if not any(action in entry["actions"] for entry in others)}
    if not expected:
        assert (status, wrong) == (0, [])
        return
    assert status == 1
    (found,) = [each for each in wrong if each["what"].startswith(f"role {role.name} on /subscriptions/")]
    assert all(action in found["finding"] for action in only | expected)
    assert f"--assignee-object-id {PRINCIPAL}" in found["todo"]


@pytest.mark.parametrize("action", sorted({action for role in rights.ROLES for action in role.actions}))
def test_an_action_that_no_role_allows_is_named_for_every_role_that_needs_it(look: Look, action: str) -> None:
    status, wrong = look("--identity", PRINCIPAL, assignments=held_by_app([*roles(action), BUS, *HOST]))
    assert status == 1
    assert {each["what"].split()[1] for each in wrong} == {
        role.name for role in rights.ROLES if action in role.actions
    }
    assert all(action in each["finding"] for each in wrong)


def test_what_an_assignment_takes_out_again_is_missing(look: Look) -> None:
    restore = next(action for action in rights.ROLES[2].actions if action.endswith("restore/action"))
    wide = [
        {
            "actions": [
                "Microsoft.RecoveryServices/*",
                "Microsoft.Compute/*",
                "Microsoft.SqlVirtualMachine/*",
            ],
            "notActions": [restore],
        }
    ]
    status, wrong = look("--identity", PRINCIPAL, assignments=held_by_app([*wide, BUS, *HOST]))
    assert status == 1
    assert [each["finding"].split(";")[0] for each in wrong] == [f"not allowed: {restore}"]


def test_a_role_on_another_scope_does_not_count(look: Look) -> None:
    elsewhere = [
        {**entry, "scope": "/subscriptions/00000000-0000-0000-0000-0000000000ff"} for entry in roles()
    ]
    _, wrong = look("--identity", PRINCIPAL, assignments=held_by_app([*elsewhere, BUS, *HOST]))
    assert {each["what"].split()[1] for each in wrong} == {role.name for role in rights.ROLES}


@pytest.mark.parametrize("missing", [BUS, *HOST], ids=lambda entry: str(entry["roleName"]))
def test_a_built_in_role_that_is_not_assigned_is_named(look: Look, missing: JsonObject) -> None:
    held = [entry for entry in (BUS, *HOST) if entry is not missing]
    status, wrong = look("--identity", PRINCIPAL, assignments=held_by_app([*roles(), *held]))
    assert status == 1
    assert [each["what"].partition(" on ")[0] for each in wrong] == [f"role {missing['roleName']}"]


@pytest.mark.parametrize("queue", [queue.name for queue in TOPOLOGY.queues])
def test_a_queue_that_is_missing_or_different_is_named(look: Look, queue: str) -> None:
    without = namespace()
    without["queues"] = [each for each in without["queues"] if each["name"] != queue]
    status, wrong = look(bus=without)
    assert (status, [each["what"] for each in wrong]) == (1, [f"queue {queue}"])


OTHER: dict[str, Any] = {
    "requiresDuplicateDetection": False,
    "duplicateDetectionHistoryTimeWindow": "PT10M",
    "requiresSession": True,
    "lockDuration": "PT30S",
    "maxDeliveryCount": 10_000,
    "deadLetteringOnMessageExpiration": False,
    "forwardDeadLetteredMessagesTo": "somewhere",
    "defaultMessageTimeToLive": "PT1H",
    "status": "Disabled",
    "enablePartitioning": True,
}


def held_by(kind: str) -> list[str]:
    """What the app needs of entities of a kind, beside their being there."""
    return [*TOPOLOGY_DATA[kind][0]["properties"], "status", "enablePartitioning"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in ("queues", "topics", "subscriptions") for name in held_by(kind)],
)
def test_a_property_that_differs_is_named_with_what_it_is_and_should_be(
    look: Look, kind: str, name: str
) -> None:
    bus = namespace()
    entity = bus["topics"][0]["subscriptions"][0] if kind == "subscriptions" else bus[kind][0]
    entity["properties"][name] = OTHER[name]
    status, (wrong,) = look(bus=bus)
    assert status == 1
    assert wrong["what"].endswith(f"{entity['name']}: {name}")
    assert str(OTHER[name]).lower() in wrong["finding"].lower()
    assert name in wrong["todo"]


@pytest.mark.parametrize(
    ("queue", "name", "value"),
    [
        ("select-items", "forwardTo", "somewhere"),
        ("dead-letters", "forwardDeadLetteredMessagesTo", "somewhere"),
        ("track", "defaultMessageTimeToLive", "PT1H"),
        ("restore-requests", "autoDeleteOnIdle", "P30D"),
    ],
)
def test_what_takes_messages_away_is_named_though_the_app_does_not_set_it(
    look: Look, queue: str, name: str, value: str
) -> None:
    bus = namespace()
    entity = next(each for each in bus["queues"] if each["name"] == queue)
    entity["properties"][name] = value
    status, (wrong,) = look(bus=bus)
    assert (status, wrong["what"]) == (1, f"queue {queue}: {name}")
    assert value in wrong["finding"]


def test_what_the_service_says_of_what_was_not_set_is_right(look: Look) -> None:
    bus = namespace()
    for each in bus["queues"]:
        each["properties"] |= {
            "autoDeleteOnIdle": "P10675199DT2H48M5.4775807S",
            "defaultMessageTimeToLive": "P10675199DT2H48M5.4775807S",
            "forwardTo": None,
            "maxSizeInMegabytes": 1024,
        }
    assert look(bus=bus) == (0, [])


def test_the_same_said_in_another_way_is_the_same(look: Look) -> None:
    bus = namespace()
    properties = next(each["properties"] for each in bus["queues"] if each["name"] == "select-items")
    properties["lockDuration"] = "PT300S"
    properties["duplicateDetectionHistoryTimeWindow"] = "P1W"
    properties["forwardDeadLetteredMessagesTo"] = "https://sb-app.servicebus.windows.net/Dead-Letters"
    assert look(bus=bus) == (0, [])


def test_a_namespace_that_admits_keys_or_is_basic_is_named(look: Look) -> None:
    _, (wrong,) = look(bus={**namespace(), "disableLocalAuth": False})
    assert "disableLocalAuth" in wrong["what"]
    _, (wrong, *_) = look(bus={**namespace(), "sku": "Basic"})
    assert "Basic" in wrong["finding"]


def test_only_what_the_app_serves_is_looked_for(look: Look) -> None:
    bus = namespace()
    kept = {each["name"] for each in TOPOLOGY_DATA["queues"] if "backup" in each["workflows"]}
    bus["queues"] = [each for each in bus["queues"] if each["name"] in kept]
    status, wrong = look(bus=bus, settings={"WORKFLOWS": "backup"})
    assert (status, wrong) == (0, [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKFLOWS", "backups"),
        ("BACKUP_SCHEDULES", "{}"),
        ("EVENTS_ALLOW_RESTORE", "maybe"),
        ("RESTORE_ALLOWED_TARGETS", "all"),
        ("RESTORE_ALLOWED_PATHS", "F:\\"),
        ("RESTORE_ALLOW_OVERWRITE", "perhaps"),
        ("OPERATION_TIMEOUT", "2h"),
        ("JOB_TIMEOUT", "0"),
        ("TRACK_INTERVAL", "-PT5S"),
        ("SERVICE_BUS_TRANSPORT", "http"),
        ("TIME_SCALE", "-1"),
        ("ServiceBusConnection__accountName", "name"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(look: Look, name: str, value: str) -> None:
    around = {"ServiceBusConnection__fullyQualifiedNamespace": "sb-app.servicebus.windows.net"}
    status, wrong = look(settings={**around, name: value})
    assert status == 1
    assert any(each["what"] == f"setting {name}" for each in wrong)


def test_without_a_token_it_says_how_to_sign_in_whatever_was_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    assert main(["doctor", "--app", "func-app", "--subscription", SUBSCRIPTION, "--json"]) == 1
    (found,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found["what"] == "token"
    assert "az login" in found["todo"]


# The deployed app


def deployed(*without: str) -> dict[str, str]:
    """The settings of an app that serves backups alone, without some."""
    return app_settings(*without, arm_endpoint=HERE, workflows="backup")


def test_nothing_is_wrong_with_an_app_as_the_templates_deploy_it(look: Look) -> None:
    assert set(filled_in("", "")) < set(GIVEN), "a setting that the templates no longer give"
    assert look(
        "--app", "func-app", assignments=held_by_app([*roles(), BUS, *HOST]), app=deployed("WORKFLOWS")
    ) == (
        0,
        [],
    )


def test_which_workflows_it_serves_is_its_own_setting_and_not_that_of_the_environment(look: Look) -> None:
    bus = namespace()
    kept = {each["name"] for each in TOPOLOGY_DATA["queues"] if "backup" in each["workflows"]}
    bus["queues"] = [each for each in bus["queues"] if each["name"] in kept]
    held = held_by_app([*roles(), BUS, *HOST])
    elsewhere = {"WORKFLOWS": "protect"}
    assert look("--app", "func-app", assignments=held, bus=bus, app=deployed(), settings=elsewhere) == (0, [])
    # Without it the app serves all of them, and has no queues for them.
    status, wrong = look("--app", "func-app", assignments=held, bus=bus, app=deployed("WORKFLOWS"))
    assert status == 1
    assert {each["what"] for each in wrong} == {
        f"queue {queue.name}" for queue in TOPOLOGY.queues if queue.name not in kept
    }


@pytest.mark.parametrize("name", sorted(set(GIVEN) - {"WORKFLOWS"}))
def test_a_setting_of_the_templates_that_is_taken_away_is_named_with_the_command_that_sets_it(
    look: Look, name: str
) -> None:
    held = held_by_app([*roles(), BUS, *HOST])
    status, wrong = look(
        "--app", "func-app", "--namespace", "sb-app", assignments=held, app=deployed(name, "WORKFLOWS")
    )
    assert status == 1
    (found,) = [each for each in wrong if each["what"] == f"setting {name} of app func-app"]
    assert found["todo"].startswith(
        "az functionapp config appsettings set --name func-app --resource-group rg-app "
    )
    assert f'"{name}=' in found["todo"]


def test_an_app_with_a_system_assigned_identity_has_no_client_to_name() -> None:
    endpoint = "https://management.azure.com"
    named = {name for name in GIVEN if name.lower().endswith(("clientid", "client_id"))}
    settings = app_settings(*named, arm_endpoint=endpoint)
    of_its_own = DeployedApp(id="/x", settings=settings, identities={"": PRINCIPAL})
    assert list(lacking(of_its_own, endpoint)) == []
    assert of_its_own.principal == PRINCIPAL
    given = DeployedApp(id="/x", settings=settings, identities={CLIENT: PRINCIPAL})
    assert {each.name for each in lacking(given, endpoint)} == named
    # Nobody can tell as whom an app works that names none of two.
    assert replace(given, identities={CLIENT: PRINCIPAL, "other": "another"}).principal is None


@pytest.mark.parametrize(
    "name", ["AZURE_CLIENT_ID", "ServiceBusConnection__clientId", "AzureWebJobsStorage__clientId"]
)
def test_an_identity_that_the_app_does_not_have_is_named(look: Look, name: str) -> None:
    other = deployed("WORKFLOWS") | {name: "44444444-4444-4444-4444-444444444444"}
    _, wrong = look("--app", "func-app", assignments=held_by_app([*roles(), BUS, *HOST]), app=other)
    assert [each["what"] for each in wrong] == [f"setting {name} of app func-app"]


def test_a_setting_of_the_app_that_cannot_be_used_is_named_and_no_value_is_shown(look: Look) -> None:
    held = held_by_app([*roles(), BUS, *HOST])
    bad = deployed("WORKFLOWS") | {"JOB_TIMEOUT": "soon", "ServiceBusConnection__key": "hunter2"}
    _, wrong = look("--app", "func-app", assignments=held, app=bad)
    assert [each["what"] for each in wrong] == ["setting JOB_TIMEOUT", "setting ServiceBusConnection__key"]
    assert "hunter2" not in json.dumps(wrong)


def test_whoever_may_not_read_the_settings_is_told_what_to_ask_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    scenario = {
        "roleAssignments": [READER],
        "functionApps": [function_app({})],
    }
    simulator = Simulator(Scenario.model_validate(scenario))
    with SimulatorServer(simulator) as server:
        flags = ["--arm-endpoint", server.url, "--vault", simulator.vault_id(), "--json"]
        assert main(["doctor", "--app", "func-app", *flags]) == 1
        (found,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert "Microsoft.Web/sites/config/list/action" in found["finding"]
        assert "Website Contributor" in found["todo"]
        assert main(["doctor", "--app", "other", *flags]) == 1
        (found,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert (found["what"], found["finding"]) == (
            "app other",
            f"It is not in subscription {SUBSCRIPTION}.",
        )


def test_a_vault_that_is_not_there_is_named(look: Look) -> None:
    group = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-backup"
    other = f"{group}/providers/Microsoft.RecoveryServices/vaults/other"
    status, wrong = look("--vault", other)
    assert status == 1
    assert any(each["what"] == f"vault {other}" and "not there" in each["finding"] for each in wrong)


def test_roles_on_vms_are_not_called_right_where_no_vm_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = Simulator(Scenario.model_validate({}))
    targets = [{"vmId": simulator.vm_id("sqlvm2"), "instance": "MSSQLSERVER"}]
    with SimulatorServer(simulator) as server:
        look = ["doctor", "--arm-endpoint", server.url, "--vault", simulator.vault_id(), "--json"]
        assert main(look) == 0
        found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        skipped = [each["what"] for each in found if each["result"] == "skipped"]
        assert skipped == ["role virtual-machine", "role drill-virtual-machine"]
        # The app's own setting says which VMs are for drills.
        monkeypatch.setenv("DRILL_TARGETS", json.dumps(targets))
        assert main([*look, "--vm", simulator.vm_id("sqlvm1")]) == 0
        found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert not [each for each in found if each["result"] == "skipped"]
        assert f"role drill-virtual-machine on {simulator.vm_id('sqlvm2')}" in [
            each["what"] for each in found
        ]


def test_a_person_reads_what_is_wrong_last_with_a_command_to_copy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    simulator = Simulator(Scenario.model_validate({"roleAssignments": [READER]}))
    with SimulatorServer(simulator) as server:
        assert (
            main(["doctor", "--arm-endpoint", server.url, "--vault", simulator.vault_id(), "--no-json"]) == 1
        )
    lines = capsys.readouterr().out.splitlines()
    places = [number for number, line in enumerate(lines) if line.startswith("wrong  ")]
    assert all(line.startswith(("ok     ", "skipped ")) for line in lines[: places[0]])
    (backup,) = (number for number in places if lines[number].startswith("wrong  role backup on "))
    assert "protectedItems/backup/action" in lines[backup + 1]
    assert (
        f'--role "SQL VM Backup backup (ENVIRONMENT)" --scope "{simulator.vault_id()}"' in lines[backup + 2]
    )
    assert lines[-1].endswith(("is wrong.", "are wrong."))
