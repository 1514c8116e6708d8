"""On-demand backups of one or many protected databases.

Follows https://learn.microsoft.com/azure/backup/backup-azure-sql-vm-rest-api#trigger-an-on-demand-backup-for-the-database.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from shared.arm.ids import ProtectedItemId
from shared.messages.events import Status
from shared.messages.requests import BackupData, BackupType
from shared.messages.steps import BackupPlan, BackupTask, StepMessage
from shared.workflow import selection
from shared.workflow.effects import (
    Adopted,
    NotStarted,
    Undecided,
    before_replay,
    next_effect,
    settle,
    unknown,
    wait_for_running,
)
from shared.workflow.flow import follow, follow_job, go_on, selected
from shared.workflow.step import Collaborators, FanOut, LateError, Next, Result, WorkflowError
from shared.workflow.vaults import protected_items

#: What Azure's own command fills in where a request names no retention.
DEFAULT_RETENTION: Final = {
    BackupType.FULL: timedelta(days=45),
    BackupType.COPY_ONLY_FULL: timedelta(days=30),
}


def select_items(message: StepMessage[BackupPlan], c: Collaborators) -> Result:
    """Select the protected databases that the request means, and fan out."""
    data = message.payload.data
    vault_id = data.vault_id
    protected = c.items.get(
        vault_id.key,
        asked=message.since,
        interval=c.settings.track_interval,
        now=c.now,
        load=lambda: protected_items(c, vault_id),
    )
    available = selection.candidates(protected, (), vm_id=data.vm_id, container=None)
    if data.backup_type is BackupType.LOG:
        available = [_with_recovery_model(candidate, data, c) for candidate in available]
    chosen = selection.select_for_backup(
        data, available, hint=selection.machines_instead(protected, data.vm_id)
    )
    at = c.now()

    def task(number: int, choice: selection.BackupChoice) -> Next:
        return go_on(
            message,
            "trigger_backup",
            BackupTask(
                database=choice.candidate.database,
                item_id=choice.item.id.path,
                server_name=choice.item.server_name,
                policy_name=choice.item.policy_name,
                backup_type=data.backup_type,
                retain_for=data.retain_for,
                retain_until=data.retain_until,
                compression=data.compression,
                if_running=data.if_running,
                by_pattern=choice.by_pattern,
                outcome_count=chosen.outcome_count,
            ),
            at,
            number=number,
        )

    return selected(message, chosen, FanOut(chosen.tasks, task), at)


def _with_recovery_model(
    candidate: selection.Candidate, data: BackupData, c: Collaborators
) -> selection.Candidate:
    """The candidate with its recovery model, which listings leave out, where a pattern means it.

    A database that a pattern means and that has no log backups is skipped, not failed. Where the read
    budget is short the service is left to refuse it.
    """
    item = candidate.protected
    database = candidate.database
    parts = (database.parent, database.name, database.availability_group is not None)
    by_pattern = any(selector.is_pattern and selector.matches(*parts) for selector in data.databases)
    if item is None or item.recovery_model is not None or not by_pattern or not c.may_read_more():
        return candidate
    return replace(candidate, protected=c.backup.get_protected_item(item.id) or item)


def expiry(task: BackupTask, at: datetime) -> datetime | None:
    """Until when the recovery point is kept; None where the policy decides."""
    if task.retain_until is not None:
        return task.retain_until
    keep = task.retain_for if task.retain_for is not None else DEFAULT_RETENTION.get(task.backup_type)
    return (at + keep).replace(microsecond=0) if keep is not None else None


def trigger_backup(message: StepMessage[BackupTask], c: Collaborators) -> Result:
    """Trigger the backup of one database, once."""
    task = message.payload
    if message.effect.may_have_started:
        settled = settle(message, c, operation="Backup", database=task.database.name, server=task.server_name)
        if isinstance(settled, Adopted):
            return follow_job(message, c, settled.job.id)
        if isinstance(settled, NotStarted):
            raise next_effect(
                message,
                waiting=message.effect.waiting,
                code="BackupNotStarted",
                why=f"The backup of {task.database} was not started: the service took none of the requests.",
            )
        raise unknown("backup", task.database, settled)
    before = before_replay(
        message, c, operation="Backup", database=task.database.name, server=task.server_name
    )
    if isinstance(before, Adopted):
        return follow_job(message, c, before.job.id)
    if isinstance(before, Undecided):
        raise unknown("backup", task.database, before)
    if message.effect.waiting:
        wait_for_running(message, c, database=task.database.name, server=task.server_name)
    until = expiry(task, c.now())
    if task.retain_until is not None and task.retain_until <= c.now():
        raise WorkflowError(
            "RetentionInThePast",
            f"retainUntil {task.retain_until:%Y-%m-%dT%H:%M:%SZ} has passed;"
            " expected a moment in the future.",
            status=Status.REJECTED,
        )
    if c.late():
        raise LateError
    started = c.backup.trigger_backup(
        ProtectedItemId.parse(task.item_id),
        backup_type=task.backup_type.value,
        compression=task.compression,
        expiry=until,
        client_request_id=message.client_request_id,
    )
    kept = message.model_copy(update={"payload": task.model_copy(update={"retain_until": until})})
    return follow(kept, c, started)
