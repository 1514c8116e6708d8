"""`host.json`: the platform's defaults, and every bad value named at once."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from local.host import HostSettings, HostSettingsError, read_host_json


def written(directory: Path, content: Any) -> Path:
    path = directory / "host.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_defaults_hold_where_there_is_no_file(tmp_path: Path) -> None:
    assert read_host_json(tmp_path / "host.json") == HostSettings()


def test_settings_are_read(tmp_path: Path) -> None:
    section = {
        "maxConcurrentCalls": 4,
        "maxMessageBatchSize": 200,
        "minMessageBatchSize": 2,
        "maxBatchWaitTime": "00:00:01",
        "maxAutoLockRenewalDuration": "1.00:00:00",
        "autoCompleteMessages": False,
        "prefetchCount": 0,
    }
    path = written(tmp_path, {"extensions": {"serviceBus": section}, "functionTimeout": "-1"})
    assert read_host_json(path) == HostSettings(
        max_concurrent_calls=4,
        max_message_batch_size=200,
        min_message_batch_size=2,
        max_batch_wait_time=timedelta(seconds=1),
        max_auto_lock_renewal_duration=timedelta(days=1),
        auto_complete_messages=False,
        function_timeout=None,
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", ["host.json is not JSON"]),
        ([], ["expected a JSON object"]),
        (
            {"functionTimeout": "5 minutes", "extensions": {"serviceBus": {"maxConcurrentCalls": 0}}},
            ["maxConcurrentCalls: expected a whole number", "functionTimeout: expected a time span"],
        ),
        ({"extensions": {"serviceBus": {"autoCompleteMessages": "no"}}}, ["expected true or false"]),
    ],
)
def test_bad_settings_are_all_named(content: Any, expected: list[str], tmp_path: Path) -> None:
    with pytest.raises(HostSettingsError) as caught:
        read_host_json(written(tmp_path, content))
    assert all(part in str(caught.value) for part in expected)
