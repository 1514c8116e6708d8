r"""Paths on the disks of a Windows VM: an allow-list of what Windows, SQL Server and the service agree on.

Follows https://learn.microsoft.com/windows/win32/fileio/naming-a-file. A path is absolute: on a drive
(`F:\Data\orders.mdf`) or on a network share (`\\server\share\orders.mdf`). No device path, no URL, no relative
path, no `..`, no stream of a file, no name that Windows reserves, changes or cannot make.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Annotated, Final

from pydantic import AfterValidator, Field

#: The longest path that programs take, including the end of the string (MAX_PATH).
LONGEST_PATH: Final = 259
_LONGEST_NAME: Final = 255
_SEPARATOR: Final = "\\"
_SHARE: Final = "\\\\"
_DRIVE: Final = re.compile(r"([A-Za-z]):(\\+|$)", re.ASCII)
_SERVER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}", re.ASCII)
#: Shares of a server that are not for files.
_NO_SHARES: Final = frozenset({"pipe", "mailslot", "ipc$"})
_ACCEPTED: Final = (
    r"expected an absolute path on a drive of the VM, such as F:\Data, or on a network share, such as"
    r" \\server\share"
)
_REFUSED: Final = frozenset('<>:"/\\|?*')
#: Control characters, halves of surrogate pairs, line and paragraph separators, marks that turn the direction.
_REFUSED_CATEGORIES: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
_TURNING: Final = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_RESERVED: Final = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|clock\$|com[0-9\u00b9\u00b2\u00b3]|lpt[0-9\u00b9\u00b2\u00b3])"
)


def windows_directory(text: str) -> str:
    r"""The path of a directory, with backslashes; one at its end stays, and `F:` is `F:\`.

    Raises ValueError that says what is accepted.
    """
    root, names = _parts(text)
    return root + _SEPARATOR.join(names) + (_SEPARATOR if names and _ends_as_directory(text) else "")


def _ends_as_directory(text: str) -> bool:
    return text[-1:] in ("/", _SEPARATOR)


def windows_file(text: str) -> str:
    """The path of a file, with backslashes. Raises ValueError that says what is accepted."""
    root, names = _parts(text)
    if not names or _ends_as_directory(text):
        raise ValueError(
            "expected the path of a file with its name, such as F:\\Data\\orders.mdf; this is a directory"
        )
    return root + _SEPARATOR.join(names)


def _parts(text: str) -> tuple[str, list[str]]:
    """The drive or share at the start of a path, and the names after it."""
    if "://" in text:
        raise ValueError(f"{_ACCEPTED}; this is a URL")
    path = text.replace("/", _SEPARATOR)
    drive = _DRIVE.match(path)
    if drive is not None:
        root, rest = f"{drive.group(1)}:{_SEPARATOR}", path[drive.end() :]
    elif path.startswith(_SHARE):
        server, _, rest = path[2:].partition(_SEPARATOR)
        if _SERVER.fullmatch(server) is None:
            raise ValueError(f"{_ACCEPTED}; this names a device, or no server")
        root = f"{_SHARE}{server}{_SEPARATOR}"
        if not rest.strip(_SEPARATOR):
            raise ValueError(f"{_ACCEPTED}; this names a server, and no share of it")
        if same(rest.lstrip(_SEPARATOR).partition(_SEPARATOR)[0]) in _NO_SHARES:
            raise ValueError(f"{_ACCEPTED}; this names no share for files")
    else:
        raise ValueError(f"{_ACCEPTED}; this is a relative path")
    names = [name for name in rest.split(_SEPARATOR) if name]
    for name in names:
        _check_name(name)
    whole = root + _SEPARATOR.join(names)
    if length(whole) > LONGEST_PATH:
        raise ValueError(f"expected a path of at most {LONGEST_PATH} characters")
    return root, names


def _check_name(name: str) -> None:
    """Raise ValueError for the name of a file or directory that Windows reserves, changes or cannot make."""
    if any(_is_refused(character) for character in name):
        raise ValueError('expected a path without control characters and < > : " | ? * in its names')
    if name[-1] in ". ":
        raise ValueError("expected a path whose names do not end in a dot or a blank: Windows drops those")
    if is_reserved(name):
        raise ValueError(
            f"expected a path without the names that Windows reserves for devices, such as {name}"
        )
    if length(name) > _LONGEST_NAME:
        raise ValueError(f"expected names of at most {_LONGEST_NAME} characters in a path")


def _is_refused(character: str) -> bool:
    return (
        character in _REFUSED
        or character in _TURNING
        or unicodedata.category(character) in _REFUSED_CATEGORIES
    )


def is_reserved(name: str) -> bool:
    """Whether Windows treats a name as a device's, whatever follows its first dot."""
    return _RESERVED.fullmatch(name.partition(".")[0].rstrip(" ").lower()) is not None


def is_share(path: str) -> bool:
    """Whether a path leads to a network share."""
    return path.startswith(_SHARE)


def same(path: str) -> str:
    """The key by which paths compare: Windows ignores case."""
    return path.lower()


def directories_above(path: str) -> list[str]:
    """The directories that a path leads through, as `same` compares them, without a backslash at the end."""
    names = same(path).rstrip(_SEPARATOR).split(_SEPARATOR)
    return [_SEPARATOR.join(names[:count]) for count in range(1, len(names))]


def length(text: str) -> int:
    """The length of a text as Windows and SQL Server count it, in UTF-16 code units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def shortened(text: str, longest: int) -> str:
    """A text of at most `longest` UTF-16 code units: itself, else its beginning and a hash of the whole."""
    if length(text) <= longest:
        return text
    mark = _mark(text)
    kept = text
    while length(kept) > longest - len(mark):
        kept = kept[: len(kept) - max(1, (length(kept) - longest + len(mark)) // 2)]
    return kept.rstrip(" .") + mark


def file_name(text: str) -> str:
    """A text as the name of a file: itself, else without what Windows refuses, and with a hash of the whole."""
    name = "".join("_" if _is_refused(character) else character for character in text).rstrip(" .")
    if not name or is_reserved(name):
        name = f"_{name}"
    return name if name == text else name + _mark(text)


def _mark(text: str) -> str:
    """The hash that keeps names of different texts apart."""
    return "_" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


_SCHEMA: Final = r"^([A-Za-z]:|[\\/]{2}[A-Za-z0-9_])"

WindowsDirectory = Annotated[
    str,
    Field(min_length=1, json_schema_extra={"pattern": _SCHEMA, "maxLength": LONGEST_PATH}),
    AfterValidator(windows_directory),
]
WindowsFile = Annotated[
    str,
    Field(min_length=1, json_schema_extra={"pattern": _SCHEMA, "maxLength": LONGEST_PATH}),
    AfterValidator(windows_file),
]
