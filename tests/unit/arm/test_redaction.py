"""What is shown of an answer's text: poll URLs are signed, and some servers repeat the one that they were asked."""

from __future__ import annotations

import pytest

from shared.arm.redaction import redact

SIGNED = "api-version=2024-04-01&t=638&c=MIIHhz&s=signature&h=hash"


@pytest.mark.parametrize(
    "url",
    [
        f"https://management.azure.com/subscriptions/a/operationResults/b?{SIGNED}",
        f"/subscriptions/a/operationResults/b?{SIGNED}",
        f"management.azure.com/subscriptions/a/operationResults/b?{SIGNED}",
        f"https:\\/\\/management.azure.com\\/subscriptions\\/a?{SIGNED}",
        f"/subscriptions/a?{SIGNED.replace('&', '&amp;')}",
    ],
)
def test_no_signature_is_shown_however_a_server_repeats_its_url(url: str) -> None:
    shown = redact(f"Cannot GET {url} here")
    assert shown.startswith("Cannot GET ") and shown.endswith(" here")
    assert not any(secret in shown for secret in ("638", "MIIHhz", "signature", "hash"))


def test_a_question_is_no_query() -> None:
    assert redact("Is it on/off? It is a=b.") == "Is it on/off? It is a=b."
