"""Every id the simulator hands out, from one seed: the same requests in the same order get the same ids."""

from __future__ import annotations

import base64
import hashlib
import hmac
import random
import uuid


class Identifiers:
    """GUIDs and numbers of a seeded sequence."""

    def __init__(self, seed: int) -> None:
        self._objects = random.Random(f"objects {seed}")
        self._requests = random.Random(f"requests {seed}")
        self._past = random.Random(f"past {seed}")

    def guid(self) -> str:
        """A GUID for an operation, a job or another object."""
        return str(uuid.UUID(int=self._objects.getrandbits(128), version=4))

    def past_guid(self) -> str:
        """A GUID for a job from before the simulator began."""
        return str(uuid.UUID(int=self._past.getrandbits(128), version=4))

    def request_guid(self) -> str:
        """A GUID for a request, from a sequence of its own so that polling changes no other id."""
        bits = f"{self._requests.getrandbits(128):032x}"
        return f"{bits[:8]}-{bits[8:12]}-4{bits[13:16]}-a{bits[17:20]}-{bits[20:]}"

    def number(self) -> str:
        """A number of 15 digits, as recovery points and data sources are named."""
        return str(self._objects.randrange(10**14, 10**15))


class UrlSigner:
    """Signs the URLs of operations as ARM has done since 2025: by `t`, `c`, `s` and `h`, about 3 KB."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(f"certificate {seed}")
        self._key = chance.randbytes(32)
        self.certificate = _text(chance.randbytes(1950))

    def sign(self, path: str, ticks: int) -> str:
        """The query parameters to append to the URL of `path`, beginning with `&`."""
        signature, digest = self._parts(path, str(ticks))
        return f"&t={ticks}&c={self.certificate}&s={signature}&h={digest}"

    def verify(self, path: str, query: dict[str, str]) -> bool:
        """Whether the four parameters are those handed out for `path`, or all absent."""
        given = {name: query.get(name) for name in ("t", "c", "s", "h")}
        if not any(given.values()):
            return True
        signature, digest = self._parts(path, given["t"] or "")
        return (
            hmac.compare_digest(given["c"] or "", self.certificate)
            and hmac.compare_digest((given["s"] or "").encode(), signature.encode())
            and hmac.compare_digest((given["h"] or "").encode(), digest.encode())
        )

    def _parts(self, path: str, ticks: str) -> tuple[str, str]:
        message = f"{path.lower()}\n{ticks}".encode()
        long = hashlib.shake_256(self._key + message).digest(256)
        short = hmac.new(self._key, message, hashlib.sha256).digest()
        return _text(long), _text(short)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
