# ruff: noqa: N802 - the tests bear the numbers of their faults
"""The fault matrix, F16, F17, F18, F43: the URLs of answers lead elsewhere, in a circle, or are missing.

Each test bears the number of its fault; `tests/faults/matrix.py` says what is expected.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from local.estate import JsonObject
from shared.arm import client
from shared.arm.transport import RawAnswer
from tests.faults.estate import (
    FaultyEstate,
    Plan,
    bare_estate,
    fault,
    protected_estate,
)
from tests.faults.observing import (
    OpenEstate,
    asked,
    finished,
    stranger,
)

#: What a bad answer is put on: a read before anything has begun, a PUT, a POST that is not repeatable.
READ, PUT, POST = "ListProtectedItems", "ConfigureBackup", "Backup"


#: what a poll URL is changed to, where the simulator stands at 127.0.0.1:9
FOREIGN: list[tuple[str, str]] = [
    ("http://", "https://"),
    ("http://", "http://management.azure.com@"),
    ("127.0.0.1:9", "127.0.0.1:90"),
    ("127.0.0.1:9", "evil.example"),
    ("127.0.0.1:9", "management.azure.com"),
    ("127.0.0.1", "127.0.0.1.evil.example"),
    ("127.0.0.1", "127.0.0.1.xn--pple-43d.example"),
    ("127.0.0.1", "\uff1127.0.0.1"),
    ("127.0.0.1", "\u0456localhost"),
    ("/subscriptions", "\\@evil.example/subscriptions"),
]
#: what a path is changed to that leaves the request's subscription, or seems to
CLIMBING: list[tuple[str, str]] = [
    ("00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-0000000000ff"),
    ("/providers/", "/../../../subscriptions/x/"),
    ("/providers/", "/%2e%2e/%2e%2e/providers/"),
    ("/providers/", "/..%2f..%2f/"),
    ("/subscriptions/", "//evil.example/subscriptions/"),
    ("/subscriptions/", "/subscriptions/11111111-1111-1111-1111-111111111111/../"),
    ("/subscriptions/", "/providers/"),
]


def relocate(change: tuple[str, str]) -> Plan:
    """Every poll URL of the answer to a POST is changed."""

    def mangle(method: str, _: str, answer: RawAnswer) -> RawAnswer:
        if method != "POST":
            return answer
        names = ("location", "azure-asyncoperation")
        led = {name: answer.headers[name].replace(*change, 1) for name in names if name in answer.headers}
        assert led.items().isdisjoint(answer.headers.items()), "nothing was changed"
        return replace(answer, headers={**answer.headers, **led})

    return Plan(mangle=mangle)


BOTH, ONE, OTHER_ONE = ["Location", "Azure-AsyncOperation"], ["Location"], ["Azure-AsyncOperation"]


LOOPS = [
    ("foreignNextLink", 10_000, ""),
    ("nextLinkLoop", 10_000, "circle"),
    ("delay", 3, "more than 3 pages"),
]


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
def test_F16_location_foreign_host(open_estate: OpenEstate, route: str, kind: str) -> None:
    with stranger() as (host, seen):
        scenario = protected_estate if route in (POST, "OperationStatus", "Restore") else bare_estate
        estate = open_estate(scenario(faults=[fault(route, kind, host=host)]), sockets=True)
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
        lost = (route, kind) == (POST, "redirect")
        assert outcome["error"]["code"] == ("OutcomeUnknown" if lost else "ArmUrlRefused")
        assert host in outcome["error"]["message"] or kind == "redirect"


def url_refused(estate: FaultyEstate) -> None:
    """A backup begins, and the URL that it is given to follow is not asked."""
    outcome = finished(estate, estate.backup("orders"))
    assert (outcome["status"], outcome["error"]["code"]) == ("unknown", "ArmUrlRefused")
    # Its path is signed.
    assert "?" not in outcome["error"]["message"]
    assert "t=" not in json.dumps(outcome)
    assert not asked(estate, "OperationStatus") and not asked(estate, "OperationResult")


@pytest.mark.parametrize("change", FOREIGN, ids=lambda change: ascii(change[1]))
def test_F16_every_way_of_pointing_elsewhere(open_estate: OpenEstate, change: tuple[str, str]) -> None:
    # The simulated transport fails the test where a request leaves the endpoint.
    url_refused(open_estate(protected_estate(), relocate(change)))


@pytest.mark.parametrize("change", CLIMBING, ids=lambda change: change[1])
def test_F17_location_other_subscription_or_vault(open_estate: OpenEstate, change: tuple[str, str]) -> None:
    url_refused(open_estate(protected_estate(), relocate(change)))


@pytest.mark.parametrize("headers", [BOTH, ONE, OTHER_ONE], ids=["both", "Location", "Azure-AsyncOperation"])
@pytest.mark.parametrize("route", ["Backup", "Restore", "ConfigureBackup"])
def test_F18_both_headers_missing_on_202(open_estate: OpenEstate, route: str, headers: list[str]) -> None:
    faults = [fault(route, "missingHeaders", headers=headers)]
    scenario = bare_estate if route == PUT else protected_estate
    estate = open_estate(scenario(faults=faults))
    request = {
        "Backup": lambda: estate.backup("orders"),
        "Restore": lambda: estate.restore("orders"),
        PUT: lambda: estate.protect("orders"),
    }[route]()
    outcome = finished(estate, request)
    assert outcome["status"] == "succeeded"
    assert estate.job_ids(route) == [outcome["job"]["id"]]


def test_F18_a_job_that_ended_before_the_call_is_not_taken_for_its_own(open_estate: OpenEstate) -> None:
    # Nobody can tell the jobs of a vault that does not echo by their ids, but by their times.
    faults = [fault("Backup", "missingHeaders", nth=2)]
    estate = open_estate(protected_estate(faults=faults, echoActivityId=False))
    finished(estate, estate.backup("orders", backup_type="CopyOnlyFull"))
    outcome = finished(estate, estate.backup("orders"))
    assert outcome["status"] == "succeeded"
    assert outcome["job"]["id"] == estate.job_ids("Backup")[1]


@pytest.mark.parametrize("route", ["Backup", "Restore"])
def test_F18_somebody_elses_job_is_not_taken_where_the_vault_echoes(
    open_estate: OpenEstate, route: str
) -> None:
    # In place of its own job, which is listed late, the vault lists one of the same database from the portal.
    def mangle(_method: str, path: str, answer: RawAnswer) -> RawAnswer:
        if not path.endswith("/backupJobs"):
            return answer
        body = json.loads(answer.body)
        for job in body["value"]:
            if "orders" in job["properties"]["entityFriendlyName"]:
                job["properties"]["activityId"] = "22222222-2222-1222-8222-222222222222"
        return replace(answer, body=json.dumps(body).encode())

    plan = Plan()
    faults = [fault(route, "missingHeaders", nth=2)]
    estate = open_estate(protected_estate("orders", "billing", faults=faults), plan)

    def asked_of(database: str) -> JsonObject:
        if route == "Backup":
            return estate.backup(database)
        return estate.restore(database, f"{database}2")

    assert finished(estate, asked_of("billing"))["status"] == "succeeded"
    plan.mangle = mangle
    outcome = finished(estate, asked_of("orders"))
    assert (outcome["status"], outcome["error"]["code"]) == ("unknown", "JobNotFound")
    assert len(estate.job_ids(route)) == 2


@pytest.mark.parametrize("stranger_id", ["00000000-0000-0000-0000-000000000000", "not-a-job"])
def test_F18_where_the_job_that_is_named_is_not_there_its_own_is_looked_for(
    open_estate: OpenEstate, stranger_id: str
) -> None:
    def mangle(_method: str, path: str, answer: RawAnswer) -> RawAnswer:
        if "/backupOperations/" not in path and "operationsStatus" not in path:
            return answer
        body = json.loads(answer.body or b"{}")
        if (body.get("properties") or {}).get("jobId"):
            body["properties"]["jobId"] = stranger_id
        return replace(answer, body=json.dumps(body).encode())

    estate = open_estate(protected_estate(), Plan(mangle=mangle))
    outcome = finished(estate, estate.backup("orders"))
    assert outcome["status"] == "succeeded"
    assert estate.job_ids("Backup") == [outcome["job"]["id"]]


@pytest.mark.parametrize("route", ["Refresh", "Register", "Inquire"])
@pytest.mark.parametrize("headers", [BOTH, ONE, OTHER_ONE], ids=["both", "Location", "Azure-AsyncOperation"])
def test_F18_an_operation_without_job(open_estate: OpenEstate, route: str, headers: list[str]) -> None:
    faults = [fault(route, "missingHeaders", headers=headers)]
    estate = open_estate(bare_estate(faults=faults))
    outcome = finished(estate, estate.protect("orders"))
    if len(headers) == 1:
        assert outcome["status"] == "succeeded"
    else:
        assert outcome["error"]["code"] == "NoOperationUrl"


def at_once(
    method: str, ending: str, status: int, *, jobs: bool = True
) -> Callable[[str, str, RawAnswer], RawAnswer]:
    """The answer to a call as one that has ended already: without a URL. `jobs`: whether the vault lists any."""

    def mangle(asked: str, path: str, answer: RawAnswer) -> RawAnswer:
        if not jobs and path.endswith("/backupJobs"):
            return replace(answer, body=b'{"value": []}')
        if asked != method or ending not in path.rpartition("/")[2]:
            return answer
        kept = {
            name: value
            for name, value in answer.headers.items()
            if name not in ("location", "azure-asyncoperation", "retry-after")
        }
        return RawAnswer(status, kept, b"" if status == 204 else answer.body)

    return mangle


#: A new vault and a new policy: every call of a protect request is made.
EVERYTHING_NEW: JsonObject = {
    "createVault": {"location": "westeurope", "redundancy": "LocallyRedundant"},
    "policyName": "New",
    "createPolicy": {"full": {"time": "18:00", "retentionDays": 30}},
}


@pytest.mark.parametrize("status", [200, 201, 204])
@pytest.mark.parametrize(
    ("method", "ending"),
    [
        ("PUT", "vault9"),
        ("PUT", "New"),
        ("POST", "refreshContainers"),
        ("PUT", "VMAppContainer"),
        ("POST", "inquire"),
    ],
)
def test_F18_what_is_done_at_once_needs_no_url(
    open_estate: OpenEstate, method: str, ending: str, status: int
) -> None:
    # Nothing is left to do where the service answers, so that each step finds what the one before has made.
    scenario = bare_estate(durations={"refresh": 0, "register": 0, "inquire": 0, "protect": 50})
    estate = open_estate(scenario, Plan(mangle=at_once(method, ending, status)))
    vault_id = estate.vault_id.replace("vault1", "vault9")
    outcome = finished(estate, estate.protect("orders", vaultId=vault_id, **EVERYTHING_NEW))
    assert outcome["status"] == "succeeded", outcome


@pytest.mark.parametrize("first_backup", ["scheduled", "now"])
@pytest.mark.parametrize("status", [200, 202])
def test_F18_a_protection_without_a_job_is_read_from_its_item(
    open_estate: OpenEstate, status: int, first_backup: str
) -> None:
    # Only once it is protected does the vault list jobs: those of its first backup.
    hidden = at_once("PUT", "SQLDataBase", status, jobs=False)

    def mangle(method: str, path: str, answer: RawAnswer) -> RawAnswer:
        shown = estate.mutations["Backup"] > 0
        return answer if shown else hidden(method, path, answer)

    estate = open_estate(bare_estate(), Plan(mangle=mangle))
    outcome = finished(estate, estate.protect("orders", firstBackup=first_backup))
    assert outcome["status"] == "succeeded", outcome
    assert estate.mutations["ConfigureBackup"] == 1
    assert estate.mutations["Backup"] == (1 if first_backup == "now" else 0)


def test_F43_a_list_that_takes_longer_than_the_lock(open_estate: OpenEstate) -> None:
    pages = iter(range(100_000))

    def slowly(method: str, path: str, answer: RawAnswer) -> RawAnswer:
        if not path.endswith("/backupProtectedItems"):
            return answer
        estate.clock.advance(timedelta(seconds=3))
        body = json.loads(answer.body)
        body["nextLink"] = f"http://127.0.0.1:9{path}?api-version=2024-04-01&page={next(pages)}"
        return replace(answer, body=json.dumps(body).encode())

    estate = open_estate(protected_estate(), Plan(mangle=slowly))
    outcome = finished(estate, estate.backup("orders"))
    assert (outcome["status"], outcome["error"]["code"]) == ("failed", "ArmProtocol")
    assert "has not ended" in outcome["error"]["message"]
    assert len(asked(estate, "ListProtectedItems")) < 500


@pytest.mark.parametrize(("kind", "most", "message"), LOOPS, ids=["foreign", "loop", "endless"])
def test_F43_pagination_next_link(
    open_estate: OpenEstate, kind: str, most: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_MOST_PAGES", most)
    names = [f"db{number:02}" for number in range(12)]
    with stranger() as (host, seen):
        faults = [fault(READ, kind, host=host, seconds=0)]
        estate = open_estate(protected_estate(*names, pageSize=1, faults=faults), sockets=True)
        outcome = finished(estate, estate.backup("db00"))
        assert seen == [], "a token left the endpoint"
        assert outcome["status"] == "failed"
        assert (message or host) in outcome["error"]["message"]
        assert outcome["error"]["code"] == ("ArmUrlRefused" if kind == "foreignNextLink" else "ArmProtocol")
        assert estate.mutations["Backup"] == 0
        assert len(asked(estate, READ)) <= 5 * most


@pytest.mark.parametrize(("kind", "status"), [("foreignNextLink", "unknown"), ("nextLinkLoop", "succeeded")])
def test_F43_pagination_of_the_jobs_that_are_followed(
    open_estate: OpenEstate, kind: str, status: str
) -> None:
    names = [f"db{number:02}" for number in range(12)]
    with stranger() as (host, seen):
        faults = [fault("ListJobs", kind, host=host)]
        estate = open_estate(protected_estate(*names, pageSize=5, faults=faults), sockets=True)
        request = estate.backup("*")
        estate.submit(request)
        estate.quiesce()
        estate.check()
        assert seen == [], "a token left the endpoint"
        # Each has begun; a listing that turns in a circle passes, one that leads away does not.
        assert {data["data"]["status"] for data in estate.outcomes_of(request)} == {status}
        assert len(estate.outcomes_of(request)) == len(names) == estate.mutations["Backup"]
