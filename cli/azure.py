"""Azure, as the read-only commands see it: the app's own client, without a bus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from cli.errors import FAILED, CommandError
from shared import composition
from shared.arm.client import ArmClient
from shared.arm.credentials import token_source
from shared.arm.errors import ArmError, AuthenticationError, TokenError
from shared.bus import BusError, OutgoingMessage
from shared.clock import ServiceClock, SystemClock
from shared.engine.result import Collaborators
from shared.settings import SettingsError, read_settings


class _NoBus:
    """What reads only sends nothing."""

    def send(self, messages: Sequence[OutgoingMessage]) -> None:
        raise BusError(f"a read-only command was about to send {len(messages)} messages")


@contextmanager
def resource_manager(settings: Mapping[str, str]) -> Iterator[ArmClient]:
    """Azure Resource Manager itself, for what is no backup. Raises CommandError where the settings cannot be used."""
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
def azure(settings: Mapping[str, str]) -> Iterator[Collaborators]:
    """What the app's steps read Azure through.

    Raises:
        CommandError: the settings cannot be used, or Azure did not give what was asked for.
    """
    try:
        runtime = composition.build(settings, bus=_NoBus())
    except SettingsError as error:
        raise CommandError(str(error)) from error
    try:
        yield Collaborators(
            azure=runtime.backup,
            settings=runtime.settings,
            now=runtime.service_clock.now,
            machine_now=runtime.clock.now,
        )
    except TokenError as error:
        raise CommandError(f"{error}.") from error
    except ArmError as error:
        raise CommandError(str(error), status=FAILED) from error
