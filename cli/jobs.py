"""`sqlvmbackup jobs`: the jobs of a vault, whoever started them; listed, shown, waited for, cancelled."""

from __future__ import annotations

import argparse
import sys
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Final

from cli.azure import vault_named
from cli.errors import FAILED, CommandError
from cli.job_rows import AFTER_CANCELLATION, JOB_FIELDS, duration_of, job_row, kind_of, print_job, shown_job
from cli.output import console, output_of, print_table, write_data
from cli.waiting import operation_ended, to_their_ends
from cli.wording import count_of, spoken
from shared.arm.budget import JOB_READS, reads_per_hour
from shared.arm.errors import ArmError, ArmStatusError
from shared.arm.ids import InvalidResourceIdError, VaultId
from shared.arm.redaction import printable
from shared.azure_backup.models import Job, JobStatus
from shared.azure_backup.wire import uuid_text
from shared.engine.runtime import Runtime
from shared.messages.model import format_moment
from shared.names import name_key

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
        write_data([job_row(job) for job in told], output, fields=JOB_FIELDS)
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
        shown = shown_job(job)
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
    print_job(job, output)
    return 0


def wait_for_jobs(options: argparse.Namespace) -> int:
    """Follow jobs to their ends; returns the exit status, which says how they ended."""
    output = output_of(options)
    with vault_named(options) as (runtime, vault):
        jobs = [_job(runtime, vault, job_id) for job_id in dict.fromkeys(options.ids)]
        ended = to_their_ends(runtime, vault, jobs, timeout=options.timeout, told=_tell)
    for job in ended:
        print_job(job, output)
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
    print_job(job, output)
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
        only = (
            "" if kind_of(job) in AFTER_CANCELLATION else " Azure Backup cancels backups and restores only."
        )
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
    took = duration_of(job, now)
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


def _entity(job: Job) -> str:
    return job.entity_name or "(nothing)"
