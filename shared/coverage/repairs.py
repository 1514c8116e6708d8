"""Which gaps a request's rules repair, and why the others are not repaired.

A repair is an ordinary request, made by the app itself, to an ordinary step. Its id is made only of the database, the
operation and the day: overlapping schedules, and two apps, ask for the same repair and adopt its job. The gap is not
part of the id, since a repair's result changes the gap's identity: a repair that fails turns `stale` into `failing`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from shared.clock import ServiceTime
from shared.coverage.ages import MARGIN, ages_of
from shared.coverage.gaps import Gap
from shared.coverage.inventory import JobIndex
from shared.coverage.states import CoverageCode, CoverageState, DatabaseCoverage
from shared.engine.expected_job import MOST_POSTS
from shared.engine.job_matching import is_of
from shared.engine.message import StepMessage
from shared.engine.result import To
from shared.messages.events import APP_NAME, RepairInfo
from shared.messages.identity import Request, as_uuid, fingerprint, is_marked
from shared.messages.requests import MOST_FULLS_A_DAY, BackupType, CoverageData, Operation
from shared.names import name_key, same_name
from shared.steps.payloads import BackupTask, ProtectTask

if TYPE_CHECKING:
    from shared.azure_backup.models import Job, Policy, ProtectableItem
    from shared.coverage.vault_listings import VaultListings

#: The source of requests that coverage makes.
COVERAGE_SOURCE: Final = f"{APP_NAME}/coverage"
#: A database is repaired at most once in this time.
ONCE_IN: Final = timedelta(hours=24)
#: How long an instance with a protection intent is left to that.
LEFT_TO_INTENT: Final = timedelta(hours=24)
MOST_PER_VM: Final = 5
#: so many of a database's on-demand fulls of a day are left to people
FULLS_LEFT: Final = 3
_REPAIRED_BY_BACKUP: Final = (CoverageState.STALE, CoverageState.FAILING, CoverageState.NEVER_BACKED_UP)
_FIRST_DAY: Final = ServiceTime(datetime(2020, 1, 1, tzinfo=UTC))
#: How long the first backup may take where no policy tells.
_A_DAY: Final = timedelta(days=1) + MARGIN


@dataclass(frozen=True, kw_only=True)
class Repair:
    """The repair of a gap: the message that begins it, unless it is held back."""

    info: RepairInfo
    request: Request | None = None
    to: To | None = None


class Repairs:
    """Applies a request's rules to a vault's listings."""

    def __init__(
        self,
        request: Request,
        data: CoverageData,
        listings: VaultListings,
        *,
        now: ServiceTime,
        mutations: bool,
        doubtful: frozenset[tuple[str, str, str]],
        intent_policies: dict[tuple[str, str], str | None],
    ) -> None:
        self._request = request
        self._data = data
        self._listings = listings
        self._now = now
        self._mutations = mutations
        self._doubtful = doubtful
        self._intent_policies = intent_policies
        self._policies: dict[str, Policy] = {name_key(policy.name): policy for policy in listings.policies}
        self._jobs = JobIndex(listings.jobs)
        self._by_activity: dict[Any, list[Job]] = {}
        for job in listings.jobs:
            if is_marked(job.activity_id):
                self._by_activity.setdefault(as_uuid(job.activity_id), []).append(job)
        self._protectable: dict[tuple[str, str, str], ProtectableItem] = {
            (listings.place_key(item), name_key(item.instance), item.name): item
            for item in listings.protectable.usable
            if item.is_database
        }
        #: how many repairs run, or were sent just now, by place
        self._busy: Counter[str] = Counter()

    def count_running(self, databases: Iterable[DatabaseCoverage]) -> None:
        """Count the app's running jobs on each VM."""
        for entry in databases:
            if any(not job.status.has_ended and is_marked(job.activity_id) for job in self._jobs_of(entry)):
                self._busy[entry.place_key] += 1

    def repair_of(self, gap: Gap) -> Repair | None:
        """The repair of a gap; None where no rule of the request covers it."""
        entry = gap.entry
        if entry is None:
            return None
        if entry.state is CoverageState.UNPROTECTED and self._data.on_unprotected is not None:
            return self._protect(gap, entry, self._data.on_unprotected.protect.policy_name)
        if entry.state in _REPAIRED_BY_BACKUP and self._data.on_stale is not None:
            return self._backup(gap, entry)
        return None

    # -- protection of what no policy protects

    def _protect(self, gap: Gap, entry: DatabaseCoverage, policy_name: str) -> Repair:
        held = partial(_held, "protect")
        if not self._mutations:
            return held("MutationsOff", "the setting MUTATIONS is off.")
        if entry.item_id is not None:
            return held("SoftDeleted", "its backups were deleted: undelete it by a protect request.")
        if entry.code != CoverageCode.NOT_PROTECTED:
            return held("NotProtectable", "the service does not offer it for protection.")
        offered = self._protectable.get(entry.key)
        policy = self._policies.get(name_key(policy_name))
        if policy is None:
            return held("PolicyNotFound", f"the vault has no SQL policy {policy_name}.")
        if offered is None:
            return held("NotProtectable", "the service does not offer it for protection.")
        delay = timedelta()
        if entry.auto_protected:
            intended = self._intent_policies.get((entry.place_key, name_key(entry.database.parent)))
            if intended is not None and not same_name(intended, policy.name):
                return held(
                    "AutoProtectedByAnotherPolicy",
                    f"its instance is auto-protected by policy {intended}, and the rule names {policy.name}: name"
                    f" {intended} in onUnprotected, or exclude the instance.",
                )
            delay = LEFT_TO_INTENT
        task = ProtectTask(
            database=entry.database,
            item_id=offered.protected_item_id.path,
            server_name=entry.server_name,
            policy_id=policy.id,
            policy_name=policy.name,
            action="enable",
            on_existing="keep",
            look_at_item=True,
            outcome_count=1,
        )
        return self._sent(gap, entry, task, delay=delay)

    # -- a backup of what is too old, or failed

    def _backup(self, gap: Gap, entry: DatabaseCoverage) -> Repair:
        assert self._data.on_stale is not None and entry.item_id is not None
        rule = self._data.on_stale.backup
        held = partial(_held, "backup")
        if not self._mutations:
            return held("MutationsOff", "the setting MUTATIONS is off.")
        if entry.backup_running or any(
            is_of(job, "Backup") and not job.status.has_ended for job in self._jobs_of(entry)
        ):
            return held("BackupRunning", "a backup of it is running.")
        if entry.state is CoverageState.NEVER_BACKED_UP and entry.key in self._doubtful:
            return held("FirstBackupScheduled", "when it was protected cannot be told.")
        if entry.state is CoverageState.NEVER_BACKED_UP and entry.since is not None:
            due = entry.since + self._first_within(entry.policy_name)
            if self._now < due:
                return held(
                    "FirstBackupScheduled", f"its policy takes the first one until {due:%Y-%m-%d %H:%M} UTC."
                )
        if not _is_possible(rule.backup_type, entry):
            return held("TypeNotSupported", f"a {rule.backup_type} backup cannot be taken of it now.")
        if rule.backup_type.is_full:
            left = MOST_FULLS_A_DAY - self._fulls_today(entry)
            if left <= FULLS_LEFT:
                return held(
                    "FullsSpent",
                    f"{left} of the day's {MOST_FULLS_A_DAY} full backups are left; {FULLS_LEFT} stay.",
                )
        task = BackupTask(
            database=entry.database,
            item_id=entry.item_id.path,
            server_name=entry.server_name,
            policy_name=entry.policy_name,
            backup_type=rule.backup_type,
            retain_for=rule.retain_for,
            compression=rule.compression,
            if_running="skip",
            outcome_count=1,
        )
        return self._sent(gap, entry, task)

    def _first_within(self, policy_name: str | None) -> timedelta:
        policy = self._policies.get(name_key(policy_name)) if policy_name is not None else None
        return (ages_of(policy, self._now).full if policy is not None else None) or _A_DAY

    def _fulls_today(self, entry: DatabaseCoverage) -> int:
        """How many fulls of a database may have been tried since midnight UTC: a new job says little about itself."""
        midnight = self._now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return sum(
            is_of(job, "Backup")
            and job.start_time is not None
            and job.start_time >= midnight
            and not any(kind in job.operation.lower() for kind in ("(diff", "(log", "(incr"))
            for job in self._jobs_of(entry)
        )

    # -- what both have

    def _sent(
        self,
        gap: Gap,
        entry: DatabaseCoverage,
        task: ProtectTask | BackupTask,
        *,
        delay: timedelta = timedelta(),
    ) -> Repair:
        if isinstance(task, ProtectTask):
            operation, step = Operation.PROTECT, "enable_protection"
        else:
            operation, step = Operation.BACKUP, "trigger_backup"
        held = partial(_held, operation.value)
        # A gap that waits for auto-protection is one message, however often it is found meanwhile.
        turns = (gap.dated,) if delay else self._turns(gap)
        requests = [self._repair_request(gap, operation, turn) for turn in turns]
        for request in requests:
            for job in self._started(request, step, task):
                if not job.status.has_ended:
                    return held("RepairRunning", f"job {job.id} is at work on it.")
                if job.start_time is not None and job.start_time > self._now - ONCE_IN:
                    return held("RepairedLately", f"it was tried within a day (job {job.id}).")
        if self._busy[entry.place_key] >= MOST_PER_VM:
            return held("VirtualMachineBusy", f"{MOST_PER_VM} repairs of its VM are at work.")
        self._busy[entry.place_key] += 1
        info = RepairInfo(
            action=operation.value,
            request_id=requests[0].id,
            not_before=self._now + delay if delay else None,
        )
        to = To(step, task, delay, request=requests[0], look_first=True)
        return Repair(info=info, request=requests[0], to=to)

    def _turns(self, gap: Gap) -> tuple[str, str]:
        """A database's current day, which allows one repair of a kind, and the day before.

        Each database's days begin at a time of their own, so that not all of a vault's begin at once.
        """
        vault, database, *_ = gap.key
        begins = timedelta(
            seconds=int(fingerprint("turn", vault, database)[:8], 16) % ONCE_IN.total_seconds()
        )
        day = (self._now - _FIRST_DAY - begins) // ONCE_IN
        return str(day), str(day - 1)

    def _repair_request(self, gap: Gap, operation: Operation, turn: str) -> Request:
        vault, database, *_ = gap.key
        return Request(
            operation=operation,
            source=COVERAGE_SOURCE,
            id=f"{fingerprint('repair', vault, database, operation.value)[:32]}/{turn}",
            vault_id=self._listings.vault_id,
            correlation_id=self._request.correlation_id,
            traceparent=self._request.traceparent,
            job_timeout=self._request.job_timeout,
        )

    def _started(self, request: Request, step: str, task: ProtectTask | BackupTask) -> list[Job]:
        """The jobs that a repair has started."""
        message: StepMessage[Any] = StepMessage(
            step=step, sender=step, at=self._now, since=self._now, request=request, payload=task
        )
        ids = [as_uuid(request_id) for request_id, _ in message.client_request_ids(MOST_POSTS)]
        return [job for each in ids for job in self._by_activity.get(each, ())]

    def _jobs_of(self, entry: DatabaseCoverage) -> list[Job]:
        # A job of an availability group's database names the node that was primary at the time.
        server = "" if entry.database.availability_group is not None else entry.server_name
        return self._jobs.of(entry.database, server)


def _held(action: str, reason: str, message: str) -> Repair:
    """A repair that is held back, with the reason."""
    return Repair(info=RepairInfo(action=action, reason=reason, message=f"No repair: {message}"))


def _is_possible(backup_type: BackupType, entry: DatabaseCoverage) -> bool:
    if backup_type is BackupType.FULL:
        return True
    if name_key(entry.database.name) == "master":
        return False
    if backup_type is BackupType.LOG and (entry.recovery_model or "").lower() == "simple":
        return False
    return backup_type is BackupType.COPY_ONLY_FULL or entry.state is not CoverageState.NEVER_BACKED_UP
