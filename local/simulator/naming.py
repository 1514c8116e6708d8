"""ARM ids and the names of containers and items, in every casing the service uses.

The casing varies on purpose, as in the service: a registered container is `VMAppContainer;Compute;rg;vm`, the same one
inside a protected item's id `VMAppContainer;compute;rg;vm`, inside a protectable item's id all lower case.

Ids are percent-encoded and names are not: recorded in 2023 for containers of a resource group whose name is not
ASCII (`VMAppContainer;Compute;ztst-%E4%B8%AD...;zvmtst-2`), where `;` is not encoded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote


def encoded(name: str) -> str:
    """A name, or a path of names without slashes, percent-encoded as in an `id`."""
    return quote(name, safe="/;:@!$&'()*+,=~")


def quoted_path(path: str) -> str:
    """A path, percent-encoded as in URLs that the service hands out."""
    return quote(path, safe="/;:@!$'()*+,=~-._")


def encoded_segment(name: str) -> str:
    """A name that may contain a slash, percent-encoded as in an `id`."""
    return encoded(name).replace("/", "%2F")


@dataclass(frozen=True)
class VmName:
    """A virtual machine's resource group and name, in their real casing; compared by `key`."""

    resource_group: str
    name: str

    @property
    def key(self) -> str:
        return f"{self.resource_group};{self.name}".lower()

    @property
    def container(self) -> str:
        """The registered container's name."""
        return f"VMAppContainer;Compute;{self.resource_group};{self.name}"

    @property
    def container_in_item(self) -> str:
        """The container's name inside a protected item."""
        return f"VMAppContainer;compute;{self.key}"

    @property
    def container_in_protectable(self) -> str:
        """The container's name inside a protectable item."""
        return f"vmappcontainer;compute;{self.key}"

    def vm_id(self, subscription: str) -> str:
        """The virtual machine's ARM id."""
        return (
            f"/subscriptions/{subscription}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.Compute/virtualMachines/{self.name}"
        )


@dataclass(frozen=True)
class GroupName:
    """An availability group's name, and the GUID that its container is named by."""

    name: str
    guid: str

    @property
    def key(self) -> str:
        return self.container.lower()

    @property
    def container(self) -> str:
        """The container's name."""
        return f"SQLAGWorkLoadContainer;{self.guid}"

    @property
    def container_in_item(self) -> str:
        """The container's name inside a protected item."""
        return self.container

    @property
    def container_in_protectable(self) -> str:
        """The container's name inside a protectable item."""
        return self.key


_CONTAINER = re.compile(r"vmappcontainer;compute;([^;/]+);([^;/]+)", re.IGNORECASE)
_GROUP_CONTAINER = re.compile(r"sqlagworkloadcontainer;[0-9a-f-]+", re.IGNORECASE)
_ITEM = re.compile(r"sqldatabase;([^;/]+);(.+)", re.IGNORECASE | re.DOTALL)


def container_key(name: str) -> str | None:
    """A container's key (of a machine `rg;vm`) for its name in any casing; None if it is not such a name."""
    if _GROUP_CONTAINER.fullmatch(name):
        return name.lower()
    match = _CONTAINER.fullmatch(name)
    return f"{match.group(1)};{match.group(2)}".lower() if match else None


def item_key(name: str) -> tuple[str, str] | None:
    """(instance, database) in lower case for a protected item's name; None if it is not such a name."""
    match = _ITEM.fullmatch(name)
    return (match.group(1).lower(), match.group(2).lower()) if match else None


_ID = re.compile(
    r"/subscriptions/([^/]+)/resourcegroups/([^/]+)/providers/([^/]+)/([^/]+)/([^/]+)(/.*)?", re.IGNORECASE
)


@dataclass(frozen=True)
class ResourceId:
    """The parts of an ARM id, lower-cased; `rest` is what follows the top resource, without the slash."""

    subscription: str
    resource_group: str
    provider: str
    kind: str
    name: str
    rest: tuple[str, ...]


def parse_id(text: object) -> ResourceId | None:
    """The parts of an ARM id, percent-encoded or not; None if it is not one."""
    match = _ID.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    *names, rest = (part.lower() if part else "" for part in match.groups())
    subscription, group, provider, kind, name = map(unquote, names)
    below = tuple(map(unquote, rest.strip("/").split("/"))) if rest else ()
    return ResourceId(subscription, group, provider, kind, name, below)
