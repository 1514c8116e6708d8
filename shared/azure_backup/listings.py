"""Listings: the entries that this app can use, and those that it cannot, each with the reason.

Both come in one value that has to be taken apart, so that nobody forgets the second half.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Final, Generic, Literal, NamedTuple, TypeVar

from pydantic import AliasPath, BeforeValidator, Field

from shared.arm.ids import ContainerId, InvalidResourceIdError
from shared.arm.redaction import printable
from shared.azure_backup.models import (
    AVAILABILITY_GROUP_CONTAINER,
    OptionalVirtualMachine,
    WireModel,
)

__all__ = ["LONGEST_NAME", "Listing", "Unusable", "unusable_entries"]

M = TypeVar("M")

#: The longest name that anything has: names in SQL Server have at most 128 characters.
LONGEST_NAME: Final = 512
_WHOLE: Final = "*"

#: Why an entry cannot be used: the error's code where a request names the entry outright.
UnusableCode = Literal[
    "NotAddressable", "NotReadable", "ProtectedAsInstance", "ProtectedBySnapshots", "KindNotSupported"
]


class Unusable(WireModel):
    """An entry that Azure lists and that this app cannot use."""

    code: UnusableCode
    #: the reason for people, a sentence without its subject
    why: str
    #: the name that Azure gives, never printed unescaped; of a database, the database's name
    name: str
    #: whether neither name nor id could be read: `name` is then its place in the listing
    is_nameless: bool = False
    #: the instance or the availability group of a database; empty where unknown
    parent: str = ""
    #: whether an instance is protected as a whole: this entry, `*`, means each of its databases
    is_whole_instance: bool = False
    in_availability_group: bool = False
    virtual_machine_id: OptionalVirtualMachine = None
    #: the container that it is listed in, where known
    container: ContainerId | None = None
    is_database: bool = True

    @property
    def shown(self) -> str:
        """Its name, escaped for people."""
        return printable(self.name)

    @property
    def reason(self) -> str:
        """The code, in the form of a reason for skipping databases."""
        return self.code[:1].lower() + self.code[1:]


class Listing(NamedTuple, Generic[M]):
    """A complete listing."""

    usable: list[M]
    unusable: list[Unusable]


def _text_or_blank(value: object) -> object:
    return value if isinstance(value, str) else ""


#: An unusable entry may hold anything: a value that is no text counts as missing.
_AnyText = Annotated[str, BeforeValidator(_text_or_blank)]


class _Entry(WireModel):
    """The fields that are read of an entry that cannot be used."""

    id: _AnyText = ""
    name: _AnyText = ""
    friendly_name: _AnyText = Field(default="", validation_alias=AliasPath("properties", "friendlyName"))
    parent_name: _AnyText = Field(default="", validation_alias=AliasPath("properties", "parentName"))
    parent_type: _AnyText = Field(default="", validation_alias=AliasPath("properties", "parentType"))
    virtual_machine_id: OptionalVirtualMachine = Field(
        default=None, validation_alias=AliasPath("properties", "sourceResourceId")
    )
    item_type: _AnyText = Field(default="", validation_alias=AliasPath("properties", "protectableItemType"))
    protected_type: _AnyText = Field(
        default="", validation_alias=AliasPath("properties", "protectedItemType")
    )
    #: of an instance that is protected as a whole
    databases: Any = Field(default=None, validation_alias=AliasPath("properties", "childDatabaseNameList"))

    @property
    def own_name(self) -> str:
        """Its own name, from whichever field tells it; empty where none does."""
        return (
            self.friendly_name
            or self.name.rpartition(";")[2]
            or self.id.rpartition("/")[2].rpartition(";")[2]
        )

    @property
    def parent(self) -> str:
        """The instance or availability group, from the entry's name where no field tells it."""
        kind, _, rest = self.name.partition(";")
        of_name = rest.partition(";")[0] if kind.lower() == "sqldatabase" and ";" in rest else ""
        return self.parent_name if 0 < len(self.parent_name) <= LONGEST_NAME else of_name or self.parent_name


def unusable_entries(body: object, code: UnusableCode, why: str, *, position: int) -> list[Unusable]:
    """What stands for an entry that cannot be used; for an instance that is protected as a whole, its databases.

    `position` is its place in the listing, from 1 on; it names an entry without a name.
    """
    entry = _Entry.from_wire(body if isinstance(body, dict) else {})
    container = _container(entry)
    in_group = entry.parent_type.lower() == "azurevmworkloadsqlavailabilitygroup" or (
        container is not None and container.name.lower().startswith(AVAILABILITY_GROUP_CONTAINER)
    )
    is_instance = "instance" in entry.protected_type.lower() or "instance" in entry.item_type.lower()
    whole = is_instance and code == "ProtectedAsInstance"
    own_name = _bounded(entry.own_name or f"(entry {position})")
    children = entry.databases if isinstance(entry.databases, list) else []
    names = [_of_child(child) for child in children if isinstance(child, str)] if is_instance else [own_name]
    return [
        Unusable(
            code=code,
            why=why,
            name=_bounded(name),
            is_nameless=not entry.own_name,
            parent=own_name if is_instance else _bounded(entry.parent),
            is_whole_instance=whole and name == _WHOLE,
            in_availability_group=in_group,
            virtual_machine_id=entry.virtual_machine_id,
            container=container,
            is_database=entry.item_type.lower() in ("", "sqldatabase"),
        )
        # The entry may not list the instance's databases, or not all of them.
        for name in dict.fromkeys([*names, _WHOLE] if whole else names or [_WHOLE])
    ]


def _of_child(name: str) -> str:
    kind, _, rest = name.partition(";")
    return rest.partition(";")[2] if kind.lower() == "sqldatabase" and ";" in rest else name


def _bounded(name: str) -> str:
    """A name that fits into messages, and stays unique where it is cut."""
    if len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{name[: LONGEST_NAME - 20]}...{digest[:16]}"


def _container(entry: _Entry) -> ContainerId | None:
    try:
        return ContainerId.above(entry.id)
    except InvalidResourceIdError:
        return None
