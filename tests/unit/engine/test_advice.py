"""An error whose message does not say what to do about it tells that all the same."""

from __future__ import annotations

import pytest

from shared.engine.advice import advised
from shared.messages.error_codes import ErrorCode
from shared.messages.events import ErrorInfo


def told(code: str, message: str = "It failed.", *recommendations: str) -> ErrorInfo:
    found = advised(ErrorInfo(code=code, message=message, recommendations=recommendations))
    assert found is not None
    return found


def test_what_the_service_recommends_is_not_talked_over() -> None:
    assert told("UserErrorSqlPodoesNotExist", "It failed.", "Ask the DBA.").recommendations == (
        "Ask the DBA.",
    )
    (advice,) = told("UserErrorSQLPODoesNotExist", "It failed.", " ").recommendations
    assert advice.startswith("The database was dropped or renamed")


def test_of_what_nobody_knows_anything_nothing_is_advised() -> None:
    assert told("Strange") == ErrorInfo(code="Strange", message="It failed.")
    assert advised(None) is None


@pytest.mark.parametrize(
    ("code", "message"), [("UserErrorCdc", "It failed."), ("Odd", "Change Data Capture is on.")]
)
def test_a_database_with_change_data_capture_is_restored_as_files(code: str, message: str) -> None:
    (advice,) = told(code, message).recommendations
    assert "as files only" in advice


def test_a_known_error_has_its_own_advice_though_it_speaks_of_change_data_capture() -> None:
    (advice,) = told("UserErrorSQLPODoesNotExist", "Change data capture was on.").recommendations
    assert "as files only" not in advice


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("Limit reached.", "CloudDosLimit: Limit reached."),
        ("CloudDosLimit: limit reached.", "CloudDosLimit: limit reached."),
    ],
)
def test_a_quota_of_the_day_has_one_code_and_keeps_that_of_the_service(message: str, said: str) -> None:
    error = told("CloudDosLimit", message)
    assert (error.code, error.message) == (ErrorCode.QUOTA_EXHAUSTED, said)
    assert "after 24 hours" in error.recommendations[0]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("ResourceGuardOperationNotAllowed", "It failed."),
        ("Forbidden", "The vault is protected by a resource guard."),
    ],
)
def test_what_a_resource_guard_holds_back_has_one_code_and_keeps_that_of_the_service(
    code: str, message: str
) -> None:
    error = told(code, message)
    assert (error.code, error.message) == (ErrorCode.PROTECTED_BY_RESOURCE_GUARD, f"{code}: {message}")
    assert "guard's owner" in error.recommendations[0]
    # Said again, it is not wrapped again.
    assert told(error.code, error.message) == error
