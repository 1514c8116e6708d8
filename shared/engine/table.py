"""The workflow table: one row per step. The engine enforces it.

A step can only go on to the steps that its row lists, and fan out or start an operation only where the row says so.
The diagram in docs/architecture.md is generated from the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from shared.clock import ServiceTime
from shared.engine.message import VERSION, Following, Payload, StepMessage
from shared.engine.result import (
    Call,
    Collaborators,
    Continue,
    End,
    FollowJob,
    FollowOperation,
    NextEffect,
    Result,
    Step,
    To,
)
from shared.messages.cloud_events import InvalidMessageError, Problem, excerpt, read_json

if TYPE_CHECKING:
    from shared.azure_backup.models import Job
    from shared.engine.expected_job import ExpectedJob

_HEAD: Final = StepMessage[Payload]
_MOST_PROBLEMS: Final = 20


class TableError(Exception):
    """A step did what its row does not list: a defect of the app."""


class UnknownStepError(LookupError):
    """A message names a step that this version of the app does not have.

    `deadline`: how long it may wait for a version that does; None where the message does not say.
    """

    def __init__(self, name: str, deadline: ServiceTime | None = None) -> None:
        super().__init__(f"step {name}, which this version does not know")
        self.deadline = deadline


class NewerVersionError(Exception):
    """A message is of a version that only a newer app understands."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One step: what runs it, what may follow it, and what its call leads to."""

    name: str
    workflow: str
    #: None: its messages come in batches
    run: Step | None
    payload: type[Payload]
    #: what it does, for the diagram
    does: str
    #: the steps that it, or the end of the job that it started, may send messages to
    follows: tuple[str, ...] = ()
    #: those of them that it may fan out to: one message for each database or vault
    fans_out_to: tuple[str, ...] = ()
    #: whether it makes a mutating call whose operation the tracker follows
    tracked: bool = False
    #: whether it makes calls, and polls itself until what they started has ended
    polls_itself: bool = False
    #: of `follows`, the step that comes once its operation has ended, where that starts no job
    after_operation: str | None = None
    #: the job that comes of its call
    job: ExpectedJob | None = None
    #: reads what the outcome is to say, once that job has ended
    look_up: Callable[[StepMessage[Any], Job, End, Collaborators], End] = lambda _message, _job, end, _: end
    #: what comes once that job has ended, given its outcome
    after_job: Callable[[StepMessage[Any], Job, End], Continue | End] = lambda _message, _job, end: end
    #: adds what the step's own payload tells to the outcome
    conclude: Callable[[StepMessage[Any], End], End] = lambda _message, end: end
    #: the step that the outcome of its database may set going, however it ended, and with what; it is the same
    #: whoever tells the outcome
    begins: str | None = None
    sets_going: Callable[[StepMessage[Any]], To | None] = lambda _message: None
    #: the step that its end is sent to, in place of going on: the broker keeps the first of the two
    ends_in: str | None = None
    #: whether one delivery prepares its call and the next one makes it, doing nothing before
    call_apart: bool = False

    def only_prepares(self, message: StepMessage[Any]) -> bool:
        """Whether this delivery reads what a call needs, and the next one makes it: a death before that is no doubt.

        That holds for every effect after the first, since much may have to be looked for and waited for first.
        """
        apart = self.call_apart or (self.job is not None and message.effect.n > 1)
        return apart and not message.effect.ready

    @property
    def queue(self) -> str:
        """The queue of its messages."""
        return self.name.replace("_", "-")

    def permits(self, result: Result) -> None:
        """Raise TableError where the row does not list the step's result."""
        if isinstance(result, Continue):
            strangers = {to.step for to in _sample(result)} - {*self.follows}
            if strangers:
                raise TableError(
                    f"step {self.name} goes on to {sorted(strangers)}; its row lists {self.follows}"
                )
            if len(result.to) > 1 and any(to.step not in self.fans_out_to for to in _sample(result)):
                raise TableError(f"step {self.name} fans out; its row lets it fan out to {self.fans_out_to}")
        elif isinstance(result, Call) and not (self.tracked or self.polls_itself):
            raise TableError(
                f"step {self.name} makes a call; its row does not say that it is tracked, or polls itself"
            )
        elif isinstance(result, FollowOperation) and not self.tracked:
            raise TableError(f"step {self.name} starts an operation; its row does not say that it is tracked")
        elif isinstance(result, NextEffect | FollowJob) and self.job is None:
            raise TableError(f"step {self.name} follows a job; its row names none")


def _sample(result: Continue) -> Iterable[Any]:
    """The first and the last message: one function makes all of a fan-out."""
    return (result.to[0], result.to[-1]) if len(result.to) else ()


@dataclass(frozen=True)
class Table:
    """Every step of the app; reads messages to them."""

    rows: Mapping[str, Row]
    #: the step that the request of each workflow begins with
    first: Mapping[str, str]
    by_queue: Mapping[str, Row] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_queue", {row.queue: row for row in self.rows.values()})
        for row in self.rows.values():
            known = {*row.follows, *row.fans_out_to, *filter(None, (row.after_operation,))}
            if row.begins is not None and row.begins not in self.rows:
                raise TableError(f"step {row.name} begins {row.begins}, which is no step")
            for name in known:
                if name not in self.rows:
                    raise TableError(f"step {row.name} is followed by {name}, which is no step")
            if not known <= {*row.follows}:
                raise TableError(f"step {row.name} leads to {sorted(known)}; its row lists {row.follows}")
            if row.tracked and (row.job is None) == (row.after_operation is None):
                raise TableError(
                    f"step {row.name} is tracked: its row names a job, or what follows its operation"
                )

    def row(self, name: str) -> Row:
        """The row of a step. Raises UnknownStepError."""
        try:
            return self.rows[name]
        except KeyError:
            raise UnknownStepError(name) from None

    def onward(self, name: str) -> frozenset[str]:
        """A step, and every step that may follow it, directly or later."""
        found: set[str] = set()
        waiting = [name]
        while waiting:
            step = waiting.pop()
            if step not in found:
                found.add(step)
                waiting += self.row(step).follows
        return frozenset(found)

    def origin(self, message: StepMessage[Any]) -> Row:
        """The row of the step that a message is about: for a message to the tracker, the step that it follows for."""
        payload = message.payload
        return self.row(payload.origin if isinstance(payload, Following) else message.step)

    def read(self, row: Row, raw: Mapping[str, Any]) -> StepMessage[Any]:
        """The message to a step in a body, of this version or an older one.

        Raises pydantic's ValidationError for what is no such message, and UnknownStepError where it follows for a step
        that this version does not have.
        """
        raw = upgraded(raw)
        head = _HEAD.model_validate(raw, extra="ignore")
        try:
            payload = self._payload(row, raw.get("payload"))
        except ValidationError:
            if head.ending is None:
                raise
            # The end of the step before, sent in place of going on.
            payload = self._payload(self.row(head.sender), raw.get("payload"))
        return head.changed(payload=payload)

    def _payload(self, row: Row, raw: Any) -> Payload:
        if row.payload is not Following or not isinstance(raw, dict):
            return row.payload.model_validate(raw, extra="ignore")
        following = Following.model_validate(raw, extra="ignore")
        if following.origin not in self.rows:
            raise UnknownStepError(following.origin, following.deadline)
        origin = self.rows[following.origin]
        payload = origin.payload.model_validate(raw.get("payload"), extra="ignore")
        return following.changed(payload=payload)


def read_step(row: Row, body: bytes, table: Table) -> StepMessage[Any]:
    """The message to a step in a body.

    Raises InvalidMessageError for what is no message to this step, NewerVersionError and UnknownStepError for what
    another version of the app understands.
    """
    raw = read_json(body)
    if not isinstance(raw, dict):
        raise InvalidMessageError([Problem("body", "no object", "expected a step message")])
    version = raw.get("version")
    if isinstance(version, int) and version > VERSION:
        raise NewerVersionError(f"it is of version {version}, and this app writes version {VERSION}")
    try:
        message = table.read(row, raw)
    except ValidationError as error:
        raise InvalidMessageError(_problems(error)) from None
    if message.step != row.name:
        raise InvalidMessageError([Problem("step", excerpt(message.step), f"expected {row.name}")])
    return message


def _problems(error: ValidationError) -> list[Problem]:
    return [
        Problem(".".join(map(str, detail["loc"])), "another value", detail["msg"])
        for detail in error.errors()[:_MOST_PROBLEMS]
    ]


#: Fields that only the first version wrote: how often a delivery was late, and an acceptance not yet published.
_DROPPED: Final = frozenset({"late", "acceptance"})


def upgraded(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """A message of the first version in the form of this one; any other unchanged."""
    if raw.get("version") != 1:
        return raw
    request = raw.get("request")
    if isinstance(request, dict):
        raw = {**raw, "request": {**request, "keyedBy": "sourceAndId"}}
    payload = raw.get("payload")
    if raw.get("step") == "track" and isinstance(payload, dict):
        raw = {**raw, "payload": _typed(payload, raw)}
    return {name: value for name, value in raw.items() if name not in _DROPPED} | {"version": VERSION}


def _typed(payload: Mapping[str, Any], raw: Mapping[str, Any]) -> dict[str, Any]:
    """What a message of the first version follows, with its kind named."""
    kept = {
        name: payload[name]
        for name in ("origin", "payload", "clientRequestId", "began", "deadline", "notBefore")
        if name in payload
    }
    verdict, again = payload.get("verdict"), payload.get("again")
    if isinstance(verdict, dict):
        error = {name: verdict.get(name) for name in ("code", "message")}
        error["recommendations"] = verdict.get("recommendations") or []
        details = {}
        if payload.get("jobId") is not None:
            details["job"] = {"id": payload["jobId"], "status": "Unknown"}
        followed = {"kind": "end", "status": verdict.get("status"), "error": error, "details": details}
    elif isinstance(again, dict):
        effect = raw.get("effect")
        n = effect.get("n", 1) if isinstance(effect, dict) else 1
        following = {"n": n + 1 if isinstance(n, int) else 2, "waiting": again.get("waiting", False)}
        followed = {"kind": "nextEffect", "effect": following, "since": again.get("since")}
    elif payload.get("jobId") is not None:
        followed = {
            "kind": "job",
            "jobId": payload["jobId"],
            "percentComplete": payload.get("percentComplete"),
        }
    else:
        names = ("asyncOperationUrl", "locationUrl", "otherUrl", "looked")
        followed = {"kind": "operation", **{name: payload[name] for name in names if name in payload}}
    return {**kept, "of": followed}
