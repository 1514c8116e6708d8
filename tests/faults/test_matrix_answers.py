# ruff: noqa: N802 - the tests bear the numbers of their faults
"""The fault matrix, F08, F09, F10, F11, F12, F13, F14, F15, F20: what Azure's answers, and the way to it, can do.

Each test bears the number of its fault; `tests/faults/matrix.py` says what is expected.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from local.estate import JsonObject
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
    gaps,
    proven,
    times,
)

MINUTE = timedelta(minutes=1)


#: What a bad answer is put on: a read before anything has begun, a PUT, a POST that is not repeatable.
READ, PUT, POST = "ListProtectedItems", "ConfigureBackup", "Backup"


BAD_BODIES = ("malformedBody", "htmlBody", "wrongTypeBody", "emptyBody")


ACTION = "Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/protectedItems/backup/action"


FORBIDDEN = {
    "status": 403,
    "code": "AuthorizationFailed",
    "message": f"The client does not have authorization to perform action '{ACTION}'.",
}


def test_F08_many_429_do_not_use_up_the_attempts(open_estate: OpenEstate) -> None:
    faults = [fault("Backup", "throttle", nth=list(range(1, 30)), retryAfter=30)]
    estate = open_estate(protected_estate(faults=faults))
    outcome = finished(estate, estate.backup("orders"))
    assert outcome["status"] == "succeeded"
    assert min(gaps(estate, "Backup")) >= 30


@pytest.mark.parametrize("route", [READ, POST])
@pytest.mark.parametrize(
    ("value", "least"),
    [
        (90, 90),
        ("600", 600),
        ("Mon, 05 Jan 2026 08:10:00 GMT", 598),
        (0, 0),
        (-30, 0.5),
        ("soon", 0.5),
        ("", 0.5),
        ("1e3", 0.5),
    ],
)
def test_F08_http_429_with_retry_after(
    open_estate: OpenEstate, route: str, value: int | str, least: float
) -> None:
    faults = [fault(route, "throttle", retryAfter=value, times=3)]
    estate = open_estate(protected_estate(faults=faults))
    assert finished(estate, estate.backup("orders"))["status"] == "succeeded"
    statuses = [status for _, status in asked(estate, route)]
    assert statuses[:4] == [429, 429, 429, 200 if route == READ else 202]
    waits = gaps(estate, route)[:3]
    first = waits[:1] if isinstance(value, str) and value.endswith("GMT") else waits
    assert all(least <= wait <= least * 1.2 + 65 for wait in first)
    assert estate.mutations["Backup"] == 1


@pytest.mark.parametrize(
    ("route", "value"),
    [(READ, 10**9), (POST, 10**5), (POST, "9" * 400), ("OperationStatus", 10**9)],
    ids=lambda value: str(value)[:15],
)
def test_F08_a_wait_beyond_the_deadline_ends_at_once(
    open_estate: OpenEstate, route: str, value: int | str
) -> None:
    faults = [fault(route, "throttle", retryAfter=value)]
    estate = open_estate(protected_estate(faults=faults))
    began = estate.clock.now()
    outcome = finished(estate, estate.backup("orders"))
    assert outcome["status"] == ("timedOut" if route == "OperationStatus" else "failed")
    assert len(asked(estate, route)) == 1
    assert estate.clock.now() - began < timedelta(minutes=5)
    assert estate.mutations["Backup"] == (1 if route == "OperationStatus" else 0)


@pytest.mark.parametrize("route", [READ, POST])
def test_F09_http_429_without_header(open_estate: OpenEstate, route: str) -> None:
    faults = [fault(route, "throttle", retryAfter=None, times=5)]
    estate = open_estate(protected_estate(faults=faults))
    assert finished(estate, estate.backup("orders"))["status"] == "succeeded"
    waits = gaps(estate, route)[:5]
    for attempt, wait in enumerate(waits):
        assert 2**attempt <= wait <= 62, "exponential, spread between half and the whole"
    assert estate.mutations["Backup"] == 1


def test_F10_http_5xx_of_a_put_that_took_effect(open_estate: OpenEstate) -> None:
    estate = open_estate(bare_estate(faults=[fault(PUT, "statusAfterEffect", nth=1, status=500)]))
    assert finished(estate, estate.protect("orders"))["status"] == "succeeded"
    assert asked(estate, PUT)[0][1] == 500


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
@pytest.mark.parametrize("route", ["ListContainers", READ, "OperationStatus", "GetJob", PUT, "Register"])
def test_F10_http_5xx_burst(open_estate: OpenEstate, route: str, status: int) -> None:
    code = "ServerTimeout" if status == 503 else "InternalServerError"
    faults = [fault(route, "status", status=status, code=code, times=6)]
    estate = open_estate(bare_estate(faults=faults))
    assert finished(estate, estate.protect("orders"))["status"] == "succeeded"
    assert [answered for _, answered in asked(estate, route)].count(status) == 6


@pytest.mark.parametrize("status", [500, 503, 408])
def test_F10_http_5xx_of_a_backup_is_no_licence_to_repeat_it(open_estate: OpenEstate, status: int) -> None:
    for kind in ("status", "statusAfterEffect"):
        estate = open_estate(
            protected_estate("orders", "billing", faults=[fault(POST, kind, status=status, nth=2)])
        )
        proven(estate)
        outcome = finished(estate, estate.backup("orders"))
        assert outcome["status"] == "succeeded"
        # Taken effect or not: the database was backed up once, beside the other.
        assert estate.job_ids("Backup")[1:] == [outcome["job"]["id"]]
        first, *again = times(estate, POST)[1:]
        assert [at - first >= 2 * MINUTE for at in again] == ([True] if kind == "status" else [])


def test_F11_a_backup_that_did_not_start_is_sent_again_after_two_minutes(open_estate: OpenEstate) -> None:
    estate = open_estate(
        protected_estate("orders", "billing", faults=[fault("Backup", "dropBeforeEffect", nth=2)])
    )
    proven(estate)
    assert finished(estate, estate.backup("orders"))["status"] == "succeeded"
    first, second = times(estate, "Backup")[1:]
    assert second - first >= 2 * MINUTE


def test_F11_a_backup_that_is_lost_three_times_is_given_up(open_estate: OpenEstate) -> None:
    estate = open_estate(
        protected_estate(
            "orders", "billing", faults=[fault("Backup", "dropBeforeEffect", nth=[2, 3, 4, 5, 6])]
        )
    )
    proven(estate)
    outcome = finished(estate, estate.backup("orders"))
    assert outcome["status"] == "failed"
    assert "attempt 3 of at most 3" in outcome["error"]["message"]
    assert len(asked(estate, "Backup")) == 1 + 3


def test_F11_the_job_began_before_its_answer_was_given_up(open_estate: OpenEstate) -> None:
    # In a vault that does not echo, the one job that is ours began half a minute before the time-out.
    faults = [fault("Backup", "dropAfterEffect", nth=1)]
    plan = Plan(slow={1: timedelta(seconds=31)})
    estate = open_estate(protected_estate(faults=faults, echoActivityId=False), plan)
    outcome = finished(estate, estate.backup("orders"))
    assert outcome["status"] == "succeeded"
    assert estate.job_ids("Backup") == [outcome["job"]["id"]]


@pytest.mark.parametrize("kind", ["dropAfterEffect", "delayAfterEffect", "dropMidBody", "statusAfterEffect"])
@pytest.mark.parametrize("echoes", [True, False])
@pytest.mark.parametrize("route", ["Backup", "Restore"])
def test_F11_timeout_after_server_accepted(
    open_estate: OpenEstate, route: str, echoes: bool, kind: str
) -> None:
    details: JsonObject = {"seconds": 60} if kind.startswith("delay") else {}
    faults = [fault(route, kind, nth=1, **details)]
    estate = open_estate(protected_estate(faults=faults, echoActivityId=echoes))
    outcome = finished(estate, estate.backup("orders") if route == "Backup" else estate.restore("orders"))
    assert outcome["status"] == "succeeded"
    assert estate.job_ids(route) == [outcome["job"]["id"]]


@pytest.mark.parametrize("echoes", [True, False])
def test_F11_a_restore_whose_start_is_unknown_is_not_sent_again(
    open_estate: OpenEstate, echoes: bool
) -> None:
    faults = [fault("Restore", "dropBeforeEffect", nth=1)]
    estate = open_estate(protected_estate("orders", "billing", faults=faults, echoActivityId=echoes))
    if echoes:
        proven(estate)
    outcome = finished(estate, estate.restore("orders"))
    assert (outcome["status"], outcome["error"]["code"]) == ("unknown", "OutcomeUnknown")
    assert len(asked(estate, "Restore")) == 1
    assert estate.mutations["Restore"] == 0


@pytest.mark.parametrize("route", [READ, "OperationStatus", "GetJob", PUT, POST])
def test_F12_connection_reset_mid_body(open_estate: OpenEstate, route: str) -> None:
    scenario = bare_estate if route == PUT else protected_estate
    estate = open_estate(scenario(faults=[fault(route, "dropMidBody", nth=[1, 2, 3])]))
    request = estate.protect("orders") if route == PUT else estate.backup("orders")
    assert finished(estate, request)["status"] == "succeeded"
    assert estate.mutations["Backup"] == (0 if route == PUT else 1)


@pytest.mark.parametrize("kind", BAD_BODIES)
@pytest.mark.parametrize("route", [READ, "OperationStatus", "GetJob"])
def test_F13_malformed_json(open_estate: OpenEstate, route: str, kind: str) -> None:
    for most in (4, None):
        faults = [fault(route, kind, **({"times": most} if most else {}))]
        estate = open_estate(protected_estate(faults=faults))
        outcome = finished(estate, estate.backup("orders"))
        if most:
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
def test_F13_a_malformed_answer_to_a_backup_is_no_licence_to_repeat_it(
    open_estate: OpenEstate, kind: str
) -> None:
    estate = open_estate(protected_estate(faults=[fault(POST, kind)]))
    outcome = finished(estate, estate.backup("orders"))
    assert outcome["status"] == "succeeded"
    assert estate.job_ids("Backup") == [outcome["job"]["id"]]


def test_F13_what_a_proxy_says_is_shown_without_its_secrets(open_estate: OpenEstate) -> None:
    page = b"<html>denied https://proxy.example/?sig=geheim1&t=geheim2 Bearer geheim3geheim3 password=geheim4"

    def proxy(_: str, path: str, answer: RawAnswer) -> RawAnswer:
        return RawAnswer(200, answer.headers, page) if path.endswith("backupProtectedItems") else answer

    estate = open_estate(protected_estate(), Plan(mangle=proxy))
    outcome = finished(estate, estate.backup("orders"))
    assert "denied" in outcome["error"]["message"]
    assert "geheim" not in json.dumps(outcome)


@pytest.mark.parametrize("route", ["OperationStatus", "GetJob", READ, POST])
def test_F14_token_expired(open_estate: OpenEstate, route: str) -> None:
    estate = open_estate(protected_estate(faults=[fault(route, "status", status=401, times=3)]))
    assert finished(estate, estate.backup("orders"))["status"] == "succeeded"
    statuses = [status for _, status in asked(estate, route)]
    # One new token at once, but for a call that changes something, then later.
    assert statuses[:4] == [401, 401, 401, 202 if route == POST else 200]
    first, second = gaps(estate, route)[:2]
    assert second >= 1
    assert (first < 1) is (route != POST)
    assert estate.mutations["Backup"] == 1


def test_F14_a_claims_challenge_surfaces(open_estate: OpenEstate) -> None:
    challenge = 'Bearer error="insufficient_claims", claims="e30="'

    def challenged(_: str, path: str, answer: RawAnswer) -> RawAnswer:
        if path.endswith("backupProtectedItems"):
            return RawAnswer(401, {**answer.headers, "www-authenticate": challenge}, b"")
        return answer

    estate = open_estate(protected_estate(), Plan(mangle=challenged))
    outcome = finished(estate, estate.backup("orders"))
    assert (outcome["status"], outcome["error"]["code"]) == ("failed", "NotAuthorised")


def test_F15_a_role_that_is_removed_while_a_job_runs(open_estate: OpenEstate) -> None:
    later = list(range(3, 200))
    estate = open_estate(
        protected_estate(
            faults=[fault("GetJob", "status", nth=later, **FORBIDDEN)], durations={"backup": 7200}
        )
    )
    outcome = finished(estate, estate.backup("orders"))
    assert outcome["status"] == "unknown", "the job goes on, whether or not this app may look at it"
    assert outcome["error"]["code"] == "NotAuthorised"


def test_F15_forbidden_403(open_estate: OpenEstate) -> None:
    estate = open_estate(protected_estate(faults=[fault(POST, "status", **FORBIDDEN)]))
    outcome = finished(estate, estate.backup("orders"))
    assert (outcome["status"], outcome["error"]["code"]) == ("failed", "NotAuthorised")
    assert ACTION in outcome["error"]["message"]
    first, *_, last = times(estate, POST)
    assert 10 * MINUTE <= last - first <= 12 * MINUTE
    assert estate.mutations["Backup"] == 0


def test_F15_a_role_that_is_still_spreading(open_estate: OpenEstate) -> None:
    estate = open_estate(protected_estate(faults=[fault(POST, "status", times=10, **FORBIDDEN)]))
    assert finished(estate, estate.backup("orders"))["status"] == "succeeded"
    assert estate.mutations["Backup"] == 1


@pytest.mark.parametrize("route", ["OperationStatus", "OperationResult"])
def test_F15_the_other_tracking_header_is_tried(open_estate: OpenEstate, route: str) -> None:
    # Some roles may read only one of the two.
    estate = open_estate(bare_estate(faults=[fault(route, "status", **FORBIDDEN)]))
    assert finished(estate, estate.protect("orders"))["status"] == "succeeded"
    assert asked(estate, route)[0][1] == 403


def test_F20_what_was_just_protected_is_not_found_yet(open_estate: OpenEstate) -> None:
    faults = [fault("Backup", "status", nth=[1, 2], status=404, code="BMSUserErrorObjectNotFound")]
    estate = open_estate(bare_estate(faults=faults))
    assert finished(estate, estate.protect("orders", firstBackup="now"))["protectionState"] == "Protected"
    assert estate.mutations["Backup"] == 1


@pytest.mark.parametrize("ending", ["/backupPolicies", "/refreshContainers", "/inquire"])
def test_F20_what_was_just_made_is_not_found_yet(open_estate: OpenEstate, ending: str) -> None:
    missing = {"error": {"code": "ResourceNotFound", "message": "The resource was not found."}}
    asked_at: list[float] = []

    def mangle(method: str, path: str, answer: RawAnswer) -> RawAnswer:
        if not path.endswith(ending) or method == "PUT":
            return answer
        asked_at.append(estate.clock.monotonic())
        if asked_at[-1] - asked_at[0] > 120:
            return answer
        return RawAnswer(404, {"date": answer.headers["date"]}, json.dumps(missing).encode())

    estate = open_estate(bare_estate(), Plan(mangle=mangle))
    vault_id = estate.vault_id.replace("vault1", "vault9")
    create = {"location": "westeurope", "redundancy": "LocallyRedundant"}
    policy = {"full": {"time": "18:00", "retentionDays": 30}}
    request = estate.protect(
        "orders", vaultId=vault_id, createVault=create, policyName="New", createPolicy=policy
    )
    assert finished(estate, request)["status"] == "succeeded"
    assert len(asked_at) > 3


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize("nth", [1, [1, 2], None], ids=["once", "twice", "always"])
def test_F20_neither_url_answers(open_estate: OpenEstate, status: int, nth: Any) -> None:
    details = {} if nth is None else {"nth": nth}
    faults = [
        fault(route, "status", status=status, **details) for route in ("OperationStatus", "OperationResult")
    ]
    estate = open_estate(protected_estate(faults=faults))
    outcome = finished(estate, estate.backup("orders"))
    assert outcome["status"] == "succeeded"
    assert [outcome["job"]["id"]] == estate.job_ids("Backup")
    estate = open_estate(bare_estate(faults=faults))
    assert finished(estate, estate.protect("orders"))["status"] == "succeeded"


@pytest.mark.parametrize(("kind", "status"), [("status", 404), ("status", 410), ("statusAfterEffect", 204)])
@pytest.mark.parametrize("route", ["OperationStatus", "OperationResult"])
@pytest.mark.parametrize("times", [1, None])
def test_F20_operation_result_404_410_204(
    open_estate: OpenEstate, route: str, kind: str, status: int, times: int | None
) -> None:
    faults = [fault(route, kind, status=status, **({"times": times} if times else {}))]
    flows: list[tuple[JsonObject, Callable[[FaultyEstate], JsonObject]]] = [
        (bare_estate(faults=faults), lambda estate: estate.protect("orders")),
        (protected_estate(faults=faults), lambda estate: estate.backup("orders")),
    ]
    for scenario, request in flows:
        estate = open_estate(scenario)
        assert finished(estate, request(estate))["status"] == "succeeded"
        assert estate.mutations["Backup"] <= 1
