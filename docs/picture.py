"""Draws docs/demo.svg, a real run of the demo in a terminal: `python -m docs.picture` (not on Windows)."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

PICTURE: Final = Path(__file__).parent / "demo.svg"
ARGUMENTS: Final = ("demo", "--databases", "4")
#: Wide enough for one line per database.
_COLUMNS: Final = 145


def shown() -> str:
    """The results of a run as a terminal shows them, with colours."""
    terminal, end = pty.openpty()
    try:
        environment = {**os.environ, "COLUMNS": str(_COLUMNS), "LINES": "40", "TERM": "xterm-256color"}
        with subprocess.Popen(  # noqa: S603 - this project's own command
            [sys.executable, "-m", "cli", *ARGUMENTS],
            env=environment,
            stdout=end,
            stderr=subprocess.DEVNULL,
        ) as process:
            os.close(end)
            screen = b""
            with suppress(OSError):  # the terminal has no other end any more
                while piece := os.read(terminal, 65536):
                    screen += piece
    finally:
        os.close(terminal)
    if process.returncode != 0:
        raise RuntimeError(f"the demo ended with status {process.returncode}")
    return screen.decode().replace("\r\n", "\n")


def draw() -> None:
    """Write the picture."""
    console = Console(record=True, width=_COLUMNS, file=StringIO())
    console.print(Text.assemble(("$ ", "bold green"), f"sqlvmbackup {' '.join(ARGUMENTS)}"))
    console.print(Text.from_ansi(shown()))
    PICTURE.write_text(console.export_svg(title="sqlvmbackup", unique_id="demo"), encoding="utf-8")


if __name__ == "__main__":
    draw()
