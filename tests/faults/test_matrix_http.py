"""Faults F08 to F20 and F43 of the matrix: what Azure's answers, and the way to it, can do."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pytest

from shared.arm import client
from shared.arm.transport import RawAnswer
from tests.e2e.harness import JsonObject
from tests.faults.estate import FaultyEstate, Plan, bare_estate, fault, open_faulty, protected_estate

#: What a bad answer is put on: a read before anything has begun, a PUT, a POST that is not repeatable.
READ, PUT, POST = "ListProtectedItems", "ConfigureBackup", "Backup"


def finished(estate: FaultyEstate, request: JsonObject) -> JsonObject:
    """The data of the request's one outcome, once nothing is left to do and the invariants hold."""
    estate.submit(request)
    estate.quiesce()
    estate.check()
    return estate.outcome(request)


def proven(estate: FaultyEstate) -> None:
    """Let the vault show that it echoes client request ids: by a backup of another database."""
    assert finished(estate, estate.backup("billing"))["status"] == "succeeded"


def asked(estate: FaultyEstate, route: str) -> list[tuple[datetime, int | None]]:
    """When a route was asked, by Azure's clock, and what it answered (None: nothing)."""
    return [
        (datetime.fromisoformat(entry["time"]), entry["status"])
        for entry in estate.simulator.access_entries
        if entry["route"] == route
    ]


def gaps(estate: FaultyEstate, route: str) -> list[float]:
    """Seconds between one call of a route and the next."""
    times = [at for at, _ in asked(estate, route)]
    return [(later - earlier).total_seconds() for earlier, later in pairwise(times)]


# -- throttling


def test_F11_the_job_began_before_its_answer_was_given_up() -> None:
    # In a vault that does not echo, the one job that is ours began half a minute before the time-out.
    faults = [fault("Backup", "dropAfterEffect", nth=1)]
    plan = Plan(slow={1: timedelta(seconds=31)})
    with open_faulty(protected_estate(faults=faults, echoActivityId=False), plan) as estate:
        outcome = finished(estate, estate.backup("orders"))
        assert outcome["status"] == "succeeded"
        assert estate.job_ids("Backup") == [outcome["job"]["id"]]


@pytest.mark.parametrize("route", [READ, POST])
@pytest.mark.parametrize(
    ("value", "least"),
    [(90, 90), ("600", 600), ("Mon, 05 Jan 2026 08:10:00 GMT", 598), (0, 0), (-30, 0.5), ("soon", 0.5)],
)
def test_f08_http_429_with_retry_after(route: str, value: int | str, least: float) -> None:
    faults = [fault(route, "throttle", retryAfter=value, times=3)]
    with open_faulty(protected_estate(faults=faults), sockets=True) as estate:
        assert finished(estate, estate.backup("orders"))["status"] == "succeeded"
        statuses = [status for _, status in asked(estate, route)]
        assert statuses[:4] == [429, 429, 429, 200 if route == READ else 202]
        waits = gaps(estate, route)[:3]
        first = waits[:1] if isinstance(value, str) and value.endswith("GMT") else waits
        assert all(least <= wait <= least * 1.2 + 65 for wait in first)
        assert estate.mutations["Backup"] == 1


@pytest.mark.parametrize("route", [READ, POST, "OperationStatus"])
def test_f08_a_wait_beyond_the_deadline_ends_at_once(route: str) -> None:
    faults = [fault(route, "throttle", retryAfter=10**9)]
    with open_faulty(protected_estate(faults=faults), sockets=True) as estate:
        began = estate.clock.now()
        outcome = finished(estate, estate.backup("orders"))
        assert outcome["status"] == ("timedOut" if route == "OperationStatus" else "failed")
        assert len(asked(estate, route)) == 1
        assert estate.clock.now() - began < timedelta(minutes=5)


@pytest.mark.parametrize("route", [READ, POST])
def test_f09_http_429_without_header(route: str) -> None:
    faults = [fault(route, "throttle", retryAfter=None, times=5)]
    with open_faulty(protected_estate(faults=faults), sockets=True) as estate:
        assert finished(estate, estate.backup("orders"))["status"] == "succeeded"
        waits = gaps(estate, route)[:5]
        for attempt, wait in enumerate(waits):
            assert 2**attempt <= wait, "exponential, spread between half and the whole"
        assert estate.mutations["Backup"] == 1


# -- errors of the service


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
@pytest.mark.parametrize("route", ["ListContainers", READ, "OperationStatus", "GetJob", PUT, "Register"])
def test_f10_http_5xx_burst(route: str, status: int) -> None:
    code = "ServerTimeout" if status == 503 else "InternalServerError"
    faults = [fault(route, "status", status=status, code=code, times=6)]
    with open_faulty(bare_estate(faults=faults)) as estate:
        assert finished(estate, estate.protect("orders"))["status"] == "succeeded"
        assert [answered for _, answered in asked(estate, route)].count(status) == 6


@pytest.mark.parametrize("status", [500, 503, 408])
def test_f10_http_5xx_of_a_backup_is_no_licence_to_repeat_it(status: int) -> None:
    for kind in ("status", "statusAfterEffect"):
        with open_faulty(
            protected_estate("orders", "billing", faults=[fault(POST, kind, status=status, nth=2)]),
            sockets=True,
        ) as estate:
            proven(estate)
            outcome = finished(estate, estate.backup("orders"))
            assert outcome["status"] == "succeeded"
            # Taken effect or not: the database was backed up once, beside the other.
            assert estate.job_ids("Backup")[1:] == [outcome["job"]["id"]]


@pytest.mark.parametrize("kind", ["dropAfterEffect", "delayAfterEffect", "dropMidBody"])
@pytest.mark.parametrize("echoes", [True, False])
@pytest.mark.parametrize("route", ["Backup", "Restore"])
def test_f11_timeout_after_server_accepted(route: str, echoes: bool, kind: str) -> None:
    # The time-out is the simulated transport's: the real one is tried on a socket of its own.
    faults = [fault(route, kind, nth=1, seconds=60)]
    with open_faulty(
        protected_estate(faults=faults, echoActivityId=echoes), sockets=kind != "delayAfterEffect"
    ) as estate:
        outcome = finished(estate, estate.backup("orders") if route == "Backup" else estate.restore("orders"))
        assert outcome["status"] == "succeeded"
        assert estate.job_ids(route) == [outcome["job"]["id"]]


@pytest.mark.parametrize("echoes", [True, False])
def test_f11_a_restore_whose_start_is_unknown_is_not_sent_again(echoes: bool) -> None:
    faults = [fault("Restore", "dropBeforeEffect", nth=1)]
    with open_faulty(
        protected_estate("orders", "billing", faults=faults, echoActivityId=echoes), sockets=True
    ) as estate:
        if echoes:
            proven(estate)
        outcome = finished(estate, estate.restore("orders"))
        assert (outcome["status"], outcome["error"]["code"]) == ("unknown", "outcome_unknown")
        assert len(asked(estate, "Restore")) == 1
        assert estate.mutations["Restore"] == 0


@pytest.mark.parametrize("route", [READ, "OperationStatus", "GetJob", PUT, POST])
def test_f12_connection_reset_mid_body(route: str) -> None:
    faults = [fault(route, "dropMidBody", nth=1)]
    with open_faulty(
        bare_estate(faults=faults) if route == PUT else protected_estate(faults=faults), sockets=True
    ) as estate:
        request = estate.protect("orders") if route == PUT else estate.backup("orders")
        assert finished(estate, request)["status"] == "succeeded"
        assert estate.mutations["Backup"] <= 1


BAD_BODIES = ("malformedBody", "htmlBody", "wrongTypeBody", "emptyBody")


@pytest.mark.parametrize("kind", BAD_BODIES)
@pytest.mark.parametrize("route", [READ, "OperationStatus", "GetJob"])
def test_f13_malformed_json(route: str, kind: str) -> None:
    for times in (2, None):
        faults = [fault(route, kind, **({"times": times} if times else {}))]
        with open_faulty(protected_estate(faults=faults), sockets=True) as estate:
            outcome = finished(estate, estate.backup("orders"))
            if times:
                assert outcome["status"] == "succeeded"
            elif route == READ:
                assert (outcome["status"], outcome["error"]["code"]) == ("failed", "ArmProtocol")
                assert len(asked(estate, route)) == 5
                assert len(outcome["error"]["message"]) < 1000
            else:
                # Of an operation that cannot be read the job is listed; what a job says stands nowhere else.
                assert outcome["status"] == ("succeeded" if route == "OperationStatus" else "unknown")
                assert estate.mutations["Backup"] == 1


@pytest.mark.parametrize("kind", BAD_BODIES)
def test_f13_a_malformed_answer_to_a_backup_is_no_licence_to_repeat_it(kind: str) -> None:
    with open_faulty(protected_estate(faults=[fault(POST, kind)]), sockets=True) as estate:
        outcome = finished(estate, estate.backup("orders"))
        assert outcome["status"] == "succeeded"
        assert estate.job_ids("Backup") == [outcome["job"]["id"]]


def test_f13_what_a_proxy_says_is_shown_without_its_secrets() -> None:
    page = b"<html>denied https://proxy.example/?sig=geheim1&t=geheim2 Bearer geheim3geheim3 password=geheim4"

    def proxy(_: str, path: str, answer: RawAnswer) -> RawAnswer:
        return RawAnswer(200, answer.headers, page) if path.endswith("backupProtectedItems") else answer

    with open_faulty(protected_estate(), Plan(mangle=proxy)) as estate:
        outcome = finished(estate, estate.backup("orders"))
        assert "denied" in outcome["error"]["message"]
        assert "geheim" not in json.dumps(outcome)


# -- tokens and roles


@pytest.mark.parametrize("route", ["OperationStatus", "GetJob", READ])
def test_f14_token_expired_mid_poll(route: str) -> None:
    with open_faulty(
        protected_estate(faults=[fault(route, "status", status=401, times=3)]), sockets=True
    ) as estate:
        assert finished(estate, estate.backup("orders"))["status"] == "succeeded"
        statuses = [status for _, status in asked(estate, route)]
        # One new token at once, then later.
        assert statuses[:4] == [401, 401, 401, 200]
        assert gaps(estate, route)[0] < 1 <= gaps(estate, route)[1]


def test_f14_a_claims_challenge_surfaces() -> None:
    challenge = 'Bearer error="insufficient_claims", claims="e30="'

    def challenged(_: str, path: str, answer: RawAnswer) -> RawAnswer:
        if path.endswith("backupProtectedItems"):
            return RawAnswer(401, {**answer.headers, "www-authenticate": challenge}, b"")
        return answer

    with open_faulty(protected_estate(), Plan(mangle=challenged)) as estate:
        outcome = finished(estate, estate.backup("orders"))
        assert (outcome["status"], outcome["error"]["code"]) == ("failed", "not_authorised")


ACTION = "Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/protectedItems/backup/action"
FORBIDDEN = {
    "status": 403,
    "code": "AuthorizationFailed",
    "message": f"The client does not have authorization to perform action '{ACTION}'.",
}


def test_f15_forbidden_403() -> None:
    with open_faulty(protected_estate(faults=[fault(POST, "status", **FORBIDDEN)]), sockets=True) as estate:
        outcome = finished(estate, estate.backup("orders"))
        assert (outcome["status"], outcome["error"]["code"]) == ("failed", "not_authorised")
        assert ACTION in outcome["error"]["message"]
        times = [at for at, _ in asked(estate, POST)]
        assert timedelta(minutes=10) <= times[-1] - times[0] <= timedelta(minutes=12)
        assert estate.mutations["Backup"] == 0


def test_f15_a_role_that_is_still_spreading() -> None:
    with open_faulty(
        protected_estate(faults=[fault(POST, "status", times=10, **FORBIDDEN)]), sockets=True
    ) as estate:
        assert finished(estate, estate.backup("orders"))["status"] == "succeeded"
        assert estate.mutations["Backup"] == 1


@pytest.mark.parametrize("route", ["OperationStatus", "OperationResult"])
def test_f15_the_other_tracking_header_is_tried(route: str) -> None:
    # Some roles may read only one of the two.
    with open_faulty(bare_estate(faults=[fault(route, "status", **FORBIDDEN)]), sockets=True) as estate:
        assert finished(estate, estate.protect("orders"))["status"] == "succeeded"


# -- URLs that lead elsewhere


@contextmanager
def peer() -> Iterator[tuple[str, list[str]]]:
    """Another host: what reaches it is written down, with the Authorization it was sent."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization", ""))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}", seen
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("route", "kind"),
    [
        ("Refresh", "foreignPollUrl"),
        ("Register", "foreignPollUrl"),
        (PUT, "foreignPollUrl"),
        (POST, "foreignPollUrl"),
        (POST, "redirect"),
        ("OperationStatus", "redirect"),
        ("ListContainers", "redirect"),
        ("Restore", "foreignPollUrl"),
    ],
)
def test_f16_location_foreign_host(route: str, kind: str) -> None:
    with peer() as (host, seen):
        scenario = protected_estate if route in (POST, "OperationStatus", "Restore") else bare_estate
        with open_faulty(scenario(faults=[fault(route, kind, host=host)]), sockets=True) as estate:
            request = (
                estate.protect("orders")
                if scenario is bare_estate
                else estate.restore("orders")
                if route == "Restore"
                else estate.backup("orders")
            )
            outcome = finished(estate, request)
            assert seen == [], "a request left the endpoint"
            assert outcome["status"] in ("failed", "unknown")
            assert outcome["error"]["code"] == "ArmUrlRefused"
            assert host in outcome["error"]["message"] or kind == "redirect"


FOREIGN: list[tuple[str, Callable[[str, str], str]]] = [
    ("https", lambda url, own: url.replace("http://", "https://", 1)),
    ("user", lambda url, own: url.replace("http://", "http://management.azure.com@", 1)),
    ("port", lambda url, own: url.replace(own, f"{own}0", 1)),
    ("international", lambda url, own: url.replace("127.0.0.1", "127.0.0.1.xn--pple-43d.example", 1)),
    ("lookalike", lambda url, own: url.replace("127.0.0.1", "\uff1127.0.0.1", 1)),
    ("backslash", lambda url, own: url.replace("/subscriptions", "\\@evil.example/subscriptions", 1)),
]


def relocate(
    change: Callable[[str], str], ending: str = "/backup"
) -> Callable[[str, str, RawAnswer], RawAnswer]:
    """Every poll URL of the answers of a POST, changed."""

    def mangle(method: str, path: str, answer: RawAnswer) -> RawAnswer:
        if method == "POST" and path.endswith(ending):
            headers = {
                name: change(value) if name in ("location", "azure-asyncoperation") else value
                for name, value in answer.headers.items()
            }
            return RawAnswer(answer.status, headers, answer.body)
        return answer

    return mangle


@pytest.mark.parametrize(("name", "change"), FOREIGN, ids=[name for name, _ in FOREIGN])
def test_f16_every_way_of_pointing_elsewhere(name: str, change: Callable[[str, str], str]) -> None:
    # The simulated transport fails the test where a request leaves the endpoint.
    with open_faulty(protected_estate()) as estate:
        own = estate.url.removeprefix("http://")
        estate.meter.plan.mangle = relocate(lambda url: change(url, own))
        outcome = finished(estate, estate.backup("orders"))
        assert (outcome["status"], outcome["error"]["code"]) == ("unknown", "ArmUrlRefused")
        assert not asked(estate, "OperationStatus") and not asked(estate, "OperationResult")


OTHER = "11111111-1111-1111-1111-111111111111"


@pytest.mark.parametrize(
    "change",
    [
        lambda url: url.replace("00000000-0000-0000-0000-000000000001", OTHER),
        lambda url: url.replace("/subscriptions/", f"/subscriptions/{OTHER}/../"),
        lambda url: url.replace("/subscriptions/", "/providers/"),
        lambda url: url.replace("/providers/", "/%2e%2e/%2e%2e/providers/"),
    ],
    ids=["subscription", "climbing", "provider", "hidden"],
)
def test_f17_location_other_subscription_or_vault(change: Callable[[str], str]) -> None:
    with open_faulty(protected_estate(), Plan(mangle=relocate(change))) as estate:
        outcome = finished(estate, estate.backup("orders"))
        assert (outcome["status"], outcome["error"]["code"]) == ("unknown", "ArmUrlRefused")
        assert not asked(estate, "OperationStatus") and not asked(estate, "OperationResult")


# -- operations


BOTH, ONE, OTHER_ONE = ["Location", "Azure-AsyncOperation"], ["Location"], ["Azure-AsyncOperation"]


@pytest.mark.parametrize("headers", [BOTH, ONE, OTHER_ONE], ids=["both", "Location", "Azure-AsyncOperation"])
@pytest.mark.parametrize("route", ["Backup", "Restore", "ConfigureBackup"])
def test_f18_both_headers_missing_on_202(route: str, headers: list[str]) -> None:
    faults = [fault(route, "missingHeaders", headers=headers)]
    scenario = bare_estate if route == PUT else protected_estate
    with open_faulty(scenario(faults=faults), sockets=True) as estate:
        request = {
            "Backup": lambda: estate.backup("orders"),
            "Restore": lambda: estate.restore("orders"),
            PUT: lambda: estate.protect("orders"),
        }[route]()
        outcome = finished(estate, request)
        assert outcome["status"] == "succeeded"
        assert estate.job_ids(route) == [outcome["job"]["id"]]


@pytest.mark.parametrize("route", ["Refresh", "Register", "Inquire"])
@pytest.mark.parametrize("headers", [BOTH, ONE, OTHER_ONE], ids=["both", "Location", "Azure-AsyncOperation"])
def test_f18_an_operation_without_job(route: str, headers: list[str]) -> None:
    faults = [fault(route, "missingHeaders", headers=headers)]
    with open_faulty(bare_estate(faults=faults), sockets=True) as estate:
        outcome = finished(estate, estate.protect("orders"))
        if len(headers) == 1:
            assert outcome["status"] == "succeeded"
        else:
            assert outcome["error"]["code"] == "NoOperationUrl"


@pytest.mark.parametrize(
    ("route", "kind"),
    [
        ("Backup", "jobNeverEnds"),
        ("Restore", "jobNeverEnds"),
        ("Backup", "operationNeverEnds"),
        ("Register", "operationNeverEnds"),
    ],
)
def test_f19_operation_never_ends(route: str, kind: str) -> None:
    scenario = bare_estate if route == "Register" else protected_estate
    with open_faulty(scenario(faults=[fault(route, kind)])) as estate:
        began = estate.clock.now()
        request = (
            estate.protect("orders")
            if route == "Register"
            else estate.backup("orders", jobTimeout="PT6H")
            if route == "Backup"
            else estate.restore("orders", jobTimeout="PT6H")
        )
        outcome = finished(estate, request)
        limit = timedelta(hours=6 if kind == "jobNeverEnds" else 2)
        assert outcome["status"] == "timedOut"
        if kind == "jobNeverEnds":
            assert outcome["job"]["id"] == estate.job_ids(route)[0]
        assert limit <= estate.clock.now() - began <= limit + timedelta(minutes=5), "deadline and one poll"
        # The job is left to run: it is Azure's, and a person's to cancel.
        assert not asked(estate, "CancelJob")


@pytest.mark.parametrize(("kind", "status"), [("status", 404), ("status", 410), ("statusAfterEffect", 204)])
@pytest.mark.parametrize("route", ["OperationStatus", "OperationResult"])
@pytest.mark.parametrize("times", [1, None])
def test_f20_operation_result_404(route: str, kind: str, status: int, times: int | None) -> None:
    faults = [fault(route, kind, status=status, **({"times": times} if times else {}))]
    flows: list[tuple[JsonObject, Callable[[FaultyEstate], JsonObject]]] = [
        (bare_estate(faults=faults), lambda estate: estate.protect("orders")),
        (protected_estate(faults=faults), lambda estate: estate.backup("orders")),
    ]
    for scenario, request in flows:
        with open_faulty(scenario, sockets=True) as estate:
            assert finished(estate, request(estate))["status"] == "succeeded"
            assert estate.mutations["Backup"] <= 1


# -- listings


LOOPS = [
    ("foreignNextLink", 10_000, ""),
    ("nextLinkLoop", 10_000, "circle"),
    ("delay", 3, "more than 3 pages"),
]


@pytest.mark.parametrize(("kind", "most", "says"), LOOPS, ids=["foreign", "loop", "endless"])
def test_f43_pagination_next_link(kind: str, most: int, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_MOST_PAGES", most)
    names = [f"db{number:02}" for number in range(12)]
    with peer() as (host, seen):
        faults = [fault(READ, kind, host=host, seconds=0)]
        with open_faulty(protected_estate(*names, pageSize=1, faults=faults), sockets=True) as estate:
            outcome = finished(estate, estate.backup("db00"))
            assert seen == [], "a token left the endpoint"
            assert outcome["status"] == "failed"
            assert (says or host) in outcome["error"]["message"]
            assert estate.mutations["Backup"] == 0
            assert len(asked(estate, READ)) <= 5 * most


@pytest.mark.parametrize(("kind", "status"), [("foreignNextLink", "unknown"), ("nextLinkLoop", "succeeded")])
def test_f43_pagination_of_the_jobs_that_are_followed(kind: str, status: str) -> None:
    names = [f"db{number:02}" for number in range(12)]
    with peer() as (host, seen):
        faults = [fault("ListJobs", kind, host=host)]
        with open_faulty(protected_estate(*names, pageSize=5, faults=faults), sockets=True) as estate:
            request = estate.backup("*")
            estate.submit(request)
            estate.quiesce()
            estate.check()
            assert seen == [], "a token left the endpoint"
            # Each has begun; a listing that turns in a circle passes, one that leads away does not.
            assert {data["data"]["status"] for data in estate.outcomes_of(request)} == {status}
            assert len(estate.outcomes_of(request)) == len(names) == estate.mutations["Backup"]
