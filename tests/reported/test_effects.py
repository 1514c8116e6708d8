"""Effects that happened twice, or whose outcome was not true: each is to happen once and be told as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

import pytest

from local.estate import JsonObject
from shared.arm.transport import RawAnswer
from tests.e2e.harness import POLICY, OpenEstate, virtual_machine
from tests.faults.estate import BRISK, FaultyEstate, Plan, fault, open_faulty, protected_estate
from tests.faults.observing import proven
from tests.reported.effects import (
    OVERWRITING,
    ask,
    did_once,
    effects,
    published,
    route_of,
    true_outcomes,
    until_it_crashes,
)

MINUTE = timedelta(minutes=1)
#: Long enough that the first is still at work when the second might be sent.
LONG = {**BRISK, "backup": 600, "restore": 600}
OPERATIONS = ("backup", "restore", "restore over the original")


@contextmanager
def opened(*faults: JsonObject, plan: Plan | None = None, **scenario: Any) -> Iterator[FaultyEstate]:
    """An estate whose vault has shown that it echoes."""
    described = {"durations": LONG, **protected_estate("orders", "billing", faults=faults), **scenario}
    with open_faulty(described, settings=OVERWRITING) as azure:
        if described.get("echoActivityId", True):
            proven(azure)
        if plan is not None:
            azure.meter.plan.at = plan.at
            azure.meter.plan.mangle = plan.mangle
        yield azure


def settle(azure: FaultyEstate, request: JsonObject) -> JsonObject:
    """The data of the request's one outcome, once nothing is left to do."""
    azure.quiesce()
    (outcome,) = azure.outcomes_of(request)
    data: JsonObject = outcome["data"]
    return data


# A running operation of one's own


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_gateway_that_sends_a_call_twice(operation: str) -> None:
    route = route_of(operation)
    with opened(fault(route, "twice", pathContains="orders")) as azure:
        outcome = settle_one(azure, operation)
        did_once(azure, route, outcome)


def test_a_gateway_that_sends_a_restore_over_a_database_twice_and_a_vault_that_does_not_tell_whose_job_it_is() -> (
    None
):
    with opened(fault("Restore", "twice"), echoActivityId=False) as azure:
        outcome = settle_one(azure, "restore over the original")
        (done,) = effects(azure, "Restore")
        assert outcome["status"] == "unknown"
        assert done["jobId"] in outcome["error"]["message"]


def settle_one(azure: FaultyEstate, operation: str) -> JsonObject:
    request = ask(azure, operation)
    azure.submit(request)
    return settle(azure, request)


@pytest.mark.parametrize("durations", [BRISK, LONG], ids=["short", "long"])
@pytest.mark.parametrize("listed", [240, 500])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_lost_answer_whose_job_is_listed_late(
    operation: str, listed: int, durations: dict[str, float]
) -> None:
    route = route_of(operation)
    faults = [
        fault(route, "dropAfterEffect", pathContains="orders", nth=1),
        fault(route, "jobListedLate", pathContains="orders", nth=1, seconds=listed),
    ]
    with opened(*faults, durations=durations) as azure:
        outcome = settle_one(azure, operation)
        did_once(azure, route, outcome)


@pytest.mark.parametrize("status", [401, 403, 408, 409, 425, 429, 500, 503])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_error_that_comes_after_the_effect(operation: str, status: int) -> None:
    route = route_of(operation)
    failing = fault(route, "statusAfterEffect", pathContains="orders", nth=1, status=status)
    with opened(failing) as azure:
        outcome = settle_one(azure, operation)
        did_once(azure, route, outcome)


@pytest.mark.parametrize("status", [401, 429])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_error_after_the_effect_whose_job_is_short(operation: str, status: int) -> None:
    """Nothing is at work any more when the call would be sent again."""
    route = route_of(operation)
    failing = fault(route, "statusAfterEffect", pathContains="orders", nth=1, status=status, retryAfter=120)
    with opened(failing, durations={**BRISK, "backup": 5, "restore": 5}) as azure:
        outcome = settle_one(azure, operation)
        did_once(azure, route, outcome)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_redirect_after_the_effect(operation: str) -> None:
    route = route_of(operation)
    with opened(fault(route, "redirectAfterEffect", pathContains="orders", nth=1)) as azure:
        outcome = settle_one(azure, operation)
        did_once(azure, route, outcome)


# A selection that is made twice


def test_a_selection_that_is_made_twice_and_differs() -> None:
    names = [f"db{number:03}" for number in range(150)]
    scenario = protected_estate(*names, durations={**BRISK, "backup": 5})
    with open_faulty(scenario) as azure:
        azure.meter.plan.at["send trigger-backup"] = "after"
        request = azure.backup()
        azure.submit(request)
        until_it_crashes(azure)
        azure.delete_by_hand(names[-1])
        azure.restart(release=True)
        azure.quiesce()
        (accepted,) = published(azure, request, "accepted")
        outcomes = azure.outcomes_of(request)
        counts = {outcome["data"]["outcomeCount"] for outcome in outcomes}
        assert counts == {accepted["outcomeCount"]}
        assert len({outcome["data"]["outcomeKey"] for outcome in outcomes}) == accepted["outcomeCount"]


# Clocks that jump


def jumping(by: timedelta, after: str) -> Plan:
    """Azure's Date headers jump once a path that ends so has been asked."""
    seen = [False]

    def mangle(_: str, path: str, answer: RawAnswer) -> RawAnswer:
        seen[0] = seen[0] or path.lower().endswith(after)
        if not seen[0] or "date" not in answer.headers:
            return answer
        date = format_datetime(parsedate_to_datetime(answer.headers["date"]) + by, usegmt=True)
        return RawAnswer(answer.status, {**answer.headers, "date": date}, answer.body)

    return Plan(mangle=mangle)


@pytest.mark.parametrize("minutes", [90, 300, -90])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_lost_answer_and_a_date_that_jumps(operation: str, minutes: int) -> None:
    route = route_of(operation)
    lost = fault(route, "dropAfterEffect", pathContains="orders", nth=1)
    with opened(lost, plan=jumping(timedelta(minutes=minutes), "/backupprotecteditems")) as azure:
        outcome = settle_one(azure, operation)
        did_once(azure, route, outcome)


# Namesakes


def namesakes(**database: Any) -> JsonObject:
    """Two instances of one VM, each with an msdb."""
    listed = [{"name": "msdb", **database}]
    instances = [{"name": name, "databases": listed} for name in ("INST1", "INST2")]
    return {"name": "sqlvm1", "registeredTo": "vault1", "instances": instances}


PROTECTED = {"protectedBy": POLICY, "historyDays": 1}


def of_instance(azure: Any, *instances: str) -> JsonObject:
    selected = [{"instance": name, "database": "msdb"} for name in instances]
    request: JsonObject = azure.request("backup", {"databases": selected, "backupType": "Full"})
    return request


def test_the_job_of_a_namesake_is_not_adopted_where_the_vault_echoes(estate: OpenEstate) -> None:
    """Somebody backs up a namesake in the portal while the app's own call is lost."""
    azure = estate(
        {
            "virtualMachines": [namesakes(**PROTECTED)],
            "faults": [fault("Backup", "dropBeforeEffect", nth=2)],
            "scheduledBackups": False,
        }
    )
    azure.run(of_instance(azure, "INST2"))
    following = azure.send(of_instance(azure, "INST1"))
    azure.host.run_until_idle()
    azure.back_up_by_hand("msdb", "INST2")
    true_outcomes(azure, azure.finish(following), "Backup")


def test_of_two_namesakes_one_call_is_lost_where_the_vault_does_not_echo(estate: OpenEstate) -> None:
    azure = estate(
        {
            "echoActivityId": False,
            "virtualMachines": [namesakes(**PROTECTED)],
            "faults": [fault("Backup", "dropBeforeEffect", nth=1)],
            "scheduledBackups": False,
        }
    )
    outcomes = azure.run(of_instance(azure, "INST1", "INST2"))
    assert len(outcomes) == 2
    true_outcomes(azure, outcomes, "Backup")


def test_a_namesake_on_another_machine_is_protected_and_this_one_is_not(estate: OpenEstate) -> None:
    machines = [virtual_machine(name, "ReportServer", registeredTo="vault1") for name in ("sqlvm1", "sqlvm2")]
    azure = estate(
        {
            "echoActivityId": False,
            "virtualMachines": machines,
            "faults": [fault("ConfigureBackup", "dropBeforeEffect", nth=1)],
            "scheduledBackups": False,
        }
    )
    outcomes = azure.run(azure.protect("ReportServer"), azure.protect("ReportServer", vm="sqlvm2"))
    assert len(outcomes) == 2
    true_outcomes(azure, outcomes, "ConfigureBackup")


# Machines in a domain


def in_a_domain(item_server: str, entity: str) -> Plan:
    """Items name this server; jobs spell what they are about so."""

    def mangle(_: str, path: str, answer: RawAnswer) -> RawAnswer:
        body = answer.body.replace(b'"serverName":"sqlvm1"', f'"serverName":"{item_server}"'.encode())
        if "/backupjobs" in path.lower():
            for name in ("orders", "billing"):
                body = body.replace(f'"{name} [sqlvm1]"'.encode(), f'"{entity.format(name)}"'.encode())
        return RawAnswer(answer.status, answer.headers, body)

    return Plan(mangle=mangle)


FULL = "sqlvm1.contoso.local"
SPELLINGS = [
    (FULL, "{} [sqlvm1.contoso.local]"),
    (FULL, "{} [sqlvm1]"),
    (FULL, "MSSQLSERVER/{} [sqlvm1.contoso.local]"),
    ("sqlvm1", "MSSQLSERVER/{} [sqlvm1.contoso.local]"),
    (FULL, "MSSQLSERVER/{} [SQLVM1]"),
]


@pytest.mark.parametrize(("server", "entity"), SPELLINGS)
def test_a_backup_waits_for_the_one_that_runs_on_a_machine_in_a_domain(server: str, entity: str) -> None:
    plan = in_a_domain(server, entity)
    with opened(plan=plan, durations={**BRISK, "backup": 7200}) as azure:
        azure.back_up_by_hand("orders")
        outcome = settle_one(azure, "backup")
        assert outcome["status"] == "succeeded", outcome.get("error")
        assert len(effects(azure, "Backup")) == 2


@pytest.mark.parametrize(("server", "entity"), SPELLINGS)
@pytest.mark.parametrize("operation", ["backup", "restore"])
def test_a_lost_answer_on_a_machine_in_a_domain(operation: str, server: str, entity: str) -> None:
    """The vault does not echo: the one job that may be its own is known by its name."""
    lost = fault(route_of(operation), "dropAfterEffect", pathContains="orders", nth=1)
    with opened(lost, plan=in_a_domain(server, entity), echoActivityId=False) as azure:
        outcome = settle_one(azure, operation)
        did_once(azure, route_of(operation), outcome)
