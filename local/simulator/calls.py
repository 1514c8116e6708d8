"""A request as a handler sees it, and the handler's answer."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from local.simulator.errors import arm, invalid_input
from local.simulator.estate import Principal, Vault
from local.simulator.faults import Fault
from local.simulator.http_messages import Request
from local.simulator.naming import encoded
from shared.json_nesting import is_nested_too_deeply


@dataclass
class Call:
    """One request, routed: `parameters` are the path's variable parts, decoded."""

    request: Request
    route: str
    parameters: dict[str, str]
    path: str
    """The decoded path, as sent."""
    query: dict[str, str]
    """By lower-cased name."""
    faults: dict[str, Fault] = field(default_factory=dict)
    client_request_id: str | None = None
    caller: Principal | None = None
    """The principal of its token; None for the fixed token."""

    @property
    def api_version(self) -> str:
        return self.query.get("api-version", "")

    @property
    def filter(self) -> str | None:
        return self.query.get("$filter")

    @property
    def unknown_status(self) -> str | None:
        """The status that its fault puts in place of a job's or operation's own; None without that fault."""
        return "Retrying" if "unknownStatus" in self.faults else None

    @property
    def subscriptions_segment(self) -> str:
        """`/subscriptions/{id}` as the request spells it: the service's answers keep that spelling."""
        return "/" + "/".join(self.path.split("/")[1:3])

    def vault_path(self, vault: Vault) -> str:
        """The vault's path as the answer spells it, not percent-encoded."""
        return (
            f"{self.subscriptions_segment}/resourceGroups/{vault.resource_group}"
            f"/providers/Microsoft.RecoveryServices/vaults/{vault.name}"
        )

    def item_path(self, vault: Vault) -> str:
        """The path of the item in the URL, not encoded: poll URLs keep the request's casing of container and item."""
        return (
            f"{self.vault_path(vault)}/backupFabrics/Azure/protectionContainers/"
            f"{self.parameters['container']}/protectedItems/{self.parameters['item']}"
        )

    def vault_id(self, vault: Vault) -> str:
        """The vault's id as the answer spells it."""
        return encoded(self.vault_path(vault))

    def json(self) -> dict[str, Any]:
        """The body as a JSON object. Raises ServiceError (400) if it is not one."""
        if not self.request.body:
            raise arm(
                400, "InvalidRequestContent", "The request content was empty; a JSON object is expected."
            )
        try:
            value = json.loads(self.request.body)
        except (ValueError, RecursionError) as error:
            raise arm(
                400,
                "InvalidRequestContent",
                f"The request content was invalid and could not be deserialized: {error}.",
            ) from error
        if not isinstance(value, dict):
            raise arm(400, "InvalidRequestContent", "The request content is not a JSON object.")
        if is_nested_too_deeply(value):
            raise arm(400, "InvalidRequestContent", "The request content is nested too deeply.")
        return value

    def properties(self) -> dict[str, Any]:
        """The body's `properties`. Raises ServiceError (400) if there are none."""
        value = self.json().get("properties")
        if not isinstance(value, dict):
            raise invalid_input("Parameter properties in request is invalid.")
        return value

    def recorded_body(self) -> Any:
        """The body for the ledger; None if it is not JSON."""
        try:
            return json.loads(self.request.body) if self.request.body else None
        except (ValueError, RecursionError):
            return None


def to_json(value: Any) -> bytes:
    """JSON as the service writes it: compact, in UTF-8."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass
class Effect:
    """A mutation that took effect, for the ledger."""

    item: str
    job_id: str | None = None


@dataclass
class Answer:
    """A handler's answer. A `body` of None means no body; bytes are JSON text already."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    effect: Effect | None = None
    content_type: str = "application/json"
