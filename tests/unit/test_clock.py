"""The service's clock: its last word plus the elapsed time, whatever this machine's clock says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from local.stepped_clock import SteppedClock
from shared.clock import ServiceClock, ServiceTime

HERE = ServiceTime(datetime(2026, 1, 5, 8, tzinfo=UTC))
THERE = ServiceTime(datetime(2026, 1, 5, 8, 10, tzinfo=UTC))


@pytest.mark.parametrize("scale", [1.0, 0.01, 2.0])
def test_time_passes_from_the_services_last_word_at_its_scale(scale: float) -> None:
    clock = SteppedClock(HERE)
    service = ServiceClock(clock, scale)
    assert service.now() == HERE
    service.answered(THERE)
    clock.advance(timedelta(seconds=30))
    assert service.now() == THERE + timedelta(seconds=30 / scale)


def test_a_later_word_corrects_an_earlier_one_in_both_directions() -> None:
    service = ServiceClock(SteppedClock(HERE))
    near = HERE + timedelta(minutes=4)
    for word in (HERE, near, HERE):
        service.answered(word)
        assert service.now() == word


def test_a_word_that_is_far_off_is_believed_once_others_agree_with_it() -> None:
    clock = SteppedClock(HERE)
    service = ServiceClock(clock)
    service.answered(HERE)
    for word in (THERE, HERE, THERE, THERE, THERE, THERE):
        service.answered(word)
        assert service.now() == HERE
    service.answered(THERE)
    assert service.now() == THERE


def test_the_first_word_is_believed_at_once_only_where_it_is_the_services() -> None:
    service = ServiceClock(SteppedClock(HERE))
    for _ in range(4):
        service.answered(THERE, by_service=False)
        assert (service.now(), service.is_known) == (HERE, False)
    service.answered(THERE, by_service=False)
    assert (service.now(), service.is_known) == (THERE, True)
    near = ServiceClock(SteppedClock(HERE))
    near.answered(ServiceTime(HERE + timedelta(minutes=4)), by_service=False)
    assert near.is_known


def test_a_word_from_the_end_of_the_calendar_is_never_believed() -> None:
    service = ServiceClock(SteppedClock(HERE))
    for _ in range(9):
        service.answered(ServiceTime(datetime.max.replace(tzinfo=UTC)))
    assert service.now() == HERE


def test_a_message_stands_in_until_the_service_has_spoken() -> None:
    service = ServiceClock(SteppedClock(HERE))
    service.at_least(THERE)
    assert service.now() == THERE
    service.at_least(HERE)
    assert service.now() == THERE
    service.answered(HERE)
    service.at_least(THERE)
    assert service.now() == HERE


def test_a_message_that_waited_for_hours_does_not_set_the_clock_back() -> None:
    clock = SteppedClock(HERE)
    service = ServiceClock(clock)
    service.at_least(HERE - timedelta(hours=5))
    assert service.now() == HERE
    service.at_least(THERE)
    clock.advance(timedelta(hours=1))
    service.at_least(THERE)
    assert service.now() == THERE + timedelta(hours=1)
    assert not service.is_known
    service.answered(HERE)
    assert service.is_known


def test_a_naive_start_is_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        SteppedClock(datetime(2026, 1, 5))  # noqa: DTZ001 - this is what is refused
