"""`sqlvmbackup run` with a service principal, through azure-identity and https, and what it says when that fails."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from cli.main import main
from local.estate import JsonObject
from local.simulator import Scenario, Simulator, SimulatorServer
from tests.e2e.harness import INSTANCE, POLICY, virtual_machine

ROOT = Path(__file__).parents[2]
FAST = 0.002
PATIENCE = 60.0  # seconds that a process may take on a busy machine
CLIENT = "11111111-2222-3333-4444-555555555555"
EXPIRED = "11111111-2222-3333-4444-666666666666"
SECRET = "correct~horse~battery"
PROTECTED = {"name": "orders", "protectedBy": POLICY, "historyDays": 2}
ORDERS = [{"instance": INSTANCE, "database": "orders"}]


class Azure:
    """A simulator on a fast clock over https, which knows two service principals; and the environment for it."""

    def __init__(self, simulator: Simulator, url: str, directory: Path) -> None:
        self.simulator = simulator
        self.url = url
        self.directory = directory

    @property
    def environment(self) -> dict[str, str]:
        """Of somebody who signs in with a secret that is right."""
        return {
            "TIME_SCALE": str(FAST),
            "TRACK_INTERVAL": "PT10S",
            "AZURE_TENANT_ID": self.simulator.tenant_id,
            "AZURE_CLIENT_ID": CLIENT,
            "AZURE_CLIENT_SECRET": SECRET,
            "AZURE_AUTHORITY_HOST": self.url,
            "REQUESTS_CA_BUNDLE": str(self.directory / "cert.pem"),
        }

    def write(self, *requests: tuple[str, JsonObject]) -> Path:
        """A file of requests, by operation and data."""
        path = self.directory / "requests.jsonl"
        with path.open("w") as file:
            for operation, data in requests:
                event = {
                    "specversion": "1.0",
                    "type": f"sqlvmbackup.{operation}.requested.v1",
                    "source": "/tests",
                    "id": operation,
                    "data": {"vaultId": self.simulator.vault_id(), **data},
                }
                file.write(json.dumps(event) + "\n")
        return path

    def protect(self) -> tuple[str, JsonObject]:
        vm = self.simulator.vm_id("sqlvm1")
        return "protect", {"vmId": vm, "policyName": POLICY, "databases": ORDERS}

    def backup(self) -> tuple[str, JsonObject]:
        return "backup", {"databases": ORDERS, "backupType": "Full"}

    def restore(self) -> tuple[str, JsonObject]:
        vm = self.simulator.vm_id("sqlvm1")
        target = {"kind": "alternate", "vmId": vm, "instance": INSTANCE, "database": "copy"}
        latest = {"latest": "full"}
        source = {"vmId": vm, "instance": INSTANCE, "database": "orders"}
        return "restore", {**source, "recoveryPoint": latest, "target": target}

    @property
    def routes(self) -> Counter[str]:
        return Counter(entry["route"] for entry in self.simulator.access_entries)


OpenAzure = Callable[..., Azure]


@pytest.fixture
def azure(tmp_path: Path) -> Iterator[OpenAzure]:
    with ExitStack() as stack:

        def opened(*, allowed: tuple[str, ...] = ("*",), protected: bool = False, tls: bool = True) -> Azure:
            machine = virtual_machine(
                "sqlvm1",
                PROTECTED if protected else "orders",
                registeredTo="vault1" if protected else None,
            )
            principals = [
                {"clientId": CLIENT, "clientSecret": SECRET, "allowed": allowed},
                {"clientId": EXPIRED, "clientSecret": SECRET, "expired": True},
            ]
            scenario = {"virtualMachines": [machine], "servicePrincipals": principals}
            simulator = Simulator(Scenario.model_validate(scenario), time_scale=FAST)
            server = SimulatorServer(simulator, tls_directory=tmp_path / "tls" if tls else None)
            directory = tmp_path / "tls"
            directory.mkdir(exist_ok=True)
            return Azure(simulator, stack.enter_context(server).url, directory)

        yield opened


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs the command in this process: exit status, JSON lines of standard output, standard error."""

    def run(environment: dict[str, str], *arguments: str) -> tuple[int, list[JsonObject], str]:
        for name in [name for name in os.environ if name.startswith("AZURE_") or name.endswith("_BUNDLE")]:
            monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        status = main(list(arguments))
        out, err = capsys.readouterr()
        return status, [json.loads(line) for line in out.splitlines()], err

    return run


def process(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python as a process of its own, with nothing of this one's identity."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AZURE_")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def write_credential(path: Path, *, days: int) -> Path:
    """A service principal's certificate with its key, made by itself, that is valid for so many days from now."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sqlvmbackup tests")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=100))
        .not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    return path


def test_the_whole_flow_runs_as_a_service_principal(azure: OpenAzure, tmp_path: Path) -> None:
    cloud = azure()
    requests = cloud.write(cloud.protect(), cloud.backup(), cloud.restore())
    outcomes = tmp_path / "outcomes.jsonl"
    options = ["--requests", str(requests), "--arm-endpoint", cloud.url, "--outcomes", str(outcomes)]
    done = process(cloud.environment, "-m", "cli.main", "run", *options, "--in-order")
    assert done.returncode == 0, done.stderr
    written = [json.loads(line)["type"] for line in outcomes.read_text().splitlines()]
    assert written == [f"sqlvmbackup.{step}.succeeded.v1" for step in ("protect", "backup", "restore")]
    ledger = [entry["route"] for entry in cloud.simulator.ledger_entries]
    assert ledger == ["Refresh", "Register", "Inquire", "ConfigureBackup", "Backup", "Restore"]
    assert cloud.routes["Token"] == 1
    assert SECRET not in done.stdout + done.stderr


def test_a_certificate_or_federated_token_signs_in_as_well(azure: OpenAzure, command: Any) -> None:
    cloud = azure(protected=True)
    listing = ("databases", "--vault", cloud.simulator.vault_id(), "--arm-endpoint", cloud.url)
    token = cloud.directory / "federated.jwt"
    token.write_text("header.claims.signature")
    certificate = write_credential(cloud.directory / "credential.pem", days=1)
    for ways in (
        {"AZURE_CLIENT_CERTIFICATE_PATH": str(certificate)},
        {"AZURE_FEDERATED_TOKEN_FILE": str(token)},
    ):
        environment = {**cloud.environment, "AZURE_CLIENT_SECRET": "", **ways}
        status, rows, err = command(environment, *listing)
        assert (status, err) == (0, "")
        assert [row["database"] for row in rows] == ["orders"]


def no_bundle(_: Azure) -> JsonObject:
    return {"REQUESTS_CA_BUNDLE": ""}


def expired_certificate(cloud: Azure) -> JsonObject:
    path = write_credential(cloud.directory / "credential.pem", days=-3)
    return {"AZURE_CLIENT_SECRET": "", "AZURE_CLIENT_CERTIFICATE_PATH": str(path)}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda _: {"AZURE_CLIENT_SECRET": "guessed"},
            r"secret in AZURE_CLIENT_SECRET is wrong .AADSTS7000215",
        ),
        (
            lambda _: {"AZURE_CLIENT_ID": EXPIRED},
            r"secret in AZURE_CLIENT_SECRET has expired: .*AADSTS7000222",
        ),
        (lambda _: {"AZURE_CLIENT_ID": f"9{CLIENT[1:]}"}, r"application in AZURE_CLIENT_ID is not known"),
        (lambda _: {"AZURE_TENANT_ID": f"9{CLIENT[1:]}"}, r"tenant in AZURE_TENANT_ID does not exist"),
        (lambda _: {"AZURE_TENANT_ID": ""}, r"AZURE_CLIENT_SECRET is set, but AZURE_TENANT_ID is not"),
        (expired_certificate, r"AZURE_CLIENT_CERTIFICATE_PATH expired on \d{4}-\d\d-\d\d: create a new one"),
        (no_bundle, r"TLS certificate of https://localhost:\d+ is not trusted .*REQUESTS_CA_BUNDLE"),
        (lambda _: {"REQUESTS_CA_BUNDLE": "/nowhere/ca.pem"}, r"REQUESTS_CA_BUNDLE .* names no file of cert"),
    ],
    ids=[
        "wrong secret",
        "expired secret",
        "unknown client",
        "unknown tenant",
        "no tenant",
        "expired certificate",
        "untrusted certificate",
        "no bundle of authorities",
    ],
)
def test_who_cannot_sign_in_is_told_at_once_in_one_sentence(
    azure: OpenAzure, command: Any, change: Callable[[Azure], JsonObject], says: str
) -> None:
    cloud = azure(protected=True)
    requests = cloud.write(cloud.backup())
    options = ["--requests", str(requests), "--arm-endpoint", cloud.url]
    status, printed, err = command({**cloud.environment, **change(cloud)}, "run", *options)
    assert (status, printed) == (2, [])
    assert re.search(says, err), err
    assert err.startswith("sqlvmbackup run: ") and err.count("\n") == 1 and err.endswith(".\n")
    assert SECRET not in err and "guessed" not in err
    asked = [entry for entry in cloud.simulator.access_entries if entry["route"] == "Token"]
    assert len(asked) <= 2, "it was not tried again and again"
    assert cloud.simulator.ledger_entries == []


@pytest.mark.parametrize(
    ("allowed", "operation", "action"),
    [
        (
            ("read", "write"),
            "restore",
            "Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/protectedItems/recoveryPoints"
            "/restore/action",
        ),
        (("write", "restore"), "backup", "Microsoft.RecoveryServices/vaults/backupProtectedItems/read"),
    ],
    ids=["may not restore", "may not read"],
)
def test_a_missing_permission_is_an_outcome_that_names_the_action(
    azure: OpenAzure, command: Any, allowed: tuple[str, ...], operation: str, action: str
) -> None:
    cloud = azure(protected=True, allowed=allowed)
    requests = cloud.write(cloud.restore() if operation == "restore" else cloud.backup())
    outcomes = cloud.directory / "outcomes.jsonl"
    options = ["--requests", str(requests), "--arm-endpoint", cloud.url, "--outcomes", str(outcomes)]
    status, _, _ = command(cloud.environment, "run", *options)
    assert status == 1
    (outcome,) = [json.loads(line) for line in outcomes.read_text().splitlines()]
    error = outcome["data"]["error"]
    assert (outcome["data"]["status"], error["code"]) == ("failed", "NotAuthorised")
    assert f"'{action}'" in error["message"] and CLIENT in error["message"]
    assert "role" in error["recommendations"][0]
    assert cloud.simulator.ledger_entries == []


def test_a_run_against_the_simulator_by_http_loads_no_identity_and_no_service_bus(azure: OpenAzure) -> None:
    cloud = azure(tls=False)
    requests = cloud.write(cloud.protect(), cloud.backup())
    options = ["run", "--requests", str(requests), "--arm-endpoint", cloud.url, "--in-order"]
    program = (
        "import sys; from cli.main import main; status = main(sys.argv[1:]);"
        "loaded = [m for m in sys.modules if m.split('.')[:2] in (['azure', 'identity'], ['azure', 'servicebus'])];"
        "print(status, loaded, 'msal' in sys.modules, file=sys.stderr)"
    )
    done = process(cloud.environment, "-c", program, *options)
    assert done.stderr.splitlines()[-1] == "0 [] False", done.stderr
    assert cloud.routes["Token"] == 0
