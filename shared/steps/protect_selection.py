"""What a protect request does with each of its databases, and why nothing can be done with some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from shared.arm.ids import ProtectedItemId
from shared.engine.result import Failure
from shared.messages.error_codes import ErrorCode
from shared.messages.identity import Database
from shared.messages.requests import ProtectData
from shared.names import same_name
from shared.steps.candidates import Candidate, is_protected
from shared.steps.matching import Match, match
from shared.steps.missing_databases import Trouble, missing
from shared.steps.selection import Selection

if TYPE_CHECKING:
    from shared.azure_backup.models import ProtectedItem

_GROUPS_NEED_A_NODE: Final = (
    "An availability group and its databases are found on the VMs of its replicas: give as vmId the one of the"
    " primary, which is then registered and inquired."
)


@dataclass(frozen=True)
class ProtectChoice:
    """What a protect request does with one database."""

    candidate: Candidate
    item: ProtectedItemId
    action: Literal["enable", "already", "changePolicy", "resume", "undelete", "autoProtect"]
    policy_name: str


def select_for_protection(
    data: ProtectData,
    available: Sequence[Candidate],
    *,
    policy_name: str,
    trouble: Trouble | None = None,
    parents: Mapping[str, Trouble] = MappingProxyType({}),
) -> Selection[ProtectChoice]:
    """The selection of a protect request."""
    meaning = match(
        available,
        databases=data.databases,
        exclude=data.exclude,
        include_system=data.include_system,
    )
    selection: Selection[ProtectChoice] = Selection(
        missed=len(meaning.missed),
        failures=[
            missing(
                selector,
                available,
                vm_id=data.vm_id,
                why=_GROUPS_NEED_A_NODE if data.vm_id is None else "",
                trouble=trouble,
                parents=parents,
            )
            for selector in meaning.missed
        ],
    )
    for meant in meaning.matches:
        choice = _choose(data, meant, policy_name)
        if isinstance(choice, ProtectChoice):
            selection.tasks.append(choice)
        else:
            selection.pass_over(meant, *choice)
    selection.skipped.extend(meaning.left_out)
    return selection


def _choose(data: ProtectData, meant: Match, policy_name: str) -> ProtectChoice | tuple[str | None, Failure]:
    """What to do with a database; or the reason to skip it, if there is one, and the error where it is named."""
    if meant.cannot is not None:
        return meant.cannot
    candidate = meant.candidate
    database = candidate.database
    item = candidate.protected
    if item is None:
        return _choose_unprotected(candidate, policy_name)
    if item.is_scheduled_for_deferred_delete:
        if data.undelete:
            return ProtectChoice(candidate, item.id, "undelete", policy_name)
        return "softDeleted", Failure(
            ErrorCode.ITEM_SOFT_DELETED,
            f"the backups of {database} are soft-deleted; set undelete to true to bring them back and protect"
            " it again.",
        )
    if not is_protected(item):
        if data.resume:
            return ProtectChoice(candidate, item.id, "resume", policy_name)
        return "protectionStopped", Failure(
            ErrorCode.PROTECTION_STOPPED,
            f"protection of {database} was stopped ({item.protection_state}); set resume to true to"
            " resume it.",
        )
    kept = policy_kept(database, item, policy_name=policy_name, on_existing=data.on_existing)
    if isinstance(kept, Failure):
        return None, kept
    if kept is not None:
        return ProtectChoice(candidate, item.id, "already", kept)
    return ProtectChoice(candidate, item.id, "changePolicy", policy_name)


def _choose_unprotected(candidate: Candidate, policy_name: str) -> ProtectChoice | tuple[str, Failure]:
    offered = candidate.protectable
    assert offered is not None
    if offered.is_protectable:
        return ProtectChoice(candidate, offered.protected_item_id, "enable", policy_name)
    error = offered.prebackup_validation
    detail = f" ({error.message})" if error is not None and error.message else ""
    return "notProtectable", Failure(
        error.code if error is not None else ErrorCode.NOT_PROTECTABLE,
        f"the service does not offer {candidate.database} for protection{detail}.",
    )


def policy_kept(
    database: Database,
    item: ProtectedItem,
    *,
    policy_name: str,
    on_existing: Literal["fail", "keep", "changePolicy"],
) -> str | Failure | None:
    """The policy that keeps protecting a database; None where it is to be changed.

    A Failure where another policy protects it and the request calls that an error.
    """
    current = item.policy_name
    if current is not None and same_name(current, policy_name):
        return policy_name
    if on_existing == "keep":
        return current or policy_name
    if on_existing == "changePolicy":
        return None
    return Failure(
        ErrorCode.PROTECTED_BY_ANOTHER_POLICY,
        f"{database} is protected by policy {current}, not by {policy_name}; set onExisting to"
        " changePolicy or keep.",
    )
