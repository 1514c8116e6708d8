"""The step `find_vaults`: from a request to its vaults, and to the VMs that no vault knows."""

from __future__ import annotations

from collections.abc import Iterable

from shared.arm.errors import ArmStatusError
from shared.arm.ids import VaultId, VirtualMachineId
from shared.clock import ServiceTime
from shared.coverage.estate import not_registered
from shared.coverage.gaps import gap_of
from shared.coverage.survey_events import gap_event
from shared.engine import outcomes
from shared.engine.message import StepMessage
from shared.engine.result import Collaborators, Continue, End, Failure, Result, To
from shared.messages.error_codes import ErrorCode
from shared.messages.events import ErrorInfo, Event, Status
from shared.steps.due import is_still_wanted
from shared.steps.payloads import CoveragePlan, VaultTask


def find_vaults(message: StepMessage[CoveragePlan], collaborators: Collaborators) -> Result:
    """Find the vaults that the request means, and send one message for each."""
    plan = message.payload
    if plan.vaults is not None:
        return _spread(message, plan.vaults, collaborators)
    wanted = is_still_wanted(message, collaborators, collaborators.settings.coverage_schedules)
    if isinstance(wanted, Failure):
        return wanted.end
    if not wanted:
        return Continue()
    vaults: dict[str, VaultId] = {vault.key: vault for vault in plan.data.vault_ids}
    machines: list[VirtualMachineId] = []
    for subscription in dict.fromkeys(text.lower() for text in plan.data.subscription_ids):
        listed, _ = collaborators.azure.list_vaults(subscription)
        vaults |= {vault.id.key: vault.id for vault in listed}
        machines += _unknown_machines(subscription, [vault.id for vault in listed], collaborators)
    count = max(1, len(vaults))
    with_vaults = plan.changed(vaults=tuple(vault.path for vault in vaults.values()), outcome_count=count)
    at = collaborators.now()
    # Published at once, since one message may not hold all VMs of a subscription.
    gaps = [_machine_event(message, machine, at, count) for machine in dict.fromkeys(machines)]
    return Continue((To("find_vaults", with_vaults),), tuple(gaps))


def _unknown_machines(
    subscription: str, vaults: Iterable[VaultId], collaborators: Collaborators
) -> list[VirtualMachineId]:
    """The VMs with SQL Server of a subscription that none of its vaults knows.

    Empty where a vault cannot be read, since it may know them; that vault's survey reports it.
    """
    machines = collaborators.azure.list_sql_virtual_machines(subscription).usable
    if not machines:
        return []
    known = set()
    for vault in vaults:
        try:
            usable, unusable = collaborators.azure.list_registered_containers(vault)
        except ArmStatusError as error:
            if error.status == 404:
                continue
            if error.status in (401, 403):
                return []
            raise
        known |= {container.virtual_machine_id for container in usable}
        known |= {container.virtual_machine_id for container in unusable}
    return [machine for machine in machines if machine not in known]


def _spread(
    message: StepMessage[CoveragePlan], vaults: tuple[str, ...], collaborators: Collaborators
) -> Continue:
    """Publish `accepted`, and send a message for each vault of a request."""
    plan = message.payload
    at = collaborators.now()
    accepted = outcomes.accepted(message, at=at, skipped={}, names=())
    published = []
    if not vaults:
        nothing = ErrorInfo(
            code=ErrorCode.NOTHING_TO_DO, message="the request's subscriptions have no vault."
        )
        end = End(Status.SKIPPED, nothing)
        published.append(outcomes.outcome_beside_acceptance(message, end, at=at))
    to = [
        To(
            "survey_vault",
            VaultTask(vault_id=vault, outcome_count=plan.outcome_count, data=plan.data),
            request=message.request.changed(vault_id=vault),
        )
        for vault in map(VaultId.parse, vaults)
    ]
    return Continue(to, tuple(published), accepted)


def _machine_event(
    message: StepMessage[CoveragePlan], machine: VirtualMachineId, at: ServiceTime, outcome_count: int
) -> Event:
    return gap_event(
        message.request,
        gap_of(not_registered(machine), at),
        None,
        at,
        outcome_count=outcome_count,
        outcome_key="request",
    )
