"""The steps of coverage: find a request's vaults, survey the databases of each, and repair by the rules.

Nothing is remembered between two surveys (docs/coverage.md): gaps and repairs have ids that are made of what Azure
says, so that the next survey recognises what was reported or repaired already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from shared.arm.budget import JOB_READS, PROTECTED_ITEM_READS, RECOVERY_POINT_READS, reads_per_hour
from shared.arm.errors import ArmStatusError
from shared.arm.ids import ContainerId, ProtectedItemId, VaultId, VirtualMachineId
from shared.azure_backup.listings import Listing
from shared.coverage.dates import dated, key_of
from shared.coverage.estate import unregistered
from shared.coverage.gaps import Gap, gap_of, gaps_of, place_of, with_last_good
from shared.coverage.reading import a_quarter, read_listings, with_read
from shared.coverage.repairs import COVERAGE_SOURCE, ONCE_IN, Repair, Repairs
from shared.coverage.states import EVERY_DATABASE, CoverageState, DatabaseCoverage, VaultCoverage
from shared.coverage.survey import EVERYTHING, Scope, VaultListings, survey
from shared.engine import outcomes
from shared.engine.message import StepMessage
from shared.engine.result import Call, Collaborators, Continue, End, Failure, Result, To
from shared.messages import events
from shared.messages.error_codes import ErrorCode
from shared.messages.events import CoverageInfo, ErrorInfo, Event, OutcomeDetails, Status
from shared.messages.identity import Request, fingerprint
from shared.messages.requests import SYSTEM_DATABASES, CoverageData, Operation
from shared.names import name_key
from shared.steps.due import is_still_wanted
from shared.steps.payloads import CoveragePlan, VaultTask
from shared.steps.vaults import vault_not_found

if TYPE_CHECKING:
    from shared.azure_backup.models import Job

#: Most inquiries end within this time; the next survey sees what one finds later.
INQUIRIES_TAKE: Final = timedelta(minutes=5)
MOST_GAPS_TOLD: Final = 200
#: Jobs that change protection are few: they are listed as far back as the service keeps them at hand.
_PROTECTION_JOBS: Final = timedelta(days=30)
#: Long enough to see every repair of the last day, though jobs are listed late.
_BACKUP_JOBS: Final = ONCE_IN + timedelta(hours=2)


# -- the vaults of a request


def find_vaults(message: StepMessage[CoveragePlan], c: Collaborators) -> Result:
    """Find the vaults that the request means, and send one message for each."""
    plan = message.payload
    if plan.vaults is not None:
        return _spread(message, plan.vaults, c)
    wanted = is_still_wanted(message, c, c.settings.coverage_schedules)
    if isinstance(wanted, Failure):
        return wanted.end
    if not wanted:
        return Continue()
    vaults: dict[str, VaultId] = {vault.key: vault for vault in plan.data.vault_ids}
    machines: list[VirtualMachineId] = []
    for subscription in dict.fromkeys(text.lower() for text in plan.data.subscription_ids):
        listed, _ = c.azure.list_vaults(subscription)
        vaults |= {vault.id.key: vault.id for vault in listed}
        machines += _unknown_machines(subscription, [vault.id for vault in listed], c)
    found = plan.model_copy(
        update={
            "vaults": tuple(vault.path for vault in vaults.values()),
            "outcome_count": max(1, len(vaults)),
        }
    )
    at = c.now()
    # Published at once, since one message may not hold all VMs of a subscription.
    told = [_machine_event(message, machine, at, found.outcome_count) for machine in dict.fromkeys(machines)]
    return Continue((To("find_vaults", found),), tuple(told))


def _unknown_machines(
    subscription: str, vaults: Iterable[VaultId], c: Collaborators
) -> list[VirtualMachineId]:
    """The VMs with SQL Server of a subscription that none of its vaults knows.

    Empty where a vault cannot be read, since it may know them; that vault's survey reports it.
    """
    machines = c.azure.list_sql_virtual_machines(subscription).usable
    if not machines:
        return []
    known = set()
    for vault in vaults:
        try:
            usable, unusable = c.azure.list_registered_containers(vault)
        except ArmStatusError as error:
            if error.status == 404:
                continue
            if error.status in (401, 403):
                return []
            raise
        known |= {container.virtual_machine_id for container in usable}
        known |= {entry.virtual_machine_id for entry in unusable}
    return [machine for machine in machines if machine not in known]


def _spread(message: StepMessage[CoveragePlan], vaults: tuple[str, ...], c: Collaborators) -> Continue:
    """Publish `accepted`, and send a message for each vault of a request."""
    plan = message.payload
    at = c.now()
    accepted = outcomes.accepted(message, at=at, skipped={}, names=())
    told = []
    if not vaults:
        nothing = ErrorInfo(
            code=ErrorCode.NOTHING_TO_DO, message="the request's subscriptions have no vault."
        )
        end = End(Status.SKIPPED, nothing)
        told.append(outcomes.outcome_beside_acceptance(message, end, at=at))
    to = [
        To(
            "survey_vault",
            VaultTask(vault_id=vault, outcome_count=plan.outcome_count, data=plan.data),
            request=message.request.model_copy(update={"vault_id": vault}),
        )
        for vault in map(VaultId.parse, vaults)
    ]
    return Continue(to, tuple(told), accepted)


def _machine_event(
    message: StepMessage[CoveragePlan], machine: VirtualMachineId, at: datetime, outcome_count: int
) -> Event:
    (one,) = unregistered(Listing([machine], []), (), vaults_unread=False)
    gap = gap_of(one, at)
    return _gap_event(message.request, gap, None, at, outcome_count=outcome_count, key="request")


# -- one vault


def survey_vault(message: StepMessage[VaultTask], c: Collaborators) -> Result:
    """Inquire the vault's VMs, then report the states of their databases and repair by the rules."""
    task = message.payload
    if task.container_id is not None:
        return _inquire(task)
    if not task.inquired:
        return _inquire_first(message, c)
    return _surveyed(message, c)


def _inquire(task: VaultTask) -> Result:
    """Inquire one VM. The survey sees the result."""
    assert task.container_id is not None
    if task.inquired:
        return Continue()
    container_id = ContainerId.parse(task.container_id)
    return Call(
        make=lambda azure, request_id: azure.inquire_container(container_id, client_request_id=request_id),
        payload=task.model_copy(update={"inquired": True}),
    )


def _inquire_first(message: StepMessage[VaultTask], c: Collaborators) -> Result:
    """Send an inquiry for each VM that was not inquired today, and the survey for when they will have ended.

    No answer of the service tells when a VM was last inquired. So an inquiry's id is made of its VM and the day: the
    broker keeps the first and drops the others.
    """
    task = message.payload
    surveying = task.model_copy(update={"inquired": True})
    if not c.settings.mutations:
        return Continue((To("survey_vault", surveying),))
    try:
        containers = c.azure.list_registered_containers(task.vault_id).usable
    except ArmStatusError as error:
        if error.status == 404 and c.azure.get_vault(task.vault_id) is None:
            return vault_not_found(c, task.vault_id).end
        raise
    day = f"{c.now():%Y-%m-%d}"
    inquiry = Request(
        operation=Operation.COVERAGE,
        source=COVERAGE_SOURCE,
        id=f"inquiry/{day}",
        vault_id=task.vault_id,
        correlation_id=message.request.correlation_id,
        traceparent=message.request.traceparent,
    )
    inquiries = [
        To(
            "survey_vault",
            VaultTask(vault_id=task.vault_id, container_id=container.id.path),
            request=inquiry,
        )
        for container in containers
        if container.virtual_machine_id is not None and container.health_status.lower() != "deleted"
    ]
    wait = INQUIRIES_TAKE if inquiries else timedelta()
    return Continue([*inquiries, To("survey_vault", surveying, wait)])


def _surveyed(message: StepMessage[VaultTask], c: Collaborators) -> Result:
    task = message.payload
    assert task.data is not None
    vault_id = task.vault_id
    try:
        listings = read_listings(c.azure, vault_id)
    except ArmStatusError as error:
        if error.status == 404 and c.azure.get_vault(vault_id) is None:
            return vault_not_found(c, vault_id).end
        raise
    jobs = _jobs(vault_id, c)
    listings = replace(listings, jobs=tuple(jobs))
    now = c.now()
    scope = _scope(task.data, c)
    coverage = survey(listings, scope, now)
    listings, looked_at = _read_singly(coverage, listings, now, c)
    last_good = {key: moment for key, moment in looked_at.items() if moment is not None}
    coverage = survey(listings, scope, now)
    beside = _beside(coverage, listings, scope, now)
    databases, doubtful = dated(
        with_last_good(coverage.databases, last_good),
        jobs,
        read=lambda job_id: c.azure.get_job(vault_id, job_id),
        most_reads=_may_read(JOB_READS, c) // 2,
        beside=beside,
    )
    # A database that a request excludes is meant to be as it is.
    told = gaps_of(databases, listings, now, beside=[one for one in beside if not _is_excluded(one, scope)])
    repairs = Repairs(
        message.request,
        task.data,
        listings,
        jobs,
        now=now,
        mutations=c.settings.mutations,
        doubtful=doubtful,
        intent_policies=_intents(databases, listings, task.data, c),
    )
    repairs.count_running((*databases, *beside))
    done = [(gap, repairs.of(gap)) for gap in told.gaps]
    sent = [repair.to for _, repair in done if repair is not None and repair.to is not None]
    return Continue(sent, (*_told(message, done, looked_at, now), _outcome(message, coverage, done, now)))


def _scope(data: CoverageData, c: Collaborators) -> Scope:
    return Scope(
        databases=data.databases or EVERYTHING,
        exclude=data.exclude,
        include_system=data.include_system,
        max_age=data.max_age,
        policy_name=data.on_unprotected.protect.policy_name if data.on_unprotected is not None else None,
        drill_targets=c.settings.drill_targets,
    )


def _beside(
    coverage: VaultCoverage, listings: VaultListings, scope: Scope, now: datetime
) -> list[DatabaseCoverage]:
    """The vault's other databases, which share VMs and names with those that the request means."""
    everything = replace(scope, databases=EVERYTHING, exclude=(), include_system=True)
    meant = {key_of(one) for one in coverage.databases}
    return [
        one
        for one in survey(listings, everything, now).databases
        if key_of(one) not in meant and one.database.name != EVERY_DATABASE
    ]


def _is_excluded(one: DatabaseCoverage, scope: Scope) -> bool:
    database = one.database
    group = database.availability_group is not None
    system = name_key(database.name) in SYSTEM_DATABASES and not scope.include_system
    return system or any(each.matches(database.parent, database.name, group) for each in scope.exclude)


def _jobs(vault_id: VaultId, c: Collaborators) -> list[Job]:
    """The jobs that change protection, and those that take backups."""
    now = c.now()
    found: list[Job] = []
    for operation, reach in (
        ("Backup", _BACKUP_JOBS),
        ("ConfigureBackup", _PROTECTION_JOBS),
        ("DisableBackup", _PROTECTION_JOBS),
        ("DeleteBackupData", _PROTECTION_JOBS),
    ):
        found += c.azure.list_jobs(vault_id, start=now - reach, operation=operation)
    return found


def _read_singly(
    coverage: VaultCoverage, listings: VaultListings, now: datetime, c: Collaborators
) -> tuple[VaultListings, dict[str, datetime | None]]:
    """Read what no listing shows, within a quarter of an hour's budget for each kind of read.

    For a failing database that is the last good backup, without which each failure would be another gap; for one that
    is stale only by its log backups, the recovery model. Where not all can be read, each survey chooses others.
    """

    def in_turn(items: list[ProtectedItemId], action: str) -> list[ProtectedItemId]:
        return sorted(items, key=lambda item: fingerprint(item.key, now.isoformat()))[: _may_read(action, c)]

    failing = [
        one.item_id
        for one in coverage.databases
        if one.state is CoverageState.FAILING and one.item_id is not None
    ]
    # Nothing is read for a database without any good backup.
    last_good = {item.key: _last_good(item, c) for item in in_turn(failing, RECOVERY_POINT_READS)}
    unread = [
        one.item_id for one in coverage.databases if one.needs_recovery_model and one.item_id is not None
    ]
    return with_read(listings, in_turn(unread, PROTECTED_ITEM_READS), c.azure.get_protected_item), last_good


def _may_read(action: str, c: Collaborators) -> int:
    """How many single reads of an action a survey may make: a quarter of the hour's, with half left for others."""
    return a_quarter(action, left=c.reads_left(action), beside=reads_per_hour(action) // 2)


def _last_good(item: ProtectedItemId, c: Collaborators) -> datetime | None:
    """The newest full or differential: log backups that go on while those fail would change it each time."""
    try:
        points = c.azure.list_recovery_points(item)
    except ArmStatusError as error:
        # The item was deleted after it was listed.
        if error.status == 404:
            return None
        raise
    whole = [point.time for point in points if not point.is_log and point.time is not None]
    ends = [span.end for point in points for span in point.time_ranges]
    return max(whole, default=None) or max(ends, default=None)


def _can_be_told(gap: Gap, looked_at: Mapping[str, datetime | None]) -> bool:
    """Whether a gap's identity is known: a failing database is reported once its last good backup was looked for."""
    one = gap.of
    if one is None or one.state is not CoverageState.FAILING or one.item_id is None:
        return True
    return one.item_id.key in looked_at


def _intents(
    databases: Iterable[DatabaseCoverage], listings: VaultListings, data: CoverageData, c: Collaborators
) -> dict[tuple[str, str], str | None]:
    """The policies of protection intents, for instances with a database that a rule would protect."""
    if data.on_unprotected is None:
        return {}
    wanted = {
        (place_of(one), name_key(one.database.parent))
        for one in databases
        if one.auto_protected and one.state is CoverageState.UNPROTECTED
    }
    if not wanted:
        return {}
    machines = {
        container.id: container.virtual_machine_id.key
        for container in listings.containers.usable
        if container.virtual_machine_id is not None
    }
    found: dict[tuple[str, str], str | None] = {}
    for item in listings.protectable.usable:
        if item.is_database or not item.is_auto_protected:
            continue
        place = (
            f"group;{item.name.lower()}" if item.is_availability_group else machines.get(item.container, "")
        )
        key = (place, name_key(item.name))
        if key in wanted:
            intents = c.azure.list_protection_intents(
                listings.vault_id,
                item_name=item.name,
                item_type=item.item_type,
                container=item.container,
            )
            found[key] = next((intent.policy_name for intent in intents if intent.policy_name), None)
    return found


# -- what is told


def _told(
    message: StepMessage[VaultTask],
    done: Iterable[tuple[Gap, Repair | None]],
    looked_at: Mapping[str, datetime | None],
    now: datetime,
) -> Iterator[Event]:
    """The events for each gap whose identity is known, and for the repairs that were accepted."""
    task = message.payload
    for gap, repair in done:
        if _can_be_told(gap, looked_at):
            yield _gap_event(
                message.request, gap, repair, now, outcome_count=task.outcome_count, key=task.part
            )
    for _, repair in done:
        if repair is not None and repair.to is not None and repair.request is not None:
            yield events.accepted(repair.request, at=now, outcome_count=1, skipped={}, names=())


def _gap_event(
    request: Request, gap: Gap, repair: Repair | None, at: datetime, *, outcome_count: int, key: str
) -> Event:
    one = gap.of
    return events.gap(
        request,
        at=at,
        identity=gap.identity(at),
        subject=gap.subject,
        data=gap.info(repair.info if repair is not None else None),
        outcome_count=outcome_count,
        outcome_key=key,
        policy_name=one.policy_name if one is not None else None,
        last_backup_time=one.last_backup_time if one is not None else None,
        recommendations=(gap.advice,) if gap.advice else (),
        reminder=gap.reminders(at) > 0,
    )


def _outcome(
    message: StepMessage[VaultTask],
    coverage: VaultCoverage,
    done: list[tuple[Gap, Repair | None]],
    at: datetime,
) -> Event:
    sent: dict[str, int] = {}
    held: dict[str, int] = {}
    for _, repair in done:
        if repair is None:
            continue
        counted, name = (
            (sent, repair.info.action) if repair.to is not None else (held, repair.info.reason or "Held")
        )
        counted[name] = counted.get(name, 0) + 1
    info = CoverageInfo(
        at=coverage.at,
        counts={state.value: count for state, count in coverage.counts.items()},
        gaps=tuple(
            gap.info(repair.info if repair is not None else None) for gap, repair in done[:MOST_GAPS_TOLD]
        ),
        gaps_left_out=max(0, len(done) - MOST_GAPS_TOLD),
        repairs=sent,
        held=held,
        left_out=coverage.left_out,
    )
    warnings = tuple(f"no database is meant by {selector}." for selector in coverage.missed)
    details = OutcomeDetails(coverage=info, warnings=warnings)
    status = Status.SUCCEEDED_WITH_WARNINGS if warnings else Status.SUCCEEDED
    return outcomes.outcome(message, End(status, details=details), at=at)


__all__ = ["find_vaults", "survey_vault"]
