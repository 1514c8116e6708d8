"""The step `survey_vault`: survey the databases of one vault, publish the gaps, and repair by the rules.

Nothing is remembered between two surveys (docs/coverage.md): gaps and repairs have ids that are made of what Azure
says, so that the next survey recognises what was reported or repaired already.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from shared.arm.budget import JOB_READS
from shared.arm.errors import ArmStatusError
from shared.arm.ids import ContainerId, VaultId
from shared.clock import ServiceTime
from shared.coverage.dates import dated
from shared.coverage.gaps import Gap, gaps_of
from shared.coverage.repairs import COVERAGE_SOURCE, ONCE_IN, Repairs
from shared.coverage.scope import Scope
from shared.coverage.single_reads import (
    read_last_good_backups,
    read_recovery_models,
    reads_left,
    with_last_good,
)
from shared.coverage.states import EVERY_DATABASE, CoverageState, DatabaseCoverage, VaultCoverage
from shared.coverage.survey import survey
from shared.coverage.survey_events import accepted_repairs, gap_event, vault_outcome
from shared.coverage.vault_listings import VaultListings, read_listings
from shared.engine.message import StepMessage
from shared.engine.result import Call, Collaborators, Continue, Result, To
from shared.messages.identity import Request
from shared.messages.requests import EVERYTHING, CoverageData, Operation
from shared.names import name_key
from shared.steps.payloads import VaultTask
from shared.steps.vaults import vault_not_found

if TYPE_CHECKING:
    from shared.azure_backup.models import Job

#: Most inquiries end within this time; the next survey sees what one finds later.
INQUIRIES_TAKE: Final = timedelta(minutes=5)
#: Jobs that change protection are few: they are listed as far back as the service keeps them at hand.
_PROTECTION_JOBS: Final = timedelta(days=30)
#: Long enough to see every repair of the last day, though jobs are listed late.
_BACKUP_JOBS: Final = ONCE_IN + timedelta(hours=2)


def survey_vault(message: StepMessage[VaultTask], collaborators: Collaborators) -> Result:
    """Inquire the vault's VMs, then report the states of their databases and repair by the rules."""
    task = message.payload
    if task.container_id is not None:
        return _inquire(task)
    try:
        return _survey(message, collaborators) if task.inquired else _inquire_first(message, collaborators)
    except ArmStatusError as error:
        if error.status == 404 and collaborators.azure.get_vault(task.vault_id) is None:
            return vault_not_found(collaborators, task.vault_id).end
        raise


# -- inquiries


def _inquire(task: VaultTask) -> Result:
    """Inquire one VM. The survey sees the result."""
    assert task.container_id is not None
    if task.inquired:
        return Continue()
    container_id = ContainerId.parse(task.container_id)
    return Call(
        make=lambda azure, request_id: azure.inquire_container(container_id, client_request_id=request_id),
        payload=task.changed(inquired=True),
    )


def _inquire_first(message: StepMessage[VaultTask], collaborators: Collaborators) -> Result:
    """Send an inquiry for each VM that was not inquired today, and the survey for when they will have ended.

    No answer of the service tells when a VM was last inquired. So an inquiry's id is made of its VM and the day: the
    broker keeps the first and drops the others.
    """
    task = message.payload
    surveying = task.changed(inquired=True)
    if not collaborators.settings.mutations:
        return Continue((To("survey_vault", surveying),))
    containers = collaborators.azure.list_registered_containers(task.vault_id).usable
    day = f"{collaborators.now():%Y-%m-%d}"
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
        if container.virtual_machine_id is not None and not container.is_of_deleted_vm
    ]
    wait = INQUIRIES_TAKE if inquiries else timedelta()
    return Continue([*inquiries, To("survey_vault", surveying, wait)])


# -- the survey


def _survey(message: StepMessage[VaultTask], collaborators: Collaborators) -> Result:
    task = message.payload
    data = task.data
    assert data is not None
    listings = read_listings(collaborators.azure, task.vault_id)
    listings = replace(listings, jobs=_jobs(task.vault_id, collaborators))
    now = collaborators.now()
    scope = _scope(data, collaborators)
    # The first survey tells of which databases a single read is needed; the second one judges all of them.
    as_listed = survey(listings, scope, now).databases
    last_good = read_last_good_backups(as_listed, now, collaborators)
    listings = read_recovery_models(as_listed, listings, now, collaborators)
    coverage = survey(listings, scope, now)
    others = _others(coverage, listings, scope, now)
    databases, doubtful = dated(
        with_last_good(coverage.databases, last_good),
        listings.jobs,
        read=lambda job_id: collaborators.azure.get_job(task.vault_id, job_id),
        most_reads=reads_left(JOB_READS, collaborators) // 2,
        others=others,
    )
    # A database that a request excludes is meant to be as it is.
    neighbours = [entry for entry in others if not scope.excludes(entry.database)]
    repairs = Repairs(
        message.request,
        data,
        listings,
        now=now,
        mutations=collaborators.settings.mutations,
        doubtful=doubtful,
        intent_policies=_intent_policies(databases, listings, data, collaborators),
    )
    repairs.count_running((*databases, *others))
    with_repairs = [
        (gap, repairs.repair_of(gap)) for gap in gaps_of(databases, listings, now, others=neighbours)
    ]
    published = [
        gap_event(message.request, gap, repair, now, outcome_count=task.outcome_count, outcome_key=task.part)
        for gap, repair in with_repairs
        if _is_identified(gap, last_good)
    ]
    published += accepted_repairs(with_repairs, now)
    published.append(vault_outcome(message, coverage, with_repairs, now))
    sent = [repair.to for _, repair in with_repairs if repair is not None and repair.to is not None]
    return Continue(sent, tuple(published))


def _scope(data: CoverageData, collaborators: Collaborators) -> Scope:
    return Scope(
        databases=data.databases or EVERYTHING,
        exclude=data.exclude,
        include_system=data.include_system,
        max_age=data.max_age,
        policy_name=data.on_unprotected.protect.policy_name if data.on_unprotected is not None else None,
        drill_targets=collaborators.settings.drill_targets,
    )


def _others(
    coverage: VaultCoverage, listings: VaultListings, scope: Scope, now: ServiceTime
) -> list[DatabaseCoverage]:
    """The vault's other databases, which share VMs and names with those that the request means."""
    everything = replace(scope, databases=EVERYTHING, exclude=(), include_system=True)
    meant = {entry.key for entry in coverage.databases}
    return [
        entry
        for entry in survey(listings, everything, now).databases
        if entry.key not in meant and entry.database.name != EVERY_DATABASE
    ]


def _jobs(vault_id: VaultId, collaborators: Collaborators) -> tuple[Job, ...]:
    """The jobs that change protection, and those that take backups."""
    now = collaborators.now()
    reaches = {
        "Backup": _BACKUP_JOBS,
        "ConfigureBackup": _PROTECTION_JOBS,
        "DisableBackup": _PROTECTION_JOBS,
        "DeleteBackupData": _PROTECTION_JOBS,
    }
    return tuple(
        job
        for operation, reach in reaches.items()
        for job in collaborators.azure.list_jobs(vault_id, start=now - reach, operation=operation)
    )


def _is_identified(gap: Gap, last_good: Mapping[str, ServiceTime | None]) -> bool:
    """Whether a gap's identity is known: that of a failing database once its last good backup was looked for."""
    entry = gap.entry
    if entry is None or entry.state is not CoverageState.FAILING or entry.item_id is None:
        return True
    return entry.item_id.key in last_good


def _intent_policies(
    databases: Iterable[DatabaseCoverage],
    listings: VaultListings,
    data: CoverageData,
    collaborators: Collaborators,
) -> dict[tuple[str, str], str | None]:
    """The policies of protection intents, for instances with a database that a rule would protect."""
    if data.on_unprotected is None:
        return {}
    wanted = {
        (entry.place_key, name_key(entry.database.parent))
        for entry in databases
        if entry.auto_protected and entry.state is CoverageState.UNPROTECTED
    }
    policies: dict[tuple[str, str], str | None] = {}
    for item in listings.protectable.usable:
        key = (listings.place_key(item), name_key(item.name))
        if item.is_database or not item.is_auto_protected or key not in wanted:
            continue
        intents = collaborators.azure.list_protection_intents(
            listings.vault_id,
            item_name=item.name,
            item_type=item.item_type,
            container=item.container,
        )
        policies[key] = next((intent.policy_name for intent in intents if intent.policy_name), None)
    return policies
