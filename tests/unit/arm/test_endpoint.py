"""Where a token may go: the configured Resource Manager and its regions, in the request's subscription."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.arm.endpoint import ArmEndpoint, RefusedUrlError
from shared.arm.errors import ArmEndpointError

SUB = "00000000-0000-0000-0000-000000000001"
OTHER = "00000000-0000-0000-0000-000000000002"
PUBLIC = ArmEndpoint.parse("https://management.azure.com")
LOCAL = ArmEndpoint.parse("http://127.0.0.1:8080")
PATH = (
    f"/subscriptions/{SUB}/resourceGroups/rg/providers/Microsoft.RecoveryServices/vaults/v/backupOperations/1"
)

ACCEPTED = [
    (PUBLIC, f"https://management.azure.com{PATH}?api-version=2019-05-13-preview&t=1&c=MII&s=abc&h=x"),
    (PUBLIC, f"HTTPS://Management.Azure.COM:443{PATH}"),
    (PUBLIC, f"https://westeurope.management.azure.com{PATH}"),
    (
        PUBLIC,
        f"https://management.azure.com{PATH.replace('subscriptions', 'Subscriptions')}?fabricName=Azure?api-version=1",
    ),
    (PUBLIC, f"https://management.azure.com/subscriptions/{SUB}/providers/Microsoft.RecoveryServices/x"),
    (PUBLIC, f"https://management.azure.com{PATH}?%24skiptoken=%3c%3fxml+version%3d%221.0%22"),
    (PUBLIC, f"https://management.azure.com{PATH}?$filter=backupManagementType eq 'AzureWorkload'"),
    (LOCAL, f"http://127.0.0.1:8080{PATH}"),
    (ArmEndpoint.parse("https://management.chinacloudapi.cn"), f"https://management.chinacloudapi.cn{PATH}"),
]


@pytest.mark.parametrize(("endpoint", "url"), ACCEPTED)
def test_urls_of_the_service_are_followed_as_they_stand(endpoint: ArmEndpoint, url: str) -> None:
    assert endpoint.accept(url, subscription_id=SUB) == url


def test_a_url_without_host_is_one_of_the_endpoint() -> None:
    assert PUBLIC.accept(PATH + "?t=1", subscription_id=SUB) == f"https://management.azure.com{PATH}?t=1"


REFUSED = [
    (PUBLIC, f"https://evil.example{PATH}", "https://evil.example"),
    (PUBLIC, f"http://management.azure.com{PATH}", "http://management.azure.com"),
    (PUBLIC, f"https://management.azure.com:8443{PATH}", "8443"),
    (PUBLIC, f"https://user@management.azure.com{PATH}", "user name"),
    (PUBLIC, f"https://management.azure.com@evil.example{PATH}", "user name"),
    (PUBLIC, f"https://management.azure.com:443@evil.example{PATH}", "user name"),
    (PUBLIC, f"https://management.azure.com.evil.example{PATH}", "evil.example"),
    (PUBLIC, f"https://evilmanagement.azure.com{PATH}", "evilmanagement"),
    (PUBLIC, f"https://a.b.management.azure.com{PATH}", "a.b.management"),
    (PUBLIC, f"https://.management.azure.com{PATH}", "leads to"),
    (PUBLIC, f"https://management.azure.com.{PATH}", "leads to"),
    (PUBLIC, f"https://m\u0430nagement.azure.com{PATH}", "leads to"),  # a Cyrillic a
    (PUBLIC, f"https://management\uff0eazure\uff0ecom{PATH}", "leads to"),  # full-width dots
    (PUBLIC, f"//evil.example{PATH}", "leads to"),
    (PUBLIC, f"https:{PATH}", "leads to"),
    (PUBLIC, f"https:///{PATH}", "leads to"),
    (PUBLIC, f"https://management.azure.com\\@evil.example{PATH}", "backslash"),
    (PUBLIC, f"https://management.azure.com#@evil.example{PATH}", "fragment"),
    (PUBLIC, f"https://evil.example?@management.azure.com{PATH}", "evil.example"),
    (PUBLIC, f"https://management.azure.com{PATH}\r\nHost: evil.example", "control"),
    (PUBLIC, f"https://mana\tgement.azure.com{PATH}", "control"),
    (PUBLIC, f" https://management.azure.com{PATH}", "blanks"),
    (PUBLIC, f"https://management.azure.com:99999{PATH}", "leads to"),
    (PUBLIC, f"https://[::1{PATH}", "parsed"),
    (PUBLIC, f"file://management.azure.com{PATH}", "leads to"),
    (PUBLIC, f"https://management.azure.com{PATH.replace(SUB, OTHER)}", "subscription"),
    (PUBLIC, "https://management.azure.com/", "subscription"),
    (PUBLIC, f"https://management.azure.com/subscriptions/{SUB}", "subscription"),
    (PUBLIC, f"https://management.azure.com/subscriptions/{SUB}/../{OTHER}/x", "climbs"),
    (PUBLIC, f"https://management.azure.com/subscriptions/{SUB}/%2e%2e/{OTHER}/x", "climbs"),
    (PUBLIC, f"https://management.azure.com/subscriptions/{SUB}/%252e%252e/{OTHER}/x", "climbs"),
    (PUBLIC, f"https://management.azure.com/subscriptions/{SUB}/..;/{OTHER}/x", "climbs"),
    (PUBLIC, f"https://management.azure.com/subscriptions/{SUB}/..%2f{OTHER}/x", "slash"),
    (PUBLIC, f"https://management.azure.com/subscriptions/{SUB}/..%5c{OTHER}/x", "slash"),
    (PUBLIC, f"https://management.azure.com/subscriptions/{SUB}//{OTHER}/x", "empty segment"),
    (PUBLIC, f"https://management.azure.com{PATH}?x={'x' * 40_000}", "too long"),
    (LOCAL, f"http://127.0.0.1:8081{PATH}", "8081"),
    (LOCAL, f"https://127.0.0.1:8080{PATH}", "leads to"),
    (LOCAL, f"http://region.127.0.0.1:8080{PATH}", "leads to"),
    (LOCAL, f"http://localhost:8080{PATH}", "leads to"),
]


@pytest.mark.parametrize(("endpoint", "url", "problem"), REFUSED)
def test_urls_that_lead_elsewhere_are_refused(endpoint: ArmEndpoint, url: str, problem: str) -> None:
    with pytest.raises(RefusedUrlError, match=problem) as caught:
        endpoint.accept(url, subscription_id=SUB)
    assert str(caught.value).isprintable()


@given(st.text(max_size=60), st.text(max_size=30))
def test_whatever_is_accepted_stays_at_home(before: str, after: str) -> None:
    from urllib3.util import parse_url

    url = f"https://{before}management.azure.com{after}{PATH}"
    try:
        accepted = PUBLIC.accept(url, subscription_id=SUB)
    except RefusedUrlError:
        return
    # The parser of the HTTP library agrees about where it leads.
    seen = parse_url(accepted)
    assert seen.scheme == "https"
    assert seen.host is not None
    assert seen.host == "management.azure.com" or seen.host.endswith(".management.azure.com")
    assert seen.auth is None


@pytest.mark.parametrize(
    ("text", "url", "loopback"),
    [
        ("https://management.azure.com", "https://management.azure.com", False),
        ("https://management.azure.com/", "https://management.azure.com", False),
        ("https://Management.USGovCloudAPI.net:443", "https://management.usgovcloudapi.net", False),
        ("https://arm.local.azurestack.external:30024", "https://arm.local.azurestack.external:30024", False),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080", True),
        ("http://127.9.9.9", "http://127.9.9.9", True),
        ("http://localhost:80", "http://localhost", True),
        ("http://[::1]:8080/", "http://[::1]:8080", True),
        ("https://localhost:8443", "https://localhost:8443", True),
    ],
)
def test_endpoints(text: str, url: str, loopback: bool) -> None:
    endpoint = ArmEndpoint.parse(text)
    assert (endpoint.url, endpoint.is_loopback) == (url, loopback)
    assert ArmEndpoint.parse(endpoint.url) == endpoint


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("http://management.azure.com", "in the clear"),
        ("http://127.0.0.1.evil.example", "in the clear"),
        ("http://localhost.evil.example", "in the clear"),
        ("http://10.0.0.1:8080", "in the clear"),
        ("management.azure.com", "neither an https nor an http"),
        ("ftp://management.azure.com", "neither an https nor an http"),
        ("https://user:secret@management.azure.com", "user name"),
        ("https://management.azure.com/subscriptions", "path or a query"),
        ("https://management.azure.com?x=1", "path or a query"),
        ("https://management.azure.com:port", "no URL"),
        ("https://", "no valid host"),
        ("https://manage ment.azure.com", "no valid host"),
        ("https://m\u00e4nagement.azure.com", "ASCII"),
        ("https://management.azure.com\n", "control"),
    ],
)
def test_endpoints_that_must_not_get_a_token(text: str, problem: str) -> None:
    with pytest.raises(ArmEndpointError, match=problem) as caught:
        ArmEndpoint.parse(text)
    assert "secret" not in str(caught.value)
    assert "give https://" in str(caught.value)
