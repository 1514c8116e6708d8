"""A corpus of step messages as released versions wrote them, so that a new version is held to reading them.

`python -m tests.faults.corpus` adds the messages of the present version, one of each step and stage, as a file
that is never changed again: a mixed fleet, a rollback and jobs in flight depend on it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from shared.engine.message import VERSION
from shared.workflows import TABLE
from tests.faults.estate import FaultyEstate, bare_estate, open_faulty, protected_estate

DIRECTORY: Final = Path(__file__).parent / "step_messages"
QUEUES: Final = {definition.queue: definition for definition in TABLE.rows.values()}


def recorded(estate: FaultyEstate) -> dict[str, dict[str, Any]]:
    """One message of each step and stage that was sent, with its ids."""
    found: dict[str, dict[str, Any]] = {}
    for message in estate.bus.sent:
        definition = QUEUES.get(message.entity)
        if definition is None:
            continue
        body = json.loads(message.body)
        stage = body["payload"].get("of", {}).get("kind")
        name = f"{body['payload']['origin']}, {stage}" if message.entity == "track" else definition.name
        whole = TABLE.read(definition, body)
        found.setdefault(
            name,
            {
                "queue": message.entity,
                "messageId": message.message_id,
                "clientRequestId": whole.client_request_id,
                "body": body,
            },
        )
    return found


def write() -> Path:
    """Record the messages of this version."""
    messages: dict[str, dict[str, Any]] = {}
    with open_faulty(bare_estate()) as estate:
        estate.submit(estate.protect("orders", firstBackup="now"))
        estate.quiesce()
        messages |= recorded(estate)
    with open_faulty(protected_estate()) as estate:
        estate.submit(estate.backup("orders"))
        estate.quiesce()
        estate.submit(estate.restore("orders", "copy"))
        estate.quiesce()
        messages |= recorded(estate)
    path = DIRECTORY / f"version-{VERSION}.json"
    if path.exists():
        raise SystemExit(f"{path.name} exists; a released version's messages do not change")
    DIRECTORY.mkdir(exist_ok=True)
    path.write_text(json.dumps(messages, indent=1) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    sys.stdout.write(f"{write()}\n")
