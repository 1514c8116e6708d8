"""The outcome for a message that cannot be handled, from whatever can be read of it: nobody waits for ever.

The queue decides which bodies are believed: a step's message only in a step's queue, a request only in a queue that
takes such requests. The body may fit no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from shared.arm.ids import InvalidResourceIdError, VaultId
from shared.bus.topology import INTERNAL_QUEUES
from shared.engine import outcomes
from shared.engine.message import TRACK, Delivery, Payload, StepMessage
from shared.engine.result import End
from shared.engine.runtime import Runtime
from shared.messages import events
from shared.messages.cloud_events import InvalidMessageError, read_json
from shared.messages.events import ErrorInfo, Event, JobInfo, OutcomeDetails, Status
from shared.messages.identity import Database


class _Salvaged(Payload):
    """What can be read of a payload that no model fits."""

    database: Database | None = None
    vault: str | None = None
    item_id: str | None = None
    outcome_count: int = 1
    accepted: bool = False

    @property
    def part(self) -> str:
        return self.vault if self.vault is not None else super().part

    @property
    def is_accepted(self) -> bool:
        return self.accepted


def answer_step(delivery: Delivery, info: ErrorInfo, runtime: Runtime) -> Event:
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
