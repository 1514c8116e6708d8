"""The report's page as a text: whole in itself, and nothing of an estate is ever markup in it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from cli.report_page import page
from docs.report_example import AT, databases, entry, example_page
from shared.coverage.states import CoverageState

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<!--<script>",
    "a&lt;b&amp;c",
    "\u2028\u2029",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "{{script}}",
    "Кадры 人事",
    "\u202egnp.exe",
]


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the text of its scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._open = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        kind = dict(attrs).get("type") or ""
        self._open = f"{tag} {kind}".strip() if tag in ("script", "style") else ""

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open] = self.texts.get(self._open, "") + data


def elements(text: str) -> Elements:
    parser = Elements()
    parser.feed(text)
    return parser


def hostile_page() -> str:
    return example_page(
        [
            entry(name, CoverageState.FAILING, code=name, message=name, advice=name, policy_name=name)
            for name in HOSTILE
        ]
    )


def test_hostile_names_change_nothing_of_what_the_page_is_made_of() -> None:
    def made_of(text: str) -> list[tuple[str, tuple[str, ...]]]:
        return [(tag, tuple(attributes)) for tag, attributes in elements(text).found]

    harmless = example_page(
        [
            entry(f"n{number}", CoverageState.FAILING, code=f"n{number}", message="m", advice=f"a{number}")
            for number in range(len(HOSTILE))
        ]
    )
    assert made_of(hostile_page()) == made_of(harmless)
    assert not any(name.startswith("on") for _, attributes in made_of(hostile_page()) for name in attributes)


def test_hostile_names_are_in_the_data_as_they_are() -> None:
    parsed = elements(hostile_page())
    data: Any = json.loads(parsed.texts["script application/json"])
    assert [row[data["columns"].index("database")] for row in data["rows"]] == HOSTILE


def test_no_name_turns_the_direction_of_the_sentences_around_it() -> None:
    static = re.sub(r"<script.*?</script>", "", hostile_page(), flags=re.DOTALL)
    assert "\u202e" not in static
    assert "\u2028" not in static


def test_the_policy_lets_nothing_run_but_the_pages_own_script_and_style() -> None:
    parsed = elements(hostile_page())
    policies = [
        attributes["content"] or ""
        for tag, attributes in parsed.found
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert len(policies) == 1
    rules = dict(rule.strip().split(" ", 1) for rule in policies[0].split(";"))

    def hashed(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert rules == {
        "default-src": "'none'",
        "script-src": hashed(parsed.texts["script"]),
        "style-src": hashed(parsed.texts["style"]),
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_it_needs_nothing_from_anywhere() -> None:
    text = example_page()
    parsed = elements(text)
    for tag, attributes in parsed.found:
        assert tag not in ("link", "img", "iframe", "object", "embed")
        assert "src" not in attributes
        assert "style" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    own = re.sub(r'<script type="application/json".*?</script>', "", text, flags=re.DOTALL)
    assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttp|innerHTML|eval\(", own)


def test_the_sums_stand_there_without_the_script() -> None:
    without = re.sub(r"<script.*?</script>", "", example_page(), flags=re.DOTALL)
    assert "1,480 of 1,501 databases are covered, 18 have a gap" in without
    assert "Let the VM reach Azure Backup" in without
    assert "81 system databases" in without
    assert "needs JavaScript" in without


def test_all_rows_are_inside_it_and_a_reason_that_many_share_is_there_once() -> None:
    text = example_page()
    data: Any = json.loads(elements(text).texts["script application/json"])
    assert len(data["rows"]) == len(databases())
    assert text.count("The VM cannot reach the Azure Backup service") == 2
    states = [row[data["columns"].index("state")] for row in data["rows"]]
    assert states[0] == "failing"
    assert states[-1] == "covered"


@pytest.mark.parametrize("count", [0, 1])
def test_estates_of_nothing_and_of_one(count: int) -> None:
    text = page(
        databases(0)[:count],
        at=AT,
        vaults=["vault1"],
        first=[],
        notes=[],
        machines=[],
        left_out={},
        rule="ages by the policies",
    )
    assert ("There are no databases" in text) == (count == 0)
    assert "vault vault1" in text
