"""`sqlvmbackup jobs`: the jobs of a vault, whoever started them; listed, shown, waited for, cancelled."""

from __future__ import annotations

import argparse
import sys
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, Final

from cli.azure import vault_named
from cli.errors import FAILED, CommandError
from cli.output import Output, console, output_of, print_fields, print_table, write_data
from cli.results import count_of, spoken
from cli.waiting import operation_ended, to_their_ends
from shared.arm.budget import JOB_READS, reads_per_hour
from shared.arm.errors import ArmError, ArmStatusError
from shared.arm.ids import InvalidResourceIdError, VaultId
from shared.arm.redaction import printable
from shared.azure_backup.models import Job, JobError, JobStatus
from shared.azure_backup.wire import uuid_text
from shared.engine.advice import advised
from shared.engine.runtime import Runtime
from shared.following.poll import job_error
from shared.messages.events import ErrorInfo
from shared.messages.identity import is_marked
from shared.messages.model import format_moment
from shared.names import name_key

JsonObject = dict[str, Any]

_COLUMNS: Final = ("status", "took", "operation", "database", "started", "by", "reason", "id")
#: From this many columns on, a job is one line; on a narrower terminal, these columns move below or are left out.
_WIDE: Final = 130
_BELOW: Final = ("started", "reason", "id")
_NARROW_COLUMNS: Final = ("status", "took", "description")
_FAILED_RANK: Final = 2
#: A list has no reasons: the reasons of at most this many failures are read.
_MOST_REASONS: Final = 25
_GOOD: Final = (JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_WARNINGS)
_STYLES: Final = {
    JobStatus.COMPLETED: "green",
    JobStatus.COMPLETED_WITH_WARNINGS: "yellow",
    JobStatus.IN_PROGRESS: "cyan",
    JobStatus.CANCELLING: "cyan",
}

#: What a cancelled job leaves behind, by operation.
_OF_A_CANCELLED: Final = {
    "Backup": "A cancelled backup leaves no recovery point. Earlier ones stay, and the policy's schedule goes on: take"
    " another backup before you rely on this database.",
    "Restore": "A cancelled restore leaves nothing that can be used: the target database may stay in the state"
    " RESTORING, and files that were written stay. Drop the target, or restore it again with --overwrite.",
}
_OF_ANOTHER_CANCELLED: Final = (
    "What it had changed by then stays: look at the database's state before you go on."
)


def list_jobs(options: argparse.Namespace) -> int:
    """List the jobs of a vault that have started since a moment; returns the exit status."""
    output = output_of(options)
    with vault_named(options) as (runtime, vault):
        since = runtime.service_clock.now() - options.since
        jobs = _listed(runtime, vault, since, options)
        chosen = [job for job in jobs if _is_of(job, options.database)]
        told, untold = _with_reasons(runtime, vault, chosen)
    # Jobs that need attention come last, next to the prompt.
    told.sort(key=lambda job: (_rank(job), job.start_time or since, job.id))
    if output.failed_only:
        told = [job for job in told if _rank(job) == _FAILED_RANK]
    if output.is_table:
        _print_table(told, since)
    else:
        write_data([job_row(job) for job in told], output)
    if untold:
        print(
            f"The reasons of {untold} failures are not shown: `sqlvmbackup jobs show ID` tells them.",
            file=sys.stderr,
        )
    return 0


def _listed(runtime: Runtime, vault: VaultId, since: datetime, options: argparse.Namespace) -> list[Job]:
    found: dict[str, Job] = {}
    # A filter takes one status. Where a job changes it between two listings, the later one is right.
    for status in options.status or (None,):
        for job in runtime.backup.list_jobs(vault, start=since, operation=options.operation, status=status):
            found[uuid_text(job.id)] = job
    return list(found.values())


def _is_of(job: Job, patterns: Sequence[str]) -> bool:
    """Whether a job is of a database that is asked for, by its name or as INSTANCE/NAME."""
    name = name_key(job.database)
    names = {name, name.partition("/")[2] or name}
    return not patterns or any(fnmatchcase(each, name_key(pattern)) for pattern in patterns for each in names)


def _with_reasons(runtime: Runtime, vault: VaultId, jobs: Sequence[Job]) -> tuple[list[Job], int]:
    """The jobs, failed ones with their reasons, and how many lack reasons: reads of jobs are limited."""
    told: list[Job] = []
    read = untold = 0
    for job in jobs:
        if job.status is not JobStatus.FAILED or job.error_details:
            told.append(job)
            continue
        left = runtime.backup.budget.left(vault.subscription_id, JOB_READS)
        if read >= _MOST_REASONS or left <= reads_per_hour(JOB_READS) // 2:
            untold += 1
            told.append(job)
            continue
        read += 1
        told.append(runtime.backup.get_job(vault, job.id) or job)
    return told, untold


def _print_table(jobs: Sequence[Job], since: datetime) -> None:
    if not jobs:
        print(f"The vault has no such job since {format_moment(since.replace(microsecond=0))}.")
        return
    wide = console().width >= _WIDE
    columns = _COLUMNS if wide else _NARROW_COLUMNS
    rows = []
    for job in jobs:
        shown = _shown(job)
        if not wide:
            about = " of ".join(filter(None, (shown["operation"], shown["database"])))
            shown["description"] = "\n  ".join(filter(None, (about, *(shown[name] for name in _BELOW))))
        rows.append([shown[column] for column in columns])
    print_table(
        columns,
        rows,
        styles={row[0]: _STYLES.get(job.status, "red") for row, job in zip(rows, jobs, strict=True)},
    )
    print(_sum(jobs))


def _rank(job: Job) -> int:
    if job.status in _GOOD:
        return 0
    return _FAILED_RANK if job.status.has_ended else 1


def _sum(jobs: Iterable[Job]) -> str:
    counts = Counter(job.status.value for job in jobs)
    return f"{count_of(counts.total(), 'job')}: {', '.join(f'{count} {status}' for status, count in counts.items())}"


def show_job(options: argparse.Namespace) -> int:
    """Show all that is known of a job; returns the exit status."""
    output = output_of(options)
    with vault_named(options) as (runtime, vault):
        job = _job(runtime, vault, options.id)
    _print_job(job, output)
    return 0


def wait_for_jobs(options: argparse.Namespace) -> int:
    """Follow jobs to their ends; returns the exit status, which says how they ended."""
    output = output_of(options)
    with vault_named(options) as (runtime, vault):
        jobs = [_job(runtime, vault, job_id) for job_id in dict.fromkeys(options.ids)]
        ended = to_their_ends(runtime, vault, jobs, timeout=options.timeout, told=_tell)
    for job in ended:
        _print_job(job, output)
    return 0 if all(job.status in _GOOD for job in ended) else FAILED


def cancel_job(options: argparse.Namespace) -> int:
    """Cancel a job and follow it to its end; returns the exit status: 0 once it is cancelled."""
    output = output_of(options)
    with vault_named(options) as (runtime, vault):
        job = _job(runtime, vault, options.id)
        if job.status.has_ended:
            if job.status is not JobStatus.CANCELLED:
                raise CommandError(
                    f"job {job.id} has ended as {job.status.value}: there is nothing left to cancel.",
                    status=FAILED,
                )
        else:
            if job.status is not JobStatus.CANCELLING:
                _cancel(runtime, vault, job)
            if options.no_wait:
                print(f"Job {job.id} is being cancelled.", file=sys.stderr)
                return 0
            job = to_their_ends(runtime, vault, [job], timeout=None, told=_tell)[0]
    _print_job(job, output)
    if job.status is JobStatus.CANCELLED:
        return 0
    print(f"The job ended as {job.status.value} before it could be cancelled.", file=sys.stderr)
    return FAILED


def _cancel(runtime: Runtime, vault: VaultId, job: Job) -> None:
    """Ask for the cancellation and follow it to its end, at which the job may still be at work."""
    if not runtime.settings.mutations:
        raise CommandError(
            f"job {job.id} is not cancelled: the setting MUTATIONS is off. Set it to on where anything may be changed."
        )
    try:
        started = runtime.backup.cancel_job(vault, job.id, client_request_id=str(uuid.uuid4()))
        operation_ended(runtime, vault, started)
    except ArmStatusError as error:
        if error.may_have_started:
            _look_again(runtime, vault, job, error)
            return
        only = "" if _kind(job) in _OF_A_CANCELLED else " Azure Backup cancels backups and restores only."
        raise CommandError(
            f"job {job.id} ({job.operation}, {job.status.value}) is not cancelled: {error}.{only}",
            status=FAILED,
        ) from error
    except ArmError as error:
        if not error.may_have_started:
            raise
        _look_again(runtime, vault, job, error)


def _look_again(runtime: Runtime, vault: VaultId, job: Job, error: ArmError) -> None:
    """Read the job after a cancellation whose answer was lost. Raises CommandError."""
    now = runtime.backup.get_job(vault, job.id)
    if now is not None and (now.status is JobStatus.CANCELLING or now.status.has_ended):
        return
    raise CommandError(
        f"whether job {job.id} is being cancelled is not known ({error}): give the same command again, which does no"
        " harm.",
        status=FAILED,
    ) from error


def _job(runtime: Runtime, vault: VaultId, job_id: str) -> Job:
    try:
        job = runtime.backup.get_job(vault, job_id)
    except InvalidResourceIdError as error:
        raise CommandError(f"ID: {error}.") from error
    if job is None:
        raise CommandError(
            f"vault {vault.name} has no job {printable(job_id, limit=80)}: `sqlvmbackup jobs list` has the ids, and"
            " --since reaches further back. A job that has just been started may take minutes to appear.",
            status=FAILED,
        )
    return job


def _tell(job: Job, now: datetime) -> None:
    """A line of progress."""
    took = _duration(job, now)
    parts = [
        job.raw_status or job.status.value,
        f"{job.percent_complete:.0f} %"
        if job.percent_complete is not None and not job.status.has_ended
        else "",
        next((task for task, status in job.tasks if status == "InProgress"), ""),
        spoken(took) if took is not None else "",
    ]
    print(
        printable(f"{job.id}: {job.operation} of {_entity(job)}: {', '.join(filter(None, parts))}"),
        file=sys.stderr,
        flush=True,
    )


def _kind(job: Job) -> str:
    """The operation without what stands in brackets: `Backup` of `Backup (Full)`."""
    return job.operation.partition(" ")[0]


def _entity(job: Job) -> str:
    return job.entity_name or "(nothing)"


def _duration(job: Job, now: datetime | None = None) -> timedelta | None:
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
    duration = _duration(job)
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
    return {name: value for name, value in row.items() if value is not None}


def _shown(job: Job) -> dict[str, str]:
    """A job as a row of a table."""
    duration = _duration(job)
    percent = f", {job.percent_complete:.0f} %" if job.percent_complete is not None else ""
    status = job.raw_status or job.status.value
    return {
        "status": status if job.status.has_ended else f"{status}{percent}",
        "took": spoken(duration) if duration is not None else "",
        "operation": job.operation,
        "database": job.entity_name,
        "started": format_moment(job.start_time.replace(microsecond=0)) if job.start_time is not None else "",
        "by": _started_by(job) or "",
        "reason": "; ".join(f"{error.code}: {error.message}" for _, error in _errors(job)),
        "id": job.id,
    }


def _print_job(job: Job, output: Output) -> None:
    if not output.is_table:
        write_data([job_row(job)], output)
        return
    shown = _shown(job)
    fields = [(name, shown[name]) for name in ("id", "operation", "database", "status", "started")]
    if job.end_time is not None:
        fields.append(("ended", format_moment(job.end_time.replace(microsecond=0))))
    fields += [("took", shown["took"]), ("started by", shown["by"])]
    fields += [("task", f"{task}: {status}") for task, status in job.tasks]
    fields += list(job.properties.items())
    for _, error in _errors(job):
        fields += [("error", error.code), ("reason", error.message)]
        fields += [("advice", advice) for advice in error.recommendations]
    if job.status is JobStatus.CANCELLED:
        fields.append(("means", _OF_A_CANCELLED.get(_kind(job), _OF_ANOTHER_CANCELLED)))
    fields.append(("client request id", job.activity_id or ""))
    print_fields([(name, value) for name, value in fields if value])
