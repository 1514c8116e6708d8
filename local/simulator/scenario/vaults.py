"""Vaults of a scenario, with their policies."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from local.simulator.resource_guards import GuardedRequest
from local.simulator.scenario.parts import Name, Part


class PolicyScenario(Part):
    """A policy with its `properties` as the REST API has them."""

    name: Name
    properties: dict[str, Any]


class VaultScenario(Part):
    """A Recovery Services vault and the SQL policies it starts with (and the VM policy that it always has).

    Without `soft_delete`, soft delete is as the service sets it: always on since 2024, before that on.
    `resource_guard` True guards everything that can be guarded; a list guards those operations and the two that cannot
    be excluded.
    """

    resource_group: Name = "rg-backup"
    name: Name = "vault1"
    location: str | None = None
    policies: tuple[str | PolicyScenario, ...] = ("HourlyLogBackup",)
    soft_delete: bool | Literal["alwaysOn"] | None = None
    soft_delete_retention_days: int = Field(14, ge=14, le=180)
    immutability: Literal["Disabled", "Unlocked", "Locked"] = "Disabled"
    resource_guard: bool | tuple[GuardedRequest, ...] = False

    def policy_names(self) -> set[str]:
        """The policies' names in lower case."""
        return {(policy if isinstance(policy, str) else policy.name).lower() for policy in self.policies}
