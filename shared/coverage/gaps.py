"""Gaps: from the states of a vault's databases to what is reported, per database or for a VM as a whole.

The broker is the only store. So a gap's identity is made of what Azure says about it: every survey that finds the gap
sends the same message, and the broker keeps the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from shared.arm.ids import ContainerId, VaultId
from shared.coverage.states import EVERY_DATABASE, CoverageState, DatabaseCoverage
from shared.messages.events import GapInfo, RepairInfo
from shared.messages.identity import Database
from shared.messages.model import format_moment

if TYPE_CHECKING:
    from shared.coverage.survey import VaultListings

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
    since: datetime | None
    #: when it was opened; reminders and repairs are counted from this
    opened: datetime
    #: the name of the week, where `since` is not known
    dated: str
    code: str = ""
    message: str = ""
    advice: str = ""
    #: the database that it is about; None for a whole VM
    of: DatabaseCoverage | None = None

    def reminders(self, at: datetime) -> int:
        """How many weeks it has been open."""
        return max(0, (at - self.opened) // REMINDED_AFTER)

    def identity(self, at: datetime) -> tuple[object, ...]:
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
        if self.of is not None and self.of.item_id is not None:
            return self.of.item_id.path
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


def gap_of(one: DatabaseCoverage, at: datetime) -> Gap:
    """The gap of one database."""
    opened, dated = week_of(at)
    if one.since is not None:
        # A list and a single read may write the same moment with a different number of digits.
        opened, dated = one.since, format_moment(one.since.replace(microsecond=0))
        # The gap is open since the next backup was due, not since the last one was taken.
        if one.state in (CoverageState.STALE, CoverageState.FAILING) and one.allowed_age is not None:
            opened += one.allowed_age
    return Gap(
        vault_id=one.vault_id,
        database=one.database,
        state=one.state.value,
        since=one.since,
        opened=opened,
        dated=dated,
        code=one.code,
        message=one.message,
        advice=one.advice,
        of=one,
    )


def week_of(at: datetime) -> tuple[datetime, str]:
    """The start of the ISO week in UTC, and its name: a gap of unknown beginning is reported once per week."""
    at = at.astimezone(UTC)
    year, week, day = at.isocalendar()
    began = at.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=day - 1)
    return began, f"{year}-W{week:02}"


def place_of(one: DatabaseCoverage) -> str:
    """Identifies the VM or the availability group within its vault."""
    database = one.database
    if database.vm_id is not None:
        return database.vm_id.key
    return f"group;{(database.availability_group or one.server_name).lower()}"


@dataclass(frozen=True)
class Told:
    """The gaps of a vault, and the VMs whose gaps are reported as one."""

    gaps: list[Gap]
    #: why no repairs are sent to a VM, by place
    as_one: Mapping[str, Gap]


def gaps_of(
    databases: Iterable[DatabaseCoverage],
    listings: VaultListings,
    at: datetime,
    *,
    beside: Iterable[DatabaseCoverage] = (),
) -> Told:
    """The gaps of a vault's databases; a VM that is in trouble as a whole is one gap.

    `beside`: what else is on the VMs. It is not reported, but counts in deciding whether most of a VM is in a gap.
    """
    by_place = _by_place(databases)
    others = _by_place(beside)
    unreachable = _unreachable(listings)
    health = {
        container.virtual_machine_id.key: container.health_status
        for container in listings.containers.usable
        if container.virtual_machine_id is not None
    }
    gaps: list[Gap] = []
    as_one: dict[str, Gap] = {}
    for place, here in by_place.items():
        open_here = [one for one in here if one.is_gap]
        trouble = _trouble(
            [*here, *others.get(place, ())], stopped=place in unreachable, health=health.get(place, "")
        )
        if not open_here or trouble is None:
            gaps += [gap_of(one, at) for one in open_here]
            continue
        gap = _whole(open_here[0], trouble, at)
        gaps.append(gap)
        as_one[place] = gap
    return Told(gaps, as_one)


def _by_place(databases: Iterable[DatabaseCoverage]) -> dict[str, list[DatabaseCoverage]]:
    found: dict[str, list[DatabaseCoverage]] = {}
    for one in databases:
        found.setdefault(place_of(one), []).append(one)
    return found


def _trouble(all_here: list[DatabaseCoverage], *, stopped: bool, health: str) -> tuple[str, str, str] | None:
    # An entry for an instance whose databases could not be looked for is no database, and has its own reason.
    here = [one for one in all_here if one.database.name != EVERY_DATABASE]
    open_here = [one for one in here if one.is_gap]
    if stopped:
        return (
            VM_STOPPED,
            f"The service reaches none of its databases: the VM is stopped, or its backup extension does not answer."
            f" {_sum(open_here, here)}",
            "Start the VM and see that its backup extension answers.",
        )
    if health.lower() not in ("", "healthy", "registered"):
        return (
            VM_UNHEALTHY,
            f"The service finds the VM {health}. {_sum(open_here, here)}",
            "Start the VM, or register it again where its backup extension does not answer.",
        )
    # Protection by another policy than the request names is no sign of trouble.
    serious = [one for one in open_here if one.state is not CoverageState.WRONG_POLICY]
    if 2 * len(serious) > len(here):
        return (
            MOST_IN_A_GAP,
            f"{_sum(serious, here)} That is more than single repairs should mend.",
            "Look at the VM, its backup extension and its SQL Server; then protect or back up what is needed by a"
            " request.",
        )
    return None


def _sum(open_here: list[DatabaseCoverage], here: list[DatabaseCoverage]) -> str:
    states: dict[str, int] = {}
    for one in open_here:
        states[one.state.value] = states.get(one.state.value, 0) + 1
    counted = ", ".join(f"{count} {state}" for state, count in states.items())
    return f"Of its {len(here)} databases {len(open_here)} are in a gap ({counted})."


def _whole(one: DatabaseCoverage, trouble: tuple[str, str, str], at: datetime) -> Gap:
    opened, dated = week_of(at)
    code, message, advice = trouble
    database = one.database.model_copy(
        update={
            "name": EVERY_DATABASE,
            "instance": EVERY_DATABASE if one.database.availability_group is None else None,
        }
    )
    return Gap(
        vault_id=one.vault_id,
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
    """The VMs where the service can reach none of the live items."""
    reached: dict[ContainerId, list[bool]] = {}
    places = {
        container.id: container.virtual_machine_id.key
        for container in listings.containers.usable
        if container.virtual_machine_id is not None
    }
    for item in listings.protected.usable:
        if not item.is_scheduled_for_deferred_delete and not item.in_availability_group:
            reached.setdefault(item.id.container, []).append(item.health_status.lower() != "notreachable")
    return {places[each] for each, found in reached.items() if each in places and not any(found)}


def with_last_good(
    databases: Iterable[DatabaseCoverage], last_good: Mapping[str, datetime]
) -> list[DatabaseCoverage]:
    """The databases, with last good backups from single reads, by the key of their protected item."""
    return [
        replace(one, since=last_good[one.item_id.key])
        if one.item_id is not None and one.item_id.key in last_good
        else one
        for one in databases
    ]
