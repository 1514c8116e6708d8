"""A simulator of Azure Backup for SQL Server in Azure VMs, over HTTP; see docs/simulator.md.

From a request to its answer: `server` reads it, `simulator` finds its route (`routes`), checks token and roles, and
calls a handler (`handlers`), which reads and changes the `world`. What happens there has modules of its own:
`discovery`, `protection`, `auto_protection`, `backups`, `timeline`, `job_lifecycle`, `operation_lifecycle`. `estate` is
what there is, `scenario` how it is described, and `initial_world` makes the one from the other.
"""

from __future__ import annotations

from local.simulator.authentication import FIXED_TOKEN
from local.simulator.command import main
from local.simulator.scenario import SERVICE_LIMITS, Scenario, ScenarioError
from local.simulator.server import SimulatorServer
from local.simulator.simulator import Simulator

__all__ = [
    "FIXED_TOKEN",
    "SERVICE_LIMITS",
    "Scenario",
    "ScenarioError",
    "Simulator",
    "SimulatorServer",
    "main",
]
