"""A job as a line of JSON, as a row of a table, and in full."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from cli.encoding import JsonObject
from cli.output import Output, print_fields, write_data
from cli.wording import moment_text, spoken, without_none
from shared.azure_backup.models import Job, JobError, JobStatus
from shared.engine.advice import advised
from shared.following.poll import job_error
from shared.messages.events import ErrorInfo
from shared.messages.identity import is_marked
from shared.messages.model import format_moment

#: What a job's line may hold, in this order.
JOB_FIELDS: Final = (
    "id",
    "operation",
    "status",
    "database",
    "server",
    "startTime",
    "endTime",
    "durationSeconds",
    "percentComplete",
    "startedBy",
    "isCancellable",
    "activityId",
    "tasks",
    "properties",
    "errors",
)
#: What a cancelled job leaves behind, by operation.
AFTER_CANCELLATION: Final = {
    "Backup": "A cancelled backup leaves no recovery point. Earlier ones stay, and the policy's schedule goes on: take"
    " another backup before you rely on this database.",
    "Restore": "A cancelled restore leaves nothing that can be used: the target database may stay in the state"
    " RESTORING, and files that were written stay. Drop the target, or restore it again with --overwrite.",
}
_AFTER_ANOTHER_CANCELLATION: Final = (
    "What it had changed by then stays: look at the database's state before you go on."
)


def kind_of(job: Job) -> str:
    """The operation without what stands in brackets: `Backup` of `Backup (Full)`."""
    return job.operation.partition(" ")[0]


def duration_of(job: Job, now: datetime | None = None) -> timedelta | None:
    until = job.end_time or now
    if job.start_time is not None and until is not None:
        return max(timedelta(), until - job.start_time)
    return job.duration


def _started_by(job: Job) -> str | None:
    if is_marked(job.activity_id):
        return "sqlvmbackup"
    if job.is_user_triggered is None:
        return None
    return "user" if job.is_user_triggered else "policy"


def _errors(job: Job) -> list[tuple[int | None, ErrorInfo]]:
    """Each reason with its number, and with what to do about it."""
    if not job.error_details:
        if job.status is not JobStatus.FAILED or not (job.tasks or job.dynamic_error_message):
            return []
        return [(None, _advised(job_error(job)))]
    first, *others = job.error_details
    # The first is worded as in the app's own events.
    told = [(first.code, _advised(job_error(job)))]
    return told + [(other.code, _advised(_error_info(other))) for other in others]


def _error_info(error: JobError) -> ErrorInfo:
    number = f" (error {error.code})" if error.title and error.code is not None else ""
    return ErrorInfo(
        code=error.title or str(error.code),
        message=f"{error.message}{number}",
        recommendations=error.recommendations[:20],
    )


def _advised(error: ErrorInfo) -> ErrorInfo:
    return advised(error) or error


def job_row(job: Job) -> JsonObject:
    """A job as a line of JSON, without what is not known."""
    duration = duration_of(job)
    row: JsonObject = {
        "id": job.id,
        "operation": job.operation,
        "status": job.raw_status or job.status.value,
        "database": job.database or None,
        "server": job.server or None,
        "startTime": format_moment(job.start_time) if job.start_time is not None else None,
        "endTime": format_moment(job.end_time) if job.end_time is not None else None,
        "durationSeconds": duration.total_seconds() if duration is not None else None,
        "percentComplete": job.percent_complete,
        "startedBy": _started_by(job),
        "isCancellable": job.is_cancellable and job.status is JobStatus.IN_PROGRESS,
        "activityId": job.activity_id,
        "tasks": [{"taskId": task, "status": status} for task, status in job.tasks] or None,
        "properties": dict(job.properties) or None,
        "errors": [
            {
                "code": error.code,
                "number": number,
                "message": error.message,
                "recommendations": list(error.recommendations),
            }
            for number, error in _errors(job)
        ]
        or None,
    }
    return without_none(row)


def shown_job(job: Job) -> dict[str, str]:
    """A job as a row of a table."""
    duration = duration_of(job)
    percent = f", {job.percent_complete:.0f} %" if job.percent_complete is not None else ""
    status = job.raw_status or job.status.value
    return {
        "status": status if job.status.has_ended else f"{status}{percent}",
        "took": spoken(duration) if duration is not None else "",
        "operation": job.operation,
        "database": job.entity_name,
        "started": moment_text(job.start_time) or "",
        "by": _started_by(job) or "",
        "reason": "; ".join(f"{error.code}: {error.message}" for _, error in _errors(job)),
        "id": job.id,
    }


def print_job(job: Job, output: Output) -> None:
    if not output.is_table:
        write_data([job_row(job)], output, fields=JOB_FIELDS)
        return
    row = shown_job(job)
    fields = [(name, row[name]) for name in ("id", "operation", "database", "status", "started")]
    if job.end_time is not None:
        fields.append(("ended", moment_text(job.end_time) or ""))
    fields += [("took", row["took"]), ("started by", row["by"])]
    fields += [("task", f"{task}: {status}") for task, status in job.tasks]
    fields += list(job.properties.items())
    for _, error in _errors(job):
        fields += [("error", error.code), ("reason", error.message)]
        fields += [("advice", advice) for advice in error.recommendations]
    if job.status is JobStatus.CANCELLED:
        fields.append(("means", AFTER_CANCELLATION.get(kind_of(job), _AFTER_ANOTHER_CANCELLATION)))
    fields.append(("client request id", job.activity_id or ""))
    print_fields([(name, value) for name, value in fields if value])
