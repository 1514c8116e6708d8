"""`sqlvmbackup report`: how the databases of vaults and subscriptions are backed up. It changes nothing."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from cli.azure import azure
from cli.embedded import settings_of_a_run
from cli.encoding import JsonObject
from cli.errors import FAILED, CommandError
from cli.output import Output, output_of, print_rows, print_sentence, write_data
from cli.parsing import read_duration
from cli.places import several_places
from cli.report_advice import first_steps, headline, left_out_text, most_pressing, sums
from cli.report_survey import EstateSurvey, survey_estate
from cli.requesting import selection
from cli.wording import moment_text
from shared.arm.redaction import printable
from shared.coverage.scope import Scope
from shared.coverage.states import (
    CoverageCode,
    CoverageState,
    DatabaseCoverage,
)
from shared.messages.model import parse_positive_duration
from shared.messages.requests import DatabaseSelector

_COLUMNS: Final = ("state", "vm", "instance", "database", "policy", "lastBackup", "code")
#: A table lists up to this many databases that are as they should be; more are only counted.
_MOST_COVERED: Final = 40
#: Columns that a narrow terminal drops, in this order.
_SPARED: Final = ("lastBackup", "policy", "vault")


def show_report(options: argparse.Namespace) -> int:
    """Tell how the databases are backed up, the worst first. 1 where there is a gap, or something was not read."""
    output = output_of(options)
    vaults, subscriptions = several_places(
        options.vault, options.subscription, group=options.group, name=options.name, environment=os.environ
    )
    scope = _scope(options)
    with azure(settings_of_a_run(os.environ, options.arm_endpoint)) as collaborators:
        scope = replace(scope, drill_targets=collaborators.settings.drill_targets)
        estate = survey_estate(collaborators, vaults, subscriptions, scope, singly=options.read_singly)
        at = collaborators.now()
    databases = estate.databases
    if options.html is not None:
        _write_page(options.html, estate, databases, at, scope)
    _write(databases, estate, output)
    incomplete = bool(estate.problems)
    return FAILED if incomplete or any(entry.is_gap for entry in databases) else 0


def _scope(options: argparse.Namespace) -> Scope:
    asked = selection(options)
    return Scope(
        databases=_selectors(asked["databases"], "--database"),
        exclude=_selectors(asked["exclude"] or (), "--exclude"),
        include_system=options.include_system,
        max_age=_max_age(options.max_age),
        policy_name=options.policy,
    )


def _selectors(asked: Iterable[JsonObject], flag: str) -> tuple[DatabaseSelector, ...]:
    try:
        return tuple(DatabaseSelector.model_validate(selector) for selector in asked)
    except ValidationError as error:
        given = error.errors()[0]["input"]
        raise CommandError(
            f"{flag}: expected the name of a database, such as orders or SQL2019/orders, not"
            f" {printable(str(given))!r}."
        ) from error


def _max_age(text: str | None) -> timedelta | None:
    if text is None:
        return None
    try:
        return parse_positive_duration(read_duration(text.strip()))
    except ValueError as error:
        raise CommandError(f"--max-age: {error}.") from error


def _row(entry: DatabaseCoverage) -> JsonObject:
    database = entry.database
    return {
        "state": entry.state.value,
        "vm": entry.place if database.availability_group is None else None,
        "instance": database.instance,
        "availabilityGroup": database.availability_group,
        "database": database.name,
        "policy": entry.policy_name,
        "lastBackup": moment_text(entry.last_backup_time),
        "lastBackupStatus": entry.last_backup_status or None,
        "since": moment_text(entry.since),
        "allowedAgeSeconds": entry.allowed_age.total_seconds() if entry.allowed_age is not None else None,
        "code": entry.code or None,
        "message": entry.message or None,
        "advice": entry.advice or None,
        "recoveryModel": entry.recovery_model,
        "autoProtected": entry.auto_protected,
        "vault": entry.vault_id.name if entry.vault_id is not None else None,
        "vaultId": entry.vault_id.path if entry.vault_id is not None else None,
        "vmId": database.vm_id.path if database.vm_id is not None else None,
        "itemId": entry.item_id.path if entry.item_id is not None else None,
    }


def _write(databases: Sequence[DatabaseCoverage], estate: EstateSurvey, output: Output) -> None:
    rows = [_row(entry) for entry in databases]
    if output.is_table:
        _write_table(rows, estate, output)
    else:
        gaps = [row for row, entry in zip(rows, databases, strict=True) if entry.is_gap]
        write_data(gaps if output.failed_only else rows, output)
    # What a person reads last; not mixed into a program's output.
    for line in _last_lines(databases, estate):
        if output.is_table:
            print_sentence(line)
        else:
            print(printable(line), file=sys.stderr)


def _write_table(rows: Sequence[JsonObject], estate: EstateSurvey, output: Output) -> None:
    covered = sum(row["state"] == CoverageState.COVERED for row in rows)
    shown = [
        {**row, "instance": row["instance"] or row["availabilityGroup"]}
        for row in rows
        if covered <= _MOST_COVERED or row["state"] != CoverageState.COVERED
    ]
    if not shown:
        return
    gap_states = {state.value for state in CoverageState if state.is_gap}
    print_rows(
        [*(("vault",) if len(estate.vaults) > 1 else ()), *_COLUMNS],
        shown,
        output,
        nothing="",
        spared=_SPARED,
        name=("vm", "instance", "database"),
        failed=lambda row: row["state"] in gap_states,
    )
    print()


def _last_lines(databases: Sequence[DatabaseCoverage], estate: EstateSurvey) -> list[str]:
    """The sums, then what is not known, and at the very end what to do first."""
    lines = [f"{headline(databases)}.", sums(databases)]
    if text := left_out_text(estate.left_out):
        lines.append(text)
    lines += _notes(databases, estate)
    steps = first_steps(databases)
    if steps:
        lines.append("What to do first:")
        for number, step in enumerate(most_pressing(steps), 1):
            lines.append(f"  {number}. {step.advice}")
            lines.append(f"     {step.state.value}: {step.what}, {step.where}. {step.why}")
        if len(steps) > len(most_pressing(steps)):
            lines.append(f"  and {len(steps) - len(most_pressing(steps))} more causes, in the list.")
    return lines


def _notes(databases: Sequence[DatabaseCoverage], estate: EstateSurvey) -> list[str]:
    """Notes on what could not be read, and on what the service does not tell."""
    notes = list(estate.problems)
    if open_ones := sum(entry.code == CoverageCode.RECOVERY_MODEL_UNREAD for entry in databases):
        notes.append(
            f"{open_ones:,} of unknown state may be in the simple recovery model, which no listing tells: --read-singly"
            " reads up to 75 of them."
        )
    if any(vault.containers for vault in estate.vaults):
        notes.append(
            "A database that was created after Azure Backup last looked for databases on its VM is missing here; when"
            " that was is not known. To have it look again, and protect what it finds: `sqlvmbackup protect --vm VM"
            " --policy NAME`."
        )
    return notes


def _write_page(
    path: Path, estate: EstateSurvey, databases: Sequence[DatabaseCoverage], at: datetime, scope: Scope
) -> None:
    from cli.report_page import page

    steps = first_steps(databases)
    text = page(
        databases,
        at=at,
        vaults=[vault.vault_id.name for vault in estate.vaults],
        first=most_pressing(steps),
        notes=_notes(databases, estate),
        machines=[
            (container.name, container.health, moment_text(container.updated) or "not told")
            for vault in estate.vaults
            for container in vault.containers
        ],
        left_out=estate.left_out,
        rule="ages by the policies" if scope.max_age is None else f"maximum age {_spoken(scope.max_age)}",
    )
    # An existing page stays complete until the new one is written.
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        draft.write_text(text, encoding="utf-8", errors="replace", newline="\n")
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise CommandError(f"--html: {path} cannot be written ({error.strerror}).") from error
    print(f"The page is in {path}.", file=sys.stderr)


def _spoken(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return f"{hours / 24:g} days" if hours >= 48 else f"{hours:g} h"
