"""Which messages of a batch may be worked on, and what becomes of the others: one may end the process for all.

A message that has died before is worked on after all others, and alone of its kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from shared.bus import BusError, MessageTooLargeError, OutgoingMessage
from shared.engine.message import MOST_DEATHS, TRACK, Delivery
from shared.engine.parking import answer_and_park, too_many_deaths
from shared.engine.requeue import HOLD_BATCH, OPERATOR_WAIT, copy_of_unfinished, requeue, requeue_copies
from shared.engine.run import requeue_unsent
from shared.engine.runtime import Runtime
from shared.engine.telemetry import delivery_context
from shared.messages.error_codes import ErrorCode
from shared.messages.events import ErrorInfo
from shared.telemetry.log import logger

_log: Final = logger(__name__)

#: Messages that have died before are spaced this far apart, so that each has a batch to itself.
_APART: Final = timedelta(seconds=1)


def admit(deliveries: Sequence[Delivery], runtime: Runtime) -> tuple[list[Delivery], list[Delivery]]:
    """The deliveries that may be worked on: those that have never died, and at most one that has.

    All others are requeued before any work begins, or answered and parked.
    """
    redelivered = [delivery for delivery in deliveries if delivery.delivery_count > 1]
    rest = [delivery for delivery in deliveries if delivery.delivery_count <= 1]
    dying = [delivery for delivery in rest if 0 < delivery.deaths < MOST_DEATHS]
    now = runtime.clock.now()
    copies = [copy_of_unfinished(delivery, runtime) for delivery in redelivered]
    copies += [delivery.copy(scheduled_for=now + n * _APART) for n, delivery in enumerate(dying[1:], start=1)]
    if copies:
        originals = [*redelivered, *dying[1:]]
        try:
            requeue_copies(lambda: copies, originals, runtime, hold=HOLD_BATCH)
        except MessageTooLargeError:
            _requeue_one_by_one(copies, originals, runtime)
    for delivery in rest:
        if delivery.deaths >= MOST_DEATHS:
            _answer_and_park(delivery, runtime, too_many_deaths(delivery))
    return [delivery for delivery in rest if not delivery.deaths], dying[:1]


def _requeue_one_by_one(
    copies: Sequence[OutgoingMessage], originals: Sequence[Delivery], runtime: Runtime
) -> None:
    """Send copies one by one; a message that leaves no room for a copy's properties is answered and parked."""
    for copy, original in zip(copies, originals, strict=True):
        try:
            requeue_copies(partial(list, [copy]), [original], runtime, hold=HOLD_BATCH)
        except MessageTooLargeError:
            _answer_and_park(original, runtime, too_many_deaths(original))


def answer_defect(delivery: Delivery, runtime: Runtime, error: Exception) -> None:
    """Answer the requester of a message that this version cannot handle, and park it."""
    text = f"{type(error).__name__} while a job was followed; find the cause in the log, then replay it."
    _answer_and_park(delivery, runtime, ErrorInfo(code=ErrorCode.FAILED_INTERNAL, message=text))


def _answer_and_park(delivery: Delivery, runtime: Runtime, why: ErrorInfo) -> None:
    """Answer the requester of a message that is given up, and park it. Where that fails, it comes again later."""
    try:
        answer_and_park(delivery, runtime, why)
    except BusError as error:
        requeue_unsent(delivery, runtime, error, worked_on=True, hold=HOLD_BATCH)
    except Exception:
        _log.exception("a poll can be neither handled nor answered", extra=delivery_context(delivery, TRACK))
        requeue(delivery, runtime, wait=OPERATOR_WAIT, worked_on=True, hold=HOLD_BATCH)
