"""What docs/simulator.md shows is so."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import requests

from local.simulator import Scenario

PAGE = (Path(__file__).parents[3] / "docs" / "simulator.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_defaults_are_those_of_the_page() -> None:
    shown = json.loads(block("json"))
    real = json.loads(
        Scenario().model_dump_json(by_alias=True, exclude={"virtual_machines", "throttling", "faults"})
    )
    assert {name: real[name] for name in shown if name != "vaults"} == {
        name: shown[name] for name in shown if name != "vaults"
    }
    assert set(real) == set(shown)
    (vault,) = real["vaults"]
    assert {name: vault[name] for name in shown["vaults"][0]} == shown["vaults"][0]


def test_the_fixture_of_the_page_works() -> None:
    names: dict[str, Any] = {}
    exec(block("python").replace("@pytest.fixture\n", ""), names)
    fixture = names["azure_backup"]()
    url, simulator, clock = next(fixture)
    bearer = {"Authorization": f"Bearer {names['FIXED_TOKEN']}"}
    target = f"{url}{simulator.vault_id()}/backupFabrics/Azure/refreshContainers?api-version=2024-04-01"
    with requests.Session() as session:
        started = session.post(target, headers=bearer, timeout=10)
        assert started.status_code == 202
        assert session.get(started.headers["Location"], headers=bearer, timeout=10).status_code == 202
        clock.advance(timedelta(minutes=4))
        assert session.get(started.headers["Location"], headers=bearer, timeout=10).status_code == 204
    assert [entry["route"] for entry in simulator.ledger_entries] == ["Refresh"]
    assert next(fixture, None) is None
