"""Texts of the service that are no texts, or have no end: each harms at most the database that it is about."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from local.estate import JsonObject
from shared.arm.transport import RawAnswer
from shared.bus.topology import PARKED_MESSAGES
from tests.e2e.harness import virtual_machine
from tests.faults.estate import BRISK, Plan, fault, open_faulty, protected_estate
from tests.faults.observing import run

#: Legal in JSON, and no text: nothing that holds it can be sent.
HALF_A_PAIR = "\\ud800"
DATABASES = tuple(f"db{number}" for number in range(8))

Change = Callable[[JsonObject], object]


def changed(suffix: str, change: Change) -> Plan:
    """Azure answers what `change` makes of its JSON, where the path ends so."""

    def mangle(_: str, path: str, answer: RawAnswer) -> RawAnswer:
        if not path.endswith(suffix) or not answer.body:
            return answer
        body = json.loads(answer.body)
        change(body)
        # As a service does that escapes what it cannot encode.
        text = json.dumps(body).replace("HALF_A_PAIR", HALF_A_PAIR)
        return RawAnswer(answer.status, answer.headers, text.encode())

    return Plan(mangle=mangle)


def respelt(text: str) -> Plan:
    """Every answer has `text` (as JSON spells it) for the word PLACEHOLDER."""

    def mangle(_: str, __: str, answer: RawAnswer) -> RawAnswer:
        body = answer.body.replace(b"PLACEHOLDER", text.encode()).replace(b"placeholder", text.encode())
        return RawAnswer(answer.status, answer.headers, body)

    return Plan(mangle=mangle)


def failing(route: str, **details: Any) -> JsonObject:
    """A scenario in which the call for one of several databases fails with these words."""
    failure = fault(route, "jobFailure", pathContains="db3", errorCode=7, **details)
    return protected_estate(*DATABASES, faults=[failure])


@pytest.mark.parametrize(
    "text", [HALF_A_PAIR, "\\udc00", "x\\ud83dy", "\\u0000", "\\ud83d\\ude00", "\\u202e\\u0085"]
)
def test_a_job_whose_error_is_no_text_harms_no_other(text: str) -> None:
    scenario = failing("Backup", code="UserErrorPLACEHOLDER", message="it said PLACEHOLDER")
    with open_faulty(scenario, respelt(text), sockets=True) as azure:
        outcomes = run(azure, azure.backup(*DATABASES))
        ended = {outcome["database"]: outcome["status"] for outcome in outcomes}
        assert ended == {**dict.fromkeys(DATABASES, "succeeded"), "db3": "failed"}
        (failed,) = [outcome for outcome in outcomes if outcome["status"] == "failed"]
        assert failed["error"]["code"].startswith("UserError")
        assert "it said" in failed["error"]["message"]
        assert azure.parked() == []


def test_a_pair_that_is_whole_is_kept() -> None:
    scenario = failing("Backup", code="UserError", message="it said PLACEHOLDER")
    with open_faulty(scenario, respelt("\\ud83d\\ude00 and \\ud800"), sockets=True) as azure:
        (failed,) = [o for o in run(azure, azure.backup(*DATABASES)) if o["status"] == "failed"]
        assert "it said \N{GRINNING FACE} and \N{REPLACEMENT CHARACTER}" in failed["error"]["message"]


@pytest.mark.parametrize("length", [300, 300_000, 1_000_000])
@pytest.mark.parametrize("field", ["errorTitle", "errorString", "recommendations"])
def test_a_job_whose_error_has_no_end_has_failed(length: int, field: str) -> None:
    """The error's code of a megabyte made a failed job unknown."""
    long = "x" * length

    def lengthen(body: JsonObject) -> None:
        for detail in body.get("properties", {}).get("errorDetails", []):
            detail[field] = [long] * 3 if field == "recommendations" else long

    plan = changed("", lengthen)
    with open_faulty(failing("Backup", code="UserError", message="no"), plan, sockets=True) as azure:
        outcomes = run(azure, azure.backup(*DATABASES))
        ended = {outcome["database"]: outcome["status"] for outcome in outcomes}
        assert ended == {**dict.fromkeys(DATABASES, "succeeded"), "db3": "failed"}
        (failed,) = [outcome for outcome in outcomes if outcome["status"] == "failed"]
        if field == "errorTitle":
            assert failed["error"]["code"].startswith("xxx")
            assert len(failed["error"]["code"]) <= 200


@pytest.mark.parametrize("field", ["operation", "status", "activityId", "propertyBag", "taskId"])
def test_a_job_whose_other_texts_have_no_end_has_an_outcome(field: str) -> None:
    long = "Backup (" + "x" * 500_000 + ")"

    def lengthen(body: JsonObject) -> None:
        properties = body.get("properties", {})
        if "db3" not in properties.get("entityFriendlyName", ""):
            return
        if field == "propertyBag":
            properties.setdefault("extendedInfo", {})["propertyBag"] = dict.fromkeys("abcdef", long)
        elif field == "taskId":
            properties.setdefault("extendedInfo", {})["tasksList"] = [{"taskId": long, "status": long}]
        elif field != "status" or properties["status"] != "InProgress":
            properties[field] = "Completed" if field == "status" else long

    with open_faulty(protected_estate(*DATABASES), changed("", lengthen), sockets=True) as azure:
        outcomes = run(azure, azure.backup(*DATABASES))
        assert {outcome["status"] for outcome in outcomes} == {"succeeded"}


def test_a_database_whose_name_is_no_text_harms_no_other() -> None:
    scenario = {
        "virtualMachines": [
            virtual_machine("sqlvm1", "orders", "billing", "PLACEHOLDER", registeredTo="vault1")
        ],
        "durations": BRISK,
    }
    with open_faulty(scenario, respelt("od\\ud800d"), sockets=True) as azure:
        ended = {o["database"]: o["status"] for o in run(azure, azure.protect())}
        # Its own name cannot be asked for.
        assert ended == {
            "orders": "succeeded",
            "billing": "succeeded",
            "od\N{REPLACEMENT CHARACTER}d": "failed",
        }


def test_a_database_that_no_message_holds_harms_no_other() -> None:
    """What a fan-out cannot send on is answered by itself; the others are backed up."""

    def lengthen(body: JsonObject) -> None:
        for item in body.get("value", []):
            properties = item["properties"]
            if properties.get("friendlyName") == "db3" and "policyId" in properties:
                properties["serverName"] = "x" * 400_000

    with open_faulty(protected_estate(*DATABASES), changed("", lengthen), sockets=True) as azure:
        outcomes = run(azure, azure.backup(*DATABASES))
        ended = {outcome["database"]: outcome["status"] for outcome in outcomes}
        assert ended == {**dict.fromkeys(DATABASES, "succeeded"), "db3": "failed"}
        (failed,) = [outcome for outcome in outcomes if outcome["status"] == "failed"]
        assert failed["error"]["code"] == "MessageTooLarge"
        assert azure.mutations["Backup"] == len(DATABASES) - 1
        assert list(azure.broker.peek(PARKED_MESSAGES, 0, 10)) == []


def test_an_operation_whose_error_is_no_text_fails_with_it() -> None:
    scenario = protected_estate(
        *DATABASES,
        faults=[
            fault(
                "Backup", "operationFailure", pathContains="db3", code="BadPLACEHOLDER", message="PLACEHOLDER"
            )
        ],
    )
    with open_faulty(scenario, respelt("\\ud800"), sockets=True) as azure:
        outcomes = run(azure, azure.backup(*DATABASES))
        ended = {outcome["database"]: outcome["status"] for outcome in outcomes}
        assert ended == {**dict.fromkeys(DATABASES, "succeeded"), "db3": "failed"}
