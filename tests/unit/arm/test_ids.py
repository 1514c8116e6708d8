"""Ids are parsed by strict grammars: nothing in a message can lead a call elsewhere."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from shared.arm.ids import (
    ContainerId,
    InvalidResourceIdError,
    ProtectedItemId,
    RecoveryPointId,
    ResourceId,
    VaultId,
    VirtualMachineId,
    check_new_policy_name,
)

SUB = "00000000-0000-0000-0000-000000000001"
GROUP = f"/subscriptions/{SUB}/resourceGroups/rg-backup"
VAULT = f"{GROUP}/providers/Microsoft.RecoveryServices/vaults/vault1"
VM = f"{GROUP}/providers/Microsoft.Compute/virtualMachines/sqlvm1"
CONTAINER = f"{VAULT}/backupFabrics/Azure/protectionContainers/VMAppContainer;Compute;rg-sql;sqlvm1"
ITEM = f"{CONTAINER}/protectedItems/SQLDataBase;mssqlserver;orders"
POINT = f"{ITEM}/recoveryPoints/DefaultRangeRecoveryPoint"
KINDS: list[tuple[type[ResourceId], str]] = [
    (VaultId, VAULT),
    (VirtualMachineId, VM),
    (ContainerId, CONTAINER),
    (ProtectedItemId, ITEM),
    (RecoveryPointId, POINT),
]


@pytest.mark.parametrize(("kind", "path"), KINDS)
def test_one_resource_in_any_case_is_one_id(kind: type[ResourceId], path: str) -> None:
    given_id, shouted = kind.parse(path), kind.parse(path.upper())
    assert str(given_id) == given_id.path == path
    assert given_id == shouted
    assert len({given_id, shouted}) == 1
    assert shouted.path != path, "the case of names is kept"
    assert given_id.key == shouted.key == path.lower()
    assert kind.parse(given_id.path) == given_id


def test_fixed_words_are_written_one_way() -> None:
    text = VAULT.replace("subscriptions", "Subscriptions").replace("resourceGroups", "resourcegroups")
    assert VaultId.parse(text).path == VAULT


def test_ids_of_different_kinds_are_never_equal() -> None:
    assert len({kind.parse(path) for kind, path in KINDS}) == len(KINDS)
    assert VaultId.parse(VAULT) != VAULT


def test_a_protectable_item_becomes_the_protected_item_of_that_name() -> None:
    text = f"{CONTAINER.lower()}/protectableItems/sqldatabase;mssqlserver;orders"
    item = ProtectedItemId.from_protectable_item(text, "sqldatabase;mssqlserver;orders")
    assert item == ProtectedItemId.parse(ITEM)
    assert item.vault == VaultId.parse(VAULT)
    assert item.container.name == "vmappcontainer;compute;rg-sql;sqlvm1"


def test_url_paths_quote_all_but_semicolons() -> None:
    item = ProtectedItemId.parse(f"{CONTAINER}/protectedItems/SQLDataBase;SQL$1;a b&c=d+é'100% @:,")
    assert (
        item.url_path.rpartition("/")[2] == "SQLDataBase;SQL%241;a%20b%26c%3Dd%2B%C3%A9%27100%25%20%40%3A%2C"
    )


WRONG_VAULTS = [
    ("", "empty"),
    ("vault1", "does not start with '/'"),
    (f"https://management.azure.com{VAULT}", "does not start with '/'"),
    (VM, "in place of"),
    (GROUP, "segments"),
    (f"{VAULT}/", "empty segment"),
    (f"/{VAULT}", "empty segment"),
    (f"{VAULT}/backupJobs", "segments"),
    (f"{VAULT} ", "no vault name"),
    (VAULT.replace(SUB, "prod"), "no subscription id"),
    (VAULT.replace("rg-backup", ".."), "path step"),
    (VAULT.replace("rg-backup", "rg."), "no resource group name"),
    (VAULT.replace("rg-backup", "r" * 91), "no resource group name"),
    (VAULT.replace("vault1", "1vault"), "no vault name"),
    (VAULT.replace("vault1", "v"), "no vault name"),
    (VAULT.replace("vault1", "..;/x"), "path step"),
    (VAULT.replace("vault1", "a%2f..%2fb"), "'%2f'"),
    (VAULT.replace("vault1", "a%2E"), "'%2E'"),
    (f"{VAULT}?api-version=1", "'?'"),
    (f"{VAULT}#x", "'#'"),
    (f"{VAULT}\r\nX-Evil: 1", "'\\r'"),
    (f"{VAULT}\0", "'\\x00'"),
    (VAULT.replace("/vaults/", "\\vaults\\"), "has no place in a name"),
    (f"{VAULT}\u2028", "'\\u2028'"),
    ("/" + "x" * 5000, "longer than 2048"),
]


@pytest.mark.parametrize(("text", "problem"), WRONG_VAULTS)
def test_what_is_no_vault_is_refused_by_name(text: str, problem: str) -> None:
    with pytest.raises(InvalidResourceIdError) as caught:
        VaultId.parse(text)
    said = str(caught.value)
    assert "the id of a Recovery Services vault" in said
    assert problem in caught.value.problem
    assert said.isprintable()
    assert len(said) < 600


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (VirtualMachineId, VM.replace("Microsoft.Compute", "Microsoft.ClassicCompute")),
        (VirtualMachineId, VM.replace("sqlvm1", "-sqlvm")),
        (ContainerId, CONTAINER.replace("sqlvm1", "..")),
        (ContainerId, CONTAINER.replace("VMAppContainer;", "..;")),
        (ProtectedItemId, ITEM.replace("protectedItems", "protectableItems")),
        (ProtectedItemId, f"{ITEM}/../x"),
        (ProtectedItemId, ITEM.replace("orders", "o/rders")),
        (RecoveryPointId, POINT.replace("DefaultRange", "a;b")),
    ],
)
def test_what_is_of_another_kind_is_refused(kind: type[ResourceId], text: str) -> None:
    with pytest.raises(InvalidResourceIdError):
        kind.parse(text)


def test_ids_made_of_parts_are_checked_as_well() -> None:
    with pytest.raises(InvalidResourceIdError, match="subscription id"):
        VaultId("../..", "rg", "vault1")
    with pytest.raises(InvalidResourceIdError, match="container name"):
        ContainerId(VaultId.parse(VAULT), "Azure", "a/../b")


ODD_NAMES = st.text(min_size=1, max_size=60) | st.sampled_from(
    ["..", ".", "..;x", "%2e%2e", "a/b", "a\\b", "?x", "#x", "@evil.example", "//evil.example", "%252f"]
)


@given(ODD_NAMES, ODD_NAMES, ODD_NAMES, ODD_NAMES)
@example("rg", "vault1", "VMAppContainer;Compute;rg;vm", "SQLDataBase;i;my db [1]")
def test_no_text_changes_the_prefix_or_the_host_of_a_url(
    group: str, vault: str, container: str, item: str
) -> None:
    text = (
        f"/subscriptions/{SUB}/resourceGroups/{group}/providers/Microsoft.RecoveryServices/vaults/{vault}"
        f"/backupFabrics/Azure/protectionContainers/{container}/protectedItems/{item}"
    )
    try:
        parsed = ProtectedItemId.parse(text)
    except InvalidResourceIdError as error:
        assert str(error).isprintable()
        return
    url = urlsplit(f"https://management.azure.com{parsed.url_path}/backup?api-version=1")
    assert url.hostname == "management.azure.com"
    segments = url.path.split("/")
    assert url.path.startswith(
        f"/subscriptions/{SUB}/resourceGroups/{quote(group, safe=';')}/providers/Microsoft.RecoveryServices/vaults/"
    )
    assert [segments[1], segments[9], segments[11], segments[13], segments[15]] == [
        "subscriptions",
        "backupFabrics",
        "protectionContainers",
        "protectedItems",
        "backup",
    ]
    assert not {".", ".."} & set(segments)
    assert url.query == "api-version=1"


@given(st.text(max_size=200))
def test_no_text_makes_the_parser_stumble(text: str) -> None:
    for kind, _ in KINDS:
        with pytest.raises(InvalidResourceIdError):
            kind.parse(text)


def test_messages_carry_ids_as_texts() -> None:
    adapter = TypeAdapter(VaultId)
    vault = adapter.validate_json(f'"{VAULT}"')
    assert vault == VaultId.parse(VAULT)
    assert adapter.dump_json(vault) == f'"{VAULT}"'.encode()
    assert adapter.json_schema() == {"type": "string"}
    with pytest.raises(ValidationError, match="in place of"):
        adapter.validate_python(VM)
    with pytest.raises(ValidationError, match="no text"):
        adapter.validate_python(7)


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("abc", True),
        ("A" * 150, True),
        ("Hourly_Log-Backup!", True),
        ("ab", False),
        ("A" * 151, False),
        ("1st", False),
        ("a.b", False),
        ("né1", False),
    ],
)
def test_a_name_for_a_new_policy(name: str, taken: bool) -> None:
    """As the check of terraform-provider-azurerm has it: 3 to 150 characters, a letter first."""
    if taken:
        assert check_new_policy_name(name) == name
    else:
        with pytest.raises(InvalidResourceIdError, match="3 to 150 characters"):
            check_new_policy_name(name)
