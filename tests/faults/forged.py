"""Messages between steps as somebody would forge them who may send to any queue: real ones, changed."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any, Final

from local.estate import JsonObject

#: What is packed within a message.
_PACKED: Final = ("fixed", "rest")
_ABSENT: Final = object()
#: Texts that begin alike are of one kind.
_ALIKE: Final = 4


def forged(
    body: JsonObject, chance: Random, texts: Sequence[str], swaps: Sequence[Mapping[str, str]]
) -> JsonObject:
    """A message with up to five of its values changed.

    Args:
        body: a real one.
        chance: decides everything.
        texts: what a text may become.
        swaps: texts each of which at times becomes the other throughout, so that the message agrees with itself.
    """
    text = json.dumps(body)
    swapped = chance.random() < 0.4
    if swapped:
        for old, new in chance.choice(swaps).items():
            text = text.replace(old, new)
    changed: JsonObject = json.loads(text)
    for _ in range(chance.choice((0, 0, 1) if swapped else (1, 1, 1, 2, 2, 3, 5))):
        places = [place for place in _places(changed) if place[0] not in ("version", "step")]
        if not places:
            break
        # What an outcome tells so far is most of a message, and leads nowhere.
        telling = [place for place in places if place[0] == "payload" and "soFar" not in place]
        of_the_call = [place for place in telling if "prepared" in place]
        wanted = next((each for each in (of_the_call, telling) if each and chance.random() < 0.7), places)
        place = chance.choice(wanted)
        holder = changed
        for part in place[:-1]:
            holder = holder[part]
        value = _another(holder[place[-1]], place[-1], chance, texts)
        if value is not _ABSENT:
            holder[place[-1]] = value
        elif isinstance(holder, dict):
            del holder[place[-1]]
    return changed


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*at, key)
        yield from _places(each, (*at, key))


def _another(value: Any, name: Any, chance: Random, texts: Sequence[str]) -> Any:
    if name in _PACKED and isinstance(value, str) and chance.random() < 0.8:
        whole = {"payload": json.loads(gzip.decompress(base64.b64decode(value)))}
        inner = forged(whole, chance, texts, ({"orders": "wages"},))
        return base64.b64encode(gzip.compress(json.dumps(inner.get("payload")).encode(), mtime=0)).decode()
    if chance.random() < 0.1:
        return chance.choice((_ABSENT, None, [], {}, "x", 5))
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return chance.choice((0, 1, 2, -1, 10**9))
    if isinstance(value, str):
        alike = [text for text in texts if text[:_ALIKE] == value[:_ALIKE] and text != value]
        return chance.choice(alike if alike and chance.random() < 0.7 else texts)
    return chance.choice((_ABSENT, None, [], {}, [value]))
