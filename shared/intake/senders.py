"""What the sender of each request queue may ask for, and in whose name.

The right to send to a queue authorises the operations of that queue, and nothing else. A message that asks for
anything else is nobody's request.
"""

from __future__ import annotations

from typing import Final

from shared.bus.topology import (
    BACKUP_REQUESTS,
    COVERAGE_REQUESTS,
    DRILL_REQUESTS,
    EVENTS,
    PROTECT_REQUESTS,
    RESTORE_REQUESTS,
)
from shared.messages.cloud_events import Envelope, Problem, excerpt
from shared.messages.events import APP_NAME
from shared.messages.requests import REQUEST_TYPES, Operation
from shared.settings import Settings

QUEUES: Final = {
    Operation.PROTECT: PROTECT_REQUESTS,
    Operation.BACKUP: BACKUP_REQUESTS,
    Operation.RESTORE: RESTORE_REQUESTS,
    Operation.COVERAGE: COVERAGE_REQUESTS,
    Operation.DRILL: DRILL_REQUESTS,
}
#: Operations that no sender to `events` may ask for: the right to send to their own queue is the authorisation.
NOT_IN_EVENTS: Final = frozenset({Operation.DRILL})
#: The source of requests that the app's schedules make.
SCHEDULES_SOURCE: Final = f"{APP_NAME}/schedules"


def operations_of(queue: str, settings: Settings) -> frozenset[Operation]:
    """The operations that a request queue takes."""
    if queue == EVENTS:
        allowed = frozenset(Operation) - NOT_IN_EVENTS
        return allowed if settings.events_allow_restore else allowed - {Operation.RESTORE}
    return frozenset(operation for operation, own in QUEUES.items() if own == queue)


def is_own_source(source: str) -> bool:
    """Whether a source is one of the app's own, in whatever case."""
    return source.strip().lower() == APP_NAME or source.strip().lower().startswith(f"{APP_NAME}/")


def named_operation(envelope: Envelope, queue: str, settings: Settings) -> Operation | None:
    """The operation of the request that a message in this queue names; None where it can name none."""
    known = REQUEST_TYPES.get(envelope.type)
    if known is None or is_own_source(envelope.source):
        return None
    return known[0] if known[0] in operations_of(queue, settings) else None


def problems(envelope: Envelope, queue: str, settings: Settings) -> list[Problem]:
    """What is wrong with a request's operation or source, given the queue that it came from."""
    found = []
    known = REQUEST_TYPES.get(envelope.type)
    if known is not None and known[0] not in operations_of(queue, settings):
        if queue == EVENTS and known[0] in NOT_IN_EVENTS:
            accepted = f"{known[0]} requests are taken from queue {QUEUES[known[0]]} only"
        elif queue == EVENTS:
            accepted = (
                f"restore requests are taken from queue {RESTORE_REQUESTS} only; the setting"
                " EVENTS_ALLOW_RESTORE does not allow them here"
            )
        else:
            types = [name for name, (kind, _) in REQUEST_TYPES.items() if QUEUES[kind] == queue]
            accepted = f"queue {queue} takes {', '.join(types)} only"
        found.append(Problem("type", excerpt(envelope.type), accepted))
    elif known is not None and known[0] not in settings.workflows:
        served = ", ".join(sorted(settings.workflows))
        found.append(
            Problem("type", f"a {known[0]} request", f"this app serves {served} (setting WORKFLOWS)")
        )
    if is_own_source(envelope.source):
        accepted = f"expected a source of your own; {APP_NAME} and what begins with {APP_NAME}/ are the app's"
        found.append(Problem("source", excerpt(envelope.source), accepted))
    return found
