"""What an exception of a library came from: the libraries keep it in different places."""

from __future__ import annotations

__all__ = ["causes"]


def causes(error: object, *links: str) -> list[BaseException]:
    """The exception and those it came from, outermost first.

    `links` are the attributes that lead from one to the next; exceptions among the arguments of one count always.
    """
    found: list[BaseException] = []
    pending: list[object] = [error]
    while pending:
        one = pending.pop(0)
        if isinstance(one, BaseException) and one not in found:
            found.append(one)
            pending += [*(getattr(one, link, None) for link in links), *one.args]
    return found
