"""Parking: a message that nobody can handle is kept whole, to be replayed, and its requester is answered.

The answer is made from whatever can be read of the message, which may fit no model. The queue decides which bodies are
believed: a step's message only in a step's queue, a request only in a queue that takes such requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from pydantic import ValidationError

from shared.arm.ids import InvalidResourceIdError, VaultId
from shared.bus import OutgoingMessage
from shared.bus.topology import INTERNAL_QUEUES, PARKED_MESSAGES
from shared.engine import outcomes
from shared.engine.message import MOST_DEATHS, TRACK, Delivery, Ending, Following, Payload, StepMessage, plain
from shared.engine.result import Continue, End
from shared.engine.runtime import Runtime, collaborate
from shared.engine.send import carried, onward, outgoing
from shared.engine.table import NewerVersionError, Row, UnknownStepError, read_step
from shared.engine.telemetry import delivery_context
from shared.messages import events
from shared.messages.cloud_events import InvalidMessageError, read_json
from shared.messages.error_codes import ErrorCode
from shared.messages.events import ErrorInfo, Event, JobInfo, OutcomeDetails, Status
from shared.messages.identity import MOST_EPOCHS, Database, fingerprint
from shared.messages.parked_body import packed
from shared.messages.reserved import (
    COPY_OF,
    DEATHS,
    DELIVERED,
    DESCRIPTION,
    EPOCH,
    ORIGINAL_MESSAGE_ID,
    ORIGINAL_QUEUE,
    REASON,
    without_reserved,
)
from shared.telemetry.log import logger

_log: Final = logger(__name__)

_LONGEST_DESCRIPTION: Final = 1024


def has_died_too_often(delivery: Delivery) -> bool:
    """Whether to park a message unread: it has died, or been delivered without a copy, too often."""
    return delivery.deaths >= MOST_DEATHS or delivery.delivery_count > MOST_DEATHS


def too_many_deaths(delivery: Delivery) -> ErrorInfo:
    """Why a message that was given back unfinished too often is parked."""
    _log.error(
        "a message was given back unfinished too often and is parked",
        extra=delivery_context(delivery, "park"),
    )
    text = (
        f"a message to {delivery.queue} was given back unfinished {delivery.deaths} times, as when it kills its"
        " process; it is kept in parked-messages: find the cause in the log, then replay it."
    )
    return ErrorInfo(code=ErrorCode.FAILED_INTERNAL, message=text)


def answer_and_park(
    delivery: Delivery, runtime: Runtime, info: ErrorInfo, *, onward_refused: bool = False
) -> None:
    """Answer the requester of a message between steps that is given up, and park it.

    Where one of its deliveries may have gone on, which knows better, the answer takes the same way, so that the broker
    keeps only the first. Where the bus has refused just that (`onward_refused`), it goes straight to the topic.
    """
    answers = final_answers(delivery, runtime, info, onward_refused=onward_refused)
    runtime.bus.send([*answers, park(delivery, info.code, info.message)])


def final_answers(
    delivery: Delivery, runtime: Runtime, info: ErrorInfo, *, onward_refused: bool = False
) -> list[OutgoingMessage]:
    """The answer for a message between steps that is given up."""
    row = runtime.table.by_queue.get(delivery.queue)
    message = _readable(row, delivery, runtime) if row is not None else None
    if row is None or message is None:
        return [_answer_step(delivery, info, runtime).to_message()]
    request = message.request.changed(epoch=max(delivery.epoch, message.request.epoch))
    message = message.changed(request=request)
    decided = message.payload.followed if isinstance(message.payload, Following) else message.ending
    if message.payload.is_fixed and message.ending is None:
        return _final_answers_of_selection(row, message, info, runtime, onward_refused=onward_refused)
    if not isinstance(decided, Ending) and not message.payload.is_accepted:
        return [_answer_step(delivery, info, runtime).to_message()]
    message = message.learned(message.effect.lost(since=message.at))
    end = End(Status.UNKNOWN, info)
    if isinstance(decided, Ending):
        # The message already says how it ends.
        end = End.decided(decided)
    ended = carried(runtime.table.origin(message), message, end, runtime)
    return [each.sent for portion in ended for each in portion]


def _final_answers_of_selection(
    row: Row, message: StepMessage[Any], info: ErrorInfo, runtime: Runtime, *, onward_refused: bool
) -> list[OutgoingMessage]:
    """The answers for a selection that is given up: one for each database, in place of its message.

    Some of those messages may have been sent already: the broker keeps the first of the two.
    """
    assert row.run is not None
    result = row.run(message, collaborate(runtime, message))
    assert isinstance(result, Continue), "a fixed selection goes on"
    at = runtime.service_clock.now()
    ending = Ending(status=Status.UNKNOWN, error=info)
    sent = [event.to_message() for event in result.events]
    for to in result.to:
        following = onward(message, to, at)
        if onward_refused:
            sent.append(outcomes.outcome(following, End(ending.status, info), at=at).to_message())
        else:
            ended = following.changed(ending=ending)
            sent.append(outgoing(ended, timedelta(), runtime))
    if result.accepted is not None:
        sent.append(result.accepted.to_message())
    return sent


def _readable(row: Row, delivery: Delivery, runtime: Runtime) -> StepMessage[Any] | None:
    try:
        return read_step(row, delivery.body, runtime.table)
    except (InvalidMessageError, NewerVersionError, UnknownStepError):
        return None


def park_unreadable(delivery: Delivery, runtime: Runtime, why: str) -> None:
    """Park a message between steps that no version of this app can have written, and answer its request."""
    _log.error(
        "a step message cannot be read; it is parked",
        extra=delivery_context(delivery, "read", reason=why),
    )
    code = ErrorCode.UNREADABLE_STEP_MESSAGE
    info = ErrorInfo(code=code, message=f"a message to {delivery.queue} cannot be read: {why}")
    event = _answer_step(delivery, info, runtime)
    runtime.bus.send([event.to_message(), park(delivery, code, why)])


# -- the message that is kept


def park(delivery: Delivery, reason: str, description: str) -> OutgoingMessage:
    """The message for `parked-messages` that holds the whole original of one that could not be handled."""
    epoch = max(delivery.epoch, _epoch_in(delivery))
    kept = plain(without_reserved(delivery.application_properties))
    kept.pop(DEATHS, None)
    kept.pop(COPY_OF, None)
    if delivery.delivered_before:
        # Whoever replays it has to know that an earlier delivery may have worked on it.
        kept[DELIVERED] = True
    body, encoding = packed(delivery.body)
    return OutgoingMessage(
        entity=PARKED_MESSAGES,
        body=body,
        message_id=fingerprint("parked", delivery.queue, delivery.identity, delivery.body.hex(), epoch),
        content_type=delivery.content_type or "application/json",
        correlation_id=delivery.correlation_id,
        application_properties={
            **kept,
            REASON: reason,
            DESCRIPTION: description[:_LONGEST_DESCRIPTION],
            ORIGINAL_QUEUE: delivery.queue,
            ORIGINAL_MESSAGE_ID: delivery.message_id,
            EPOCH: epoch,
            **encoding,
        },
    )


def _epoch_in(delivery: Delivery) -> int:
    """The epoch in the body of a message between steps; 0 for any other message."""
    if delivery.queue not in INTERNAL_QUEUES:
        return 0
    try:
        raw = read_json(delivery.body)
    except InvalidMessageError:
        return 0
    request = raw.get("request") if isinstance(raw, dict) else None
    epoch = request.get("epoch") if isinstance(request, dict) else None
    return epoch if type(epoch) is int and epoch in range(MOST_EPOCHS + 1) else 0


# -- the answer, where the message fits no model


class _Salvaged(Payload):
    """What can be read of a payload that no model fits."""

    database: Database | None = None
    vault: str | None = None
    item_id: str | None = None
    outcome_count: int = 1
    accepted: bool = False

    @property
    def about(self) -> Database | None:
        return self.database

    @property
    def subject(self) -> str | None:
        return self.item_id

    @property
    def part(self) -> str:
        return self.vault if self.vault is not None else super().part

    @property
    def is_accepted(self) -> bool:
        return self.accepted


def _answer_step(delivery: Delivery, info: ErrorInfo, runtime: Runtime) -> Event:
    """The outcome for a message between steps, from whatever can be read of it."""
    message = _step_message(delivery) if delivery.queue in INTERNAL_QUEUES else None
    if message is None:
        return answer_nobody(delivery, info, runtime)
    body, job_id = message
    row = runtime.table.rows.get(body.step)
    # The step's call, or the job that it follows, may have done something before the message was given up.
    about_one = body.database is not None
    uncertain = (row is not None and row.job is not None) or (body.step == TRACK and about_one)
    job = JobInfo(id=job_id, status="Unknown") if job_id is not None else None
    end = End(Status.UNKNOWN if uncertain else Status.FAILED, info, OutcomeDetails(job=job))
    return outcomes.outcome(body, end, at=runtime.service_clock.now())


def answer_nobody(delivery: Delivery, info: ErrorInfo, runtime: Runtime) -> Event:
    """The answer to a message that is neither a request nor part of one."""
    return events.request_rejected(
        delivery.body,
        queue=delivery.queue,
        message_id=delivery.message_id or None,
        identity=delivery.identity,
        at=runtime.service_clock.now(),
        epoch=delivery.epoch,
        error=info,
    )


def _step_message(delivery: Delivery) -> tuple[StepMessage[_Salvaged], str | None] | None:
    try:
        raw = read_json(delivery.body)
        if not isinstance(raw, dict):
            return None
        head = StepMessage[Payload].model_validate({**raw, "payload": {}}, extra="ignore")
    except (InvalidMessageError, ValidationError):
        return None
    payload = _object(raw.get("payload"))
    followed = _object(payload.get("of"))
    of_step = _object(payload.get("payload")) or payload
    vault = _vault(of_step.get("vaultId"))
    salvaged = _Salvaged(
        database=_database(of_step.get("database")),
        vault=vault,
        item_id=_text(of_step.get("itemId")),
        outcome_count=_count(of_step.get("outcomeCount")),
        accepted=vault is not None or "data" not in of_step,
    )
    epoch = max(delivery.epoch, head.request.epoch)
    request = head.request.changed(epoch=epoch)
    whole: StepMessage[_Salvaged] = StepMessage[_Salvaged].model_construct(
        **{**dict(head), "payload": salvaged, "request": request}
    )
    return whole, _text(followed.get("jobId")) or _text(payload.get("jobId"))


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: Any) -> int:
    return max(1, value) if isinstance(value, int) else 1


def _vault(value: Any) -> str | None:
    """The key of a vault that is surveyed."""
    try:
        return VaultId.parse(value).key if isinstance(value, str) else None
    except InvalidResourceIdError:
        return None


def _database(value: Any) -> Database | None:
    try:
        return Database.model_validate(value) if isinstance(value, dict) else None
    except ValidationError:
        return None
