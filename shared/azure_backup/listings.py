"""What a listing gives: the entries that this app can use, and those that it cannot, each with its reason.

Both come in one value that has to be taken apart, so that nobody forgets the second half.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

from pydantic import AliasPath, BeforeValidator, Field

from shared.arm.ids import ContainerId, InvalidResourceIdError
from shared.arm.redaction import printable
from shared.azure_backup.models import (
    AVAILABILITY_GROUP_CONTAINER,
    OptionalVirtualMachine,
    WireModel,
)

__all__ = ["Listing", "Unusable", "unusable_entries"]

M = TypeVar("M")

_LONGEST_SHOWN = 512

#: Why an entry cannot be used: the code of the error where it is named outright.
UnusableCode = Literal["NotAddressable", "ProtectedAsInstance", "KindNotSupported"]


class Unusable(WireModel):
    """An entry that Azure lists and that this app cannot use."""

    code: UnusableCode
    #: for people, without its subject
    why: str
    #: as Azure calls it; of a database, the database's name
    name: str
    #: the instance or the availability group of a database
    parent: str = ""
    in_availability_group: bool = False
    virtual_machine_id: OptionalVirtualMachine = None
    #: what it is listed in, where that can be told
    container: ContainerId | None = None
    is_database: bool = True

    @property
    def reason(self) -> str:
        """The code, as a reason for which databases are skipped."""
        return self.code[:1].lower() + self.code[1:]


class Listing(NamedTuple, Generic[M]):
    """A complete listing."""

    usable: list[M]
    unusable: list[Unusable]


def _text_or_blank(value: object) -> object:
    return value if isinstance(value, str) else ""


#: What is wrong with an entry may be anything: what is no text is none.
_AnyText = Annotated[str, BeforeValidator(_text_or_blank)]


class _Entry(WireModel):
    """As much as is read of an entry that cannot be used."""

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


def unusable_entries(body: object, code: UnusableCode, why: str) -> list[Unusable]:
    """An entry of a listing that cannot be used: of an instance that is protected as a whole, its databases."""
    entry = _Entry.from_wire(body)
    container = _container(entry)
    in_group = entry.parent_type.lower() == "azurevmworkloadsqlavailabilitygroup" or (
        container is not None and container.name.lower().startswith(AVAILABILITY_GROUP_CONTAINER)
    )
    is_instance = "instance" in entry.protected_type.lower() or "instance" in entry.item_type.lower()
    own_name = entry.friendly_name or entry.name.rpartition(";")[2] or entry.id.rpartition("/")[2]
    children = entry.databases if isinstance(entry.databases, list) else []
    names = [_of_child(child) for child in children if isinstance(child, str)] if is_instance else [own_name]
    return [
        Unusable(
            code=code,
            why=why,
            name=printable(name, limit=_LONGEST_SHOWN),
            parent=printable(own_name if is_instance else entry.parent_name, limit=_LONGEST_SHOWN),
            in_availability_group=in_group,
            virtual_machine_id=entry.virtual_machine_id,
            container=container,
            is_database=entry.item_type.lower() in ("", "sqldatabase"),
        )
        # What an instance holds may not be said: then all of it is meant.
        for name in names or ["*"]
    ]


def _of_child(name: str) -> str:
    kind, _, rest = name.partition(";")
    return rest.partition(";")[2] if kind.lower() == "sqldatabase" and ";" in rest else name


def _container(entry: _Entry) -> ContainerId | None:
    try:
        return ContainerId.above(entry.id)
    except InvalidResourceIdError:
        return None
