"""What docs/architecture.md and docs/reliability.md name in the code is there, and is short enough to be followed."""

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
#: what keeps each rule, in brackets behind it: modules, each with the names that are meant in it
KEPT_BY = re.findall(r"\((`(?!tests/)[\w/]+\.py`[^()]*)\)", read("docs/reliability.md"))


def find(module: str, path: str) -> None:
    """Raises AttributeError or ImportError for a name that is not there."""
    found: object = import_module(f"shared.{module}")
    for part in path.split("."):
        found = getattr(found, part)


def test_a_request_a_job_a_crash_and_a_drill_are_followed() -> None:
    assert set(TRACES) == {"request", "job", "crash", "drill"}


@pytest.mark.parametrize("name", TRACES)
def test_every_stop_is_there_under_its_name(name: str) -> None:
    assert 0 < len(TRACES[name]) <= MOST_STOPS
    for module, path in TRACES[name]:
        find(module, path)


@pytest.mark.parametrize("text", KEPT_BY)
def test_what_keeps_a_rule_is_there_under_its_name(text: str) -> None:
    module = ""
    for name in re.findall(r"`([\w./]+)`", text):
        if name.endswith(".py"):
            module = name.removesuffix(".py").replace("/", ".")
            import_module(f"shared.{module}")
        else:
            find(module, name)


def test_every_rule_names_what_keeps_it() -> None:
    assert len(KEPT_BY) > 20
