"""On-demand backups of one or many protected databases.

Follows https://learn.microsoft.com/azure/backup/backup-azure-sql-vm-rest-api#trigger-an-on-demand-backup-for-the-database.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from shared.arm.budget import PROTECTED_ITEM_READS, RECOVERY_POINT_READS
from shared.arm.errors import ArmError
from shared.arm.ids import ProtectedItemId
from shared.clock import ServiceTime
from shared.engine.expected_job import MOST_POSTS
from shared.engine.message import StepMessage
from shared.engine.result import Call, Collaborators, Continue, End, Failure, Result, refused
from shared.engine.telemetry import log_context
from shared.messages.error_codes import ErrorCode
from shared.messages.events import ErrorInfo, OutcomeDetails, RestorableInfo, Status
from shared.messages.requests import BackupData, BackupType, Operation, RecoveryPointChoice
from shared.steps.backup_selection import select_for_backup
from shared.steps.candidates import Candidate, candidates
from shared.steps.due import is_still_wanted
from shared.steps.fixed import fix, spread
from shared.steps.matching import match
from shared.steps.missing_databases import machines_instead
from shared.steps.payloads import BackupPlan, BackupTask, ChosenRecoveryPoint
from shared.steps.recovery_points import LOG_RECOVERY_POINT, choose_recovery_point, newest_first
from shared.steps.vaults import recent_items
from shared.telemetry.log import logger

if TYPE_CHECKING:
    from shared.azure_backup.listings import Listing
    from shared.azure_backup.models import Job, ProtectedItem

_log: Final = logger(__name__)

#: The most databases matched by patterns that are looked at one by one.
MOST_GATED: Final = 100
#: The most databases in a request whose outcomes name their recovery points.
MOST_NAMED: Final = 20
_CLOCKS_DIFFER: Final = timedelta(seconds=5)
#: The retention that Azure's own command uses by default.
DEFAULT_RETENTION: Final = {
    BackupType.FULL: timedelta(days=45),
    BackupType.COPY_ONLY_FULL: timedelta(days=30),
}


def select_items(message: StepMessage[BackupPlan], collaborators: Collaborators) -> Result:
    """Select the protected databases that the request means, and fan out."""
    if message.payload.fixed is not None:
        return spread(message, collaborators, "trigger_backup", BackupTask)
    wanted = is_still_wanted(message, collaborators, collaborators.settings.schedules)
    if isinstance(wanted, Failure):
        return wanted.end
    if not wanted:
        return Continue()
    data = message.payload.data
    vault_id = data.vault_id
    protected = recent_items(
        message, collaborators, vault_id, enough=lambda known: _are_all_named(data, _available(data, known))
    )
    if isinstance(protected, Failure):
        return protected.end
    available = _available(data, protected)
    if data.backup_type is BackupType.LOG:
        available = _with_recovery_models(available, data, collaborators)
    chosen = select_for_backup(data, available, hint=machines_instead(protected, data.vm_id))
    gated = sum(choice.by_pattern for choice in chosen.tasks)
    if data.unless_newer_than is not None and gated > MOST_GATED:
        return refused(
            ErrorCode.TOO_MANY_DATABASES,
            f"unlessNewerThan: the request's patterns mean {gated} databases; at most {MOST_GATED} are looked at one by"
            " one. Name fewer, or leave it out.",
        ).end
    # One at a time: thousands of them need not be in memory together.
    tasks = (
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
            unless_newer_than=data.unless_newer_than,
            by_pattern=choice.by_pattern,
            outcome_count=chosen.outcome_count,
        )
        for choice in chosen.tasks
    )
    return fix(message, chosen, tasks)


def _available(data: BackupData, protected: Listing[ProtectedItem]) -> list[Candidate]:
    return candidates(protected, vm_id=data.vm_id)


def _are_all_named(data: BackupData, available: list[Candidate]) -> bool:
    """Whether the request spells out its databases, and each can be backed up."""
    if any(selector.is_pattern for selector in data.databases):
        return False
    return not select_for_backup(data, available).failures


def _with_recovery_models(
    available: list[Candidate], data: BackupData, collaborators: Collaborators
) -> list[Candidate]:
    """The candidates; those that a pattern means have their recovery models, which listings leave out.

    A database that a pattern means and that allows no log backups is skipped instead of failing. Where the read budget
    is short, the service is left to refuse it.
    """
    meaning = match(
        available, databases=data.databases, exclude=data.exclude, include_system=data.include_system
    )
    by_pattern = {id(meant.candidate) for meant in meaning.matches if meant.by_pattern}
    return [
        _with_recovery_model(candidate, collaborators) if id(candidate) in by_pattern else candidate
        for candidate in available
    ]


def _with_recovery_model(candidate: Candidate, collaborators: Collaborators) -> Candidate:
    item = candidate.protected
    if (
        item is None
        or item.recovery_model is not None
        or not collaborators.may_read_more(PROTECTED_ITEM_READS)
    ):
        return candidate
    return replace(candidate, protected=collaborators.azure.get_protected_item(item.id) or item)


def expiry(task: BackupTask, at: ServiceTime) -> ServiceTime | None:
    """Until when the recovery point is kept; None where the policy decides."""
    if task.retain_until is not None:
        return task.retain_until
    keep = task.retain_for if task.retain_for is not None else DEFAULT_RETENTION.get(task.backup_type)
    return (at + keep).replace(microsecond=0) if keep is not None else None


def trigger_backup(message: StepMessage[BackupTask], collaborators: Collaborators) -> Result:
    """Trigger the backup of one database."""
    task = message.payload
    until = expiry(task, collaborators.now())
    if task.retain_until is not None and task.retain_until <= collaborators.now():
        return Failure(
            ErrorCode.RETENTION_IN_THE_PAST,
            f"retainUntil {task.retain_until:%Y-%m-%dT%H:%M:%SZ} has passed;"
            " expected a moment in the future.",
            Status.REJECTED,
        ).end
    if task.unless_newer_than is not None:
        recent = _recent_enough(task, task.unless_newer_than, collaborators)
        if recent is not None:
            return recent
    return Call(
        make=lambda azure, request_id: azure.trigger_backup(
            ProtectedItemId.parse(task.item_id),
            backup_type=task.backup_type.value,
            compression=task.compression,
            expiry=until,
            client_request_id=request_id,
        ),
        payload=task.changed(retain_until=until),
    )


def _recent_enough(task: BackupTask, limit: timedelta, collaborators: Collaborators) -> End | None:
    """The end where the newest restorable moment is recent enough; None where a backup is to be taken."""
    points = collaborators.azure.list_recovery_points(ProtectedItemId.parse(task.item_id))
    newest = choose_recovery_point(RecoveryPointChoice(latest="any"), points, str(task.database))
    if isinstance(newest, Failure):
        return None
    age = collaborators.now() - newest.time
    # A date in the future proves nothing.
    if age >= limit or age < -_CLOCKS_DIFFER:
        return None
    info = ErrorInfo(
        code=ErrorCode.RECENT_ENOUGH,
        message=f"{task.database} can be restored to {newest.time:%Y-%m-%dT%H:%M:%SZ}, which is younger than {limit}:"
        " no backup was taken.",
    )
    details = OutcomeDetails(policy_name=task.policy_name, restorable=_restorable(newest, task))
    return End(Status.SKIPPED, info, details)


def _restorable(point: ChosenRecoveryPoint, task: BackupTask) -> RestorableInfo:
    named = task.outcome_count <= MOST_NAMED and point.name != LOG_RECOVERY_POINT
    return RestorableInfo(
        kind=point.kind, time=point.time, listed=True, recovery_point=point.name if named else None
    )


def with_recovery_point(
    message: StepMessage[BackupTask], job: Job, end: End, collaborators: Collaborators
) -> End:
    """The end of a backup with what can be restored, where that is listed; only for small requests."""
    task = message.payload
    wanted = end.error is None and message.request.operation is Operation.BACKUP
    few = task.outcome_count <= MOST_NAMED and collaborators.may_read_more(RECOVERY_POINT_READS)
    if not wanted or not few or job.start_time is None:
        return end
    try:
        points = collaborators.azure.list_recovery_points(ProtectedItemId.parse(task.item_id))
    except ArmError as error:
        # The backup's result does not depend on it.
        _log.info("its recovery point could not be read: %s", error, extra=log_context(message))
        return end
    newest = choose_recovery_point(RecoveryPointChoice(latest="any"), points, str(task.database))
    if isinstance(newest, Failure) or newest.time < job.start_time - _CLOCKS_DIFFER:
        return end
    if task.backup_type is not BackupType.LOG:
        snapshots = newest_first(points)
        if not snapshots or snapshots[0][0] < job.start_time - _CLOCKS_DIFFER:
            return end
        time, point = snapshots[0]
        newest = ChosenRecoveryPoint(name=point.name, kind=point.kind, time=time)
    return end.with_details(restorable=_restorable(newest, task))


def attempts(message: StepMessage[BackupTask], _collaborators: Collaborators) -> int:
    """How often the backup may be triggered: attempts count against the nine that a day allows."""
    return 1 if message.payload.if_running == "skip" and message.effect.waiting else MOST_POSTS


def conflict_status(task: BackupTask) -> Status:
    """The status where another operation is running and is not waited for."""
    return Status.SKIPPED if task.if_running == "skip" else Status.FAILED


def conclude(message: StepMessage[BackupTask], end: End) -> End:
    """The outcome of a first backup is that of the protection: the database is protected either way."""
    if message.request.operation is not Operation.PROTECT:
        return end
    if end.error is None:
        return end.with_details(protection_state="Protected")
    ended = f"{end.status}: {end.error.code}: {end.error.message}"
    said = f"The database is protected, but its first backup ended as {ended}"
    kept = replace(end, status=Status.SUCCEEDED_WITH_WARNINGS, error=None)
    return kept.with_details(protection_state="IRPending", warnings=(*end.details.warnings, said))


def after_backup(message: StepMessage[BackupTask], job: Job, end: End) -> End:
    """What the outcome tells of the backup."""
    task = message.payload
    if end.error is not None and _does_not_apply(task, end.error):
        end = replace(end, status=Status.SKIPPED)
    end = end.with_details(policy_name=task.policy_name)
    if message.request.operation is Operation.PROTECT:
        return end
    return end.with_details(
        backup_type=_backup_type(job, task),
        data_transferred_mb=job.transferred_mb,
        retain_until=task.retain_until,
        restorable=end.details.restorable or _restorable_by_job(job, task, end),
    )


def _restorable_by_job(job: Job, task: BackupTask, end: End) -> RestorableInfo | None:
    """What can be restored according to the job itself."""
    if end.error is not None or job.end_time is None:
        return None
    # A moment in whole seconds, after that of the backup itself.
    ended = job.end_time.replace(microsecond=0) + timedelta(seconds=1)
    return RestorableInfo(kind=_backup_type(job, task), time=ended, listed=False)


def _does_not_apply(task: BackupTask, error: ErrorInfo) -> bool:
    """Whether a pattern meant a database that does not allow the type of backup."""
    return task.by_pattern and error.code.lower() == "usererrorsqlpodoesnotsupportbackuptype"


def _backup_type(job: Job, task: BackupTask) -> str:
    """The type that was taken: the service turns a differential or log into a full where it must."""
    operation = job.operation
    if "(" in operation and operation.endswith(")"):
        return operation[operation.index("(") + 1 : -1].replace(" ", "")
    return task.backup_type.value
