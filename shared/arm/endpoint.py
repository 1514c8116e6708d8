"""Where Azure Resource Manager is, and which URLs belong to it.

Answers carry URLs to call later: poll URLs and `nextLink`. Calls to them carry a bearer token, so each is followed
only if it leads back to the same service and stays in the same subscription.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote, urlsplit

from shared.arm.errors import ArmEndpointError
from shared.arm.redaction import printable

__all__ = ["ArmEndpoint", "RefusedUrlError"]

_DEFAULT_PORTS = {"https": 443, "http": 80}
_HOST = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*")
_REGION = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
#: several times the longest signed URL seen (3.3 KB), and far from what a message can carry
_LONGEST_URL = 32_768


class RefusedUrlError(ValueError):
    """A URL leads elsewhere; the text says how, without the query."""


@dataclass(frozen=True)
class ArmEndpoint:
    """The scheme, host and port of one Azure Resource Manager."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `ARM_ENDPOINT`. Raises ArmEndpointError where tokens must not be sent there."""

        def refuse(problem: str) -> ArmEndpointError:
            shown = printable(text.partition("?")[0].rpartition("@")[2], limit=120)
            return ArmEndpointError(shown, problem)

        if _CONTROL.search(text) or not text.isascii() or text != text.strip():
            raise refuse("contains blanks, control or other than ASCII characters")
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise refuse("is no URL") from None
        scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
        if scheme not in _DEFAULT_PORTS:
            raise refuse("is neither an https nor an http address")
        if "@" in parts.netloc:
            raise refuse("carries a user name")
        if port == 0:
            raise refuse("has port 0")
        if parts.path not in ("", "/") or "?" in text or "#" in text:
            raise refuse("has a path or a query")
        if not _HOST.fullmatch(host) and not _is_ip_address(host):
            raise refuse("has no valid host name")
        endpoint = cls(scheme, host, _DEFAULT_PORTS[scheme] if port is None else port)
        if scheme == "http" and not endpoint.is_loopback:
            raise refuse("would send tokens in the clear")
        return endpoint

    @property
    def is_loopback(self) -> bool:
        """Whether the endpoint is on this machine."""
        if self.host == "localhost":
            return True
        return _is_ip_address(self.host) and ipaddress.ip_address(self.host).is_loopback

    @property
    def is_plain_loopback(self) -> bool:
        """Whether it is a simulator over http, which is given a fixed token."""
        return self.scheme == "http" and self.is_loopback

    @property
    def url(self) -> str:
        """`scheme://host[:port]`, without a slash at the end."""
        return f"{self.scheme}://{self._authority(self.host)}"

    def _authority(self, host: str) -> str:
        shown = f"[{host}]" if ":" in host else host
        return shown if self.port == _DEFAULT_PORTS[self.scheme] else f"{shown}:{self.port}"

    def serves(self, url: str) -> bool:
        """Whether a request to `url` goes to this endpoint or to one of its regions."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            return False
        scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
        if scheme != self.scheme or "@" in parts.netloc:
            return False
        if (_DEFAULT_PORTS[scheme] if port is None else port) != self.port:
            return False
        if host == self.host:
            return True
        region, dot, rest = host.partition(".")
        return (
            bool(dot) and rest == self.host and bool(_REGION.fullmatch(region)) and not _is_ip_address(rest)
        )

    def accept(self, url: str, *, subscription_id: str) -> str:
        """`url`, made absolute and otherwise unchanged, if it may be called with a token.

        Raises:
            RefusedUrlError: another scheme, host or port, a path outside the subscription, or a URL that
                two parsers could read in two ways.
        """
        if len(url) > _LONGEST_URL:
            raise RefusedUrlError(f"a URL of {len(url)} characters is too long")
        if _CONTROL.search(url) or url != url.strip():
            raise RefusedUrlError("a URL contains control characters or starts or ends with blanks")
        if "\\" in url or "#" in url:
            raise RefusedUrlError("a URL contains a backslash or a fragment")
        if url.startswith("/") and not url.startswith("//"):
            url = self.url + url
        try:
            parts = urlsplit(url)
        except ValueError:
            raise RefusedUrlError("a URL cannot be parsed") from None
        shown = printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", limit=120)
        if "@" in parts.netloc:
            raise RefusedUrlError(f"a URL at {shown} carries a user name")
        if not self.serves(url):
            raise RefusedUrlError(f"a URL leads to {shown}, not to {self.url} or one of its regions")
        _check_path(parts.path, subscription_id)
        return url


def _check_path(path: str, subscription_id: str) -> None:
    if not path.lower().startswith(f"/subscriptions/{subscription_id.lower()}/"):
        raise RefusedUrlError("a URL leaves the request's subscription")
    for raw in path[1:].split("/"):
        # A database may be called `dom\app` or `50%2foff`; what a name may not do is climb, by any reading.
        if "/" in unquote(raw) or ("\\" in unquote(raw) and _climbs(unquote(raw))):
            raise RefusedUrlError("a URL hides a slash in its path")
        # Twice, since something on the way may decode once more than it should.
        for segment in (unquote(raw), unquote(unquote(raw))):
            if _CONTROL.search(segment):
                raise RefusedUrlError("a URL hides a control character in its path")
            if _climbs(segment):
                raise RefusedUrlError("a URL climbs in its path")
    if "//" in path:
        raise RefusedUrlError("a URL has an empty segment in its path")


def _climbs(segment: str) -> bool:
    return any(part.strip() in (".", "..") for part in re.split(r"[/\\;]", segment))


def _is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
