"""Whose job it is: how a job of the vault's list is matched to a database, and to the call that started it.

The service shows the `x-ms-client-request-id` of a call again as the `activityId` of its job
(https://learn.microsoft.com/azure/backup/backup-azure-sql-vm-rest-api shows both as equal), and this app's ids bear a
mark. Where a vault does not echo them, a job can only be matched by its operation, its database and the time it began.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from shared.clock import ServiceTime
from shared.engine.expected_job import MOST_POSTS, ExpectedJob
from shared.engine.message import StepMessage
from shared.engine.result import Collaborators
from shared.messages.identity import Database, as_uuid, is_marked

if TYPE_CHECKING:
    from shared.azure_backup.models import Job, ProtectedItem

#: Job operations that cannot be mistaken for one another.
_TOLD_APART: Final = frozenset({"backup", "restore", "configurebackup", "disablebackup", "deletebackupdata"})


def is_about(job: Job, operation: str, *, database: Database, server: str) -> bool:
    """Whether a job is one of this operation on that database, as far as jobs tell.

    A job names the database and mostly its server, at times with the instance in front and the domain at the end
    (`MSSQLSERVER/orders [sqlvm1.contoso.com]`); a new job may name the database alone. A job that names no server or
    instance may be about a database of the same name elsewhere.
    """
    return is_of(job, operation) and names(job.entity_name, database, server)


def is_of(job: Job, operation: str) -> bool:
    """Whether a job is of an operation: `Backup (Full)` is a `Backup`."""
    word = job.operation.lower()
    wanted = operation.lower()
    return word == wanted or word.startswith((f"{wanted} ", f"{wanted}("))


def names(entity: str, database: Database, server: str) -> bool:
    """Whether a job's entity may be this database; see `is_about`."""
    text = entity.lower()
    name = database.name.lower()
    prefix = f"{database.parent.lower()}/"
    for whole in (name, f"{prefix}{name}"):
        if text == whole:
            return True
        if text.startswith(f"{whole} [") and text.endswith("]"):
            return not server or _same_host(text[len(whole) + 2 : -1], server.lower())
    return False


def _same_host(one: str, other: str) -> bool:
    """Whether two host names may be of one machine: they are equal, or one of them lacks the domain."""
    if "." in one and "." in other:
        return one == other
    # Windows cuts a host's own name to 15 characters in places.
    return one.partition(".")[0][:15] == other.partition(".")[0][:15]


def is_of_another(job: Job, operation: str, *, database: Database, server: str) -> bool:
    """Whether a job is certainly another operation, or about another database.

    It may say little: a new job names no server, and not the kind of its operation. The server of a restore is not
    compared: no recorded job shows which machine is named by a restore to another one.
    """
    what = job.operation.lower().partition(" (")[0]
    if what in _TOLD_APART and what != operation.lower():
        return True
    compared = "" if operation == "Restore" or database.availability_group is not None else server
    return bool(job.entity_name) and not names(job.entity_name, database, compared)


def own_job(message: StepMessage[Any], jobs: Iterable[Job]) -> Job | None:
    """The job that this request started for the step and its database, by any effect in any epoch.

    The newest counts. The failed job of an earlier effect does not: it is what led to the present effect.
    """
    by_activity: dict[Any, list[Job]] = {}
    for job in jobs:
        if (activity := as_uuid(job.activity_id)) is not None:
            by_activity.setdefault(activity, []).append(job)
    for request_id, followed in message.client_request_ids(MOST_POSTS):
        for job in by_activity.get(as_uuid(request_id), ()):
            if not (followed and job.status == "Failed"):
                return job
    return None


def may_matter(message: StepMessage[Any]) -> Callable[[Job], bool]:
    """Which of a vault's jobs may concern a step: those that this app started, and those about its database."""
    database, server = message.the_database, message.payload.server
    return lambda job: is_marked(job.activity_id) or names(job.entity_name, database, server)


def candidates(
    message: StepMessage[Any],
    jobs: Iterable[Job],
    expected: ExpectedJob,
    *,
    since: ServiceTime,
    until: ServiceTime | None = None,
) -> list[Job]:
    """The jobs begun in that time that may belong to a call, though nothing in them says so."""
    operation = expected.operation_of(message.payload)
    database, server = message.the_database, message.payload.server
    return [
        job
        for job in jobs
        if is_about(job, operation, database=database, server=server)
        # A job that bears the mark and is not ours belongs to another request of this app.
        and not is_marked(job.activity_id)
        and (job.start_time is None or since <= job.start_time)
        and (job.start_time is None or until is None or job.start_time <= until)
    ]


def has_namesakes(message: StepMessage[Any], collaborators: Collaborators) -> bool:
    """Whether a job that names the database may be about another database of the vault."""
    items: Sequence[ProtectedItem] = collaborators.azure.list_protected_items(message.vault_id).usable
    name, server = message.the_database.name.lower(), message.payload.server.lower()
    alike = {
        item.id.key
        for item in items
        if item.name.lower() == name and (not server or _same_host(item.server_name.lower(), server))
    }
    return len(alike) > 1
