"""The words of a coverage report: its headline, its sums, and what to do first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cli.flags import in_flags
from cli.left_out import LeftOut
from cli.wording import count_of
from shared.coverage.states import EVERY_DATABASE, SEVERITY, CoverageState, DatabaseCoverage, counts_of
from shared.names import name_key

_LABELS: Final = {
    CoverageState.FAILING: ("Failing", "the last backup failed"),
    CoverageState.STALE: ("Stale", "the last backup is too old"),
    CoverageState.NEVER_BACKED_UP: ("Never backed up", "protected, and nothing to restore yet"),
    CoverageState.UNPROTECTED: ("Unprotected", "no policy protects them"),
    CoverageState.STOPPED: ("Stopped", "protection was stopped, or backups deleted"),
    CoverageState.UNHEALTHY: ("Unhealthy", "the service does not reach them"),
    CoverageState.WRONG_POLICY: ("Wrong policy", "another policy than asked for"),
    CoverageState.UNKNOWN: ("Unknown", "nothing can be said, for the reason given"),
    CoverageState.COVERED: ("Covered", "backed up as they should be"),
}
_MOST_STEPS: Final = 5
_MOST_NAMES: Final = 3


@dataclass(frozen=True)
class Step:
    """One thing to do: for all databases of a state that share its cause."""

    state: CoverageState
    count: int
    #: how many databases or VMs
    what: str
    #: on which VMs, and their names
    where: str
    #: the code, and the message where all have the same
    why: str
    advice: str


def label_of(state: CoverageState) -> str:
    """A state for people."""
    return _LABELS[state][0]


def meaning_of(state: CoverageState) -> str:
    """What a state means, in a few words."""
    return _LABELS[state][1]


def headline(entries: Sequence[DatabaseCoverage]) -> str:
    """The report in one sentence."""
    databases = [entry for entry in entries if not _is_whole(entry)]
    whole = len(entries) - len(databases)
    unseen = f"{_wholes(whole)} cannot be looked into" if whole else ""
    if not databases:
        return f"There are no databases{f', and {unseen}' if unseen else ''}"
    covered = sum(entry.state is CoverageState.COVERED for entry in databases)
    gaps = sum(entry.is_gap for entry in databases)
    if covered == len(databases):
        told = "The one database is covered" if covered == 1 else f"All {covered:,} databases are covered"
    else:
        verb = "is" if covered == 1 else "are"
        told = f"{covered:,} of {count_of(len(databases), 'database')} {verb} covered"
        told += f", {gaps:,} {'has' if gaps == 1 else 'have'} a gap" if gaps else ", the others are unknown"
    return f"{told}, and {unseen}" if unseen else told


def sums(entries: Sequence[DatabaseCoverage]) -> str:
    """How many databases there are in each state, the worst first."""
    whole = sum(map(_is_whole, entries))
    parts = ", ".join(f"{count:,} {label_of(state).lower()}" for state, count in counts_of(entries).items())
    what = count_of(len(entries) - whole, "database")
    what += f" and {_wholes(whole)}" if whole else ""
    return f"{what}{f': {parts}' if parts else ''}."


def _is_whole(entry: DatabaseCoverage) -> bool:
    """Whether an entry stands for all databases of a VM, an instance or a vault, none of which is known."""
    return entry.database.name == EVERY_DATABASE


def _wholes(count: int) -> str:
    return "1 whole VM, instance or vault" if count == 1 else f"{count:,} whole VMs, instances or vaults"


def left_out_text(left_out: dict[str, int]) -> str:
    """What was left out, and why; empty where nothing was."""
    parts = [in_flags(str(LeftOut(reason, count))) for reason, count in left_out.items() if count]
    return f"Left out: {', '.join(parts)}." if parts else ""


def first_steps(databases: Iterable[DatabaseCoverage]) -> list[Step]:
    """What to do, the most pressing first: gaps by cause; within one state, what concerns the most databases."""
    groups: dict[tuple[CoverageState, str, str], list[DatabaseCoverage]] = {}
    for entry in databases:
        if entry.is_gap:
            groups.setdefault((entry.state, name_key(entry.code), entry.advice), []).append(entry)
    steps = [_step(members) for members in groups.values()]
    steps.sort(key=lambda step: (SEVERITY[step.state], -step.count))
    return steps


def most_pressing(steps: Sequence[Step]) -> Sequence[Step]:
    """Only as many of the steps as people read."""
    return steps[:_MOST_STEPS]


def _step(members: Sequence[DatabaseCoverage]) -> Step:
    entry = members[0]
    whole = all(map(_is_whole, members))
    what = _wholes(len(members)) if whole else count_of(len(members), "database")
    messages = {member.message for member in members}
    why = f"{entry.code}: {entry.message}" if len(messages) == 1 and entry.message else f"{entry.code}."
    return Step(entry.state, len(members), what, _where(members), why, entry.advice)


def _where(members: Sequence[DatabaseCoverage]) -> str:
    """`on sql1/MSSQLSERVER: orders, billing and 3 more`, with the place before each where they have several."""
    places = {_place(member) for member in members}
    alone = len(places) == 1
    names = list(dict.fromkeys(_name(member, with_place=not alone) for member in members))
    shown = ", ".join(names[:_MOST_NAMES])
    more = f" and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
    if not alone:
        return f"on {len(places):,} instances: {shown}{more}"
    (place,) = places
    return f"on {place}" if names == [""] else f"on {place}: {shown}{more}"


def _place(entry: DatabaseCoverage) -> str:
    machine = entry.place if entry.database.availability_group is None else ""
    parts = (machine, entry.database.parent)
    return "/".join(part for part in parts if part and part != EVERY_DATABASE) or "an unnamed VM"


def _name(entry: DatabaseCoverage, *, with_place: bool) -> str:
    name = "" if entry.database.name == EVERY_DATABASE else entry.database.name
    return "/".join(part for part in (_place(entry) if with_place else "", name) if part)
