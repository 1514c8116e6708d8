"""The messages between steps: internal, versioned, tolerant of fields they do not know.

Each carries the state of its request; the broker is the only store. What is known of an effect can only grow: every
message that goes back to its queue is made by `StepMessage.next_poll` or `Delivery.copy`, and neither can forget any of
it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, Self, TypeVar

from pydantic import Field, SerializeAsAny

from shared.arm.ids import VaultId, VirtualMachineId
from shared.bus import OutgoingMessage
from shared.bus.topology import REQUEST_QUEUES
from shared.clock import MachineTime, ServiceTime
from shared.engine.effect import Effect
from shared.messages.events import NO_DETAILS, ErrorInfo, OutcomeDetails, Status
from shared.messages.identity import (
    REQUESTED,
    Database,
    Request,
    drill_request_id,
    fingerprint,
    marked_request_id,
    request_message_id,
)
from shared.messages.model import Moment, TolerantModel
from shared.messages.reserved import (
    COPY_OF,
    DEAD_LETTER_SOURCE,
    DEATHS,
    DELIVERED,
    WAITED,
    WAITING_SINCE,
    without_reserved,
)

if TYPE_CHECKING:
    from shared.settings import Settings

VERSION: Final = 2
TRACK: Final = "track"
#: How often a message may have killed its process before it is parked.
MOST_DEATHS: Final = 5


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A message as the platform hands it to a function.

    The sender sets `body`, `message_id`, `content_type`, `correlation_id` and `application_properties`; the platform
    sets all other fields. A delivery from a request queue never has the reserved application properties.
    """

    queue: str
    body: bytes
    message_id: str = ""
    delivery_count: int = 1
    #: when this process took it, by the machine's clock
    taken: MachineTime
    application_properties: Mapping[str, Any] = field(default_factory=dict)
    content_type: str | None = None
    correlation_id: str | None = None
    #: the broker's sequence number; the same at each delivery
    sequence_number: int | None = None
    #: of a dead letter, as the broker reports it: the queue that gave it up, and why
    dead_letter_source: str | None = None
    dead_letter_reason: str | None = None
    dead_letter_description: str | None = None
    #: how often an operator has sent it again; only `shared.intake.replays` sets it
    epoch: int = 0

    def __post_init__(self) -> None:
        properties = dict(self.application_properties)
        if self.queue in REQUEST_QUEUES:
            properties = without_reserved(properties)
        if self.dead_letter_source is not None:
            # How often it died or waited where it was, if its sender did not make that up; here it has not yet.
            for name in (DEATHS, WAITED, WAITING_SINCE):
                properties.pop(name, None)
        object.__setattr__(self, "application_properties", properties)

    @property
    def identity(self) -> str:
        """What distinguishes it from other messages of its queue: its id, or else its sequence number.

        A copy has the identity of its original.
        """
        original = self.application_properties.get(COPY_OF)
        if isinstance(original, str) and original:
            return original
        if self.message_id or self.sequence_number is None:
            return self.message_id
        return f"number {self.sequence_number}"

    @property
    def deaths(self) -> int:
        """How often it has been given back unfinished, because its process died or the bus took nothing."""
        value = self.application_properties.get(DEATHS)
        return max(0, min(value, MOST_DEATHS)) if isinstance(value, int) else 0

    @property
    def has_waited(self) -> bool:
        """Whether it is a copy that was requeued; another process may have received the original since."""
        return self._waited > 0

    @property
    def _waited(self) -> int:
        value = self.application_properties.get(WAITED)
        return value if isinstance(value, int) else 0

    @property
    def delivered_before(self) -> bool:
        """Whether an earlier delivery may have worked on it already."""
        return (
            self.delivery_count > 1 or self.application_properties.get(DELIVERED) is True or self.deaths > 0
        )

    def copy(
        self,
        *,
        scheduled_for: MachineTime | None = None,
        died: bool = False,
        worked_on: bool = False,
        **properties: Any,
    ) -> OutgoingMessage:
        """A copy of it for its own queue.

        Args:
            scheduled_for: when it is to appear, by the machine's clock; None: at once.
            died: whether it was given back unfinished, which counts as a death.
            worked_on: whether this delivery may have had an effect.
            properties: application properties to add to those of the original.
        """
        waited = self._waited + 1
        kept = plain(self.application_properties)
        known: dict[str, str | int | bool] = {**kept, WAITED: waited, COPY_OF: self.identity, **properties}
        if self.dead_letter_source is not None:
            known[DEAD_LETTER_SOURCE] = self.dead_letter_source
        if died:
            known[DEATHS] = self.deaths + 1
        if worked_on or self.delivered_before:
            known[DELIVERED] = True
        return OutgoingMessage(
            entity=self.queue,
            body=self.body,
            # `died` is no part of the id. A delivery may have been sent on, and come again because another message of
            # its batch ended the process: the broker then keeps the first copy, and no death is counted.
            message_id=fingerprint(
                "copy", self.queue, self.message_id, self.identity, self.body.hex(), waited
            ),
            content_type=self.content_type or "application/json",
            correlation_id=self.correlation_id,
            application_properties=known,
            scheduled_for=scheduled_for,
        )


class Payload(TolerantModel):
    """What a step's message is about; steps add fields in subclasses."""

    @property
    def about(self) -> Database | None:
        """The database it is about, once there is just one."""
        return None

    @property
    def part(self) -> str:
        """Which part of the request it is about: the key of its database, or empty where it is about all of them."""
        about = self.about
        return about.key if about is not None else ""

    @property
    def vm_id(self) -> VirtualMachineId | None:
        """The VM that its request names, while it is about all of the request."""
        return None

    @property
    def is_silent(self) -> bool:
        """Whether nobody waits for its end, which is then only logged."""
        return False

    @property
    def subject(self) -> str | None:
        """The ARM id of the protected item, where it is known."""
        return None

    @property
    def server(self) -> str:
        """The host's name as it appears in jobs; empty where it is not known."""
        return ""

    @property
    def outcomes(self) -> int:
        """How many outcomes its request has: the field `outcome_count`, where a payload has it."""
        count: int = getattr(self, "outcome_count", 1)
        return count

    @property
    def variant(self) -> str:
        """What distinguishes two calls of one step for one database."""
        return ""

    @property
    def drills(self) -> tuple[str, str] | None:
        """Of a drill: the key of its source and its target."""
        return None

    @property
    def is_accepted(self) -> bool:
        """Whether the databases of its request are known, so that each has an outcome of its own."""
        return self.about is not None

    @property
    def is_waiting_doubt(self) -> bool:
        """Whether it is a doubt that waits for the message that goes on, and takes the place of none of its polls."""
        return False

    @property
    def is_fixed(self) -> bool:
        """Whether it holds all that its step needs, so that the step has nothing to read."""
        return False


class DatabasePayload(Payload):
    """What the message of a step for one database is about."""

    database: Database
    item_id: str
    #: the host's name as it appears in jobs; empty where it is not known
    server_name: str = ""

    @property
    def about(self) -> Database:
        return self.database

    @property
    def subject(self) -> str:
        return self.item_id

    @property
    def server(self) -> str:
        return self.server_name


class FollowedOperation(TolerantModel):
    """An asynchronous operation is followed until its job is known, or to its end where it starts no job."""

    kind: Literal["operation"] = "operation"
    #: poll URLs: opaque, signed, secret
    async_operation_url: str | None = Field(default=None, repr=False)
    location_url: str | None = Field(default=None, repr=False)
    #: whether the service did at once what it was asked (200, 201 or 204), and so named no URL
    at_once: bool = False
    #: whether one tracking header's URL answered 403: the other one is followed
    other_url: bool = False
    #: whether its job was looked for once, and not found
    looked: bool = False


class FollowedJob(TolerantModel):
    """A job is followed to its end."""

    kind: Literal["job"] = "job"
    job_id: str
    #: its progress at the last poll, where the service reports it
    percent_complete: float | None = None


class Ending(TolerantModel):
    """There is nothing to follow: the step ends like this, unless another delivery of it has gone on already."""

    kind: Literal["end"] = "end"
    status: Status
    error: ErrorInfo | None = None
    details: OutcomeDetails = NO_DETAILS
    #: it is a doubt, and has waited for others of its request
    has_waited: bool = False


class DecidedEffect(TolerantModel):
    """There is nothing to follow: the step makes its next call, unless another delivery of it has gone on already."""

    kind: Literal["nextEffect"] = "nextEffect"
    effect: Effect
    #: when the step was first asked for
    since: Moment


class Following(Payload):
    """What the tracker follows on behalf of a step."""

    #: the step, and its payload
    origin: str
    payload: SerializeAsAny[Payload]
    #: what is followed, or what has been decided
    followed: FollowedOperation | FollowedJob | Ending | DecidedEffect = Field(
        alias="of", discriminator="kind"
    )
    client_request_id: str
    #: when the operation started, and until when it is followed
    began: Moment
    deadline: Moment
    #: not polled before this time: the `Retry-After` of the last answer
    not_before: Moment | None = None

    @property
    def about(self) -> Database | None:
        return self.payload.about

    @property
    def part(self) -> str:
        return self.payload.part

    @property
    def is_silent(self) -> bool:
        return self.payload.is_silent

    @property
    def subject(self) -> str | None:
        return self.payload.subject

    @property
    def outcomes(self) -> int:
        return self.payload.outcomes

    @property
    def is_accepted(self) -> bool:
        return self.payload.is_accepted

    @property
    def is_waiting_doubt(self) -> bool:
        return isinstance(self.followed, Ending) and self.followed.has_waited


P = TypeVar("P", bound=Payload)


class StepMessage(TolerantModel, Generic[P]):
    """One message to a step."""

    version: int = VERSION
    step: str
    #: the step that sent it
    sender: str
    #: the service's time when it was sent; when this step was first asked for
    at: Moment
    since: Moment
    #: how often the step has polled again: the number of the poll
    poll: int = 0
    #: how many answers in a row were lost or refused, and since when
    attempt: int = 0
    failing_since: Moment | None = None
    request: Request
    effect: Effect = Effect()
    #: the step before, whose payload this carries, has ended: all that is left is to tell this
    ending: Ending | None = None
    payload: SerializeAsAny[P]

    @property
    def database(self) -> Database | None:
        """The database it is about, once there is just one."""
        return self.payload.about

    @property
    def the_database(self) -> Database:
        """The database, of a step that is always about one."""
        database = self.database
        assert database is not None
        return database

    @property
    def vault_id(self) -> VaultId:
        """The vault, of a step whose request always names one."""
        vault_id = self.request.vault_id
        assert vault_id is not None
        return vault_id

    def job_timeout(self, settings: Settings) -> timedelta:
        """For how long its job, or what stands in its way, is waited for: as the request says, else the settings."""
        return self.request.job_timeout or settings.job_timeout

    @property
    def message_id(self) -> str:
        """What duplicate detection compares: equal for equal work, at most 128 characters."""
        if self.sender == REQUESTED and self.poll == 0:
            request = self.request
            return request_message_id(request.operation.value, request.source, request.id, request.epoch)
        return fingerprint(
            *self.request.key,
            self.payload.part,
            self.step,
            self.sender,
            self.effect.n,
            self.poll,
            self.request.epoch,
            *(("beside",) if self.payload.is_waiting_doubt else ()),
        )

    @property
    def client_request_id(self) -> str:
        """The `x-ms-client-request-id` of the current effect: it bears the app's mark, and repeats are equal."""
        return self.client_request_id_of(self.effect.n, self.request.epoch)

    def client_request_id_of(self, n: int, epoch: int) -> str:
        """The client request id of this step's effect number `n` in an epoch."""
        parts = (*self.request.key, self.payload.part, self.step, self.payload.variant, n, epoch)
        drills = self.payload.drills
        return marked_request_id(*parts) if drills is None else drill_request_id(*drills, *parts)

    def client_request_ids(self, most: int) -> Iterator[tuple[str, bool]]:
        """Every client request id that the step may have used for its database, the newest first.

        Each comes with whether a later effect or a replay followed it. `most`: how many effects an epoch may have.
        """
        now = (self.request.epoch, self.effect.n)
        for epoch in range(self.request.epoch, -1, -1):
            for n in range(max(self.effect.n, most), 0, -1):
                yield self.client_request_id_of(n, epoch), (epoch, n) < now

    def next_poll(
        self,
        *,
        at: ServiceTime,
        effect: Effect | None = None,
        payload: Payload | None = None,
        ending: Ending | None = None,
        attempt: int = 0,
        failing_since: ServiceTime | None = None,
    ) -> Self:
        """The same message for its next poll; what is known of its effect only grows."""
        return self.changed(
            at=at,
            poll=self.poll + 1,
            attempt=attempt,
            failing_since=failing_since,
            effect=self.effect if effect is None else effect.joined(self.effect),
            ending=ending or self.ending,
            payload=payload or self.payload,
        )

    @property
    def of_origin(self) -> StepMessage[Any]:
        """Of a message to the tracker: the message of the step that it follows for, as it was then. Else itself."""
        following = self.payload
        if not isinstance(following, Following):
            return self
        return self.changed(step=following.origin, sender=self.step, poll=0, payload=following.payload)

    def learned(self, effect: Effect) -> Self:
        """The same message, with what else is known of its effect."""
        return self.changed(effect=effect.joined(self.effect))


#: How many bytes of a sender's application properties a copy keeps: Service Bus takes 64 KB of them in all
#: (https://learn.microsoft.com/azure/service-bus-messaging/service-bus-quotas), some of which are the app's own.
_LONGEST_PROPERTIES: Final = 56 * 1024


def plain(properties: Mapping[str, Any]) -> dict[str, str | int | bool]:
    """The application properties that can be sent, as far as there is room for them.

    A number that the SDK does not take (it encodes 32 bits) becomes a text.
    """
    kept: dict[str, str | int | bool] = {}
    room = _LONGEST_PROPERTIES
    for name, value in properties.items():
        if not isinstance(value, str | int | bool):
            continue
        fits = not isinstance(value, int) or -(2**31) <= value < 2**31
        sent = value if fits else str(value)
        length = len(name.encode()) + (len(sent.encode()) if isinstance(sent, str) else 8)
        if length <= room:
            kept[name] = sent
            room -= length
    return kept


def wait_until(now: MachineTime, wait: timedelta) -> MachineTime | None:
    """When a message that is sent now is to appear; None: at once."""
    return now + wait if wait > timedelta() else None
