"""The workflow table: one row per step, and what it says is enforced.

A step can only go on to what its row lists, fan out where it says so, and start what is followed where it says
so. The diagram in docs/architecture.md is made of the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

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

if TYPE_CHECKING:
    from shared.azure_backup.models import Job
    from shared.engine.once import JobOf

_HEAD: Final = StepMessage[Payload]


class TableError(Exception):
    """A step did what its row of the table does not list: a defect of the app."""


class UnknownStepError(LookupError):
    """A message names a step that this version of the app does not have.

    `deadline`: until when it may wait for the version that does; None where it says none.
    """

    def __init__(self, name: str, deadline: datetime | None = None) -> None:
        super().__init__(f"step {name}, which this version does not know")
        self.deadline = deadline


@dataclass(frozen=True, kw_only=True)
class Row:
    """One step: what runs it, what may follow on it, and what its call leads to."""

    name: str
    workflow: str
    #: None: its messages come in batches
    run: Step | None
    payload: type[Payload]
    #: what it does, for the diagram
    does: str
    #: the steps that it, or the end of what it started, may send messages to
    follows: tuple[str, ...] = ()
    #: those of them that many messages may be sent to at once, one for each database or vault
    fans_out_to: tuple[str, ...] = ()
    #: it makes a mutating call whose operation is handed to the tracker
    tracked: bool = False
    #: it makes calls, and comes back itself until what they started has ended
    comes_back: bool = False
    #: of `follows`, what comes once its operation has ended, where no job comes of it
    after_operation: str | None = None
    #: the job that comes of its call
    job: JobOf | None = None
    #: what is read once that job has ended, and what its outcome says of it
    look_up: Callable[[StepMessage[Any], Job, End, Collaborators], End] = lambda _message, _job, end, _c: end
    #: what comes once that job has ended, given its outcome
    after_job: Callable[[StepMessage[Any], Job, End], Continue | End] = lambda _message, _job, end: end
    #: the outcome as the step's own payload tells it
    conclude: Callable[[StepMessage[Any], End], End] = lambda _message, end: end
    #: the step that the outcome of its database may set going, however it ended, and with what; it is the same
    #: whoever tells the outcome
    begins: str | None = None
    sets_going: Callable[[StepMessage[Any]], To | None] = lambda _message: None
    #: the step that its end is sent to, in place of what would have gone on: of the two the broker keeps the first
    ends_in: str | None = None
    #: its call is prepared by one delivery and made by the next, which does nothing before it
    call_apart: bool = False

    def calls_apart(self, message: StepMessage[Any]) -> bool:
        """Whether a message's call has a delivery of its own, so that a death before that leaves no doubt of it.

        Beyond the first effect it always has one: much may have to be looked for and waited for first.
        """
        return self.call_apart or (self.job is not None and message.effect.n > 1)

    @property
    def queue(self) -> str:
        """The queue of its messages."""
        return self.name.replace("_", "-")

    def permits(self, result: Result) -> None:
        """Raise TableError where the row does not list what the step came to."""
        if isinstance(result, Continue):
            strangers = {to.step for to in _sample(result)} - {*self.follows}
            if strangers:
                raise TableError(
                    f"step {self.name} goes on to {sorted(strangers)}; its row lists {self.follows}"
                )
            if len(result.to) > 1 and any(to.step not in self.fans_out_to for to in _sample(result)):
                raise TableError(f"step {self.name} fans out; its row lets it fan out to {self.fans_out_to}")
        elif isinstance(result, Call) and not (self.tracked or self.comes_back):
            raise TableError(
                f"step {self.name} makes a call; its row does not say that it is tracked, or comes back"
            )
        elif isinstance(result, FollowOperation) and not self.tracked:
            raise TableError(f"step {self.name} starts an operation; its row does not say that it is tracked")
        elif isinstance(result, NextEffect | FollowJob) and self.job is None:
            raise TableError(f"step {self.name} follows a job; its row names none")


def _sample(result: Continue) -> Iterable[Any]:
    """The first and the last: all of a fan-out are made by one function."""
    return (result.to[0], result.to[-1]) if len(result.to) else ()


@dataclass(frozen=True)
class Table:
    """Every step of the app, and how its messages are read."""

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
        """A step, and every one that may follow on it, near or far."""
        found: set[str] = set()
        waiting = [name]
        while waiting:
            step = waiting.pop()
            if step not in found:
                found.add(step)
                waiting += self.row(step).follows
        return frozenset(found)

    def origin(self, message: StepMessage[Any]) -> Row:
        """The row of the step that a message is about: of the tracker's, the step that it follows for."""
        payload = message.payload
        return self.row(payload.origin if isinstance(payload, Following) else message.step)

    def read(self, row: Row, raw: Mapping[str, Any]) -> StepMessage[Any]:
        """The message to a step in a body, of this version or an older one.

        Raises pydantic's ValidationError where it is none, UnknownStepError where it follows for a step that
        this version does not have.
        """
        raw = upgraded(raw)
        head = _HEAD.model_validate(raw, extra="ignore")
        try:
            payload = self._payload(row, raw.get("payload"))
        except ValidationError:
            if head.ending is None:
                raise
            # The end of the step before, in place of what would have gone on.
            payload = self._payload(self.row(head.sender), raw.get("payload"))
        return head.model_copy(update={"payload": payload})

    def _payload(self, row: Row, raw: Any) -> Payload:
        if row.payload is not Following or not isinstance(raw, dict):
            return row.payload.model_validate(raw, extra="ignore")
        following = Following.model_validate(raw, extra="ignore")
        if following.origin not in self.rows:
            raise UnknownStepError(following.origin, following.deadline)
        origin = self.rows[following.origin]
        payload = origin.payload.model_validate(raw.get("payload"), extra="ignore")
        return following.model_copy(update={"payload": payload})


#: What the first version wrote of how often a delivery was late, and of an acceptance that had not been published.
_DROPPED: Final = frozenset({"late", "acceptance"})


def upgraded(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """A message of the first version in terms of this one; any other as it is."""
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
    """What the first version followed, by its kind."""
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
        of = {"kind": "end", "status": verdict.get("status"), "error": error, "details": details}
    elif isinstance(again, dict):
        effect = raw.get("effect")
        n = effect.get("n", 1) if isinstance(effect, dict) else 1
        following = {"n": n + 1 if isinstance(n, int) else 2, "waiting": again.get("waiting", False)}
        of = {"kind": "nextEffect", "effect": following, "since": again.get("since")}
    elif payload.get("jobId") is not None:
        of = {"kind": "job", "jobId": payload["jobId"], "percentComplete": payload.get("percentComplete")}
    else:
        names = ("asyncOperationUrl", "locationUrl", "otherUrl", "looked")
        of = {"kind": "operation", **{name: payload[name] for name in names if name in payload}}
    return {**kept, "of": of}
