"""The app's settings, read once from the environment on first use; one error lists all bad ones.

Names and defaults are in docs/settings.md. `WORKFLOWS` is the only setting that is read on import.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any, Final, TypeVar

from shared.arm.endpoint import ArmEndpoint
from shared.arm.errors import ArmEndpointError
from shared.arm.redaction import redact
from shared.bus import Transport
from shared.drills import DrillTarget, read_drill_targets
from shared.json_nesting import read_flat_json
from shared.messages import windows_paths
from shared.messages.cloud_events import excerpt
from shared.messages.model import parse_positive_duration
from shared.messages.requests import Operation
from shared.names import name_key, same_name
from shared.schedules import (
    BackupSchedule,
    CoverageSchedule,
    DrillSchedule,
    read_coverage_schedules,
    read_drill_schedules,
    read_schedules,
)
from shared.setting_entries import EntriesError

T = TypeVar("T")
D = TypeVar("D")

SERVICE_BUS_CONNECTION: Final = "ServiceBusConnection"
SERVICE_BUS_NAMESPACE: Final = f"{SERVICE_BUS_CONNECTION}__fullyQualifiedNamespace"
SERVICE_BUS_TRANSPORT: Final = "SERVICE_BUS_TRANSPORT"


class SettingsError(Exception):
    """The settings cannot be used; the message lists every problem, one sentence each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(" ".join(problems))
        self.problems = problems


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting, checked. Durations are in the service's time, before `time_scale`."""

    arm_endpoint: str = "https://management.azure.com"
    workflows: frozenset[Operation] = field(default_factory=lambda: frozenset(Operation))
    schedules: tuple[BackupSchedule, ...] = ()
    coverage_schedules: tuple[CoverageSchedule, ...] = ()
    #: whether the app may change anything in Azure
    mutations: bool = True
    events_allow_restore: bool = False
    restore_allowed_targets: tuple[str, ...] | None = None
    restore_allowed_paths: tuple[str, ...] = ()
    restore_allow_overwrite: bool = False
    drill_targets: tuple[DrillTarget, ...] = ()
    drill_schedules: tuple[DrillSchedule, ...] = ()
    operation_timeout: timedelta = timedelta(hours=2)
    job_timeout: timedelta = timedelta(days=7)
    track_interval: timedelta = timedelta(seconds=5)
    time_scale: float = 1.0
    service_bus_transport: Transport = Transport.AMQP

    @property
    def on_loopback(self) -> bool:
        """Whether Azure Resource Manager is a simulator on this machine."""
        return ArmEndpoint.parse(self.arm_endpoint).is_loopback

    def allows_target(self, target: str, *, source: str | None) -> bool:
        """Whether restores may write to the VM with this ARM id; the source VM where nothing is set."""
        if self.restore_allowed_targets is None:
            return source is not None and same_name(target, source)
        patterns = map(name_key, self.restore_allowed_targets)
        return any(fnmatchcase(name_key(target), pattern) for pattern in patterns)

    def allows_path(self, path: str) -> bool:
        """Whether restores may write to this path of a VM: the path or one above it must be listed.

        Only a pattern that begins like a network share allows a share: `*` means the VM's own disks.
        """
        normal = windows_paths.same(path).rstrip("\\")
        return any(
            (fnmatchcase(normal, pattern) or fnmatchcase(normal, f"{pattern}\\*"))
            and windows_paths.is_share(pattern) == windows_paths.is_share(normal)
            for pattern in map(_path_pattern, self.restore_allowed_paths)
        )


def _path_pattern(text: str) -> str:
    """A path pattern in the form that `allows_path` compares: backslashes, none at the end, in lower case."""
    return windows_paths.same(text.strip().replace("/", "\\")).rstrip("\\")


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The settings in `environment`. Raises SettingsError with every problem."""
    problems: list[str] = []

    def read(name: str, parse: Callable[[str], T], default: D) -> T | D:
        text = environment.get(name, "").strip()
        if not text:
            return default
        try:
            return parse(text)
        except EntriesError as error:
            problems.extend(f"{name}: {problem}" for problem in error.problems)
        except ValueError as error:
            problems.append(f"{name}: {error}, not {redact(excerpt(text))}.")
        return default

    default = Settings()
    settings = Settings(
        arm_endpoint=read("ARM_ENDPOINT", _endpoint, default.arm_endpoint),
        workflows=read("WORKFLOWS", _workflows, default.workflows),
        schedules=read("BACKUP_SCHEDULES", read_schedules, default.schedules),
        coverage_schedules=read("COVERAGE_SCHEDULES", read_coverage_schedules, default.coverage_schedules),
        mutations=read("MUTATIONS", _on_or_off, default.mutations),
        events_allow_restore=read("EVENTS_ALLOW_RESTORE", _boolean, default.events_allow_restore),
        restore_allowed_targets=read("RESTORE_ALLOWED_TARGETS", _patterns, default.restore_allowed_targets),
        restore_allowed_paths=read("RESTORE_ALLOWED_PATHS", _patterns, default.restore_allowed_paths),
        restore_allow_overwrite=read("RESTORE_ALLOW_OVERWRITE", _boolean, default.restore_allow_overwrite),
        drill_targets=read("DRILL_TARGETS", read_drill_targets, default.drill_targets),
        drill_schedules=read("DRILL_SCHEDULES", read_drill_schedules, default.drill_schedules),
        operation_timeout=read("OPERATION_TIMEOUT", parse_positive_duration, default.operation_timeout),
        job_timeout=read("JOB_TIMEOUT", parse_positive_duration, default.job_timeout),
        track_interval=read("TRACK_INTERVAL", parse_positive_duration, default.track_interval),
        time_scale=read("TIME_SCALE", _positive_number, default.time_scale),
        service_bus_transport=read(SERVICE_BUS_TRANSPORT, _transport, default.service_bus_transport),
    )
    endpoint_is_known = not any(problem.startswith("ARM_ENDPOINT:") for problem in problems)
    if settings.time_scale != 1.0 and endpoint_is_known and not settings.on_loopback:
        problems.append(
            "TIME_SCALE: only for a simulator; expected 1 or an ARM_ENDPOINT on loopback,"
            f" not {settings.time_scale:g} with {settings.arm_endpoint}."
        )
    problems += [
        f"COVERAGE_SCHEDULES: schedule {excerpt(schedule.name)}: its repairs need {', '.join(missing)}, which"
        " WORKFLOWS does not serve."
        for schedule in settings.coverage_schedules
        if (missing := sorted(schedule.request.repairs - settings.workflows))
    ]
    if problems:
        raise SettingsError(problems)
    return settings


def host_setting(environment: Mapping[str, str], name: str) -> str:
    """A setting that the Functions host reads too, and by its name in any case; empty where there is none."""
    given = environment.get(name, "").strip()
    others = (value.strip() for key, value in environment.items() if key.lower() == name.lower())
    return given or next(filter(None, others), "")


def service_bus_transport(environment: Mapping[str, str]) -> Transport:
    """The transport for Service Bus: the only other setting needed to connect. Raises SettingsError."""
    text = environment.get(SERVICE_BUS_TRANSPORT, "").strip()
    try:
        return _transport(text) if text else Transport.AMQP
    except ValueError as error:
        raise SettingsError([f"{SERVICE_BUS_TRANSPORT}: {error}, not {excerpt(text)}."]) from None


def _transport(text: str) -> Transport:
    transport = next((each for each in Transport if each.value.lower() == text.lower()), None)
    if transport is None:
        raise ValueError(f"expected {' or '.join(each.value for each in Transport)}")
    return transport


def _workflows(text: str) -> frozenset[Operation]:
    names = {name.strip().lower() for name in text.split(",") if name.strip()}
    if not names or not names <= {operation.value for operation in Operation}:
        raise ValueError("expected a comma-separated list of protect, backup, restore, coverage and drill")
    return frozenset(Operation(name) for name in names)


def _endpoint(text: str) -> str:
    try:
        return ArmEndpoint.parse(text).url
    except ArmEndpointError as error:
        raise ValueError(
            "expected a URL such as https://management.azure.com, without a path; http is for a simulator on loopback"
            f" only (this {error.problem})"
        ) from error


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError("expected true or false")
    return text.lower() in ("true", "1")


def _on_or_off(text: str) -> bool:
    if text.lower() not in ("on", "off"):
        raise ValueError("expected on or off")
    return text.lower() == "on"


def _positive_number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1000:
        raise ValueError("expected a number greater than 0 and at most 1000")
    return number


def _patterns(text: str) -> tuple[str, ...]:
    try:
        value: Any = read_flat_json(text)
    except ValueError:
        value = None
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise ValueError("expected a JSON list of patterns (strings)")
    return tuple(value)
