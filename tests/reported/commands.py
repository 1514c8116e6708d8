"""Commands that several tests give."""

from __future__ import annotations

from tests.e2e.harness import Estate


def dry_restore(azure: Estate) -> list[str]:
    """What a restore of `orders` on its VM would do."""
    return [
        "restore",
        "--vault",
        azure.vault_id,
        "--vm",
        azure.vm_id(),
        "--database",
        "orders",
        "--dry-run",
    ]
