"""Drill databases: their names, where they may be, and the script that checks and drops them."""

from __future__ import annotations

import base64
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.arm.ids import VirtualMachineId
from shared.drills import (
    DrillTarget,
    drill_database_name,
    drill_target,
    read_drill_targets,
    run_command_name,
)
from shared.messages.events import ErrorInfo
from shared.messages.identity import (
    Database,
    drill_digest,
    drill_of,
    drill_request_id,
    drill_target_hash,
    is_marked,
)
from shared.run_commands.drill_script import ScriptResult, base64url, drill_script, parameters
from shared.run_commands.models import RunCommand
from shared.setting_entries import EntriesError
from tests.e2e.drills import DRILL_VM, TARGET

VM = VirtualMachineId.parse(DRILL_VM)
OTHER = VirtualMachineId.parse(DRILL_VM.replace("drills1", "sqlvm1"))
(PLACE,) = read_drill_targets(json.dumps([TARGET]))
NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=128)


def source(name: str, vm: VirtualMachineId = OTHER, instance: str = "MSSQLSERVER") -> Database:
    return Database(vm_id=vm, instance=instance, name=name)


def utf16(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


@given(NAMES)
def test_a_drill_database_has_a_name_that_sql_server_takes(name: str) -> None:
    drilled = drill_database_name(source(name))
    assert utf16(drilled) <= 128
    prefix, digits = drilled[:6], drilled[-9:]
    assert prefix == "drill_"
    assert re.fullmatch(r"_[0-9a-f]{8}", digits)
    assert name.startswith(drilled[6:-9])
    if utf16(name) == len(name):
        assert drilled[6:-9] == name[:90]


def test_sources_that_differ_in_anything_have_drill_databases_of_their_own() -> None:
    names = {
        drill_database_name(source("orders")),
        drill_database_name(source("orders", vm=VM)),
        drill_database_name(source("orders", instance="SALES")),
        drill_database_name(source("orders2")),
        drill_database_name(source("o" * 91)),
        drill_database_name(source("o" * 92)),
        drill_database_name(Database(availability_group="MSSQLSERVER", name="orders")),
    }
    assert len(names) == 7


@given(NAMES, NAMES)
def test_no_name_but_the_sources_own_may_be_replaced(name: str, other: str) -> None:
    own = drill_database_name(source(name))
    for given_name in (
        other,
        name,
        own.upper(),
        f"{own} ",
        own[:-1],
        f"x{own}",
        drill_database_name(source(other)),
    ):
        allowed = drill_target(
            (PLACE,), vm_id=VM, instance="MSSQLSERVER", name=given_name, source=source(name)
        )
        assert (allowed is not None) == (given_name == own)


def test_a_drill_goes_to_a_listed_instance_alone_and_never_to_the_sources() -> None:
    def allowed(
        vm: VirtualMachineId, instance: str, of: Database, targets: tuple[DrillTarget, ...] = (PLACE,)
    ) -> bool:
        name = drill_database_name(of)
        return drill_target(targets, vm_id=vm, instance=instance, name=name, source=of) is not None

    assert allowed(VM, "mssqlserver", source("orders"))
    assert not allowed(OTHER, "MSSQLSERVER", source("orders"))
    assert not allowed(VM, "SALES", source("orders"))
    assert not allowed(VM, "MSSQLSERVER", source("orders", vm=VM))
    assert allowed(VM, "MSSQLSERVER", source("orders", vm=VM, instance="SALES"))
    assert not allowed(VM, "MSSQLSERVER", source("orders"), ())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "JSON list"),
        ("[1]", "entry 1"),
        ('[{"vmId": "x", "instance": "A"}]', "vmId"),
        (json.dumps([{"vmId": DRILL_VM}]), "instance"),
        (json.dumps([{**TARGET, "maxSizeGB": 0}]), "maxSizeGB"),
        (json.dumps([{**TARGET, "dataDirectory": "data"}]), "dataDirectory"),
        (json.dumps([{**TARGET, "size": 1}]), "size"),
        (json.dumps([TARGET, {**TARGET, "instance": "mssqlserver"}]), "2 times"),
    ],
)
def test_targets_that_cannot_be_used_are_named(text: str, said: str) -> None:
    with pytest.raises(EntriesError, match=re.escape(said)):
        read_drill_targets(text)


def test_a_drills_request_id_tells_its_source_and_its_target() -> None:
    key, target = source("orders").key, PLACE.key
    first, second = (drill_request_id(key, target, "request", number) for number in (1, 2))
    assert first != second
    assert is_marked(first)
    for request_id in (first, second):
        assert drill_of(request_id) == (drill_digest(key), drill_target_hash(target))
        assert request_id[14] == "8"
        assert request_id[19] in "89ab"
    assert drill_database_name(source("orders")).endswith(drill_digest(key))
    assert drill_of("73716c62-3c50-8432-b426-7fcec92c2913") is None


# -- the script


def test_the_script_is_short_ascii_and_takes_what_it_is_given() -> None:
    text = drill_script()
    assert text.isascii()
    assert len(text.splitlines()) < 110
    declared = re.match(r"param\(([^)]*)\)", text)
    assert declared is not None
    assert re.findall(r"\$(\w+)", declared[1]) == list(
        parameters(attempt="a", action="check", instance="i", database="d")
    )
    form = re.search(r"\$name -cnotmatch '([^']+)'", text)
    assert form is not None
    shape = re.compile(form[1].replace(r"\z", r"\Z"))
    for name in ("orders", "o" * 128, "😀" * 64, "x'];--\n"):
        assert shape.match(drill_database_name(source(name)))
    for other in (
        "drill_",
        "drill_wages",
        "drill_wages_0123456",
        "DRILL_wages_01234567",
        "wages",
        "xdrill_a_01234567",
    ):
        assert not shape.match(other)


@given(NAMES)
def test_every_name_comes_through_a_command_line_as_it_is(name: str) -> None:
    encoded = base64url(name)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", encoded), "never like the name of a parameter"
    padded = encoded + "=" * (-len(encoded) % 4)
    assert base64.urlsafe_b64decode(padded).decode() == name


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ({"result": "ok"}, "ok"),
        ({"result": "ok", "numbers": [8939]}, "corrupt"),
        ({"result": "absent"}, "absent"),
        ({"result": "failed", "numbers": [8939, 8928], "errors": 40}, "corrupt"),
        ({"result": "failed", "numbers": [824]}, "corrupt"),
        ({"result": "failed", "numbers": [2570]}, "corrupt"),
        ({"result": "failed", "numbers": [2571]}, "notPermitted"),
        ({"result": "failed", "numbers": [916]}, "notPermitted"),
        ({"result": "failed", "numbers": [1823, 7928]}, "failed"),
        ({"result": "failed", "numbers": [8921]}, "failed"),
        ({"result": "failed", "numbers": [911]}, "failed"),
        ({"result": "failed", "numbers": [1823, 8939]}, "corrupt"),
        ({"result": "failed", "numbers": "all"}, "failed"),
        ({}, "failed"),
    ],
)
def test_what_the_line_says_is_judged_by_the_numbers_of_its_errors(
    line: dict[str, object], verdict: str
) -> None:
    assert ScriptResult.read({"action": "check", **line}).verdict == verdict
    if verdict == "corrupt":
        assert ScriptResult.read({"action": "drop", **line}).verdict != "corrupt"


def test_what_a_vm_says_can_always_be_told_on() -> None:
    """A message is cut between the halves of a character, and a VM may say numbers that are none."""
    said = json.loads(
        '{"action":"check","result":"failed","errors":-1,"numbers":[824,true,1e9,-1],"messages":["x\\ud83d"],'
        f'"seconds":NaN,"sizeMB":1e999,"freeMB":{10**400}}}'
    )
    result = ScriptResult.read(said)
    assert (result.verdict, result.errors, result.numbers) == ("corrupt", 2, (824, -1))
    assert (result.seconds, result.size_mb, result.free_mb) == (None, None, None)
    told = ErrorInfo(code="DrillCheckFailed", message=result.described).model_dump_json()
    assert "x\ufffd" in json.loads(told)["message"]


def command(**view: object) -> RunCommand:
    return RunCommand.from_wire(
        {"name": "c", "properties": {"provisioningState": "Succeeded", "instanceView": view}}
    )


def test_a_moment_beyond_the_calendar_is_none() -> None:
    assert command(endTime="9999-12-31T23:59:59-05:00").end_time is None


def test_only_a_line_with_the_attempts_id_is_a_result() -> None:
    mine, other = '{"attempt":"mine","result":"ok"}', '{"attempt":"other","result":"ok"}'
    assert command(output=f"noise\n{mine}\n").line("mine") == {"attempt": "mine", "result": "ok"}
    for output in (other, "", mine[:-1], "null", f"[{mine}]", '"mine"'):
        assert command(output=output).line("mine") is None


def test_a_line_that_the_console_has_broken_is_one_line() -> None:
    line = json.dumps(
        {"attempt": "mine", "result": "failed", "messages": ['a "b" {"attempt":"other"} ' * 9]},
        separators=(",", ":"),
    )
    for width in (1, 7, 80, 120):
        broken = "\r\n".join(line[at : at + width] for at in range(0, len(line), width))
        assert command(output=f"noise\r\n{broken}\r\n").line("mine") == json.loads(line)
        assert command(output=f"noise\r\n{broken}\r\n").line("other") is None
        assert command(output=broken[:-1]).line("mine") is None


@pytest.mark.parametrize(
    ("view", "ended"),
    [
        ({}, True),
        ({"executionState": "Pending"}, True),
        ({"executionState": "Running"}, False),
        ({"executionState": "Unknown", "startTime": "2022-05-19T00:00:00+00:00"}, False),
    ],
)
def test_what_could_not_be_provisioned_has_ended_unless_it_runs(view: dict[str, object], ended: bool) -> None:
    body = {"name": "c", "properties": {"provisioningState": "Failed", "instanceView": view}}
    assert RunCommand.from_wire(body).has_ended == ended


@pytest.mark.parametrize(
    ("view", "ended"),
    [
        ({"executionState": "Running"}, False),
        ({"executionState": "Pending"}, False),
        ({"executionState": "Unknown"}, False),
        ({"executionState": "Running", "exitCode": 0, "endTime": "2022-05-19T00:00:00+00:00"}, True),
        ({"executionState": "Failed", "exitCode": 127}, True),
        ({"executionState": "TimedOut"}, True),
    ],
)
def test_a_run_command_has_ended_once_it_has_an_end(view: dict[str, object], ended: bool) -> None:
    assert command(**view).has_ended == ended


def test_the_run_command_of_a_drill_is_named_after_its_database_and_its_instance() -> None:
    name = run_command_name(PLACE, "drill_orders_01234567")
    assert re.fullmatch(r"sqlvmbackup-drill-[0-9a-f]{24}", name)
    assert name != run_command_name(PLACE, "drill_orders_01234568")
