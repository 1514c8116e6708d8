"""Which candidates the selectors of a request mean: by name, by pattern, and less what the request excludes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from shared.engine.result import Failure
from shared.messages.error_codes import ErrorCode
from shared.messages.identity import Database
from shared.messages.requests import DatabaseSelector
from shared.names import enumeration, name_key, same_name
from shared.steps.candidates import Candidate


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
            names = enumeration(str(same.database) for same in (self.candidate, *self.namesakes))
            text = f"several databases are called so, and only their case tells them apart: {names}. Name one exactly."
            return "ambiguousName", Failure(ErrorCode.AMBIGUOUS_DATABASE, text)
        failure = self.candidate.cannot
        return (self.candidate.unusable.reason, failure) if failure and self.candidate.unusable else None


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
    names = _by_name(available)
    excluded = {
        id(candidate) for selector in exclude for same in _meant_by(selector, names)[0] for candidate in same
    }
    named: dict[str, list[Candidate]] = {}
    matched: dict[str, list[Candidate]] = {}
    #: keyed like outcomes: a name that is given twice, in two spellings, has one outcome
    missed: dict[str, DatabaseSelector] = {}
    matches_any = False
    for selector in databases:
        groups, spelled_out = _meant_by(selector, names)
        if any(spelled_out or include_system or not same[0].is_system for same in groups):
            matches_any = True
        else:
            missed.setdefault(name_key(str(selector)), selector)
        meant = named if spelled_out else matched
        for same in groups:
            known = meant.setdefault(same[0].database.key, [])
            known += [candidate for candidate in same if candidate not in known]
    if matches_any:
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
        left_out += [(candidate.database, "excluded") for candidate in same if id(candidate) in excluded]
        kept = [candidate for candidate in same if id(candidate) not in excluded]
        if kept:
            matches.append(Match(kept[0], by_pattern, tuple(kept[1:])))
    return Meaning(matches=matches, missed=list(missed.values()), left_out=left_out)


def called(available: Sequence[Candidate], database: Database) -> list[Match]:
    """The candidates of that name on that instance or in that group, on any VM; without patterns."""
    same_parent = inside(_by_name(available).called(database.name), database)
    return [
        Match(same[0], by_pattern=False, namesakes=tuple(same[1:]))
        for same in _told_apart(same_parent, database.name)
    ]


def inside(available: Iterable[Candidate], database: Database) -> list[Candidate]:
    """The candidates on the same instance, or in the same availability group, as a database."""
    in_group = database.availability_group is not None
    return [
        candidate
        for candidate in available
        if candidate.in_availability_group == in_group
        and same_name(candidate.database.parent, database.parent)
    ]


class _ByName(NamedTuple):
    """Candidates by the keys of their names: thousands are looked up thousands of times."""

    by_name: dict[str, list[Candidate]]
    #: those whose names are shown escaped, by the escaped name: nobody could type them otherwise
    by_shown: dict[str, list[Candidate]]

    def called(self, name: str) -> list[Candidate]:
        """The candidates of that name."""
        key = name_key(name)
        return self.by_name.get(key) or self.by_shown.get(key, [])


def _by_name(available: Iterable[Candidate]) -> _ByName:
    names = _ByName({}, {})
    for candidate in available:
        names.by_name.setdefault(name_key(candidate.database.name), []).append(candidate)
        unusable = candidate.unusable
        if unusable is not None and unusable.shown != unusable.name:
            names.by_shown.setdefault(name_key(unusable.shown), []).append(candidate)
    return names


def _meant_by(selector: DatabaseSelector, names: _ByName) -> tuple[list[list[Candidate]], bool]:
    """The candidates that a selector means, and whether it spells out their names.

    A name that is spelled out means the databases of that name, not what it would match as a pattern; but `*` is
    everything, even where a database is called `*`. Those in one list cannot be told apart.
    """
    spelled_out = () if selector.database == "*" else names.called(selector.database)
    named = [candidate for candidate in spelled_out if _may_be_inside(selector, candidate)]
    if named:
        return _told_apart(named, selector.database), True
    if not selector.is_pattern:
        return [], False
    matched: dict[str, list[Candidate]] = {}
    for candidate in chain.from_iterable(names.by_name.values()):
        if _may_match(selector, candidate):
            matched.setdefault(candidate.database.key, []).append(candidate)
    return list(matched.values()), False


def _told_apart(called: Iterable[Candidate], name: str) -> list[list[Candidate]]:
    """Candidates by instance or group: of several on one, the exact match, or else all, which cannot be told apart."""
    by_key: dict[str, list[Candidate]] = {}
    for candidate in called:
        by_key.setdefault(candidate.database.key, []).append(candidate)
    return [
        [candidate for candidate in same if candidate.database.name == name] or same
        for same in by_key.values()
    ]


def _may_be_inside(selector: DatabaseSelector, candidate: Candidate) -> bool:
    """Whether a selector may mean databases of the candidate's instance or group; always, where that is unknown."""
    unknown = candidate.unusable is not None and not candidate.database.parent
    return unknown or selector.matches_parent(candidate.database.parent, candidate.in_availability_group)


def _may_match(selector: DatabaseSelector, candidate: Candidate) -> bool:
    """Whether a selector, as a pattern, may mean the candidate; one without a name may be anything."""
    unusable, database = candidate.unusable, candidate.database
    if unusable is not None and unusable.is_nameless:
        return _may_be_inside(selector, candidate)
    parent = selector.parent if unusable is not None and not database.parent else database.parent
    return selector.matches(parent, database.name, candidate.in_availability_group)
