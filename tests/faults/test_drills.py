"""Drills under faults: killed at every effect, under random schedules, and by messages that are forged.

Whatever happens, nothing is restored over, checked or dropped but drill databases of sources that the vault
protects, on a target of `DRILL_TARGETS`; and nothing is left that the next drill does not replace.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import timedelta
from functools import cache
from itertools import permutations
from random import Random
from typing import Any, Final, Literal

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from local.estate import JsonObject
from shared.arm.ids import VirtualMachineId
from shared.bus import OutgoingMessage
from shared.drills import RUN_COMMAND_PREFIX, drill_database_name
from shared.messages.identity import Database
from tests.e2e.drills import (
    DRILL_VM,
    SUBSCRIPTION,
    TARGET,
    databases_on,
    drill,
    drill_estate,
    drill_machine,
    machine_of,
    restore_to_be_made,
    settings,
    touched_by_drills,
)
from tests.e2e.harness import INSTANCE, virtual_machine
from tests.faults import schedules
from tests.faults.estate import BRISK, FaultyEstate, Plan, Side, open_faulty
from tests.faults.forged import forged
from tests.faults.observing import OpenEstate
from tests.faults.schedules import Schedule

COUNT: Final = int(os.environ.get("CHAOS_SCHEDULES", "300")) // 20
SEED: Final = int(os.environ.get("CHAOS_SEED", "20260105"))
SOURCE_VM: Final = DRILL_VM.replace("drills1", "sqlvm1")


def scenario(*databases: str, **more: Any) -> JsonObject:
    """Two machines beside the one that is drilled on, each with databases that nobody may touch."""
    estate = drill_estate(*databases, drills=drill_machine("master", "wages", "drill_wages_01234567"))
    estate["virtualMachines"].append(virtual_machine("sqlvm2", "ledger", registeredTo="vault1"))
    return {**estate, "durations": {**BRISK, "check": 70, "script": 5, "runCommand": 10}, **more}


def source_named(name: str) -> Database:
    return Database(vm_id=VirtualMachineId.parse(SOURCE_VM), instance=INSTANCE, name=name)


def check_untouched(estate: FaultyEstate, *sources: str) -> None:
    """Nothing but drill databases of these sources was touched, and the machines' own databases are as they were."""
    allowed = {(DRILL_VM, drill_database_name(source_named(name))) for name in sources}
    assert touched_by_drills(estate.simulator) <= allowed
    own = {"master", "wages", "drill_wages_01234567"}
    left = databases_on(estate)
    assert own <= left
    assert left - own <= {name for _, name in allowed}
    assert databases_on(estate, "sqlvm2") == {"ledger"}
    assert databases_on(estate, "sqlvm1") == set(sources)
    ours = [
        name for name in machine_of(estate, "drills1").run_commands if name.startswith(RUN_COMMAND_PREFIX)
    ]
    assert len(ours) <= 2


# -- killed at every effect


def drilled(plan: Plan) -> tuple[FaultyEstate, list[str]]:
    with open_faulty(scenario("orders", "billing"), plan, settings()) as estate:
        request = drill(estate)
        estate.submit(request)
        estate.quiesce()
        estate.check()
        check_untouched(estate, "orders", "billing")
        return estate, [outcome["data"]["status"] for outcome in estate.outcomes_of(request)]


@pytest.mark.parametrize("recovery", ["at once", "later"])
@pytest.mark.parametrize("side", ["before", "after"])
def test_killed_at_every_effect(side: Side, recovery: Literal["at once", "later"]) -> None:
    untouched, statuses = drilled(Plan())
    assert statuses == ["succeeded", "succeeded"]
    assert databases_on(untouched) == {"master", "wages", "drill_wages_01234567"}
    effects = list(untouched.meter.effects)
    assert len(effects) > 20
    for number, effect in enumerate(effects):
        estate, found = drilled(Plan(crashes={number: side}, recovery=recovery))
        where = f"{side} effect {number} ({effect})"
        assert estate.crashes == 1, where
        # Before any drill has shown that the vault echoes, a restore that may have been asked for is in doubt.
        in_doubt = found == ["unknown", "succeeded"] and effect == "POST restore" and side == "before"
        assert in_doubt or found == ["succeeded", "succeeded"], f"{where}: {found}"
        assert estate.mutations["Restore"] == (1 if in_doubt else 2), where
        assert databases_on(estate) == {"master", "wages", "drill_wages_01234567"}, where


# -- random schedules


_ROUTES: Final = (
    "PutRunCommand",
    "DeleteRunCommand",
    "ListRunCommands",
    "Restore",
    "ListProtectedItems",
    "ListContainers",
    "ListRecoveryPoints",
    "ListJobs",
    "GetJob",
    "GetVault",
    "OperationStatus",
)
_SCRIPTS: Final = ("scriptNeverEnds", "scriptFailure", "scriptMisleads", "deleteFails")


def _fault(route: str) -> st.SearchStrategy[schedules.Fault]:
    if route in ("PutRunCommand", "DeleteRunCommand"):
        own = st.tuples(st.just(route), st.sampled_from(_SCRIPTS), st.integers(1, 3), st.just(()))
        return st.one_of(schedules.fault_on(route), own)
    return schedules.fault_on(route)


DRILLS: Final = schedules.schedules(
    ["drill"], st.sampled_from(_ROUTES).flatmap(_fault), effects=60, queues=22
)


def run(schedule: Schedule) -> None:
    """Run a schedule of a drill to its end, check what must hold, and drill again, which replaces what is left."""
    with open_faulty(
        scenario("orders", "billing", **schedule.scenario),
        schedule.plan,
        {**schedules.SETTINGS, **settings()},
        order=schedule.order,
    ) as estate:
        schedules.answer(estate, schedule, [drill(estate)])
        check_untouched(estate, "orders", "billing")
        estate.meter.plan = replace(Plan())
        estate.clock.advance(timedelta(hours=4))
        again = drill(estate)
        estate.submit(again)
        estate.quiesce()
        check_untouched(estate, "orders", "billing")
        # What is still in its way are faults that are counted, and have not come up before.
        if not schedule.faults:
            assert databases_on(estate) == {"master", "wages", "drill_wages_01234567"}


@pytest.mark.timeout(0 if COUNT > 100 else 600)
def test_invariants_hold_over_random_schedules() -> None:
    schedules.hold_over(DRILLS, run, count=COUNT, begin=SEED)


# -- forged messages

_MACHINES: Final = ("drills1", "sqlvm1", "sqlvm2")
_ITEMS: Final = (
    "sqlvm1/protectedItems/SQLDataBase;mssqlserver;orders",
    "drills1/protectedItems/SQLDataBase;mssqlserver;wages",
)
_NAMES: Final = (
    "orders",
    "wages",
    "master",
    "ledger",
    "drill_",
    "drill_wages_01234567",
    "drill_orders_00000000",
    "x]; DROP DATABASE wages;--",
    "$(Remove-Item C:\\)",
    "DRILL_ORDERS",
    "../wages",
    "a" * 128,
)
_GROUP: Final = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-backup"
_VAULT: Final = f"{_GROUP}/providers/Microsoft.RecoveryServices/vaults/vault1"
_CONTAINERS: Final = f"{_VAULT}/backupFabrics/Azure/protectionContainers/VMAppContainer;Compute;rg-sql"
_TEXTS: Final = (
    *_NAMES,
    *(DRILL_VM, SOURCE_VM, DRILL_VM.replace("drills1", "sqlvm2"), DRILL_VM.upper()),
    *(_VAULT, _VAULT.replace("vault1", "vault2")),
    *(f"{_CONTAINERS};{name}" for name in ("drills1", "sqlvm1", "sqlvm2")),
    *(f"{_CONTAINERS};{name}" for name in _ITEMS),
    *(f"MSSQLSERVER/{name}" for name in ("wages", "ledger", "master", "orders")),
    *("drill", "restore", "backup", "protect", "coverage"),
    *("trigger_restore", "check_drill", "clean_up_drill", "select_drills", "outcome"),
    *("original", "alternate", "files", "OriginalLocation", "AlternateLocation"),
    *("MSSQLSERVER", "mssqlserver", "OTHER", "none", "checkdb", "full", "any", "Log", "Full"),
    *("F:\\data\\wages.mdf", "\\??\\UNC\\host\\share\\x.mdf", "//host\\share\\x.mdf", "C:\\"),
    *("succeeded", "failed", "end", "job", "operation", "H4sIAAAA", "", "2026-01-05T08:00:00Z"),
)
#: What an attacker would have it say throughout, and where the name on the target follows from that.
_SWAPS: Final[tuple[dict[str, str], ...]] = (
    *({name: other} for name in ("orders", "billing") for other in ("wages", "master", "ledger")),
    *({drill_database_name(source_named(name)): "wages"} for name in ("orders", "billing")),
    *(
        {
            drill_database_name(source_named(name)): drill_database_name(source_named("wages")),
            f'"name": "{name}"': '"name": "wages"',
        }
        for name in ("orders", "billing")
    ),
    *({"drills1": name} for name in ("sqlvm1", "sqlvm2")),
    *({f"virtualMachines/{one}": f"virtualMachines/{other}"} for one, other in permutations(_MACHINES, 2)),
    *({f"rg-sql;{one}": f"rg-sql;{other}"} for one, other in permutations(_MACHINES, 2)),
    *({'"drill"': f'"{other}"'} for other in ("restore", "backup")),
    {"MSSQLSERVER": "OTHER"},
)


@cache
def real_messages() -> tuple[tuple[str, JsonObject], ...]:
    """What drills of two databases send between the steps, with the queues that they send it to."""
    with open_faulty(scenario("orders", "billing"), Plan(), {**schedules.SETTINGS, **settings()}) as estate:
        estate.submit(drill(estate))
        estate.quiesce()
        sent = [(message.entity, json.loads(message.body)) for message in estate.bus.sent]
    return tuple((entity, body) for entity, body in sent if entity in _QUEUES)


_QUEUES: Final = ("select-drills", "trigger-restore", "track", "check-drill", "clean-up-drill")


@pytest.mark.timeout(0 if COUNT > 100 else 300)
def test_no_message_makes_a_drill_touch_anything_else() -> None:
    """Not even one in the queues between the steps, where nobody but the app may send; and drills go on."""
    assert {entity for entity, _ in real_messages()} == set(_QUEUES)
    for number in range(COUNT):
        chance = Random(SEED + number)
        with open_faulty(
            scenario("orders", "billing"), Plan(), {**schedules.SETTINGS, **settings()}
        ) as estate:
            sent = []
            for each in range(chance.choice((1, 1, 2))):
                entity = chance.choice(_QUEUES)
                body = chance.choice([body for queue, body in real_messages() if queue == entity])
                if chance.random() < 0.15:
                    entity = chance.choice((*_QUEUES, "select-recovery-point", "trigger-backup"))
                sent.append((entity, forged(body, chance, _TEXTS, _SWAPS)))
                whole = json.dumps(sent[-1][1]).encode()
                message = OutgoingMessage(entity=entity, body=whole, message_id=f"forged-{each}")
                estate.broker.send(entity, [message])
            try:
                estate.quiesce()
                check_untouched(estate, "orders", "billing")
                request = {**drill(estate), "id": "afterwards"}
                estate.send(request)
                estate.quiesce()
                check_untouched(estate, "orders", "billing")
                assert {each["data"]["status"] for each in estate.outcomes_of(request)} == {"succeeded"}
            except AssertionError as error:
                raise AssertionError(f"number {number}: {error}\n{json.dumps(sent)}") from error


_INFO: Final = restore_to_be_made()["payload"]["prepared"]["targetInfo"]


@pytest.mark.parametrize(
    ("changes", "made"),
    [
        ({}, 1),
        ({"targetInfo": {**_INFO, "databaseName": f"{INSTANCE}/wages"}}, 0),
        ({"targetInfo": {**_INFO, "containerId": f"{_CONTAINERS};sqlvm2"}}, 0),
        ({"recoveryType": "OriginalLocation"}, 0),
        ({"targetVirtualMachineId": SOURCE_VM}, 0),
    ],
    ids=["its own", "another name", "another container", "over the original", "another machine"],
)
def test_a_prepared_call_is_made_only_where_it_is_the_drills_own(
    open_estate: OpenEstate, changes: JsonObject, made: int
) -> None:
    estate = open_estate(scenario("orders", "billing"), Plan(), {**schedules.SETTINGS, **settings()})
    body = json.dumps(restore_to_be_made(**changes)).encode()
    message = OutgoingMessage(entity="trigger-restore", body=body, message_id="forged")
    estate.broker.send("trigger-restore", [message])
    estate.quiesce()
    check_untouched(estate, "orders", "billing")
    assert estate.mutations["Restore"] == made


@hypothesis_settings(max_examples=25, database=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_request_makes_a_drill_touch_anything_else(data: st.DataObject) -> None:
    names = st.sampled_from(("*", *_NAMES)) | st.text(max_size=20)
    named: list[JsonObject] = data.draw(
        st.lists(st.builds(dict, instance=st.sampled_from((INSTANCE, "*")), database=names), max_size=3)
    )
    target = data.draw(
        st.sampled_from(
            (TARGET, {"vmId": SOURCE_VM, "instance": INSTANCE}, {"vmId": DRILL_VM, "instance": "OTHER"})
        )
    )
    with open_faulty(scenario("orders", "billing"), Plan(), {**schedules.SETTINGS, **settings()}) as estate:
        request = drill(
            estate, databases=named, target=target, check=data.draw(st.sampled_from(("none", "checkdb")))
        )
        estate.send(request)
        estate.quiesce()
        check_untouched(estate, "orders", "billing")
