"""Strings written by .NET's binary data contract serializer: bodies of `new BrokeredMessage("text")`. The bytes are
one XML element in .NET's binary format, by the specification
[MC-NBFX](https://learn.microsoft.com/openspecs/windows_protocols/mc-nbfx/).
"""

from __future__ import annotations

from typing import Final

_NAME: Final = b"string"
_NAMESPACE: Final = b"http://schemas.microsoft.com/2003/10/Serialization/"
#: A short element without a prefix, its name, its default namespace; each text after its length.
_START: Final = b"".join((b"\x40", bytes([len(_NAME)]), _NAME, b"\x08", bytes([len(_NAMESPACE)]), _NAMESPACE))
_END_ELEMENT: Final = 0x01
#: Text records with a length: how many bytes the length has. The next record number also ends the element.
_CHARS: Final = {0x98: 1, 0x9A: 2, 0x9C: 4}
#: Records that stand for a text.
_CONSTANTS: Final = {0x80: "0", 0x82: "1", 0xA8: ""}


class NoDataContractStringError(ValueError):
    """The bytes are not a string of the data contract serializer."""


def read_string(body: bytes) -> str:
    """The string in `body`. Raises NoDataContractStringError unless it holds exactly one."""
    if not body.startswith(_START):
        raise NoDataContractStringError("it does not begin with the element of a string")
    parts: list[str] = []
    at, open_element = len(_START), True
    while open_element:
        if at >= len(body):
            raise NoDataContractStringError("it is cut off")
        record, at = body[at], at + 1
        if record == _END_ELEMENT:
            break
        kind = record & ~1
        open_element = kind == record
        if kind in _CONSTANTS:
            parts.append(_CONSTANTS[kind])
        elif kind in _CHARS:
            size = _CHARS[kind]
            length, at = int.from_bytes(body[at : at + size], "little"), at + size
            if at + length > len(body):
                raise NoDataContractStringError("it is cut off")
            try:
                parts.append(body[at : at + length].decode("utf-8"))
            except UnicodeDecodeError as error:
                raise NoDataContractStringError("its text is not UTF-8") from error
            at += length
        else:
            raise NoDataContractStringError(f"it holds a record of type {record:#x}, which is no text")
    if at != len(body):
        raise NoDataContractStringError("more follows on the string")
    return "".join(parts)
