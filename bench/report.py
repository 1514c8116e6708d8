"""What a benchmark found: rows of a table, and the figures behind them as JSON."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure and its goal; `reached` is None if there is no goal."""

    measure: str
    what: str
    goal: str
    value: str
    reached: bool | None
    #: the peer's figure, and how many times ours it is
    peer: str = ""
    ratio: float | None = None


@dataclass(kw_only=True)
class Finding:
    """The result of one benchmark."""

    name: str
    title: str
    rows: list[Row] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Spread:
    """Several measurements of one thing."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def text(self, digits: int = 2, unit: str = "") -> str:
        """The median, and the lowest and highest."""
        low, high = min(self.values), max(self.values)
        return f"{self.median:.{digits}f}{unit} ({low:.{digits}f}..{high:.{digits}f})"

    def as_json(self) -> dict[str, Any]:
        return {
            "median": self.median,
            "min": min(self.values),
            "max": max(self.values),
            "n": len(self.values),
        }


def percentile(values: Sequence[float], share: float) -> float:
    """The percentile: the least value that this share of the values does not exceed (nearest rank)."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[math.ceil(len(ordered) * share) - 1]


def table(findings: Sequence[Finding]) -> str:
    """The findings as a table for a terminal."""
    head = ("", "measure", "goal", "figure", "", "peer", "peer/ours")
    lines = [head]
    for finding in findings:
        for row in finding.rows:
            mark = {True: "reached", False: "MISSED", None: ""}[row.reached]
            ratio = f"{row.ratio:.1f}x" if row.ratio is not None else ""
            lines.append((row.measure, row.what, row.goal, row.value, mark, row.peer, ratio))
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    rendered = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    rendered.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(rendered)


_BEGIN, _END = "<!-- figures: written by `python -m bench --reference` -->", "<!-- end of figures -->"


def document(path: Path, findings: Sequence[Finding]) -> None:
    """Write the table into the document, between its two markers."""
    lines = ["| | measure | goal | figure | | peer | peer / ours |", "|---|---|---|---|---|---|---|"]
    for finding in findings:
        for row in finding.rows:
            mark = {True: "reached", False: "**missed**", None: ""}[row.reached]
            ratio = f"{row.ratio:.1f}" if row.ratio is not None else ""
            cells = (row.measure, row.what, row.goal, row.value, mark, row.peer, ratio)
            lines.append(
                "| " + " | ".join(cell.replace("|", "/").replace("<", "&lt;") for cell in cells) + " |"
            )
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    path.write_text(
        "\n".join([before.rstrip("\n"), "", _BEGIN, "", *lines, "", _END]) + after, encoding="utf-8"
    )
