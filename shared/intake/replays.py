"""Replays: parked messages that an operator sends again, through a queue of their own.

Only messages in `replays` may name a queue and an epoch, since only operators may send there; both are checked all the
same. From here on, the app's own messages carry the request's epoch.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from shared.bus.topology import INTERNAL_QUEUES, REPLAYS, REQUEST_QUEUES, SHARED_STEPS
from shared.engine.message import Delivery, StepMessage
from shared.engine.parking import final_answers, has_died_too_often, park, park_unreadable, too_many_deaths
from shared.engine.requeue import OPERATOR_WAIT, requeue
from shared.engine.run import as_delivered
from shared.engine.runtime import Runtime
from shared.engine.send import outgoing
from shared.engine.table import NewerVersionError, Row, UnknownStepError, read_step
from shared.engine.telemetry import delivery_context
from shared.intake.receive import receive_request
from shared.messages import events
from shared.messages.cloud_events import InvalidMessageError, Problem, excerpt
from shared.messages.error_codes import ErrorCode
from shared.messages.events import ErrorInfo
from shared.messages.identity import MOST_EPOCHS
from shared.messages.reserved import DELIVERED, EPOCH, ORIGINAL_QUEUE, without_reserved
from shared.settings import Settings
from shared.steps.payloads import BackupPlan, CoveragePlan
from shared.telemetry.log import logger

_log: Final = logger(__name__)


def receive_replay(delivery: Delivery, runtime: Runtime) -> None:
    """Let a parked message go on where it was, under its next epoch.

    A request is read again as one from its queue; a message between steps goes to its step.
    """
    if has_died_too_often(delivery):
        _put_back(delivery, runtime)
        return
    try:
        again = original(delivery)
        if again.queue in INTERNAL_QUEUES:
            _check_served(again.queue, runtime)
    except InvalidMessageError as error:
        _refuse(delivery, runtime, error)
        return
    if again.queue in REQUEST_QUEUES:
        receive_request(again, runtime)
        return
    row = runtime.table.by_queue[again.queue]
    try:
        message = as_delivered(
            row, read_step(row, again.body, runtime.table), again, runtime.service_clock.now()
        )
    except InvalidMessageError as error:
        park_unreadable(again, runtime, str(error))
        return
    except (NewerVersionError, UnknownStepError):
        requeue(delivery, runtime, wait=OPERATOR_WAIT)
        return
    runtime.bus.send([outgoing(_renewed(message, again.epoch, runtime), timedelta(), runtime)])


def _put_back(delivery: Delivery, runtime: Runtime) -> None:
    """Park a replay that kills its process, as the message that it replays."""
    info = too_many_deaths(delivery)
    try:
        lost = original(delivery)
    except InvalidMessageError:
        lost = delivery
    answer = final_answers(lost, runtime, info) if lost.queue in INTERNAL_QUEUES else []
    runtime.bus.send([*answer, park(lost, info.code, info.message)])


def original(delivery: Delivery) -> Delivery:
    """The message that is replayed, in the queue that it was in, with its epoch.

    Raises InvalidMessageError where the properties name no queue that may be replayed, or no epoch.
    """
    properties = delivery.application_properties
    queue: Any = properties.get(ORIGINAL_QUEUE)
    epoch: Any = properties.get(EPOCH)
    problems = []
    if queue not in REQUEST_QUEUES | INTERNAL_QUEUES:
        accepted = "expected a queue of requests or of a step"
        problems.append(Problem(ORIGINAL_QUEUE, _given(queue), accepted))
    if type(epoch) is not int or not 1 <= epoch <= MOST_EPOCHS:
        problems.append(Problem(EPOCH, _given(epoch), f"expected a whole number from 1 to {MOST_EPOCHS}"))
    if problems:
        raise InvalidMessageError(problems)
    own = without_reserved(properties)
    if properties.get(DELIVERED) is True and queue in INTERNAL_QUEUES:
        own[DELIVERED] = True
    return replace(delivery, queue=queue, epoch=epoch, delivery_count=1, application_properties=own)


def _given(value: Any) -> str:
    return "nothing" if value is None else excerpt(value)


def _serves(row: Row, settings: Settings) -> bool:
    served = {operation.value for operation in settings.workflows}
    return row.workflow in served | {"every"} or row.name in {SHARED_STEPS.get(each) for each in served}


def _check_served(queue: str, runtime: Runtime) -> None:
    if not _serves(runtime.table.by_queue[queue], runtime.settings):
        served = ", ".join(sorted(runtime.settings.workflows))
        accepted = f"this app serves {served} (setting WORKFLOWS)"
        raise InvalidMessageError([Problem(ORIGINAL_QUEUE, excerpt(queue), accepted)])


def _renewed(message: StepMessage[Any], epoch: int, runtime: Runtime) -> StepMessage[Any]:
    """The message for its new epoch: its waits are forgotten, what its effects have done is not."""
    payload = message.payload
    if isinstance(payload, BackupPlan | CoveragePlan):
        # An operator who replays it wants it now, whatever a schedule says.
        payload = payload.changed(planned=None)
    fresh = {
        "request": message.request.changed(epoch=epoch),
        "since": runtime.service_clock.now(),
        "payload": payload,
    }
    return message.changed(**fresh)


def _refuse(delivery: Delivery, runtime: Runtime, error: InvalidMessageError) -> None:
    """Answer and park a replay that cannot be sent on, so that neither the message nor the reason is lost."""
    _log.error("a replay is refused: %s", error, extra=delivery_context(delivery, "receive_replay"))
    info = ErrorInfo(
        code=ErrorCode.REPLAY_REFUSED,
        message=f"the message cannot be sent again: {error}",
        recommendations=("Send it again with `sqlvmbackup replay`, to the app that it was parked by.",),
    )
    event = events.request_rejected(
        delivery.body,
        queue=REPLAYS,
        message_id=delivery.message_id or None,
        identity=delivery.identity,
        at=runtime.service_clock.now(),
        epoch=0,
        error=info,
    )
    queue = delivery.application_properties.get(ORIGINAL_QUEUE)
    known = queue if queue in REQUEST_QUEUES | INTERNAL_QUEUES else REPLAYS
    parked = park(replace(delivery, queue=known), ErrorCode.REPLAY_REFUSED, str(error))
    runtime.bus.send([event.to_message(), parked])
