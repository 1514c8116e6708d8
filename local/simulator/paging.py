"""Lists, a page at a time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from local.simulator.calls import Answer, Call, to_json
from local.simulator.errors import invalid_input
from local.simulator.naming import quoted_path
from local.simulator.world import World

Entry = TypeVar("Entry")


def paged(
    world: World,
    call: Call,
    entries: Sequence[Entry],
    sequence: Callable[[Entry], int],
    render: Callable[[Entry], dict[str, Any] | bytes],
    *,
    newest_first: bool = False,
) -> Answer:
    """One page of a list that is sorted by `sequence`, with a nextLink if there is more.

    `render` may return JSON text.
    """
    token = call.query.get("$skiptoken")
    first = 0

    def key(entry: Entry) -> int:
        return -sequence(entry) if newest_first else sequence(entry)

    if token is not None:
        if not token.isdigit():
            raise invalid_input("Parameter $skipToken in request is invalid.")
        last = int(token)
        first = bisect_right(entries, -last if newest_first else last, key=key)
    shown = entries[first : first + world.scenario.page_size]
    rendered = (entry if isinstance(entry, bytes) else to_json(entry) for entry in map(render, shown))
    body = b'{"value":[' + b",".join(rendered) + b"]"
    if len(entries) > first + len(shown):
        query = f"api-version={quote(call.api_version)}"
        if call.filter is not None:
            query += f"&%24filter={quote(call.filter, safe='')}"
        query += f"&%24skiptoken={sequence(shown[-1])}"
        link = f"{call.request.origin}{quoted_path(call.path)}?{query}"
        body += b',"nextLink":' + to_json(link)
    return Answer(200, body + b"}")


def paged_in_order(
    world: World, call: Call, entries: Sequence[Entry], render: Callable[[Entry], dict[str, Any] | bytes]
) -> Answer:
    """One page of a list in the given order, with a nextLink if there is more."""
    return paged(
        world,
        call,
        list(enumerate(entries, 1)),
        lambda numbered: numbered[0],
        lambda numbered: render(numbered[1]),
    )
