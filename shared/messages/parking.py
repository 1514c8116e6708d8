"""The bodies of parked messages: kept as they came, but packed where the properties would not fit beside them."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from typing import Any, Final

from shared.messages.reserved import BODY_ENCODING

_GZIP: Final = "gzip"
#: Bytes of a body that is kept as it is; the broker takes 256 KiB with the properties.
_LARGEST: Final = 224 * 1024
#: More than any tier of Service Bus takes.
_LONGEST: Final = 128 * 1024 * 1024


def packed(body: bytes) -> tuple[bytes, dict[str, str]]:
    """A body as it is parked, and the properties that tell how."""
    if len(body) <= _LARGEST:
        return body, {}
    # Without a time in it, equal bodies are packed alike.
    smaller = gzip.compress(body, mtime=0)
    return (smaller, {BODY_ENCODING: _GZIP}) if len(smaller) < len(body) else (body, {})


def unpacked(body: bytes, properties: Mapping[str, Any]) -> bytes:
    """The body that was parked. Raises ValueError where it is not what its properties say."""
    if properties.get(BODY_ENCODING) != _GZIP:
        return body
    return inflated(body, longest=_LONGEST)


def inflated(packed: bytes, *, longest: int) -> bytes:
    """What was packed by gzip. Raises ValueError where it is none, cut off, or longer than so many bytes."""
    reader = zlib.decompressobj(wbits=31)
    try:
        whole = reader.decompress(packed, longest)
    except zlib.error as error:
        raise ValueError(f"what is packed is no gzip: {error}") from None
    if not reader.eof:
        raise ValueError("what is packed is cut off, or larger than any message")
    return whole
