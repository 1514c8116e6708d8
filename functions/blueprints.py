"""Which functions an app has: those of every workflow, and those of the workflows it serves."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Final

import azure.functions as func

from functions.packages import require

#: Functions by workflow; `every` is always there.
MODULES: Final[dict[str, tuple[str, ...]]] = {
    "every": ("receive_event", "receive_replay", "track", "report_dead_letter"),
    "protect": (
        "receive_protect_request",
        "ensure_vault",
        "select_policy",
        "refresh_containers",
        "register_container",
        "inquire_container",
        "select_databases",
        "enable_protection",
    ),
    "backup": ("receive_backup_request", "plan_backups", "select_items", "trigger_backup"),
    "restore": ("receive_restore_request", "select_recovery_point", "trigger_restore"),
    "coverage": ("receive_coverage_request", "plan_coverage", "find_vaults", "survey_vault"),
    "drill": (
        "receive_drill_request",
        "plan_drills",
        "select_drills",
        "check_drill",
        "clean_up_drill",
    ),
}
#: Steps of one workflow that another goes through as well: a protect request may ask for a first backup, and a drill
#: is a restore at first.
SHARED: Final[dict[str, str]] = {"protect": "trigger_backup", "drill": "trigger_restore"}


def blueprints(environment: Mapping[str, str] | None = None) -> list[func.Blueprint]:
    """The blueprints that the setting `WORKFLOWS` asks for; all where it cannot be read.

    A bad setting does not take the app down: it is reported where the settings are used. Raises MissingPackagesError
    where the app's packages are not there.
    """
    require()
    text = (os.environ if environment is None else environment).get("WORKFLOWS", "")
    served = {name.strip().lower() for name in text.split(",") if name.strip()}
    if not served or not served <= MODULES.keys() - {"every"}:
        served = set(MODULES)
    modules = [
        name for workflow, names in MODULES.items() if workflow in served | {"every"} for name in names
    ]
    modules += [name for workflow, name in SHARED.items() if workflow in served and name not in modules]
    return [import_module(f"functions.{name}").blueprint for name in modules]
