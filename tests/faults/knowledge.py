"""What is known of an effect, read from what is on the wire, and whether a way back to a queue lowers it.

Reads messages as the broker has them, not by the app's own code: a delivery knows what its body says and what its
application properties and its delivery count say, and whatever puts it back has to say as much.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from shared.bus import OutgoingMessage
from shared.bus.topology import INTERNAL_QUEUES, PARKED_MESSAGES, REPLAYS
from shared.messages.parking import unpacked
from shared.workflows import TABLE

#: Which effect it is, of which step, for which request and database.
Key = tuple[str, ...]
_DEAD_LETTERS: Final = "dead-letters"
_EXPIRED: Final = "TTLExpiredException"


class OnTheWire(Protocol):
    """A message in a queue, or on its way to one."""

    @property
    def body(self) -> bytes: ...
    @property
    def application_properties(self) -> Mapping[str, Any]: ...


class Delivered(OnTheWire, Protocol):
    """A message that a function was given."""

    @property
    def delivery_count(self) -> int: ...
    @property
    def dead_letter_source(self) -> str | None: ...
    @property
    def dead_letter_reason(self) -> str | None: ...


@dataclass(frozen=True)
class Knowledge:
    """What is known of one effect."""

    may_have_started: bool = False
    refused_at: datetime | None = None
    at: datetime | None = None
    given_up_at: datetime | None = None
    looks: int = 0
    refusal_looks: int = 0
    look_first: bool = False
    waiting: bool = False
    explained: bool = False
    ready: bool = False
    why: bool = False
    #: of the copy of a message: it was delivered before, and how often it has died
    delivered: bool = False
    deaths: int = 0

    def lowered_by(self, after: Knowledge) -> list[str]:
        """What of it is not known any more `after`."""
        lost = [
            name
            for name in (
                "may_have_started",
                "looks",
                "refusal_looks",
                "look_first",
                "waiting",
                "explained",
                "ready",
                "why",
                "delivered",
                "deaths",
            )
            if getattr(after, name) < getattr(self, name)
        ]
        for name in ("refused_at", "given_up_at"):
            before, since = getattr(self, name), getattr(after, name)
            if before is not None and (since is None or since < before):
                lost.append(name)
        if self.at is not None and (after.at is None or after.at > self.at):
            lost.append("at")
        return lost


def _count(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0


def _moment(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None else None


def _object(body: bytes) -> dict[str, Any]:
    try:
        read = json.loads(body)
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


def _inner(outer: dict[str, Any], name: str) -> dict[str, Any]:
    inner = outer.get(name)
    return inner if isinstance(inner, dict) else {}


def known_of(queue: str, message: OnTheWire) -> Knowledge:
    """What a message says, in its body and its properties."""
    properties = message.application_properties
    effect = _inner(_object(message.body), "effect")
    deaths = _count(properties.get("deaths"))
    return Knowledge(
        may_have_started=effect.get("mayHaveStarted") is True,
        refused_at=_moment(effect.get("refusedAt")),
        at=_moment(effect.get("at")),
        given_up_at=_moment(effect.get("givenUpAt")),
        looks=_count(effect.get("looks")),
        refusal_looks=_count(effect.get("refusalLooks")),
        look_first=effect.get("lookFirst") is True,
        waiting=effect.get("waiting") is True,
        explained=effect.get("explained") is True,
        ready=effect.get("ready") is True,
        why=effect.get("why") is not None,
        delivered=properties.get("delivered") is True or deaths > 0,
        deaths=deaths,
    )


def key_of(queue: str, body: bytes) -> Key | None:
    """Which effect a message to a step is about; None where it cannot be read."""
    read = _object(body)
    request, payload = read.get("request"), read.get("payload")
    if not isinstance(request, dict) or not isinstance(payload, dict):
        return None
    database = payload.get("database", _inner(payload, "payload").get("database"))
    effect = _inner(read, "effect")
    return (
        queue,
        str(request.get("source")),
        str(request.get("id")),
        str(payload.get("origin", "")),
        json.dumps(database, sort_keys=True),
        str(effect.get("n", 1)),
    )


def leaves_no_doubt(queue: str, body: bytes) -> bool:
    """Whether a delivery that ended before its message was done has certainly made no call.

    Its call has a delivery of its own, and this is not that one.
    """
    row = TABLE.by_queue[queue]
    effect = _inner(_object(body), "effect")
    apart = row.call_apart or (row.job is not None and _count(effect.get("n")) > 1)
    return apart and effect.get("ready") is not True


@dataclass(frozen=True)
class _Handled:
    """A message of a step's queue that a function is at work on, and what is known by it."""

    queue: str
    body: bytes
    #: as the copy of a message has to say it
    raw: Knowledge
    #: as the step's own next message has to say it
    own: Knowledge
    key: Key | None
    poll: int
    #: sent again by an operator: its epoch and its moment change
    replayed: bool = False


class Watched:
    """Looks at every delivery, and at what is sent while it is handled."""

    def __init__(self) -> None:
        #: what was found, in words
        self.lowered: list[str] = []
        #: how many messages came back to their queue, by way
        self.came_back: Counter[str] = Counter()
        self._handled: list[_Handled] = []
        self._called = False

    def handling(self, entity: str, messages: Sequence[Delivered]) -> None:
        """These are given to a function; whatever was given to one before has been settled."""
        self._called = False
        self._handled = [found for message in messages if (found := _handled(entity, message)) is not None]

    def called(self) -> None:
        """A mutating call has reached Azure while the delivery was handled."""
        self._called = True

    def sends(self, message: OutgoingMessage) -> None:
        """A message is handed to the bus."""
        if message.entity == PARKED_MESSAGES:
            self._parks(message)
        elif message.entity in INTERNAL_QUEUES:
            self._puts_back(message)

    def _parks(self, message: OutgoingMessage) -> None:
        body = unpacked(message.body, message.application_properties)
        queue = message.application_properties.get("originalQueue")
        same = [one for one in self._handled if (one.queue, one.body) == (queue, body)]
        if not same:
            return
        self.came_back["parked"] += 1
        if message.application_properties.get("delivered") is not True and all(
            one.raw.delivered for one in same
        ):
            self.lowered.append(f"a message of {queue} was parked and not said to have been delivered before")

    def _puts_back(self, message: OutgoingMessage) -> None:
        queue, body = message.entity, message.body
        after = known_of(queue, message)
        same = [one for one in self._handled if (one.queue, one.body) == (queue, body) and not one.replayed]
        # An earlier poll in the same batch may send the very message that a later one is.
        if same and "waited" in message.application_properties:
            self._compare("a copy", queue, [one.raw for one in same], after)
            return
        key, poll = key_of(queue, body), _count(_object(body).get("poll"))
        if key is None:
            return
        again = [one for one in self._handled if one.key == key and not one.replayed and poll == one.poll + 1]
        replayed = [one for one in self._handled if one.key == key and one.replayed]
        if again:
            self._compare("its next poll", queue, [one.own for one in again], after)
            learned = after.may_have_started or after.refused_at is not None
            if self._called and TABLE.by_queue[queue].job is not None and not learned:
                self.lowered.append(f"a message of {queue} made its call, and comes back without knowing it")
        elif replayed:
            self._compare("its replay", queue, [one.own for one in replayed], after)

    def _compare(self, way: str, queue: str, before: Sequence[Knowledge], after: Knowledge) -> None:
        self.came_back[way] += 1
        # Of two deliveries that are alike nobody can tell which it is of: it is not below both.
        losses = [one.lowered_by(after) for one in before]
        if all(losses):
            self.lowered.append(
                f"{way} of a message of {queue} lowers what is known: {losses[0]}: {before} {after}"
            )

    def check(self) -> None:
        """Raise AssertionError where anything was lowered."""
        assert not self.lowered, "\n".join(self.lowered)


def _handled(entity: str, message: Delivered) -> _Handled | None:
    properties = message.application_properties
    body = message.body
    before = message.delivery_count > 1
    queue: Any = entity
    if entity == REPLAYS:
        queue, before = properties.get("originalQueue"), False
        body = _unpacked(body, properties)
    elif entity == _DEAD_LETTERS:
        queue, before = message.dead_letter_source, message.dead_letter_reason != _EXPIRED
        if queue == REPLAYS:
            queue = properties.get("originalQueue")
    if queue not in INTERNAL_QUEUES:
        return None
    known = known_of(queue, message)
    if body is not message.body:
        known = known_of(queue, _Body(body, properties))
    delivered = known.delivered or before
    # The step's own message says it in its effect, and a message that was worked on has not died.
    doubt = delivered and not leaves_no_doubt(queue, body)
    raw = Knowledge(**{**vars(known), "delivered": delivered})
    own = Knowledge(
        **{
            **vars(known),
            "may_have_started": known.may_have_started or doubt,
            "delivered": False,
            "deaths": 0,
        }
    )
    poll = _count(_object(body).get("poll"))
    return _Handled(queue, body, raw, own, key_of(queue, body), poll, replayed=entity == REPLAYS)


@dataclass(frozen=True)
class _Body:
    body: bytes
    application_properties: Mapping[str, Any]


def _unpacked(body: bytes, properties: Mapping[str, Any]) -> bytes:
    try:
        return unpacked(body, properties)
    except ValueError:
        return body
