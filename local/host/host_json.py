"""The settings of `host.json` that the local host follows, with the platform's defaults.

Follows https://learn.microsoft.com/azure/azure-functions/functions-host-json and the `serviceBus` section of
https://learn.microsoft.com/azure/azure-functions/functions-bindings-service-bus#hostjson-settings.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

_TIME_SPAN: Final = re.compile(r"^(?:(\d+)\.)?(\d{1,2}):(\d{2}):(\d{2})$", re.ASCII)


class HostSettingsError(Exception):
    """`host.json` cannot be used; the message names every problem."""


@dataclass(frozen=True, kw_only=True)
class HostSettings:
    """The settings in `host.json` that affect how triggers run."""

    #: messages of one function handled at the same time
    max_concurrent_calls: int = 16
    #: the most messages in a batch
    max_message_batch_size: int = 1000
    #: the fewest messages in a batch, if they come within `max_batch_wait_time`
    min_message_batch_size: int = 1
    max_batch_wait_time: timedelta = timedelta(seconds=30)
    #: how long after its delivery a single message's lock is kept alive
    max_auto_lock_renewal_duration: timedelta = timedelta(minutes=5)
    #: success completes a message
    auto_complete_messages: bool = True
    #: None: no limit
    function_timeout: timedelta | None = timedelta(minutes=30)


def read_host_json(path: Path) -> HostSettings:
    """The settings in the file at `path`; the defaults where there is no such file.

    Raises:
        HostSettingsError: it is not JSON, or the platform would not accept the value of a setting.
    """
    try:
        content: Any = json.loads(path.read_bytes())
    except FileNotFoundError:
        return HostSettings()
    except ValueError as error:
        raise HostSettingsError(f"{path.name} is not JSON ({error}): correct it.") from error
    if not isinstance(content, dict):
        raise HostSettingsError(f"{path.name}: expected a JSON object.")
    return _read(path.name, content)


def _read(name: str, content: dict[str, Any]) -> HostSettings:
    problems: list[str] = []
    defaults = HostSettings()
    section: Any = content
    for key in ("extensions", "serviceBus"):
        section = section.get(key, {})
        if not isinstance(section, dict):
            problems.append(f"{key}: expected an object")
            section = {}

    def whole(key: str, default: int) -> int:
        value = section.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            problems.append(f"extensions.serviceBus.{key}: expected a whole number of at least 1")
            return default
        return value

    def span(key: str, default: timedelta) -> timedelta:
        found = _time_span(section.get(key), default)
        if found is None:
            problems.append(f"extensions.serviceBus.{key}: expected a time span such as 00:05:00")
            return default
        return found

    auto_complete = section.get("autoCompleteMessages", defaults.auto_complete_messages)
    if not isinstance(auto_complete, bool):
        problems.append("extensions.serviceBus.autoCompleteMessages: expected true or false")
    timeout: timedelta | None = None
    if content.get("functionTimeout") != "-1":
        timeout = _time_span(content.get("functionTimeout"), defaults.function_timeout or timedelta())
        if timeout is None:
            problems.append("functionTimeout: expected a time span such as 00:05:00, or -1")
    settings = HostSettings(
        max_concurrent_calls=whole("maxConcurrentCalls", defaults.max_concurrent_calls),
        max_message_batch_size=whole("maxMessageBatchSize", defaults.max_message_batch_size),
        min_message_batch_size=whole("minMessageBatchSize", defaults.min_message_batch_size),
        max_batch_wait_time=span("maxBatchWaitTime", defaults.max_batch_wait_time),
        max_auto_lock_renewal_duration=span(
            "maxAutoLockRenewalDuration", defaults.max_auto_lock_renewal_duration
        ),
        auto_complete_messages=bool(auto_complete),
        function_timeout=timeout,
    )
    if problems:
        raise HostSettingsError(f"{name} cannot be used: {'; '.join(problems)}.")
    return settings


def _time_span(value: Any, default: timedelta) -> timedelta | None:
    if value is None:
        return default
    found = _TIME_SPAN.match(value) if isinstance(value, str) else None
    if found is None:
        return None
    days, hours, minutes, seconds = (int(group or 0) for group in found.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
