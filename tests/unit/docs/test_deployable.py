"""What `.funcignore` leaves is the app, complete, and needs nothing but requirements.txt."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatchcase
from importlib.metadata import packages_distributions
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from docs.generate import function_app, triggers
from tests.unit.docs.markdown import ROOT

INDEX = """
import json, sys
import function_app
functions = [f.get_function_name() for f in function_app.app.get_functions()]
print(json.dumps({"functions": functions, "from": function_app.__file__, "modules": sorted(sys.modules)}))
"""
IMPORT_ALL = """
import importlib, json, pkgutil, sys
import shared
for module in pkgutil.walk_packages(shared.__path__, "shared."):
    # The one that needs requirements-telemetry.txt; only a setting has it imported.
    if module.name != "shared.telemetry.open_telemetry":
        importlib.import_module(module.name)
import azure.identity, azure.servicebus
print(json.dumps({"from": shared.__file__, "modules": sorted(sys.modules)}))
"""


def patterns() -> list[str]:
    lines = (ROOT / ".funcignore").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def as_git_reads_it(path: PurePosixPath) -> bool:
    """Whether a file stays behind for tools that take the lines for those of a .gitignore."""

    def matches(pattern: str) -> bool:
        parts = path.parts[:-1] if pattern.endswith("/") else path.parts
        name = pattern.removeprefix("**/").strip("/")
        return any(fnmatchcase(part, name) for part in (parts[:1] if pattern.startswith("/") else parts))

    return any(matches(pattern) for pattern in patterns())


def as_core_tools_read_it(path: PurePosixPath) -> bool:
    """Whether a file stays behind for the Functions Core Tools, to which each line begins at the root and is a prefix.

    They never deploy a few names, whatever the file says.
    """
    if path.parts[0] in (".git", ".vscode") or path.name in (
        ".funcignore",
        ".gitignore",
        "local.settings.json",
    ):
        return True
    expressions = (
        re.escape(pattern.removeprefix("/")).replace(r"\*\*", "(.+)").replace(r"\*", "([^/]+)")
        for pattern in patterns()
    )
    return any(re.match(expression, str(path)) for expression in expressions)


#: Where packages are built before deploying, and what checks and local runs leave behind.
MADE = (
    ".python_packages/lib/site-packages/package/cli/__init__.py",
    ".python_packages/lib/site-packages/package/tests/__init__.py",
    ".sqlvmbackup/broker.sqlite",
    ".venv/bin/python",
    ".venv-audit/bin/python",
    ".venv-3.13/bin/python",
    ".mypy_cache/cache.json",
    "local.settings.json",
    "shared/arm/__pycache__/client.cpython-311.pyc",
)


@pytest.fixture(scope="module", params=[as_git_reads_it, as_core_tools_read_it])
def deployed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("deployed") / "wwwroot"
    target.mkdir()
    # Hidden directories are large; what would be in them is among the made.
    there = (
        path.relative_to(ROOT).as_posix()
        for top in ROOT.iterdir()
        if not (top.is_dir() and top.name.startswith(".")) and top.name != ".git"  # a file in a worktree
        for path in ([top] if top.is_file() else top.rglob("*"))
        if path.is_file()
    )
    for name in (*there, *MADE):
        if not request.param(PurePosixPath(name)):
            copy = target / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            if name in MADE:
                copy.write_bytes(b"")
            else:
                shutil.copyfile(ROOT / name, copy)
    return target


def in_worker(script: str, deployed: Path) -> dict[str, Any]:
    """Run as the platform's worker would: from the app's root, with no setting and no home."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=deployed,
        env={"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert Path(found["from"]).is_relative_to(deployed), (
        "the installed project was imported, not what is deployed"
    )
    return found


def test_every_line_is_read_alike_by_all_tools() -> None:
    for line in patterns():
        assert re.fullmatch(r"(/|\*\*/)[^/!?\[]+/?", line), line


def test_only_the_app_and_its_packages_are_deployed(deployed: Path) -> None:
    assert {path.name for path in deployed.iterdir()} == {
        ".python_packages",
        "function_app.py",
        "functions",
        "host.json",
        "requirements.txt",
        "shared",
    }
    assert {path.suffix for path in deployed.rglob("*") if path.is_file()} == {".py", ".json", ".txt", ".ps1"}
    assert all((deployed / name).is_file() for name in MADE if name.startswith(".python_packages/"))


def test_what_is_deployed_lists_its_functions_without_settings_or_heavy_imports(deployed: Path) -> None:
    found = in_worker(INDEX, deployed)
    assert found["functions"] == list(triggers(function_app()))
    loaded = set(found["modules"])
    late = {
        "azure.identity",
        "azure.servicebus",
        "azure.core",
        "msal",
        "pydantic",
        "requests",
        "cronsim",
        "cryptography",
    }
    assert not loaded & late
    assert not {name.split(".")[0] for name in loaded} & {"local", "cli", "tests", "docs", "bench"}


def test_what_is_deployed_imports_only_what_requirements_txt_installs(deployed: Path) -> None:
    text = (deployed / "requirements.txt").read_text(encoding="utf-8")
    installed = set(re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE))
    found = in_worker(IMPORT_ALL, deployed)
    owners = packages_distributions()
    strangers = set()
    for module in found["modules"]:
        top, _, rest = module.partition(".")
        if top == "azure":
            distributions = {f"azure-{rest.split('.')[0]}"} if rest else set()
        else:
            distributions = {
                owner.lower().replace("_", "-").replace(".", "-") for owner in owners.get(top, ())
            }
        if (
            distributions
            and not distributions & installed
            and top not in ("shared", "functions", "function_app")
        ):
            strangers.add(module)
    # The environment of development may hook itself into every Python process that it starts.
    assert {name.split(".")[0] for name in strangers} <= {"_distutils_hack", "setuptools"}
