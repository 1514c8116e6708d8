"""The ARM client against a real HTTP server: what it sends, what it makes of answers, what it never follows."""

from __future__ import annotations

import base64
import gzip
import itertools
import logging
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.arm import USER_AGENT
from shared.arm.budget import JOB_READS, PROTECTED_ITEM_READS
from shared.arm.client import ArmClient
from shared.arm.errors import (
    ArmAnswerLostError,
    ArmEndpointError,
    ArmError,
    ArmNotSentError,
    ArmPacedError,
    ArmProtocolError,
    ArmStatusError,
    ArmUrlRefusedError,
)
from shared.arm.ids import VaultId
from shared.clock import ServiceTime
from tests.unit.arm.server import (
    SUBSCRIPTION,
    VAULT_PATH,
    Answer,
    Request,
    Server,
    client_of,
    make_certificate,
    serving,
)

VAULT = VaultId.parse(VAULT_PATH)
REQUEST_ID = "73716c62-1111-8222-8333-444444444444"
PARAMS = {"api-version": "2024-04-01"}
JOBS = f"{VAULT.url_path}/backupJobs"
ITEM = f"{VAULT.url_path}/backupFabrics/Azure/protectionContainers/c/protectedItems/i"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def elsewhere() -> Iterator[Server]:
    """A server that must hear nothing."""
    with serving() as running:
        yield running


@pytest.fixture
def arm(server: Server) -> Iterator[ArmClient]:
    with client_of(server.url) as client:
        yield client


class CountingTokens:
    """Gives t1 until it is asked for another."""

    def __init__(self) -> None:
        self.number = 1
        self.refreshed = 0
        self.claims: list[str | None] = []

    def token(self, *, refresh: bool = False, claims: str | None = None) -> str:
        if refresh:
            self.claims.append(claims)
            self.refreshed += 1
            self.number += 1
        return f"t{self.number}"


# What is sent


def test_a_read(server: Server, arm: ArmClient) -> None:
    server.answer(Answer(200, {"name": "vault1"}, {"x-ms-request-id": "r1"}))
    filter_ = "backupManagementType eq 'AzureWorkload' and friendlyName eq 'a&b=c+d%'"
    response = arm.get("get the vault", VAULT.url_path, params={**PARAMS, "$filter": filter_})
    assert (response.status, response.body) == (200, {"name": "vault1"})
    assert response.headers["x-ms-request-id"] == "r1"
    assert response.date == datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
    (request,) = server.requests
    assert (request.method, request.path) == ("GET", VAULT_PATH)
    assert request.params == {**PARAMS, "$filter": filter_}
    assert "+" not in request.target, "a blank is sent as %20, which nobody misreads"
    assert request.headers["authorization"] == "Bearer local-simulator"
    assert request.headers["user-agent"] == USER_AGENT
    assert request.headers["accept"] == "application/json"
    assert uuid.UUID(request.headers["x-ms-client-request-id"]).version == 4
    assert request.headers["x-ms-return-client-request-id"] == "true"


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_mutation_carries_the_callers_request_id(server: Server, arm: ArmClient, method: str) -> None:
    server.answer(Answer(202, None))
    ask = arm.put if method == "PUT" else arm.post
    response = ask("do", VAULT.url_path, params=PARAMS, json={"ä": [1, None]}, client_request_id=REQUEST_ID)
    assert (response.status, response.body) == (202, None)
    (request,) = server.requests
    assert (request.method, request.json) == (method, {"ä": [1, None]})
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-ms-client-request-id"] == REQUEST_ID


def test_a_post_without_body_says_so(server: Server, arm: ArmClient) -> None:
    server.answer(Answer(202))
    arm.post("refresh", VAULT.url_path, params=PARAMS, json=None, client_request_id=REQUEST_ID)
    (request,) = server.requests
    assert (request.headers["content-length"], request.body) == ("0", b"")
    assert "content-type" not in request.headers


def test_a_signed_url_is_asked_as_it_came(server: Server, arm: ArmClient) -> None:
    server.answer(Answer(200, {}))
    signed = "&t=638834052987019526&c=MII%2BA%7e-" + "A" * 2600 + "&s=a-b_c%3D&h=x?api-version=2"
    path = "/backupFabrics/Azure/protectionContainers/VMAppContainer;Compute;rg;vm/operationResults/1"
    url = f"{server.url}{VAULT_PATH}{path}?api-version=1{signed}"
    arm.get_url("poll", url, vault=VAULT)
    assert server.requests[0].target.replace("%7E", "%7e") == url.removeprefix(server.url)


def test_the_version_in_the_user_agent_is_the_projects() -> None:
    pyproject = Path(__file__).parents[3].joinpath("pyproject.toml").read_text(encoding="utf-8")
    version = re.search(r'^version = "(.+)"$', pyproject, re.MULTILINE)
    assert version is not None
    assert f"sql-vm-backup-functions/{version.group(1)}" == USER_AGENT


def test_connections_are_reused_and_shared_by_threads(server: Server, arm: ArmClient) -> None:
    server.answer(Answer(200, {}))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: arm.get("get", VAULT.url_path, params=PARAMS), range(200)))
    assert len(server.requests) == 200
    assert server.connections <= 8


def test_neither_netrc_nor_cookies_touch_the_token(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login mallory password hunter2\n", encoding="ascii")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server.answer(Answer(200, {}, {"Set-Cookie": "session=1"}))
    with client_of(server.url) as arm:
        for _ in range(2):
            arm.get("get", VAULT.url_path, params=PARAMS)
    for request in server.requests:
        assert request.headers["authorization"] == "Bearer local-simulator"
        assert "cookie" not in request.headers


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    server: Server, elsewhere: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, elsewhere.url)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with client_of(server.url) as arm:
        arm.get("get", VAULT.url_path, params=PARAMS)
    assert len(server.requests) == 1
    assert elsewhere.requests == []


def test_importing_the_client_loads_no_http_library() -> None:
    code = (
        "import sys, shared.arm.client, shared.arm.credentials, shared.azure_backup.operations;"
        "print([m for m in ('requests', 'urllib3', 'azure.identity', 'azure.core', 'cryptography')"
        " if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


# Answers


def test_the_services_clock_and_budget_are_kept(server: Server, arm: ArmClient) -> None:
    server.answer(
        Answer(
            200,
            {},
            {
                "Date": "Tue, 06 Jan 2026 10:00:00 GMT",
                "x-ms-request-id": "of-the-service",
                "x-ms-ratelimit-remaining-subscription-resource-requests": "149",
                "x-ms-ratelimit-remaining-resource": "Microsoft.Compute/HighCostGet3Min;159",
            },
        ),
        Answer(503, {}, {"Date": "Tue, 06 Jan 2026 10:04:00 GMT"}),
        Answer(200, {}, {"Date": "no date"}),
    )
    arm.get("list", JOBS, params=PARAMS)
    assert (
        timedelta()
        <= arm.service_clock.now() - ServiceTime(datetime(2026, 1, 6, 10, tzinfo=UTC))
        < timedelta(seconds=5)
    )
    assert arm.budget.left(VAULT.subscription_id, JOB_READS) == 149
    with pytest.raises(ArmStatusError):
        arm.get("get", VAULT.url_path, params=PARAMS)
    arm.get("get", VAULT.url_path, params=PARAMS)
    assert (
        timedelta()
        <= arm.service_clock.now() - ServiceTime(datetime(2026, 1, 6, 10, 4, tzinfo=UTC))
        < timedelta(seconds=5)
    )
    assert arm.budget.left(VAULT.subscription_id, PROTECTED_ITEM_READS) == 300


@pytest.mark.parametrize(
    ("code", "jobs", "items"),
    [
        ("ResourceRequestsThrottled", False, True),
        ("SubscriptionRequestsThrottled", False, False),
        ("UserErrorAnotherOperationInProgress", True, True),
    ],
)
def test_a_429_closes_what_it_speaks_of(
    server: Server, arm: ArmClient, code: str, jobs: bool, items: bool
) -> None:
    server.answer(
        Answer(429, {"error": {"code": code, "message": "later"}}, {"Retry-After": "600"}),
        Answer(200, {}, {}),
    )
    with pytest.raises(ArmStatusError):
        arm.get("list", JOBS, params=PARAMS)
    for path, opened in ((f"{JOBS}/1", jobs), (ITEM, items)):
        if opened:
            arm.get("get", path, params=PARAMS)
        else:
            with pytest.raises(ArmPacedError):
                arm.get("get", path, params=PARAMS)


def test_a_compressed_answer(server: Server, arm: ArmClient) -> None:
    server.answer(Answer(200, gzip.compress(b'\xef\xbb\xbf{"a": 1}'), {"Content-Encoding": "gzip"}))
    assert arm.get("get", VAULT.url_path, params=PARAMS).body == {"a": 1}


def test_an_answer_shows_neither_urls_nor_its_body(server: Server, arm: ArmClient) -> None:
    server.answer(Answer(202, {"secret": 1}, {"Location": f"{server.url}/x?s=signature"}))
    response = arm.post("do", VAULT.url_path, params=PARAMS, json=None, client_request_id=REQUEST_ID)
    assert "signature" not in repr(response)
    assert "secret" not in repr(response)


HTML = b"<html><body>Sign in to the guest network? Bearer abcdefghijkl</body></html>"


@pytest.mark.parametrize(
    "body",
    [
        HTML,
        b"{",
        b'{"value": NaN}',
        b"[" * 100_000,
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b'\xff\xfe{"a":1}',
        b'{"a": 1} trailing',
    ],
)
def test_a_success_that_is_no_json_is_no_success(server: Server, arm: ArmClient, body: bytes) -> None:
    server.answer(Answer(202, body, {"Content-Type": "text/html", "x-ms-request-id": "r1"}))
    with pytest.raises(ArmProtocolError, match="no JSON") as caught:
        arm.post("trigger", VAULT.url_path, params=PARAMS, json={}, client_request_id=REQUEST_ID)
    error = caught.value
    assert error.may_have_started
    assert (error.client_request_id, error.request_id) == (REQUEST_ID, "r1")
    assert "abcdefghijkl" not in str(error)
    assert len(str(error)) < 700


def test_an_answer_without_end_is_cut(
    server: Server, arm: ArmClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.arm.client._LARGEST_BODY", 100_000)
    server.answer(Answer(200, gzip.compress(b"0" * 50_000_000), {"Content-Encoding": "gzip"}))
    with pytest.raises(ArmAnswerLostError, match="larger than 100000 bytes"):
        arm.get("get", VAULT.url_path, params=PARAMS)


ERRORS = [
    (
        409,
        {"error": {"code": "UserErrorConflict", "message": "Busy.", "target": None, "details": None}},
        "UserErrorConflict",
        "Busy.",
        (),
        False,
    ),
    (
        400,
        {
            "error": {
                "code": "BadRequest",
                "message": "Two things.",
                "details": [
                    {"code": "X", "message": "one", "recommendations": ["Do one."]},
                    "odd",
                ],
                "additionalInfo": [
                    {"type": "UserFacingError", "info": {"recommendedAction": ["Do two.", "", "Do one."]}}
                ],
            }
        },
        "BadRequest",
        "Two things.",
        ("Do two.", "Do one."),
        False,
    ),
    (404, {"code": "ResourceNotFound", "message": "Gone."}, "ResourceNotFound", "Gone.", (), False),
    (400, {"Code": "Odd", "Message": "Capital."}, "Odd", "Capital.", (), False),
    (
        400,
        {"odata.error": {"code": "O", "message": {"lang": "en", "value": "Data."}}},
        "O",
        "Data.",
        (),
        False,
    ),
    (400, {"error": "invalid_request", "error_description": "What?"}, "invalid_request", "What?", (), False),
    (
        403,
        {"error": {"code": "AuthorizationFailed", "message": "No."}},
        "AuthorizationFailed",
        "No.",
        (),
        False,
    ),
    (429, {"error": {"code": 42, "message": None}}, "42", "", (), False),
    # What is turned away has not started, whoever says it; a gateway that gave up waiting knows nothing.
    (409, {"error": {"message": "Busy."}}, "", "Busy.", (), False),
    (425, {"error": {"message": "Too early."}}, "", "Too early.", (), False),
    (408, {"error": {"code": "RequestTimeout", "message": "Late."}}, "RequestTimeout", "Late.", (), True),
    (500, None, "", "", (), True),
    (502, b"<html>Bad\n gateway</html>", "", "<html>Bad gateway</html>", (), True),
    (503, [1], "", "[1]", (), True),
    (504, {"error": [1]}, "", '{"error": [1]}', (), True),
    (408, {}, "", "{}", (), True),
]


@pytest.mark.parametrize(("status", "body", "code", "message", "recommendations", "started"), ERRORS)
def test_error_answers(
    server: Server,
    arm: ArmClient,
    status: int,
    body: object,
    code: str,
    message: str,
    recommendations: tuple[str, ...],
    started: bool,
) -> None:
    headers = {
        "Retry-After": "372",
        "x-ms-request-id": "r-17",
        "Location": "https://management.azure.com/x?s=signature",
        "Set-Cookie": "a=b",
    }
    server.answer(Answer(status, body, headers))
    with pytest.raises(ArmStatusError) as caught:
        arm.post("trigger", VAULT.url_path, params=PARAMS, json=None, client_request_id=REQUEST_ID)
    error = caught.value
    assert (error.status, error.code, error.message) == (status, code, message)
    assert error.recommendations == recommendations
    assert error.may_have_started is started
    assert error.retry_after == timedelta(seconds=372)
    for part in (str(status), code, message, REQUEST_ID, "r-17", f"POST {VAULT_PATH}"):
        assert part in str(error)
    assert "signature" not in str(error)


def test_what_an_error_says_of_secrets(server: Server, arm: ArmClient) -> None:
    said = (
        "See https://x.example/a?sig=SIGNATURE and Authorization: Bearer TOKENTOKENTOKEN,"
        " eyJhbGciOiJSUzI1NiJ9.PAYLOAD.SIG, client_secret=SECRET\x1b[31m\nrest"
    )
    server.answer(Answer(400, {"error": {"code": "A\r\nB", "message": said, "details": [{"message": said}]}}))
    with pytest.raises(ArmStatusError) as caught:
        arm.get("get", VAULT.url_path, params=PARAMS)
    shown = str(caught.value)
    for secret in ("SIGNATURE", "TOKENTOKEN", "PAYLOAD", "SECRET", "\x1b", "\n"):
        assert secret not in shown


@pytest.mark.parametrize(
    ("header", "wait"),
    [("60", 60), ("Mon, 05 Jan 2026 08:02:00 GMT", 120), ("-1", None), ("soon", None), (None, None)],
)
def test_f08_f09_throttling(server: Server, arm: ArmClient, header: str | None, wait: float | None) -> None:
    # The date is reckoned from the answer's own: a machine clock that is years off does no harm.
    server.answer(Answer(429, {}, {"Retry-After": header} if header else {}))
    with pytest.raises(ArmStatusError) as caught:
        arm.get("get", VAULT.url_path, params=PARAMS)
    assert caught.value.retry_after == (None if wait is None else timedelta(seconds=wait))
    assert not caught.value.may_have_started


# Tokens


def test_f14_an_expired_token_is_replaced_once(server: Server) -> None:
    def respond(request: Request) -> Answer:
        fresh = request.headers["authorization"] == "Bearer t2"
        return Answer(
            202 if fresh else 401, {} if fresh else {"error": {"code": "ExpiredAuthenticationToken"}}
        )

    server.respond = respond
    tokens = CountingTokens()
    with client_of(server.url, token_source=tokens) as arm:
        arm.get("get", VAULT.url_path, params=PARAMS)
        arm.post("do", VAULT.url_path, params=PARAMS, json={"a": 1}, client_request_id=REQUEST_ID)
    assert tokens.refreshed == 1
    assert [(request.method, request.headers["authorization"]) for request in server.requests] == [
        ("GET", "Bearer t1"),
        ("GET", "Bearer t2"),
        ("POST", "Bearer t2"),
    ]


def test_a_change_turned_away_for_its_token_is_sent_again_by_the_caller_with_a_new_one(
    server: Server,
) -> None:
    def respond(request: Request) -> Answer:
        fresh = request.headers["authorization"] == "Bearer t2"
        return Answer(
            202 if fresh else 401, {} if fresh else {"error": {"code": "ExpiredAuthenticationToken"}}
        )

    server.respond = respond
    tokens = CountingTokens()
    with client_of(server.url, token_source=tokens) as arm:
        with pytest.raises(ArmStatusError) as caught:
            arm.post("do", VAULT.url_path, params=PARAMS, json={"a": 1}, client_request_id=REQUEST_ID)
        assert (caught.value.status, caught.value.may_have_started) == (401, False)
        assert len(server.requests) == 1
        arm.post("do", VAULT.url_path, params=PARAMS, json={"a": 1}, client_request_id=REQUEST_ID)
    assert tokens.refreshed == 1
    assert [request.headers["authorization"] for request in server.requests] == ["Bearer t1", "Bearer t2"]
    assert [r.headers["x-ms-client-request-id"] for r in server.requests] == [REQUEST_ID] * 2
    assert server.requests[1].json == {"a": 1}


def test_a_token_that_stays_rejected_is_an_error(server: Server) -> None:
    server.answer(Answer(401, {"error": {"code": "InvalidAuthenticationToken", "message": "Bad."}}))
    tokens = CountingTokens()
    with client_of(server.url, token_source=tokens) as arm, pytest.raises(ArmStatusError) as caught:
        arm.get("get", VAULT.url_path, params=PARAMS)
    assert (caught.value.status, len(server.requests), tokens.refreshed) == (401, 2, 1)
    assert not caught.value.may_have_started


def challenged_for(claims: str) -> Answer:
    challenge = f'Bearer authorization_uri="https://login.windows.net/", error="insufficient_claims", claims="{claims}"'
    return Answer(
        401, {"error": {"code": "AuthenticationFailed", "message": "MFA."}}, {"WWW-Authenticate": challenge}
    )


def test_a_claims_challenge_is_answered_by_a_token_with_those_claims(server: Server) -> None:
    claims = '{"access_token":{"acrs":{"essential":true,"value":"p1?>"}}}'
    encoded = base64.b64encode(claims.encode()).decode()
    for challenge in (encoded, encoded.rstrip("="), base64.urlsafe_b64encode(claims.encode()).decode()):
        server.answer(challenged_for(challenge), Answer(200, {"name": "vault1"}))
        tokens = CountingTokens()
        with client_of(server.url, token_source=tokens) as arm:
            assert arm.get("get", VAULT.url_path, params=PARAMS).body == {"name": "vault1"}
        assert tokens.claims == [claims]
        assert server.requests[-1].headers["authorization"] == "Bearer t2"


def test_a_claims_challenge_that_cannot_be_read_is_not_answered_with_the_same_claims(server: Server) -> None:
    for claims in ("eyJh", "%%%", "W10="):
        server.requests.clear()
        server.answer(challenged_for(claims))
        tokens = CountingTokens()
        with client_of(server.url, token_source=tokens) as arm, pytest.raises(ArmStatusError) as caught:
            arm.get("get", VAULT.url_path, params=PARAMS)
        assert (len(server.requests), tokens.claims) == (1, [])
        assert caught.value.status == 401


def test_a_claims_challenge_counts_though_another_challenge_follows_it(server: Server) -> None:
    claims = '{"access_token":{"acrs":{"essential":true,"value":"p1"}}}'
    challenge = challenged_for(base64.b64encode(claims.encode()).decode())
    # RFC 9110, section 11.6.1: a server may send a challenge in a header line of its own.
    headers = {**challenge.headers, "www-authenticate": 'PoP realm=""'}
    server.answer(Answer(401, challenge.body, headers), Answer(200, {"name": "vault1"}))
    tokens = CountingTokens()
    with client_of(server.url, token_source=tokens) as arm:
        assert arm.get("get", VAULT.url_path, params=PARAMS).body == {"name": "vault1"}
    assert tokens.claims == [claims]


def test_many_threads_with_an_expired_token_ask_for_one_new_one(server: Server) -> None:
    together = threading.Barrier(8)

    def respond(request: Request) -> Answer:
        if request.headers["authorization"] == "Bearer t1":
            together.wait(10)
            return Answer(401, {})
        return Answer(200, {})

    server.respond = respond
    tokens = CountingTokens()
    with client_of(server.url, token_source=tokens) as arm, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: arm.get("get", VAULT.url_path, params=PARAMS), range(8)))
    assert tokens.refreshed == 1


# Where it never goes


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST", "poll"])
def test_f16_redirects_are_not_followed(
    server: Server, elsewhere: Server, arm: ArmClient, method: str, status: int
) -> None:
    server.answer(Answer(status, None, {"Location": f"{elsewhere.url}{VAULT_PATH}"}))
    with pytest.raises(ArmUrlRefusedError, match=f"redirect \\({status}\\)"):
        if method == "GET":
            arm.get("get", VAULT.url_path, params=PARAMS)
        elif method == "POST":
            arm.post("do", VAULT.url_path, params=PARAMS, json={}, client_request_id=REQUEST_ID)
        else:
            arm.get_url("poll", f"{server.url}{VAULT_PATH}/backupOperations/1", vault=VAULT)
    assert len(server.requests) == 1
    assert elsewhere.requests == []


def test_f16_f17_foreign_poll_urls_are_refused_before_anything_is_sent(
    server: Server, elsewhere: Server, arm: ArmClient, caplog: pytest.LogCaptureFixture
) -> None:
    other = VAULT_PATH.replace(SUBSCRIPTION, "00000000-0000-0000-0000-000000000002")
    host = server.url.removeprefix("http://")
    for url in (
        f"{elsewhere.url}{VAULT_PATH}/backupOperations/1?s=signature",
        f"{elsewhere.url.replace('127.0.0.1', 'localhost')}{VAULT_PATH}",
        f"{server.url}{other}/backupOperations/1",
        f"https://{host}{VAULT_PATH}",
        f"http://user:pass@{host}{VAULT_PATH}",
        f"http://{host}@{elsewhere.url.removeprefix('http://')}{VAULT_PATH}",
    ):
        caplog.clear()
        with caplog.at_level(logging.WARNING), pytest.raises(ArmUrlRefusedError) as caught:
            arm.get_url("poll", url, vault=VAULT)
        assert not caught.value.may_have_started
        assert [getattr(record, "action", None) for record in caplog.records] == ["url_refused"]
        for secret in ("signature", "pass@"):
            assert secret not in str(caught.value) + caplog.text
    assert server.requests == elsewhere.requests == []


def test_a_path_that_was_not_made_by_an_id_is_refused(server: Server, arm: ArmClient) -> None:
    for path in ("/subscriptions/../../evil", f"{VAULT_PATH}?x=1", f"{VAULT_PATH}/%2e%2e/x", "@evil/x/y/z"):
        with pytest.raises(ArmUrlRefusedError):
            arm.get("get", path, params=PARAMS)
    assert server.requests == []


def test_http_is_for_loopback_only() -> None:
    with pytest.raises(ArmEndpointError, match="in the clear"), client_of("http://management.azure.com"):
        pass


def test_nothing_that_is_logged_holds_a_query(
    server: Server, arm: ArmClient, caplog: pytest.LogCaptureFixture
) -> None:
    server.answer(Answer(200, {"value": []}))
    with caplog.at_level(logging.DEBUG):
        arm.get_url("poll", f"{server.url}{VAULT_PATH}/backupOperations/1?s=signature", vault=VAULT)
    assert "arm_call" in [getattr(record, "action", None) for record in caplog.records]
    assert "urllib3.connectionpool" in [record.name for record in caplog.records]
    shown = caplog.text + "".join(repr(vars(record)) for record in caplog.records)
    assert "signature" not in shown
    assert "local-simulator" not in shown


# Pages


def _page(server: Server, names: list[str], link: object = None) -> Answer:
    return Answer(200, {"value": [{"name": name} for name in names], "nextLink": link})


def test_f43_pages_are_followed_to_their_end(server: Server, arm: ArmClient) -> None:
    jobs = f"{VAULT_PATH}/backupJobs"
    server.answer(
        _page(server, ["a", "b"], f"{server.url}{jobs}?api-version=2017-07-01&%24skiptoken=%3c%3fxml%0d%0a"),
        _page(server, [], f"{jobs}?$skipToken=2 of 3"),
        _page(server, ["c"], ""),
    )
    counted: list[int] = []
    items = arm.pages("list jobs", f"{VAULT.url_path}/backupJobs", params=PARAMS, counted=counted.append)
    assert [item["name"] for item in items] == ["a", "b", "c"]
    assert counted == [3]
    assert len({r.headers["x-ms-client-request-id"] for r in server.requests}) == 3
    assert server.requests[1].params["$skiptoken"] == "<?xml\r\n"
    assert server.requests[2].params == {"$skipToken": "2 of 3"}


def test_f43_pages_that_lead_elsewhere_or_nowhere(
    server: Server, elsewhere: Server, arm: ArmClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"{VAULT_PATH}/backupJobs"

    def ask() -> list[object]:
        return list(arm.pages("list jobs", path, params=PARAMS))

    server.answer(_page(server, ["a"], f"{elsewhere.url}{path}"))
    with pytest.raises(ArmUrlRefusedError):
        ask()
    assert elsewhere.requests == []

    server.answer(_page(server, ["a"], f"{server.url}{path}?n=1"))
    with pytest.raises(ArmProtocolError, match="in a circle"):
        ask()

    no_pages: list[object] = [{}, {"value": None}, {"value": {}}, [], None]
    for body in (*no_pages, {"value": [], "nextLink": 7}):
        server.answer(Answer(200, body))
        with pytest.raises(ArmProtocolError) as caught:
            ask()
        assert path in str(caught.value)

    monkeypatch.setattr("shared.arm.client._MOST_PAGES", 20)
    number = itertools.count()
    server.respond = lambda request: _page(server, ["a"], f"{server.url}{path}?n={next(number)}")
    with pytest.raises(ArmProtocolError, match="more than 20 pages"):
        ask()


# TLS


def test_https_with_an_authority_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = make_certificate(tmp_path)
    with serving(tls=(certificate, key)) as server:
        server.answer(Answer(200, {"a": 1}))
        monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
        monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
        with (
            client_of(server.url) as arm,
            pytest.raises(ArmNotSentError, match="REQUESTS_CA_BUNDLE") as caught,
        ):
            arm.post("do", VAULT.url_path, params=PARAMS, json={}, client_request_id=REQUEST_ID)
        assert not caught.value.may_have_started
        assert server.requests == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        with client_of(server.url) as arm:
            assert arm.get("get", VAULT.url_path, params=PARAMS).body == {"a": 1}
        with client_of(server.url.replace("127.0.0.1", "localhost")) as arm:
            assert arm.get("get", VAULT.url_path, params=PARAMS).body == {"a": 1}


def test_every_error_of_a_call_is_one_of_the_tree() -> None:
    tree = {ArmNotSentError, ArmAnswerLostError, ArmStatusError, ArmProtocolError, ArmUrlRefusedError}
    assert set(ArmError.__subclasses__()) == tree
