"""What Resource Manager does around the service: identity, versions, ids, paging, throttling, headers."""

from __future__ import annotations

import uuid
from itertools import pairwise
from typing import Any
from urllib.parse import urlencode

import pytest

from local.simulator import ScenarioError
from local.simulator.http_messages import Request
from tests.unit.simulator.driver import ORIGIN, POLICY, VERSION, Driver, estate


def fleet(count: int, **settings: Any) -> Driver:
    return Driver(estate(*({"name": f"db{index:02}"} for index in range(count))) | settings)


# ---- identity


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("", "AuthenticationFailed"),
        ("Basic eDp5", "AuthenticationFailed"),
        ("Bearer", "AuthenticationFailed"),
        ("Bearer somebody-else", "InvalidAuthenticationToken"),
    ],
)
@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("PATCH", "/backupPolicies"), ("GET", "/nothing")])
def test_a_call_without_a_token_is_refused(method: str, path: str, header: str, code: str) -> None:
    answer = Driver().call(method, path, headers={"authorization": header})
    assert (answer.status, answer.code) == (401, code)
    assert answer.headers["www-authenticate"].startswith("Bearer authorization_uri=")


def test_a_token_is_issued_for_a_secret_and_expires() -> None:
    driver = Driver()

    def token(**form: str) -> Any:
        path = f"http://x/{driver.simulator.tenant_id}/oauth2/v2.0/token"
        return driver.call("POST", path, raw=urlencode(form).encode(), headers={"authorization": ""})

    form = {
        "grant_type": "client_credentials",
        "client_id": "app",
        "client_secret": "secret",
        "scope": "https://management.azure.com/.default",
    }
    answer = token(**form)
    assert (answer.status, answer.body["token_type"], answer.body["expires_in"]) == (200, "Bearer", 3599)
    bearer = {"authorization": f"Bearer {answer.body['access_token']}"}
    assert driver.call("GET", "", headers=bearer).status == 200
    driver.wait(3600)
    expired = driver.call("GET", "", headers=bearer)
    assert (expired.status, expired.code) == (401, "ExpiredAuthenticationToken")
    refused = token(**{**form, "client_secret": ""})
    assert (refused.status, refused.body["error"], refused.body["error_codes"]) == (
        401,
        "invalid_client",
        [7000218],
    )
    assert token(**{**form, "grant_type": "password"}).status == 400


# ---- addresses


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "?api-version=2001-01-01", 400, "InvalidApiVersionParameter"),
        ("GET", "?api-version=", 400, "MissingApiVersionParameter"),
        ("GET", "/nothingOfThatKind", 404, "InvalidResourceType"),
        ("POST", "/backupPolicies", 405, "MethodNotAllowed"),
        ("POST", "/backupFabrics/Other/refreshContainers", 400, "CloudInvalidInput"),
        ("GET", "/backupOperations/00000000-0000-0000-0000-000000000000", 404, "OperationNotFound"),
        ("GET", "/backupJobs/00000000-0000-0000-0000-000000000000", 404, "BMSUserErrorJobNotFound"),
        ("GET", "/backupJobs?$filter=status eq 'Sleeping'", 400, "UserErrorInvalidRequestParameter"),
        ("GET", "/backupJobs?$filter=operation eq 'Sleep'", 400, "UserErrorInvalidRequestParameter"),
        ("GET", '/backupJobs?$filter=status eq "Completed"', 400, "UserErrorInvalidRequestParameter"),
        ("GET", "/backupJobs?$filter=colour eq 'red'", 400, "UserErrorInvalidRequestParameter"),
        ("GET", "/backupJobs?$filter=startTime eq 'soon'", 400, "UserErrorInvalidRequestParameter"),
        ("GET", "/backupJobs?$skipToken=x", 400, "UserErrorInvalidRequestParameter"),
        ("PUT", "/backupPolicies/Mine", 400, "InvalidRequestContent"),
    ],
)
def test_wrong_addresses_fail_as_arm_fails(method: str, path: str, status: int, code: str) -> None:
    answer = Driver().call(method, path)
    assert (answer.status, answer.code) == (status, code)


def test_of_a_policy_that_is_not_there_nothing_is_said() -> None:
    """Azure/azure-powershell, session of TestAzureVmWorkloadPolicy, 2024-04-22."""
    answer = Driver().call("GET", "/backupPolicies/Nothing")
    assert (answer.status, answer.text) == (404, b"{}")
    assert answer.headers["content-type"] == "application/json"
    assert "x-ms-failure-cause" not in answer.headers


def test_the_service_counted_and_told_less_before_the_end_of_2020() -> None:
    """Azure/azure-powershell: UnregisterAzureWorkloadContainer, 2020-02-03; TestAzureVmWorkloadGetJob, 2020-12-21."""
    own, of_all = (f"x-ms-ratelimit-remaining-subscription-{kind}" for kind in ("resource-requests", "reads"))
    old, new = (Driver({"serviceVersion": year}) for year in ("2020-02", "2020-12"))
    headers = old.call("GET", "/backupPolicies").headers
    assert (headers.get(own), headers.get(of_all)) == (None, "11999")
    headers = new.call("GET", "/backupPolicies").headers
    assert (headers.get(own), headers.get(of_all)) == ("149", None)
    states = [driver.get("?api-version=2016-06-01")["properties"] for driver in (old, new)]
    assert states == [
        {},
        {
            "provisioningState": "Succeeded",
            "privateEndpointStateForBackup": "None",
            "privateEndpointStateForSiteRecovery": "None",
        },
    ]


@pytest.mark.parametrize("version", ["2016-06-01", "2024-04-01", "2026-07-01", "2026-08-01", "2026-10-01"])
def test_the_api_versions_of_real_clients_are_known(version: str) -> None:
    driver = Driver()
    assert driver.get(f"?api-version={version}")["name"] == "vault1"
    assert driver.get(f"/backupPolicies?api-version={version}")["value"]


def test_a_question_mark_in_a_filter_is_part_of_its_value() -> None:
    driver = Driver(estate({"name": "orders"}))
    found = driver.get("/backupProtectedItems?$filter=friendlyName eq 'orders%3Fyear=2021'")
    assert found["value"] == []


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (
            "/subscriptions/00000000-0000-0000-0000-0000000000ff/resourceGroups/rg-backup",
            "SubscriptionNotFound",
        ),
        ("{subscription}/resourceGroups/nowhere", "ResourceGroupNotFound"),
        ("{subscription}/resourceGroups/rg-backup", "ResourceNotFound"),
    ],
)
def test_an_unknown_vault_is_not_found(path: str, code: str) -> None:
    driver = Driver({"vaults": [{"name": "other"}]})
    scope = path.format(subscription=f"/subscriptions/{driver.simulator.subscription_id}")
    answer = driver.call("GET", f"{scope}/providers/Microsoft.RecoveryServices/vaults/vault1")
    assert (answer.status, answer.code) == (404, code)


def test_names_are_found_in_any_casing_and_answered_in_their_own() -> None:
    driver = Driver(estate({"name": "Orders"}))
    shouted = driver.get(
        (driver.vault + driver.item("orders")).upper().replace("/SUBSCRIPTIONS", "/subscriptions")
    )
    assert shouted["name"] == "SQLDataBase;mssqlserver;orders"
    assert shouted["properties"]["friendlyName"] == "Orders"
    capital = driver.get(driver.vault.replace("/subscriptions", "/Subscriptions") + driver.item("orders"))
    assert capital["id"].startswith("/Subscriptions/")


def test_a_signed_url_is_taken_only_as_it_was_given() -> None:
    driver = Driver(estate({"name": "orders"}))
    url = driver.backup().headers["azure-asyncoperation"]
    assert driver.call("GET", url).status == 200
    for spoilt in (url[:-2], url.replace("&t=", "&t=1"), url.replace("&c=", "&c=A")):
        refused = driver.call("GET", spoilt)
        assert (refused.status, refused.code) == (400, "InvalidAsyncOperationUrl")
    assert driver.call("GET", url.split("&t=")[0]).status == 200


@pytest.mark.parametrize(
    ("version", "odd"),
    [("2021-05", "?fabricName=Azure?api-version="), ("2024-05", "?fabricName=Azure%3fapi-version%3d")],
)
def test_an_unregistrations_odd_location_can_be_followed(version: str, odd: str) -> None:
    driver = Driver({"serviceVersion": version})
    driver.register()
    location = driver.call("DELETE", driver.container()).headers["location"]
    assert odd in location
    assert driver.call("GET", location).status == 202
    driver.wait(600)
    assert driver.call("GET", location).status == 204


# ---- headers


def test_a_job_bears_the_client_request_id_unless_told_otherwise() -> None:
    for echo in (True, False):
        driver = Driver(estate({"name": "orders"}) | {"echoActivityId": echo})
        mine = str(uuid.uuid4())
        body = {"properties": {"objectType": "AzureWorkloadBackupRequest", "backupType": "Full"}}
        answer = driver.call(
            "POST", f"{driver.item()}/backup", body, headers={"x-ms-client-request-id": mine}
        )
        assert (driver.job(answer)["activityId"] == mine) is echo
        (entry,) = driver.simulator.ledger_entries
        assert (entry["clientRequestId"], entry["route"]) == (mine, "Backup")


def test_answers_carry_arms_headers_and_the_simulators_date() -> None:
    driver = Driver()
    driver.wait(hours=1)
    sent = {"x-ms-client-request-id": "mine"}
    headers = driver.call("GET", "/backupPolicies", headers=sent).headers
    assert headers["date"] == "Mon, 05 Jan 2026 09:00:00 GMT"
    assert headers["x-ms-client-request-id"] == "mine"
    assert uuid.UUID(headers["x-ms-request-id"])
    assert headers["x-ms-ratelimit-remaining-subscription-resource-requests"] == "299"
    assert driver.call("GET", "").headers["x-ms-ratelimit-remaining-subscription-reads"] == "11999"


# ---- lists


def test_pages_hold_every_item_once_even_while_items_come_and_go() -> None:
    driver = fleet(25, pageSize=10)
    seen = []
    link = "/backupProtectedItems?$filter=backupManagementType eq 'AzureWorkload'"
    pages = 0
    while link:
        page = driver.get(link)
        seen += [entry["properties"]["friendlyName"] for entry in page["value"]]
        link = page.get("nextLink", "")
        pages += 1
        if pages == 1:
            assert driver.call("DELETE", driver.item(seen[3])).status == 202
            driver.wait(days=20)
    assert (pages, sorted(seen)) == (3, [f"db{index:02}" for index in range(25)])


def test_jobs_are_listed_newest_first_filtered_and_without_details() -> None:
    driver = fleet(5, pageSize=2)
    for index in range(5):
        driver.backup(f"db{index:02}", wait=60)

    def listed(query: str) -> list[str]:
        found = []
        link = f"/backupJobs?$filter={query}"
        while link:
            page = driver.get(link)
            assert all("extendedInfo" not in job["properties"] for job in page["value"])
            found += [job["properties"]["entityFriendlyName"].split()[0] for job in page["value"]]
            link = page.get("nextLink", "")
        return found

    workload = "backupManagementType eq 'AzureWorkload'"
    assert listed(workload) == ["db04", "db03", "db02", "db01", "db00"]
    assert listed(f"{workload} and status eq 'InProgress'") == ["db04"]
    assert listed(f"{workload} and operation eq 'Restore'") == []
    since = "startTime eq '2026-01-05 08:02:00 AM' and endTime eq '2026-01-05 08:06:00 AM'"
    assert listed(f"{workload} and {since}") == ["db04", "db03", "db02"]
    assert listed("backupManagementType eq 'AzureIaasVM'") == []


@pytest.mark.parametrize(
    "path",
    [
        "/backupProtectedItems?$filter=backupSetName eq 'x'",
        "/backupProtectedItems?$filter=backupEngineName eq 'x'",
        "/backupProtectionContainers?$filter=backupEngineName eq 'x'",
    ],
)
def test_a_filter_for_other_workloads_finds_nothing(path: str) -> None:
    assert Driver(estate({"name": "orders"})).get(path)["value"] == []


# ---- throttling


_LEFT = "x-ms-ratelimit-remaining-subscription-resource-requests"


def throttled(**limits: object) -> Driver:
    return Driver(estate({"name": "orders"}) | {"throttling": limits})


def test_the_buckets_empty_say_so_and_fill_again() -> None:
    driver = throttled(writes={"bucket": 1, "perSecond": 0.1})
    assert driver.backup(wait=0).status == 202
    refused = driver.backup(wait=0)
    assert (refused.status, refused.code, refused.headers["retry-after"]) == (
        429,
        "SubscriptionRequestsThrottled",
        "10",
    )
    assert len(driver.simulator.ledger_entries) == 1
    driver.wait(10)
    assert driver.backup(wait=0).status == 202


def test_each_action_has_an_hour_of_its_own() -> None:
    driver = throttled(backupReads={})
    # Fresh counters as recorded in 2024.
    assert driver.call("GET", "/backupPolicies").headers[_LEFT] == "299"
    assert driver.call("GET", "/backupJobs").headers[_LEFT] == "449"
    assert driver.call("GET", driver.item()).headers[_LEFT] == "299"
    assert driver.call("GET", "/backupProtectedItems").headers[_LEFT] == "299"
    # A list and a single read of one type are one action, however it is spelt.
    assert driver.call("GET", "/backupPolicies/HourlyLogBackup").headers[_LEFT] == "298"
    assert driver.call("GET", "/BACKUPPOLICIES").headers[_LEFT] == "297"
    assert _LEFT not in driver.call("GET", "").headers


def test_an_hour_that_is_used_up_is_refused_as_recorded() -> None:
    driver = throttled(backupReads={"perHour": 150, "jobsPerHour": 2})
    for _ in range(2):
        driver.get("/backupJobs")
    driver.wait(10)
    refused = driver.call("GET", "/backupJobs/some")
    assert (refused.status, refused.code) == (429, "ResourceRequestsThrottled")
    assert refused.headers["retry-after"] == "3890"
    # azure-cli, recording of 2021-01-11, with its own action, limit and seconds.
    assert refused.body["error"]["message"] == (
        "Number of requests for action 'Microsoft.RecoveryServices/vaults/backupJobs/read' exceeded the limit of '2' "
        "for time interval '01:00:00'. Please try again after '3890' seconds."
    )
    assert driver.call("GET", "/backupPolicies").headers[_LEFT] == "149"
    driver.wait(3889)
    assert driver.call("GET", "/backupJobs").status == 429
    driver.wait(1)
    assert driver.call("GET", "/backupJobs").status == 200


def test_a_poller_of_half_a_minute_sees_its_counter_fall_and_rise_as_recorded() -> None:
    # azure-cli, recording of 2021-06-22: 149 fell to 22 within 3,882 s and rose by 9 or 10 every 305 s from then on.
    driver = throttled(backupReads={"perHour": 150, "jobsPerHour": 150})
    left = []
    for _ in range(390):
        left.append(int(driver.call("GET", "/backupJobs").headers[_LEFT]))
        driver.wait(30.5)
    steps = [after - before for before, after in pairwise(left)]
    assert left[0] == 149
    assert steps.index(next(step for step in steps if step >= 0)) * 30.5 == pytest.approx(3882, abs=31)
    assert min(left) == pytest.approx(22, abs=1)
    rises = [step for step in steps if step >= 0]
    # What the slot had, less the read itself.
    assert set(rises) <= {8, 9}


def test_vaults_of_a_subscription_share_an_actions_hour() -> None:
    driver = Driver(
        estate({"name": "orders"})
        | {"vaults": [{"name": "vault1"}, {"name": "vault2"}], "throttling": {"backupReads": {}}}
    )
    driver.get("/backupJobs")
    other = f"{driver.simulator.vault_id('vault2')}/backupJobs"
    assert driver.call("GET", other).headers[_LEFT] == "448"


@pytest.mark.parametrize(
    "limits",
    [{"bucket": 250, "perSecond": 1}, {"perHour": 0}, {"jobsPerHour": "many"}],
    ids=["a bucket", "none", "no number"],
)
def test_limits_that_cannot_be_are_refused(limits: dict[str, object]) -> None:
    with pytest.raises((ScenarioError, ValueError), match="backupReads"):
        throttled(backupReads=limits)


# ---- determinism


def test_the_same_calls_on_the_same_seed_get_the_same_answers() -> None:
    def transcript(seed: int) -> list[bytes]:
        driver = Driver(
            {
                "seed": seed,
                "durations": {"backup": [100, 0.5]},
                "faults": [{"route": "*", "fault": "status", "probability": 0.2}],
            }
        )
        driver.register()
        driver.protect()
        driver.backup(wait=50)
        return [driver.call("GET", path).text for path in ("/backupJobs", driver.item(), "/backupPolicies")]

    assert transcript(7) == transcript(7)
    assert transcript(7) != transcript(8)


def test_a_vault_is_made_once_and_kept_while_it_holds_something() -> None:
    driver = Driver()
    path = driver.vault.replace("vault1", "vault9")
    body = {"location": "West Europe", "sku": {"name": "RS0", "tier": "Standard"}, "properties": {}}
    assert driver.call("PUT", path, body).status == 201
    assert driver.call("PUT", path, body | {"tags": {"a": "b"}}).status == 200
    assert driver.get(path)["tags"] == {"a": "b"}
    assert [entry["name"] for entry in driver.get(f"{path}/backupPolicies")["value"]] == [
        POLICY,
        "DefaultPolicy",
    ]
    assert driver.call("PUT", path, body | {"location": "eastus"}).status == 409
    assert driver.call("PUT", path, {"location": "westeurope"}).status == 400
    assert driver.call("DELETE", f"{path}?api-version=2016-06-01").status == 200
    assert driver.call("PUT", path, body).status == 201
    assert [driver.call("DELETE", path).status for _ in range(2)] == [204, 204]
    assert driver.call("GET", path).status == 404
    driver.register()
    kept = driver.call("DELETE", "")
    assert (kept.status, kept.code) == (400, "ServiceResourceNotEmptyWithContainerDetails")


def test_no_request_makes_it_raise() -> None:
    driver = Driver()
    for raw in (
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"properties": []}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"properties": {}}',
    ):
        for method, path in (
            ("PUT", driver.container()),
            ("PUT", driver.item()),
            ("PUT", "/backupPolicies/x"),
            ("PUT", ""),
            ("PATCH", ""),
            ("POST", f"{driver.item()}/backup"),
            ("POST", f"{driver.item()}/recoveryPoints/1/restore"),
            ("PUT", "/backupFabrics/Azure/backupProtectionIntent/x"),
            ("PUT", "/backupconfig/vaultconfig"),
        ):
            assert 400 <= driver.call(method, path, raw=raw).status < 500 or (method, raw) in (
                ("PATCH", b'{"properties": []}'),
                ("PATCH", b'{"properties": {}}'),
                ("PUT", b'{"properties": {}}'),
            )
    for target in (
        "//",
        "/%00",
        "/subscriptions/../..",
        "/subscriptions//resourceGroups",
        "/%ff%fe;'\"",
        "*",
    ):
        request = Request(
            "GET", target, f"api-version={VERSION}&$filter='", {"authorization": ""}, b"", ORIGIN
        )
        assert 400 <= driver.simulator.handle(request).status < 500
