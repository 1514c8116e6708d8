"""Which databases a request means, and what is to be done with each: pure functions of what is listed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from shared.arm.ids import ContainerId, ProtectedItemId, VirtualMachineId
from shared.messages.requests import (
    SYSTEM_DATABASES,
    BackupData,
    BackupType,
    DatabaseSelector,
    ProtectData,
)
from shared.messages.steps import Database
from shared.workflow.step import WorkflowError

if TYPE_CHECKING:
    from shared.azure_backup.models import ProtectableItem, ProtectedItem

_NAMED_IN_ERRORS = 20
_GROUPS_NEED_A_NODE = (
    "An availability group and its databases are found on the VMs of its replicas: give as vmId the one of the"
    " primary, which is then registered and inquired."
)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One database of the estate, protected or not."""

    database: Database
    protected: ProtectedItem | None = None
    protectable: ProtectableItem | None = None

    @property
    def server_name(self) -> str:
        """The host's name, as jobs name it."""
        if self.protected is not None:
            return self.protected.server_name
        return self.protectable.server_name if self.protectable is not None else ""

    @property
    def is_system(self) -> bool:
        """Whether it is one of SQL Server's own databases."""
        return self.database.name.casefold() in SYSTEM_DATABASES


@dataclass(frozen=True)
class Match:
    """A candidate that a request means."""

    candidate: Candidate
    #: every selector that means it is a pattern: what cannot be done is skipped rather than failed
    by_pattern: bool


T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Selection(Generic[T]):
    """What a request comes to: work, databases that fail at once, and those passed over, by reason."""

    tasks: list[T] = field(default_factory=list)
    failures: list[tuple[Database, WorkflowError]] = field(default_factory=list)
    skipped: list[tuple[Database, str]] = field(default_factory=list)
    #: how many selectors mean no database that is known
    missed: int = 0

    @property
    def outcome_count(self) -> int:
        """How many outcomes will come of it: at least one."""
        return max(1, len(self.tasks) + len(self.failures))

    @property
    def reasons(self) -> dict[str, int]:
        """How many were skipped, by reason."""
        return dict(Counter(reason for _, reason in self.skipped))

    @property
    def skipped_names(self) -> tuple[str, ...]:
        """The databases that were skipped."""
        return tuple(str(database) for database, _ in self.skipped)


def listing(names: Iterable[str]) -> str:
    """Names for a sentence, at most twenty of them."""
    unique = sorted(set(names), key=str.casefold)
    if not unique:
        return "none"
    shown = ", ".join(unique[:_NAMED_IN_ERRORS])
    return shown if len(unique) <= _NAMED_IN_ERRORS else f"{shown} and {len(unique) - _NAMED_IN_ERRORS} more"


def machines_instead(protected: Iterable[ProtectedItem], vm_id: VirtualMachineId | None) -> str:
    """Where the vault protects databases, where it protects none on the VM that was asked for; else nothing."""
    machines = {item.virtual_machine_id for item in protected if item.virtual_machine_id is not None}
    if vm_id is None or vm_id in machines:
        return ""
    return f"The vault protects databases on these VMs: {listing(map(str, machines))}."


def candidates(
    protected: Sequence[ProtectedItem],
    protectable: Sequence[ProtectableItem],
    *,
    vm_id: VirtualMachineId | None,
    container: ContainerId | None,
) -> list[Candidate]:
    """The databases of a VM (or of the whole vault), each once; a protected one is not protectable too.

    Of what is protectable, an instance's databases count only with its `container`, which tells their VM;
    those of availability groups always do.
    """
    found: dict[str, Candidate] = {}
    for item in protected:
        is_group = item.in_availability_group
        if vm_id is not None and not is_group and item.virtual_machine_id != vm_id:
            continue
        database = Database(
            vm_id=None if is_group else item.virtual_machine_id,
            instance=None if is_group else item.instance,
            availability_group=item.instance if is_group else None,
            name=item.name,
        )
        known = found.get(database.key)
        # A database that was deleted and protected anew is listed twice: the live item counts.
        if known is None or (
            known.protected is not None and known.protected.is_scheduled_for_deferred_delete
        ):
            found[database.key] = Candidate(database=database, protected=item)
    for offered in protectable:
        if not offered.is_database:
            continue
        is_group = offered.in_availability_group
        if not is_group and offered.container != container:
            continue
        database = Database(
            vm_id=None if is_group else vm_id,
            instance=None if is_group else offered.instance,
            availability_group=offered.instance if is_group else None,
            name=offered.name,
        )
        known = found.get(database.key)
        if known is None:
            found[database.key] = Candidate(database=database, protectable=offered)
        elif known.protected is not None and known.protected.is_scheduled_for_deferred_delete:
            found[database.key] = Candidate(database=database, protected=known.protected, protectable=offered)
    return list(found.values())


def match(
    available: Sequence[Candidate],
    *,
    databases: Sequence[DatabaseSelector],
    exclude: Sequence[DatabaseSelector],
    include_system: bool,
) -> tuple[list[Match], list[DatabaseSelector]]:
    """The candidates that the selectors mean, each once, and the selectors that mean none."""
    matched: dict[str, Match] = {}
    #: by what their outcomes are told apart: a name that is given twice, in two spellings, has one outcome
    missed: dict[str, DatabaseSelector] = {}
    for selector in databases:
        hit = False
        for candidate in available:
            database = candidate.database
            parts = (database.parent, database.name, database.availability_group is not None)
            literal = selector.names(*parts)
            if not literal and not (selector.is_pattern and selector.matches(*parts)):
                continue
            if any(excluded.matches(*parts) for excluded in exclude):
                hit = True
                continue
            if not literal and candidate.is_system and not include_system:
                continue
            hit = True
            known = matched.get(database.key)
            matched[database.key] = Match(
                candidate, by_pattern=not literal and (known is None or known.by_pattern)
            )
        if not hit:
            missed.setdefault(str(selector).lower(), selector)
    return list(matched.values()), list(missed.values())


@dataclass(frozen=True)
class Trouble:
    """Why databases may not be known: what the last inquiry of their VM, instance or group ended with."""

    code: str
    text: str
    is_group: bool = False


def parent_troubles(protectable: Sequence[ProtectableItem]) -> dict[str, Trouble]:
    """What is wrong with instances and availability groups as a whole, by their names.

    An instance without sysadmin rights, a failover cluster instance or a basic availability group is listed
    itself, with the reason, while its databases are not.
    """
    found: dict[str, Trouble] = {}
    for item in protectable:
        trouble = item.prebackup_validation
        if trouble is None or not (item.is_instance or item.is_availability_group):
            continue
        kind = "availability group" if item.is_availability_group else "instance"
        text = f"The service does not back up the {kind} {item.name}: {trouble.code}: {trouble.message}"
        found[item.name] = Trouble(trouble.code, text.rstrip(": "), item.is_availability_group)
    return found


def missing(
    selector: DatabaseSelector,
    available: Sequence[Candidate],
    *,
    vm_id: VirtualMachineId | None,
    why: str = "",
    trouble: Trouble | None = None,
    parents: Mapping[str, Trouble] = MappingProxyType({}),
) -> tuple[Database, WorkflowError]:
    """The failure of a selector that means no database: what was asked, and what there is."""
    database = Database(
        vm_id=vm_id if selector.availability_group is None else None,
        instance=selector.instance,
        availability_group=selector.availability_group,
        name=selector.database,
    )
    place = f" on {vm_id.path}" if vm_id is not None else ""
    asked = "no database matches" if selector.is_pattern else "there is no database"
    there = listing(str(candidate.database) for candidate in available)
    code = "DatabaseNotFound"
    trouble = next(
        (found for name, found in parents.items() if selector.matches_parent(name, found.is_group)), trouble
    )
    if trouble is not None:
        why = trouble.text
        if not any(
            selector.matches_parent(
                candidate.database.parent, candidate.database.availability_group is not None
            )
            for candidate in available
        ):
            code = trouble.code
    return database, WorkflowError(
        code, f"{asked} {selector}{place}; there are: {there}.{f' {why}' if why else ''}"
    )


@dataclass(frozen=True)
class ProtectChoice:
    """What a protect request comes to for one database."""

    candidate: Candidate
    item: ProtectedItemId
    action: Literal["enable", "already", "changePolicy", "resume", "undelete"]
    policy_name: str


def select_for_protection(
    data: ProtectData,
    available: Sequence[Candidate],
    *,
    policy_name: str,
    trouble: Trouble | None = None,
    parents: Mapping[str, Trouble] = MappingProxyType({}),
) -> Selection[ProtectChoice]:
    """What a protect request comes to."""
    matches, missed = match(
        available,
        databases=data.databases,
        exclude=data.exclude,
        include_system=data.include_system,
    )
    selection: Selection[ProtectChoice] = Selection(
        missed=len(missed),
        failures=[
            missing(
                selector,
                available,
                vm_id=data.vm_id,
                why=_GROUPS_NEED_A_NODE if data.vm_id is None else "",
                trouble=trouble,
                parents=parents,
            )
            for selector in missed
        ],
    )
    for found in matches:
        choice = _choose_protection(data, found, policy_name)
        if isinstance(choice, ProtectChoice):
            selection.tasks.append(choice)
            continue
        reason, error = choice
        if found.by_pattern and reason is not None:
            selection.skipped.append((found.candidate.database, reason))
        else:
            selection.failures.append((found.candidate.database, error))
    return selection


def is_protected(item: ProtectedItem) -> bool:
    """Whether backups of a database go on: it is neither soft-deleted nor stopped."""
    stopped = item.protection_state.lower() in ("protectionstopped", "backupssuspended")
    return not item.is_scheduled_for_deferred_delete and not stopped


def _choose_protection(
    data: ProtectData, found: Match, policy_name: str
) -> ProtectChoice | tuple[str | None, WorkflowError]:
    candidate = found.candidate
    database = candidate.database
    item = candidate.protected
    if item is None:
        offered = candidate.protectable
        assert offered is not None
        if not offered.is_protectable:
            trouble = offered.prebackup_validation
            detail = f" ({trouble.message})" if trouble is not None and trouble.message else ""
            return "notProtectable", WorkflowError(
                trouble.code if trouble is not None else "NotProtectable",
                f"the service does not offer {database} for protection{detail}.",
            )
        return ProtectChoice(candidate, offered.protected_item_id, "enable", policy_name)
    if item.is_scheduled_for_deferred_delete:
        if data.undelete:
            return ProtectChoice(candidate, item.id, "undelete", policy_name)
        return "softDeleted", WorkflowError(
            "ItemSoftDeleted",
            f"the backups of {database} are soft-deleted; set undelete to true to bring them back and protect"
            " it again.",
        )
    if not is_protected(item):
        if data.resume:
            return ProtectChoice(candidate, item.id, "resume", policy_name)
        return "protectionStopped", WorkflowError(
            "ProtectionStopped",
            f"protection of {database} was stopped ({item.protection_state}); set resume to true to"
            " resume it.",
        )
    try:
        kept = policy_kept(database, item, policy_name=policy_name, on_existing=data.on_existing)
    except WorkflowError as error:
        return None, error
    if kept is not None:
        return ProtectChoice(candidate, item.id, "already", kept)
    return ProtectChoice(candidate, item.id, "changePolicy", policy_name)


def policy_kept(
    database: Database,
    item: ProtectedItem,
    *,
    policy_name: str,
    on_existing: Literal["fail", "keep", "changePolicy"],
) -> str | None:
    """The policy that goes on protecting a database; None where it is to be changed.

    Raises WorkflowError where another policy protects it and the request takes that for a failure.
    """
    current = item.policy_name
    if current is not None and current.casefold() == policy_name.casefold():
        return policy_name
    if on_existing == "keep":
        return current or policy_name
    if on_existing == "changePolicy":
        return None
    raise WorkflowError(
        "ProtectedByAnotherPolicy",
        f"{database} is protected by policy {current}, not by {policy_name}; set onExisting to"
        " changePolicy or keep.",
    )


@dataclass(frozen=True)
class BackupChoice:
    """What a backup request comes to for one database."""

    candidate: Candidate
    item: ProtectedItem
    by_pattern: bool


def select_for_backup(
    data: BackupData, available: Sequence[Candidate], *, hint: str = ""
) -> Selection[BackupChoice]:
    """What a backup request comes to, as far as the listing of protected items tells.

    `hint` is told where a selector means no database.
    """
    why = " ".join(filter(None, ("A database is backed up only once it is protected.", hint)))
    live = [candidate for candidate in available if candidate.protected is not None]
    matches, missed = match(
        live, databases=data.databases, exclude=data.exclude, include_system=data.include_system
    )
    selection: Selection[BackupChoice] = Selection(
        failures=[missing(selector, live, vm_id=data.vm_id, why=why) for selector in missed]
    )
    for found in matches:
        item = found.candidate.protected
        assert item is not None
        reason, error = _cannot_back_up(data.backup_type, found.candidate.database, item)
        if error is None:
            selection.tasks.append(BackupChoice(found.candidate, item, found.by_pattern))
        elif found.by_pattern:
            selection.skipped.append((found.candidate.database, reason))
        else:
            selection.failures.append((found.candidate.database, error))
    return selection


def _cannot_back_up(
    backup_type: BackupType, database: Database, item: ProtectedItem
) -> tuple[str, WorkflowError | None]:
    if item.is_scheduled_for_deferred_delete:
        return "softDeleted", WorkflowError(
            "ItemSoftDeleted", f"the backups of {database} are soft-deleted: undelete and resume it first."
        )
    if not is_protected(item):
        return "protectionStopped", WorkflowError(
            "ProtectionStopped",
            f"protection of {database} was stopped ({item.protection_state}): resume it first.",
        )
    if database.name.casefold() == "master" and backup_type is not BackupType.FULL:
        return "typeNotSupported", WorkflowError(
            "UserErrorSQLPODoesNotSupportBackupType",
            f"{database} allows only Full backups, not {backup_type}.",
        )
    model = (item.recovery_model or "").lower()
    if backup_type is BackupType.LOG and model == "simple":
        return "typeNotSupported", WorkflowError(
            "UserErrorSQLPODoesNotSupportBackupType",
            f"{database} uses the simple recovery model, which has no log backups.",
        )
    return "", None
