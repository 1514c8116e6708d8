"""The survey: from a vault's listings to the state of each database. Pure functions.

The meaning of the fields was learnt from recorded traffic (docs/coverage.md): `lastBackupTime` is the last attempt,
successful or not; `lastRecoveryPoint` and the recovery model are in no list; an item whose last backup is a year old
may be healthy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from shared.arm.ids import ContainerId, ProtectedItemId, VaultId
from shared.azure_backup.listings import Listing, Unusable
from shared.azure_backup.models import (
    Container,
    ErrorDetail,
    Job,
    JobStatus,
    Policy,
    ProtectableItem,
    ProtectedItem,
)
from shared.coverage.ages import MARGIN, PolicyAges, ages_of
from shared.coverage.states import (
    EVERY_DATABASE,
    ContainerKnowledge,
    CoverageCode,
    CoverageState,
    DatabaseCoverage,
    VaultCoverage,
)
from shared.drills import DrillTarget, is_drill_database
from shared.engine.advice import advised
from shared.engine.job_matching import is_of, names
from shared.messages.events import ErrorInfo
from shared.messages.identity import Database
from shared.messages.requests import DatabaseSelector
from shared.names import name_key, same_name
from shared.steps.selection import Candidate, is_protected, match

#: selectors for every database, of instances and of availability groups
EVERYTHING: Final = (
    DatabaseSelector(instance="*", database="*"),
    DatabaseSelector.model_validate({"availabilityGroup": "*", "database": "*"}),
)
#: Health words of an item or a container that mean no backup. Others are ignored: recorded are `Healthy` and
#: `NotReachable` of items, `Healthy` and `Deleted` of containers.
_UNREACHABLE: Final = frozenset({"notreachable", "unhealthy", "actionrequired"})


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Which databases are asked about, and what they have to meet."""

    databases: Sequence[DatabaseSelector] = EVERYTHING
    exclude: Sequence[DatabaseSelector] = ()
    include_system: bool = False
    #: how old the last backup may be; None: the policy decides
    max_age: timedelta | None = None
    #: the policy that should protect them; None: any
    policy_name: str | None = None
    #: drill databases on these targets are left out
    drill_targets: Collection[DrillTarget] = ()


@dataclass(frozen=True, kw_only=True)
class VaultListings:
    """A vault's listings, and what is known besides."""

    vault_id: VaultId
    protected: Listing[ProtectedItem]
    protectable: Listing[ProtectableItem]
    containers: Listing[Container]
    policies: Sequence[Policy]
    #: the newest jobs, as far back as they were listed
    jobs: Sequence[Job] = ()
    #: protected items that were read one by one, with their recovery model and newest restorable moment
    read: Mapping[ProtectedItemId, ProtectedItem] = field(default_factory=dict)
    #: when the databases of a container were last looked for, where the caller knows it
    inquired: Mapping[ContainerId, datetime] = field(default_factory=dict)


def survey(listings: VaultListings, scope: Scope, now: datetime) -> VaultCoverage:
    """The state of each of a vault's databases at `now`, the service's time.

    A listed database that cannot be judged is reported as `unknown` with the reason. So no listed database is missing,
    except those that the scope leaves out, which are counted.
    """
    estate = _Estate(listings, scope, now)
    found = estate.candidates()
    meaning = match(
        found, databases=scope.databases, exclude=scope.exclude, include_system=scope.include_system
    )
    chosen = [one for meant in meaning.matches for one in (meant.candidate, *meant.namesakes)]
    told = [estate.told(one) for one in chosen]
    told += estate.hidden(scope)
    told = _with_hints(told)
    everything = tuple(scope.databases) == EVERYTHING
    return VaultCoverage(
        vault_id=listings.vault_id,
        at=now,
        databases=tuple(sorted(told, key=lambda one: one.order)),
        containers=tuple(estate.knowledge()),
        left_out=dict(Counter(reason for _, reason in meaning.left_out)),
        missed=() if everything else tuple(map(str, meaning.missed)),
    )


class _Estate:
    """The listings of one vault, indexed."""

    def __init__(self, listings: VaultListings, scope: Scope, now: datetime) -> None:
        self._listings = listings
        self._scope = scope
        self._now = now
        self._containers = {container.id: container for container in listings.containers.usable}
        #: registered, though not usable
        self._unusable = {entry.container for entry in listings.containers.unusable}
        self._machines = {
            container.id: container.virtual_machine_id
            for container in listings.containers.usable
            if container.virtual_machine_id is not None
        }
        for item in listings.protected.usable:
            if item.virtual_machine_id is not None:
                self._machines.setdefault(item.id.container, item.virtual_machine_id)
        self._policies = {name_key(policy.name): policy for policy in listings.policies}
        self._ages: dict[str, PolicyAges | None] = {}
        self._auto_protected = {
            (item.container, name_key(item.name))
            for item in listings.protectable.usable
            if item.is_auto_protected and not item.is_database
        }
        self._jobs: dict[str, list[Job]] = {}
        for job in listings.jobs:
            self._jobs.setdefault(name_key(job.database), []).append(job)
        #: databases of one name on one VM, which jobs may not tell apart
        self._namesakes: Counter[tuple[ContainerId, str]] = Counter()

    # -- which databases there are

    def candidates(self) -> list[Candidate]:
        """Every listed database once; the live item where one was deleted and protected anew."""
        found: dict[tuple[object, ...], Candidate] = {}
        for listed in self._listings.protected.usable:
            item = self._listings.read.get(listed.id, listed)
            container = item.id.container
            database = self._database(container, item.instance, item.name, group=item.in_availability_group)
            key = (container, name_key(item.instance), item.name)
            known = found.get(key)
            if known is None or (
                known.protected is not None and known.protected.is_scheduled_for_deferred_delete
            ):
                found[key] = Candidate(database=database, protected=item)
        for offered in self._listings.protectable.usable:
            if not offered.is_database:
                continue
            container = offered.container
            key = (container, name_key(offered.instance), offered.name)
            known = found.get(key)
            if known is None:
                database = self._database(
                    container, offered.instance, offered.name, group=offered.in_availability_group
                )
                found[key] = Candidate(database=database, protectable=offered)
            elif known.protected is not None and known.protected.is_scheduled_for_deferred_delete:
                found[key] = replace(known, protectable=offered)
        for number, entry in enumerate(
            [*self._listings.protected.unusable, *self._listings.protectable.unusable]
        ):
            if entry.is_database:
                found[("unusable", number)] = Candidate(
                    database=self._unusable_database(entry), unusable=entry
                )
        targets = self._scope.drill_targets
        kept = [one for one in found.values() if not is_drill_database(one.database, targets)]
        for one in kept:
            if (container_of := _container_of(one)) is not None:
                self._namesakes[container_of, name_key(one.database.name)] += 1
        return kept

    def _database(self, container: ContainerId, parent: str, name: str, *, group: bool) -> Database:
        return Database.inside(parent, name, group=group, vm_id=self._machines.get(container))

    def _unusable_database(self, entry: Unusable) -> Database:
        machine = entry.virtual_machine_id or (
            self._machines.get(entry.container) if entry.container is not None else None
        )
        group = entry.in_availability_group
        return Database.inside(entry.parent, entry.name, group=group, vm_id=machine)

    # -- how each stands

    def told(self, candidate: Candidate) -> DatabaseCoverage:
        """The state of one database."""
        if candidate.unusable is not None:
            return self._unknown(
                candidate,
                candidate.unusable.code,
                f"It {candidate.unusable.why}.",
                _ADVICE_OF_UNUSABLE.get(candidate.unusable.code, ""),
            )
        item = candidate.protected
        if item is None:
            return self._unprotected(candidate)
        if item.is_scheduled_for_deferred_delete:
            if candidate.protectable is not None:
                return self._unprotected(candidate)
            return self._say(
                candidate,
                CoverageState.STOPPED,
                CoverageCode.SOFT_DELETED,
                "Its backups were deleted and are kept for some days more.",
                "Undelete and protect it again, or exclude it where it is gone for good.",
                since=self._last_job(candidate, "DeleteBackupData"),
            )
        if not is_protected(item) or item.protection_state.lower() == "protectionpaused":
            return self._say(
                candidate,
                CoverageState.STOPPED,
                CoverageCode.PROTECTION_STOPPED,
                f"Its protection was stopped ({item.protection_state}).",
                "Resume its protection, or exclude it where that is meant.",
                since=self._last_job(candidate, "DisableBackup"),
            )
        return self._protected(candidate, item)

    def _unprotected(self, candidate: Candidate) -> DatabaseCoverage:
        offered = candidate.protectable
        trouble = offered.prebackup_validation if offered is not None else None
        stopped = [
            moment
            for operation in ("DisableBackup", "DeleteBackupData")
            if (moment := self._last_job(candidate, operation)) is not None
        ]
        since = max(stopped, default=None)
        if offered is not None and not offered.is_protectable:
            code, message, advice = _words_of(
                trouble, CoverageCode.NOT_PROTECTABLE, "The service does not offer it for protection."
            )
            return self._say(candidate, CoverageState.UNPROTECTED, code, message, advice, since=since)
        message = "No policy protects it."
        advice = "Protect it with a policy, or exclude it."
        if candidate.protected is not None:
            message = "No policy protects it; its backups were deleted and are kept for some days more."
        if self._is_auto_protected(candidate):
            message += " Its instance is auto-protected, which looks for new databases every 8 hours."
            advice = (
                "Wait for auto-protection, then look at the instance's intent if it is still unprotected."
            )
        return self._say(
            candidate, CoverageState.UNPROTECTED, CoverageCode.NOT_PROTECTED, message, advice, since=since
        )

    def _protected(self, candidate: Candidate, item: ProtectedItem) -> DatabaseCoverage:
        """The state of a database whose backups go on; what is certain is checked first."""
        status = item.last_backup_status.lower()
        if status in ("unhealthy", "failed"):
            code, message, advice = _words_of(
                item.last_backup_error, CoverageCode.BACKUP_FAILED, "Its last backup failed."
            )
            return self._say(
                candidate,
                CoverageState.FAILING,
                code,
                message,
                advice,
                since=self._last_good(candidate, item),
                allowed=self._scope.max_age or self._data_age(item.policy_name),
            )
        # A single read may show a recovery point before the status does.
        pending = status == "irpending" and item.last_recovery_point is None
        if pending or item.last_backup_time is None:
            return self._say(
                candidate,
                CoverageState.NEVER_BACKED_UP,
                CoverageCode.FIRST_BACKUP_PENDING,
                "It is protected, but no first backup of it has ended: nothing can be restored yet.",
                "Wait for the policy's next full, or take one now.",
                since=self._last_job(candidate, "ConfigureBackup"),
            )
        aged = self._by_age(candidate, item, healthy=status in ("healthy", "irpending"))
        if aged.state is CoverageState.STALE:
            return aged
        if (unhealthy := self._unhealthy(candidate, item)) is not None:
            return unhealthy
        wanted = self._scope.policy_name
        if wanted is not None and not (item.policy_name and same_name(item.policy_name, wanted)):
            return self._say(
                candidate,
                CoverageState.WRONG_POLICY,
                CoverageCode.OTHER_POLICY,
                f"Policy {item.policy_name or 'none'} protects it, not {wanted}.",
                f"Change its policy to {wanted}, or name {item.policy_name or 'another'} in the request.",
            )
        return aged

    def _by_age(self, candidate: Candidate, item: ProtectedItem, *, healthy: bool) -> DatabaseCoverage:
        """Covered, stale or unknown, by the age of the last backup."""
        taken = item.last_backup_time
        if not healthy or taken is None:
            return self._unknown(
                candidate,
                CoverageCode.STATUS_UNKNOWN,
                f"The service gives the status '{item.last_backup_status}' for its last backup.",
                "Look at the database in the vault.",
            )
        age = self._now - taken
        if age < -MARGIN:
            return self._unknown(
                candidate,
                CoverageCode.STATUS_UNKNOWN,
                f"Its last backup is dated {taken:%Y-%m-%d %H:%M} UTC, which is still to come: its age is not known.",
                "Look at the database in the vault, and at the clock of its VM.",
            )
        if (most := self._scope.max_age) is not None:
            return self._aged(candidate, item, age, most, f"the maximum age is {_span(most)}")
        return self._by_policy(candidate, item, age)

    def _by_policy(self, candidate: Candidate, item: ProtectedItem, age: timedelta) -> DatabaseCoverage:
        """Covered, stale or unknown, by the age that the policy's schedules allow."""
        name = item.policy_name or "none"
        ages = self._ages_of(item.policy_name)
        data, log = (ages.data, ages.log) if ages is not None else (None, None)
        if ages is not None and name_key(item.name) == "master" and not item.in_availability_group:
            # master allows only fulls.
            data, log = ages.full or data, None
        if data is None and log is None:
            return self._unknown(
                candidate,
                CoverageCode.POLICY_UNREAD,
                f"The schedule of its policy ({name}) is not known, so neither is how old its backups may be.",
                "Give a maximum age, or see that the policy can be read.",
            )
        rule = f"by policy {name} none is older than"
        if data is not None and (log is None or data <= log or age > data):
            return self._aged(candidate, item, age, data, f"{rule} {_span(data)}")
        assert log is not None
        if age <= log:
            return self._aged(candidate, item, age, log, "")
        model = (item.recovery_model or "").lower()
        if model and model != "simple":
            return self._aged(candidate, item, age, log, f"{rule} {_span(log)}")
        if model and data is not None:
            return self._aged(candidate, item, age, data, "")
        if model:
            return self._unknown(
                candidate,
                CoverageCode.POLICY_UNREAD,
                f"The full schedule of its policy ({name}) is not known.",
                "Give a maximum age, or see that the policy can be read.",
            )
        return self._unknown(
            candidate,
            CoverageCode.RECOVERY_MODEL_UNREAD,
            f"Its last backup is {_span(age)} old: too old for one that takes log backups, not for one in the simple"
            " recovery model, and no listing tells which it is.",
            "Have it read singly.",
            allowed=log,
        )

    def _aged(
        self, candidate: Candidate, item: ProtectedItem, age: timedelta, limit: timedelta, rule: str
    ) -> DatabaseCoverage:
        if age <= limit:
            return self._say(candidate, CoverageState.COVERED, "", "", "", allowed=limit)
        unreachable = item.health_status.lower() in _UNREACHABLE
        return self._say(
            candidate,
            CoverageState.STALE,
            CoverageCode.BACKUP_TOO_OLD,
            f"Its last backup is {_span(age)} old; {rule}."
            + (f" The service finds it {item.health_status}." if unreachable else ""),
            "Start the VM and see that its backup extension answers."
            if unreachable
            else "Look at its policy and its jobs in the vault, then take a backup; if the database is gone, stop its"
            " protection.",
            since=item.last_backup_time,
            allowed=limit,
        )

    def _unhealthy(self, candidate: Candidate, item: ProtectedItem) -> DatabaseCoverage | None:
        """Why its next backup will probably fail, where the service says so."""
        container = self._containers.get(item.id.container)
        health = container.health_status if container is not None else ""
        if container is None and not item.in_availability_group and item.id.container not in self._unusable:
            code, message = CoverageCode.CONTAINER_UNHEALTHY, "Its VM is no longer registered to the vault."
            advice = "Register the VM again with a protect request."
        elif health.lower() == "deleted":
            code, message = CoverageCode.VM_DELETED, "Its VM was deleted."
            advice = "Stop its protection and keep or delete its backups, or restore it to another VM."
        elif item.protection_state.lower() not in ("protected", "irpending", ""):
            code, message = CoverageCode.PROTECTION_ERROR, f"Its protection is {item.protection_state}."
            advice = "Look at the database in the vault, and configure its backup again."
        elif item.protection_status.lower() == "unhealthy" or item.health_status.lower() in _UNREACHABLE:
            said = (
                item.health_status if item.health_status.lower() in _UNREACHABLE else item.protection_status
            )
            code = CoverageCode.NOT_REACHABLE
            message = f"The service finds it {said}: its next backup will hardly succeed."
            advice = "Start the VM and see that its backup extension answers."
        elif health.lower() in _UNREACHABLE:
            code, message = CoverageCode.CONTAINER_UNHEALTHY, f"The service finds its VM {health}."
            advice = "Start the VM, or register it again where its backup extension does not answer."
        else:
            return None
        return self._say(candidate, CoverageState.UNHEALTHY, code, message, advice)

    # -- what is told of VMs and instances as a whole

    def hidden(self, scope: Scope) -> list[DatabaseCoverage]:
        """One entry `*` for each VM, group or instance whose databases cannot be listed."""
        told: list[DatabaseCoverage] = []
        for unusable in self._listings.containers.unusable:
            where = Database(vm_id=unusable.virtual_machine_id, instance=EVERY_DATABASE, name=EVERY_DATABASE)
            told.append(
                DatabaseCoverage(
                    vault_id=self._listings.vault_id,
                    database=where,
                    state=CoverageState.UNKNOWN,
                    code=unusable.code,
                    message=f"The container {unusable.shown} {unusable.why}.",
                    advice=_ADVICE_OF_UNUSABLE.get(unusable.code, ""),
                    server_name=unusable.name,
                )
            )
        for entry in self._listings.protectable.unusable:
            if not entry.is_database:
                told.append(
                    DatabaseCoverage(
                        vault_id=self._listings.vault_id,
                        database=self._unusable_database(entry).model_copy(
                            update={"instance": entry.name, "name": EVERY_DATABASE}
                        ),
                        state=CoverageState.UNKNOWN,
                        code=entry.code,
                        message=f"It {entry.why}.",
                        advice=_ADVICE_OF_UNUSABLE.get(entry.code, ""),
                    )
                )
        for container in self._listings.containers.usable:
            failure = container.inquiry.failure if container.inquiry is not None else None
            if failure is None or _is_for_others(container) or container.health_status.lower() == "deleted":
                continue
            told.append(self._undiscovered(container, EVERY_DATABASE, failure))
        for item in self._listings.protectable.usable:
            if item.prebackup_validation is None or not (item.is_instance or item.is_availability_group):
                continue
            owner = self._containers.get(item.container)
            told.append(
                self._undiscovered(
                    owner, item.name, item.prebackup_validation, group=item.is_availability_group, of=item
                )
            )
        return [one for one in told if self._is_meant(one.database, scope)]

    def _undiscovered(
        self,
        container: Container | None,
        parent: str,
        failure: ErrorDetail,
        *,
        group: bool = False,
        of: ProtectableItem | None = None,
    ) -> DatabaseCoverage:
        what = "group" if group else "instance" if of is not None else "VM"
        code, message, advice = _words_of(
            failure, CoverageCode.NOT_DISCOVERED, f"The databases of this {what} could not be looked for."
        )
        machine = container.virtual_machine_id if container is not None and not group else None
        return DatabaseCoverage(
            vault_id=self._listings.vault_id,
            database=Database(
                vm_id=machine,
                instance=None if group else parent,
                availability_group=parent if group else None,
                name=EVERY_DATABASE,
            ),
            state=CoverageState.UNHEALTHY,
            code=code,
            message=message,
            advice=advice,
            server_name=of.server_name if of is not None else container.name if container is not None else "",
        )

    def _is_meant(self, database: Database, scope: Scope) -> bool:
        """Whether a request that names instances or databases may match some of these."""
        group = database.availability_group is not None
        parent = database.parent
        return any(
            selector.matches_parent(parent, group) or (parent == EVERY_DATABASE and not group)
            for selector in scope.databases
        )

    def knowledge(self) -> list[ContainerKnowledge]:
        """When and how the databases of each VM and group were last looked for."""
        return [
            ContainerKnowledge(
                name=container.friendly_name or container.name,
                vm_id=container.virtual_machine_id,
                health=container.health_status,
                inquired=self._listings.inquired.get(container.id),
                updated=container.last_updated,
            )
            for container in self._listings.containers.usable
            if not _is_for_others(container)
        ]

    # -- what is looked up

    def _ages_of(self, policy_name: str | None) -> PolicyAges | None:
        if policy_name is None:
            return None
        key = name_key(policy_name)
        if key not in self._ages:
            policy = self._policies.get(key)
            self._ages[key] = ages_of(policy, self._now) if policy is not None else None
        return self._ages[key]

    def _data_age(self, policy_name: str | None) -> timedelta | None:
        """How old the last full or differential may be under its policy."""
        ages = self._ages_of(policy_name)
        return ages.data if ages is not None else None

    def _is_auto_protected(self, candidate: Candidate) -> bool:
        container = _container_of(candidate)
        return (
            container is not None and (container, name_key(candidate.database.parent)) in self._auto_protected
        )

    def _jobs_of(self, candidate: Candidate) -> list[Job]:
        """A database's jobs, where they cannot be those of a namesake."""
        database = candidate.database
        container = _container_of(candidate)
        if container is None or self._namesakes[container, name_key(database.name)] > 1:
            return []
        named = [
            *self._jobs.get(name_key(database.name), ()),
            *self._jobs.get(name_key(f"{database.parent}/{database.name}"), ()),
        ]
        return [
            job
            for job in named
            if job.entity_name != job.database and names(job.entity_name, database, candidate.server_name)
        ]

    def _last_job(self, candidate: Candidate, operation: str) -> datetime | None:
        """When the newest successful job of that operation started."""
        moments = [
            job.start_time
            for job in self._jobs_of(candidate)
            if is_of(job, operation) and job.status not in (JobStatus.FAILED, JobStatus.CANCELLED)
        ]
        return max((moment for moment in moments if moment is not None), default=None)

    def _last_good(self, candidate: Candidate, item: ProtectedItem) -> datetime | None:
        """The newest moment that can be restored, as far as known."""
        if item.last_recovery_point is not None:
            return item.last_recovery_point
        moments = [
            job.start_time
            for job in self._jobs_of(candidate)
            if is_of(job, "Backup") and job.status in (JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_WARNINGS)
        ]
        return max((moment for moment in moments if moment is not None), default=None)

    def _unknown(
        self,
        candidate: Candidate,
        code: str,
        message: str,
        advice: str,
        *,
        allowed: timedelta | None = None,
    ) -> DatabaseCoverage:
        return self._say(candidate, CoverageState.UNKNOWN, code, message, advice, allowed=allowed)

    def _say(
        self,
        candidate: Candidate,
        state: CoverageState,
        code: str,
        message: str,
        advice: str,
        *,
        since: datetime | None = None,
        allowed: timedelta | None = None,
    ) -> DatabaseCoverage:
        item = candidate.protected
        running = any(is_of(job, "Backup") and not job.status.has_ended for job in self._jobs_of(candidate))
        return DatabaseCoverage(
            vault_id=self._listings.vault_id,
            database=candidate.database,
            state=state,
            code=str(code),
            message=message,
            advice=advice,
            since=since,
            last_backup_time=item.last_backup_time if item is not None else None,
            last_backup_status=item.last_backup_status if item is not None else "",
            policy_name=item.policy_name if item is not None else None,
            item_id=item.id if item is not None else None,
            recovery_model=item.recovery_model if item is not None else None,
            allowed_age=allowed,
            auto_protected=self._is_auto_protected(candidate),
            backup_running=running,
            server_name=candidate.server_name,
        )


_ADVICE_OF_UNUSABLE: Final = {
    "NotAddressable": "Look at it in the portal; no path of the service's REST API can carry its name.",
    "NotReadable": "Look at it in the portal; the service's answer about it has not the expected form.",
    "ProtectedAsInstance": "Look at the instance's backups in the portal.",
    "ProtectedBySnapshots": "Look at its backups in the portal.",
    "KindNotSupported": "Look at it in the portal.",
}


def _container_of(candidate: Candidate) -> ContainerId | None:
    if candidate.protected is not None:
        return candidate.protected.id.container
    if candidate.protectable is not None:
        return candidate.protectable.container
    return candidate.unusable.container if candidate.unusable is not None else None


def _is_for_others(container: Container) -> bool:
    """Whether a container is registered for a workload other than SQL Server: SAP HANA has the same kind."""
    details = container.inquiry.details if container.inquiry is not None else ()
    return any(detail.type.lower() != "sql" and detail.item_count for detail in details) and not any(
        detail.type.lower() == "sql" and detail.item_count for detail in details
    )


def _words_of(error: ErrorDetail | None, code: str, otherwise: str) -> tuple[str, str, str]:
    """The service's code, message and advice, or the app's own where it gives none."""
    info = ErrorInfo(
        code=(error.code if error is not None else "") or str(code),
        message=(error.message if error is not None else "") or otherwise,
        recommendations=error.recommendations if error is not None else (),
    )
    known = advised(info) or info
    # There is no request that could be sent again.
    advice = " ".join(known.recommendations).replace(", then send the request again", "")
    return known.code, known.message, advice or "Look at it in the vault."


_RENAMED: Final = " If it was renamed, its new name is among the unprotected databases of the instance."


def _with_hints(told: list[DatabaseCoverage]) -> list[DatabaseCoverage]:
    """Add hints to renamed databases: the old name fails or ages, the new one is listed as unprotected."""
    new = {
        (one.database.vm_id, name_key(one.database.parent))
        for one in told
        if one.state is CoverageState.UNPROTECTED
    }
    return [
        replace(one, advice=one.advice + _RENAMED)
        if one.code.lower() == "usererrorsqlpodoesnotexist"
        and (one.database.vm_id, name_key(one.database.parent)) in new
        else one
        for one in told
    ]


def _span(span: timedelta) -> str:
    """A length of time in words: `3 days 2 hours`, `45 minutes`."""
    minutes = max(0, round(span.total_seconds() / 60))
    days, minutes = divmod(minutes, 24 * 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(days, "day"), (hours, "hour"), (minutes, "minute")]
    shown = [f"{count} {unit}{'s' if count != 1 else ''}" for count, unit in parts if count][:2]
    return " ".join(shown) or "under a minute"
