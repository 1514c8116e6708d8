"""Apps as the tests of the tracker need them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime

from tests.unit.app import App, open_app
from tests.unit.examples import NOW


def tracking_app(start: datetime = NOW) -> AbstractContextManager[App]:
    """An app that polls every half a minute, and that Azure has told the time."""
    return open_app({"TRACK_INTERVAL": "PT30S"}, start, answered=True)
