"""The scenario file: what the simulator starts with, how long things take, and what goes wrong."""

from local.simulator.scenario.access import RIGHTS, RoleAssignmentScenario, ServicePrincipalScenario
from local.simulator.scenario.app_resources import (
    EntityScenario,
    FunctionAppScenario,
    NamespaceScenario,
    TopicScenario,
)
from local.simulator.scenario.machines import (
    SYSTEM_DATABASES,
    AvailabilityGroupScenario,
    DatabaseScenario,
    FileScenario,
    InstanceScenario,
    VirtualMachineScenario,
)
from local.simulator.scenario.scenario import Scenario, ScenarioError
from local.simulator.scenario.service import (
    SERVICE_LIMITS,
    BackupReadsScenario,
    BucketScenario,
    DurationsScenario,
    ThrottlingScenario,
)
from local.simulator.scenario.timeline import (
    DatabaseAppears,
    DatabaseIsDropped,
    DatabaseIsRenamed,
    MachineStarts,
    MachineStops,
    ScheduledFailureScenario,
    TimelineEvent,
)
from local.simulator.scenario.vaults import PolicyScenario, VaultScenario

__all__ = [
    "RIGHTS",
    "SERVICE_LIMITS",
    "SYSTEM_DATABASES",
    "AvailabilityGroupScenario",
    "BackupReadsScenario",
    "BucketScenario",
    "DatabaseAppears",
    "DatabaseIsDropped",
    "DatabaseIsRenamed",
    "DatabaseScenario",
    "DurationsScenario",
    "EntityScenario",
    "FileScenario",
    "FunctionAppScenario",
    "InstanceScenario",
    "MachineStarts",
    "MachineStops",
    "NamespaceScenario",
    "PolicyScenario",
    "RoleAssignmentScenario",
    "Scenario",
    "ScenarioError",
    "ScheduledFailureScenario",
    "ServicePrincipalScenario",
    "ThrottlingScenario",
    "TimelineEvent",
    "TopicScenario",
    "VaultScenario",
    "VirtualMachineScenario",
]
