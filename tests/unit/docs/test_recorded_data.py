"""Data that was recorded or is handed out holds nothing that is anybody's: no ids, signatures, tokens, addresses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted(
    path
    for folder in ("tests/data", "tests/faults/step_messages", "samples", "docs/schemas", "docs/events")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".json", ".jsonl")
)
#: Subscriptions and tenants of nobody.
NOBODY = re.compile(r"0{8}-0{4}-0{4}-0{4}-0{11}\d")
#: Where an id is somebody's: behind these.
OWNED = re.compile(r"(?:subscriptions/|tenantId\W{1,8}|tenants/)([0-9a-f]{8}-[0-9a-f-]{27})", re.IGNORECASE)
#: A signature that was left in place of the real one is of one letter; the simulator's own open nothing.
SIGNED = re.compile(r"[?&](?:c|h|s|sig|sv)=([^&\"\\\s]+)")
FORBIDDEN = {
    "a token": re.compile(r"eyJ[\w-]{16,}\.|Bearer [\w-]{16,}"),
    "a key": re.compile(r"(?:SharedAccessKey|AccountKey|SharedAccessSignature)=|-----BEGIN", re.IGNORECASE),
    "an e-mail address": re.compile(r"[\w.+-]+@(?!example\.|contoso\.)[\w-]+\.[a-z]{2,}"),
    "an address of the internet": re.compile(r"(?<![\d.])(?!127\.|10\.|0\.)(?:\d{1,3}\.){3}\d{1,3}(?![\d.])"),
}


def found_in(text: str) -> list[str]:
    """What is somebody's in a text."""
    found = [f"the id {owner}" for owner in OWNED.findall(text) if not NOBODY.fullmatch(owner)]
    found += [f"the signature {signature}" for signature in SIGNED.findall(text) if len(set(signature)) > 1]
    found += [
        f"{what}: {match[0]}" for what, pattern in FORBIDDEN.items() for match in pattern.finditer(text)
    ]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_is_anybodys(path: Path) -> None:
    found = found_in(path.read_text(encoding="utf-8"))
    if path.parent.name == "step_messages":
        found = [one for one in found if not one.startswith("the signature")]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "/subscriptions/6c48fa17-39c7-45f1-90ac-47a587128ace/resourceGroups",
        '"tenantId": "72f988bf-86f1-41af-91ab-2d7cd011db47"',
        "https://management.azure.com/operations/1?t=1&s=q83vEjRWeJ",
        "Authorization: Bearer eyJ0eXAiOiJKV1QiLCJhbGciOiJ.x",
        "Endpoint=sb://n.servicebus.windows.net/;SharedAccessKey=abc",
        "somebody@fabrikam.com",
        "13.64.39.16",
    ],
)
def test_what_is_somebodys_is_found(text: str) -> None:
    assert found_in(text)
