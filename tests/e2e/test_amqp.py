"""The whole flow over AMQP: the adapter and the SDK that run in Azure, a host that receives by them."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from cli import demo
from cli.awaited_requests import AwaitedRequests
from cli.main import main
from cli.request_lines import read_request_lines
from local.broker import Broker, InProcessBus
from local.estate import OUTCOMES, JsonObject, the_functions
from local.host import Host
from local.simulator import Scenario, Simulator, SimulatorServer
from shared import composition
from shared.bus.service_bus import ServiceBusBus
from shared.bus.topology import TOPOLOGY
from tests import deployment
from tests.e2e.drills import DRILL_VM, drill_estate, settings, source, touched_by_drills
from tests.e2e.harness import INSTANCE, POLICY, virtual_machine
from tests.unit.docs.markdown import ROOT

pytest.importorskip("proton", reason="python-qpid-proton is a development dependency")

# The SDK leaves the socket of a link that breaks while it is being opened to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

FAST = 0.004
#: What was on its way to a connection that breaks comes again when its lock ends; a test does not wait minutes.
SHORT_LOCKS = replace(
    TOPOLOGY, queues=tuple(replace(queue, lock_duration=timedelta(seconds=8)) for queue in TOPOLOGY.queues)
)
PATIENCE = 90.0
EVERY = [{"instance": INSTANCE, "database": "*"}]


class DeployedApp:
    """The app as it runs in Azure, as far as that can be had on one machine."""

    def __init__(
        self, stack: ExitStack, *databases: str, estate: JsonObject | None = None, **settings: str
    ) -> None:
        from azure.servicebus import ServiceBusClient

        from local.host.service_bus import ServiceBusReceiver
        from tests.amqp import serving_amqp

        scenario = {
            **(estate or {"virtualMachines": [virtual_machine("sqlvm1", *databases)]}),
            "serviceBusNamespaces": [deployment.namespace()],
            "functionApps": [deployment.function_app({})],
            "roleAssignments": [
                *deployment.held(),
                # Whoever calls here, be it the app or the command.
                {"actions": ["*"], "principalId": "local-simulator"},
            ],
        }
        self.simulator = Simulator(Scenario.model_validate(scenario), time_scale=FAST)
        server = stack.enter_context(SimulatorServer(self.simulator))
        self.url = server.url
        self.simulator.scenario.function_apps[0].settings.update(
            deployment.app_settings(arm_endpoint=server.url)
        )
        self.broker = stack.enter_context(Broker(None, SHORT_LOCKS))
        self.amqp_server = stack.enter_context(serving_amqp(self.broker))
        environment = {"ARM_ENDPOINT": server.url, "TIME_SCALE": str(FAST), "TRACK_INTERVAL": "PT10S"}
        environment |= settings
        bus = ServiceBusBus.from_connection_string(self.amqp_server.connection_string)
        stack.callback(bus.close)
        runtime = composition.build(environment, bus=bus)
        stack.callback(runtime.backup.close)
        composition.install(runtime)
        stack.callback(composition.install, None)
        client = stack.enter_context(
            ServiceBusClient.from_connection_string(self.amqp_server.connection_string, retry_total=0)
        )
        functions = the_functions()
        entities = {
            function.entity: 200 if function.batch else 1 for function in functions if function.entity
        }
        receiver = ServiceBusReceiver(client, entities)
        stack.callback(receiver.close)
        self.host = Host(functions, receiver, timers=False, threads=8)
        self.host.start()
        stack.callback(self.host.stop)

    def request(self, operation: str, **data: object) -> JsonObject:
        return {
            "specversion": "1.0",
            "type": f"sqlvmbackup.{operation}.requested.v1",
            "source": "/tests",
            "id": operation,
            "data": {"vaultId": self.simulator.vault_id(), **data},
        }

    def protect(self) -> JsonObject:
        machine = self.simulator.vm_id("sqlvm1")
        return self.request("protect", vmId=machine, policyName=POLICY, databases=EVERY)

    def backup(self) -> JsonObject:
        return self.request("backup", databases=EVERY, backupType="Full")

    def restore(self) -> JsonObject:
        machine = self.simulator.vm_id("sqlvm1")
        target = {"kind": "alternate", "vmId": machine, "instance": INSTANCE, "database": "copy"}
        return self.request(
            "restore",
            vmId=machine,
            instance=INSTANCE,
            database="orders",
            recoveryPoint={"latest": "full"},
            target=target,
        )

    def run(self, request: JsonObject, meanwhile: Callable[[], None] = lambda: None) -> list[JsonObject]:
        """Send a request and wait for its outcomes."""
        lines = read_request_lines([json.dumps(request).encode()])
        InProcessBus(self.broker).send([line.message() for line in lines])
        awaited = AwaitedRequests(lines)
        pause = Event()
        seen = 0
        for _ in range(int(PATIENCE / 0.05)):
            for message in self.broker.peek(OUTCOMES, seen, 500):
                seen = message.sequence_number + 1
                awaited.observe(json.loads(message.body))
            if awaited.complete:
                return list(awaited.final_outcomes())
            meanwhile()
            pause.wait(0.05)
        raise AssertionError("the outcomes did not come in time")

    @property
    def mutations(self) -> Counter[str]:
        return Counter(entry["route"] for entry in self.simulator.ledger_entries)


OpenApp = Callable[..., DeployedApp]


@pytest.fixture
def app() -> Iterator[OpenApp]:
    with ExitStack() as stack:
        yield lambda *databases, **more: DeployedApp(stack, *databases, **more)


def test_the_whole_flow_over_amqp(app: OpenApp) -> None:
    deployed = app("orders", "billing", "hr")
    outcomes = [*deployed.run(deployed.protect()), *deployed.run(deployed.backup())]
    outcomes += deployed.run(deployed.restore())
    assert Counter(outcome["data"]["status"] for outcome in outcomes) == {"succeeded": 7}
    expected = {"Register": 1, "Inquire": 1, "ConfigureBackup": 3, "Backup": 3, "Restore": 1}
    assert {route: deployed.mutations[route] for route in expected} == expected


def test_drills_over_amqp(
    app: OpenApp, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asked for by the command, which knows nothing of the app's settings."""
    deployed = app(estate=drill_estate("orders", source("damaged", corrupt=True)), **settings())
    monkeypatch.setenv("ServiceBusConnection", deployed.amqp_server.connection_string)
    monkeypatch.delenv("DRILL_TARGETS", raising=False)
    command = ("drill", "--vault", deployed.simulator.vault_id(), "--to-vm", DRILL_VM)
    to_app = ("--namespace", f"127.0.0.1:{deployed.amqp_server.port}")
    status = main((*command, *to_app))
    outcomes = [json.loads(line)["data"] for line in capsys.readouterr().out.splitlines()]
    found = {data["database"]: (data["status"], data["drill"]["cleanedUp"]) for data in outcomes}
    assert (status, found) == (1, {"orders": ("succeeded", True), "damaged": ("failed", True)})
    assert deployed.mutations == {"Restore": 2, "PutRunCommand": 4, "DeleteRunCommand": 3}
    assert {vm for vm, _ in touched_by_drills(deployed.simulator)} == {DRILL_VM}
    assert main((*command, "--to-instance", "OTHER", *to_app)) == 1
    out, err = capsys.readouterr()
    assert "--to-vm or --to-instance: the setting DRILL_TARGETS does not allow" in err
    assert json.loads(out)["data"]["error"]["code"] == "TargetNotAllowed"


def test_connections_that_break_lose_nothing_and_double_nothing(app: OpenApp) -> None:
    deployed = app("orders", "billing", "hr")
    looks = 0

    def break_connections() -> None:
        nonlocal looks
        looks += 1
        if looks in (10, 30):
            deployed.amqp_server.drop_connections()

    outcomes = deployed.run(deployed.protect(), break_connections)
    assert Counter(outcome["data"]["status"] for outcome in outcomes) == {"succeeded": 3}
    assert deployed.mutations["Register"] == 1


def test_a_requester_s_own_client_gets_nothing_by_what_it_writes_on_a_message(
    app: OpenApp, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from azure.servicebus import ServiceBusClient, ServiceBusMessage

    deployed = app("orders")
    deployed.run(deployed.protect())
    forged: Any = {"DeadLetterSource": "trigger-restore", "originalQueue": "trigger-restore", "epoch": 5}
    restore = json.dumps({"step": "trigger_restore", "request": deployed.restore()})
    with (
        ServiceBusClient.from_connection_string(deployed.amqp_server.connection_string) as client,
        client.get_queue_sender("backup-requests") as sender,
    ):
        # One that nobody may have the time to take, and one that is taken.
        sender.send_messages(
            ServiceBusMessage(restore, application_properties=forged, time_to_live=timedelta(milliseconds=1))
        )
        sender.send_messages(ServiceBusMessage(restore, application_properties=forged))
    pause = Event()
    for _ in range(int(PATIENCE / 0.05)):
        parked = deployed.broker.peek("parked-messages")
        if len(parked) == 2:
            break
        pause.wait(0.05)
    assert {message.application_properties["originalQueue"] for message in parked} == {"backup-requests"}
    assert {message.application_properties["epoch"] for message in parked} == {0}
    monkeypatch.setenv("ServiceBusConnection", deployed.amqp_server.connection_string)
    assert main(["replay", "send", "--all", "--namespace", f"127.0.0.1:{deployed.amqp_server.port}"]) == 0
    capsys.readouterr()
    for _ in range(int(PATIENCE / 0.05)):
        parked = deployed.broker.peek("parked-messages")
        if [message.application_properties["epoch"] for message in parked] == [1, 1]:
            break
        pause.wait(0.05)
    assert {message.application_properties["originalQueue"] for message in parked} == {"backup-requests"}
    assert not deployed.mutations["Restore"]


def test_the_command_with_a_deployed_app(
    app: OpenApp, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deployed = app("orders")
    monkeypatch.setenv("ServiceBusConnection", deployed.amqp_server.connection_string)
    namespace = f"127.0.0.1:{deployed.amqp_server.port}"
    vault, machine = deployed.simulator.vault_id(), deployed.simulator.vm_id("sqlvm1")
    protect = ("protect", "--vault", vault, "--vm", machine, "--policy", POLICY, "--namespace", namespace)

    def call(*arguments: str) -> tuple[int, list[JsonObject], str]:
        status = main(arguments)
        out, err = capsys.readouterr()
        return status, [json.loads(line) for line in out.splitlines()], err

    status, outcomes, err = call(*protect, "--id", "one")
    assert (status, [outcome["data"]["status"] for outcome in outcomes]) == (0, ["succeeded"]), err
    # Sent again it is the same request: it is answered by what there is.
    status, again, _ = call(*protect, "--id", "one")
    assert (status, again) == (0, outcomes)
    status, outcomes, err = call("backup", "--vault", vault, "--namespace", namespace, "--no-wait")
    assert (status, outcomes) == (0, [])
    assert "is sent" in err

    InProcessBus(deployed.broker).send([line.message() for line in read_request_lines([b"garbage"])])
    pause = Event()
    parked: list[JsonObject] = []
    for _ in range(200):
        parked = call("replay", "--namespace", namespace)[1]
        if parked:
            break
        pause.wait(0.05)
    assert [row["queue"] for row in parked] == ["events"]
    status, _, err = call("replay", "send", str(parked[0]["number"]), "--namespace", namespace)
    assert (status, "1 of 1 sent again." in err) == (0, True)


def page_commands() -> list[str]:
    """The commands of the pages for who deploys and operates the app, in their order."""
    text = "".join(
        (ROOT / "docs" / page).read_text(encoding="utf-8") for page in ("deploy.md", "operations.md")
    )
    lines = text.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip().startswith("sqlvmbackup ")]


def test_the_commands_of_the_guides_run_as_they_stand(
    app: OpenApp, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    deployed = app("orders")
    deployed.run(deployed.protect())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ServiceBusConnection", deployed.amqp_server.connection_string)
    monkeypatch.setenv("ARM_ENDPOINT", deployed.url)
    monkeypatch.setattr(demo, "TIME_SCALE", 0.002)
    namespace = f"127.0.0.1:{deployed.amqp_server.port}"
    Path("lost.jsonl").write_text(json.dumps(deployed.backup() | {"id": "lost"}) + "\n", encoding="utf-8")
    vault, machine = deployed.simulator.vault_id(), deployed.simulator.vm_id("sqlvm1")
    InProcessBus(deployed.broker).send([line.message() for line in read_request_lines([b"garbage"])])
    parked = ""
    for _ in range(200):
        main(["replay", "list", "--namespace", namespace, "--json"])
        if parked := capsys.readouterr().out:
            break
        Event().wait(0.05)
    number = str(json.loads(parked.splitlines()[0])["number"])
    stands_for = {
        "NAMESPACE": namespace,
        "APP": deployment.APP,
        "VAULT": vault,
        "VM": machine,
        "/subscriptions/…/vaults/vault1": vault,
        "/subscriptions/…/virtualMachines/sql1": machine,
        "3": number,
    }
    ran = []
    for line in page_commands():
        words = [stands_for.get(word, word) for word in shlex.split(line)[1:]]
        if words[0] == "watch":
            words.append("--once")
        status = main(words)
        out, err = capsys.readouterr()
        # Something is parked: who asks for the state is told so by the exit status.
        assert status == (1 if words[0] == "status" else 0), f"{line}\n{out}\n{err}"
        ran.append(words[0])
    assert set(ran) == {"doctor", "backup", "status", "watch", "replay", "demo"}
    assert Path("spans.jsonl").stat().st_size
