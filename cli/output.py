"""Results on standard output, in the format that is asked for: a table, JSON, JSON lines, CSV or TSV."""

from __future__ import annotations

import argparse
import csv
import io
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.parser import ParsedResult
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.encoding import JsonObject, json_text
from cli.errors import CommandError
from shared.arm.redaction import printable

#: Wide enough for a job id beside a sentence, where no terminal says how wide it is.
_PLAIN_WIDTH: Final = 160
_GAP: Final = 2
#: With full-width forms, which spreadsheets in East Asian locales treat alike.
_BEGIN_FORMULAS: Final = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
_NUMBER: Final = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)


class Format(StrEnum):
    """How results are written."""

    TABLE = "table"  #: for people
    JSON = "json"  #: one list
    JSONL = "jsonl"  #: a line each
    CSV = "csv"  #: with a line of names, flat
    TSV = "tsv"  #: as `az` has it: without names, flat


@dataclass(frozen=True, kw_only=True)
class Output:
    """How a command's results are written."""

    format: Format
    query: ParsedResult | None = field(default=None, repr=False)
    #: whether to leave out what is as it should be
    failed_only: bool = False

    @property
    def is_table(self) -> bool:
        """Whether it is a plain table for a person."""
        return self.format is Format.TABLE and self.query is None


def output_of(options: argparse.Namespace, *, default: Format | None = None) -> Output:
    """The output that the options ask for (default: a table on a terminal, else JSON lines). Raises CommandError."""
    asked = getattr(options, "output", None)
    text = getattr(options, "query", None)
    query = None
    if text is not None:
        try:
            query = jmespath.compile(text)
        except JMESPathError as error:
            reason = " ".join(str(error).split())
            raise CommandError(
                f"--query: {text!r} is no JMESPath expression ({reason}); for example --query '[0]', the first result"
                " with the names of its fields."
            ) from error
    if asked is not None:
        format_ = Format(asked)
    elif query is not None:
        format_ = Format.JSON
    else:
        format_ = default or (Format.TABLE if sys.stdout.isatty() else Format.JSONL)
    return Output(format=format_, query=query, failed_only=bool(getattr(options, "failed_only", False)))


def write_data(
    rows: Sequence[JsonObject],
    output: Output,
    *,
    fields: Sequence[str] = (),
    flat: Callable[[JsonObject], JsonObject] = dict,
) -> None:
    """Write rows for a program, or the result of a query over them.

    Args:
        rows: as JSON has them.
        output: anything but a plain table.
        fields: the columns of CSV and TSV, whatever the rows hold: a row may lack what is not known.
        flat: makes a row of one level, for CSV and TSV.
    """
    if output.query is None:
        _write(rows, output.format, lambda row: {**dict.fromkeys(fields), **flat(row)})
        return
    try:
        found = output.query.search(list(rows))
    except JMESPathError as error:
        reason = " ".join(str(error).split())
        raise CommandError(f"--query: it does not apply to these results ({reason}).") from error
    _write(found, output.format, dict)


def _write(value: Any, format_: Format, flat: Callable[[JsonObject], JsonObject]) -> None:
    if format_ is Format.JSON:
        print(json_text(value, indent=2))
    elif format_ is Format.JSONL:
        for one in value if isinstance(value, list | tuple) else [value]:
            print(json_text(one, separators=(",", ":")))
    else:
        _write_flat(value, format_, flat)
    sys.stdout.flush()


def _write_flat(value: Any, format_: Format, flat: Callable[[JsonObject], JsonObject]) -> None:
    records = list(value) if isinstance(value, list | tuple) else [] if value is None else [value]
    if records and all(isinstance(one, dict) for one in records):
        rows = [flat(one) for one in records]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        cells = [[_cell(row.get(name)) for name in columns] for row in rows]
    else:
        cells = [[_cell(part) for part in (one if isinstance(one, list) else [one])] for one in records]
        columns = []
    if format_ is Format.TABLE:
        widest = max((len(row) for row in cells), default=0)
        names = columns or [f"column{number}" for number in range(1, widest + 1)]
        if cells:
            print_table(names, [[*row, *[""] * (widest - len(row))] for row in cells])
    elif format_ is Format.TSV:
        for row in cells:
            print("\t".join(row))
    else:
        lines = io.StringIO()
        safe = [[_no_formula(cell) for cell in row] for row in cells]
        csv.writer(lines, lineterminator="\n").writerows([columns, *safe] if columns else safe)
        print(lines.getvalue(), end="")


def _no_formula(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula: names may hold anything.

    Text that may begin one gets an apostrophe in front; numbers stay unchanged
    (https://owasp.org/www-community/attacks/CSV_Injection).
    """
    if cell.lstrip().startswith(_BEGIN_FORMULAS) and not _NUMBER.fullmatch(cell):
        return f"'{cell}"
    return cell


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return json_text(value, separators=(",", ":"))
    return printable(value)


def _lines(value: object) -> str:
    """The lines of a table's cell: one for each text of a tuple."""
    return "\n".join(map(printable, value)) if isinstance(value, tuple) else _cell(value)


def print_rows(
    columns: Sequence[str],
    rows: Iterable[JsonObject],
    output: Output,
    *,
    nothing: str,
    fields: Sequence[str] = (),
    spared: Sequence[str] = (),
    name: Sequence[str] = (),
    failed: Callable[[JsonObject], bool] = lambda _row: False,
) -> None:
    """Print the rows of a listing on standard output.

    Args:
        columns: of the table.
        rows: what they hold, and more of it for programs.
        output: how they are written.
        nothing: said where there is none; on standard error where a program reads the output.
        fields: the columns of CSV and TSV, where rows may lack some.
        spared: columns that a narrow terminal does without, the first of them first.
        name: columns that become one, written with slashes, where that is not enough.
        failed: whether a row is one that `--failed-only` keeps.
    """
    rows = [row for row in rows if not output.failed_only or failed(row)]
    if not rows:
        print(nothing, file=sys.stdout if output.is_table else sys.stderr)
        if output.is_table:
            return
    if not output.is_table:
        write_data(rows, output, fields=fields)
        return
    whole = [{column: _lines(row.get(column)) for column in columns} for row in rows]
    shown, cells, dropped = _fitted(list(columns), whole, spared, name)
    table = [[row[column] for column in shown] for row in cells]
    if not _fits(shown, table):
        # Printed as records, each column has a line of its own: there is room for all of them.
        shown, table, dropped = list(columns), [[row[column] for column in columns] for row in whole], []
    print_table(shown, table)
    if dropped:
        print(
            f"Left out, to fit in {console().width} columns: {', '.join(dropped)}. -o json has them.",
            file=sys.stderr,
        )


def _fitted(
    columns: list[str], rows: list[dict[str, str]], spared: Sequence[str], name: Sequence[str]
) -> tuple[list[str], list[dict[str, str]], list[str]]:
    """The columns that fit, their cells, and the columns that were dropped although they hold something."""
    room = console().width

    def width(column: str) -> int:
        return max(len(column), *(_width(row[column]) for row in rows))

    def too_wide() -> bool:
        return sum(map(width, columns)) + _GAP * (len(columns) - 1) > room

    # An empty column is dropped.
    columns = [column for column in columns if any(row[column] for row in rows)]
    dropped: list[str] = []
    for column in spared:
        if too_wide() and column in columns and len(columns) > 1:
            columns.remove(column)
            dropped.append(column)
    parts = [column for column in name if column in columns]
    if len(parts) > 1 and too_wide():
        last = parts[-1]
        rows = [{**row, last: "/".join(filter(None, (row[part] for part in parts)))} for row in rows]
        columns = [column for column in columns if column not in parts[:-1]]
    return columns, rows, dropped


def console() -> Console:
    """Standard output, as wide as its terminal."""
    return Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH, highlight=False)


def print_sentence(text: str) -> None:
    """A sentence on standard output, broken between words where a terminal is narrow."""
    if sys.stdout.isatty():
        console().print(Text(printable(text)))
    else:
        print(printable(text), flush=True)


#: Columns that a name or a sentence needs at the least.
_LEAST_NAME: Final = 12
#: Words up to this width stay whole: an id below a name, indented, is one. What is longer is folded.
_WHOLE: Final = 38
#: Columns whose cells may be broken into lines: names and sentences. Everything else is there to be copied.
_BROKEN: Final = frozenset(
    {"database", "description", "databases", "how", "remarks", "reason", "policy", "advice", "takes"}
)


def _width(cell: str) -> int:
    return max(cell_len(line) for line in cell.split("\n"))


def _least(column: str, cells: Sequence[str]) -> int:
    """How wide a column must be, so that nothing in it is broken that is there to be read or copied whole."""
    if column not in _BROKEN:
        return max(len(column), *map(_width, cells))
    lines = [line for cell in cells for line in cell.split("\n")]
    words = [len(line) - len(line.lstrip()) + max(map(cell_len, line.split()), default=0) for line in lines]
    return max(len(column), min(max(words), _WHOLE), min(max(map(cell_len, lines)), _LEAST_NAME))


def _leasts(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return (
        [_least(column, [row[place] for row in rows]) for place, column in enumerate(columns)] if rows else []
    )


def _fits(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether columns fit side by side."""
    return sum(_leasts(columns, rows)) + _GAP * (len(columns) - 1) <= console().width


def _print_records(wide: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print each row as a block of lines, where columns do not fit side by side."""
    for number, row in enumerate(rows):
        if number:
            print()
        for column, cell in zip(columns, row, strict=True):
            for place, line in enumerate(cell.split("\n") if cell else ()):
                text = Text(f"{'  ' if place else f'{column}: '}{printable(line.strip())}")
                print("\n".join(part.plain.rstrip() for part in text.wrap(wide, wide.width)))
    sys.stdout.flush()


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """What is known of one thing, on standard output: a line for each field, and more for a long one."""
    wide = console()
    left = max(len(name) for name, _ in fields) + _GAP
    for name, value in fields:
        text = Text(printable(value)).wrap(wide, max(wide.width - left, _LEAST_NAME))
        for place, line in enumerate(text):
            print(f"{name if place == 0 else '':{left}}{line.plain.rstrip()}")
    sys.stdout.flush()


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, styles: Mapping[str, str] | None = None
) -> None:
    """A table on standard output; `styles` are of the cells of the column `status`."""
    wide = console()
    least = _leasts(columns, rows)
    if not _fits(columns, rows):
        _print_records(wide, columns, rows)
        return
    table = Table(header_style="bold", box=None, padding=(0, _GAP, 0, 0), pad_edge=False)
    for place, column in enumerate(columns):
        # Ids are there to be copied: they are not broken into lines.
        table.add_column(
            column, overflow="fold", no_wrap=column not in _BROKEN, min_width=least[place] if rows else None
        )
    for row in rows:
        cells = [Text("\n".join(map(printable, cell.split("\n")))) for cell in row]
        if styles is not None and "status" in columns:
            place = columns.index("status")
            cells[place].stylize(styles.get(row[place], "red"))
        table.add_row(*cells)
    if sys.stdout.isatty():
        wide.print(table)
        return
    with wide.capture() as captured:
        wide.print(table)
    # Cells are padded with blanks, which would end up in what people paste.
    print("\n".join(line.rstrip() for line in captured.get().splitlines()), flush=True)
