"""What every run of the tests has in common, and says at its end."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

#: No test depends on how fast the machine is.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None]:
    """How much of what is known to be wrong is left: the last line but pytest's own."""
    yield
    left = len(terminalreporter.stats.get("xfailed", ()))
    terminalreporter.write_line(f"Expected failures left: {left} (tests/reported says what each is about).")
