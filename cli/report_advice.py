"""What a coverage report says in words: its headline, its sums, and what to do first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

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
_LEFT_OUT: Final = {"systemDatabase": "system databases (--include-system)", "excluded": "excluded"}
_MOST_STEPS: Final = 5
_MOST_NAMES: Final = 3


@dataclass(frozen=True)
class Step:
    """One thing to do: for all databases of a state that share its cause."""

    state: CoverageState
    count: int
    #: how many of what
    what: str
    #: on which VM, and their names
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


def count_of(number: int, noun: str) -> str:
    """A number of things."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def headline(databases: Sequence[DatabaseCoverage]) -> str:
    """The report in one sentence."""
    if not databases:
        return "There are no databases"
    whole = len(databases)
    gaps = sum(one.is_gap for one in databases)
    covered = counts_of(databases).get(CoverageState.COVERED, 0)
    if covered == whole:
        return (
            f"All {count_of(whole, 'database')} are covered" if whole > 1 else "The one database is covered"
        )
    told = f"{covered:,} of {count_of(whole, 'database')} {'is' if covered == 1 else 'are'} covered"
    if gaps:
        return f"{told}, {gaps:,} {'has' if gaps == 1 else 'have'} a gap"
    return f"{told}, nothing can be said of the others"


def sums(databases: Iterable[DatabaseCoverage]) -> str:
    """How many there are in each state, the worst first."""
    counts = counts_of(databases)
    parts = ", ".join(f"{count:,} {label_of(state).lower()}" for state, count in counts.items())
    return f"{count_of(sum(counts.values()), 'database')}{f': {parts}' if parts else ''}."


def left_out_text(left_out: dict[str, int]) -> str:
    """What was not looked at, and why; empty where that is nothing."""
    parts = [f"{count:,} {_LEFT_OUT.get(reason, reason)}" for reason, count in left_out.items() if count]
    return f"Left out: {', '.join(parts)}." if parts else ""


def first_steps(databases: Iterable[DatabaseCoverage]) -> list[Step]:
    """What to do, the most pressing first: the gaps by cause, and of one state what concerns the most databases."""
    groups: dict[tuple[CoverageState, str, str], list[DatabaseCoverage]] = {}
    for one in databases:
        if one.is_gap:
            groups.setdefault((one.state, name_key(one.code), one.advice), []).append(one)
    steps = [_step(members) for members in groups.values()]
    steps.sort(key=lambda step: (SEVERITY[step.state], -step.count))
    return steps


def most_pressing(steps: Sequence[Step]) -> Sequence[Step]:
    """As many of the steps as anybody reads."""
    return steps[:_MOST_STEPS]


def _step(members: Sequence[DatabaseCoverage]) -> Step:
    one = members[0]
    whole = all(member.database.name == EVERY_DATABASE for member in members)
    what = count_of(len(members), "database") if not whole else _whole(len(members))
    messages = {member.message for member in members}
    why = f"{one.code}: {one.message}" if len(messages) == 1 and one.message else f"{one.code}."
    return Step(one.state, len(members), what, _where(members), why, one.advice)


def _whole(count: int) -> str:
    return "a whole VM or instance" if count == 1 else f"{count:,} whole VMs or instances"


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


def _place(one: DatabaseCoverage) -> str:
    machine = one.place if one.database.availability_group is None else ""
    parts = (machine, one.database.parent)
    return "/".join(part for part in parts if part and part != EVERY_DATABASE) or "an unnamed VM"


def _name(one: DatabaseCoverage, *, with_place: bool) -> str:
    name = "" if one.database.name == EVERY_DATABASE else one.database.name
    return "/".join(part for part in (_place(one) if with_place else "", name) if part)
