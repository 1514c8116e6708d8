"""What requests leave out, whether the app says so or not (unprotected databases, exclusions that match nothing)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from cli.awaited_requests import AwaitedRequests
from cli.embedded import EmbeddedApp
from cli.encoding import JsonObject
from cli.request_lines import RequestLine
from shared.arm.errors import ArmError, TokenError
from shared.arm.ids import VaultId, VirtualMachineId
from shared.arm.redaction import printable
from shared.azure_backup.calls import Reads
from shared.messages.cloud_events import InvalidMessageError
from shared.messages.events import AcceptedData
from shared.messages.identity import Database
from shared.messages.requests import BackupData, CoverageData, DrillData, ProtectData, RestoreData, read_data
from shared.steps.candidates import candidates

#: How many left-out databases are named for each reason.
_MOST_NAMES: Final = 20
#: Why databases are left out, for people.
_REASONS: Final = {
    "systemDatabase": "system database (includeSystem takes it)",
    "excluded": "excluded",
    "protectionStopped": "protection stopped",
    "softDeleted": "soft-deleted",
    "typeNotSupported": "this type of backup does not apply",
    "ambiguousName": "name that differs from another only in case",
    "notProtectable": "not offered for protection",
    "notProtected": "not protected",
    "neverDrilled": "system database, and those are never drilled",
    "neverBackedUp": "never backed up",
    "notItsTurn": "not drilled now, since others' last drill is longer ago",
}
_OF_MANY: Final = {
    "systemDatabase": "system databases (includeSystem takes them)",
    "ambiguousName": "names that differ from others only in case",
    "neverDrilled": "system databases, and those are never drilled",
}


@dataclass(frozen=True)
class LeftOut:
    """Databases that a request leaves out for one reason."""

    reason: str
    count: int
    names: tuple[str, ...] = ()

    @property
    def why(self) -> str:
        """The reason in words, in the singular."""
        return _REASONS.get(self.reason, self.reason)

    def __str__(self) -> str:
        words = self.why
        if self.count > 1:
            words = _OF_MANY.get(self.reason, words)
        shown = ", ".join(printable(name) for name in self.names[:_MOST_NAMES])
        more = f" and {self.count - len(self.names[:_MOST_NAMES])} more" if self.count > _MOST_NAMES else ""
        return f"{self.count} {words}{f': {shown}{more}' if shown else ''}"


def left_out_of(accepted: JsonObject) -> list[LeftOut]:
    """What the data of an accepted event says was left out; its names are in the order of its reasons."""
    names = list(accepted.get("skippedNames", ()))
    found = []
    for reason, count in accepted.get("skipped", {}).items():
        if reason == "systemDatabase" and accepted.get("operation") == "drill":
            reason = "neverDrilled"  # noqa: PLW2901  # no flag takes them
        mine, names = names[:count], names[count:]
        found.append(LeftOut(reason, count, tuple(mine)))
    return found


def all_left_out(awaited: AwaitedRequests) -> list[LeftOut]:
    """What the requests left out, each reason once."""
    found: dict[str, LeftOut] = {}
    for request in awaited.requests:
        accepted = request.accepted
        for one in left_out_of(accepted) if accepted is not None else ():
            before = found.get(one.reason, LeftOut(one.reason, 0))
            found[one.reason] = LeftOut(one.reason, before.count + one.count, before.names + one.names)
    return list(found.values())


def unprotected(line: RequestLine, app: EmbeddedApp) -> list[LeftOut]:
    """The databases and VMs that a backup request means by a pattern and that are not protected."""
    if line.envelope is None or app.runtime.service_clock.is_known is False:
        return []
    try:
        _, data = read_data(line.envelope)
    except InvalidMessageError:
        return []
    if not isinstance(data, BackupData):
        return []
    return left_unprotected(data, app.runtime.backup)


def excluded_in_vain(data: BackupData | DrillData | ProtectData, accepted: AcceptedData) -> list[str]:
    """The names to exclude that have excluded nothing, as far as the names in `accepted` tell."""
    if len(accepted.skipped_names) < sum(accepted.skipped.values()):
        return []  # not all of them are named
    # A database that is also left out for another reason does exist.
    found = [name.partition("/")[::2] for name in accepted.skipped_names]
    vain = [
        str(one).removeprefix("*/")
        for one in data.exclude
        if not any(
            one.matches(parent, name, is_group) for parent, name in found for is_group in (False, True)
        )
    ]
    return list(dict.fromkeys(vain))


def note_on_excludes(line: RequestLine, accepted: JsonObject | None) -> str | None:
    """A note on exclusions that matched nothing."""
    if line.envelope is None or accepted is None:
        return None
    try:
        _, data = read_data(line.envelope)
        known = AcceptedData.model_validate(accepted)
    except (InvalidMessageError, ValidationError):
        return None
    if isinstance(data, RestoreData | CoverageData) or not (vain := excluded_in_vain(data, known)):
        return None
    return f"--exclude: no database that is asked for is called {', '.join(vain)}."


def left_unprotected(data: BackupData, azure: Reads) -> list[LeftOut]:
    """As `unprotected`, for the request's data. Errors while reading are ignored, since no outcome depends on it."""
    if not any(selector.is_pattern for selector in data.databases):
        return []
    try:
        names = sorted(_names(data, azure), key=str.lower)
    except (ArmError, TokenError):
        return []
    return [LeftOut("notProtected", len(names), tuple(names))] if names else []


def _names(data: BackupData, azure: Reads) -> Iterator[str]:
    protectable = azure.list_protectable_items(data.vault_id)
    protected = azure.list_protected_items(data.vault_id)
    registered, _ = azure.list_registered_containers(data.vault_id)
    machines: set[VirtualMachineId] = set()
    seen: set[str] = set()
    for container in registered:
        machine = container.virtual_machine_id
        if machine is not None:
            machines.add(machine)
        if machine is None or data.vm_id not in (None, machine):
            continue
        for one in candidates(protected, protectable, vm_id=machine, container=container.id):
            database = one.database
            if (
                one.protectable is None
                or one.is_system
                or database.key in seen
                or not _is_meant(data, database)
            ):
                continue
            seen.add(database.key)
            yield str(database) if database.vm_id is None else f"{machine.name}/{database}"
    if data.vm_id is None and any(selector.is_everything for selector in data.databases):
        yield from _unregistered(data.vault_id, machines, azure)


def _unregistered(vault_id: VaultId, known: set[VirtualMachineId], azure: Reads) -> Iterator[str]:
    for container in azure.list_protectable_containers(vault_id):
        machine = container.virtual_machine_id
        if machine is not None and machine not in known:
            yield f"VM {machine.name} (not registered)"


def _is_meant(data: BackupData, database: Database) -> bool:
    is_group = database.availability_group is not None
    meant = any(one.matches(database.parent, database.name, is_group) for one in data.databases)
    return meant and not any(one.matches(database.parent, database.name, is_group) for one in data.exclude)
