"""The best that any polling policy can reach that knows the distribution of durations, but not when each job ends.

A look sees all jobs of a vault and costs some reads. For a given number of looks per hour, the mean lateness is least
if their density follows the square root of the density of ends: the first-order condition of minimising the
integral of f(t) / 2r(t) with the integral of r(t) fixed, where r is bounded below so that every job is seen.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from typing import Final

from bench.estate import MEDIAN, SIGMA

_STEP: Final = 5.0
#: The starts of a fan-out are taken to be spread evenly over this many moments.
_MOMENTS: Final = 40


def mean_lateness(*, looks: float, horizon: float, starts_over: float, longest: float) -> float:
    """The mean seconds from a job's end to the look that sees it, for ends within the horizon.

    Args:
        looks: how many are allowed within the horizon.
        horizon: seconds.
        starts_over: seconds over which the jobs start, evenly.
        longest: the most seconds between two looks.
    """
    count = int(horizon / _STEP)
    ended = [_ended(number * _STEP, starts_over) for number in range(count + 1)]
    density = [max(0.0, after - before) / _STEP for before, after in itertools.pairwise(ended)]
    rates = _rates(density, looks, 1 / longest)
    moments, due = [], 0.0
    for number, rate in enumerate(rates):
        due += rate * _STEP
        if due >= 1:
            moments.append((number + 1) * _STEP)
            due -= 1
    weight = total = 0.0
    for number, ending in enumerate(density):
        at = (number + 0.5) * _STEP
        seen = bisect_right(moments, at)
        if seen < len(moments):
            weight += ending
            total += ending * (moments[seen] - at)
    return total / weight


def _rates(density: list[float], looks: float, least: float) -> list[float]:
    low, high = 1e-6, 1e4
    for _ in range(80):
        scale = math.sqrt(low * high)
        spent = sum(max(scale * math.sqrt(ending), least) * _STEP for ending in density)
        low, high = (low, scale) if spent > looks else (scale, high)
    return [max(low * math.sqrt(ending), least) for ending in density]


def _ended(at: float, starts_over: float) -> float:
    """The share of jobs that have ended after that many seconds."""
    starts = (starts_over * (number + 0.5) / _MOMENTS for number in range(_MOMENTS))
    return sum(_distribution(at - start) for start in starts) / _MOMENTS


def _distribution(duration: float) -> float:
    if duration <= 0:
        return 0.0
    return 0.5 * math.erfc(-(math.log(duration / MEDIAN) / SIGMA) / math.sqrt(2))
