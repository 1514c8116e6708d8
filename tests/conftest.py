"""What every run of the tests tells at its end."""

from __future__ import annotations

from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None]:
    """How much of what is known to be wrong is left: the last line but pytest's own."""
    yield
    left = len(terminalreporter.stats.get("xfailed", ()))
    terminalreporter.write_line(f"Expected failures left: {left} (tests/reported says what each is about).")
