"""Compares a queue, topic or subscription with what the app needs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from cli.encoding import JsonObject
from cli.findings import Finding
from shared.messages.model import parse_duration

#: Where the app sets nothing, what may not be shorter: messages are planned a day ahead, and wait for an app that is
#: down; and the queue of a workflow that is seldom asked for is idle for months.
_AT_LEAST: Final = {
    "defaultMessageTimeToLive": timedelta(days=14),
    "autoDeleteOnIdle": timedelta(days=3650),
}
#: Properties that cannot be changed once an entity exists.
_AT_CREATION: Final = frozenset({"requiresDuplicateDetection", "requiresSession"})


def entity_findings(what: str, expected: JsonObject, found: JsonObject | None) -> Iterator[Finding]:
    if found is None:
        yield Finding(
            what=what,
            finding="It is not there.",
            todo="Deploy infra/service-bus.json, or create it as docs/operations.md has it (Queues and topic).",
        )
        return
    expected = {**expected, "status": "Active", "enablePartitioning": False}
    wrong = False
    for name, value in expected.items():
        given = found.get(name)
        if given is None and value is False:
            continue
        if not _same(name, value, given):
            wrong = True
            again = name in _AT_CREATION or name == "enablePartitioning"
            yield Finding(
                what=f"{what}: {name}",
                finding=f"It is {_shown(given)}, and the app needs {_shown(value)}.",
                todo=f"Delete it while it is empty, and create it with {name} {_shown(value)}."
                if again
                else f"Set {name} to {_shown(value)}.",
            )
    for name, given, todo in _in_the_way(expected, found):
        wrong = True
        yield Finding(what=f"{what}: {name}", finding=f"It is {given}, and should not be.", todo=todo)
    if not wrong:
        yield Finding(what=what, finding="It is as the app needs it.")


def _in_the_way(expected: JsonObject, found: JsonObject) -> Iterator[tuple[str, str, str]]:
    """Properties that the app does not ask for and that would lose its messages."""
    for name in ("forwardTo", "forwardDeadLetteredMessagesTo"):
        if name not in expected and found.get(name):
            yield name, str(found[name]), f"Remove {name}: what comes here goes elsewhere."
    for name, least in _AT_LEAST.items():
        given = _duration(str(found.get(name) or ""))
        if name not in expected and given is not None and given < least:
            yield name, str(found[name]), f"Remove {name}, or set it to at least P{least.days}D."


def _same(name: str, expected: object, given: object) -> bool:
    if isinstance(expected, str) and isinstance(given, str):
        if name == "forwardDeadLetteredMessagesTo":
            return given.rstrip("/").rpartition("/")[2].lower() == expected.lower()
        durations = (_duration(expected), _duration(given))
        if durations[0] is not None:
            return durations[0] == durations[1]
        return expected.lower() == given.lower()
    return expected == given


def _duration(text: str) -> timedelta | None:
    try:
        return parse_duration(text)
    except ValueError:
        return None


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "not set" if value is None else str(value)
