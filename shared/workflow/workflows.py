"""The workflows as data: each step, what it does, what follows, and whether it is tracked.

The diagram in docs/architecture.md is generated from this table, and a test holds the app's triggers
against it. The tracker, which follows what any of these steps has started, joins them in
`shared.workflow.table`.
"""

from __future__ import annotations

from typing import Final

from shared.messages.steps import (
    BackupPlan,
    BackupTask,
    ProtectPlan,
    ProtectTask,
    RestorePlan,
    RestoreTask,
)
from shared.workflow import backup, protect, restore
from shared.workflow.step import StepDefinition

_ROWS: Final = (
    StepDefinition(
        name="ensure_vault",
        workflow="protect",
        run=protect.ensure_vault,
        payload=ProtectPlan,
        does="connect to the vault, or create it",
        follows=("select_policy",),
        tracked=True,
    ),
    StepDefinition(
        name="select_policy",
        workflow="protect",
        run=protect.select_policy,
        payload=ProtectPlan,
        does="select the policy by name, or create it",
        follows=("refresh_containers", "select_databases"),
        tracked=True,
    ),
    StepDefinition(
        name="refresh_containers",
        workflow="protect",
        run=protect.refresh_containers,
        payload=ProtectPlan,
        does="have the service look for VMs",
        follows=("register_container", "inquire_container", "select_databases"),
        tracked=True,
    ),
    StepDefinition(
        name="register_container",
        workflow="protect",
        run=protect.register_container,
        payload=ProtectPlan,
        does="register the VM",
        follows=("inquire_container", "select_databases"),
        tracked=True,
    ),
    StepDefinition(
        name="inquire_container",
        workflow="protect",
        run=protect.inquire_container,
        payload=ProtectPlan,
        does="have the service look for databases on the VM",
        follows=("select_databases",),
        tracked=True,
    ),
    StepDefinition(
        name="select_databases",
        workflow="protect",
        run=protect.select_databases,
        payload=ProtectPlan,
        does="select the databases and fan out",
        follows=("enable_protection", "inquire_container"),
        fans_out_to="enable_protection",
    ),
    StepDefinition(
        name="enable_protection",
        workflow="protect",
        run=protect.enable_protection,
        payload=ProtectTask,
        does="protect one database by the policy",
        follows=("trigger_backup",),
        tracked=True,
        job="ConfigureBackup",
    ),
    StepDefinition(
        name="select_items",
        workflow="backup",
        run=backup.select_items,
        payload=BackupPlan,
        does="select the protected databases and fan out",
        follows=("trigger_backup",),
        fans_out_to="trigger_backup",
    ),
    StepDefinition(
        name="trigger_backup",
        workflow="backup",
        run=backup.trigger_backup,
        payload=BackupTask,
        does="trigger the backup of one database",
        tracked=True,
        job="Backup",
    ),
    StepDefinition(
        name="select_recovery_point",
        workflow="restore",
        run=restore.select_recovery_point,
        payload=RestorePlan,
        does="check what is allowed and select the recovery point",
        follows=("trigger_restore",),
    ),
    StepDefinition(
        name="trigger_restore",
        workflow="restore",
        run=restore.trigger_restore,
        payload=RestoreTask,
        does="trigger the restore",
        tracked=True,
        job="Restore",
    ),
)

WORKFLOW_STEPS: Final[dict[str, StepDefinition]] = {row.name: row for row in _ROWS}

#: The step that a request of each workflow begins with.
FIRST_STEPS: Final = {
    "protect": "ensure_vault",
    "backup": "select_items",
    "restore": "select_recovery_point",
}

#: What follows on a step whose operation has ended without a job.
AFTER_OPERATION: Final = {
    "ensure_vault": "ensure_vault",
    "select_policy": "select_policy",
    "refresh_containers": "register_container",
    "register_container": "inquire_container",
    "inquire_container": "select_databases",
}


def starts_job(step: str) -> bool:
    """Whether a step is one of a workflow whose call a job comes of."""
    return step in WORKFLOW_STEPS and WORKFLOW_STEPS[step].job is not None
