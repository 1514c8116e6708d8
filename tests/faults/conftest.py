"""Fixtures of the fault tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.faults.estate import open_faulty
from tests.faults.observing import OpenEstate


@pytest.fixture
def open_estate() -> Iterator[OpenEstate]:
    """Opens estates that are closed at the end of the test.

    A test with many estates (each example of Hypothesis, each effect of a flow) closes them sooner, by `open_faulty`.
    """
    with ExitStack() as stack:
        yield lambda *given, **options: stack.enter_context(open_faulty(*given, **options))
