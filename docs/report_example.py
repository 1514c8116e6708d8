"""The estate of the coverage report's picture, and the picture: `python -m docs.report_example FILE.html [FILE.png]`.

The picture needs the development extras and a Chromium.
"""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cli.report_advice import first_steps, most_pressing
from cli.report_page import page
from shared.arm.ids import ContainerId, ProtectedItemId, VaultId, VirtualMachineId
from shared.coverage.states import CoverageState, DatabaseCoverage
from shared.messages.identity import Database

AT = datetime(2026, 1, 7, 3, 0, tzinfo=UTC)
SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
_WORDS = ("orders", "billing", "crm", "stock", "payroll", "wiki", "tickets", "archive", "web", "reports")
_VAULTS = ("vault-production", "vault-finance", "vault-test")
_MACHINES = (
    ("sqlfin03", "Healthy", "2025-11-03T09:12:40Z"),
    ("sqlprod17", "Unhealthy", "2024-02-19T14:02:02Z"),
)
_FAILED = (
    "UserErrorVMInternetConnectivityIssue",
    "The VM cannot reach the Azure Backup service because of internet connectivity issues.",
    "Let the VM reach Azure Backup, Azure Storage and Microsoft Entra ID.",
)


def entry(
    name: str,
    state: CoverageState = CoverageState.COVERED,
    *,
    vm: str = "sqlprod01",
    vault: str = _VAULTS[0],
    age: timedelta | None = timedelta(minutes=31),
    **details: Any,
) -> DatabaseCoverage:
    """One database of the example."""
    vault_id = VaultId(SUBSCRIPTION, "rg-backup", vault)
    container = ContainerId(vault_id, "Azure", f"VMAppContainer;Compute;rg-sql;{vm}")
    fields: dict[str, Any] = {
        "vault_id": vault_id,
        "database": Database(
            vm_id=VirtualMachineId(SUBSCRIPTION, "rg-sql", vm), instance="MSSQLSERVER", name=name
        ),
        "state": state,
        "policy_name": "HourlyLogBackup" if age is not None else None,
        "last_backup_time": AT - age if age is not None else None,
        "last_backup_status": "Healthy" if age is not None else "",
        "item_id": ProtectedItemId(container, f"SQLDataBase;mssqlserver;{name}")
        if name.isidentifier()
        else None,
        "server_name": vm,
    }
    return DatabaseCoverage(**{**fields, **details})


def databases(covered: int = 1480, seed: int = 7) -> list[DatabaseCoverage]:
    """An estate with some of everything, the worst first."""
    return sorted((*_gaps(), *_covered(covered, random.Random(seed))), key=lambda one: one.order)  # noqa: S311


def _covered(count: int, chance: random.Random) -> Iterator[DatabaseCoverage]:
    for number in range(count):
        vm = number % 24 + 1
        yield entry(
            f"{chance.choice(_WORDS)}_{number:04}",
            vm=f"sqlprod{vm:02}",
            vault=_VAULTS[vm % 3],
            age=timedelta(minutes=chance.randrange(4, 62)),
        )


def _gaps() -> Iterator[DatabaseCoverage]:
    code, message, advice = _FAILED
    for number in range(9):
        yield entry(
            f"ledger_{number:02}",
            CoverageState.FAILING,
            vm="sqlfin03",
            vault=_VAULTS[1],
            age=timedelta(hours=7, minutes=number),
            last_backup_status="Unhealthy",
            code=code,
            message=message,
            advice=advice,
        )
    yield entry(
        "shop_2024",
        CoverageState.FAILING,
        age=timedelta(hours=9),
        last_backup_status="Unhealthy",
        code="UserErrorSQLLSNValidationFailure",
        message="The log chain is broken.",
        advice="Another tool has backed the database up and broken its log chain: stop it, then take a Full backup.",
    )
    for name, days in (("datamart", 385), ("forum", 12)):
        yield entry(
            name,
            CoverageState.STALE,
            vm="sqlprod17",
            age=timedelta(days=days),
            code="BackupTooOld",
            message=f"Its last backup is {days} days old; by policy HourlyLogBackup none is older than 1 day 1 hour."
            " The service finds it NotReachable.",
            advice="Start the VM and see that its backup extension answers.",
        )
    yield entry(
        "pricing",
        CoverageState.NEVER_BACKED_UP,
        age=None,
        policy_name="HourlyLogBackup",
        code="FirstBackupPending",
        message="It is protected, but no first backup of it has ended: nothing can be restored yet.",
        advice="Wait for the policy's next full, or take one now.",
    )
    for name in ("orders_new", "loyalty", "campaigns", "invoices_2026"):
        yield entry(
            name,
            CoverageState.UNPROTECTED,
            vm="sqlprod08",
            age=None,
            code="NotProtected",
            message="No policy protects it.",
            advice="Protect it with a policy, or exclude it.",
        )
    yield entry(
        "legacy_hr",
        CoverageState.STOPPED,
        vm="sqltest02",
        vault=_VAULTS[2],
        age=timedelta(days=41),
        policy_name=None,
        code="ProtectionStopped",
        message="Its protection was stopped (ProtectionStopped).",
        advice="Resume its protection, or exclude it where that is meant.",
    )
    for number in range(3):
        yield entry(
            f"sandbox_{number}",
            CoverageState.UNKNOWN,
            vm="sqltest02",
            vault=_VAULTS[2],
            age=timedelta(hours=8),
            code="RecoveryModelUnread",
            message="Its last backup is 8 hours old: too old for one that takes log backups, not for one in the simple"
            " recovery model, and no listing tells which it is.",
            advice="Have it read singly.",
        )


def example_page(
    entries: list[DatabaseCoverage] | None = None, machines: Sequence[tuple[str, str, str]] = _MACHINES
) -> str:
    """The page of the example, or of other databases."""
    entries = databases() if entries is None else entries
    vaults = list(dict.fromkeys(one.vault_id.name for one in entries if one.vault_id is not None))
    return page(
        entries,
        at=AT,
        vaults=sorted(vaults),
        first=most_pressing(first_steps(entries)),
        notes=[
            "A database that was created after Azure Backup last looked for databases on its VM is missing here; when"
            " that was is not known. To have it look again, and protect what it finds: `sqlvmbackup protect --vm VM"
            " --policy NAME`."
        ],
        machines=machines,
        left_out={"systemDatabase": 81},
        rule="ages by the policies",
    )


def main(html: str, png: str | None = None) -> None:
    """Write the page, and its picture."""
    Path(html).write_text(example_page(), encoding="utf-8", newline="\n")
    if png is None:
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium-headless-shell") or shutil.which("chromium"),
            args=["--no-sandbox"],
        )
        shown = browser.new_page(viewport={"width": 1240, "height": 1120})
        shown.goto(Path(html).absolute().as_uri())
        shown.screenshot(path=png)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
