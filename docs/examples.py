"""Examples of events for the documentation, made by the functions that make the real ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from shared.arm.ids import VaultId, VirtualMachineId
from shared.drills import drill_database_name
from shared.messages import events
from shared.messages.cloud_events import Envelope, InvalidMessageError, read_envelope
from shared.messages.events import (
    CoverageInfo,
    DrillInfo,
    ErrorInfo,
    Event,
    GapInfo,
    JobInfo,
    OutcomeDetails,
    RecoveryPointInfo,
    RepairInfo,
    Status,
    TaskInfo,
)
from shared.messages.identity import Database, Request, drill_request_id, marked_request_id
from shared.messages.requests import CoverageData, DrillData, read_data
from shared.run_commands.drill_script import ScriptResult
from shared.steps.drill_results import why_not

_SAMPLES: Final = Path(__file__).resolve().parent.parent / "samples"
_AT: Final = datetime(2026, 1, 5, 8, 15, 6, tzinfo=UTC)
_MACHINES: Final = (
    "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-sql"
    "/providers/Microsoft.Compute/virtualMachines"
)
_VM: Final = f"{_MACHINES}/sqlvm1"
_JOB: Final = "5e9302f2-b0af-42f7-9190-57b67bd48fc1"
#: The result of a drill's script for a damaged database.
_DAMAGED: Final = ScriptResult(
    verdict="corrupt",
    errors=2,
    numbers=(8939, 8928),
    messages=(
        "Table error: Object ID 0, index ID -1, partition ID 0, alloc unit ID 0, page (1:153). Test failed.",
        "Object ID 245575913, index ID 1: Page (1:153) could not be processed.",
    ),
)


def event_examples() -> dict[str, Event]:
    """One event of each kind, answering the sample requests."""
    protect, protected = _request("protect.json")
    backup, orders = _request("backup.json")
    restore, _ = _request("restore-original.json")
    drill, _ = _request("drill.json")
    drilled = drill_database_name(orders)
    drill_target = {"kind": "alternate", "vmId": f"{_MACHINES}/drills1", "instance": "MSSQLSERVER"}
    proved = DrillInfo(
        database=drilled,
        check="checkdb",
        achieved_rpo_seconds=906.0,
        restore_seconds=272.0,
        check_seconds=61.4,
        measured_rto_seconds=333.4,
        size_mb=20480,
        free_mb=181_000,
        check_errors=0,
        cleaned_up=True,
    )
    restored = OutcomeDetails(
        start_time=_AT,
        end_time=_AT + timedelta(seconds=272),
        duration_seconds=272.0,
        job=JobInfo(
            id=_JOB,
            status="Completed",
            activity_id=drill_request_id(
                orders.key, f"{_MACHINES}/drills1;mssqlserver".lower(), drill.source, drill.id
            ),
            tasks=(TaskInfo(task_id="Transfer data from vault", status="Completed"),),
            properties={"Data Transferred (in MB)": "20480.0"},
        ),
        recovery_point=RecoveryPointInfo(
            name="DefaultRangeRecoveryPoint", kind="Log", time=_AT - timedelta(minutes=15)
        ),
        target={**drill_target, "database": drilled, "files": []},
        drill=proved,
    )
    item = _item(backup.vault_id)
    job = JobInfo(
        id=_JOB,
        status="Completed",
        activity_id=marked_request_id(backup.source, backup.id),
        tasks=(TaskInfo(task_id="Transfer data to vault", status="Completed"),),
        properties={"Data Transferred (in MB)": "20.0845"},
    )
    coverage, vault = _coverage("coverage.json")
    failing = GapInfo(
        state="failing",
        since=datetime(2026, 1, 3, 22, 0, 44, tzinfo=UTC),
        vm_id=orders.vm_id.path if orders.vm_id is not None else None,
        instance=orders.instance,
        database=orders.name,
        code="UserErrorBackupFailedAsTransactionLogIsFull",
        message="The transaction log of the database is full.",
        repair=RepairInfo(action="backup", request_id="5f0cd3d0a1bd4ea6a4f27c1c9be4f1f2/1"),
    )
    not_a_request = b'{"hello": "world"}'
    return {
        "accepted": events.accepted(
            protect,
            at=_AT,
            outcome_count=2,
            skipped={"notProtectable": 1},
            names=("MSSQLSERVER/sales",),
        ),
        "started": events.started(
            backup,
            at=_AT,
            database=orders,
            subject=item,
            outcome_count=1,
            job=JobInfo(id=_JOB, status="InProgress"),
        ),
        "protect succeeded": events.outcome(
            protect,
            Status.SUCCEEDED,
            at=_AT,
            database=protected,
            subject=item,
            outcome_count=2,
            details=OutcomeDetails(
                start_time=_AT - timedelta(seconds=75),
                end_time=_AT,
                duration_seconds=75.0,
                policy_name="HourlyLogBackup",
                protection_state="IRPending",
                job=JobInfo(id=_JOB, status="Completed", properties={"Policy Name": "HourlyLogBackup"}),
            ),
        ),
        "backup succeeded": events.outcome(
            backup,
            Status.SUCCEEDED,
            at=_AT + timedelta(minutes=2, seconds=24),
            database=orders,
            subject=item,
            details=OutcomeDetails(
                start_time=_AT,
                end_time=_AT + timedelta(minutes=2),
                duration_seconds=120.0,
                policy_name="HourlyLogBackup",
                job=job,
                backup_type="CopyOnlyFull",
                data_transferred_mb=20.0845,
                retain_until=_AT + timedelta(days=14),
            ),
        ),
        "restore succeeded": events.outcome(
            restore,
            Status.SUCCEEDED_WITH_WARNINGS,
            at=_AT,
            database=orders,
            subject=item,
            details=OutcomeDetails(
                warnings=("the database was restored, but its owner does not exist on the target",),
                job=job,
                recovery_point=RecoveryPointInfo(name="DefaultRangeRecoveryPoint", kind="Log", time=_AT),
                target={"kind": "original"},
            ),
        ),
        "drill succeeded": events.outcome(
            drill,
            Status.SUCCEEDED,
            at=_AT + timedelta(minutes=7),
            database=orders,
            subject=item,
            outcome_count=10,
            details=restored,
        ),
        "drill failed": events.outcome(
            drill,
            Status.FAILED,
            at=_AT + timedelta(minutes=7),
            database=orders,
            subject=item,
            outcome_count=10,
            error=why_not(orders, _DAMAGED),
            details=restored.model_copy(
                update={
                    "drill": proved.model_copy(
                        update={
                            "check_errors": _DAMAGED.errors,
                            "check_error_numbers": _DAMAGED.numbers,
                            "check_messages": _DAMAGED.messages,
                        }
                    )
                }
            ),
        ),
        "restore rejected": events.outcome(
            restore,
            Status.REJECTED,
            at=_AT,
            database=orders,
            error=ErrorInfo(
                code="OverwriteNotAllowed",
                message="the request asks to overwrite, which is not allowed: to allow it, set RESTORE_ALLOW_OVERWRITE"
                " to true, in the app's settings or, for the command, in its environment.",
            ),
        ),
        "coverage succeeded": events.outcome(
            coverage,
            Status.SUCCEEDED,
            at=_AT,
            part=vault.key,
            details=OutcomeDetails(
                coverage=CoverageInfo(
                    at=_AT,
                    counts={"failing": 1, "covered": 199},
                    gaps=(failing,),
                    repairs={"backup": 1},
                    left_out={"excluded": 4},
                )
            ),
        ),
        "gap": events.gap(
            coverage,
            at=_AT,
            identity=(vault.key, orders.key, "failing", "2026-01-03T22:00:44Z", 0),
            subject=item,
            info=failing,
            outcome_count=1,
            outcome_key=vault.key,
            policy_name="HourlyLogBackup",
            last_backup_time=_AT - timedelta(hours=10),
            recommendations=("Free or extend the database's transaction log, then try again.",),
            reminder=False,
        ),
        "request rejected": events.request_rejected(
            not_a_request,
            queue="events",
            message_id="a-message-id",
            identity="a-message-id",
            at=_AT,
            epoch=0,
            error=ErrorInfo(code="InvalidRequest", message=_problems(not_a_request)),
        ),
    }


def _request(sample: str) -> tuple[Request, Database]:
    envelope: Envelope = read_envelope((_SAMPLES / sample).read_bytes())
    operation, data = read_data(envelope)
    assert not isinstance(data, CoverageData)
    request = Request(
        operation=operation,
        source=envelope.source,
        id=envelope.id,
        vault_id=data.vault_id,
        correlation_id=envelope.correlation_id,
        traceparent=envelope.traceparent,
    )
    vm_id = VirtualMachineId.parse(_VM) if isinstance(data, DrillData) else data.vm_id
    return request, Database(vm_id=vm_id, instance="MSSQLSERVER", name="orders")


def _coverage(sample: str) -> tuple[Request, VaultId]:
    """A coverage request, as it is sent on to its vault."""
    envelope = read_envelope((_SAMPLES / sample).read_bytes())
    operation, data = read_data(envelope)
    assert isinstance(data, CoverageData)
    (vault,) = data.vault_ids
    return Request(operation=operation, source=envelope.source, id=envelope.id, vault_id=vault), vault


def _item(vault_id: VaultId | None) -> str:
    container = "backupFabrics/Azure/protectionContainers/VMAppContainer;compute;rg-sql;sqlvm1"
    return f"{vault_id}/{container}/protectedItems/SQLDataBase;mssqlserver;orders"


def _problems(body: bytes) -> str:
    try:
        read_envelope(body)
    except InvalidMessageError as error:
        return str(error)
    raise AssertionError("the example is to be no request")
