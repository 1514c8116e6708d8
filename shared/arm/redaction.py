"""Text that may be shown: without secrets, without control characters, of bounded length."""

from __future__ import annotations

import re

__all__ = ["printable", "redact"]

_USER = re.compile(r"(https?://)[^\s/?#@\"]*@", re.IGNORECASE)
#: What stands before a question mark, from its beginning: tried anew within it, a long text would take forever.
_QUERY = re.compile(r"(?<![^\s\"'<>?])([^\s\"'<>?]++)\?([^\s\"'<>]*)")
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
    shown = _QUERY.sub(_without_query, shown)
    shown = _BEARER.sub(r"\1 ...", shown)
    shown = _JWT.sub("...", shown)
    shown = _ASSIGNED.sub(r"\1\2...", shown)
    return printable(" ".join(shown.split()), limit=limit)


def _without_query(found: re.Match[str]) -> str:
    """A URL without its query; of a path, which a server may name without scheme and host, likewise."""
    place, query = found.groups()
    return f"{place}?..." if "://" in place or ("/" in place and "=" in query) else found[0]
