"""Identities of requests, databases and effects: keys, and the ids that are made of them."""

from __future__ import annotations

import hashlib
import uuid
from typing import Annotated, Final, Literal, Self
from urllib.parse import quote

from pydantic import Field

from shared.arm.ids import VirtualMachineId
from shared.arm.redaction import printable
from shared.messages.model import Duration, TolerantModel, VaultIdField, VirtualMachineIdField
from shared.messages.requests import Operation
from shared.names import name_key

#: How often a message can be replayed at most, which bounds loops over epochs.
MOST_EPOCHS: Final = 20
#: The sender of a request's first step: not its queue, since it is one request whichever queue it came by.
REQUESTED: Final = "request"
#: The first 32 bits of every client request id this app makes: "sqlb".
MARK: Final = 0x73716C62


class Request(TolerantModel):
    """The request that a message belongs to, as every message carries it."""

    operation: Operation
    source: str
    id: str
    epoch: Annotated[int, Field(ge=0, le=MOST_EPOCHS)] = 0
    #: None where it is about several vaults, or the vault could not be read
    vault_id: VaultIdField | None = None
    correlation_id: str | None = None
    traceparent: str | None = None
    schedule: str | None = None
    job_timeout: Duration | None = None
    #: `sourceAndId` for requests that the first version of the app began: its ids were made without the operation
    keyed_by: Literal["operation", "sourceAndId"] = "operation"

    @property
    def key(self) -> tuple[str, ...]:
        """The key that identifies the request; every id that the app makes for it is made of this."""
        if self.keyed_by == "sourceAndId":
            return (self.source, self.id)
        return (self.operation.value, self.source, self.id)


class Database(TolerantModel):
    """The database a message is about."""

    vm_id: VirtualMachineIdField | None = None
    instance: str | None = None
    availability_group: str | None = None
    name: str

    @classmethod
    def inside(cls, parent: str, name: str, *, group: bool, vm_id: VirtualMachineId | None) -> Self:
        """A database of an availability group (`group`), which is on no one VM, or of an instance on a VM."""
        return cls(
            vm_id=None if group else vm_id,
            instance=None if group else parent,
            availability_group=parent if group else None,
            name=name,
        )

    @property
    def parent(self) -> str:
        """The name of the instance or availability group."""
        return self.instance or self.availability_group or ""

    @property
    def key(self) -> str:
        """Identifies the database within a request: VM or group, instance, name."""
        place = self.vm_id.key if self.vm_id is not None else "availabilityGroup"
        names = (quote(name_key(name), safe=" $#@!()[]{}+=,.-_&'~^") for name in (self.parent, self.name))
        return ";".join((place, *names))

    def __str__(self) -> str:
        # Escaped for people: a name may hold anything.
        return printable(f"{self.parent}/{self.name}")


def fingerprint(*parts: object) -> str:
    """A hash of the parts, unique to them; 64 characters."""
    joined = "\x1f".join(str(part).replace("\\", "\\\\").replace("\x1f", "\\u") for part in parts)
    return hashlib.sha256(joined.encode("utf-8", "surrogatepass")).hexdigest()


def marked_request_id(*parts: object) -> str:
    """A UUID of version 8 (RFC 9562, section 5.8): the app's mark, then a hash of the parts."""
    digest = bytes.fromhex(fingerprint(*parts))
    value = (MARK << 96) | int.from_bytes(digest[:12], "big")
    value = (value & ~(0xF << 76)) | (0x8 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return str(uuid.UUID(int=value))


#: The 16 bits after the mark in the client request ids of drills' restores: "dr".
DRILL_MARK: Final = 0x6472


def drill_digest(source: str) -> str:
    """The 8 hexadecimal digits that stand for the source of a drill: its VM (or group), instance and database."""
    return fingerprint("drill source", source)[:8]


def drill_request_id(source: str, target: str, *parts: object) -> str:
    """A marked request id with a second mark, which tells the source and the target of a drill's restore.

    Of its 128 bits 32 are the app's mark, 16 that of drills, 12 a hash of the target, 32 the digest of the source, and
    the other 30 a hash of the parts; six are those that make it a UUID of version 8.
    """
    value = uuid.UUID(marked_request_id(*parts)).int
    value &= (1 << 30) - 1
    value |= (MARK << 96) | (DRILL_MARK << 80) | (0x8 << 76) | (0x2 << 62)
    value |= (int(drill_target_hash(target), 16) << 64) | (int(drill_digest(source), 16) << 30)
    return str(uuid.UUID(int=value))


def drill_of(activity_id: str | None) -> tuple[str, str] | None:
    """Hashes of source and target in the request id of a drill's restore; None for any other id."""
    parsed = as_uuid(activity_id)
    if parsed is None or parsed.int >> 80 != (MARK << 16) | DRILL_MARK:
        return None
    return f"{(parsed.int >> 30) & 0xFFFFFFFF:08x}", f"{(parsed.int >> 64) & 0xFFF:03x}"


def drill_target_hash(target: str) -> str:
    """The hash of a target in `drill_of`: 12 bits, so two targets are rarely confused."""
    return fingerprint("drill target", target)[:3]


def is_marked(activity_id: str | None) -> bool:
    """Whether a job's `activityId` is a client request id that this app made."""
    parsed = as_uuid(activity_id)
    return parsed is not None and parsed.int >> 96 == MARK


def as_uuid(text: str | None) -> uuid.UUID | None:
    """The UUID in a text, in any form; None where it is none."""
    if text is None:
        return None
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def request_message_id(operation: str, source: str, request_id: str, epoch: int = 0) -> str:
    """The message id of a request: the same operation, source and id are the same request, whatever else it says."""
    return fingerprint("request", operation, source, request_id, epoch)
