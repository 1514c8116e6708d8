"""What an identity may do in Azure, and whether that is enough.

Azure tells it (https://learn.microsoft.com/rest/api/authorization): for the caller by `permissions`, for another by its
role assignments. `cli.rights` has what is needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

from cli.encoding import JsonObject
from cli.findings import reason_of
from cli.rights import allows
from shared.arm.client import ArmClient
from shared.arm.errors import ArmError, TokenError

_AUTHORIZATION: Final = "2022-04-01"


class Permissions:
    """The permissions of one identity: of `principal`, an object id, or of the caller where that is None."""

    def __init__(self, arm: ArmClient, principal: str | None) -> None:
        self._arm = arm
        self._principal = principal
        self._definitions: dict[str, list[JsonObject]] = {}

    def on(self, scope: str) -> list[JsonObject] | str:
        """The permissions that the identity has on a scope; a text that says why where they cannot be read."""
        path = quote(scope, safe="/")
        try:
            if self._principal is None:
                return list(
                    self._arm.pages(
                        "list permissions",
                        f"{path}/providers/Microsoft.Authorization/permissions",
                        params={"api-version": _AUTHORIZATION},
                    )
                )
            return self._granted_to(self._principal, path)
        except (ArmError, TokenError) as error:
            return f"what the identity may do cannot be read: {reason_of(error)}"

    def _granted_to(self, principal: str, path: str) -> list[JsonObject]:
        found: list[JsonObject] = []
        assignments = self._arm.pages(
            "list role assignments",
            f"{path}/providers/Microsoft.Authorization/roleAssignments",
            params={"api-version": _AUTHORIZATION, "$filter": f"atScope() and assignedTo('{principal}')"},
        )
        for assignment in assignments:
            definition = str(assignment.get("properties", {}).get("roleDefinitionId", ""))
            if definition not in self._definitions:
                name = definition.rpartition("/")[2]
                subscription = path.split("/")[2]
                response = self._arm.get(
                    "get a role definition",
                    f"/subscriptions/{subscription}/providers/Microsoft.Authorization/roleDefinitions/{quote(name)}",
                    params={"api-version": _AUTHORIZATION},
                )
                self._definitions[definition] = response.body["properties"]["permissions"]
            found += self._definitions[definition]
        return found


def permits(granted: Iterable[JsonObject], kind: str, action: str) -> bool:
    """Whether one of the permissions allows an action, and does not itself exclude it."""
    denied = {"actions": "notActions", "dataActions": "notDataActions"}[kind]

    def holds(entry: JsonObject, field: str) -> bool:
        return any(allows(str(pattern), action) for pattern in entry.get(field) or ())

    return any(holds(entry, kind) and not holds(entry, denied) for entry in granted)
