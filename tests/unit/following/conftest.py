"""The app that the tests of the tracker share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.app import App
from tests.unit.following.apps import tracking_app


@pytest.fixture
def app() -> Iterator[App]:
    """An app that polls every half a minute, and that Azure has told the time."""
    with tracking_app() as opened:
        yield opened
