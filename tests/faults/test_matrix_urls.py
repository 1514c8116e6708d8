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

from shared.arm import client
from shared.arm.transport import RawAnswer
from tests.faults.estate import (
    Plan,
    bare_estate,
    fault,
    protected_estate,
)
from tests.faults.observing import (
    OpenEstate,
    asked,
    finished,
    one,
    run,
    stranger,
    times,
)

#: What a bad answer is put on: a read before anything has begun, a PUT, a POST that is not repeatable.
READ, PUT, POST = "ListProtectedItems", "ConfigureBackup", "Backup"


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


OTHER = "11111111-1111-1111-1111-111111111111"


BOTH, ONE, OTHER_ONE = ["Location", "Azure-AsyncOperation"], ["Location"], ["Azure-AsyncOperation"]


LOOPS = [
    ("foreignNextLink", 10_000, ""),
    ("nextLinkLoop", 10_000, "circle"),
    ("delay", 3, "more than 3 pages"),
]


@pytest.mark.parametrize(
    "host",
    [
        None,
        "evil.example",
        "management.azure.com",
        "user@127.0.0.1",
        "127.0.0.1.evil.example",
        "\u0456localhost",
    ],
    ids=str,
)
@pytest.mark.parametrize("route", ["Backup", "Register"])
def test_F16_location_of_every_kind_of_host(open_estate: OpenEstate, route: str, host: str | None) -> None:
    with stranger() as (address, received):
        lead = [fault(route, "foreignPollUrl", host=address if host is None else host)]
        estate = open_estate(
            protected_estate(faults=lead) if route == "Backup" else bare_estate(faults=lead), sockets=True
        )
        outcome = one(run(estate, estate.backup("orders") if route == "Backup" else estate.protect("orders")))
    assert outcome["status"] == ("unknown" if route == "Backup" else "failed")
    assert outcome["error"]["code"] == "ArmUrlRefused"
    assert not received, "the stranger was spoken to"
    assert "t=" not in json.dumps(outcome) and "?" not in outcome["error"]["message"]


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


@pytest.mark.parametrize(("name", "change"), FOREIGN, ids=[name for name, _ in FOREIGN])
def test_F16_every_way_of_pointing_elsewhere(
    open_estate: OpenEstate, name: str, change: Callable[[str, str], str]
) -> None:
    # The simulated transport fails the test where a request leaves the endpoint.
    estate = open_estate(protected_estate())
    own = estate.url.removeprefix("http://")
    estate.meter.plan.mangle = relocate(lambda url: change(url, own))
    outcome = finished(estate, estate.backup("orders"))
    assert (outcome["status"], outcome["error"]["code"]) == ("unknown", "ArmUrlRefused")
    assert not asked(estate, "OperationStatus") and not asked(estate, "OperationResult")


@pytest.mark.parametrize(
    "change",
    [
        ("00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-0000000000ff"),
        ("/providers/", "/../../../subscriptions/x/"),
        ("/providers/", "/%2e%2e/"),
        ("/providers/", "/..%2f..%2f/"),
        ("/subscriptions/", "//evil.example/subscriptions/"),
        ("http://127.0.0.1", "https://127.0.0.1"),
    ],
    ids=lambda change: change[1],
)
def test_F17_location_that_climbs_or_changes_its_scheme(
    open_estate: OpenEstate, change: tuple[str, str]
) -> None:
    def mislead(method: str, path: str, answer: RawAnswer) -> RawAnswer:
        if method != "POST":
            return answer
        names = ("location", "azure-asyncoperation")
        led = {name: answer.headers[name].replace(*change, 1) for name in names if name in answer.headers}
        return replace(answer, headers={**answer.headers, **led})

    estate = open_estate(protected_estate(), Plan(mangle=mislead), sockets=True)
    outcome = one(run(estate, estate.backup("orders")))
    assert outcome["status"] == "unknown"
    assert outcome["error"]["code"] == "ArmUrlRefused"
    assert not times(estate, "OperationStatus") and not times(estate, "OperationResult")


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
def test_F17_location_other_subscription_or_vault(
    open_estate: OpenEstate, change: Callable[[str], str]
) -> None:
    estate = open_estate(protected_estate(), Plan(mangle=relocate(change)))
    outcome = finished(estate, estate.backup("orders"))
    assert (outcome["status"], outcome["error"]["code"]) == ("unknown", "ArmUrlRefused")
    assert not asked(estate, "OperationStatus") and not asked(estate, "OperationResult")


@pytest.mark.parametrize("headers", [BOTH, ONE, OTHER_ONE], ids=["both", "Location", "Azure-AsyncOperation"])
@pytest.mark.parametrize("route", ["Backup", "Restore", "ConfigureBackup"])
def test_F18_both_headers_missing_on_202(open_estate: OpenEstate, route: str, headers: list[str]) -> None:
    faults = [fault(route, "missingHeaders", headers=headers)]
    scenario = bare_estate if route == PUT else protected_estate
    estate = open_estate(scenario(faults=faults), sockets=True)
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


@pytest.mark.parametrize("route", ["Refresh", "Register", "Inquire"])
@pytest.mark.parametrize("headers", [BOTH, ONE, OTHER_ONE], ids=["both", "Location", "Azure-AsyncOperation"])
def test_F18_an_operation_without_job(open_estate: OpenEstate, route: str, headers: list[str]) -> None:
    faults = [fault(route, "missingHeaders", headers=headers)]
    estate = open_estate(bare_estate(faults=faults), sockets=True)
    outcome = finished(estate, estate.protect("orders"))
    if len(headers) == 1:
        assert outcome["status"] == "succeeded"
    else:
        assert outcome["error"]["code"] == "NoOperationUrl"


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
    outcome = one(run(estate, estate.backup("orders")))
    assert (outcome["status"], outcome["error"]["code"]) == ("failed", "ArmProtocol")
    assert "has not ended" in outcome["error"]["message"]
    assert len(times(estate, "ListProtectedItems")) < 500


def test_F43_a_list_without_end(open_estate: OpenEstate) -> None:
    pages = iter(range(100_000))

    def more(method: str, path: str, answer: RawAnswer) -> RawAnswer:
        if not path.endswith("/backupProtectedItems"):
            return answer
        body = json.loads(answer.body)
        body["nextLink"] = f"http://127.0.0.1:9{path}?api-version=2024-04-01&page={next(pages)}"
        return replace(answer, body=json.dumps(body).encode())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shared.arm.client._MOST_PAGES", 300)
        estate = open_estate(protected_estate(), Plan(mangle=more))
        outcome = one(run(estate, estate.backup("orders")))
    assert outcome["status"] == "failed"
    assert "pages" in outcome["error"]["message"]


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
