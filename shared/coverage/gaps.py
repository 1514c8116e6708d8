"""Gaps: from the states of a vault's databases to what is reported, per database or for a VM as a whole.

The broker is the only store. So a gap's identity is made of what Azure says about it: every survey that finds the gap
sends the same message, and the broker keeps the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Final

from shared.arm.ids import ContainerId, VaultId
from shared.clock import ServiceTime
from shared.coverage.states import EVERY_DATABASE, CoverageState, DatabaseCoverage
from shared.coverage.wording import START_OR_REGISTER_VM, START_VM
from shared.messages.events import GapInfo, RepairInfo
from shared.messages.identity import Database
from shared.messages.model import format_moment

if TYPE_CHECKING:
    from shared.coverage.vault_listings import VaultListings

#: An open gap is reported again after this long.
REMINDED_AFTER: Final = timedelta(weeks=1)
#: The state of a gap of a whole VM or availability group.
VIRTUAL_MACHINE: Final = "virtualMachine"
VM_STOPPED: Final = "VirtualMachineStopped"
VM_UNHEALTHY: Final = "VirtualMachineUnhealthy"
MOST_IN_A_GAP: Final = "MostDatabasesInGap"


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Something that needs attention, with an identity that does not depend on who finds it."""

    vault_id: VaultId | None
    database: Database
    state: str
    #: since when it is open, as far as Azure tells
    since: ServiceTime | None
    #: when it was opened; reminders and repairs are counted from this
    opened: ServiceTime
    #: the name of the week, where `since` is not known
    dated: str
    code: str = ""
    message: str = ""
    advice: str = ""
    #: the state of the database; None for a whole VM
    entry: DatabaseCoverage | None = None

    def reminders(self, at: ServiceTime) -> int:
        """How many weeks it has been open."""
        return max(0, (at - self.opened) // REMINDED_AFTER)

    def identity(self, at: ServiceTime) -> tuple[object, ...]:
        """The identity of its event: database, state and since when, and the number of the reminder."""
        return (*self.key, self.reminders(at))

    @property
    def key(self) -> tuple[object, ...]:
        """Its identity for as long as it is open."""
        vault = self.vault_id.key if self.vault_id is not None else ""
        return (vault, self.database.key, self.state, self.dated)

    @property
    def subject(self) -> str | None:
        """The ARM id of the database or VM that it is about."""
        if self.entry is not None and self.entry.item_id is not None:
            return self.entry.item_id.path
        return self.database.vm_id.path if self.database.vm_id is not None else None

    def info(self, repair: RepairInfo | None) -> GapInfo:
        """The gap in the form that events have."""
        whole = self.database.name == EVERY_DATABASE
        instance = self.database.instance
        return GapInfo(
            state=self.state,
            since=self.since,
            vm_id=self.database.vm_id.path if self.database.vm_id is not None else None,
            instance=None if instance == EVERY_DATABASE else instance,
            availability_group=self.database.availability_group,
            database=None if whole else self.database.name,
            code=self.code or None,
            message=self.message or None,
            repair=repair,
        )


def gap_of(entry: DatabaseCoverage, at: ServiceTime) -> Gap:
    """The gap of one database."""
    opened, dated = week_of(at)
    if entry.since is not None:
        # A list and a single read may write the same moment with a different number of digits.
        opened, dated = entry.since, format_moment(entry.since.replace(microsecond=0))
        # The gap is open since the next backup was due, not since the last one was taken.
        if entry.state in (CoverageState.STALE, CoverageState.FAILING) and entry.allowed_age is not None:
            opened += entry.allowed_age
    return Gap(
        vault_id=entry.vault_id,
        database=entry.database,
        state=entry.state.value,
        since=entry.since,
        opened=opened,
        dated=dated,
        code=entry.code,
        message=entry.message,
        advice=entry.advice,
        entry=entry,
    )


def week_of(at: ServiceTime) -> tuple[ServiceTime, str]:
    """The start of the ISO week in UTC, and its name: a gap of unknown beginning is reported once per week."""
    at = at.astimezone(UTC)
    year, week, day = at.isocalendar()
    began = at.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=day - 1)
    return began, f"{year}-W{week:02}"


def gaps_of(
    databases: Iterable[DatabaseCoverage],
    listings: VaultListings,
    at: ServiceTime,
    *,
    others: Iterable[DatabaseCoverage] = (),
) -> list[Gap]:
    """The gaps of a vault's databases; a VM that is in trouble as a whole is one gap.

    `others` are the other databases on the VMs. They are not reported, but count in deciding whether most of a VM is in
    a gap.
    """
    others_by_place = _by_place(others)
    unreachable = _unreachable(listings)
    health = {
        container.virtual_machine_id.key: container.health_status
        for container in listings.containers.usable
        if container.virtual_machine_id is not None
    }
    gaps: list[Gap] = []
    for place, entries in _by_place(databases).items():
        open_entries = [entry for entry in entries if entry.is_gap]
        trouble = _trouble(
            [*entries, *others_by_place.get(place, ())],
            stopped=place in unreachable,
            health=health.get(place, ""),
        )
        if open_entries and trouble is not None:
            gaps.append(_whole(open_entries[0], trouble, at))
        else:
            gaps += [gap_of(entry, at) for entry in open_entries]
    return gaps


def _by_place(databases: Iterable[DatabaseCoverage]) -> dict[str, list[DatabaseCoverage]]:
    by_place: dict[str, list[DatabaseCoverage]] = {}
    for entry in databases:
        by_place.setdefault(entry.place_key, []).append(entry)
    return by_place


def _trouble(entries: list[DatabaseCoverage], *, stopped: bool, health: str) -> tuple[str, str, str] | None:
    """Code, message and advice of what is wrong with a VM as a whole; None where nothing is."""
    # An entry for an instance whose databases could not be looked for is no database, and has its own reason.
    databases = [entry for entry in entries if entry.database.name != EVERY_DATABASE]
    in_gap = [entry for entry in databases if entry.is_gap]
    if stopped:
        return (
            VM_STOPPED,
            f"The service reaches none of its databases: the VM is stopped, or its backup extension does not answer."
            f" {_sum(in_gap, databases)}",
            START_VM,
        )
    if health.lower() not in ("", "healthy", "registered"):
        return (
            VM_UNHEALTHY,
            f"The service finds the VM {health}. {_sum(in_gap, databases)}",
            START_OR_REGISTER_VM,
        )
    # Protection by another policy than the request names is no sign of trouble.
    serious = [entry for entry in in_gap if entry.state is not CoverageState.WRONG_POLICY]
    if 2 * len(serious) > len(databases):
        return (
            MOST_IN_A_GAP,
            f"{_sum(serious, databases)} That is more than single repairs should mend.",
            "Look at the VM, its backup extension and its SQL Server; then protect or back up what is needed by a"
            " request.",
        )
    return None


def _sum(in_gap: list[DatabaseCoverage], databases: list[DatabaseCoverage]) -> str:
    states = Counter(entry.state.value for entry in in_gap)
    counted = ", ".join(f"{count} {state}" for state, count in states.items())
    return f"Of its {len(databases)} databases {len(in_gap)} are in a gap ({counted})."


def _whole(entry: DatabaseCoverage, trouble: tuple[str, str, str], at: ServiceTime) -> Gap:
    opened, dated = week_of(at)
    code, message, advice = trouble
    database = entry.database.changed(
        name=EVERY_DATABASE, instance=EVERY_DATABASE if entry.database.availability_group is None else None
    )
    return Gap(
        vault_id=entry.vault_id,
        database=database,
        state=VIRTUAL_MACHINE,
        since=None,
        opened=opened,
        dated=dated,
        code=code,
        message=message,
        advice=advice,
    )


def _unreachable(listings: VaultListings) -> set[str]:
    """The VMs where the service can reach none of the live items, by `DatabaseCoverage.place_key`."""
    reached: dict[ContainerId, bool] = {}
    for item in listings.protected.usable:
        if not item.is_scheduled_for_deferred_delete and not item.in_availability_group:
            container = item.id.container
            reached[container] = reached.get(container, False) or item.health_status.lower() != "notreachable"
    return {
        machine.key for container, machine in listings.machines.items() if not reached.get(container, True)
    }
