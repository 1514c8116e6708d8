"""The outcome of a drill whose check or clean-up ended before its script told anything."""

from __future__ import annotations

import pytest

from shared.engine.result import End
from shared.messages.events import DrillInfo, ErrorInfo, OutcomeDetails, Status
from shared.steps.drill_results import conclude_check, conclude_clean_up
from tests.unit.steps.drills import NAME, RESTORED, drill, message

ERROR = ErrorInfo(code="Forbidden", message="No right.")
FAILED = End(Status.FAILED, ERROR)
#: an end that tells of the drill already
TOLD = End(
    Status.FAILED, ERROR, OutcomeDetails(drill=DrillInfo(database=NAME, check="checkdb", cleaned_up=True))
)


def test_a_check_that_ended_by_itself_keeps_what_the_restore_proved() -> None:
    end = conclude_check(message("check_drill"), FAILED)
    assert (end.status, end.error) == (Status.FAILED, ERROR)
    assert end.details.drill is not None
    assert (end.details.drill.restore_seconds, end.details.drill.cleaned_up) == (60.0, False)


def test_a_clean_up_that_ended_by_itself_is_a_warning() -> None:
    end = conclude_clean_up(message("clean_up_drill"), FAILED)
    assert (end.status, end.error) == (Status.SUCCEEDED_WITH_WARNINGS, None)
    assert end.details.warnings == (
        f"{NAME} was not dropped, and is replaced by the next drill of its source: Forbidden: No right.",
    )
    nameless = RESTORED.model_copy(update={"details": OutcomeDetails(warnings=("Slow.",))})
    end = conclude_clean_up(message("clean_up_drill", drill(so_far=nameless)), FAILED)
    assert end.details.warnings[0] == "Slow."
    assert end.details.warnings[1].startswith("the drill database was not dropped")


@pytest.mark.parametrize("conclude", [conclude_check, conclude_clean_up])
def test_what_is_told_already_or_proved_nothing_is_left_as_it_is(conclude: object) -> None:
    assert callable(conclude)
    assert conclude(message("check_drill"), TOLD) is TOLD
    assert conclude(message("check_drill", drill(so_far=None)), FAILED) is FAILED


def test_a_clean_up_without_an_error_is_left_as_it_is() -> None:
    done = End(Status.SUCCEEDED)
    assert conclude_clean_up(message("clean_up_drill"), done) is done
