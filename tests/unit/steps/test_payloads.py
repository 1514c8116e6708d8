"""What the messages to the steps are about: their parts, and what is said of each."""

from __future__ import annotations

import base64
import gzip
import json

from shared.messages.requests import CoverageData
from shared.steps.payloads import (
    CoveragePlan,
    Drill,
    DrillSource,
    Plan,
    ProtectPlan,
    RestoreTask,
    VaultTask,
    packed_sources,
    unpacked_sources,
)
from tests.unit.examples import CONTAINER, VAULT, VM, item_id
from tests.unit.steps.choices import protect
from tests.unit.steps.drills import ORDERS, drill, task


def test_a_plan_is_of_the_vm_that_its_request_names() -> None:
    assert ProtectPlan(data=protect("orders")).vm_id == VM
    group = {"vmId": None, "databases": [{"availabilityGroup": "ag1", "database": "x"}]}
    assert ProtectPlan(data=protect("x", **group)).vm_id is None
    assert Plan().vm_id is None
    assert not Plan().is_accepted


def test_a_plan_is_fixed_once_its_selection_is_made() -> None:
    assert not Plan().is_fixed
    assert Plan(fixed="").is_fixed
    data = CoverageData.model_validate({"vaultIds": [VAULT.path]})
    assert not CoveragePlan(data=data).is_fixed
    assert CoveragePlan(data=data, vaults=()).is_fixed


def test_a_survey_is_of_its_vault_and_an_inquiry_of_a_vm_is_silent() -> None:
    survey = VaultTask(vault_id=VAULT)
    assert (survey.part, survey.subject) == (VAULT.key, VAULT.path)
    assert survey.is_accepted
    assert not survey.is_silent
    inquiry = VaultTask(vault_id=VAULT, container_id=CONTAINER.path)
    assert (inquiry.part, inquiry.subject) == (CONTAINER.path.lower(), VAULT.path)
    assert inquiry.is_silent


def test_a_drill_carries_those_after_it_from_message_to_message() -> None:
    source = DrillSource(database=ORDERS, item_id=item_id("orders").path, outcome_count=2)
    carried = task(drill(rest=packed_sources([source])))
    read = RestoreTask.model_validate_json(carried.model_dump_json(by_alias=True))
    assert read == carried
    assert isinstance(read.drill, Drill)
    assert unpacked_sources(read.drill.rest or "") == (source,)
    assert json.loads(gzip.decompress(base64.b64decode(packed_sources([source])))) == [
        {
            "database": {"vmId": VM.path, "instance": "MSSQLSERVER", "name": "orders"},
            "itemId": item_id("orders").path,
            "serverName": "",
            "outcomeCount": 2,
        }
    ]
