"""What docs/architecture.md follows through the code is there, and is short enough to be followed."""

from __future__ import annotations

import re
from importlib import import_module

import pytest

from tests.unit.docs.markdown import read

MOST_STOPS = 8
PAGE = read("docs/architecture.md")
TRACES = {
    name: re.findall(r"^\d+\. `([\w.]+)`, `([\w.]+)`", text, re.MULTILINE)
    for name, text in re.findall(r"<!-- traced: (\w+) -->\n(.*?)<!-- end of traced -->", PAGE, re.DOTALL)
}


def test_a_request_a_job_a_crash_and_a_drill_are_followed() -> None:
    assert set(TRACES) == {"request", "job", "crash", "drill"}


@pytest.mark.parametrize("name", TRACES)
def test_every_stop_is_there_under_its_name(name: str) -> None:
    assert 0 < len(TRACES[name]) <= MOST_STOPS
    for module, path in TRACES[name]:
        found: object = import_module(f"shared.{module}")
        for part in path.split("."):
            found = getattr(found, part)
