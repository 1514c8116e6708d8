"""The steps from a protect request to its databases: the vault, the policy, the VM, and what is on it.

Follows https://learn.microsoft.com/azure/backup/backup-azure-sql-vm-rest-api.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from shared.arm.ids import ContainerId
from shared.arm.redaction import printable
from shared.azure_backup import bodies
from shared.azure_backup.listings import Listing
from shared.azure_backup.models import Container, Policy, ProtectableContainer, Vault
from shared.engine.message import StepMessage
from shared.engine.result import (
    Call,
    Collaborators,
    Continue,
    Failure,
    Later,
    Result,
    To,
)
from shared.messages.error_codes import ErrorCode
from shared.messages.events import Status
from shared.messages.requests import ProtectData
from shared.names import enumeration, same_name
from shared.steps import auto_protection
from shared.steps.candidates import candidates, registered_container
from shared.steps.fixed import fix, spread
from shared.steps.missing_databases import Trouble, parent_troubles
from shared.steps.payloads import ProtectPlan, ProtectTask
from shared.steps.policies import invalid_new_name, policy_named
from shared.steps.protect_selection import ProtectChoice, select_for_protection
from shared.steps.vaults import vault_not_found

#: How long after a VM's registration, which includes an inquiry, a pattern is matched without a new inquiry.
INQUIRY_IS_FRESH: Final = timedelta(hours=4)
#: The wait between looks at a vault that is being created.
_BETWEEN_LOOKS: Final = timedelta(seconds=30)


def ensure_vault(message: StepMessage[ProtectPlan], collaborators: Collaborators) -> Result:
    """Connect to the vault, or create it where the request says how."""
    plan = message.payload
    vault = collaborators.azure.get_vault(plan.data.vault_id)
    if vault is None:
        wanted = plan.data.create_vault
        if wanted is None:
            return vault_not_found(collaborators, plan.data.vault_id).end
        return Call(
            make=lambda azure, request_id: azure.create_vault(
                plan.data.vault_id,
                location=wanted.location,
                redundancy=wanted.redundancy,
                tags=wanted.tags,
                client_request_id=request_id,
            ),
            at_once=lambda made: _with_vault(message, collaborators, made),
        )
    return _with_vault(message, collaborators, vault)


def _with_vault(message: StepMessage[ProtectPlan], collaborators: Collaborators, vault: Vault) -> Result:
    vault_id = message.payload.data.vault_id
    if vault.has_failed:
        return Failure(
            ErrorCode.VAULT_NOT_PROVISIONED,
            f"vault {vault_id} is in state {vault.provisioning_state}: delete it or repair it, then"
            " send the request again.",
        ).end
    if not vault.is_provisioned:
        if collaborators.now() - message.since > collaborators.settings.operation_timeout:
            return Failure(
                ErrorCode.VAULT_NOT_PROVISIONED,
                f"vault {vault_id} was still in state {vault.provisioning_state} when the time was up.",
                Status.TIMED_OUT,
            ).end
        return Later(_BETWEEN_LOOKS)
    return Continue((To("select_policy", message.payload),))


def select_policy(message: StepMessage[ProtectPlan], collaborators: Collaborators) -> Result:
    """Select the policy by its name among the vault's policies for SQL Server in Azure VMs."""
    plan = message.payload
    policies = collaborators.azure.list_policies(plan.data.vault_id)
    wanted = plan.data.policy_name
    chosen = policy_named(wanted, policies)
    if isinstance(chosen, Failure):
        return chosen.end
    if chosen is None:
        if plan.data.create_policy is None:
            there = enumeration(
                printable(policy.name) for policy in policies if policy.cannot_protect is None
            )
            return Failure(
                ErrorCode.POLICY_NOT_FOUND,
                f"vault {plan.data.vault_id.name} has no SQL policy {wanted}; it has: {there}.",
            ).end
        if (invalid := invalid_new_name(wanted)) is not None:
            return invalid.end
        properties = bodies.policy(plan.data.create_policy, collaborators.now().date())
        return Call(
            make=lambda azure, request_id: azure.create_policy(
                plan.data.vault_id, wanted, properties, client_request_id=request_id
            ),
            at_once=lambda made: _with_policy(plan, made),
        )
    return _with_policy(plan, chosen)


def _with_policy(plan: ProtectPlan, chosen: Policy) -> Continue:
    known = plan.changed(policy_id=chosen.id, policy_name=chosen.name)
    return Continue((To("refresh_containers" if plan.data.vm_id is not None else "select_databases", known),))


def refresh_containers(message: StepMessage[ProtectPlan], collaborators: Collaborators) -> Result:
    """Have the service look for VMs, unless the VM is registered already."""
    plan = message.payload
    registered = _registered(message, collaborators)
    if isinstance(registered, Failure):
        return registered.end
    if registered is not None:
        return _registered_already(message, collaborators, registered)
    return Call(
        make=lambda azure, request_id: azure.refresh_containers(
            plan.data.vault_id, client_request_id=request_id
        )
    )


def _registered(
    message: StepMessage[ProtectPlan], collaborators: Collaborators
) -> Container | Failure | None:
    data = message.payload.data
    assert data.vm_id is not None
    return registered_container(collaborators.azure.list_registered_containers(data.vault_id), data.vm_id)


def _registered_already(
    message: StepMessage[ProtectPlan], collaborators: Collaborators, container: Container
) -> Result:
    plan = message.payload
    if container.is_of_deleted_vm:
        return Failure(
            ErrorCode.VIRTUAL_MACHINE_DELETED,
            f"the virtual machine {plan.data.vm_id} is registered to vault {plan.data.vault_id.name} but has"
            " been deleted: its databases can be restored, not protected.",
        ).end
    known = plan.changed(container_id=container.id.path)
    # Databases that are named may all be known; a pattern may mean one that was created since the last inquiry.
    # The service does not tell when the last inquiry was: recorded containers keep the date of their registration.
    patterns = any(selector.is_pattern for selector in plan.data.databases)
    registered_at = container.last_updated
    stale = registered_at is None or collaborators.now() - registered_at > INQUIRY_IS_FRESH
    step = "inquire_container" if patterns and stale else "select_databases"
    return Continue((To(step, known),))


def register_container(message: StepMessage[ProtectPlan], collaborators: Collaborators) -> Result:
    """Register the VM, selected by its full ARM id, with the name and properties that the list gives."""
    plan = message.payload
    vm_id = plan.data.vm_id
    assert vm_id is not None
    offered = collaborators.azure.list_protectable_containers(plan.data.vault_id)
    for container in offered:
        if container.virtual_machine_id == vm_id:
            return _register(plan, container)
    registered = _registered(message, collaborators)
    if isinstance(registered, Failure):
        return registered.end
    if registered is not None:
        return _registered_already(message, collaborators, registered)
    namesakes = [
        str(other.virtual_machine_id)
        for other in offered
        if other.virtual_machine_id is not None and same_name(other.virtual_machine_id.name, vm_id.name)
    ]
    if namesakes:
        there = f"it does offer of that name: {enumeration(namesakes)}"
    else:
        there = f"it offers: {enumeration(str(other.virtual_machine_id or other.name) for other in offered)}"
    return Failure(
        ErrorCode.VIRTUAL_MACHINE_NOT_FOUND,
        f"vault {plan.data.vault_id.name} does not offer the virtual machine {vm_id} for registration;"
        f" {there}. A VM is not offered where it does not exist, is in another region, or is registered to"
        " another vault.",
    ).end


def _register(plan: ProtectPlan, container: ProtectableContainer) -> Call:
    container_id = ContainerId(plan.data.vault_id, "Azure", container.name)
    return Call(
        make=lambda azure, request_id: azure.register_container(
            plan.data.vault_id, container, client_request_id=request_id
        ),
        payload=plan.changed(container_id=container_id.path),
    )


def inquire_container(message: StepMessage[ProtectPlan], _collaborators: Collaborators) -> Result:
    """Have the service look for SQL Server and its databases on the VM."""
    plan = message.payload
    assert plan.container_id is not None
    container_id = ContainerId.parse(plan.container_id)
    return Call(
        make=lambda azure, request_id: azure.inquire_container(container_id, client_request_id=request_id),
        payload=plan.changed(inquired=True),
    )


def select_databases(message: StepMessage[ProtectPlan], collaborators: Collaborators) -> Result:
    """Select the databases among those that are protectable or protected, and fan out."""
    plan = message.payload
    if plan.fixed is not None:
        return spread(message, collaborators, "enable_protection", ProtectTask)
    data = plan.data
    assert plan.policy_id is not None and plan.policy_name is not None
    container_id = ContainerId.parse(plan.container_id) if plan.container_id is not None else None
    trouble = (
        _inquiry_trouble(collaborators, container_id) if container_id is not None and plan.inquired else None
    )
    offered, others = collaborators.azure.list_protectable_items(data.vault_id)
    here = [
        item
        for item in offered
        if container_id is None or item.in_availability_group or item.container == container_id
    ]
    available = candidates(
        collaborators.azure.list_protected_items(data.vault_id),
        Listing(here, others),
        vm_id=data.vm_id,
        container=container_id,
    )
    chosen = select_for_protection(
        data,
        available,
        policy_name=plan.policy_name,
        trouble=trouble,
        parents=parent_troubles(here),
    )
    missed = chosen.missed
    if data.auto_protect:
        before = len(chosen.failures)
        auto_protection.add_instances(data, here, chosen, policy_name=plan.policy_name)
        missed += len(chosen.failures) - before
    if container_id is not None and not plan.inquired and missed:
        # A database may have been created or repaired since the last inquiry.
        return Continue((To("inquire_container", plan),))
    tasks = [_task(choice, data, plan.policy_id, chosen.outcome_count) for choice in chosen.tasks]
    return fix(message, chosen, tasks)


def _task(choice: ProtectChoice, data: ProtectData, policy_id: str, outcome_count: int) -> ProtectTask:
    protected = choice.candidate.protected
    return ProtectTask(
        database=choice.candidate.database,
        item_id=_item_id(choice),
        server_name=choice.candidate.server_name,
        policy_id=policy_id,
        policy_name=choice.policy_name,
        action=choice.action,
        protection_state=protected.protection_state if protected is not None else None,
        on_existing=data.on_existing,
        outcome_count=outcome_count,
        first_backup=data.first_backup,
    )


def _item_id(choice: ProtectChoice) -> str:
    offered = choice.candidate.protectable
    return offered.id if choice.action == "autoProtect" and offered is not None else choice.item.path


def _inquiry_trouble(collaborators: Collaborators, container_id: ContainerId) -> Trouble | None:
    """The problem that the last inquiry of the VM reported; None where it found SQL Server without trouble."""
    container = collaborators.azure.get_container(container_id)
    inquiry = container.inquiry if container is not None else None
    failure = inquiry.failure if inquiry is not None else None
    if failure is None:
        return None
    text = f"The inquiry of the VM ended with {failure.code}: {failure.message}"
    return Trouble(failure.code, text)
