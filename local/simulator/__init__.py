"""Azure Backup for SQL Server in Azure VMs, simulated over HTTP; see docs/simulator.md."""

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
