"""The simulator as a process and a socket: the command, the files it writes, HTTP itself."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from local.simulator import (
    FIXED_TOKEN,
    Scenario,
    ScenarioError,
    Simulator,
    SimulatorServer,
    main,
    past_backups,
    policy_schedules,
)
from local.simulator.faults import FAULTS
from local.simulator.route_names import ROUTE_NAMES

ROOT = Path(__file__).parents[3]
HEADERS = {"Authorization": f"Bearer {FIXED_TOKEN}"}


@pytest.fixture
def server() -> Iterator[SimulatorServer]:
    with SimulatorServer(Simulator()) as running:
        yield running


def connect(server: SimulatorServer) -> http.client.HTTPConnection:
    host, port = server.url.removeprefix("http://").split(":")
    return http.client.HTTPConnection(host, int(port), timeout=10)


def path(simulator: Simulator, rest: str = "") -> str:
    return f"{simulator.vault_id()}{rest}?api-version=2024-04-01"


def test_the_command_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    scenario = tmp_path / "scenario.json"
    scenario.write_text(json.dumps({"vaults": [{"name": "mine"}]}), encoding="utf-8")
    ledger, access = tmp_path / "ledger.jsonl", tmp_path / "access.jsonl"
    ledger.write_text("from another run\n", encoding="utf-8")
    run = "import sys; from local.simulator import main; sys.exit(main(sys.argv[1:]))"
    arguments = [
        "--port",
        "0",
        "--scenario",
        str(scenario),
        "--ledger",
        str(ledger),
        "--access-log",
        str(access),
    ]
    with subprocess.Popen(
        [sys.executable, "-c", run, *arguments, "--time-scale", "0.01"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
        vault = Simulator(Scenario.load(scenario)).vault_id("mine")
        target = f"{vault}/backupFabrics/Azure/refreshContainers?api-version=2024-04-01"
        connection.request("POST", target, headers={**HEADERS, "x-ms-client-request-id": "mine"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 202
        (entry,) = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()]
        assert list(entry) == ["time", "route", "item", "clientRequestId", "jobId", "body"]
        assert (entry["route"], entry["item"], entry["clientRequestId"]) == ("Refresh", vault, "mine")
        (logged,) = [json.loads(line) for line in access.read_text(encoding="utf-8").splitlines()]
        assert list(logged) == [
            "time",
            "route",
            "method",
            "path",
            "query",
            "status",
            "clientRequestId",
            "retryAfter",
        ]
        assert (logged["status"], logged["retryAfter"]) == (202, "60")
        connection.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ('{"colour": "red"}', "colour: this key is not known"),
        ("[]", "cannot be used: expected a JSON object."),
        (
            '{"faults": [{"route": "Backup", "fault": "status", "nth": 0}]}',
            "faults.0.nth: calls are counted from 1",
        ),
        ('{"faults": [{"route": "Nowhere", "fault": "status"}]}', "there is no route 'Nowhere'"),
        ('{"startTime": "2026-01-05T08:00:00"}', "it must name its time zone"),
        ('{"virtualMachines": [{"name": "a", "registeredTo": "b"}]}', "which is not among the vaults"),
        ('{"virtualMachines": [{"name": "a"}, {"name": "A"}]}', "two virtual machines have the name"),
        ('{"durations": {"backup": -1}}', "a duration is not negative"),
        (None, "cannot be read"),
    ],
)
def test_a_bad_scenario_is_one_clear_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, message: str
) -> None:
    file = tmp_path / "scenario.json"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    assert main(["--port", "0", "--scenario", str(file)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    with pytest.raises(ScenarioError):
        Scenario.load(file)


def test_the_help_lists_routes_faults_and_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "example:" in text
    assert all(name in text for name in (*ROUTE_NAMES, *FAULTS))


def test_a_taken_port_and_unusable_options_end_with_2(
    server: SimulatorServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--port", server.url.rsplit(":", 1)[1]]) == 2
    assert "Address already in use" in capsys.readouterr().err
    for arguments in (["--port", "x"], ["--port", "0", "--time-scale", "0"], []):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2


def test_the_access_log_holds_no_signature_or_token(server: SimulatorServer, tmp_path: Path) -> None:
    connection = connect(server)
    connection.request(
        "POST", path(server.simulator, "/backupFabrics/Azure/refreshContainers"), headers=HEADERS
    )
    answer = connection.getresponse()
    answer.read()
    connection.request("GET", answer.headers["Location"], headers=HEADERS)
    assert connection.getresponse().status == 202
    connection.close()
    assert server.simulator.access_entries[-1]["query"] == "api-version=2024-04-01"


def test_a_connection_is_kept_and_broken_requests_end_only_theirs(server: SimulatorServer) -> None:
    connection = connect(server)
    for _ in range(3):
        connection.request("GET", path(server.simulator), headers=HEADERS)
        assert connection.getresponse().read()
    port = int(server.url.rsplit(":", 1)[1])
    for garbage, status in (
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: ten\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", b"413"),
        (b"GET /" + b"x" * 70000, b"414"),
        (b"GET / HTTP/1.1\r\nbroken header\r\n\r\n", b"400"),
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
            raw.sendall(garbage)
            assert raw.recv(100).startswith(b"HTTP/1.1 " + status)
    connection.request("GET", path(server.simulator), headers=HEADERS)
    assert connection.getresponse().status == 200
    connection.close()


def test_chunked_bodies_are_read(server: SimulatorServer) -> None:
    connection = connect(server)
    body = json.dumps({"location": "westeurope", "sku": {"name": "Standard"}}).encode()
    target = path(server.simulator).replace("vault1", "vault2")
    connection.request("PUT", target, body=iter([body[:10], body[10:]]), headers=HEADERS, encode_chunked=True)
    assert connection.getresponse().status == 201
    connection.close()


@pytest.mark.parametrize("fault", ["dropBeforeEffect", "dropAfterEffect", "dropMidBody"])
def test_a_dropped_connection_is_seen_as_one(fault: str) -> None:
    scenario = Scenario.model_validate({"faults": [{"route": "GetVault", "fault": fault, "nth": 1}]})
    with SimulatorServer(Simulator(scenario)) as server:
        connection = connect(server)
        connection.request("GET", path(server.simulator), headers=HEADERS)
        with pytest.raises((http.client.RemoteDisconnected, http.client.IncompleteRead)):
            connection.getresponse().read()
        connection.close()
        connection.request("GET", path(server.simulator), headers=HEADERS)
        assert connection.getresponse().status == 200
        connection.close()


def test_a_delayed_request_has_no_effect_before_its_time_and_holds_up_no_other() -> None:
    faults = [{"route": "Refresh", "fault": "delay", "seconds": 30}]
    simulator = Simulator(Scenario.model_validate({"faults": faults}))
    with SimulatorServer(simulator) as server:
        slow = connect(server)
        slow.request("POST", path(simulator, "/backupFabrics/Azure/refreshContainers"), headers=HEADERS)
        quick = connect(server)
        quick.request("GET", path(simulator), headers=HEADERS)
        assert quick.getresponse().status == 200
        assert simulator.ledger_entries == []
        quick.close()
        slow.close()
    assert simulator.ledger_entries == [], "what still waited when the server stopped was given up"


def test_a_certificate_of_its_own_is_trusted_by_its_file(tmp_path: Path) -> None:
    with SimulatorServer(Simulator(), tls_directory=tmp_path / "tls") as server:
        assert server.url.startswith("https://localhost:")
        assert (tmp_path / "tls" / "key.pem").stat().st_mode & 0o077 == 0
        trusting = ssl.create_default_context(cafile=str(tmp_path / "tls" / "cert.pem"))
        port = int(server.url.rsplit(":", 1)[1])
        connection = http.client.HTTPSConnection("localhost", port, context=trusting, timeout=10)
        connection.request("GET", path(server.simulator), headers=HEADERS)
        assert connection.getresponse().status == 200
        connection.close()
        with pytest.raises(ssl.SSLCertVerificationError):
            http.client.HTTPSConnection("localhost", port, context=ssl.create_default_context()).connect()


def test_a_policy_is_walked_once_however_many_databases_it_protects(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that thousands of databases with a history start in a moment."""
    walked = 0

    def next_run(*given: Any) -> datetime | None:
        nonlocal walked
        walked += 1
        return policy_schedules.next_run(*given)

    monkeypatch.setattr(past_backups, "next_run", next_run)
    databases = [
        {"name": f"db{index}", "protectedBy": "HourlyLogBackup", "historyDays": 7} for index in range(100)
    ]
    machines = [
        {"name": f"vm{index}", "registeredTo": "vault1", "instances": [{"databases": databases}]}
        for index in range(20)
    ]
    scenario = {"virtualMachines": machines}
    simulator = Simulator(Scenario.model_validate(scenario))
    # A daily full for seven days, no differential, and the end of both.
    assert walked <= 10
    with SimulatorServer(simulator) as server:
        connection = connect(server)
        connection.request("GET", path(simulator, "/backupProtectedItems"), headers=HEADERS)
        assert len(json.loads(connection.getresponse().read())["value"]) == 200
        connection.close()


def test_headers_may_be_long_but_not_without_end(server: SimulatorServer) -> None:
    """A token that names many groups has kilobytes; nobody sends a hundred of them."""
    connection = connect(server)
    connection.request("GET", path(server.simulator), headers={**HEADERS, "x-groups": "g" * 30_000})
    assert connection.getresponse().status == 200
    connection.close()
    port = int(server.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\n" + b"".join(b"x-%d: %s\r\n" % (n, b"y" * 1000) for n in range(140)))
        assert raw.recv(100).startswith(b"HTTP/1.1 431 ")
