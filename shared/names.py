"""How the names of things compare: resources of Azure, instances and databases of SQL Server.

Azure compares names without their case
(https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules), character by character
as .NET's OrdinalIgnoreCase does: `ß` is a letter of its own, not `ss`, and what is not ASCII never equals what is
(https://learn.microsoft.com/dotnet/api/system.stringcomparison). SQL Server compares by the collation of its instance,
which Azure does not tell: where that takes more names for one, this takes them for two, and where it takes fewer,
two candidates are left, which `only_named` does not choose between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import TypeVar

__all__ = ["AmbiguousNameError", "name_key", "only_named", "same_name"]

T = TypeVar("T")


class AmbiguousNameError(LookupError):
    """A name means several things that only their case tells apart; `names` are theirs."""

    def __init__(self, name: str, names: Sequence[str]) -> None:
        self.names = tuple(names)
        super().__init__(f"{name} may be any of {', '.join(self.names)}, which only their case tells apart")


@lru_cache(maxsize=16_384)
def name_key(name: str) -> str:
    """What is equal for names that are the same: the name in lower case."""
    return name.lower() if name.isascii() else "".join(map(_lowered, name))


def _lowered(character: str) -> str:
    # By way of the capital, so that both forms of a small sigma meet. A mapping to several letters is none.
    for mapped in (character.upper(), character.upper().lower()):
        if len(mapped) != 1 or mapped.isascii() != character.isascii():
            return character
    return character.upper().lower()


def same_name(one: str, other: str) -> bool:
    """Whether two names are the same."""
    return one == other or name_key(one) == name_key(other)


def only_named(name: str, things: Iterable[T], called: Callable[[T], str]) -> T | None:
    """The thing of that name: the one that is called exactly so, else the one that is without regard to case.

    None where there is none; AmbiguousNameError where there are several.
    """
    same = [thing for thing in things if same_name(called(thing), name)]
    exact = [thing for thing in same if called(thing) == name]
    found = exact or same
    if len(found) > 1:
        raise AmbiguousNameError(name, [called(thing) for thing in found])
    return found[0] if found else None
