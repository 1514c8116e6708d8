"""The namespace of a deployed app, as the command opens it."""

from __future__ import annotations

import pytest

from cli.errors import CommandError
from cli.namespace import connected
from shared.arm import credentials

STRING = "Endpoint=sb://n.servicebus.windows.net/;SharedAccessKeyName=n;SharedAccessKey=k"


@pytest.mark.parametrize("name", ["ServiceBusConnection", "SERVICEBUSCONNECTION"])
def test_a_connection_string_is_used_whatever_the_case_of_its_name(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        pytest.fail("it was opened by identity")

    monkeypatch.setattr(credentials, "service_bus_credential", refuse)
    monkeypatch.setenv(name, STRING)
    with connected("n") as (_, client):
        assert client.fully_qualified_namespace == "n.servicebus.windows.net"


def test_without_a_usable_transport_there_is_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_BUS_TRANSPORT", "carrier pigeon")
    with pytest.raises(CommandError, match="SERVICE_BUS_TRANSPORT"), connected("n"):
        pass
