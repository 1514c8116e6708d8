"""Requests and responses between the socket server and the simulator."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Request:
    """An HTTP request. `path` is as sent (still percent-encoded), header names are in lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    origin: str
    """Scheme, host and port that the client used; poll URLs and next links begin with it."""


@dataclass
class Response:
    """An HTTP response, and how the connection has to send it."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    drop: bool = False
    """Close the connection without sending anything."""
    drop_mid_body: bool = False
    """Send half of the body, then close the connection."""
    delay: float = 0.0
    """Real seconds to wait before sending."""
