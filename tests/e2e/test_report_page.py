"""The report's page in a real browser: Chromium, with axe for the rules of accessibility.

Skipped where there is no Chromium; a build server brings it (.ci/run).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from docs.report_example import databases, entry, example_page
from shared.coverage.states import CoverageState
from tests.unit.cli.test_report_page import HOSTILE

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason=f"there is no Chromium here ({', '.join(NAMES)})"),
    pytest.mark.timeout(300),  # a browser on a busy machine
]

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with playwright_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


class Shown:
    """A page that is open, with whatever went wrong in it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.trouble: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.trouble.append(message.text))
        page.on("pageerror", lambda error: self.trouble.append(str(error)))
        page.on("dialog", self._dismiss)
        page.on("request", lambda request: self.asked.append(request.url))

    def _dismiss(self, dialog: Dialog) -> None:
        self.trouble.append("a dialog")
        dialog.dismiss()

    @property
    def rows(self) -> int:
        return self.page.locator("#table tbody tr").count()

    def column(self, number: int) -> list[str]:
        return self.page.locator(f"#table tbody tr td:nth-child({number})").all_inner_texts()

    @property
    def said(self) -> str:
        return self.page.locator("#shown").inner_text()

    def violations(self) -> list[str]:
        from axe_playwright_python.sync_playwright import Axe

        options = {"runOnly": {"type": "tag", "values": RULES}}
        found = Axe().run(self.page, options=options).response["violations"]
        return [f"{one['id']}: {[node['target'] for node in one['nodes'][:3]]}" for one in found]


@pytest.fixture
def shown(browser: Browser, tmp_path: Path) -> Iterator[Any]:
    contexts = []

    def opened(text: str, **details: Any) -> Shown:
        path = tmp_path / "page.html"
        path.write_text(text, encoding="utf-8", newline="\n")
        context = browser.new_context(viewport={"width": 1280, "height": 900}, **details)
        contexts.append(context)
        found = Shown(context.new_page())
        found.page.goto(path.as_uri())
        return found

    yield opened
    for context in contexts:
        context.close()


def test_it_shows_a_page_of_rows_the_worst_first_and_asks_nobody(shown: Any) -> None:
    seen = shown(example_page())
    assert seen.rows == 100
    assert seen.said == "1 to 100 of 1,501 rows"
    assert seen.column(1)[:10] == ["Failing"] * 10
    assert seen.trouble == []
    assert [url.split(":")[0] for url in seen.asked] == ["file"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(shown: Any, scheme: str) -> None:
    seen = shown(example_page(databases(20)), color_scheme=scheme)
    assert seen.violations() == []
    # What is pressed, empty or at an end is held to the rules as well.
    seen.page.get_by_role("button", name="Failing 10").click()
    seen.page.get_by_role("button", name="Database").click()
    assert seen.violations() == []
    seen.page.get_by_label("Search").fill("no such thing")
    assert seen.violations() == []
    assert seen.trouble == []


def test_axe_finds_nothing_on_a_narrow_screen(shown: Any) -> None:
    seen = shown(example_page(databases(20)), screen={"width": 390, "height": 800})
    seen.page.set_viewport_size({"width": 390, "height": 800})
    assert seen.violations() == []
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_colours_can_be_chosen(shown: Any) -> None:
    seen = shown(example_page(databases(20)), color_scheme="light")

    def background() -> str:
        return str(seen.page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light = background()
    dark_button = seen.page.get_by_role("button", name="Dark")
    dark_button.click()
    assert background() != light
    assert dark_button.get_attribute("aria-pressed") == "true"
    assert seen.violations() == []
    dark_button.click()
    assert background() == light


def test_there_are_never_more_than_300_rows(shown: Any) -> None:
    estate = [entry(f"db{number}", vault=f"vault{number}") for number in range(5000)]
    seen = shown(example_page(estate, machines=[(f"vm{number}", "Healthy", "") for number in range(400)]))
    every_row = seen.page.locator("tr")
    assert every_row.count() < 300
    seen.page.get_by_label("Rows").select_option("250")
    assert seen.rows == 250
    assert every_row.count() < 300
    seen.page.get_by_role("button", name="Next").click()
    assert seen.said.startswith("251 to 500 of 5,000")
    seen.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert every_row.count() < 300
    assert seen.page.get_by_text("And 4,980 vaults of fewer gaps.").is_visible()
    assert seen.page.get_by_text("And 380 registered VMs of the same or better health.").is_visible()


def test_pages_turn_and_end(shown: Any) -> None:
    seen = shown(example_page(databases(100)))
    assert seen.page.get_by_role("button", name="Previous").is_disabled()
    seen.page.get_by_role("button", name="Next").click()
    assert seen.said == "101 to 121 of 121 rows"
    assert seen.page.get_by_role("button", name="Next").is_disabled()
    seen.page.get_by_role("button", name="Previous").click()
    assert seen.said.startswith("1 to 100")


def test_states_filter_one_or_several(shown: Any) -> None:
    seen = shown(example_page())
    stale = seen.page.get_by_role("button", name="Stale 2")
    stale.click()
    assert stale.get_attribute("aria-pressed") == "true"
    assert set(seen.column(1)) == {"Stale"}
    seen.page.get_by_role("button", name="Unprotected 4").click()
    assert seen.said == "1 to 6 of 6 rows, of 1,501 in all"
    stale.click()
    assert set(seen.column(1)) == {"Unprotected"}


def test_the_search_takes_every_word_in_any_case(shown: Any) -> None:
    seen = shown(example_page())
    seen.page.get_by_label("Search").fill("SQLPROD17 datamart")
    assert seen.column(2) == ["datamart"]
    seen.page.get_by_label("Search").fill("usererrorsqllsn")
    assert seen.column(2) == ["shop_2024"]
    seen.page.get_by_label("Search").fill("nothing like it")
    assert seen.rows == 0
    assert "No database matches" in seen.said


def test_vms_and_vaults_filter(shown: Any) -> None:
    seen = shown(example_page())
    seen.page.get_by_label("VM", exact=True).select_option("sqlfin03")
    assert set(seen.column(4)) == {"sqlfin03"}
    seen.page.get_by_label("VM", exact=True).select_option("")
    seen.page.get_by_label("Vault", exact=True).select_option("vault-test")
    assert set(seen.column(5)) == {"vault-test"}


def test_columns_sort_both_ways_and_say_so(shown: Any) -> None:
    seen = shown(example_page(databases(40)))
    head = seen.page.locator("#table th", has_text="Database")
    # The arrow in the head is for the eye alone.
    head.get_by_role("button", name="Database", exact=True).click()
    names = seen.column(2)
    assert names == sorted(names, key=str.lower)
    assert head.get_attribute("aria-sort") == "ascending"
    head.get_by_role("button").click()
    assert seen.column(2) == names[::-1]
    assert head.get_attribute("aria-sort") == "descending"
    # The oldest backup comes first, and what has none comes last either way.
    backup = seen.page.locator("#table th", has_text="Last backup").get_by_role("button")
    backup.click()
    assert seen.column(7)[0].startswith("2024-12-18")
    assert seen.column(7)[-1] == ""
    backup.click()
    assert seen.column(7)[-1] == ""


def test_everything_is_reached_and_worked_by_the_keyboard(shown: Any) -> None:
    seen = shown(example_page())
    keyboard = seen.page.keyboard
    keyboard.press("Tab")
    assert seen.page.evaluate("document.activeElement.className") == "skip"
    keyboard.press("Enter")
    keyboard.press("Tab")
    assert seen.page.evaluate("document.activeElement.id") == "search"
    keyboard.type("ledger_03")
    assert seen.column(2) == ["ledger_03"]
    seen.page.get_by_label("Search").fill("")
    seen.page.get_by_label("Rows").focus()
    keyboard.press("Tab")
    keyboard.press("Space")
    assert set(seen.column(1)) == {"Failing"}


def test_hostile_names_are_text_and_nothing_runs(shown: Any) -> None:
    seen = shown(
        example_page(
            [
                entry(name, CoverageState.FAILING, code=name, message=name, advice=name, policy_name=name)
                for name in HOSTILE
            ]
        )
    )
    assert seen.page.locator("#table td.at-database").all_text_contents() == HOSTILE
    assert seen.page.locator("img, svg:not(.bar), iframe").count() == 0
    assert seen.trouble == []


def test_the_policy_stops_what_would_run_all_the_same(shown: Any) -> None:
    seen = shown(example_page(databases(1)))
    seen.page.evaluate(
        "() => { const s = document.createElement('script'); s.text = 'window.ran = 1'; document.body.append(s); }"
    )
    assert seen.page.evaluate("window.ran") is None
    assert any("Content Security Policy" in text for text in seen.trouble)


def test_it_prints_without_its_controls(shown: Any) -> None:
    seen = shown(example_page())
    seen.page.emulate_media(media="print")
    assert not seen.page.locator("#filters").is_visible()
    assert not seen.page.locator("#pages").is_visible()
    assert seen.page.locator("#table thead").evaluate("each => getComputedStyle(each).display") == (
        "table-header-group"
    )
    pdf = seen.page.pdf(prefer_css_page_size=True)
    assert pdf.startswith(b"%PDF")


def test_what_is_printed_is_what_is_not_covered(shown: Any) -> None:
    seen = shown(example_page())
    seen.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert seen.said == "1 to 21 of 21 rows, of 1,501 in all"
    assert "Covered" not in seen.column(1)
    seen.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert seen.said == "1 to 100 of 1,501 rows"


def test_without_script_the_sums_are_there(shown: Any) -> None:
    seen = shown(example_page(), java_script_enabled=False)
    assert seen.page.get_by_text("1,480 of 1,501 databases are covered").is_visible()
    assert not seen.page.locator("#filters").is_visible()
