"""Plots as SVG, without a plotting library."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

_WIDTH, _HEIGHT = 640, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 150, 44, 52
_INK, _FAINT = "#24292f", "#d0d7de"
_COLOURS = ("#0969da", "#cf222e", "#9a6700", "#57606a")


@dataclass(frozen=True)
class Line:
    """One named series of points."""

    name: str
    points: Sequence[tuple[float, float]]


class _Axis:
    def __init__(self, low: float, high: float, start: float, end: float, *, log: bool) -> None:
        self.low, self.high, self.log = low, high, log
        self._scale: Callable[[float], float] = math.log10 if log else float
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        low, high = self._scale(self.low), self._scale(self.high)
        share = (self._scale(value) - low) / (high - low) if high > low else 0.0
        return self._start + share * (self._end - self._start)

    def ticks(self) -> list[float]:
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            return [10.0**power for power in range(first, last + 1)]
        step = 10 ** math.floor(math.log10((self.high - self.low) / 4))
        for factor in (1, 2, 5, 10):
            if (self.high - self.low) / (step * factor) <= 6:
                step *= factor
                break
        return [
            step * number for number in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)
        ]


def lines(title: str, across: str, up: str, series: Sequence[Line], *, log: bool = False) -> str:
    """Lines with their names at their ends."""
    points = [point for line in series for point in line.points]
    low_x, high_x = min(x for x, _ in points), max(x for x, _ in points)
    low_y = min(y for _, y in points) if log else 0.0
    x_axis = _Axis(low_x, high_x, _LEFT, _WIDTH - _RIGHT, log=log)
    y_axis = _Axis(
        low_y, max(y for _, y in points) * (1.3 if log else 1.05), _HEIGHT - _BOTTOM, _TOP, log=log
    )
    parts = _frame(title, across, up, x_axis, y_axis)
    taken: list[float] = []
    for colour, line in zip(_COLOURS, series, strict=False):
        path = [f"{x_axis.at(x):.1f},{y_axis.at(y):.1f}" for x, y in line.points]
        parts.append(f'<polyline points="{" ".join(path)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(line.points) < 20:
            parts += [
                f'<circle cx="{x_axis.at(x):.1f}" cy="{y_axis.at(y):.1f}" r="3" fill="{colour}"/>'
                for x, y in line.points
            ]
        x, y = line.points[-1]
        height = y_axis.at(y)
        while any(abs(height - other) < 15 for other in taken):
            height += 15
        taken.append(height)
        parts.append(_text(x_axis.at(x) + 8, height + 4, line.name, colour))
    return _document(parts)


def bars(title: str, across: str, up: str, heights: Sequence[float], width: float) -> str:
    """A histogram with bars of `width`, from zero."""
    x_axis = _Axis(0, len(heights) * width, _LEFT, _WIDTH - 30, log=False)
    y_axis = _Axis(0, max(heights) * 1.05, _HEIGHT - _BOTTOM, _TOP, log=False)
    parts = _frame(title, across, up, x_axis, y_axis)
    for number, height in enumerate(heights):
        left, right = x_axis.at(number * width), x_axis.at((number + 1) * width)
        top, bottom = y_axis.at(height), y_axis.at(0)
        parts.append(
            f'<rect x="{left + 1:.1f}" y="{top:.1f}" width="{right - left - 2:.1f}" height="{bottom - top:.1f}"'
            f' fill="{_COLOURS[0]}"/>'
        )
    return _document(parts)


def _frame(title: str, across: str, up: str, x_axis: _Axis, y_axis: _Axis) -> list[str]:
    left, right = x_axis.at(x_axis.low), x_axis.at(x_axis.high)
    bottom, top = y_axis.at(y_axis.low), y_axis.at(y_axis.high)
    parts = [_text(_LEFT, 22, title, _INK, size=15, weight="600")]
    for value in y_axis.ticks():
        height = y_axis.at(value)
        parts.append(
            f'<line x1="{left}" x2="{right}" y1="{height:.1f}" y2="{height:.1f}" stroke="{_FAINT}"/>'
        )
        parts.append(_text(left - 8, height + 4, f"{value:,g}", _INK, anchor="end"))
    for value in x_axis.ticks():
        parts.append(_text(x_axis.at(value), bottom + 18, f"{value:,g}", _INK, anchor="middle"))
    parts.append(_text((left + right) / 2, bottom + 38, across, _INK, anchor="middle"))
    middle = (top + bottom) / 2
    parts.append(
        f'<text x="18" y="{middle}" font-size="12" fill="{_INK}" text-anchor="middle"'
        f' transform="rotate(-90 18 {middle})">{escape(up)}</text>'
    )
    return parts


def _text(
    x: float, y: float, text: str, colour: str, *, anchor: str = "start", size: int = 12, weight: str = "400"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" fill="{colour}"'
        f' text-anchor="{anchor}">{escape(text)}</text>'
    )


def _document(parts: Sequence[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}"'
            f' height="{_HEIGHT}" font-family="system-ui, sans-serif">',
            f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def draw(figures: Mapping[str, Any], directory: Path) -> None:
    """Draw the figures as plots into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    if (calls := figures.get("p1")) is not None:
        points = calls["points"]
        named = (("this app", "calls"), ("SDK script", "sdk"), ("az backup", "az"))
        drawn = [
            Line(name, [(point["databases"], point[key]) for point in points if point.get(key)])
            for name, key in named
        ]
        _write(
            directory / "calls.svg",
            lines(
                "ARM calls from an unprotected VM to the first backup", "databases", "calls", drawn, log=True
            ),
        )
    if (late := figures.get("p3")) is not None:
        title = f"Lateness of {late['ended']:,} outcomes, {late['jobs']:,} jobs begun together"
        _write(
            directory / "lateness.svg",
            bars(title, "seconds from the job's end to its outcome", "jobs", late["histogram"], 5),
        )
    if (burst := figures.get("p8")) is not None:
        drawn = []
        for name, key in (("2,000 requests", "requests"), ("1 request", "oneRequest"), ("SDK script", "sdk")):
            moments = burst[key]["startedAt"]
            share = burst["count"] / len(moments)
            drawn.append(Line(name, [(moment, (n + 1) * share) for n, moment in enumerate(moments)]))
        least = [(0.0, min(200.0, burst["count"])), (burst["least"], burst["count"])]
        drawn.append(Line("ARM's limit", least))
        _write(
            directory / "burst.svg",
            lines("Backups started against ARM's write limit", "seconds", "backups started", drawn),
        )


def _write(path: Path, svg: str) -> None:
    path.write_text(svg, encoding="utf-8")
