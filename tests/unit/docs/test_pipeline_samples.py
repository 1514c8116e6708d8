"""The samples of pipelines call the command as it is."""

from __future__ import annotations

import re
import shlex

import pytest

from cli.main import build_parser
from tests.unit.docs.markdown import read
from tests.unit.examples import VAULT


def commands(text: str) -> list[list[str]]:
    """What the sample types, its folded lines joined, and what it says to type."""
    folded = re.sub(
        r">-\n((?:\s+(?:sqlvmbackup|--).*\n)+)", lambda found: " ".join(found[1].split()) + "\n", text
    )
    return [shlex.split(found)[1:] for found in re.findall(r"\b(sqlvmbackup (?:backup|run) .*)", folded)]


@pytest.mark.parametrize("name", ["release-github-actions.yml", "release-azure-pipelines.yml"])
def test_the_sample_backs_up_before_the_release_and_knows_the_way_back(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQLVMBACKUP_VAULT", VAULT.path)
    text = read(f"samples/{name}")
    gate, back = (build_parser().parse_args(arguments) for arguments in commands(text))
    assert (gate.command, gate.unless_newer_than, gate.database) == ("backup", "2h", ["orders", "billing"])
    assert (back.command, back.requests) == ("run", str(gate.restore_request))
    assert text.index("sqlvmbackup backup") < text.index("release.sh")
