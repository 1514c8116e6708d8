"""The vaults of a request, and the VMs of its subscriptions that none of them knows."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from shared.arm.errors import ArmStatusError
from shared.arm.ids import VaultId, VirtualMachineId
from shared.azure_backup.listings import Listing
from shared.coverage.find_vaults import find_vaults
from shared.engine.message import StepMessage
from shared.engine.result import Collaborators, Continue
from shared.messages.identity import REQUESTED, Request
from shared.messages.requests import CoverageData, Operation
from shared.steps.payloads import CoveragePlan
from tests.unit.coverage.estate import NOW, container
from tests.unit.examples import SUBSCRIPTION, VAULT, VM

OTHER = VaultId(SUBSCRIPTION, "rg-backup", "vault2")
#: so many, and with names so long, as a subscription may have
STRAYS = [VirtualMachineId(SUBSCRIPTION, "rg-" + "x" * 80, f"stray{number:04}") for number in range(1500)]


def found(registered: Callable[[VaultId], Listing[Any]]) -> Continue:
    azure = SimpleNamespace(
        list_vaults=lambda _: Listing([SimpleNamespace(id=VAULT), SimpleNamespace(id=OTHER)], []),
        list_sql_virtual_machines=lambda _: Listing([VM, *STRAYS], []),
        list_registered_containers=registered,
    )
    request = Request(operation=Operation.COVERAGE, source="/tests", id="one")
    data = CoverageData.model_validate({"subscriptionIds": [SUBSCRIPTION]})
    message = StepMessage[CoveragePlan](
        step="find_vaults",
        sender=REQUESTED,
        at=NOW,
        since=NOW,
        request=request,
        payload=CoveragePlan(data=data),
    )
    c = SimpleNamespace(azure=azure, now=lambda: NOW, settings=SimpleNamespace(coverage_schedules=()))
    result = find_vaults(message, cast("Collaborators", c))
    assert isinstance(result, Continue)
    return result


def knows_one(_vault: VaultId) -> Listing[Any]:
    return Listing([container()], [])


def test_as_many_machines_as_a_subscription_has_are_told_each_once() -> None:
    result = found(knows_one)
    assert len({event.id for event in result.events}) == len(STRAYS)
    (to,) = result.to
    payload = to.payload
    assert isinstance(payload, CoveragePlan)
    assert payload.vaults == (VAULT.path, OTHER.path)
    assert payload.outcome_count == 2
    # What goes on to the vaults is no larger for the machines.
    assert len(payload.model_dump_json()) < 2000


@pytest.mark.parametrize(("status", "told"), [(403, 0), (404, len(STRAYS))])
def test_a_vault_that_cannot_be_read_keeps_no_other_from_its_survey(status: int, told: int) -> None:
    def registered(vault: VaultId) -> Listing[Any]:
        if vault == OTHER:
            raise ArmStatusError(
                status=status,
                code="Refused",
                message="no",
                retry_after=None,
                operation="read",
                method="GET",
                path="/",
                client_request_id=None,
            )
        return knows_one(vault)

    result = found(registered)
    assert len(result.to) == 1
    # One that may not be read may know any of them; one that is gone knows none.
    assert len(result.events) == told
