"""What the messages to the steps are about: their parts, and what is said of each."""

from __future__ import annotations

from shared.messages.requests import CoverageData
from shared.steps.payloads import CoveragePlan, Plan, ProtectPlan, VaultTask
from tests.unit.examples import CONTAINER, VAULT, VM
from tests.unit.steps.choices import protect


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
