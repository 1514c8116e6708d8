"""docs/settings.md names every setting, with the default that the app has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from shared.arm.credentials import choose_credential
from shared.namespace import connect
from shared.schedules import BackupSchedule
from shared.settings import read_settings
from tests.unit.docs.markdown import code, read, rows, section

PAGE = read("docs/settings.md")
OWN = {code(row[0])[0]: row for row in rows(section(PAGE, "The app's settings"))}
NAMED = {name for row in rows(PAGE) for name in code(row[0])}


class Recorder(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)


def test_every_setting_that_the_app_reads_is_named() -> None:
    own = Recorder({})
    read_settings(own)
    assert own.asked == set(OWN)
    others = Recorder({"ServiceBusConnection__fullyQualifiedNamespace": "n.servicebus.windows.net"})
    connect(others)
    choose_credential(others)
    choose_credential(Recorder({}))
    secret = Recorder({"AZURE_CLIENT_SECRET": "s", "AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c"})
    choose_credential(secret)
    assert others.asked | secret.asked <= NAMED


@pytest.mark.parametrize("name", OWN)
def test_the_default_and_the_example_are_real(name: str) -> None:
    _, _, default, _, example = OWN[name]
    unset = read_settings({})
    # TIME_SCALE is for a simulator.
    around = {"ARM_ENDPOINT": "http://127.0.0.1:1"} if name == "TIME_SCALE" else {}
    assert read_settings({**around, name: code(example)[0]}) != read_settings(around)
    if not default.startswith("none"):
        assert read_settings({name: code(default)[0]}) == unset


def test_every_field_of_a_schedule_is_named_with_its_default() -> None:
    table = {code(row[0])[0]: row[2] for row in rows(section(PAGE, "Schedules"))}
    fields = BackupSchedule.model_fields
    assert set(table) == {field.alias for name, field in fields.items() if name != "request"}
    required = {field.alias for field in fields.values() if field.is_required()} - {"request"}
    assert {name for name, default in table.items() if default.startswith("none")} == required
    assert code(table["timeZone"]) == [fields["time_zone"].default]


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else key)
    else:
        yield path, json.dumps(value).strip('"')


def test_every_value_of_host_json_has_its_reason() -> None:
    table = {code(row[0])[0]: code(row[1])[0] for row in rows(section(PAGE, "host.json"))}
    assert table == dict(leaves(json.loads(read("host.json"))))
    assert all(row[2] for row in rows(section(PAGE, "host.json")))


def test_the_sample_has_every_setting_of_the_contract_and_starts_the_app_with_its_defaults() -> None:
    values = json.loads(read("local.settings.sample.json"))["Values"]
    assert set(values) <= NAMED
    assert set(OWN) <= set(values)
    assert read_settings(values) == read_settings({})
    assert not values["AZURE_CLIENT_SECRET"]


def test_every_line_of_funcignore_has_its_reason() -> None:
    lines = [line for line in read(".funcignore").splitlines() if line and not line.startswith("#")]
    reasons = [name for row in rows(section(PAGE, ".funcignore")) for name in code(row[0])]
    assert sorted(reasons) == sorted(lines)
