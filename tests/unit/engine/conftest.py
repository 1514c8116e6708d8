"""The app that the tests of the engine share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.app import App, open_app


@pytest.fixture
def app() -> Iterator[App]:
    """An app that Azure has told the time."""
    with open_app(answered=True) as opened:
        yield opened


@pytest.fixture
def new_app() -> Iterator[App]:
    """An app that has not heard of Azure yet."""
    with open_app() as opened:
        yield opened
