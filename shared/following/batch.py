"""The tracker's batch: each message is handled on its own; the batch only decides how jobs are looked up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from shared.bus import BusError, BusUnavailableError, OutgoingMessage
from shared.engine.message import TRACK, Delivery
from shared.engine.requeue import HOLD_BATCH, UNAVAILABLE_WAIT, requeue_copies
from shared.engine.result import Result
from shared.engine.run import read, requeue_unsent
from shared.engine.runtime import Runtime
from shared.engine.send import Carried, carried, hand_over
from shared.engine.telemetry import context_of, delivery_context, log_context, say, started, traced_batch
from shared.following.admission import admit, answer_defect
from shared.following.lookup import Answer, Defect, Item, look_up
from shared.telemetry import tracing
from shared.telemetry.log import logger
from shared.telemetry.tracing import Instrument

_log: Final = logger(__name__)


def handle_batch(deliveries: Sequence[Delivery], runtime: Runtime) -> None:
    """Handle a batch of the tracker's messages.

    Raises BusError where the bus takes nothing at all: the whole batch is then delivered again.
    """
    try:
        healthy, dying = admit(deliveries, runtime)
        _work(healthy, runtime)
        # Last: if it kills this process, the results of the others have been sent.
        _work(dying, runtime)
    except BusError:
        # Where one result could not be sent, all deliveries come again, and none of them counts as a death.
        for delivery in deliveries:
            runtime.given_back.add(delivery.queue, delivery.identity)
        raise


def _work(deliveries: Sequence[Delivery], runtime: Runtime) -> None:
    with traced_batch(deliveries) as batch:
        items = [item for item in (_read(delivery, runtime, batch) for delivery in deliveries) if item]
        try:
            if items:
                tracing.measure(Instrument.FOLLOWED, len(items))
            _send(look_up(items, runtime), runtime)
        except BaseException as error:
            for item in items:
                item.span.end(error)
            raise
        for item in items:
            item.span.end()


def _read(delivery: Delivery, runtime: Runtime, batch: tracing.Span) -> Item | None:
    """The poll in a delivery; None where this version cannot handle it: it is parked then, or requeued."""
    try:
        message = read(runtime.table.rows[TRACK], delivery, runtime)
        if message is None:
            return None
        parent = context_of(delivery)
        row = runtime.table.origin(message)
        age = runtime.service_clock.now() - message.payload.began
        tracing.measure(Instrument.JOB_AGE, max(0.0, age.total_seconds()), step=row.name)
        return Item(delivery, message, row, started(delivery, parent, batch.context), parent)
    except BusError as error:
        requeue_unsent(delivery, runtime, error, worked_on=False, hold=HOLD_BATCH)
    except Exception as error:
        _log.exception("a poll cannot be read", extra=delivery_context(delivery, TRACK))
        answer_defect(delivery, runtime, error)
    return None


def _send(results: Sequence[Answer], runtime: Runtime) -> None:
    """Send the results of all polls together; each is made into messages on its own."""
    together: list[Carried] = []
    alone: list[tuple[Item, Result]] = []
    sent: list[tuple[Item, Result]] = []
    for item, result in results:
        say(item.span, item.message, result)
        if isinstance(result, Defect):
            answer_defect(item.delivery, runtime, result.error)
            continue
        try:
            with item.processing():
                for portion in carried(item.row, item.message, result, runtime):
                    together += portion
            sent.append((item, result))
        except Exception as error:
            _log.exception("what a poll led to is no message", extra=log_context(item.message))
            answer_defect(item.delivery, runtime, error)
    try:
        if together:
            runtime.bus.send([each.sent for each in together])
    except BusError:
        # One result that cannot be sent must not hold up the others; the broker drops what it has accepted already.
        alone = sent
    for number, (item, result) in enumerate(alone):
        try:
            with item.processing():
                hand_over(item.row, item.message, result, runtime)
        except BusUnavailableError as error:
            # A bus that is away for one is away for the others, and each try takes half a minute.
            _requeue_all([each.delivery for each, _ in alone[number:]], runtime, error)
            return
        except BusError as error:
            requeue_unsent(item.delivery, runtime, error, worked_on=True, hold=HOLD_BATCH)


def _requeue_all(deliveries: Sequence[Delivery], runtime: Runtime, error: BusError) -> None:
    """Requeue deliveries, since the bus does not take what follows them."""
    _log.warning(
        "the bus did not take what follows on %d polls; they come again: %s",
        len(deliveries),
        error,
        extra={"action": "track"},
    )

    def copies() -> list[OutgoingMessage]:
        at = runtime.clock.now() + UNAVAILABLE_WAIT
        return [delivery.copy(scheduled_for=at, worked_on=True) for delivery in deliveries]

    requeue_copies(copies, deliveries, runtime, hold=HOLD_BATCH)
