"""What docs/supply-chain.md promises of what is installed and of what builds it."""

from __future__ import annotations

import re

import pytest

from tests.unit.docs.markdown import ROOT

_WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-cli.txt", "requirements-dev.txt"])
def test_every_package_is_pinned_by_version_and_hash(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8").replace("\\\n", " ")
    packages = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert packages
    for package in packages:
        assert re.match(r"[a-z0-9-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", package), package[:80]


@pytest.mark.parametrize("workflow", _WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit_and_may_only_read(workflow: object) -> None:
    text = (ROOT / str(workflow)).read_text(encoding="utf-8")
    used = re.findall(r"uses: (\S+)", text)
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action)] == []
    assert re.search(r"^permissions:\n  contents: read\n\n", text, re.MULTILINE)
