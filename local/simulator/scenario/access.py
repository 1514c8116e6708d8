"""Access in a scenario: service principals and role assignments."""

from __future__ import annotations

from pydantic import Field, field_validator

from local.simulator.route_names import ROUTE_NAMES
from local.simulator.scenario.parts import Part

RIGHTS = ("*", "read", "write", "restore", "runCommands")


class ServicePrincipalScenario(Part):
    """A service principal: its secret (None: it signs in by certificate or federated token) and what it is allowed to
    do.

    `allowed` has names of routes, `read` (every GET), `write` (everything else but restores and run commands),
    `restore`, `runCommands` (to put and delete them), or `*`.
    """

    client_id: str
    client_secret: str | None = Field(None, repr=False)
    expired: bool = False
    allowed: tuple[str, ...] = ("*",)

    @field_validator("allowed")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in (*RIGHTS, *ROUTE_NAMES):
                raise ValueError(f"{name} is neither a route nor one of {', '.join(RIGHTS)}")
        return value


class RoleAssignmentScenario(Part):
    """A role on a scope and everything below it, for one principal or for every caller."""

    scope: str = "/"
    role_name: str = ""
    principal_id: str | None = None
    actions: tuple[str, ...] = ()
    not_actions: tuple[str, ...] = ()
    data_actions: tuple[str, ...] = ()
    not_data_actions: tuple[str, ...] = ()
