"""Who may do what: service principals, immutable vaults, resource guards."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from pydantic import ValidationError

from local.simulator import Scenario
from tests.unit.simulator.driver import POLICY, Answer, Driver, estate

CLIENT = "11111111-2222-3333-4444-555555555555"
ORDERS = {"name": "orders", "historyDays": 3}
ITEMS = "Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/protectedItems"


def guarded(**vault: Any) -> Driver:
    """A protected database with a history in such a vault."""
    return Driver({**estate(ORDERS), "vaults": [vault]})


def token(driver: Driver, tenant: str | None = None, **form: str) -> Answer:
    path = f"http://x/{tenant or driver.simulator.tenant_id}/oauth2/v2.0/token"
    whole = {
        "grant_type": "client_credentials",
        "client_id": CLIENT,
        "client_secret": "right",
        "scope": "https://management.azure.com/.default",
        **form,
    }
    return driver.call("POST", path, raw=urlencode(whole).encode(), headers={"authorization": ""})


@pytest.mark.parametrize(
    ("form", "principal", "status", "error", "number"),
    [
        ({"client_secret": "wrong"}, {}, 401, "invalid_client", 7000215),
        ({}, {"expired": True}, 401, "invalid_client", 7000222),
        ({"client_id": "somebody"}, {}, 400, "unauthorized_client", 700016),
        ({"tenant": "nowhere"}, {}, 400, "invalid_request", 90002),
        (
            {
                "client_secret": "",
                "client_assertion": "a.b.c",
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            },
            {"expired": True},
            401,
            "invalid_client",
            1000502,
        ),
    ],
)
def test_a_service_principal_that_is_not_right_gets_no_token(
    form: dict[str, str], principal: dict[str, Any], status: int, error: str, number: int
) -> None:
    known = {"clientId": CLIENT, "clientSecret": "right", **principal}
    driver = Driver({"servicePrincipals": [known]})
    refused = token(driver, **form)
    assert (refused.status, refused.body["error"]) == (status, error)
    assert refused.body["error_codes"] == [number]
    assert refused.body["error_description"].startswith(f"AADSTS{number}: ")
    assert "right" not in refused.body["error_description"]


@pytest.mark.parametrize(
    ("allowed", "method", "path", "action", "scope"),
    [
        ([], "GET", "", "Microsoft.RecoveryServices/vaults/read", "/vaults/vault1"),
        (
            ["write", "restore"],
            "GET",
            "/backupJobs",
            "Microsoft.RecoveryServices/vaults/backupJobs/read",
            "/vaults/vault1",
        ),
        (["read", "restore"], "POST", "{item}/backup", f"{ITEMS}/backup/action", "{item}"),
        (["read", "restore", "Backup"], "PUT", "{item}", f"{ITEMS}/write", "{item}"),
        (["read", "restore"], "DELETE", "{item}", f"{ITEMS}/delete", "{item}"),
        (
            ["read", "write"],
            "POST",
            "{item}/recoveryPoints/1/restore",
            f"{ITEMS}/recoveryPoints/restore/action",
            "{item}/recoveryPoints/1",
        ),
    ],
)
def test_what_a_service_principal_may_not_do_is_named(
    allowed: list[str], method: str, path: str, action: str, scope: str
) -> None:
    known = {"clientId": CLIENT, "clientSecret": "right", "allowed": allowed}
    driver = Driver({**estate(ORDERS), "servicePrincipals": [known]})
    bearer = {"authorization": f"Bearer {token(driver).body['access_token']}"}
    item = driver.item()
    refused = driver.call(method, path.replace("{item}", item), {"properties": {}}, headers=bearer)
    assert (refused.status, refused.code) == (403, "AuthorizationFailed")
    message = refused.body["error"]["message"]
    assert f"'{CLIENT}'" in message and f"'{action}'" in message
    assert f"{scope.replace('{item}', item)}' or the scope is invalid" in message
    assert driver.simulator.ledger_entries == []
    # Who needs no sign-in may do everything, and a route may be allowed by its name.
    assert driver.call("GET", "").status == 200
    if "Backup" in allowed:
        request = {"properties": {"objectType": "AzureWorkloadBackupRequest", "backupType": "Full"}}
        assert driver.call("POST", f"{item}/backup", request, headers=bearer).status == 202


def test_a_right_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValidationError, match="Deleting is neither a route nor one of"):
        Scenario.model_validate({"servicePrincipals": [{"clientId": CLIENT, "allowed": ["Deleting"]}]})


def shorter(driver: Driver) -> dict[str, Any]:
    """The policy's properties with a week of fulls in place of thirty days."""
    found: dict[str, Any] = driver.get(f"/backupPolicies/{POLICY}")["properties"]
    full = found["subProtectionPolicy"][0]["retentionPolicy"]["dailySchedule"]
    full["retentionDuration"]["count"] = 7
    return found


def test_an_immutable_vault_lets_nothing_go_before_its_time() -> None:
    denied = (400, "UserErrorOperationDeniedOnImmutableItem")
    driver = guarded(immutability="Locked")

    def refused(answer: Answer) -> tuple[int, str]:
        return answer.status, answer.code

    assert refused(driver.call("DELETE", driver.item())) == denied
    assert refused(driver.call("PUT", f"/backupPolicies/{POLICY}", {"properties": shorter(driver)})) == denied
    driver.call("PUT", "/backupPolicies/Weekly", {"properties": shorter(driver)})
    assert refused(driver.protect(policy="Weekly")) == denied
    for state in ("Unlocked", "Disabled"):
        settings = {"immutabilitySettings": {"state": state}}
        patch = {"properties": {"securitySettings": settings}}
        assert refused(driver.call("PATCH", "", patch)) == denied
    driver.call("PATCH", "", {"properties": {"securitySettings": {"softDeleteSettings": {}}}})
    security = driver.get("")["properties"]["securitySettings"]
    assert security["immutabilitySettings"] == {"state": "Locked"}
    # Backups can be stopped and kept.
    stopped = driver.put(driver.item(), policyId="", protectionState="BackupsSuspended")
    assert driver.job(stopped)["status"] == "Completed"


def test_an_unlocked_vault_can_be_opened_again() -> None:
    driver = guarded(immutability="Unlocked")
    assert driver.call("DELETE", driver.item()).code == "UserErrorOperationDeniedOnImmutableItem"
    patch = {"properties": {"securitySettings": {"immutabilitySettings": {"state": "Disabled"}}}}
    assert driver.call("PATCH", "", patch).status == 200
    assert driver.call("DELETE", driver.item()).status == 202


def test_a_resource_guard_stands_before_critical_operations_only() -> None:
    driver = guarded(resourceGuard=True, softDelete=True)
    (proxy,) = driver.get("/backupResourceGuardProxies")["value"]
    assert driver.get("/backupResourceGuardProxies/VaultProxy") == proxy
    requests = {
        entry["vaultCriticalOperation"]: entry["defaultResourceRequest"]
        for entry in proxy["properties"]["resourceGuardOperationDetails"]
    }
    assert driver.get("")["properties"]["securitySettings"]["multiUserAuthorization"] == "Enabled"
    off: dict[str, Any] = {"properties": {"softDeleteFeatureState": "Disabled"}}
    point = driver.points()[0]["name"]
    refusals = [
        driver.call("DELETE", driver.item()),
        driver.call("PUT", "/backupconfig/vaultconfig", off),
        driver.call("PUT", f"/backupPolicies/{POLICY}", {"properties": shorter(driver)}),
        driver.put(driver.item(), policyId="", protectionState="ProtectionStopped"),
        driver.restore(point, recoveryType="OriginalLocation"),
        driver.call("DELETE", "/backupResourceGuardProxies/VaultProxy"),
    ]
    driver.call("PUT", "/backupPolicies/Weekly", {"properties": shorter(driver)})
    refusals.append(driver.protect(policy="Weekly"))
    assert {(answer.status, answer.code) for answer in refusals} == {
        (400, "UserErrorResourceGuardOperationRequestIdMissing")
    }
    assert "ResourceGuard Operation requestid" in refusals[0].body["error"]["message"]
    # The consent to one operation is none to another.
    restoring = requests[f"{ITEMS}/recoveryPoints/restore/action"]
    off["properties"]["resourceGuardOperationRequests"] = [restoring]
    assert driver.call("PUT", "/backupconfig/vaultconfig", off).status == 400
    off["properties"]["resourceGuardOperationRequests"] = [
        requests["Microsoft.RecoveryServices/vaults/backupconfig/write"]
    ]
    assert driver.call("PUT", "/backupconfig/vaultconfig", off).status == 200
    assert driver.job(driver.backup())["status"] == "Completed"
    restored = driver.restore(
        point, recoveryType="OriginalLocation", resourceGuardOperationRequests=[restoring]
    )
    assert driver.job(restored)["status"] == "Completed"


def test_what_a_guard_leaves_out_is_not_guarded() -> None:
    driver = guarded(resourceGuard=["deleteProtectedItemRequests"])
    point = driver.points()[0]["name"]
    assert driver.job(driver.restore(point, recoveryType="OriginalLocation"))["status"] == "Completed"
    assert driver.call("DELETE", driver.item()).status == 400
    # Nobody can leave these two out.
    assert driver.call("DELETE", "/backupResourceGuardProxies/VaultProxy").status == 400


def test_what_is_unlocked_can_be_deleted_for_half_an_hour() -> None:
    driver = guarded(resourceGuard=True)
    vault = driver.get("")["id"]
    guard = driver.get("/backupResourceGuardProxies/VaultProxy")["properties"]["resourceGuardResourceId"]
    unlock = "/backupResourceGuardProxies/VaultProxy/unlockDelete"
    item = {
        "resourceGuardOperationRequests": [f"{guard}/deleteProtectedItemRequests/default"],
        "resourceToBeDeleted": f"{vault}{driver.item()}",
    }
    assert driver.call("POST", unlock, {"resourceToBeDeleted": f"{vault}{driver.item()}"}).status == 400
    assert driver.call("POST", unlock, item).status == 200
    driver.wait(31 * 60)
    assert driver.call("DELETE", driver.item()).status == 400
    assert driver.call("POST", unlock, item).status == 200
    assert driver.call("DELETE", driver.item()).status == 202
    link = {"resourceGuardOperationRequests": [f"{guard}/deleteResourceGuardProxyRequests/default"]}
    assert driver.call("POST", unlock, link).status == 200
    assert driver.call("DELETE", "/backupResourceGuardProxies/VaultProxy").status == 200
    assert driver.get("/backupResourceGuardProxies")["value"] == []
    assert driver.call("GET", "/backupResourceGuardProxies/VaultProxy").status == 404


def test_an_assertion_is_taken_as_what_it_is_said_to_be() -> None:
    """RFC 7523, section 2.2: without this type the assertion is none."""
    driver = Driver({"servicePrincipals": [{"clientId": CLIENT}]})
    kinds = {
        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer": 200,
        "urn:ietf:params:oauth:client-assertion-type:saml2-bearer": 401,
        "": 401,
    }
    for kind, status in kinds.items():
        answer = token(driver, client_secret="", client_assertion="a.b.c", client_assertion_type=kind)
        assert (answer.status, "access_token" in answer.body) == (status, status == 200), kind
    without = token(driver, client_secret="", client_assertion="", client_assertion_type=next(iter(kinds)))
    assert (without.status, without.body["error"]) == (401, "invalid_client")


@pytest.mark.parametrize("version", ["/v2.0", ""])
def test_the_metadata_of_a_tenant_names_its_endpoints_as_entra_does(version: str) -> None:
    """https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc#fetch-the-openid-configuration-document"""
    driver = Driver({"servicePrincipals": [{"clientId": CLIENT, "clientSecret": "right"}]})
    tenant = f"http://127.0.0.1:1/{driver.simulator.tenant_id}"
    configuration = driver.get(f"{tenant}{version}/.well-known/openid-configuration")
    assert {
        name: value.removeprefix(tenant) for name, value in configuration.items() if isinstance(value, str)
    } == {
        "authorization_endpoint": "/oauth2/v2.0/authorize",
        "device_authorization_endpoint": "/oauth2/v2.0/devicecode",
        "issuer": "/v2.0",
        "jwks_uri": "/discovery/v2.0/keys",
        "token_endpoint": "/oauth2/v2.0/token",
    }


def test_the_metadata_of_the_cloud_leads_every_client_here() -> None:
    """What `az cloud register --endpoint-resource-manager` reads: where to log in, and for whom a token is."""
    configuration = Driver().get("http://127.0.0.1:1/metadata/endpoints?api-version=2019-05-01")
    login = configuration["authentication"]
    assert (configuration["resourceManager"], login["loginEndpoint"]) == (
        "http://127.0.0.1:1/",
        "http://127.0.0.1:1",
    )
    assert login["audiences"] == ["http://127.0.0.1:1/", "https://management.azure.com/"]
