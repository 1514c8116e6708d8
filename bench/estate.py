"""The estates of the benchmarks, with Azure's limits as the simulator enforces them."""

from __future__ import annotations

import math
from typing import Any, Final

from local.simulator import SERVICE_LIMITS, Scenario

#: The ARM id of the vault of every estate, and of its first VM.
VAULT: Final = (
    "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-backup/providers"
    "/Microsoft.RecoveryServices/vaults/vault1"
)
VM: Final = (
    "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-sql/providers"
    "/Microsoft.Compute/virtualMachines/sqlvm1"
)
#: Job lengths: median 8 minutes, 95th percentile 66 minutes.
MEDIAN: Final = 8 * 60.0
SIGMA: Final = math.log(66 / 8) / 1.6448536


def estate(
    databases: int,
    *,
    protected: bool = False,
    budgets: bool = True,
    backup: float | list[float] = 120,
    seed: int = 1,
    machines: int = 1,
    faults: list[dict[str, Any]] | None = None,
    **more: Any,
) -> Scenario:
    """`databases` databases on `machines` VMs, all protected, or none registered."""
    names = [f"db{number:04}" for number in range(databases)]
    share = math.ceil(databases / machines)
    policy = {"protectedBy": "HourlyLogBackup"} if protected else {}
    return Scenario.model_validate(
        {
            "seed": seed,
            "scheduledBackups": False,
            "virtualMachines": [
                {
                    "name": f"sqlvm{machine + 1}",
                    **({"registeredTo": "vault1"} if protected else {}),
                    "instances": [
                        {
                            "name": "MSSQLSERVER",
                            "databases": [
                                {"name": name, **policy}
                                for name in names[machine * share : (machine + 1) * share]
                            ],
                        }
                    ],
                }
                for machine in range(machines)
            ],
            "durations": {"backup": backup},
            "throttling": SERVICE_LIMITS if budgets else {},
            "faults": faults or [],
            **more,
        }
    )


def fleet_of_jobs(databases: int, *, seed: int = 1, **more: Any) -> Scenario:
    """Protected databases whose backups take lognormal times, with Azure's limits."""
    return estate(databases, protected=True, backup=[MEDIAN, SIGMA], seed=seed, **more)
