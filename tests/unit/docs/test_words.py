"""The words that docs/architecture.md explains are those of the code: each module and name is there."""

from __future__ import annotations

import re
from importlib import import_module

import pytest

from tests.unit.docs.markdown import read

WORDS = re.findall(
    r"^\| [\w ]+ \| .+ \| `(\w+)/(\w+)\.py`(?:, `([\w.]+)`)?",
    read("docs/architecture.md").partition("## Words\n")[2].partition("\n## ")[0],
    re.MULTILINE,
)


def test_words_are_explained() -> None:
    assert len(WORDS) > 15


@pytest.mark.parametrize(("package", "module", "name"), WORDS)
def test_every_word_is_found_where_the_page_says(package: str, module: str, name: str) -> None:
    found: object = import_module(f"shared.{package}.{module}")
    for part in filter(None, name.split(".")):
        found = getattr(found, part)
