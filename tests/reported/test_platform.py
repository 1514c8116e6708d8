"""Where Azure Functions and Service Bus differ from what is handy: encodings, packages, logs, networks.

What a trigger hands over follows the sources of the Service Bus extension 5.x (Azure/azure-sdk-for-net), the Functions
host (Azure/azure-functions-host) and the Python worker (Azure/azure-functions-python-worker), through the local
host, whose own encoding `tests/unit/host/test_host.py` holds to them.
"""

from __future__ import annotations

import codecs
import copy
import json
import logging
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import azure.servicebus
import pytest

from cli.errors import CommandError
from cli.namespace import _Events
from functions.packages import MODULES, MissingPackagesError
from local.broker import Broker
from local.broker.model import IncomingMessage
from local.stepped_clock import SteppedClock
from shared import composition, triggers
from shared.arm import credentials
from shared.bus import OutgoingMessage
from shared.bus.service_bus import ServiceBusBus
from shared.namespace import connect
from shared.settings import SettingsError
from tests.amqp import serving_amqp
from tests.faults.estate import FaultyEstate, Plan, bare_estate, fault, open_faulty, protected_estate
from tests.reported.test_senders import step_body
from tests.unit.docs.markdown import ROOT

THREE = ("orders", "billing", "payroll")
INTAKE = ("receive", "replays", "dead_letters")


def sent_as(azure: FaultyEstate, queue: str, *bodies: bytes, **properties: Any) -> None:
    """Put bodies on a queue as any AMQP client could."""
    for number, body in enumerate(bodies):
        message = IncomingMessage(**{"body": body, "message_id": f"{queue}-{number}", **properties})
        azure.broker.send(queue, [message])


def followed(azure: FaultyEstate, *databases: str) -> dict[str, Any]:
    """A backup request of which every job is being followed."""
    request = azure.backup(*databases)
    azure.submit(request)
    while azure.broker.counts("track").scheduled + azure.broker.counts("track").active < len(databases):
        azure.host.run_until_idle()
    return request


# -- the app receives, and cannot send


class Outage(set[int]):
    """Sends that the bus does not take: all, for some time from the first on."""

    def __init__(self, lasts: timedelta) -> None:
        super().__init__()
        self.lasts = lasts
        self.clock: SteppedClock | None = None

    def begin(self, clock: SteppedClock) -> None:
        self.clock, self.until = clock, clock.now() + self.lasts

    def __contains__(self, _: object) -> bool:
        return self.clock is not None and self.clock.now() < self.until


@pytest.mark.parametrize("lasts", [timedelta(seconds=75), timedelta(hours=6)], ids=str)
def test_nothing_is_lost_while_the_bus_takes_nothing(lasts: timedelta) -> None:
    outage = Outage(lasts)
    with open_faulty(protected_estate(*THREE), Plan(unavailable=outage)) as azure:
        followed(azure, *THREE)
        outage.begin(azure.clock)
        azure.quiesce()
        azure.clock.advance(lasts)
        azure.quiesce()
        azure.check()


def held_until(
    azure: FaultyEstate, lasts: timedelta, mend: Callable[[], object], patch: pytest.MonkeyPatch
) -> None:
    """Who holds a message does so by the stepped clock; what is wrong is mended while one is held."""
    until = azure.clock.now() + lasts

    def sleep(duration: timedelta) -> None:
        azure.clock.sleep(duration)
        if azure.clock.now() >= until:
            mend()

    clock = SimpleNamespace(now=azure.clock.now, sleep=sleep)
    patch.setattr(triggers, "SystemClock", lambda: clock)


@pytest.mark.parametrize(
    "setting",
    [
        {"SERVICE_BUS_TRANSPORT": "websockets"},
        {"ServiceBusConnection__fullyQualifiedNamespace": ""},
        {"ServiceBusConnection__fullyQualifiedNamespace": "sb://n.servicebus.windows.net/"},
        {"ServiceBusConnection__credential": "workloadidentity"},
        {"ServiceBusConnection__clientId": "one", "ServiceBusConnection__managedIdentityResourceId": "/two"},
        {"ServiceBusConnection__somethingNew": "x"},
        {"ServiceBusConnection": "Endpoint=sb://n/;SharedAccessKeyName=n;SharedAccessKey=k;EntityPath=track"},
        {"AZURE_CLIENT_SECRET": "a secret without the rest"},
    ],
    ids=" ".join,
)
def test_nothing_is_lost_while_the_settings_of_the_bus_cannot_be_used(
    setting: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host receives; what the app cannot send is held, or it would be used up within seconds."""
    with open_faulty(protected_estate(*THREE)) as azure:
        followed(azure, *THREE)
        wired = azure.runtime
        monkeypatch.setenv("ServiceBusConnection__fullyQualifiedNamespace", "n.servicebus.windows.net")
        for name, value in setting.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(composition, "_bus", None)
        held_until(azure, timedelta(hours=6), lambda: composition.install(wired), monkeypatch)
        composition.install(None)
        azure.submit(azure.restore("orders", "orders_copy"))
        azure.quiesce()
        azure.check()
        assert composition.runtime() is wired
        assert azure.parked() == []


@pytest.mark.parametrize("queue", ["backup-requests", "events", "trigger-backup", "replays"])
def test_nothing_is_lost_while_the_packages_cannot_be_imported(
    queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are there, so the app is indexed; built for another system, they fail on the first message."""
    broken = ("shared.engine.run", "shared.following.batch", *(f"shared.intake.{name}" for name in INTAKE))
    with open_faulty(protected_estate(*THREE)) as azure:
        request = followed(azure, *THREE)
        another = azure.backup("orders", backup_type="CopyOnlyFull")
        replayed = {"originalQueue": "backup-requests", "epoch": 1} if queue == "replays" else {}
        body = step_body("trigger_backup", another) if queue == "trigger-backup" else another
        with monkeypatch.context() as patch:
            for name in broken:
                patch.setitem(sys.modules, name, None)
            held_until(azure, timedelta(hours=6), patch.undo, patch)
            sent_as(azure, queue, json.dumps(body).encode(), application_properties=replayed)
            azure.quiesce()
        assert {outcome["data"]["status"] for outcome in azure.outcomes_of(request)} == {"succeeded"}
        assert azure.outcomes()[-1]["data"]["status"] == "succeeded"
        assert len(azure.outcomes()) == 4
        assert azure.parked() == []


def expired(azure: FaultyEstate, queue: str, body: Any, **properties: Any) -> None:
    """A message whose time to live passes before a function takes it; the broker moves it to the dead letters."""
    raw = json.dumps(body).encode()
    sent_as(azure, queue, raw, time_to_live=timedelta(milliseconds=1), application_properties=properties)
    azure.clock.advance(timedelta(seconds=1))


DISTURBANCES: dict[str, dict[str, Any]] = {
    "one entity refuses": {"refused": {"job-outcomes": 3}},
    "the process ends": {"at": {"send job-outcomes": "before"}},
    "the process ends after answering": {"at": {"send job-outcomes": "after"}},
    "the bus is gone": {"unavailable": set(range(4))},
}


@pytest.mark.parametrize("disturbance", DISTURBANCES.values(), ids=DISTURBANCES)
@pytest.mark.parametrize("queue", ["backup-requests", "events", "replays"])
def test_a_dead_letter_that_is_put_back_still_tells_where_it_comes_from(
    queue: str, disturbance: dict[str, Any]
) -> None:
    """A copy has no DeadLetterSource of the broker's: its requester would be told that it is no request."""
    with open_faulty(protected_estate(), Plan(**copy.deepcopy(disturbance))) as azure:
        request = azure.backup("orders")
        replayed = {"originalQueue": "backup-requests", "epoch": 1} if queue == "replays" else {}
        # Nor is a sender's property of that name believed.
        expired(azure, queue, request, DeadLetterSource="trigger-restore", **replayed)
        azure.quiesce()
        (told,) = azure.outcomes()
        assert told["type"] == "sqlvmbackup.backup.failed.v1"
        assert told["data"]["error"]["code"] == "MessageExpired"
        (parked,) = azure.parked()
        assert parked["originalQueue"] == ("backup-requests" if queue == "replays" else queue)
        assert azure.replay() == 1
        azure.quiesce()
        assert azure.outcomes()[-1]["data"]["status"] == "succeeded"
        assert azure.parked() == []


# -- packages that are not there

#: What the worker brings along.
OF_THE_WORKER = {"azure", "werkzeug", "markupsafe"}


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The app as it is published, its packages beside it."""
    for name in ("function_app.py", "host.json", "requirements.txt"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    for name in ("functions", "shared"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    packages = tmp_path / ".python_packages/lib/site-packages"
    packages.mkdir(parents=True)
    for entry in Path(pytest.__file__).parents[1].iterdir():
        if not entry.name.startswith(("__editable__", "_distutils", "distutils", "_virtualenv")):
            (packages / entry.name).symlink_to(entry)
    return tmp_path


INDEX = """
import sys
sys.path[:0] = [{packages!r}]
sys.path.append({app!r})  # last, as on Flex Consumption
import function_app
print(len(function_app.app.get_functions()), not {{"pydantic", "azure.identity", "cryptography"}} & set(sys.modules))
"""


def indexed(tree: Path) -> subprocess.CompletedProcess[str]:
    """Index the app as a worker of this Python would, with no packages but its own."""
    packages = tree / ".python_packages/lib/site-packages"
    script = INDEX.format(packages=str(packages), app=str(tree))
    return subprocess.run(
        [sys.executable, "-S", "-c", script],
        cwd=tree.parent,
        env={"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_app_with_its_packages_is_indexed(published: Path) -> None:
    done = indexed(published)
    assert done.stdout.split()[1:] == ["True"], done.stderr
    assert int(done.stdout.split()[0]) >= 18


def refused(tree: Path, *modules: str) -> None:
    done = indexed(tree)
    assert done.returncode != 0
    last = done.stderr.splitlines()[-1]
    assert last.startswith("functions.packages.MissingPackagesError: "), done.stderr
    assert f"Python {sys.version_info.major}.{sys.version_info.minor}" in last
    assert "stay in their queues" in last
    for module in modules:
        assert re.search(rf"\b{re.escape(module)}\b", last), last


def test_an_app_without_packages_is_not_indexed(published: Path) -> None:
    packages = published / ".python_packages/lib/site-packages"
    for entry in packages.iterdir():
        if entry.name not in OF_THE_WORKER:
            entry.unlink()
    (packages / "azure").unlink()
    (packages / "azure").mkdir()
    functions = Path(pytest.__file__).parents[1] / "azure/functions"
    (packages / "azure/functions").symlink_to(functions)
    refused(published, *(name for name in MODULES if name != "azure.functions"))


def test_an_app_that_lacks_one_package_is_not_indexed(published: Path) -> None:
    (published / ".python_packages/lib/site-packages/cronsim").unlink()
    refused(published, "cronsim")


@pytest.mark.parametrize(
    ("where", "compiled", "module"),
    [
        ("pydantic_core", "_pydantic_core", "pydantic_core._pydantic_core"),
        (".", "_cffi_backend", "_cffi_backend"),
    ],
)
def test_an_app_with_packages_of_another_python_is_not_indexed(
    published: Path, where: str, compiled: str, module: str
) -> None:
    packages = published / ".python_packages/lib/site-packages"
    if where != ".":
        source = (packages / where).resolve()
        (packages / where).unlink()
        shutil.copytree(source, packages / where, ignore=shutil.ignore_patterns("__pycache__"))
    (built,) = (packages / where).glob(f"{compiled}.*.so")
    built.rename(built.with_name(f"{compiled}.cpython-39-x86_64-linux-gnu.so"))
    refused(published, module)


def test_what_is_looked_for_is_what_requirements_txt_installs() -> None:
    from importlib.metadata import distribution, packages_distributions

    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    locked = set(re.findall(r"^([A-Za-z0-9-]+)==", text, re.MULTILINE))
    # werkzeug and what it needs are azure-functions' own, which the worker brings along; pycparser is for building.
    expected = locked - {"werkzeug", "markupsafe", "pycparser"}
    owners = {
        top: {owner.lower().replace("_", "-") for owner in found}
        for top, found in packages_distributions().items()
    }
    covered = set()
    for module in MODULES:
        top, _, rest = module.partition(".")
        covered |= {f"azure-{rest}"} if top == "azure" else owners[top]
    assert covered == expected
    for name in expected:
        for path in distribution(name).files or ():
            if path.suffix != ".so":
                continue
            stem = path.name.partition(".")[0]
            module = ".".join((*path.parts[:-1], stem))
            in_python = distribution(name).locate_file(path.with_name(f"{stem}.py"))
            assert module in MODULES or Path(str(in_python)).is_file(), f"nothing stands in for {module}"
    assert issubclass(MissingPackagesError, ImportError)


@pytest.mark.parametrize("missing", ["opentelemetry", "opentelemetry.sdk.trace", "opentelemetry.sdk.metrics"])
def test_telemetry_without_its_packages_keeps_no_message_from_being_handled(
    missing: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its setting is one of the host's as well, and may be set where requirements-telemetry.txt is not installed."""
    monkeypatch.delitem(sys.modules, "shared.telemetry.open_telemetry", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setenv("AzureFunctionsJobHost__telemetryMode", "OpenTelemetry")
    with open_faulty(protected_estate()) as azure:
        wired = azure.runtime
        monkeypatch.setattr(composition, "build", lambda _: wired)
        composition.install(None)
        azure.submit(azure.backup("orders"))
        azure.quiesce()
        azure.check()
        assert azure.outcome()["status"] == "succeeded"
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert "requirements-telemetry.txt" in line


# -- bodies


def test_an_empty_body_among_polls_is_parked_and_harms_none_of_them() -> None:
    with open_faulty(protected_estate(*THREE)) as azure:
        request = followed(azure, *THREE)
        azure.clock.advance(timedelta(minutes=1))
        sent_as(azure, "track", b"", b"")
        azure.quiesce()
        statuses = [outcome["data"]["status"] for outcome in azure.outcomes_of(request)]
        assert statuses == ["succeeded"] * 3
        assert [parked["body"] for parked in azure.parked()] == [b"", b""]
        assert azure.host.failures == 0


def latin_1(azure: FaultyEstate, request_id: str) -> bytes:
    return json.dumps({**azure.backup("orders"), "id": request_id}, ensure_ascii=False).encode("latin-1")


@pytest.mark.parametrize("queue", ["backup-requests", "events"])
@pytest.mark.parametrize("properties", [{}, {"message_id": None}], ids=["with ids", "without ids"])
def test_requests_that_are_not_utf_8_are_rejected_each_and_nobody_elses_duplicate(
    queue: str, properties: dict[str, Any]
) -> None:
    with open_faulty(protected_estate()) as azure:
        bodies = [latin_1(azure, name) for name in ("L\u00e4uft", "L\u00f6uft", "L\u00fcuft")]
        sent_as(azure, queue, *bodies, **properties)
        azure.quiesce()
        outcomes = azure.outcomes()
        assert [outcome["type"] for outcome in outcomes] == ["sqlvmbackup.request.rejected.v1"] * 3
        for outcome in outcomes:
            assert re.match(r"body: .*UTF-8.*U\+FFFD", outcome["data"]["error"]["message"])
            assert "requestId" not in outcome["data"], "nobody has that id"
            assert outcome["data"]["requestSource"] == "/tests"
        assert len({outcome["id"] for outcome in outcomes}) == 3
        parked = azure.parked()
        assert [item["body"] for item in parked] == [
            body.decode(errors="replace").encode() for body in bodies
        ]
        assert {item["reason"] for item in parked} == {"InvalidRequest"}
        assert not azure.mutations
        # Their deaths disturb nobody who writes the same character in UTF-8.
        azure.submit(azure.backup("orders"))
        azure.quiesce()
        assert azure.outcomes()[-1]["data"]["status"] == "succeeded"


def test_lines_that_are_not_utf_8_are_answered_to_who_runs_them() -> None:
    with open_faulty(protected_estate()) as azure:
        good = azure.backup("orders")
        lines = [latin_1(azure, name) for name in ("L\u00e4uft", "L\u00f6uft")]
        outcomes = azure.run(*lines, good)
        assert [outcome["data"]["status"] for outcome in outcomes] == ["rejected", "rejected", "succeeded"]


def test_a_rejected_request_that_is_delivered_again_is_answered_once() -> None:
    with open_faulty(protected_estate(), Plan(uncompleted={0: "at once"})) as azure:
        sent_as(azure, "backup-requests", latin_1(azure, "L\u00e4uft"))
        azure.quiesce()
        assert len(azure.outcomes()) == len(azure.parked()) == 1


def test_the_replacement_character_may_be_written_as_an_escape() -> None:
    with open_faulty(protected_estate()) as azure:
        request = {**azure.backup("orders"), "id": "odd\ufffd"}
        azure.submit(json.dumps(request).encode())
        azure.quiesce()
        assert [outcome["data"]["status"] for outcome in azure.outcomes_of(request)] == ["succeeded"]


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
    ids=["UTF-8", "UTF-16 LE", "UTF-16 BE", "UTF-32 LE", "UTF-32 BE"],
)
def test_a_request_with_a_byte_order_mark_is_taken(mark: bytes, encoding: str) -> None:
    with open_faulty(protected_estate()) as azure:
        request = {**azure.backup("orders"), "id": "L\u00e4uft"}
        sent_as(azure, "backup-requests", mark + json.dumps(request, ensure_ascii=False).encode(encoding))
        azure.quiesce()
        assert [outcome["data"]["status"] for outcome in azure.outcomes_of(request)] == ["succeeded"]


def test_a_mark_that_the_platform_leaves_in_place_is_passed_over() -> None:
    """Version 5.2 of the extension does, by Azure/azure-sdk-for-net#26161."""
    with open_faulty(protected_estate()) as azure:
        request = azure.backup("orders")
        # Of two marks the local host takes the first.
        sent_as(azure, "backup-requests", codecs.BOM_UTF8 * 2 + json.dumps(request).encode())
        azure.quiesce()
        assert [outcome["data"]["status"] for outcome in azure.outcomes_of(request)] == ["succeeded"]


# -- metadata


def newer_step(number: int) -> bytes:
    """A message of a version that is not known yet: it is put back for the app that knows it."""
    return json.dumps({"version": 99, "number": number}).encode()


@pytest.mark.parametrize("with_ids", [True, False], ids=["with message ids", "without some"])
def test_messages_of_a_batch_are_put_back_with_what_is_theirs_or_with_nothing(*, with_ids: bool) -> None:
    with open_faulty(protected_estate()) as azure:
        theirs = {0: None, 1: "one", 2: None, 3: "three"}
        for number, correlation_id in theirs.items():
            message = IncomingMessage(
                body=newer_step(number),
                message_id=f"id-{number}" if with_ids or number % 2 else None,
                correlation_id=correlation_id,
                content_type="application/json" if number == 2 else None,
                application_properties={"number": number},
            )
            azure.broker.send("track", [message])
        azure.host.run_until_idle()
        put_back = azure.broker.peek("track", max_messages=10)
        assert len(put_back) == 4
        for found in put_back:
            number = json.loads(found.body)["number"]
            assert found.correlation_id in (None, theirs[number])
            assert found.application_properties["number"] == number


def test_messages_of_a_batch_are_parked_by_their_own_id_or_none() -> None:
    with open_faulty(protected_estate()) as azure:
        for number in range(4):
            message_id = f"id-{number}" if number % 2 else None
            azure.broker.send("track", [IncomingMessage(body=b"no poll %d" % number, message_id=message_id)])
        azure.quiesce()
        parked = azure.parked()
        assert sorted(item["body"] for item in parked) == [b"no poll %d" % number for number in range(4)]
        for item in parked:
            assert item["originalMessageId"] in ("", f"id-{item['body'].decode()[-1]}")


def test_a_whole_batch_of_ids_is_kept() -> None:
    with open_faulty(protected_estate()) as azure:
        sent_as(azure, "track", *(b"no poll %d" % number for number in range(3)))
        azure.quiesce()
        assert [item["originalMessageId"] for item in azure.parked()] == ["track-0", "track-1", "track-2"]


def test_two_equal_messages_without_an_id_are_both_parked() -> None:
    with open_faulty(protected_estate()) as azure:
        sent_as(azure, "select-items", b"twin", b"twin", message_id=None)
        azure.quiesce()
        assert [item["body"] for item in azure.parked()] == [b"twin"] * 2


# -- logs


def test_a_warning_says_in_its_text_what_it_is_about(caplog: pytest.LogCaptureFixture) -> None:
    scenario = protected_estate(faults=[fault("Backup", "status", status=503, nth=[1])])
    with caplog.at_level(logging.INFO, "shared"), open_faulty(scenario) as azure:
        rejected = {**azure.backup("orders"), "id": "rejected-1", "data": {}}
        answered = azure.backup("orders")
        azure.submit(rejected, answered)
        sent_as(azure, "select-items", b"no step")
        azure.quiesce()
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) >= 2
    assert any("rejected-1" in text and "backup-requests" in text for text in warnings)
    known = ("rejected-1", str(answered["id"]), "select-items")
    assert [text for text in warnings if not any(name in text for name in known)] == []


def test_sending_is_not_told_line_by_line(caplog: pytest.LogCaptureFixture) -> None:
    """The worker hands on all that is logged at Information, under the function's name."""
    caplog.set_level(logging.INFO)
    with Broker(None) as broker, serving_amqp(broker) as amqp_server:
        with ServiceBusBus.from_connection_string(amqp_server.connection_string) as bus:
            bus.send([OutgoingMessage(entity="track", message_id="1", body=b"{}")])
        assert broker.counts("track").active == 1
    assert [record for record in caplog.records if record.name.startswith("azure.servicebus")] == []


class TokenEndpoint(BaseHTTPRequestHandler):
    """The platform's endpoint for tokens of a managed identity.

    https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
    """

    def do_GET(self) -> None:
        token = {"access_token": "t", "expires_on": "4102444800", "resource": "r", "token_type": "Bearer"}
        body = json.dumps(token).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing: the test reads the log."""


def test_tokens_are_not_told_line_by_line(caplog: pytest.LogCaptureFixture) -> None:
    """Each link to Service Bus asks for one."""
    caplog.set_level(logging.INFO)
    with ThreadingHTTPServer(("127.0.0.1", 0), TokenEndpoint) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = {
            "IDENTITY_ENDPOINT": f"http://127.0.0.1:{server.server_port}/msi/token",
            "IDENTITY_HEADER": "a secret",
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            credential = credentials.service_bus_credential(environment, kind="managedidentity")
            assert credential.get_token("https://servicebus.azure.net/.default").token == "t"
        server.shutdown()
    assert [record for record in caplog.records if record.name.startswith("azure.")] == []


# -- the connection


IDENTITY = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("managedIdentityResourceId", IDENTITY),
        ("managedIdentityObjectId", "00000000-0000-0000-0000-00000000000a"),
        ("ManagedIdentityResourceId", IDENTITY),
    ],
)
def test_the_identity_of_the_host_is_that_of_the_app_or_is_refused_by_name(
    field: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[credentials.CredentialChoice] = []

    def open_azure_credential(choice: credentials.CredentialChoice) -> Any:
        asked.append(choice)
        return SimpleNamespace()

    monkeypatch.setattr(credentials, "open_azure_credential", open_azure_credential)
    environment = {
        "IDENTITY_ENDPOINT": "http://127.0.0.1:9",
        "ServiceBusConnection__fullyQualifiedNamespace": "n.servicebus.windows.net",
        "ServiceBusConnection__credential": "managedidentity",
        f"ServiceBusConnection__{field}": value,
    }
    try:
        connect(environment)
    except SettingsError as error:
        assert field.lower() in str(error).lower()
    else:
        assert value in repr(asked)


@pytest.mark.parametrize("by", ["connection string", "identity"])
def test_a_network_that_leaves_443_open_is_enough(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []

    class Client:
        def __init__(self, *_: Any, **options: Any) -> None:
            made.append(options)
            raise ValueError("nothing is connected")

        from_connection_string = classmethod(lambda cls, *given, **options: cls(*given, **options))

    monkeypatch.setattr(azure.servicebus, "ServiceBusClient", Client)
    monkeypatch.setattr(credentials, "open_azure_credential", lambda _: SimpleNamespace())
    environment = {"SERVICE_BUS_TRANSPORT": "amqpWebSockets"}
    if by == "identity":
        environment["ServiceBusConnection__fullyQualifiedNamespace"] = "n.servicebus.windows.net"
    else:
        environment["ServiceBusConnection"] = (
            "Endpoint=sb://n.servicebus.windows.net/;SharedAccessKeyName=n;SharedAccessKey=a2V5"
        )
    bus = connect(environment)
    with pytest.raises(Exception, match=r"nothing is connected|malformed|did not let the app send"):
        bus.send([OutgoingMessage(entity="track", message_id="1", body=b"{}")])
    assert made
    assert made[-1].get("transport_type") == azure.servicebus.TransportType.AmqpOverWebsocket


class PartitionedTopic:
    """A receiver's view of a partitioned entity: the partition is in the top 16 bits of the sequence number.

    https://learn.microsoft.com/azure/service-bus-messaging/message-sequencing
    """

    def __init__(self) -> None:
        self._messages: list[Any] = []

    def publish(self, partition: int, number: int, name: str) -> None:
        body = [json.dumps({"id": name}).encode()]
        self._messages.append(
            SimpleNamespace(
                sequence_number=partition << 48 | number,
                body=iter(body),
                message=SimpleNamespace(),
                message_id=name,
                **dict.fromkeys(("content_type", "subject", "correlation_id", "application_properties")),
                **dict.fromkeys(("scheduled_enqueue_time_utc", "expires_at_utc", "dead_letter_source")),
                enqueued_time_utc=None,
                delivery_count=0,
                state=0,
            )
        )

    def peek_messages(self, max_message_count: int, *, sequence_number: int = 0) -> Sequence[Any]:
        found = [item for item in self._messages if item.sequence_number >= sequence_number]
        return sorted(found, key=lambda item: int(item.sequence_number))[:max_message_count]


def test_events_of_every_partition_are_seen_or_partitions_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cli.namespace.message_fields", lambda message: {"body": b"".join(message.body)})
    topic = PartitionedTopic()
    events = _Events(topic)  # type: ignore[arg-type]
    seen: list[str] = []
    try:
        for partition, number, name in ((1, 1, "first"), (0, 1, "second"), (2, 1, "third"), (1, 2, "fourth")):
            topic.publish(partition, number, name)
            seen += [event["id"] for event in events.new()]
    except CommandError as error:
        assert "partition" in str(error)
    else:
        assert seen == ["first", "second", "third", "fourth"]


# -- the envelope


@pytest.mark.parametrize(
    "attributes",
    [
        {"datacontenttype": None},
        {"data_base64": None},
        {"datacontenttype": "Application/JSON"},
        {"datacontenttype": "APPLICATION/cloudevents+JSON; charset=UTF-8"},
        {"time": None, "subject": None, "dataschema": None, "traceparent": None, "correlationid": None},
        {"partitionkey": None},
    ],
    ids=str,
)
def test_an_attribute_that_is_null_is_unset_and_media_types_know_no_case(attributes: dict[str, Any]) -> None:
    """https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md#22-type-system-mapping"""
    with open_faulty(protected_estate()) as azure:
        request = azure.backup("orders") | attributes
        azure.submit(request)
        azure.quiesce()
        assert [outcome["data"]["status"] for outcome in azure.outcomes_of(request)] == ["succeeded"]


@pytest.mark.parametrize("name", ["specversion", "type", "source", "id", "data"])
def test_a_required_attribute_that_is_null_is_missing(name: str) -> None:
    with open_faulty(protected_estate()) as azure:
        sent_as(azure, "backup-requests", json.dumps(azure.backup("orders") | {name: None}).encode())
        azure.quiesce()
        assert azure.outcome()["status"] == "rejected"
        assert f"{name}: " in azure.outcome()["error"]["message"]


def unset_as_null(data: dict[str, Any], *fields: str) -> dict[str, Any]:
    """The data of a request as a serializer writes it that does not leave out what was not set."""
    return {**dict.fromkeys(fields), **data}


@pytest.mark.parametrize(
    ("operation", "fields"),
    [
        (
            "backup",
            ("vmId", "exclude", "includeSystem", "retainFor", "compression", "ifRunning", "jobTimeout"),
        ),
        ("restore", ("availabilityGroup", "overwrite", "noRecovery", "jobTimeout")),
        (
            "protect",
            ("exclude", "onExisting", "resume", "undelete", "firstBackup", "autoProtect", "createPolicy"),
        ),
    ],
)
def test_a_field_of_data_that_is_null_is_unset(operation: str, fields: tuple[str, ...]) -> None:
    scenario = bare_estate("orders") if operation == "protect" else protected_estate("orders")
    with open_faulty(scenario) as azure:
        request = getattr(azure, operation)("orders")
        request["data"] = unset_as_null(request["data"], *fields)
        nested = request["data"].get("target")
        if nested is not None:
            request["data"]["target"] = unset_as_null(nested, "database", "dataDirectory", "files") | {
                "database": "orders_copy"
            }
        azure.submit(request)
        azure.quiesce()
        assert [outcome["data"]["status"] for outcome in azure.outcomes_of(request)] == ["succeeded"]


@pytest.mark.parametrize("field", ["vaultId", "databases", "backupType"])
def test_a_field_that_is_needed_is_missing_where_it_is_null(field: str) -> None:
    with open_faulty(protected_estate()) as azure:
        request = azure.backup("orders")
        request["data"][field] = None
        azure.submit(request)
        azure.quiesce()
        assert azure.outcome()["status"] == "rejected"
        assert f"data.{field}: " in azure.outcome()["error"]["message"]
        assert not azure.mutations


# -- ids of messages


def test_the_page_warns_of_one_message_id_for_two_requests() -> None:
    with open_faulty(protected_estate(*THREE)) as azure:
        for request in (azure.backup("orders"), azure.backup("billing")):
            sent_as(azure, "backup-requests", json.dumps(request).encode())
        azure.quiesce()
        assert len(azure.outcomes()) == 1, "the second is dropped, unread"
    page = " ".join((ROOT / "docs/messages.md").read_text(encoding="utf-8").split())
    (warning,) = re.findall(
        r"The id of the Service Bus message must be new for each request[^#]*?never learns", page
    )
    assert "drops a message whose id it has seen within 7 days" in warning
