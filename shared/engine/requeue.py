"""Requeueing: what happens to a delivery that cannot be handled now, or was given back before.

A copy of it goes to its own queue, to appear later. Where the queue takes nothing, the delivery is held for some
minutes before it is given back: the host then abandons it, and Service Bus delivers it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final

from shared.bus import Bus, BusError, MessageTooLargeError, OutgoingMessage
from shared.bus.topology import LOCK_DURATION
from shared.clock import Clock, MachineTime
from shared.engine.message import MOST_DEATHS, Delivery, wait_until
from shared.engine.runtime import Runtime

#: A delivery is held for so long, from when it was taken, before it is given back; a batch's locks are not renewed.
#: The last try may take a minute and a half, and functionTimeout is five.
HOLD: Final = timedelta(minutes=3, seconds=15)
HOLD_BATCH: Final = timedelta(minutes=3)
_BETWEEN_TRIES: Final = timedelta(seconds=15)
assert HOLD < LOCK_DURATION
#: Waits: for what may pass soon, for a role assignment to spread, and for what only an operator can mend.
UNAVAILABLE_WAIT: Final = timedelta(seconds=30)
REFUSED_WAIT: Final = timedelta(minutes=1)
OPERATOR_WAIT: Final = timedelta(minutes=5)


def requeue(
    delivery: Delivery,
    runtime: Runtime,
    *,
    wait: timedelta,
    worked_on: bool = False,
    hold: timedelta = HOLD,
    **properties: Any,
) -> None:
    """Send a copy of a delivery to its own queue, to appear after `wait` by the machine's clock.

    Raises BusError where the queue takes nothing for as long as a delivery may be held.
    """

    def copies() -> list[OutgoingMessage]:
        scheduled_for = wait_until(runtime.clock.now(), wait)
        return [delivery.copy(scheduled_for=scheduled_for, worked_on=worked_on, **properties)]

    requeue_copies(copies, [delivery], runtime, hold=hold)


def requeue_copies(
    copies: Callable[[], Sequence[OutgoingMessage]],
    deliveries: Sequence[Delivery],
    runtime: Runtime,
    *,
    hold: timedelta = HOLD,
) -> None:
    """Send copies of deliveries to their own queue, and hold the deliveries while it takes nothing.

    Raises BusError where the bus takes nothing for so long; the deliveries are then remembered as given back.
    """
    try:
        hold_until_sent(
            copies, runtime.bus, runtime.clock, until=min(each.taken for each in deliveries) + hold
        )
    except MessageTooLargeError:
        raise
    except BusError:
        for delivery in deliveries:
            runtime.given_back.add(delivery.queue, delivery.identity)
        raise


def hold_until_sent(
    copies: Callable[[], Sequence[OutgoingMessage]], bus: Bus, clock: Clock, *, until: MachineTime
) -> None:
    """Send the messages that `copies` makes; while the bus takes nothing, wait until `until`, by this machine's clock.

    This is the only wait inside a function. Without it, a delivery that is given back while the bus takes nothing
    would come again at once, and reach its delivery limit within seconds.

    Raises BusError where the bus takes nothing until then, MessageTooLargeError at once.
    """
    while True:
        try:
            bus.send(copies())
        except MessageTooLargeError:
            raise
        except BusError:
            left = until - clock.now()
            if left <= timedelta():
                raise
            clock.sleep(min(left, _BETWEEN_TRIES))
        else:
            return


def admitted(delivery: Delivery, runtime: Runtime) -> bool:
    """Whether a delivery may be worked on; where not, it has been requeued.

    A delivery that comes again has killed its process, or was given back because the bus took nothing; the delivery
    count does not tell which. So a copy is sent first, with one more death: that proves that the bus takes messages,
    and only the copy is worked on.

    Raises BusError where the bus takes nothing.
    """
    if delivery.delivery_count > 1 and delivery.deaths < MOST_DEATHS:
        copy = copy_of_unfinished(delivery, runtime)
        try:
            requeue_copies(lambda: [copy], [delivery], runtime)
        except MessageTooLargeError:
            # Where there is no room for a copy's properties, its deliveries are counted instead.
            return True
        return False
    return True


def copy_of_unfinished(delivery: Delivery, runtime: Runtime) -> OutgoingMessage:
    """The copy of a delivery that was given back unfinished."""
    outage = runtime.given_back.take(delivery.queue, delivery.identity)
    return delivery.copy(died=not outage)
