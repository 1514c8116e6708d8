"""Whose turn a drill is: the databases that a drill request means, as many as it drills, and begun one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from shared.drills import DrillTarget
from shared.engine.message import StepMessage
from shared.engine.result import Collaborators, Continue, Failure, Result, refused
from shared.messages.error_codes import ErrorCode
from shared.messages.events import Status
from shared.messages.requests import MOST_DRILLS, DrillData
from shared.steps.candidates import Candidate, candidates
from shared.steps.drill_checks import (
    in_another_subscription,
    not_a_target,
    not_registered,
    target_for,
    target_in_use,
)
from shared.steps.drill_restores import first_drill
from shared.steps.drill_turns import Sizes, in_turn, last_drills
from shared.steps.due import is_still_wanted
from shared.steps.fixed import fix, spread_in_turn
from shared.steps.matching import match
from shared.steps.missing_databases import missing
from shared.steps.payloads import Drill, DrillPlan, DrillSource
from shared.steps.selection import Selection
from shared.steps.vaults import protected_items

if TYPE_CHECKING:
    from shared.azure_backup.listings import Listing
    from shared.azure_backup.models import ProtectedItem


def select_drills(message: StepMessage[DrillPlan], collaborators: Collaborators) -> Result:
    """Select the databases whose turn it is, once, and begin with the first."""
    if message.payload.fixed is not None:
        return _begin(message, collaborators)
    data = message.payload.data
    wanted = is_still_wanted(message, collaborators, collaborators.settings.drill_schedules)
    if isinstance(wanted, Failure):
        return wanted.end
    if not wanted:
        return Continue()
    target = not_a_target(collaborators.settings, data.target.vm_id, data.target.instance)
    if isinstance(target, Failure):
        return target.end
    if (elsewhere := in_another_subscription(data.vault_id, target.vm_id)) is not None:
        return elsewhere.end
    protected = protected_items(collaborators, data.vault_id)
    if isinstance(protected, Failure):
        return protected.end
    failure = target_in_use(target, protected) or not_registered(collaborators, data.vault_id, target.vm_id)
    if failure is not None:
        return failure.end
    return _select(message, collaborators, target, protected)


def _begin(message: StepMessage[DrillPlan], collaborators: Collaborators) -> Continue:
    """Begin the first drill of a selection that was made."""
    data = message.payload.data
    target = not_a_target(collaborators.settings, data.target.vm_id, data.target.instance)
    if isinstance(target, Failure):
        # The settings have changed since: each drill is refused, and has its outcome.
        target = DrillTarget.model_construct(**dict(data.target))
    destination = target_for(target)
    drill = Drill(
        choice=data.recovery_point,
        check=data.check,
        clean_up=data.clean_up,
        epoch=message.request.epoch,
    )
    return spread_in_turn(
        message, collaborators, lambda tasks: first_drill(tasks, drill, destination), DrillSource
    )


def _select(
    message: StepMessage[DrillPlan],
    collaborators: Collaborators,
    target: DrillTarget,
    protected: Listing[ProtectedItem],
) -> Result:
    data = message.payload.data
    available = candidates(protected, vm_id=None)
    selection, drillable = _drillable(data, available)
    if data.count is None and len(drillable) > MOST_DRILLS:
        return refused(
            ErrorCode.DRILLS_NOT_COUNTED,
            f"data.count: the request means {len(drillable)} databases, and at most {MOST_DRILLS} are drilled by one"
            " request; set count, and those whose last drill is longest ago have their turn.",
        ).end
    count = data.count if data.count is not None else max(1, len(drillable))
    drilled = last_drills(collaborators, data.vault_id) if len(drillable) > 1 else {}
    databases = [candidate.database for candidate in drillable.values()]
    sizes = Sizes(collaborators, data.vault_id, available)
    looked_at = 0
    for database in in_turn(databases, drilled, count=count, now=collaborators.now()):
        candidate = drillable[database.key]
        # A database that is too large takes nobody's turn, but the reads to find that out are bounded.
        if len(selection.tasks) >= count or looked_at >= count + MOST_DRILLS:
            selection.skipped.append((database, "notItsTurn"))
            continue
        looked_at += 1
        failure = _too_large(candidate, target, sizes)
        if failure is None:
            selection.tasks.append(candidate)
        else:
            selection.failures.append((database, failure))
    outcomes = selection.outcome_count
    return fix(message, selection, [_source(candidate, outcomes) for candidate in selection.tasks])


def _drillable(
    data: DrillData, available: Sequence[Candidate]
) -> tuple[Selection[Candidate], dict[str, Candidate]]:
    """The selection with what cannot be drilled, and by their keys the candidates that can be."""
    meaning = match(available, databases=data.databases, exclude=data.exclude, include_system=False)
    selection: Selection[Candidate] = Selection(
        failures=[
            missing(selector, available, vm_id=None, why="Only what is protected can be drilled.")
            for selector in meaning.missed
        ],
        skipped=list(meaning.left_out),
    )
    drillable: dict[str, Candidate] = {}
    for meant in meaning.matches:
        refusal = meant.cannot or _cannot_be_drilled(meant.candidate)
        if refusal is not None:
            selection.pass_over(meant, *refusal)
        else:
            drillable[meant.candidate.database.key] = meant.candidate
    return selection, drillable


def _source(candidate: Candidate, outcome_count: int) -> DrillSource:
    assert candidate.protected is not None
    return DrillSource(
        database=candidate.database,
        item_id=candidate.protected.id.path,
        server_name=candidate.server_name,
        outcome_count=outcome_count,
    )


def _cannot_be_drilled(candidate: Candidate) -> tuple[str | None, Failure] | None:
    """Why a protected database cannot be drilled: the reason to skip it, and the error where it is named.

    A system database is here only where it is named: no pattern means one.
    """
    database, item = candidate.database, candidate.protected
    assert item is not None
    if candidate.is_system:
        text = f"{database} is a system database: those are never drilled."
        return None, Failure(ErrorCode.SYSTEM_DATABASE, text)
    if item.is_scheduled_for_deferred_delete:
        text = f"the backups of {database} are soft-deleted: undelete it before it is drilled."
        return "softDeleted", Failure(ErrorCode.ITEM_SOFT_DELETED, text)
    if item.last_backup_time is None and item.protection_state.lower() == "irpending":
        text = f"{database} was never backed up: there is nothing to restore yet."
        return "neverBackedUp", Failure(ErrorCode.RECOVERY_POINT_NOT_FOUND, text)
    return None


def _too_large(candidate: Candidate, target: DrillTarget, sizes: Sizes) -> Failure | None:
    size = sizes.of(candidate)
    if size is not None and size <= target.max_size_gb * 1024:
        return None
    known = (
        "its size is not known, since no job of the vault's last weeks is a full backup of it"
        if size is None
        else f"by its last full backup it has {size / 1024:,.1f} GB"
    )
    return Failure(
        ErrorCode.DRILL_TOO_LARGE,
        f"{candidate.database} is not drilled: {known}, and {target} takes databases of at most"
        f" {target.max_size_gb:g} GB (maxSizeGB in DRILL_TARGETS).",
        Status.SKIPPED,
    )
