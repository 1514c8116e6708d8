"""How names compare: of Azure resources, and of SQL Server instances and databases.

Azure compares names without their case
(https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules), character by character
as .NET's OrdinalIgnoreCase does: `ß` is a letter of its own, not `ss`, and what is not ASCII never equals what is
(https://learn.microsoft.com/dotnet/api/system.stringcomparison). SQL Server compares by its instance's collation,
which Azure does not tell. Where the collation equates names that differ here, they count as two; where it separates
names that are equal here, there are two candidates, and `only_named` refuses to choose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final, TypeVar

__all__ = ["AmbiguousNameError", "enumeration", "name_key", "only_named", "same_name"]

T = TypeVar("T")

#: How many names a sentence lists.
_MOST_NAMES: Final = 20


class AmbiguousNameError(LookupError):
    """A name fits several that differ only in case; `names` lists them."""

    def __init__(self, name: str, names: Sequence[str]) -> None:
        self.names = tuple(names)
        super().__init__(f"{name} may be any of {', '.join(self.names)}, which only their case tells apart")


@lru_cache(maxsize=16_384)
def name_key(name: str) -> str:
    """The key by which names compare: the name in lower case."""
    return name.lower() if name.isascii() else "".join(map(_lowered, name))


def _lowered(character: str) -> str:
    # Through the capital, so that both small sigmas are equal. A mapping to several letters is not used.
    for mapped in (character.upper(), character.upper().lower()):
        if len(mapped) != 1 or mapped.isascii() != character.isascii():
            return character
    return character.upper().lower()


def same_name(one: str, other: str) -> bool:
    """Whether two names are the same."""
    return one == other or name_key(one) == name_key(other)


def only_named(name: str, things: Iterable[T], called: Callable[[T], str]) -> T | None:
    """The one with that name: an exact match, else the only match without regard to case.

    None where there is none. Raises AmbiguousNameError where there are several.
    """
    same = [thing for thing in things if same_name(called(thing), name)]
    exact = [thing for thing in same if called(thing) == name]
    best = exact or same
    if len(best) > 1:
        raise AmbiguousNameError(name, [called(thing) for thing in best])
    return best[0] if best else None


def enumeration(names: Iterable[str]) -> str:
    """Names in a sentence, in order and each once, at most twenty of them; `none` where there are none."""
    ordered = sorted(set(names), key=lambda name: (name_key(name), name))
    listed = ", ".join(ordered[:_MOST_NAMES]) or "none"
    return listed if len(ordered) <= _MOST_NAMES else f"{listed} and {len(ordered) - _MOST_NAMES} more"
