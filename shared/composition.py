"""The composition root: wires the real adapters, on first use, for the life of the process.

Importing it does no I/O and loads neither azure-identity nor azure-servicebus.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from shared.bus import Bus
from shared.clock import Clock, ServiceClock, SystemClock
from shared.settings import SettingsError, host_setting, read_settings
from shared.telemetry import tracing
from shared.telemetry.log import logger

if TYPE_CHECKING:
    from shared.arm.transport import Transport
    from shared.engine.runtime import Runtime

__all__ = ["build", "connected_bus", "install", "runtime"]


_log: Final = logger(__name__)
#: `telemetryMode` of host.json, as an application setting says it.
TELEMETRY_MODE: Final = "AzureFunctionsJobHost__telemetryMode"
_bus: Bus | None = None
_connecting: Final = threading.Lock()
_installed: Runtime | None = None
#: held while the bus is connected, so a lock of its own
_building: Final = threading.Lock()


def build(
    environment: Mapping[str, str],
    *,
    bus: Bus | None = None,
    clock: Clock | None = None,
    transport: Transport | None = None,
) -> Runtime:
    """Wire a runtime from the settings in `environment`.

    `bus`, `clock` and `transport` stand in for Service Bus, the machine's clock and HTTP (runs of the command, tests).

    Raises:
        SettingsError: the settings cannot be used; every problem is listed.
    """
    from shared.arm.client import ArmClient
    from shared.arm.credentials import token_source
    from shared.arm.errors import AuthenticationError
    from shared.azure_backup.operations import AzureBackup
    from shared.engine.runtime import Runtime
    from shared.observed_bus import ObservedBus
    from shared.workflows import TABLE

    settings = read_settings(environment)
    clock = clock or SystemClock()
    service_clock = ServiceClock(clock, settings.time_scale)
    try:
        tokens = token_source(settings.arm_endpoint, environment)
    except AuthenticationError as error:
        raise SettingsError([f"{error}."]) from error
    arm = ArmClient(
        endpoint=settings.arm_endpoint,
        token_source=tokens,
        clock=clock,
        service_clock=service_clock,
        transport=transport,
    )
    return Runtime(
        settings=settings,
        bus=ObservedBus(bus if bus is not None else connected_bus(environment)),
        backup=AzureBackup(arm),
        clock=clock,
        service_clock=service_clock,
        table=TABLE,
    )


def connected_bus(environment: Mapping[str, str] | None = None) -> Bus:
    """The bus of this process, connected when first asked for; it needs no other setting.

    Raises SettingsError where the environment names no namespace.
    """
    global _bus  # noqa: PLW0603
    with _connecting:
        if _bus is None:
            from shared.namespace import connect

            _bus = connect(os.environ if environment is None else environment)
        return _bus


def runtime() -> Runtime:
    """The runtime of this process, wired from its environment when first asked for.

    Raises SettingsError where the environment cannot be used; the next call tries again.
    """
    global _installed  # noqa: PLW0603 - one per process, by design of the platform's worker
    with _building:
        if _installed is None:
            built = build(os.environ)
            if records_by_open_telemetry(os.environ):
                tracing.install(_recorder(os.environ))
            _installed = built
        return _installed


def _recorder(environment: Mapping[str, str]) -> tracing.Recorder | None:
    try:
        from shared.telemetry.open_telemetry import recorder
    except ImportError as error:
        # Telemetry that is missing keeps no message from being handled.
        _log.error(
            "there is no telemetry by OpenTelemetry: requirements-telemetry.txt is not installed: %s",
            error,
            extra={"action": "telemetry"},
        )
        return None
    return recorder(environment)


def records_by_open_telemetry(environment: Mapping[str, str]) -> bool:
    """Whether an application setting tells the host to use OpenTelemetry for its telemetry: then the app does as well.

    Follows https://learn.microsoft.com/azure/azure-functions/opentelemetry-howto.
    """
    return host_setting(environment, TELEMETRY_MODE).lower() == "opentelemetry"


def install(wired: Runtime | None) -> None:
    """Make `wired` the runtime of this process; None removes the present one."""
    global _installed  # noqa: PLW0603
    with _building:
        _installed = wired
