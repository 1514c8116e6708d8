"""Settings that are a JSON list of objects: reading the list, and describing what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from shared.json_nesting import read_flat_json
from shared.messages.cloud_events import excerpt
from shared.messages.model import StrictModel
from shared.messages.problems import problems_of

_M = TypeVar("_M", bound=StrictModel)
#: The key that wraps an entry's fields; it does not appear in the setting.
REQUEST: Final = "request"


class EntriesError(ValueError):
    """The list cannot be used; `problems` has a sentence for each reason."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(" ".join(problems))
        self.problems = problems


def read_entries(
    text: str,
    kind: type[_M],
    *,
    of: str,
    among: Callable[[Sequence[_M]], Iterable[str]],
    called: Callable[[dict[str, Any]], str | None] = lambda _: None,
    arranged: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> tuple[_M, ...]:
    """The entries in a JSON list.

    Args:
        text: the setting's value.
        kind: the model of an entry.
        of: what the list contains, in words.
        among: the problems of entries with each other.
        called: the name of an entry in problems; None: its number is used.
        arranged: turns an entry into the form of `kind`; problems below `REQUEST` are described without that key.

    Raises:
        EntriesError: the text is no JSON list of entries without problems; names every problem.
    """
    try:
        entries: Any = read_flat_json(text)
    except ValueError as error:
        raise EntriesError([f"expected a JSON list of {of} ({error})."]) from error
    if not isinstance(entries, list):
        raise EntriesError([f"expected a JSON list of {of}, not {excerpt(entries)}."])
    valid: list[_M] = []
    problems: list[str] = []
    for number, entry in enumerate(entries):
        label = f"entry {number + 1}"
        if not isinstance(entry, dict):
            problems.append(f"{label}: expected an object, not {excerpt(entry)}.")
            continue
        label = called(entry) or label
        try:
            valid.append(kind.model_validate(arranged(entry)))
        except ValidationError as error:
            for problem in problems_of(error, kind):
                path = problem.field.removeprefix("data.")
                if REQUEST in kind.model_fields:
                    path = path.removeprefix(REQUEST).removeprefix(".")
                says_it = problem.given == "nothing" or problem.accepted.startswith(problem.given)
                given = "" if says_it else f", not {problem.given}"
                problems.append(f"{label}: {path or 'entry'}: {problem.accepted}{given}.")
    problems += among(valid)
    if problems:
        raise EntriesError(problems)
    return tuple(valid)


def repeated(entries: Sequence[_M], key: Callable[[_M], str]) -> list[tuple[_M, int]]:
    """The first of those entries that have one key, and how many they are; only where they are several."""
    by_key: dict[str, list[_M]] = {}
    for entry in entries:
        by_key.setdefault(key(entry), []).append(entry)
    return [(same[0], len(same)) for same in by_key.values() if len(same) > 1]
