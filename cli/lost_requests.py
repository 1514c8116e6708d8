"""`sqlvmbackup replay send --requests FILE`: sends requests again whose messages were lost.

A namespace that does not remember a request's id takes it for a new request. As a replay, the request first looks in
the vault's jobs for what it began before, and adopts that.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import Final

from cli.errors import CommandError
from cli.request_file import read_file
from cli.request_lines import RequestLine
from shared.bus import OutgoingMessage
from shared.bus.topology import EVENTS, REPLAYS
from shared.messages.identity import fingerprint
from shared.messages.reserved import EPOCH, ORIGINAL_QUEUE

#: The first epoch that no message of the lost namespace had, except replays.
_EPOCH: Final = 1


def as_replay(line: RequestLine) -> OutgoingMessage:
    """A request as a replay of itself. Raises CommandError where the line is no request."""
    message = line.message()
    if line.envelope is None or message.entity == EVENTS:
        raise CommandError(
            f"--requests: line {line.number} is no request of this app: correct it, or leave it out."
        )
    return replace(
        message,
        entity=REPLAYS,
        message_id=fingerprint("replay", message.entity, message.message_id, line.body.hex(), _EPOCH),
        application_properties={ORIGINAL_QUEUE: message.entity, EPOCH: _EPOCH},
    )


def send_lost_requests(options: argparse.Namespace) -> int:
    """Send every request of a file as a replay. Raises CommandError, and then has sent none of them."""
    from cli.namespace import connected

    if options.namespace is None:
        raise CommandError("--requests: only with --namespace; a run's state keeps its own requests.")
    if options.action != "send" or options.numbers or options.all:
        raise CommandError("--requests: only with `send`, and without numbers or --all.")
    messages = [as_replay(line) for line in read_file(options.requests)]
    with connected(options.namespace) as (bus, _):
        bus.send(messages)
    print(f"{len(messages)} sent again. Each looks for its own jobs before its first call.", file=sys.stderr)
    return 0
