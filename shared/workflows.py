"""The workflows as data: each step, what it does, what follows, and whether it is tracked.

The engine enforces each row; the diagram in docs/architecture.md is generated from this table, and a test compares the
app's triggers with it.
"""

from __future__ import annotations

from typing import Final

from shared.coverage.find_vaults import find_vaults
from shared.coverage.survey_vault import survey_vault
from shared.engine.message import TRACK, Following
from shared.engine.once import JobOf
from shared.engine.table import Row, Table
from shared.messages.error_codes import ErrorCode
from shared.steps import backup, drill, protect, restore
from shared.steps.drill_restores import next_drill
from shared.steps.payloads import (
    BackupPlan,
    BackupTask,
    CoveragePlan,
    DrillPlan,
    ProtectPlan,
    ProtectTask,
    RestorePlan,
    RestoreTask,
    VaultTask,
)

_ROWS: Final = (
    Row(
        name="ensure_vault",
        workflow="protect",
        run=protect.ensure_vault,
        payload=ProtectPlan,
        does="connect to the vault, or create it",
        follows=("select_policy", "ensure_vault"),
        tracked=True,
        after_operation="ensure_vault",
    ),
    Row(
        name="select_policy",
        workflow="protect",
        run=protect.select_policy,
        payload=ProtectPlan,
        does="select the policy by name, or create it",
        follows=("refresh_containers", "select_databases", "select_policy"),
        tracked=True,
        after_operation="select_policy",
    ),
    Row(
        name="refresh_containers",
        workflow="protect",
        run=protect.refresh_containers,
        payload=ProtectPlan,
        does="have the service look for VMs",
        follows=("register_container", "inquire_container", "select_databases"),
        tracked=True,
        after_operation="register_container",
    ),
    Row(
        name="register_container",
        workflow="protect",
        run=protect.register_container,
        payload=ProtectPlan,
        does="register the VM",
        follows=("inquire_container", "select_databases"),
        tracked=True,
        after_operation="inquire_container",
    ),
    Row(
        name="inquire_container",
        workflow="protect",
        run=protect.inquire_container,
        payload=ProtectPlan,
        does="have the service look for databases on the VM",
        follows=("select_databases",),
        tracked=True,
        after_operation="select_databases",
    ),
    Row(
        name="select_databases",
        workflow="protect",
        run=protect.select_databases,
        payload=ProtectPlan,
        does="select the databases once, and send each on",
        follows=("select_databases", "enable_protection", "inquire_container"),
        fans_out_to=("enable_protection",),
        ends_in="select_databases",
    ),
    Row(
        name="enable_protection",
        workflow="protect",
        run=protect.enable_protection,
        payload=ProtectTask,
        does="protect one database by the policy",
        follows=("trigger_backup", "enable_protection"),
        tracked=True,
        job=JobOf(
            operation="ConfigureBackup",
            variants={"undelete": "Undelete"},
            repeatable=True,
            attempts=protect.attempts,
            happened=protect.happened,
            noun="protection",
        ),
        after_job=protect.after_protection,
    ),
    Row(
        name="select_items",
        workflow="backup",
        run=backup.select_items,
        payload=BackupPlan,
        does="select the protected databases once, and send each on",
        follows=("select_items", "trigger_backup"),
        fans_out_to=("trigger_backup",),
        ends_in="select_items",
    ),
    Row(
        name="trigger_backup",
        workflow="backup",
        run=backup.trigger_backup,
        payload=BackupTask,
        does="trigger the backup of one database",
        tracked=True,
        job=JobOf(
            operation="Backup",
            attempts=backup.attempts,
            conflict_status=backup.conflict_status,
            not_started=ErrorCode.BACKUP_NOT_STARTED,
            noun="backup",
        ),
        look_up=backup.with_recovery_point,
        after_job=backup.after_backup,
        conclude=backup.conclude,
    ),
    Row(
        name="select_recovery_point",
        workflow="restore",
        run=restore.select_recovery_point,
        payload=RestorePlan,
        does="check what is allowed and select the recovery point",
        follows=("trigger_restore",),
        ends_in="trigger_restore",
    ),
    Row(
        name="trigger_restore",
        workflow="restore",
        run=restore.trigger_restore,
        payload=RestoreTask,
        does="trigger the restore",
        follows=("check_drill",),
        tracked=True,
        job=JobOf(
            operation="Restore",
            harmless=restore.is_harmless,
            proves=restore.proves_an_earlier_one,
            not_started=ErrorCode.RESTORE_NOT_STARTED,
            noun="restore",
        ),
        after_job=restore.after_restore,
        begins="trigger_restore",
        sets_going=next_drill,
        conclude=restore.conclude,
        call_apart=True,
    ),
    Row(
        name="find_vaults",
        workflow="coverage",
        run=find_vaults,
        payload=CoveragePlan,
        does="find the vaults once, and send each on",
        follows=("find_vaults", "survey_vault"),
        fans_out_to=("survey_vault",),
        ends_in="find_vaults",
    ),
    Row(
        name="survey_vault",
        workflow="coverage",
        run=survey_vault,
        payload=VaultTask,
        does="inquire its VMs, tell how its databases stand, and repair by rules",
        follows=("survey_vault", "enable_protection", "trigger_backup"),
        fans_out_to=("survey_vault", "enable_protection", "trigger_backup"),
        tracked=True,
        after_operation="survey_vault",
    ),
    Row(
        name="select_drills",
        workflow="drill",
        run=drill.select_drills,
        payload=DrillPlan,
        does="select the databases whose turn it is, and begin with the first",
        follows=("select_drills", "trigger_restore"),
        fans_out_to=("trigger_restore",),
        ends_in="select_drills",
    ),
    Row(
        name="check_drill",
        workflow="drill",
        run=drill.check_drill,
        payload=RestoreTask,
        does="check the restored database on its VM",
        follows=("clean_up_drill",),
        comes_back=True,
        begins="trigger_restore",
        sets_going=next_drill,
        conclude=drill.conclude_check,
        ends_in="clean_up_drill",
    ),
    Row(
        name="clean_up_drill",
        workflow="drill",
        run=drill.clean_up_drill,
        payload=RestoreTask,
        does="drop the restored database; the next drill begins",
        comes_back=True,
        begins="trigger_restore",
        sets_going=next_drill,
        conclude=drill.conclude_clean_up,
    ),
    Row(
        name=TRACK,
        workflow="every",
        run=None,
        payload=Following,
        does="follow the operation, then its job, to the end",
    ),
)

#: Every step of the app, and the first of each workflow.
TABLE: Final = Table(
    rows={row.name: row for row in _ROWS},
    first={
        "protect": "ensure_vault",
        "backup": "select_items",
        "restore": "select_recovery_point",
        "coverage": "find_vaults",
        "drill": "select_drills",
    },
)
