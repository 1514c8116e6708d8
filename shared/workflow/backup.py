"""On-demand backups of one or many protected databases.

Follows https://learn.microsoft.com/azure/backup/backup-azure-sql-vm-rest-api#trigger-an-on-demand-backup-for-the-database.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from shared.arm.ids import ProtectedItemId
from shared.messages.events import Status
from shared.messages.requests import BackupData, BackupType
from shared.messages.steps import BackupPlan, BackupTask, StepMessage
from shared.workflow import selection
from shared.workflow.effects import (
    BETWEEN_LOOKS,
    Adopted,
    NotStarted,
    Undecided,
    before_replay,
    is_about,
    next_effect,
    settle,
)
from shared.workflow.flow import follow, follow_job, go_on, selected
from shared.workflow.step import AgainError, Collaborators, FanOut, LateError, Next, Result, WorkflowError
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


def unknown(what: str, database: object, settled: Undecided) -> WorkflowError:
    """The honest answer where an effect may or may not have happened."""
    found = "no job" if not settled.candidates else f"{settled.candidates} jobs"
    proof = "" if settled.echoes else ", and the vault is not known to echo client request ids"
    return WorkflowError(
        "outcome_unknown",
        f"the answer to the {what} request of {database} was lost; the vault lists {found} that may be its"
        f" own{proof}. Look at the vault's jobs before asking again.",
        status=Status.UNKNOWN,
    )


def wait_for_running(message: StepMessage[Any], c: Collaborators, *, database: str, server: str) -> None:
    """Raise AgainError while another operation runs on the database; WorkflowError when the time is up."""
    vault_id = message.request.vault_id
    assert vault_id is not None
    # A job that still runs may have begun days ago.
    jobs = c.backup.list_jobs(vault_id, start=message.since - timedelta(days=7), status="InProgress")
    running = [
        job
        for job in jobs
        if any(
            is_about(job, operation, database=database, server=server)
            for operation in ("Backup", "Restore", "ConfigureBackup", "DisableBackup", "DeleteBackupData")
        )
    ]
    if not running:
        return
    limit = message.request.job_timeout or c.settings.job_timeout
    if c.now() - message.since > limit:
        raise WorkflowError(
            "ConflictingOperation",
            f"job {running[0].id} ({running[0].operation}) was still running on {database} when the time"
            " was up.",
            status=Status.TIMED_OUT,
        )
    raise AgainError(BETWEEN_LOOKS)
