"""What becomes of a delivery where the bus takes nothing, and of one that was given back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from local.stepped_clock import SteppedClock
from shared.bus import BusUnavailableError, MessageTooLargeError, OutgoingMessage
from shared.clock import MachineTime
from shared.engine.message import MOST_DEATHS
from shared.engine.requeue import admitted, hold_until_sent, requeue
from shared.messages.reserved import DEATHS, DELIVERED
from tests.unit.app import App, RecordingBus
from tests.unit.examples import HOUR, MINUTE, NOW, S


def test_what_the_bus_does_not_take_is_tried_until_the_delivery_may_not_be_held_any_longer() -> None:
    clock = SteppedClock(NOW)
    bus = RecordingBus(refusals=[BusUnavailableError("busy")] * 3)
    message = OutgoingMessage(entity="track", body=b"{}", message_id="m1")
    hold_until_sent(lambda: [message], bus, clock, until=MachineTime(NOW + 40 * S))
    assert (bus.sent, clock.now()) == ([message], MachineTime(NOW + 40 * S))
    for until in (MachineTime(NOW + 40 * S), MachineTime(NOW + 39 * S)):
        with pytest.raises(BusUnavailableError):
            hold_until_sent(
                lambda: [message], RecordingBus(refusals=[BusUnavailableError("busy")]), clock, until=until
            )
    assert clock.now() == NOW + 40 * S


def test_what_is_too_large_is_not_tried_again() -> None:
    clock = SteppedClock(NOW)
    bus = RecordingBus(refusals=[MessageTooLargeError("too large")])
    with pytest.raises(MessageTooLargeError):
        hold_until_sent(list, bus, clock, until=MachineTime(NOW + HOUR))
    assert clock.now() == NOW


def test_what_is_given_back_because_the_bus_took_nothing_has_not_died(app: App) -> None:
    runtime = replace(app.runtime, bus=RecordingBus(refusals=[BusUnavailableError("busy")] * 99))
    with pytest.raises(BusUnavailableError):
        requeue(app.delivery("track", {}), runtime, wait=MINUTE)
    assert app.clock.now() == NOW + timedelta(minutes=3, seconds=15)
    assert not admitted(app.delivery("track", {}, delivery_count=2), app.runtime)
    (copy,) = app.held("track")
    assert DEATHS not in copy.application_properties
    assert copy.application_properties[DELIVERED] is True


@pytest.mark.parametrize(
    ("deliveries", "deaths", "works"),
    [(1, 0, True), (1, 3, True), (2, 0, False), (2, MOST_DEATHS - 1, False), (2, MOST_DEATHS, True)],
)
def test_what_comes_again_is_copied_first_with_one_more_death(
    app: App, deliveries: int, deaths: int, works: bool
) -> None:
    delivery = app.delivery("track", {}, delivery_count=deliveries, application_properties={DEATHS: deaths})
    assert admitted(delivery, app.runtime) is works
    assert [copy.application_properties[DEATHS] for copy in app.held("track")] == (
        [] if works else [deaths + 1]
    )
    for copy in app.held("track"):
        assert copy.application_properties[DELIVERED] is True


def test_a_copy_that_cannot_be_made_is_worked_on_as_it_is(app: App) -> None:
    runtime = replace(app.runtime, bus=RecordingBus(refusals=[MessageTooLargeError("too large")]))
    assert admitted(app.delivery("track", {}, delivery_count=2), runtime)
