"""What `.funcignore` leaves is the app, complete, and needs nothing but requirements.txt."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatchcase
from importlib.metadata import packages_distributions
from pathlib import Path
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
    importlib.import_module(module.name)
import azure.identity, azure.servicebus
print(json.dumps({"from": shared.__file__, "modules": sorted(sys.modules)}))
"""


def ignored(path: Path, patterns: list[str]) -> bool:
    """Whether a path of the project stays behind; the patterns are names, with `/` at the end of directories'."""
    return any(
        fnmatchcase(path.name, pattern.rstrip("/")) and (not pattern.endswith("/") or path.is_dir())
        for pattern in patterns
    )


def patterns() -> list[str]:
    lines = (ROOT / ".funcignore").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("deployed") / "wwwroot"

    def left_behind(directory: str, names: list[str]) -> list[str]:
        return [name for name in names if ignored(Path(directory, name), patterns())]

    shutil.copytree(ROOT, target, ignore=left_behind)
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


def test_every_line_is_a_plain_name() -> None:
    assert all("/" not in line.rstrip("/") and not line.startswith("!") for line in patterns())


def test_only_the_app_is_deployed(deployed: Path) -> None:
    assert {path.name for path in deployed.iterdir()} == {
        "function_app.py",
        "functions",
        "host.json",
        "requirements.txt",
        "shared",
    }
    assert {path.suffix for path in deployed.rglob("*") if path.is_file()} == {".py", ".json", ".txt"}


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
