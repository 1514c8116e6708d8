"""The coverage report as one HTML page that needs nothing else: no network, no server, no build.

It can be forwarded as it is. Names of databases may hold anything, so no data is ever treated as markup: the head of
the page is escaped, and the rows are JSON in a script element that is not run, shown only as text. The page's content
security policy lets only its own script run, by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Final

from cli.encoding import JsonObject
from cli.report_advice import Step, headline, label_of, left_out_text, meaning_of
from cli.wording import count_of, moment_text
from shared.arm.redaction import printable
from shared.coverage.states import CoverageState, DatabaseCoverage, counts_of

_HERE: Final = Path(__file__).parent
_PLACE: Final = re.compile(r"\{\{(\w+)\}\}")
_COLUMNS: Final = (
    "state",
    "database",
    "parent",
    "vm",
    "vault",
    "policy",
    "backup",
    "code",
    "model",
    "auto",
    "reason",
)
_BAR: Final = 1000
#: Beside the list's 250 rows at most, so that the page never has more than 300.
_MOST_BESIDE: Final = 20


def page(
    databases: Sequence[DatabaseCoverage],
    *,
    at: datetime,
    vaults: Sequence[str],
    first: Sequence[Step],
    notes: Sequence[str],
    machines: Sequence[tuple[str, str, str]],
    left_out: dict[str, int],
    rule: str,
) -> str:
    """The page.

    Args:
        databases: how each stands, the worst first.
        at: when, by the service's clock.
        vaults: the names of the vaults that were read.
        first: what to do, the most pressing first.
        notes: what could not be read or is not known.
        machines: each registered VM's name, health, and since when its entry in the vault is as it is.
        left_out: what was not looked at, by reason.
        rule: what the age of a backup was compared with.
    """
    style, script = _part("report_page.css"), _part("report_page.js")
    counts = counts_of(databases)
    made = f"{_moment(at)} · {_of_vaults(vaults)} · {rule}"
    parts = {
        "policy": f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}';"
        " base-uri 'none'; form-action 'none'",
        "title": f"Backup coverage, {_moment(at)}",
        "style": style,
        "made": _escape(made),
        "headline": _escape(headline(databases)),
        "bar": _bar(counts),
        "tiles": "".join(map(_tile, counts, counts.values())),
        "left_out": f'<p class="note">{_escape(text)}</p>' if (text := left_out_text(left_out)) else "",
        "first": _first(first),
        "vaults": _vaults(databases, vaults),
        "knowledge": _knowledge(notes, machines),
        "foot": "Made by <code>sqlvmbackup report</code>. All times are UTC. The list is inside this file.",
        "data": _in_script(_data(databases, at)),
        "script": script,
    }
    return _PLACE.sub(lambda place: parts[place[1]], _part("report_page.html"))


def _escape(text: str) -> str:
    """Text for the page: no markup, and nothing that turns the direction of what follows it."""
    return html.escape(printable(text))


@cache
def _part(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8").strip()


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _in_script(value: object) -> str:
    """JSON that cannot end a script element or begin a comment, whatever is in it."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _data(databases: Iterable[DatabaseCoverage], at: datetime) -> JsonObject:
    vaults: dict[str, int] = {}
    reasons: dict[tuple[str, str], int] = {}
    rows = []
    for entry in databases:
        vault = entry.vault_id.name if entry.vault_id is not None else ""
        reason = (entry.message, entry.advice)
        rows.append(
            [
                entry.state.value,
                entry.database.name,
                entry.database.parent,
                entry.place,
                vaults.setdefault(vault, len(vaults)),
                entry.policy_name,
                moment_text(entry.last_backup_time),
                entry.code,
                entry.recovery_model,
                entry.auto_protected,
                reasons.setdefault(reason, len(reasons)),
            ]
        )
    return {
        "at": moment_text(at),
        "columns": _COLUMNS,
        "states": [{"name": state.value, "label": label_of(state)} for state in CoverageState],
        "vaults": list(vaults),
        "reasons": list(reasons),
        "rows": rows,
    }


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _of_vaults(vaults: Sequence[str]) -> str:
    return f"vault {vaults[0]}" if len(vaults) == 1 else f"{len(vaults):,} vaults"


def _bar(counts: dict[CoverageState, int]) -> str:
    """The states as parts of one bar, only for the eye: the tiles say the same in words."""
    whole = sum(counts.values())
    parts, start = [], 0.0
    # Covered databases come first, so that the others are at the end, where the eye rests.
    for state, count in reversed(counts.items()):
        width = count / whole * _BAR
        # A single one of thousands stays visible.
        shown = max(width - 2, 4)
        parts.append(
            f'<rect class="of-{state.value}" x="{min(start, _BAR - 4):.1f}" y="0" width="{shown:.1f}" height="14"/>'
        )
        start += width
    return (
        f'<svg class="bar" viewBox="0 0 {_BAR} 14" preserveAspectRatio="none" aria-hidden="true">{"".join(parts)}</svg>'
        if whole
        else ""
    )


def _tile(state: CoverageState, count: int) -> str:
    return (
        f'<li class="of-{state.value}"><strong>{count:,}</strong><span class="state">{_escape(label_of(state))}</span>'
        f"<small>{_escape(meaning_of(state))}</small></li>"
    )


def _first(steps: Sequence[Step]) -> str:
    if not steps:
        return ""
    items = "".join(
        f"<li><strong>{_escape(step.advice)}</strong>"
        f'<p><span class="state of-{step.state.value}">{_escape(label_of(step.state))}</span>:'
        f" {_escape(step.what)}, {_escape(step.where)}. {_escape(step.why)}</p></li>"
        for step in steps
    )
    return (
        '<section aria-labelledby="first"><h2 id="first">What to do first</h2>'
        f'<ol class="first">{items}</ol></section>'
    )


def _vaults(databases: Sequence[DatabaseCoverage], vaults: Sequence[str]) -> str:
    if len(vaults) < 2:
        return ""
    gaps: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for entry in databases:
        name = entry.vault_id.name if entry.vault_id is not None else "no vault"
        whole[name] += 1
        gaps[name] += entry.is_gap
    rows = "".join(
        f'<tr><td>{_escape(name)}</td><td class="number">{count:,}</td><td class="number">{gaps[name]:,}</td></tr>'
        for name, count in sorted(whole.items(), key=lambda pair: (-gaps[pair[0]], pair[0]))[:_MOST_BESIDE]
    )
    more = len(whole) - _MOST_BESIDE
    head = '<th scope="col">Vault</th>' + "".join(
        f'<th scope="col" class="number">{name}</th>' for name in ("Databases", "Gaps")
    )
    return (
        '<section aria-labelledby="by-vault"><h2 id="by-vault">By vault</h2><div class="scroll narrow" tabindex="0"'
        ' role="region" aria-label="The list of vaults"><table><thead><tr>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        f"{_and_more(more, 'vault', 'of fewer gaps')}</section>"
    )


def _and_more(count: int, noun: str, which: str) -> str:
    return f'<p class="note">And {count_of(count, noun)} {which}.</p>' if count > 0 else ""


def _knowledge(notes: Sequence[str], machines: Sequence[tuple[str, str, str]]) -> str:
    told = "".join(f"<li>{_escape(note)}</li>" for note in notes)
    rows = "".join(
        f"<tr><td>{_escape(name)}</td><td>{_escape(health)}</td><td>{_escape(since)}</td></tr>"
        for name, health, since in sorted(machines, key=lambda one: (one[1].lower() == "healthy", one[0]))[
            :_MOST_BESIDE
        ]
    )
    table = (
        '<div class="scroll narrow" tabindex="0" role="region" aria-label="The list of registered VMs">'
        "<table><thead><tr>"
        '<th scope="col">VM</th><th scope="col">Health</th><th scope="col">Registration changed</th>'
        f"</tr></thead><tbody>{rows}</tbody></table></div>"
        f"{_and_more(len(machines) - _MOST_BESIDE, 'registered VM', 'of the same or better health')}"
        if rows
        else ""
    )
    return (
        '<section aria-labelledby="known"><h2 id="known">How much is known</h2>'
        f"<ul>{told}</ul>{table}</section>"
    )
