"""The way back from a change: restore requests for the backups that were taken before it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cli.encoding import JsonObject
from cli.errors import CommandError
from cli.request_lines import SOURCE

_PLACE: Final = ("vmId", "instance", "availabilityGroup", "database")


def restore_requests(outcomes: Iterable[JsonObject]) -> list[JsonObject]:
    """A restore request per backed-up database: over the original, to the moment that the backup's outcome tells.

    Where no recovery point was listed yet, it asks for the newest moment before the backup's end.
    """
    found = []
    for outcome in outcomes:
        data = outcome["data"]
        restorable = data.get("restorable")
        if restorable is None:
            continue
        event = {
            "specversion": "1.0",
            "type": "sqlvmbackup.restore.requested.v1",
            "source": data.get("requestSource", SOURCE),
            "id": f"{data['requestId']}/restore/{data['outcomeKey']}"[-512:],
            "data": {
                "vaultId": data["vaultId"],
                **{name: data[name] for name in _PLACE if data.get(name) is not None},
                "recoveryPoint": _recovery_point(restorable),
                "target": {"kind": "original"},
                "overwrite": True,
            },
        }
        found.append(event)
    return found


def _recovery_point(restorable: JsonObject) -> JsonObject:
    if restorable.get("recoveryPoint") is not None:
        return {"name": restorable["recoveryPoint"]}
    if restorable["listed"] and restorable["kind"].lower() == "log":
        return {"pointInTime": restorable["time"]}
    return {"before": restorable["time"]}


def write_restore_requests(path: Path, outcomes: Iterable[JsonObject]) -> int:
    """Write them to a file, one per line, for `sqlvmbackup run --requests`; returns how many there are.

    Raises CommandError where the file cannot be written.
    """
    lines = [json.dumps(event, ensure_ascii=False) for event in restore_requests(outcomes)]
    try:
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise CommandError(
            f"--restore-request: {path} cannot be written ({error.strerror}); the backup is taken all the same."
        ) from error
    return len(lines)
