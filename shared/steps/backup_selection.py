"""Which databases a backup request backs up, and why some cannot be backed up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.engine.result import Failure
from shared.messages.error_codes import ErrorCode
from shared.messages.identity import Database
from shared.messages.requests import BackupData, BackupType
from shared.names import name_key
from shared.steps.candidates import Candidate, is_protected
from shared.steps.matching import match
from shared.steps.missing_databases import missing
from shared.steps.selection import Selection

if TYPE_CHECKING:
    from shared.azure_backup.models import ProtectedItem


@dataclass(frozen=True)
class BackupChoice:
    """A database that a backup request backs up."""

    candidate: Candidate
    item: ProtectedItem
    by_pattern: bool


def select_for_backup(
    data: BackupData, available: Sequence[Candidate], *, hint: str = ""
) -> Selection[BackupChoice]:
    """The selection of a backup request, as far as the listing of protected items tells.

    `hint` is added to the error where a selector matches no database.
    """
    why = " ".join(filter(None, ("A database is backed up only once it is protected.", hint)))
    live = [
        candidate
        for candidate in available
        if candidate.protected is not None or candidate.unusable is not None
    ]
    meaning = match(live, databases=data.databases, exclude=data.exclude, include_system=data.include_system)
    selection: Selection[BackupChoice] = Selection(
        failures=[
            missing(selector, live, vm_id=data.vm_id, why=why, protected_only=True)
            for selector in meaning.missed
        ],
    )
    for meant in meaning.matches:
        item = meant.candidate.protected
        refusal = meant.cannot
        if refusal is None:
            assert item is not None
            refusal = _cannot_back_up(data.backup_type, meant.candidate.database, item)
        if refusal is None:
            assert item is not None
            selection.tasks.append(BackupChoice(meant.candidate, item, meant.by_pattern))
        else:
            selection.pass_over(meant, *refusal)
    selection.skipped.extend(meaning.left_out)
    return selection


def _cannot_back_up(
    backup_type: BackupType, database: Database, item: ProtectedItem
) -> tuple[str, Failure] | None:
    """Why a backup of that type cannot be taken: the reason to skip the database, and the error where it is named."""
    if item.is_scheduled_for_deferred_delete:
        return "softDeleted", Failure(
            ErrorCode.ITEM_SOFT_DELETED,
            f"the backups of {database} are soft-deleted: undelete and resume it first.",
        )
    if not is_protected(item):
        return "protectionStopped", Failure(
            ErrorCode.PROTECTION_STOPPED,
            f"protection of {database} was stopped ({item.protection_state}): resume it first.",
        )
    if name_key(database.name) == "master" and backup_type is not BackupType.FULL:
        return "typeNotSupported", Failure(
            "UserErrorSQLPODoesNotSupportBackupType",
            f"{database} allows only Full backups, not {backup_type}.",
        )
    if backup_type is BackupType.LOG and (item.recovery_model or "").lower() == "simple":
        return "typeNotSupported", Failure(
            "UserErrorSQLPODoesNotSupportBackupType",
            f"{database} uses the simple recovery model, which has no log backups.",
        )
    return None
