"""docs/operations.md explains every error code that the app gives, and no other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import get_args

from shared.arm import errors as arm_errors
from shared.azure_backup.listings import UnusableCode
from shared.engine.advice import advised
from shared.messages.error_codes import ErrorCode
from shared.messages.events import ErrorInfo, Status
from tests.unit.docs.markdown import ROOT, code, read, rows, section

TABLE = {
    name: row for row in rows(section(read("docs/operations.md"), "Error codes")) for name in code(row[0])
}
SOURCES = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "shared").rglob("*.py"))}
#: Those of the service that the app gives in its place, and those that have a job's status in them.
OTHERS = {"UserErrorSQLPODoesNotSupportBackupType", "JobFailed", "JobCancelled"}


def literal_codes() -> Iterator[str]:
    """The literals that stand where the code of an error stands."""
    for text in SOURCES.values():
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            places = node.args[:1] if name in ("Failure", "refused") else []
            places = [*places, *(keyword.value for keyword in node.keywords if keyword.arg == "code")]
            for place in places:
                if isinstance(place, ast.Constant) and isinstance(place.value, str):
                    yield place.value


def call_codes() -> set[str]:
    """The codes of calls that did not come to an answer of the service."""
    return {
        name.removesuffix("Error")
        for name in arm_errors.__all__
        if issubclass(getattr(arm_errors, name), arm_errors.ArmError)
    } - {"Arm", "ArmStatus"}


def own_codes() -> set[str]:
    return {*ErrorCode, *get_args(UnusableCode)}


def test_the_codes_that_the_app_gives_are_explained_and_no_others() -> None:
    assert set(TABLE) == own_codes() | call_codes() | OTHERS


def test_no_code_is_given_that_is_not_listed() -> None:
    assert set(literal_codes()) <= own_codes() | OTHERS


def test_the_outcome_of_a_call_without_an_answer_says_what_to_do() -> None:
    for name in call_codes():
        told = advised(ErrorInfo(code=name, message="what happened"))
        assert told is not None
        assert told.recommendations, name


def test_no_code_is_listed_that_the_app_does_not_give() -> None:
    everything = "\n".join(SOURCES.values())
    assert {code.name for code in ErrorCode if f"ErrorCode.{code.name}" not in everything} == set()
    assert set(literal_codes()) >= OTHERS - {"JobFailed", "JobCancelled"}


def test_each_code_has_real_statuses_and_an_advice() -> None:
    statuses = {status.value for status in Status}
    for name, row in TABLE.items():
        assert set(row[1].split(", ")) <= statuses, name
        assert row[2], name
        assert row[3], name
