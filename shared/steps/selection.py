"""Which databases a request means, and what to do with each: pure functions of listings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, NamedTuple, TypeVar

from shared.arm.ids import ContainerId, ProtectedItemId, VirtualMachineId
from shared.azure_backup.listings import Listing, Unusable
from shared.engine.result import Failure
from shared.messages.error_codes import ErrorCode
from shared.messages.identity import Database
from shared.messages.requests import (
    SYSTEM_DATABASES,
    BackupData,
    BackupType,
    DatabaseSelector,
    ProtectData,
)
from shared.names import name_key, same_name

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
    #: why this app cannot use it, though it is listed
    unusable: Unusable | None = None

    @property
    def server_name(self) -> str:
        """The host's name as it appears in jobs."""
        if self.protected is not None:
            return self.protected.server_name
        return self.protectable.server_name if self.protectable is not None else ""

    @property
    def is_system(self) -> bool:
        """Whether it is one of SQL Server's own databases."""
        return name_key(self.database.name) in SYSTEM_DATABASES

    @property
    def cannot(self) -> Failure | None:
        """Why this app can do nothing with it."""
        if self.unusable is None:
            return None
        return Failure(self.unusable.code, f"{self.database} {self.unusable.why}.")


@dataclass(frozen=True)
class Match:
    """A candidate that a request means."""

    candidate: Candidate
    #: whether no selector spells out its name: it is then skipped, instead of failing, where nothing can be done
    by_pattern: bool
    #: others whose names differ only in case, where none is named exactly
    namesakes: tuple[Candidate, ...] = ()

    @property
    def cannot(self) -> tuple[str, Failure] | None:
        """Why no operation can be done on it: the reason to skip it, and the error where it is named."""
        if self.namesakes:
            names = listing(str(one.database) for one in (self.candidate, *self.namesakes))
            text = f"several databases are called so, and only their case tells them apart: {names}. Name one exactly."
            return "ambiguousName", Failure(ErrorCode.AMBIGUOUS_DATABASE, text)
        error = self.candidate.cannot
        return (self.candidate.unusable.reason, error) if error and self.candidate.unusable else None


T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Selection(Generic[T]):
    """The result of a selection: work, databases that fail at once, and those skipped, by reason."""

    tasks: list[T] = field(default_factory=list)
    failures: list[tuple[Database, Failure]] = field(default_factory=list)
    skipped: list[tuple[Database, str]] = field(default_factory=list)
    #: how many selectors match no known database
    missed: int = 0

    def pass_over(self, found: Match, reason: str | None, error: Failure) -> None:
        """Skip a match of a pattern; one that is named, or without a reason to skip it, fails."""
        if found.by_pattern and reason is not None:
            self.skipped.extend((one.database, reason) for one in (found.candidate, *found.namesakes))
        else:
            self.failures.append((found.candidate.database, error))

    @property
    def outcome_count(self) -> int:
        """How many outcomes will follow: at least one."""
        return max(1, len(self.tasks) + len(self.failures))

    @property
    def reasons(self) -> dict[str, int]:
        """How many were skipped, by reason."""
        return dict(Counter(reason for _, reason in self.skipped))

    @property
    def skipped_names(self) -> tuple[str, ...]:
        """The databases that were skipped, in the order of their `reasons`."""
        order = list(self.reasons)
        ordered = sorted(self.skipped, key=lambda skipped: order.index(skipped[1]))
        return tuple(str(database) for database, _ in ordered)


def listing(names: Iterable[str]) -> str:
    """Names in a sentence, at most twenty of them."""
    unique = sorted(set(names), key=lambda name: (name_key(name), name))
    if not unique:
        return "none"
    shown = ", ".join(unique[:_NAMED_IN_ERRORS])
    return shown if len(unique) <= _NAMED_IN_ERRORS else f"{shown} and {len(unique) - _NAMED_IN_ERRORS} more"


def machines_instead(protected: Listing[ProtectedItem], vm_id: VirtualMachineId | None) -> str:
    """A sentence on which VMs the vault protects databases, if it protects none on the requested VM; else empty."""
    machines = {item.virtual_machine_id for item in protected.usable if item.virtual_machine_id is not None}
    machines |= {
        item.virtual_machine_id for item in protected.unusable if item.virtual_machine_id is not None
    }
    if vm_id is None or vm_id in machines:
        return ""
    return f"The vault protects databases on these VMs: {listing(map(str, machines))}."


#: Nothing is listed.
NOTHING: Final[Listing[Any]] = Listing([], [])


def unusable_container(containers: Iterable[Unusable], vm_id: VirtualMachineId | None) -> Failure | None:
    """The Failure where the VM is registered as a container that this app cannot use."""
    for container in containers:
        machine = container.virtual_machine_id
        told = machine is not None or container.container is not None
        if vm_id is not None and told and _is_on(vm_id, machine, container.container):
            return Failure(
                container.code,
                f"the virtual machine {vm_id} is registered as {container.shown}, which {container.why}.",
            )
    return None


def candidates(
    protected: Listing[ProtectedItem],
    protectable: Listing[ProtectableItem],
    *,
    vm_id: VirtualMachineId | None,
    container: ContainerId | None,
) -> list[Candidate]:
    """The databases of a VM (or of the whole vault), each once; a protected one is not protectable too.

    A protectable database of an instance counts only with its `container`, which tells its VM; one of an availability
    group always counts. Databases that this app cannot use are included.
    """
    found = _Found(vm_id, container)
    for item in protected.usable:
        found.add_protected(item)
    for unusable in protected.unusable:
        found.add_unusable_item(unusable)
    for offered in protectable.usable:
        found.add_protectable(offered)
    for unusable in protectable.unusable:
        found.add_unusable_offer(unusable)
    return found.candidates()


class _Found:
    """The databases found so far, each once."""

    def __init__(self, vm_id: VirtualMachineId | None, container: ContainerId | None) -> None:
        self._vm_id = vm_id
        self._container = container
        # Names that differ only in case may be two databases: that depends on the instance's collation.
        self._found: dict[tuple[str, str], Candidate] = {}
        #: instances that are protected as a whole
        self._whole: dict[tuple[str, str], Unusable] = {}

    def add_protected(self, item: ProtectedItem) -> None:
        if not item.in_availability_group and not _is_on(
            self._vm_id, item.virtual_machine_id, item.id.container
        ):
            return
        # As the request spells the VM: the service writes parts of the id in lower case.
        database = _database(item, self._vm_id or item.virtual_machine_id)
        known = self._known(database)
        # A database that was deleted and protected again is listed twice: the live item counts.
        if known is None or _is_soft_deleted(known):
            self._add(Candidate(database=database, protected=item))

    def add_unusable_item(self, unusable: Unusable) -> None:
        machine = unusable.virtual_machine_id
        if not unusable.in_availability_group and not _is_on(self._vm_id, machine, unusable.container):
            return
        database = _unusable_database(unusable, self._vm_id or machine)
        if unusable.is_whole_instance:
            self._whole[_place(database)] = unusable
        elif self._known(database) is None:
            self._add(Candidate(database=database, unusable=unusable))

    def add_protectable(self, offered: ProtectableItem) -> None:
        if not offered.is_database:
            return
        if not offered.in_availability_group and offered.container != self._container:
            return
        database = _database(offered, self._vm_id)
        known = self._known(database)
        if known is None:
            self._add(Candidate(database=database, protectable=offered))
        elif _is_soft_deleted(known):
            self._add(replace(known, protectable=offered))

    def add_unusable_offer(self, unusable: Unusable) -> None:
        elsewhere = unusable.container is not None and unusable.container != self._container
        if not unusable.is_database or (elsewhere and not unusable.in_availability_group):
            return
        database = _unusable_database(unusable, self._vm_id)
        if self._known(database) is None:
            self._add(Candidate(database=database, unusable=unusable))

    def candidates(self) -> list[Candidate]:
        """All candidates; a database that is not protected on its own is protected with its instance, or will be."""
        told = [
            replace(one, protectable=None, unusable=whole)
            if one.protected is None
            and one.unusable is None
            and (whole := self._whole.get(_place(one.database))) is not None
            else one
            for one in self._found.values()
        ]
        places = {_place(one.database) for one in told}
        return told + [
            Candidate(
                database=_unusable_database(entry, self._vm_id or entry.virtual_machine_id), unusable=entry
            )
            for place, entry in self._whole.items()
            if place not in places
        ]

    def _known(self, database: Database) -> Candidate | None:
        return self._found.get((database.key, database.name))

    def _add(self, candidate: Candidate) -> None:
        self._found[candidate.database.key, candidate.database.name] = candidate


def _database(item: ProtectedItem | ProtectableItem, machine: VirtualMachineId | None) -> Database:
    return Database.inside(item.instance, item.name, group=item.in_availability_group, vm_id=machine)


def _is_soft_deleted(candidate: Candidate) -> bool:
    return candidate.protected is not None and candidate.protected.is_scheduled_for_deferred_delete


def _is_on(
    vm_id: VirtualMachineId | None, machine: VirtualMachineId | None, container: ContainerId | None
) -> bool:
    """Whether an entry with that machine and container is, or may be, on the VM; None: on any VM.

    The container's name decides where the machine is missing or wrong; where neither tells, any VM is possible.
    """
    if vm_id is None or machine is not None or container is None:
        return vm_id is None or machine is None or machine == vm_id
    group, _, name = container.name.rpartition(";")
    return same_name(name, vm_id.name) and same_name(group.rpartition(";")[2], vm_id.resource_group)


def _place(database: Database) -> tuple[str, str]:
    """Identifies an instance or availability group."""
    vm = database.vm_id.key if database.vm_id is not None else ""
    return vm, name_key(database.parent)


def _unusable_database(unusable: Unusable, vm_id: VirtualMachineId | None) -> Database:
    group = unusable.in_availability_group
    return Database.inside(unusable.parent, unusable.name, group=group, vm_id=vm_id)


def _parent(candidate: Candidate) -> tuple[str, bool]:
    return candidate.database.parent, candidate.database.availability_group is not None


def _may_be_inside(selector: DatabaseSelector, candidate: Candidate) -> bool:
    """Whether a selector may mean databases of the candidate's instance or group; always, where that is unknown."""
    unknown = candidate.unusable is not None and not candidate.database.parent
    return unknown or selector.matches_parent(*_parent(candidate))


def _may_match(selector: DatabaseSelector, candidate: Candidate) -> bool:
    """Whether a selector, as a pattern, may mean the candidate; one without a name may be anything."""
    if candidate.unusable is not None and candidate.unusable.is_nameless:
        return _may_be_inside(selector, candidate)
    parent, is_group = _parent(candidate)
    known = parent or (selector.parent if candidate.unusable is not None else parent)
    return selector.matches(known, candidate.database.name, is_group)


class KnownNames(NamedTuple):
    """Candidates indexed by name key: thousands are looked up thousands of times."""

    by_name: dict[str, list[Candidate]]
    #: those whose names are shown escaped, by the escaped name: nobody could type them otherwise
    by_shown: dict[str, list[Candidate]]

    def called(self, name: str) -> list[Candidate]:
        """The candidates of that name."""
        key = name_key(name)
        return self.by_name.get(key) or self.by_shown.get(key, [])


def known_names(available: Iterable[Candidate]) -> KnownNames:
    """The candidates by their names."""
    known = KnownNames({}, {})
    for candidate in available:
        known.by_name.setdefault(name_key(candidate.database.name), []).append(candidate)
        unusable = candidate.unusable
        if unusable is not None and unusable.shown != unusable.name:
            known.by_shown.setdefault(name_key(unusable.shown), []).append(candidate)
    return known


def meant_by(selector: DatabaseSelector, available: KnownNames) -> tuple[list[list[Candidate]], bool]:
    """The candidates that a selector means, and whether it spells out their names.

    A name that is spelled out means the databases of that name, not what it would match as a pattern; but `*` is
    everything, even where a database is called `*`. Of several on one instance it means the exact match; if there is
    none, those in one list cannot be told apart.
    """
    named: dict[str, list[Candidate]] = {}
    spelled_out = () if selector.database == "*" else available.called(selector.database)
    for candidate in spelled_out:
        if _may_be_inside(selector, candidate):
            named.setdefault(candidate.database.key, []).append(candidate)
    if named:
        return [
            [one for one in same if one.database.name == selector.database] or same for same in named.values()
        ], True
    if not selector.is_pattern:
        return [], False
    matched: dict[str, list[Candidate]] = {}
    for candidate in chain.from_iterable(available.by_name.values()):
        if _may_match(selector, candidate):
            matched.setdefault(candidate.database.key, []).append(candidate)
    return list(matched.values()), False


def called(available: Sequence[Candidate], database: Database) -> list[Match]:
    """The candidates of that name on that instance or in that group, on any VM; without patterns."""
    named: dict[str, list[Candidate]] = {}
    for candidate in known_names(available).called(database.name):
        other = candidate.database
        same_kind = (other.availability_group is None) == (database.availability_group is None)
        if same_kind and same_name(other.parent, database.parent):
            named.setdefault(other.key, []).append(candidate)
    exactly = [[one for one in same if one.database.name == database.name] or same for same in named.values()]
    return [Match(same[0], by_pattern=False, namesakes=tuple(same[1:])) for same in exactly]


def protected_as_a_whole(available: Sequence[Candidate]) -> Unusable | None:
    """The entry of an instance that is protected as a whole, if all candidates are such entries."""
    wholes = [
        one.unusable for one in available if one.unusable is not None and one.unusable.is_whole_instance
    ]
    return wholes[0] if wholes and len(wholes) == len(available) else None


def inside(available: Iterable[Candidate], database: Database) -> list[Candidate]:
    """The candidates on the same instance, or in the same availability group, as a database."""
    is_group = database.availability_group is not None
    return [
        one
        for one in available
        if _parent(one)[1] == is_group and same_name(one.database.parent, database.parent)
    ]


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What the selectors of a request mean."""

    #: each database once
    matches: list[Match]
    #: selectors that match none
    missed: list[DatabaseSelector]
    #: what a rule of the request leaves out, with the rule as the reason
    left_out: list[tuple[Database, str]]


def match(
    available: Sequence[Candidate],
    *,
    databases: Sequence[DatabaseSelector],
    exclude: Sequence[DatabaseSelector],
    include_system: bool,
) -> Meaning:
    """The candidates that the selectors mean, each once; the selectors that match none; and what is left out."""
    names = known_names(available)
    excluded = {
        id(candidate) for selector in exclude for same in meant_by(selector, names)[0] for candidate in same
    }
    named: dict[str, list[Candidate]] = {}
    matched: dict[str, list[Candidate]] = {}
    #: keyed like outcomes: a name that is given twice, in two spellings, has one outcome
    missed: dict[str, DatabaseSelector] = {}
    found_any = False
    for selector in databases:
        groups, spelled_out = meant_by(selector, names)
        if any(spelled_out or include_system or not same[0].is_system for same in groups):
            found_any = True
        else:
            missed.setdefault(name_key(str(selector)), selector)
        meant = named if spelled_out else matched
        for same in groups:
            known = meant.setdefault(same[0].database.key, [])
            known += [candidate for candidate in same if candidate not in known]
    if found_any:
        # A request for everything, on instances and in groups, misses nothing where there are no groups.
        missed = {key: selector for key, selector in missed.items() if not selector.is_everything}
    matches: list[Match] = []
    left_out: list[tuple[Database, str]] = []
    for key in {**named, **matched}:
        by_pattern = key not in named
        same = matched[key] if by_pattern else named[key]
        if by_pattern and same[0].is_system and not include_system:
            left_out.append((same[0].database, "systemDatabase"))
            continue
        left_out += [(one.database, "excluded") for one in same if id(one) in excluded]
        kept = [candidate for candidate in same if id(candidate) not in excluded]
        if kept:
            matches.append(Match(kept[0], by_pattern, tuple(kept[1:])))
    return Meaning(matches=matches, missed=list(missed.values()), left_out=left_out)


@dataclass(frozen=True)
class Trouble:
    """Why databases may be unknown: the error of the last inquiry of their VM, instance or group."""

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
    protected_only: bool = False,
) -> tuple[Database, Failure]:
    """The failure of a selector that matches no database: what was asked for, and what exists.

    `protected_only`: unprotected databases are not known, so the database may exist.
    """
    database = Database(
        vm_id=vm_id if selector.availability_group is None else None,
        instance=selector.instance,
        availability_group=selector.availability_group,
        name=selector.database,
    )
    place = f" on {vm_id.path}" if vm_id is not None else ""
    asked = "no database matches" if selector.is_pattern else "there is no database"
    found = "there are"
    if protected_only:
        asked = "no protected database matches" if selector.is_pattern else "the vault protects no database"
        found = "it protects there" if vm_id is not None else "it protects"
    there = listing(str(candidate.database) for candidate in available)
    there_too = [one for one in available if selector.matches_parent(*_parent(one))]
    if (whole := protected_as_a_whole(there_too)) is not None:
        return database, Failure(whole.code, f"{database} {whole.why}.")
    code: str = ErrorCode.DATABASE_NOT_FOUND
    trouble = next(
        (known for name, known in parents.items() if selector.matches_parent(name, known.is_group)), trouble
    )
    if trouble is not None:
        why = trouble.text
        if not there_too:
            code = trouble.code
    elif any(same_name(str(candidate.database), selector.database) for candidate in available):
        # As outcomes are shown: VM, instance, database.
        why = f"If {selector.instance} is a VM, give it as vmId, and {selector.database} as instance and database."
    return database, Failure(code, f"{asked} {selector}{place}; {found}: {there}.{f' {why}' if why else ''}")


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
    for found in meaning.matches:
        choice = _choose_protection(data, found, policy_name)
        if isinstance(choice, ProtectChoice):
            selection.tasks.append(choice)
        else:
            selection.pass_over(found, *choice)
    selection.skipped.extend(meaning.left_out)
    return selection


def is_protected(item: ProtectedItem) -> bool:
    """Whether backups of a database go on: it is neither soft-deleted nor stopped."""
    stopped = item.protection_state.lower() in ("protectionstopped", "backupssuspended")
    return not item.is_scheduled_for_deferred_delete and not stopped


def _choose_protection(
    data: ProtectData, found: Match, policy_name: str
) -> ProtectChoice | tuple[str | None, Failure]:
    if found.cannot is not None:
        return found.cannot
    candidate = found.candidate
    database = candidate.database
    item = candidate.protected
    if item is None:
        offered = candidate.protectable
        assert offered is not None
        if not offered.is_protectable:
            trouble = offered.prebackup_validation
            detail = f" ({trouble.message})" if trouble is not None and trouble.message else ""
            return "notProtectable", Failure(
                trouble.code if trouble is not None else ErrorCode.NOT_PROTECTABLE,
                f"the service does not offer {database} for protection{detail}.",
            )
        return ProtectChoice(candidate, offered.protected_item_id, "enable", policy_name)
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


@dataclass(frozen=True)
class BackupChoice:
    """What a backup request does with one database."""

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
    live = [one for one in available if one.protected is not None or one.unusable is not None]
    meaning = match(live, databases=data.databases, exclude=data.exclude, include_system=data.include_system)
    selection: Selection[BackupChoice] = Selection(
        failures=[
            missing(selector, live, vm_id=data.vm_id, why=why, protected_only=True)
            for selector in meaning.missed
        ]
    )
    for found in meaning.matches:
        item = found.candidate.protected
        reason, error = found.cannot or _cannot_back_up(data.backup_type, found.candidate.database, item)
        if error is None:
            assert item is not None
            selection.tasks.append(BackupChoice(found.candidate, item, found.by_pattern))
        else:
            selection.pass_over(found, reason, error)
    selection.skipped.extend(meaning.left_out)
    return selection


def _cannot_back_up(
    backup_type: BackupType, database: Database, item: ProtectedItem | None
) -> tuple[str, Failure | None]:
    assert item is not None
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
    model = (item.recovery_model or "").lower()
    if backup_type is BackupType.LOG and model == "simple":
        return "typeNotSupported", Failure(
            "UserErrorSQLPODoesNotSupportBackupType",
            f"{database} uses the simple recovery model, which has no log backups.",
        )
    return "", None
