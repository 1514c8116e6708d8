"""Protecting databases: from the vault to the protected item, a step at a time.

Follows https://learn.microsoft.com/azure/backup/backup-azure-sql-vm-rest-api.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from shared.arm.ids import ContainerId, ProtectedItemId
from shared.azure_backup.models import Container, Policy, Vault
from shared.messages.events import Status
from shared.messages.requests import BackupType
from shared.messages.steps import BackupTask, ProtectPlan, ProtectTask, StepMessage
from shared.workflow import selection
from shared.workflow.effects import MOST_PUTS, Adopted, NotStarted, next_effect, settle
from shared.workflow.flow import ended, follow, follow_job, go_on, selected
from shared.workflow.step import AgainError, Collaborators, FanOut, LateError, Next, Result, WorkflowError
from shared.workflow.vaults import vault_not_found

#: For so long after a VM was registered, and inquired with that, a pattern means the databases that were found.
INQUIRY_IS_FRESH: Final = timedelta(hours=4)


def ensure_vault(message: StepMessage[ProtectPlan], c: Collaborators) -> Result:
    """Connect to the vault, or create it where the request says how."""
    plan = message.payload
    vault = c.backup.get_vault(plan.data.vault_id)
    if vault is None:
        wanted = plan.data.create_vault
        if wanted is None:
            raise vault_not_found(c, plan.data.vault_id)
        if c.late():
            raise LateError
        made = c.backup.create_vault(
            plan.data.vault_id,
            location=wanted.location,
            redundancy=wanted.redundancy,
            tags=wanted.tags,
            client_request_id=message.client_request_id,
        )
        if not isinstance(made, Vault):
            return follow(message, c, made)
        vault = made
    if vault.has_failed:
        raise WorkflowError(
            "VaultNotProvisioned",
            f"vault {plan.data.vault_id} is in state {vault.provisioning_state}: delete it or repair it, then"
            " send the request again.",
        )
    if not vault.is_provisioned:
        if c.now() - message.since > c.settings.operation_timeout:
            raise WorkflowError(
                "VaultNotProvisioned",
                f"vault {plan.data.vault_id} was still in state {vault.provisioning_state} when the time was up.",
                status=Status.TIMED_OUT,
            )
        raise AgainError(c.settings.track_interval)
    return Result(next=(go_on(message, "select_policy", plan, c.now()),))


def select_policy(message: StepMessage[ProtectPlan], c: Collaborators) -> Result:
    """Select the policy by its name among the vault's policies for SQL Server in Azure VMs."""
    plan = message.payload
    policies = c.backup.list_policies(plan.data.vault_id)
    wanted = plan.data.policy_name
    chosen = next((policy for policy in policies if policy.name.casefold() == wanted.casefold()), None)
    if chosen is None:
        if plan.data.create_policy is None:
            there = selection.listing(policy.name for policy in policies)
            raise WorkflowError(
                "PolicyNotFound",
                f"vault {plan.data.vault_id.name} has no SQL policy {wanted}; it has: {there}.",
            )
        if c.late():
            raise LateError
        made = c.backup.create_policy(
            plan.data.vault_id,
            wanted,
            plan.data.create_policy.properties(f"{c.now():%Y-%m-%d}"),
            client_request_id=message.client_request_id,
        )
        if not isinstance(made, Policy):
            return follow(message, c, made)
        chosen = made
    known = plan.model_copy(update={"policy_id": chosen.id, "policy_name": chosen.name})
    step = "refresh_containers" if plan.data.vm_id is not None else "select_databases"
    return Result(next=(go_on(message, step, known, c.now()),))


def refresh_containers(message: StepMessage[ProtectPlan], c: Collaborators) -> Result:
    """Have the service look for VMs, unless the VM is registered already."""
    plan = message.payload
    registered = _registered(message, c)
    if registered is not None:
        return _registered_already(message, c, registered)
    if c.late():
        raise LateError
    return follow(
        message,
        c,
        c.backup.refresh_containers(plan.data.vault_id, client_request_id=message.client_request_id),
    )


def _registered(message: StepMessage[ProtectPlan], c: Collaborators) -> Container | None:
    data = message.payload.data
    for container in c.backup.list_registered_containers(data.vault_id):
        if container.virtual_machine_id == data.vm_id:
            return container
    return None


def _registered_already(message: StepMessage[ProtectPlan], c: Collaborators, container: Container) -> Result:
    plan = message.payload
    if container.health_status.lower() == "deleted":
        raise WorkflowError(
            "VirtualMachineDeleted",
            f"the virtual machine {plan.data.vm_id} is registered to vault {plan.data.vault_id.name} but has"
            " been deleted: its databases can be restored, not protected.",
        )
    known = plan.model_copy(update={"container_id": container.id.path})
    # Databases named outright may all be known; a pattern may mean one that was made since the last inquiry.
    # The service does not tell when that was: recorded containers keep the date of their registration.
    patterns = any(selector.is_pattern for selector in plan.data.databases)
    registered_at = container.last_updated
    stale = registered_at is None or c.now() - registered_at > INQUIRY_IS_FRESH
    step = "inquire_container" if patterns and stale else "select_databases"
    return Result(next=(go_on(message, step, known, c.now()),))


def register_container(message: StepMessage[ProtectPlan], c: Collaborators) -> Result:
    """Register the VM, selected by its full ARM id, with the name and properties that the list gives."""
    plan = message.payload
    vm_id = plan.data.vm_id
    assert vm_id is not None
    offered = c.backup.list_protectable_containers(plan.data.vault_id)
    for container in offered:
        if container.virtual_machine_id == vm_id:
            if c.late():
                raise LateError
            started = c.backup.register_container(
                plan.data.vault_id, container, client_request_id=message.client_request_id
            )
            container_id = ContainerId(plan.data.vault_id, "Azure", container.name)
            named = plan.model_copy(update={"container_id": container_id.path})
            return follow(message.model_copy(update={"payload": named}), c, started)
    registered = _registered(message, c)
    if registered is not None:
        return _registered_already(message, c, registered)
    namesakes = [
        str(other.virtual_machine_id)
        for other in offered
        if other.virtual_machine_id is not None
        and other.virtual_machine_id.name.lower() == vm_id.name.lower()
    ]
    if namesakes:
        there = f"it does offer of that name: {selection.listing(namesakes)}"
    else:
        there = f"it offers: {selection.listing(str(other.virtual_machine_id) for other in offered)}"
    raise WorkflowError(
        "VirtualMachineNotFound",
        f"vault {plan.data.vault_id.name} does not offer the virtual machine {vm_id} for registration;"
        f" {there}. A VM is not offered where it does not exist, is in another region, or is registered to"
        " another vault.",
    )


def inquire_container(message: StepMessage[ProtectPlan], c: Collaborators) -> Result:
    """Have the service look for SQL Server and its databases on the VM."""
    plan = message.payload
    assert plan.container_id is not None
    if c.late():
        raise LateError
    started = c.backup.inquire_container(
        ContainerId.parse(plan.container_id), client_request_id=message.client_request_id
    )
    inquired = plan.model_copy(update={"inquired": True})
    return follow(message.model_copy(update={"payload": inquired}), c, started)


def select_databases(message: StepMessage[ProtectPlan], c: Collaborators) -> Result:
    """Select the databases among those that are protectable or protected, and fan out."""
    plan = message.payload
    data = plan.data
    assert plan.policy_id is not None and plan.policy_name is not None
    container_id = ContainerId.parse(plan.container_id) if plan.container_id is not None else None
    trouble = _inquiry_trouble(c, container_id) if container_id is not None and plan.inquired else None
    protectable = [
        item
        for item in c.backup.list_protectable_items(data.vault_id)
        if container_id is None or item.in_availability_group or item.container == container_id
    ]
    available = selection.candidates(
        c.backup.list_protected_items(data.vault_id),
        protectable,
        vm_id=data.vm_id,
        container=container_id,
    )
    chosen = selection.select_for_protection(
        data,
        available,
        policy_name=plan.policy_name,
        trouble=trouble,
        parents=selection.parent_troubles(protectable),
    )
    if container_id is not None and not plan.inquired and chosen.missed:
        # It may have been made, or mended, since the last inquiry.
        return Result(next=(go_on(message, "inquire_container", plan, c.now()),))
    at = c.now()
    count = chosen.outcome_count
    policy_id = plan.policy_id

    def task(number: int, choice: selection.ProtectChoice) -> Next:
        return go_on(
            message,
            "enable_protection",
            ProtectTask(
                database=choice.candidate.database,
                item_id=choice.item.path,
                policy_id=policy_id,
                policy_name=choice.policy_name,
                action=choice.action,
                protection_state=(
                    choice.candidate.protected.protection_state if choice.candidate.protected else None
                ),
                on_existing=data.on_existing,
                outcome_count=count,
                first_backup=data.first_backup,
            ),
            at,
            number=number,
        )

    return selected(message, chosen, FanOut(chosen.tasks, task), at)


def _inquiry_trouble(c: Collaborators, container_id: ContainerId) -> selection.Trouble | None:
    """What the last inquiry of the VM complained of; None where it found SQL Server without trouble."""
    container = c.backup.get_container(container_id)
    inquiry = container.inquiry if container is not None else None
    failure = inquiry.failure if inquiry is not None else None
    if failure is None:
        return None
    text = f"The inquiry of the VM ended with {failure.code}: {failure.message}"
    return selection.Trouble(failure.code, text)


def enable_protection(message: StepMessage[ProtectTask], c: Collaborators) -> Result:
    """Protect one database by the policy, unless it is protected so already."""
    task = message.payload
    if task.action == "already":
        return _already(message, c, task.policy_name, task.protection_state)
    item = ProtectedItemId.parse(task.item_id)
    if message.effect.may_have_started:
        settled = settle(
            message,
            c,
            operation="Undelete" if task.action == "undelete" else "ConfigureBackup",
            database=task.database.name,
            server="",
        )
        if isinstance(settled, Adopted):
            return follow_job(message, c, settled.job.id)
        # Enabling protection is idempotent: sent again, it ends in the same state, so an outage is waited out.
        in_time = c.now() - message.since < c.settings.operation_timeout
        raise next_effect(
            message,
            waiting=False,
            code="outcome_unknown",
            why=f"No job shows that the service took the request to protect {task.database}.",
            status=Status.FAILED if isinstance(settled, NotStarted) else Status.UNKNOWN,
            most=MOST_PUTS if in_time else message.effect.n,
        )
    if message.effect.waiting:
        # What the app waited for may have been another request for the same, or for another policy.
        found = c.backup.get_protected_item(item)
        if found is not None and selection.is_protected(found):
            kept = selection.policy_kept(
                task.database, found, policy_name=task.policy_name, on_existing=task.on_existing
            )
            if kept is not None:
                return _already(message, c, kept, found.protection_state)
    if c.late():
        raise LateError
    if task.action == "undelete":
        started = c.backup.undelete(item, client_request_id=message.client_request_id)
    else:
        started = c.backup.enable_protection(
            item, task.policy_id, client_request_id=message.client_request_id
        )
    return follow(message, c, started)


def _already(
    message: StepMessage[ProtectTask], c: Collaborators, policy_name: str, protection_state: str | None
) -> Result:
    done = ended(
        message,
        Status.SUCCEEDED,
        at=c.now(),
        policy_name=policy_name,
        protection_state=protection_state,
    )
    return Result(events=(done,))


def after_protection(message: StepMessage[ProtectTask], c: Collaborators) -> Next | None:
    """What follows once a database's job has completed: the resume of an undeleted one, a first backup."""
    task = message.payload
    if task.action == "undelete":
        return go_on(message, "enable_protection", task.model_copy(update={"action": "resume"}), c.now())
    if task.first_backup == "now" and task.action == "enable":
        first = BackupTask(
            database=task.database,
            item_id=task.item_id,
            policy_name=task.policy_name,
            backup_type=BackupType.FULL,
            outcome_count=task.outcome_count,
        )
        return go_on(message, "trigger_backup", first, c.now())
    return None
