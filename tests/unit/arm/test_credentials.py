"""Who the app is: chosen by configuration, asked over https, and a clear sentence where that fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from azure.core.credentials import AccessToken

from local.stepped_clock import SteppedClock
from shared.arm.credentials import (
    LOCAL_SIMULATOR_TOKEN,
    CredentialChoice,
    CredentialKind,
    FixedTokenSource,
    IdentityTokenSource,
    choose_credential,
    scope_of,
    service_bus_credential,
    token_source,
)
from shared.arm.endpoint import ArmEndpoint
from shared.arm.errors import ArmEndpointError, AuthenticationError, TokenUnavailableError
from tests.unit.arm.server import Answer, Request, Server, make_certificate, serving

TENANT = "00000000-0000-0000-0000-0000000000aa"
CLIENT = "00000000-0000-0000-0000-0000000000bb"
SECRET = "s3cr3t~Value_that.must-not.show"
PRINCIPAL = {"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": CLIENT}
START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
CHOICE = CredentialChoice(kind=CredentialKind.AZURE_CLI)


# The choice


@pytest.mark.parametrize(
    ("environment", "kind"),
    [
        ({}, CredentialKind.AZURE_CLI),
        ({"AZURE_CLIENT_ID": CLIENT, "AZURE_CLIENT_SECRET": " "}, CredentialKind.AZURE_CLI),
        (PRINCIPAL, CredentialKind.AZURE_CLI),
        ({**PRINCIPAL, "AZURE_CLIENT_SECRET": SECRET}, CredentialKind.CLIENT_SECRET),
        ({**PRINCIPAL, "AZURE_CLIENT_CERTIFICATE_PATH": "/c.pem"}, CredentialKind.CLIENT_CERTIFICATE),
        ({**PRINCIPAL, "AZURE_FEDERATED_TOKEN_FILE": "/t"}, CredentialKind.FEDERATED_TOKEN),
        (
            {**PRINCIPAL, "AZURE_CLIENT_SECRET": SECRET, "AZURE_CLIENT_CERTIFICATE_PATH": "/c.pem"},
            CredentialKind.CLIENT_SECRET,
        ),
        ({"IDENTITY_ENDPOINT": "http://169.254.1.1/token"}, CredentialKind.MANAGED_IDENTITY),
        (
            {"MSI_ENDPOINT": "http://127.0.0.1:41/token", "AZURE_CLIENT_ID": CLIENT},
            CredentialKind.MANAGED_IDENTITY,
        ),
        (
            {**PRINCIPAL, "AZURE_CLIENT_SECRET": SECRET, "IDENTITY_ENDPOINT": "http://x"},
            CredentialKind.CLIENT_SECRET,
        ),
    ],
)
def test_the_configuration_chooses(environment: Mapping[str, str], kind: CredentialKind) -> None:
    choice = choose_credential(environment)
    assert choice.kind is kind
    if kind is CredentialKind.MANAGED_IDENTITY:
        assert choice.client_id == environment.get("AZURE_CLIENT_ID")
    assert SECRET not in repr(choice)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"AZURE_CLIENT_SECRET": SECRET}, "AZURE_TENANT_ID and AZURE_CLIENT_ID is not"),
        ({"AZURE_CLIENT_SECRET": SECRET, "AZURE_TENANT_ID": TENANT}, "AZURE_CLIENT_ID is not"),
        ({"AZURE_CLIENT_CERTIFICATE_PATH": "/c.pem", "AZURE_CLIENT_ID": CLIENT}, "AZURE_TENANT_ID is not"),
        ({"AZURE_AUTHORITY_HOST": "http://login.microsoftonline.com"}, "no https address"),
        ({"AZURE_AUTHORITY_HOST": "https://user@evil.example/x"}, "no host"),
    ],
)
def test_half_a_configuration_is_refused(environment: Mapping[str, str], said: str) -> None:
    with pytest.raises(AuthenticationError, match=said) as caught:
        choose_credential(environment)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ("https://login.chinacloudapi.cn", "login.chinacloudapi.cn"),
        ("https://login.microsoftonline.us/", "login.microsoftonline.us"),
        ("LOGIN.microsoftonline.us", "login.microsoftonline.us"),
        ("https://localhost:8443", "localhost:8443"),
        ("", "login.microsoftonline.com"),
    ],
)
def test_the_authority(given: str, host: str) -> None:
    environment = {**PRINCIPAL, "AZURE_CLIENT_SECRET": SECRET, "AZURE_AUTHORITY_HOST": given}
    assert choose_credential(environment).authority_host == host


@pytest.mark.parametrize(
    ("endpoint", "scope"),
    [
        ("https://management.azure.com", "https://management.azure.com/.default"),
        ("https://management.azure.com/", "https://management.azure.com/.default"),
        ("https://management.chinacloudapi.cn", "https://management.chinacloudapi.cn/.default"),
        ("https://management.usgovcloudapi.net", "https://management.usgovcloudapi.net/.default"),
        ("https://localhost:8443", "https://localhost:8443/.default"),
    ],
)
def test_every_cloud_has_its_own_scope(endpoint: str, scope: str) -> None:
    assert scope_of(ArmEndpoint.parse(endpoint)) == scope


def test_a_simulator_on_loopback_gets_a_token_that_opens_nothing() -> None:
    source = token_source("http://127.0.0.1:8080", {**PRINCIPAL, "AZURE_CLIENT_SECRET": SECRET})
    assert isinstance(source, FixedTokenSource)
    assert source.token() == source.token(refresh=True) == LOCAL_SIMULATOR_TOKEN
    with pytest.raises(ArmEndpointError, match="in the clear"):
        token_source("http://management.azure.com", {})
    assert isinstance(token_source("https://127.0.0.1:8443", {}), IdentityTokenSource)


# The cache


class Entra:
    """Makes credentials that count how often they are asked."""

    def __init__(self, clock: SteppedClock, *, life: timedelta = timedelta(hours=1)) -> None:
        self.clock = clock
        self.life = life
        self.opened = 0
        self.asked = 0
        self.claims: list[str | None] = []
        self.failure: Exception | None = None
        self.busy: threading.Event | None = None
        self.takes = timedelta()

    def open(self, choice: CredentialChoice) -> Entra:
        self.opened += 1
        return self

    def get_token(self, *scopes: str, **kwargs: Any) -> AccessToken:
        assert scopes == ("https://management.azure.com/.default",)
        self.asked += 1
        self.claims.append(kwargs.get("claims"))
        if self.busy is not None:
            assert self.busy.wait(10)
        self.clock.advance(self.takes)
        if self.failure is not None:
            raise self.failure
        return AccessToken(f"token-{self.asked}", int((self.clock.now() + self.life).timestamp()))


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock(START)


@pytest.fixture
def entra(clock: SteppedClock) -> Entra:
    return Entra(clock)


@pytest.fixture
def source(clock: SteppedClock, entra: Entra) -> IdentityTokenSource:
    return IdentityTokenSource(
        CHOICE, "https://management.azure.com/.default", clock=clock, open_credential=entra.open
    )


def test_one_token_serves_until_five_minutes_before_its_end(
    clock: SteppedClock, entra: Entra, source: IdentityTokenSource
) -> None:
    assert (source.token(), source.token()) == ("token-1", "token-1")
    clock.advance(timedelta(minutes=54))
    assert source.token() == "token-1"
    clock.advance(timedelta(minutes=2))
    assert source.token() == "token-2"
    assert (entra.asked, entra.opened) == (2, 1)


def test_a_forced_refresh_asks_a_new_credential(entra: Entra, source: IdentityTokenSource) -> None:
    source.token()
    assert source.token(refresh=True) == "token-2"
    assert source.token() == "token-2"
    assert entra.opened == 2, "a credential would give its own cached token again"


def test_claims_that_are_asked_for_come_with_the_next_token(
    clock: SteppedClock, entra: Entra, source: IdentityTokenSource
) -> None:
    principal = IdentityTokenSource(
        CredentialChoice(kind=CredentialKind.CLIENT_SECRET, tenant_id=TENANT, client_id=CLIENT),
        "https://management.azure.com/.default",
        clock=clock,
        open_credential=entra.open,
    )
    principal.token()
    claims = '{"access_token":{"acrs":{"essential":true,"value":"p1"}}}'
    assert principal.token(claims=claims) == "token-2"
    assert principal.token() == "token-2"
    assert entra.claims == [None, claims]
    # A person has to sign in for them; az itself takes no claims with a request for a token.
    source.token()
    with pytest.raises(AuthenticationError, match=r'az login --claims-challenge "eyJhY[A-Za-z0-9=]+"$'):
        source.token(claims=claims)
    assert source.token() == "token-3"


def test_a_failed_refresh_goes_on_with_the_token_that_holds(
    clock: SteppedClock, entra: Entra, source: IdentityTokenSource
) -> None:
    source.token()
    clock.advance(timedelta(minutes=56))
    entra.failure = ConnectionError("down")
    assert source.token() == "token-1"
    assert source.token() == "token-1"
    assert entra.asked == 2, "not again at once"
    clock.advance(timedelta(seconds=31))
    assert source.token() == "token-1"
    assert entra.asked == 3
    clock.advance(timedelta(minutes=4))
    with pytest.raises(AuthenticationError):
        source.token()
    entra.failure = None
    assert source.token() == "token-5"


def test_a_failed_refresh_does_not_prolong_a_token(
    clock: SteppedClock, entra: Entra, source: IdentityTokenSource
) -> None:
    source.token()
    clock.advance(timedelta(minutes=59, seconds=55))
    entra.failure = ConnectionError("down")
    assert source.token() == "token-1"
    entra.failure = None
    clock.advance(timedelta(seconds=5))
    assert source.token() == "token-3"


def test_the_next_refresh_waits_from_the_end_of_one_that_failed(
    clock: SteppedClock, entra: Entra, source: IdentityTokenSource
) -> None:
    source.token()
    clock.advance(timedelta(minutes=56))
    entra.failure = ConnectionError("down")
    entra.takes = timedelta(seconds=40)
    assert source.token() == "token-1"
    assert source.token() == "token-1"
    assert entra.asked == 2


def test_a_token_that_ends_while_its_refresh_fails_is_not_given(
    clock: SteppedClock, entra: Entra, source: IdentityTokenSource
) -> None:
    source.token()
    clock.advance(timedelta(minutes=59, seconds=55))
    entra.failure = ConnectionError("down")
    entra.takes = timedelta(seconds=10)
    with pytest.raises(AuthenticationError):
        source.token()


def test_threads_share_one_request(entra: Entra, source: IdentityTokenSource) -> None:
    with ThreadPoolExecutor(16) as pool:
        tokens = set(pool.map(lambda _: source.token(), range(64)))
    assert tokens == {"token-1"}
    assert entra.asked == 1


def test_nobody_waits_for_a_refresh_while_a_token_holds(
    clock: SteppedClock, entra: Entra, source: IdentityTokenSource
) -> None:
    source.token()
    clock.advance(timedelta(minutes=56))
    entra.busy = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        refreshing = pool.submit(source.token)
        while entra.asked < 2:
            pass
        assert source.token() == "token-1"
        entra.busy.set()
        assert refreshing.result(10) == "token-2"
    assert source.token() == "token-2"


# azure-identity over https


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"), key_in_certificate=False)


@pytest.fixture
def login(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A token endpoint over https that this machine trusts."""
    with serving(tls=certificate) as server:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
        server.respond = lambda request: answer_as_entra(server, request)
        yield server


def answer_as_entra(server: Server, request: Request, *, refusal: Answer | None = None) -> Answer:
    tenant = request.path.split("/")[1]
    authority = f"{server.url}/{tenant}"
    if request.path.endswith("/v2.0/.well-known/openid-configuration"):
        return Answer(
            200,
            {
                "token_endpoint": f"{authority}/oauth2/v2.0/token",
                "authorization_endpoint": f"{authority}/oauth2/v2.0/authorize",
                "issuer": f"{authority}/v2.0",
            },
        )
    if refusal is not None:
        return refusal
    assert request.path == f"/{TENANT}/oauth2/v2.0/token"
    asked = len([seen for seen in server.requests if seen.method == "POST"])
    return Answer(200, {"token_type": "Bearer", "expires_in": 3599, "access_token": f"issued-{asked}"})


def source_of(server: Server, environment: Mapping[str, str]) -> Any:
    return token_source(
        "https://management.azure.com", {**PRINCIPAL, "AZURE_AUTHORITY_HOST": server.url, **environment}
    )


@pytest.fixture
def closing() -> Iterator[list[IdentityTokenSource]]:
    sources: list[IdentityTokenSource] = []
    yield sources
    for source in sources:
        source.close()


def form_of(server: Server) -> dict[str, str]:
    posts = [request for request in server.requests if request.method == "POST"]
    return {name: values[0] for name, values in parse_qs(posts[-1].body.decode()).items()}


def test_a_service_principal_by_secret(login: Server, closing: list[IdentityTokenSource]) -> None:
    source = source_of(login, {"AZURE_CLIENT_SECRET": SECRET})
    closing.append(source)
    assert source.token() == source.token() == "issued-1"
    form = form_of(login)
    assert form["grant_type"] == "client_credentials"
    assert form["scope"] == "https://management.azure.com/.default"
    assert (form["client_id"], form["client_secret"]) == (CLIENT, SECRET)
    assert source.token(refresh=True) == "issued-2"
    assert "claims" not in form
    claims = '{"access_token":{"acrs":{"essential":true,"value":"p1"}}}'
    assert source.token(claims=claims) == "issued-3"
    assert '"acrs"' in form_of(login)["claims"]


def test_a_service_principal_by_certificate(
    login: Server, closing: list[IdentityTokenSource], tmp_path: Path
) -> None:
    path, _ = make_certificate(tmp_path, key_in_certificate=True)
    source = source_of(login, {"AZURE_CLIENT_CERTIFICATE_PATH": str(path)})
    closing.append(source)
    assert source.token() == "issued-1"
    assert form_of(login)["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def test_a_service_principal_by_federated_token(
    login: Server, closing: list[IdentityTokenSource], tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("federated-token", encoding="ascii")
    source = source_of(login, {"AZURE_FEDERATED_TOKEN_FILE": str(file)})
    closing.append(source)
    assert source.token() == "issued-1"
    assert form_of(login)["client_assertion"] == "federated-token"


def test_the_managed_identity(
    login: Server, closing: list[IdentityTokenSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as platform:
        expires = int((datetime.now(UTC) + timedelta(hours=8)).timestamp())
        platform.answer(
            Answer(
                200,
                {
                    "access_token": "managed",
                    "expires_on": str(expires),
                    "resource": "x",
                    "token_type": "Bearer",
                },
            )
        )
        environment = {
            "IDENTITY_ENDPOINT": f"{platform.url}/msi/token",
            "IDENTITY_HEADER": "header",
            "AZURE_CLIENT_ID": CLIENT,
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)  # azure-identity reads the platform's own variables itself
        source = token_source("https://management.azure.com", environment)
        assert isinstance(source, IdentityTokenSource)
        closing.append(source)
        assert source.token() == "managed"
        (request,) = platform.requests
        assert request.params["client_id"] == CLIENT
        assert request.params["resource"] == "https://management.azure.com"
        assert request.headers["x-identity-header"] == "header"
        # A connection may have an identity of its own, also where the rest is done by a service principal.
        principal = {**environment, **PRINCIPAL, "AZURE_CLIENT_SECRET": SECRET}
        other = "00000000-0000-0000-0000-0000000000cc"
        for settings, connection, identity in (
            (environment, {"client_id": other}, other),
            (environment, {}, CLIENT),
            (principal, {"kind": "managedidentity", "client_id": other}, other),
            (principal, {"kind": "ManagedIdentity"}, None),
        ):
            for_bus = service_bus_credential(settings, **connection)
            assert for_bus.get_token("https://servicebus.azure.net/.default").token == "managed"
            assert platform.requests[-1].params.get("client_id") == identity
            for_bus.close()  # type: ignore[attr-defined]  # every credential has it, the protocol does not


def test_a_service_principal_of_the_connections_own(login: Server) -> None:
    for_bus = service_bus_credential(
        {"AZURE_AUTHORITY_HOST": login.url}, tenant_id=TENANT, client_id=CLIENT, client_secret=SECRET
    )
    assert for_bus.get_token("https://servicebus.azure.net/.default").token == "issued-1"
    assert form_of(login)["client_secret"] == SECRET
    for_bus.close()  # type: ignore[attr-defined]


def refused(code: int, text: str, status: int = 401, error: str = "invalid_client") -> Answer:
    return Answer(
        status,
        {
            "error": error,
            "error_description": f"AADSTS{code}: {text} Trace ID: 1 Correlation ID: 2",
            "error_codes": [code],
        },
    )


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (refused(7000215, "Invalid client secret provided."), "the secret in AZURE_CLIENT_SECRET is wrong"),
        (refused(7000222, "The provided client secret keys are expired."), "AZURE_CLIENT_SECRET has expired"),
        (
            refused(700016, "Application not found.", 400, "unauthorized_client"),
            "application in AZURE_CLIENT_ID",
        ),
        (refused(90002, "Tenant 'x' not found.", 400, "invalid_request"), "tenant in AZURE_TENANT_ID"),
        (
            refused(500011, "Resource principal not found.", 400, "invalid_resource"),
            "resource of ARM_ENDPOINT",
        ),
        (refused(12345, "Something new."), "AADSTS12345: Something new"),
    ],
)
def test_what_entra_refuses_is_one_clear_sentence(
    login: Server, closing: list[IdentityTokenSource], answer: Answer, said: str
) -> None:
    login.respond = lambda request: answer_as_entra(login, request, refusal=answer)
    source = source_of(login, {"AZURE_CLIENT_SECRET": SECRET})
    closing.append(source)
    with pytest.raises(AuthenticationError, match=said) as caught:
        source.token()
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (refused(90002, "Tenant 'x' not found.", 400, "invalid_tenant"), "AZURE_TENANT_ID does not exist"),
        (Answer(404, {}), f"knows no tenant {TENANT}; check AZURE_TENANT_ID"),
    ],
)
def test_an_unknown_tenant(
    login: Server, closing: list[IdentityTokenSource], answer: Answer, said: str
) -> None:
    login.respond = lambda request: answer
    source = source_of(login, {"AZURE_CLIENT_SECRET": SECRET})
    closing.append(source)
    with pytest.raises(AuthenticationError, match=said):
        source.token()


@pytest.mark.parametrize(
    "answer", [Answer(503, {"error": "temporarily_unavailable"}), refused(90033, "A transient error.", 500)]
)
def test_a_busy_entra_is_worth_another_try(
    login: Server, closing: list[IdentityTokenSource], answer: Answer
) -> None:
    login.respond = lambda request: answer_as_entra(login, request, refusal=answer)
    source = source_of(login, {"AZURE_CLIENT_SECRET": SECRET})
    closing.append(source)
    with pytest.raises(TokenUnavailableError):
        source.token()
    login.respond = lambda request: answer_as_entra(login, request)
    assert source.token().startswith("issued-")


def test_an_untrusted_certificate(
    login: Server, closing: list[IdentityTokenSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    source = source_of(login, {"AZURE_CLIENT_SECRET": SECRET})
    closing.append(source)
    with pytest.raises(AuthenticationError, match=r"is not trusted .*REQUESTS_CA_BUNDLE"):
        source.token()


def test_an_identity_endpoint_that_cannot_be_reached(
    closing: list[IdentityTokenSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {"IDENTITY_ENDPOINT": "http://127.0.0.1:9/msi/token", "IDENTITY_HEADER": "header"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    source = token_source("https://management.azure.com", environment)
    assert isinstance(source, IdentityTokenSource)
    closing.append(source)
    with pytest.raises(TokenUnavailableError, match="this machine's identity endpoint cannot be reached"):
        source.token()


def test_an_authority_that_cannot_be_reached(closing: list[IdentityTokenSource]) -> None:
    environment = {
        **PRINCIPAL,
        "AZURE_CLIENT_SECRET": SECRET,
        "AZURE_AUTHORITY_HOST": "https://127.0.0.1:9",
    }
    source = token_source("https://management.azure.com", environment)
    assert isinstance(source, IdentityTokenSource)
    closing.append(source)
    with pytest.raises(TokenUnavailableError, match="cannot be reached"):
        source.token()


def test_certificates_that_cannot_be_used(
    login: Server, closing: list[IdentityTokenSource], tmp_path: Path
) -> None:
    expired, _ = make_certificate(
        tmp_path, valid_until=datetime(2025, 3, 1, tzinfo=UTC), key_in_certificate=True
    )
    garbage = tmp_path / "garbage.pem"
    garbage.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    for path, said in (
        (expired, "expired on 2025-03-01"),
        (tmp_path / "none.pem", "cannot be read"),
        (garbage, "cannot be used"),
    ):
        source = source_of(login, {"AZURE_CLIENT_CERTIFICATE_PATH": str(path)})
        closing.append(source)
        with pytest.raises(AuthenticationError, match=said):
            source.token()
    assert login.requests == []


def test_nobody_has_logged_in(
    closing: list[IdentityTokenSource], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # where there is no az
    source = token_source("https://management.azure.com", {})
    assert isinstance(source, IdentityTokenSource)
    closing.append(source)
    with pytest.raises(AuthenticationError, match="run az login, or set AZURE_TENANT_ID"):
        source.token()
    az = tmp_path / "az"
    az.write_text("#!/bin/sh\necho 'Please run az login to setup account.' >&2\nexit 1\n", encoding="ascii")
    az.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(AuthenticationError, match="run az login"):
        source.token()
