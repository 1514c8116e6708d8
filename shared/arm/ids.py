"""Azure resource ids, parsed by strict grammars.

An id is text from a message or a listing. It is parsed once, here; the result can only name one resource of the
expected kind, whatever the text was:

* names keep their case, and compare as Azure compares them, without it;
* an id that came from Azure is percent-encoded where its name is not: `listed` decodes it, once, where it arrives;
  in what others write nothing is decoded;
* the fixed words of a path (`subscriptions`, `providers`, ...) are matched in any case and written in one;
* `url_path` quotes every segment but for `;`, which the names of Azure Backup are full of.

Forms: https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules and the
paths of the Recovery Services backup REST API.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self, cast
from urllib.parse import quote, unquote

from shared.arm.redaction import printable
from shared.names import name_key, same_name

if TYPE_CHECKING:
    from collections.abc import Hashable

    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

__all__ = [
    "ContainerId",
    "InvalidResourceIdError",
    "PolicyId",
    "ProtectedItemId",
    "RecoveryPointId",
    "ResourceId",
    "VaultId",
    "VirtualMachineId",
    "check_new_policy_name",
    "check_subscription_id",
    "decoded_name",
    "quote_segment",
]

_LONGEST_ID = 2048
#: of Azure's own, in which a character may take nine
_LONGEST_LISTED_ID = 9 * _LONGEST_ID

_SUBSCRIPTION = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_RESOURCE_GROUP = re.compile(r"[-\w.()]{0,89}[-\w()]")
_VAULT = re.compile(r"[A-Za-z][-A-Za-z0-9]{1,49}")
_VIRTUAL_MACHINE = re.compile(r"[^\W_]([-\w.]{0,62}[-\w])?")
_FABRIC = re.compile(r"[A-Za-z][-A-Za-z0-9]{0,49}")
_RECOVERY_POINT = re.compile(r"[A-Za-z0-9][-\w]{0,127}")
# As Terraform's azurerm provider has it; Azure's own clients do not agree (Azure/azure-powershell#13869).
_NEW_POLICY = re.compile(r"[A-Za-z][-_!A-Za-z0-9]{2,149}")
# Names of items and policies were given by people, so nearly everything is legal in them, quoted as they
# are in a URL. A slash is one to the service however it is quoted (Azure/azure-rest-api-specs#23982).
_FORBIDDEN_IN_NAME = re.compile(r"[/\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Names with a grammar of their own hold none of these: in a message they are an attempt at something else.
_FORBIDDEN_IN_STRICT_NAME = re.compile(rf"{_FORBIDDEN_IN_NAME.pattern}|[\\?#]|%[0-9a-fA-F]{{2}}")
_LONGEST_NAME = 512


class InvalidResourceIdError(ValueError):
    """A text is not the Azure resource id that it should be."""

    def __init__(self, text: object, expected: str, problem: str) -> None:
        self.text = printable(text, limit=120)
        self.expected = expected
        self.problem = problem
        super().__init__(f'"{self.text}" is not {expected}: {problem}')


def quote_segment(segment: str) -> str:
    """One path segment for a URL: everything quoted but unreserved characters and `;`."""
    return quote(segment, safe=";")


@dataclass(frozen=True, eq=False)
class ResourceId:
    """The base of the ids of all kinds."""

    #: the kind and its form, for error messages
    expected: ClassVar[str]

    def segments(self) -> tuple[str, ...]:
        """The path's segments, unquoted."""
        raise NotImplementedError

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `text`. Raises InvalidResourceIdError where it is no id of this kind."""
        raise NotImplementedError

    @cached_property
    def path(self) -> str:
        """The id as Azure writes it, names in the case they were given in."""
        return "/" + "/".join(self.segments())

    @cached_property
    def url_path(self) -> str:
        """The path for a URL, every segment quoted."""
        return "/" + "/".join(quote_segment(segment) for segment in self.segments())

    @cached_property
    def key(self) -> str:
        """The path in lower case: equal for equal resources."""
        return name_key(self.path)

    def __str__(self) -> str:
        return self.path

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, ResourceId) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        def validate(value: object) -> ResourceId:
            if isinstance(value, cls):
                return value
            if not isinstance(value, str):
                raise InvalidResourceIdError(value, cls.expected, "it is no text")
            return cls.parse(value)

        return core_schema.no_info_plain_validator_function(
            validate,
            json_schema_input_schema=core_schema.str_schema(),
            serialization=core_schema.plain_serializer_function_ser_schema(
                str, return_schema=core_schema.str_schema()
            ),
        )


def _split(text: object, expected: str, *, longest: int = _LONGEST_ID) -> list[str]:
    """The segments of an id. Raises InvalidResourceIdError for what is no path."""

    def refuse(problem: str) -> NoReturn:
        raise InvalidResourceIdError(text, expected, problem)

    if not isinstance(text, str):
        refuse("it is no text")
    if not text:
        refuse("it is empty")
    if len(text) > longest:
        refuse(f"it is longer than {longest} characters")
    if not text.startswith("/"):
        refuse("it does not start with '/'")
    segments = text[1:].split("/")
    if not all(segments):
        refuse("it has an empty segment (two slashes in a row, or one at the end)")
    return segments


def _decoded(segment: str) -> str | None:
    """A segment without its percent-encoding; None where the encoding is wrong."""
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError:
        return None


def decoded_name(segment: str) -> str:
    """The name in a segment of one of Azure's ids, where no `name` field tells it."""
    return _decoded(segment) or segment


def _split_decoded(text: object, expected: str) -> list[str]:
    """The decoded segments of an id from Azure, where no `name` tells whether they are encoded."""
    return [decoded_name(segment) for segment in _split(text, expected, longest=_LONGEST_LISTED_ID)]


def _split_listed(text: object, name: str, expected: str) -> list[str]:
    """The segments of an id from Azure, decoded where the last one shows that the id is encoded.

    A name may itself look encoded (`Rebate50%ab`), so `name`, which is never encoded, decides.
    """
    segments = _split(text, expected, longest=_LONGEST_LISTED_ID)
    decoded = [_decoded(segment) for segment in segments]
    last = decoded[-1]
    if last is not None and (same_name(last, name) or "%" not in segments[-1]):
        return [segment if plain is None else plain for segment, plain in zip(segments, decoded, strict=True)]
    if same_name(segments[-1], name):
        return segments
    raise InvalidResourceIdError(text, expected, f"its name '{printable(name, limit=60)}' is not the id's")


def _problem_of_name(name: str, forbidden: re.Pattern[str] = _FORBIDDEN_IN_NAME) -> str | None:
    if found := forbidden.search(name):
        return f"it contains '{printable(found.group())}', which has no place in a name"
    # A proxy may decode once too often, and a server may take "..;x" for "..".
    read_again = unquote(name) if "%" in name else name
    if _CONTROL.search(read_again):
        return "it contains a control character in disguise"
    if "." in read_again and any(part.strip() in (".", "..") for part in re.split(r"[;/\\]", read_again)):
        return "it contains '.' or '..' as a path step"
    if len(name) > _LONGEST_NAME:
        return f"a segment is longer than {_LONGEST_NAME} characters"
    return None


def _take(
    cls: type[ResourceId],
    text: str,
    pattern: tuple[tuple[str, re.Pattern[str] | None], ...],
    segments: list[str] | None = None,
) -> list[str]:
    """The names in `text`, which alternates fixed words and names as `pattern` does.

    A pattern's entry is a fixed word with None, or the description of a name with its grammar. `segments` are those
    of `text` where they are known.
    """
    segments = _split(text, cls.expected) if segments is None else segments
    names = []
    for place, segment in enumerate(segments):
        free = place < len(pattern) and pattern[place][1] is _ANY_NAME
        problem = _problem_of_name(segment, _FORBIDDEN_IN_NAME if free else _FORBIDDEN_IN_STRICT_NAME)
        if problem is not None:
            raise InvalidResourceIdError(text, cls.expected, problem)
    for (word, grammar), segment in zip(pattern, segments, strict=False):
        if grammar is None:
            if segment.lower() != word.lower():
                raise InvalidResourceIdError(
                    text, cls.expected, f"there is '{printable(segment, limit=60)}' in place of '{word}'"
                )
        else:
            if not grammar.fullmatch(segment):
                raise InvalidResourceIdError(
                    text, cls.expected, f"'{printable(segment, limit=60)}' is no {word}"
                )
            names.append(segment)
    if len(segments) != len(pattern):
        raise InvalidResourceIdError(
            text, cls.expected, f"it has {len(segments)} segments and should have {len(pattern)}"
        )
    return names


def _check(id_: ResourceId, value: object, grammar: re.Pattern[str], what: str) -> None:
    if not isinstance(value, str) or not grammar.fullmatch(value) or _problem_of_name(value):
        raise InvalidResourceIdError(value, f"the {what} of {type(id_).expected}", f"it is no {what}")


_ANY_NAME = re.compile(r".+", re.DOTALL)
#: made of the names of a resource group and a VM, or of a GUID
_CONTAINER = re.compile(rf"(?:(?!{_FORBIDDEN_IN_STRICT_NAME.pattern}).)+", re.DOTALL)
_GROUP_PATTERN: tuple[tuple[str, re.Pattern[str] | None], ...] = (
    ("subscriptions", None),
    ("subscription id (a GUID)", _SUBSCRIPTION),
    ("resourceGroups", None),
    ("resource group name", _RESOURCE_GROUP),
)
_VAULT_PATTERN = (
    *_GROUP_PATTERN,
    ("providers", None),
    ("Microsoft.RecoveryServices", None),
    ("vaults", None),
    ("vault name", _VAULT),
)
_VIRTUAL_MACHINE_PATTERN = (
    *_GROUP_PATTERN,
    ("providers", None),
    ("Microsoft.Compute", None),
    ("virtualMachines", None),
    ("virtual machine name", _VIRTUAL_MACHINE),
)
_POLICY_PATTERN = (*_VAULT_PATTERN, ("backupPolicies", None), ("policy name", _ANY_NAME))
_CONTAINER_PATTERN = (
    *_VAULT_PATTERN,
    ("backupFabrics", None),
    ("fabric name", _FABRIC),
    ("protectionContainers", None),
    ("container name", _CONTAINER),
)
_PROTECTED_ITEM_PATTERN = (*_CONTAINER_PATTERN, ("protectedItems", None), ("item name", _ANY_NAME))
_PROTECTABLE_ITEM_PATTERN = (*_CONTAINER_PATTERN, ("protectableItems", None), ("item name", _ANY_NAME))
_RECOVERY_POINT_PATTERN = (
    *_PROTECTED_ITEM_PATTERN,
    ("recoveryPoints", None),
    ("recovery point name", _RECOVERY_POINT),
)


@dataclass(frozen=True, eq=False)
class _InResourceGroup(ResourceId):
    subscription_id: str
    resource_group: str
    name: str

    _words: ClassVar[tuple[str, str]]
    _grammar: ClassVar[re.Pattern[str]]
    _pattern: ClassVar[tuple[tuple[str, re.Pattern[str] | None], ...]]

    def __post_init__(self) -> None:
        _check(self, self.subscription_id, _SUBSCRIPTION, "subscription id")
        _check(self, self.resource_group, _RESOURCE_GROUP, "resource group name")
        _check(self, self.name, type(self)._grammar, "name")

    @classmethod
    def parse(cls, text: str) -> Self:
        # Cached: every message names the same few vaults and VMs. A value that is no text may not be hashable.
        return cast("Self", (_remembered if isinstance(text, str) else _parsed)(cast("Hashable", cls), text))

    @classmethod
    def listed(cls, text: str) -> Self:
        """The id in one of Azure's answers, encoded or not: these names hold nothing that looks encoded."""
        return cls(*_take(cls, text, cls._pattern, _split_decoded(text, cls.expected)))

    def segments(self) -> tuple[str, ...]:
        return (
            "subscriptions",
            self.subscription_id,
            "resourceGroups",
            self.resource_group,
            "providers",
            *self._words,
            self.name,
        )


def _parsed(kind: Any, text: str) -> ResourceId:
    id_: ResourceId = kind(*_take(kind, text, kind._pattern))
    return id_


_remembered = lru_cache(maxsize=256)(_parsed)


@dataclass(frozen=True, eq=False)
class VaultId(_InResourceGroup):
    """A Recovery Services vault."""

    expected = (
        "the id of a Recovery Services vault (/subscriptions/<guid>/resourceGroups/<group>"
        "/providers/Microsoft.RecoveryServices/vaults/<name>)"
    )
    _words = ("Microsoft.RecoveryServices", "vaults")
    _grammar = _VAULT
    _pattern = _VAULT_PATTERN


@dataclass(frozen=True, eq=False)
class VirtualMachineId(_InResourceGroup):
    """A virtual machine."""

    expected = (
        "the id of a virtual machine (/subscriptions/<guid>/resourceGroups/<group>"
        "/providers/Microsoft.Compute/virtualMachines/<name>)"
    )
    _words = ("Microsoft.Compute", "virtualMachines")
    _grammar = _VIRTUAL_MACHINE
    _pattern = _VIRTUAL_MACHINE_PATTERN


@dataclass(frozen=True, eq=False)
class ContainerId(ResourceId):
    """A protection container: a VM, or an availability group, that is registered to a vault."""

    vault: VaultId
    fabric: str
    name: str

    expected = "the id of a protection container (<vault id>/backupFabrics/Azure/protectionContainers/<name>)"

    def __post_init__(self) -> None:
        _check(self, self.fabric, _FABRIC, "fabric name")
        _check(self, self.name, _CONTAINER, "container name")

    @classmethod
    def parse(cls, text: str) -> Self:
        return cls._of(_take(cls, text, _CONTAINER_PATTERN))

    @classmethod
    def listed(cls, text: str, name: str) -> Self:
        """The id of what Azure lists as `text` and `name`; InvalidResourceIdError where it cannot be addressed."""
        segments = _split_listed(text, name, cls.expected)
        return cls._of(_take(cls, text, _CONTAINER_PATTERN, segments))

    @classmethod
    def above(cls, text: str) -> Self:
        """The container in an id from Azure, whatever the name of the item in it."""
        segments = _split_decoded(text, cls.expected)[: len(_CONTAINER_PATTERN)]
        return cls._of(_take(cls, text, _CONTAINER_PATTERN, segments))

    @classmethod
    def _of(cls, names: list[str]) -> Self:
        *vault, fabric, name = names
        return cls(VaultId(*vault), fabric, name)

    def segments(self) -> tuple[str, ...]:
        return (*self.vault.segments(), "backupFabrics", self.fabric, "protectionContainers", self.name)


@lru_cache(maxsize=256)
def _container(subscription_id: str, group: str, vault: str, fabric: str, name: str) -> ContainerId:
    # Cached: thousands of items are in the same few containers.
    return ContainerId(VaultId(subscription_id, group, vault), fabric, name)


@dataclass(frozen=True, eq=False)
class ProtectedItemId(ResourceId):
    """A protected database."""

    container: ContainerId
    name: str

    expected = (
        "the id of a protected item (<vault id>/backupFabrics/Azure/protectionContainers/<container>"
        "/protectedItems/<name>)"
    )

    def __post_init__(self) -> None:
        _check(self, self.name, _ANY_NAME, "item name")

    @property
    def vault(self) -> VaultId:
        """The vault that protects the item."""
        return self.container.vault

    @classmethod
    def parse(cls, text: str) -> Self:
        return cls._of(_take(cls, text, _PROTECTED_ITEM_PATTERN))

    @classmethod
    def listed(cls, text: str, name: str) -> Self:
        """The id of what Azure lists as `text` and `name`; InvalidResourceIdError where it cannot be addressed."""
        segments = _split_listed(text, name, cls.expected)
        return cls._of(_take(cls, text, _PROTECTED_ITEM_PATTERN, segments))

    @classmethod
    def from_protectable_item(cls, text: str, name: str) -> Self:
        """The id that a protectable item will have once it is protected."""
        segments = _split_listed(text, name, cls.expected)
        return cls._of(_take(cls, text, _PROTECTABLE_ITEM_PATTERN, segments))

    @classmethod
    def _of(cls, names: list[str]) -> Self:
        *vault, fabric, container, name = names
        return cls(_container(*vault, fabric, container), name)

    def segments(self) -> tuple[str, ...]:
        return (*self.container.segments(), "protectedItems", self.name)


@dataclass(frozen=True, eq=False)
class RecoveryPointId(ResourceId):
    """A recovery point of a protected database."""

    item: ProtectedItemId
    name: str

    expected = "the id of a recovery point (<protected item id>/recoveryPoints/<name>)"

    def __post_init__(self) -> None:
        _check(self, self.name, _RECOVERY_POINT, "recovery point name")

    @classmethod
    def parse(cls, text: str) -> Self:
        return cls._of(_take(cls, text, _RECOVERY_POINT_PATTERN))

    @classmethod
    def listed(cls, text: str) -> Self:
        """The id in one of Azure's answers; InvalidResourceIdError where it cannot be addressed."""
        return cls._of(_take(cls, text, _RECOVERY_POINT_PATTERN, _split_decoded(text, cls.expected)))

    @classmethod
    def _of(cls, names: list[str]) -> Self:
        *vault, fabric, container, item, name = names
        return cls(ProtectedItemId(ContainerId(VaultId(*vault), fabric, container), item), name)

    def segments(self) -> tuple[str, ...]:
        return (*self.item.segments(), "recoveryPoints", self.name)


@dataclass(frozen=True, eq=False)
class PolicyId(ResourceId):
    """A backup policy of a vault."""

    vault: VaultId
    name: str

    expected = "the id of a backup policy (<vault id>/backupPolicies/<name>)"

    def __post_init__(self) -> None:
        _check(self, self.name, _ANY_NAME, "policy name")

    @classmethod
    def parse(cls, text: str) -> Self:
        *vault, name = _take(cls, text, _POLICY_PATTERN)
        return cls(VaultId(*vault), name)

    def segments(self) -> tuple[str, ...]:
        return (*self.vault.segments(), "backupPolicies", self.name)


def check_new_policy_name(name: str) -> str:
    """`name` itself; InvalidResourceIdError where no policy of that name can be created."""
    if not _NEW_POLICY.fullmatch(name):
        raise InvalidResourceIdError(
            name,
            "a name for a new backup policy",
            "it must have 3 to 150 characters: a letter, then letters, digits, '-', '_' or '!'",
        )
    return name


def check_subscription_id(text: str) -> str:
    """`text` itself; InvalidResourceIdError where it is no subscription id."""
    if not _SUBSCRIPTION.fullmatch(text):
        raise InvalidResourceIdError(text, "a subscription id", "it is no GUID")
    return text
