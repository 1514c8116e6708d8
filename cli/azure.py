"""The app's own client of Azure, for commands that need no bus."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from cli.embedded import settings_of_a_run
from cli.errors import FAILED, CommandError, failed
from shared import composition
from shared.arm.client import ArmClient
from shared.arm.credentials import token_source
from shared.arm.errors import ArmError, ArmNotSentError, ArmPacedError, AuthenticationError, TokenError
from shared.arm.ids import VaultId
from shared.bus import BusError, OutgoingMessage
from shared.clock import ServiceClock, SystemClock
from shared.engine.result import Collaborators
from shared.engine.runtime import Runtime
from shared.settings import SettingsError, read_settings
from shared.steps.vaults import vault_not_found


class _NoBus:
    """A bus for commands that only read: it sends nothing."""

    def send(self, messages: Sequence[OutgoingMessage]) -> None:
        raise BusError(f"a read-only command was about to send {len(messages)} messages")

    def peek(self, queue: str) -> Iterable[bytes]:
        raise BusError(f"a read-only command was about to look into {queue}")


@contextmanager
def resource_manager(settings: Mapping[str, str]) -> Iterator[ArmClient]:
    """The client for Azure Resource Manager, for calls other than backup. Raises CommandError for unusable settings."""
    clock = SystemClock()
    try:
        read = read_settings(settings)
        tokens = token_source(read.arm_endpoint, settings)
    except SettingsError as error:
        raise CommandError(str(error)) from error
    except AuthenticationError as error:
        raise CommandError(f"{error}.") from error
    service_clock = ServiceClock(clock, read.time_scale)
    with ArmClient(
        endpoint=read.arm_endpoint, token_source=tokens, clock=clock, service_clock=service_clock
    ) as arm:
        yield arm


@contextmanager
def connected(settings: Mapping[str, str]) -> Iterator[Runtime]:
    """The app's runtime without a bus; its connections are closed at the end.

    Raises:
        CommandError: the settings cannot be used, or a call to Azure failed.
    """
    try:
        runtime = composition.build(settings, bus=_NoBus())
    except SettingsError as error:
        raise CommandError(str(error)) from error
    try:
        yield runtime
    except TokenError as error:
        raise CommandError(f"{error}.") from error
    except ArmError as error:
        raise CommandError(f"{error}{_how_to_reach(error, runtime)}", status=FAILED) from error
    finally:
        runtime.backup.close()


def _how_to_reach(error: ArmError, runtime: Runtime) -> str:
    """What to do where Azure was not reached; empty where it was."""
    if not isinstance(error, ArmNotSentError) or isinstance(error, ArmPacedError):
        return ""
    if runtime.settings.on_loopback:
        return (
            ". Start the simulator again (sqlvmbackup simulator), or correct --arm-endpoint or ARM_ENDPOINT."
        )
    return ". Look at the network, the proxy and ARM_ENDPOINT (docs/operations.md, Ports)."


@contextmanager
def azure(settings: Mapping[str, str]) -> Iterator[Collaborators]:
    """The reads that the app's steps use. Raises what `connected` raises."""
    with connected(settings) as runtime:
        yield _reads(runtime)


@contextmanager
def vault_named(options: argparse.Namespace) -> Iterator[tuple[Runtime, VaultId]]:
    """The vault that the options name (resolved by `find_places`), checked to exist, and the client for it.

    The vault is read first, so that the service's clock is known, which everything else depends on.

    Raises:
        CommandError: as in `connected`, and where there is no such vault.
    """
    vault_id = VaultId.parse(options.vault)
    with connected(settings_of_a_run(os.environ, options.arm_endpoint)) as runtime:
        if runtime.backup.get_vault(vault_id) is None:
            raise failed(vault_not_found(_reads(runtime), vault_id))
        yield runtime, vault_id


def _reads(runtime: Runtime) -> Collaborators:
    return Collaborators(
        azure=runtime.backup,
        settings=runtime.settings,
        now=runtime.service_clock.now,
        machine_now=runtime.clock.now,
    )
