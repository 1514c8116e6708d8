"""Settings: read once, and every problem named at once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.messages.requests import Operation
from shared.settings import SettingsError, read_settings


def test_without_any_setting_the_defaults_hold() -> None:
    settings = read_settings({})
    assert settings.arm_endpoint == "https://management.azure.com"
    assert settings.workflows == frozenset(Operation)
    assert settings.operation_timeout == timedelta(hours=2)
    assert settings.job_timeout == timedelta(days=7)
    assert settings.track_interval == timedelta(seconds=5)
    assert not settings.events_allow_restore
    assert not settings.restore_allow_overwrite


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ARM_ENDPOINT", "http://management.azure.com", "https"),
        ("ARM_ENDPOINT", "https://management.azure.com/x", "without a path"),
        ("ARM_ENDPOINT", "https://u:p@management.azure.com", "URL"),
        ("ARM_ENDPOINT", "https://management azure.com", "(this has no valid host name)"),
        ("ARM_ENDPOINT", "https://management.azure.com:0", "(this has port 0)"),
        ("WORKFLOWS", "protect,destroy", "protect, backup, restore, coverage and drill"),
        ("COVERAGE_SCHEDULES", "{}", "JSON list"),
        ("MUTATIONS", "false", "on or off"),
        ("BACKUP_SCHEDULES", "{}", "JSON list"),
        ("BACKUP_SCHEDULES", "[" * 100_000, "JSON list"),
        ("DRILL_TARGETS", "[" * 70 + "]" * 70, "64 levels"),
        ("RESTORE_ALLOWED_TARGETS", "[" * 100_000, "JSON list"),
        ("EVENTS_ALLOW_RESTORE", "perhaps", "true or false"),
        ("RESTORE_ALLOWED_TARGETS", "*", "JSON list"),
        ("RESTORE_ALLOWED_PATHS", "[1]", "JSON list"),
        ("RESTORE_ALLOW_OVERWRITE", "yes", "true or false"),
        ("OPERATION_TIMEOUT", "2h", "ISO 8601"),
        ("JOB_TIMEOUT", "PT0S", "longer than zero"),
        ("JOB_TIMEOUT", "P1M", "ISO 8601"),
        ("TRACK_INTERVAL", "-PT1S", "ISO 8601"),
        ("TIME_SCALE", "0", "greater than 0"),
        ("TIME_SCALE", "nan", "greater than 0"),
        ("TIME_SCALE", "0.01", "loopback"),
    ],
)
def test_a_bad_setting_is_named_with_what_is_accepted(name: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read_settings({name: value})
    (problem,) = raised.value.problems
    assert problem.startswith(f"{name}:")
    assert said in problem


def test_every_problem_is_named_at_once() -> None:
    broken = {"JOB_TIMEOUT": "soon", "WORKFLOWS": "x", "RESTORE_ALLOWED_PATHS": "x", "TIME_SCALE": "0.5"}
    with pytest.raises(SettingsError) as raised:
        read_settings(broken)
    assert {problem.partition(":")[0] for problem in raised.value.problems} == set(broken)


def test_a_bad_endpoint_is_the_one_problem_whatever_the_scale() -> None:
    with pytest.raises(SettingsError) as raised:
        read_settings({"ARM_ENDPOINT": "ftp://x", "TIME_SCALE": "0.01"})
    assert [problem.partition(":")[0] for problem in raised.value.problems] == ["ARM_ENDPOINT"]


@pytest.mark.parametrize(
    "endpoint",
    ["http://127.0.0.1:8080", "http://127.0.0.2:8080", "http://localhost:1", "http://[::1]:8080"],
)
def test_a_simulator_on_loopback_may_run_fast(endpoint: str) -> None:
    settings = read_settings({"ARM_ENDPOINT": endpoint, "TIME_SCALE": "0.01"})
    assert settings.on_loopback
    assert settings.time_scale == 0.01


def test_blank_settings_are_absent_ones() -> None:
    assert read_settings({"WORKFLOWS": " ", "JOB_TIMEOUT": ""}) == read_settings({})


def test_a_password_in_a_setting_is_not_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({"ARM_ENDPOINT": "http://user:s3cret@127.0.0.1:8080/?sig=abc"})
    assert "s3cret" not in str(caught.value)
    assert "abc" not in str(caught.value)
