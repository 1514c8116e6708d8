"""The tracker's batch: every message is handled on its own, and the batch never raises for one of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from shared.bus import BusError
from shared.composition import Runtime
from shared.workflow.delivery import Delivery, decode, dispatch, park, put_back, run
from shared.workflow.table import STEPS

_log: Final = logging.getLogger(__name__)

#: A message that this version cannot handle is tried this often before it is answered and parked.
_MOST_DEFECTS: Final = 5


def handle_batch(deliveries: Sequence[Delivery], runtime: Runtime) -> None:
    """Handle a batch of the tracker's messages. Raises only where the bus takes nothing at all."""
    for delivery in deliveries:
        _handle(delivery, runtime)


def _handle(delivery: Delivery, runtime: Runtime) -> None:
    from shared.messages.events import ErrorInfo
    from shared.workflow.dead_letters import outcome_of_body

    definition = STEPS["track"]
    message = decode(definition, delivery, runtime)
    if message is None:
        return
    try:
        dispatch(run(definition, message, delivery, runtime), message, runtime)
    except BusError:
        raise
    except Exception as error:
        _log.exception("a poll failed on a defect of this app", extra={"action": "track"})
        if message.attempt < _MOST_DEFECTS:
            again = put_back(message, runtime, timedelta(seconds=30), attempt=message.attempt + 1)
            dispatch(again, None, runtime)
            return
        text = f"{type(error).__name__} while a job was followed; find the cause in the log, then replay it."
        info = ErrorInfo(code="FailedInternally", message=text)
        event = outcome_of_body(delivery, info, at=runtime.service_clock.now())
        runtime.bus.send([event.to_message(), park(delivery, "FailedInternally", text)])
