"""Fixtures of the fault tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.faults.observing import Estates


@pytest.fixture
def estate() -> Iterator[Estates]:
    """Opens estates that are closed at the end of the test."""
    with ExitStack() as stack:
        yield Estates(stack)
