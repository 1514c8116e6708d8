"""The step that protects one database, and what follows once its job has ended.

Follows https://learn.microsoft.com/azure/backup/backup-azure-sql-vm-rest-api.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.arm.ids import ProtectedItemId
from shared.engine.expected_job import MOST_PUTS
from shared.engine.message import StepMessage
from shared.engine.result import Call, Collaborators, Continue, End, Failure, Result, To
from shared.messages.events import SUCCESSES, OutcomeDetails, Status
from shared.messages.requests import BackupType
from shared.steps import auto_protection
from shared.steps.candidates import is_protected
from shared.steps.payloads import BackupTask, ProtectTask
from shared.steps.protect_selection import policy_kept

if TYPE_CHECKING:
    from shared.azure_backup.models import Job


def enable_protection(message: StepMessage[ProtectTask], collaborators: Collaborators) -> Result:
    """Protect one database by the policy, unless it is protected so already."""
    task = message.payload
    if task.action == "already":
        return _already(task.policy_name, task.protection_state)
    if task.action == "autoProtect":
        return auto_protection.auto_protect(message, collaborators)
    if message.effect.waiting or task.look_at_item:
        # The operation that was waited for may have been another request for the same, or for another policy.
        done = protected_already(message, collaborators)
        if done is not None:
            return done
    item = ProtectedItemId.parse(task.item_id)
    if task.action == "undelete":
        return Call(make=lambda azure, request_id: azure.undelete(item, client_request_id=request_id))
    return Call(
        make=lambda azure, request_id: azure.enable_protection(
            item, task.policy_id, client_request_id=request_id
        )
    )


def protected_already(message: StepMessage[ProtectTask], collaborators: Collaborators) -> End | None:
    """The end where the database turns out to be protected already; None where it is not."""
    task = message.payload
    current = collaborators.azure.get_protected_item(ProtectedItemId.parse(task.item_id))
    if current is None or not is_protected(current):
        return None
    kept = policy_kept(task.database, current, policy_name=task.policy_name, on_existing=task.on_existing)
    if isinstance(kept, Failure):
        return kept.end
    return _already(kept, current.protection_state) if kept is not None else None


def happened(message: StepMessage[ProtectTask], collaborators: Collaborators) -> Result | None:
    """What follows where the item itself shows that the call took effect; None where it does not."""
    if message.payload.action == "undelete":
        return None
    if message.payload.action == "autoProtect":
        return auto_protection.auto_protected(message, collaborators)
    done = protected_already(message, collaborators)
    if done is None or done.error is not None:
        return done
    return _first_backup(message.payload) or done


def _first_backup(task: ProtectTask) -> Continue | None:
    """The first backup, where the request asks for one and the database was not protected before."""
    if task.first_backup != "now" or task.action != "enable":
        return None
    first = BackupTask(
        database=task.database,
        item_id=task.item_id,
        server_name=task.server_name,
        policy_name=task.policy_name,
        backup_type=BackupType.FULL,
        outcome_count=task.outcome_count,
    )
    return Continue((To("trigger_backup", first),))


def _already(policy_name: str, protection_state: str | None) -> End:
    return End(
        Status.SUCCEEDED,
        details=OutcomeDetails(policy_name=policy_name, protection_state=protection_state),
    )


def attempts(message: StepMessage[ProtectTask], collaborators: Collaborators) -> int:
    """How often protection may be enabled: repeats end in the same state, so only time bounds it."""
    if collaborators.now() - message.since < collaborators.settings.operation_timeout:
        return MOST_PUTS
    return message.effect.n - 1 if message.effect.waiting else message.effect.n


def after_protection(message: StepMessage[ProtectTask], _job: Job, end: End) -> Continue | End:
    """What follows once a database's job has ended: the resume of an undeleted one, a first backup."""
    task = message.payload
    if end.status not in SUCCESSES:
        return end.with_details(policy_name=task.policy_name)
    if task.action == "undelete":
        resumed = task.changed(action="resume")
        return Continue((To("enable_protection", resumed),))
    first = _first_backup(task)
    if first is not None:
        return first
    state = task.protection_state if task.action == "changePolicy" else "IRPending"
    return end.with_details(policy_name=task.policy_name, protection_state=state)
