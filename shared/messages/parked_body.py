"""The bodies of parked messages: kept as they came, or compressed where they would leave no room for properties."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from typing import Any, Final

from shared.messages.reserved import BODY_ENCODING

_GZIP: Final = "gzip"
#: The largest body, in bytes, that is kept as it is; the broker takes 256 KiB with the properties.
_LARGEST: Final = 224 * 1024
#: More than any tier of Service Bus takes.
_LONGEST: Final = 128 * 1024 * 1024


def packed(body: bytes) -> tuple[bytes, dict[str, str]]:
    """A body in its parked form, and the properties that describe that form."""
    if len(body) <= _LARGEST:
        return body, {}
    # Without a timestamp in it, equal bodies are packed alike.
    smaller = gzip.compress(body, mtime=0)
    return (smaller, {BODY_ENCODING: _GZIP}) if len(smaller) < len(body) else (body, {})


def unpacked(body: bytes, properties: Mapping[str, Any]) -> bytes:
    """The body that was parked. Raises ValueError where it does not fit its properties."""
    if properties.get(BODY_ENCODING) != _GZIP:
        return body
    return inflated(body, longest=_LONGEST)


def inflated(packed: bytes, *, longest: int) -> bytes:
    """Decompress gzip data. Raises ValueError where it is invalid, cut off, or longer than `longest` bytes."""
    reader = zlib.decompressobj(wbits=31)
    try:
        whole = reader.decompress(packed, longest)
    except zlib.error as error:
        raise ValueError(f"what is packed is no gzip: {error}") from None
    if not reader.eof:
        raise ValueError("what is packed is cut off, or larger than any message")
    return whole
