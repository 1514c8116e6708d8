"""How values are written: numbers, moments, lengths of time, databases and the targets of restores."""

from __future__ import annotations

from datetime import datetime, timedelta

from cli.encoding import JsonObject
from cli.request_lines import RequestLine
from shared.messages.model import format_moment


def count_of(number: int, noun: str) -> str:
    """A number of things."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def spoken(duration: timedelta) -> str:
    """A duration for people: `42 s`, `5 min 3 s`, `2 h 5 min`, `3 d 4 h`."""
    seconds = int(duration.total_seconds())
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    if seconds < 86400:
        return f"{seconds // 3600} h {seconds % 3600 // 60} min"
    return f"{seconds // 86400} d {seconds % 86400 // 3600} h"


def moment_text(moment: datetime | None) -> str | None:
    """A moment in RFC 3339, in whole seconds."""
    return None if moment is None else format_moment(moment.replace(microsecond=0))


def without_none(fields: JsonObject) -> JsonObject:
    """The fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}


def place_of(data: JsonObject) -> str:
    """A database for people: VM, instance or group, and name; of a survey of coverage its vault."""
    if data.get("coverage") is not None:
        return f"vault {str(data['vaultId']).rpartition('/')[2]}"
    if data.get("database") is None:
        return "the request"
    parent = data.get("instance") or data.get("availabilityGroup") or ""
    machine = str(data.get("vmId") or "").rpartition("/")[2]
    return "/".join(part for part in (machine, parent, data["database"]) if part)


def restored_to(data: JsonObject) -> str:
    """Where a restore goes: a name or a path, after the VM and the instance where those are not the source's."""
    target = data["target"]
    if target["kind"] == "original":
        return "the original"
    machine = str(target["vmId"])
    same_machine = machine.lower() == str(data.get("vmId", "")).lower()
    vm = "" if same_machine else machine.rpartition("/")[2]
    if target["kind"] == "files":
        return f"{target['path']} on {vm}" if vm else str(target["path"])
    same_instance = same_machine and str(target["instance"]).lower() == str(data.get("instance", "")).lower()
    instance = "" if same_instance else str(target["instance"])
    name = target.get("database") or f"{data.get('database')}_restored_…"
    return "/".join(part for part in (vm, instance, name) if part)


def going_to(line: RequestLine, data: JsonObject) -> str:
    """Where a restore goes, from its event or else its request: ` to sqlvm2/MSSQLSERVER/orders`."""
    target = data.get("target")
    if target is None:
        asked = line.envelope.data if line.envelope is not None else None
        target = asked.get("target") if isinstance(asked, dict) else None
    if not isinstance(target, dict) or data.get("database") is None:
        return ""
    try:
        return f" to {restored_to({**data, 'target': target})}"
    except (KeyError, TypeError):
        return ""  # the app says what is wrong with it
