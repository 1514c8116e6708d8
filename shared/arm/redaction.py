"""Text that may be shown: without secrets, without control characters, of bounded length."""

from __future__ import annotations

import re

__all__ = ["printable", "redact"]

_USER = re.compile(r"(https?://)[^\s/?#@\"]*@", re.IGNORECASE)
_QUERY = re.compile(r"(\bhttps?://[^\s\"'<>?]+)\?[^\s\"'<>]*", re.IGNORECASE)
#: A server that names what it was asked for may leave the scheme and host out.
_QUERY_OF_PATH = re.compile(r"(/[^\s\"'<>?]*)\?[^\s\"'<>=]*=[^\s\"'<>]*")
_BEARER = re.compile(r"\b(Bearer|Basic|SharedAccessSignature)\s+[A-Za-z0-9._~+/=%&:-]{8,}", re.IGNORECASE)
_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)?")
_ASSIGNED = re.compile(
    r"(?i)\b(client_secret|client_assertion|access_token|refresh_token|password|sharedaccesskey|sig)"
    r"(\"?\s*[=:]\s*\"?)[^\s&\"',;]+"
)


def printable(text: object, *, limit: int | None = None) -> str:
    """`text` on one line, control characters escaped, cut to `limit` characters."""
    shown = str(text)
    if limit is not None and len(shown) > limit:
        shown = shown[: limit - 3] + "..."
    if shown.isprintable():
        return shown
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in shown
    )


def redact(text: object, *, limit: int = 500) -> str:
    """`text` for a log or an error: no tokens, secrets, users or queries of URLs, on one line, at most `limit`."""
    # Cut generously first, so that a body of megabytes is not searched whole.
    shown = str(text)[: limit * 8]
    shown = _USER.sub(r"\1...@", shown)
    shown = _QUERY.sub(r"\1?...", shown)
    shown = _QUERY_OF_PATH.sub(r"\1?...", shown)
    shown = _BEARER.sub(r"\1 ...", shown)
    shown = _JWT.sub("...", shown)
    shown = _ASSIGNED.sub(r"\1\2...", shown)
    return printable(" ".join(shown.split()), limit=limit)
