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
    what: str
    where: str
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
    whole = [member for member in members if member.database.name == EVERY_DATABASE]
    noun = "VM or instance" if len(whole) == len(members) else "database"
    what = f"{len(members):,} {noun if len(members) == 1 else _plural(noun)}"
    messages = {member.message for member in members}
    cause = f", {one.code}" if one.code else ""
    if len(messages) == 1 and one.message:
        cause = f", {one.code}: {one.message}"
    places = list(dict.fromkeys(_name(member) for member in members))
    shown = ", ".join(places[:_MOST_NAMES])
    more = f" and {len(places) - _MOST_NAMES:,} more" if len(places) > _MOST_NAMES else ""
    return Step(one.state, len(members), f"{what}{cause}", f"({shown}{more})", one.advice)


def _plural(noun: str) -> str:
    return "VMs or instances" if noun == "VM or instance" else f"{noun}s"


def _name(one: DatabaseCoverage) -> str:
    database = one.database
    parts = (one.place if database.availability_group is None else "", database.parent, database.name)
    return "/".join(part for part in parts if part and part != EVERY_DATABASE) or EVERY_DATABASE
