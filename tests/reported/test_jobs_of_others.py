"""Jobs that an operation names, or a list shows, and that are not the ones that were asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from local.estate import JsonObject
from shared.arm.transport import RawAnswer
from tests.faults.estate import FaultyEstate, Plan, fault, open_faulty, protected_estate
from tests.faults.observing import finished, run

Change = Callable[[JsonObject], object]


def answering(change: Change, *, path_holds: str) -> Plan:
    """Azure answers what `change` makes of its JSON."""

    def mangle(_: str, path: str, answer: RawAnswer) -> RawAnswer:
        if path_holds.lower() not in path.lower() or not answer.body:
            return answer
        body = json.loads(answer.body)
        change(body)
        return RawAnswer(answer.status, answer.headers, json.dumps(body).encode())

    return Plan(mangle=mangle)


def naming(job: Callable[[], str], *, path_holds: str = "operationsStatus") -> Plan:
    """Every operation names this job, whatever it started."""

    def rename(body: JsonObject) -> None:
        if body.get("properties", {}).get("jobId"):
            body["properties"]["jobId"] = job()

    return answering(rename, path_holds=path_holds)


def each_job(body: JsonObject) -> list[JsonObject]:
    """The properties of the jobs in an answer."""
    return [item["properties"] for item in body.get("value", [body]) if "properties" in item]


def last_job(azure: FaultyEstate, route: str) -> str:
    """The newest job of a route, as the ledger has it."""
    jobs: list[str] = azure.job_ids(route)
    return jobs[-1]


def true_or_doubtful(azure: FaultyEstate, outcome: JsonObject, route: str, other: str) -> None:
    """The outcome is that of its own job; or it is `unknown`, and names both."""
    if outcome["status"] == "unknown":
        assert other in outcome["error"]["message"]
        assert route in outcome["error"]["message"]
    else:
        assert outcome["status"] == "succeeded"
        assert outcome["job"]["id"] == last_job(azure, route)


@pytest.mark.parametrize("echoes", [True, False])
def test_a_restore_whose_operation_names_a_backup(echoes: bool) -> None:
    other: list[str] = []
    plan = naming(lambda: other[0] if other else "none")
    with open_faulty(protected_estate("orders", "billing", echoActivityId=echoes)) as azure:
        finished(azure, azure.backup("orders"))
        other.append(last_job(azure, "Backup"))
        azure.meter.plan.mangle = plan.mangle
        outcome = finished(azure, azure.restore("orders", "orders_copy"))
        true_or_doubtful(azure, outcome, "Restore", other[0])
        assert azure.mutations["Restore"] == 1


@pytest.mark.parametrize("echoes", [True, False])
def test_a_backup_whose_operation_names_that_of_another_database(echoes: bool) -> None:
    other: list[str] = []
    plan = naming(lambda: other[0] if other else "none")
    with open_faulty(protected_estate("orders", "billing", echoActivityId=echoes)) as azure:
        finished(azure, azure.backup("billing"))
        other.append(last_job(azure, "Backup"))
        azure.meter.plan.mangle = plan.mangle
        outcome = finished(azure, azure.backup("orders"))
        true_or_doubtful(azure, outcome, "Backup", other[0])
        assert azure.mutations["Backup"] == 2


def test_an_operation_that_names_another_job_where_none_of_its_own_is_listed() -> None:
    """The outcome is in doubt, and names what was asked and what was named."""
    other: list[str] = []
    with open_faulty(protected_estate("orders", "billing", echoActivityId=False)) as azure:
        finished(azure, azure.backup("orders"))
        other.append(last_job(azure, "Backup"))

        def only_that(body: JsonObject) -> None:
            if body.get("properties", {}).get("jobId"):
                body["properties"]["jobId"] = other[0]
            if "value" in body:
                body["value"] = [item for item in body["value"] if item["name"] == other[0]]

        lying = answering(only_that, path_holds="backup").mangle
        assert lying is not None

        def mangle(method: str, path: str, answer: RawAnswer) -> RawAnswer:
            told = path.endswith("/backupJobs") or "operationsStatus" in path
            return lying(method, path, answer) if told else answer

        azure.meter.plan.mangle = mangle
        outcome = finished(azure, azure.restore("orders", "orders_copy"))
        assert outcome["status"] == "unknown"
        assert outcome["error"]["code"] == "OtherJob"
        assert other[0] in outcome["error"]["message"]
        assert "Backup (Full) of orders" in outcome["error"]["message"]
        assert "a Restore" in outcome["error"]["message"]


def braces(text: str) -> str:
    return "{" + text + "}"


def without_hyphens(text: str) -> str:
    return text.replace("-", "")


SPELLINGS: list[Callable[[str], str]] = [str.upper, braces, without_hyphens, lambda text: f"urn:uuid:{text}"]


@pytest.mark.parametrize("spelt", SPELLINGS, ids=["upper case", "braces", "no hyphens", "urn"])
@pytest.mark.parametrize("operation", ["backup", "restore"])
def test_ids_of_jobs_are_compared_as_uuids(spelt: Callable[[str], str], operation: str) -> None:
    """An answer is lost: the job is found by its activity id, however the list spells it."""

    def respell(body: JsonObject) -> None:
        for properties in each_job(body):
            properties["activityId"] = spelt(properties["activityId"])

    plan = answering(respell, path_holds="/backupJobs")
    scenario = protected_estate(
        "orders",
        "billing",
        faults=[fault("Backup", "dropAfterEffect", nth=2), fault("Restore", "dropAfterEffect")],
    )
    with open_faulty(scenario, plan) as azure:
        finished(azure, azure.backup("billing"))
        request = azure.backup("orders") if operation != "restore" else azure.restore("orders", "orders_copy")
        outcome = finished(azure, request)
        assert outcome["status"] == "succeeded"
        assert azure.mutations["Backup"] + azure.mutations["Restore"] == 2


@pytest.mark.parametrize("spelt", SPELLINGS, ids=["upper case", "braces", "no hyphens", "urn"])
def test_the_job_that_an_operation_names_is_compared_as_a_uuid(spelt: Callable[[str], str]) -> None:
    def respell(body: JsonObject) -> None:
        if body.get("properties", {}).get("jobId"):
            body["properties"]["jobId"] = spelt(body["properties"]["jobId"])

    databases = [f"db{number}" for number in range(8)]
    plan = answering(respell, path_holds="operationsStatus")
    with open_faulty(protected_estate(*databases), plan) as azure:
        for count in (1, len(databases)):
            outcomes = run(azure, azure.backup(*databases[:count]))
            assert [outcome["status"] for outcome in outcomes] == ["succeeded"] * count
        assert {outcome["job"]["id"] for outcome in outcomes} <= set(azure.job_ids("Backup"))


def young(properties: JsonObject) -> None:
    """As recorded 40 s after the start: no server, no kind, no tasks."""
    properties["entityFriendlyName"] = properties["entityFriendlyName"].partition(" [")[0]
    properties["operation"] = properties["operation"].partition(" (")[0]
    properties.pop("extendedInfo", None)
    properties.pop("workloadType", None)


def with_instance(properties: JsonObject) -> None:
    properties["entityFriendlyName"] = "MSSQLSERVER/" + properties["entityFriendlyName"]


def with_domain(properties: JsonObject) -> None:
    properties["entityFriendlyName"] = properties["entityFriendlyName"].replace("]", ".contoso.com]")


def in_capitals(properties: JsonObject) -> None:
    properties["entityFriendlyName"] = properties["entityFriendlyName"].upper()


def unheard_of(properties: JsonObject) -> None:
    properties["operation"] = "SomethingNew (Full)"


@pytest.mark.parametrize("echoes", [True, False])
@pytest.mark.parametrize("look", [young, with_instance, with_domain, in_capitals, unheard_of])
@pytest.mark.parametrize("count", [1, 8])
def test_a_job_that_says_little_is_followed(
    look: Callable[[JsonObject], None], count: int, echoes: bool
) -> None:
    """What tells a job from another is what it says, not what it leaves out or spells otherwise."""

    def change(body: JsonObject) -> None:
        for properties in each_job(body):
            look(properties)

    databases = [f"db{number}" for number in range(count)]
    plan = answering(change, path_holds="/backupJobs")
    with open_faulty(protected_estate(*databases, echoActivityId=echoes), plan) as azure:
        requests: list[Any] = [azure.backup(*databases), azure.restore("db0", "db0_copy")]
        outcomes = run(azure, *requests)
        assert [outcome["status"] for outcome in outcomes] == ["succeeded"] * (count + 1)


def test_a_restore_whose_job_names_the_server_of_its_target_is_followed() -> None:
    """Of restores to another machine no recording tells whose name their jobs bear."""

    def change(body: JsonObject) -> None:
        for properties in each_job(body):
            properties["entityFriendlyName"] = properties["entityFriendlyName"].replace("sqlvm1", "sqlvm2")

    plan = answering(change, path_holds="/backupJobs")
    with open_faulty(protected_estate("orders", echoActivityId=False), plan) as azure:
        assert finished(azure, azure.restore("orders", "orders_copy"))["status"] == "succeeded"


def test_a_backup_whose_operation_names_that_of_a_namesake_on_another_server() -> None:
    """The vault does not echo, so that only what the job is about can tell."""

    def change(body: JsonObject) -> None:
        for properties in each_job(body):
            properties["entityFriendlyName"] = properties["entityFriendlyName"].replace("sqlvm1", "sqlvm2")

    plan = answering(change, path_holds="/backupJobs")
    with open_faulty(protected_estate("orders", echoActivityId=False), plan) as azure:
        outcome = finished(azure, azure.backup("orders"))
        assert outcome["status"] == "unknown"
        assert outcome["error"]["code"] == "OtherJob"
        assert "[sqlvm2]" in outcome["error"]["message"]
