"""The messages between steps: internal, versioned, tolerant of fields they do not know.

Each carries the state of its request; there is no store beside the broker.
"""

from __future__ import annotations

import hashlib
import uuid
from datetime import datetime
from typing import Any, Final, Generic, Literal, TypeVar
from urllib.parse import quote

from pydantic import Field, SerializeAsAny

from shared.messages.model import Duration, Moment, TolerantModel, VaultIdField, VirtualMachineIdField
from shared.messages.requests import (
    AlternateTarget,
    BackupData,
    BackupType,
    FilesTarget,
    Operation,
    OriginalTarget,
    ProtectData,
    RestoreData,
)

VERSION: Final = 1
#: The first 32 bits of every client request id this app makes: "sqlb".
MARK: Final = 0x73716C62


class Request(TolerantModel):
    """What every hop carries of the request it belongs to."""

    operation: Operation
    source: str
    id: str
    epoch: int = 0
    #: None only in what answers a request whose vault could not be read
    vault_id: VaultIdField | None
    correlation_id: str | None = None
    traceparent: str | None = None
    schedule: str | None = None
    job_timeout: Duration | None = None


class Effect(TolerantModel):
    """One mutating call of a step: its number, and what is known of its having happened."""

    n: int = 1
    #: an answer was lost, or the message was delivered before
    may_have_started: bool = False
    #: when the call that may have started was made, at the earliest
    at: Moment | None = None
    #: looks at the vault's jobs that did not find it, and the times of the first and the last
    looks: int = 0
    first_look: Moment | None = None
    looked_at: Moment | None = None
    #: another operation is running: no new call before it has ended
    waiting: bool = False


class Database(TolerantModel):
    """The database a message is about."""

    vm_id: VirtualMachineIdField | None = None
    instance: str | None = None
    availability_group: str | None = None
    name: str

    @property
    def parent(self) -> str:
        """The name of the instance or availability group."""
        return self.instance or self.availability_group or ""

    @property
    def key(self) -> str:
        """What tells it from every other database of a request: vm or group, instance, database."""
        place = self.vm_id.path.lower() if self.vm_id is not None else "availabilityGroup"
        names = (quote(name.lower(), safe=" $#@!()[]{}+=,.-_&'~^") for name in (self.parent, self.name))
        return ";".join((place, *names))

    def __str__(self) -> str:
        return f"{self.parent}/{self.name}"


class ProtectPlan(TolerantModel):
    """A protect request on its way to its databases."""

    data: ProtectData
    policy_id: str | None = None
    policy_name: str | None = None
    #: name and path of the VM's container, once it is registered
    container_id: str | None = None
    inquired: bool = False


class ProtectTask(TolerantModel):
    """One database to be protected."""

    database: Database
    item_id: str
    policy_id: str
    policy_name: str
    #: already: nothing to do but to say so; undelete: then resume
    action: Literal["enable", "already", "changePolicy", "resume", "undelete"]
    #: of an item that is protected already
    protection_state: str | None = None
    #: where another request turns out to have protected it by another policy
    on_existing: Literal["fail", "keep", "changePolicy"] = "fail"
    outcome_count: int
    first_backup: Literal["scheduled", "now"] = "scheduled"


class BackupPlan(TolerantModel):
    """A backup request on its way to its databases."""

    data: BackupData


class BackupTask(TolerantModel):
    """One database to be backed up."""

    database: Database
    item_id: str
    server_name: str = ""
    policy_name: str | None = None
    backup_type: BackupType
    retain_for: Duration | None = None
    retain_until: Moment | None = None
    compression: bool | None = None
    if_running: Literal["wait", "skip"] = "wait"
    by_pattern: bool = False
    outcome_count: int


class RestorePlan(TolerantModel):
    """A restore request whose recovery point is to be chosen."""

    data: RestoreData


class ChosenRecoveryPoint(TolerantModel):
    """The recovery point that a restore goes back to."""

    name: str
    kind: str
    time: Moment
    point_in_time: Moment | None = None


class RestoreTask(TolerantModel):
    """One database to be restored."""

    database: Database
    item_id: str
    server_name: str = ""
    recovery_point: ChosenRecoveryPoint
    target: OriginalTarget | AlternateTarget | FilesTarget = Field(discriminator="kind")
    overwrite: bool
    no_recovery: bool
    outcome_count: int = 1


class Verdict(TolerantModel):
    """How a step would end, unless an earlier delivery of its message has handed over to the tracker."""

    status: str
    code: str
    message: str
    recommendations: tuple[str, ...] = ()


class Again(TolerantModel):
    """The step goes on with its next effect, unless an earlier delivery of its message has handed over."""

    #: another operation is running: no new call before it has ended
    waiting: bool
    #: when the step was first asked for
    since: Moment


class Tracking(TolerantModel):
    """An asynchronous operation, then the job that came of it, on behalf of a step."""

    #: the step that started it, and that step's payload
    origin: str
    payload: dict[str, Any]
    #: poll URLs: opaque, signed, secret; at least one of them or `job_id` is known
    async_operation_url: str | None = None
    location_url: str | None = None
    job_id: str | None = None
    client_request_id: str
    #: when the operation was started, and when following it ends
    began: Moment
    deadline: Moment
    #: `Retry-After` of the last answer: not asked again before
    not_before: Moment | None = None
    #: how far the job was at the last poll, where the service says so
    percent_complete: float | None = None
    #: one tracking header answered 403: the other is followed
    other_url: bool = False
    #: the job of an operation that does not name it was looked for once, and not found
    looked: bool = False
    #: there is nothing to follow: this is the outcome
    verdict: Verdict | None = None
    #: there is nothing to follow: the step is to make its next effect
    again: Again | None = None


class Acceptance(TolerantModel):
    """What `accepted` says of a request, where only that is still to be published."""

    outcome_count: int
    skipped: dict[str, int] = {}
    skipped_names: tuple[str, ...] = ()


P = TypeVar("P", bound=TolerantModel)


class StepMessage(TolerantModel, Generic[P]):
    """One message to a step."""

    version: int = VERSION
    step: str
    #: the step that sent it, and the number of the effect that it came of
    sender: str
    #: the service's time when it was sent; when this step was first asked for
    at: Moment
    since: Moment
    #: how often the step has put itself back: the number of the poll
    poll: int = 0
    #: how often in a row it was delivered too late for a mutation
    late: int = 0
    #: answers lost or refused in a row, and since when
    attempt: int = 0
    failing_since: Moment | None = None
    request: Request
    effect: Effect = Effect()
    #: the step has done its work and sent what follows; this is still to be said
    acceptance: Acceptance | None = None
    payload: SerializeAsAny[P]

    @property
    def database(self) -> Database | None:
        """The database it is about, once there is just one."""
        return database_of(self.payload)

    @property
    def message_id(self) -> str:
        """What duplicate detection compares: equal for equal work, at most 128 characters."""
        database = self.database
        return fingerprint(
            self.request.source,
            self.request.id,
            database.key if database is not None else "",
            self.step,
            self.sender,
            self.effect.n,
            self.poll,
            self.request.epoch,
        )

    @property
    def client_request_id(self) -> str:
        """The `x-ms-client-request-id` of the current effect: marked, and equal whenever it is repeated."""
        return self.request_id_of(self.effect.n)

    def request_id_of(self, n: int, epoch: int | None = None) -> str:
        """The client request id of this step's effect number `n`, of this epoch or an earlier one."""
        database = self.database
        return marked_request_id(
            self.request.source,
            self.request.id,
            database.key if database is not None else "",
            self.step,
            getattr(self.payload, "action", ""),
            n,
            self.request.epoch if epoch is None else epoch,
        )

    def again(self, *, at: datetime, **changes: Any) -> StepMessage[P]:
        """The same message as its next poll; whatever failed before is over unless `changes` say otherwise."""
        return self.model_copy(
            update={
                "at": at,
                "poll": self.poll + 1,
                "late": 0,
                "attempt": 0,
                "failing_since": None,
                **changes,
            }
        )


def database_of(payload: TolerantModel | dict[str, Any]) -> Database | None:
    """The database that a payload is about, if it is about one."""
    if isinstance(payload, Tracking):
        return database_of(payload.payload)
    if isinstance(payload, dict):
        found = payload.get("database")
        if isinstance(found, dict):
            return Database.model_validate(found)
        return restored_database(RestorePlan.model_validate(payload)) if _is_restore_plan(payload) else None
    if isinstance(payload, RestorePlan):
        return restored_database(payload)
    found = getattr(payload, "database", None)
    return found if isinstance(found, Database) else None


def _is_restore_plan(payload: dict[str, Any]) -> bool:
    data = payload.get("data")
    return isinstance(data, dict) and "recoveryPoint" in data


def restored_database(plan: RestorePlan) -> Database:
    """The database that a restore request names."""
    data = plan.data
    return Database(
        vm_id=data.vm_id,
        instance=data.instance,
        availability_group=data.availability_group,
        name=data.database,
    )


def fingerprint(*parts: object) -> str:
    """A hash of the parts that no other parts give; 64 characters."""
    joined = "\x1f".join(str(part).replace("\\", "\\\\").replace("\x1f", "\\u") for part in parts)
    return hashlib.sha256(joined.encode("utf-8", "surrogatepass")).hexdigest()


def marked_request_id(*parts: object) -> str:
    """A UUID of version 8 (RFC 9562, section 5.8): the app's mark, then a hash of the parts."""
    digest = bytes.fromhex(fingerprint(*parts))
    value = (MARK << 96) | int.from_bytes(digest[:12], "big")
    value = (value & ~(0xF << 76)) | (0x8 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return str(uuid.UUID(int=value))


def is_marked(activity_id: str | None) -> bool:
    """Whether a job's `activityId` is a client request id that this app made."""
    if activity_id is None:
        return False
    try:
        return uuid.UUID(activity_id).int >> 96 == MARK
    except ValueError:
        return False
